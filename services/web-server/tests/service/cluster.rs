//! A web-server with everything that it needs, and ways to put things into it.

use crate::http::{self, Answer};
use crate::scheduler::Scheduler;
use ::http::Method;
use rpc::auth::Token;
use runtime::health::Health;
use runtime::shutdown::Shutdown;
use runtime::telemetry::{Telemetry, TelemetrySettings};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use store::Store;
use tempfile::TempDir;
use testkit::Database;
use tokio::task::JoinHandle;
use uuid::Uuid;
use web_server::settings::Settings;
use web_server::{App, Given};

pub(crate) const TOKEN: &str = "a-token-of-sufficient-length";
pub(crate) const PASSWORD: &str = "a password of their own";

pub(crate) struct Cluster {
    pub(crate) database: Arc<Database>,
    pub(crate) scheduler: Scheduler,
    pub(crate) addr: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) serving: JoinHandle<()>,
    settings: Settings,
    pub(crate) folder: TempDir,
}

/// The files of a project by path.
pub(crate) type Files = BTreeMap<&'static str, String>;

impl Cluster {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// As `new`, with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
        let database = Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await;
        let database = Arc::new(database);
        let (scheduler, peer) = Scheduler::start(database.clone()).await;
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, TOKEN).unwrap();
        let keys_file = folder.path().join("secret.keys");
        std::fs::write(&keys_file, one_key()).unwrap();
        let mut settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            token_file: Some(token_file),
            owner_password_file: Some(folder.path().join("owner.password")),
            database_url: Some(database.url().to_owned()),
            secret_keys_file: Some(keys_file),
            database_connections: 4,
            scheduler_urls: vec![format!("http://{peer}")],
            blobs_url: Some(format!("file://{}", folder.path().join("blobs").display())),
            outputs_url: Some(format!("file://{}", folder.path().join("outputs").display())),
            ..Settings::default()
        };
        change(&mut settings);
        let (addr, shutdown, serving) = serve(&settings).await;
        Self { database, scheduler, addr, shutdown, serving, settings, folder }
    }

    /// The server anew, with what `change` makes of its settings, on the same database.
    pub(crate) async fn restart(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.shutdown.drain();
        (self.addr, self.shutdown, self.serving) = serve(&self.settings).await;
    }

    /// Another server of the same cluster.
    pub(crate) async fn replica(&self) -> SocketAddr {
        serve(&self.settings).await.0
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// A channel for generated clients, with the operator's token.
    pub(crate) fn channel(&self) -> rpc::client::Channel {
        self.channel_as(TOKEN)
    }

    /// As [`Self::channel`], for another person.
    pub(crate) fn channel_as(&self, token: &str) -> rpc::client::Channel {
        rpc::client::connect(&[self.url("").parse().unwrap()], Some(&Token::new(token).unwrap())).unwrap()
    }

    async fn send(&self, method: Method, path: &str, token: &str, body: String) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", &authorization)];
        // Whoever has no token sends no header.
        let headers = if token.is_empty() { &headers[..1] } else { &headers[..] };
        http::send(http::request(method, &self.url(path), headers, body)).await
    }

    /// Calls a method as JSON, as the operator.
    pub(crate) async fn post(&self, method: &str, message: Value) -> Answer {
        self.post_as(TOKEN, method, message).await
    }

    /// Calls a method as JSON, as whoever has this token.
    pub(crate) async fn post_as(&self, token: &str, method: &str, message: Value) -> Answer {
        self.send(Method::POST, &format!("/orrery.v1.{method}"), token, message.to_string()).await
    }

    /// As `post_as`, and it must succeed.
    pub(crate) async fn call_as(&self, token: &str, method: &str, message: Value) -> Value {
        let answer = self.post_as(token, method, message).await;
        assert_eq!(answer.status, 200, "{method}: {:?}", answer.body);
        answer.json()
    }

    /// As `post_as`, and it must fail with this reason.
    pub(crate) async fn refused_as(&self, token: &str, method: &str, message: Value) -> String {
        let answer = self.post_as(token, method, message).await;
        assert_ne!(answer.status, 200, "{method}: {:?}", answer.body);
        reason(&answer)
    }

    /// Makes a person with a role over the whole cluster, or none; answers a token.
    pub(crate) async fn person(&self, email: &str, role: &str) -> String {
        let created = self.call("UserService/CreateUser", json!({ "email": email, "role": role })).await;
        let sign_in = json!({
            "email": email, "password": created["oneTimePassword"], "newPassword": PASSWORD, "tokenName": "test",
        });
        let signed_in = self.call_as("", "SignInService/SignIn", sign_in).await;
        signed_in["token"].as_str().unwrap().to_owned()
    }

    /// The one-time password of the first owner.
    pub(crate) fn owner_password(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("owner.password")).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    }

    /// As `post`, and it must succeed.
    pub(crate) async fn call(&self, method: &str, message: Value) -> Value {
        let answer = self.post(method, message).await;
        assert_eq!(answer.status, 200, "{method}: {:?}", answer.body);
        answer.json()
    }

    /// As `post`, and it must fail: answers the code and the reason.
    pub(crate) async fn refused(&self, method: &str, message: Value) -> (String, String) {
        let answer = self.post(method, message).await;
        assert_ne!(answer.status, 200, "{method}: {:?}", answer.body);
        let error = answer.json();
        let reason = error["details"][0]["debug"]["reason"].as_str().unwrap_or_default();
        assert!(!error["message"].as_str().unwrap().is_empty());
        (error["code"].as_str().unwrap().to_owned(), reason.to_owned())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, TOKEN, String::new()).await
    }

    pub(crate) async fn workspace(&self, name: &str) {
        self.call("WorkspaceService/CreateWorkspace", json!({ "name": name })).await;
    }

    /// A pipeline of these blocks (uuid and upstream), put in without a bundle.
    pub(crate) async fn pipeline(&self, workspace: &str, name: &str, blocks: &[(&str, &[&str])]) {
        let blocks = blocks.iter().map(|(uuid, upstream)| {
            json!({ "uuid": uuid, "name": uuid, "kind": "transformer", "language": "python", "upstream": upstream })
        });
        let spec = json!({ "name": name, "kind": "python", "blocks": blocks.collect::<Vec<_>>() });
        self.put_pipeline(workspace, name, spec).await;
    }

    pub(crate) async fn put_pipeline(&self, workspace: &str, name: &str, spec: Value) {
        let mut client = self.database.client().await;
        let digest = format!("sha256:{}", "0".repeat(64));
        let bundle = "INSERT INTO bundle (digest, project_name, file_count, size_bytes) VALUES ($1, 'p', 0, 0)
                      ON CONFLICT DO NOTHING";
        let row = client.query_one("SELECT id FROM workspace WHERE name = $1", &[&workspace]).await.unwrap();
        let (id, workspace): (Uuid, Uuid) = (Uuid::now_v7(), row.get(0));
        let t = client.transaction().await.unwrap();
        t.execute(bundle, &[&digest]).await.unwrap();
        let pipeline = "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, $3, 1)";
        t.execute(pipeline, &[&id, &workspace, &name]).await.unwrap();
        let version = "INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec) VALUES ($1, 1, $2, $3)";
        t.execute(version, &[&id, &digest, &spec]).await.unwrap();
        let trigger = "INSERT INTO trigger (id, pipeline_id, name, kind, active, source)
                       VALUES ($1, $2, 'manual', 'manual', true, 'built-in')";
        t.execute(trigger, &[&Uuid::now_v7(), &id]).await.unwrap();
        t.commit().await.unwrap();
    }

    /// Runs a pipeline and answers the run's id.
    pub(crate) async fn run(&self, workspace: &str, pipeline: &str) -> Uuid {
        let message = json!({ "workspace": workspace, "pipeline": pipeline });
        let answer = self.call("RunService/CreateRun", message).await;
        answer["run"]["id"].as_str().unwrap().parse().unwrap()
    }

    /// Runs a statement whose `$1` is the run, and tells the watchers.
    pub(crate) async fn change(&self, run: Uuid, statement: &str) {
        self.database.client().await.execute(statement, &[&run]).await.unwrap();
        self.scheduler.tell(run);
    }
}

