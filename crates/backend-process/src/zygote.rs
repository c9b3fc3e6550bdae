//! Zygotes: one warm interpreter per environment, from which children are forked. Started when first needed, and again
//! when one has died, ever more slowly if it keeps dying; ended when nobody has needed it for long.

use crate::{Child, Environment, Error, Spawn, environment::BASE, process::EXECUTOR_MARK};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child as Process, Command},
    sync::Mutex,
    time::Instant,
};

/// The longest start of an interpreter with everything that it imports.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// One that lived so long has not died of its start.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// Before a second start, and at most.
const RESTART_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// For the end of one that is not needed any more, before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How zygotes are started.
#[derive(Debug, Clone)]
pub struct ZygoteOptions {
    /// The folder of the runner's Python packages.
    pub runner: PathBuf,
    /// A folder for sockets (a path of at most 80 bytes, since socket paths are short).
    pub sockets: PathBuf,
    /// Children that wait already forked.
    pub idle: u32,
    /// The value of [`EXECUTOR_MARK`].
    pub executor: String,
    /// Further variables that every child will have anyway: what is there before the fork, no child has to set.
    pub env: BTreeMap<String, String>,
}

/// One warm interpreter. Dropping it ends it and every child that it still has.
#[derive(Debug)]
pub struct Zygote {
    socket: PathBuf,
    started: Instant,
    pid: Option<u32>,
    // Its stdin is open as long as this is: the zygote ends with us, however we end.
    process: Mutex<Process>,
    /// Its packages stay on the disk as long as it runs.
    _environment: Environment,
}

