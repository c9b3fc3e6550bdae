//! Whether somebody uses an application, asked of real ones while somebody does, or something works in them alone.

use crate::runtimes::{KEY, Machine, SERVER, ask, on_device, reaches, run, shell, spec, stop};
use crate::scheduler::SOON;
use backend_process::sessions::{self, SESSION_MARK};
use domain::runtime::App;
use executor::pool::{Order, RuntimeBackend};
use jiff::Timestamp;
use proto::internal::v1::{RuntimePhase, activity_report::State};
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// For what is installed first, and compiled.
const LATER: Duration = Duration::from_secs(1_500);

/// What each source says, asked now.
pub(crate) async fn activity(backend: &dyn RuntimeBackend, order: &Order) -> BTreeMap<String, State> {
    let before = backend.board().runtime(order.holder).unwrap().activities;
    backend.probe(vec![order.holder]);
    let asked = async || {
        let now = backend.board().runtime(order.holder).unwrap().activities;
        (now != before && !now.is_empty()).then_some(now)
    };
    let now = testkit::wait_for("a look at its activity", SOON, asked).await;
    now.into_iter().map(|report| (report.source, report.state.unwrap())).collect()
}

fn active(all: &BTreeMap<String, State>) -> Vec<&str> {
    all.iter().filter(|(_, state)| matches!(state, State::ActiveUs(_))).map(|(source, _)| source.as_str()).collect()
}

/// Asks again until just these sources say that somebody is active, and none that it cannot tell, as a JupyterLab does now and
/// then while a kernel starts.
pub(crate) async fn settles(backend: &dyn RuntimeBackend, order: &Order, what: &str, wanted: &[&str]) {
    let settled = async || {
        let all = activity(backend, order).await;
        let known = !all.values().any(|state| matches!(state, State::Unknown(_)));
        (known && active(&all) == wanted).then_some(())
    };
    testkit::wait_for(what, SOON, settled).await;
}

/// Talks to a JupyterLab as a person's browser would.
async fn as_a_person(machine: &Machine, endpoint: &str, script: &str) -> tokio::process::Child {
    let apps = machine.apps.as_ref().unwrap().join("jupyter");
    let mut folders = std::fs::read_dir(apps).unwrap().flatten().map(|entry| entry.path());
    let python = folders.find(|path| path.join("bin/python").exists()).unwrap().join("bin/python");
    person(&python, endpoint, script)
}

