//! Quotas over several projects: of a group, and of a person.

use super::{POOL, SHARD, World, act, spec};
use domain::{
    id::{HolderId, ProjectId, UserId},
    quota::{Account, Quota},
};
use store::{
    ledger::{self, Batch, Lost, Outcome, StoredLife},
    quotas,
};
use uuid::Uuid;

const GROUP: Uuid = Uuid::from_u128(3);
const SECOND: ProjectId = ProjectId(Uuid::from_u128(4));
const ADA: UserId = UserId(Uuid::from_u128(5));
const BOB: UserId = UserId(Uuid::from_u128(6));

/// A second project beside the world's own; both belong to a group. And two persons.
async fn world() -> World {
    let world = World::new(5_000).await;
    let rows = format!(
        "INSERT INTO user_group (id, name) VALUES ('{GROUP}', 'quants');
         INSERT INTO project (id, name) VALUES ('{SECOND}', 'second');
         UPDATE project SET owner_group_id = '{GROUP}' WHERE id IN ('{SECOND}', '{}');
         INSERT INTO user_account (id, email) VALUES ('{ADA}', 'ada@example.org'), ('{BOB}', 'bob@example.org')",
        world.project
    );
    execute(&world, &rows).await;
    world
}

async fn execute(world: &World, sql: &str) {
    world.database.client().await.batch_execute(sql).await.unwrap();
}

/// A life of a project that waits, started by somebody.
async fn life(world: &World, name: &str, project: ProjectId, person: Option<UserId>) -> StoredLife {
    let mut stored = world.unwritten(name, spec(300)).await;
    let moved = format!("UPDATE workspace SET project_id = '{project}' WHERE id = '{}'", stored.life.workspace);
    execute(world, &moved).await;
    (stored.life.project, stored.life.requested_by) = (project, person);
    let outcome = world.commit(Batch { begun: vec![stored.clone()], ..Batch::default() }).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    stored
}

fn lost(outcome: Outcome) -> Vec<(HolderId, Lost)> {
    let Outcome::Done(lost) = outcome else { panic!("{outcome:?}") };
    lost
}

fn all_done(outcome: Outcome) {
    let left_out = lost(outcome);
    assert!(left_out.is_empty(), "{left_out:?}");
}

fn batch(acts: &[&StoredLife], released: &[&StoredLife]) -> Batch {
    let released = released.iter().map(|stored| (stored.life.holder, stored.life.project)).collect();
    Batch { acts: acts.iter().map(|stored| act(stored)).collect(), released, ..Batch::default() }
}

/// Both at once, as two schedulers do it: each waits for the rows of this statement, and goes on when both do.
async fn at_once(world: &World, rows: &str, [a, b]: [&StoredLife; 2]) -> Vec<(HolderId, Lost)> {
    let mut holding = world.database.client().await;
    let hold = holding.transaction().await.unwrap();
    hold.execute(rows, &[]).await.unwrap();
    let let_go = async {
        world.waiting(2).await;
        hold.commit().await.unwrap();
    };
    let (first, second, ()) = tokio::join!(world.commit(batch(&[a], &[])), world.commit(batch(&[b], &[])), let_go);
    [first, second].into_iter().flat_map(lost).collect()
}

#[tokio::test]
async fn two_projects_of_a_group_never_hold_more_than_the_group_may() {
    let world = world().await;
    execute(&world, &format!("INSERT INTO group_policy (group_id, gpu_milli) VALUES ('{GROUP}', 500)")).await;
    let (a, b) = (life(&world, "a", world.project, None).await, life(&world, "b", SECOND, None).await);
    let lost_at_once = at_once(&world, "SELECT FROM group_policy FOR UPDATE", [&a, &b]).await;
    let [(loser, Lost::Quota(Account::Group(_), excess))] = lost_at_once.as_slice() else { panic!("{lost_at_once:?}") };
    assert_eq!((excess.used, excess.wanted, excess.limit), (300, 300, 500));
    assert_eq!(world.used().await, (300, 300));
    let (winner, loser) = if *loser == a.life.holder { (&b, &a) } else { (&a, &b) };
    assert_eq!(lost(world.commit(batch(&[loser], &[])).await).len(), 1, "still");
    // What one project gives back, the other one has in the same transaction.
    all_done(world.commit(batch(&[loser], &[winner])).await);
    assert_eq!(world.used().await, (300, 300));
    // Two of different projects in one transaction, and a project that is no more the group's.
    all_done(world.commit(batch(&[], &[loser])).await);
    let (c, d) = (life(&world, "c", world.project, None).await, life(&world, "d", SECOND, None).await);
    let left_out = lost(world.commit(batch(&[&c, &d], &[])).await);
    assert!(
        matches!(left_out.as_slice(), [(of, Lost::Quota(Account::Group(_), _))] if *of == d.life.holder),
        "{left_out:?}"
    );
    execute(&world, &format!("UPDATE project SET owner_group_id = NULL WHERE id = '{}'", world.project)).await;
    all_done(world.commit(batch(&[&d], &[])).await);
}

