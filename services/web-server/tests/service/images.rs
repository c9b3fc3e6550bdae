//! Images of runtimes: what the tag of one names, who says so, and what of it runs.

use crate::runtimes::world;
use serde_json::json;
use std::collections::VecDeque;
use std::io::{BufRead as _, Write as _};
use std::sync::{Arc, Mutex};

/// Digests: each answers once, the last one from then on.
type Contents = Arc<Mutex<VecDeque<String>>>;

/// A registry in which `lab/jupyter:4` and `:6` are this content.
fn registry(digest: &str) -> (String, Contents) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let contents = Contents::new(Mutex::new([digest.to_owned()].into()));
    let answers = Arc::clone(&contents);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut asked, mut line) = (String::new(), String::new());
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut asked).unwrap();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let known =
                ["4 ", "6 "].iter().any(|tag| asked.starts_with(&format!("HEAD /v2/lab/jupyter/manifests/{tag}")));
            let mut answers = answers.lock().unwrap();
            let digest = if known && answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            let status = match digest.filter(|_| known) {
                Some(digest) => format!("200 OK\r\nDocker-Content-Digest: {digest}"),
                None => "404 Not Found".to_owned(),
            };
            write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    (address, contents)
}

#[tokio::test]
async fn what_runs_is_the_content_that_a_tag_named_at_the_start() {
    let digest = format!("sha256:{}", "5e".repeat(32));
    let (address, contents) = registry(&digest);
    let (mut cluster, ada) = world().await;
    cluster.restart(|settings| settings.image_registries = vec![format!("registry.lab=http://{address}")]).await;
    let set = |image: &str| json!({ "workspace": "lab", "spec": { "image": image } });
    let policy = json!({ "images": [format!("registry.lab/lab/jupyter@{digest}")] });
    cluster.call("PolicyService/SetProjectPolicy", json!({ "project": "acme", "policy": policy })).await;
    for (image, refusal) in [
        ("registry.lab/lab/jupyter:5", "IMAGE_NOT_FOUND"),
        // Nobody asks a registry that the operator did not name.
        ("other.lab/lab/jupyter:4", "IMAGE_NOT_ALLOWED"),
    ] {
        assert_eq!(cluster.refused_as(&ada, "RuntimeService/SetRuntimeSpec", set(image)).await, refusal, "{image}");
    }
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set("registry.lab/lab/jupyter:4")).await;
    let lab = json!({ "workspace": "lab" });
    let client = cluster.database.client().await;
    let runs = async || -> String { client.query_one("SELECT spec->>'image' FROM runtime", &[]).await.unwrap().get(0) };
    // Whoever owns the tag moves it as soon as somebody has asked: what was asked about is what runs.
    let moves = || *contents.lock().unwrap() = [digest.clone(), format!("sha256:{}", "bad0".repeat(16))].into();
    moves();
    cluster.call_as(&ada, "RuntimeService/StartRuntime", lab.clone()).await;
    assert_eq!(runs().await, format!("registry.lab/lab/jupyter:4@{digest}"));
    moves();
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set("registry.lab/lab/jupyter:6")).await;
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/RestartRuntime", lab.clone()).await, "IMAGE_NOT_ALLOWED");
    moves();
    cluster.call_as(&ada, "RuntimeService/RestartRuntime", lab.clone()).await;
    assert_eq!(runs().await, format!("registry.lab/lab/jupyter:6@{digest}"));
    // By now only the tag is allowed, which named that content: another queue changes nothing of it.
    let policy = json!({ "images": ["registry.lab/lab/jupyter:6"] });
    let policy = json!({ "project": "acme", "policy": policy });
    cluster.call("PolicyService/SetProjectPolicy", policy).await;
    let default = json!({ "workspace": "lab", "queue": "default" });
    cluster.call_as(&ada, "RuntimeService/SwitchQueue", default).await;
    cluster.call_as(&ada, "RuntimeService/StopRuntime", lab.clone()).await;
    contents.lock().unwrap().clear();
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/StartRuntime", lab).await, "IMAGE_NOT_FOUND");
}

#[tokio::test]
async fn an_entry_that_no_image_could_be_is_refused() {
    let (cluster, _) = world().await;
    let method = "PolicyService/SetProjectPolicy";
    let set = |images: serde_json::Value| json!({ "project": "acme", "policy": { "images": images } });
    assert_eq!(cluster.refused(method, set(json!(["https://ghcr.io/lab/*"]))).await.1, "INVALID_FIELD");
    // What was set before is not what is edited.
    let old = "INSERT INTO project_policy (project_id, images) SELECT id, '{Lab/x}' FROM project WHERE name = 'acme'
               ON CONFLICT (project_id) DO UPDATE SET images = excluded.images";
    cluster.database.client().await.batch_execute(old).await.unwrap();
    cluster.call(method, set(json!(["Lab/x", "lab/*"]))).await;
    assert_eq!(cluster.refused(method, set(json!(["Lab/x", "Lab/y"]))).await.1, "INVALID_FIELD");
}

#[tokio::test]
async fn a_registry_that_does_not_answer_holds_no_connection_of_the_database() {
    let (mut cluster, ada) = world().await;
    let registry = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = registry.local_addr().unwrap();
    let mut connections = 0;
    let change = |settings: &mut web_server::settings::Settings| {
        settings.image_registries = vec![format!("slow.lab=http://{address}")];
        connections = settings.database_connections;
    };
    cluster.restart(change).await;
    let policy = json!({ "project": "acme", "policy": { "images": ["known"] } });
    cluster.call("PolicyService/SetProjectPolicy", policy).await;
    let set = json!({ "workspace": "lab", "spec": { "image": "slow.lab/lab/jupyter:4" } });
    let all = (0..connections).map(|_| cluster.post_as(&ada, "RuntimeService/SetRuntimeSpec", set.clone()));
    let meanwhile = async {
        let mut asked = Vec::new();
        for _ in 0..connections {
            asked.push(registry.accept().await.unwrap());
        }
        cluster.call_as(&ada, "RuntimeService/ListRuntimes", json!({})).await
    };
    tokio::select! {
        _ = futures_util::future::join_all(all) => panic!("the registry has answered nothing"),
        listed = meanwhile => assert_eq!(listed["runtimes"], json!([])),
    }
}
