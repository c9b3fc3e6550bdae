//! What a newcomer sees while things start: a spinner on a terminal, and one line per step that is done.

use crate::{
    failure::Result,
    render::{Output, style::Style, time},
};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;
use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

/// Shows the steps of a start, on stderr.
pub(super) struct Steps {
    style: Style,
    quiet: bool,
}

impl Steps {
    pub(super) fn new(output: &Output) -> Self {
        Self { style: Style::for_terminal(io::stderr().is_terminal()), quiet: output.json }
    }

    /// Does `work` under the name of the step.
    pub(super) async fn during<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        let spinner = self.spinner(name);
        let result = work.await;
        spinner.finish_and_clear();
        if result.is_ok() && !self.quiet {
            let took = time::duration(SignedDuration::try_from(begun.elapsed()).unwrap_or_default());
            eprintln!("{} {name:12} {}", self.style.good("✔"), self.style.dim(&took));
        }
        result
    }

    fn spinner(&self, name: &str) -> ProgressBar {
        if self.quiet || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let spinner = ProgressBar::new_spinner().with_message(name.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    }
}
