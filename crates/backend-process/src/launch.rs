//! Starts a program in a session of its own, with limits: the executor's own binary does it, between its start and the
//! program's, since nothing may run between a fork and an exec here.
//!
//! Refuses to know what the program is for.

use rustix::process::{Resource, Rlimit, setrlimit, setsid};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

/// The first argument by which the binary is asked to launch. After it: data bytes, processor seconds, `--`, a program.
pub const VERB: &str = "launch-in-session";
/// How the binary exits when the program cannot be started.
pub const FAILED: u8 = 127;

/// A program to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The binary that answers to [`VERB`].
    pub launcher: PathBuf,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working folder.
    pub cwd: PathBuf,
    /// Data that each of its processes may have, bytes.
    pub data_bytes: Option<u64>,
    /// Processor time that each of its processes may use, seconds.
    pub cpu_seconds: Option<u64>,
}

impl Launch {
    /// The command: leads a new session, reads nothing, and prints to `output`.
    ///
    /// # Errors
    /// When `output` cannot be shared.
    pub fn command(&self, output: &File) -> io::Result<Command> {
        let limit = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        let mut command = Command::new(&self.launcher);
        command
            .arg(VERB)
            .arg(limit(self.data_bytes))
            .arg(limit(self.cpu_seconds))
            .arg("--")
            .args(&self.command)
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.cwd)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
        Ok(command)
    }
}

/// Launches when this process was asked to, and then does not return but in failure. To be called first of all.
#[must_use]
pub fn when_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != VERB {
        return None;
    }
    let error = launch(arguments);
    // Into the program's own log: nobody else reads it.
    let _ = io::Write::write_all(&mut io::stderr(), format!("cannot start: {error}\n").as_bytes());
    Some(ExitCode::from(FAILED))
}

fn launch(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let mut limit = |resource| match arguments.next().as_deref().and_then(|text| text.to_str()) {
        Some("-") => Ok(()),
        Some(text) => {
            let value = text.parse().map_err(io::Error::other)?;
            Ok(setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?)
        }
        None => Err(io::Error::other("limits are missing")),
    };
    if let Err(error) = limit(Resource::Data).and_then(|()| limit(Resource::Cpu)) {
        return error;
    }
    if let Err(error) = setsid() {
        return error.into();
    }
    let mut arguments = arguments.skip(1);
    match arguments.next() {
        Some(program) => Command::new(program).args(arguments).exec(),
        None => io::Error::other("no program is named"),
    }
}
