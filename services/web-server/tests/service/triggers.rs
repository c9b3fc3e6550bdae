//! Triggers as definitions: edits and versions, what is refused, and what a project's file says.

use crate::cluster::{Cluster, Files, project};
use crate::deploy::deploy;
use proto::v1::{CreateDeploymentResponse, PipelineChange};
use serde_json::{Value, json};

pub(crate) async fn cluster() -> Cluster {
    let cluster = Cluster::new().await;
    fill(&cluster).await;
    cluster
}

pub(crate) async fn fill(cluster: &Cluster) {
    cluster.workspace("sales").await;
    cluster.pipeline("sales", "daily", &[("a", &[])]).await;
}

/// Creates an active trigger and answers it.
pub(crate) async fn create(cluster: &Cluster, name: &str, spec: Value) -> Value {
    let message = json!({ "workspace": "sales", "pipeline": "daily", "name": name, "active": true, "spec": spec });
    cluster.call("TriggerService/CreateTrigger", message).await["trigger"].clone()
}

async fn get(cluster: &Cluster, id: &Value) -> Value {
    cluster.call("TriggerService/GetTrigger", json!({ "triggerId": id })).await["trigger"].clone()
}

async fn list(cluster: &Cluster) -> Vec<Value> {
    let answer = cluster.call("TriggerService/ListTriggers", json!({ "workspace": "sales" })).await;
    let all = answer["triggers"].as_array().unwrap().clone();
    all.into_iter().filter(|trigger| trigger["source"] != "built-in").collect()
}

fn every(text: &str) -> Value {
    json!({ "schedule": { "every": text, "timeZone": "Europe/Berlin" } })
}

#[tokio::test]
async fn a_trigger_lives_through_its_versions() {
    let cluster = cluster().await;
    let mut spec = every("30 2 * * *");
    spec["overlap"] = json!("OVERLAP_POLICY_BUFFER_ONE");
    spec["catchUp"] = json!({ "mode": "CATCH_UP_MODE_ALL", "window": "3600s", "count": 5 });
    spec["variables"] = json!({ "n": 1 });
    let made = create(&cluster, "nightly", spec.clone()).await;
    let id = &made["id"];
    assert_eq!((&made["version"], &made["active"], &made["source"]), (&json!("1"), &json!(true), &json!("api")));
    assert!(made["nextAt"].is_string(), "{made}");
    assert_eq!(get(&cluster, id).await["spec"]["catchUp"], spec["catchUp"]);

    spec["schedule"]["every"] = json!("@hourly");
    let edit = |version: i64| json!({ "triggerId": id, "version": version, "spec": spec });
    let edited = cluster.call("TriggerService/UpdateTrigger", edit(1)).await;
    assert_eq!(
        (&edited["trigger"]["version"], &edited["trigger"]["spec"]["schedule"]["every"]),
        (&json!("2"), &json!("@hourly"))
    );
    let stale = cluster.refused("TriggerService/UpdateTrigger", edit(1)).await;
    assert_eq!(stale, ("aborted".to_owned(), "CHANGED_MEANWHILE".to_owned()));

    let paused = cluster.call("TriggerService/PauseTrigger", json!({ "triggerId": id })).await;
    assert_eq!((&paused["trigger"]["version"], &paused["trigger"]["active"]), (&json!("3"), &json!(false)));
    assert_eq!(paused["trigger"]["nextAt"], Value::Null);
    // A pause of what is paused changes nothing.
    let paused = cluster.call("TriggerService/PauseTrigger", json!({ "triggerId": id })).await;
    assert_eq!(paused["trigger"]["version"], "3");
    let started = cluster.call("TriggerService/StartTrigger", json!({ "triggerId": id })).await;
    assert_eq!((&started["trigger"]["version"], &started["trigger"]["active"]), (&json!("4"), &json!(true)));
    // Nor does a start of what fires, unless a failure has halted it.
    let started = cluster.call("TriggerService/StartTrigger", json!({ "triggerId": id })).await;
    assert_eq!(started["trigger"]["version"], "4");
    let db = cluster.database.client().await;
    let halt = "INSERT INTO trigger_state (trigger_id, shard, version, state) SELECT id, 0, version, '{\"halted\": 4}' FROM trigger WHERE name = 'nightly'";
    db.execute(halt, &[]).await.unwrap();
    let halted = get(&cluster, id).await;
    assert_eq!((&halted["halted"], &halted["nextAt"]), (&json!(true), &Value::Null));
    let started = cluster.call("TriggerService/StartTrigger", json!({ "triggerId": id })).await;
    assert_eq!((&started["trigger"]["version"], &started["trigger"]["halted"]), (&json!("5"), &json!(false)));

    cluster.call("TriggerService/DeleteTrigger", json!({ "triggerId": id })).await;
    let gone = cluster.refused("TriggerService/GetTrigger", json!({ "triggerId": id })).await;
    assert_eq!(gone, ("not_found".to_owned(), "TRIGGER_NOT_FOUND".to_owned()));
    assert!(list(&cluster).await.is_empty());
    // Whoever asks for archived ones finds it, and its history can be read.
    let message = json!({ "workspace": "sales", "withArchived": true });
    let all = cluster.call("TriggerService/ListTriggers", message).await;
    let archived: Vec<_> = all["triggers"].as_array().unwrap().iter().filter(|t| t["archived"] == true).collect();
    assert_eq!((archived.len(), &archived[0]["id"], &archived[0]["nextAt"]), (1, id, &Value::Null));
    let fired = "INSERT INTO firing (trigger_id, logical_key, decided, reason, shard_epoch)
                 SELECT id, 'k', 'skipped', 'overlap', 1 FROM trigger WHERE name = 'nightly'";
    db.execute(fired, &[]).await.unwrap();
    let history = cluster.call("TriggerService/ListFirings", json!({ "triggerId": id })).await;
    assert_eq!(history["firings"][0]["logicalKey"], "k");
    let nobody = json!({ "triggerId": "0190a5b8-7c1e-7d3a-9d52-3f1c8a2b6e4f" });
    assert_eq!(cluster.refused("TriggerService/ListFirings", nobody).await.1, "TRIGGER_NOT_FOUND");
    // Its name is free again, and the versions go on where they were.
    let again = create(&cluster, "nightly", every("@daily")).await;
    assert_eq!((&again["id"], &again["version"]), (id, &json!("7")));
}

