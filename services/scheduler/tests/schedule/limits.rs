//! Limits, within a pipeline and across pipelines and engines.

use crate::cluster::{Node, WAIT, World, block};
use domain::id::SchedulerId;
use proto::internal::v1 as pb;
use scheduler::{
    calls::{Calls, Waits},
    changes::Changes,
    engine::Message,
    orders::Orders,
    owners::Owners,
};
use serde_json::json;
use testkit::wait_for;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_limit_holds_over_two_engines_and_room_is_used_at_once() {
    const LIMIT: usize = 3;
    const RUNS: usize = 24;
    let world = World::new().await;
    world.limit("workspace", 3).await;
    let (mut a, mut b) = (world.node(0..128, 10).await, world.node(128..256, 10).await);
    for n in 0..RUNS {
        let shard = if n % 3 == 0 { 200 } else { u8::try_from(n).unwrap() };
        let pipeline = world.deploy(&format!("p{n}"), shard, json!({ "blocks": [block("a", &[])] })).await;
        let node = if shard < 128 { &a } else { &b };
        node.create(pipeline, "k").await;
    }
    for done in 0..RUNS {
        let expected = LIMIT.min(RUNS - done);
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            a.look().await;
            b.look().await;
            let running = a.running.len() + b.running.len();
            assert!(running <= LIMIT, "{running} run at once");
            if running == expected {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{running} of {expected} run");
            tokio::task::yield_now().await;
        }
        if a.running.is_empty() || (!b.running.is_empty() && done % 2 == 0) {
            b.complete(0).await;
        } else {
            a.complete(0).await;
        }
    }
    wait_for("idle permits to go back", WAIT, || async {
        (world.count("SELECT sum(used) + (SELECT sum(held) FROM limit_hold) FROM limit_pool").await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_there_before_takes_no_place_from_those_that_wait() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let concurrency = json!({ "pipeline_run_limit": 1 });
    let spec = json!({ "blocks": [block("a", &[])], "concurrency": concurrency });
    let pipeline = world.deploy("p", 3, spec).await;
    let first = node.create(pipeline, "known").await;
    node.until_running(1).await;
    node.complete(0).await;
    world.until(first, "completed").await;
    // In memory the first of them takes the only place, until the database says that its run was made long ago.
    let both = ["known", "new"].map(|key| Node::creation(pipeline, key, &json!({})));
    let created = node.create_all(both.to_vec()).await.unwrap();
    assert_eq!(created[0].run(), Some(first));
    node.until_running(1).await;
    node.complete(0).await;
    world.until(created[1].run().unwrap(), "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_counts_for_itself_and_an_expression_for_each_value() {
    let world = World::new().await;
    world.limit("warehouse", 1).await;
    world.limit("tenant:*", 1).await;
    let mut node = world.node(0..256, 10).await;
    let mut keyed = block("load", &[]);
    keyed["limits"] = json!(["warehouse"]);
    let pipeline = world.deploy("keyed", 7, json!({ "blocks": [keyed, block("free", &[])] })).await;
    node.create(pipeline, "1").await;
    node.create(pipeline, "2").await;
    node.until_running(3).await;
    node.settle().await;
    node.look().await;
    let blocks = |node: &crate::cluster::Node| {
        let mut names: Vec<_> = node.running.iter().map(|a| a.attempt.clone().unwrap().block).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(blocks(&node), ["free", "free", "load"]);
    let load = node.running.iter().position(|a| a.attempt.as_ref().unwrap().block == "load").unwrap();
    node.complete(load).await;
    node.until_running(3).await;
    assert_eq!(blocks(&node), ["free", "free", "load"], "the other run's block got the permit");

    let mut of_tenant = block("a", &[]);
    of_tenant["limits"] = json!(["tenant:{{ customer }}"]);
    let tenants = world.deploy("tenants", 9, json!({ "blocks": [of_tenant] })).await;
    for (key, customer) in [("1", "acme"), ("2", "acme"), ("3", "other")] {
        node.create_with(tenants, key, json!({ "customer": customer })).await;
    }
    node.until_running(5).await;
    node.settle().await;
    node.look().await;
    assert_eq!(node.running.len(), 5, "acme's second run waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_more_exact_limit_takes_over_what_runs() {
    let world = World::new().await;
    world.limit("tenant:*", 1).await;
    let mut node = world.node(0..256, 10).await;
    let mut of_tenant = block("a", &[]);
    of_tenant["limits"] = json!(["tenant:{{ customer }}"]);
    let tenants = world.deploy("tenants", 9, json!({ "blocks": [of_tenant] })).await;
    for key in ["1", "2", "3", "4"] {
        node.create_with(tenants, key, json!({ "customer": "acme" })).await;
    }
    node.until_running(1).await;
    world.limit("tenant:acme", 2).await;
    node.until_running(2).await;
    node.settle().await;
    node.look().await;
    let used = "SELECT used::bigint FROM limit_pool WHERE key = 'tenant:acme'";
    assert_eq!((node.running.len(), world.count(used).await), (2, 2), "what ran before counts");
    let free = world.deploy("free", 7, json!({ "blocks": [block("a", &[])] })).await;
    node.create(free, "k").await;
    node.until_running(3).await;
    node.complete(2).await;
    node.complete(0).await;
    node.until_running(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_variable_and_no_pool_keeps_the_others_from_starting() {
    let world = World::new().await;
    world.limit("*", 3).await;
    let mut node = world.node(0..256, 10).await;
    let mut of_tenant = block("a", &[]);
    of_tenant["limits"] = json!(["{{ customer }}"]);
    let tenants = world.deploy("tenants", 9, json!({ "blocks": [of_tenant] })).await;
    node.create_with(tenants, "nul", json!({ "customer": "a\u{0}b" })).await;
    node.until_running(1).await;
    // The pattern fits this key too; a unit has a permit of the workspace in any case.
    node.create_with(tenants, "workspace", json!({ "customer": "workspace" })).await;
    node.until_running(2).await;
    // Whatever it may be that the database refuses of one pool.
    world.execute("ALTER TABLE limit_hold ADD CONSTRAINT refused CHECK (key <> 'refused')").await;
    let waits = node.create_with(tenants, "refused", json!({ "customer": "refused" })).await;
    for key in ["other", "another"] {
        node.create_with(tenants, key, json!({ "customer": key })).await;
    }
    node.until_running(4).await;
    node.settle().await;
    node.look().await;
    assert_eq!((node.running.len(), world.status(waits).await.as_str()), (4, "running"));
    world.execute("ALTER TABLE limit_hold DROP CONSTRAINT refused").await;
    node.until_running(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_done_is_forgotten_and_limits_again_when_it_comes_back() {
    let world = World::new().await;
    world.limit("order:*", 1).await;
    let mut node = world.node(0..256, 10).await;
    let mut of_order = block("a", &[]);
    of_order["limits"] = json!(["order:{{ order }}"]);
    let pipeline = world.deploy("orders", 9, json!({ "blocks": [of_order] })).await;
    for order in 0..5 {
        node.create_with(pipeline, &format!("first {order}"), json!({ "order": order })).await;
    }
    node.until_running(5).await;
    wait_for("their pools", WAIT, || async { (node.metrics.permit_pools.get() == 6).then_some(()) }).await;
    for _ in 0..5 {
        node.complete(0).await;
    }
    wait_for("idle pools to be forgotten", WAIT, || async { (node.metrics.permit_pools.get() == 0).then_some(()) })
        .await;
    let rows = "SELECT (SELECT count(*) FROM limit_pool WHERE key LIKE 'order:%')
                     + (SELECT count(*) FROM limit_hold WHERE key LIKE 'order:%')";
    assert_eq!(world.count(rows).await, 10);
    assert_eq!(store::permits::forget_idle(&world.store, 100).await.unwrap(), 5);
    assert_eq!(world.count(rows).await, 0);
    for key in ["second", "third"] {
        node.create_with(pipeline, key, json!({ "order": 3 })).await;
    }
    node.until_running(1).await;
    node.settle().await;
    node.look().await;
    assert_eq!(node.running.len(), 1, "the third one waits");
    node.complete(0).await;
    node.until_running(1).await;
    node.complete(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_for_a_run_goes_on_when_there_is_a_permit_again() {
    let world = World::new().await;
    world.limit("workspace", 1).await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    node.create(pipeline, "parent").await;
    node.until_running(1).await;
    let parent = node.attempt(0);
    node.hold(&parent, false).await;
    // The run that it waits for, and two that came in between: each has the only permit in its turn.
    for key in ["child", "other", "later"] {
        node.create(pipeline, key).await;
    }
    node.until_running(2).await;
    node.complete(1).await;
    node.until_running(2).await;
    let resume = async |node: &Node| node.ask(|reply| Message::Resume(parent.clone(), reply)).await.unwrap();
    assert!(!resume(&node).await, "somebody else has the permit");
    assert_eq!(world.count("SELECT sum(used) FROM limit_pool").await, 1);
    let (reply, resumed) = tokio::sync::oneshot::channel();
    node.engine.send(Message::Resume(parent.clone(), reply)).await.unwrap();
    node.complete(1).await;
    assert!(resumed.await.unwrap().unwrap(), "it comes before what is new");
    node.hold(&parent, true).await;
    assert!(resume(&node).await, "asking twice takes one permit");
    node.settle().await;
    node.look().await;
    assert_eq!((node.running.len(), world.count("SELECT sum(used) FROM limit_pool").await), (1, 1));
    node.complete(0).await;
    node.until_running(1).await;
    // One that is over needs none.
    assert!(resume(&node).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_on_the_only_slot_goes_on_when_its_time_is_over() {
    let world = World::new().await;
    let mut node = world.node(0..256, 1).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    node.create(pipeline, "parent").await;
    node.until_running(1).await;
    let parent = node.attempt(0);
    let child = node.create(pipeline, "child").await;
    node.settle().await;
    node.look().await;
    assert_eq!(node.running.len(), 1, "there is one slot");
    node.hold(&parent, false).await;
    node.until_running(2).await;
    let orders = Orders::new(node.engine.clone(), Owners::new(world.store.clone(), SchedulerId(Uuid::now_v7()), None));
    let calls = Calls::new(world.store.clone(), orders, Changes::default(), None, false);
    let wait = async |timeout_s: f64| {
        let arguments = json!({ "run_id": child, "timeout_s": timeout_s }).to_string();
        let attempt = Some(parent.to_proto());
        let (outbox, mut inbox) = tokio::sync::mpsc::channel(1);
        calls.answer(
            pb::RunnerCall { call_id: 1, attempt, method: "wait_run".to_owned(), arguments },
            outbox,
            &Waits::on(1),
        );
        let answer = tokio::time::timeout(WAIT, inbox.recv()).await.expect("an answer in time").unwrap();
        let Some(pb::session_response::Message::RunnerReply(reply)) = answer.message else { panic!("a reply") };
        assert_eq!(reply.error, "");
        serde_json::from_str::<serde_json::Value>(&reply.result).unwrap()["status"].take()
    };
    assert_eq!(wait(0.2).await, "running");
    node.complete(1).await;
    assert_eq!(wait(f64::MAX).await, "completed", "a time without an end is no limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_counts_what_runs_and_nothing_twice() {
    let world = World::new().await;
    world.limit("workspace", 2).await;
    let mut first = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    for key in ["1", "2", "3"] {
        first.create(pipeline, key).await;
    }
    first.until_running(2).await;
    first.kill();
    let mut second = world.node(0..256, 10).await;
    second.adopt(first, 10).await;
    second.settle().await;
    second.look().await;
    assert_eq!(second.running.len(), 2, "the third run waits for one of the two that go on");
    second.complete(0).await;
    second.until_running(2).await;
    assert_eq!(world.count("SELECT sum(used) FROM limit_pool").await, 2);
    second.complete(0).await;
    second.complete(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_lets_nobody_go_on_who_only_seemed_to_run() {
    let world = World::new().await;
    world.limit("workspace", 1).await;
    let mut first = world.node(0..256, 10).await;
    // In shards of their own, so that a permit that is left over in one of them would not be missed in the other.
    let parents = world.deploy("parents", 3, json!({ "blocks": [block("a", &[])] })).await;
    let children = world.deploy("children", 7, json!({ "blocks": [block("a", &[])] })).await;
    first.create(parents, "parent").await;
    first.until_running(1).await;
    let parent = first.attempt(0);
    first.hold(&parent, false).await;
    first.create(children, "child").await;
    first.until_running(2).await;
    first.kill();
    let mut second = world.node(0..256, 10).await;
    second.adopt(first, 10).await;
    let resume = async |node: &Node| node.ask(|reply| Message::Resume(parent.clone(), reply)).await.unwrap();
    assert!(!resume(&second).await, "the child has the only permit, though both were found running");
    // Its executor says as well that it waits: there is still none for anybody else of its shard.
    second.hold(&parent, false).await;
    second.create(parents, "other").await;
    second.settle().await;
    second.look().await;
    assert_eq!((second.running.len(), world.count("SELECT sum(used) FROM limit_pool").await), (2, 1));
    // With the child's end there is one, and who has waited comes first.
    let (reply, resumed) = tokio::sync::oneshot::channel();
    second.engine.send(Message::Resume(parent.clone(), reply)).await.unwrap();
    second.complete(1).await;
    assert!(resumed.await.unwrap().unwrap());
    second.hold(&parent, true).await;
    second.settle().await;
    second.look().await;
    assert_eq!((second.running.len(), world.count("SELECT sum(used) FROM limit_pool").await), (1, 1));
    second.complete(0).await;
    second.until_running(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_over_the_pipelines_limit_wait_in_order_retries_too() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let concurrency = json!({ "pipeline_run_limit": 1 });
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])], "concurrency": concurrency })).await;
    let (first, second, third) =
        (node.create(pipeline, "1").await, node.create(pipeline, "2").await, node.create(pipeline, "3").await);
    node.until_running(1).await;
    assert_eq!((world.status(second).await, world.status(third).await), ("initial".into(), "initial".into()));
    node.fail(0).await;
    world.until(first, "failed").await;
    world.until(second, "running").await;
    node.retry(first).await;
    assert_eq!(world.status(first).await, "initial", "a retry waits like a new run");
    node.cancel(third).await;
    world.until(third, "cancelled").await;
    node.until_running(1).await;
    node.complete(0).await;
    world.until(second, "completed").await;
    node.until_running(1).await;
    node.complete(0).await;
    world.until(first, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_over_the_limit_is_cancelled_where_the_pipeline_skips() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let concurrency = json!({ "pipeline_run_limit_all_triggers": 1, "on_limit": "skip" });
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])], "concurrency": concurrency })).await;
    let first = node.create(pipeline, "1").await;
    let second = node.create(pipeline, "2").await;
    assert_eq!(world.status(second).await, "cancelled");
    node.until_running(1).await;
    node.complete(0).await;
    world.until(first, "completed").await;
    let third = node.create(pipeline, "3").await;
    assert_eq!(world.status(third).await, "running");
}
