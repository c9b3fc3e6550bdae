//! The long-lived duties of this server.

pub(crate) mod forgetter;
pub(crate) mod prober;
pub(crate) mod subscriber;
