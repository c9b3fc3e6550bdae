//! What the planner promises, seen from outside: tables for every reason, and properties over random clusters.

mod refusals;
mod world;
