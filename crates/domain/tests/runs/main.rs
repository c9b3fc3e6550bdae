//! The state machine of a run, from outside: tables of what must follow, and properties over random pipelines.

mod ahead;
mod build;
mod control;
mod cost;
mod fans;
mod flow;
mod graphs;
mod lives;
mod properties;
mod random;
mod world;
