//! Precedence, refusals and documentation of settings.

use super::*;
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

#[derive(Debug, Serialize, Deserialize)]
struct Sample {
    #[serde(flatten)]
    common: Common,
    grpc: Grpc,
    peers: Vec<String>,
    token_file: Option<std::path::PathBuf>,
    #[serde(with = "duration")]
    lease_ttl: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct Grpc {
    listen: std::net::SocketAddr,
    message_bytes_max: u64,
}

impl Default for Sample {
    fn default() -> Self {
        let grpc = Grpc { listen: ([127, 0, 0, 1], 7071).into(), message_bytes_max: 4 << 20 };
        let lease_ttl = Duration::from_secs(10);
        Self { common: Common::default(), grpc, peers: Vec::new(), token_file: None, lease_ttl }
    }
}

const KEYS: &[Key] = &[
    Key::new("grpc.listen", Kind::Address, "127.0.0.1:7071", "Where it listens."),
    Key::new("grpc.message_bytes_max", Kind::Bytes, "4 MiB", "The longest message."),
    Key::new("peers", Kind::List, "", "Whom it calls."),
    Key::new("token_file", Kind::SecretFile, "", "Its token."),
    Key::new("lease_ttl", Kind::Duration, "10s", "How long a lease holds."),
];

fn read(file: Option<&str>, environment: &[(&str, &str)], flags: &[&str]) -> Result<Sample, SettingsError> {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut path, file.unwrap_or_default().as_bytes()).unwrap();
    let config = path.path().to_str().unwrap().to_owned();
    let mut arguments: Vec<std::ffi::OsString> = vec!["sample".into()];
    if file.is_some() {
        arguments.extend(["--config".into(), config.into()]);
    }
    arguments.extend(flags.iter().map(Into::into));
    let environment: BTreeMap<_, _> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load_from("sample", "SAMPLE", KEYS, Sources { arguments, environment })
}

fn complaint(file: Option<&str>, environment: &[(&str, &str)], flags: &[&str]) -> String {
    read(file, environment, flags).unwrap_err().to_string()
}

#[test]
fn the_table_and_the_type_agree() {
    check_table::<Sample>(KEYS).unwrap();
    assert!(check_table::<Sample>(&KEYS[1..]).unwrap_err().to_string().contains("`grpc.listen` is in the type"));
    let more = [KEYS, &[Key::new("extra", Kind::Text, "", "")]].concat();
    assert!(check_table::<Sample>(&more).unwrap_err().to_string().contains("`extra` is in the table"));
    let mut other = KEYS.to_vec();
    other[4].default = "11s";
    assert!(check_table::<Sample>(&other).unwrap_err().to_string().contains("`lease_ttl` defaults to"));
}

#[test]
fn later_sources_win() {
    let file = "lease_ttl = \"1s\"\n[grpc]\nlisten = \"127.0.0.1:1\"\nmessage_bytes_max = 10\n";
    let shared = ("ORRERY_LEASE_TTL", "2s");
    let own = ("ORRERY_SAMPLE_LEASE_TTL", "3s");
    let ttl = |read: Result<Sample, SettingsError>| read.unwrap().lease_ttl.as_secs();
    assert_eq!(ttl(read(None, &[], &[])), 10);
    assert_eq!(ttl(read(Some(file), &[], &[])), 1);
    assert_eq!(ttl(read(Some(file), &[shared], &[])), 2);
    assert_eq!(ttl(read(Some(file), &[shared, own], &[])), 3);
    assert_eq!(ttl(read(Some(file), &[shared, own], &["--set", "lease_ttl=4s"])), 4);
    assert_eq!(ttl(read(Some(file), &[shared, own], &["--set", "lease_ttl=4s", "--lease-ttl", "5s"])), 5);
    assert_eq!(read(Some(file), &[], &[]).unwrap().grpc.message_bytes_max, 10);
}

#[test]
fn every_kind_is_understood_as_text() {
    let environment = [
        ("ORRERY_SAMPLE_GRPC__LISTEN", "[::1]:9"),
        ("ORRERY_SAMPLE_GRPC__MESSAGE_BYTES_MAX", "16 MiB"),
        ("ORRERY_SAMPLE_PEERS", "http://a:1, http://b:2"),
        ("ORRERY_SAMPLE_TOKEN_FILE", "/run/token"),
        ("ORRERY_LOG__FORMAT", "json"),
        ("ORRERY_DRAIN_TIMEOUT", "1m 30s"),
    ];
    let settings = read(None, &environment, &[]).unwrap();
    assert_eq!(settings.grpc.listen.to_string(), "[::1]:9");
    assert_eq!(settings.grpc.message_bytes_max, 16 << 20);
    assert_eq!(settings.peers, ["http://a:1", "http://b:2"]);
    assert_eq!(settings.token_file.unwrap().to_str(), Some("/run/token"));
    assert_eq!(settings.common.drain_timeout.as_secs(), 90);
    assert_eq!(settings.common.telemetry.log.format, crate::telemetry::Format::Json);
    assert!(read(None, &[], &["--peers", ""]).unwrap().peers.is_empty());
}

