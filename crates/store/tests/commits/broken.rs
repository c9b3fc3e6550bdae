//! Sessions that break under a commit: it counts once, and whoever wrote it knows what it came to.

use crate::world::{World, graph, reached};
use domain::id::RunId;
use std::time::Duration;
use store::{
    Error,
    runs::{self, Batch, Committed},
};
use testkit::Loss::{Answer, Question};

const SOON: Duration = Duration::from_secs(20);

/// Ends of runs that are left to the recorder.
async fn told_ends(world: &World) -> i64 {
    let ends = "SELECT coalesce(sum(cardinality(run_ids)), 0)::bigint FROM run_end_batch";
    world.client.query_one(ends, &[]).await.unwrap().get(0)
}

async fn write(world: &mut World, mut batch: Batch) -> Result<Committed, Error> {
    runs::commit(&mut world.journal, &mut batch).await
}

/// A run that has been created.
async fn begun(world: &mut World) -> RunId {
    let mut batch = Batch::default();
    let run = world.create(&mut batch, world.triggers[0], 1, "{}");
    write(world, batch).await.unwrap();
    run
}

fn ended(world: &World, run: RunId) -> Batch {
    let mut batch = Batch::default();
    reached(true).iter().for_each(|transition| batch.add(run, &graph(), world.shard, transition));
    batch
}

#[tokio::test]
async fn a_statement_that_broke_counts_once() {
    for loss in [Question, Answer] {
        let mut world = World::new().await;
        let mut batch = Batch::default();
        let created = [0, 1].map(|at| world.create(&mut batch, world.triggers[at], 1, "{}"));
        let ends = ended(&world, created[1]);
        world.ways.lose(0, loss);
        let mut committed = write(&mut world, batch).await.unwrap();
        committed.created.sort_unstable();
        assert_eq!((committed.created, committed.shards, committed.broken), (created.to_vec(), vec![7], 1), "{loss:?}");
        assert_eq!(world.rows().await, [2, 2, 0], "{loss:?}");
        world.ways.lose(0, loss);
        let committed = write(&mut world, ends).await.unwrap();
        assert_eq!((committed.created, committed.shards, committed.broken), (vec![], vec![7], 1), "{loss:?}");
        assert_eq!(told_ends(&world).await, 1, "{loss:?}");
        world.journal.flusher().flush().await.unwrap();
    }
}

#[tokio::test]
async fn a_transaction_that_broke_anywhere_counts_once() {
    for (nth, loss) in [(0, Question), (0, Answer), (1, Question), (1, Answer)] {
        let mut world = World::new().await;
        let run = begun(&mut world).await;
        let [first, second] = world.triggers;
        world.client.execute("UPDATE trigger SET version = 2 WHERE id = $1", &[&second.0]).await.unwrap();
        let mut batch = ended(&world, run);
        // Its key is the other run's.
        world.fire(&mut batch, first, 1, "{}");
        world.fire(&mut batch, second, 1, "{}");
        batch.retry(run, Some("key"), world.shard);
        world.ways.lose(nth, loss);
        let committed = write(&mut world, batch).await.unwrap();
        let expected = (vec![], vec![second], vec![7], 1);
        assert_eq!(
            (committed.created, committed.overtaken, committed.shards, committed.broken),
            expected,
            "{nth} {loss:?}"
        );
        assert_eq!((world.rows().await, told_ends(&world).await), ([1, 1, 1], 1), "{nth} {loss:?}");
        let mut batch = Batch::default();
        let created = world.fire(&mut batch, second, 2, "{}");
        world.ways.lose(nth, loss);
        let committed = write(&mut world, batch).await.unwrap();
        assert_eq!((committed.created, committed.overtaken), (vec![created], vec![]), "{nth} {loss:?}");
        assert_eq!(world.rows().await, [2, 2, 2], "{nth} {loss:?}");
    }
}

