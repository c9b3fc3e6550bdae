//! Attempts in containers of their own: here a container is a process of the real one-shot program. The executor that
//! starts them is real too; what it does not know is that the place is no cluster.

use crate::{
    scheduler::SOON,
    world::{World, assignment, attempt, block, of, pipeline},
};
use backend::{
    ARGUMENTS, Backend, DATA_DIR_VARIABLE, Devices, Ended, Error, Launch, Name, NoDevices, OUTCOME_FILE_VARIABLE,
    Phase, TOKEN_FILE_VARIABLE,
};
use proto::internal::v1 as pb;
use proto::internal::v1::{result::Outcome, session_request::Message as Up, session_response::Message as Down};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::{
    collections::HashMap,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// A place that starts a process for each attempt.
#[derive(Clone)]
pub(crate) struct Place {
    folder: PathBuf,
    started: Arc<Mutex<HashMap<Name, Child>>>,
    /// Containers that are never ready, as one whose image cannot be pulled.
    stuck: bool,
    /// Containers that were told to go are there so much longer, as pods are.
    lingers: Duration,
    leaving: Arc<Mutex<HashMap<Name, Instant>>>,
    /// Containers want a GPU each; how many asked for it.
    wants_gpus: bool,
    asked: Arc<AtomicUsize>,
}

impl Place {
    fn new(world: &World) -> Self {
        let folder = world.settings.data_dir.with_file_name("containers");
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            started: Arc::default(),
            stuck: false,
            lingers: Duration::ZERO,
            leaving: Arc::default(),
            wants_gpus: false,
            asked: Arc::default(),
        }
    }

    fn names(&self) -> Vec<Name> {
        self.started.lock().unwrap().keys().cloned().collect()
    }

    fn signal(&self, signal: Signal) {
        for child in self.started.lock().unwrap().values() {
            let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap()));
            let _ = pid.map(|pid| kill_process(pid, signal));
        }
    }

    fn leaves(&self) -> bool {
        self.leaving.lock().unwrap().values().any(|told| told.elapsed() < self.lingers)
    }

    fn outcome_of(&self, name: &Name) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }
}

impl Backend for Place {
    fn name(&self) -> &'static str {
        "tested"
    }

    fn devices(&self, launch: &Launch) -> Result<Option<Devices>, NoDevices> {
        let wanted = Devices {
            claim: launch.name.to_string(),
            class: "gpu".to_owned(),
            count: 1,
            milli: 1_000,
            memory_bytes: None,
            cpu_milli: 0,
            node_memory_bytes: 0,
        };
        Ok(self.wants_gpus.then(|| {
            self.asked.fetch_add(1, Ordering::SeqCst);
            wanted
        }))
    }

    async fn launch(&self, launch: &Launch) -> Result<Vec<String>, Error> {
        let mut started = self.started.lock().unwrap();
        if started.contains_key(&launch.name) {
            return Ok(vec!["its wishes are not heard here".to_owned()]);
        }
        let token = self.folder.join(format!("{}.token", launch.name));
        std::fs::write(&token, launch.token.expose()).unwrap();
        let mut command = Command::new(if self.stuck { "sleep" } else { env!("CARGO_BIN_EXE_orrery-executor") });
        let child = command
            .args(if self.stuck { &["600"] } else { &ARGUMENTS })
            .env_clear()
            .envs(["PATH", "HOME"].map(|name| (name, std::env::var(name).unwrap_or_default())))
            .envs(&launch.env)
            .env(DATA_DIR_VARIABLE, self.folder.join(launch.name.as_str()))
            .env(TOKEN_FILE_VARIABLE, token)
            .env(OUTCOME_FILE_VARIABLE, self.outcome_of(&launch.name))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        started.insert(launch.name.clone(), child);
        // The first answer is lost: whoever asks again finds what is there.
        if started.len() == 1 { Err(Error::Away("the answer was lost".to_owned())) } else { Ok(Vec::new()) }
    }

    async fn observe(&self, name: &Name) -> Result<Phase, Error> {
        let mut started = self.started.lock().unwrap();
        let Some(child) = started.get_mut(name) else {
            return Ok(if self.leaves() { Phase::Running } else { Phase::Absent });
        };
        Ok(match child.try_wait().unwrap() {
            Some(status) => {
                let exited = |code| Ended::Exited { code, output: String::new() };
                Phase::Ended(status.code().map_or(Ended::OutOfMemory, exited))
            }
            None if self.stuck => Phase::Waiting { reason: "the image cannot be pulled".to_owned() },
            None => Phase::Running,
        })
    }

    async fn cancel(&self, name: &Name, _grace: Duration) -> Result<(), Error> {
        if let Some(mut child) = self.started.lock().unwrap().remove(name) {
            child.start_kill().unwrap();
            self.leaving.lock().unwrap().insert(name.clone(), Instant::now());
        }
        Ok(())
    }

    async fn reap(&self, lives: &(dyn Fn(&Name) -> bool + Sync)) -> Result<usize, Error> {
        let strays: Vec<Name> = self.names().into_iter().filter(|name| !lives(name)).collect();
        for name in &strays {
            self.cancel(name, Duration::ZERO).await?;
        }
        Ok(strays.len())
    }
}

