//! What can be opened, and how it is started: JupyterLab and VS Code from their packages, installed once, and programs
//! that the spec names. Refuses to start anything itself.

use super::{Parts, life::Ended};
use crate::{plain, pool::Life, pre_start::Sandbox};
use backend_process::Environments;
use domain::runtime::App;
use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    sync::{Mutex, mpsc},
};

/// What JupyterLab needs; the newest that fits.
const JUPYTER_REQUIREMENTS: &str = "jupyterlab>=4.4,<5\npip\n";
/// The version of code-server, and the Node.js that it is made for.
const CODE_SERVER: &str = "4.139.1";
const NODE: &str = "24";
/// The longest installation of code-server: it compiles.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Lines that are quoted of an installer that failed.
const QUOTED_LINES: usize = 6;
/// Written when an installation is whole.
const COMPLETE: &str = ".complete";

/// Applications, and where they are installed.
pub struct Apps {
    folder: PathBuf,
    python: PathBuf,
    jupyter: Environments,
    /// One installation at a time; in it, those that are known to be whole.
    installing: Mutex<HashSet<PathBuf>>,
}

/// Where a runtime lives.
pub(super) struct Place {
    /// Kept over all lives.
    pub(super) home: PathBuf,
    /// In it, the project.
    pub(super) project: PathBuf,
    /// Of this life.
    pub(super) run: PathBuf,
    /// Where it listens.
    pub(super) at: SocketAddr,
}

/// A program to start.
pub(super) struct Program {
    pub(super) command: Vec<OsString>,
    pub(super) env: BTreeMap<String, String>,
}

/// How an application tells that it is ready.
pub(super) struct Health {
    /// Asked by GET.
    pub(super) path: String,
    /// Any answer will do, not only 200.
    pub(super) any: bool,
}

/// How the application of a life tells that it is ready.
pub(super) fn health(life: &Life) -> Health {
    let path = |path: &str| format!("{}{}", life.base_path, path.trim_start_matches('/'));
    match &life.spec.app {
        App::Jupyter => Health { path: path("api/status?no_track_activity=1"), any: false },
        App::VsCode => Health { path: "/healthz".to_owned(), any: false },
        App::Custom { health_path, keeps_base_path, .. } => Health {
            path: match (keeps_base_path, health_path.is_empty()) {
                (true, _) => path(health_path),
                (false, true) => "/".to_owned(),
                (false, false) => format!("/{}", health_path.trim_start_matches('/')),
            },
            any: health_path.is_empty(),
        },
    }
}

impl Apps {
    /// Installs below `folder`, with this interpreter.
    #[must_use]
    pub fn new(folder: PathBuf, python: PathBuf) -> Self {
        let jupyter = Environments::new(folder.join("jupyter"), python.clone(), JUPYTER_REQUIREMENTS.to_owned(), None);
        Self { folder, python, jupyter, installing: Mutex::default() }
    }

    /// What pre-start scripts are run with.
    pub(super) fn sandbox(&self, parts: &Parts) -> Sandbox {
        Sandbox {
            launcher: parts.launcher.clone(),
            python: self.python.clone(),
            executor: parts.executor.clone(),
            isolated: parts.isolated_pre_start,
        }
    }

    /// The program of a life, installed when it is not; lines of the installer go to `progress`.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(super) async fn program(
        &self,
        life: &Life,
        place: &Place,
        progress: &mpsc::Sender<String>,
    ) -> Result<Program, Ended> {
        match &life.spec.app {
            App::Jupyter => {
                let environment = self.jupyter.get(None, "another application", progress).await;
                let environment =
                    environment.map_err(|error| Ended::new("APP_INSTALL_FAILED", runtime::exit::chain(&error)))?;
                Ok(jupyter(&environment.python, life, place))
            }
            App::VsCode => {
                let (node, code_server) = self.code_server(progress).await?;
                code_server_program(&node, &code_server, life, place)
            }
            App::Custom { command, .. } if command.is_empty() => {
                let message = "this backend has no images: name the command that listens on $HOST and $PORT";
                Err(Ended::new("COMMAND_MISSING", message))
            }
            App::Custom { command, .. } => Ok(Program {
                command: command.iter().map(Into::into).collect(),
                env: BTreeMap::from([("ORRERY_ACCESS_KEY".to_owned(), life.access_key.expose().to_owned())]),
            }),
        }
    }

    /// Node.js and code-server's folder.
    async fn code_server(&self, progress: &mpsc::Sender<String>) -> Result<(PathBuf, PathBuf), Ended> {
        let Some(npm) = on_path("npm") else {
            let message = "VS Code needs npm to install code-server; install Node.js with npm on this machine";
            return Err(Ended::new("APP_UNAVAILABLE", message));
        };
        let mut whole = self.installing.lock().await;
        let (node, code_server) =
            (self.folder.join(format!("node-{NODE}")), self.folder.join(format!("code-server-{CODE_SERVER}")));
        // In folders of their own: npm moves packages while it works, and this one is used meanwhile.
        if !is_whole(&mut whole, &node) {
            let mut install = npm_install(&npm, &format!("node@{NODE}"));
            install_into(&node, &mut install, progress).await?;
        }
        let node = node_home(&node)?;
        if !is_whole(&mut whole, &code_server) {
            let path = std::env::join_paths(
                std::iter::once(node.join("bin"))
                    .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
            );
            let mut install = npm_install(&npm, &format!("code-server@{CODE_SERVER}"));
            install.env("PATH", path.unwrap_or_default()).env("npm_config_nodedir", &node);
            install_into(&code_server, &mut install, progress).await?;
        }
        Ok((node.join("bin/node"), code_server.join("node_modules/code-server")))
    }
}

