//! The account of GPUs: each life counts once, from its grant until nothing of it is left, whoever writes that.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use domain::{
    device::Grant,
    id::{DeviceId, HolderId, NodeId, ProjectId, QueueId, UserId, WorkspaceId},
};
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use store::{
    Store,
    gpu_usage::{self, Asked, Used},
    ledger::{self, Act, Batch, Outcome, Placement, PlacementState},
    shards::Shard,
};
use testkit::Database;
use uuid::Uuid;

const SHARD: Shard = Shard { id: 7, epoch: 0 };
const POOL: &str = "default";
const NODE: NodeId = NodeId(Uuid::from_u128(1));
const DEVICE: DeviceId = DeviceId(Uuid::from_u128(2));
const DEFAULT: QueueId = QueueId(Uuid::nil());
const OTHER: QueueId = QueueId(Uuid::from_u128(3));
const PROJECT: ProjectId = ProjectId(Uuid::from_u128(4));
const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(5));
const ADA: UserId = UserId(Uuid::from_u128(6));
const HOUR_S: i64 = 3_600;

/// One node with one device, two queues, and Ada's workspace.
const SETUP: &str = "
    INSERT INTO pool (name, shard) VALUES ('default', 7);
    INSERT INTO node (id, pool, name, cpu_milli, memory_bytes) VALUES ('00000000-0000-0000-0000-000000000001', 'default', 'n', 9, 9);
    INSERT INTO device (id, node_id, name, class, model, memory_bytes, sharing)
    VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'g', 'shared', 'A10', 9, '\"exclusive\"');
    INSERT INTO queue (id, name) VALUES ('00000000-0000-0000-0000-000000000003', 'other');
    INSERT INTO project (id, name) VALUES ('00000000-0000-0000-0000-000000000004', 'acme');
    INSERT INTO workspace (id, name, project_id)
    VALUES ('00000000-0000-0000-0000-000000000005', 'lab', '00000000-0000-0000-0000-000000000004');
    INSERT INTO user_account (id, email) VALUES ('00000000-0000-0000-0000-000000000006', 'ada@example.org')";

struct World {
    database: Database,
    store: Store,
}

impl World {
    async fn new() -> Self {
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        let database = Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await;
        database.client().await.batch_execute(SETUP).await.unwrap();
        let store = Store::connect(database.url(), 4).await.unwrap();
        Self { database, store }
    }

    async fn commit(&self, epoch: i64, batch: Batch) -> Outcome {
        ledger::commit(&self.store, Shard { epoch, ..SHARD }, POOL, &batch).await.unwrap()
    }

    async fn place(&self, placement: Placement) {
        let act = Act { placements: vec![placement], lives: Vec::new(), events: Vec::new(), releasing: Vec::new() };
        let outcome = self.commit(0, Batch { acts: vec![act], ..Batch::default() }).await;
        assert!(matches!(&outcome, Outcome::Done(lost) if lost.is_empty()), "{outcome:?}");
    }

    /// As if the holders had got so long ago what they hold.
    async fn since(&self, hours: i32) {
        self.execute(&format!("UPDATE placement SET created_at = created_at - interval '{hours} hours'")).await;
    }

    async fn execute(&self, sql: &str) {
        self.database.client().await.batch_execute(sql).await.unwrap();
    }

    /// The account from `since` until `until`, by these words.
    async fn between(&self, since: Timestamp, until: Option<Timestamp>, by: &[&str]) -> Vec<Used> {
        let db = self.store.client().await.unwrap();
        gpu_usage::list(&db, &Asked { since, until, by, project: None, user: None }, &[], 100).await.unwrap()
    }

    /// The account of the last days.
    async fn account(&self, by: &[&str]) -> Vec<Used> {
        self.between(Timestamp::now() - SignedDuration::from_hours(72), None, by).await
    }

    async fn lines(&self) -> i64 {
        self.database.client().await.query_one("SELECT count(*) FROM gpu_usage", &[]).await.unwrap().get(0)
    }
}

fn placement(milli: u32, state: PlacementState) -> Placement {
    Placement {
        holder: HolderId(Uuid::now_v7()),
        node: NODE,
        project: PROJECT,
        person: None,
        workspace: None,
        queue: DEFAULT,
        state,
        cpu_milli: 1,
        memory_bytes: 1,
        effective_milli: u64::from(milli),
        storage_bytes: 0,
        model: "A10".into(),
        victims: Vec::new(),
        grants: vec![Grant { device: DEVICE, milli, memory_bytes: 1, slots: 0 }],
    }
}

fn released(holder: HolderId) -> Batch {
    Batch { released: vec![(holder, PROJECT)], ..Batch::default() }
}

