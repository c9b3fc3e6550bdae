//! What is told of triggers that are late, while the database is away: that is when somebody looks.

use crate::cluster::{WAIT, World, block};
use domain::trigger::{Kind, Schedule, Spec};
use serde_json::json;
use testkit::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn lateness_rises_while_the_database_is_away_and_ends_with_it() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let schedule = Schedule { every: "* * * * * *".to_owned(), zone: "UTC".to_owned(), start: None, end: None };
    world.trigger(pipeline, "t", &Spec::new(Kind::Schedule(schedule))).await;
    let node = world.node(0..256, 2).await;
    let fired = "SELECT count(*) FROM firing WHERE decided = 'fired'";
    wait_for("a first firing", WAIT, || async { (world.count(fired).await > 0).then_some(()) }).await;
    wait_for("little to be late", WAIT, || async { (node.metrics.due_lag.get() <= 1).then_some(()) }).await;
    // Nobody comes in any more, and whoever is in has to leave.
    let client = world.database.client().await;
    let allow = "UPDATE pg_database SET datallowconn = $1 WHERE datname = current_database()";
    client.execute(allow, &[&false]).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    client.execute(end, &[]).await.unwrap();
    wait_for("lateness to rise", WAIT, || async { (node.metrics.due_lag.get() >= 3).then_some(()) }).await;
    client.execute(allow, &[&true]).await.unwrap();
    let decided = client.query_one(fired, &[]).await.unwrap().get::<_, i64>(0);
    wait_for("it to fire again", WAIT, || async {
        (client.query_one(fired, &[]).await.unwrap().get::<_, i64>(0) > decided).then_some(())
    })
    .await;
    wait_for("nothing to be late", WAIT, || async { (node.metrics.due_lag.get() == 0).then_some(()) }).await;
    node.kill();
}
