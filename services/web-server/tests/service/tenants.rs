//! Who may do what to whose things: every method of the contract for six kinds of callers, and the ways around.

use crate::cluster::{Cluster, TOKEN, reason};
use crate::http;
use ::http::Method;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor};
use rpc::status::http_status;
use serde_json::{Map, Value, json};

/// The callers, and whether a method should let each pass: anonymous, outsider, viewer of the project, collaborator,
/// owner of the workspace, admin of the cluster.
pub(crate) const CALLERS: [&str; 6] = ["anonymous", "outsider", "viewer", "collaborator", "owner", "admin"];

/// Services whose acts are about the whole cluster.
const OVER_ALL: [&str; 10] = [
    "UserService",
    "GroupService",
    "QueueService",
    "PlanService",
    "PolicyService/Set",
    "PolicyService/GetGroupPolicy",
    "PolicyService/GetUserQuota",
    "DeviceService",
    "RuntimeService/FenceRuntime",
    "LogService/CleanLogs",
];

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// Of the callers, in their order; empty for who has none.
    pub(crate) tokens: [String; 6],
    /// A run of `sales`.
    pub(crate) run: String,
}

/// A project `acme` with the workspace `sales` that has one run, and a stranger.
pub(crate) async fn world() -> World {
    let cluster = Cluster::new().await;
    let person = async |name: &str, role: &str| cluster.person(&format!("{name}@example.org"), role).await;
    let outsider = person("outsider", "ROLE_UNSPECIFIED").await;
    let viewer = person("viewer", "ROLE_UNSPECIFIED").await;
    let collaborator = person("collaborator", "ROLE_UNSPECIFIED").await;
    let owner = person("owner", "ROLE_UNSPECIFIED").await;
    let admin = person("admin", "ROLE_ADMIN").await;
    cluster.call("ProjectService/CreateProject", json!({ "name": "acme" })).await;
    for (name, role) in [("viewer", "ROLE_VIEWER"), ("owner", "ROLE_EDITOR")] {
        let member = json!({ "email": format!("{name}@example.org"), "role": role });
        cluster.call("ProjectService/SetProjectMember", json!({ "project": "acme", "member": member })).await;
    }
    let sales = json!({ "name": "sales", "project": "acme" });
    cluster.call_as(&owner, "WorkspaceService/CreateWorkspace", sales).await;
    let invite = json!({ "workspace": "sales", "email": "collaborator@example.org" });
    cluster.call_as(&owner, "MemberService/InviteMember", invite).await;
    cluster.pipeline("sales", "daily", &[("a", &[])]).await;
    let run = cluster.run("sales", "daily").await.to_string();
    World { cluster, tokens: [String::new(), outsider, viewer, collaborator, owner, admin], run }
}

/// A request that addresses the things of the world and is otherwise as empty as can be.
fn request(message: &MessageDescriptor, run: &str, trigger: &str) -> Value {
    let mut fields = Map::new();
    for field in message.fields() {
        let value = match (field.name(), field.kind()) {
            ("workspace", Kind::String) => json!("sales"),
            ("project", Kind::String) => json!("acme"),
            ("run_id", Kind::String) => json!(run),
            ("trigger_id", Kind::String) => json!(trigger),
            // Its trigger's id, by which the test below made one; so with a model's version.
            ("backfill_id", Kind::String) => json!(trigger),
            ("version_id" | "upload_id", Kind::String) => json!(trigger),
            // How each stream of a client begins.
            ("header", Kind::Message(header)) => request(&header, run, trigger),
            ("scope", Kind::Message(_)) => json!({ "workspace": "sales" }),
            _ => continue,
        };
        fields.insert(field.json_name().to_owned(), value);
    }
    let named = ["WorkspaceRequest"].iter().any(|end| message.name().ends_with(end));
    if named && message.name() != "CreateWorkspaceRequest" {
        fields.insert("name".to_owned(), json!("sales"));
    }
    Value::Object(fields)
}