#[test]
fn unknown_keys_name_the_nearest() {
    assert!(complaint(Some("[grpc]\nlitsen = \"x\""), &[], &[]).contains("did you mean `grpc.listen`?"));
    assert!(complaint(None, &[("ORRERY_SAMPLE_LEASE_TL", "1s")], &[]).contains("did you mean `lease_ttl`?"));
    assert!(complaint(None, &[], &["--set", "peer=x"]).contains("did you mean `peers`?"));
    assert!(complaint(None, &[], &["--lease-tt", "1s"]).contains("--lease-ttl"));
    assert!(!complaint(None, &[], &["--set", "something.else=x"]).contains("did you mean"));
    // Another service's shared variable is none of ours.
    read(None, &[("ORRERY_SLOTS", "4")], &[]).unwrap();
}

#[test]
fn a_shared_variable_that_begins_as_our_own_is_passed_over() {
    let load = |service, prefix, name: &str| {
        let environment = BTreeMap::from([(name.to_owned(), "1s".to_owned())]);
        load_from::<Sample>(service, prefix, KEYS, Sources { arguments: vec![service.into()], environment })
    };
    load("orrery-scheduler", "SCHEDULER", "ORRERY_SCHEDULER_URLS").unwrap();
    load("orrery-executor", "EXECUTOR", "ORRERY_EXECUTOR_LOST_AFTER").unwrap();
    for mistake in ["ORRERY_SCHEDULER_URL", "ORRERY_SCHEDULER_LOST_AFTER"] {
        let refused = load("orrery-scheduler", "SCHEDULER", mistake).unwrap_err().to_string();
        assert!(refused.contains("unknown setting"), "{refused}");
    }
}

/// The keys of every service, as the page shows them.
fn documented() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_name_that_begins_as_a_service_is_known_to_be_shared() {
    let names = documented();
    let beginnings = ["WEB_SERVER_", "SCHEDULER_", "EXECUTOR_"];
    let found: std::collections::BTreeSet<String> = names
        .iter()
        .map(|name| name.to_ascii_uppercase().replace('.', "__"))
        .filter(|name| beginnings.iter().any(|beginning| name.starts_with(beginning)))
        .collect();
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), shared::BEGIN_AS_A_SERVICE);
}

#[test]
fn wrong_values_name_key_origin_and_type() {
    let text = complaint(None, &[("ORRERY_SAMPLE_GRPC__LISTEN", "localhost")], &[]);
    assert!(text.contains("`grpc.listen`") && text.contains("ORRERY_SAMPLE_GRPC__LISTEN"), "{text}");
    assert!(text.contains("address:port") && text.contains("`localhost`"), "{text}");
    assert!(complaint(Some("lease_ttl = 5"), &[], &[]).contains("duration"));
    assert!(complaint(Some("peers = [1]"), &[], &[]).contains("list"));
    assert!(!complaint(Some("token_file = 12345"), &[], &[]).contains("12345"), "a secret by mistake");
    assert!(complaint(None, &[], &["--set", "lease_ttl"]).contains("key=value"));
    assert!(complaint(Some("not toml"), &[], &[]).contains("failed to read the configuration file"));
    assert!(complaint(None, &[("ORRERY_CONFIG", "/nonexistent.toml")], &[]).contains("/nonexistent.toml"));
}

#[test]
fn uris_of_every_scheme_are_understood_and_passwords_not_shown() {
    let endpoint = |text: &str| read(None, &[("ORRERY_OTLP_ENDPOINT", text)], &[]);
    for uri in ["http://a:1", "file:///srv/blobs", "postgres:///orrery?host=/run"] {
        assert_eq!(endpoint(uri).unwrap().common.telemetry.otlp_endpoint.as_deref(), Some(uri));
    }
    for text in ["collector:4317", "://x", "http://", "http://a b"] {
        assert!(endpoint(text).unwrap_err().to_string().contains("URI"), "{text}");
    }
    assert!(!endpoint("user:s3cret@host/db").unwrap_err().to_string().contains("s3cret"));
}

#[test]
fn help_and_version_are_answered() {
    let asked = |flag| match read(None, &[], &[flag]) {
        Err(SettingsError::Asked(text)) => text,
        other => panic!("{other:?}"),
    };
    let help = asked("--help");
    assert!(help.contains("--grpc-listen") && help.contains("How long a lease holds") && help.contains("--log-filter"));
    assert!(asked("--version").contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_page_is_compared_with_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    let section = |body: &str| format!("a\n<!-- settings:sample -->\n{body}<!-- /settings:sample -->\nb\n");
    std::fs::write(&page, section(&markdown("sample", KEYS))).unwrap();
    check_doc(&page, "sample", KEYS).unwrap();
    check_doc(&page, "orrery-sample", KEYS).unwrap();
    std::fs::write(&page, section("old")).unwrap();
    assert!(check_doc(&page, "sample", KEYS).unwrap_err().to_string().contains("ORRERY_UPDATE_DOCS"));
    assert!(check_doc(&page, "other", KEYS).unwrap_err().to_string().contains("markers"));
}

#[test]
fn a_name_means_the_same_in_every_service() {
    // What a service itself listens on is its own.
    const OWN: &str = "`listen`";
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md")).unwrap();
    let mut meanings = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [key, _, kind, _default, doc] = cells[..] else { continue };
        let earlier = meanings.insert(key, (kind, doc));
        assert!(key.ends_with(OWN) || earlier.is_none_or(|e| e == (kind, doc)), "{key} means two things");
    }
    assert!(meanings.len() > 60, "{}", meanings.len());
}