const TALKER: &str = r#"
from mage_ai.data_preparation.shared.secrets import get_secret_value

@data_loader
def load(*args, **kwargs):
    print("the secret is", get_secret_value("key"))
    return {"answer": 42}
"#;

const SLEEPER: &str = r#"
import time

@data_loader
def load(*args, **kwargs):
    print("sleeping", flush=True)
    time.sleep(600)
"#;

async fn world(change: impl FnOnce(&mut World, &mut Place)) -> (World, Place) {
    let mut world = World::idle(&[("talker", TALKER), ("sleeper", SLEEPER)]).await;
    world.settings.attempts_listen = "127.0.0.1:0".parse().unwrap();
    world.settings.outputs_dir = Some(world.settings.data_dir.join("outputs"));
    let mut place = Place::new(&world);
    change(&mut world, &mut place);
    world.serve_on(place.clone()).await;
    (world, place)
}

#[tokio::test]
async fn an_attempt_in_a_container_says_everything_over_its_session() {
    let (mut world, place) = world(|_, _| {}).await;
    let mut session = world.session(&pipeline(&["talker"])).await;
    assert_eq!(session.hello.backend, "tested");
    let talker = attempt("talker");
    session.assign(vec![assignment(&talker)]).await;
    let Some(Up::RunnerCall(call)) = session.next().await else { panic!("a call comes first") };
    assert_eq!((call.method.as_str(), call.attempt.as_ref()), ("get_secret", Some(&talker)));
    let (call_id, result) = (call.call_id, json!({ "value": "hunter2" }).to_string());
    session
        .say(Down::RunnerReply(pb::RunnerReply { call_id, attempt: call.attempt, result, error: String::new() }))
        .await;
    let name = place.names().remove(0);
    let Outcome::Completed(completed) = session.outcome().await else { panic!("it does not fail") };
    assert_eq!(completed.outputs.len(), 1);
    assert!(world.outputs(&talker).join("manifest.json").is_file());
    let line = world.scheduler.line("what it printed", |line| line.message.starts_with("the secret is")).await;
    assert_eq!((line.message.as_str(), line.block_type.as_str()), ("the secret is [secret]", "data_loader"));
    world.scheduler.line("what does not hold", |line| line.message == "its wishes are not heard here").await;
    assert_eq!(place.names(), [], "its container is gone before its result is told");
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(place.outcome_of(&name)).unwrap()).unwrap();
    assert_eq!(told, json!({ "outcome": "completed" }));
}

