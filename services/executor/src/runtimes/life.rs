//! One life of a runtime, from its order to its end: started, watched, and gone when no process of it is left.
//! Refuses to judge activity, and to know what a start consists of.

mod log;
mod start;

use super::{
    Shared,
    activity::Watcher,
    devices::{Devices, Processes},
    record,
};
use crate::{
    pool::{Life, Order, order::Goal},
    signs::{devices::Found, http},
};
use backend_process::sessions::{self, Member};
use domain::{id::HolderId, runtime::reason::Reason};
use proto::internal::v1::{self as pb, RuntimePhase};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::{io, net::SocketAddr, path::PathBuf, process::ExitStatus, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval},
};

/// From the first process to the first answer.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two questions whether it answers.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);
/// Between two looks whether it lives.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two looks at its activity.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// Between two looks whether all of it is gone.
const GONE_INTERVAL: Duration = Duration::from_millis(100);
/// From the death of a process to its burial.
const BURIED: Duration = Duration::from_secs(1);
/// To end by itself, when it failed or its executor ends.
const SHORT_GRACE: Duration = Duration::from_secs(10);

/// How a life ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    /// One of the codes of docs/RUNTIMES.md; empty when all was well.
    pub(super) code: String,
    /// In words.
    pub(super) message: String,
}

impl Ended {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        let full = error.kind() == io::ErrorKind::StorageFull;
        Self::new(if full { "DISK_FULL" } else { "FAILED" }, format!("the executor could not prepare it: {error}"))
    }
}

/// The application's first process and where it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pid: i32,
    started: u64,
    at: SocketAddr,
}

impl Running {
    /// That very process lives.
    pub(super) fn lives(&self) -> bool {
        sessions::started(self.pid) == Some(self.started)
    }
}

/// What there is of a life when it is taken up.
#[derive(Debug)]
pub(super) enum Left {
    /// Nothing: it is to begin.
    Nothing,
    /// An earlier life of this executor started its first process, which lives.
    Running(Running),
    /// That has ended, and others of it may be there.
    Remains(Ended),
}

/// What a life is lived with.
pub(super) struct Living {
    pub(super) shared: Arc<Shared>,
    pub(super) holder: HolderId,
    pub(super) life: Arc<Life>,
    pub(super) orders: watch::Receiver<Order>,
    pub(super) probe: Arc<Notify>,
    /// How its first process ended, where that is a child of this life of the executor.
    pub(super) exit: watch::Sender<Option<ExitStatus>>,
}

impl Living {
    /// To the end.
    pub(super) async fn run(self, left: Left) {
        self.shared.parts.journal.life_begins(self.holder, &self.life);
        // Nobody works with what is left without its first process.
        let grace = if matches!(left, Left::Remains(_)) { Duration::ZERO } else { SHORT_GRACE };
        let (ended, grace) = tokio::select! {
            biased;
            (why, grace) = self.stop_asked() => {
                self.report(RuntimePhase::Stopping, Ended { code: String::new(), ..why.clone() });
                // Why an order was given is known to whoever gave it.
                (if why.code.is_empty() { Ended::default() } else { why }, grace)
            }
            ended = self.serve(left) => {
                tracing::warn!(holder = %self.holder, code = ended.code, "a runtime ended by itself");
                self.report(RuntimePhase::Failed, ended.clone());
                (ended, grace)
            }
        };
        self.end(grace).await;
        if let Some(cgroups) = &self.shared.parts.cgroups {
            cgroups.remove(self.holder);
        }
        if let Err(error) = record::write_ended(&self.folder(), &ended) {
            tracing::error!(holder = %self.holder, %error, "the end of a runtime could not be written down");
        }
        self.shared.parts.journal.life_is_gone(self.holder);
        self.shared.finish(self.holder, &ended);
    }

