//! A cluster of real processes with a Postgres of its own, ended and removed when dropped.

use anyhow::{Context, Result, bail, ensure};
use proto::v1::{
    self as pb, deployment_service_client::DeploymentServiceClient, run_service_client::RunServiceClient,
    workspace_service_client::WorkspaceServiceClient,
};
use provision::{ClusterOptions, Postgres, PrivatePostgres, Python};
use rpc::{auth::Token, client::Channel};
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The workspace that load runs in.
pub(crate) const WORKSPACE: &str = "load";
/// How long anything may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// See the module's page.
pub(crate) struct Cluster {
    services: Vec<Child>,
    postgres: Option<PrivatePostgres>,
    channel: Channel,
    /// The environment that Python blocks run in.
    pub(crate) base_env: PathBuf,
    folder: TempDir,
}

impl Cluster {
    /// Starts everything and waits until an executor is connected.
    pub(crate) async fn start(slots: u32) -> Result<Self> {
        let folder = TempDir::with_prefix("orrery-load-")?;
        // The database's own user must be able to reach its folder.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Postgres::find_or_install()?;
        let requirements = include_str!("../../services/executor/python/base-requirements.txt");
        let base_env = Python::find_or_install()?.environment(requirements)?;
        let postgres = PrivatePostgres::start(&folder.path().join("postgres"), ClusterOptions::DURABLE)?;
        let token_file = folder.path().join("token");
        let secret: String = (0..4).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
        std::fs::write(&token_file, &secret)?;
        let (web, scheduler) = (free_port()?, free_port()?);
        let mut cluster = Self {
            services: Vec::new(),
            channel: rpc::client::connect(&[format!("http://127.0.0.1:{web}").parse()?], Some(&Token::new(&secret)?))?,
            postgres: Some(postgres),
            base_env,
            folder,
        };
        let blobs = format!("file://{}/blobs", cluster.folder.path().display());
        let scheduler_url = format!("http://127.0.0.1:{scheduler}");
        let common = [
            ("ORRERY_DATABASE_URL", cluster.database_url()),
            ("ORRERY_CLUSTER_TOKEN_FILE", token_file.display().to_string()),
            ("ORRERY_BLOBS_URL", blobs),
            ("ORRERY_LOG__FILTER", "warn".to_owned()),
        ];
        cluster.service(
            "orrery-scheduler",
            &common,
            &[("ORRERY_SCHEDULER_LISTEN", format!("127.0.0.1:{scheduler}"))],
        )?;
        cluster.service(
            "orrery-web-server",
            &common,
            &[
                ("ORRERY_WEB_SERVER_LISTEN", format!("127.0.0.1:{web}")),
                ("ORRERY_WEB_SERVER_TOKEN_FILE", token_file.display().to_string()),
                ("ORRERY_WEB_SERVER_SCHEDULER_URLS", scheduler_url.clone()),
            ],
        )?;
        cluster.service(
            "orrery-executor",
            &common,
            &[
                ("ORRERY_EXECUTOR_DATA_DIR", cluster.folder.path().join("executor").display().to_string()),
                ("ORRERY_EXECUTOR_BASE_ENV", cluster.base_env.display().to_string()),
                ("ORRERY_EXECUTOR_SLOTS", slots.to_string()),
                ("ORRERY_EXECUTOR_SCHEDULER_URLS", scheduler_url),
            ],
        )?;
        cluster.wait_ready().await?;
        Ok(cluster)
    }

    /// The cluster's own database.
    pub(crate) fn database_url(&self) -> String {
        self.postgres.as_ref().map(|postgres| postgres.tcp_url("postgres")).unwrap_or_default()
    }

    /// A folder for whatever a scenario writes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of the public API.
    pub(crate) fn runs(&self) -> RunServiceClient<Channel> {
        RunServiceClient::new(self.channel.clone())
    }

