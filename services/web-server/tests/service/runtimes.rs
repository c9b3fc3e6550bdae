//! Runtimes and what they may have: what is refused with which code, who is told of what, and who may see whom.

use crate::cluster::{Cluster, reason};
use serde_json::{Value, json};

/// A cluster with the workspace `lab` in the project `acme`, and one who works in it.
pub(crate) async fn world() -> (Cluster, String) {
    let cluster = Cluster::new().await;
    let ada = cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    cluster.call("ProjectService/CreateProject", json!({ "name": "acme" })).await;
    let member = json!({ "email": "ada@example.org", "role": "ROLE_EDITOR" });
    cluster.call("ProjectService/SetProjectMember", json!({ "project": "acme", "member": member })).await;
    cluster.call_as(&ada, "WorkspaceService/CreateWorkspace", json!({ "name": "lab", "project": "acme" })).await;
    (cluster, ada)
}

pub(crate) fn share() -> Value {
    json!({ "gpus": 1, "smPercent": 40, "models": ["A10"] })
}

/// A queue `gpu` that the plan `research` opens to `acme`.
async fn plan(cluster: &Cluster, change: Value) {
    cluster.call("QueueService/SetQueue", json!({ "queue": { "name": "gpu", "priority": 10 } })).await;
    let mut plan = json!({ "name": "research", "queues": ["gpu"] });
    for (key, value) in change.as_object().unwrap() {
        plan[key] = value.clone();
    }
    cluster.call("PlanService/SetPlan", json!({ "plan": plan })).await;
    cluster.call("PlanService/GrantPlan", json!({ "project": "acme", "plan": "research" })).await;
}