fn is_whole(known: &mut HashSet<PathBuf>, folder: &Path) -> bool {
    known.contains(folder) || folder.join(COMPLETE).exists() && known.insert(folder.to_owned())
}

fn npm_install(npm: &Path, package: &str) -> Command {
    let mut command = Command::new(npm);
    command
        .args(["install", "--no-audit", "--no-fund", "--foreground-scripts", package])
        // Newer npms run no script unasked, and these packages are built by theirs.
        .env("npm_config_dangerously_allow_all_scripts", "true")
        .kill_on_drop(true);
    command
}

/// The package `node` brings the distribution for this machine along as a package of its own.
fn node_home(folder: &Path) -> Result<PathBuf, Ended> {
    let around = [folder.join("node_modules/node/node_modules"), folder.join("node_modules")];
    let packages = around.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let mut homes = packages
        .map(|entry| entry.path())
        .filter(|path| path.join("include/node").is_dir() && path.join("bin/node").is_file());
    homes
        .next()
        .ok_or_else(|| Ended::new("APP_INSTALL_FAILED", "npm's package `node` holds no Node.js for this machine"))
}

/// Whole or not at all.
async fn install_into(folder: &Path, install: &mut Command, progress: &mpsc::Sender<String>) -> Result<(), Ended> {
    for step in [tokio::fs::remove_dir_all(folder).await, tokio::fs::create_dir_all(folder).await] {
        match step {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    tokio::fs::write(folder.join("package.json"), r#"{"private":true}"#).await?;
    let run = async {
        let mut child =
            install.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut last = Vec::new();
        let mut lines = child.stderr.take().map(|stream| BufReader::new(stream).lines());
        while let Some(lines) = &mut lines
            && let Ok(Some(line)) = lines.next_line().await
        {
            if last.len() == QUOTED_LINES {
                last.remove(0);
            }
            last.push(line.clone());
            // Nobody listening is no reason to stop installing.
            let _ = progress.send(format!("installing VS Code: {line}")).await;
        }
        io::Result::Ok((child.wait().await?, last.join("\n")))
    };
    let failed =
        |said: String| Ended::new("APP_INSTALL_FAILED", format!("VS Code could not be installed by npm: {said}"));
    match tokio::time::timeout(INSTALL_TIMEOUT, run).await {
        Err(_) => Err(failed(format!("it took longer than {} minutes", INSTALL_TIMEOUT.as_secs() / 60))),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok((status, said))) if !status.success() => Err(failed(said)),
        Ok(Ok(_)) => Ok(tokio::fs::write(folder.join(COMPLETE), "").await?),
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn jupyter(python: &Path, life: &Life, place: &Place) -> Program {
    let mut command: Vec<OsString> = vec![python.into()];
    let option = |name: &str, value: String| OsString::from(format!("--{name}={value}"));
    command.extend(["-m", "jupyterlab", "--no-browser"].map(Into::into));
    command.extend([
        option("ServerApp.ip", place.at.ip().to_string()),
        option("ServerApp.port", place.at.port().to_string()),
        option("ServerApp.port_retries", "0".to_owned()),
        option("ServerApp.base_url", life.base_path.clone()),
        option("ServerApp.root_dir", place.project.display().to_string()),
        // The proxy says under which name people come, and checks their origin before.
        option("ServerApp.allow_remote_access", "True".to_owned()),
        option("ServerApp.quit_button", "False".to_owned()),
        option("ServerApp.shutdown_no_activity_timeout", "0".to_owned()),
        option("LabApp.news_url", "None".to_owned()),
        option("LabApp.check_for_updates_class", "jupyterlab.NeverCheckForUpdate".to_owned()),
    ]);
    if rustix::process::geteuid().is_root() {
        command.push("--allow-root".into());
    }
    let run = place.run.join("jupyter").display().to_string();
    let env = [("JUPYTER_TOKEN", life.access_key.expose().to_owned()), ("JUPYTER_RUNTIME_DIR", run)];
    Program { command, env: env.map(|(name, value)| (name.to_owned(), value)).into() }
}

fn code_server_program(node: &Path, code_server: &Path, life: &Life, place: &Place) -> Result<Program, Ended> {
    let config = place.run.join("code-server.yaml");
    // Without a file of its own it would read, or make, one in the home.
    plain::anew(&config)?;
    let data = place.home.join(".local/share/code-server");
    let mut command: Vec<OsString> = vec![node.into(), code_server.join("out/node/entry.js").into()];
    command.extend(
        ["--auth", "password", "--disable-telemetry", "--disable-update-check", "--disable-proxy"].map(Into::into),
    );
    command.extend(["--bind-addr".into(), place.at.to_string().into()]);
    command.extend(["--config".into(), config.into()]);
    command.extend(["--user-data-dir".into(), data.into(), place.project.clone().into()]);
    // It compares this with the cookie that the proxy brings; nobody types it.
    let env = BTreeMap::from([("HASHED_PASSWORD".to_owned(), life.access_key.expose().to_owned())]);
    Ok(Program { command, env })
}
