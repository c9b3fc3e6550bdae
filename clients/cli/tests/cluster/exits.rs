//! What the services' processes answer to whoever started them: the codes of docs/configuration.md.

use crate::wait;
use std::{
    ffi::OsStr,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};
use testkit::Database;

const SERVICES: [&str; 3] = ["web-server", "scheduler", "executor"];

/// A service with nothing of this process's settings, in a folder of its own.
struct Service<'a> {
    name: &'static str,
    folder: &'a Path,
}

impl Service<'_> {
    /// Its end with these arguments.
    fn ends(&self, arguments: &[&str]) -> Output {
        let programs = Path::new(env!("CARGO_BIN_EXE_orrery")).parent().unwrap();
        let mut command = Command::new(programs.join(format!("orrery-{}", self.name)));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"ORRERY_")) {
            command.env_remove(name);
        }
        wait::output(command.args(arguments.iter().map(OsStr::new)).current_dir(self.folder))
    }

    #[track_caller]
    fn ends_with(&self, code: i32, word: &str, arguments: &[&str]) {
        let ended = self.ends(arguments);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{} {arguments:?}: {said}", self.name);
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("orrery-{}: ", self.name)) && last.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_wrong_setting_is_64() {
    let folder = tempfile::tempdir().unwrap();
    for name in SERVICES {
        let service = Service { name, folder: folder.path() };
        service.ends_with(64, "drain_timeout", &["--drain-timeout", "soon"]);
        service.ends_with(64, "/no/such/file", &["--config", "/no/such/file"]);
    }
    for name in ["web-server", "scheduler"] {
        Service { name, folder: folder.path() }.ends_with(64, "database_url", &[]);
    }
}

#[test]
fn a_database_that_does_not_answer_is_69() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens on the port of a listener that is gone.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://nobody@127.0.0.1:{port}/orrery");
    let blobs = format!("file://{}", folder.path().display());
    Service { name: "web-server", folder: folder.path() }.ends_with(
        69,
        "refused",
        &["--database-url", &url, "--blobs-url", &blobs],
    );
    Service { name: "scheduler", folder: folder.path() }.ends_with(69, "refused", &["--database-url", &url]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_port_that_is_taken_is_69() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let blobs = format!("file://{}", folder.path().display());
    let service = |name| Service { name, folder: folder.path() };
    // Each also by the port of its metrics; an executor has no other here.
    for port in ["--listen", "--admin-listen"] {
        let other = if port == "--listen" { "--admin-listen" } else { "--listen" };
        let ports = [port, &at, other, "127.0.0.1:0", "--database-url", database.url()];
        service("web-server").ends_with(69, "in use", &[&ports[..], &["--blobs-url", &blobs]].concat());
        service("scheduler").ends_with(69, "in use", &ports);
    }
    service("executor").ends_with(69, "in use", &["--attempts", "none", "--admin-listen", &at]);
}