#[tokio::test]
async fn what_is_written_back_as_it_is_shown_stays_as_it_is_stored() {
    let cluster = cluster().await;
    let patterns = json!([{ "id": ["x"] }, { "source": ["s3"] }]);
    let made = create(&cluster, "files", json!({ "event": { "patterns": patterns }, "variables": { "n": 1 } })).await;
    // As a project's file may say it, and no message can.
    let db = cluster.database.client().await;
    let big = "UPDATE trigger SET spec = jsonb_set(jsonb_set(spec, '{variables,id}', '9007199254740993'),
                                                   '{kind,patterns,0,id,0}', '9007199254740993') WHERE name = 'files'
               RETURNING spec";
    let stored: Value = db.query_one(big, &[]).await.unwrap().get(0);
    assert!(stored.to_string().matches("9007199254740993").count() == 2, "{stored}");
    let shown = get(&cluster, &made["id"]).await;
    assert_eq!(shown["spec"]["variables"], json!({ "id": "9007199254740993", "n": 1.0 }));
    assert_eq!(shown["spec"]["event"]["patterns"][0], json!({ "id": ["9007199254740993"] }));
    let mut spec = shown["spec"].clone();
    spec["sla"] = json!("300s");
    let edit = json!({ "triggerId": made["id"], "version": shown["version"], "spec": spec });
    let edited = cluster.call("TriggerService/UpdateTrigger", edit).await["trigger"].clone();
    let mut expected = stored;
    expected["sla_s"] = json!(300);
    let read = "SELECT spec FROM trigger WHERE name = 'files'";
    assert_eq!(db.query_one(read, &[]).await.unwrap().get::<_, Value>(0), expected);
    // What is changed is what was written.
    spec["event"]["patterns"] = json!([{ "id": [7] }, { "source": ["s3"] }]);
    let edit = json!({ "triggerId": made["id"], "version": edited["version"], "spec": spec });
    cluster.call("TriggerService/UpdateTrigger", edit).await;
    expected["kind"]["patterns"][0] = json!({ "id": [7] });
    assert_eq!(db.query_one(read, &[]).await.unwrap().get::<_, Value>(0), expected);
}

