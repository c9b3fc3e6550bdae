//! Secrets: nobody reads one back, nothing keeps one in clear, and keys change while they are in use.

use crate::cluster::{Cluster, TOKEN, two_keys};
use secrets::{Keyring, Place};
use serde_json::{Value, json};
use store::Store;
use store::secrets::Asker;
use uuid::Uuid;
use web_server::settings::Settings;

const CANARY: &str = "canary-7f3a-do-not-show";

fn set(scope: Value, name: &str, value: &str) -> Value {
    json!({ "scope": scope, "name": name, "value": value })
}

/// What an attempt of a run sees under a name, as the scheduler reads and opens it.
async fn seen(cluster: &Cluster, keyring: &Keyring, run: Uuid, name: &str) -> Option<String> {
    let store = Store::connect(cluster.database.url(), 1).await.unwrap();
    let db = store.client().await.unwrap();
    let asker = Asker { run: domain::id::RunId(run), block: "a", child: -1, lease: 1 };
    let secret = store::secrets::get_for_run(&db, &asker, name, true).await.unwrap()?;
    let scope = secret.scope.text();
    let place = Place { scope: &scope, name: &secret.name, version: secret.version };
    let sealed = secret.sealed;
    let sealed = secrets::Sealed { key_id: sealed.key_id, wrapped_key: sealed.wrapped_key, value: sealed.value };
    Some(String::from_utf8(keyring.open(&place, &sealed).unwrap().to_vec()).unwrap())
}

/// A run whose block `a` is at its first lease.
async fn running(cluster: &Cluster) -> Uuid {
    cluster.workspace("sales").await;
    cluster.pipeline("sales", "daily", &[("a", &[])]).await;
    let run = cluster.run("sales", "daily").await;
    let db = cluster.database.client().await;
    let start = "INSERT INTO block_run (run_id, block, status, lease, executor_id) VALUES ($1, 'a', 'running', 1, $1)";
    db.execute(start, &[&run]).await.unwrap();
    run
}

