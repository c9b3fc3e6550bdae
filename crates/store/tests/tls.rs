//! The way to a PostgreSQL that has a certificate, on a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the report of a test")]

use provision::{ClusterOptions, PrivatePostgres, command};
use std::{fs, path::Path, process::Command, time::Duration};
use store::Store;

/// As the server's own superuser, beside what is tested.
fn ask(cluster: &PrivatePostgres, sql: &str) -> String {
    let psql = cluster.programs().program("psql");
    command::run(Command::new(psql).args(["--no-psqlrc", "-Atc", sql, &cluster.url("postgres")])).unwrap()
}

/// The server writes its key itself: nobody else may own it.
fn give_certificate(cluster: &PrivatePostgres, certified: &rcgen::CertifiedKey<rcgen::KeyPair>) {
    for (name, text) in [("server.crt", certified.cert.pem()), ("server.key", certified.signing_key.serialize_pem())] {
        let lines = format!("SELECT unnest(string_to_array('{}', E'\\n'))", text.replace("\r\n", "\n").trim());
        ask(cluster, &format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {name}'"));
    }
}

async fn is_encrypted(url: &str) -> Result<bool, store::Error> {
    let client = Store::connect(url, 1).await?.client().await?;
    let row = client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await?;
    Ok(row.get(0))
}

fn written(folder: &Path, name: &str, certified: &rcgen::CertifiedKey<rcgen::KeyPair>) -> String {
    let file = folder.join(name);
    fs::write(&file, certified.cert.pem()).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn the_way_is_encrypted_when_the_url_says_so_and_only_to_whom_the_certificate_names() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = PrivatePostgres::start(dir.path(), ClusterOptions::TEST).unwrap();
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    give_certificate(&cluster, &certified);
    let plain = cluster.tcp_url("postgres");
    assert!(is_encrypted(&format!("{plain}?sslmode=require")).await.is_err(), "the server has no TLS yet");
    ask(&cluster, "ALTER SYSTEM SET ssl = on");
    ask(&cluster, "SELECT pg_reload_conf()");
    let own = format!("sslrootcert={}", written(dir.path(), "own.pem", &certified));
    testkit::wait_for("TLS", Duration::from_secs(20), || async {
        is_encrypted(&format!("{plain}?sslmode=require&{own}")).await.ok().filter(|encrypted| *encrypted)
    })
    .await;
    assert!(is_encrypted(&format!("{plain}?sslmode=verify-full&{own}")).await.unwrap());
    assert!(!is_encrypted(&plain).await.unwrap());

    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let others = format!("sslrootcert={}", written(dir.path(), "other.pem", &other));
    assert!(is_encrypted(&format!("{plain}?sslmode=require&{others}")).await.is_err(), "signed by somebody else");
    let by_name = plain.replace("127.0.0.1", "localhost");
    assert!(is_encrypted(&format!("{by_name}?sslmode=require&{own}")).await.is_err(), "it names another host");

    cluster.stop().unwrap();
    let home = cluster.home().to_path_buf();
    if home.starts_with("/var/lib/orrery") {
        fs::remove_dir_all(home).unwrap();
    }
}
