//! A history made by hand in which everything is right: a schedule that comes each second for a minute, a run for each
//! time, one block for each run, two executors, a client with requests of its own, and a change of owner in the middle.

use load_tests::history::{
    AttemptName, Call, CallAnswer, Check, ClientEvent, Executor, Firing, History, JournalEvent, JournalLine, Overlap,
    Pipeline, Promises, Request, Run, Shard, Standing, Taking, TriggerKind, TriggerSpec, TriggerState, TriggerVersion,
    Unit, UnitWrite, check,
};
use uuid::Uuid;

pub(crate) const SECOND: i64 = 1_000_000;
/// A whole second.
pub(crate) const START: i64 = 1_767_225_600 * SECOND;
pub(crate) const TIMES: usize = 60;
/// The owner of the shard changes before this time is due.
pub(crate) const TAKEN: usize = 30;
pub(crate) const SHARD: i16 = 7;
pub(crate) const BLOCK: &str = "load/orders";
const LEASES_PER_EPOCH: i64 = 1 << 20;

/// An id that ends with the number of the shard.
pub(crate) fn id(kind: u64, number: usize) -> Uuid {
    Uuid::from_u64_pair(kind << 32 | number as u64, SHARD as u64)
}

pub(crate) fn schedule() -> Uuid {
    id(2, 1)
}

pub(crate) fn manual() -> Uuid {
    id(2, 0)
}

pub(crate) fn run_id(number: usize) -> Uuid {
    id(3, number)
}

pub(crate) fn due(number: usize) -> i64 {
    START + (number as i64 + 1) * SECOND
}

pub(crate) fn epoch(number: usize) -> i64 {
    if number < TAKEN { 1 } else { 2 }
}

pub(crate) fn lease(number: usize) -> i64 {
    epoch(number) * LEASES_PER_EPOCH + 1
}

pub(crate) fn attempt(number: usize) -> AttemptName {
    AttemptName { run: run_id(number), block: BLOCK.to_owned(), child: -1, lease: lease(number) }
}

/// The history of which every test changes something.
pub(crate) fn right() -> History {
    let mut history = History {
        pipelines: vec![Pipeline { id: id(1, 0), workspace: "load".to_owned(), name: "orders".to_owned() }],
        shards: vec![Shard { id: SHARD, epoch: 2, owner: Some(id(9, 2)) }],
        takings: vec![taking(1, 1, 1, START - SECOND), taking(1_000, 2, 2, due(TAKEN) - SECOND / 2)],
        taken_at_us: START + 80 * SECOND,
        promises: Promises { lateness_max_ms: Some(2_000), ..Promises::default() },
        trigger_states: vec![TriggerState {
            trigger_id: schedule(),
            version: 2,
            waiting: Vec::new(),
            halted: None,
            once: false,
            next_due_us: None,
        }],
        ..History::default()
    };
    let every = TriggerKind::Schedule { every: "@every 1s".to_owned(), zone: None, start: None, end: None };
    let spec = TriggerSpec { kind: Some(every), overlap: Overlap::Skip, ..TriggerSpec::default() };
    history.triggers.push(version(manual(), "manual", 1, true, TriggerSpec::default(), START));
    history.triggers.push(version(schedule(), "time", 1, true, spec.clone(), START));
    // Paused after a minute, so that nothing is due any more.
    history.triggers.push(version(schedule(), "time", 2, false, spec, due(TIMES) - SECOND / 2));
    for name in ["executor-1", "executor-2"] {
        let (executor, boot) = (Uuid::from_u128(name.len() as u128), "boot".to_owned());
        history.executors.push(Executor { id: executor, name: name.to_owned(), state: "online".to_owned() });
        let open = JournalEvent::Open { executor, name: name.to_owned(), pid: 1, boot };
        history.journals.push((name.to_owned(), vec![line(START, open)]));
    }
    for number in 0..TIMES {
        add_fired(&mut history, number);
    }
    for number in 0..5 {
        add_request(&mut history, number);
    }
    history
}

fn taking(seq: i64, epoch: i64, owner: usize, at_us: i64) -> Taking {
    Taking { seq, shard: SHARD, epoch, owner: Some(id(9, owner)), at_us }
}

pub(crate) fn version(
    id_: Uuid,
    kind: &str,
    version: i64,
    active: bool,
    spec: TriggerSpec,
    at_us: i64,
) -> TriggerVersion {
    TriggerVersion {
        id: id_,
        pipeline_id: id(1, 0),
        kind: kind.to_owned(),
        version,
        active,
        spec,
        enabled_at_us: START,
        archived: false,
        at_us,
    }
}