/// The least caller whom a method lets pass, as this test understands the contract: written by hand, and not derived
/// from the table that it checks.
fn least(method: &str) -> usize {
    let [_, outsider, viewer, collaborator, owner, admin] = [0, 1, 2, 3, 4, 5];
    match method {
        "SignInService/SignIn" => 0,
        m if m.starts_with("SignInService/") || m.starts_with("TokenService/") => outsider,
        "WorkspaceService/ListWorkspaces" | "ProjectService/ListProjects" | "ExecutorService/ListExecutors" => outsider,
        "ModelService/CountModels" => outsider,
        m if m.starts_with("UserService/") || m.starts_with("GroupService/") => admin,
        "ProjectService/CreateProject" | "ProjectService/SetProjectMember" | "ProjectService/RemoveProjectMember" => {
            admin
        }
        "VolumeService/ListVolumes" | "GpuUsageService/ListGpuUsage" => viewer,
        // An editor of the project makes them; its files go by an administrator of it.
        "VolumeService/CreateVolume" | "VolumeService/GrowVolume" => owner,
        "VolumeService/DeleteVolume" => admin,
        // Not even an admin: owners only.
        "ProjectService/ArchiveProject" | "SecretService/RotateSecrets" => admin + 1,
        "ProjectService/GetProject" | "ProjectService/ListProjectMembers" => viewer,
        "WorkspaceService/GetWorkspace" | "MemberService/ListMembers" => viewer,
        "TriggerService/PreviewSchedule" | "TriggerService/GetTrigger" => viewer,
        "TriggerService/ListTriggers" | "TriggerService/ListFirings" => viewer,
        "NotificationService/ListNotifications" => viewer,
        "BackfillService/PreviewBackfill" | "BackfillService/GetBackfill" | "BackfillService/ListBackfills" => viewer,
        "LimitService/ListLimits" | "OutputService/GetOutputs" => viewer,
        m if m.starts_with("BackfillService/") || m.starts_with("LimitService/") => collaborator,
        m if m.starts_with("OutputService/") => collaborator,
        "MonitorService/GetGpuStatistics" => admin,
        m if m.starts_with("MonitorService/") => viewer,
        "ModelService/ListModels" | "ModelService/ListModelVersions" | "ModelService/DownloadModel" => viewer,
        m if m.starts_with("ModelService/") => collaborator,
        m if m.starts_with("TriggerService/") || m.starts_with("EventService/") => collaborator,
        m if m.starts_with("NotificationService/") => collaborator,
        "LogService/CleanLogs" => admin,
        m if m.starts_with("PipelineService/") || m.starts_with("LogService/") => viewer,
        "RunService/GetRun" | "RunService/ListRuns" | "RunService/ListBlockRuns" | "RunService/WatchRun" => viewer,
        m if m.starts_with("RunService/") || m.starts_with("DeploymentService/") => collaborator,
        // In `acme`, of which the collaborator is no member.
        "WorkspaceService/CreateWorkspace" => owner,
        m if m.starts_with("WorkspaceService/") || m.starts_with("MemberService/") => owner,
        m if m.starts_with("AuditService/") => owner,
        "SecretService/ListSecrets" => collaborator,
        m if m.starts_with("SecretService/") => owner,
        "QueueService/ListQueues" | "PlanService/ListPlans" | "DeviceService/ListDeviceClasses" => outsider,
        "RuntimeService/ListRuntimes" | "RuntimeService/BatchChangeRuntimes" => outsider,
        "RuntimeService/GetRuntime" | "RuntimeService/WatchRuntime" | "RuntimeService/PlanRuntime" => viewer,
        "RuntimeService/ListRuntimeEvents" | "PolicyService/GetProjectPolicy" => viewer,
        "RuntimeService/DeleteRuntime" => owner,
        "RuntimeService/FenceRuntime" => admin,
        m if m.starts_with("RuntimeService/") => collaborator,
        m if OVER_ALL.iter().any(|service| m.starts_with(service)) => admin,
        other => panic!("{other} is new: say here who may call it"),
    }
}