#[tokio::test]
async fn a_life_from_the_spec_to_its_end() {
    let (cluster, ada) = world().await;
    let lab = json!({ "workspace": "lab" });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/StartRuntime", lab.clone()).await, "NO_RUNTIME");
    let set = json!({ "workspace": "lab", "spec": share() });
    let first = cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set.clone()).await;
    assert_eq!((&first["version"], &first["warnings"]), (&json!("1"), &json!([])));
    for (gpus, is_odd) in [(0, true), (1, false)] {
        let spec = json!({ "gpus": gpus, "gpuIdleTimeoutS": 600 });
        let set = json!({ "workspace": "lab", "spec": spec, "validateOnly": true });
        let odd = cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set).await["warnings"].to_string();
        assert_eq!(odd.contains("`gpu_idle_timeout_s` ends nothing"), is_odd, "{odd}");
    }
    let mut edited = set.clone();
    edited["version"] = json!(1);
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", edited.clone()).await;
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/SetRuntimeSpec", edited).await, "SPEC_CHANGED");
    let got = cluster.call_as(&ada, "RuntimeService/GetRuntime", lab.clone()).await;
    assert_eq!(
        (&got["runtime"]["state"], &got["runtime"]["effectiveGpuMilli"]),
        (&json!("RUNTIME_STATE_STOPPED"), &json!("400"))
    );
    assert_eq!((&got["spec"]["smPercent"], &got["spec"]["cpuMilli"]), (&json!(40), &json!("1000")));

    let started = cluster.call_as(&ada, "RuntimeService/StartRuntime", lab.clone()).await["runtime"].clone();
    assert_eq!((&started["state"], &started["path"]), (&json!("RUNTIME_STATE_RUNNING"), &json!("/runtimes/lab/")));
    assert_eq!((&started["queue"], &started["requestedBy"]), (&json!("default"), &json!("ada@example.org")));
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/StartRuntime", lab.clone()).await, "ALREADY_EXISTS");
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/ResetRuntime", lab.clone()).await, "WRONG_STATE");
    let changed = json!({ "workspace": "lab", "spec": { "gpus": 1, "models": ["T4"] } });
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", changed).await;
    let got = cluster.call_as(&ada, "RuntimeService/GetRuntime", lab.clone()).await["runtime"].clone();
    assert_eq!(
        (&got["specChanged"], &got["effectiveGpuMilli"]),
        (&json!(true), &json!("400")),
        "the life stays as it began"
    );

    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
    let snooze = json!({ "workspace": "lab", "until": soon.to_string() });
    let snoozed = cluster.call_as(&ada, "RuntimeService/SnoozeRuntime", snooze).await;
    assert!(snoozed["runtime"]["protectedUntil"].is_string());
    let far = json!({ "workspace": "lab", "until": (soon + jiff::SignedDuration::from_hours(24)).to_string() });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/SnoozeRuntime", far).await, "INVALID_FIELD");

    let restart = async |key: &str| {
        let message = json!({ "workspace": "lab", "idempotencyKey": key });
        cluster.call_as(&ada, "RuntimeService/RestartRuntime", message).await["runtime"]["number"].clone()
    };
    assert_eq!([restart("a").await, restart("a").await, restart("b").await, restart("a").await], ["2", "2", "3", "3"]);
    // A repetition of a command that was carried out means no later life.
    let stopped = cluster.scheduler.stops.lock().unwrap().len();
    let owner_stops = cluster.call("RuntimeService/StopRuntime", lab.clone()).await["runtime"].clone();
    // The operator made the project, and so has a part in it.
    assert_eq!((&owner_stops["state"], &owner_stops["reason"]), (&json!("RUNTIME_STATE_STOPPED"), &json!("USER")));
    let events = cluster.call_as(&ada, "RuntimeService/ListRuntimeEvents", lab.clone()).await;
    let states: Vec<_> = events["events"].as_array().unwrap().iter().map(|e| e["state"].as_str().unwrap()).collect();
    let running = "RUNTIME_STATE_RUNNING";
    assert_eq!(states, ["RUNTIME_STATE_STOPPED", running, running, running]);
    assert_eq!(events["events"][3]["actor"], "ada@example.org");
    cluster.database.client().await.batch_execute("UPDATE runtime SET state = 'error'").await.unwrap();
    cluster.call_as(&ada, "RuntimeService/ResetRuntime", lab.clone()).await;
    cluster.database.client().await.batch_execute("UPDATE runtime SET state = 'running'").await.unwrap();
    cluster.call("RuntimeService/FenceRuntime", lab.clone()).await;
    assert_eq!(cluster.scheduler.stops.lock().unwrap()[stopped..], [3, 3, 3]);
    // Whoever answers for the workspace sees who did it, and who tried.
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/FenceRuntime", lab.clone()).await, "PERMISSION_DENIED");
    let trail = cluster.call_as(&ada, "AuditService/ListAuditEntries", lab.clone()).await;
    let entry = |entry: &Value| ["method", "object", "outcome"].map(|name| entry[name].as_str().unwrap().to_owned());
    let mut fences: Vec<_> = trail["entries"].as_array().unwrap().iter().map(entry).collect();
    fences.retain(|entry| entry[0] == "RuntimeService/FenceRuntime");
    let fence = |outcome: &str| ["RuntimeService/FenceRuntime", "workspace lab", outcome].map(str::to_owned);
    assert_eq!(fences, [fence("denied"), fence("ok")]);
    assert_eq!(
        cluster.refused_as(&ada, "RuntimeService/DeleteRuntime", json!({ "workspace": "nowhere" })).await,
        "WORKSPACE_NOT_FOUND"
    );
    cluster.call_as(&ada, "RuntimeService/DeleteRuntime", lab.clone()).await;
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/DeleteRuntime", lab).await, "NO_RUNTIME");
}

