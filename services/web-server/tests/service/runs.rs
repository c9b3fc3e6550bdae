//! Commands to a scheduler, and what is read of runs.

use crate::cluster::Cluster;
use proto::v1::run_service_client::RunServiceClient;
use proto::v1::{RunStatus, WatchRunRequest};
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

const WAIT: Duration = Duration::from_secs(10);
/// Enough to count what each of them asks.
const CALLS: u64 = 32;

async fn diamond(cluster: &Cluster) {
    cluster.workspace("sales").await;
    let blocks: [(&str, &[&str]); 4] = [("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];
    cluster.pipeline("sales", "daily", &blocks).await;
}

#[tokio::test]
async fn a_key_makes_one_act_of_two_requests() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let create = json!({ "name": "one", "idempotencyKey": "k1" });
    let first = cluster.call("WorkspaceService/CreateWorkspace", create.clone()).await;
    assert_eq!(cluster.call("WorkspaceService/CreateWorkspace", create).await, first);
    let other = json!({ "name": "two", "idempotencyKey": "k1" });
    let refused = cluster.refused("WorkspaceService/CreateWorkspace", other).await;
    assert_eq!(refused, ("already_exists".to_owned(), "IDEMPOTENCY_KEY_REUSED".to_owned()));
    let taken = cluster.refused("WorkspaceService/CreateWorkspace", json!({ "name": "one" })).await;
    assert_eq!(taken.1, "WORKSPACE_EXISTS");
    let run = |x: Value| json!({ "workspace": "sales", "pipeline": "daily", "idempotencyKey": "k2", "variables": x });
    let given = json!({ "x": [1, 2.5, 1e300, null, { "y": "z" }] });
    let first = cluster.call("RunService/CreateRun", run(given.clone())).await;
    assert_eq!(cluster.call("RunService/CreateRun", run(given.clone())).await["run"]["id"], first["run"]["id"]);
    for other in [json!({}), json!({ "x": 2 }), json!({ "x": [1, 2.5, 1e300, null, { "y": "z" }], "more": 1 })] {
        let refused = cluster.refused("RunService/CreateRun", run(other)).await;
        assert_eq!(refused, ("already_exists".to_owned(), "IDEMPOTENCY_KEY_REUSED".to_owned()));
    }
    let batch = json!({ "workspace": "sales", "pipeline": "daily", "requests": [{}, { "idempotencyKey": "k2" }] });
    let refused = cluster.refused("RunService/BatchCreateRuns", batch).await;
    assert_eq!(refused.1, "IDEMPOTENCY_KEY_REUSED");

    let id = first["run"]["id"].as_str().unwrap();
    let retry = |mode: &str| json!({ "runId": id, "mode": mode, "idempotencyKey": "k3" });
    cluster.call("RunService/CancelRun", json!({ "runId": id })).await;
    let again = cluster.call("RunService/RetryRun", retry("RETRY_MODE_WHOLE")).await;
    assert_eq!(cluster.call("RunService/RetryRun", retry("RETRY_MODE_WHOLE")).await["run"]["id"], again["run"]["id"]);
    let refused = cluster.refused("RunService/RetryRun", retry("RETRY_MODE_INCOMPLETE")).await;
    assert_eq!(refused.1, "IDEMPOTENCY_KEY_REUSED");
}

#[tokio::test]
async fn the_first_instant_of_1970_is_a_date_like_others() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let epoch = "1970-01-01T00:00:00Z";
    let create = json!({ "workspace": "sales", "pipeline": "daily", "executionDate": epoch, "idempotencyKey": "k" });
    let run = cluster.call("RunService/CreateRun", create.clone()).await["run"].clone();
    assert_eq!(run["executionDate"], epoch);
    assert_eq!(cluster.call("RunService/CreateRun", create.clone()).await["run"]["id"], run["id"]);
    let mut other = create;
    other["executionDate"] = json!("1970-01-01T00:00:01Z");
    assert_eq!(cluster.refused("RunService/CreateRun", other).await.1, "IDEMPOTENCY_KEY_REUSED");
}