/// Every row of every table as text.
async fn dump(cluster: &Cluster) -> String {
    let db = cluster.database.client().await;
    let tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'";
    let mut text = String::new();
    for table in db.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        let query = format!("SELECT row_to_json(t)::text || t::text FROM {table} t");
        text.extend(db.query(&query, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
    }
    text
}

#[tokio::test]
async fn a_canary_is_nowhere_in_clear() {
    let cluster = Cluster::new().await;
    let run = running(&cluster).await;
    let scope = json!({ "workspace": "sales" });
    let mut told = String::new();
    let answer = cluster.call("SecretService/SetSecret", set(scope.clone(), "PASSWORD", CANARY)).await;
    told += &answer.to_string();
    // In places where it does not belong, and is refused or not repeated.
    for (method, message) in [
        ("SecretService/SetSecret", set(json!({ "workspace": "nowhere" }), "PASSWORD", CANARY)),
        ("SecretService/SetSecret", set(scope.clone(), "not a name", CANARY)),
        ("SecretService/SetSecret", json!({ "scope": scope, "name": "X", "value": CANARY, "pipeline": 1 })),
    ] {
        told += &String::from_utf8_lossy(&cluster.post(method, message).await.body);
    }
    for (method, message) in [
        ("SecretService/ListSecrets", json!({ "scope": scope })),
        ("AuditService/ListAuditEntries", json!({ "pageSize": 500 })),
    ] {
        told += &cluster.call(method, message).await.to_string();
    }
    assert!(told.contains("PASSWORD") && !told.contains(CANARY), "{told}");
    let dump = dump(&cluster).await;
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(dump.contains("PASSWORD") && !dump.contains(CANARY) && !dump.contains(&hex));
    let keyring = Keyring::parse(&format!("one:{}", "11".repeat(32))).unwrap();
    assert_eq!(seen(&cluster, &keyring, run, "PASSWORD").await.as_deref(), Some(CANARY));
}

#[tokio::test]
async fn the_narrowest_scope_wins_and_others_see_nothing() {
    let cluster = Cluster::new().await;
    let run = running(&cluster).await;
    let keyring = Keyring::parse(&format!("one:{}", "11".repeat(32))).unwrap();
    let seen = async || seen(&cluster, &keyring, run, "KEY").await;
    let put = async |scope: Value, value: &str| {
        let answer = cluster.call("SecretService/SetSecret", set(scope, "KEY", value)).await;
        answer["secret"]["createdAt"] == answer["secret"]["updatedAt"]
    };
    assert_eq!(seen().await, None);
    cluster.workspace("other").await;
    put(json!({ "workspace": "other" }), "of another workspace").await;
    assert_eq!(seen().await, None);
    put(json!({ "project": "owner" }), "of the project").await;
    assert_eq!(seen().await.as_deref(), Some("of the project"));
    put(json!({ "workspace": "sales" }), "of the workspace").await;
    put(json!({ "workspace": "sales", "pipeline": "weekly" }), "of another pipeline").await;
    assert_eq!(seen().await.as_deref(), Some("of the workspace"));
    assert!(put(json!({ "workspace": "sales", "pipeline": "daily" }), "of the pipeline").await);
    assert!(!put(json!({ "workspace": "sales", "pipeline": "daily" }), "of the pipeline, again").await);
    assert_eq!(seen().await.as_deref(), Some("of the pipeline, again"));
    cluster
        .call(
            "SecretService/DeleteSecret",
            json!({ "scope": { "workspace": "sales", "pipeline": "daily" }, "name": "KEY" }),
        )
        .await;
    assert_eq!(seen().await.as_deref(), Some("of the workspace"));
    // An attempt that is over has no right to it.
    let end = "UPDATE block_run SET status = 'completed' WHERE run_id = $1";
    cluster.change(run, end).await;
    assert_eq!(seen().await, None);
    let both = set(json!({ "workspace": "sales", "project": "owner" }), "KEY", "x");
    assert_eq!(cluster.refused("SecretService/SetSecret", both).await.1, "INVALID_FIELD");
    assert_eq!(cluster.refused("SecretService/SetSecret", set(json!({}), "KEY", "x")).await.1, "INVALID_FIELD");
    let long = set(json!({ "workspace": "sales", "pipeline": "x".repeat(513) }), "KEY", "x");
    assert_eq!(cluster.refused("SecretService/SetSecret", long).await.1, "INVALID_FIELD");
}

#[tokio::test]
async fn keys_rotate_while_secrets_are_read() {
    let mut cluster = Cluster::new().await;
    let run = running(&cluster).await;
    for number in 0..25 {
        let secret = set(json!({ "workspace": "sales" }), &format!("S{number}"), &format!("value {number}"));
        cluster.call("SecretService/SetSecret", secret).await;
    }
    // A new key before the old one.
    let keys = two_keys();
    let write = |settings: &mut Settings| std::fs::write(settings.secret_keys_file.as_ref().unwrap(), &keys).unwrap();
    cluster.restart(write).await;
    let keyring = Keyring::parse(&keys).unwrap();
    let mut remaining = 25;
    while remaining > 0 {
        let read = async {
            for number in 0..25 {
                let value = seen(&cluster, &keyring, run, &format!("S{number}")).await;
                assert_eq!(value, Some(format!("value {number}")));
            }
        };
        let (answer, ()) = tokio::join!(cluster.call("SecretService/RotateSecrets", json!({ "limit": 10 })), read);
        assert_eq!(answer["keyId"], "two");
        remaining = answer["remaining"].as_str().unwrap().parse().unwrap();
    }
    let new = Keyring::parse(&format!("two:{}", "22".repeat(32))).unwrap();
    assert_eq!(seen(&cluster, &new, run, "S24").await.as_deref(), Some("value 24"));
    let admin = cluster.person("admin@example.org", "ROLE_ADMIN").await;
    assert_eq!(cluster.refused_as(&admin, "SecretService/RotateSecrets", json!({})).await, "PERMISSION_DENIED");
    assert_eq!(cluster.post_as(TOKEN, "SecretService/RotateSecrets", json!({ "limit": 1001 })).await.status, 400);
}

#[tokio::test]
async fn what_a_lost_key_seals_keeps_nothing_else_from_rotating() {
    let mut cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    for name in ["A", "B"] {
        cluster.call("SecretService/SetSecret", set(json!({ "workspace": "sales" }), name, "value")).await;
    }
    let db = cluster.database.client().await;
    db.execute("UPDATE secret SET key_id = 'lost' WHERE id = (SELECT min(id::text)::uuid FROM secret)", &[])
        .await
        .unwrap();
    let keys = two_keys();
    cluster.restart(|settings| std::fs::write(settings.secret_keys_file.as_ref().unwrap(), &keys).unwrap()).await;
    let answer = cluster.call("SecretService/RotateSecrets", json!({ "limit": 1 })).await;
    assert_eq!((&answer["rotated"], &answer["remaining"]), (&json!("1"), &json!("1")));
    assert_eq!(answer["missingKeyIds"], json!(["lost"]));
}

#[tokio::test]
async fn a_pipeline_sees_what_its_metadata_names() {
    let cluster = Cluster::new().await;
    let run = running(&cluster).await;
    for (scope, name) in [
        (json!({ "workspace": "sales" }), "NAMED"),
        (json!({ "workspace": "sales" }), "OTHER"),
        (json!({ "workspace": "sales", "pipeline": "daily" }), "OWN"),
    ] {
        cluster.call("SecretService/SetSecret", set(scope, name, "value")).await;
    }
    let store = Store::connect(cluster.database.url(), 1).await.unwrap();
    let db = store.client().await.unwrap();
    let asker = Asker { run: domain::id::RunId(run), block: "a", child: -1, lease: 1 };
    let visible = async |unnamed: bool| {
        let mut names = Vec::new();
        for name in ["NAMED", "OTHER", "OWN"] {
            if store::secrets::get_for_run(&db, &asker, name, unnamed).await.unwrap().is_some() {
                names.push(name);
            }
        }
        names
    };
    // Whose metadata says nothing sees what the cluster lets it.
    assert_eq!(visible(true).await, ["NAMED", "OTHER", "OWN"]);
    assert_eq!(visible(false).await, ["OWN"]);
    let name = async |list: Value| {
        let db = cluster.database.client().await;
        let update = "UPDATE pipeline_version SET spec = spec || jsonb_build_object('secrets', $1::jsonb)";
        db.execute(update, &[&list]).await.unwrap();
    };
    name(json!(["NAMED", "NOWHERE"])).await;
    assert_eq!(visible(true).await, ["NAMED", "OWN"]);
    name(json!([])).await;
    assert_eq!(visible(true).await, ["OWN"]);
}

#[tokio::test]
async fn whom_to_tell_is_sealed_and_rotates_with_the_secrets() {
    let mut cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let url = format!("https://hooks.example.com/{CANARY}");
    let config = |url: &str| json!({ "workspace": "sales", "config": { "slack_config": { "webhook_url": url } } });
    let answer = cluster.call("NotificationService/SetNotificationConfig", config("https://hooks.example.com/x")).await;
    assert!(answer.to_string().contains("***"));
    cluster.call("NotificationService/SetNotificationConfig", config(&url)).await;
    let dumped = dump(&cluster).await;
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(dumped.contains("slack_config") && !dumped.contains(CANARY) && !dumped.contains(&hex), "{dumped}");
    // What was set in the time before seals lies in clear, until keys rotate.
    let clear = "INSERT INTO notification_config (workspace_id, pipeline_id, config)
                 SELECT id, id, jsonb_build_object('slack_config', jsonb_build_object('webhook_url', $1::text)) FROM workspace";
    cluster.database.client().await.execute(clear, &[&url]).await.unwrap();
    let keys = two_keys();
    let write = |settings: &mut Settings| std::fs::write(settings.secret_keys_file.as_ref().unwrap(), &keys).unwrap();
    cluster.restart(write).await;
    let rotated = cluster.call("SecretService/RotateSecrets", json!({})).await;
    assert_eq!((&rotated["rotated"], &rotated["remaining"]), (&json!("2"), &json!("0")));
    assert!(!dump(&cluster).await.contains(CANARY));
    let keyring = Keyring::parse(&format!("two:{}", "22".repeat(32))).unwrap();
    let store = Store::connect(cluster.database.url(), 1).await.unwrap();
    let db = store.client().await.unwrap();
    let workspace: Uuid = db.query_one("SELECT id FROM workspace", &[]).await.unwrap().get(0);
    let known = store::notifications::configured(&db, &[workspace]).await.unwrap();
    assert_eq!(known.len(), 2);
    for of in known {
        let sealed = of.sealed.unwrap();
        let place = Place { scope: &sealed.scope, name: store::notifications::SEAL_NAME, version: sealed.version };
        let seal = sealed.seal;
        let seal = secrets::Sealed { key_id: seal.key_id, wrapped_key: seal.wrapped_key, value: seal.value };
        assert!(String::from_utf8(keyring.open(&place, &seal).unwrap().to_vec()).unwrap().contains(CANARY));
    }
    // Where nothing can be sealed, nothing secret is taken.
    cluster.restart(|settings| settings.secret_keys_file = None).await;
    let refused = cluster.refused("NotificationService/SetNotificationConfig", config(&url)).await;
    assert_eq!(refused.1, "SECRETS_OFF");
}
