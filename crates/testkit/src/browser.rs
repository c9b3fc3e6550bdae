//! A real browser, which a test drives by its DevTools protocol.

use crate::skipped;
use provision::browser;
use std::path::PathBuf;

/// Its program, installed if need be; blocking. `None` where none can be had: then the test that asks is told
/// as skipped, whatever it does besides.
#[must_use]
pub fn program() -> Option<PathBuf> {
    browser::find_or_install().inspect_err(|error| skipped(error)).ok()
}
