//! What attempts do: results, outputs, lines, calls.

use crate::world::{World, assignment, attempt, block, of, pipeline};
use backend_process::process::is_alive;
use proto::internal::v1::{
    self as pb, result::Outcome, session_request::Message as Up, session_response::Message as Down,
};
use serde_json::json;

const HELLO: &str = r#"
import logging, os, sys

@data_loader
def load(*args, **kwargs):
    print("\x1b[31mto stdout\x1b[0m")
    print("to stderr", file=sys.stderr)
    logging.getLogger("mine").warning("to logging")
    print("SECRETS", sorted(name for name in os.environ if name.startswith(("CARGO", "RUST"))))
    return {"a": 1}
"#;

#[tokio::test]
async fn a_block_runs_and_its_lines_arrive_before_its_result_counts() {
    let mut world = World::start(&[("hello", HELLO)]).await;
    let mut session = world.session(&pipeline(&["hello"])).await;
    let hello = attempt("hello");
    session.assign(vec![assignment(&hello)]).await;
    let Outcome::Completed(completed) = session.outcome().await else { panic!("it completes") };
    assert_eq!(completed.outputs.len(), 1, "{completed:?}");
    assert!(world.outputs(&hello).join("manifest.json").is_file());
    for (stream, level, text) in
        [("stdout", "INFO", "to stdout"), ("stderr", "INFO", "to stderr"), ("logging", "WARNING", "to logging")]
    {
        let line = world.scheduler.line(text, |line| line.message == text).await;
        assert_eq!((line.stream.as_str(), line.level.as_str(), line.block.as_str()), (stream, level, "hello"));
    }
    // Nothing of this process's own environment reaches user code.
    world.scheduler.line("the list of variables", |line| line.message == "SECRETS []").await;
}

const INTERLEAVES: &str = r#"
import logging, subprocess, sys

@data_loader
def load(*args, **kwargs):
    for n in range(1000):
        print(n, "out")
        logging.info("%s log", n)
        print(n, "err", file=sys.stderr)
        print(n, "again, in two ", end="")
        sys.stdout.flush()
        logging.info("%s between", n)
        print("pieces")
        if n % 100 == 0:
            subprocess.run(["echo", f"{n} child"])
"#;

