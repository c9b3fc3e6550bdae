//! The scheduler as its own process, before it has a schema: alive, and not ready.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{process::Stdio, time::Duration};
use testkit::{Database, wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

const WAIT: Duration = Duration::from_secs(60);
/// What a process holds while it migrates.
const LOCK: &str = "SELECT pg_advisory_lock(X'6f7265727279'::bigint)";

fn start(database: &Database, admin: u16, settings: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_orrery-scheduler"))
        .env("ORRERY_SCHEDULER_LISTEN", "127.0.0.1:0")
        .env("ORRERY_DATABASE_URL", database.url())
        .env("ORRERY_ADMIN__LISTEN", format!("127.0.0.1:{admin}"))
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn get(port: u16, page: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(format!("GET {page} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

async fn says(port: u16, page: &str, status: u16) {
    let look = || async move { (get(port, page).await? == status).then_some(()) };
    wait_for(format!("{status} of {page}"), WAIT, look).await;
}

/// A long migration is no reason to kill a process; nor is the address of schedulers, which all pods of a chart may share.
#[tokio::test]
async fn it_is_alive_while_it_migrates_and_ready_after_it() {
    let database = Database::new().await;
    let another = database.client().await;
    another.batch_execute(LOCK).await.unwrap();
    let admin = testkit::ports::free().unwrap();
    let _process = start(&database, admin, &[("ORRERY_SCHEDULER_URLS", "http://127.0.0.1:7071")]);
    says(admin, "/livez", 200).await;
    says(admin, "/readyz", 503).await;
    another.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    says(admin, "/readyz", 200).await;
}

#[tokio::test]
async fn wrong_settings_are_refused_before_the_database_is_touched() {
    let database = Database::new().await;
    for (name, value) in [
        ("ORRERY_SCHEDULER_NOTIFICATION_NETWORKS", "nowhere"),
        ("ORRERY_SCHEDULER_SECRET_KEYS_FILE", "/nonexistent"),
        ("ORRERY_SCHEDULER_ULRS", "http://127.0.0.1:7071"),
    ] {
        let mut process = start(&database, testkit::ports::free().unwrap(), &[(name, value)]);
        let ended = tokio::time::timeout(WAIT, process.wait()).await.expect("an end in time").unwrap();
        assert_eq!(ended.code(), Some(64), "{name}");
    }
    let count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    let tables: i64 = database.client().await.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(tables, 0);
}
