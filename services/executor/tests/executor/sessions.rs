//! Sessions that break, freeze and end, and what becomes of attempts and results meanwhile.

use crate::{
    scheduler::FakeScheduler,
    world::{World, assignment, attempt, block, of, pipeline},
};
use backend_process::process::is_alive;
use proto::internal::v1::{
    self as pb, result::Outcome, session_request::Message as Up, session_response::Message as Down,
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

const SLEEPER: &str = r#"
import os, time
@data_loader
def load(*args, **kwargs):
    print("pid", os.getpid())
    time.sleep(600)
"#;

async fn pid(world: &World) -> i32 {
    world.scheduler.line("the pid", |line| line.message.starts_with("pid ")).await.message[4..].parse().unwrap()
}

fn noop() -> domain::pipeline::Pipeline {
    of(vec![block("noop", json!({ "executor_type": "noop" }))])
}

#[tokio::test]
async fn hello_says_who_it_is() {
    let mut world = World::start(&[]).await;
    let session = world.scheduler.session().await;
    assert_eq!((session.hello.name.as_str(), session.hello.slots, session.hello.executor_id.len()), ("tested", 4, 16));
    assert!(session.hello.running.is_empty());
}

#[tokio::test]
async fn a_result_that_nobody_confirmed_comes_again_on_the_next_session() {
    let mut world = World::start(&[]).await;
    let mut session = world.session(&noop()).await;
    let noop = attempt("noop");
    session.assign(vec![assignment(&noop)]).await;
    session.result().await;
    drop(session);
    let mut session = world.scheduler.welcomed(20_000).await;
    assert_eq!(session.hello.running, std::slice::from_ref(&noop));
    assert_eq!(session.result().await.attempt, Some(noop.clone()));
    session.acknowledge(&noop, true).await;
    session.say(Down::Reconnect(pb::Reconnect {})).await;
    let session = world.scheduler.session().await;
    assert!(session.hello.running.is_empty());
}

/// As behind a service of Kubernetes: which scheduler one gets is decided for each connection.
#[tokio::test]
async fn one_that_is_asked_to_go_reaches_another_scheduler_behind_the_same_address() {
    let (address, towards) = balancer().await;
    let mut world = World::idle(&[]).await;
    towards.send_replace(Some(world.scheduler.url.clone()));
    world.settings.scheduler_urls = vec![address];
    world.serve();
    let mut session = world.session(&noop()).await;
    let noop = attempt("noop");
    session.assign(vec![assignment(&noop)]).await;
    session.result().await;
    let mut later = FakeScheduler::start().await;
    towards.send_replace(Some(later.url.clone()));
    session.say(Down::Reconnect(pb::Reconnect {})).await;
    let mut session = later.welcomed(20_000).await;
    assert_eq!(session.hello.running, std::slice::from_ref(&noop));
    assert_eq!(session.result().await.attempt, Some(noop), "what the first one did not confirm is not lost");
}

/// One address, whose new connections go where the other end says. Those that are there already stay.
async fn balancer() -> (String, watch::Sender<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (towards, to) = watch::channel::<Option<String>>(None);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let backend = to.borrow().as_ref().unwrap().trim_start_matches("http://").to_owned();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(backend).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    (address, towards)
}

/// It may have reached a scheduler that had just lost its run: that one says nothing.
#[tokio::test]
async fn a_result_that_nobody_confirms_comes_again_on_the_same_session() {
    let mut world = World::start(&[]).await;
    let mut session = world.scheduler.welcomed(4_000).await;
    world.teach(&session, &noop()).await;
    let noop = attempt("noop");
    session.assign(vec![assignment(&noop)]).await;
    assert_eq!(session.result().await.attempt, Some(noop.clone()));
    assert_eq!(session.result().await.attempt, Some(noop.clone()));
    session.acknowledge(&noop, true).await;
}

/// Whoever assigns something may not know whether it came.
#[tokio::test]
async fn what_is_assigned_twice_is_run_once() {
    let mut world = World::start(&[]).await;
    let mut session = world.session(&noop()).await;
    let (twice, last) = (attempt("noop"), attempt("noop"));
    for attempt in [&twice, &twice, &last] {
        session.assign(vec![assignment(attempt)]).await;
    }
    assert_eq!(session.result().await.attempt, Some(twice));
    assert_eq!(session.result().await.attempt, Some(last));
}

#[tokio::test]
async fn what_runs_survives_a_reconnection_and_the_unknown_is_stopped() {
    let mut world = World::start(&[("sleeper", SLEEPER)]).await;
    let session = world.session(&pipeline(&["sleeper"])).await;
    let sleeper = attempt("sleeper");
    session.assign(vec![assignment(&sleeper)]).await;
    let pid = pid(&world).await;
    drop(session);
    let session = world.scheduler.welcomed(20_000).await;
    assert_eq!(session.hello.running, std::slice::from_ref(&sleeper));
    assert!(is_alive(pid));
    drop(session);
    let mut session = world.scheduler.session().await;
    session.welcome(20_000, vec![sleeper]).await;
    testkit::wait_for("the process to go", crate::scheduler::SOON, async || (!is_alive(pid)).then_some(())).await;
    // Nobody wants its result either: the next message is about something else.
    world.teach(&session, &noop()).await;
    let noop = attempt("noop");
    session.assign(vec![assignment(&noop)]).await;
    assert_eq!(session.result().await.attempt, Some(noop));
}

#[tokio::test]
async fn a_frozen_scheduler_is_left_and_silence_ends_what_runs() {
    let mut world = World::start(&[("sleeper", SLEEPER)]).await;
    let session = world.scheduler.welcomed(6_000).await;
    world.teach(&session, &pipeline(&["sleeper"])).await;
    session.assign(vec![assignment(&attempt("sleeper"))]).await;
    let pid = pid(&world).await;
    world.scheduler.fall_silent();
    // The connection is as good as ever; only the answers are missing.
    let second = world.scheduler.session().await;
    assert_eq!(second.hello.running.len(), 1);
    testkit::wait_for("the process to go", crate::scheduler::SOON, async || (!is_alive(pid)).then_some(())).await;
    world.scheduler.speak_again();
    // The second one may have been left meanwhile, or not: its end makes room for another either way.
    drop(second);
    loop {
        let next = world.scheduler.session().await;
        next.welcome(20_000, Vec::new()).await;
        if next.hello.running.is_empty() {
            break;
        }
    }
    drop(session);
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_says_goodbye() {
    let folder = tempfile::TempDir::new().unwrap();
    let go = folder.path().join("go");
    let waits = format!(
        "import os, time\n@data_loader\ndef load(*a, **k):\n    print('pid', 0)\n\
         \x20   while not os.path.exists({go:?}):\n        time.sleep(0.02)\n    return 1\n"
    );
    let mut world = World::start(&[("waits", &waits)]).await;
    let mut session = world.session(&pipeline(&["waits"])).await;
    session.assign(vec![assignment(&attempt("waits"))]).await;
    pid(&world).await;
    world.shutdown.drain();
    assert!(matches!(session.next().await, Some(Up::Draining(_))));
    // New work is given back, not counted as a try.
    session.assign(vec![assignment(&attempt("waits"))]).await;
    let given_back = session.outcome().await;
    assert!(matches!(given_back, Outcome::Released(_)), "{given_back:?}");
    std::fs::write(&go, "").unwrap();
    let finished = session.outcome().await;
    assert!(matches!(finished, Outcome::Completed(_)), "{finished:?}");
    assert!(matches!(session.next().await, Some(Up::Goodbye(_))));
    world.ended().await;
}

#[tokio::test]
async fn at_the_deadline_what_runs_is_given_back() {
    let mut world = World::start(&[("sleeper", SLEEPER)]).await;
    let mut session = world.session(&pipeline(&["sleeper"])).await;
    session.assign(vec![assignment(&attempt("sleeper"))]).await;
    let pid = pid(&world).await;
    world.shutdown.stop();
    assert!(matches!(session.next().await, Some(Up::Draining(_)) | Some(Up::Results(_))));
    world.ended().await;
    assert!(!is_alive(pid));
    drop(session);
}

/// Counts the time in which this machine stood still: by how much a thread that only sleeps wakes too late. Nobody can
/// promise anything for that time.
struct Pulse {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Pulse {
    fn start() -> Self {
        const PULSE: Duration = Duration::from_millis(20);
        const PULSE_MAX: Duration = Duration::from_millis(50);
        let over = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut still = Duration::ZERO;
            while !seen.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(PULSE);
                still += begun.elapsed().saturating_sub(PULSE_MAX);
            }
            still
        });
        Self { over, thread }
    }

    fn still(self) -> Duration {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Whoever set the deadline kills what is left soon after it.
#[tokio::test]
async fn two_seconds_after_the_deadline_it_is_gone_whatever_others_do() {
    let stubborn = format!("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPER}");
    let mut world = World::start(&[("stubborn", &stubborn)]).await;
    let session = world.session(&pipeline(&["stubborn"])).await;
    session.assign(vec![assignment(&attempt("stubborn"))]).await;
    let pid = pid(&world).await;
    // Nobody confirms anything either.
    world.scheduler.fall_silent();
    let (pulse, begun) = (Pulse::start(), Instant::now());
    world.shutdown.stop();
    world.ended().await;
    let (took, still) = (begun.elapsed(), pulse.still());
    assert!(took <= Duration::from_secs(2) + still, "it took {took:?}; the machine stood still for {still:?}");
    assert!(!is_alive(pid));
    drop(session);
}