#[tokio::test]
async fn what_is_wrong_is_told_when_it_is_saved() {
    let (cluster, ada) = world().await;
    let policy = json!({
        "images": ["lab/jupyter:3", "team/*"], "gpuMilli": "2000", "idleTimeoutSMax": 7200,
    });
    cluster.call("PolicyService/SetProjectPolicy", json!({ "project": "acme", "policy": policy })).await;
    plan(&cluster, json!({ "models": ["A10"], "gpusMax": 1, "cpuMilliMax": "4000" })).await;
    let set = async |queue: &str, spec: Value| {
        let mut spec = spec;
        if spec.get("idleTimeoutS").is_none() {
            spec["idleTimeoutS"] = json!(3600);
        }
        let message = json!({ "workspace": "lab", "queue": queue, "spec": spec, "validateOnly": true });
        let answer = cluster.post_as(&ada, "RuntimeService/SetRuntimeSpec", message).await;
        if answer.status == 200 { "ok".to_owned() } else { reason(&answer) }
    };
    for (queue, spec, expect) in [
        ("", share(), "ok"),
        ("gpu", share(), "ok"),
        ("", json!({ "image": "lab/jupyter:3" }), "ok"),
        ("", json!({ "image": "lab/jupyter:4" }), "IMAGE_NOT_ALLOWED"),
        ("", json!({ "root": true }), "ROOT_NOT_ALLOWED"),
        ("other", share(), "QUEUE_NOT_BOUND"),
        ("gpu", json!({ "gpus": 2, "models": ["A10"] }), "GPU_COUNT_LIMIT"),
        ("gpu", json!({ "gpus": 1, "models": ["T4"] }), "MODEL_NOT_ALLOWED"),
        ("gpu", json!({ "cpuMilli": "5000" }), "RESOURCE_LIMIT"),
        ("", json!({ "gpus": 1, "smPercent": 101 }), "SM_INVALID"),
        ("", json!({ "gpus": 1, "smPercent": 40, "models": ["T4"] }), "SM_UNSUPPORTED"),
        ("", json!({ "gpus": 1, "gpuMemoryBytes": "99999999999", "models": ["T4"] }), "MEM_INVALID"),
        ("", json!({ "gpus": 3 }), "QUOTA_TOO_SMALL"),
        ("", json!({ "mounts": [{ "volume": "data", "path": "/proc" }] }), "PVC_PATH_INVALID"),
        ("", json!({ "idleTimeoutS": 0 }), "TIMEOUT_LIMIT"),
        ("", json!({ "gpus": -1 }), "INVALID_FIELD"),
    ] {
        assert_eq!(set(queue, spec.clone()).await, expect, "{queue} {spec}");
    }
    // A refusal says what would help.
    let image = json!({ "workspace": "lab", "spec": { "image": "x:1", "idleTimeoutS": 3600 } });
    let answer = cluster.post_as(&ada, "RuntimeService/SetRuntimeSpec", image).await;
    assert!(String::from_utf8_lossy(&answer.body).contains("use one of `lab/jupyter:3`"), "{:?}", answer.body);
    // Nothing was saved.
    assert_eq!(cluster.call_as(&ada, "RuntimeService/ListRuntimes", json!({})).await["runtimes"], json!([]));
    // What its queue may never hold is refused where it is saved, and where it is started after the limit was lowered.
    let limit = async |milli: &str| {
        cluster.call("QueueService/SetQueue", json!({ "queue": { "name": "gpu", "limitGpuMilli": milli } })).await;
    };
    let mut spec = share();
    spec["idleTimeoutS"] = json!(3600);
    let save = json!({ "workspace": "lab", "queue": "gpu", "spec": spec });
    limit("399").await;
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/SetRuntimeSpec", save.clone()).await, "QUEUE_TOO_SMALL");
    limit("400").await;
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", save).await;
    limit("399").await;
    let lab = json!({ "workspace": "lab" });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/StartRuntime", lab).await, "QUEUE_TOO_SMALL");
    // A name that leaves no room for what backends add.
    let long = "x".repeat(41);
    cluster.call_as(&ada, "WorkspaceService/CreateWorkspace", json!({ "name": long, "project": "acme" })).await;
    let set = json!({ "workspace": long, "spec": { "idleTimeoutS": 3600 } });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/SetRuntimeSpec", set).await, "NAME_INVALID");
}

