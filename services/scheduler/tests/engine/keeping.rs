//! What a keeper does while its engine loads everything again, and so listens to nobody.

use domain::id::SchedulerId;
use runtime::health::Health;
use scheduler::{
    clock::DbClock,
    engine::Ownership,
    loops::keeper::{Keeper, LEASE_TTL, Parts},
    metrics::Metrics,
    owners::Owners,
    peers::Peers,
};
use std::{path::Path, sync::Arc};
use store::{
    Patience, Store,
    schedulers::{self, Load},
    shards::{self, Shard},
};
use testkit::{Database, wait_for};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::WAIT;

/// It may be loading in epochs that it took by itself: of all work that is what needs connections most.
#[tokio::test]
async fn an_engine_that_listens_to_nobody_costs_neither_the_membership_nor_any_connection() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let database = Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await;
    let store = Store::connect(database.url(), 4).await.unwrap();
    let me = SchedulerId(Uuid::now_v7());
    let now = schedulers::renew(&store, me, LEASE_TTL, "", Load::default()).await.unwrap();
    let (owned, mut told) = mpsc::channel::<Ownership>(4);
    let keeper = Keeper::new(Parts {
        store: store.clone(),
        scheduler: me,
        address: String::new(),
        clock: DbClock::new(now),
        health: Health::new(),
        metrics: Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap()),
        load: Arc::default(),
        peers: Peers::new(Owners::new(store.clone(), me, None)),
        leases: lease::Leases::in_postgres(lease::Postgres::new(store.clone())),
        owned,
    });
    let stop = CancellationToken::new();
    let ran = tokio::spawn(keeper.run(stop.clone()));
    while told.recv().await.unwrap().shards.len() < 256 {}
    let client = database.client().await;
    let until = async || -> f64 {
        let sql = "SELECT extract(epoch FROM lease_until)::float8 FROM scheduler WHERE id = $1";
        client.query_one(sql, &[&me.0]).await.unwrap().get(0)
    };
    let loads = async {
        for _ in 0..8 {
            shards::retake(&store, me).await.unwrap();
            let before = until().await;
            wait_for("a renewal", WAIT, || async { (until().await > before).then_some(()) }).await;
        }
    };
    let mut patience = Patience::of(WAIT);
    assert!(store.answered(&mut patience, loads).await.is_some(), "connections were given up that answer");
    assert_eq!(schedulers::living(&store).await.unwrap().len(), 1);
    // What it has not heard it hears when it listens.
    let newest = |shards: &[Shard]| shards.iter().map(|shard| shard.epoch).max();
    let latest: i64 = client.query_one("SELECT max(epoch) FROM shard", &[]).await.unwrap().get(0);
    let heard = async { while newest(&told.recv().await.unwrap().shards) != Some(latest) {} };
    tokio::time::timeout(WAIT, heard).await.unwrap();
    stop.cancel();
    drop(told);
    ran.await.unwrap();
}
