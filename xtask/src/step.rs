//! One step of `cargo xtask test`: a program whose output is passed on while its tests are counted.

use anyhow::{Context, Result, anyhow};
use std::{
    io::{BufRead, BufReader},
    ops::AddAssign,
    process::{Command, Stdio},
    sync::Mutex,
    thread,
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

/// Where tests say that this machine could not run them: cargo counts them as passed, and does not show what they print.
pub(crate) struct Skips(tempfile::NamedTempFile);

impl Skips {
    /// What `testkit::skipped` looks for.
    const VARIABLE: &str = "ORRERY_SKIPPED_FILE";

    /// Tests that are run with its variable will say so there.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(tempfile::NamedTempFile::new().context("cannot make a file for skipped tests")?))
    }

    /// The variable that tests are run with.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        (Self::VARIABLE, self.0.path().display().to_string())
    }

    /// The same count, without those that passed by doing nothing; they are named.
    pub(crate) fn taken_from(&self, count: Count) -> Result<Count> {
        let said = std::fs::read_to_string(self.0.path()).context("cannot read which tests were skipped")?;
        for line in said.lines() {
            println!("SKIPPED: {line}");
        }
        let skips = u64::try_from(said.lines().count())?;
        Ok(Count { passed: count.passed.saturating_sub(skips), skipped: count.skipped + skips, ..count })
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
    let count = counted(command, |line| println!("{line}"))?;
    Ok(closed(name, count, begun))
}

/// Runs test programs, so many at a time, and counts their tests. What one says is shown when it ends, so that they can be told
/// apart.
pub(crate) fn side_by_side(lanes: usize, programs: Vec<(String, Command)>) -> Result<Count> {
    let (waiting, shown) = (Mutex::new(programs.into_iter()), Mutex::new(Count::default()));
    // Not held while a program runs: each lane takes the next one.
    let next = || waiting.lock().map_or(None, |mut programs| programs.next());
    let lane = || -> Result<()> {
        while let Some((name, mut command)) = next() {
            let (begun, mut said) = (Instant::now(), String::new());
            let count = counted(&mut command, |line| {
                said.push_str(line);
                said.push('\n');
            })?;
            let mut all = shown.lock().map_err(|_| anyhow!("another lane panicked"))?;
            announce(&name);
            print!("{said}");
            *all += closed(&name, count, begun);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| anyhow!("a lane panicked"))?)
    })?;
    shown.into_inner().map_err(|_| anyhow!("a lane panicked"))
}

fn counted(command: &mut Command, mut show: impl FnMut(&str)) -> Result<Count> {
    // unittest reports on stderr, cargo on stdout; both go to one pipe so that nothing is read out of order.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone()?).stderr(writer).stdin(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    // Our ends of the pipe live in `command`; reading would never end with them open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (mut count, mut unittest) = (Count::default(), false);
    for line in BufReader::new(reader).lines() {
        let line = line.unwrap_or_default();
        if !line.ends_with(" ... ok") {
            show(&line);
        }
        unittest |= line.starts_with("Ran ");
        count += Count::in_line(&line);
    }
    if unittest {
        // "Ran N tests" counts those that failed or were skipped too.
        count.passed = count.passed.saturating_sub(count.failed + count.skipped);
    }
    let ok = child.wait()?.success();
    if !ok && count.failed == 0 {
        // It did not compile, or died.
        count.failed = 1;
    }
    Ok(count)
}

/// Shows that a step begins.
pub(crate) fn announce(name: &str) -> Instant {
    println!("==> {name}");
    Instant::now()
}

/// Shows how a step ended.
pub(crate) fn closed(name: &str, count: Count, begun: Instant) -> Count {
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
    fn tests_that_say_they_were_skipped_have_not_passed() {
        let mut command = Command::new("/bin/sh");
        let script = "echo 'a: no disk' >>$ORRERY_SKIPPED_FILE; echo 'test result: ok. 3 passed; 0 failed; 1 ignored'";
        let skips = Skips::new().unwrap();
        command.args(["-c", script]).envs([skips.variable()]);
        let count = skips.taken_from(tests("skips", &mut command).unwrap()).unwrap();
        assert_eq!(count, Count { passed: 2, failed: 0, skipped: 2 });
    }

    #[test]
    fn tests_in_python_that_failed_or_were_skipped_have_not_passed() {
        let script = "echo 'Ran 9 tests in 0.3s'; echo 'FAILED (failures=1, errors=1, skipped=3)'; exit 1";
        let count = tests("python", Command::new("/bin/sh").args(["-c", script])).unwrap();
        assert_eq!(count, Count { passed: 4, failed: 2, skipped: 3 });
    }

    #[test]
    fn a_step_that_dies_without_a_word_has_failed() {
        let count = tests("dies", Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap();
        assert_eq!(count, Count { passed: 0, failed: 1, skipped: 0 });
    }

    #[test]
    fn programs_side_by_side_are_all_counted() {
        let program = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            (script.to_owned(), command)
        };
        let passes = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'";
        let programs = vec![program(passes), program("exit 1"), program(passes), program(passes)];
        assert_eq!(side_by_side(2, programs).unwrap(), Count { passed: 6, failed: 1, skipped: 0 });
    }
}
