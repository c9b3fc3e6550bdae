//! Every route that is no method, as the router has them, for six kinds of callers: in its own spelling, in others, with
//! other verbs, as an upgrade, from pages of elsewhere, and with ids of another tenant. A route that is new fails here
//! until somebody says who may call it.

use crate::cluster::{Cluster, reason};
use crate::http::{self, Answer};
use crate::models;
use crate::proxy::{application, lives};
use crate::tenants::{CALLERS, World, world};
use ::http::{Method, StatusCode};
use serde_json::{Value, json};
use web_server::Route;

/// Places among the callers.
const ANONYMOUS: usize = 0;
const OUTSIDER: usize = 1;
const VIEWER: usize = 2;
const COLLABORATOR: usize = 3;
const ADMIN: usize = 5;
const COMPLETED: &str = "UPDATE run SET status = 'completed', completed_at = now() WHERE id = $1";
const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The least caller whom a route lets pass, as this test understands it: written by hand, and not derived from the table
/// that it checks. `None` is a route that asks for something of its own, which none of the callers has.
fn least(template: &str) -> Option<usize> {
    Some(match template {
        "/" | "/ui/{*path}" | "/livez" | "/readyz" => ANONYMOUS,
        "/auth/options" | "/auth/oidc" | "/auth/oidc/callback" => ANONYMOUS,
        "/grpc.health.v1.Health/{method}" => ANONYMOUS,
        // A password or the operator's token; a trigger's token.
        "/auth/session" => return None,
        "/api/pipeline_schedules/{id}/pipeline_runs/{token}" | "/api/pipeline_schedules/{id}/api_trigger" => {
            return None;
        }
        "/grpc.reflection.v1.ServerReflection/{method}" | "/grpc.reflection.v1alpha.ServerReflection/{method}" => {
            OUTSIDER
        }
        "/api/v1/workspaces" | "/api/v1/executors" => OUTSIDER,
        "/api/v1/workspaces/{workspace}/pipelines" | "/api/v1/workspaces/{workspace}/pipelines/{pipeline}" => VIEWER,
        "/api/v1/workspaces/{workspace}/runs" | "/api/v1/workspaces/{workspace}/triggers" => VIEWER,
        "/api/v1/triggers/{trigger_id}" | "/api/v1/triggers/{trigger_id}/preview" => VIEWER,
        "/api/v1/triggers/{trigger_id}/firings" => VIEWER,
        "/api/v1/runs/{run_id}" | "/api/v1/runs/{run_id}/blocks" | "/api/v1/runs/{run_id}/watch" => VIEWER,
        "/api/v1/runs/{run_id}/logs" | "/api/v1/runs/{run_id}/blocks/{block}/outputs" => VIEWER,
        "/api/v1/workspaces/{workspace}/models" | "/api/v1/workspaces/{workspace}/models/{name}" => VIEWER,
        "/api/v1/model-versions/{version_id}/content" => VIEWER,
        "/api/v1/workspaces/{workspace}/logs" | "/api/v1/workspaces/{workspace}/notifications" => VIEWER,
        "/api/v1/workspaces/{workspace}/monitor" | "/api/v1/workspaces/{workspace}/monitor/blocks" => VIEWER,
        "/api/v1/uploads/{upload_id}" | "/api/events" => COLLABORATOR,
        // Nothing is masked in it.
        "/api/v1/runs/{run_id}/blocks/{block}/outputs/{name}/content" => COLLABORATOR,
        "/runtimes/{workspace}" | "/runtimes/{workspace}/" | "/runtimes/{workspace}/{*path}" => COLLABORATOR,
        other => panic!("{other} is new: say here who may call it"),
    })
}

/// What the parameters of routes address.
struct Things {
    workspace: &'static str,
    run: String,
    trigger: String,
    upload: String,
    version: String,
}

impl Things {
    /// Fills a workspace that has the pipeline `daily` and a run of it.
    async fn of(cluster: &Cluster, workspace: &'static str, run: &str) -> Self {
        let message = json!({ "workspace": workspace, "pipeline": "daily", "name": "called", "active": true,
                              "spec": { "api": {} } });
        let trigger = cluster.call("TriggerService/CreateTrigger", message).await["trigger"]["id"].clone();
        let model = |name: &str| {
            let mut start = models::start(name, b"weights");
            start["workspace"] = json!(workspace);
            start
        };
        let upload = cluster.call("ModelService/StartUpload", model("half")).await["uploadId"].clone();
        let version = models::upload(cluster, model("whole"), b"weights").await["id"].clone();
        cluster.change(run.parse().unwrap(), COMPLETED).await;
        let line = "INSERT INTO log_line (run_id, at, block, level, stream, message)
                    VALUES ($1, now(), 'a', 20, 'stdout', 'line of ' || $1::uuid::text)";
        cluster.change(run.parse().unwrap(), line).await;
        let text = |value: Value| value.as_str().unwrap().to_owned();
        let (trigger, upload, version) = (text(trigger), text(upload), text(version));
        Self { workspace, run: run.to_owned(), trigger, upload, version }
    }

