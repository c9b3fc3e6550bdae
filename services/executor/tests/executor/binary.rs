//! The executor as its own process: killed, started again, told to go.

use crate::{
    scheduler::SOON,
    world::{World, assignment, attempt, pipeline},
};
use backend_process::process::{is_alive, signal_group};
use proto::internal::v1::session_request::Message as Up;
use rustix::process::Signal;
use std::process::Stdio;
use tokio::process::{Child, Command};

const LEAVER: &str = r#"
import subprocess, time
@data_loader
def load(*args, **kwargs):
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print("pid", subprocess.Popen(["sleep", "600"], start_new_session=True, **quiet).pid)
    time.sleep(600)
"#;

fn start(world: &World) -> Child {
    let settings = &world.settings;
    let text = |path: &Option<std::path::PathBuf>| path.as_ref().unwrap().display().to_string();
    Command::new(env!("CARGO_BIN_EXE_orrery-executor"))
        .args(["--scheduler-urls", &world.scheduler.url, "--data-dir", &settings.data_dir.display().to_string()])
        .args(["--base-env", &text(&settings.base_env), "--blobs-url", settings.blobs_url.as_ref().unwrap()])
        .args(["--admin-listen", "127.0.0.1:0", "--drain-delay", "0s"])
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_new_life_kills_what_the_last_one_left_and_leaves_well_itself() {
    let mut world = World::idle(&[("leaver", LEAVER)]).await;
    let mut first = start(&world);
    let session = world.session(&pipeline(&["leaver"])).await;
    session.assign(vec![assignment(&attempt("leaver"))]).await;
    let line = world.scheduler.line("the pid", |line| line.message.starts_with("pid ")).await;
    let left: i32 = line.message[4..].parse().unwrap();
    first.start_kill().unwrap();
    first.wait().await.unwrap();
    assert!(is_alive(left), "nobody is there to kill it");
    let before = session.hello.executor_id.clone();
    drop(session);

    let mut second = start(&world);
    let mut session = world.scheduler.welcomed(20_000).await;
    assert_ne!(session.hello.executor_id, before);
    // It is killed before the first word to a scheduler; the kernel takes its time to bury it.
    testkit::wait_for("the end of what was left", SOON, || async { (!is_alive(left)).then_some(()) }).await;
    signal_group(i32::try_from(second.id().unwrap()).unwrap(), Signal::TERM);
    assert!(matches!(session.next().await, Some(Up::Draining(_))));
    assert!(matches!(session.next().await, Some(Up::Goodbye(_))));
    let status = tokio::time::timeout(SOON, second.wait()).await.expect("an end in time").unwrap();
    assert_eq!(status.code(), Some(0));
}
