//! One step of `cargo xtask test`: a program whose output is passed on while its tests are counted.

use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader},
    ops::AddAssign,
    process::{Command, Stdio},
    time::Instant,
};

/// Tests that passed, failed, and were not run because this machine lacks something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Count {
    /// One check that has no tests inside.
    pub(crate) fn of_check(ok: bool) -> Self {
        Self { passed: ok.into(), failed: (!ok).into(), skipped: 0 }
    }

    /// The tests that this line of output reports, by cargo's or unittest's closing lines.
    fn in_line(line: &str) -> Self {
        if let Some(result) = line.strip_prefix("test result: ") {
            let [passed, failed, skipped] = [" passed", " failed", " ignored"].map(|word| number_before(result, word));
            return Self { passed, failed, skipped };
        }
        if let Some(ran) = line.strip_prefix("Ran ").filter(|l| l.contains(" test")) {
            let ran = ran.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            return Self { passed: ran, ..Self::default() };
        }
        // unittest: these were counted by "Ran N tests" already.
        if let Some(others) = line.strip_prefix("FAILED (").or_else(|| line.strip_prefix("OK (")) {
            let failed = number_after(others, "failures=") + number_after(others, "errors=");
            return Self { passed: 0, failed, skipped: number_after(others, "skipped=") };
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

/// Runs a step and counts the tests in its output. Of tests that are named one by one, those that passed are not shown.
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
        if !line.ends_with(" ... ok") {
            println!("{line}");
        }
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
        let check = |line, passed, failed, skipped| {
            assert_eq!(Count::in_line(line), Count { passed, failed, skipped }, "{line}");
        };
        check("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out", 12, 0, 1);
        check("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured", 3, 2, 0);
        check("Ran 17 tests in 0.3s", 17, 0, 0);
        check("FAILED (failures=1, errors=2, skipped=4)", 0, 3, 4);
        check("OK (skipped=2)", 0, 0, 2);
        check("test cluster::tests::x ... ok", 0, 0, 0);
    }

    #[test]
    fn a_step_that_dies_without_a_word_has_failed() {
        let count = tests("dies", Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap();
        assert_eq!(count, Count { passed: 0, failed: 1, skipped: 0 });
    }
}
