//! The transaction by which pools change: what it refuses to write, whoever asks.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod kept;
mod quotas;

use domain::{
    device::{Ask, Grant, Link, Sharing},
    id::{DeviceId, HolderId, NodeId, ProjectId, QueueId, VolumeId, WorkspaceId},
    quota::{Account, Usage},
    runtime::{
        App, Mount, PostStart, Spec,
        life::{Event, Life, Rules},
    },
};
use jiff::Timestamp;
use std::{path::Path, sync::Arc};
use store::{
    Client, Store, Transaction,
    ledger::{self, Act, Batch, DeviceRow, Lost, NodeRow, NodeState, Outcome, Placement, PlacementState, StoredLife},
    shards::Shard,
    volumes,
};
use testkit::Database;
use uuid::Uuid;

const SHARD: Shard = Shard { id: 7, epoch: 0 };
const POOL: &str = "default";
const NODE: NodeId = NodeId(Uuid::from_u128(1));
const DEVICE: DeviceId = DeviceId(Uuid::from_u128(2));

struct World {
    database: Database,
    store: Store,
    project: ProjectId,
}

impl World {
    /// One node with one device, and a project that may hold so much.
    async fn new(quota_milli: i64) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let migrations = here.join("../../migrations");
        let database = Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await;
        let store = Store::connect(database.url(), 4).await.unwrap();
        ledger::ensure_pool(&store, POOL, SHARD).await.unwrap();
        let node = NodeRow {
            id: NODE,
            name: "n".into(),
            zone: String::new(),
            cpu_milli: 8_000,
            memory_bytes: 1 << 34,
            state: NodeState::Ready,
        };
        assert!(ledger::set_nodes(&store, SHARD, POOL, &[node]).await.unwrap());
        let device = DeviceRow {
            id: DEVICE,
            node: NODE,
            name: "gpu-0".into(),
            hardware_id: String::new(),
            class: "shared".into(),
            model: "A10".into(),
            memory_bytes: 1000,
            sharing: Sharing::Shared { step_milli: 10, alone: false },
            link_group: 0,
            healthy: true,
            condition: String::new(),
        };
        assert!(ledger::set_devices(&store, SHARD, &[NODE], &[device]).await.unwrap());
        let project = ProjectId(Uuid::now_v7());
        let client = database.client().await;
        client.execute("INSERT INTO project (id, name) VALUES ($1, 'p')", &[&project.0]).await.unwrap();
        let policy = "INSERT INTO project_policy (project_id, gpu_milli) VALUES ($1, $2)";
        client.execute(policy, &[&project.0, &quota_milli]).await.unwrap();
        Self { database, store, project }
    }

    /// A life that waits, stored.
    async fn life(&self, name: &str, gpu_milli: u32) -> StoredLife {
        let stored = self.unwritten(name, spec(gpu_milli)).await;
        let outcome = self.commit(Batch { begun: vec![stored.clone()], ..Batch::default() }).await;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        stored
    }

    /// A life of a new workspace, which has not begun.
    async fn unwritten(&self, name: &str, spec: Spec) -> StoredLife {
        let workspace = WorkspaceId(Uuid::now_v7());
        let insert = "INSERT INTO workspace (id, name, project_id) VALUES ($1, $2, $3)";
        self.database.client().await.execute(insert, &[&workspace.0, &name, &self.project.0]).await.unwrap();
        let (queue, holder) = (QueueId(Uuid::nil()), HolderId(Uuid::now_v7()));
        let life = Life::new(workspace, self.project, queue, 1, holder, Arc::new(spec), 1, Timestamp::now());
        StoredLife {
            life,
            plan: None,
            node: None,
            access_key: Arc::from([1_u8, 2].as_slice()),
            workspace: name.into(),
            project: "p".into(),
        }
    }

    async fn commit(&self, batch: Batch) -> Outcome {
        ledger::commit(&self.store, SHARD, POOL, &batch).await.unwrap()
    }

    async fn used(&self) -> (i64, i64) {
        let sql = "SELECT (SELECT used_milli FROM device)::bigint, (SELECT coalesce(sum(gpu_milli), 0) FROM project_usage)::bigint";
        let row = self.database.client().await.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }
}

