//! What a team looks at when something is wrong: searches over logs, statistics, and who is told.

use crate::cluster::Cluster;
use proto::v1::{TailLogsRequest, log_service_client::LogServiceClient};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

const WAIT: Duration = Duration::from_secs(30);

async fn with_run(cluster: &Cluster, workspace: &str, pipeline: &str) -> Uuid {
    cluster.workspace(workspace).await;
    cluster.pipeline(workspace, pipeline, &[("load", &[])]).await;
    cluster.run(workspace, pipeline).await
}

/// $1 run, $2 text, $3 how many lines of it
const WRITE: &str = "INSERT INTO log_line (run_id, at, block, block_type, level, stream, message)
                     SELECT $1, now(), 'load', 'data_loader', CASE WHEN n % 10 = 0 THEN 40 ELSE 20 END, 'stdout',
                            format('%s %s', $2::text, n) FROM generate_series(1, $3::integer) AS n";

async fn write(cluster: &Cluster, run: Uuid, count: i32, text: &str) {
    cluster.database.client().await.execute(WRITE, &[&run, &text, &count]).await.unwrap();
}

fn messages(answer: &Value) -> Vec<&str> {
    answer["lines"].as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_search_is_paged_and_stays_in_its_workspace() {
    let cluster = Cluster::new().await;
    let (ours, theirs) = (with_run(&cluster, "ours", "p").await, with_run(&cluster, "theirs", "p").await);
    write(&cluster, ours, 30, "our line").await;
    write(&cluster, theirs, 30, "their line").await;
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let request =
            json!({ "workspace": "ours", "text": "LINE", "minLevel": "ERROR", "pageSize": 2, "pageToken": token });
        let page = cluster.call("LogService/SearchLogs", request).await;
        found.extend(messages(&page).into_iter().map(str::to_owned));
        token = page["nextPageToken"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ["our line 30", "our line 20", "our line 10"]);
    let first = cluster.call("LogService/SearchLogs", json!({ "workspace": "ours", "pageSize": 1 })).await;
    let line = &first["lines"][0];
    assert_eq!(
        (&line["pipeline"], &line["trigger"], &line["blockType"]),
        (&json!("p"), &json!("manual"), &json!("data_loader"))
    );
    let within = json!({ "workspace": "ours", "runId": ours, "text": "line 7", "blockType": "data_loader" });
    assert_eq!(messages(&cluster.call("LogService/SearchLogs", within).await), ["our line 7"]);

    for (request, reason) in [
        (json!({ "workspace": "ours", "runId": theirs }), "RUN_NOT_FOUND"),
        (json!({ "workspace": "nobodys" }), "WORKSPACE_NOT_FOUND"),
        (json!({ "workspace": "ours", "pipeline": "q" }), "PIPELINE_NOT_FOUND"),
        (json!({ "workspace": "ours", "pipeline": "p", "trigger": "t" }), "TRIGGER_NOT_FOUND"),
        (json!({ "workspace": "ours", "trigger": "manual" }), "INVALID_ARGUMENT"),
        (json!({ "workspace": "ours", "text": "x".repeat(201) }), "INVALID_ARGUMENT"),
        (json!({ "workspace": "ours", "text": "a\u{0}b" }), "INVALID_ARGUMENT"),
        (json!({ "workspace": "ours", "minLevel": "LOUD" }), "INVALID_ARGUMENT"),
        (json!({ "workspace": "theirs", "text": "LINE", "pageToken": first["nextPageToken"] }), ""),
    ] {
        let (_, why) = cluster.refused("LogService/SearchLogs", request.clone()).await;
        assert!(reason.is_empty() || why == reason || reason == "INVALID_ARGUMENT", "{request}: {why}");
    }
}

#[tokio::test]
async fn old_days_of_lines_are_told_by_their_date() {
    let cluster = Cluster::new().await;
    let clean = json!({ "before": "2026-02-01T00:00:00Z", "dryRun": true });
    let answer = cluster.call("LogService/CleanLogs", clean).await;
    assert_eq!(answer["days"], json!([{ "day": "2026-01-31", "sizeBytes": "8192" }]));
    assert_eq!(answer["before"], json!("2026-02-01T00:00:00Z"));
    let forever = cluster.refused_as(crate::cluster::TOKEN, "LogService/CleanLogs", json!({})).await;
    assert_eq!(forever, "LOG_RETENTION");
}

#[tokio::test]
async fn a_reader_that_stalls_harms_nobody() {
    let cluster = Cluster::new().await;
    let run = with_run(&cluster, "stalled", "p").await;
    write(&cluster, run, 30_000, &"long ".repeat(40)).await;
    let request = || TailLogsRequest { run_id: run.to_string(), ..TailLogsRequest::default() };
    // They read their first message and no more: what follows stays in the database.
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut client = LogServiceClient::new(cluster.channel());
        let mut stream = client.tail_logs(request()).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        stalled.push(stream);
    }
    let read = async {
        let mut client = LogServiceClient::new(cluster.channel());
        let mut stream = client.tail_logs(request()).await.unwrap().into_inner();
        let mut lines = 0;
        while lines < 30_000 {
            lines += stream.message().await.unwrap().unwrap().lines.len();
        }
        lines
    };
    assert_eq!(tokio::time::timeout(WAIT, read).await.expect("a reader waited for others"), 30_000);
    // Nor do calls of the few connections to the database.
    cluster.call("RunService/GetRun", json!({ "runId": run })).await;
    drop(stalled);
}