#[tokio::test]
async fn who_may_start_a_run_and_of_what_is_asked_together() {
    let mut cluster = Cluster::new().await;
    diamond(&cluster).await;
    let ways = cluster.database.counted().await;
    cluster.restart(|settings| settings.database_url = Some(ways.url().to_owned())).await;
    let run = json!({ "workspace": "sales", "pipeline": "daily" });
    cluster.call("RunService/CreateRun", run.clone()).await;
    let before = ways.count();
    for _ in 0..CALLS {
        cluster.call("RunService/CreateRun", run.clone()).await;
    }
    let asked = ways.count() - before;
    // After that the run is read, and the trail is left. The rest is what this server looks after besides.
    assert!(asked < CALLS * 7 / 2, "{CALLS} calls asked {asked} times, one after the other");
}

#[tokio::test]
async fn a_command_waits_a_little_for_a_scheduler() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let run = json!({ "workspace": "sales", "pipeline": "daily" });
    cluster.scheduler.away_for.store(3, Relaxed);
    cluster.call("RunService/CreateRun", run.clone()).await;
    cluster.scheduler.away_for.store(usize::MAX, Relaxed);
    let refused = cluster.refused("RunService/CreateRun", run).await;
    assert_eq!(refused, ("unavailable".to_owned(), "NO_SCHEDULER".to_owned()));
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_the_reason() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    cluster.put_pipeline("sales", "feed", json!({ "name": "feed", "kind": "streaming", "blocks": [] })).await;
    let create = |pipeline: &str, extra: Value| {
        let mut message = json!({ "workspace": "sales", "pipeline": pipeline });
        message.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        message
    };
    let table = [
        (create("feed", json!({})), "PIPELINE_TYPE_NOT_RUNNABLE"),
        (create("nothing", json!({})), "PIPELINE_NOT_FOUND"),
        (json!({ "workspace": "x", "pipeline": "daily" }), "WORKSPACE_NOT_FOUND"),
        (json!({ "pipeline": "daily" }), "INVALID_FIELD"),
        (create("daily", json!({ "timeout": "0s" })), "INVALID_FIELD"),
        (create("daily", json!({ "variables": { "x": "y".repeat(300 << 10) } })), "INVALID_FIELD"),
        (create("daily", json!({ "idempotencyKey": "k".repeat(300) })), "INVALID_FIELD"),
        (create("daily", json!({ "variables": [1] })), "INVALID_JSON"),
    ];
    for (message, reason) in table {
        assert_eq!(cluster.refused("RunService/CreateRun", message).await.1, reason);
    }
    let batch = json!({ "workspace": "sales", "pipeline": "daily", "requests": [{}, { "pipeline": "feed" }] });
    assert_eq!(cluster.refused("RunService/BatchCreateRuns", batch).await.1, "INVALID_FIELD");
}

#[tokio::test]
async fn runs_are_listed_newest_first_by_page_and_status() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let batch = json!({ "workspace": "sales", "pipeline": "daily", "requests": [{}, { "variables": { "n": 2 } }, {}] });
    let ids = cluster.call("RunService/BatchCreateRuns", batch).await["runIds"].as_array().unwrap().clone();
    let last: Uuid = ids[2].as_str().unwrap().parse().unwrap();
    cluster.change(last, "UPDATE run SET status = 'failed', completed_at = now(), reason = 'x' WHERE id = $1").await;
    let list = json!({ "workspace": "sales", "pipeline": "daily", "pageSize": 2 });
    let page = cluster.call("RunService/ListRuns", list).await;
    assert_eq!([&page["runs"][0]["id"], &page["runs"][1]["id"]], [&ids[2], &ids[1]]);
    assert_eq!(page["runs"][1]["variables"], json!({ "n": 2.0 }));
    assert_eq!((&page["runs"][0]["trigger"], &page["runs"][0]["blocksTotal"]), (&json!("manual"), &json!(4)));
    let next = json!({ "workspace": "sales", "pipeline": "daily", "pageSize": 2, "pageToken": page["nextPageToken"] });
    let rest = cluster.call("RunService/ListRuns", next).await;
    assert_eq!((&rest["runs"][0]["id"], &rest["nextPageToken"]), (&ids[0], &json!("")));
    let failed = cluster.get("/api/v1/workspaces/sales/runs?statuses=RUN_STATUS_FAILED").await.json();
    assert_eq!((failed["runs"].as_array().unwrap().len(), &failed["runs"][0]["id"]), (1, &ids[2]));
}

