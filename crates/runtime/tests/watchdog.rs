//! A process whose loop is stuck ends, so that whoever supervises it starts another one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use runtime::{exit::Code, watchdog::Watchdog};
use std::{
    env,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

/// Set in the process that gets stuck.
const ROLE: &str = "ORRERY_TEST_GETS_STUCK";
const LIMIT: Duration = Duration::from_millis(600);
const TURN: Duration = Duration::from_millis(50);
/// A process that is not ended ends by itself, with another code.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two loops beat; then one of them waits for a lock that is never free again, as a deadlock looks.
fn get_stuck() {
    let watchdog = Watchdog::ending_process_after(LIMIT, TURN).unwrap();
    let lock = Arc::new(Mutex::new(()));
    let (taken, is_taken) = mpsc::sync_channel(0);
    let holder = Arc::clone(&lock);
    std::thread::spawn(move || {
        let _guard = holder.lock().unwrap();
        taken.send(()).unwrap();
        std::thread::sleep(PATIENCE);
    });
    is_taken.recv().unwrap();
    // A thread for each: a worker of a runtime that hangs may take along what waits in its own queue.
    for (name, turns) in [("moving", usize::MAX), ("stuck", 20)] {
        let (beat, lock) = (watchdog.duty(name), Arc::clone(&lock));
        std::thread::spawn(move || {
            for turn in 0.. {
                if turn == turns {
                    drop(lock.lock());
                }
                beat.beat();
                std::thread::sleep(TURN);
            }
        });
    }
    std::thread::sleep(PATIENCE);
}

#[test]
fn a_process_with_a_stuck_loop_ends_and_says_which_it_was() {
    if env::var_os(ROLE).is_some() {
        return get_stuck();
    }
    let begun = Instant::now();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "a_process_with_a_stuck_loop_ends_and_says_which_it_was", "--nocapture"]).env(ROLE, "1");
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(Code::Software.number())), "{said}");
    assert!(said.contains("the duty stuck has not moved") && !said.contains("duty moving"), "{said}");
    // Twenty beats went well: nobody was ended for waiting between them.
    assert!(begun.elapsed() >= 19 * TURN + LIMIT, "after {:?}", begun.elapsed());
}
