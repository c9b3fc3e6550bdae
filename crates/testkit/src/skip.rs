//! Tests that this machine cannot run: they say so and return, and `cargo xtask test` counts them as skipped, not as passed.

use std::{env, ffi::OsStr, fmt::Display, fs::File, io::Write as _, thread};

/// Names a file that gets a line for every skipped test; `cargo xtask test` sets it, since tests that pass print nothing.
const FILE: &str = "ORRERY_SKIPPED_FILE";

/// Says that the test which calls it is not run here, and why. To be called once in a test, which returns then.
///
/// # Panics
/// When the file that counts cannot be written: a skipped test must not pass for one that passed.
pub fn skipped(why: impl Display) {
    let line = format!("{}: {why}", thread::current().name().unwrap_or("a test")).replace('\n', " ");
    eprintln!("SKIPPED: {line}");
    if let Some(file) = env::var_os(FILE).filter(|file| !file.is_empty()) {
        note(&file, &line);
    }
}

/// One write at the end of the file, so that lines of several processes stay whole.
fn note(file: &OsStr, line: &str) {
    let mut file = File::options().create(true).append(true).open(file).expect("the file of skipped tests");
    file.write_all(format!("{line}\n").as_bytes()).expect("the file of skipped tests");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_skip_is_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("skipped");
        note(file.as_os_str(), "one: no disk");
        note(file.as_os_str(), "two: no network");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "one: no disk\ntwo: no network\n");
    }
}