fn spec(gpu_milli: u32) -> Spec {
    Spec {
        app: App::Jupyter,
        image: String::new(),
        ask: Ask {
            gpus: 1,
            gpu_milli,
            gpu_memory_bytes: None,
            models: Vec::new(),
            models_ordered: false,
            link: Link::Any,
            cpu_milli: 100,
            memory_bytes: 1,
        },
        cpu_limit_milli: 0,
        memory_limit_bytes: 0,
        storage_bytes: 1 << 30,
        env: [].into(),
        mounts: Vec::new(),
        root: false,
        priority: 0,
        idle_timeout_s: 0,
        gpu_idle_timeout_s: 0,
        lifetime_s: 0,
        grace_s: 0,
        requeue: false,
        pre_start: String::new(),
        post_start: PostStart::default(),
    }
}

fn act(stored: &StoredLife) -> Act {
    let mut placed = stored.clone();
    placed.life.advance(Event::Placed, Timestamp::now(), &Rules::default());
    placed.node = Some(NODE);
    let milli = stored.life.spec.ask.gpu_milli;
    let placement = Placement {
        holder: stored.life.holder,
        node: NODE,
        project: stored.life.project,
        person: stored.life.requested_by,
        workspace: None,
        queue: stored.life.queue,
        state: PlacementState::Held,
        cpu_milli: 100,
        memory_bytes: 1,
        effective_milli: u64::from(milli),
        storage_bytes: stored.life.spec.storage_bytes,
        model: "A10".into(),
        victims: Vec::new(),
        grants: vec![Grant { device: DEVICE, milli, memory_bytes: u64::from(milli), slots: 0 }],
    };
    Act { placements: vec![placement], lives: vec![placed], events: Vec::new(), releasing: Vec::new() }
}

#[tokio::test]
async fn what_loses_is_left_out_alone_and_what_is_released_comes_back_once() {
    let world = World::new(900).await;
    let (a, b, c, d) = (
        world.life("a", 600).await,
        world.life("b", 500).await,
        world.life("c", 300).await,
        world.life("d", 100).await,
    );
    // b finds the quota used up by a; d finds the quota used up by a and c.
    let acts = [&a, &b, &c, &d].map(act).into();
    let Outcome::Done(lost) = world.commit(Batch { acts, ..Batch::default() }).await else { panic!("it counts") };
    let losers: Vec<_> = lost.iter().map(|(holder, _)| *holder).collect();
    assert_eq!(losers, [b.life.holder, d.life.holder]);
    assert!(
        lost.iter().all(|(_, why)| matches!(why, Lost::Quota(Account::Project(_), excess) if excess.limit == 900)),
        "{lost:?}"
    );
    assert_eq!(world.used().await, (900, 900));
    let raise = "UPDATE project_policy SET gpu_milli = 5000";
    world.database.client().await.execute(raise, &[]).await.unwrap();
    let Outcome::Done(lost) = world.commit(Batch { acts: vec![act(&b), act(&d)], ..Batch::default() }).await else {
        panic!("it counts")
    };
    assert_eq!(lost, [(b.life.holder, Lost::Device(DEVICE))], "d still fits");
    assert_eq!(world.used().await, (1000, 1000));
    for _ in 0..2 {
        let released = vec![(a.life.holder, world.project)];
        let outcome = world.commit(Batch { released, ..Batch::default() }).await;
        assert!(matches!(outcome, Outcome::Done(_)));
        assert_eq!(world.used().await, (400, 400), "once is all");
    }
}

/// Both of them, or neither.
fn gang(first: &StoredLife, second: &StoredLife) -> Act {
    let (mut first, second) = (act(first), act(second));
    first.placements.extend(second.placements);
    first.lives.extend(second.lives);
    first
}

