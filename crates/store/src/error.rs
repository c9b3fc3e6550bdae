//! What can go wrong between a service and Postgres.

use crate::migrations::MigrationError;
use domain::ErrorKind;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be had from the pool.
    #[error("get a database connection")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The pool could not be built from the URL.
    #[error("configure the database pool")]
    Configure(#[from] deadpool_postgres::BuildError),
    /// The database's URL asks for what cannot be had.
    #[error("reach the database: {0}")]
    Address(String),
    /// A statement failed.
    #[error("run a statement")]
    Postgres(#[from] tokio_postgres::Error),
    /// A migration failed.
    #[error(transparent)]
    Migrate(#[from] MigrationError),
    /// What waited for an answer was ended before it came.
    #[error("wait for the database's answer")]
    Interrupted,
    /// A document in the database is not what this version writes.
    #[error("read the {what} of {id}")]
    Corrupt {
        /// Which document.
        what: &'static str,
        /// Whose.
        id: String,
        /// What the decoder said.
        source: serde_json::Error,
    },
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Pool(_) | Self::Interrupted => ErrorKind::Unavailable,
            Self::Postgres(e) => of_postgres(e),
            Self::Migrate(e) => e.kind(),
            Self::Address(_) => ErrorKind::InvalidArgument,
            Self::Configure(_) | Self::Corrupt { .. } => ErrorKind::Internal,
        }
    }
}

impl Error {
    /// Whether the session is over on which it was asked, and what it asked may have been done or not.
    pub(crate) fn ends_session(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        let is_fatal = |error: &DbError| matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        error.is_closed() || error.as_db_error().is_some_and(is_fatal)
    }

    /// Whether the database has heard what was asked and will never do it, by what it was given (classes 21, 22 and 23 of
    /// SQLSTATE): asking again changes nothing, and something else may well be done.
    #[must_use]
    pub fn refuses_what_is_asked(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.code().is_some_and(|state| matches!(state.code().get(..2), Some("21" | "22" | "23")))
    }
}

pub(crate) fn of_postgres(error: &tokio_postgres::Error) -> ErrorKind {
    if error.is_closed() {
        return ErrorKind::Unavailable;
    }
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => ErrorKind::AlreadyExists,
        Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => ErrorKind::Conflict,
        Some(&SqlState::QUERY_CANCELED) => ErrorKind::DeadlineExceeded,
        // A NUL, in a text or in a text of a JSON document.
        Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE | &SqlState::UNTRANSLATABLE_CHARACTER) => {
            ErrorKind::InvalidArgument
        }
        Some(&SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN | &SqlState::CANNOT_CONNECT_NOW) | None => {
            ErrorKind::Unavailable
        }
        Some(_) => ErrorKind::Internal,
    }
}