const STARTED: &str = "UPDATE run SET status = 'running', started_at = now() WHERE id = $1";
const A_DONE: &str = "INSERT INTO block_run (run_id, block, status, attempts, started_at, completed_at, output)
    VALUES ($1, 'a', 'completed', 1, now(), now(),
            '{\"outputs\":[{\"name\":\"output_0\",\"kind\":\"dataframe\",\"rows\":3,\"size_bytes\":99}]}')";
const B_FANS: &str = "INSERT INTO block_run (run_id, block, child, status, attempts, children)
    VALUES ($1, 'b', -1, 'running', 0, 5), ($1, 'b', 0, 'completed', 1, NULL), ($1, 'b', 3, 'failed', 2, NULL)";

fn states(answer: &Value) -> Vec<(String, i64, String)> {
    let short = |b: &Value| b["status"].as_str().unwrap().trim_start_matches("BLOCK_RUN_STATUS_").to_lowercase();
    let state = |b: &Value| (b["block"].as_str().unwrap().to_owned(), b["child"].as_i64().unwrap(), short(b));
    answer["blockRuns"].as_array().unwrap().iter().map(state).collect()
}

#[tokio::test]
async fn blocks_without_a_row_have_a_state_too() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let run = cluster.run("sales", "daily").await;
    let list = |extra: Value| {
        let mut message = json!({ "runId": run });
        message.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        message
    };
    let own = |block: &str, child, state: &str| (block.to_owned(), child, state.to_owned());
    let read = async |extra| states(&cluster.call("RunService/ListBlockRuns", list(extra)).await);
    let all =
        |state: &[&str; 4]| ["a", "b", "c", "d"].iter().zip(state).map(|(b, s)| own(b, -1, s)).collect::<Vec<_>>();
    assert_eq!(read(json!({})).await, all(&["initial"; 4]));
    cluster.change(run, STARTED).await;
    assert_eq!(read(json!({})).await, all(&["queued", "initial", "initial", "initial"]));
    cluster.change(run, A_DONE).await;
    assert_eq!(read(json!({})).await, all(&["completed", "queued", "queued", "initial"]));
    cluster.change(run, B_FANS).await;
    let whole = cluster.call("RunService/ListBlockRuns", list(json!({ "withoutChildren": true }))).await;
    assert_eq!(states(&whole), all(&["completed", "running", "queued", "initial"]));
    let (a, b) = (&whole["blockRuns"][0], &whole["blockRuns"][1]);
    assert_eq!(a["outputs"][0]["rows"], "3");
    assert_eq!([&b["childrenTotal"], &b["childrenCompleted"], &b["childrenFailed"]], [&json!(5), &json!(1), &json!(1)]);

    // Page by page, through the children: those that have not started are there as well.
    let (mut found, mut token) = (Vec::new(), json!(""));
    loop {
        let page = cluster.call("RunService/ListBlockRuns", list(json!({ "pageSize": 2, "pageToken": token }))).await;
        found.extend(states(&page));
        token = page["nextPageToken"].clone();
        if token == "" {
            break;
        }
    }
    let expected = [
        own("a", -1, "completed"),
        own("b", -1, "running"),
        own("b", 0, "completed"),
        own("b", 1, "queued"),
        own("b", 2, "queued"),
        own("b", 3, "failed"),
        own("b", 4, "queued"),
        own("c", -1, "queued"),
        own("d", -1, "initial"),
    ];
    assert_eq!(found, expected);
    let seen = cluster.call("RunService/GetRun", json!({ "runId": run })).await;
    assert_eq!((&seen["run"]["blocksDone"], &seen["run"]["blocksTotal"]), (&json!(1), &json!(4)));
}