    fn path(&self, template: &str) -> String {
        let values = [
            ("{workspace}", self.workspace),
            ("{pipeline}", "daily"),
            ("{name}", "whole"),
            ("{block}", "a"),
            ("{run_id}", &self.run),
            ("{trigger_id}", &self.trigger),
            ("{id}", &self.trigger),
            ("{token}", "ptk_0000000000000000_"),
            ("{upload_id}", &self.upload),
            ("{version_id}", &self.version),
            ("{method}", "Check"),
            ("{*path}", if template.starts_with("/ui/") { "app.js" } else { "app" }),
        ];
        let path = values.iter().fold(template.to_owned(), |path, (name, value)| path.replace(name, value));
        assert!(!path.contains('{'), "{template}: say here what its parameters address");
        if template == "/api/events" { format!("{path}?workspace={}", self.workspace) } else { path }
    }

    /// Nothing of theirs is in a text.
    fn are_absent_from(&self, text: &str) -> bool {
        ![&self.run, &self.trigger, &self.upload, &self.version].into_iter().any(|id| text.contains(id))
    }
}

/// The tenant with an application that runs.
async fn tenant() -> (World, Things) {
    let world = world().await;
    let things = Things::of(&world.cluster, "sales", &world.run).await;
    let (addr, _) = application().await;
    lives(&world.cluster, "sales", &addr.to_string(), "jupyter").await;
    (world, things)
}

fn verb(route: &Route) -> Method {
    route.verb.clone().unwrap_or(Method::GET)
}

async fn ask(cluster: &Cluster, token: &str, verb: &Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut all = headers.to_vec();
    if !token.is_empty() {
        all.push(("authorization", &bearer));
    }
    http::send(http::request(verb.clone(), &cluster.url(path), &all, "")).await
}

/// Nobody, not enough, or as if it were not there.
fn refused(answer: &Answer) -> bool {
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
        StatusCode::NOT_FOUND => {
            [
            "WORKSPACE_NOT_FOUND",
            "RUN_NOT_FOUND",
            "TRIGGER_NOT_FOUND",
            "UPLOAD_NOT_FOUND",
            "MODEL_VERSION_NOT_FOUND",
        ]
        .contains(&reason(answer).as_str())
            // Mage's form.
            || answer.json()["error"]["type"] == "WORKSPACE_NOT_FOUND"
        }
        _ => false,
    }
}

#[tokio::test]
async fn every_route_knows_its_callers() {
    let (World { cluster, tokens, .. }, things) = tenant().await;
    for route in web_server::routes() {
        let (least, path) = (least(route.template), things.path(route.template));
        for (at, token) in tokens.iter().enumerate() {
            let told = format!("{path} by {}", CALLERS[at]);
            let answer = ask(&cluster, token, &verb(&route), &path, &[]).await;
            let allowed = least.is_some_and(|least| at >= least);
            assert_eq!(refused(&answer), !allowed, "{told}: {} {:?}", answer.status, answer.body);
            if !allowed && (at == ANONYMOUS || least.is_none()) {
                assert!(matches!(answer.status.as_u16(), 401 | 403), "{told}: {}", answer.status);
            } else if !allowed && at == OUTSIDER {
                assert_eq!(answer.status, 404, "{told}");
            }
            // From a page of elsewhere nobody does anything, whoever it is.
            let foreign = ask(&cluster, token, &verb(&route), &path, &[("origin", "https://evil.example")]).await;
            assert_eq!(foreign.status, 403, "{told} from elsewhere");
            // Only applications take other protocols, of who may open them.
            let upgrade = ask(&cluster, token, &Method::GET, &path, &UPGRADE).await;
            let opens = route.template.starts_with("/runtimes/{workspace}/") && allowed;
            assert_eq!(upgrade.status == StatusCode::SWITCHING_PROTOCOLS, opens, "{told}: {}", upgrade.status);
        }
    }
}

#[tokio::test]
async fn a_route_takes_its_own_verb_only() {
    let (World { cluster, tokens, .. }, things) = tenant().await;
    for route in web_server::routes() {
        let Some(own) = &route.verb else { continue };
        for verb in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            if verb == *own {
                continue;
            }
            let path = things.path(route.template);
            let by_admin = ask(&cluster, &tokens[ADMIN], &verb, &path, &[]).await;
            assert_eq!(by_admin.status, 405, "{verb} {path}");
            let open = least(route.template).is_none_or(|least| least == ANONYMOUS);
            let by_nobody = ask(&cluster, "", &verb, &path, &[]).await;
            assert_eq!(by_nobody.status, if open { 405 } else { 401 }, "{verb} {path}");
        }
    }
}