#[tokio::test]
async fn root_needs_the_group_too() {
    let (cluster, ada) = world().await;
    cluster.call("GroupService/CreateGroup", json!({ "name": "quants" })).await;
    for email in ["ada@example.org", "owner@localhost"] {
        let add = cluster.post("GroupService/AddGroupMember", json!({ "name": "quants", "email": email })).await;
        assert!(add.status == 200 || email == "owner@localhost", "{:?}", add.body);
    }
    let me = cluster.call("SignInService/WhoAmI", json!({})).await;
    let me = me["user"]["email"].as_str().unwrap();
    cluster.call("GroupService/AddGroupMember", json!({ "name": "quants", "email": me })).await;
    cluster.call("ProjectService/CreateProject", json!({ "name": "desk", "ownerGroup": "quants" })).await;
    cluster.call_as(&ada, "WorkspaceService/CreateWorkspace", json!({ "name": "pit", "project": "desk" })).await;
    let set = json!({ "workspace": "pit", "spec": { "root": true } });
    let allow = json!({ "project": "desk", "policy": { "allowRoot": true } });
    cluster.call("PolicyService/SetProjectPolicy", allow).await;
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/SetRuntimeSpec", set.clone()).await, "ROOT_NOT_ALLOWED");
    cluster.call("PolicyService/SetGroupPolicy", json!({ "group": "quants", "allowRoot": true })).await;
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set).await;
    let policy = cluster.call_as(&ada, "PolicyService/GetProjectPolicy", json!({ "project": "desk" })).await;
    assert_eq!((&policy["groupAllowsRoot"], &policy["policy"]["allowRoot"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn a_closed_window_refuses_or_is_waited_for() {
    let (cluster, ada) = world().await;
    let at = |hours: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours)).to_string();
    let once = |from: i64, to: i64| json!([{ "timeZone": "Europe/Berlin", "startsAt": at(from), "endsAt": at(to) }]);
    plan(&cluster, json!({ "windows": once(1, 2) })).await;
    let set = json!({ "workspace": "lab", "queue": "gpu", "spec": share() });
    let answer = cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set).await;
    assert!(answer["warnings"][0].as_str().unwrap().contains("opens on"), "{answer}");
    let lab = json!({ "workspace": "lab" });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/StartRuntime", lab.clone()).await, "WINDOW_CLOSED");
    let wait = json!({ "workspace": "lab", "waitForWindow": true });
    cluster.call_as(&ada, "RuntimeService/StartRuntime", wait).await;
    cluster.call_as(&ada, "RuntimeService/StopRuntime", lab.clone()).await;
    // One click to the default queue.
    cluster.call_as(&ada, "RuntimeService/SwitchQueue", lab.clone()).await;
    let started = cluster.call_as(&ada, "RuntimeService/StartRuntime", lab).await;
    assert_eq!(started["runtime"]["queue"], "default");
    // Ada sees her plan, when it opens, and no other queue.
    let plans = cluster.call_as(&ada, "PlanService/ListPlans", json!({})).await;
    assert_eq!((&plans["plans"][0]["name"], &plans["plans"][0]["open"]), (&json!("research"), &json!(false)));
    assert!(plans["plans"][0]["changesAt"].is_string());
    cluster.call("QueueService/SetQueue", json!({ "queue": { "name": "secret" } })).await;
    let queues = cluster.call_as(&ada, "QueueService/ListQueues", json!({})).await;
    let names: Vec<_> = queues["queues"].as_array().unwrap().iter().map(|q| q["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "gpu"]);
}

#[tokio::test]
async fn a_window_that_closes_soon_is_as_a_closed_one() {
    let (cluster, ada) = world().await;
    let at = |minutes: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes)).to_string();
    let once = |from: i64, to: i64| json!({ "startsAt": at(from), "endsAt": at(to) });
    let (soon, tomorrow) = (once(-60, 5), once(1440, 1500));
    plan(&cluster, json!({ "windows": [soon, tomorrow] })).await;
    let set = json!({ "workspace": "lab", "queue": "gpu", "spec": share() });
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set).await;
    let lab = json!({ "workspace": "lab" });
    let refused = async |method: &str, message: &Value| {
        let answer = cluster.post_as(&ada, method, message.clone()).await;
        assert_eq!(reason(&answer), "WINDOW_TOO_SHORT", "{method}: {:?}", answer.body);
        String::from_utf8_lossy(&answer.body).into_owned()
    };
    let said = refused("RuntimeService/StartRuntime", &lab).await;
    assert!(said.contains("too soon for a start of 2 minutes and 10 minutes of use; it opens again on "), "{said}");
    let wait = json!({ "workspace": "lab", "waitForWindow": true });
    cluster.call_as(&ada, "RuntimeService/StartRuntime", wait.clone()).await;
    // What could not start again is not stopped.
    refused("RuntimeService/RestartRuntime", &lab).await;
    assert!(cluster.scheduler.stops.lock().unwrap().is_empty());
    // What waits elsewhere does not go where it would wait for longer; what runs may go there until it closes.
    let to = json!({ "workspace": "lab", "queue": "gpu" });
    let db = cluster.database.client().await;
    db.batch_execute("UPDATE runtime SET state = 'starting', step = 'queued'").await.unwrap();
    refused("RuntimeService/SwitchQueue", &to).await;
    db.batch_execute("UPDATE runtime SET state = 'running', step = 'bound'").await.unwrap();
    cluster.call_as(&ada, "RuntimeService/SwitchQueue", to).await;
    cluster.call_as(&ada, "RuntimeService/StopRuntime", lab.clone()).await;
    // Nobody waits for a window that opens no more, and who needs less time than is left starts.
    let last = json!({ "plan": { "name": "research", "queues": ["gpu"], "windows": [once(-60, 5)] } });
    cluster.call("PlanService/SetPlan", last).await;
    assert!(refused("RuntimeService/StartRuntime", &wait).await.contains("does not open again"));
    let short =
        json!({ "plan": { "name": "research", "queues": ["gpu"], "windows": [once(-60, 5)], "lifetimeSMax": 60 } });
    cluster.call("PlanService/SetPlan", short).await;
    let set = json!({ "workspace": "lab", "queue": "gpu", "spec": { "gpus": 1, "lifetimeS": 60 } });
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set).await;
    cluster.call_as(&ada, "RuntimeService/StartRuntime", lab).await;
}

