//! `orrery up`: a whole cluster on this machine, from nothing to a project that ran, and back to nothing on Ctrl-C.
//!
//! It starts the same services that a large deployment has, with a private Postgres. Refuses to know what they do.

mod folder;
mod leftovers;
mod places;
mod ready;
mod service;
mod steps;
mod watch;

use crate::{
    arguments::{self, deploy::Deploy},
    commands::{deploy, run as runs},
    connection::Connection,
    failure::{Code, Failure, Result},
    record::Record,
    render::{Output, line},
};
use folder::Folder;
use proto::v1::CreateRunRequest;
use provision::{ClusterOptions, PrivatePostgres, Python};
use serde_json::Map;
use service::{Event, Services};
use std::{path::Path, time::Duration};
use steps::Steps;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task,
    time::{MissedTickBehavior, interval},
};

/// How often the project folder is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// What blocks of projects without requirements of their own get.
const BASE_REQUIREMENTS: &str = include_str!("../../../services/executor/python/base-requirements.txt");

/// Starts everything, stays until a signal (or with `--once` until the run has ended), and stops everything.
pub(crate) async fn run(options: arguments::Up, workspace: &str, output: &Output) -> Result<Code> {
    if let Some(project) = options.project.as_deref().filter(|p| !p.is_dir()) {
        let what = format!("{} is not a folder", project.display());
        return Err(Failure::new(Code::Usage, what, "name a Mage project folder by --project"));
    }
    let kubeconfig = options.kubernetes.as_deref().map(places::kubeconfig).transpose()?;
    let folder = Folder::open(&options.data_dir)?;
    let mut signals = Signals::new()?;
    // A script that waits for one run must see that it was cut short; a person who stops a cluster has no failure.
    let stopped = if options.once { Code::Interrupted } else { Code::Ok };
    let options = arguments::Up { kubernetes: kubeconfig, ..options };
    let mut up = Up { options, workspace, output, folder, services: Services::new(), postgres: None, record: None };
    let result = tokio::select! {
        result = up.live() => result,
        () = signals.next() => Ok(stopped),
    };
    up.shut_down(&mut signals).await;
    result
}

struct Up<'a> {
    options: arguments::Up,
    workspace: &'a str,
    output: &'a Output,
    folder: Folder,
    services: Services,
    postgres: Option<PrivatePostgres>,
    record: Option<Record>,
}

