//! A private cluster through its whole life, on a real server.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use provision::{ClusterOptions, PrivatePostgres, command};
use std::{fs, process::Command};

fn ask(cluster: &PrivatePostgres, url: &str, sql: &str) -> String {
    command::run(Command::new(cluster.programs().program("psql")).args(["--no-psqlrc", "-Atc", sql, url])).unwrap()
}

#[test]
fn a_cluster_is_made_adopted_stopped_and_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let first = PrivatePostgres::start(dir.path(), ClusterOptions::TEST).unwrap();
    ask(&first, &first.url("postgres"), "CREATE TABLE t AS SELECT 7 AS n");
    assert_eq!(ask(&first, &first.tcp_url("postgres"), "SELECT n FROM t").trim(), "7");
    assert!(
        command::run(Command::new(first.programs().program("psql")).args([
            "-Atc",
            "SELECT 1",
            &first.tcp_url("postgres").replacen(":", ":wrong", 2)
        ]))
        .is_err(),
        "loopback needs the password"
    );

    let adopted = PrivatePostgres::start(dir.path(), ClusterOptions::TEST).unwrap();
    assert_eq!(first.url("postgres"), adopted.url("postgres"), "a running server is adopted, not doubled");

    // What `kill -9` leaves: a pid file of a process that is gone.
    let pid_file = first.home().join("data/postmaster.pid");
    let pid = fs::read_to_string(&pid_file).unwrap().lines().next().unwrap().to_owned();
    command::run(Command::new("kill").args(["-9", &pid])).unwrap();
    let begun = std::time::Instant::now();
    while fs::exists(format!("/proc/{pid}")).unwrap() && begun.elapsed().as_secs() < 10 {
        std::thread::yield_now();
    }
    let again = PrivatePostgres::start(dir.path(), ClusterOptions::TEST).unwrap();
    assert!(again.is_running());
    again.stop().unwrap();
    assert!(!again.is_running());
    assert!(PrivatePostgres::attach(dir.path()).unwrap().is_none());
    again.stop().unwrap();
    let target = again.home().to_path_buf();
    if target.starts_with("/var/lib/orrery") {
        fs::remove_dir_all(target).unwrap();
    }
}