/// So much was held for so long, within the minute that a slow machine takes.
#[track_caller]
fn assert_about(used: &Used, milli: i64, hours: i64) {
    let expected = milli * hours * HOUR_S;
    assert!((expected..expected + milli * 60).contains(&used.milli_seconds), "{used:?} is not {milli} for {hours} h");
}

#[tokio::test]
async fn what_is_held_counts_while_it_is_and_once_when_it_is_free() {
    let world = World::new().await;
    let (a, b) = (placement(600, PlacementState::Held), placement(300, PlacementState::Nominated));
    let holder = a.holder;
    world.place(a).await;
    world.place(b).await;
    world.since(2).await;
    // Who is told to leave has it still, and what is kept for others is not theirs yet.
    world.commit(0, Batch { releasing: vec![holder], ..Batch::default() }).await;
    let account = world.account(&[]).await;
    let [held] = account.as_slice() else { panic!("{account:?}") };
    assert_eq!((held.lives, held.held_milli, world.lines().await), (1, 600, 0));
    assert_about(held, 600, 2);

    for _ in 0..2 {
        assert!(matches!(world.commit(0, released(holder)).await, Outcome::Done(_)));
        assert_eq!(world.lines().await, 1, "once is all");
    }
    let account = world.account(&[]).await;
    let [over] = account.as_slice() else { panic!("{account:?}") };
    assert_eq!((over.lives, over.held_milli), (1, 0));
    assert_about(over, 600, 2);
    assert_eq!(world.account(&[]).await, account, "it does not grow any more");
}

#[tokio::test]
async fn whoever_frees_for_a_scheduler_that_died_counts_it_once() {
    let world = World::new().await;
    let a = placement(1000, PlacementState::Held);
    let holder = a.holder;
    world.place(a).await;
    world.since(1).await;
    // The first one's transaction came to nothing: the account is as the ledger is.
    world
        .execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'gone'; END $$;
                   CREATE CONSTRAINT TRIGGER dies AFTER DELETE ON placement DEFERRABLE INITIALLY DEFERRED
                   FOR EACH ROW EXECUTE FUNCTION fail()",
        )
        .await;
    assert!(ledger::commit(&world.store, SHARD, POOL, &released(holder)).await.is_err());
    assert_eq!((world.lines().await, world.account(&[]).await[0].held_milli), (0, 1000));
    world.execute("DROP TRIGGER dies ON placement; UPDATE shard SET epoch = 1 WHERE id = 7").await;
    // Another one owns the pool by now; the first one comes back late.
    assert!(matches!(world.commit(0, released(holder)).await, Outcome::Stale));
    assert_eq!(world.lines().await, 0);
    for epoch in [1, 0, 1] {
        world.commit(epoch, released(holder)).await;
        assert_eq!(world.lines().await, 1);
    }
    let account = world.account(&[]).await;
    assert_about(&account[0], 1000, 1);
}

#[tokio::test]
async fn a_queue_has_what_was_held_in_it() {
    let world = World::new().await;
    let a = placement(500, PlacementState::Held);
    let holder = a.holder;
    world.place(a).await;
    world.since(3).await;
    // There, back and there again in one turn.
    let moved = [OTHER, DEFAULT, OTHER, OTHER].map(|queue| (holder, queue)).into();
    assert!(matches!(world.commit(0, Batch { moved, ..Batch::default() }).await, Outcome::Done(_)));
    world
        .execute(
            "UPDATE gpu_usage SET freed_at = freed_at - interval '1 hour';
                   UPDATE placement SET counted_from = counted_from - interval '1 hour'",
        )
        .await;
    for held_milli in [500, 0] {
        let account = world.account(&["queue"]).await;
        let [default, other] = account.as_slice() else { panic!("{account:?}") };
        assert_eq!((default.key[1].as_str(), other.key[1].as_str()), ("default", "other"));
        assert_eq!((default.held_milli, other.held_milli, default.lives, other.lives), (0, held_milli, 1, 1));
        assert_about(default, 500, 2);
        assert_about(other, 500, 1);
        let whole = world.account(&[]).await;
        assert_eq!((whole.len(), whole[0].lives), (1, 1), "it is one life");
        world.commit(0, released(holder)).await;
    }
}

