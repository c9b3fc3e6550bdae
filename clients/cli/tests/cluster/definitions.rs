//! Broken definitions: each gives an error with file, key and remedy, and hides nothing else.

use crate::{
    answer::Answer,
    cluster::shared,
    project::{Project, step},
    workspace::Workspace,
};
use proto::v1::{CreateDeploymentRequest, Manifest, ManifestFile, deployment_service_client::DeploymentServiceClient};
use rpc::{auth::Token, client};
use serde_json::Value;
use std::time::Duration;

const LOAD: &str = "@data_loader\ndef f(*args, **kwargs):\n    return 1\n";

fn diagnostics(answer: &Answer) -> Vec<Value> {
    answer.json()["diagnostics"].as_array().unwrap().clone()
}

/// The error of a pipeline, which names the file, the key, and what to do.
#[track_caller]
fn error_of(found: &[Value], pipeline: &str, key: &str, words: &str) {
    let errors = found.iter().filter(|d| d["severity"] == "DIAGNOSTIC_SEVERITY_ERROR" && d["pipeline"] == pipeline);
    let errors: Vec<_> = errors.collect();
    let right = errors.iter().any(|d| {
        d["file"] == format!("pipelines/{pipeline}/metadata.yaml")
            && d["key"].as_str().unwrap().contains(key)
            && d["message"].as_str().unwrap().contains(words)
            && !d["remedy"].as_str().unwrap().is_empty()
    });
    assert!(right, "no error of {pipeline} at `{key}` with `{words}` in {errors:#?}");
}

fn rubbish(project: &Project) {
    project.pipeline("good", "", &[step("data_loader", "load", LOAD)]);
    project.write("pipelines/broken/metadata.yaml", "blocks:\n- uuid: load\n  type: [x\n- uuid: b\n");
    let names = [("a", "c"), ("b", "a"), ("c", "b")];
    let cycle: String = names
        .iter()
        .map(|(own, upstream)| format!("- {{uuid: {own}, type: transformer, upstream_blocks: [{upstream}]}}\n"))
        .collect();
    project.write("pipelines/round/metadata.yaml", &format!("blocks:\n{cycle}"));
    for (name, _) in names {
        project.write(&format!("transformers/{name}.py"), "");
    }
    let lonely = "blocks:\n- {uuid: load, type: data_loader, upstream_blocks: [nobody]}\n";
    project.write("pipelines/lonely/metadata.yaml", lonely);
}

#[test]
fn one_bad_pipeline_hides_no_other() {
    let workspace = Workspace::new(shared(), "rubbish");
    rubbish(&workspace);
    let answer = workspace.deploy().with_code(65);
    let found = diagnostics(&answer);
    error_of(&found, "broken", "", "");
    assert!(found.iter().any(|d| d["pipeline"] == "broken" && d["line"].as_i64() > Some(0)), "{found:#?}");
    error_of(&found, "round", "blocks[0].upstream_blocks", "wait for each other");
    // Mage drops an unknown upstream block in silence; we say so.
    let lonely = found.iter().find(|d| d["pipeline"] == "lonely").unwrap();
    assert_eq!(lonely["key"], "blocks[0].upstream_blocks[0]", "{lonely:#?}");
    assert!(lonely["message"].as_str().unwrap().contains("nobody") && lonely["remedy"] != "", "{lonely:#?}");
    workspace.run("good").completed();
    let refused = workspace.orrery(&["run", "round"]);
    assert!(refused.code == 66 && refused.err.contains("round"), "{refused:?}");
}

#[test]
fn a_pipeline_that_breaks_keeps_its_last_good_version() {
    let workspace = Workspace::with_pipeline(shared(), "worse", "", &[step("data_loader", "load", LOAD)]);
    workspace.write("pipelines/p/metadata.yaml", "blocks: 7\n");
    let answer = workspace.deploy().with_code(65);
    assert_eq!(answer.json()["pipelines"][0]["change"], "PIPELINE_CHANGE_REJECTED");
    workspace.run("p").completed();
}

#[test]
fn pipelines_are_listed_in_their_versions() {
    let load = [step("data_loader", "load", LOAD)];
    let workspace = Workspace::with_pipeline(shared(), "listed", "description: brings one", &load);
    workspace.pipeline("q", "", &load);
    workspace.pipeline("p", "description: brings another", &load);
    workspace.deploy().with_code(0);
    let listed = workspace.orrery(&["pipelines"]).with_code(0).json();
    let told = |key: &str| listed["pipelines"].as_array().unwrap().iter().map(|p| p[key].clone()).collect::<Vec<_>>();
    assert_eq!(told("name"), ["p", "q"]);
    assert_eq!(told("version"), ["2", "1"]);
    assert_eq!(told("description"), ["brings another", ""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_manifest_that_climbs_out_is_refused() {
    let cluster = tokio::task::spawn_blocking(shared).await.unwrap();
    let (server, token_file) = cluster.server();
    let channel = client::connect(&[server.parse().unwrap()], Some(&Token::from_file(token_file).unwrap())).unwrap();
    for path in ["../../etc/cron.d/x", "a/../../x", "/etc/passwd", "a//b", "./a", "a\0b", "..", ""] {
        let file = ManifestFile { path: path.into(), sha256: "0".repeat(64), size_bytes: 1, executable: false };
        let request = CreateDeploymentRequest {
            workspace: "default".into(),
            manifest: Some(Manifest { project_name: "demo".into(), files: vec![file] }),
            validate_only: false,
            idempotency_key: String::new(),
            empty: false,
        };
        let request = client::within(Duration::from_secs(20), request);
        let refused = DeploymentServiceClient::new(channel.clone()).create_deployment(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{path:?}: {refused}");
    }
}
