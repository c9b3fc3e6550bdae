//! What an administrator sets leaves an entry in the trail that tells what was and what is.

use crate::cluster::Cluster;
use serde_json::{Value, json};

/// A field that changed: its name, what it was, and what it is.
type Field = (&'static str, String, String);

/// The newest entry of the trail: method, outcome and details.
async fn newest(cluster: &Cluster) -> (String, String, Value) {
    let answer = cluster.call("AuditService/ListAuditEntries", json!({ "pageSize": 1 })).await;
    let entry = &answer["entries"][0];
    let text = |field: &str| entry[field].as_str().unwrap().to_owned();
    (text("method"), text("outcome"), entry["detail"].clone())
}

/// Calls each of these, and looks at what its entry tells.
async fn tells(cluster: &Cluster, table: Vec<(&str, Value, Vec<Field>)>) {
    for (method, message, changed) in table {
        cluster.call(method, message.clone()).await;
        let (told, outcome, detail) = newest(cluster).await;
        assert_eq!((told.as_str(), outcome.as_str()), (method, "ok"));
        for (field, was, is) in changed {
            let both = [&detail[format!("{field}.was")], &detail[field]];
            assert_eq!(both, [&json!(was), &json!(is)], "{method} {message}: {field} of {detail}");
        }
    }
}

#[tokio::test]
async fn what_is_set_in_a_workspace_and_a_project_is_told_with_what_was() {
    let cluster = Cluster::new().await;
    cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    cluster.call("ProjectService/CreateProject", json!({ "name": "acme" })).await;
    cluster.call("WorkspaceService/CreateWorkspace", json!({ "name": "lab", "project": "acme" })).await;
    cluster.call("QueueService/SetQueue", json!({ "queue": { "name": "gpu", "weight": 1 } })).await;
    cluster.call("PlanService/SetPlan", json!({ "plan": { "name": "day", "queues": ["gpu"] } })).await;
    cluster.call("PlanService/GrantPlan", json!({ "project": "acme", "plan": "day" })).await;
    cluster.call("RuntimeService/SetRuntimeSpec", json!({ "workspace": "lab", "spec": {} })).await;
    let volume = |gib: i64| json!({ "project": "acme", "name": "data", "sizeBytes": gib << 30 });
    cluster.call("VolumeService/CreateVolume", volume(1)).await;
    let (collaborator, owner) = ("WORKSPACE_ROLE_COLLABORATOR", "WORKSPACE_ROLE_OWNER");
    let member = |email: &str, role: &str| json!({ "workspace": "lab", "email": email, "role": role });
    for email in ["ada@example.org", "new@example.org"] {
        cluster.call("MemberService/InviteMember", member(email, collaborator)).await;
    }
    let limit = |blocks: i32| json!({ "workspace": "lab", "name": "warehouse", "maxBlocks": blocks });
    let blocks = |was: &str, is: &str| -> Vec<Field> { vec![("max_blocks", was.into(), is.into())] };
    let role = |was: &str, is: &str| -> Vec<Field> { vec![("role", was.into(), is.into())] };
    let size = |was: &str, is: &str| -> Vec<Field> { vec![("size_bytes", was.into(), is.into())] };
    let set = "MemberService/SetMemberRole";
    let out = |email: &str| json!({ "workspace": "lab", "email": email });
    let table: Vec<(&str, Value, Vec<Field>)> = vec![
        (set, member("ada@example.org", owner), role(collaborator, owner)),
        (set, member("ada@example.org", collaborator), role(owner, collaborator)),
        (set, member("new@example.org", owner), role(collaborator, owner)),
        ("MemberService/RemoveMember", out("ada@example.org"), role(collaborator, "none")),
        ("MemberService/RemoveMember", out("new@example.org"), role(owner, "none")),
        ("LimitService/SetLimit", limit(3), blocks("none", "3")),
        ("LimitService/SetLimit", limit(7), blocks("3", "7")),
        ("LimitService/RemoveLimit", json!({ "workspace": "lab", "name": "warehouse" }), blocks("7", "none")),
        ("LimitService/SetLimit", limit(2), blocks("none", "2")),
        ("VolumeService/GrowVolume", volume(2), size("1073741824", "2147483648")),
        ("VolumeService/DeleteVolume", json!({ "project": "acme", "name": "data" }), size("2147483648", "none")),
        (
            "RuntimeService/SwitchQueue",
            json!({ "workspace": "lab", "queue": "gpu" }),
            vec![("queue", "default".into(), "gpu".into())],
        ),
    ];
    tells(&cluster, table).await;
    // The same again changes nothing.
    cluster.call("LimitService/SetLimit", limit(2)).await;
    let (_, _, detail) = newest(&cluster).await;
    assert_eq!(detail, json!({ "name": "warehouse", "max_blocks": "2" }));
}

#[tokio::test]
async fn what_is_set_is_told_with_what_was() {
    let cluster = Cluster::new().await;
    cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    cluster.call("ProjectService/CreateProject", json!({ "name": "acme" })).await;
    cluster.call("GroupService/CreateGroup", json!({ "name": "quants" })).await;
    let member = |role: &str| json!({ "project": "acme", "member": { "email": "ada@example.org", "role": role } });
    let window =
        |hour: i32| json!([{ "timeZone": "UTC", "weekdays": [1], "startMinute": hour * 60, "endMinute": 1200 }]);
    let week =
        |hour: i32| format!(r#"[{{"end_minute":1200,"start_minute":{},"time_zone":"UTC","weekdays":[1]}}]"#, hour * 60);
    let policy = |policy: Value| json!({ "project": "acme", "policy": policy });
    let queue = |queue: Value| json!({ "queue": queue });
    let plan = |plan: Value| json!({ "plan": plan });
    let class = |class: Value| json!({ "class": class });
    // Each with fields that changed: their names, what they were, and what they are.
    let table: Vec<(&str, Value, Vec<Field>)> = vec![
        (
            "PolicyService/SetProjectPolicy",
            policy(json!({ "modelGpuMilli": { "A10": "2000" }, "images": ["lab/*"] })),
            vec![
                ("policy.model_gpu_milli", "{}".into(), r#"{"A10":2000}"#.into()),
                ("policy.images", "[]".into(), r#"["lab/*"]"#.into()),
            ],
        ),
        (
            "PolicyService/SetProjectPolicy",
            policy(json!({ "modelGpuMilli": { "A10": "1000", "T4": "500" }, "gpuMilli": "9" })),
            vec![
                ("policy.model_gpu_milli", r#"{"A10":2000}"#.into(), r#"{"A10":1000,"T4":500}"#.into()),
                ("policy.images", r#"["lab/*"]"#.into(), "[]".into()),
                ("policy.gpu_milli", "none".into(), "9".into()),
            ],
        ),
        (
            "PolicyService/SetProjectPolicy",
            policy(json!({ "modelGpuMilli": { "A10": "1000", "T4": "500" } })),
            vec![("policy.gpu_milli", "9".into(), "none".into())],
        ),
        (
            "PolicyService/SetGroupPolicy",
            json!({ "group": "quants", "allowRoot": true }),
            vec![("allow_root", "none".into(), "true".into())],
        ),
        (
            "PolicyService/SetGroupPolicy",
            json!({ "group": "quants", "allowRoot": false }),
            vec![("allow_root", "true".into(), "false".into())],
        ),
        (
            "PolicyService/SetGroupPolicy",
            json!({ "group": "quants", "allowRoot": false, "quota": { "gpuMilli": "4000" } }),
            vec![("quota.gpu_milli", "none".into(), "4000".into())],
        ),
        (
            "PolicyService/SetUserQuota",
            json!({ "quota": { "runtimes": "3" } }),
            vec![("quota.runtimes", "none".into(), "3".into())],
        ),
        (
            "PolicyService/SetUserQuota",
            json!({ "quota": { "runtimes": "2", "gpuMilli": "9" } }),
            vec![("quota.runtimes", "3".into(), "2".into()), ("quota.gpu_milli", "none".into(), "9".into())],
        ),
        (
            "PolicyService/SetUserQuota",
            json!({ "email": "ada@example.org", "quota": { "modelGpuMilli": { "A10": "1000" } } }),
            vec![("quota.model_gpu_milli", "none".into(), r#"{"A10":1000}"#.into())],
        ),
        ("PolicyService/SetUserQuota", json!({}), vec![("quota.runtimes", "2".into(), "none".into())]),
        (
            "QueueService/SetQueue",
            queue(json!({ "name": "gpu", "weight": 1 })),
            vec![("queue.name", "none".into(), "gpu".into())],
        ),
        (
            "QueueService/SetQueue",
            queue(json!({ "name": "gpu", "weight": 3, "preemptible": true })),
            vec![("queue.weight", "1".into(), "3".into()), ("queue.preemptible", "false".into(), "true".into())],
        ),
        (
            "PlanService/SetPlan",
            plan(json!({ "name": "day", "queues": ["gpu"], "windows": window(8) })),
            vec![("plan.queues", "none".into(), r#"["gpu"]"#.into())],
        ),
        (
            "PlanService/SetPlan",
            plan(json!({ "name": "day", "queues": ["gpu"], "models": ["A10*"], "windows": window(9) })),
            vec![("plan.models", "[]".into(), r#"["A10*"]"#.into()), ("plan.windows", week(8), week(9))],
        ),
        (
            "PlanService/GrantPlan",
            json!({ "project": "acme", "plan": "day" }),
            vec![("granted", "false".into(), "true".into())],
        ),
        ("PlanService/GrantPlan", json!({ "project": "acme", "plan": "day" }), vec![]),
        (
            "PlanService/RevokePlan",
            json!({ "project": "acme", "plan": "day" }),
            vec![("granted", "true".into(), "false".into())],
        ),
        (
            "PlanService/GrantPlan",
            json!({ "project": "acme", "plan": "day" }),
            vec![("granted", "false".into(), "true".into())],
        ),
        (
            "PlanService/ArchivePlan",
            json!({ "name": "day" }),
            vec![
                ("plan.archived", "false".into(), "true".into()),
                ("plan.projects", r#"["acme"]"#.into(), "[]".into()),
            ],
        ),
        (
            "QueueService/ArchiveQueue",
            json!({ "name": "gpu" }),
            vec![("queue.archived", "false".into(), "true".into())],
        ),
        (
            "QueueService/SetQueue",
            queue(json!({ "name": "gpu", "weight": 3, "preemptible": true })),
            vec![("queue.archived", "true".into(), "false".into())],
        ),
        (
            "DeviceService/SetDeviceClass",
            class(json!({ "name": "shares", "sharing": "shared", "enforcement": "soft" })),
            vec![("class.enforcement", "none".into(), "soft".into())],
        ),
        (
            "DeviceService/SetDeviceClass",
            class(json!({ "name": "spare", "sharing": "mig", "enforcement": "hard" })),
            vec![],
        ),
        (
            "DeviceService/SetDeviceClass",
            class(json!({ "name": "spare", "sharing": "mig", "enforcement": "hard", "worth": 7 })),
            vec![("class.worth", "100".into(), "7".into())],
        ),
        (
            "DeviceService/DeleteDeviceClass",
            json!({ "name": "spare" }),
            vec![("class.worth", "7".into(), "none".into())],
        ),
        (
            "ProjectService/SetProjectMember",
            member("ROLE_VIEWER"),
            vec![("member.role", "none".into(), "ROLE_VIEWER".into())],
        ),
        (
            "ProjectService/SetProjectMember",
            member("ROLE_ADMIN"),
            vec![("member.role", "ROLE_VIEWER".into(), "ROLE_ADMIN".into())],
        ),
        (
            "ProjectService/RemoveProjectMember",
            json!({ "project": "acme", "email": "ada@example.org" }),
            vec![("role", "ROLE_ADMIN".into(), "none".into())],
        ),
        (
            "UserService/SetUserRole",
            json!({ "email": "ada@example.org", "role": "ROLE_ADMIN" }),
            vec![("role", "none".into(), "ROLE_ADMIN".into())],
        ),
    ];
    tells(&cluster, table).await;
    // The same again changes nothing, and is an act all the same.
    cluster.call("QueueService/SetQueue", queue(json!({ "name": "gpu", "weight": 3, "preemptible": true }))).await;
    let (_, _, detail) = newest(&cluster).await;
    assert!(!detail.as_object().unwrap().keys().any(|name| name.ends_with(".was")), "{detail}");
    // What was refused changed nothing.
    let (_, reason) = cluster.refused("QueueService/SetQueue", queue(json!({ "name": "gpu", "version": 99 }))).await;
    let (_, outcome, detail) = newest(&cluster).await;
    assert_eq!((reason.as_str(), outcome.as_str()), ("CHANGED_MEANWHILE", "failed"));
    assert!(!detail.as_object().unwrap().keys().any(|name| name.ends_with(".was")), "{detail}");
}

#[tokio::test]
async fn what_was_refused_is_told_whole() {
    let cluster = Cluster::new().await;
    let eve = cluster.person("eve@example.org", "ROLE_VIEWER").await;
    let plan = json!({ "name": "day", "queues": ["gpu"], "models": ["A10*"], "lifetimeSMax": 600 });
    let policy = json!({ "images": ["lab/*"], "modelGpuMilli": { "A10": "2000" }, "idleTimeoutSMax": 60 });
    for (method, message, told) in [
        (
            "PlanService/SetPlan",
            json!({ "plan": plan, "force": true }),
            json!({
                "plan.name": "day", "plan.queues": r#"["gpu"]"#, "plan.models": r#"["A10*"]"#,
                "plan.lifetime_s_max": "600", "force": "true",
            }),
        ),
        (
            "PolicyService/SetProjectPolicy",
            json!({ "project": "acme", "policy": policy }),
            json!({
                "project": "acme", "policy.images": r#"["lab/*"]"#, "policy.model_gpu_milli": r#"{"A10":2000}"#,
                "policy.idle_timeout_s_max": "60",
            }),
        ),
        (
            "QueueService/SetQueue",
            json!({ "queue": { "name": "gpu", "weight": 3 } }),
            json!({ "queue.name": "gpu", "queue.weight": "3" }),
        ),
        (
            "PlanService/RevokePlan",
            json!({ "project": "acme", "plan": "day" }),
            json!({ "project": "acme", "plan": "day" }),
        ),
    ] {
        cluster.refused_as(&eve, method, message).await;
        let (act, outcome, detail) = newest(&cluster).await;
        assert_eq!((act.as_str(), outcome.as_str(), detail), (method, "denied", told));
    }
}

/// A message that names a model.
type Naming<'a> = &'a dyn Fn(&str) -> Value;

#[tokio::test]
async fn a_model_that_no_node_has_is_set_with_a_warning() {
    let cluster = Cluster::new().await;
    cluster.call("ProjectService/CreateProject", json!({ "name": "acme" })).await;
    cluster.call("WorkspaceService/CreateWorkspace", json!({ "name": "lab", "project": "acme" })).await;
    cluster.call("QueueService/SetQueue", json!({ "queue": { "name": "gpu" } })).await;
    let (_, reason) =
        cluster.refused("PlanService/SetPlan", json!({ "plan": { "name": "day", "queues": ["default"] } })).await;
    assert_eq!(reason, "INVALID_FIELD", "that queue needs no plan");
    let plan = |model: &str| json!({ "plan": { "name": "day", "queues": ["gpu"], "models": [model, "T4"] } });
    let policy =
        |model: &str| json!({ "project": "acme", "policy": { "modelGpuMilli": { model: "1000", "T4": "1" } } });
    let spec = |model: &str| json!({ "workspace": "lab", "spec": { "gpus": 1, "models": [model, "T4"] } });
    let table: [(&str, Naming<'_>, &[&str]); 3] = [
        ("PlanService/SetPlan", &plan, &["A1O", "B*"]),
        ("PolicyService/SetProjectPolicy", &policy, &["A1O", "A*"]),
        ("RuntimeService/SetRuntimeSpec", &spec, &["A1O"]),
    ];
    for (method, message, unknown) in table {
        for model in unknown {
            let warnings = cluster.call(method, message(model)).await["warnings"].clone();
            let said = format!("no node has a device of model `{model}` at present; there are A10, T4");
            assert_eq!(warnings, json!([said]), "{method}");
        }
        assert_eq!(cluster.call(method, message("A10")).await["warnings"], json!([]), "{method}");
    }
    // A plan's names may be beginnings.
    assert_eq!(cluster.call("PlanService/SetPlan", plan("A*")).await["warnings"], json!([]));
}

#[tokio::test]
async fn nobody_comes_by_a_group_to_more_than_they_have() {
    let cluster = Cluster::new().await;
    let admin = cluster.person("admin@example.org", "ROLE_ADMIN").await;
    cluster.call("ProjectService/CreateProject", json!({ "name": "acme" })).await;
    let grant = async |member: Value| {
        cluster.call("ProjectService/SetProjectMember", json!({ "project": "acme", "member": member })).await;
    };
    for (group, role) in [("bosses", "ROLE_OWNER"), ("helpers", "ROLE_ADMIN")] {
        cluster.call("GroupService/CreateGroup", json!({ "name": group })).await;
        grant(json!({ "group": group, "role": role })).await;
    }
    let member = |group: &str| json!({ "name": group, "email": "admin@example.org" });
    let changes = ["GroupService/AddGroupMember", "GroupService/RemoveGroupMember"];
    for method in changes {
        assert_eq!(cluster.refused_as(&admin, method, member("bosses")).await, "ROLE_TOO_HIGH", "{method}");
        cluster.call_as(&admin, method, member("helpers")).await;
    }
    let delete = |group: &str| json!({ "name": group });
    assert_eq!(cluster.refused_as(&admin, "GroupService/DeleteGroup", delete("bosses")).await, "ROLE_TOO_HIGH");
    // Who has as much there, and who owns the cluster, may.
    grant(json!({ "email": "admin@example.org", "role": "ROLE_OWNER" })).await;
    for method in changes {
        cluster.call_as(&admin, method, member("bosses")).await;
        cluster.call(changes[0], member("bosses")).await;
    }
    cluster.call_as(&admin, "GroupService/DeleteGroup", delete("bosses")).await;
}

#[tokio::test]
async fn the_last_owner_of_a_project_stays_also_when_it_is_a_group() {
    let cluster = Cluster::new().await;
    let acme = json!({ "project": "acme", "member": { "group": "heirs", "role": "ROLE_OWNER" } });
    cluster.call("ProjectService/CreateProject", json!({ "name": "acme" })).await;
    cluster.call("GroupService/CreateGroup", json!({ "name": "heirs" })).await;
    cluster.call("ProjectService/SetProjectMember", acme.clone()).await;
    let founder = json!({ "project": "acme", "email": "owner@localhost" });
    cluster.call("ProjectService/RemoveProjectMember", founder).await;
    let heirs = json!({ "name": "heirs" });
    assert_eq!(cluster.refused("GroupService/DeleteGroup", heirs.clone()).await.1, "GROUP_OWNS_PROJECT");
    let founder = json!({ "email": "owner@localhost", "role": "ROLE_OWNER" });
    cluster.call("ProjectService/SetProjectMember", json!({ "project": "acme", "member": founder })).await;
    cluster.call("GroupService/DeleteGroup", heirs).await;
}
