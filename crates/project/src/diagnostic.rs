//! What a person should know about a project's files, and where it is.
//!
//! Refuses to know how diagnostics are shown or sent.

use crate::DIAGNOSTICS_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It works, but not as the author may think.
    Warning,
    /// The named thing cannot be used.
    Error,
}

/// Something to know about a file of the project; the fields are those of `orrery.v1.Diagnostic`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Relative to the project folder.
    pub file: String,
    /// The key in that file, such as `blocks[2].upstream_blocks[0]`; empty for the whole file.
    pub key: String,
    /// 1-based; 0 when unknown.
    pub line: u32,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The pipeline that it concerns; empty for the project.
    pub pipeline: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " ({})", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Where a diagnostic points.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) key: String,
    pub(crate) line: u32,
}

impl Place {
    pub(crate) fn new(key: impl Into<String>, line: u32) -> Self {
        Self { key: key.into(), line }
    }

    /// The file as a whole.
    pub(crate) fn file() -> Self {
        Self::default()
    }
}

/// Collects the diagnostics of one file. Bounded, and an error is never lost to a flood of warnings.
#[derive(Debug)]
pub(crate) struct Report {
    file: String,
    pipeline: String,
    found: Vec<Diagnostic>,
    errors: usize,
    left_out: usize,
}

impl Report {
    pub(crate) fn new(file: impl Into<String>, pipeline: impl Into<String>) -> Self {
        Self { file: file.into(), pipeline: pipeline.into(), found: Vec::new(), errors: 0, left_out: 0 }
    }

    pub(crate) fn error(&mut self, place: Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.errors += 1;
        self.push(Severity::Error, place, message.into(), remedy.into());
    }

    pub(crate) fn warn(&mut self, place: Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(Severity::Warning, place, message.into(), remedy.into());
    }

    fn push(&mut self, severity: Severity, place: Place, message: String, remedy: String) {
        if self.found.len() >= DIAGNOSTICS_MAX {
            self.left_out += 1;
            let first_error = severity == Severity::Error && self.errors == 1;
            if !first_error {
                return;
            }
            // The first error takes the last warning's place: a rejection without a reason helps nobody.
            self.found.pop();
        }
        let (file, pipeline) = (self.file.clone(), self.pipeline.clone());
        let Place { key, line } = place;
        self.found.push(Diagnostic { severity, file, key, line, message, remedy, pipeline });
    }

    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn first_error(&self) -> Option<&Diagnostic> {
        self.found.iter().find(|d| d.severity == Severity::Error)
    }

    /// Everything found, in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        if self.left_out > 0 {
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            let message = format!("{} more findings in this file are not shown", self.left_out);
            let (file, pipeline) = (self.file.clone(), self.pipeline.clone());
            let remedy = "fix those above first".to_owned();
            self.found.push(Diagnostic { severity, file, key: String::new(), line: 0, message, remedy, pipeline });
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_warnings_is_cut_and_does_not_hide_the_error() {
        let mut report = Report::new("pipelines/p/metadata.yaml", "p");
        for n in 0..500 {
            report.warn(Place::new(format!("k{n}"), n), "is unknown", "");
        }
        report.error(Place::file(), "is broken", "mend it");
        assert_eq!(report.first_error().map(|d| d.message.as_str()), Some("is broken"));
        let found = report.finish();
        assert_eq!(found.len(), DIAGNOSTICS_MAX + 1);
        assert!(found.last().is_some_and(|d| d.message.starts_with("401 more")));
    }
}
