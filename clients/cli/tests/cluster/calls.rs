//! Starts from outside, by plain HTTP: API triggers at both of Mage's addresses, events, who is not let in, and the runs
//! that follow.

use crate::{
    cluster::{Cluster, shared, tiny},
    http::{self, Answer},
    project::step,
    workspace::Workspace,
};
use serde_json::{Value, json};
use std::fs;

/// Prints what it was told.
const TELLS: &str = "
@data_loader
def f(*args, **kwargs):
    event = kwargs.get('event') or {}
    print('told', kwargs.get('day'), kwargs.get('size'), kwargs.get('source'), event.get('source'))
    return 1
";

/// A project with the pipeline `p` and an API trigger; answers the trigger's id.
fn called(cluster: &'static Cluster, name: &str) -> (Workspace, String) {
    let workspace = Workspace::with_pipeline(cluster, name, "", &[step("data_loader", "tell", TELLS)]);
    let create = ["triggers", "create", "p", "called", "--api", "--var", "day=monday", "--var", "size=1"];
    let trigger = workspace.orrery(&create).with_code(0).json();
    (workspace, trigger["id"].as_str().unwrap().to_owned())
}

fn token(workspace: &Workspace, overlap: &str) -> String {
    let made = workspace.orrery(&["triggers", "token", "called", "--overlap", overlap]).with_code(0).json();
    made["token"].as_str().unwrap().to_owned()
}

fn by_header(cluster: &Cluster, trigger: &str, token: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let path = format!("/api/pipeline_schedules/{trigger}/api_trigger");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    http::post(cluster.server().0, &path, &headers, &body.to_string())
}

fn by_address(cluster: &Cluster, trigger: &str, token: &str, body: &Value) -> Answer {
    let path = format!("/api/pipeline_schedules/{trigger}/pipeline_runs/{token}");
    http::post(cluster.server().0, &path, &[("Content-Type", "application/json")], &body.to_string())
}

/// The run that a call started.
#[track_caller]
fn run_of(answer: &Answer) -> String {
    assert_eq!(answer.code, 200, "{answer:?}");
    answer.body["pipeline_run"]["id"].as_str().unwrap().to_owned()
}

fn runs(workspace: &Workspace) -> usize {
    workspace.orrery(&["runs", "--limit", "100"]).with_code(0).json()["runs"].as_array().unwrap().len()
}

#[test]
fn both_addresses_start_runs_that_are_told_what_was_said() {
    let cluster = shared();
    let (workspace, trigger) = called(cluster, "called");
    let token = token(&workspace, "0s");
    let body = json!({ "pipeline_run": { "variables": { "day": "friday" } }, "source": "shop" });
    let first = by_header(cluster, &trigger, &token, &body);
    assert_eq!(first.body["pipeline_run"]["pipeline_uuid"], "p", "{first:?}");
    let second = by_address(cluster, &trigger, &token, &json!({}));
    for (answer, told) in [(first, "told friday 1 shop shop"), (second, "told monday 1 None None")] {
        let run = workspace.end_of(&run_of(&answer)).completed();
        workspace.logged(&run, told);
        assert_eq!(run.run["trigger"], "called");
    }
    // Whoever repeats a call with its key starts nothing.
    let bearer = format!("Bearer {token}");
    let path = format!("/api/pipeline_schedules/{trigger}/api_trigger");
    let keyed = || {
        let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", "order-7")];
        run_of(&http::post(cluster.server().0, &path, &headers, ""))
    };
    assert_eq!(keyed(), keyed());
    assert_eq!(runs(&workspace), 3);
    // A pause is accounted for, and ends.
    workspace.orrery(&["triggers", "pause", "called"]).with_code(0);
    let paused = by_header(cluster, &trigger, &token, &json!({}));
    assert_eq!((paused.code, &paused.body["error"]["type"]), (412, &json!("TRIGGER_PAUSED")));
    workspace.orrery(&["triggers", "start", "called"]).with_code(0);
    workspace.end_of(&run_of(&by_header(cluster, &trigger, &token, &json!({})))).completed();
    let history = workspace.orrery(&["triggers", "history", "called"]).with_code(0).json();
    let decided = |word: &str| {
        let all = history["firings"].as_array().unwrap();
        all.iter().filter(|firing| firing["decided"] == word).count()
    };
    assert_eq!((decided("fired"), decided("skipped")), (4, 1), "{history:#}");
}

