//! Messages about runs, from the configuration that a Mage project holds to the receiver's door.
//!
//! Parsing and rendering are pure. Sending resolves a name once, checks every address, and connects to one of those.
//! Refuses to know the database, what a run is beyond its facts, and when to try again.

pub mod address;
pub mod channel;
pub mod config;
pub mod message;
pub mod send;

pub use address::Policy;
pub use channel::Channel;
pub use config::{Config, Event};
pub use message::{Facts, Message};
pub use send::{SendError, send};
