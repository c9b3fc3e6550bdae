//! What a keeper says and gives up while its engine hears it, and while it does not.

use crate::world::WAIT;
use domain::id::SchedulerId;
use runtime::health::Health;
use scheduler::{
    clock::DbClock,
    engine::Ownership,
    loops::keeper::{Keeper, LEASE_TTL, Parts},
    metrics::Metrics,
    owners::Owners,
    peers::Peers,
    shares,
};
use std::{path::Path, sync::Arc, time::Duration};
use store::{
    Patience, Store,
    schedulers::{self, Load},
    shards::{self, Shard},
};
use testkit::{Database, wait_for};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Between two rounds whose time has come.
const ROUND: Duration = Duration::from_secs(1);

async fn database() -> (Database, Store) {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let database = Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await;
    let store = Store::connect(database.url(), 4).await.unwrap();
    (database, store)
}

/// One of a member, with its peers and what it tells its engine.
async fn keeper(store: &Store, me: SchedulerId) -> (Keeper, Peers, mpsc::Receiver<Ownership>) {
    counting(store, me, Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap())).await
}

async fn counting(store: &Store, me: SchedulerId, metrics: Arc<Metrics>) -> (Keeper, Peers, mpsc::Receiver<Ownership>) {
    let now = schedulers::renew(store, me, LEASE_TTL, "", Load::default()).await.unwrap();
    let peers = Peers::new(Owners::new(store.clone(), me, None));
    let (owned, told) = mpsc::channel::<Ownership>(4);
    let keeper = Keeper::new(Parts {
        store: store.clone(),
        scheduler: me,
        address: String::new(),
        clock: DbClock::new(now),
        health: Health::new(),
        metrics,
        load: Arc::default(),
        peers: peers.clone(),
        leases: lease::Leases::in_postgres(lease::Postgres::new(store.clone())),
        owned,
    });
    (keeper, peers, told)
}

/// Between the engine's letting go and the release of the rows it may have taken everything again.
#[tokio::test]
async fn what_is_owned_is_said_each_second_and_not_only_when_it_changes() {
    let (_database, store) = database().await;
    let (keeper, _peers, mut told) = keeper(&store, SchedulerId(Uuid::now_v7())).await;
    let stop = CancellationToken::new();
    let ran = tokio::spawn(keeper.run(stop.clone()));
    for _ in 0..3 {
        let ownership = tokio::time::timeout(WAIT, told.recv()).await.expect("a word in time").unwrap();
        assert_eq!(ownership.shards.len(), shares::SHARDS);
    }
    // An engine that hears nothing does not hold up the membership.
    tokio::time::sleep(LEASE_TTL + 2 * ROUND).await;
    assert_eq!(schedulers::living(&store).await.unwrap().len(), 1);
    stop.cancel();
    drop(told);
    ran.await.unwrap();
}

#[tokio::test]
async fn however_often_it_is_woken_it_lets_go_once_a_second() {
    let (_database, store) = database().await;
    let [me, other] = [(); 2].map(|()| SchedulerId(Uuid::now_v7()));
    let (keeper, peers, mut told) = keeper(&store, me).await;
    // An engine that lets go at once.
    let (count, mut counts) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Some(Ownership { shards, done }) = told.recv().await {
            count.send_replace(shards.len());
            done.map(|done| done.send(()));
        }
    });
    let stop = CancellationToken::new();
    let ran = tokio::spawn(keeper.run(stop.clone()));
    counts.wait_for(|count| *count == shares::SHARDS).await.unwrap();
    let begun = tokio::time::Instant::now();
    schedulers::renew(&store, other, WAIT, "", Load::default()).await.unwrap();
    let most = shares::SHARDS - 3 * shares::MOVES_MAX;
    let let_go = async {
        while *counts.borrow_and_update() > most {
            peers.hear_of_free_shards();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, let_go).await.unwrap();
    // Three rounds whose time had come, of which the first may have come at once.
    assert!(begun.elapsed() >= 2 * ROUND, "all in {:?}", begun.elapsed());
    stop.cancel();
    ran.await.unwrap();
}

#[tokio::test]
async fn a_lease_that_another_has_of_what_is_owned_is_counted() {
    let (_database, store) = database().await;
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
    let me = SchedulerId(Uuid::now_v7());
    let (keeper, _peers, mut told) = counting(&store, me, Arc::clone(&metrics)).await;
    let stop = CancellationToken::new();
    let ran = tokio::spawn(keeper.run(stop.clone()));
    while told.recv().await.unwrap().shards.len() < shares::SHARDS {}
    assert_eq!(metrics.lock_lost.get(), 0);
    // What forgot its leases gives them to whoever asks first.
    let leases = lease::Leases::in_postgres(lease::Postgres::new(store.clone()));
    let shard = ["shard/7".to_owned()];
    leases.release(me.0, &shard).await.unwrap();
    wait_for("another one's lease", WAIT, || async {
        leases.release(me.0, &shard).await.unwrap();
        leases.hold(Uuid::new_v4(), &shard, WAIT).await.unwrap().held[0].then_some(())
    })
    .await;
    wait_for("the count of it", WAIT, || async { (metrics.lock_lost.get() > 0).then_some(()) }).await;
    let heard = tokio::time::timeout(WAIT, told.recv()).await.unwrap().unwrap();
    assert_eq!(heard.shards.len(), shares::SHARDS, "it goes on with it: no lease says whose a shard is");
    stop.cancel();
    drop(told);
    ran.await.unwrap();
}

/// It may be loading in epochs that it took by itself: of all work that is what needs connections most.
#[tokio::test]
async fn an_engine_that_listens_to_nobody_costs_neither_the_membership_nor_any_connection() {
    let (database, store) = database().await;
    let me = SchedulerId(Uuid::now_v7());
    let (keeper, _peers, mut told) = keeper(&store, me).await;
    let stop = CancellationToken::new();
    let ran = tokio::spawn(keeper.run(stop.clone()));
    while told.recv().await.unwrap().shards.len() < shares::SHARDS {}
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