pub(crate) fn line(at_us: i64, event: JournalEvent) -> JournalLine {
    JournalLine { at_us, mono_us: at_us - START, event }
}

fn add_fired(history: &mut History, number: usize) {
    let at = due(number);
    history.firings.push(Firing {
        trigger_id: schedule(),
        logical_key: format!("at:{}", at / 1_000),
        decided: "fired".to_owned(),
        reason: None,
        run_id: Some(run_id(number)),
        shard_epoch: epoch(number),
        created_at_us: at + 10_000,
        committed_at_us: None,
        trigger_version: Some(1),
        execution_date_us: Some(at),
        last_date_us: None,
        times: 1,
    });
    add_run(history, number, schedule(), at);
}

pub(crate) fn add_run(history: &mut History, number: usize, trigger_id: Uuid, at: i64) {
    let (begun, ended) = (at + 20_000, at + 220_000);
    history.runs.push(Run {
        id: run_id(number),
        pipeline_id: id(1, 0),
        pipeline_version: 1,
        trigger_id,
        shard: SHARD,
        status: "completed".to_owned(),
        execution_date_us: at,
        created_at_us: at + 10_000,
        started_at_us: Some(begun),
        completed_at_us: Some(ended),
    });
    history.units.push(Unit {
        run_id: run_id(number),
        block: BLOCK.to_owned(),
        child: -1,
        status: "completed".to_owned(),
        lease: lease(number),
        executor_id: Some(Uuid::from_u128(1)),
        attempt_started_at_us: Some(begun),
        completed_at_us: Some(ended),
    });
    for (place, status) in ["running", "completed"].into_iter().enumerate() {
        let base = if number < TAKEN { 10 } else { 1_010 };
        history.unit_writes.push(UnitWrite {
            seq: base + 2 * number as i64 + place as i64,
            run_id: run_id(number),
            block: BLOCK.to_owned(),
            child: -1,
            status: status.to_owned(),
            lease: lease(number),
            executor_id: Some(Uuid::from_u128(1)),
            at_us: begun,
        });
    }
    let (attempt, outcome) = (attempt(number), "completed".to_owned());
    let started = JournalEvent::Start { attempt: attempt.clone(), pid: 100, devices: Vec::new(), gang: None };
    history.journals[number % 2].1.extend([
        line(begun, JournalEvent::Assigned { attempt: attempt.clone() }),
        line(begun + 10_000, started),
        line(begun + 100_000, JournalEvent::End { attempt: attempt.clone(), outcome: outcome.clone() }),
        line(begun + 100_001, JournalEvent::Result { attempt: attempt.clone(), outcome }),
        line(ended, JournalEvent::Ack { attempt, accepted: true }),
    ]);
}

/// A run that a client asked for by a key, in the time of the first owner.
fn add_request(history: &mut History, number: usize) {
    let run = 1_000 + number;
    let at = due(number);
    let key = format!("order-{number}");
    // The first owner's time.
    history.firings.push(Firing {
        trigger_id: manual(),
        logical_key: format!("key:{key}"),
        decided: "fired".to_owned(),
        reason: None,
        run_id: Some(run_id(run)),
        shard_epoch: 2,
        created_at_us: at,
        committed_at_us: None,
        trigger_version: None,
        execution_date_us: Some(at),
        last_date_us: None,
        times: 1,
    });
    add_run(history, run, manual(), at);
    history.calls.push(Call {
        client: "client-1".to_owned(),
        request: Request::CreateRun { workspace: "load".to_owned(), pipeline: "orders".to_owned(), key },
        asked_at_us: at,
        answer: Some(acknowledged(at + 30_000, Some(run_id(run)))),
    });
}

pub(crate) fn acknowledged(at_us: i64, run_id: Option<Uuid>) -> CallAnswer {
    let event = ClientEvent::Acknowledged { run_id, version: None, instead: None, started: Vec::new() };
    CallAnswer { at_us, event }
}

/// The check finds this, in these words, and no other check finds anything.
pub(crate) fn finds(history: &History, expected: Check, words: &str) {
    let report = check(history);
    let verdict = report.of(expected);
    assert_eq!(verdict.standing, Standing::Broken, "{report}");
    assert!(verdict.violations.iter().any(|found| found.what.contains(words)), "no {words:?} in {report}");
    let others = report.verdicts.iter().filter(|other| other.check != expected);
    assert!(others.into_iter().all(|other| other.standing != Standing::Broken), "{report}");
}
