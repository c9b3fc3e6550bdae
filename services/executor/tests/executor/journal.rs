//! The journal: what an executor tells of itself, whatever schedulers believe.

use crate::{
    scheduler::SOON,
    world::{World, assignment, attempt, block, of},
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_history_file_tells_of_every_attempt_and_of_what_counted() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("history.jsonl");
    let code = "@data_loader\ndef load(*args, **kwargs):\n    return 1\n";
    let mut world = World::with(&[("python", code)], |settings| settings.history_file = Some(path.clone())).await;
    let pipeline = of(vec![block("noop", json!({ "executor_type": "noop" })), block("python", json!({}))]);
    let mut session = world.session(&pipeline).await;
    for name in ["noop", "python"] {
        let attempt = attempt(name);
        session.assign(vec![assignment(&attempt)]).await;
        session.result().await;
        session.acknowledge(&attempt, name == "noop").await;
    }
    let told = testkit::wait_for("the last answer", SOON, async || {
        let text = std::fs::read_to_string(&path).unwrap();
        text.contains("\"accepted\":false").then_some(text)
    })
    .await;
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events = |block: &str| -> Vec<&str> {
        let of = lines.iter().filter(|line| line["attempt"].as_str().is_some_and(|name| name.contains(block)));
        of.map(|line| line["event"].as_str().unwrap()).collect()
    };
    assert_eq!((lines[0]["event"].as_str(), lines[0]["name"].as_str()), (Some("open"), Some("tested")));
    assert_eq!(events("/noop/"), ["assigned", "result", "ack"]);
    assert_eq!(events("/python/"), ["assigned", "start", "end", "result", "ack"]);
    let clocks: Vec<i64> = lines.iter().map(|line| line["mono_us"].as_i64().unwrap()).collect();
    assert!(clocks.is_sorted() && clocks[0] > 0, "{clocks:?}");
}
