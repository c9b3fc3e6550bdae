//! Attempts as local Python processes: environments, zygotes and their children; and programs in sessions of their own.
//!
//! Refuses to know what an attempt means, where its code and outputs lie, and who asked for it.

pub mod child;
pub mod environment;
pub mod frame;
pub mod launch;
pub mod process;
pub mod sessions;
pub mod shelf;
pub mod sweeper;
pub mod zygote;

pub use child::{Child, Exit, Spawn};
pub use environment::{Environment, Environments};
pub use shelf::Shelf;
pub use sweeper::{Living, Sweeper};
pub use zygote::{Zygote, ZygoteOptions, Zygotes};

/// What can go wrong around a process, before user code has a say.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("{action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The interpreter could not be started, or ended at once.
    #[error("start the Python zygote {python}: {reason}")]
    Zygote {
        /// Which interpreter.
        python: String,
        /// What it said.
        reason: String,
    },
    /// The zygote refused, or went away.
    #[error("start a Python process: {0}")]
    Child(String),
    /// The control channel broke.
    #[error("speak with the Python process")]
    Channel(#[from] std::io::Error),
    /// Packages could not be installed.
    #[error("{0}")]
    Environment(String),
}

impl Error {
    /// True when the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::File { source, .. } | Self::Channel(source) => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Environment(text) => text.contains("No space left on device"),
            _ => false,
        }
    }
}