#[tokio::test]
async fn a_gang_is_placed_whole_or_not_at_all() {
    let world = World::new(5_000).await;
    let lives = [world.life("a", 600).await, world.life("b", 500).await, world.life("c", 400).await];
    let [a, b, c] = &lives;
    // b has no room beside a on the device; what a took is there for c, who comes later.
    let acts = vec![gang(a, b), act(c)];
    let Outcome::Done(lost) = world.commit(Batch { acts, ..Batch::default() }).await else { panic!("it counts") };
    let losers: Vec<_> = lost.iter().map(|(holder, _)| *holder).collect();
    assert_eq!(losers, [a.life.holder, b.life.holder]);
    assert_eq!(world.used().await, (400, 400));
    let Outcome::Done(lost) = world.commit(Batch { acts: vec![gang(a, b)], ..Batch::default() }).await else {
        panic!("it counts")
    };
    assert_eq!(lost.len(), 2, "neither, still");
    let released = vec![(c.life.holder, world.project)];
    world.commit(Batch { released, ..Batch::default() }).await;
    let shorter = world.life("d", 400).await;
    let Outcome::Done(lost) = world.commit(Batch { acts: vec![gang(a, &shorter)], ..Batch::default() }).await else {
        panic!("it counts")
    };
    assert_eq!((lost, world.used().await), (Vec::new(), (1000, 1000)));
}

#[tokio::test]
async fn storage_is_counted_and_comes_back() {
    let world = World::new(5_000).await;
    let client = world.database.client().await;
    client.execute("UPDATE project_policy SET storage_bytes = 1 << 30", &[]).await.unwrap();
    let (a, b) = (world.life("a", 100).await, world.life("b", 100).await);
    let Outcome::Done(lost) = world.commit(Batch { acts: vec![act(&a), act(&b)], ..Batch::default() }).await else {
        panic!("it counts")
    };
    let [(loser, Lost::Quota(_, excess))] = lost.as_slice() else { panic!("{lost:?}") };
    assert_eq!((*loser, excess.what.as_str()), (b.life.holder, "storage"));
    let released = vec![(a.life.holder, world.project)];
    world.commit(Batch { released, ..Batch::default() }).await;
    let held = "SELECT storage_bytes FROM project_usage";
    assert_eq!(client.query_one(held, &[]).await.unwrap().get::<_, i64>(0), 0);
}