#[tokio::test]
async fn what_disturbs_running_work_says_so() {
    let (cluster, ada) = world().await;
    plan(&cluster, json!({})).await;
    let set = json!({ "workspace": "lab", "queue": "gpu", "spec": share() });
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set).await;
    cluster.call_as(&ada, "RuntimeService/StartRuntime", json!({ "workspace": "lab" })).await;
    let usage = "INSERT INTO project_usage (project_id, gpu_milli, runtimes) SELECT id, 400, 1 FROM project WHERE name = 'acme'";
    cluster.database.client().await.execute(usage, &[]).await.unwrap();
    let refused = async |method: &str, message: Value| {
        let (code, reason) = cluster.refused(method, message.clone()).await;
        assert_eq!((code.as_str(), reason.as_str()), ("failed_precondition", "WOULD_DISTURB"), "{method}");
        let mut forced = message;
        forced["force"] = json!(true);
        let answer = cluster.call(method, forced).await;
        let affected = answer["affected"].as_array().unwrap().clone();
        assert_eq!((affected.len(), &affected[0]["workspace"]), (1, &json!("lab")), "{method}");
        affected[0]["effect"].as_str().unwrap().to_owned()
    };
    let quota = json!({ "project": "acme", "policy": { "gpuMilli": "300" } });
    assert!(refused("PolicyService/SetProjectPolicy", quota).await.contains("cannot start again"));
    let models = json!({ "plan": { "name": "research", "queues": ["gpu"], "models": ["T4"] } });
    assert!(refused("PlanService/SetPlan", models).await.contains("does not allow model"));
    let ended = json!([{ "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2020-01-02T00:00:00Z" }]);
    let closed = json!({ "plan": { "name": "research", "queues": ["gpu"], "windows": ended } });
    assert!(refused("PlanService/SetPlan", closed).await.contains("stopped at once"));
    let limit = json!({ "queue": { "name": "gpu", "limitGpuMilli": "100" } });
    let effect = refused("QueueService/SetQueue", limit).await;
    assert!(effect.contains("cannot start again: it asks for 0.4 GPU, and the queue's limit is 0.1 GPU"), "{effect}");
    let preemptible = json!({ "queue": { "name": "gpu", "limitGpuMilli": "100", "preemptible": true } });
    assert!(refused("QueueService/SetQueue", preemptible).await.contains("may be stopped for others"));
    let (_, reason) = cluster.refused("QueueService/ArchiveQueue", json!({ "name": "gpu" })).await;
    assert_eq!(reason, "QUEUE_IN_USE");
    let revoke = json!({ "project": "acme", "plan": "research" });
    assert!(refused("PlanService/RevokePlan", revoke).await.contains("no plan of the project opens queue `gpu`"));
    // The same again changes nothing and disturbs nobody.
    let same = json!({ "project": "acme", "policy": { "gpuMilli": "300" } });
    cluster.call("PolicyService/SetProjectPolicy", same).await;
    // Who holds too much already is told when that has an end, and when that comes sooner.
    for seconds in [600, 60] {
        let sooner = json!({ "project": "acme", "policy": { "gpuMilli": "300", "overQuotaGraceS": seconds } });
        let effect = refused("PolicyService/SetProjectPolicy", sooner).await;
        assert!(effect.contains(&format!("may be stopped after {seconds} s")), "{effect}");
    }
    let later = json!({ "project": "acme", "policy": { "gpuMilli": "300" } });
    cluster.call("PolicyService/SetProjectPolicy", later).await;
    cluster.call_as(&ada, "RuntimeService/StopRuntime", json!({ "workspace": "lab" })).await;
    let archived = cluster.call("QueueService/ArchiveQueue", json!({ "name": "gpu" })).await;
    assert_eq!(archived["workspaces"], json!(["lab"]));
    let start = json!({ "workspace": "lab" });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/StartRuntime", start).await, "QUEUE_NOT_BOUND");
}