/// The keys that seal, as every cluster here begins with them.
pub(crate) fn one_key() -> String {
    format!("one:{}", "11".repeat(32))
}

/// A new key before the old one.
pub(crate) fn two_keys() -> String {
    format!("two:{}\n{}", "22".repeat(32), one_key())
}

async fn serve(settings: &Settings) -> (SocketAddr, Shutdown, JoinHandle<()>) {
    let shutdown = Shutdown::new();
    let telemetry = Telemetry::detached("web-server", &TelemetrySettings::default()).unwrap();
    let (given, health) = (Given::read(settings).unwrap(), Health::until(&shutdown));
    let app = App::build(settings, given, health, &shutdown, &telemetry).await.unwrap();
    (app.addr().unwrap(), shutdown.clone(), tokio::spawn(app.serve(shutdown)))
}

/// The reason of a refusal, for programs.
pub(crate) fn reason(answer: &Answer) -> String {
    answer.json()["details"][0]["debug"]["reason"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn sha256(content: &str) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A project with one good pipeline of one block.
pub(crate) fn project() -> Files {
    BTreeMap::from([
        ("metadata.yaml", "project_type: standalone\n".to_owned()),
        ("data_loaders/load.py", "@data_loader\ndef load(*args, **kwargs):\n    return 1\n".to_owned()),
        ("pipelines/daily/__init__.py", String::new()),
        ("pipelines/daily/metadata.yaml", pipeline_yaml("load", "data_loader")),
    ])
}

pub(crate) fn pipeline_yaml(block: &str, kind: &str) -> String {
    format!(
        "blocks:\n- name: {block}\n  uuid: {block}\n  type: {kind}\n  language: python\n  upstream_blocks: []\n  \
         downstream_blocks: []\nname: daily\ntype: python\nuuid: daily\n"
    )
}