/// The same: Python with the packages that the JupyterLab has itself.
pub(crate) fn person(python: &Path, endpoint: &str, script: &str) -> tokio::process::Child {
    let helper = include_str!("person.py");
    tokio::process::Command::new(python)
        .args(["-c", helper, &format!("http://{endpoint}/runtimes/lab/"), KEY, script])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn matrix_of_activity_in_a_jupyterlab_which_is_never_taken_for_idle() {
    let mut machine = Machine::new();
    machine.apps = Some(provision::cache::dir().join("tests/apps"));
    let backend = machine.backend();
    backend.recover().await.unwrap();
    let order = run(spec(App::Jupyter));
    backend.apply(order.clone());
    let ready = reaches(&backend, &order, RuntimePhase::Ready, LATER).await;
    assert!(ask(&ready.endpoint, "/runtimes/lab/lab").contains("jupyter-config-data"));
    settles(&backend, &order, "nobody does anything", &[]).await;
    for (script, wanted) in [
        // A cell that computes, one that only waits, and one whose window is closed meanwhile.
        ("cell:while True: pass", &["cpu", "kernels"][..]),
        ("cell:import time; time.sleep(600)", &["kernels"]),
        ("leave:import time; time.sleep(600)", &["kernels"]),
        // What a cell started goes on by itself.
        ("cell:import subprocess; p = subprocess.Popen(['sleep', '600'])", &["jobs"]),
        // A terminal: a program in it, and one that outlives it.
        ("terminal:sleep 600", &["jobs"]),
        ("terminal:nohup sleep 600 > /dev/null 2>&1 & exit", &["jobs"]),
        ("terminal:setsid sh -c 'while :; do :; done' & exit", &["cpu"]),
    ] {
        let mut person = as_a_person(&machine, &ready.endpoint, script).await;
        settles(&backend, &order, script, wanted).await;
        person.kill().await.unwrap();
        let mut tidy = as_a_person(&machine, &ready.endpoint, "tidy:").await;
        assert!(tidy.wait().await.unwrap().success());
        for members in sessions::all(&machine.mark).values() {
            let strays: Vec<_> =
                members.iter().filter(|m| ["sleep", "sh"].contains(&m.name.as_str())).cloned().collect();
            sessions::signal(&strays, rustix::process::Signal::KILL);
        }
        settles(&backend, &order, "nobody does anything any more", &[]).await;
    }
    backend.apply(stop(&order, Duration::from_secs(10)));
    reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
    assert_eq!(machine.left(), 0);
}

/// A program that nobody waits for any more: the terminal that began it is gone.
fn left_behind(machine: &Machine, order: &Order, command: &[&str]) {
    let mark = sessions::mark(&machine.mark, &order.holder.to_string());
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .env(SESSION_MARK, mark)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::spawn(move || child.wait());
}

/// Since when the editor says that no window of it was open, in its own words.
async fn last_beat(backend: &dyn RuntimeBackend, order: &Order) -> Timestamp {
    match activity(backend, order).await.remove("heartbeat").unwrap() {
        State::IdleSinceUs(us) | State::ActiveUs(us) => Timestamp::from_microsecond(us).unwrap(),
        State::Unknown(why) | State::Untold(why) => panic!("{why}"),
    }
}

/// npm compiles code-server, for which a fresh machine lacks Kerberos' headers.
fn headers() {
    if !Path::new("/usr/include/gssapi/gssapi.h").exists() && provision::command::can_apt() {
        provision::command::apt_install(&["g++", "make", "libkrb5-dev"]).unwrap();
    }
}

/// What a browser sends to code-server; answers the connection when it has been accepted.
fn to_editor(endpoint: &str, path: &str, more: &str) -> TcpStream {
    let mut stream = TcpStream::connect(endpoint).unwrap();
    let cookie = format!("Cookie: code-server-session={KEY}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {endpoint}\r\n{cookie}\r\n{more}\r\n").unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    let status = String::from_utf8_lossy(&status).into_owned();
    assert!(["HTTP/1.1 200", "HTTP/1.1 101", "HTTP/1.1 302"].contains(&status.as_str()), "{path}: {status}");
    stream
}

#[tokio::test]
async fn matrix_of_activity_in_an_editor_which_is_never_taken_for_idle() {
    let mut machine = Machine::new();
    machine.apps = Some(provision::cache::dir().join("tests/apps"));
    let backend = machine.backend();
    backend.recover().await.unwrap();
    tokio::task::spawn_blocking(headers).await.unwrap();
    let order = run(spec(App::VsCode));
    backend.apply(order.clone());
    let ready = reaches(&backend, &order, RuntimePhase::Ready, LATER).await;
    settles(&backend, &order, "nobody does anything", &[]).await;
    // What we ask ourselves is no use of it.
    let quiet = last_beat(&backend, &order).await;
    assert_eq!(last_beat(&backend, &order).await, quiet);
    // Somebody looks, and looks again: code-server writes down at most one sign of life a minute.
    let before = Timestamp::now();
    let beats = async |after: Timestamp| (last_beat(&backend, &order).await >= after).then_some(());
    testkit::wait_for("a look to be seen", SOON, || {
        drop(to_editor(&ready.endpoint, "/", "Connection: close\r\n"));
        beats(before)
    })
    .await;
    // A window that stays open without a key being touched: its sign of life comes once a minute. Where code-server's timer
    // came before a minute had passed on the wall clock, it forgets the window (its `heart.js` never asks again then), so one
    // of several has to count. People come through the proxy, which sees the page's own messages besides.
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let token = "reconnectionToken=0c6f5a0e-9c3f-4f0a-8f0c-000000000001&reconnection=false&skipWebSocketFrames=false";
    testkit::wait_for("an open window to count after a minute", 6 * SOON, async || {
        let window = to_editor(&ready.endpoint, &format!("/?{token}"), upgrade);
        let later = Timestamp::now() + jiff::SignedDuration::from_secs(2);
        tokio::time::sleep(Duration::from_secs(75)).await;
        let counted = beats(later).await;
        drop(window);
        counted
    })
    .await;
    // What goes on without any window.
    for (command, wanted) in [
        (&["sleep", "600"][..], &["jobs"][..]),
        (&["tail", "-f", "/dev/null"], &["jobs"]),
        (&["sh", "-c", "while :; do :; done"], &["cpu"]),
    ] {
        left_behind(&machine, &order, command);
        settles(&backend, &order, command[0], wanted).await;
        for members in sessions::all(&machine.mark).values() {
            let strays: Vec<_> =
                members.iter().filter(|m| ["sleep", "sh", "tail"].contains(&m.name.as_str())).cloned().collect();
            sessions::signal(&strays, rustix::process::Signal::KILL);
        }
        settles(&backend, &order, "nobody does anything any more", &[]).await;
    }
    // An editor that does not answer is not idle: nobody knows.
    let leader = sessions::all(&machine.mark).remove(&order.holder.to_string()).unwrap();
    sessions::signal(&leader, rustix::process::Signal::STOP);
    let stalled = async || {
        let all = activity(&backend, &order).await;
        matches!(all.get("heartbeat"), Some(State::Unknown(_))).then_some(())
    };
    testkit::wait_for("a stalled editor to be unknown", SOON, stalled).await;
    sessions::signal(&leader, rustix::process::Signal::CONT);
    settles(&backend, &order, "it answers again", &[]).await;
    backend.apply(stop(&order, Duration::from_secs(10)));
    reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
    assert_eq!(machine.left(), 0);
}

#[tokio::test]
async fn a_device_that_is_only_declared_says_nothing_of_its_work_and_keeps_nobody() {
    let machine = Machine::new();
    let backend = machine.backend();
    backend.recover().await.unwrap();
    let order = on_device(run(shell(SERVER)), 400);
    backend.apply(order.clone());
    reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
    let told = activity(&backend, &order).await.remove("gpu");
    assert!(matches!(&told, Some(State::Untold(why)) if why.contains("gpu-0 is only declared")), "{told:?}");
    backend.apply(stop(&order, Duration::ZERO));
    reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
}
