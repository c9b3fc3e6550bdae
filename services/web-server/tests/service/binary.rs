//! The web-server as its own process: what it says of wrong settings, while it waits to migrate, and of the first owner.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use testkit::{Database, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const WAIT: Duration = Duration::from_secs(60);
/// What a process holds while it migrates.
const LOCK: &str = "SELECT pg_advisory_lock(X'6f7265727279'::bigint)";

/// A process on an empty database, with the address of its pages.
struct Process {
    child: Child,
    admin: u16,
    _folder: TempDir,
}

/// Starts one on a machine that trusts no certificates, with these settings besides those that it needs.
fn start(database: &Database, settings: &[(&str, &str)]) -> Process {
    let folder = tempfile::tempdir().unwrap();
    let admin = testkit::ports::free().unwrap();
    let url = folder.path().join("database-url");
    std::fs::write(&url, database.url()).unwrap();
    let nowhere = Path::new("/nonexistent");
    let child = Command::new(env!("CARGO_BIN_EXE_orrery-web-server"))
        .env("ORRERY_WEB_SERVER_LISTEN", "127.0.0.1:0")
        .env("ORRERY_WEB_SERVER_DATABASE_URL_FILE", &url)
        .env("ORRERY_WEB_SERVER_BLOBS_URL", format!("file://{}", folder.path().join("blobs").display()))
        .env("ORRERY_ADMIN__LISTEN", format!("127.0.0.1:{admin}"))
        .envs(settings.iter().copied())
        .envs([("SSL_CERT_FILE", nowhere), ("SSL_CERT_DIR", nowhere)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Process { child, admin, _folder: folder }
}

impl Process {
    async fn ended(self) -> Output {
        tokio::time::timeout(WAIT, self.child.wait_with_output()).await.expect("an end in time").unwrap()
    }

    /// Waits until a page answers with this status; answers what it says.
    async fn says(&self, page: &str, status: u16) -> String {
        let port = self.admin;
        let look = || async move { get(port, page).await.filter(|answer| answer.0 == status).map(|(_, text)| text) };
        wait_for(format!("{status} of {page}"), WAIT, look).await
    }

    /// Waits until it serves, ends it, and answers what it wrote.
    async fn wrote(mut self) -> String {
        self.says("/readyz", 200).await;
        self.child.start_kill().unwrap();
        String::from_utf8(self.ended().await.stderr).unwrap()
    }
}

async fn get(port: u16, page: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(format!("GET {page} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some((answer.split(' ').nth(1)?.parse().ok()?, answer))
}

#[tokio::test]
async fn wrong_settings_are_refused_before_the_database_is_touched() {
    let database = Database::new().await;
    for (name, value) in [
        ("ORRERY_WEB_SERVER_IMAGE_REGISTRIES", "a/b"),
        ("ORRERY_WEB_SERVER_BLOBS_URL", "ftp://somewhere/blobs"),
        ("ORRERY_WEB_SERVER_OUTPUTS_URL", "outputs"),
        ("ORRERY_WEB_SERVER_OWNER_EMAIL", "nobody"),
        ("ORRERY_WEB_SERVER_SCHEDULER_URLS", "http://a b"),
        ("ORRERY_WEB_SERVER_TOKEN_FILE", "/nonexistent"),
        ("ORRERY_WEB_SERVER_STORAGE_CLASSES", "=x"),
        ("ORRERY_WEB_SERVER_OIDC__ISSUER", "https://provider.example"),
    ] {
        let ended = start(&database, &[(name, value)]).ended().await;
        assert_eq!(ended.status.code(), Some(64), "{name}: {}", String::from_utf8_lossy(&ended.stderr));
    }
    let count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    let tables: i64 = database.client().await.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(tables, 0);
}

/// A long migration is no reason to kill a process; and registries that nobody named need no certificates.
#[tokio::test]
async fn it_is_alive_while_it_migrates_and_ready_after_it() {
    let database = Database::new().await;
    let another = database.client().await;
    another.batch_execute(LOCK).await.unwrap();
    let process = start(&database, &[]);
    process.says("/livez", 200).await;
    let missing = process.says("/readyz", 503).await;
    assert!(missing.contains("start: "), "{missing}");
    another.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    let wrote = process.wrote().await;
    assert!(wrote.contains("the one-time password is "), "{wrote}");
}

/// Logs of a cluster are read by many, and its operator has a token to make a password with.
#[tokio::test]
async fn with_an_operators_token_no_password_is_printed() {
    let database = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-of-sufficient-length").unwrap();
    let process = start(&database, &[("ORRERY_WEB_SERVER_TOKEN_FILE", token.to_str().unwrap())]);
    let wrote = process.wrote().await;
    assert!(!wrote.contains("password is"), "{wrote}");
    assert!(wrote.contains("users reset-password owner@localhost"), "{wrote}");
}