#[tokio::test]
async fn an_edit_of_an_old_version_is_refused() {
    let (cluster, _) = world().await;
    plan(&cluster, json!({})).await;
    for (method, message, word) in [
        ("QueueService/SetQueue", json!({ "name": "gpu" }), "queue"),
        ("PlanService/SetPlan", json!({ "name": "research", "queues": ["gpu"] }), "plan"),
        ("DeviceService/SetDeviceClass", json!({ "name": "c", "sharing": "shared", "enforcement": "soft" }), "class"),
    ] {
        let with = |version: i64| {
            let mut message = message.clone();
            message["version"] = json!(version.to_string());
            json!({ word: message })
        };
        let version: i64 = cluster.call(method, with(0)).await[word]["version"].as_str().unwrap().parse().unwrap();
        cluster.call(method, with(version)).await;
        assert_eq!(cluster.refused(method, with(version)).await.1, "CHANGED_MEANWHILE", "{method}");
    }
    for (method, message) in [
        ("PlanService/SetPlan", json!({ "plan": { "name": "p", "queues": ["nowhere"] } })),
        (
            "PlanService/SetPlan",
            json!({ "plan": { "name": "p", "queues": ["gpu"], "windows": [{ "weekdays": [8] }] } }),
        ),
        ("QueueService/SetQueue", json!({ "queue": { "name": "default", "pool": "other" } })),
        ("QueueService/SetQueue", json!({ "queue": { "name": "q", "deservedGpuMilli": "2", "limitGpuMilli": "1" } })),
        ("DeviceService/SetDeviceClass", json!({ "class": { "name": "c", "sharing": "x", "enforcement": "soft" } })),
    ] {
        assert_eq!(cluster.refused(method, message).await.1, "INVALID_FIELD", "{method}");
    }
}

