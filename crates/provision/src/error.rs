//! What can go wrong while a machine is prepared, each with what to do about it.

use std::{io, path::PathBuf};

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Completes "failed to prepare this machine: …". Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither found nor installable here.
    #[error("{what} was not found and could not be installed: {remedy}")]
    Missing {
        /// The thing that is missing.
        what: &'static str,
        /// What the person should install.
        remedy: String,
    },
    /// A program ran and refused.
    #[error("`{command}` ended with {status}: {output}")]
    Refused {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The last line that it wrote.
        output: String,
    },
    /// A file could not be read, written or given to another user.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder exists and is not what it should be.
    #[error("{path} {problem}; {remedy}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Somebody listens everywhere.
    #[error("none of a thousand ports of 127.0.0.1 is free; end some of the servers that listen there")]
    NoPort,
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
