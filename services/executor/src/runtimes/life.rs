//! One life of a runtime, from its order to its end: prepared, started, watched, and gone when no process of it is left.
//! Refuses to judge activity.

use super::{Shared, activity::Watcher, apps::Place, http, record};
use crate::{
    pool::{Life, Order, order::Goal},
    pre_start::tail,
};
use backend_process::{
    launch::Launch,
    sessions::{self, Member, SESSION_MARK},
};
use domain::{id::HolderId, runtime::App};
use proto::internal::v1::{self as pb, RuntimePhase};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
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
/// For what a post-start command or script may take.
const POST_START_TIMEOUT: Duration = Duration::from_secs(600);
/// To end by itself, when it failed or its executor ends.
const SHORT_GRACE: Duration = Duration::from_secs(10);
/// The log of an application is emptied when it is longer.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// Of the log, what is told when it ends badly.
const QUOTED_BYTES: usize = 1_500;
/// Lines of an installer that nobody has read.
const PROGRESS_MAX: usize = 64;

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

/// What a life is lived with.
pub(super) struct Living {
    pub(super) shared: Arc<Shared>,
    pub(super) holder: HolderId,
    pub(super) life: Arc<Life>,
    pub(super) orders: watch::Receiver<Order>,
    pub(super) probe: Arc<Notify>,
}

impl Living {
    /// To the end; `running` is what an earlier life of this executor started.
    pub(super) async fn run(self, running: Option<Running>) {
        let (ended, grace) = tokio::select! {
            biased;
            (reason, grace) = self.stop_asked() => {
                self.report(RuntimePhase::Stopping, Ended::new("", reason));
                (Ended::default(), grace)
            }
            ended = self.serve(running) => {
                tracing::warn!(holder = %self.holder, code = ended.code, "a runtime ended by itself");
                self.report(RuntimePhase::Failed, ended.clone());
                (ended, SHORT_GRACE)
            }
        };
        self.end(grace).await;
        if let Err(error) = record::write_ended(&self.folder(), &ended) {
            tracing::error!(holder = %self.holder, %error, "the end of a runtime could not be written down");
        }
        self.shared.finish(self.holder, &ended);
    }