impl Zygote {
    /// Starts an interpreter and waits until it is warm.
    ///
    /// # Errors
    /// When it does not start, ends at once, or is not ready in a minute.
    pub async fn start(environment: &Environment, options: &ZygoteOptions) -> Result<Self, Error> {
        let failed = |reason: String| Error::Zygote { python: environment.python.display().to_string(), reason };
        let short = environment.key.get(..12).unwrap_or(&environment.key);
        let socket = options.sockets.join(format!("{short}.sock"));
        let mut process = command(environment, options, &socket)
            .spawn()
            .map_err(|e| failed(format!("it could not be started: {e}")))?;
        let stdout = process.stdout.take().ok_or_else(|| failed("it has no stdout".to_owned()))?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line == "ready" {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(START_TIMEOUT, ready).await {
            Ok(true) => {
                let pid = process.id();
                let (started, process) = (Instant::now(), Mutex::new(process));
                Ok(Self { socket, started, pid, process, _environment: environment.clone() })
            }
            Ok(false) => Err(failed("it ended before it was ready; the executor's stderr says why".to_owned())),
            Err(_) => Err(failed(format!("it was not ready in {} s", START_TIMEOUT.as_secs()))),
        }
    }

    /// Starts a child.
    ///
    /// # Errors
    /// When the zygote refuses or has gone.
    pub async fn spawn(&self, spawn: &Spawn) -> Result<Child, Error> {
        Child::start(&self.socket, spawn).await
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Ends it, and the children that wait in it. Nobody may still have a child of it.
    async fn end(&self) {
        let mut process = self.process.lock().await;
        drop(process.stdin.take());
        if tokio::time::timeout(END_TIMEOUT, process.wait()).await.is_err() {
            // It has gone meanwhile, or is killed when it is dropped.
            let _ = process.kill().await;
        }
    }

    /// False once the interpreter has ended.
    pub async fn is_alive(&self) -> bool {
        matches!(self.process.lock().await.try_wait(), Ok(None))
    }
}

fn command(environment: &Environment, options: &ZygoteOptions, socket: &Path) -> Command {
    let mut command = Command::new(&environment.python);
    command
        .args(["-u", "-m", "orrery_runner.zygote", "--socket"])
        .arg(socket)
        .args(["--idle", &options.idle.to_string()])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LANG", "C.UTF-8")
        .envs(&options.env)
        .env("PYTHONPATH", &options.runner)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env(EXECUTOR_MARK, &options.executor)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .process_group(0);
    command
}

/// What is known of one environment's zygote.
#[derive(Debug, Default)]
struct Slot {
    zygote: Option<Arc<Zygote>>,
    /// When somebody was seen to use it last.
    used_at: Option<Instant>,
    /// Deaths soon after the start, and failed starts, in a row.
    failures: u32,
    /// Why the last start failed, and until when nobody tries again.
    refused: Option<(String, Instant)>,
}

/// The zygotes of an executor, by environment.
#[derive(Debug)]
pub struct Zygotes {
    options: ZygoteOptions,
    starts: AtomicU64,
    slots: Mutex<HashMap<String, Arc<Mutex<Slot>>>>,
}

impl Zygotes {
    /// None yet.
    #[must_use]
    pub fn new(options: ZygoteOptions) -> Self {
        Self { options, starts: AtomicU64::new(0), slots: Mutex::default() }
    }

    /// How many were started, ever.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// The zygote of an environment, started if there is none alive.
    ///
    /// # Errors
    /// When it cannot be started; for a moment after that everybody hears the same, so that many attempts that wait for
    /// a broken environment do not try one after the other.
    pub async fn get(&self, environment: &Environment) -> Result<Arc<Zygote>, Error> {
        let slot = Arc::clone(self.slots.lock().await.entry(environment.key.clone()).or_default());
        let mut slot = slot.lock().await;
        slot.used_at = Some(Instant::now());
        if let Some(zygote) = slot.zygote.clone() {
            if zygote.is_alive().await {
                return Ok(zygote);
            }
            slot.zygote = None;
            slot.failures = if zygote.started.elapsed() < HEALTHY_AFTER { slot.failures + 1 } else { 0 };
            tracing::warn!(environment = environment.key, failures = slot.failures, "a Python zygote has died");
            tokio::time::sleep(pause(slot.failures)).await;
        }
        if let Some((reason, until)) = &slot.refused
            && *until > Instant::now()
        {
            return Err(Error::Zygote { python: environment.python.display().to_string(), reason: reason.clone() });
        }
        self.starts.fetch_add(1, Ordering::Relaxed);
        match Zygote::start(environment, &self.options).await {
            Ok(zygote) => {
                tracing::info!(environment = environment.key, "started a Python zygote");
                let zygote = Arc::new(zygote);
                slot.used_at = Some(Instant::now());
                (slot.zygote, slot.refused) = (Some(Arc::clone(&zygote)), None);
                Ok(zygote)
            }
            Err(error) => {
                slot.failures += 1;
                let reason = match &error {
                    Error::Zygote { reason, .. } => reason.clone(),
                    other => other.to_string(),
                };
                slot.refused = Some((reason, Instant::now() + pause(slot.failures)));
                Err(error)
            }
        }
    }
}

impl Zygotes {
    /// Ends those that nobody has used for `idle`, a look at a time: somebody uses one as long as he has it. The one of the
    /// ready base environment stays: it is the only one of its kind, and most attempts want it first.
    pub async fn retire(&self, idle: Duration) {
        let slots: Vec<_> = self.slots.lock().await.iter().map(|(key, slot)| (key.clone(), Arc::clone(slot))).collect();
        for (key, slot) in slots.into_iter().filter(|(key, _)| key != BASE) {
            // Held to its end, so that nobody starts the next one beside it.
            let mut slot = slot.lock().await;
            if slot.zygote.as_ref().is_some_and(|zygote| Arc::strong_count(zygote) > 1) {
                slot.used_at = Some(Instant::now());
            } else if slot.used_at.is_none_or(|at| at.elapsed() >= idle)
                && let Some(zygote) = slot.zygote.take()
            {
                zygote.end().await;
                tracing::info!(environment = key, "ended a Python zygote that nobody has needed");
            }
        }
        // Nobody has one of these in hand, or waits for it: whoever comes, comes by this map.
        self.slots.lock().await.retain(|_, slot| {
            let is_idle = |slot: &Slot| slot.zygote.is_none() && slot.used_at.is_none_or(|at| at.elapsed() >= idle);
            Arc::strong_count(slot) > 1 || slot.try_lock().map_or(true, |slot| !is_idle(&slot))
        });
    }
}

fn pause(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    RESTART_PAUSE.0.saturating_mul(1 << failures.min(10)).min(RESTART_PAUSE.1)
}
