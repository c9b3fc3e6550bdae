//! A private PostgreSQL: made once in a folder, started, adopted when it already runs, and stopped.
//!
//! It listens on a Unix socket in a folder that only its owner enters, and on one loopback port with a password.
//! Knows nothing of the schema inside.

use crate::{
    account::{self, Account},
    cache, command,
    error::{Error, Result},
    ports,
    postgres::Postgres,
};
use std::{
    fmt::Write as _,
    fs,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The superuser of every private cluster.
pub const USER: &str = "orrery";

/// Unix socket paths end at 107 bytes; the name that PostgreSQL appends takes up to 21.
const SOCKET_DIR_MAX: usize = 80;

/// Another process may take the free port before the server does.
const START_TRIES: u32 = 3;

/// Where a cluster goes that its account could not reach where it was asked for.
const FALLBACK_DIR: &str = "/var/lib/orrery";

/// How a cluster is tuned.
#[derive(Debug, Clone, Copy)]
pub struct ClusterOptions {
    /// Commits survive a power cut. Only tests turn this off.
    pub durable: bool,
    /// Connections at once.
    pub max_connections: u32,
    /// It knows when each transaction was committed: `pg_xact_commit_timestamp`.
    pub commit_times: bool,
}

impl ClusterOptions {
    /// For data that matters.
    pub const DURABLE: Self = Self { durable: true, max_connections: 100, commit_times: false };
    /// For tests: fast, and worthless after a crash of the machine.
    pub const TEST: Self = Self { durable: false, max_connections: 300, commit_times: false };
}

/// A running private cluster. Dropping the value leaves it running; [`PrivatePostgres::stop`] ends it.
#[derive(Debug, Clone)]
pub struct PrivatePostgres {
    postgres: Postgres,
    account: Option<Account>,
    home: PathBuf,
    socket_dir: PathBuf,
    port: u16,
    password: String,
}

impl PrivatePostgres {
    /// Starts the cluster in `dir`, making it when it is not there, or adopts it when it already runs, even from an
    /// earlier life of this program.
    ///
    /// As root the server runs as `postgres` or `nobody`; when that account cannot reach `dir`, the cluster lies under
    /// `/var/lib/orrery` and `dir/postgres` is a link to it. No existing folder's permissions change.
    ///
    /// # Errors
    /// No server programs, a folder that holds something else or another major version, or a server that does not
    /// start: the message carries its last log line.
    pub fn start(dir: &Path, options: ClusterOptions) -> Result<Self> {
        let account = Account::to_drop_to()?;
        let home = home_of(dir, account)?;
        let _lock = cache::lock(&home.join("start.lock"))?;
        let postgres = server_for(&home)?;
        let password = match read(&home.join("password")) {
            Some(password) if home.join("data/PG_VERSION").exists() => password,
            _ => init(&postgres, account, &home, options)?,
        };
        if let Some((socket_dir, port)) = running(&postgres, account, &home) {
            return Ok(Self { postgres, account, home, socket_dir, port, password });
        }
        let socket_dir = socket_dir_of(&home, account)?;
        let mut tries = 1;
        loop {
            let port = ports::free()?;
            let this = Self {
                postgres: postgres.clone(),
                account,
                home: home.clone(),
                socket_dir: socket_dir.clone(),
                port,
                password: password.clone(),
            };
            match this.launch(options) {
                Ok(()) => return Ok(this),
                Err(_) if tries < START_TRIES => tries += 1,
                Err(error) => return Err(this.explained(error)),
            }
        }
    }

    /// The running cluster of `dir`, if there is one; starts nothing.
    ///
    /// # Errors
    /// The account to run as cannot be found.
    pub fn attach(dir: &Path) -> Result<Option<Self>> {
        let home = dir.join("postgres");
        let Ok(home) = home.canonicalize() else { return Ok(None) };
        if !home.join("data/PG_VERSION").exists() {
            return Ok(None);
        }
        let account = Account::to_drop_to()?;
        let postgres = server_for(&home)?;
        let password = read(&home.join("password")).unwrap_or_default();
        Ok(running(&postgres, account, &home).map(|(socket_dir, port)| Self {
            postgres,
            account,
            home,
            socket_dir,
            port,
            password,
        }))
    }

    /// The URL of `database` over the Unix socket: no password, since only its owner (and root) enters that folder.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let host = percent_encode(&self.socket_dir.to_string_lossy());
        format!("postgresql://{USER}@{host}:{}/{database}", self.port)
    }

    /// The URL of `database` over loopback TCP, with its password: a secret.
    #[must_use]
    pub fn tcp_url(&self, database: &str) -> String {
        format!("postgresql://{USER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Where the server writes its log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.home.join("server.log")
    }

    /// The folder that holds everything of this cluster.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The programs that run it.
    #[must_use]
    pub fn programs(&self) -> &Postgres {
        &self.postgres
    }

    /// Whether the server process still lives.
    #[must_use]
    pub fn is_running(&self) -> bool {
        running(&self.postgres, self.account, &self.home).is_some()
    }

    /// Ends the server: open transactions are rolled back, and everything committed is on disk afterwards.
    ///
    /// # Errors
    /// It does not end within a minute.
    pub fn stop(&self) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        let mut stop = self.pg_ctl();
        command::run(stop.args(["stop", "--mode=fast", "--wait", "--timeout=60"])).map(|_| ())
    }

    /// Leaves a watcher behind that stops the server once nobody has held a shared lock on `users` for `idle_s`
    /// seconds. Without the `flock` program the server is left running.
    ///
    /// # Errors
    /// The watcher cannot be started.
    pub fn stop_when_unused(&self, users: &Path, idle_s: u32) -> Result<()> {
        use std::os::unix::process::CommandExt;
        let Some(flock) = command::on_path("flock") else { return Ok(()) };
        // The second, exclusive lock is held while the server stops, so that a newcomer waits and then starts it anew.
        let script = format!(
            "while :; do {flock} -x {users} true || exit 0; sleep {idle_s}; \
             {flock} -x -n {users} {pg_ctl} stop -D {data} -m fast -w -t 60 && exit 0; done",
            flock = quoted(&flock),
            users = quoted(users),
            pg_ctl = quoted(&self.postgres.program("pg_ctl")),
            data = quoted(&self.home.join("data")),
        );
        let mut watcher = Command::new("/bin/sh");
        watcher.args(["-c", &script]).current_dir(&self.home).process_group(0);
        watcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        account::run_as(&mut watcher, self.account);
        watcher.spawn().map(|_| ()).map_err(Error::file("run", "/bin/sh"))
    }

    fn launch(&self, options: ClusterOptions) -> Result<()> {
        let conf = self.home.join("data/orrery.conf");
        fs::write(&conf, self.settings(options)).map_err(Error::file("write", &conf))?;
        account::give(&conf, self.account)?;
        let mut start = self.pg_ctl();
        start.args(["start", "--wait", "--timeout=60", "--silent", "--log"]).arg(self.log_file());
        // The server would keep our pipes open, so it gets none.
        let status = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let status = status.map_err(Error::file("run", self.postgres.program("pg_ctl")))?;
        if status.success() {
            return Ok(());
        }
        let output = last_line(&self.log_file());
        Err(Error::Refused { command: "pg_ctl start".into(), status: status.to_string(), output })
    }

    fn settings(&self, options: ClusterOptions) -> String {
        let mut text = format!(
            "# Written at every start.\n\
             listen_addresses = '127.0.0.1'\nport = {}\n\
             unix_socket_directories = '{}'\nunix_socket_permissions = 0700\n\
             max_connections = {}\nshared_buffers = 64MB\nmax_wal_size = 1GB\nwal_level = minimal\n\
             max_wal_senders = 0\ncheckpoint_timeout = 15min\njit = off\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n\
             log_line_prefix = '%m [%p] '\n",
            self.port,
            self.socket_dir.display().to_string().replace('\'', "''"),
            options.max_connections,
        );
        if options.commit_times {
            text.push_str("track_commit_timestamp = on\n");
        }
        if !options.durable {
            text.push_str("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n");
        }
        text
    }

    fn pg_ctl(&self) -> Command {
        let mut command = Command::new(self.postgres.program("pg_ctl"));
        command.arg("--pgdata").arg(self.home.join("data")).current_dir(&self.home);
        account::run_as(&mut command, self.account);
        command
    }

    fn explained(&self, error: Error) -> Error {
        Error::Folder {
            path: self.home.clone(),
            problem: format!("holds a PostgreSQL that does not start: {error}"),
            remedy: format!("see {}", self.log_file().display()),
        }
    }
}

