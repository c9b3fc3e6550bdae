//! The way of a life from its order to its first process: its folders, its environment, its scripts, its program. Refuses
//! to know what becomes of it.

use super::{Ended, Living, Running, log};
use crate::{
    pre_start::{how, quoted},
    runtimes::{apps::Place, record, volumes},
};
use backend_process::{
    launch::{Launch, Limits},
    sessions::{self, SESSION_MARK},
};
use domain::runtime::App;
use proto::internal::v1::RuntimePhase;
use std::{collections::BTreeMap, ffi::OsString, fs::File, io, path::Path, time::Duration};
use tokio::sync::mpsc;

/// For what a post-start command or script may take.
const POST_START_TIMEOUT: Duration = Duration::from_secs(600);
/// Lines of an installer that nobody has read.
const PROGRESS_MAX: usize = 64;

impl Living {
    /// From nothing to a first process; with what went wrong on the way and does not matter.
    pub(super) async fn start(&self) -> Result<(Running, Ended), Ended> {
        let shared = &self.shared;
        record::write_order(&self.folder(), &self.orders.borrow().clone())?;
        let place = self.place()?;
        let mut env = self.environment(&place, self.pre_start().await?);
        let (progress, lines) = mpsc::channel(PROGRESS_MAX);
        let program = tokio::select! {
            program = shared.parts.apps.program(&self.life, &place, &progress) => program?,
            never = self.tell_progress(lines) => match never {},
        };
        self.report(RuntimePhase::Starting, Ended::default());
        env.extend(program.env);
        let warning = self.post_start(&env, &place).await;
        let log = log::open(&self.folder())?;
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
        let launch = self.launching(command, env, place)?;
        let mut child = tokio::process::Command::from(launch.command(log)?).spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let started = sessions::started(pid);
        // Buried as soon as it is dead, whoever watches it.
        let exit = self.exit.clone();
        tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                exit.send_replace(Some(status));
            }
        });
        let started = started.ok_or_else(|| Ended::new("APP_EXITED", "the application ended at once"))?;
        Ok(Running { pid, started, at: place.at })
    }

    /// With the limits of its spec: those of all its processes together, or else those of each.
    fn launching(&self, command: Vec<OsString>, env: BTreeMap<String, String>, place: &Place) -> io::Result<Launch> {
        let spec = &self.life.spec;
        let memory = spec.memory_limit_bytes.max(spec.ask.memory_bytes);
        let limits = match &self.shared.parts.cgroups {
            Some(cgroups) => Limits { cgroup: Some(cgroups.of(self.holder, spec)?), ..Limits::default() },
            None => Limits { data_bytes: (memory > 0).then_some(memory), ..Limits::default() },
        };
        Ok(Launch { launcher: self.shared.parts.launcher.clone(), command, env, cwd: place.project.clone(), limits })
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
        let home = self.shared.parts.volumes.join(life.workspace_id.to_string());
        let project = home.join("project");
        std::fs::create_dir_all(&project)?;
        volumes::link(&self.shared, &home, &life.spec.mounts)?;
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

    /// The usual first, then what the spec and its script say, and last what nobody else may say.
    fn environment(&self, place: &Place, scripted: BTreeMap<String, String>) -> BTreeMap<String, String> {
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
        ];
        env.extend(own.map(|(name, value)| (name.to_owned(), value)));
        env.extend(life.spec.env.clone());
        env.extend(scripted);
        let last = [
            // A runtime without devices sees none.
            ("CUDA_VISIBLE_DEVICES", self.devices(|grant| grant.device.clone())),
            ("NVIDIA_VISIBLE_DEVICES", self.devices(|grant| grant.device.clone())),
            ("ORRERY_GPU_MILLI", self.devices(|grant| grant.milli.to_string())),
            (SESSION_MARK, sessions::mark(&parts.executor, &self.holder.to_string())),
        ];
        env.extend(last.map(|(name, value)| (name.to_owned(), value)));
        env
    }

    fn devices(&self, text: impl Fn(&crate::pool::Grant) -> String) -> String {
        self.life.grants.iter().map(text).collect::<Vec<_>>().join(",")
    }

    /// Runs the script that may change the environment.
    async fn pre_start(&self) -> Result<BTreeMap<String, String>, Ended> {
        let (life, folder) = (&self.life, self.folder().join("pre-start"));
        let sandbox = self.shared.parts.apps.sandbox(&self.shared.parts);
        let changed = sandbox.environment(&life.workspace, &life.spec, &self.holder.to_string(), &folder).await;
        changed.map_err(|refused| Ended::new(refused.code, refused.message))
    }

    /// Runs the command, then the script. A failure is told and keeps nothing from starting.
    async fn post_start(&self, env: &BTreeMap<String, String>, place: &Place) -> Ended {
        let post = &self.life.spec.post_start;
        let script = ["/bin/sh".to_owned(), "-c".to_owned(), post.script.clone()];
        let steps =
            [("command", post.command.as_slice()), ("script", if post.script.is_empty() { &[] } else { &script })];
        for (what, command) in steps.into_iter().filter(|(_, command)| !command.is_empty()) {
            let done = async {
                let log = log::open(&self.folder())?;
                let launch = self.launching(command.iter().map(Into::into).collect(), env.clone(), place)?;
                let mut child = tokio::process::Command::from(launch.command(&log)?).kill_on_drop(true).spawn()?;
                child.wait().await
            };
            let why = match tokio::time::timeout(POST_START_TIMEOUT, done).await {
                Ok(Ok(status)) if status.success() => continue,
                Ok(Ok(status)) => quoted(&how(status), &self.log_tail()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("it took longer than {} s", POST_START_TIMEOUT.as_secs()),
            };
            let log = log::path(&self.folder());
            let message =
                format!("the post-start {what}, whose output is in `{}` of its machine, failed: {why}", log.display());
            return Ended::new("POST_START_FAILED", message);
        }
        Ended::default()
    }
}