/// Other ways to write a path, some of which mean the same.
fn spellings(path: &str) -> Vec<String> {
    let (folder, last) = path.rsplit_once('/').unwrap();
    let first = last.bytes().next().unwrap_or(b'x');
    vec![
        format!("/{path}"),
        format!("{folder}//{last}"),
        format!("{folder}%2f{last}"),
        format!("{folder}/%2F{last}"),
        format!("{folder}\\{last}"),
        format!("{folder}/./{last}"),
        format!("{folder}/%2e/{last}"),
        format!("{folder}/x/%2e%2e/{last}"),
        format!("{folder}/%{first:02x}{}", last.get(1..).unwrap_or_default()),
        format!("{folder}/%25{first:02x}{}", last.get(1..).unwrap_or_default()),
        format!("{path}/"),
        format!("{path};x=/livez"),
        format!("{path}%00"),
        format!("{path}?/livez"),
        format!("/livez/..{path}"),
        format!("/livez/%2e%2e{path}"),
        format!("/livez%2f%2e%2e{path}"),
        format!("/ui/..{path}"),
        format!("/ui/%2e%2e%2f{path}"),
        format!("/auth/options/..{path}"),
        format!("/grpc.health.v1.Health/..{path}"),
        path.to_uppercase(),
    ]
}

#[tokio::test]
async fn no_spelling_of_a_route_goes_around() {
    let (World { cluster, tokens, .. }, things) = tenant().await;
    for route in web_server::routes() {
        let Some(least) = least(route.template).filter(|least| *least > ANONYMOUS) else { continue };
        let path = things.path(route.template);
        let path = path.split('?').next().unwrap();
        let query = if route.template == "/api/events" { "?workspace=sales" } else { "" };
        for spelling in spellings(path) {
            let url = if spelling.contains('?') { spelling } else { spelling + query };
            for (at, token) in tokens[..least].iter().enumerate() {
                let answer = ask(&cluster, token, &verb(&route), &url, &[]).await;
                let status = answer.status.as_u16();
                assert!(matches!(status, 400 | 401 | 403 | 404 | 405), "{url} by {}: {status}", CALLERS[at]);
                let told = String::from_utf8_lossy(&answer.body).replace(r"\\", r"\");
                let told = [path, &url].iter().fold(told, |told, own| told.replace(own, ""));
                assert!(!told.contains("daily") && !told.contains("weights"), "{url} by {}: {told}", CALLERS[at]);
            }
            let by_admin = ask(&cluster, &tokens[ADMIN], &verb(&route), &url, &[]).await;
            assert_ne!(by_admin.status, 500, "{url}: {} {:?}", by_admin.status, by_admin.body);
        }
    }
}

#[tokio::test]
async fn own_things_open_no_others() {
    let (World { cluster, tokens, .. }, theirs) = tenant().await;
    let outsider = &tokens[OUTSIDER];
    cluster.call_as(outsider, "WorkspaceService/CreateWorkspace", json!({ "name": "own" })).await;
    cluster.pipeline("own", "daily", &[("a", &[])]).await;
    let run = cluster.run("own", "daily").await.to_string();
    let own = Things::of(&cluster, "own", &run).await;
    let (workspace, run, trigger) = (theirs.workspace.to_owned(), &theirs.run, &theirs.trigger);
    let others = [
        format!("workspace={workspace}"),
        "project=acme".to_owned(),
        format!("run_id={run}"),
        format!("runId={run}"),
        format!("trigger_id={trigger}"),
        format!("triggerId={trigger}"),
        format!("version_id={}", theirs.version),
    ];
    for route in web_server::routes().iter().filter(|route| route.template.starts_with("/api/v1/")) {
        let path = own.path(route.template);
        for other in &others {
            let url = format!("{path}?{other}");
            let answer = ask(&cluster, outsider, &verb(route), &url, &[]).await;
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            let shown = answer.status.is_success() && !theirs.are_absent_from(&told);
            assert!(!shown && answer.status != 500, "{url}: {} {told}", answer.status);
        }
        // One of theirs between own ones.
        for name in
            ["{run_id}", "{trigger_id}", "{upload_id}", "{version_id}"].iter().filter(|n| route.template.contains(**n))
        {
            let path = own.path(&route.template.replace(name, theirs.path(name).as_str()));
            assert_eq!(ask(&cluster, outsider, &verb(route), &path, &[]).await.status, 404, "{path}");
        }
    }
    // The token of an own trigger starts nobody else's.
    let rotate = json!({ "triggerId": own.trigger, "overlap": "0s" });
    let token = cluster.call_as(outsider, "TriggerService/RotateTriggerToken", rotate).await["token"].clone();
    let token = token.as_str().unwrap();
    for (things, expected) in [(&own, 200), (&theirs, 401)] {
        let by_header = format!("/api/pipeline_schedules/{}/api_trigger", things.trigger);
        let by_address = format!("/api/pipeline_schedules/{}/pipeline_runs/{token}", things.trigger);
        assert_eq!(ask(&cluster, token, &Method::POST, &by_header, &[]).await.status, expected);
        assert_eq!(ask(&cluster, "", &Method::POST, &by_address, &[]).await.status, expected);
    }
}
