//! How answers look to a person: colours, times, tables, trees and progress.
//!
//! Knows the API's messages, and nothing of how they were got.

pub(crate) mod block;
pub(crate) mod progress;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod tree;

use crate::failure::{Code, Result};
use prost::Message;
use std::io::{self, IsTerminal, Write};
use style::Style;

/// Where and how results are written.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) style: Style,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, style: Style::for_terminal(io::stdout().is_terminal() && !json) }
    }

    /// Prints `message` as JSON when that was asked for, else what `human` gives.
    pub(crate) fn answer(&self, name: &str, message: &impl Message, human: impl FnOnce() -> String) -> Result<()> {
        let text = if self.json { crate::json::line(name, message)? } else { human() };
        line(&text);
        Ok(())
    }
}

/// One line to stdout. A reader that went away (`orrery runs | head`) ends the program without a word.
pub(crate) fn line(text: &str) {
    if writeln!(io::stdout().lock(), "{text}").is_err() {
        std::process::exit(Code::Ok as i32);
    }
}

/// The end of a run's id: ids made in the same hours begin alike.
pub(crate) fn short_id(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}

/// A number of bytes as people say it: `12 B`, `3.4 MiB`.
pub(crate) fn bytes(count: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    let (mut value, mut unit) = (count as f64 / 1_024.0, 0);
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
