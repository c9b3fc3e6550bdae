//! A Kubernetes of one's own, from `deploy/kubelab`: built once per content of its sources, started, found again, stopped.
//!
//! Refuses to know what is done on it and how its servers are run; that is written in Go, beside it.

use crate::{
    cache,
    error::{Error, Result},
    go::Go,
    python::Python,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Names an existing cluster, which is used instead of a lab.
pub const EXISTING: &str = "ORRERY_KUBECONFIG";
/// Where a lab says how it is reached, when it can be.
const READY: &str = "ready.json";
/// The program, in a folder by what it was made of.
const PROGRAM: &str = "kubelab";
/// What pods of JupyterLab need.
const JUPYTER: &str = "jupyterlab>=4.4,<5\npip\n";
/// For all of it to be there, on a busy machine with two cores.
const START_TIMEOUT: Duration = Duration::from_secs(240);
/// For all of it to be gone; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A running lab, or a cluster that was named instead.
#[derive(Debug, Clone, Deserialize)]
pub struct Kubelab {
    /// The process that runs all of it; none for a cluster that was named.
    pub pid: Option<i32>,
    /// The program that runs it.
    #[serde(default)]
    pub program: PathBuf,
    /// Credentials of its administrator.
    pub kubeconfig: PathBuf,
    /// Credentials with the rights of an executor.
    pub executor_kubeconfig: PathBuf,
    /// Its address, for people.
    pub server: String,
    /// The version of its API server, for people.
    pub version: String,
    /// The simulated nodes.
    pub nodes: Vec<String>,
}

impl Kubelab {
    /// The cluster that [`EXISTING`] names, if it does.
    #[must_use]
    pub fn named() -> Option<Self> {
        let kubeconfig = env::var_os(EXISTING).filter(|value| !value.is_empty()).map(PathBuf::from)?;
        Some(Self {
            pid: None,
            program: PathBuf::new(),
            executor_kubeconfig: kubeconfig.clone(),
            server: format!("see {}", kubeconfig.display()),
            kubeconfig,
            version: "not asked".to_owned(),
            nodes: Vec::new(),
        })
    }

    /// The lab that runs in `dir`, if one does and all of it can be used.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn attach(dir: &Path) -> Result<Option<Self>> {
        if holder(dir)?.is_none() {
            return Ok(None);
        }
        let ready = dir.join(READY);
        match fs::read(&ready) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| Error::file("read", ready)(e.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", ready)(error)),
        }
    }

    /// Starts a lab in `dir` and waits until all of it can be used. It goes on when this process ends.
    ///
    /// `arguments` go to `kubelab serve`; in the folders `programs`, pods look first for what they run.
    ///
    /// # Errors
    /// It ends or is not ready in time; the message names its log.
    pub fn start(program: &Path, dir: &Path, arguments: &[impl AsRef<OsStr>], programs: &[PathBuf]) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        if holder(dir)?.is_none() {
            // Of one that was killed. The next holds the folder a little before it removes that, and would be taken for ready.
            match fs::remove_file(dir.join(READY)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", dir.join(READY))(error));
                }
                _ => {}
            }
        }
        let log = dir.join("kubelab.log");
        let output = File::create(&log).map_err(Error::file("create", &log))?;
        let both = output.try_clone().map_err(Error::file("open", &log))?;
        let mut serve = Command::new(program);
        serve.arg("serve").arg("--dir").arg(dir).args(arguments);
        let usual = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(programs.iter().cloned().chain(env::split_paths(&usual)));
        serve.env("PATH", path.map_err(|error| Error::file("name programs of", dir)(io::Error::other(error)))?);
        // A group of its own: the terminal's interrupt is not meant for it.
        serve.stdin(Stdio::null()).stdout(output).stderr(both).process_group(0);
        let mut child = serve.spawn().map_err(Error::file("run", program))?;
        let begun = Instant::now();
        loop {
            if let Some(ready) = Self::attach(dir)? {
                return Ok(ready);
            }
            let ended = child.try_wait().map_err(Error::file("wait for", program))?;
            if ended.is_some() || begun.elapsed() > START_TIMEOUT {
                stop(dir)?;
                return Err(Error::Folder {
                    path: log.clone(),
                    problem: format!("tells why the lab did not start: {}", last_line(&log)),
                    remedy: "see also the folder logs beside it".to_owned(),
                });
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// The lab that all test processes of a user share, for as long as this value lives. Some time after the last one it ends
/// by itself.
#[derive(Debug)]
pub struct TestLab {
    /// The lab.
    pub lab: Kubelab,
    /// A shared lock: tells the lab that somebody uses it.
    _in_use: File,
}

impl TestLab {
    /// The running lab, built and started if need be; the cluster that [`EXISTING`] names, if it does.
    ///
    /// # Errors
    /// It cannot be built or does not start.
    pub fn share(sources: &Path) -> Result<Self> {
        let dir = Self::dir();
        let users = dir.join("users");
        let in_use = cache::lock_file(&users)?;
        if let Some(lab) = Kubelab::named() {
            return Ok(Self { lab, _in_use: in_use });
        }
        let program = build(sources)?;
        // One process at a time, so that only one starts it.
        let _starting = cache::lock(&dir.join("starting"))?;
        // A lab that is about to end holds this alone until it has.
        in_use.lock_shared().map_err(Error::file("lock", &users))?;
        let arguments = [OsStr::new("--users"), users.as_os_str()];
        let lab = match Kubelab::attach(&dir)? {
            // One that was built from other sources is nobody's any more.
            Some(running) if running.program == program => running,
            Some(_) => {
                stop(&dir)?;
                Kubelab::start(&program, &dir, &arguments, &[])?
            }
            None => Kubelab::start(&program, &dir, &arguments, &[])?,
        };
        Ok(Self { lab, _in_use: in_use })
    }

    /// Ends it now, unless some test process uses it. `cargo xtask test` ends with this.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_if_unused() -> Result<()> {
        let dir = Self::dir();
        if holder(&dir)?.is_none() {
            return Ok(());
        }
        match cache::lock_file(&dir.join("users"))?.try_lock() {
            Ok(()) => stop(&dir).map(drop),
            Err(_) => Ok(()),
        }
    }

    fn dir() -> PathBuf {
        cache::dir().join("kubelab/tests")
    }
}

/// Where a person's lab lives.
#[must_use]
pub fn dir() -> PathBuf {
    cache::dir().join("kubelab/lab")
}

/// The program of a lab, built unless that was done for these sources before. `sources` is `deploy/kubelab` of a clone.
///
/// Several minutes of all cores when Go's own cache is empty. Processes that want the same wait for each other.
///
/// # Errors
/// There is no Go, or the build fails.
pub fn build(sources: &Path) -> Result<PathBuf> {
    let dir = folder(sources)?;
    let program = dir.join(PROGRAM);
    let _lock = cache::lock(&dir.with_extension("lock"))?;
    if program.exists() {
        return Ok(program);
    }
    let go = Go::find_or_install()?;
    eprintln!("building Kubernetes' servers with {}; some minutes when Go's cache is empty", go.path.display());
    fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
    let unfinished = dir.join("unfinished");
    let mut build = Command::new("nice");
    build.arg(&go.path).args(["build", "-trimpath", "-buildvcs=false"]);
    build.arg(format!("-ldflags=-s -w {}", version_flags(sources)?)).arg("-o").arg(&unfinished);
    build.arg(".").current_dir(sources).env("CGO_ENABLED", "0").stdin(Stdio::null());
    let status = build.status().map_err(Error::file("run", &go.path))?;
    if !status.success() {
        return Err(Error::Refused {
            command: format!("go build in {}", sources.display()),
            status: status.to_string(),
            output: "see above; a first build needs Go's module proxy".to_owned(),
        });
    }
    fs::rename(&unfinished, &program).map_err(Error::file("rename", &unfinished))?;
    Ok(program)
}

/// Whether [`build`] has nothing to do for these sources.
///
/// # Errors
/// The sources cannot be read.
pub fn was_built(sources: &Path) -> Result<bool> {
    Ok(folder(sources)?.join(PROGRAM).exists())
}

/// What is made of these sources lies here.
fn folder(sources: &Path) -> Result<PathBuf> {
    Ok(cache::dir().join("kubelab").join(cache::key(&contents(sources)?)))
}

/// The folder with the programs of JupyterLab, installed unless it was before: simulated nodes have no images to find them in.
///
/// # Errors
/// There is no Python, or the installation fails.
pub fn jupyter() -> Result<PathBuf> {
    Ok(Python::find_or_install()?.environment(JUPYTER)?.join("bin"))
}

/// Ends the lab in `dir` and waits until it is gone; tells whether there was one.
///
/// # Errors
/// It cannot be signalled, or does not end.
pub fn stop(dir: &Path) -> Result<bool> {
    let Some(pid) = holder(dir)? else { return Ok(false) };
    for signal in [Signal::TERM, Signal::KILL] {
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(Error::file("signal the lab in", dir)(errno.into())),
        }
        let begun = Instant::now();
        while begun.elapsed() < STOP_TIMEOUT {
            if holder(dir)?.is_none() {
                return Ok(true);
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
    Err(Error::Folder {
        path: dir.to_path_buf(),
        problem: format!("has a lab that does not end, process {}", pid.as_raw_nonzero()),
        remedy: "end it by hand".to_owned(),
    })
}

/// The process that runs a lab in `dir`: it holds the lock for as long as it lives, and wrote its number there.
fn holder(dir: &Path) -> Result<Option<Pid>> {
    let path = dir.join("lock");
    let lock = match File::options().read(true).open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("open", path)(error)),
    };
    if lock.try_lock_shared().is_ok() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    Ok(text.trim().parse().ok().and_then(Pid::from_raw))
}

/// Everything that the program is made of, as one text.
fn contents(sources: &Path) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    let mut folders = vec![sources.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(Error::file("read", &folder))?;
        for entry in entries {
            let path = entry.map_err(Error::file("read", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| ["go", "mod", "sum"].iter().any(|known| e == *known)) {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut all = Vec::new();
    for file in files {
        all.extend(file.strip_prefix(sources).unwrap_or(&file).as_os_str().as_encoded_bytes());
        all.extend(fs::read(&file).map_err(Error::file("read", &file))?);
    }
    Ok(all)
}

/// Servers that are not built by Kubernetes' own scripts do not know their version unless the linker tells them.
fn version_flags(sources: &Path) -> Result<String> {
    let path = sources.join("go.mod");
    let text = fs::read_to_string(&path).map_err(Error::file("read", path))?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v")).unwrap_or_default();
    let mut numbers = version.split('.');
    let settings = [
        ("gitVersion", format!("v{version}")),
        ("gitMajor", numbers.next().unwrap_or_default().to_owned()),
        ("gitMinor", numbers.next().unwrap_or_default().to_owned()),
    ];
    Ok(settings.map(|(name, value)| format!("-X k8s.io/component-base/version.{name}={value}")).join(" "))
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}