#[tokio::test]
async fn every_method_knows_its_callers() {
    let World { cluster, tokens, run } = world().await;
    let row = cluster.database.client().await.query_one("SELECT id::text FROM trigger", &[]).await.unwrap();
    let trigger: String = row.get(0);
    let backfill = "INSERT INTO backfill (id, workspace_id, pipeline_id, shard, name, start_at, end_at, unit, every,
                                          time_zone, descending, parallelism, status, total)
                    SELECT t.id, p.workspace_id, p.id, 0, 'b', now(), now(), 'day', 1, 'UTC', false, 1, 'running', 1
                      FROM trigger t JOIN pipeline p ON p.id = t.pipeline_id";
    cluster.database.client().await.execute(backfill, &[]).await.unwrap();
    let model = "WITH m AS (INSERT INTO model (id, workspace_id, name)
                            SELECT t.id, p.workspace_id, 'm' FROM trigger t JOIN pipeline p ON p.id = t.pipeline_id
                            RETURNING id)
                 INSERT INTO model_version (id, model_id, file_name, size_bytes, sha256)
                 SELECT id, id, 'f', 0, repeat('0', 64) FROM m";
    cluster.database.client().await.execute(model, &[]).await.unwrap();
    let upload = "INSERT INTO model_upload (id, workspace_id, name, file_name, size_bytes, sha256)
                  SELECT t.id, p.workspace_id, 'm', 'f', 1, repeat('0', 64) FROM trigger t JOIN pipeline p ON p.id = t.pipeline_id";
    cluster.database.client().await.execute(upload, &[]).await.unwrap();
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let services: Vec<_> = pool.services().filter(|s| s.package_name() == "orrery.v1").collect();
    for method in services.iter().flat_map(prost_reflect::ServiceDescriptor::methods) {
        let name = format!("{}/{}", method.parent_service().name(), method.name());
        // What ends the credential or the thing that the next caller needs has tests of its own.
        let ends = ["SignOut", "ArchiveWorkspace", "WatchRun", "TailLogs", "DeleteTrigger", "WatchRuntime"]
            .contains(&method.name());
        for (at, token) in tokens.iter().enumerate() {
            // A collaborator works in a workspace, and is no member of its project.
            let of_project = at == 3
                && [
                    "ProjectService/GetProject",
                    "ProjectService/ListProjectMembers",
                    "PolicyService/GetProjectPolicy",
                    "VolumeService/ListVolumes",
                    "GpuUsageService/ListGpuUsage",
                ]
                .contains(&&*name);
            let allowed = at >= least(&name) && !of_project;
            if allowed && ends {
                continue;
            }
            let message = request(&method.input(), &run, &trigger);
            // JSON has no form for a stream: those go by gRPC.
            let (status, reason, told) = if method.is_client_streaming() {
                let message = DynamicMessage::deserialize(method.input(), message).unwrap().encode_to_vec();
                let url = cluster.url(&format!("/orrery.v1.{name}"));
                match http::stream(&url, token, &message).await {
                    Ok(()) => (200, String::new(), String::new()),
                    Err(problem) => (http_status(problem.kind).as_u16(), problem.reason, problem.message),
                }
            } else {
                let answer = cluster.post_as(token, &name, message).await;
                let why = if answer.status == 404 { reason(&answer) } else { String::new() };
                (answer.status.as_u16(), why, String::from_utf8_lossy(&answer.body).into_owned())
            };
            let refused = match status {
                401 => at == 0 || !allowed,
                403 => true,
                404 => {
                    matches!(
                        reason.as_str(),
                        "WORKSPACE_NOT_FOUND"
                            | "RUN_NOT_FOUND"
                            | "PROJECT_NOT_FOUND"
                            | "TRIGGER_NOT_FOUND"
                            | "BACKFILL_NOT_FOUND"
                            | "MODEL_VERSION_NOT_FOUND"
                            | "UPLOAD_NOT_FOUND"
                    )
                }
                _ => false,
            };
            let signs_in = name == "SignInService/SignIn";
            assert!(refused != allowed || signs_in, "{name} by {}: {status} {told}", CALLERS[at]);
            if at == 0 && !signs_in {
                assert_eq!(status, 401, "{name}");
            }
            if at == 1 && !allowed {
                // What is not theirs looks as if it were not there, unless it is no thing at all.
                let over_all = OVER_ALL.iter().any(|s| name.starts_with(s));
                let by_name =
                    ["ProjectService/CreateProject", "SecretService/RotateSecrets", "MonitorService/GetGpuStatistics"];
                let over_all = over_all || by_name.contains(&&*name);
                assert_eq!(status, if over_all { 403 } else { 404 }, "{name}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn lists_show_what_one_may_see() {
    let World { cluster, tokens, run } = world().await;
    cluster.workspace("hidden").await;
    let names = async |token: &str| -> Vec<String> {
        let page = cluster.call_as(token, "WorkspaceService/ListWorkspaces", json!({})).await;
        page["workspaces"].as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&tokens[1]).await, Vec::<String>::new());
    for member in &tokens[2..5] {
        assert_eq!(names(member).await, ["sales"]);
    }
    assert_eq!(names(&tokens[5]).await, ["hidden", "sales"]);
    let projects =
        async |token: &str| cluster.call_as(token, "ProjectService/ListProjects", json!({})).await.to_string();
    assert!(!projects(&tokens[1]).await.contains("acme") && projects(&tokens[2]).await.contains("acme"));
    // What one may not see is written as if it were not there, word by word.
    let (there, nowhere) = (json!({ "runId": run }), json!({ "runId": uuid::Uuid::nil() }));
    let words = async |message: Value| {
        let answer = cluster.post_as(&tokens[1], "RunService/GetRun", message.clone()).await;
        (answer.status, answer.json()["message"].as_str().unwrap().replace(message["runId"].as_str().unwrap(), "ID"))
    };
    assert_eq!(words(there).await, words(nowhere).await);
    // A name that is taken is said to be taken, and is not found.
    let create = json!({ "name": "hidden" });
    assert_eq!(
        cluster.refused_as(&tokens[1], "WorkspaceService/CreateWorkspace", create.clone()).await,
        "WORKSPACE_EXISTS"
    );
    assert_eq!(cluster.refused_as(&tokens[1], "WorkspaceService/GetWorkspace", create).await, "WORKSPACE_NOT_FOUND");
}

#[tokio::test]
async fn ids_of_another_tenant_open_nothing() {
    let World { cluster, tokens, run } = world().await;
    let outsider = &tokens[1];
    cluster.call_as(outsider, "WorkspaceService/CreateWorkspace", json!({ "name": "own" })).await;
    cluster.pipeline("own", "daily", &[("a", &[])]).await;
    // An own workspace outside, somebody else's inside.
    let nested = json!({ "workspace": "own", "pipeline": "daily", "requests": [{ "workspace": "sales" }] });
    assert_eq!(cluster.refused_as(outsider, "RunService/BatchCreateRuns", nested).await, "INVALID_FIELD");
    for method in ["GetRun", "CancelRun", "ListBlockRuns"] {
        let message = json!({ "runId": run });
        assert_eq!(cluster.refused_as(outsider, &format!("RunService/{method}"), message).await, "RUN_NOT_FOUND");
    }
    // The key of another person's request answers nothing of theirs.
    let create = json!({ "name": "keyed", "idempotencyKey": "k" });
    cluster.call("WorkspaceService/CreateWorkspace", create.clone()).await;
    assert_eq!(cluster.refused_as(outsider, "WorkspaceService/CreateWorkspace", create).await, "WORKSPACE_EXISTS");
}

#[tokio::test]
async fn whether_there_is_a_pipeline_is_told_to_who_may_run_it() {
    let World { cluster, tokens, .. } = world().await;
    for method in ["RunService/CreateRun", "RunService/BatchCreateRuns"] {
        let of = |pipeline: &str| json!({ "workspace": "sales", "pipeline": pipeline });
        let words = async |token: &str, pipeline: &str| {
            let answer = cluster.post_as(token, method, of(pipeline)).await;
            (answer.status, answer.json()["message"].clone())
        };
        // Nobody, a stranger, and one who may only look.
        for token in &tokens[..3] {
            let told = words(token, "daily").await;
            assert!(told.0.is_client_error(), "{method}: {told:?}");
            assert_eq!(told, words(token, "nowhere").await, "{method}");
        }
        assert_eq!(cluster.refused_as(&tokens[3], method, of("nowhere")).await, "PIPELINE_NOT_FOUND");
    }
}

#[tokio::test]
async fn the_last_owner_stays_and_invitations_wait() {
    let World { cluster, tokens, .. } = world().await;
    let owner = &tokens[4];
    let member = |email: &str, role: &str| json!({ "workspace": "sales", "email": email, "role": role });
    let (set, remove) = ("MemberService/SetMemberRole", "MemberService/RemoveMember");
    let own = "owner@example.org";
    let collaborator = "WORKSPACE_ROLE_COLLABORATOR";
    assert_eq!(cluster.refused_as(owner, set, member(own, collaborator)).await, "LAST_OWNER");
    let out = json!({ "workspace": "sales", "email": own });
    assert_eq!(cluster.refused_as(owner, remove, out.clone()).await, "LAST_OWNER");
    let invited = cluster
        .call_as(owner, "MemberService/InviteMember", member("New@Example.org", "WORKSPACE_ROLE_UNSPECIFIED"))
        .await;
    assert_eq!((&invited["member"]["invited"], &invited["member"]["email"]), (&json!(true), &json!("new@example.org")));
    let new = cluster.person("new@example.org", "ROLE_UNSPECIFIED").await;
    cluster.call_as(&new, "WorkspaceService/GetWorkspace", json!({ "name": "sales" })).await;
    // An owner who cannot sign in is none that stays.
    cluster.person("gone@example.org", "ROLE_UNSPECIFIED").await;
    cluster.call_as(owner, "MemberService/InviteMember", member("gone@example.org", "WORKSPACE_ROLE_OWNER")).await;
    cluster.call("UserService/DisableUser", json!({ "email": "gone@example.org" })).await;
    assert_eq!(cluster.refused_as(owner, set, member(own, collaborator)).await, "LAST_OWNER");
    assert_eq!(cluster.refused_as(owner, remove, out.clone()).await, "LAST_OWNER");
    cluster.call_as(owner, set, member("new@example.org", "WORKSPACE_ROLE_OWNER")).await;
    cluster.call_as(&new, remove, out).await;
    // Still an editor of the project, and no longer an owner of the workspace.
    cluster.call_as(owner, "WorkspaceService/GetWorkspace", json!({ "name": "sales" })).await;
    assert_eq!(
        cluster.refused_as(owner, "MemberService/InviteMember", member("x@y.z", collaborator)).await,
        "PERMISSION_DENIED"
    );
}

#[tokio::test]
async fn archived_workspaces_are_read_and_not_changed() {
    let World { cluster, tokens, .. } = world().await;
    let owner = &tokens[4];
    cluster.call_as(owner, "WorkspaceService/ArchiveWorkspace", json!({ "name": "sales" })).await;
    let run = json!({ "workspace": "sales", "pipeline": "daily" });
    assert_eq!(cluster.refused_as(owner, "RunService/CreateRun", run.clone()).await, "ARCHIVED");
    cluster.call_as(owner, "RunService/ListRuns", json!({ "workspace": "sales" })).await;
    let listed = cluster.call_as(owner, "WorkspaceService/ListWorkspaces", json!({})).await;
    assert_eq!(listed["workspaces"], json!([]));
    cluster.call_as(owner, "WorkspaceService/RestoreWorkspace", json!({ "name": "sales" })).await;
    cluster.call_as(owner, "RunService/CreateRun", run).await;
}

#[tokio::test]
async fn groups_give_their_members_a_project() {
    let World { cluster, tokens, .. } = world().await;
    let outsider = &tokens[1];
    cluster.call("GroupService/CreateGroup", json!({ "name": "quants" })).await;
    let group = json!({ "project": "acme", "member": { "group": "quants", "role": "ROLE_EDITOR" } });
    cluster.call("ProjectService/SetProjectMember", group).await;
    let sales = json!({ "name": "sales" });
    assert_eq!(
        cluster.refused_as(outsider, "WorkspaceService/GetWorkspace", sales.clone()).await,
        "WORKSPACE_NOT_FOUND"
    );
    let member = json!({ "name": "quants", "email": "outsider@example.org" });
    cluster.call("GroupService/AddGroupMember", member.clone()).await;
    cluster.call_as(outsider, "WorkspaceService/GetWorkspace", sales.clone()).await;
    cluster.call("GroupService/RemoveGroupMember", member).await;
    assert_eq!(cluster.refused_as(outsider, "WorkspaceService/GetWorkspace", sales).await, "WORKSPACE_NOT_FOUND");
}

#[tokio::test]
async fn no_spelling_of_a_path_goes_around() {
    let World { cluster, run, .. } = world().await;
    let method = "/orrery.v1.RunService/GetRun";
    let spellings = [
        format!("{method}/livez"),
        format!("/livez/..{method}"),
        format!("/livez/%2e%2e{method}"),
        format!("/ui/%2e%2e{method}"),
        format!("/ui/..%2f..{method}"),
        format!("/ui/%252e%252e{method}"),
        format!("/{method}"),
        method.replace("/GetRun", "/%47etRun"),
        method.replace("/GetRun", "%2fGetRun"),
        method.replace("/GetRun", "//GetRun"),
        method.replace("/GetRun", "/getrun"),
        format!("{method};x"),
        format!("{method}?/livez"),
        format!("/api/v1/runs/{run}"),
        format!("/api/v1/runs/{run}/livez"),
        format!("/api/v1/runs/%2e%2e/runs/{run}"),
        format!("/livez/../api/v1/runs/{run}"),
        "/api/v1/workspaces/".to_owned(),
        "/api/v1/workspaces/sales%2fpipelines".to_owned(),
        "/grpc.health.v1.Health/../../orrery.v1.RunService/GetRun".to_owned(),
    ];
    let body = json!({ "runId": run }).to_string();
    for path in spellings {
        for verb in [Method::POST, Method::GET] {
            let headers = [("content-type", "application/json")];
            let answer = http::send(http::request(verb, &cluster.url(&path), &headers, body.clone())).await;
            let status = answer.status.as_u16();
            assert!(matches!(status, 400 | 401 | 404 | 405), "{path}: {status}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("\"pipeline\""), "{path}");
        }
    }
}

#[tokio::test]
async fn an_upgrade_is_refused_before_it_happens() {
    let World { cluster, run, .. } = world().await;
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let paths = ["/orrery.v1.RunService/WatchRun".to_owned(), format!("/api/v1/runs/{run}/watch"), "/ws".to_owned()];
    for path in paths {
        let answer = http::send(http::request(Method::GET, &cluster.url(&path), &upgrade, "")).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    let token = format!("Bearer {TOKEN}");
    let foreign = [upgrade.as_slice(), &[("authorization", &*token), ("origin", "https://evil.example")]].concat();
    let answer = http::send(http::request(Method::GET, &cluster.url("/ws"), &foreign, "")).await;
    assert_eq!(answer.status, 403);
}