impl World {
    /// A volume, as web-servers make it: held against the same quota, under the same lock.
    async fn volume<'a>(&self, db: &'a mut Client, name: &str, size_bytes: u64) -> Option<(VolumeId, Transaction<'a>)> {
        let transaction = db.transaction().await.unwrap();
        let mut used = volumes::lock_usage(&transaction, self.project).await.unwrap();
        used.storage_bytes += volumes::sum(&transaction, self.project).await.unwrap().0;
        let quota = store::policies::get(&transaction, self.project).await.unwrap().unwrap().rules.quota;
        if quota.excess(&used, &Usage { storage_bytes: size_bytes, ..Usage::default() }).is_some() {
            return None;
        }
        let (id, size_bytes) = (VolumeId(Uuid::now_v7()), i64::try_from(size_bytes).unwrap());
        let new = volumes::New {
            id,
            project: self.project,
            name,
            pool: POOL,
            size_bytes,
            storage_class: "",
            created_by: None,
        };
        assert!(volumes::insert(&transaction, &new).await.unwrap());
        Some((id, transaction))
    }

    /// The volume `data` is to go, as web-servers say it; with how many mount it.
    async fn delete<'a>(&self, db: &'a mut Client, id: VolumeId) -> (Transaction<'a>, usize) {
        let transaction = db.transaction().await.unwrap();
        assert_eq!(volumes::lock(&transaction, self.project, "data").await.unwrap(), Some((id, 1 << 30)));
        volumes::delete(&transaction, id).await.unwrap();
        let uses = volumes::uses(&transaction, self.project, &[id], 9).await.unwrap().len();
        (transaction, uses)
    }

    /// So many wait for rows that other transactions hold.
    async fn waiting(&self, count: i64) {
        let client = self.database.client().await;
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        testkit::wait_for("transactions that wait", std::time::Duration::from_secs(20), || async {
            (client.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == count).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn volumes_and_disk_share_one_quota_whoever_is_first() {
    let world = World::new(5_000).await;
    let client = world.database.client().await;
    client.execute("UPDATE project_policy SET storage_bytes = (1::bigint << 30) + (1 << 29)", &[]).await.unwrap();
    let a = world.life("a", 100).await;
    let (half, whole) = (1 << 29, 1 << 30);

    // The volume is being made: the ledger waits for it, and then sees it.
    let mut db = world.store.client().await.unwrap();
    let (id, making) = world.volume(&mut db, "data", whole).await.unwrap();
    let commit = world.commit(Batch { acts: vec![act(&a)], ..Batch::default() });
    let made = async {
        world.waiting(1).await;
        making.commit().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(commit, made);
    let Outcome::Done(lost) = outcome else { panic!("{outcome:?}") };
    let [(_, Lost::Quota(_, excess))] = lost.as_slice() else { panic!("{lost:?}") };
    assert_eq!((excess.what.as_str(), excess.used, excess.wanted), ("storage", whole, whole));

    // Two volumes at once, and room for one: the later one waits, and then sees the first.
    let mut other = world.store.client().await.unwrap();
    let (_, first) = world.volume(&mut db, "first", half).await.unwrap();
    let made = async {
        world.waiting(1).await;
        first.commit().await.unwrap();
    };
    let (second, ()) = tokio::join!(world.volume(&mut other, "second", half), made);
    assert!(second.is_none(), "the quota is used up");

    // It counts until an executor says that it is gone, and no longer. It does not come back, and no other epoch says so.
    world.delete(&mut db, id).await.0.commit().await.unwrap();
    let sum = async || volumes::sum(&world.store.client().await.unwrap(), world.project).await.unwrap();
    let report = async |epoch, state| {
        let reported = [volumes::Reported { id, state, size_bytes: 0, message: String::new() }];
        volumes::report(&world.store, Shard { epoch, ..SHARD }, &reported).await.unwrap();
    };
    report(SHARD.epoch, "deleting").await;
    report(SHARD.epoch + 1, "gone").await;
    assert_eq!(sum().await, (whole + half, 2));
    report(SHARD.epoch, "gone").await;
    report(SHARD.epoch, "ready").await;
    assert_eq!(sum().await, (half, 2));
    let told = volumes::of_pool(&world.store, POOL).await.unwrap();
    assert_eq!(told.iter().filter(|wanted| wanted.deleted).count(), 1, "executors that were away hear of it later");

    // Now there is room, and what the runtime gets is written without the volumes.
    let outcome = world.commit(Batch { acts: vec![act(&a)], ..Batch::default() }).await;
    assert!(matches!(&outcome, Outcome::Done(lost) if lost.is_empty()), "{outcome:?}");
    let held = client.query_one("SELECT storage_bytes FROM project_usage", &[]).await.unwrap();
    assert_eq!(held.get::<_, i64>(0), 1 << 30);
    let (usage, of_volumes) =
        store::policies::usage(&world.store.client().await.unwrap(), world.project).await.unwrap();
    assert_eq!((usage.storage_bytes, of_volumes), (whole + half, half));
    assert!(world.volume(&mut db, "more", 1).await.is_none(), "full to the last byte");

    // With a smaller quota whoever has disk goes, though its volumes stay.
    let smaller =
        "UPDATE project_policy SET storage_bytes = 1::bigint << 30, over_quota_grace_s = 60, quota_set_at = now()";
    client.execute(smaller, &[]).await.unwrap();
    let terms = store::placement_terms::read(&world.store, POOL, &[world.project], &[]).await.unwrap();
    let limits = &terms.projects[&world.project];
    assert_eq!((limits.used.storage_bytes, limits.volume_bytes), (whole + half, half));
    assert_eq!(terms.over_quota.into_keys().collect::<Vec<_>>(), [a.life.holder]);
}

#[tokio::test]
async fn a_volume_that_is_being_deleted_is_not_mounted_and_one_that_is_mounted_is_not_deleted() {
    let world = World::new(5_000).await;
    let mut db = world.store.client().await.unwrap();
    let (id, making) = world.volume(&mut db, "data", 1 << 30).await.unwrap();
    making.commit().await.unwrap();
    let mount = Mount { volume: "data".into(), id: Some(id), path: "/data".into(), read_only: false };
    let mounting = Spec { mounts: vec![mount], ..spec(0) };
    // A life begins, and has not been written yet: whoever deletes waits for it, and then sees it.
    let first = world.unwritten("first", mounting.clone()).await;
    let mut held = world.database.client().await;
    let hold = held.transaction().await.unwrap();
    hold.execute("SELECT FROM workspace WHERE id = $1 FOR UPDATE", &[&first.life.workspace.0]).await.unwrap();
    let deleted = async {
        world.waiting(1).await;
        let let_go = async {
            world.waiting(2).await;
            hold.commit().await.unwrap();
        };
        tokio::join!(world.delete(&mut db, id), let_go).0.1
    };
    let batch = Batch { begun: vec![first], ..Batch::default() };
    let (outcome, uses) = tokio::join!(world.commit(batch), deleted);
    assert!(matches!(&outcome, Outcome::Done(lost) if lost.is_empty()), "{outcome:?}");
    assert_eq!(uses, 1, "it is in use: whoever deletes it gives up");

    // The other way round: it is being deleted, and the life that begins is told so.
    let ends = "UPDATE runtime SET state = 'stopped', step = ''";
    world.database.client().await.execute(ends, &[]).await.unwrap();
    let second = world.unwritten("second", mounting).await;
    let (transaction, uses) = world.delete(&mut db, id).await;
    assert_eq!(uses, 0);
    let gone = async {
        world.waiting(1).await;
        transaction.commit().await.unwrap();
    };
    let batch = Batch { begun: vec![second.clone()], ..Batch::default() };
    let (outcome, ()) = tokio::join!(world.commit(batch), gone);
    assert!(matches!(&outcome, Outcome::NoVolumes(gone) if *gone == [id]), "{outcome:?}");
    let mut without = second;
    without.life.spec = Arc::new(without.life.spec.without_volumes(|gone| gone == id));
    let outcome = world.commit(Batch { begun: vec![without], ..Batch::default() }).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}

#[tokio::test]
async fn whoever_was_placed_last_makes_room_in_a_smaller_quota() {
    let world = World::new(5_000).await;
    let lives = [world.life("a", 300).await, world.life("b", 300).await, world.life("c", 300).await];
    for life in &lives {
        world.commit(Batch { acts: vec![act(life)], ..Batch::default() }).await;
    }
    let over = async || {
        let terms = store::placement_terms::read(&world.store, POOL, &[world.project], &[]).await.unwrap();
        terms.over_quota.into_keys().collect::<Vec<_>>()
    };
    let smaller = "UPDATE project_policy SET gpu_milli = 500, quota_set_at = now()";
    world.database.client().await.execute(smaller, &[]).await.unwrap();
    assert!(over().await.is_empty(), "without a grace they go on");
    world.database.client().await.execute("UPDATE project_policy SET over_quota_grace_s = 60", &[]).await.unwrap();
    let mut last = [lives[1].life.holder, lives[2].life.holder];
    last.sort();
    assert_eq!(over().await, last);
    // One of them leaves by itself already: the other one is still too much.
    world.commit(Batch { releasing: vec![lives[2].life.holder], ..Batch::default() }).await;
    assert_eq!(over().await, [lives[1].life.holder]);
}

#[tokio::test]
async fn nothing_is_written_under_an_epoch_that_has_passed_and_no_life_begins_beside_another() {
    let world = World::new(5000).await;
    let a = world.life("a", 600).await;
    let mut second = a.clone();
    (second.life.number, second.life.holder) = (2, HolderId(Uuid::now_v7()));
    let outcome = world.commit(Batch { begun: vec![second], acts: vec![act(&a)], ..Batch::default() }).await;
    assert!(matches!(outcome, Outcome::Alive(of) if of == [a.life.workspace]));
    assert_eq!(world.used().await, (0, 0), "all or nothing");
    let mut unknown = a.clone();
    unknown.life.number = 9;
    let outcome = world.commit(Batch { changed: vec![unknown], ..Batch::default() }).await;
    assert!(matches!(outcome, Outcome::Drifted));
    world.database.client().await.execute("UPDATE shard SET epoch = 1 WHERE id = 7", &[]).await.unwrap();
    assert!(matches!(world.commit(Batch { acts: vec![act(&a)], ..Batch::default() }).await, Outcome::Stale));
    assert!(ledger::load(&world.store, SHARD, POOL).await.unwrap().is_none());
    let now = Shard { epoch: 1, ..SHARD };
    let found = ledger::load(&world.store, now, POOL).await.unwrap().unwrap();
    assert_eq!((found.lives.len(), found.devices.len(), found.placements.len()), (1, 1, 0));
    assert_eq!(found.lives[0].life.spec, a.life.spec);
}
