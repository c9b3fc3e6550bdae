//! Whoever wants a run, one admission: every limit at once, judged by the database at each of its commits, which sees
//! neither the engines' memory nor what executors were told.

use crate::{
    cluster::{Node, WAIT, World, block},
    times::noon,
};
use domain::{
    backfill::{Length, Order, Unit},
    id::{PipelineId, RunId},
    trigger::{Kind, Overlap, Schedule, Spec},
    unit::Outcome,
};
use jiff::Timestamp;
use proto::internal::v1 as pb;
use scheduler::engine::CreateBackfill;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What runs, counted after each statement that writes runs or blocks, and the waiting runs that no limit keeps waiting.
const WITNESS: &str = "
    CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY, what text NOT NULL, n bigint NOT NULL, ended bigint NOT NULL);
    CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO seen (what, n, ended)
        WITH running AS (
            SELECT r.*, p.name, coalesce(r.backfill_id, r.trigger_id) AS source
            FROM run r JOIN pipeline p ON p.id = r.pipeline_id WHERE r.status = 'running'
        ), blocks AS (
            SELECT b.run_id, b.block, p.name FROM block_run b
            JOIN run r ON r.id = b.run_id JOIN pipeline p ON p.id = r.pipeline_id WHERE b.status = 'running'
        ), counted (what, n) AS (
            SELECT 'workspace', count(*) FROM blocks
            UNION ALL SELECT 'warehouse', count(*) FROM blocks WHERE block = 'load'
            UNION ALL SELECT 'blocks of a run of ' || name, count(*) FROM blocks GROUP BY name, run_id
            UNION ALL SELECT 'runs of ' || name, count(*) FROM running GROUP BY name
            UNION ALL SELECT 'runs of a trigger of ' || name, count(*) FROM running WHERE backfill_id IS NULL GROUP BY name, source
            UNION ALL SELECT 'runs of a backfill of ' || name, count(*) FROM running WHERE backfill_id IS NOT NULL GROUP BY name, source
            UNION ALL SELECT 'waits in vain', count(*) FROM run w JOIN pipeline p ON p.id = w.pipeline_id
                WHERE w.status = 'initial' AND (SELECT count(*) FROM running r WHERE r.pipeline_id = w.pipeline_id) < 5
                  AND (SELECT count(*) FROM running r WHERE r.source = coalesce(w.backfill_id, w.trigger_id)) < 2
        )
        SELECT what, n, (SELECT count(*) FROM block_run WHERE completed_at IS NOT NULL) FROM counted;
        RETURN NULL;
    END $$;
    CREATE TRIGGER witness AFTER INSERT OR UPDATE ON run FOR EACH STATEMENT EXECUTE FUNCTION witness();
    CREATE TRIGGER witness AFTER INSERT OR UPDATE ON block_run FOR EACH STATEMENT EXECUTE FUNCTION witness();
";

impl World {
    async fn witness(&self) {
        self.database.client().await.batch_execute(WITNESS).await.unwrap();
    }