impl Up<'_> {
    /// From nothing to the end of the run, or for ever.
    async fn live(&mut self) -> Result<Code> {
        let connection = self.start().await?;
        let mut code = Code::Ok;
        let mut digest = None;
        if let Some(project) = self.options.project.clone() {
            digest = Some(self.deploy(&connection, &project).await?);
        }
        if let Some(pipeline) = self.options.run.clone() {
            let ran = self.run_once(&connection, pipeline).await;
            if self.options.once {
                return ran;
            }
            // A run that fails is no reason to go down: the person wants to look at it.
            match ran {
                Ok(ended) => code = ended,
                Err(failure) => failure.print(self.output),
            }
        }
        self.announce(code)?;
        self.stay(&connection, digest).await
    }

    /// Postgres, the services, and the wait until they are ready.
    async fn start(&mut self) -> Result<Connection> {
        let programs = places::programs()?;
        let steps = Steps::new(self.output);
        leftovers::end(&self.folder.children_file()).await;

        let python = task::spawn_blocking(|| {
            let python = Python::find_or_install()?;
            let environment = python.environment(BASE_REQUIREMENTS)?;
            provision::Result::Ok((python, environment))
        });
        let home = self.folder.path().to_path_buf();
        let starting = task::spawn_blocking(move || PrivatePostgres::start(&home, ClusterOptions::DURABLE));
        let postgres = steps.during("Postgres", async { joined(starting.await) }).await?;
        let database = self.folder.write_database_url(&postgres.url("postgres"))?;
        self.postgres = Some(postgres);

        let ports = places::Ports::choose(self.options.port)?;
        let cluster = places::Cluster { folder: &self.folder, programs: &programs, ports: &ports };
        let begun = jiff::Timestamp::now();
        self.services.start(cluster.scheduler(&database), &self.folder);
        self.services.start(cluster.web_server(&database), &self.folder);
        let (python, environment) =
            steps.during("Python", self.services.or_death(async { joined(python.await) })).await?;
        let runtimes = match &self.options.kubernetes {
            Some(kubeconfig) => places::Runtimes::Kubernetes { kubeconfig: kubeconfig.clone() },
            None => places::Runtimes::Here { devices: &self.options.devices },
        };
        for number in 1..=self.options.executors {
            self.services.start(cluster.executor(number, (&python.path, &environment), &runtimes), &self.folder);
        }
        let mut executors = usize::from(self.options.executors);
        if let places::Runtimes::Kubernetes { kubeconfig } = &runtimes {
            self.services.start(cluster.jobs_executor((&python.path, &environment), kubeconfig), &self.folder);
            executors += 1;
        }

        let server = ports.server();
        let connection = Connection::to(&server, Some(&self.folder.api_token()?), self.workspace)?;
        steps.during("web-server", self.services.or_death(ready::server(&connection))).await?;
        steps.during("executors", self.services.or_death(ready::executors(&connection, executors, begun))).await?;
        ready::workspace(&connection).await?;

        let record = Record { server, token_file: self.folder.api_token_file(), pid: std::process::id() };
        record.write(self.folder.path()).map_err(|e| folder::unwritable(self.folder.path(), &e))?;
        self.record = Some(record);
        Ok(connection)
    }

    /// Deploys the folder and returns its digest.
    async fn deploy(&self, connection: &Connection, project: &Path) -> Result<String> {
        let scanned = deploy::scan(project).await?;
        deploy::warn(&scanned, self.output.style);
        let manifest = &scanned.manifest;
        let options = Deploy { directory: project.to_owned(), validate_only: false, empty: false };
        let response = deploy::deploy(connection, manifest, &options).await?;
        if self.output.json {
            line(&crate::json::line("orrery.v1.CreateDeploymentResponse", &response)?);
        } else {
            deploy::print(&response, self.output);
        }
        Ok(manifest.digest())
    }

    async fn run_once(&mut self, connection: &Connection, pipeline: String) -> Result<Code> {
        let request = CreateRunRequest { pipeline, ..CreateRunRequest::default() };
        let run = runs::create(connection, request, &Map::new()).await?;
        runs::follow(connection, self.output, &run).await
    }

    fn announce(&self, code: Code) -> Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        if self.output.json {
            let said = serde_json::json!({ "server": record.server, "tokenFile": record.token_file });
            line(&said.to_string());
            return Ok(());
        }
        let token = self.folder.api_token_text()?;
        let style = self.output.style;
        line("");
        line(&format!(
            "  {}  {}",
            style.bold("Orrery is up:"),
            style.busy(&format!("{}/#token={token}", record.server))
        ));
        let hint = match code {
            Code::Ok => "in another terminal: orrery pipelines, orrery run NAME --wait, orrery runs",
            _ => "the run did not complete: orrery runs, orrery logs RUN",
        };
        line(&format!("  {}", style.dim(hint)));
        line(&format!("  {}", style.dim("Ctrl-C stops everything")));
        Ok(())
    }

    /// Tells of services that die and deploys what changes, for ever.
    async fn stay(&mut self, connection: &Connection, mut digest: Option<String>) -> Result<Code> {
        let mut tick = interval(WATCH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watcher = watch::Watcher::default();
        loop {
            tokio::select! {
                event = self.services.event() => match event {
                    Event::Died { name, status } => {
                        eprintln!("{name} ended ({status}) and is started again; see {}", self.folder.log(&name).display());
                    }
                    Event::Hopeless(failure) => return Err(failure),
                },
                _ = tick.tick() => {
                    self.folder.bound_logs();
                    if let Some(project) = self.options.project.clone()
                        && let Some(known) = &mut digest
                        && watcher.settled_change(project.clone()).await
                    {
                        self.deploy_again(connection, &project, known).await;
                    }
                }
            }
        }
    }

    /// A change that cannot be deployed is told, and the next one tried.
    async fn deploy_again(&self, connection: &Connection, project: &Path, digest: &mut String) {
        let result = async {
            if deploy::scan(project).await?.manifest.digest() == *digest {
                return Ok(());
            }
            line(&self.output.style.dim("the project changed"));
            *digest = self.deploy(connection, project).await?;
            Result::Ok(())
        };
        if let Err(failure) = result.await {
            failure.print(self.output);
        }
    }

    /// Web-server, executors, scheduler, Postgres: each while those that it needs still run. A second signal hurries.
    async fn shut_down(&mut self, signals: &mut Signals) {
        if !self.output.json && self.postgres.is_some() {
            eprintln!("stopping");
        }
        tokio::select! {
            () = self.services.drain() => {}
            () = signals.next() => self.services.kill().await,
        }
        if let Some(postgres) = self.postgres.take()
            && let Err(error) = joined(task::spawn_blocking(move || postgres.stop()).await)
        {
            error.print(self.output);
        }
        if let Some(record) = self.record.take() {
            record.remove(self.folder.path());
        }
        let _ = std::fs::remove_file(self.folder.children_file());
    }
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let open = |kind| signal(kind).map_err(|e| Failure::new(Code::Internal, e, ""));
        Ok(Self { interrupt: open(SignalKind::interrupt())?, terminate: open(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The result of a blocking duty.
fn joined<T>(result: std::result::Result<provision::Result<T>, task::JoinError>) -> Result<T> {
    Ok(result.map_err(|e| Failure::new(Code::Internal, e, ""))??)
}
