//! What user code asks for while it runs: what a question costs.

use crate::cluster::{Node, WAIT, World, block};
use domain::id::SchedulerId;
use proto::internal::v1 as pb;
use scheduler::{calls::Calls, changes::Changes, orders::Orders, owners::Owners, wire::AttemptId};
use serde_json::{Value, json};
use uuid::Uuid;

fn calls(world: &World, node: &Node) -> Calls {
    let orders = Orders::new(node.engine.clone(), Owners::new(world.store.clone(), SchedulerId(Uuid::now_v7()), None));
    Calls::new(world.store.clone(), orders, Changes::default(), None, false)
}

async fn call(calls: &Calls, asker: &AttemptId, method: &str, arguments: Value) -> Value {
    let (outbox, mut inbox) = tokio::sync::mpsc::channel(1);
    let (attempt, method, arguments) = (Some(asker.to_proto()), method.to_owned(), arguments.to_string());
    calls.answer(pb::RunnerCall { call_id: 1, attempt, method, arguments }, outbox);
    let answer = tokio::time::timeout(WAIT, inbox.recv()).await.expect("an answer in time").unwrap();
    let Some(pb::session_response::Message::RunnerReply(reply)) = answer.message else { panic!("a reply") };
    assert_eq!(reply.error, "");
    serde_json::from_str(&reply.result).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_about_a_run_waits_for_none_of_its_units() {
    let world = World::new().await;
    let mut node = world.node(0..256, 20).await;
    let spec = json!({ "blocks": [block("parent", &[])], "variables": { "a": 1 } });
    let pipeline = world.deploy("parents", 3, spec).await;
    let run = node.create(pipeline, "k").await;
    node.until_running(1).await;
    node.settle().await;
    let (calls, asker) = (calls(&world, &node), node.attempt(0));
    let mut client = world.database.client().await;
    let nobody_reads = client.transaction().await.unwrap();
    nobody_reads.batch_execute("LOCK TABLE block_run IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let asked = json!({ "run_id": run, "timeout_s": 0, "pipeline_uuid": "parents" });
    for (method, field, expected) in [
        ("run_status", "status", json!("running")),
        ("wait_run", "status", json!("running")),
        ("global_variables", "a", json!(1)),
    ] {
        assert_eq!(call(&calls, &asker, method, asked.clone()).await[field], expected, "{method}");
    }
    nobody_reads.rollback().await.unwrap();
}
