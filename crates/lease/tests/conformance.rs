//! One suite for every keeper of leases, and what happens when Redis goes.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use lease::{Leases, Liar, Locks, Postgres, Redis};
use std::{path::Path, time::Duration};
use store::Store;
use testkit::{Database, PrivateRedis, wait_for};
use uuid::Uuid;

/// Never over while a test looks.
const LONG: Duration = Duration::from_secs(60);
/// Over soon.
const SHORT: Duration = Duration::from_millis(150);
const WAIT: Duration = Duration::from_secs(20);

async fn database() -> (Database, Store) {
    let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
    let database = Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await;
    let store = Store::connect(database.url(), 8).await.unwrap();
    (database, store)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What holds for all: answers have the questions' order, and owners keep what they have.
async fn answers(locks: &impl Locks) {
    let me = Uuid::new_v4();
    assert_eq!(locks.hold(me, &[], LONG).await.unwrap(), Vec::<bool>::new());
    let mine = names(&["b", "a"]);
    assert_eq!(locks.hold(me, &mine, LONG).await.unwrap(), [true, true]);
    assert_eq!(locks.hold(me, &mine, LONG).await.unwrap(), [true, true], "held is prolonged");
    locks.release(me, &mine).await.unwrap();
    locks.release(me, &mine).await.unwrap();
}

/// What holds for all but the liar: one owner at a time.
async fn excludes(locks: &impl Locks) {
    let (me, other) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(locks.hold(me, &names(&["x", "y"]), LONG).await.unwrap(), [true, true]);
    let asked = names(&["y", "z", "x"]);
    assert_eq!(locks.hold(other, &asked, LONG).await.unwrap(), [false, true, false], "what is held is left alone");
    locks.release(other, &asked).await.unwrap();
    assert_eq!(locks.hold(other, &asked, LONG).await.unwrap(), [false, true, false], "others free nothing");
    locks.release(me, &names(&["y"])).await.unwrap();
    assert_eq!(locks.hold(other, &asked, LONG).await.unwrap(), [true, true, false], "what is free is free at once");
    locks.release(other, &asked).await.unwrap();
    locks.release(me, &names(&["x"])).await.unwrap();

    let brief = Uuid::new_v4();
    assert_eq!(locks.hold(brief, &names(&["t"]), SHORT).await.unwrap(), [true]);
    wait_for("the end of a lease", WAIT, || async {
        locks.hold(other, &names(&["t"]), LONG).await.unwrap()[0].then_some(())
    })
    .await;
    assert_eq!(locks.hold(brief, &names(&["t"]), LONG).await.unwrap(), [false], "who comes late has lost it");
    locks.release(brief, &names(&["t"])).await.unwrap();
    assert_eq!(locks.hold(me, &names(&["t"]), LONG).await.unwrap(), [false], "and frees nothing");
    locks.release(other, &names(&["t"])).await.unwrap();
}

/// Of many who ask at once, one gets it.
async fn one_wins<L: Locks + Sync>(locks: &L) {
    for round in 0..10 {
        let name = names(&[&format!("race-{round}")]);
        let ask = || async { locks.hold(Uuid::new_v4(), &name, LONG).await.unwrap()[0] };
        let won = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask());
        let winners = [won.0, won.1, won.2, won.3, won.4, won.5].into_iter().filter(|won| *won).count();
        assert_eq!(winners, 1, "in round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_protocol() {
    let (_database, store) = database().await;
    let locks = Postgres::new(store);
    answers(&locks).await;
    excludes(&locks).await;
    one_wins(&locks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_protocol() {
    let server = PrivateRedis::start().unwrap();
    let locks = Redis::new(&server.url()).unwrap();
    answers(&locks).await;
    excludes(&locks).await;
    one_wins(&locks).await;
}

/// As schedulers have it: one question goes to whichever keeper answers.
struct Whichever(Leases);

impl Locks for Whichever {
    async fn hold(&self, owner: Uuid, names: &[String], ttl: Duration) -> Result<Vec<bool>, lease::Error> {
        Ok(self.0.hold(owner, names, ttl).await?.held)
    }

    async fn release(&self, owner: Uuid, names: &[String]) -> Result<(), lease::Error> {
        self.0.release(owner, names).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_postgres_behind_it_keeps_the_protocol_with_each_of_them() {
    let (_database, store) = database().await;
    let mut server = PrivateRedis::start().unwrap();
    let locks = Whichever(Leases::in_redis(Redis::new(&server.url()).unwrap(), Postgres::new(store)));
    for is_away in [false, true] {
        if is_away {
            server.kill();
        }
        answers(&locks).await;
        assert_eq!(locks.0.is_degraded(), is_away);
        excludes(&locks).await;
        one_wins(&locks).await;
    }
}

/// Takes as it should, and frees with a bare DEL whatever is there.
struct BareDel {
    locks: Redis,
    client: redis::Client,
}

impl Locks for BareDel {
    async fn hold(&self, owner: Uuid, names: &[String], ttl: Duration) -> Result<Vec<bool>, lease::Error> {
        self.locks.hold(owner, names, ttl).await
    }

    async fn release(&self, _: Uuid, names: &[String]) -> Result<(), lease::Error> {
        let keys: Vec<String> = names.iter().map(|name| format!("orrery:lease:{name}")).collect();
        let mut connection = self.client.get_multiplexed_async_connection().await.unwrap();
        let _: i64 = redis::cmd("DEL").arg(&keys).query_async(&mut connection).await.unwrap();
        Ok(())
    }
}

/// The suite is worth something: it finds the commonest mistake.
#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_frees_with_a_bare_del_does_not_pass() {
    let server = PrivateRedis::start().unwrap();
    let locks =
        BareDel { locks: Redis::new(&server.url()).unwrap(), client: redis::Client::open(server.url()).unwrap() };
    answers(&locks).await;
    let outcome = tokio::spawn(async move { excludes(&locks).await }).await;
    let panic = outcome.expect_err("a bare DEL frees another one's lock").into_panic();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("others free nothing"), "{said}");
}

#[tokio::test]
async fn the_liar_says_yes_to_everybody() {
    answers(&Liar).await;
    let asked = names(&["x"]);
    assert_eq!(Liar.hold(Uuid::new_v4(), &asked, LONG).await.unwrap(), [true]);
    assert_eq!(Liar.hold(Uuid::new_v4(), &asked, LONG).await.unwrap(), [true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_postgres_keeps_the_leases_at_once() {
    let (_database, store) = database().await;
    let mut server = PrivateRedis::start().unwrap();
    let leases =
        |server: &PrivateRedis| Leases::in_redis(Redis::new(&server.url()).unwrap(), Postgres::new(store.clone()));
    let (mine, others) = (leases(&server), leases(&server));
    let (me, other) = (Uuid::new_v4(), Uuid::new_v4());
    let name = names(&["x"]);
    assert_eq!(mine.hold(me, &name, LONG).await.unwrap().held, [true]);
    assert_eq!(others.hold(other, &name, LONG).await.unwrap().held, [false]);

    // Every key is gone: the first to ask has it, and the former owner learns of it with its next question.
    server.flush().unwrap();
    assert_eq!(others.hold(other, &name, LONG).await.unwrap().held, [true]);
    assert_eq!(mine.hold(me, &name, LONG).await.unwrap().held, [false]);
    assert!(!mine.is_degraded());

    // Frozen: connections stand, answers do not come.
    server.freeze().unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(mine.hold(me, &name, LONG).await.unwrap().held, [true], "somebody else answers");
    assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?}", begun.elapsed());
    assert!(mine.is_degraded());
    assert_eq!(others.hold(other, &name, LONG).await.unwrap().held, [false], "and keeps the protocol");
    server.thaw().unwrap();

    server.kill();
    assert_eq!(mine.hold(me, &name, LONG).await.unwrap().held, [true]);
    server.restart().unwrap();
    wait_for("Redis to be asked again", WAIT, || async {
        mine.hold(me, &name, LONG).await.unwrap();
        (!mine.is_degraded()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_not_trusted_to_its_end() {
    let (_database, store) = database().await;
    let leases = Leases::in_postgres(Postgres::new(store));
    let me = Uuid::new_v4();
    assert!(leases.hold(me, &names(&["x"]), LONG).await.unwrap().is_trusted());
    // The last second is never trusted.
    assert!(!leases.hold(me, &names(&["x"]), lease::DISTRUST).await.unwrap().is_trusted());
    let many: Vec<String> = (0..=lease::NAMES_MAX).map(|n| n.to_string()).collect();
    assert!(leases.hold(me, &many, LONG).await.is_err(), "one question has a limit");
}
