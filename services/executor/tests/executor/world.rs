//! An executor in this process, with a project that it can run.

use crate::scheduler::{FakeScheduler, Session};
use bytes::Bytes;
use domain::{id::RunId, pipeline::Pipeline};
use executor::{App, settings::Settings};
use project::bundle::{Manifest, ManifestFile, sha256_hex};
use proto::internal::v1::{self as pb, result::Outcome, session_response::Message as Down};
use runtime::{
    health::Health,
    shutdown::Shutdown,
    telemetry::{Telemetry, TelemetrySettings},
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A definition's id; the executor compares it and nothing else.
const DEFINITION: &str = "pipeline@1";

/// An executor with its folder, its bundle and its scheduler.
pub(crate) struct World {
    pub(crate) scheduler: FakeScheduler,
    pub(crate) shutdown: Shutdown,
    // Removed at the end.
    _folder: TempDir,
    pub(crate) settings: Settings,
    serving: Option<JoinHandle<anyhow::Result<Option<Outcome>>>>,
    telemetry: Telemetry,
    pub(crate) digest: String,
}

impl World {
    /// Started, with these files below `data_loaders/`: a block each.
    pub(crate) async fn start(files: &[(&str, &str)]) -> Self {
        Self::with(files, |_| {}).await
    }

    pub(crate) async fn with(files: &[(&str, &str)], change: impl FnOnce(&mut Settings)) -> Self {
        let mut world = Self::idle(files).await;
        change(&mut world.settings);
        world.serve();
        world
    }

    /// Everything but a running executor.
    pub(crate) async fn idle(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let scheduler = FakeScheduler::start().await;
        let url = format!("file://{}", folder.path().join("blobs").display());
        let digest = store(&url, files).await;
        let mut settings = Settings {
            scheduler_urls: vec![scheduler.url.clone()],
            data_dir: folder.path().join("data"),
            blobs_url: Some(url),
            slots: 4,
            idle_children: 1,
            name: Some("tested".to_owned()),
            ..Settings::default()
        };
        if !files.is_empty() {
            settings.base_env = Some(base_environment().await);
        }
        let telemetry = Telemetry::detached("executor-test", &TelemetrySettings::default()).unwrap();
        let shutdown = Shutdown::new();
        Self { scheduler, shutdown, _folder: folder, settings, serving: None, telemetry, digest }
    }

    pub(crate) fn serve(&mut self) {
        let health = Health::until(&self.shutdown);
        let app = App::build(&self.settings, &self.telemetry, &health, &self.shutdown).unwrap();
        self.serving = Some(tokio::spawn(app.serve()));
    }

    /// Ends the executor, and starts its next life in the same folder.
    pub(crate) async fn serve_again(&mut self) {
        self.shutdown.drain();
        self.ended().await;
        self.shutdown = Shutdown::new();
        self.telemetry = Telemetry::detached("executor-test", &TelemetrySettings::default()).unwrap();
        self.serve();
    }

    /// As `serve`, with attempts in containers.
    pub(crate) async fn serve_on(&mut self, backend: impl backend::Backend) {
        let health = Health::until(&self.shutdown);
        let app = App::on(&self.settings, &self.telemetry, &health, &self.shutdown, async |_: &str| Ok(backend));
        let app = app.await.unwrap();
        self.serving = Some(tokio::spawn(app.serve()));
    }

    /// The first session, welcomed and taught a pipeline of these blocks.
    pub(crate) async fn session(&mut self, pipeline: &Pipeline) -> Session {
        let session = self.scheduler.welcomed(20_000).await;
        self.teach(&session, pipeline).await;
        session
    }

    pub(crate) async fn teach(&self, session: &Session, pipeline: &Pipeline) {
        session
            .say(Down::Definition(pb::Definition {
                id: DEFINITION.to_owned(),
                pipeline: serde_json::to_string(pipeline).unwrap(),
                bundle_digest: self.digest.clone(),
            }))
            .await;
    }

    /// Waits for the end of the executor.
    pub(crate) async fn ended(&mut self) {
        let serving = self.serving.take().unwrap();
        tokio::time::timeout(crate::scheduler::SOON, serving).await.expect("an end in time").unwrap().unwrap();
    }

    /// The folder of an attempt's outputs.
    pub(crate) fn outputs(&self, attempt: &pb::AttemptRef) -> PathBuf {
        let run = RunId::from_slice(&attempt.run_id).unwrap().to_string();
        let child = if attempt.child < 0 { "_".to_owned() } else { attempt.child.to_string() };
        let data = self.settings.data_dir.join("outputs");
        data.join(run).join(&attempt.block).join(child).join(attempt.lease.to_string())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// A pipeline whose blocks load `data_loaders/<name>.py`.
pub(crate) fn pipeline(blocks: &[&str]) -> Pipeline {
    let blocks = blocks.iter().map(|name| block(name, json!({}))).collect();
    of(blocks)
}

/// A pipeline of blocks given as JSON.
pub(crate) fn of(blocks: Vec<Value>) -> Pipeline {
    serde_json::from_value(json!({ "name": "tested", "kind": "python", "blocks": blocks })).unwrap()
}

/// A block as JSON, with further keys.
pub(crate) fn block(name: &str, further: Value) -> Value {
    let mut block = json!({
        "uuid": name, "name": name, "kind": "data_loader", "language": "python",
        "file": format!("data_loaders/{name}.py"),
    });
    block.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    block
}

pub(crate) fn attempt(block: &str) -> pb::AttemptRef {
    pb::AttemptRef { run_id: RunId::new_in(0).to_vec(), block: block.to_owned(), child: -1, lease: 1 }
}

pub(crate) fn assignment(attempt: &pb::AttemptRef) -> pb::Assignment {
    pb::Assignment {
        attempt: Some(attempt.clone()),
        definition_id: DEFINITION.to_owned(),
        attempt_number: 1,
        run: Some(pb::RunContext {
            pipeline: "tested".to_owned(),
            workspace: "default".to_owned(),
            variables: "{}".to_owned(),
            execution_date: "2026-01-01T00:00:00Z".to_owned(),
            execution_partition: "1/20260101T000000".to_owned(),
            trigger_name: String::new(),
            event: String::new(),
            traceparent: String::new(),
        }),
        dynamic_block_index: -1,
        ..pb::Assignment::default()
    }
}

/// Assignments of which each begins when the one before it has completed.
pub(crate) fn behind_each_other(attempts: &[pb::AttemptRef]) -> Vec<pb::Assignment> {
    let before = std::iter::once(None).chain(attempts.iter().cloned().map(Some));
    attempts.iter().zip(before).map(|(attempt, after)| pb::Assignment { after, ..assignment(attempt) }).collect()
}

async fn store(url: &str, files: &[(&str, &str)]) -> String {
    let blobs = blobs::Blobs::open(url).unwrap();
    let mut listed = Vec::new();
    for (path, content) in files {
        let sha256 = sha256_hex(content.as_bytes());
        let bytes = Bytes::copy_from_slice(content.as_bytes());
        let size = content.len() as u64;
        blobs.put(&sha256, size, futures_util::stream::iter([Ok(bytes)])).await.unwrap();
        let path = if path.contains('.') { (*path).to_owned() } else { format!("data_loaders/{path}.py") };
        listed.push(ManifestFile { path, sha256, size, executable: false });
    }
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    let manifest = Manifest { project_name: "shop".to_owned(), files: listed };
    let digest = manifest.digest();
    blobs.put_manifest(&digest, serde_json::to_vec(&manifest).unwrap().into()).await.unwrap();
    digest
}

/// The environment that blocks get, made once per machine.
async fn base_environment() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/base-requirements.txt");
        let text = std::fs::read_to_string(requirements).unwrap();
        provision::Python::find_or_install().unwrap().environment(&text).unwrap()
    };
    tokio::task::spawn_blocking(move || MADE.get_or_init(make).clone()).await.unwrap()
}
