//! Backfills and limits as callers see them: what is refused before any scheduler hears of it, what a preview promises, and
//! whose they are.

use crate::cluster::Cluster;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::wait_for;

async fn world() -> Cluster {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    cluster.pipeline("sales", "daily", &[("a", &[])]).await;
    cluster
}

fn spec() -> Value {
    json!({
        "name": "march", "startTime": "2024-03-29T05:00:00Z", "endTime": "2024-04-02T05:00:00Z",
        "unit": "INTERVAL_UNIT_DAY", "timeZone": "Europe/Berlin", "parallelism": 2,
    })
}

fn of(spec: Value) -> Value {
    json!({ "workspace": "sales", "pipeline": "daily", "spec": spec })
}

fn with(field: &str, value: Value) -> Value {
    let mut spec = spec();
    spec[field] = value;
    of(spec)
}

#[tokio::test]
async fn a_preview_counts_and_shows_both_ends_in_order() {
    let cluster = world().await;
    let preview = async |message: Value| cluster.call("BackfillService/PreviewBackfill", message).await;
    let days = preview(of(spec())).await;
    assert_eq!(days["intervalsTotal"], "5");
    // Six o'clock in Berlin, on both sides of the clock's jump.
    assert_eq!(days["first"][0], "2024-03-29T05:00:00Z");
    assert_eq!(days["first"][2], "2024-03-31T04:00:00Z");
    assert_eq!((days["first"].as_array().unwrap().len(), &days["last"]), (5, &json!([])));
    assert_eq!(days["variables"]["interval_seconds"], json!(86_400.0));
    // Told in UTC, as blocks are told it, though days are Berlin's.
    assert_eq!((&days["variables"]["ds"], &days["variables"]["hr"]), (&json!("2024-03-29"), &json!("05")));
    assert_eq!(days["variables"]["interval_end_datetime"], "2024-03-30T05:00:00+00:00");
    let backwards = preview(with("descending", json!(true))).await;
    assert_eq!(backwards["first"][0], "2024-04-02T04:00:00Z");
    let mut cron = spec();
    cron["unit"] = json!("INTERVAL_UNIT_CRON");
    cron["cron"] = json!("0 6 * * 1-5");
    let working = preview(of(cron.clone())).await;
    assert_eq!(working["first"], json!(["2024-03-29T05:00:00Z", "2024-04-01T04:00:00Z", "2024-04-02T04:00:00Z"]));
    assert_eq!(working["variables"]["interval_seconds"], json!(71.0 * 3600.0));
    let mut minutes = spec();
    minutes["unit"] = json!("INTERVAL_UNIT_MINUTE");
    let many = preview(of(minutes)).await;
    assert_eq!(many["intervalsTotal"], "5761");
    assert_eq!(many["last"][4], "2024-04-02T05:00:00Z");
    assert_eq!(many["last"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_its_field() {
    let cluster = world().await;
    for (field, value, place) in [
        ("name", json!(""), "spec.name"),
        ("startTime", Value::Null, "spec.start_time"),
        ("startTime", json!("9999-01-01T00:00:00Z"), "spec.end_time"),
        ("endTime", json!("2024-03-01T00:00:00Z"), "spec.end_time"),
        ("unit", json!("INTERVAL_UNIT_UNSPECIFIED"), "spec.unit"),
        ("unit", json!("INTERVAL_UNIT_CRON"), "spec.cron"),
        ("cron", json!("0 6 * * *"), "spec.cron"),
        ("every", json!(-1), "spec.every"),
        ("timeZone", json!("Mars/Olympus"), "spec.time_zone"),
        ("variables", json!({ "id": 9_007_199_254_740_993_i64 }), "spec.variables"),
        ("parallelism", json!(1_001), "spec.parallelism"),
        ("parallelism", json!(-1), "spec.parallelism"),
        ("variables", json!({ "x": "y".repeat(300 << 10) }), "spec.variables"),
    ] {
        for method in ["CreateBackfill", "PreviewBackfill"] {
            let answer = cluster.post(&format!("BackfillService/{method}"), with(field, value.clone())).await;
            let told = answer.json()["details"][1]["debug"]["fieldViolations"][0]["field"].clone();
            assert_eq!((answer.status.as_u16(), told), (400, json!(place)), "{method} {field}: {:?}", answer.body);
        }
    }
    let mut years = spec();
    (years["unit"], years["cron"]) = (json!("INTERVAL_UNIT_CRON"), json!("0 0 1 1 *"));
    for (start, end, place) in
        [("1950-01-01", "1980-01-01", "spec.start_time"), ("1990-01-01", "2300-01-01", "spec.end_time")]
    {
        (years["startTime"], years["endTime"]) =
            (json!(format!("{start}T00:00:00Z")), json!(format!("{end}T00:00:00Z")));
        let answer = cluster.post("BackfillService/CreateBackfill", of(years.clone())).await;
        let told = answer.json()["details"][1]["debug"]["fieldViolations"][0]["field"].clone();
        assert_eq!((answer.status.as_u16(), told), (400, json!(place)), "{:?}", answer.body);
    }
    let mut endless = spec();
    endless["unit"] = json!("INTERVAL_UNIT_SECOND");
    endless["startTime"] = json!("1990-01-01T00:00:00Z");
    let (_, reason) = cluster.refused("BackfillService/CreateBackfill", of(endless)).await;
    assert_eq!(reason, "INVALID_FIELD");
    let nowhere = json!({ "workspace": "sales", "pipeline": "nothing", "spec": spec() });
    assert_eq!(cluster.refused("BackfillService/CreateBackfill", nowhere).await.1, "PIPELINE_NOT_FOUND");
}

#[tokio::test]
async fn a_backfill_is_made_listed_and_changed() {
    let cluster = world().await;
    let mut keyed = of(spec());
    keyed["idempotencyKey"] = json!("once");
    let made = cluster.call("BackfillService/CreateBackfill", keyed.clone()).await["backfill"].clone();
    assert_eq!(cluster.call("BackfillService/CreateBackfill", keyed).await["backfill"], made);
    assert_eq!((&made["status"], &made["pipeline"]), (&json!("BACKFILL_STATUS_RUNNING"), &json!("daily")));
    assert_eq!((&made["spec"]["unit"], &made["spec"]["parallelism"]), (&json!("INTERVAL_UNIT_DAY"), &json!(2)));
    let again = cluster.refused("BackfillService/CreateBackfill", of(spec())).await;
    assert_eq!(again, ("already_exists".to_owned(), "BACKFILL_EXISTS".to_owned()));
    let mut cron = spec();
    (cron["name"], cron["unit"], cron["cron"]) = (json!("weekdays"), json!("INTERVAL_UNIT_CRON"), json!("0 6 * * 1-5"));
    let other = cluster.call("BackfillService/CreateBackfill", of(cron)).await["backfill"].clone();
    assert_eq!((&other["spec"]["unit"], &other["spec"]["cron"]), (&json!("INTERVAL_UNIT_CRON"), &json!("0 6 * * 1-5")));
    let page = json!({ "workspace": "sales", "pipeline": "daily", "pageSize": 1 });
    let listed = cluster.call("BackfillService/ListBackfills", page.clone()).await;
    assert_eq!(listed["backfills"][0]["id"], other["id"]);
    let mut next = page;
    next["pageToken"] = listed["nextPageToken"].clone();
    assert_eq!(cluster.call("BackfillService/ListBackfills", next).await["backfills"][0]["id"], made["id"]);
    let id = json!({ "backfillId": made["id"] });
    for (act, status) in [("Pause", "PAUSED"), ("Resume", "RUNNING"), ("Cancel", "CANCELLED"), ("Cancel", "CANCELLED")]
    {
        let changed = cluster.call(&format!("BackfillService/{act}Backfill"), id.clone()).await;
        assert_eq!(changed["backfill"]["status"], format!("BACKFILL_STATUS_{status}"));
    }
    let ended = cluster.refused("BackfillService/ResumeBackfill", id.clone()).await;
    assert_eq!(ended.1, "BACKFILL_ENDED");
    assert_eq!(
        cluster.call("BackfillService/GetBackfill", id).await["backfill"]["status"],
        "BACKFILL_STATUS_CANCELLED"
    );
    // One that paused itself says why, as long as it is paused.
    let pause = async |status: &str| {
        let db = cluster.database.client().await;
        let set = "UPDATE backfill SET status = $1, pause_reason = 'the pipeline is gone' WHERE name = 'weekdays'";
        db.execute(set, &[&status]).await.unwrap();
        let shown = cluster.call("BackfillService/GetBackfill", json!({ "backfillId": other["id"] })).await;
        shown["backfill"]["pauseReason"].clone()
    };
    assert_eq!(pause("paused").await, "the pipeline is gone");
    assert_eq!(pause("running").await, "");
    let none = json!({ "backfillId": uuid::Uuid::nil() });
    assert_eq!(cluster.refused("BackfillService/PauseBackfill", none).await.1, "BACKFILL_NOT_FOUND");
}

#[tokio::test]
async fn limits_are_set_listed_and_removed() {
    let cluster = world().await;
    let limit = |name: &str, blocks: i64| json!({ "workspace": "sales", "name": name, "maxBlocks": blocks });
    for (name, blocks) in [("workspace", 50), ("warehouse", 2), ("tenant:*", 1), ("warehouse", 3)] {
        cluster.call("LimitService/SetLimit", limit(name, blocks)).await;
    }
    let list =
        async || cluster.call("LimitService/ListLimits", json!({ "workspace": "sales" })).await["limits"].clone();
    let told = list().await;
    let mut told: Vec<(&str, i64, &str)> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| {
            (limit["name"].as_str().unwrap(), limit["maxBlocks"].as_i64().unwrap(), limit["source"].as_str().unwrap())
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("tenant:*", 1, "api"), ("warehouse", 3, "api"), ("workspace", 50, "api")]);
    for (name, blocks) in [("", 1), ("a b", 1), ("x", 0), ("x", -1), ("x", 1_000_001), (&"x".repeat(300), 1)] {
        let refused = cluster.refused("LimitService/SetLimit", limit(name, blocks)).await;
        assert_eq!(refused.1, "INVALID_FIELD", "{name} {blocks}");
    }
    let warehouse = json!({ "workspace": "sales", "name": "warehouse" });
    cluster.call("LimitService/RemoveLimit", warehouse.clone()).await;
    assert_eq!(list().await.as_array().unwrap().len(), 2);
    assert_eq!(cluster.refused("LimitService/RemoveLimit", warehouse).await.1, "LIMIT_NOT_FOUND");
    // One answer tells them all, so they are not more than it can hold; those that are there are changed as before.
    let fill = "INSERT INTO block_limit (workspace_id, name, max_blocks, source)
                SELECT w.id, 'n' || n, 1, 'api' FROM workspace w, generate_series(1, 498) AS n WHERE w.name = 'sales'";
    cluster.database.client().await.execute(fill, &[]).await.unwrap();
    assert_eq!(list().await.as_array().unwrap().len(), 500);
    assert_eq!(cluster.refused("LimitService/SetLimit", limit("one-more", 1)).await.1, "TOO_MANY_LIMITS");
    cluster.call("LimitService/SetLimit", limit("n7", 2)).await;
}

#[tokio::test]
async fn no_transaction_waits_for_a_scheduler() {
    let cluster = world().await;
    let mut message = of(spec());
    message["idempotencyKey"] = json!("k");
    let mut holding = cluster.database.client().await;
    let hold = holding.transaction().await.unwrap();
    // The scheduler can write none for now.
    hold.batch_execute("LOCK TABLE backfill IN EXCLUSIVE MODE").await.unwrap();
    let look = async {
        let watch = cluster.database.client().await;
        let of_all = "SELECT count(*) FILTER (WHERE wait_event_type = 'Lock'),
                             count(*) FILTER (WHERE state = 'idle in transaction')
                        FROM pg_stat_activity WHERE datname = current_database()";
        let open = wait_for("the scheduler to be asked", Duration::from_secs(60), || async {
            let row = watch.query_one(of_all, &[]).await.unwrap();
            (row.get::<_, i64>(0) > 0).then(|| row.get::<_, i64>(1))
        })
        .await;
        hold.commit().await.unwrap();
        open
    };
    let (created, open) = tokio::join!(cluster.call("BackfillService/CreateBackfill", message.clone()), look);
    assert_eq!(open, 1, "only this test's");
    assert_eq!(cluster.call("BackfillService/CreateBackfill", message).await, created);
}

#[tokio::test]
async fn runs_are_listed_by_what_started_them() {
    let cluster = world().await;
    cluster.workspace("other").await;
    let (own, of_backfill) = (cluster.run("sales", "daily").await, cluster.run("sales", "daily").await);
    let backfill = uuid::Uuid::now_v7();
    let db = cluster.database.client().await;
    let insert = "INSERT INTO backfill (id, workspace_id, pipeline_id, shard, name, start_at, end_at, unit, every, time_zone,
                                        descending, parallelism, status, total)
                  SELECT $1, workspace_id, id, 0, 'march', now(), now(), 'day', 1, 'UTC', false, 1, 'running', 1 FROM pipeline";
    db.execute(insert, &[&backfill]).await.unwrap();
    db.execute("UPDATE run SET backfill_id = $1 WHERE id = $2", &[&backfill, &of_backfill]).await.unwrap();
    let list = async |more: Value| {
        let mut message = json!({ "workspace": "sales", "pipeline": "daily" });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = cluster.call("RunService/ListRuns", message).await;
        answer["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (own, of_backfill, backfill) = (own.to_string(), of_backfill.to_string(), backfill.to_string());
    assert_eq!(list(json!({})).await, [of_backfill.clone(), own.clone()]);
    assert_eq!(
        list(json!({ "trigger": "manual" })).await,
        [own.as_str()],
        "the backfill's have that trigger only by name"
    );
    assert_eq!(list(json!({ "trigger": "manual", "backfillId": backfill })).await, [""; 0]);
    assert_eq!(list(json!({ "backfillId": backfill })).await, [of_backfill.as_str()]);
    // Page by page, by status, and those of one commit too.
    let mut others = Vec::new();
    for _ in 0..4 {
        others.insert(0, cluster.run("sales", "daily").await.to_string());
    }
    db.batch_execute(
        "WITH one AS (SELECT max(created_at) AS at FROM run), runs AS (UPDATE run SET created_at = at FROM one)
         UPDATE firing SET created_at = at FROM one",
    )
    .await
    .unwrap();
    let mut message = json!({ "workspace": "sales", "pipeline": "daily", "trigger": "manual", "pageSize": 2 });
    let mut paged = Vec::new();
    loop {
        let answer = cluster.call("RunService/ListRuns", message.clone()).await;
        paged.extend(answer["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()));
        message["pageToken"] = answer["nextPageToken"].clone();
        if message["pageToken"] == "" {
            break;
        }
    }
    others.push(own);
    paged.sort_unstable();
    others.sort_unstable();
    assert_eq!(paged, others);
    assert_eq!(list(json!({ "trigger": "manual", "statuses": ["RUN_STATUS_FAILED"] })).await, [""; 0]);
    let run = cluster.call("RunService/GetRun", json!({ "runId": of_backfill })).await["run"].clone();
    assert_eq!((&run["backfill"], &run["backfillId"]), (&json!("march"), &json!(backfill)));
    for (message, reason) in [
        (json!({ "workspace": "other", "backfillId": backfill }), "BACKFILL_NOT_FOUND"),
        (json!({ "workspace": "sales", "pipeline": "daily", "trigger": "nobody" }), "TRIGGER_NOT_FOUND"),
        (json!({ "workspace": "sales", "trigger": "manual" }), "INVALID_FIELD"),
    ] {
        assert_eq!(cluster.refused("RunService/ListRuns", message.clone()).await.1, reason, "{message}");
    }
}
