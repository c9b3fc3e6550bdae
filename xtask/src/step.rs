//! One step of `cargo xtask test`: a program whose output is passed on while its tests are counted.

use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader},
    ops::AddAssign,
    process::{Command, Stdio},
    time::Instant,
};

/// Tests that passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Count {
    /// One check that has no tests inside.
    pub(crate) fn of_check(ok: bool) -> Self {
        Self { passed: ok.into(), failed: (!ok).into() }
    }

    /// The tests that this line of output reports, by cargo's or unittest's closing lines.
    fn in_line(line: &str) -> Self {
        if let Some(result) = line.strip_prefix("test result: ") {
            return Self { passed: number_before(result, " passed"), failed: number_before(result, " failed") };
        }
        if let Some(ran) = line.strip_prefix("Ran ").filter(|l| l.contains(" test")) {
            let ran = ran.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            return Self { passed: ran, failed: 0 };
        }
        // unittest: the failed ones were counted by "Ran N tests" already.
        if let Some(bad) = line.strip_prefix("FAILED (") {
            let failed = number_after(bad, "failures=") + number_after(bad, "errors=");
            return Self { passed: 0, failed };
        }
        Self::default()
    }
}

/// Runs a step that has no tests inside; it counts as one.
pub(crate) fn check(name: &str, command: &mut Command) -> Result<Count> {
    let begun = announce(name);
    let ok = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?.success();
    Ok(closed(name, Count::of_check(ok), begun))
}

/// Runs a step and counts the tests in its output.
pub(crate) fn tests(name: &str, command: &mut Command) -> Result<Count> {
    let begun = announce(name);
    // unittest reports on stderr, cargo on stdout; both go to one pipe so that nothing is read out of order.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone()?).stderr(writer).stdin(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    // Our ends of the pipe live in `command`; reading would never end with them open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut count = Count::default();
    for line in BufReader::new(reader).lines() {
        let line = line.unwrap_or_default();
        println!("{line}");
        count += Count::in_line(&line);
    }
    let ok = child.wait()?.success();
    if !ok && count.failed == 0 {
        // It did not compile, or died.
        count.failed = 1;
    }
    Ok(closed(name, count, begun))
}

fn announce(name: &str) -> Instant {
    println!("==> {name}");
    Instant::now()
}

fn closed(name: &str, count: Count, begun: Instant) -> Count {
    let verdict = if count.failed == 0 { "ok" } else { "FAILED" };
    println!("<== {name}: {verdict}, {:.1} s", begun.elapsed().as_secs_f64());
    count
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some((before, _)) = text.split_once(word) else { return 0 };
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn number_after(text: &str, word: &str) -> u64 {
    let Some((_, after)) = text.split_once(word) else { return 0 };
    after.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let check = |line, passed, failed| assert_eq!(Count::in_line(line), Count { passed, failed }, "{line}");
        check("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out", 12, 0);
        check("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured", 3, 2);
        check("Ran 17 tests in 0.3s", 17, 0);
        check("FAILED (failures=1, errors=2)", 0, 3);
        check("test cluster::tests::x ... ok", 0, 0);
    }

    #[test]
    fn a_step_that_dies_without_a_word_has_failed() {
        let count = tests("dies", Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap();
        assert_eq!(count, Count { passed: 0, failed: 1 });
    }
}