#[tokio::test]
async fn many_are_changed_each_by_itself() {
    let (cluster, ada) = world().await;
    cluster.workspace("hidden").await;
    for name in ["lab", "hidden"] {
        cluster.call("RuntimeService/SetRuntimeSpec", json!({ "workspace": name, "spec": {} })).await;
    }
    let batch = json!({ "act": "RUNTIME_ACT_START", "workspaces": ["lab", "hidden", "nowhere", "lab"] });
    let answer = cluster.call_as(&ada, "RuntimeService/BatchChangeRuntimes", batch).await;
    let results: Vec<_> = answer["results"].as_array().unwrap().clone();
    let done: Vec<_> = results.iter().map(|r| r["done"].as_bool().unwrap()).collect();
    assert_eq!(done.iter().filter(|done| **done).count(), 1, "{answer}");
    assert_eq!(
        (&results[1]["reason"], &results[2]["reason"]),
        (&json!("WORKSPACE_NOT_FOUND"), &json!("WORKSPACE_NOT_FOUND"))
    );
    let words =
        |at: usize| results[at]["message"].as_str().unwrap().replace(results[at]["workspace"].as_str().unwrap(), "W");
    assert_eq!(words(1), words(2), "what is not theirs looks as if it were not there");
    let trail = cluster.call("AuditService/ListAuditEntries", json!({ "pageSize": 50 })).await.to_string();
    assert!(trail.contains("RuntimeService/StartRuntime") && trail.contains("workspace hidden"), "{trail}");
    let too_many = json!({ "act": "RUNTIME_ACT_STOP", "workspaces": vec!["lab"; 501] });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/BatchChangeRuntimes", too_many).await, "INVALID_FIELD");
}

#[tokio::test]
async fn the_fleet_says_who_holds_what() {
    let (cluster, ada) = world().await;
    cluster.call("RuntimeService/SetRuntimeSpec", json!({ "workspace": "lab", "spec": share() })).await;
    cluster.call("RuntimeService/StartRuntime", json!({ "workspace": "lab" })).await;
    let place = "
        INSERT INTO grant_of_device (device_id, holder, milli, memory_bytes)
        SELECT '00000000-0000-0000-0000-0000000000d1', holder, 400, 1 FROM runtime;
        INSERT INTO placement (holder, pool, node_id, project_id, queue_id, state, cpu_milli, memory_bytes, effective_milli)
        SELECT holder, pool, '00000000-0000-0000-0000-0000000000aa', project_id, queue_id, 'held', 1, 1, 400 FROM runtime;
        UPDATE device SET used_milli = 400 WHERE name = 'gpu-0'";
    cluster.database.client().await.batch_execute(place).await.unwrap();
    let class = json!({ "name": "shares", "sharing": "shared", "enforcement": "soft", "models": ["A10"] });
    cluster.call("DeviceService/SetDeviceClass", json!({ "class": class })).await;
    let devices = cluster.call("DeviceService/ListDevices", json!({ "pageSize": 1 })).await;
    let first = &devices["devices"][0];
    assert_eq!((&first["holders"][0]["workspace"], &first["heldMilli"]), (&json!("lab"), &json!(400)));
    assert_eq!((&first["sharing"], &first["enforcement"]), (&json!("shared"), &json!("soft")));
    let next = json!({ "pageSize": 1, "pageToken": devices["nextPageToken"] });
    assert_eq!(cluster.call("DeviceService/ListDevices", next).await["devices"][0]["name"], "gpu-1");
    let runtime = cluster.call_as(&ada, "RuntimeService/GetRuntime", json!({ "workspace": "lab" })).await;
    assert_eq!(
        (&runtime["runtime"]["devices"][0]["enforcement"], &runtime["runtime"]["bound"]),
        (&json!("soft"), &json!(true))
    );
    let drain = json!({ "node": "node-a", "device": "gpu-0", "reason": "fan" });
    let affected = cluster.call("DeviceService/DrainDevices", drain.clone()).await["affected"][0].clone();
    assert_eq!((&affected["workspace"], &affected["effect"]), (&json!("lab"), &json!("goes on there until it stops")));
    let ends = "UPDATE runtime SET ends_at = '2030-01-02T03:04:05Z', ends_because = 'MAX_LIFETIME'";
    cluster.database.client().await.batch_execute(ends).await.unwrap();
    let affected = cluster.call("DeviceService/DrainDevices", drain).await["affected"][0].clone();
    let until = "goes on there until 2030-01-02 03:04 UTC as far as is known (MAX_LIFETIME)";
    assert_eq!((&affected["effect"], &affected["endsBecause"]), (&json!(until), &json!("MAX_LIFETIME")), "{affected}");
    let drained = cluster.call("DeviceService/ListDevices", json!({})).await;
    assert_eq!((&drained["devices"][0]["drained"], &drained["devices"][1]["drained"]), (&json!(true), &json!(false)));
    cluster.call("DeviceService/UndrainDevices", json!({ "node": "node-a", "device": "gpu-0" })).await;
    let node = &cluster.call("DeviceService/ListNodes", json!({})).await["nodes"][0];
    assert_eq!(
        (&node["gpuMilli"], &node["gpuHeldMilli"], &node["drained"]),
        (&json!("2000"), &json!("400"), &json!(false))
    );
    let delete = json!({ "name": "shares" });
    assert_eq!(cluster.refused("DeviceService/DeleteDeviceClass", delete).await.1, "DEVICE_CLASS_IN_USE");
    let figures = cluster.call("MonitorService/GetGpuStatistics", json!({})).await;
    let model = &figures["models"][0];
    let seen = ["devices", "usableMilli", "heldMilli", "brokenMilli"].map(|name| model[name].as_str().unwrap_or("0"));
    assert_eq!(seen, ["1", "1000", "400", "600"], "{figures}");
    assert_eq!(figures["queues"][0]["heldMilli"], "400");
    assert_eq!(cluster.refused("MonitorService/GetGpuStatistics", json!({ "hours": 999 })).await.0, "invalid_argument");
    let could = cluster.call("DeviceService/PlanConsolidation", json!({})).await;
    let step = ["workspace", "project", "device", "toNode", "toDevice"].map(|name| could["moves"][0][name].as_str());
    assert_eq!(step, [Some("lab"), Some("acme"), Some("gpu-1"), Some("node-a"), Some("gpu-0")], "{could}");
    assert_eq!((&could["moves"][0]["milli"], &could["devicesFreed"]), (&json!(400), &json!(1)));
    let held = cluster.call("QueueService/ListQueues", json!({})).await;
    assert_eq!((&held["queues"][0]["heldGpuMilli"], &held["queues"][0]["running"]), (&json!("400"), &json!("1")));
}

