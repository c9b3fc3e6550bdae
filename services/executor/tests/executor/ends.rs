//! How attempts are ended: by a cancellation, a time-out, a crash, a lack of memory; and what they leave behind.

use crate::{
    scheduler::{SOON, Session},
    world::{World, assignment, attempt, block, of, pipeline},
};
use backend_process::process::is_alive;
use proto::internal::v1::{self as pb, result::Outcome};
use serde_json::json;

const SLEEPER: &str = r#"
import os, time
@data_loader
def load(*args, **kwargs):
    print("pid", os.getpid())
    try:
        time.sleep(600)
    finally:
        print("tidied up")
"#;

/// Ignores SIGTERM, and never falls silent.
const STUBBORN: &str = r#"
import logging, os, signal, time
@data_loader
def load(*args, **kwargs):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("pid", os.getpid())
    while True:
        logging.getLogger("loud").warning("still here")
"#;

/// The number that a block printed after "pid ".
async fn pid(world: &World) -> i32 {
    world.scheduler.line("the pid", |line| line.message.starts_with("pid ")).await.message[4..].parse().unwrap()
}

async fn gone(pid: i32) {
    testkit::wait_for(format!("process {pid} to be gone"), SOON, async || (!is_alive(pid)).then_some(())).await;
}

async fn failure(session: &mut Session) -> pb::Failed {
    match session.outcome().await {
        Outcome::Failed(failed) => failed,
        other => panic!("{other:?} instead of a failure"),
    }
}

#[tokio::test]
async fn a_cancelled_block_may_tidy_up_within_its_grace() {
    let mut world = World::start(&[("sleeper", SLEEPER)]).await;
    let mut session = world.session(&pipeline(&["sleeper"])).await;
    let sleeper = attempt("sleeper");
    session.assign(vec![assignment(&sleeper)]).await;
    let pid = pid(&world).await;
    session.cancel(&sleeper, 20_000).await;
    assert!(matches!(session.outcome().await, Outcome::Cancelled(_)));
    assert!(!is_alive(pid), "a result comes after the process is gone");
    world.scheduler.line("the clean-up", |line| line.message == "tidied up").await;
}

