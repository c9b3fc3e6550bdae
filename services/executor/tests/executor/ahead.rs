//! What was given ahead: it begins by itself, or goes back and was never begun.

use crate::world::{World, assignment, attempt, behind_each_other, pipeline};
use proto::internal::v1::{
    self as pb, result::Outcome, session_request::Message as Up, session_response::Message as Down,
};

/// Says that it ran, in a file beside its outputs' folder, and takes as long as it is told.
fn says(name: &str, body: &str) -> String {
    format!(
        "import time\n@data_loader\ndef {name}(*args, **kwargs):\n    print('{name} began')\n    {body}\n    return 1\n"
    )
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed(_) => "completed",
        Outcome::Failed(_) => "failed",
        Outcome::Released(_) => "released",
        Outcome::Cancelled(_) => "cancelled",
        other => panic!("{other:?}"),
    }
}

/// What is told of so many attempts, in its order.
async fn told(session: &mut crate::scheduler::Session, count: usize) -> Vec<(String, &'static str)> {
    let mut told = Vec::new();
    for _ in 0..count {
        let result = session.result().await;
        told.push((result.attempt.unwrap().block, word(&result.outcome.unwrap())));
    }
    told
}

async fn world_of(bodies: [(&'static str, &str); 3]) -> World {
    let files = bodies.map(|(name, body)| (name, says(name, body)));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    World::start(&files).await
}

fn pairs<'a>(told: &'a [(String, &'static str)]) -> Vec<(&'a str, &'a str)> {
    told.iter().map(|(block, outcome)| (block.as_str(), *outcome)).collect()
}

/// The interpreter is started, so that a first block takes no longer than the others.
async fn warm(session: &mut crate::scheduler::Session) {
    let first = attempt("a");
    session.assign(vec![assignment(&first)]).await;
    session.result().await;
    session.acknowledge(&first, true).await;
}

#[tokio::test]
async fn each_begins_by_itself_when_the_one_before_it_has_completed() {
    let mut world = world_of([("a", "pass"), ("b", "pass"), ("c", "pass")]).await;
    let mut session = world.session(&pipeline(&["a", "b", "c"])).await;
    warm(&mut session).await;
    // On a machine that is too slow they go back, which is right as well, and another try follows.
    for _ in 0..20 {
        let lane = ["a", "b", "c"].map(attempt);
        session.assign(behind_each_other(&lane)).await;
        let told = told(&mut session, 3).await;
        if pairs(&told) == [("a", "completed"), ("b", "completed"), ("c", "completed")] {
            assert!(lane.iter().all(|attempt| world.outputs(attempt).join("manifest.json").is_file()));
            return;
        }
        assert!(pairs(&told).contains(&("c", "released")), "{told:?}");
    }
    panic!("nothing ever went on by itself");
}

#[tokio::test]
async fn behind_what_fails_or_takes_long_nothing_begins() {
    let mut world = world_of([("a", "pass"), ("b", "raise ValueError('no')"), ("c", "time.sleep(0.3)")]).await;
    let mut session = world.session(&pipeline(&["a", "b", "c"])).await;
    for (first, last, end) in [("b", "c", "failed"), ("c", "b", "completed")] {
        let lane = [first, "a", last].map(attempt);
        session.assign(behind_each_other(&lane)).await;
        let told = told(&mut session, 3).await;
        // Told first, they are known not to have begun; and the last of them before what it was behind.
        assert_eq!(pairs(&told), [(last, "released"), ("a", "released"), (first, end)]);
        assert!(lane[1..].iter().all(|attempt| !world.outputs(attempt).exists()));
    }
}

#[tokio::test]
async fn what_has_not_begun_is_named_and_can_be_taken_back() {
    let mut world = world_of([("a", "time.sleep(3)"), ("b", "pass"), ("c", "pass")]).await;
    let session = world.session(&pipeline(&["a", "b", "c"])).await;
    let lane = ["a", "b", "c"].map(attempt);
    session.assign(behind_each_other(&lane)).await;
    world.scheduler.line("the first one", |line| line.message == "a began").await;
    drop(session);
    let mut session = world.scheduler.welcomed(20_000).await;
    assert_eq!(session.hello.running, lane[..1]);
    let mut ahead = session.hello.ahead.clone();
    ahead.sort_by(|one, other| one.block.cmp(&other.block));
    assert_eq!(ahead, lane[1..]);
    // What it is given twice it has once.
    session.assign(behind_each_other(&lane)).await;
    session.cancel(&lane[1], 1_000).await;
    assert_eq!(pairs(&told(&mut session, 2).await), [("c", "released"), ("b", "released")]);
    assert_eq!(pairs(&told(&mut session, 1).await), [("a", "completed")]);
}

#[tokio::test]
async fn nothing_is_begun_behind_what_is_not_here_or_while_it_drains() {
    let mut world = world_of([("a", "time.sleep(2)"), ("b", "pass"), ("c", "pass")]).await;
    let mut session = world.session(&pipeline(&["a", "b", "c"])).await;
    let stray = attempt("b");
    session.assign(vec![pb::Assignment { after: Some(attempt("a")), ..assignment(&stray) }]).await;
    assert_eq!(pairs(&told(&mut session, 1).await), [("b", "released")]);
    session.acknowledge(&stray, true).await;
    let lane = ["a", "b"].map(attempt);
    session.assign(behind_each_other(&lane)).await;
    world.scheduler.line("the first one", |line| line.message == "a began").await;
    world.shutdown.drain();
    while !matches!(session.next().await, Some(Up::Draining(_))) {}
    assert_eq!(pairs(&told(&mut session, 2).await), [("b", "released"), ("a", "completed")]);
    for attempt in &lane {
        session.acknowledge(attempt, true).await;
    }
    session.say(Down::Reconnect(pb::Reconnect {})).await;
    world.ended().await;
}
