//! A place that goes from a life to the next one: in one transaction, with the quota, or not at all.

use crate::{SHARD, World, act};
use domain::{
    id::HolderId,
    quota::Account,
    runtime::{
        life::{Event, Life, Phase, Report, Rules},
        reason::Reason,
    },
};
use jiff::Timestamp;
use store::ledger::{self, Act, Batch, Lost, Outcome, PlacementState, StoredLife};
use uuid::Uuid;

fn advance(life: &mut Life, event: Event) {
    life.advance(event, Timestamp::now(), &Rules::default());
}

/// What is written at the end of a life that restarts, and the life that follows.
fn restart(world: &World, running: &StoredLife) -> (Batch, StoredLife) {
    let mut ended = running.clone();
    let stop = Event::Stop { reason: Reason::Restart, message: String::new(), again: true, actor: None };
    advance(&mut ended.life, stop);
    let gone = Report {
        fence: ended.life.fence,
        phase: Phase::Gone,
        code: String::new(),
        message: String::new(),
        endpoint: String::new(),
        signs: Vec::new(),
    };
    advance(&mut ended.life, Event::Report(gone));
    let mut next = StoredLife {
        life: ended.life.successor(HolderId(Uuid::now_v7()), Timestamp::now()).unwrap(),
        node: None,
        ..ended.clone()
    };
    let mut kept = act(&next).placements.remove(0);
    kept.state = PlacementState::Nominated;
    advance(&mut next.life, Event::Nominated);
    let batch = Batch {
        released: vec![(ended.life.holder, world.project)],
        changed: vec![ended],
        begun: vec![next.clone()],
        acts: vec![Act { placements: vec![kept], lives: Vec::new(), events: Vec::new(), releasing: Vec::new() }],
        ..Batch::default()
    };
    (batch, next)
}

/// Who runs with all of the quota, and who waits for it.
async fn world() -> (World, StoredLife, StoredLife) {
    let world = World::new(1000).await;
    let (runs, waits) = (world.life("runs", 1000).await, world.life("waits", 1000).await);
    let placed = act(&runs);
    let stored = placed.lives[0].clone();
    let outcome = world.commit(Batch { acts: vec![placed], ..Batch::default() }).await;
    assert!(matches!(&outcome, Outcome::Done(lost) if lost.is_empty()), "{outcome:?}");
    (world, stored, waits)
}

#[tokio::test]
async fn the_quota_goes_with_the_place_and_whoever_waits_finds_neither() {
    let (world, runs, waits) = world().await;
    let (mut batch, next) = restart(&world, &runs);
    // Who waits is decided about in the same transaction, and in a later one.
    batch.acts.push(act(&waits));
    for batch in [batch, Batch { acts: vec![act(&waits)], ..Batch::default() }] {
        let outcome = world.commit(batch).await;
        let Outcome::Done(lost) = &outcome else { panic!("{outcome:?}") };
        let over = |(holder, why): &(HolderId, Lost)| {
            *holder == waits.life.holder && matches!(why, Lost::Quota(Account::Project(_), _))
        };
        assert!(lost.len() == 1 && lost.iter().all(over), "{lost:?}");
        assert_eq!(world.used().await, (0, 1000), "it is kept, and counts");
    }
    let pool = ledger::load(&world.store, SHARD, crate::POOL).await.unwrap().unwrap();
    let kept = pool.placements.iter().map(|placement| (placement.holder, placement.state)).collect::<Vec<_>>();
    assert_eq!(kept, [(next.life.holder, PlacementState::Nominated)], "a new owner of the pool knows of it");
    let outcome = world.commit(Batch { acts: vec![act(&next)], ..Batch::default() }).await;
    assert!(matches!(&outcome, Outcome::Done(lost) if lost.is_empty()), "{outcome:?}");
    assert_eq!(world.used().await, (1000, 1000));
}

#[tokio::test]
async fn a_restart_that_is_not_written_has_freed_nothing() {
    let (world, runs, _) = world().await;
    let (mut batch, _) = restart(&world, &runs);
    // The ended life is not what the rows say: all of it is left out.
    batch.changed[0].life.number += 7;
    let outcome = world.commit(batch).await;
    assert!(matches!(outcome, Outcome::Drifted), "{outcome:?}");
    assert_eq!(world.used().await, (1000, 1000));
}

#[tokio::test]
async fn no_place_is_kept_beyond_a_quota_that_was_lowered() {
    let (world, runs, _) = world().await;
    world.database.client().await.execute("UPDATE project_policy SET gpu_milli = 500", &[]).await.unwrap();
    let (batch, next) = restart(&world, &runs);
    let outcome = world.commit(batch).await;
    let Outcome::Done(lost) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(lost.iter().map(|(holder, _)| *holder).collect::<Vec<_>>(), [next.life.holder]);
    assert_eq!(world.used().await, (0, 0));
}