#[tokio::test]
async fn a_range_and_its_days_have_their_part_of_what_is_held_over_their_ends() {
    let world = World::new().await;
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    // From Monday evening until Thursday morning; and an hour of Tuesday.
    world.execute("INSERT INTO gpu_usage (holder, held_at, freed_at, project_id, queue_id, model, gpu_milli)
                   SELECT gen_random_uuid(), f::timestamptz, u::timestamptz, gen_random_uuid(), gen_random_uuid(), 'A10', m
                   FROM (VALUES ('2026-03-02T23:59:59.5Z', '2026-03-05T06:00:00Z', 500),
                                ('2026-03-03T10:00:00Z', '2026-03-03T11:00:00Z', 1000)) AS v (f, u, m)").await;
    let sum = async |since, until| {
        let account = world.between(at(since), Some(at(until)), &[]).await;
        account.first().map_or((0, 0), |used| (used.milli_seconds, used.lives))
    };
    assert_eq!(sum("2026-03-01T00:00:00Z", "2026-03-10T00:00:00Z").await, (500 * 54 * HOUR_S + 250 + 1000 * HOUR_S, 2));
    assert_eq!(sum("2026-03-03T10:30:00Z", "2026-03-03T11:30:00Z").await, (500 * HOUR_S + 1000 * HOUR_S / 2, 2));
    assert_eq!(sum("2026-03-03T11:00:00Z", "2026-03-03T12:00:00Z").await, (500 * HOUR_S, 1));
    assert_eq!(sum("2026-03-05T06:00:00Z", "2026-03-06T00:00:00Z").await, (0, 0));
    assert_eq!(sum("2026-03-01T00:00:00Z", "2026-03-02T23:59:59Z").await, (0, 0));

    // Another session has another clock; days are UTC's.
    world.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Kolkata''', current_database()); END $$").await;
    let store = Store::connect(world.database.url(), 1).await.unwrap();
    let db = store.client().await.unwrap();
    let asked = Asked {
        since: at("2026-03-01T00:00:00Z"),
        until: Some(at("2026-03-05T03:00:00Z")),
        by: &["day"],
        project: None,
        user: None,
    };
    let days = gpu_usage::list(&db, &asked, &[], 100).await.unwrap();
    let days: Vec<_> = days.iter().map(|used| (used.key[5].as_str(), used.milli_seconds, used.lives)).collect();
    let whole = 500 * 24 * HOUR_S;
    let expected = [
        ("2026-03-02", 250, 1),
        ("2026-03-03", whole + 1000 * HOUR_S, 2),
        ("2026-03-04", whole, 1),
        ("2026-03-05", 500 * 3 * HOUR_S, 1),
    ];
    assert_eq!(days, expected);
    // A page goes on after the last key of the one before.
    let first = gpu_usage::list(&db, &asked, &[], 2).await.unwrap();
    let second = gpu_usage::list(&db, &asked, &first[1].key, 2).await.unwrap();
    assert_eq!([first[0].key[5].as_str(), second[0].key[5].as_str()], ["2026-03-02", "2026-03-04"]);

    gpu_usage::forget(&world.store, at("2026-03-05T05:59:59Z"), 10).await.unwrap();
    assert_eq!(world.lines().await, 1, "what was free again by then");
    gpu_usage::forget(&world.store, at("2026-03-05T06:00:00Z"), 10).await.unwrap();
    assert_eq!(world.lines().await, 0);
}

#[tokio::test]
async fn the_account_says_whose_it_was_and_outlives_them() {
    let world = World::new().await;
    let a = placement(600, PlacementState::Held);
    let block = Placement { workspace: Some(WORKSPACE), ..placement(400, PlacementState::Held) };
    let holders = [a.holder, block.holder];
    let life =
        "INSERT INTO runtime (workspace_id, project_id, pool, queue_id, number, holder, spec_version, spec, state,
                                     requested_by, submitted_at)
                VALUES ($1, $2, 'default', $3, 1, $4, 1, '{}', 'running', $5, now())";
    let client = world.database.client().await;
    client.execute(life, &[&WORKSPACE.0, &PROJECT.0, &DEFAULT.0, &a.holder.0, &ADA.0]).await.unwrap();
    world.place(a).await;
    world.place(block).await;
    world.since(1).await;
    let by = ["project", "queue", "person", "workspace", "model"];
    for _ in 0..2 {
        let account = world.account(&by).await;
        let [block, life] = account.as_slice() else { panic!("{account:?}") };
        assert_eq!(block.key, ["acme", "default", "", "lab", "A10", ""]);
        assert_eq!(life.key, ["acme", "default", "ada@example.org", "lab", "A10", ""]);
        assert_about(block, 400, 1);
        assert_about(life, 600, 1);
        for holder in holders {
            world.commit(0, released(holder)).await;
        }
    }
    world.execute("DELETE FROM runtime; DELETE FROM workspace; DELETE FROM project_usage; DELETE FROM project WHERE name = 'acme'").await;
    let account = world.account(&["project", "workspace"]).await;
    let [line] = account.as_slice() else { panic!("{account:?}") };
    assert_eq!((line.key[0].clone(), line.key[3].clone()), (PROJECT.to_string(), WORKSPACE.to_string()));
    assert_about(line, 1000, 1);
}
