//! Who may call what, and which paths lead nowhere.

use crate::cluster::{Cluster, TOKEN};
use crate::http::{self, Answer};
use ::http::Method;
use serde_json::json;

async fn bare(cluster: &Cluster, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    http::send(http::request(method, &cluster.url(path), headers, vec![0, 0, 0, 0, 0])).await
}

/// Every method of every service that is compiled in, and that could be served.
fn methods() -> Vec<String> {
    let pool = prost_reflect::DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let services = pool.services().filter(|s| s.package_name() == "orrery.v1").collect::<Vec<_>>();
    assert!(services.len() >= 13, "{}", services.len());
    services.iter().flat_map(|s| s.methods().map(|m| format!("/{}/{}", s.full_name(), m.name()))).collect()
}

#[tokio::test]
async fn every_method_and_route_asks_for_the_token() {
    let cluster = Cluster::new().await;
    let wrong = format!("Bearer {TOKEN}x");
    for authorization in [None, Some(wrong.as_str()), Some(TOKEN), Some("Basic eA==")] {
        let with = |kind: &'static str| {
            [("content-type", kind)].into_iter().chain(authorization.map(|a| ("authorization", a))).collect::<Vec<_>>()
        };
        for path in methods().into_iter().filter(|path| !path.ends_with("/SignIn")) {
            let json = bare(&cluster, Method::POST, &path, &with("application/json")).await;
            assert_eq!((json.status.as_u16(), &json.json()["code"]), (401, &json!("unauthenticated")), "{path}");
            for kind in ["application/grpc", "application/grpc-web+proto"] {
                let grpc = bare(&cluster, Method::POST, &path, &with(kind)).await;
                assert_eq!((grpc.status.as_u16(), grpc.header("grpc-status")), (200, "16"), "{path} {kind}");
            }
        }
        let routes = [
            "/api/v1/workspaces",
            "/api/v1/runs/x",
            "/api/v1/executors",
            "/anything",
            "/ui",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ];
        for path in routes {
            let answer = bare(&cluster, Method::GET, path, &with("text/plain")).await;
            assert_eq!(answer.status, 401, "{path}");
        }
    }
    for open in ["/", "/ui/app.js", "/livez"] {
        assert_eq!(bare(&cluster, Method::GET, open, &[]).await.status, 200, "{open}");
    }
    let health =
        bare(&cluster, Method::POST, "/grpc.health.v1.Health/Check", &[("content-type", "application/grpc-web")]).await;
    assert_eq!(health.status, 200);
    assert!(String::from_utf8_lossy(&health.body).contains("grpc-status:0"), "{:?}", health.body);
}

#[tokio::test]
async fn every_method_is_served() {
    let cluster = Cluster::new().await;
    for path in methods() {
        let method = path.trim_start_matches("/orrery.v1.").to_owned();
        let answer = cluster.post(&method, json!({})).await;
        let streams_in = ["DeploymentService/UploadFiles", "ModelService/UploadModel"].contains(&method.as_str());
        assert_eq!(answer.status == 501, streams_in, "{method}: {:?}", answer.body);
    }
}

#[tokio::test]
async fn paths_lead_nowhere_else() {
    let cluster = Cluster::new().await;
    let tricks = [
        "/ui/../Cargo.toml",
        "/ui/%2e%2e/Cargo.toml",
        "/ui/..%2f..%2fCargo.toml",
        "/ui//etc/passwd",
        "/ui/%2fetc%2fpasswd",
        "/ui/%00",
        "/ui/index.html/",
        "/ui/.",
    ];
    for path in tricks {
        let answer = bare(&cluster, Method::GET, path, &[]).await;
        assert!(matches!(answer.status.as_u16(), 400 | 401 | 404), "{path}: {}", answer.status);
        assert!(!String::from_utf8_lossy(&answer.body).contains("[package]"), "{path}");
    }
    let page = bare(&cluster, Method::GET, "/", &[]).await;
    assert!(page.header("content-security-policy").contains("script-src 'self'"));
    let text = String::from_utf8_lossy(&page.body).into_owned();
    assert!(!text.contains("onclick") && !text.contains("<style") && !text.contains("style="));
}

#[tokio::test]
async fn pages_of_others_cannot_call() {
    let cluster = Cluster::new().await;
    let json = ("content-type", "application/json");
    let path = "/orrery.v1.WorkspaceService/ListWorkspaces";
    let reason = |answer: &Answer| answer.json()["details"][0]["debug"]["reason"].as_str().unwrap().to_owned();
    let rebound = bare(&cluster, Method::POST, path, &[json, ("host", "evil.example:7070")]).await;
    assert_eq!((rebound.status.as_u16(), reason(&rebound).as_str()), (403, "UNKNOWN_HOST"));
    let foreign = bare(&cluster, Method::POST, path, &[json, ("origin", "https://evil.example")]).await;
    assert_eq!((foreign.status.as_u16(), reason(&foreign).as_str()), (403, "CROSS_ORIGIN"));
    assert!(foreign.headers.get("access-control-allow-origin").is_none());
    // What a form can send without asking.
    let token = format!("Bearer {TOKEN}");
    let token = ("authorization", token.as_str());
    let form = bare(&cluster, Method::POST, path, &[("content-type", "text/plain"), token]).await;
    assert_eq!(form.status, 415);
    let own = format!("http://{}", cluster.addr);
    let own = http::request(Method::POST, &cluster.url(path), &[json, token, ("origin", &own)], "{}");
    assert_eq!(http::send(own).await.status, 200);
}

#[tokio::test]
async fn without_an_operator_everybody_still_signs_in() {
    let cluster = Cluster::with(|settings| settings.token_file = None).await;
    let list = "WorkspaceService/ListWorkspaces";
    for token in ["", TOKEN] {
        assert_eq!(cluster.post_as(token, list, json!({})).await.status, 401);
    }
    let sign_in = json!({
        "email": "owner@localhost", "password": cluster.owner_password(), "newPassword": "correct horse battery",
    });
    let answer = cluster.call_as("", "SignInService/SignIn", sign_in).await;
    cluster.call_as(answer["token"].as_str().unwrap(), list, json!({})).await;
}