    /// The most that ever ran at once, by what was counted.
    async fn most(&self) -> BTreeMap<String, i64> {
        let rows =
            self.database.client().await.query("SELECT what, max(n) FROM seen GROUP BY what", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn failed(&self) -> BTreeSet<RunId> {
        let failed = "SELECT id FROM run WHERE status = 'failed'";
        let rows = self.database.client().await.query(failed, &[]).await.unwrap();
        rows.iter().map(|row| RunId(row.get(0))).collect()
    }
}

/// A pipeline with a limit of each kind: two blocks of a run, two runs of a trigger, five in all.
async fn narrow(world: &World, name: &str, shard: u8) -> PipelineId {
    let mut load = block("load", &[]);
    load["limits"] = json!(["warehouse"]);
    let concurrency = json!({ "block_run_limit": 2, "pipeline_run_limit": 2, "pipeline_run_limit_all_triggers": 5 });
    let blocks = json!([block("a", &[]), block("b", &[]), load]);
    let pipeline = world.deploy(name, shard, json!({ "blocks": blocks, "concurrency": concurrency })).await;
    // Each fires once, for the day that it is.
    let schedule = Schedule { every: "@daily".to_owned(), zone: noon(Timestamp::now()), start: None, end: None };
    let daily = Spec { create_initial_run: true, ..Spec::new(Kind::Schedule(schedule)) };
    for n in 0..3 {
        world.trigger(pipeline, &format!("daily {n}"), &daily).await;
    }
    pipeline
}

/// A run by an API trigger, a person, a run and a backfill, several of each.
async fn start_by_everybody(world: &World, node: &Node, pipeline: PipelineId) {
    let called = Spec { overlap: Overlap::AllowAll, ..Spec::new(Kind::Api) };
    let called = world.trigger(pipeline, "called", &called).await;
    let backfill = store::backfills::Spec {
        name: "days".to_owned(),
        start_at: "2024-03-01T00:00:00Z".parse().unwrap(),
        end_at: "2024-03-06T00:00:00Z".parse().unwrap(),
        length: Length::Units(Unit::Day, 1),
        time_zone: "UTC".to_owned(),
        order: Order::Ascending,
        parallelism: 3,
        variables: json!({}),
        allow_blocks_to_fail: false,
    };
    node.backfill(CreateBackfill::new(pipeline, backfill).unwrap()).await.unwrap();
    let parent = node.create(pipeline, "parent").await;
    for n in 0..4 {
        node.offer(pipeline, (called, 1), &format!("call {n}"), json!({})).await.unwrap();
        node.create(pipeline, &format!("person {n}")).await;
        node.create_child(pipeline, &format!("child {n}"), parent).await;
    }
}

/// Which runs had a block fail, so far, and were retried.
#[derive(Default)]
struct Story {
    known: BTreeSet<RunId>,
    to_fail: BTreeSet<RunId>,
    retried: BTreeSet<RunId>,
    ends: usize,
}

impl Story {
    /// One attempt ends: it was told to stop, it is the first `a` of each fourth run, which fails, or it completes.
    async fn end_one(&mut self, node: &mut Node) {
        self.ends += 1;
        let at = self.ends * 7_919 % node.running.len();
        let attempt = node.attempt(at);
        if self.known.insert(attempt.run) && self.known.len().is_multiple_of(4) {
            self.to_fail.insert(attempt.run);
        }
        let was_stopped = |stop: &pb::Cancel| stop.attempts.contains(&attempt.to_proto());
        if node.stops.iter().any(was_stopped) {
            node.end(at, Outcome::Cancelled).await;
        } else if attempt.block == "a" && self.to_fail.remove(&attempt.run) {
            node.fail(at).await;
        } else {
            node.complete(at).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_holds_at_each_commit_whoever_starts_what_on_two_engines() {
    let world = World::new().await;
    world.witness().await;
    world.limit("warehouse", 2).await;
    let pipelines = [narrow(&world, "p", 3).await, narrow(&world, "q", 200).await];
    let wide: Vec<_> = (0..30).map(|n| block(&format!("w{n}"), &[])).collect();
    let wide = [
        world.deploy("v", 5, json!({ "blocks": wide })).await,
        world.deploy("w", 210, json!({ "blocks": wide })).await,
    ];
    let concurrency = json!({ "pipeline_run_limit_all_triggers": 1, "on_limit": "skip" });
    let picky = json!({ "blocks": [block("a", &[])], "concurrency": concurrency });
    let picky = [world.deploy("r", 7, picky.clone()).await, world.deploy("s", 220, picky).await];
    let mut nodes = [world.node(0..128, 64).await, world.node(128..256, 64).await];
    for (at, node) in nodes.iter().enumerate() {
        node.create(wide[at], "wide").await;
        for n in 0..3 {
            node.create(picky[at], &format!("{n}")).await;
        }
        start_by_everybody(&world, node, pipelines[at]).await;
    }
    let mut story = Story::default();
    let deadline = tokio::time::Instant::now() + 6 * WAIT;
    loop {
        for node in &mut nodes {
            node.settle().await;
            node.look().await;
        }
        // Of those that were retried none fails again.
        for run in world.failed().await {
            assert!(story.retried.insert(run), "{run} failed twice");
            nodes[usize::from(run.shard() >= 128)].retry(run).await;
        }
        for node in nodes.iter_mut().filter(|node| !node.running.is_empty()) {
            story.end_one(node).await;
        }
        let idle = nodes.iter().all(|node| node.running.is_empty());
        if idle && world.count("SELECT count(*) FROM run WHERE completed_at IS NULL").await == 0 {
            let unfinished = "SELECT count(*) FROM backfill WHERE status <> 'completed'";
            if world.failed().await.is_empty() && world.count(unfinished).await == 0 {
                break;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "{:?}", world.most().await);
    }
    let most = world.most().await;
    let expected = [
        ("workspace", 20),
        ("warehouse", 2),
        ("blocks of a run of p", 2),
        ("blocks of a run of q", 2),
        ("runs of p", 5),
        ("runs of q", 5),
        ("runs of a trigger of p", 2),
        ("runs of a trigger of q", 2),
        ("runs of a backfill of p", 2),
        ("runs of a backfill of q", 2),
        ("runs of r", 1),
        ("runs of s", 1),
        ("waits in vain", 0),
    ];
    for (what, limit) in expected {
        assert_eq!(most.get(what), Some(&limit), "{what}: {most:?}");
    }
    // 3 days, 4 calls, 5 by people, 4 of a run, 6 of a backfill, for each of the two; what was skipped is cancelled.
    let ended = |status: &str| format!("SELECT count(*) FROM run WHERE status = '{status}'");
    assert_eq!(world.count(&ended("completed")).await, 2 * (3 + 4 + 5 + 4 + 6) + 2 + 2);
    assert_eq!(world.count(&ended("cancelled")).await, 4);
    assert!(story.retried.len() >= 8, "{} retries", story.retried.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_that_comes_back_is_used_in_the_same_commit_also_by_another_shard() {
    const LIMIT: usize = 20;
    const UNITS: usize = 90;
    let world = World::new().await;
    world.witness().await;
    let mut node = world.node(0..256, 64).await;
    let wide: Vec<_> = (0..UNITS / 3).map(|n| block(&format!("w{n}"), &[])).collect();
    for (name, shard) in [("u", 3), ("v", 90), ("w", 200)] {
        let pipeline = world.deploy(name, shard, json!({ "blocks": wide })).await;
        node.create(pipeline, "k").await;
    }
    for done in 0..UNITS {
        node.until_running((UNITS - done).min(LIMIT)).await;
        node.complete(done * 7_919 % node.running.len()).await;
    }
    node.settle().await;
    let wrong = async |condition: String| {
        let found = format!("SELECT count(*) FROM seen WHERE what = 'workspace' AND {condition}");
        world.count(&found).await
    };
    let room = format!("least({LIMIT}, {UNITS} - ended)");
    assert_eq!(wrong(format!("n > {room}")).await, 0, "more ran than may");
    let full = format!("(SELECT min(id) FROM seen WHERE what = 'workspace' AND n = {LIMIT})");
    let left = wrong(format!("n < {room} AND id > {full}")).await;
    assert_eq!(left, 0, "a permit was left unused by the commit that freed it");
}