/// The folder of the cluster that belongs to `dir`: `dir/postgres`, or where that links to.
fn home_of(dir: &Path, account: Option<Account>) -> Result<PathBuf> {
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    let dir = dir.canonicalize().map_err(Error::file("find", dir))?;
    let _lock = cache::lock(&dir.join("postgres.lock"))?;
    let asked = dir.join("postgres");
    if let Ok(target) = fs::read_link(&asked) {
        account::create_private_dir(&target, account)?;
        return Ok(target);
    }
    if asked.exists() || account.is_none_or(|a| a.reaches(&dir)) {
        account::create_private_dir(&asked, account)?;
        return Ok(asked);
    }
    let target = Path::new(FALLBACK_DIR).join(random_name()?);
    account::create_private_dir(&target, account)?;
    std::os::unix::fs::symlink(&target, &asked).map_err(Error::file("link", &asked))?;
    Ok(target)
}

/// The programs for the cluster in `home`: its own major version, or the newest for one that is yet to be made.
fn server_for(home: &Path) -> Result<Postgres> {
    let Some(version) = read(&home.join("data/PG_VERSION")) else { return Postgres::find_or_install() };
    version.parse().ok().and_then(Postgres::find_major).ok_or_else(|| Error::Folder {
        path: home.to_path_buf(),
        problem: format!("was made by PostgreSQL {version}, which is not installed"),
        remedy: format!("install PostgreSQL {version}, or remove the folder to start empty"),
    })
}

