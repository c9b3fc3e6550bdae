//! Long-lived duties besides the engine, one file each.

pub mod expirer;
pub mod housekeeper;
pub mod keeper;
pub mod notifier;
pub mod recorder;
pub mod sealer;