#[tokio::test]
async fn one_that_ignores_sigterm_and_never_falls_silent_is_killed_after_the_grace() {
    let mut world = World::start(&[("stubborn", STUBBORN)]).await;
    let mut session = world.session(&pipeline(&["stubborn"])).await;
    let stubborn = attempt("stubborn");
    session.assign(vec![assignment(&stubborn)]).await;
    let pid = pid(&world).await;
    session.cancel(&stubborn, 200).await;
    assert!(matches!(session.outcome().await, Outcome::Cancelled(_)));
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_block_over_its_time_fails_with_timeout() {
    let mut world = World::start(&[("sleeper", SLEEPER)]).await;
    let mut session = world.session(&pipeline(&["sleeper"])).await;
    session.assign(vec![pb::Assignment { timeout_s: 1, ..assignment(&attempt("sleeper")) }]).await;
    let failed = failure(&mut session).await;
    assert_eq!(failed.code, "TIMEOUT");
    assert!(failed.message.contains("1 s"), "{}", failed.message);
}

#[tokio::test]
async fn a_crash_names_its_signal_and_touches_no_other_attempt() {
    let crash = r#"
import os, signal
@data_loader
def load(*args, **kwargs):
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
"#;
    let quits = r#"
import os
@data_loader
def load(*args, **kwargs):
    os._exit(3)
"#;
    let mut world = World::start(&[("sleeper", SLEEPER), ("crash", crash), ("quits", quits)]).await;
    let mut session = world.session(&pipeline(&["sleeper", "crash", "quits"])).await;
    session.assign(vec![assignment(&attempt("sleeper"))]).await;
    let bystander = pid(&world).await;
    session.assign(vec![assignment(&attempt("crash"))]).await;
    let failed = failure(&mut session).await;
    assert_eq!(failed.code, "CRASHED");
    assert!(failed.message.contains("SIGSEGV"), "{}", failed.message);
    world.scheduler.line("what it said before", |line| line.message == "last words").await;
    session.assign(vec![assignment(&attempt("quits"))]).await;
    assert!(failure(&mut session).await.message.contains("code 3"));
    assert!(is_alive(bystander));
}

#[tokio::test]
async fn a_process_that_takes_outputs_in_its_memory_with_it_says_so() {
    let keep = "@data_loader\ndef load(*args, **kwargs):\n    return 1\n";
    let crash = "import os\n@data_loader\ndef load(value):\n    os.abort()\n";
    let mut world = World::start(&[("keep", keep), ("crash", crash)]).await;
    let mut pipeline = of(vec![block("keep", json!({})), block("crash", json!({ "upstream": ["keep"] }))]);
    (pipeline.one_process, pipeline.cache_output_in_memory) = (true, true);
    let mut session = world.session(&pipeline).await;
    let first = attempt("keep");
    let kept = pb::OutputRef { child: -1, lease: 1 };
    let input = pb::Input { block: "keep".to_owned(), outputs: vec![kept], ..pb::Input::default() };
    let in_one_process =
        |attempt: pb::AttemptRef, inputs| pb::Assignment { one_process: true, inputs, ..assignment(&attempt) };
    session.assign(vec![in_one_process(first.clone(), vec![])]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    for lease in 1..=2 {
        let second = pb::AttemptRef { block: "crash".to_owned(), lease, ..first.clone() };
        session.assign(vec![in_one_process(second, vec![input.clone()])]).await;
        let failed = failure(&mut session).await;
        assert!(failed.process_lost && failed.code == "CRASHED", "{failed:?}");
        // The second time there is no process to ask.
        let why = if lease == 1 { "SIGABRT" } else { "held the outputs" };
        assert!(failed.message.contains(why), "{}", failed.message);
    }
}

#[tokio::test]
async fn a_new_process_of_a_run_is_not_taken_for_the_one_that_held_its_outputs() {
    let keep = "@data_loader\ndef load(*args, **kwargs):\n    return 1\n";
    let crash = "import os\n@data_loader\ndef load(*args, **kwargs):\n    os.abort()\n";
    let read = "@data_loader\ndef read(value, *args, **kwargs):\n    return value + 1\n";
    let mut world = World::start(&[("keep", keep), ("crash", crash), ("read", read)]).await;
    let reads = block("read", json!({ "upstream": ["keep"] }));
    let mut pipeline = of(vec![block("keep", json!({})), block("crash", json!({})), reads]);
    (pipeline.one_process, pipeline.cache_output_in_memory) = (true, true);
    let mut session = world.session(&pipeline).await;
    let first = attempt("keep");
    let of_lease = |lease| pb::Input {
        block: "keep".to_owned(),
        mode: pb::InputMode::Whole.into(),
        outputs: vec![pb::OutputRef { child: -1, lease }],
        ..pb::Input::default()
    };
    let again = |block: &str, lease| pb::AttemptRef { block: block.to_owned(), lease, ..first.clone() };
    let in_one_process =
        |attempt: pb::AttemptRef, inputs| pb::Assignment { one_process: true, inputs, ..assignment(&attempt) };
    session.assign(vec![in_one_process(first.clone(), vec![])]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    session.assign(vec![in_one_process(again("crash", 1), vec![])]).await;
    assert!(failure(&mut session).await.process_lost);
    // The run has a process again, which has made the same block anew.
    session.assign(vec![in_one_process(again("keep", 2), vec![])]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    session.assign(vec![in_one_process(again("read", 1), vec![of_lease(1)])]).await;
    let failed = failure(&mut session).await;
    assert!(failed.process_lost && failed.message.contains("held the outputs"), "{failed:?}");
    // What it did make it can read.
    session.assign(vec![in_one_process(again("keep", 3), vec![])]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    session.assign(vec![in_one_process(again("read", 2), vec![of_lease(3)])]).await;
    let read = session.outcome().await;
    assert!(matches!(read, Outcome::Completed(_)), "{read:?}");
}

#[tokio::test]
async fn a_long_list_in_memory_is_told_of_in_one_message() {
    let many = "@data_loader\ndef load(*args, **kwargs):\n    return [{'n': n} for n in range(117_000)]\n";
    let mut world = World::start(&[("many", many)]).await;
    let mut pipeline = of(vec![block("many", json!({}))]);
    (pipeline.one_process, pipeline.cache_output_in_memory) = (true, true);
    let mut session = world.session(&pipeline).await;
    session.assign(vec![pb::Assignment { one_process: true, ..assignment(&attempt("many")) }]).await;
    let Outcome::Completed(completed) = session.outcome().await else { panic!("it completes") };
    let told: Vec<_> = completed.outputs.iter().map(|output| (output.kind.as_str(), output.rows)).collect();
    assert_eq!(told, [("list", 117_000)]);
}

#[tokio::test]
async fn a_failure_with_half_a_character_is_told() {
    let half = r#"
import json, logging, os

@data_loader
def load(*args, **kwargs):
    logging.info("found %s", os.fsdecode(b"caf\xe9.csv"))
    raise ValueError("no text: " + json.loads('"\\ud83d"'))
"#;
    let mut world = World::start(&[("half", half)]).await;
    let mut session = world.session(&pipeline(&["half"])).await;
    session.assign(vec![assignment(&attempt("half"))]).await;
    let failed = failure(&mut session).await;
    assert_eq!((failed.code.as_str(), failed.message.as_str()), ("USER_CODE", "ValueError: no text: \u{fffd}"));
    world.scheduler.line("the name", |line| line.message == "found caf\u{fffd}.csv").await;
}

#[tokio::test]
async fn memory_beyond_the_limit_is_said_to_be_that() {
    let greedy = r#"
@data_loader
def load(*args, **kwargs):
    held = []
    while True:
        held.append(bytearray(8 * 1024 * 1024))
"#;
    let limit = |settings: &mut executor::settings::Settings| settings.memory_limit = Some(128 * 1024 * 1024);
    let mut world = World::with(&[("greedy", greedy)], limit).await;
    let mut session = world.session(&pipeline(&["greedy"])).await;
    session.assign(vec![assignment(&attempt("greedy"))]).await;
    assert_eq!(failure(&mut session).await.code, "OUT_OF_MEMORY");
}

#[tokio::test]
async fn a_killed_zygote_is_no_try_of_its_attempts_and_comes_back() {
    let mut world =
        World::start(&[("sleeper", SLEEPER), ("quick", "@data_loader\ndef load(*a, **k):\n    return 1\n")]).await;
    let mut session = world.session(&pipeline(&["sleeper", "quick"])).await;
    session.assign(vec![assignment(&attempt("sleeper"))]).await;
    let pid = pid(&world).await;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let zygote: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    backend_process::process::kill([zygote]);
    let failed = failure(&mut session).await;
    assert!(failed.interpreter_lost && failed.code == "CRASHED", "{failed:?}");
    assert!(!is_alive(pid));
    session.assign(vec![assignment(&attempt("quick"))]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
}

#[tokio::test]
async fn what_leaves_the_group_is_found_and_killed() {
    let leaver = r#"
import os, subprocess, time
def daemon():
    # A plain fork that closes everything: its environment in /proc is the warm interpreter's.
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            os.closerange(0, 64)
            time.sleep(600)
        os._exit(0)
    return int(os.read(reading, 32))

@data_loader
def load(*args, **kwargs):
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    program = subprocess.Popen(["sleep", "600"], start_new_session=True, **quiet)
    holder = subprocess.Popen(["sleep", "600"], start_new_session=True)
    print("left", program.pid, holder.pid, daemon())
    return 1
"#;
    let mut world = World::start(&[("leaver", leaver)]).await;
    let mut session = world.session(&pipeline(&["leaver"])).await;
    session.assign(vec![assignment(&attempt("leaver"))]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    let left = world.scheduler.line("the numbers", |line| line.message.starts_with("left ")).await.message;
    let left: Vec<i32> = left.split(' ').skip(1).map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(left.len(), 3);
    for pid in left {
        gone(pid).await;
    }
}