/// Makes an empty cluster and returns its password. An interrupted one never gets the final name.
fn init(postgres: &Postgres, account: Option<Account>, home: &Path, options: ClusterOptions) -> Result<String> {
    let data = home.join("data");
    if data.exists() {
        return Err(Error::Folder {
            path: data,
            problem: "exists but holds no complete cluster".into(),
            remedy: "move it away".into(),
        });
    }
    let fresh = home.join("data.new");
    let _ = fs::remove_dir_all(&fresh);
    let password = random_name()?;
    let password_file = home.join("password");
    write_secret(&password_file, &password)?;
    account::give(&password_file, account)?;
    // Some systems lack C.UTF-8; plain C is everywhere.
    initdb(postgres, account, &fresh, &password_file, "C.UTF-8", options)
        .or_else(|_| initdb(postgres, account, &fresh, &password_file, "C", options))?;
    let conf = fresh.join("postgresql.conf");
    let mut text = fs::read_to_string(&conf).map_err(Error::file("read", &conf))?;
    text.push_str("\ninclude_if_exists = 'orrery.conf'\n");
    fs::write(&conf, text).map_err(Error::file("write", &conf))?;
    fs::rename(&fresh, &data).map_err(Error::file("create", &data))?;
    Ok(password)
}

fn initdb(
    postgres: &Postgres,
    account: Option<Account>,
    data: &Path,
    password_file: &Path,
    locale: &str,
    options: ClusterOptions,
) -> Result<()> {
    let mut command = Command::new(postgres.program("initdb"));
    command.arg("--pgdata").arg(data).arg("--pwfile").arg(password_file);
    command.args(["--username", USER, "--encoding=UTF8", "--auth-local=trust", "--auth-host=scram-sha-256"]);
    command.arg(format!("--locale={locale}"));
    if !options.durable {
        command.arg("--no-sync");
    }
    if let Some(parent) = data.parent() {
        command.current_dir(parent);
    }
    command::run(account::run_as(&mut command, account)).map(|_| ())
}