#[tokio::test]
async fn a_watcher_sees_changes_and_the_end() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let run = cluster.run("sales", "daily").await;
    let mut client = RunServiceClient::new(cluster.channel());
    let request = WatchRunRequest { run_id: run.to_string() };
    let mut stream = client.watch_run(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.run.unwrap().status(), first.block_runs.len()), (RunStatus::Initial, 4));
    cluster.change(run, STARTED).await;
    let second = timeout(WAIT, stream.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(second.run.unwrap().status(), RunStatus::Running);
    let cancel = json!({ "runId": run, "reason": "enough" });
    let answer = cluster.call("RunService/CancelRun", cancel.clone()).await;
    assert_eq!(
        (&answer["run"]["status"], &answer["run"]["reason"]),
        (&json!("RUN_STATUS_CANCELLED"), &json!("enough"))
    );
    // Twice is no error.
    cluster.call("RunService/CancelRun", cancel).await;
    let last = timeout(WAIT, stream.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(last.run.unwrap().status(), RunStatus::Cancelled);
    assert_eq!(timeout(WAIT, stream.message()).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_retry_names_what_it_may_not() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let run = cluster.run("sales", "daily").await;
    let retry = |mode: &str, from: &str| json!({ "runId": run, "mode": mode, "fromBlock": from });
    let refused = async |message| cluster.refused("RunService/RetryRun", message).await.1;
    assert_eq!(refused(retry("RETRY_MODE_WHOLE", "")).await, "RUN_NOT_ENDED");
    assert_eq!(refused(retry("RETRY_MODE_UNSPECIFIED", "")).await, "INVALID_FIELD");
    assert_eq!(refused(retry("RETRY_MODE_FROM_BLOCK", "")).await, "INVALID_FIELD");
    assert_eq!(refused(retry("RETRY_MODE_WHOLE", "a")).await, "INVALID_FIELD");
    cluster.change(run, "UPDATE run SET status = 'failed', completed_at = now() WHERE id = $1").await;
    let again = cluster.call("RunService/RetryRun", retry("RETRY_MODE_INCOMPLETE", "")).await;
    assert_eq!(again["run"]["id"], run.to_string());
}

/// An answer that was lost is asked for again, by the web-server or by its client: the scheduler is told the same key.
#[tokio::test]
async fn a_retry_keeps_its_key_however_often_it_is_asked_for() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let run = cluster.run("sales", "daily").await;
    let retry = |key: &str| json!({ "runId": run, "mode": "RETRY_MODE_INCOMPLETE", "idempotencyKey": key });
    let told = || std::mem::take(&mut *cluster.scheduler.retries.lock().unwrap());
    cluster.change(run, "UPDATE run SET status = 'failed', completed_at = now() WHERE id = $1").await;
    cluster.scheduler.away_for.store(2, Relaxed);
    cluster.call("RunService/RetryRun", retry("")).await;
    let keys = told();
    assert!(keys.len() == 3 && !keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    cluster.call("RunService/RetryRun", retry("")).await;
    assert_ne!(told()[0], keys[0], "without a key, each is one of its own");

    // Nobody answered in time, and it is done: whether this is the same retry is for the scheduler to say.
    cluster.scheduler.away_for.store(usize::MAX, Relaxed);
    assert_eq!(cluster.refused("RunService/RetryRun", retry("mine")).await.1, "NO_SCHEDULER");
    cluster.scheduler.away_for.store(0, Relaxed);
    cluster.change(run, "UPDATE run SET status = 'running', completed_at = NULL WHERE id = $1").await;
    let again = cluster.call("RunService/RetryRun", retry("mine")).await;
    assert_eq!(again["run"]["id"], run.to_string());
    let keys = told();
    assert!(keys.len() > 1 && keys.iter().all(|key| *key == keys[0] && key.ends_with("/mine")), "{keys:?}");
    cluster.call("RunService/RetryRun", retry("mine")).await;
    assert!(told().is_empty(), "what was answered once is answered from what is remembered");
    assert_eq!(cluster.refused("RunService/RetryRun", retry("")).await.1, "RUN_NOT_ENDED");
}

#[tokio::test]
async fn logs_are_filtered_and_followed_to_the_end() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let run = cluster.run("sales", "daily").await;
    let lines = "INSERT INTO log_line (run_id, at, block, level, stream, message) VALUES
        ($1, now(), 'a', 20, 'stdout', 'hello <b>World</b>'), ($1, now(), 'b', 40, 'stderr', 'no 100%'),
        ($1, now(), '', 30, 'system', 'world')";
    cluster.change(run, lines).await;
    let list = async |filter: Value| {
        let mut message = json!({ "runId": run });
        message.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        let answer = cluster.call("LogService/ListLogs", message).await;
        answer["lines"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l["message"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(json!({ "text": "WORLD" })).await, ["hello <b>World</b>", "world"]);
    assert_eq!(list(json!({ "text": "100%" })).await, ["no 100%"]);
    assert_eq!(list(json!({ "minLevel": "warning" })).await, ["no 100%", "world"]);
    assert_eq!(list(json!({ "block": "a" })).await, ["hello <b>World</b>"]);
    let tail = cluster.post("LogService/TailLogs", json!({ "runId": run }));
    let end = async {
        let late = "INSERT INTO log_line (run_id, at, block, level, stream, message)
                    VALUES ($1, now(), 'd', 20, 'stdout', 'last')";
        cluster.change(run, late).await;
        cluster.change(run, "UPDATE run SET status = 'completed', completed_at = now() WHERE id = $1").await;
    };
    let (tail, ()) = timeout(WAIT, async { tokio::join!(tail, end) }).await.unwrap();
    let text = String::from_utf8(tail.body.to_vec()).unwrap();
    let messages = text.lines().flat_map(|line| {
        let batch: Value = serde_json::from_str(line).unwrap();
        batch["lines"].as_array().unwrap().iter().map(|l| l["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(messages.collect::<Vec<_>>(), ["hello <b>World</b>", "no 100%", "world", "last"]);
}

#[tokio::test]
async fn lines_of_two_executors_are_told_by_their_times_and_paged_as_they_were_stored() {
    let cluster = Cluster::new().await;
    diamond(&cluster).await;
    let run = cluster.run("sales", "daily").await;
    // The executor of `b` stored what it had after that of `a`, and last what it had kept for longest.
    let lines = "INSERT INTO log_line (run_id, at, block, lease, level, stream, message)
        SELECT $1, date_trunc('second', now()) - make_interval(secs => 60 - n), block, 1, 20, 'stdout', block || n
          FROM (VALUES ('a', 1), ('a', 3), ('a', 5), ('b', 2), ('b', 4), ('b', 6), ('c', 0)) AS l (block, n)";
    cluster.change(run, lines).await;
    let messages = |answer: &Value| -> Vec<String> {
        let lines = answer["lines"].as_array().unwrap();
        lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    };
    let page = async |size: u32, token: &Value| {
        let request = json!({ "runId": run, "pageSize": size, "pageToken": token });
        let answer = cluster.call("LogService/ListLogs", request).await;
        (messages(&answer), answer["nextPageToken"].clone())
    };
    let in_order = ["c0", "a1", "b2", "a3", "b4", "a5", "b6"];
    assert_eq!(page(100, &json!("")).await.0, in_order);
    let (first, token) = page(4, &json!("")).await;
    assert_eq!(first, ["a1", "b2", "a3", "a5"]);
    assert_eq!(page(4, &token).await.0, ["c0", "b4", "b6"], "each once");
    cluster.change(run, "UPDATE run SET status = 'completed', completed_at = now() WHERE id = $1").await;
    let tail = cluster.post("LogService/TailLogs", json!({ "runId": run })).await;
    let tail: Value = serde_json::from_slice(&tail.body).unwrap();
    assert_eq!(messages(&tail), in_order);
}
