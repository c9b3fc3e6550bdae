//! Starts a program in a session of its own, with limits: the executor's own binary does it, between its start and the
//! program's, since nothing may run between a fork and an exec here.
//!
//! Refuses to know what the program is for.

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Resource, Rlimit, getegid, geteuid, setrlimit, setsid};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// The first argument by which the binary is asked to launch. After it: six limits, `-` for none, and then a program.
pub const VERB: &str = "launch-in-session";
/// How the binary exits when the program cannot be started.
pub const FAILED: u8 = 127;
/// How it exits when the program cannot be cut off from the network.
pub const NOT_ISOLATED: u8 = 126;
/// The limit by which it is asked to.
const ISOLATED: &str = "isolated";

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
    /// What it may have.
    pub limits: Limits,
}

/// What a program may have.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Data that each of its processes may have, bytes.
    pub data_bytes: Option<u64>,
    /// Processor time that each of its processes may use, seconds.
    pub cpu_seconds: Option<u64>,
    /// The longest file that it may write, bytes.
    pub file_bytes: Option<u64>,
    /// The cgroup that holds it and all that it starts.
    pub cgroup: Option<PathBuf>,
    /// It has a network of its own, in which there is nothing, not even a loopback that is up.
    pub isolated: bool,
}

impl Launch {
    /// The command: leads a new session, reads nothing, and prints to `output`.
    ///
    /// # Errors
    /// When `output` cannot be shared.
    pub fn command(&self, output: &File) -> io::Result<Command> {
        let limits = &self.limits;
        let number = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        let mut command = Command::new(&self.launcher);
        command
            .arg(VERB)
            .args([limits.data_bytes, limits.cpu_seconds, limits.file_bytes].map(number))
            .arg(limits.cgroup.as_deref().map_or(OsStr::new("-"), Path::as_os_str))
            .arg(if limits.isolated { ISOLATED } else { "-" })
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
    let (code, error) = launch(arguments);
    // Into the program's own log: nobody else reads it.
    let _ = io::Write::write_all(&mut io::stderr(), format!("cannot start: {error}\n").as_bytes());
    Some(ExitCode::from(code))
}

fn launch(mut arguments: impl Iterator<Item = OsString>) -> (u8, io::Error) {
    let mut next = || arguments.next().ok_or_else(|| io::Error::other("limits are missing"));
    let mut limit = |resource| -> io::Result<()> {
        match next()?.to_str() {
            Some("-") => Ok(()),
            text => {
                let value = text.unwrap_or_default().parse().map_err(io::Error::other)?;
                Ok(setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?)
            }
        }
    };
    let limited = [Resource::Data, Resource::Cpu, Resource::Fsize].into_iter().try_for_each(&mut limit);
    let entered = limited.and_then(|()| match next()? {
        none if none == "-" => Ok(()),
        // Whoever writes nought is meant.
        cgroup => fs::write(Path::new(&cgroup).join("cgroup.procs"), "0"),
    });
    let isolated = match entered.and_then(|()| next()) {
        Err(error) => return (FAILED, error),
        Ok(word) => word == ISOLATED,
    };
    if isolated && let Err(error) = leave_network() {
        return (NOT_ISOLATED, error);
    }
    if let Err(error) = setsid() {
        return (FAILED, error.into());
    }
    let mut arguments = arguments.skip(1);
    let error = match arguments.next() {
        Some(program) => Command::new(program).args(arguments).exec(),
        None => io::Error::other("no program is named"),
    };
    (FAILED, error)
}

/// Into a new network namespace. Whoever may not make one makes it in a new user namespace, as the user that it is.
fn leave_network() -> io::Result<()> {
    if unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(());
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}
