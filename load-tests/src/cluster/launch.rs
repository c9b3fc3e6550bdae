//! How each service of a cluster is started: with which program, which settings, and over which wires it reaches the rest.

use super::{Cluster, service::Service, socket};
use crate::repeater::Repeater;
use anyhow::{Context, Result};
use provision::ports;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

impl Cluster {
    /// Starts `scheduler-<number>`, at one of the places, counted from 1.
    ///
    /// # Errors
    /// When there is no such place or the process cannot be started.
    pub fn start_scheduler(&mut self, number: usize) -> Result<()> {
        let port = *self.scheduler_ports.get(number - 1).context("a place for a scheduler; see Shape")?;
        let (name, listen) = (format!("scheduler-{number}"), SocketAddr::from(([127, 0, 0, 1], port)));
        let reached = self.repeaters.get(number - 1).map_or(listen, Repeater::address);
        let reached = self.wire("peers", &name, reached)?;
        let mut own = vec![("LISTEN", listen.to_string()), ("ADVERTISED_ADDRESS", reached.to_string())];
        if let Some(redis) = &self.redis {
            let at = redis.url();
            let at = socket(at.trim_start_matches("redis://").trim_end_matches("/0"))?;
            own.push(("REDIS_URL", format!("redis://{}/0", self.wire(&name, "redis", at)?)));
        }
        self.launch(&name, "SCHEDULER", own)
    }

    /// Starts `web-server-<number>`.
    ///
    /// # Errors
    /// As [`Cluster::start_scheduler`].
    pub fn start_web_server(&mut self, number: usize) -> Result<()> {
        let port = *self.web_ports.get(number - 1).context("a place for a web-server; see Shape")?;
        let name = format!("web-server-{number}");
        let own = vec![
            ("LISTEN", format!("127.0.0.1:{port}")),
            ("TOKEN_FILE", self.folder.path().join("token").display().to_string()),
            ("SCHEDULER_URLS", self.scheduler_urls(&name)?),
        ];
        self.launch(&name, "WEB_SERVER", own)
    }

    /// Starts `executor-<number>`; any number will do.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_executor(&mut self, number: usize) -> Result<()> {
        let name = format!("executor-{number}");
        let own = vec![
            ("NAME", name.clone()),
            ("DATA_DIR", self.folder.path().join(&name).display().to_string()),
            ("BASE_ENV", self.base_env.display().to_string()),
            ("SLOTS", self.shape.slots.to_string()),
            ("SCHEDULER_URLS", self.scheduler_urls(&name)?),
            ("HISTORY_FILE", self.history().join(format!("{name}.jsonl")).display().to_string()),
        ];
        self.launch(&name, "EXECUTOR", own)
    }

    /// Starts a service again that has ended, or ends it first, with the programs of this build and settings as they are
    /// now.
    ///
    /// # Errors
    /// When it was never started, or cannot be.
    pub fn renew(&mut self, name: &str) -> Result<()> {
        self.service(name)?.kill()?;
        self.shape.programs.retain(|(of, _)| *of != name);
        let (kind, number) = name.rsplit_once('-').context("a service's name")?;
        let number = number.parse()?;
        match kind {
            "scheduler" => self.start_scheduler(number),
            "executor" => self.start_executor(number),
            _ => self.start_web_server(number),
        }
    }

    fn scheduler_urls(&mut self, from: &str) -> Result<String> {
        let ports = self.scheduler_ports.clone();
        let urls = ports.iter().enumerate().map(|(at, port)| {
            let listen = SocketAddr::from(([127, 0, 0, 1], *port));
            let to = self.repeaters.get(at).map_or(listen, Repeater::address);
            Ok(format!("http://{}", self.wire(from, &format!("scheduler-{}", at + 1), to)?))
        });
        Ok(urls.collect::<Result<Vec<_>>>()?.join(","))
    }

    fn launch(&mut self, name: &str, prefix: &str, own: Vec<(&str, String)>) -> Result<()> {
        let database = self.database_address()?;
        let near = self.wire(name, "postgres", database)?;
        let database_url = self.database_url().replace(&database.to_string(), &near.to_string());
        let folder = self.folder.path().display();
        let kind = name.rsplit_once('-').map_or(name, |(kind, _)| kind);
        let mut environment = vec![
            ("ORRERY_DATABASE_URL".to_owned(), database_url),
            ("ORRERY_CLUSTER_TOKEN_FILE".to_owned(), format!("{folder}/token")),
            ("ORRERY_BLOBS_URL".to_owned(), format!("file://{folder}/blobs")),
            ("ORRERY_LOG__FILTER".to_owned(), "warn".to_owned()),
            ("ORRERY_ADMIN__LISTEN".to_owned(), format!("127.0.0.1:{}", ports::free()?)),
        ];
        environment.extend(self.shape.settings.iter().cloned());
        environment.extend(own.into_iter().map(|(key, value)| (format!("ORRERY_{prefix}_{key}"), value)));
        let of_its_own = self.shape.own_settings.iter().filter(|(of, ..)| *of == name);
        environment.extend(of_its_own.map(|(_, key, value)| (key.clone(), value.clone())));
        let programs = self.shape.programs.iter().find(|(of, _)| *of == name).map(|(_, folder)| folder.clone());
        let program = programs.map_or_else(binaries, Ok)?.join(format!("orrery-{kind}"));
        let logs = self.shape.log_folders.iter().find(|(of, _)| *of == name).map(|(_, folder)| folder.clone());
        let log = logs.unwrap_or_else(|| self.folder.path().to_owned()).join(format!("{name}.log"));
        let service = Service::start(name, program, log, environment)?;
        self.services.insert(name.to_owned(), service);
        Ok(())
    }

    /// Where `from` reaches what listens at `target`.
    pub(super) fn wire(&mut self, from: &str, to: &str, target: SocketAddr) -> Result<SocketAddr> {
        self.wires.as_mut().map_or(Ok(target), |wires| wires.lay(from, to, target))
    }
}

/// Names a folder of services' programs to run instead of those that were built with this one: optimised ones, say, beside
/// a harness that is not.
pub const PROGRAMS: &str = "ORRERY_PROGRAMS";

/// How many kinds of services have another program in this folder than in that of this build.
///
/// # Errors
/// When one of them cannot be read.
pub fn differing(folder: &Path) -> Result<u64> {
    let ours = binaries()?;
    let read = |folder: &Path, kind| {
        let path = folder.join(format!("orrery-{kind}"));
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    let mut differing = 0;
    for kind in ["scheduler", "web-server", "executor"] {
        differing += u64::from(read(folder, kind)? != read(&ours, kind)?);
    }
    Ok(differing)
}

/// Where the services' programs are: beside this one, or above it when this is a test.
fn binaries() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(PROGRAMS) {
        return Ok(PathBuf::from(folder));
    }
    let here = std::env::current_exe()?;
    let folder = here.parent().context("a folder of programs")?;
    Ok(if folder.ends_with("deps") { folder.parent().context("a target folder")? } else { folder }.to_owned())
}
