//! Triggers from the outside: when they come, and what is decided.

mod crons;
mod properties;
mod steps;
mod zones;