#[test]
fn only_the_triggers_own_token_starts_it() {
    let cluster = shared();
    let (workspace, trigger) = called(cluster, "tokens");
    let first = token(&workspace, "0s");
    let off_by_one = |at: usize| {
        let mut bytes = first.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        String::from_utf8(bytes).unwrap()
    };
    let operator = fs::read_to_string(cluster.server().1).unwrap();
    for wrong in [&off_by_one(first.len() - 1), &off_by_one(first.len() / 2), &off_by_one(5), operator.trim(), "x", ""]
    {
        for answer in [
            by_header(cluster, &trigger, wrong, &json!({})),
            by_address(cluster, &trigger, if wrong.is_empty() { "-" } else { wrong }, &json!({})),
        ] {
            assert_eq!(answer.code, 401, "{answer:?}");
        }
    }
    assert_eq!(runs(&workspace), 0);
    // A former token holds as long as it was said.
    let second = token(&workspace, "1h");
    run_of(&by_header(cluster, &trigger, &first, &json!({})));
    run_of(&by_header(cluster, &trigger, &second, &json!({})));
    let third = token(&workspace, "0s");
    for former in [&first, &second] {
        assert_eq!(by_address(cluster, &trigger, former, &json!({})).code, 401);
    }
    run_of(&by_address(cluster, &trigger, &third, &json!({})));
    assert_eq!(runs(&workspace), 3);
    // Who called is known by the public part, and the rest of no token lies anywhere.
    let trail = workspace.orrery(&["audit"]).with_code(0).out;
    assert!(trail.contains(&format!("trigger-token:{}", third.split('_').nth(1).unwrap())), "{trail}");
    for token in [&first, &second, &third] {
        assert!(!trail.contains(token.rsplit('_').next().unwrap()));
    }
}

#[test]
fn a_token_in_an_address_is_not_looked_at_where_that_is_switched_off() {
    let (cluster, _turn) = tiny();
    let (workspace, trigger) = called(cluster, "addresses");
    let token = token(&workspace, "0s");
    assert_eq!(by_address(cluster, &trigger, &token, &json!({})).code, 401);
    workspace.end_of(&run_of(&by_header(cluster, &trigger, &token, &json!({})))).completed();
}

#[test]
fn events_start_what_they_match_for_who_may_send_them() {
    let cluster = shared();
    let workspace = Workspace::with_pipeline(cluster, "events", "", &[step("data_loader", "tell", TELLS)]);
    let pattern = json!({ "source": ["shop"], "detail": { "size": [{ "numeric": [">", 0] }] } }).to_string();
    workspace.orrery(&["triggers", "create", "p", "arrived", "--event", &pattern]).with_code(0);
    let operator = fs::read_to_string(cluster.server().1).unwrap();
    let bearer = format!("Bearer {}", operator.trim());
    let publish = |authorization: Option<&str>, key: &str, event: &Value| {
        let mut headers = vec![("Content-Type", "application/json"), ("Idempotency-Key", key)];
        headers.extend(authorization.map(|value| ("Authorization", value)));
        http::post(cluster.server().0, "/api/events?workspace=events", &headers, &event.to_string())
    };
    let event = json!({ "source": "shop", "detail": { "size": 3 } });
    for wrong in [None, Some("Bearer x"), Some("Bearer ")] {
        assert_eq!(publish(wrong, "a", &event).code, 401, "{wrong:?}");
    }
    assert_eq!(runs(&workspace), 0);
    let started = |answer: &Answer| -> Vec<String> {
        assert_eq!(answer.code, 200, "{answer:?}");
        let all = answer.body["event"]["pipeline_runs"].as_array().unwrap();
        all.iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = started(&publish(Some(&bearer), "a", &event));
    assert_eq!(first.len(), 1);
    assert_eq!(started(&publish(Some(&bearer), "a", &event)), first, "the same event once more");
    let run = workspace.end_of(&first[0]).completed();
    workspace.logged(&run, "told None None shop shop");
    for other in [json!({ "source": "shop", "detail": { "size": 0 } }), json!({ "source": "other" }), json!({})] {
        assert!(started(&publish(Some(&bearer), "b", &other)).is_empty(), "{other}");
    }
    assert_eq!(runs(&workspace), 1);
}