/// How soon lines have to appear to be sure to be sent: less than what a follower waits for them.
const IN_TIME: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn lines_that_appear_behind_a_flood_are_followed_too() {
    let cluster = Cluster::new().await;
    // A machine that stood still has shown nothing.
    for tries in 0..10 {
        if follows(&cluster, with_run(&cluster, &format!("flooded{tries}"), "p").await).await {
            return;
        }
    }
    panic!("this machine is too slow for lines to appear within {IN_TIME:?}");
}

/// Whether it could be tried; a line that is missing then is a failure.
async fn follows(cluster: &Cluster, run: Uuid) -> bool {
    // Their ids are given, and others have come before they are there.
    let mut slow = cluster.database.client().await;
    let slow = slow.transaction().await.unwrap();
    slow.execute(WRITE, &[&run, &"slow", &600]).await.unwrap();
    write(cluster, run, 1_200, "fast").await;
    let mut client = LogServiceClient::new(cluster.channel());
    let request = TailLogsRequest { run_id: run.to_string(), ..TailLogsRequest::default() };
    let began = Instant::now();
    let mut stream = client.tail_logs(request).await.unwrap().into_inner();
    let mut lines = Vec::new();
    let mut follow = async |count: usize| {
        while lines.len() < count {
            lines.extend(stream.message().await.unwrap().unwrap().lines);
        }
        lines.len()
    };
    assert_eq!(tokio::time::timeout(WAIT, follow(1_200)).await.expect("the flood"), 1_200);
    slow.commit().await.unwrap();
    if began.elapsed() > IN_TIME {
        return false;
    }
    assert_eq!(tokio::time::timeout(WAIT, follow(1_800)).await.expect("what came late"), 1_800);
    lines.sort_by_key(|line| line.id);
    assert!(lines[..600].iter().all(|line| line.message.starts_with("slow")), "each once");
    lines.dedup_by_key(|line| line.id);
    assert_eq!(lines.len(), 1_800);
    true
}

#[tokio::test]
async fn statistics_are_added_up_by_day_and_thing() {
    let cluster = Cluster::new().await;
    let run = with_run(&cluster, "counted", "nightly").await;
    let client = cluster.database.client().await;
    let insert = "INSERT INTO run_stat SELECT workspace_id, day::date, pipeline_id, trigger_id, v.status, 43, n, n * 2000, 2000
                    FROM run, (VALUES ('2026-01-01', 'completed', 3), ('2026-01-02', 'completed', 1), ('2026-01-02', 'failed', 1))
                      AS v (day, status, n) WHERE id = $1";
    client.execute(insert, &[&run]).await.unwrap();
    let request = json!({ "workspace": "counted", "firstDay": "2026-01-01", "lastDay": "2026-01-31", "groupBy": "RUN_GROUPING_TRIGGER" });
    let answer = cluster.call("MonitorService/GetRunStatistics", request).await;
    let of = &answer["statistics"][0];
    assert_eq!((&of["pipeline"], &of["name"]), (&json!("nightly"), &json!("manual")));
    assert_eq!(of["total"]["countByStatus"], json!({ "completed": "4", "failed": "1" }));
    assert_eq!(of["total"]["durations"]["longest"], json!("2s"));
    assert_eq!(of["days"].as_array().unwrap().len(), 2);
    assert_eq!(answer["unfinished"], json!([{ "pipeline": "nightly", "status": "initial", "runs": "1" }]));
    let short = cluster.get("/api/v1/workspaces/counted/monitor?first_day=2026-01-01&last_day=2026-01-01").await.json();
    assert_eq!(short["statistics"][0]["total"]["countByStatus"], json!({ "completed": "3" }));
    let (code, _) = cluster
        .refused("MonitorService/GetRunStatistics", json!({ "workspace": "counted", "firstDay": "9999-12-31" }))
        .await;
    assert_eq!(code, "invalid_argument");
    let blocks = cluster.call("MonitorService/GetBlockStatistics", json!({ "workspace": "counted" })).await;
    assert_eq!(blocks["statistics"], json!([]));
}

#[tokio::test]
async fn who_is_told_is_set_checked_and_shown_without_secrets() {
    let cluster = Cluster::new().await;
    with_run(&cluster, "telling", "p").await;
    let config = json!({ "alert_on": ["trigger_failure"], "slack_config": { "webhook_url": "https://hooks.example.com/SECRET" } });
    let set = json!({ "workspace": "telling", "pipeline": "p", "config": config });
    let answer = cluster.call("NotificationService/SetNotificationConfig", set).await;
    assert_eq!(answer["config"]["pipeline"], json!("p"));
    assert!(!answer.to_string().contains("SECRET"), "{answer}");
    let shown = cluster.call("NotificationService/ListNotificationConfigs", json!({ "workspace": "telling" })).await;
    assert_eq!(shown["configs"][0]["config"]["slack_config"]["webhook_url"], json!("***"));
    let bad = json!({ "workspace": "telling", "config": { "slack_config": { "webhook_url": "gopher://x" } } });
    let answer = cluster.post("NotificationService/SetNotificationConfig", bad).await.json();
    assert!(answer["message"].as_str().unwrap().contains("slack_config.webhook_url"), "{answer}");
    let test = cluster.call("NotificationService/TestNotifications", json!({ "workspace": "telling" })).await;
    assert_eq!(test["notifications"], json!(1));
    let removed = json!({ "workspace": "telling", "pipeline": "p", "config": {} });
    assert_eq!(cluster.call("NotificationService/SetNotificationConfig", removed).await["config"], Value::Null);
    let none = cluster.call("NotificationService/ListNotifications", json!({ "workspace": "telling" })).await;
    assert_eq!(none["notifications"], json!([]));
}