#[tokio::test]
async fn the_built_in_trigger_stays_as_it_is() {
    let cluster = cluster().await;
    let all = cluster.call("TriggerService/ListTriggers", json!({ "workspace": "sales" })).await;
    let manual = &all["triggers"][0];
    assert_eq!((&manual["name"], &manual["source"]), (&json!("manual"), &json!("built-in")));
    for method in ["PauseTrigger", "StartTrigger", "DeleteTrigger"] {
        let refused = cluster.refused(&format!("TriggerService/{method}"), json!({ "triggerId": manual["id"] })).await;
        assert_eq!(refused.1, "TRIGGER_BUILT_IN", "{method}");
    }
    let taken = json!({ "workspace": "sales", "pipeline": "daily", "name": "manual", "spec": every("@daily") });
    assert_eq!(cluster.refused("TriggerService/CreateTrigger", taken).await.1, "TRIGGER_EXISTS");
}

#[tokio::test]
async fn rubbish_is_refused_with_its_field() {
    let cluster = cluster().await;
    let schedule = |more: Value| {
        let mut spec = every("@daily");
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let pattern = |pattern: Value| json!({ "event": { "patterns": [pattern] } });
    let cases = [
        (json!({}), "spec"),
        (json!({ "manual": {} }), "spec.manual"),
        (every("61 * * * *"), "spec.schedule.every"),
        (every("0 0 30 2 *"), "spec.schedule.every"),
        (every(&"1,".repeat(500_000)), "spec.schedule.every"),
        (json!({ "schedule": { "every": "@daily", "timeZone": "Mars/Olympus" } }), "spec.schedule.time_zone"),
        (json!({ "schedule": { "every": "@daily", "timeZone": "../../etc/passwd" } }), "spec.schedule.time_zone"),
        (json!({ "schedule": { "every": "@daily", "startTime": "9999-01-01T00:00:00Z" } }), "spec.schedule.start_time"),
        (json!({ "schedule": { "every": "@daily", "endTime": "1800-01-01T00:00:00Z" } }), "spec.schedule.end_time"),
        (schedule(json!({ "runLimit": -1 })), "spec.run_limit"),
        (schedule(json!({ "runLimit": 2_000_000_000 })), "spec.run_limit"),
        (schedule(json!({ "jitter": "-5s" })), "spec.jitter"),
        (schedule(json!({ "jitter": "90000s" })), "spec.jitter"),
        (schedule(json!({ "sla": "0s" })), "spec.sla"),
        (schedule(json!({ "timeout": "315576000000s" })), "spec.timeout"),
        (schedule(json!({ "overlap": 99 })), "spec.overlap"),
        (schedule(json!({ "catchUp": { "mode": "CATCH_UP_MODE_ALL" } })), "spec.catch_up.window"),
        (
            schedule(json!({ "catchUp": { "mode": "CATCH_UP_MODE_ALL", "window": "60s", "count": -1 } })),
            "spec.catch_up.count",
        ),
        (schedule(json!({ "catchUp": { "count": 3 } })), "spec.catch_up"),
        (schedule(json!({ "window": { "from": "26:00", "to": "08:00" } })), "spec.window.from"),
        (schedule(json!({ "window": { "from": "06:00", "to": "08:00", "days": ["someday"] } })), "spec.window.days"),
        (schedule(json!({ "landingTime": true })), "spec.landing_time"),
        (schedule(json!({ "description": "x".repeat(5_000) })), "spec.description"),
        (schedule(json!({ "variables": { "x": "x".repeat(300_000) } })), "spec.variables"),
        (json!({ "api": {}, "jitter": "5s" }), "spec.jitter"),
        (json!({ "event": {} }), "spec.event.patterns"),
        (pattern(json!({ "a": "x" })), "spec.event.patterns[0].a"),
        (pattern(json!({ "a": ["x".repeat(1 << 20)] })), "spec.event.patterns[0].a"),
        (pattern(json!({ "a": [{ "regex": ".*" }] })), "spec.event.patterns[0].a"),
    ];
    for (spec, field) in cases {
        let message = json!({ "workspace": "sales", "pipeline": "daily", "name": "x", "spec": spec });
        let answer = cluster.post("TriggerService/CreateTrigger", message).await;
        let error = answer.json();
        let blamed = error["details"].to_string();
        assert!(answer.status == 400 && blamed.contains(&format!("\"{field}\"")), "{field}: {}", blamed);
        assert!(error["message"].as_str().unwrap().len() < 1_000);
    }
    for name in ["", "  ", "a\nb", &"x".repeat(256)] {
        let message = json!({ "workspace": "sales", "pipeline": "daily", "name": name, "spec": every("@daily") });
        assert_eq!(cluster.post("TriggerService/CreateTrigger", message).await.status, 400, "{name:?}");
    }
    for id in ["", "7", "../../x", "0190a5b8-7c1e-7d3a-9d52-3f1c8a2b6e4g"] {
        assert_eq!(cluster.post("TriggerService/GetTrigger", json!({ "triggerId": id })).await.status, 400, "{id:?}");
    }
    assert!(list(&cluster).await.is_empty());
}

#[tokio::test]
async fn a_preview_tells_the_hours_of_the_clock() {
    let cluster = cluster().await;
    let schedule = json!({ "every": "30 2 * * *", "timeZone": "Europe/Berlin" });
    let message = json!({ "schedule": schedule, "after": "2026-03-28T00:00:00Z", "count": 3 });
    let answer = cluster.call("TriggerService/PreviewSchedule", message).await;
    assert_eq!(answer["times"], json!(["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]));
    assert_eq!(answer["localTimes"][1], "2026-03-29T03:00:00+02:00[Europe/Berlin]");
    let nightly = create(&cluster, "nightly", every("@daily")).await;
    let message = json!({ "triggerId": nightly["id"], "count": 2 });
    assert_eq!(cluster.call("TriggerService/PreviewSchedule", message).await["times"].as_array().unwrap().len(), 2);
    // Times that the trigger's window skips are not told, neither here nor as the next one.
    let mut spec = every("@hourly");
    spec["window"] = json!({ "from": "02:00", "to": "04:00", "days": ["mon"] });
    let weekly = create(&cluster, "weekly", spec).await;
    let message = json!({ "triggerId": weekly["id"], "after": "2026-03-28T00:00:00Z", "count": 3 });
    let answer = cluster.call("TriggerService/PreviewSchedule", message).await;
    assert_eq!(answer["times"], json!(["2026-03-30T00:00:00Z", "2026-03-30T01:00:00Z", "2026-04-06T00:00:00Z"]));
    let next = json!({ "triggerId": weekly["id"], "count": 1 });
    let next = cluster.call("TriggerService/PreviewSchedule", next).await;
    assert_eq!(next["times"][0], weekly["nextAt"]);
    // What has no times of its own says how it comes, until it is over.
    let preview = async |schedule: Value| {
        let message = json!({ "schedule": schedule, "after": "2026-03-28T00:00:00Z" });
        let answer = cluster.call("TriggerService/PreviewSchedule", message).await;
        (answer["alwaysOn"] == json!(true), answer["times"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(preview(json!({ "every": "@always_on", "endTime": "2026-03-29T00:00:00Z" })).await, (true, 0));
    assert_eq!(preview(json!({ "every": "@always_on", "endTime": "2026-03-27T00:00:00Z" })).await, (false, 0));
    assert_eq!(preview(json!({ "every": "@daily" })).await, (false, 10));
    let api = create(&cluster, "api", json!({ "api": {} })).await;
    let refused = cluster.refused("TriggerService/PreviewSchedule", json!({ "triggerId": api["id"] })).await;
    assert_eq!(refused.1, "NO_SCHEDULE");
    let many = json!({ "triggerId": nightly["id"], "count": 1_000_000 });
    assert_eq!(cluster.post("TriggerService/PreviewSchedule", many).await.status, 400);
}

#[tokio::test]
async fn pages_follow_each_other() {
    let cluster = cluster().await;
    for name in ["a", "b", "c"] {
        create(&cluster, name, every("@daily")).await;
    }
    let mut names = Vec::new();
    let mut token = json!("");
    loop {
        let message = json!({ "workspace": "sales", "pipeline": "daily", "pageSize": 2, "pageToken": token });
        let page = cluster.call("TriggerService/ListTriggers", message).await;
        names.extend(page["triggers"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()));
        token = page["nextPageToken"].clone();
        if token == "" {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c", "manual"]);
}

fn with_triggers(yaml: &str) -> Files {
    let mut files = project();
    files.insert("pipelines/daily/triggers.yaml", yaml.to_owned());
    files
}

#[tokio::test]
async fn a_projects_file_is_desired_state() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let file = |interval: &str| {
        with_triggers(&format!(
            "triggers:\n- {{name: nightly, schedule_type: time, schedule_interval: '{interval}', status: active, \
             time_zone: Europe/Berlin, settings: {{skip_if_previous_running: true}}}}\n\
             - {{name: elsewhere, schedule_interval: '@daily', envs: [prod]}}\n\
             - {{name: broken, schedule_interval: '61 * * * *'}}\n"
        ))
    };
    let (_, answer) = deploy(&cluster, &file("@daily")).await;
    assert!(answer.diagnostics.iter().any(|d| d.message.contains("column 1")), "{:?}", answer.diagnostics);
    let all = list(&cluster).await;
    assert_eq!(all.len(), 1, "{all:?}");
    let id = all[0]["id"].clone();
    assert_eq!(
        (&all[0]["source"], &all[0]["version"], &all[0]["edited"]),
        (&json!("project"), &json!("1"), &json!(false))
    );
    assert_eq!(all[0]["spec"]["overlap"], "OVERLAP_POLICY_SKIP");

    // An edit and a pause hold over deployments that say nothing new about the trigger.
    let mut spec = all[0]["spec"].clone();
    spec["schedule"]["every"] = json!("@weekly");
    cluster.call("TriggerService/UpdateTrigger", json!({ "triggerId": id, "version": 1, "spec": spec })).await;
    cluster.call("TriggerService/PauseTrigger", json!({ "triggerId": id })).await;
    let mut other = file("@daily");
    other.insert("data_loaders/more.py", "# more\n".to_owned());
    deploy(&cluster, &other).await;
    let held = get(&cluster, &id).await;
    assert_eq!((&held["spec"]["schedule"]["every"], &held["active"]), (&json!("@weekly"), &json!(false)));
    assert_eq!((&held["edited"], &held["version"]), (&json!(true), &json!("3")));

    // What the file says anew holds.
    deploy(&cluster, &file("@hourly")).await;
    let anew = get(&cluster, &id).await;
    assert_eq!((&anew["spec"]["schedule"]["every"], &anew["active"]), (&json!("@hourly"), &json!(true)));
    assert_eq!((&anew["edited"], &anew["version"]), (&json!(false), &json!("4")));

    // Removal archives; what was created by the API stays.
    create(&cluster, "own", every("@daily")).await;
    deploy(&cluster, &with_triggers("triggers: []\n")).await;
    let names: Vec<_> = list(&cluster).await.iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names, ["own"]);
    // And back again.
    deploy(&cluster, &file("@hourly")).await;
    assert_eq!((&get(&cluster, &id).await["version"], list(&cluster).await.len()), (&json!("6"), 2));
}

#[tokio::test]
async fn a_trigger_that_cannot_be_read_stays_as_it_is() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let file = |rest: &str| {
        with_triggers(&format!("triggers:\n- {{name: nightly, schedule_interval: '@daily', status: active}}\n{rest}"))
    };
    let told = |response: &CreateDeploymentResponse| -> Vec<(String, PipelineChange)> {
        response.pipelines[0].triggers.iter().map(|t| (t.trigger.clone(), t.change())).collect()
    };
    let own = |name: &str, change| (name.to_owned(), change);
    let (_, first) = deploy(&cluster, &file("- {name: slow, schedule_interval: '0 * * * *', status: active}\n")).await;
    assert_eq!(told(&first), [own("nightly", PipelineChange::Created), own("slow", PipelineChange::Created)]);
    let before = list(&cluster).await;
    assert_eq!(before.len(), 2);

    for (bad, rejected) in [
        ("- {name: slow, schedule_interval: '61 * * * *', status: active}\n", true),
        ("- {name: slow, schedule_interval: '0 * * * *'\n", false),
        ("- {schedule_interval: '0 * * * *'}\n", false),
    ] {
        let (_, answer) = deploy(&cluster, &file(bad)).await;
        assert!(answer.diagnostics.iter().any(|d| d.file.ends_with("triggers.yaml")), "{bad}: {answer:?}");
        let expect = if rejected { vec![own("slow", PipelineChange::Rejected)] } else { vec![] };
        assert_eq!((told(&answer), list(&cluster).await), (expect, before.clone()), "{bad}");
    }
    // What is gone from a good file is archived, and the deployment says so.
    let (_, last) = deploy(&cluster, &file("")).await;
    assert_eq!(told(&last), [own("slow", PipelineChange::Archived)]);
    let (_, hourly) =
        deploy(&cluster, &with_triggers("triggers: [{name: nightly, schedule_interval: '@hourly'}]\n")).await;
    assert_eq!(told(&hourly), [own("nightly", PipelineChange::Updated)]);
}

#[tokio::test]
async fn the_environment_chooses() {
    let cluster = Cluster::with(|settings| settings.environment = "production".to_owned()).await;
    cluster.workspace("sales").await;
    let yaml = "triggers:\n- {name: a, schedule_interval: '@daily', envs: [prod]}\n\
                - {name: b, schedule_interval: '@daily', envs: [dev]}\n- {name: c, schedule_interval: '@daily'}\n";
    deploy(&cluster, &with_triggers(yaml)).await;
    let names: Vec<_> = list(&cluster).await.iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names, ["a", "c"]);
}

#[tokio::test]
async fn a_pipeline_has_so_many_triggers_and_no_more() {
    let cluster = cluster().await;
    let fill = "INSERT INTO trigger (id, pipeline_id, name, kind, active, source, archived_at)
                SELECT gen_random_uuid(), p.id, 't' || n, 'api', false, 'api', CASE WHEN n > 999 THEN now() END
                  FROM pipeline p, generate_series(1, 1100) AS n";
    let db = cluster.database.client().await;
    db.execute(fill, &[]).await.unwrap();
    // Archived ones do not count.
    create(&cluster, "last", every("@daily")).await;
    let message = json!({ "workspace": "sales", "pipeline": "daily", "name": "more", "spec": every("@daily") });
    let answer = cluster.post("TriggerService/CreateTrigger", message.clone()).await;
    assert_eq!((answer.status.as_u16(), crate::cluster::reason(&answer)), (429, "TOO_MANY_TRIGGERS".to_owned()));
    assert!(answer.json()["message"].as_str().unwrap().contains("1000 triggers"), "{:?}", answer.body);
    db.execute("UPDATE trigger SET archived_at = now() WHERE name = 't1'", &[]).await.unwrap();
    cluster.call("TriggerService/CreateTrigger", message).await;
}

#[tokio::test]
async fn once_that_has_come_tells_no_next_time_until_it_is_set_anew() {
    let cluster = cluster().await;
    let once = |start: &str| json!({ "schedule": { "every": "@once", "startTime": start } });
    let made = create(&cluster, "once", once("2100-01-01T00:00:00Z")).await;
    let id = &made["id"];
    assert_eq!(made["nextAt"], "2100-01-01T00:00:00Z");
    let db = cluster.database.client().await;
    let come = "INSERT INTO trigger_state (trigger_id, shard, version, state)
                SELECT id, 0, version, '{\"once\": true, \"once_version\": 1}' FROM trigger WHERE name = 'once'";
    db.execute(come, &[]).await.unwrap();
    assert_eq!(get(&cluster, id).await["nextAt"], Value::Null);
    let versions = async || {
        let row = db.query_one("SELECT version, once_version, replaced_at FROM trigger WHERE name = 'once'", &[]).await;
        row.map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, Option<jiff::Timestamp>>(2))).unwrap()
    };
    let edit = async |version: i64, spec: Value| {
        let message = json!({ "triggerId": id, "version": version, "spec": spec });
        cluster.call("TriggerService/UpdateTrigger", message).await
    };
    // A description is no other schedule, and an end no other start.
    let mut spec = once("2100-01-01T00:00:00Z");
    spec["description"] = json!("x");
    edit(1, spec.clone()).await;
    assert_eq!(versions().await, (2, 1, None));
    spec["schedule"]["endTime"] = json!("2101-01-01T00:00:00Z");
    edit(2, spec).await;
    let (version, of, replaced_at) = versions().await;
    assert!((version, of) == (3, 1) && replaced_at.is_some());
    let edited = edit(3, once("2100-06-01T00:00:00Z")).await;
    assert_eq!((edited["trigger"]["nextAt"].as_str(), versions().await.1), (Some("2100-06-01T00:00:00Z"), 4));
    cluster.call("TriggerService/DeleteTrigger", json!({ "triggerId": id })).await;
    create(&cluster, "once", once("2100-06-01T00:00:00Z")).await;
    let (version, of, replaced_at) = versions().await;
    assert_eq!((version, of, replaced_at), (6, 6, Some(jiff::Timestamp::UNIX_EPOCH)));
}
