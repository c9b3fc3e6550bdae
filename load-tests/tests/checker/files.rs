//! A history as files, and the program that judges it.

use crate::story::{id, right, run_id};
use load_tests::history::{
    Check, ClientEvent, ClientLog, DatabaseLine, HarnessLog, History, JournalEvent, Promises, Request, check,
};
use std::{fmt::Write, fs, path::Path, process::Command};

fn write_database(history: &History, folder: &Path) {
    let mut text = String::new();
    let mut add = |line: DatabaseLine| writeln!(text, "{}", serde_json::to_string(&line).unwrap()).unwrap();
    history.pipelines.iter().cloned().map(DatabaseLine::Pipeline).for_each(&mut add);
    history.graphs.iter().cloned().map(DatabaseLine::Graph).for_each(&mut add);
    history.backfills.iter().cloned().map(DatabaseLine::Backfill).for_each(&mut add);
    history.triggers.iter().cloned().map(DatabaseLine::Trigger).for_each(&mut add);
    history.trigger_states.iter().cloned().map(DatabaseLine::TriggerState).for_each(&mut add);
    history.firings.iter().cloned().map(DatabaseLine::Firing).for_each(&mut add);
    history.runs.iter().cloned().map(DatabaseLine::Run).for_each(&mut add);
    history.units.iter().cloned().map(DatabaseLine::Unit).for_each(&mut add);
    history.unit_writes.iter().cloned().map(DatabaseLine::UnitWrite).for_each(&mut add);
    history.shards.iter().cloned().map(DatabaseLine::Shard).for_each(&mut add);
    history.takings.iter().cloned().map(DatabaseLine::Taking).for_each(&mut add);
    add(DatabaseLine::Taken { at_us: history.taken_at_us });
    fs::write(folder.join("database.jsonl"), text).unwrap();
}

fn write_all(history: &History, folder: &Path) {
    write_database(history, folder);
    for (name, lines) in &history.journals {
        let text: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        fs::write(folder.join(format!("{name}.jsonl")), text).unwrap();
    }
    let client = ClientLog::create(folder, "1").unwrap();
    for call in &history.calls {
        let asked = client.asked(call.request.clone()).unwrap();
        if let Some(answer) = &call.answer {
            client.answered(asked, answer.event.clone()).unwrap();
        }
    }
    HarnessLog::create(folder).unwrap().fault("kill", "scheduler-1").unwrap();
    history.promises.write(folder).unwrap();
}

#[test]
fn what_was_written_is_read_again() {
    let (folder, history) = (tempfile::tempdir().unwrap(), right());
    write_all(&history, folder.path());
    // An executor that was killed while it wrote.
    let journal = folder.path().join("executor-1.jsonl");
    let cut = fs::read_to_string(&journal).unwrap() + r#"{"event":"assigned","att"#;
    fs::write(&journal, cut).unwrap();
    let read = History::read(folder.path()).unwrap();
    assert_eq!((read.firings.len(), read.calls.len(), read.unreadable), (history.firings.len(), 5, 1));
    assert_eq!((read.promises.lateness_max_ms, read.harness.len()), (Some(2_000), 1));
    let JournalEvent::Assigned { attempt } = &read.journals[0].1[1].event else { panic!("an assignment") };
    assert_eq!((attempt.run, attempt.block.as_str()), (run_id(0), "load/orders"));
    let report = check(&read);
    assert!(report.is_held() && report.of(Check::C3).checked["accepted results"] > 0, "{report}");
}

#[test]
fn a_client_whose_question_had_no_answer_has_asked() {
    let folder = tempfile::tempdir().unwrap();
    write_database(&right(), folder.path());
    let client = ClientLog::create(folder.path(), "cut").unwrap();
    let _lost = client.asked(Request::CancelRun { run_id: id(3, 0) }).unwrap();
    let refused = client.asked(Request::RetryRun { run_id: id(3, 1) }).unwrap();
    client.answered(refused, ClientEvent::Failed { error: "away".to_owned() }).unwrap();
    let read = History::read(folder.path()).unwrap();
    assert!(read.calls[0].answer.is_none() && read.calls[1].answer.is_some());
}

#[test]
fn the_program_says_what_is_wrong_and_ends_with_it() {
    let judge = |history: &History| {
        let folder = tempfile::tempdir().unwrap();
        write_all(history, folder.path());
        let program = Command::new(env!("CARGO_BIN_EXE_check-history")).arg(folder.path()).arg("--json").output();
        let output = program.unwrap();
        (output.status.code(), serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap())
    };
    let mut history = right();
    let (code, report) = judge(&history);
    assert_eq!(code, Some(0), "{report:#}");
    history.firings.remove(17);
    let (code, report) = judge(&history);
    assert_eq!(code, Some(1));
    assert_eq!(report["verdicts"][0]["standing"], "broken");
    let found = report["verdicts"][0]["violations"].as_array().unwrap();
    assert!(found.iter().any(|one| one["what"].as_str().unwrap().contains("was never decided")), "{report:#}");
}

#[test]
fn a_history_that_was_cut_is_no_history() {
    let folder = tempfile::tempdir().unwrap();
    let empty = Command::new(env!("CARGO_BIN_EXE_check-history")).arg(folder.path()).output().unwrap();
    assert_eq!(empty.status.code(), Some(2));
    write_database(&right(), folder.path());
    let path = folder.path().join("database.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let cut = text.trim_end().rsplit_once('\n').unwrap().0;
    fs::write(&path, cut).unwrap();
    assert!(format!("{:#}", History::read(folder.path()).unwrap_err()).contains("not written to its end"));
    assert_eq!(Promises::default().settle_ms, 10_000);
}
