//! Global data products: of all who ask at once, one refreshes.

use crate::cluster::{Node, WAIT, World, block};
use domain::id::SchedulerId;
use futures_util::future::join_all;
use proto::internal::v1 as pb;
use scheduler::{
    calls::{Calls, Waits},
    changes::Changes,
    orders::Orders,
    owners::Owners,
    wire::AttemptId,
};
use serde_json::{Value, json};
use uuid::Uuid;

const ASKERS: usize = 8;
const HOUR: f64 = 3_600.0;

/// What a block is told that wants the product of `core`, which is out of date after so many seconds.
async fn ask(calls: &Calls, asker: &AttemptId, outdated_after_s: f64) -> Value {
    ask_for(calls, asker, json!({ "outdated_after_s": outdated_after_s })).await
}

async fn ask_for(calls: &Calls, asker: &AttemptId, product: Value) -> Value {
    let arguments = json!({ "pipeline_uuid": "core", "key": "1", "product": product }).to_string();
    let (outbox, mut inbox) = tokio::sync::mpsc::channel(1);
    let (attempt, method) = (Some(asker.to_proto()), "trigger_pipeline".to_owned());
    calls.answer(pb::RunnerCall { call_id: 1, attempt, method, arguments }, outbox, &Waits::on(1));
    let answer = tokio::time::timeout(WAIT, inbox.recv()).await.expect("an answer in time").unwrap();
    let Some(pb::session_response::Message::RunnerReply(reply)) = answer.message else { panic!("a reply") };
    assert_eq!(reply.error, "");
    serde_json::from_str(&reply.result).unwrap()
}

/// Where the refresh that runs now is among what runs.
fn refresh(node: &Node) -> usize {
    let of_core = |at: &usize| node.running[*at].attempt.as_ref().is_some_and(|attempt| attempt.block == "core");
    (0..node.running.len()).find(of_core).expect("a refresh runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_who_find_a_product_out_of_date_at_once_one_refreshes_it() {
    let world = World::new().await;
    let mut node = world.node(0..256, 20).await;
    world.deploy("core", 9, json!({ "blocks": [block("core", &[])] })).await;
    let users = world.deploy("users", 3, json!({ "blocks": [block("use", &[])] })).await;
    for n in 0..ASKERS {
        node.create(users, &n.to_string()).await;
    }
    node.until_running(ASKERS).await;
    let askers: Vec<AttemptId> = (0..ASKERS).map(|at| node.attempt(at)).collect();
    let orders = Orders::new(node.engine.clone(), Owners::new(world.store.clone(), SchedulerId(Uuid::now_v7()), None));
    let calls = Calls::new(world.store.clone(), orders, Changes::default(), None, false);
    let all_ask = async |outdated_after_s: f64| {
        let answers = join_all(askers.iter().map(|asker| ask(&calls, asker, outdated_after_s))).await;
        assert!(answers.iter().all(|answer| answer["run_id"] == answers[0]["run_id"]), "{answers:?}");
        answers[0]["run_id"].clone()
    };
    let refreshes =
        async || world.count("SELECT count(*) FROM firing WHERE starts_with(logical_key, 'product:')").await;

    let first = all_ask(HOUR).await;
    assert_eq!((first.is_string(), refreshes().await), (true, 1));
    node.until_running(ASKERS + 1).await;
    assert_eq!(all_ask(HOUR).await, first, "while it is under way, who comes later waits for it too");
    assert_eq!(all_ask(0.0).await, first, "even one for whom nothing is ever young enough");
    let at = refresh(&node);
    node.fail(at).await;
    world.until(first.as_str().unwrap().parse().unwrap(), "failed").await;

    let second = all_ask(HOUR).await;
    assert!(second.is_string() && second != first, "a refresh that failed refreshed nothing");
    node.until_running(ASKERS + 1).await;
    let at = refresh(&node);
    node.complete(at).await;
    world.until(second.as_str().unwrap().parse().unwrap(), "completed").await;
    assert_eq!((all_ask(HOUR).await, refreshes().await), (Value::Null, 2), "it is fresh");
    let never = |seconds: f64| json!({ "outdated_after_s": seconds, "outdated_starting_at": { "month_of_year": 13 } });
    let early = ask_for(&calls, &askers[0], never(0.0)).await;
    assert_eq!(
        (&early["run_id"], refreshes().await),
        (&Value::Null, 2),
        "its moment has not come, so what there is serves"
    );
    let moment =
        json!({ "outdated_after_s": 0.0, "outdated_starting_at": { "month_of_year": 1, "hour_of_day": null } });
    assert!(ask_for(&calls, &askers[0], moment).await["run_id"].is_string());
    assert!(all_ask(0.0).await.is_string());
    assert_eq!(refreshes().await, 3);
    // Where there is nothing, no moment is waited for.
    let client = world.database.client().await;
    client.execute("UPDATE run SET outputs_expired_at = now() WHERE status = 'completed'", &[]).await.unwrap();
    let nothing = ask_for(&calls, &askers[0], never(HOUR)).await;
    assert!(nothing["run_id"].is_string(), "{nothing}");
}
