//! Waiting for a level, and commands that end in time.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(90);

/// Looks until `look` answers `Some`; a panic after `timeout`, naming `what`.
#[track_caller]
pub(crate) fn until<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < timeout, "waited {timeout:?} in vain for {what}");
        thread::sleep(PAUSE);
    }
}

/// What a command printed; a panic when it takes too long.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> Output {
    output_within(command, COMMAND_TIMEOUT)
}

/// The same, of one that may take longer.
#[track_caller]
pub(crate) fn output_within(command: &mut Command, timeout: Duration) -> Output {
    let shown = format!("{command:?}");
    Started::new(command).within(&shown, timeout)
}

/// A command that runs while the test does something else.
pub(crate) struct Started(mpsc::Receiver<Output>);

impl Started {
    #[track_caller]
    pub(crate) fn new(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(child.wait_with_output().unwrap()));
        Self(told)
    }

    #[track_caller]
    pub(crate) fn output(self, shown: &str) -> Output {
        self.within(shown, COMMAND_TIMEOUT)
    }

    #[track_caller]
    fn within(self, shown: &str, timeout: Duration) -> Output {
        self.0.recv_timeout(timeout).unwrap_or_else(|_| panic!("{shown} did not end in {timeout:?}"))
    }
}

/// A command that prints JSON, line after line, while the test does something else. It ends with the value.
pub(crate) struct Following {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Following {
    #[track_caller]
    pub(crate) fn new(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            lines.for_each(|line: Value| drop(tell.send(line)));
        });
        Self { child, lines }
    }

    /// The next line that is wanted.
    #[track_caller]
    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(COMMAND_TIMEOUT) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error} after {seen:#?}"),
            }
        }
    }

    /// Its exit code, once it ends by itself.
    #[track_caller]
    pub(crate) fn code(self) -> Option<i32> {
        self.end().0
    }

    /// The same, with what it wrote to stderr.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let ended = until("the end of what was followed", COMMAND_TIMEOUT, || self.child.try_wait().unwrap());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (ended.code(), said)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