    /// Waits until it shall end; answers why, and its grace. Cancel-safe.
    async fn stop_asked(&self) -> (Ended, Duration) {
        let mut orders = self.orders.clone();
        let asked = async {
            loop {
                if let Goal::Stop { grace, reason } = &orders.borrow_and_update().goal {
                    return (Ended::new("", reason.clone()), *grace);
                }
                if orders.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            asked = asked => asked,
            () = self.shared.closing.cancelled() => {
                let message = "the cluster, or its executor alone, was stopped";
                (Ended::new(Reason::ExecutorStopped.as_str(), message), SHORT_GRACE)
            }
        }
    }

    /// Until it ends by itself or cannot go on.
    async fn serve(&self, left: Left) -> Ended {
        let mut warning = Ended::default();
        let running = match left {
            Left::Running(running) => running,
            Left::Remains(ended) => return ended,
            Left::Nothing => match self.start().await {
                Ok((running, warned)) => {
                    warning = warned;
                    running
                }
                Err(ended) => return ended,
            },
        };
        if let Err(ended) = self.wait_until_ready(&running).await {
            return ended;
        }
        self.shared.board.report(pb::RuntimeReport {
            endpoint: running.at.to_string(),
            bound: true,
            ..self.of(RuntimePhase::Ready, warning)
        });
        self.watch(&running).await
    }

    async fn wait_until_ready(&self, running: &Running) -> Result<(), Ended> {
        let until = Instant::now() + START_TIMEOUT;
        let health = super::apps::health(&self.life);
        let mut tick = interval(HEALTH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !running.lives() {
                return Err(self.exited().await);
            }
            let answer = http::get(running.at, &health.path, self.life.access_key.expose()).await;
            if answer.is_ok_and(|(status, _)| health.any || status == 200) {
                return Ok(());
            }
            if Instant::now() > until {
                let message = format!("it did not answer within {} s", START_TIMEOUT.as_secs());
                return Err(Ended::new("APP_NOT_READY", self.with_log_tail(message)));
            }
        }
    }

    /// Tells of its activity until its first process is gone.
    async fn watch(&self, running: &Running) -> Ended {
        let mut watcher = Watcher::new(&self.life, running.at, running.pid);
        let mut devices = Devices::new(self.life.devices());
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe = interval(PROBE_INTERVAL);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    if !running.lives() {
                        return self.exited().await;
                    }
                    continue;
                }
                _ = probe.tick() => {}
                () = self.probe.notified() => {}
            }
            let folder = self.folder();
            // To empty a long file may take a while.
            let _ = tokio::task::spawn_blocking(move || log::bound(&folder)).await;
            let Ok((members, others)) = self.everybody().await else { continue };
            let found = self.look_at(&mut devices, &members, &others).await;
            let activities = watcher.look(&members, found).await;
            self.shared.board.amend(self.holder, |report| report.activities = activities);
        }
    }

    async fn exited(&self) -> Ended {
        if self.shared.parts.cgroups.as_ref().is_some_and(|cgroups| cgroups.ran_out_of_memory(self.holder)) {
            let message = "it used more memory than it may; give it a higher limit".to_owned();
            return Ended::new("OUT_OF_MEMORY", self.with_log_tail(message));
        }
        // It is buried a moment after it is seen to be dead; a former executor's child is not ours to bury.
        let mut exit = self.exit.subscribe();
        let status = tokio::time::timeout(BURIED, exit.wait_for(Option::is_some)).await;
        let status = status.ok().and_then(Result::ok).and_then(|status| *status);
        let how = status.map(|status| format!(" ({status})")).unwrap_or_default();
        let said = match self.log_tail() {
            tail if tail.is_empty() => "it printed nothing".to_owned(),
            tail => tail,
        };
        Ended::new("APP_EXITED", format!("the application ended{how}: {said}"))
    }

    /// Asks everything of it to end, then makes it end. Answers when nothing is left.
    async fn end(&self, grace: Duration) {
        let until = Instant::now() + grace;
        let mut asked = false;
        loop {
            // Whatever cannot be seen is not gone.
            let Ok(members) = self.members().await else {
                tokio::time::sleep(GONE_INTERVAL).await;
                continue;
            };
            if members.is_empty() {
                return;
            }
            if Instant::now() >= until {
                sessions::signal(&members, Signal::KILL);
            } else if !asked {
                asked = true;
                sessions::signal(&members, Signal::TERM);
                // Interactive shells ignore SIGTERM.
                sessions::signal(&members, Signal::HUP);
            }
            tokio::time::sleep(GONE_INTERVAL).await;
        }
    }

    /// What its devices do, if it has any.
    async fn look_at(&self, devices: &mut Devices, members: &[Member], others: &[Member]) -> Option<Found> {
        if devices.is_empty() {
            return None;
        }
        let pids = |all: &[Member]| all.iter().map(|member| member.pid).collect();
        let processes = Processes { own: pids(members), others: pids(others) };
        let (mut looked, shared, holder) = (std::mem::take(devices), Arc::clone(&self.shared), self.holder);
        // The driver may take a while.
        let look = tokio::task::spawn_blocking(move || {
            let is_shared = |device: &str| shared.is_shared(device, holder);
            let found = looked.look(&processes, is_shared, |device, since| shared.parts.machine.work(device, since));
            (looked, found)
        });
        let (looked, found) = look.await.unwrap_or_else(|error| {
            let why = format!("a look at its devices failed: {error}");
            (Devices::new(self.life.devices()), Found::Unknown(why))
        });
        *devices = looked;
        Some(found)
    }

    /// Its processes, those of its scripts too.
    async fn members(&self) -> io::Result<Vec<Member>> {
        self.everybody().await.map(|(members, _)| members)
    }

    /// The same, and those of other runtimes of this executor.
    async fn everybody(&self) -> io::Result<(Vec<Member>, Vec<Member>)> {
        let (executor, name) = (self.shared.parts.executor.clone(), self.holder.to_string());
        let read = move || -> io::Result<(Vec<Member>, Vec<Member>)> {
            let is_own = |session: &str| session.split('.').next() == Some(name.as_str());
            let (mut own, mut others) = (Vec::new(), Vec::new());
            for (session, members) in sessions::try_all(&executor)? {
                if is_own(&session) { own.extend(members) } else { others.extend(members) }
            }
            Ok((own, others))
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?;
        read.inspect_err(|error| tracing::warn!(holder = %self.holder, %error, "its processes cannot be looked for"))
    }

    fn log_tail(&self) -> String {
        log::end(&self.folder()).replace(self.life.access_key.expose(), "<access key>")
    }

    /// Followed by what it printed last, if it printed anything.
    fn with_log_tail(&self, message: String) -> String {
        match self.log_tail() {
            nothing if nothing.is_empty() => message,
            said => format!("{message}: {said}"),
        }
    }

    fn folder(&self) -> PathBuf {
        self.shared.folder(self.holder)
    }

    fn report(&self, phase: RuntimePhase, said: Ended) {
        self.shared.board.report(self.of(phase, said));
    }

    fn of(&self, phase: RuntimePhase, Ended { code, message }: Ended) -> pb::RuntimeReport {
        pb::RuntimeReport {
            holder: self.holder.to_vec(),
            fence: self.orders.borrow().fence,
            phase: phase.into(),
            code,
            message,
            node: self.life.node.clone(),
            ..pb::RuntimeReport::default()
        }
    }
}
