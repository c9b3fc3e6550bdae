//! Whoever uses a cluster: channels to its services, projects that are deployed to it, runs that are started and awaited.

use super::{Cluster, WORKSPACE};
use crate::wire::Wire;
use anyhow::{Context, Result, ensure};
use proto::v1::{
    self as pb, backfill_service_client::BackfillServiceClient, deployment_service_client::DeploymentServiceClient,
    log_service_client::LogServiceClient, run_service_client::RunServiceClient,
};
use rpc::{auth::Token, client::Channel};
use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

/// How long a run may take that nobody watches, and how often it is looked at.
const RUN_MAX: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Cluster {
    /// To the public API, over all web-servers.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Where the first web-server listens.
    ///
    /// # Errors
    /// When there is none.
    pub fn web_server(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], *self.web_ports.first().context("a web-server")?)))
    }

    /// Where each web-server listens.
    #[must_use]
    pub fn web_servers(&self) -> Vec<SocketAddr> {
        self.web_ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect()
    }

    /// Where clients reach each web-server: over its wire, where there are wires.
    #[must_use]
    pub fn doors(&self) -> Vec<SocketAddr> {
        let over_wire = |at: usize| {
            let name = format!("web-server-{}", at + 1);
            self.wires.as_ref()?.between("clients", &name).map(Wire::address).next()
        };
        self.web_servers().into_iter().enumerate().map(|(at, listens)| over_wire(at).unwrap_or(listens)).collect()
    }

    /// The cluster's token, for whoever speaks plain HTTP.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn token(&self) -> Result<String> {
        std::fs::read_to_string(self.folder.path().join("token")).context("read the cluster's token")
    }

    /// A client of the public API.
    pub fn runs(&self) -> RunServiceClient<Channel> {
        RunServiceClient::new(self.channel.clone())
    }

    /// A client of the public API for backfills.
    #[must_use]
    pub fn backfills(&self) -> BackfillServiceClient<Channel> {
        BackfillServiceClient::new(self.channel.clone())
    }

    /// A client of the public API's logs.
    #[must_use]
    pub fn logs(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel.clone())
    }

    /// To each place of a scheduler, whether one is there or not.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn schedulers(&self) -> Result<Vec<Channel>> {
        let token = Token::from_file(&self.folder.path().join("token"))?;
        let channel =
            |port: &u16| Ok(rpc::client::connect(&[format!("http://127.0.0.1:{port}").parse()?], Some(&token))?);
        self.scheduler_ports.iter().map(channel).collect()
    }

    /// To the first scheduler, as executors and web-servers reach it.
    ///
    /// # Errors
    /// When there is none, or its token cannot be read.
    pub fn scheduler(&self) -> Result<Channel> {
        let port = self.scheduler_ports.first().context("a scheduler")?;
        let token = Token::from_file(&self.folder.path().join("token"))?;
        Ok(rpc::client::connect(&[format!("http://127.0.0.1:{port}").parse()?], Some(&token))?)
    }

    /// A way to the first web-server over a wire of its own, for a client that is to be harmed alone.
    ///
    /// # Errors
    /// When there is no web-server, or no port is free.
    pub fn slow_reader(&mut self, name: &str) -> Result<Channel> {
        let port = *self.web_ports.first().context("a web-server")?;
        let near = self.wire(name, "web-server-1", SocketAddr::from(([127, 0, 0, 1], port)))?;
        let token = Token::from_file(&self.folder.path().join("token"))?;
        Ok(rpc::client::connect(&[format!("http://{near}").parse()?], Some(&token))?)
    }

    /// Deploys a project folder.
    ///
    /// # Errors
    /// When the cluster refuses or does not answer.
    pub async fn deploy(&self, folder: &Path) -> Result<()> {
        let manifest = project::bundle::scan(folder)?.manifest;
        let wire = pb::Manifest {
            project_name: manifest.project_name.clone(),
            files: manifest
                .files
                .iter()
                .map(|file| {
                    Ok(pb::ManifestFile {
                        path: file.path.clone(),
                        sha256: file.sha256.clone(),
                        size_bytes: i64::try_from(file.size)?,
                        executable: file.executable,
                    })
                })
                .collect::<Result<_>>()?,
        };
        let mut client = DeploymentServiceClient::new(self.channel.clone());
        let plan = pb::PlanDeploymentRequest { workspace: WORKSPACE.to_owned(), manifest: Some(wire.clone()) };
        let missing = client.plan_deployment(plan).await?.into_inner().missing_sha256;
        let mut parts = Vec::new();
        for sha256 in missing {
            let file =
                manifest.files.iter().find(|file| file.sha256 == sha256).context("the plan names a file of ours")?;
            let header = pb::FileHeader { sha256, size_bytes: i64::try_from(file.size)? };
            parts.push(pb::UploadFilesRequest {
                part: Some(pb::upload_files_request::Part::Header(header)),
                ..Default::default()
            });
            let content = std::fs::read(folder.join(&file.path))?;
            parts.push(pb::UploadFilesRequest {
                part: Some(pb::upload_files_request::Part::Chunk(content)),
                ..Default::default()
            });
        }
        client.upload_files(tokio_stream::iter(parts)).await?;
        let request = pb::CreateDeploymentRequest {
            workspace: WORKSPACE.to_owned(),
            manifest: Some(wire),
            ..pb::CreateDeploymentRequest::default()
        };
        let answer = client.create_deployment(request).await?.into_inner();
        let errors: Vec<_> = answer.diagnostics.iter().filter(|d| d.severity == 2).map(|d| &d.message).collect();
        ensure!(errors.is_empty(), "the load project has errors: {errors:?}");
        Ok(())
    }

    /// Starts one run and waits for its end; answers it.
    ///
    /// # Errors
    /// When the cluster refuses or does not answer.
    pub async fn run(&self, pipeline: &str) -> Result<pb::Run> {
        let id = self.create(pipeline).await?;
        self.wait(&id).await
    }

    /// The same, without watching each block: whoever watches costs the cluster something too.
    ///
    /// # Errors
    /// As [`Cluster::run`], and when it takes longer than two minutes.
    pub async fn run_unwatched(&self, pipeline: &str) -> Result<pb::Run> {
        let run_id = self.create(pipeline).await?;
        let started = Instant::now();
        loop {
            let answer = self.runs().get_run(pb::GetRunRequest { run_id: run_id.clone() }).await?.into_inner();
            let run = answer.run.context("the run's state")?;
            if run.completed_at.is_some() {
                return completed(run);
            }
            ensure!(started.elapsed() < RUN_MAX, "run {run_id} has not ended in {} s", RUN_MAX.as_secs());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn create(&self, pipeline: &str) -> Result<String> {
        let request = pb::CreateRunRequest {
            workspace: WORKSPACE.to_owned(),
            pipeline: pipeline.to_owned(),
            ..pb::CreateRunRequest::default()
        };
        Ok(self.runs().create_run(request).await?.into_inner().run.context("a run")?.id)
    }

    /// Waits for the end of a run.
    ///
    /// # Errors
    /// When the cluster refuses or does not answer.
    pub async fn wait(&self, run_id: &str) -> Result<pb::Run> {
        let mut changes = self.runs().watch_run(pb::WatchRunRequest { run_id: run_id.to_owned() }).await?.into_inner();
        let mut last = None;
        while let Some(change) = changes.message().await? {
            last = change.run;
        }
        completed(last.context("the run's state")?)
    }
}

fn completed(run: pb::Run) -> Result<pb::Run> {
    ensure!(run.status() == pb::RunStatus::Completed, "run {} ended as {:?}: {}", run.id, run.status(), run.reason);
    Ok(run)
}

/// Seconds between two instants of the API.
///
/// # Errors
/// When one of them is missing.
pub fn seconds_between(from: Option<prost_types::Timestamp>, to: Option<prost_types::Timestamp>) -> Result<f64> {
    let (from, to) = (from.context("a start")?, to.context("an end")?);
    #[expect(clippy::cast_precision_loss, reason = "a span of seconds")]
    let seconds = (to.seconds - from.seconds) as f64;
    Ok(seconds + f64::from(to.nanos - from.nanos) / 1e9)
}