#[tokio::test]
async fn a_container_that_dies_or_must_go_leaves_a_clear_end() {
    let (mut world, place) = world(|_, _| {}).await;
    let one_process = block("shared", json!({}));
    let mut session = world.session(&of(vec![block("sleeper", json!({})), one_process])).await;
    let killed = attempt("sleeper");
    session.assign(vec![assignment(&killed)]).await;
    world.scheduler.line("its start", |line| line.message == "sleeping").await;
    place.signal(Signal::KILL);
    let Outcome::Failed(failed) = session.outcome().await else { panic!("a killed container is a failure") };
    assert_eq!(failed.code, "OUT_OF_MEMORY");

    let stopped = pb::AttemptRef { lease: 2, ..killed.clone() };
    session.assign(vec![assignment(&stopped)]).await;
    let begun = |line: &pb::LogLine| line.message == "sleeping" && line.lease == 2;
    world.scheduler.line("its start", begun).await;
    session.cancel(&stopped, 2_000).await;
    assert!(matches!(session.outcome().await, Outcome::Cancelled(_)));

    // A cluster that takes a node back: the attempt is given to others, and is no failure.
    let evicted = pb::AttemptRef { lease: 3, ..killed.clone() };
    session.assign(vec![assignment(&evicted)]).await;
    let begun = |line: &pb::LogLine| line.message == "sleeping" && line.lease == 3;
    world.scheduler.line("its start", begun).await;
    place.signal(Signal::TERM);
    assert!(matches!(session.outcome().await, Outcome::Released(_)));

    let shared = pb::AttemptRef { block: "shared".to_owned(), ..killed };
    session.assign(vec![pb::Assignment { one_process: true, ..assignment(&shared) }]).await;
    let Outcome::Failed(failed) = session.outcome().await else { panic!("containers share no memory") };
    assert!(failed.message.contains("run_pipeline_in_one_process"), "{}", failed.message);
    testkit::wait_for("an empty place", SOON, async || place.names().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_container_that_does_not_begin_is_given_up_with_its_reason() {
    let stuck = |world: &mut World, place: &mut Place| {
        world.settings.start_timeout = Duration::from_millis(1_500);
        place.stuck = true;
    };
    let (mut world, place) = world(stuck).await;
    let mut session = world.session(&pipeline(&["talker"])).await;
    session.assign(vec![assignment(&attempt("talker"))]).await;
    let Outcome::Failed(failed) = session.outcome().await else { panic!("it never begins") };
    assert_eq!(failed.code, "ENVIRONMENT");
    assert!(failed.message.contains("start_timeout") && failed.message.contains("cannot be pulled"), "{failed:?}");
    assert_eq!(place.names(), []);
}

#[tokio::test]
async fn at_the_deadline_nothing_is_given_back_before_its_container_is_gone() {
    let (mut world, place) = world(|_, place| place.lingers = Duration::from_secs(3)).await;
    let mut session = world.session(&pipeline(&["sleeper"])).await;
    session.assign(vec![assignment(&attempt("sleeper"))]).await;
    world.scheduler.line("its start", |line| line.message == "sleeping").await;
    world.shutdown.stop();
    let given_back = loop {
        match session.next().await.expect("a result before the end of the session") {
            Up::Results(results) => break results.results,
            Up::Goodbye(_) => panic!("it leaves, and its container runs: others run the block beside it"),
            _ => {}
        }
    };
    assert!(!place.leaves(), "its container is there");
    assert!(matches!(given_back[0].outcome, Some(Outcome::Released(_))), "{given_back:?}");
    session.acknowledge(given_back[0].attempt.as_ref().unwrap(), true).await;
    assert!(matches!(session.next().await, Some(Up::Goodbye(_))));
    world.ended().await;
}

/// Every container wants a GPU.
fn wants_gpus(world: &mut World, place: &mut Place) {
    world.settings.jobs_gpu_classes = vec!["gpu".to_owned()];
    place.wants_gpus = true;
}

#[tokio::test]
async fn who_waits_for_a_gpu_holds_no_slot_and_goes_on_with_its_permits() {
    let (mut world, place) = world(wants_gpus).await;
    let mut session = world.session(&pipeline(&["talker"])).await;
    let talker = attempt("talker");
    session.assign(vec![assignment(&talker)]).await;
    let waits = pb::SlotChange { attempt: Some(talker.clone()), holds_slot: false };
    assert!(matches!(session.next().await, Some(Up::SlotChange(change)) if change == waits));
    // Another session counts it as running until it hears that.
    drop(session);
    let mut session = world.session(&pipeline(&["talker"])).await;
    assert!(matches!(session.next().await, Some(Up::SlotChange(change)) if change == waits));
    assert_eq!(place.names(), []);

    world.scheduler.grants.store(true, Ordering::SeqCst);
    assert!(matches!(session.next().await, Some(Up::SlotChange(change)) if change == waits));
    let Some(Up::RunnerCall(call)) = session.next().await else { panic!("it asks for its permits") };
    assert_eq!(call.method, "wait_run");
    assert_eq!(place.names(), [], "it begins when it has them");
    let reply =
        pb::RunnerReply { call_id: call.call_id, attempt: call.attempt, result: "{}".into(), ..Default::default() };
    session.say(Down::RunnerReply(reply)).await;
    assert!(matches!(session.next().await, Some(Up::SlotChange(change)) if change.holds_slot));
    let begun = async || (!place.names().is_empty()).then_some(());
    testkit::wait_for("its container", SOON, begun).await;
    let journal = std::fs::read_to_string(world.settings.data_dir.join("journal.jsonl")).unwrap();
    let mut lines = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let begins = lines.find(|line| line["event"] == "start").expect("its devices are told");
    assert!(begins["attempt"].as_str().unwrap().contains("/talker/"), "{begins}");
    assert_eq!(begins["devices"], json!([{ "device": "there/gpu-0", "milli": 1_000 }]));
}

#[tokio::test]
async fn a_drain_waits_for_no_gpu() {
    let (mut world, place) = world(wants_gpus).await;
    let mut session = world.session(&pipeline(&["sleeper"])).await;
    session.assign(vec![assignment(&attempt("sleeper"))]).await;
    let asked = async || (place.asked.load(Ordering::SeqCst) > 0).then_some(());
    testkit::wait_for("it to ask for its GPU", SOON, asked).await;
    world.shutdown.drain();
    let given_back = loop {
        match session.next().await.expect("a result before the end of the session") {
            Up::Results(results) => break results.results,
            Up::Draining(_) | Up::SlotChange(_) => {}
            other => panic!("{other:?} instead of a result"),
        }
    };
    assert!(matches!(given_back[0].outcome, Some(Outcome::Released(_))), "it begins elsewhere: {given_back:?}");
    session.acknowledge(given_back[0].attempt.as_ref().unwrap(), true).await;
    assert!(matches!(session.next().await, Some(Up::Goodbye(_))));
    world.ended().await;
    assert_eq!(place.names(), []);
}
