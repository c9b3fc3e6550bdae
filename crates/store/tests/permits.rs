//! Pools of permits as rows: what is idle is forgotten, and no limit suffers from it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use domain::{
    id::{SchedulerId, WorkspaceId},
    permits::{Claim, Pool},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};
use store::{
    Store, permits,
    schedulers::{self, Load},
    shards::{self, Shard},
};
use testkit::Database;
use uuid::Uuid;

struct World {
    store: Store,
    workspace: WorkspaceId,
    shards: Vec<Shard>,
    database: Database,
}

impl World {
    /// With a limit of one for each order, and one for the warehouse.
    async fn new() -> Self {
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        let database = Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await;
        let store = Store::connect(database.url(), 4).await.unwrap();
        let scheduler = SchedulerId(Uuid::now_v7());
        schedulers::renew(&store, scheduler, Duration::from_secs(600), "", Load::default()).await.unwrap();
        let shards = shards::take(&store, scheduler, &[1, 2], false).await.unwrap();
        let workspace = WorkspaceId(Uuid::now_v7());
        let client = database.client().await;
        client.execute("INSERT INTO workspace (id, name) VALUES ($1, 'w')", &[&workspace.0]).await.unwrap();
        for name in ["order:*", "warehouse"] {
            store::limits::set(&store.client().await.unwrap(), workspace, name, 1).await.unwrap();
        }
        Self { store, workspace, shards, database }
    }

    fn pool(&self, key: &str) -> Pool {
        let limit = if key.starts_with("order:") { "order:*" } else { key };
        Pool { workspace: self.workspace, key: key.into(), limit: limit.into() }
    }

    /// A shard wants as many permits as it could use; answers how many it has then.
    async fn want(&self, shard: Shard, key: &str, wanted: u32) -> Option<u32> {
        let of = u8::try_from(shard.id).unwrap();
        let claim = Claim { pool: self.pool(key), shard: of, in_use: 0, target: wanted, wanted };
        let answers = permits::settle(&self.store, &[(shard, claim)]).await.unwrap();
        answers.first().map(|answer| answer.granted)
    }

    /// The keys of pools, and how many rows say what shards hold of them.
    async fn rows(&self) -> (Vec<String>, i64) {
        let client = self.database.client().await;
        let keys = client.query("SELECT key FROM limit_pool ORDER BY key", &[]).await.unwrap();
        let holds = client.query_one("SELECT count(*) FROM limit_hold", &[]).await.unwrap();
        (keys.iter().map(|row| row.get(0)).collect(), holds.get(0))
    }
}

#[tokio::test]
async fn what_nobody_holds_or_wants_is_forgotten_and_begins_anew() {
    let world = World::new().await;
    let (one, two) = (world.shards[0], world.shards[1]);
    let mut keys: Vec<String> = (0..40).map(|n| format!("order:{n}")).collect();
    keys.extend(["warehouse".to_owned(), "workspace".to_owned()]);
    for key in &keys {
        assert_eq!(world.want(one, key, 1).await, Some(1));
        assert_eq!(world.want(one, key, 0).await, Some(0));
    }
    assert_eq!(world.want(one, "order:held", 1).await, Some(1));
    assert_eq!(world.want(two, "order:held", 1).await, Some(0));
    assert_eq!(permits::forget_idle(&world.store, 30).await.unwrap(), 30, "so many at once");
    assert_eq!(permits::forget_idle(&world.store, 30).await.unwrap(), 10);
    let stay = ["order:held", "warehouse", "workspace"].map(str::to_owned).to_vec();
    assert_eq!(world.rows().await, (stay, 4));
    // It goes on as if nothing had been: the first one gets the permit, the other one does not.
    assert_eq!((world.want(two, "order:7", 1).await, world.want(one, "order:7", 1).await), (Some(1), Some(0)));
    assert_eq!(world.want(one, "order:held", 0).await, Some(0));
    assert_eq!(permits::forget_idle(&world.store, 30).await.unwrap(), 0, "somebody wants each of them");
    assert_eq!(world.want(two, "order:held", 1).await, Some(1), "what was given back is not lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_never_lets_two_have_one_permit_and_loses_none() {
    const TURNS: u32 = 150;
    let world = Arc::new(World::new().await);
    let (holders, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let workers = world.shards.clone().into_iter().map(|shard| {
        let (world, holders) = (Arc::clone(&world), Arc::clone(&holders));
        tokio::spawn(async move {
            let mut turns = 0;
            while turns < TURNS {
                // Without an answer the pool has just been forgotten: it is asked for again.
                if world.want(shard, "order:1", 1).await == Some(1) {
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold the only permit");
                    tokio::task::yield_now().await;
                    holders.fetch_sub(1, Ordering::SeqCst);
                    turns += 1;
                }
                while world.want(shard, "order:1", 0).await.is_none() {}
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    let forgetting = tokio::spawn({
        let (world, done) = (Arc::clone(&world), Arc::clone(&done));
        async move {
            let mut forgotten = 0;
            while !done.load(Ordering::SeqCst) {
                forgotten += permits::forget_idle(&world.store, 10).await.unwrap();
            }
            forgotten
        }
    });
    for worker in workers {
        worker.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    assert!(forgetting.await.unwrap() > 0, "the pool was forgotten while it was used");
    permits::forget_idle(&world.store, 10).await.unwrap();
    assert_eq!(world.rows().await, (Vec::new(), 0));
}
