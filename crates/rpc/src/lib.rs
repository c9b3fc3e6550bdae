//! What every gRPC server and client of the cluster shares: statuses, authentication, layers, and values on the wire.
//!
//! Refuses to know any service's business, the database and the process it runs in.

pub mod attempt;
pub mod auth;
pub mod client;
pub mod deadline;
pub mod ids;
pub mod incoming;
pub mod json;
pub mod paging;
pub mod panics;
pub mod personal_token;
pub mod server;
pub mod status;
pub mod timestamp;
pub mod trace;
