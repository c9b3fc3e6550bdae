//! What is wrong with a definition, and where. Refuses to know who wrote it.

use crate::ErrorKind;

/// The most characters of somebody's text that a message repeats.
const SHOWN_CHARACTERS: usize = 60;

/// A definition that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", column.map(|column| format!("at column {column}: ")).unwrap_or_default())]
pub struct Invalid {
    /// The field, as the API names it; empty for what was checked by itself.
    pub field: String,
    /// Where in the field, in bytes from 1.
    pub column: Option<usize>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Invalid {
    /// What is wrong.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { field: String::new(), column: None, reason: reason.into() }
    }

    /// What is wrong at a column, counted from 1.
    #[must_use]
    pub fn at(column: usize, reason: impl Into<String>) -> Self {
        Self { column: Some(column), ..Self::new(reason) }
    }

    /// The same, of a field.
    #[must_use]
    pub fn of(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }

    /// It is always the caller's to mend.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// The beginning of a text that may be of any length.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
