//! A project's `requirements.txt`: installed once for all who want the same, and told in the run's log.

use crate::{
    scheduler::SOON,
    world::{World, assignment, attempt, pipeline},
};
use backend_process::process;
use domain::id::RunId;
use proto::internal::v1::{self as pb, result::Outcome};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const GREETS: &str = r#"
import orrery_tiny

@data_loader
def load(*args, **kwargs):
    print("says", orrery_tiny.WORD)
    return 1
"#;

/// Makes a wheel of one module in the folder that is its argument, as its format has it.
const WHEEL: &str = r#"
import base64, hashlib, sys, zipfile
info = "orrery_tiny-1.0.dist-info"
files = {
    "orrery_tiny.py": "WORD = 'hello from a wheel'\n",
    f"{info}/METADATA": "Metadata-Version: 2.1\nName: orrery-tiny\nVersion: 1.0\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
with zipfile.ZipFile(sys.argv[1] + "/orrery_tiny-1.0-py3-none-any.whl", "w") as wheel:
    record = ""
    for name, text in files.items():
        wheel.writestr(name, text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text)}\n"
    wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
"#;

/// The runner of this checkout with an empty list of base packages, so that an environment of its own asks no index.
fn runner_without_base(folder: &Path) -> PathBuf {
    let runner = folder.join("runner");
    fs::create_dir(&runner).unwrap();
    for package in ["orrery_runner", "mage_ai"] {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(package);
        std::os::unix::fs::symlink(own, runner.join(package)).unwrap();
    }
    fs::write(runner.join("base-requirements.txt"), "").unwrap();
    runner
}

#[tokio::test]
async fn packages_are_installed_once_and_the_log_tells() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("python3").args(["-c", WHEEL]).arg(folder.path()).status().unwrap();
    assert!(made.success());
    let requirements = format!("--no-index\n--find-links {}\norrery-tiny==1.0\n", folder.path().display());
    let files = [("greets", GREETS), ("requirements.txt", requirements.as_str())];
    let runner = runner_without_base(folder.path());
    let mut world = World::with(&files, |settings| settings.runner_dir = Some(runner)).await;
    let mut session = world.session(&pipeline(&["greets"])).await;
    // Two at once, of whom one installs and one waits, and one later.
    let (first, second, third) = (attempt("greets"), attempt("greets"), attempt("greets"));
    session.assign(vec![assignment(&first), assignment(&second)]).await;
    for _ in 0..2 {
        let outcome = session.outcome().await;
        assert!(matches!(outcome, Outcome::Completed(_)), "{outcome:?}\n{:#?}", world.scheduler.lines());
    }
    session.assign(vec![assignment(&third)]).await;
    assert!(matches!(session.outcome().await, Outcome::Completed(_)));
    for run in [&first, &second, &third].map(|attempt| &attempt.run_id) {
        let said = |line: &pb::LogLine| &line.run_id == run && line.message == "says hello from a wheel";
        world.scheduler.line("what the package says", said).await;
    }
    let installer = |text: &str| {
        let lines = world.scheduler.lines();
        lines.iter().filter(|line| line.stream == "system" && line.message.contains(text)).count()
    };
    assert_eq!(installer("installing the project's Python packages"), 1);
    assert_eq!(installer("the Python packages are installed"), 1);
    // Whoever waits for it is told for what, and who is at it.
    let lines = world.scheduler.lines();
    let of = |text: &str| lines.iter().find(|line| line.message.contains(text)).map(|line| line.run_id.clone());
    let (installs, waits) = if of("installing the project's") == Some(first.run_id.clone()) {
        (&first.run_id, &second.run_id)
    } else {
        (&second.run_id, &first.run_id)
    };
    let installs = RunId::from_slice(installs).unwrap();
    let told = format!("waits for the packages of requirements.txt, which run {installs} installs");
    assert_eq!((installer("waits for"), of(&told).as_ref()), (1, Some(waits)), "{lines:#?}");
    assert!(installer("tiny") > 0, "the installer's own lines are there: {:#?}", world.scheduler.lines());
    let environments = fs::read_dir(world.settings.data_dir.join("envs")).unwrap().flatten();
    assert_eq!(environments.filter(|entry| entry.path().join(".complete").exists()).count(), 1);
}

const SLOWLY: &str = r#"
import time

@data_loader
def load(*args, **kwargs):
    time.sleep(2)
    import orrery_tiny
    return orrery_tiny.WORD
"#;

/// What is kept for the next attempt goes when none comes, and is made again when one does. Nothing goes that is in use.
#[tokio::test]
async fn what_nobody_needs_any_more_is_let_go_and_had_again() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("python3").args(["-c", WHEEL]).arg(folder.path()).status().unwrap();
    assert!(made.success());
    let requirements = format!("--no-index\n--find-links {}\norrery-tiny==1.0\n", folder.path().display());
    let files = [("slowly", SLOWLY), ("requirements.txt", requirements.as_str())];
    let runner = runner_without_base(folder.path());
    let mut world = World::with(&files, |settings| {
        settings.runner_dir = Some(runner);
        // Far below the two seconds for which the attempt runs.
        settings.zygote_idle = Duration::from_millis(400);
        (settings.bundles_cache, settings.environments_cache) = (0, 0);
    })
    .await;
    let data = world.settings.data_dir.clone();
    let folders = |name: &str| {
        let entries = fs::read_dir(data.join(name)).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().is_dir()).count()
    };
    let mark = fs::read_to_string(data.join("identity")).unwrap();
    // The base environment's interpreter stays, with the children that wait in it.
    let kept = async || {
        let kept = process::marked(mark.trim()).len();
        (kept >= 2).then_some(kept)
    };
    let kept = testkit::wait_for("the base environment's interpreter", SOON, kept).await;
    let mut session = world.session(&pipeline(&["slowly"])).await;
    for round in 1..=2 {
        session.assign(vec![assignment(&attempt("slowly"))]).await;
        let outcome = session.outcome().await;
        assert!(matches!(outcome, Outcome::Completed(_)), "round {round}: {outcome:?}\n{:#?}", world.scheduler.lines());
        let gone = async || (folders("envs") == 0 && folders("bundles") == 0).then_some(());
        testkit::wait_for("what nobody needs to be removed", SOON, gone).await;
        let ended = async || (process::marked(mark.trim()).len() <= kept).then_some(());
        testkit::wait_for("the interpreter to end with its children", SOON, ended).await;
    }
}

/// A block that needs nothing.
const PLAIN: &str = "@data_loader\ndef load(*args, **kwargs):\n    return 1\n";

#[tokio::test]
async fn packages_that_cannot_be_installed_name_their_line() {
    let files = [
        ("hello", PLAIN),
        ("requirements.txt", "# ours\n./no/such/folder\nno_such_package @ file:///no/such/folder\n"),
    ];
    let mut world = World::start(&files).await;
    let mut session = world.session(&pipeline(&["hello"])).await;
    session.assign(vec![assignment(&attempt("hello"))]).await;
    let Outcome::Failed(failed) = session.outcome().await else { panic!("it fails") };
    assert_eq!(failed.code, "ENVIRONMENT", "{failed:?}");
    let first = failed.message.lines().next().unwrap_or_default();
    assert!(first.contains("could not be installed: ") && first.contains("/no/such/folder"), "{failed:?}");
    world.scheduler.line("the progress", |line| line.stream == "system" && line.message.contains("installing")).await;
}