/// What the former session is at does not come late.
#[tokio::test]
async fn a_session_that_waits_while_its_client_has_gone_writes_nothing_any_more() {
    let mut world = World::new().await;
    let run = begun(&mut world).await;
    for is_plain in [true, false] {
        let mut batch = if is_plain { ended(&world, run) } else { Batch::default() };
        if !is_plain {
            world.fire(&mut batch, world.triggers[1], 1, "{}");
        }
        let mut other = world.database.client().await;
        let transaction = other.transaction().await.unwrap();
        transaction.execute("SELECT FROM shard WHERE id = 7 FOR UPDATE", &[]).await.unwrap();
        let watcher = world.database.client().await;
        let waiting = async |pids: &[i32]| {
            let waits = "SELECT pid FROM pg_stat_activity
                         WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> ALL ($1)";
            testkit::wait_for("the commit to wait", SOON, || async {
                watcher.query_opt(waits, &[&pids]).await.unwrap().map(|row| row.get::<_, i32>(0))
            })
            .await
        };
        let breaks = async {
            let former = waiting(&[]).await;
            world.ways.break_asked();
            let latter = waiting(&[former]).await;
            let is_there = "SELECT FROM pg_stat_activity WHERE pid = $1";
            assert!(watcher.query_opt(is_there, &[&former]).await.unwrap().is_none());
            assert_ne!(former, latter);
            transaction.commit().await.unwrap();
        };
        let (committed, ()) = tokio::join!(runs::commit(&mut world.journal, &mut batch), breaks);
        let committed = committed.unwrap();
        assert_eq!((committed.broken, committed.shards), (1, vec![7]), "{is_plain}");
    }
    assert_eq!((world.rows().await, told_ends(&world).await), ([2, 2, 1], 1));
}

#[tokio::test]
async fn a_session_that_ended_before_a_commit_is_replaced_by_it() {
    let mut world = World::new().await;
    let run = begun(&mut world).await;
    let end_it = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                  WHERE datname = current_database() AND query LIKE '-- One step of the scheduler%'";
    assert_eq!(world.client.execute(end_it, &[]).await.unwrap(), 1);
    let batch = ended(&world, run);
    assert_eq!(write(&mut world, batch).await.unwrap().broken, 1);
    assert_eq!(told_ends(&world).await, 1);
}

#[tokio::test]
async fn what_is_sent_again_is_refused_where_another_one_owns_the_shard_by_then() {
    let mut world = World::new().await;
    let run = begun(&mut world).await;
    let batch = ended(&world, run);
    world.client.execute("UPDATE shard SET epoch = epoch + 1 WHERE id = 7", &[]).await.unwrap();
    world.ways.lose(0, Question);
    let committed = write(&mut world, batch).await.unwrap();
    assert_eq!((committed.shards, told_ends(&world).await), (vec![], 0));
}

/// Whoever has no session left that was there cannot know what a crash has made forgotten.
#[tokio::test]
async fn a_journal_is_lost_with_both_of_its_sessions_and_a_new_one_writes() {
    let mut world = World::new().await;
    let run = begun(&mut world).await;
    let end_all = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    world.client.execute(end_all, &[]).await.unwrap();
    let batch = ended(&world, run);
    write(&mut world, batch).await.unwrap_err();
    world.journal.flush_again().await.unwrap_err();
    testkit::wait_for("the end of both", SOON, || async { world.journal.is_lost().then_some(()) }).await;
    assert_eq!(told_ends(&world).await, 0);
}

#[tokio::test]
async fn a_flush_that_broke_is_flushed_on_another_session_while_the_writer_lives() {
    let mut world = World::new().await;
    let run = begun(&mut world).await;
    for loss in [Question, Answer] {
        world.ways.lose(0, loss);
        world.journal.flusher().flush().await.unwrap_err();
        world.journal.flush_again().await.unwrap();
        world.journal.flusher().flush().await.unwrap();
    }
    // And the writer may break next.
    let batch = ended(&world, run);
    world.ways.lose(0, Answer);
    assert_eq!(write(&mut world, batch).await.unwrap().broken, 1);
}

#[tokio::test]
async fn who_leaves_a_commit_in_the_middle_has_lost_the_journal() {
    let mut world = World::new().await;
    let run = begun(&mut world).await;
    let mut batch = ended(&world, run);
    let mut other = world.database.client().await;
    let transaction = other.transaction().await.unwrap();
    transaction.execute("SELECT FROM shard WHERE id = 7 FOR UPDATE", &[]).await.unwrap();
    let left = tokio::time::timeout(Duration::from_millis(100), runs::commit(&mut world.journal, &mut batch)).await;
    assert!(left.is_err() && world.journal.is_lost());
    let next = ended(&world, run);
    assert!(matches!(write(&mut world, next).await, Err(Error::Interrupted)));
}