    /// Waits until it shall end; answers why, and its grace. Cancel-safe.
    async fn stop_asked(&self) -> (String, Duration) {
        let mut orders = self.orders.clone();
        let asked = async {
            loop {
                if let Goal::Stop { grace, reason } = &orders.borrow_and_update().goal {
                    return (reason.clone(), *grace);
                }
                if orders.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            asked = asked => asked,
            () = self.shared.closing.cancelled() => ("its executor is stopped".to_owned(), SHORT_GRACE),
        }
    }

    /// Until it ends by itself or cannot go on.
    async fn serve(&self, running: Option<Running>) -> Ended {
        let mut warning = Ended::default();
        let running = match running {
            Some(running) => running,
            None => match self.start().await {
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

    /// From nothing to a first process; with what went wrong on the way and does not matter.
    async fn start(&self) -> Result<(Running, Ended), Ended> {
        self.report(RuntimePhase::Accepted, Ended::default());
        let shared = &self.shared;
        record::write_order(&self.folder(), &self.orders.borrow().clone())?;
        let place = self.place()?;
        let mut env = self.environment(&place);
        self.pre_start(&mut env).await?;
        let (progress, lines) = mpsc::channel(PROGRESS_MAX);
        let program = tokio::select! {
            program = shared.parts.apps.program(&self.life, &place, &progress) => program?,
            never = self.tell_progress(lines) => match never {},
        };
        self.report(RuntimePhase::Starting, Ended::default());
        env.extend(program.env);
        let warning = self.post_start(&env, &place).await;
        let log = log(&self.folder())?;
        let running = self.launch(program.command, env, &place, &log)?;
        record::write_running(&self.folder(), &running)?;
        Ok((running, warning))
    }

    fn launch(
        &self,
        command: Vec<OsString>,
        env: BTreeMap<String, String>,
        place: &Place,
        log: &File,
    ) -> Result<Running, Ended> {
        let launch = self.launching(command, env, place);
        let mut child = tokio::process::Command::from(launch.command(log)?).spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let started = sessions::started(pid);
        // Buried as soon as it is dead, whoever watches it.
        tokio::spawn(async move { child.wait().await });
        let started = started.ok_or_else(|| Ended::new("APP_EXITED", "the application ended at once"))?;
        Ok(Running { pid, started, at: place.at })
    }

    fn launching(&self, command: Vec<OsString>, env: BTreeMap<String, String>, place: &Place) -> Launch {
        let spec = &self.life.spec;
        let memory = spec.memory_limit_bytes.max(spec.ask.memory_bytes);
        Launch {
            launcher: self.shared.parts.launcher.clone(),
            command,
            env,
            cwd: place.project.clone(),
            data_bytes: (memory > 0).then_some(memory),
            cpu_seconds: None,
        }
    }

    /// Shows an installer's lines until it is done.
    async fn tell_progress(&self, mut lines: mpsc::Receiver<String>) -> std::convert::Infallible {
        while let Some(line) = lines.recv().await {
            self.report(RuntimePhase::Pulling, Ended::new("", line));
        }
        std::future::pending().await
    }

    /// Its folders and its address.
    fn place(&self) -> Result<Place, Ended> {
        let life = &self.life;
        if !life.spec.mounts.is_empty() {
            let message = "this backend has no volume but the workspace's own folder; take the mounts out of the spec";
            return Err(Ended::new("MOUNT_UNSUPPORTED", message));
        }
        let home = self.shared.parts.volumes.join(life.workspace_id.to_string());
        let project = home.join("project");
        std::fs::create_dir_all(&project)?;
        let address = self.shared.parts.address;
        let port = match life.spec.app {
            App::Custom { port, .. } => port,
            App::Jupyter | App::VsCode => 0,
        };
        // Free now. Whoever takes it before the application makes that fail, and is never taken for it.
        let free = std::net::TcpListener::bind((address, port)).and_then(|listener| listener.local_addr());
        let at = free.map_err(|error| {
            Ended::new("PORT_TAKEN", format!("port {port} of this machine cannot be had: {error}; choose another one"))
        })?;
        Ok(Place { home, project, run: self.folder(), at })
    }

    fn environment(&self, place: &Place) -> BTreeMap<String, String> {
        let (life, parts) = (&self.life, &self.shared.parts);
        let text = |path: &Path| path.display().to_string();
        let mut env = parts.env.clone();
        let own = [
            ("HOME", text(&place.home)),
            ("USER_CODE_PATH", text(&place.project)),
            ("TMPDIR", text(&std::env::temp_dir())),
            ("SHELL", "/bin/bash".to_owned()),
            ("ORRERY_WORKSPACE", life.workspace.clone()),
            ("ORRERY_PROJECT", life.project.clone()),
            ("ORRERY_BASE_PATH", life.base_path.clone()),
            ("HOST", place.at.ip().to_string()),
            ("PORT", place.at.port().to_string()),
            // Packages that people install go with the workspace, not into what all workspaces share.
            ("PIP_TARGET", text(&place.home.join("packages"))),
            ("PYTHONPATH", text(&place.home.join("packages"))),
            // A runtime without devices sees none.
            ("CUDA_VISIBLE_DEVICES", self.devices(|grant| grant.device.clone())),
            ("NVIDIA_VISIBLE_DEVICES", self.devices(|grant| grant.device.clone())),
            ("ORRERY_GPU_MILLI", self.devices(|grant| grant.milli.to_string())),
        ];
        env.extend(own.map(|(name, value)| (name.to_owned(), value)));
        env.extend(life.spec.env.clone());
        env.insert(SESSION_MARK.to_owned(), sessions::mark(&parts.executor, &self.holder.to_string()));
        env
    }

    fn devices(&self, text: impl Fn(&crate::pool::Grant) -> String) -> String {
        self.life.grants.iter().map(text).collect::<Vec<_>>().join(",")
    }

    /// Runs the script that may change the environment.
    async fn pre_start(&self, env: &mut BTreeMap<String, String>) -> Result<(), Ended> {
        let life = &self.life;
        if life.spec.pre_start.is_empty() {
            return Ok(());
        }
        let variables: Vec<Value> =
            life.spec.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let config = json!({ "name": life.workspace, "image": life.spec.image, "env": variables });
        let folder = self.folder().join("pre-start");
        let sandbox = self.shared.parts.apps.sandbox(&self.shared.parts);
        let answer = sandbox.run(&life.spec.pre_start, &config, &self.holder.to_string(), &folder).await;
        let answer = answer.map_err(|error| Ended::new("PRE_START_FAILED", runtime::exit::chain(&error)))?;
        env.extend(changed_environment(&config, &answer).map_err(|what| Ended::new("PRE_START_REFUSED", what))?);
        Ok(())
    }

    /// Runs the command, then the script. A failure is told and keeps nothing from starting.
    async fn post_start(&self, env: &BTreeMap<String, String>, place: &Place) -> Ended {
        let post = &self.life.spec.post_start;
        let script = ["/bin/sh".to_owned(), "-c".to_owned(), post.script.clone()];
        let steps =
            [("command", post.command.as_slice()), ("script", if post.script.is_empty() { &[] } else { &script })];
        for (what, command) in steps.into_iter().filter(|(_, command)| !command.is_empty()) {
            let done = async {
                let log = log(&self.folder())?;
                let launch = self.launching(command.iter().map(Into::into).collect(), env.clone(), place);
                let mut child = tokio::process::Command::from(launch.command(&log)?).kill_on_drop(true).spawn()?;
                child.wait().await
            };
            let why = match tokio::time::timeout(POST_START_TIMEOUT, done).await {
                Ok(Ok(status)) if status.success() => continue,
                Ok(Ok(status)) => format!("{status}: {}", self.log_tail()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("it took longer than {} s", POST_START_TIMEOUT.as_secs()),
            };
            return Ended::new("POST_START_FAILED", format!("the post-start {what} failed: {why}"));
        }
        Ended::default()
    }

    async fn wait_until_ready(&self, running: &Running) -> Result<(), Ended> {
        let until = Instant::now() + START_TIMEOUT;
        let health = super::apps::health(&self.life);
        let mut tick = interval(HEALTH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !running.lives() {
                return Err(self.exited());
            }
            let answer = http::get(running.at, &health.path, self.life.access_key.expose()).await;
            if answer.is_ok_and(|(status, _)| health.any || status == 200) {
                return Ok(());
            }
            if Instant::now() > until {
                let message = format!("it did not answer within {} s: {}", START_TIMEOUT.as_secs(), self.log_tail());
                return Err(Ended::new("APP_NOT_READY", message));
            }
        }
    }

    /// Tells of its activity until its first process is gone.
    async fn watch(&self, running: &Running) -> Ended {
        let mut watcher = Watcher::new(&self.life, running.at, running.pid);
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probe = interval(PROBE_INTERVAL);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {
                    if !running.lives() {
                        return self.exited();
                    }
                    continue;
                }
                _ = probe.tick() => {}
                () = self.probe.notified() => {}
            }
            bound_log(&self.folder());
            let activities = watcher.look(&self.members().await).await;
            self.shared.board.amend(self.holder, |report| report.activities = activities);
        }
    }

    fn exited(&self) -> Ended {
        Ended::new("APP_EXITED", format!("the application ended: {}", self.log_tail()))
    }

    /// Asks everything of it to end, then makes it end. Answers when nothing is left.
    async fn end(&self, grace: Duration) {
        let until = Instant::now() + grace;
        let mut asked = false;
        loop {
            let members = self.members().await;
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

    /// Its processes, those of its scripts too.
    async fn members(&self) -> Vec<Member> {
        let (executor, name) = (self.shared.parts.executor.clone(), self.holder.to_string());
        let read = move || {
            let sessions = sessions::all(&executor);
            let own = sessions.into_iter().filter(|(session, _)| session.split('.').next() == Some(name.as_str()));
            own.flat_map(|(_, members)| members).collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        tail(&self.folder().join(LOG), QUOTED_BYTES).replace(self.life.access_key.expose(), "<access key>")
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

const LOG: &str = "log";

/// What the application prints; survives this executor.
fn log(folder: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(folder.join(LOG))
}

/// Who writes appends, so an emptied file goes on from its beginning.
fn bound_log(folder: &Path) {
    let emptied = OpenOptions::new()
        .write(true)
        .open(folder.join(LOG))
        .and_then(|file| if file.metadata()?.len() > LOG_BYTES_MAX { file.set_len(0) } else { Ok(()) });
    if let Err(error) = emptied {
        tracing::warn!(%error, "the log of a runtime cannot be bounded");
    }
}

/// Of a pre-start script's answer, the environment. This backend has nothing else that a script could change.
fn changed_environment(config: &Value, answer: &Value) -> Result<BTreeMap<String, String>, String> {
    let fields = answer.as_object().into_iter().flatten();
    let other: Vec<&str> = fields
        .filter(|(name, value)| *name != "env" && config.get(name) != Some(value))
        .map(|(name, _)| name.as_str())
        .collect();
    if !other.is_empty() {
        return Err(format!("the pre-start script may change `env` here, and changed {}", other.join(", ")));
    }
    let wrong = || "`env` of a pre-start script's answer is a list of {name, value}, both texts".to_owned();
    let Some(env) = answer.get("env") else { return Ok(BTreeMap::new()) };
    let pairs = env.as_array().ok_or_else(wrong)?.iter().map(|variable| {
        let text = |field: &str| variable.get(field).and_then(Value::as_str).map(str::to_owned);
        let (name, value) = text("name").zip(text("value")).ok_or_else(wrong)?;
        let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !named || value.contains('\0') {
            return Err(format!("`{name}` is no variable that a pre-start script may set"));
        }
        if name.starts_with("ORRERY_") {
            return Err(format!("`{name}` is the executor's; a pre-start script must not set it"));
        }
        Ok((name, value))
    });
    let env: BTreeMap<_, _> = pairs.collect::<Result<_, _>>()?;
    let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if env.len() > domain::runtime::rules::ENV_MAX || bytes > domain::runtime::rules::ENV_BYTES_MAX {
        return Err("the environment of a pre-start script's answer is too large".to_owned());
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_changes_the_environment_and_nothing_else() {
        let config = json!({ "name": "lab", "image": "", "env": [] });
        let answer = |env: Value| json!({ "name": "lab", "image": "", "env": env });
        let env = changed_environment(&config, &answer(json!([{ "name": "A", "value": "b" }]))).unwrap();
        assert_eq!(env, BTreeMap::from([("A".to_owned(), "b".to_owned())]));
        assert!(changed_environment(&config, &json!({})).unwrap().is_empty());
        for (bad, word) in [
            (json!({ "securityContext": { "privileged": true } }), "securityContext"),
            (json!({ "name": "other" }), "name"),
            (answer(json!({ "A": "b" })), "list"),
            (answer(json!([{ "name": "ORRERY_SESSION", "value": "" }])), "must not"),
            (answer(json!([{ "name": "LD=x", "value": "" }])), "no variable"),
            (answer(json!([{ "name": "A", "value": 1 }])), "texts"),
        ] {
            let refused = changed_environment(&config, &bad).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