    /// Deploys a project folder.
    pub(crate) async fn deploy(&self, folder: &Path) -> Result<()> {
        let manifest = project::bundle::scan(folder)?;
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
            parts.push(pb::UploadFilesRequest { part: Some(pb::upload_files_request::Part::Header(header)) });
            let content = std::fs::read(folder.join(&file.path))?;
            parts.push(pb::UploadFilesRequest { part: Some(pb::upload_files_request::Part::Chunk(content)) });
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
    pub(crate) async fn run(&self, pipeline: &str) -> Result<pb::Run> {
        let request = pb::CreateRunRequest {
            workspace: WORKSPACE.to_owned(),
            pipeline: pipeline.to_owned(),
            ..pb::CreateRunRequest::default()
        };
        let run = self.runs().create_run(request).await?.into_inner().run.context("a run")?;
        self.wait(&run.id).await
    }

    /// Waits for the end of a run.
    pub(crate) async fn wait(&self, run_id: &str) -> Result<pb::Run> {
        let mut changes = self.runs().watch_run(pb::WatchRunRequest { run_id: run_id.to_owned() }).await?.into_inner();
        let mut last = None;
        while let Some(change) = changes.message().await? {
            last = change.run;
        }
        let run = last.context("the run's state")?;
        ensure!(run.status() == pb::RunStatus::Completed, "run {run_id} ended as {:?}: {}", run.status(), run.reason);
        Ok(run)
    }

    fn service(&mut self, name: &str, common: &[(&str, String)], own: &[(&str, String)]) -> Result<()> {
        let program = std::env::current_exe()?.with_file_name(name);
        let log = std::fs::File::create(self.folder.path().join(format!("{name}.log")))?;
        let child = Command::new(&program)
            .envs(common.iter().chain(own).map(|(key, value)| (*key, value.as_str())))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}; build the workspace first", program.display()))?;
        self.services.push(child);
        Ok(())
    }

    /// Copies the services' logs to where they outlive this cluster.
    fn keep_logs(&self) -> Result<String> {
        let kept = TempDir::with_prefix("orrery-load-logs-")?.keep();
        for entry in std::fs::read_dir(self.folder.path())?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
            }
        }
        Ok(kept.display().to_string())
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut workspaces = WorkspaceServiceClient::new(self.channel.clone());
        let mut executors = pb::executor_service_client::ExecutorServiceClient::new(self.channel.clone());
        loop {
            let request = pb::CreateWorkspaceRequest {
                name: WORKSPACE.to_owned(),
                idempotency_key: "load-tests".to_owned(),
                ..Default::default()
            };
            let created = workspaces.create_workspace(request).await.is_ok();
            let online = executors.list_executors(pb::ListExecutorsRequest::default()).await;
            if created && online.is_ok_and(|answer| !answer.into_inner().executors.is_empty()) {
                return Ok(());
            }
            let ended = self.services.iter_mut().any(|service| !matches!(service.try_wait(), Ok(None)));
            if ended {
                bail!("a service has ended; see {}", self.keep_logs()?);
            }
            if started.elapsed() > READY {
                bail!(
                    "the cluster was not ready in {} s; logs are in {}",
                    READY.as_secs(),
                    self.folder.path().display()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for service in &mut self.services {
            // What has ended cannot be killed again.
            let _ = service.kill();
            let _ = service.wait();
        }
        if let Some(postgres) = self.postgres.take() {
            drop(postgres.stop());
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Seconds between two instants of the API.
pub(crate) fn seconds_between(from: Option<prost_types::Timestamp>, to: Option<prost_types::Timestamp>) -> Result<f64> {
    let (from, to) = (from.context("a start")?, to.context("an end")?);
    #[expect(clippy::cast_precision_loss, reason = "a span of seconds")]
    let seconds = (to.seconds - from.seconds) as f64;
    Ok(seconds + f64::from(to.nanos - from.nanos) / 1e9)
}
