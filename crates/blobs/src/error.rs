//! What can go wrong with stored content.

use domain::ErrorKind;
use std::{error::Error as StdError, io, path::Path};

/// Why content was not stored, read or laid out. Nothing half done stays behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the store.
    #[error("the store address {url:?} {reason}")]
    Url {
        /// As given.
        url: String,
        /// Completes "the store address …".
        reason: &'static str,
    },
    /// Not 64 lower-case hexadecimal digits.
    #[error("{0:?} is not a lower-case SHA-256")]
    NotADigest(String),
    /// A path that leaves its bundle, or occurs twice in it.
    #[error("the bundle's path {path:?} {reason}")]
    Path {
        /// Which.
        path: String,
        /// Completes "the bundle's path …".
        reason: &'static str,
    },
    /// Nothing is stored under the digest.
    #[error("{what} {digest} is not stored")]
    NotFound {
        /// `file` or `manifest`.
        what: &'static str,
        /// Its digest.
        digest: String,
    },
    /// What is stored under the digest was damaged.
    #[error("the stored file {digest} is damaged: its content has the digest {found}; remove it and deploy again")]
    Corrupt {
        /// The digest that names it.
        digest: String,
        /// The digest that it has.
        found: String,
    },
    /// The content that came is not what its digest says.
    #[error("the content of {expected} has the digest {found}")]
    Mismatch {
        /// The digest that names it.
        expected: String,
        /// The digest that it has.
        found: String,
    },
    /// The content is shorter or longer than announced.
    #[error("the content of {digest} has {found} bytes instead of {expected}")]
    Size {
        /// Its digest.
        digest: String,
        /// As announced.
        expected: u64,
        /// As received, or as far as it was read.
        found: u64,
    },
    /// No room; the operator must act.
    #[error("the disk is full: {place} cannot be written; free some space or use a larger disk")]
    DiskFull {
        /// What was being written.
        place: String,
    },
    /// The caller's own stream broke off.
    #[error("the content could not be received: {0}")]
    Content(#[source] io::Error),
    /// The local disk.
    #[error("{place} cannot be used: {source}")]
    Disk {
        /// Which file or folder.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// The credential is none, or does not allow it; the operator must act.
    #[error("the store refuses {what} {name}: check that the credential is right and allows it")]
    Refused {
        /// `file` or `manifest`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// More files than one folder may hold.
    #[error("{place} holds more than {max} files; write fewer and larger ones")]
    TooMany {
        /// Which folder.
        place: String,
        /// How many it may hold.
        max: usize,
    },
    /// The object store.
    #[error("the object store failed: {0}")]
    Store(#[source] object_store::Error),
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Url { .. } | Self::NotADigest(_) | Self::Path { .. } | Self::Mismatch { .. } | Self::Size { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::DiskFull { .. } | Self::TooMany { .. } => ErrorKind::ResourceExhausted,
            Self::Refused { .. } => ErrorKind::FailedPrecondition,
            Self::Content(_) => ErrorKind::Unavailable,
            Self::Corrupt { .. } | Self::Disk { .. } => ErrorKind::Internal,
            Self::Store(_) => ErrorKind::Unavailable,
        }
    }

    /// The caller's stream ended before all of the content had come.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        match self {
            Self::Content(_) => true,
            Self::Size { expected, found, .. } => found < expected,
            _ => false,
        }
    }

    /// An error of the local disk at `place`.
    pub(crate) fn disk(place: &Path, source: io::Error) -> Self {
        let place = place.display().to_string();
        if is_full(&source) { Self::DiskFull { place } } else { Self::Disk { place, source } }
    }

    /// An error of the store about `what` with this digest.
    pub(crate) fn store(what: &'static str, digest: &str, source: object_store::Error) -> Self {
        if matches!(source, object_store::Error::NotFound { .. }) {
            return Self::NotFound { what, digest: digest.to_owned() };
        }
        if is_full(&source) {
            return Self::DiskFull { place: format!("{what} {digest}") };
        }
        use object_store::Error as Said;
        if matches!(source, Said::PermissionDenied { .. } | Said::Unauthenticated { .. }) {
            return Self::Refused { what, name: digest.to_owned(), source };
        }
        Self::Store(source)
    }
}

/// Whether an error, or one that caused it, says that there is no room.
fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_faults_however_deep() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let wrapped = object_store::Error::Generic { store: "local", source: Box::new(full()) };
        assert!(matches!(Error::disk(Path::new("/x"), full()), Error::DiskFull { .. }));
        assert_eq!(Error::store("file", "abc", wrapped).kind(), ErrorKind::ResourceExhausted);
        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(matches!(Error::disk(Path::new("/x"), other), Error::Disk { .. }));
    }
}
