//! The services as child processes: started, started again when they die, and drained in order.

use super::{
    folder::{self, Folder},
    leftovers::{self, Child},
};
use crate::failure::{Code, Failure, Result};
use runtime::backoff::{self, Backoff};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    process::Command,
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// A service that lives this long has started well: the next pause is short again.
const LIVED_WELL: Duration = Duration::from_secs(20);
/// A service that dies so often in a row does not start.
const DEATHS_MAX: u32 = 5;
/// Somewhat more than the services' own drain.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Lines of a log that a person gets to see.
const TAIL_LINES: usize = 12;
/// Events that wait to be read.
const EVENTS_MAX: usize = 64;

/// One service: what to start and with which environment.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    name: String,
    program: PathBuf,
    log: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Spec {
    pub(super) fn new(name: &str, program: PathBuf, log: PathBuf) -> Self {
        Self { name: name.to_owned(), program, log, environment: Vec::new() }
    }

    /// Adds a setting.
    pub(super) fn with(mut self, variable: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((variable, value.into()));
        self
    }

    fn command(&self) -> std::io::Result<Command> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A process group of its own: Ctrl-C must reach only us, who then stop the services in order.
        command.process_group(0).kill_on_drop(true);
        Ok(command)
    }
}

/// What happens to a service.
pub(super) enum Event {
    /// It ended and is started again.
    Died { name: String, status: ExitStatus },
    /// It does not start, and starting it again would not help.
    Hopeless(Failure),
}

/// All services of this life.
pub(super) struct Services {
    running: Vec<Running>,
    events: mpsc::Receiver<Event>,
    tell: mpsc::Sender<Event>,
    alive: Arc<Mutex<HashMap<String, Child>>>,
}

struct Running {
    name: String,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Services {
    pub(super) fn new() -> Self {
        let (tell, events) = mpsc::channel(EVENTS_MAX);
        Self { running: Vec::new(), events, tell, alive: Arc::default() }
    }

    /// Starts a service and keeps it running.
    pub(super) fn start(&mut self, spec: Spec, folder: &Folder) {
        let (stop, stopped) = watch::channel(false);
        let name = spec.name.clone();
        let keeper = Keeper {
            spec,
            stopped,
            tell: self.tell.clone(),
            alive: self.alive.clone(),
            children_file: folder.children_file(),
        };
        self.running.push(Running { name, stop, task: tokio::spawn(keeper.keep()) });
    }

    /// The next thing that happens to some service.
    pub(super) async fn event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // We hold a sender ourselves, so the channel cannot end.
            None => std::future::pending().await,
        }
    }

    /// Does `work`, or fails as soon as a service turns out to be hopeless.
    pub(super) async fn or_death<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                event = self.event() => if let Event::Hopeless(failure) = event {
                    return Err(failure);
                },
            }
        }
    }

    /// Stops the services, each while those that it needs still run.
    pub(super) async fn drain(&mut self) {
        self.stop(|name| name == "web-server").await;
        self.stop(|name| name.starts_with("executor")).await;
        self.stop(|_| true).await;
    }

    async fn stop(&mut self, which: impl Fn(&str) -> bool) {
        for running in self.running.iter().filter(|r| which(&r.name)) {
            running.stop.send_replace(true);
        }
        for running in self.running.iter_mut().filter(|r| which(&r.name)) {
            // A second call, after one that was cut short, must not poll what has ended.
            if !running.task.is_finished() {
                let _ = (&mut running.task).await;
            }
        }
        self.running.retain(|r| !which(&r.name));
    }

    /// Ends what still runs at once.
    pub(super) async fn kill(&mut self) {
        for running in self.running.drain(..) {
            running.task.abort();
            let _ = running.task.await;
        }
    }
}

/// Keeps one service running.
struct Keeper {
    spec: Spec,
    stopped: watch::Receiver<bool>,
    tell: mpsc::Sender<Event>,
    alive: Arc<Mutex<HashMap<String, Child>>>,
    children_file: PathBuf,
}