/// Socket folder and port of the server that runs on this cluster. A pid file that a crash left counts as not running.
fn running(postgres: &Postgres, account: Option<Account>, home: &Path) -> Option<(PathBuf, u16)> {
    let data = home.join("data");
    let pid_path = data.join("postmaster.pid");
    let pid_file = fs::read_to_string(&pid_path).ok()?;
    if pid_file.lines().next().is_some_and(is_zombie) {
        // Where nobody reaps orphans, PostgreSQL itself would take the dead process for a living one.
        let _ = fs::remove_file(&pid_path);
        return None;
    }
    let mut status = Command::new(postgres.program("pg_ctl"));
    status.arg("status").arg("--pgdata").arg(&data).current_dir(home);
    command::run(account::run_as(&mut status, account)).ok()?;
    parse_pid_file(&pid_file)
}

/// Whether the process has ended and only waits for its parent to notice.
fn is_zombie(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// Lines 4 and 5 of `postmaster.pid`: the port, and the first socket folder. Line 8 says that it accepts connections.
fn parse_pid_file(text: &str) -> Option<(PathBuf, u16)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let port = lines.get(3)?.parse().ok()?;
    let socket_dir = lines.get(4).filter(|d| d.starts_with('/'))?;
    (*lines.get(7)? == "ready").then(|| (PathBuf::from(socket_dir), port))
}

/// Inside the cluster's folder when the path is short enough for a socket, else a private folder in /tmp.
fn socket_dir_of(home: &Path, account: Option<Account>) -> Result<PathBuf> {
    let inside = home.join("socket");
    if inside.as_os_str().len() <= SOCKET_DIR_MAX {
        account::create_private_dir(&inside, account)?;
        return Ok(inside);
    }
    let outside = Path::new("/tmp").join(format!("orrery-{}", random_name()?));
    fs::create_dir(&outside).map_err(Error::file("create", &outside))?;
    account::create_private_dir(&outside, account)?;
    Ok(outside)
}

/// 96 random bits, in hexadecimal.
fn random_name() -> Result<String> {
    let mut bytes = [0; 12];
    let mut source = File::open("/dev/urandom").map_err(Error::file("open", "/dev/urandom"))?;
    source.read_exact(&mut bytes).map_err(Error::file("read", "/dev/urandom"))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn write_secret(path: &Path, secret: &str) -> Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let _ = fs::remove_file(path);
    let mut file =
        File::options().write(true).create_new(true).mode(0o600).open(path).map_err(Error::file("create", path))?;
    file.write_all(secret.as_bytes()).map_err(Error::file("write", path))
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

fn last_line(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().rfind(|l| l.contains("FATAL") || l.contains("ERROR")).unwrap_or("no reason in its log").to_owned()
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_counts_only_when_ready() {
        let text = "123\n/d\n1700000000\n54321\n/run/s\n127.0.0.1\n  1 2\nready   \n";
        assert_eq!(parse_pid_file(text), Some((PathBuf::from("/run/s"), 54321)));
        assert_eq!(parse_pid_file(&text.replace("ready", "starting")), None);
        assert_eq!(parse_pid_file("123\n"), None);
    }

    #[test]
    fn socket_folders_survive_a_url() {
        assert_eq!(percent_encode("/tmp/a b%'é"), "%2Ftmp%2Fa%20b%25%27%C3%A9");
    }

    #[test]
    fn shell_words_are_quoted() {
        assert_eq!(quoted(Path::new("/a'b c")), r"'/a'\''b c'");
    }
}
