//! Lines of a killed executor, and searches by the command line.

use crate::{
    cluster::{shared, to_be_hurt},
    processes,
    project::step,
    wait,
    workspace::{SOON, Workspace},
};
use rustix::process::Signal;
use serde_json::Value;
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes a numbered line each 5 ms, with the time.
const WRITES: &str = "
import time
@data_loader
def f(*args, **kwargs):
    n = 0
    while True:
        print(f'line {n} at {time.time()}', flush=True)
        n += 1
        time.sleep(0.005)
";
/// What an executor that is killed may take with it.
const LOST_MAX_S: f64 = 1.0;
/// The age of the newest line where nothing piles up.
const FRESH_S: f64 = 0.3;

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Number and time of every line of the first attempt, in order.
fn lines(workspace: &Workspace, id: &str) -> Vec<(u64, f64)> {
    let text = workspace.orrery(&["logs", id, "--json"]).with_code(0).out;
    let all: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let written = |line: &&Value| line["stream"] == "stdout";
    let first = all.iter().find(written).map(|line| line["lease"].clone());
    let line = |line: &Value| {
        let rest = line["message"].as_str()?.strip_prefix("line ")?;
        let (n, at) = rest.split_once(" at ")?;
        Some((n.parse().ok()?, at.parse().ok()?))
    };
    all.iter().filter(|line| first.as_ref() == Some(&line["lease"])).filter_map(line).collect()
}

#[test]
fn lines_of_a_killed_executor_are_there_up_to_its_last_second() {
    let (cluster, _turn) = to_be_hurt();
    let workspace = Workspace::with_pipeline(cluster, "log-killed", "", &[step("data_loader", "load", WRITES)]);
    let id = workspace.start("p", &[]);
    wait::until("lines", SOON, || (lines(&workspace, &id).len() > 400).then_some(()));
    let executor = workspace.look(&id).block("load").executor().to_owned();
    // What it may lose is judged of lines that arrive as they are written, not of a backlog.
    wait::until("fresh lines", SOON, || {
        let asked = now_s();
        lines(&workspace, &id).last().is_some_and(|(_, at)| asked - at <= FRESH_S).then_some(())
    });
    processes::signal(cluster.service(&executor), Signal::KILL);
    let killed = now_s();
    let kept = wait::until("the last lines", SOON, || {
        let kept = lines(&workspace, &id);
        kept.last().is_some_and(|(_, at)| killed - at < LOST_MAX_S).then_some(kept)
    });
    let lost_s = killed - kept.last().unwrap().1;
    println!("lost the last {:.0} ms before the kill", lost_s * 1e3);
    let numbers: Vec<u64> = kept.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "no line is missing in between");
    workspace.orrery(&["cancel", &id]).with_code(0);
    workspace.end_of(&id).ended("CANCELLED");
}

#[test]
fn a_search_finds_lines_of_all_runs_and_says_where_they_are_from() {
    let steps = [
        step("data_loader", "load", "@data_loader\ndef f(*args, **kwargs):\n    print('needle', kwargs['n'])\n"),
        step("transformer", "shape", "@transformer\ndef f(x, *args, **kwargs):\n    print('needle too')\n")
            .after(&["load"]),
    ];
    let workspace = Workspace::with_pipeline(shared(), "log-search", "variables: {n: 0}", &steps);
    let first = workspace.start("p", &["--var", "n=1"]);
    let second = workspace.start("p", &["--var", "n=2"]);
    for id in [&first, &second] {
        let run = workspace.end_of(id).completed();
        workspace.logged(&run, "needle too");
    }
    let found = |more: &[&str]| {
        let arguments = [&["logs", "--search", "NEEDLE"], more].concat();
        let text = workspace.orrery(&arguments).with_code(0).out;
        text.lines().filter(|line| line.contains("needle")).count()
    };
    assert_eq!(found(&[]), 4);
    assert_eq!(found(&["--type", "data_loader"]), 2);
    assert_eq!(found(&["--block", "shape", "--pipeline", "p"]), 2);
    assert_eq!(found(&["--pipeline", "p", "--trigger", "manual", "--since", "1h"]), 4);
    assert_eq!(found(&["--until", "1h"]), 0);
    assert_eq!(found(&["--level", "error"]), 0);
    assert_eq!(found(&[&first]), 2);
    let counted = wait::until("the statistics", SOON, || {
        let shown = workspace.orrery(&["monitor", "--json"]).json();
        let total = shown["statistics"][0]["total"]["countByStatus"]["completed"].as_str().map(str::to_owned);
        total.filter(|total| total == "2")
    });
    assert_eq!(counted, "2");
    assert!(workspace.orrery(&["monitor"]).with_code(0).out.contains("pipeline"));
}

#[test]
fn a_log_is_followed_while_it_grows_and_to_its_end() {
    let code = "
import os, time
@data_loader
def f(*args, **kwargs):
    print('before')
    while not os.path.exists(kwargs['meet'] + '/go'):
        time.sleep(0.02)
    print('after')
    return 1
";
    let workspace = Workspace::with_pipeline(shared(), "followed", "", &[step("data_loader", "load", code)]);
    let id = workspace.start("p", &[]);
    let mut following = workspace.follow(&["logs", "-f", &id]);
    // The block waits for what it is told only after this line was seen.
    assert_eq!(following.until(|line| line["message"] == "before")["block"], "load");
    workspace.tell("go");
    following.until(|line| line["message"] == "after");
    assert_eq!(following.code(), Some(0), "it ends with its run");
    workspace.end_of(&id).completed();
}

#[test]
fn a_log_is_followed_over_restarts_of_the_web_server() {
    let code = "
import os, time
@data_loader
def f(*args, **kwargs):
    n = 0
    while not os.path.exists(kwargs['meet'] + '/enough'):
        print(f'line {n}', flush=True)
        n += 1
        time.sleep(0.005)
    print(f'last {n}')
";
    let (cluster, _turn) = to_be_hurt();
    let workspace = Workspace::with_pipeline(cluster, "log-resumed", "", &[step("data_loader", "load", code)]);
    let id = workspace.start("p", &[]);
    let mut following = workspace.follow(&["logs", "-f", &id]);
    let seen = RefCell::new(Vec::new());
    let number = |line: &Value| line["message"].as_str()?.strip_prefix("line ")?.parse::<usize>().ok();
    let mut until_line = |least: usize| {
        following.until(|line| {
            seen.borrow_mut().extend(number(line));
            number(line).is_some_and(|number| number >= least)
        })
    };
    // Once killed, once asked to end.
    for how in [Signal::KILL, Signal::TERM] {
        let begun = seen.borrow().len();
        until_line(begun + 50);
        processes::signal(cluster.service("web-server"), how);
        // More than were written while it was away.
        until_line(begun + 1_000);
    }
    workspace.tell("enough");
    let last = following.until(|line| {
        seen.borrow_mut().extend(number(line));
        line["message"].as_str().is_some_and(|message| message.starts_with("last "))
    });
    let (code, said) = following.end();
    assert_eq!(code, Some(0), "{said}");
    let count: usize = last["message"].as_str().unwrap()["last ".len()..].parse().unwrap();
    let mut seen = seen.into_inner();
    seen.sort_unstable();
    assert_eq!(seen, (0..count).collect::<Vec<_>>(), "none is missing and none comes twice");
    assert_eq!(said.matches("the connection was lost").count(), 2, "{said}");
    workspace.end_of(&id).completed();
}