#[tokio::test]
async fn lines_come_in_the_order_in_which_they_were_written() {
    let mut world = World::start(&[("interleaves", INTERLEAVES)]).await;
    let mut session = world.session(&pipeline(&["interleaves"])).await;
    session.assign(vec![assignment(&attempt("interleaves"))]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    world.scheduler.line("the last line", |line| line.message == "999 again, in two pieces").await;
    let told: Vec<String> = world.scheduler.lines().into_iter().map(|line| line.message).collect();
    let expected = (0..1000).flat_map(|n| {
        let lines = ["out", "log", "err", "between", "again, in two pieces"].map(|what| format!("{n} {what}"));
        lines.into_iter().chain((n % 100 == 0).then(|| format!("{n} child")))
    });
    for (at, (told, expected)) in told.iter().zip(expected).enumerate() {
        assert_eq!(*told, expected, "line {at}");
    }
    assert_eq!(told.len(), 5_010);
}

const NEXT: &str = r#"
from orrery_runner import current

@data_loader
def load(*args, **kwargs):
    print("next", [(block["uuid"], block["kind"], block["language"]) for block in current.job()["downstream"]])
"#;

#[tokio::test]
async fn a_block_is_told_which_blocks_come_next() {
    let mut world = World::start(&[("first", NEXT)]).await;
    let model = json!({ "upstream": ["first"], "kind": "dbt", "language": "sql" });
    let both = json!({ "upstream": ["model", "first"], "language": "r" });
    let beyond = json!({ "upstream": ["model"] });
    let blocks = [("first", json!({})), ("model", model), ("both", both), ("beyond", beyond)];
    let pipeline = of(blocks.into_iter().map(|(name, further)| block(name, further)).collect());
    let mut session = world.session(&pipeline).await;
    session.assign(vec![assignment(&attempt("first"))]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    let told = "next [('model', 'dbt', 'sql'), ('both', 'data_loader', 'r')]";
    world.scheduler.line("what comes next", |line| line.message == told).await;
}

const TELLS: &str = r#"
@data_loader
def load(*args, **kwargs):
    print("it was given", "canary-of-elsewhere")
    raise ValueError("canary-of-elsewhere")
"#;

#[tokio::test]
async fn what_its_run_was_given_elsewhere_is_hidden_from_the_first_line_on() {
    let mut world = World::start(&[("tells", TELLS)]).await;
    world.scheduler.secrets.lock().unwrap().push(("A".to_owned(), "canary-of-elsewhere".to_owned()));
    let mut session = world.session(&pipeline(&["tells"])).await;
    session.assign(vec![assignment(&attempt("tells"))]).await;
    let outcome = session.outcome().await;
    let Outcome::Failed(failed) = &outcome else { panic!("{outcome:?}") };
    assert!(failed.message.contains("[secret]") && !format!("{failed:?}").contains("canary"), "{failed:?}");
    world.scheduler.line("its line", |line| line.message == "it was given [secret]").await;
    assert!(!format!("{:?}", world.scheduler.lines()).contains("canary"));
}

const WRITER: &str = r#"
import os
from mage_ai.settings.repo import get_repo_path

@data_loader
def load(*args, **kwargs):
    print("found", sorted(os.listdir(get_repo_path())))
    with open("note.txt", "a") as note:
        note.write("x")
"#;

#[tokio::test]
async fn what_a_block_writes_into_the_project_only_its_own_run_finds() {
    let mut world = World::start(&[("writer", WRITER)]).await;
    let mut session = world.session(&pipeline(&["writer"])).await;
    let (first, other) = (attempt("writer"), attempt("writer"));
    let again = pb::AttemptRef { lease: 2, ..first.clone() };
    for attempt in [&first, &again, &other] {
        session.assign(vec![assignment(attempt)]).await;
        let outcome = session.outcome().await;
        assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}");
    }
    for (attempt, found) in
        [(&first, "['data_loaders']"), (&again, "['data_loaders', 'note.txt']"), (&other, "['data_loaders']")]
    {
        let of_it = |line: &pb::LogLine| (&line.run_id, line.lease) == (&attempt.run_id, attempt.lease);
        let line = world.scheduler.line("what it found", |line| of_it(line) && line.message.starts_with("found")).await;
        assert_eq!(line.message, format!("found {found}"));
    }
}

#[tokio::test]
async fn refused_outputs_are_removed() {
    let mut world = World::start(&[("hello", HELLO)]).await;
    let mut session = world.session(&pipeline(&["hello"])).await;
    let hello = attempt("hello");
    session.assign(vec![assignment(&hello)]).await;
    assert!(matches!(session.result().await.outcome, Some(Outcome::Completed(_))));
    let folder = world.outputs(&hello);
    assert!(folder.exists());
    session.acknowledge(&hello, false).await;
    testkit::wait_for("the outputs to go", crate::scheduler::SOON, async || (!folder.exists()).then_some(())).await;
}

#[tokio::test]
async fn a_flood_is_cut_and_counted_and_delays_no_heartbeat() {
    let flood = r#"
@data_loader
def load(*args, **kwargs):
    for _ in range(4000):
        print("x" * 9_999)
    print("y" * 300_000, end="")
    return 1
"#;
    let mut world = World::with(&[("flood", flood)], |settings| settings.log_limit = 100_000).await;
    let mut session = world.session(&pipeline(&["flood"])).await;
    session.assign(vec![assignment(&attempt("flood"))]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    let line = world.scheduler.line("the count", |line| line.message.contains("log lines were dropped")).await;
    assert_eq!(line.stream, "system");
    // 10 lines of 10,000 bytes fit; the long one at the end does not.
    assert!(line.message.starts_with("3991 ") && line.message.contains("100000 bytes"), "{}", line.message);
    assert_eq!(world.scheduler.lines().iter().filter(|line| line.stream == "stdout").count(), 10);
}

#[tokio::test]
async fn one_process_runs_keep_their_process_and_its_lines_apart() {
    let first = r#"
import os
@data_loader
def load(*args, **kwargs):
    print("first in", os.getpid())
    kwargs["context"]["pid"] = os.getpid()
    return 1
"#;
    let second = r#"
import os
@data_loader
def load(*args, **kwargs):
    print("same process" if kwargs["context"]["pid"] == os.getpid() else "another process")
    print("pid", os.getpid())
    return 1
"#;
    let mut world = World::start(&[("first", first), ("second", second)]).await;
    let mut session = world.session(&pipeline(&["first", "second"])).await;
    let first = attempt("first");
    let second = pb::AttemptRef { block: "second".to_owned(), ..first.clone() };
    for attempt in [&first, &second] {
        session.assign(vec![pb::Assignment { one_process: true, ..assignment(attempt) }]).await;
        assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    }
    let line = world.scheduler.line("the second block", |line| line.message.ends_with("process")).await;
    assert_eq!((line.message.as_str(), line.block.as_str()), ("same process", "second"));
    assert_eq!(world.scheduler.line("the first block", |line| line.message.starts_with("first")).await.block, "first");
    let pid =
        world.scheduler.line("the pid", |line| line.message.starts_with("pid ")).await.message[4..].parse().unwrap();
    assert!(is_alive(pid));
    session.say(Down::EndProcess(pb::EndProcess { run_id: first.run_id })).await;
    testkit::wait_for("the process to end", crate::scheduler::SOON, async || (!is_alive(pid)).then_some(())).await;
}

#[tokio::test]
async fn calls_are_carried_and_a_waiting_attempt_holds_no_slot() {
    let asker = r#"
from orrery_runner import current
@data_loader
def load(*args, **kwargs):
    run = current.call("trigger_pipeline", {"pipeline_uuid": "other", "variables": {}, "key": "k"})
    print("status", current.call("wait_run", {"run_id": run["run_id"], "timeout_s": 3600})["status"])
    try:
        current.call("check_status", {})
    except Exception as error:
        print("refused", error)
    return 1
"#;
    let mut world = World::start(&[("asker", asker)]).await;
    let mut session = world.session(&pipeline(&["asker"])).await;
    let asker = attempt("asker");
    session.assign(vec![assignment(&asker)]).await;
    let reply = |call: &pb::RunnerCall, result: serde_json::Value, error: &str| {
        Down::RunnerReply(pb::RunnerReply {
            call_id: call.call_id,
            attempt: call.attempt.clone(),
            result: result.to_string(),
            error: error.to_owned(),
        })
    };
    let Some(Up::RunnerCall(call)) = session.next().await else { panic!("a call") };
    assert_eq!((call.method.as_str(), call.attempt.as_ref()), ("trigger_pipeline", Some(&asker)));
    session.say(reply(&call, json!({ "run_id": "r", "status": "running" }), "")).await;
    let Some(Up::SlotChange(change)) = session.next().await else { panic!("the slot is given back") };
    assert!(!change.holds_slot);
    let Some(Up::RunnerCall(call)) = session.next().await else { panic!("a call") };
    assert_eq!(call.method, "wait_run");
    let patience = |call: &pb::RunnerCall| {
        serde_json::from_str::<serde_json::Value>(&call.arguments).unwrap()["timeout_s"].as_f64().unwrap()
    };
    let asked = patience(&call);
    assert!(asked <= 3600.0, "{asked}");
    // Another owner asks what runs here: it hears who waits, and an answer on the word of the former one is asked for anew.
    session.say(Down::InventoryRequest(pb::InventoryRequest {})).await;
    let Some(Up::Inventory(inventory)) = session.next().await else { panic!("an inventory") };
    assert_eq!(inventory.running, std::slice::from_ref(&asker));
    session.say(reply(&call, json!({ "run_id": "r", "status": "completed" }), "")).await;
    for _ in 0..2 {
        let Some(Up::SlotChange(change)) = session.next().await else { panic!("it still waits") };
        assert!(!change.holds_slot);
    }
    let Some(Up::RunnerCall(call)) = session.next().await else { panic!("a call") };
    assert_eq!(call.method, "wait_run");
    assert!(patience(&call) < asked, "the time that it had waited counts");
    // Its time is over, and the run is not: it goes on as after any other answer.
    session.say(reply(&call, json!({ "run_id": "r", "status": "running" }), "")).await;
    let Some(Up::SlotChange(change)) = session.next().await else { panic!("the slot is taken back") };
    assert!(change.holds_slot);
    let Some(Up::RunnerCall(call)) = session.next().await else { panic!("a call") };
    session.say(reply(&call, json!(null), "no such pipeline")).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    world.scheduler.line("the answer", |line| line.message == "status running").await;
    world.scheduler.line("the refusal", |line| line.message == "refused check_status: no such pipeline").await;
}

#[tokio::test]
async fn a_secret_that_a_block_returns_is_in_no_preview() {
    let teller = r#"
from mage_ai.data_preparation.shared.secrets import get_secret_value
@data_loader
def load(*args, **kwargs):
    value = get_secret_value("key")
    return {"told": "it is " + value, "cut": "x" * 190 + value, value: 1}
"#;
    let mut world = World::start(&[("teller", teller)]).await;
    let mut session = world.session(&pipeline(&["teller"])).await;
    let teller = attempt("teller");
    session.assign(vec![assignment(&teller)]).await;
    let Some(Up::RunnerCall(pb::RunnerCall { call_id, attempt, .. })) = session.next().await else { panic!("a call") };
    let result = json!({ "value": "canary-5e1d-preview" }).to_string();
    session.say(Down::RunnerReply(pb::RunnerReply { call_id, attempt, result, error: String::new() })).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    let read = |file: &str| std::fs::read_to_string(world.outputs(&teller).join(file)).unwrap();
    assert!(read("output_0/data.json").contains("canary-5e1d-preview"), "the next block needs it as it is");
    let notes = read("preview.json");
    assert!(!notes.contains("canary") && notes.contains("it is [secret]"), "{notes}");
    assert!(notes.contains("x[secret]…") && notes.contains("\"complete\":false"), "{notes}");
}

#[tokio::test]
async fn what_is_wrong_with_an_assignment_is_said() {
    let mut world = World::start(&[("hello", HELLO)]).await;
    let pipeline = of(vec![block("hello", json!({}))]);
    let mut session = world.session(&pipeline).await;
    // What this session was not taught goes back, and its owner may teach and assign it again.
    session.assign(vec![pb::Assignment { definition_id: "other@7".to_owned(), ..assignment(&attempt("hello")) }]).await;
    let outcome = session.outcome().await;
    assert!(matches!(outcome, Outcome::Released(_)), "{outcome:?}");
    session.assign(vec![assignment(&attempt("missing"))]).await;
    let Outcome::Failed(failed) = session.outcome().await else { panic!("it fails") };
    assert!(failed.message.contains("`missing`"), "{failed:?}");
}
