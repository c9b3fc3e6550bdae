//! Waiting for a level, and commands that end in time.

use std::{
    process::{Command, Output, Stdio},
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
    let shown = format!("{command:?}");
    Started::new(command).output(&shown)
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
        self.0.recv_timeout(COMMAND_TIMEOUT).unwrap_or_else(|_| panic!("{shown} did not end in {COMMAND_TIMEOUT:?}"))
    }
}
