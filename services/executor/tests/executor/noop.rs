//! The built-in no-op.

use crate::world::{World, assignment, attempt, behind_each_other, block, of};
use proto::internal::v1::result::Outcome;
use serde_json::json;

#[tokio::test]
async fn noops_complete_in_batches_without_a_process() {
    let mut world = World::start(&[]).await;
    let noop =
        |name: &str, configuration| block(name, json!({ "executor_type": "noop", "configuration": configuration }));
    let pipeline =
        of(vec![noop("plain", json!({})), noop("parent", json!({ "items": 3 })), noop("bad", json!({ "fail": true }))]);
    let mut session = world.session(&pipeline).await;
    let mut assignments: Vec<_> = (0..5_000).map(|_| assignment(&attempt("plain"))).collect();
    assignments.push(assignment(&attempt("parent")));
    assignments.push(assignment(&attempt("bad")));
    session.assign(assignments).await;
    for _ in 0..5_000 {
        assert!(matches!(session.result().await.outcome, Some(Outcome::Completed(_))));
    }
    let Some(Outcome::Completed(parent)) = session.result().await.outcome else { panic!("the parent completes") };
    assert_eq!(parent.items, Some(3));
    let Some(Outcome::Failed(bad)) = session.result().await.outcome else { panic!("the bad one fails") };
    assert_eq!(bad.code, "USER_CODE");
    assert!(!world.settings.data_dir.join("outputs").exists());
}

/// A lane of no-ops is over at once; behind one that fails nothing begins, and what goes back is told before it.
#[tokio::test]
async fn noops_follow_each_other_and_nothing_follows_a_failure() {
    let mut world = World::start(&[]).await;
    let noop =
        |name: &str, configuration| block(name, json!({ "executor_type": "noop", "configuration": configuration }));
    let pipeline = of(vec![noop("good", json!({})), noop("bad", json!({ "fail": true }))]);
    let mut session = world.session(&pipeline).await;
    assert!(session.hello.goes_on);
    let lane = ["good", "good", "bad", "good"].map(attempt);
    session.assign(behind_each_other(&lane)).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let result = session.result().await;
        let at = lane.iter().position(|attempt| Some(attempt) == result.attempt.as_ref()).unwrap();
        let outcome = match result.outcome.unwrap() {
            Outcome::Completed(_) => "completed",
            Outcome::Failed(_) => "failed",
            Outcome::Released(_) => "released",
            other => panic!("{other:?}"),
        };
        told.push((at, outcome));
    }
    // The whole lane came at once, so what cannot begin any more is known when it is come to.
    assert_eq!(told, [(0, "completed"), (1, "completed"), (2, "failed"), (3, "released")]);
}