#[tokio::test]
async fn what_if_is_answered_without_starting_anything() {
    let (cluster, ada) = world().await;
    let what_if = json!({ "workspace": "lab", "spec": share(), "count": 2 });
    let answer = cluster.call_as(&ada, "RuntimeService/PlanRuntime", what_if).await;
    let (first, second) = (&answer["forecasts"][0], &answer["forecasts"][1]);
    assert_eq!(
        (&first["fits"], &first["node"], &first["devices"][0]),
        (&json!(true), &json!("node-a"), &json!("gpu-0"))
    );
    assert_eq!(
        (&second["fits"], &second["code"], &second["position"]),
        (&json!(false), &json!("NO_CAPACITY"), &json!(1))
    );
    assert_eq!(second["hints"][0], "it fits now with 30 % of each GPU");
    let refused = json!({ "workspace": "lab", "spec": { "gpus": 33 } });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/PlanRuntime", refused).await, "GPU_COUNT_LIMIT");
    // As if another runtime had ended: one that is there, and that the caller sees.
    let without = |name: &str| json!({ "workspace": "lab", "spec": share(), "count": 2, "without": [name] });
    cluster.call("WorkspaceService/CreateWorkspace", json!({ "name": "pit" })).await;
    cluster.call("RuntimeService/SetRuntimeSpec", json!({ "workspace": "pit", "spec": share() })).await;
    cluster.call("RuntimeService/StartRuntime", json!({ "workspace": "pit" })).await;
    let plan = "RuntimeService/PlanRuntime";
    assert_eq!(cluster.call(plan, without("pit")).await["forecasts"][1]["fits"], json!(true));
    assert_eq!(cluster.refused_as(&ada, plan, without("pit")).await, "WORKSPACE_NOT_FOUND");
    assert_eq!(cluster.refused_as(&ada, plan, without("lab")).await, "INVALID_FIELD", "it has not started");
}
