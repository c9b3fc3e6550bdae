//! The process skeleton of every service: configuration, telemetry, health, shutdown and exit codes.
//!
//! Refuses to know any domain type, the database and the wire contract.

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod exit;
pub mod health;
pub mod rates;
pub mod secret;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod watchdog;
