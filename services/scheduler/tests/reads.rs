//! Outputs that executors alone can read, asked for at any scheduler: over real gRPC, on a real Postgres.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use domain::id::{RunId, SchedulerId};
use proto::internal::v1::{
    self as pb, output_read_service_client::OutputReadServiceClient,
    output_read_service_server::OutputReadServiceServer, read_output_response, serve_reads_request,
};
use rpc::client::Channel;
use scheduler::{owners::Owners, reads::Reads};
use std::path::Path;
use store::Store;
use testkit::Database;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A scheduler as far as outputs are concerned.
struct Served {
    id: SchedulerId,
    owners: Owners,
    address: String,
    client: OutputReadServiceClient<Channel>,
    stop: CancellationToken,
}

async fn serve(store: &Store) -> Served {
    let (id, stop) = (SchedulerId(Uuid::now_v7()), CancellationToken::new());
    let owners = Owners::new(store.clone(), id, None);
    let reads = OutputReadServiceServer::new(Reads::new(store.clone(), None, owners.clone(), stop.clone()));
    let listener = rpc::server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = rpc::server::Builder::new(rpc::server::Limits::default()).add_service(reads);
    tokio::spawn(server.serve(listener, std::future::pending()));
    let channel = rpc::client::connect(&[format!("http://{address}").parse().unwrap()], None).unwrap();
    Served { id, owners, address, client: OutputReadServiceClient::new(channel), stop }
}

/// What its run executes.
const BUNDLE: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// A run of it.
async fn run(database: &Database) -> RunId {
    let (client, run) = (database.client().await, RunId::new_in(0));
    client
        .batch_execute(&format!(
            "INSERT INTO workspace (id, name) VALUES ('{0}', 'w');
             INSERT INTO bundle (digest, project_name, file_count, size_bytes) VALUES ('{BUNDLE}', 'p', 0, 0);
             INSERT INTO pipeline (id, workspace_id, name, version) VALUES ('{0}', '{0}', 'p', 1);
             INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec) VALUES ('{0}', 1, '{BUNDLE}', '{{}}');
             INSERT INTO run (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status, execution_date)
             VALUES ('{run}', '{0}', '{0}', 1, '{0}', 0, 'running', now())",
            Uuid::now_v7()
        ))
        .await
        .unwrap();
    run
}

#[tokio::test]
async fn any_scheduler_finds_an_executor_that_reads() {
    let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
    let database = Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await;
    let store = Store::connect(database.url(), 4).await.unwrap();
    let run = run(&database).await;
    let (asked, mut other) = (serve(&store).await, serve(&store).await);
    let lives = "INSERT INTO scheduler (id, lease_until, address) VALUES ($1, now() + interval '1 hour', $2)";
    database.client().await.execute(lives, &[&other.id.0, &other.address]).await.unwrap();
    asked.owners.refresh().await.unwrap();
    let attempt = pb::AttemptRef { run_id: run.to_vec(), block: "a/b".to_owned(), child: -1, lease: 3 };
    let read = async |offset: i64| {
        let message = pb::ReadOutputRequest {
            attempt: Some(attempt.clone()),
            file: "preview.json".to_owned(),
            offset,
            length: 5,
            forwarded: false,
        };
        asked.client.clone().read_output(message).await.unwrap().into_inner().outcome
    };
    let nobody = |outcome: Option<read_output_response::Outcome>| match outcome {
        Some(read_output_response::Outcome::Failure(why)) => assert!(why.contains("no executor"), "{why}"),
        other => panic!("nobody can read: {other:?}"),
    };
    nobody(read(0).await);

    let (sender, answers) = mpsc::channel(1);
    let mut orders = other.client.serve_reads(ReceiverStream::new(answers)).await.unwrap().into_inner();
    let executor = tokio::spawn(async move {
        let mut folders = Vec::new();
        while let Ok(Some(order)) = orders.message().await {
            assert_eq!((order.bundle_digest.as_str(), order.file.as_str()), (BUNDLE, "preview.json"));
            let outcome = match order.offset {
                0 => {
                    Some(serve_reads_request::Outcome::Part(pb::FilePart { size_bytes: 7, content: b"first".to_vec() }))
                }
                1 => Some(serve_reads_request::Outcome::Failure("the store refuses".to_owned())),
                _ => None,
            };
            folders.push(order.folder);
            sender.send(pb::ServeReadsRequest { id: order.id, outcome }).await.unwrap();
        }
        folders
    });
    let part =
        testkit::wait_for("the executor to be there", std::time::Duration::from_secs(10), async || {
            match read(0).await {
                Some(read_output_response::Outcome::Part(part)) => Some(part),
                _ => None,
            }
        })
        .await;
    assert_eq!((part.size_bytes, part.content.as_slice()), (7, b"first".as_slice()));
    assert_eq!(read(1).await, Some(read_output_response::Outcome::Failure("the store refuses".to_owned())));
    assert_eq!(read(2).await, None, "there is no such file");
    // A scheduler that ends keeps no executor.
    other.stop.cancel();
    let folders = executor.await.unwrap();
    assert_eq!(folders, vec![format!("{run}/a%2fb/_/3"); folders.len()]);
    nobody(read(0).await);
}
