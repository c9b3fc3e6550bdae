//! Runtimes through the whole cluster: declared devices, an application as a process, and everything that a person types.

use crate::{
    answer::Answer,
    cluster::{Cluster, with_gpus},
    wait,
};
use serde_json::Value;
use std::{net::TcpListener, time::Duration};

const SOON: Duration = Duration::from_secs(60);

/// Answers every request, as an application that is ready.
const SERVER: &str = "
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'ready')
    def log_message(self, *a): pass
http.server.HTTPServer((os.environ['HOST'], int(os.environ['PORT'])), H).serve_forever()
";

#[track_caller]
fn orrery(cluster: &Cluster, words: &[&str]) -> Answer {
    wait::output(cluster.orrery().args(words)).into()
}

#[track_caller]
fn json(cluster: &Cluster, words: &[&str]) -> Value {
    orrery(cluster, &[words, &["--json"]].concat()).with_code(0).json()
}

/// Lets the runtime of a workspace ask for one GPU of this share.
#[track_caller]
fn set(cluster: &Cluster, name: &str, percent: &str) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let app = ["--app", "custom", "--port", &port, "--command", "python3", "--command", "-c", "--command", SERVER];
    let size = ["--gpus", "1", "--sm", percent, "--model", "A10", "--cpu", "0.1", "--memory", "256MiB"];
    orrery(cluster, &[&["workspaces", "set", name][..], &app, &size].concat()).with_code(0);
}

fn state(cluster: &Cluster, name: &str) -> Value {
    json(cluster, &["workspaces", "status", name])["runtime"].take()
}

#[track_caller]
fn until(cluster: &Cluster, name: &str, wanted: &str) -> Value {
    wait::until(&format!("{name} to be {wanted}"), SOON, || {
        let runtime = state(cluster, name);
        (runtime["state"] == format!("RUNTIME_STATE_{wanted}")).then_some(runtime)
    })
}

#[test]
fn shares_are_given_waited_for_and_given_back() {
    let (cluster, _turn) = with_gpus();
    wait::until("the declared devices", SOON, || {
        let devices = json(cluster, &["gpus"])["devices"].take();
        (devices.as_array()?.len() == 2).then_some(())
    });
    for name in ["first", "second", "third"] {
        orrery(cluster, &["workspaces", "--create", name]).with_code(0);
        set(cluster, name, "60");
    }
    orrery(cluster, &["workspaces", "start", "first", "--wait"]).with_code(0);
    orrery(cluster, &["workspaces", "start", "second", "--wait"]).with_code(0);
    let first = state(cluster, "first");
    assert_eq!((&first["effectiveGpuMilli"], &first["bound"]), (&"600".into(), &true.into()), "{first:#}");
    assert_eq!(first["devices"][0]["enforcement"], "accounting_only");
    let held = json(cluster, &["gpus"]);
    let holders: Vec<_> = held["devices"].as_array().unwrap().iter().map(|d| &d["holders"][0]["workspace"]).collect();
    assert!(holders.contains(&&"first".into()) && holders.contains(&&"second".into()), "{held:#}");

    // The third waits, says why, and what would help is what the planner says of it.
    let plan = ["-w", "third", "gpus", "plan"];
    let waits = orrery(cluster, &plan).with_code(65);
    assert!(waits.out.contains("it fits now with 40 % of each GPU"), "{}", waits.out);
    let fits = orrery(cluster, &[&plan[..], &["--what-if", "--sm", "40"]].concat()).with_code(0);
    assert!(fits.out.starts_with("fits on "), "{}", fits.out);
    orrery(cluster, &["workspaces", "start", "third"]).with_code(0);
    let third = wait::until("a reason", SOON, || {
        let runtime = state(cluster, "third");
        (runtime["reason"] != "" && runtime["hint"] != "").then_some(runtime)
    });
    assert_eq!((&third["step"], &third["position"]), (&"queued".into(), &1.into()), "{third:#}");
    assert_eq!(json(cluster, &["queues"])["queues"][0]["waiting"], "1");

    orrery(cluster, &["workspaces", "stop", "first"]).with_code(0);
    until(cluster, "first", "STOPPED");
    until(cluster, "third", "RUNNING");
    let events = json(cluster, &["workspaces", "events", "first"])["events"].take();
    assert_eq!((&events[0]["reason"], &events[0]["actor"]), (&"USER".into(), &"".into()), "{events:#}");
    assert!(events.as_array().unwrap().iter().any(|event| event["actor"] == "owner@localhost"), "{events:#}");
    let batch = orrery(cluster, &["workspaces", "stop", "second", "third", "nowhere"]).with_code(65);
    assert!(batch.out.contains("WORKSPACE_NOT_FOUND"), "{}", batch.out);
    for name in ["second", "third"] {
        until(cluster, name, "STOPPED");
    }
    let free = json(cluster, &["gpus"]);
    assert!(free["devices"].as_array().unwrap().iter().all(|device| device["heldMilli"] == 0), "{free:#}");
    orrery(cluster, &["workspaces", "delete", "first"]).with_code(0);
}

#[test]
fn a_smaller_quota_is_told_and_holds_at_the_next_start() {
    let (cluster, _turn) = with_gpus();
    orrery(cluster, &["projects", "create", "small"]).with_code(0);
    orrery(cluster, &["workspaces", "--create", "quota", "--project", "small"]).with_code(0);
    set(cluster, "quota", "40");
    orrery(cluster, &["workspaces", "start", "quota", "--wait"]).with_code(0);
    let smaller = ["projects", "policy", "small", "--gpu", "0.3"];
    let refused = orrery(cluster, &smaller).with_code(65);
    assert!(refused.err.contains("`quota`") && refused.err.contains("--force"), "{}", refused.err);
    orrery(cluster, &[&smaller[..], &["--force"]].concat()).with_code(0);
    assert_eq!(state(cluster, "quota")["state"], "RUNTIME_STATE_RUNNING", "what runs goes on");
    orrery(cluster, &["workspaces", "stop", "quota"]).with_code(0);
    until(cluster, "quota", "STOPPED");
    let refused = orrery(cluster, &["workspaces", "start", "quota"]).with_code(65);
    assert!(refused.err.contains("may never hold more than"), "{}", refused.err);
}