impl Keeper {
    async fn keep(mut self) {
        let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut deaths = 0;
        loop {
            let begun = Instant::now();
            let status = match self.live().await {
                Ok(Some(status)) => status,
                Ok(None) => return,
                Err(error) => return self.give_up(&format!("cannot be started: {error}")).await,
            };
            if begun.elapsed() > LIVED_WELL {
                deaths = 0;
                pause.reset();
            }
            deaths += 1;
            // 64 says that the settings are wrong: they will be wrong the next time.
            if deaths >= DEATHS_MAX || status.code() == Some(Code::Usage as i32) {
                return self.give_up(&format!("does not start ({status})")).await;
            }
            // A full queue loses a message to a person, nothing else.
            let _ = self.tell.try_send(Event::Died { name: self.spec.name.clone(), status });
            tokio::select! {
                () = tokio::time::sleep(pause.next(backoff::random())) => {}
                () = asked(&mut self.stopped) => return,
            }
        }
    }

    /// One life: its end, or `None` when it was asked to stop.
    async fn live(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let mut child = self.spec.command()?.spawn()?;
        let pid = child.id();
        self.note(pid.and_then(Child::of));
        let status = tokio::select! {
            status = child.wait() => Some(status?),
            () = asked(&mut self.stopped) => {
                if let Some(pid) = pid.and_then(|p| i32::try_from(p).ok()).and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::TERM);
                }
                if tokio::time::timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
                    child.kill().await?;
                }
                None
            }
        };
        self.note(None);
        Ok(status)
    }

    fn note(&self, child: Option<Child>) {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        match child {
            Some(child) => alive.insert(self.spec.name.clone(), child),
            None => alive.remove(&self.spec.name),
        };
        let children: Vec<Child> = alive.values().copied().collect();
        leftovers::write(&self.children_file, &children);
    }

    async fn give_up(&self, how: &str) {
        let tail = folder::tail(&self.spec.log, TAIL_LINES);
        let what = format!("{} {how}\n{tail}", self.spec.name);
        let failure = Failure::new(Code::Unavailable, what.trim_end(), format!("see {}", self.spec.log.display()));
        let _ = self.tell.send(Event::Hopeless(failure)).await;
    }
}

/// Until somebody wants the service to stop, or nobody is left who could.
async fn asked(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(folder: &Folder, name: &str, script: &str) -> Spec {
        let program = folder.path().join(format!("{name}.sh"));
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Spec::new(name, program, folder.log(name)).with("ORRERY_TEST_WORD", "hello")
    }

    async fn within<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), work).await.expect("in time")
    }

    #[tokio::test]
    async fn a_service_that_dies_is_started_again_and_then_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let mut services = Services::new();
        let script = "echo $ORRERY_TEST_WORD; [ -e $0.once ] && exec sleep 600; touch $0.once; exit 3";
        services.start(spec(&folder, "executor-1", script), &folder);
        let Event::Died { name, status } = within(services.event()).await else { panic!("it is not hopeless") };
        assert_eq!((name.as_str(), status.code()), ("executor-1", Some(3)));
        let log = folder.log("executor-1");
        within(async {
            while std::fs::read_to_string(&log).unwrap_or_default().lines().count() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        within(services.drain()).await;
        assert_eq!(std::fs::read_to_string(folder.children_file()).unwrap(), "[]");
    }

    #[tokio::test]
    async fn wrong_settings_are_hopeless_at_once_and_shown() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let mut services = Services::new();
        services.start(spec(&folder, "scheduler", "echo 'unknown key: x' >&2; exit 64"), &folder);
        let result = within(services.or_death(std::future::pending::<Result<()>>())).await;
        let failure = result.err().unwrap();
        assert!(failure.what.contains("unknown key: x") && failure.code == Code::Unavailable, "{}", failure.what);
    }
}