#[tokio::test]
async fn volumes_of_one_project_and_disk_of_another_share_the_quota_of_their_group() {
    let world = world().await;
    let policy = "INSERT INTO group_policy (group_id, storage_bytes) VALUES";
    execute(&world, &format!("{policy} ('{GROUP}', (1::bigint << 30) + 1)")).await;
    let volume = "INSERT INTO volume (id, project_id, name, pool, size_bytes) VALUES (gen_random_uuid()";
    execute(&world, &format!("{volume}, '{SECOND}', 'data', '{POOL}', 2)")).await;
    let a = life(&world, "a", world.project, None).await;
    let left_out = lost(world.commit(batch(&[&a], &[])).await);
    let [(_, Lost::Quota(Account::Group(_), excess))] = left_out.as_slice() else { panic!("{left_out:?}") };
    assert_eq!((excess.what.as_str(), excess.used), ("storage", 2));
    execute(&world, "UPDATE volume SET size_bytes = 1").await;
    all_done(world.commit(batch(&[&a], &[])).await);
    let mut db = world.store.client().await.unwrap();
    let transaction = db.transaction().await.unwrap();
    let (quota, used) = quotas::lock_group_of(&transaction, SECOND).await.unwrap().unwrap();
    assert_eq!((quota.storage_bytes, used.storage_bytes), (Some((1 << 30) + 1), (1 << 30) + 1));
}

#[tokio::test]
async fn a_person_never_holds_more_than_allowed_over_several_projects() {
    let world = world().await;
    execute(&world, &format!("INSERT INTO user_policy (user_id, runtimes) VALUES ('{}', 1)", quotas::EVERYBODY)).await;
    let (a, b) = (life(&world, "a", world.project, Some(ADA)).await, life(&world, "b", SECOND, Some(ADA)).await);
    let lost_at_once = at_once(&world, "SELECT FROM user_account FOR UPDATE", [&a, &b]).await;
    let [(loser, Lost::Quota(Account::Person(ADA), excess))] = lost_at_once.as_slice() else {
        panic!("{lost_at_once:?}")
    };
    assert_eq!((excess.what.as_str(), excess.used, excess.limit), ("holders", 1, 1));
    let (winner, loser) = if *loser == a.life.holder { (&b, &a) } else { (&a, &b) };
    // Others are not concerned; and who has a quota alone is held against that alone.
    let bobs = life(&world, "bobs", SECOND, Some(BOB)).await;
    all_done(world.commit(batch(&[&bobs], &[])).await);
    execute(&world, &format!("INSERT INTO user_policy (user_id, gpu_milli) VALUES ('{ADA}', 600)")).await;
    all_done(world.commit(batch(&[loser], &[])).await);
    let third = life(&world, "third", SECOND, Some(ADA)).await;
    let left_out = lost(world.commit(batch(&[&third], &[])).await);
    let [(_, Lost::Quota(Account::Person(ADA), excess))] = left_out.as_slice() else { panic!("{left_out:?}") };
    assert_eq!((excess.what.as_str(), excess.used, excess.limit), ("GPU", 600, 600));
    let held = async || {
        let db = world.store.client().await.unwrap();
        let held = quotas::held_by_persons(&db, &[ADA, BOB]).await.unwrap();
        [ADA, BOB].map(|person| held.get(&person).map_or(0, |used| used.gpu_milli))
    };
    assert_eq!(held().await, [600, 300]);
    // What a version placed that knew no persons counts from the next load of the pool on; and goes with the placement.
    execute(&world, "DELETE FROM placement_user").await;
    assert_eq!(held().await, [0, 0]);
    let pool = ledger::load(&world.store, SHARD, POOL).await.unwrap().unwrap();
    assert_eq!(pool.placements.iter().filter(|placement| placement.person == Some(ADA)).count(), 2);
    assert_eq!(held().await, [600, 300]);
    all_done(world.commit(batch(&[&third], &[winner])).await);
    assert_eq!(held().await, [600, 300]);
    all_done(world.commit(batch(&[], &[loser, &third, &bobs])).await);
    assert_eq!(held().await, [0, 0]);
}

#[tokio::test]
async fn what_is_read_names_owners_and_only_those_who_have_limits() {
    let world = world().await;
    let db = world.store.client().await.unwrap();
    let read = async || quotas::read(&db, &[world.project, SECOND], &[ADA, BOB]).await.unwrap();
    let before = read().await;
    assert_eq!((before.owners.len(), before.quotas.len()), (2, 0));
    let limit = Quota { gpu_milli: Some(700), ..Quota::default() };
    quotas::set_person(&db, ADA, Some(&limit)).await.unwrap();
    let policy = quotas::GroupPolicy { quota: limit.clone(), ..quotas::GroupPolicy::default() };
    quotas::set_group(&db, domain::id::GroupId(GROUP), &policy).await.unwrap();
    let a = life(&world, "a", SECOND, Some(ADA)).await;
    all_done(world.commit(batch(&[&a], &[])).await);
    let read = read().await;
    let of = |account| read.quotas.get(&account).map(|(quota, used)| (quota.gpu_milli, used.gpu_milli, used.holders));
    assert_eq!(of(Account::Person(ADA)), Some((Some(700), 300, 1)));
    assert_eq!(of(Account::Group(domain::id::GroupId(GROUP))), Some((Some(700), 300, 1)));
    assert_eq!(of(Account::Person(BOB)), None);
    // An own quota without limits is none, whatever everybody else has.
    quotas::set_person(&db, quotas::EVERYBODY, Some(&limit)).await.unwrap();
    quotas::set_person(&db, BOB, Some(&Quota::default())).await.unwrap();
    assert_eq!(quotas::for_person(&db, BOB).await.unwrap(), None);
    quotas::set_person(&db, BOB, None).await.unwrap();
    assert_eq!(quotas::for_person(&db, BOB).await.unwrap(), Some(limit));
}
