//! A project's way into a workspace.

use crate::cluster::{Cluster, Files, pipeline_yaml, project, reason, sha256};
use proto::v1::deployment_service_client::DeploymentServiceClient;
use proto::v1::{
    CreateDeploymentRequest, CreateDeploymentResponse, FileHeader, Manifest, ManifestFile, PipelineChange as Change,
    PlanDeploymentRequest, UploadFilesRequest, upload_files_request::Part,
};
use serde_json::json;
use tonic::{Code, Status};

fn manifest(files: &Files) -> Manifest {
    let file = |(path, content): (&&str, &String)| ManifestFile {
        path: (*path).to_owned(),
        sha256: sha256(content),
        size_bytes: content.len() as i64,
        executable: false,
    };
    Manifest { project_name: "shop".to_owned(), files: files.iter().map(file).collect() }
}

fn part(part: Part) -> UploadFilesRequest {
    UploadFilesRequest { part: Some(part), workspace: "sales".to_owned() }
}

/// Plans, uploads what is missing and deploys; answers how many files travelled.
pub(crate) async fn deploy(cluster: &Cluster, files: &Files) -> (usize, CreateDeploymentResponse) {
    let mut client = DeploymentServiceClient::new(cluster.channel());
    let manifest = manifest(files);
    let plan = PlanDeploymentRequest { workspace: "sales".to_owned(), manifest: Some(manifest.clone()) };
    let missing = client.plan_deployment(plan).await.unwrap().into_inner().missing_sha256;
    let uploads: Vec<_> = files.values().filter(|content| missing.contains(&sha256(content))).collect();
    let parts = uploads.iter().flat_map(|content| {
        let header = FileHeader { sha256: sha256(content), size_bytes: content.len() as i64 };
        // In two chunks, as large files are.
        let (a, b) = content.as_bytes().split_at(content.len() / 2);
        [part(Part::Header(header)), part(Part::Chunk(a.to_vec())), part(Part::Chunk(b.to_vec()))]
    });
    let parts: Vec<_> = parts.collect();
    client.upload_files(tokio_stream::iter(parts)).await.unwrap();
    (missing.len(), create(cluster, manifest, false).await.unwrap())
}

/// Deploys files that are there already into another workspace.
pub(crate) async fn deploy_into(cluster: &Cluster, workspace: &str, files: &Files) {
    create_in(cluster, workspace, manifest(files), false).await.unwrap();
}

async fn create(
    cluster: &Cluster,
    manifest: Manifest,
    validate_only: bool,
) -> Result<CreateDeploymentResponse, Status> {
    create_in(cluster, "sales", manifest, validate_only).await
}

async fn create_in(
    cluster: &Cluster,
    workspace: &str,
    manifest: Manifest,
    validate_only: bool,
) -> Result<CreateDeploymentResponse, Status> {
    let (workspace, manifest) = (workspace.to_owned(), Some(manifest));
    send(cluster, CreateDeploymentRequest { workspace, manifest, validate_only, ..Default::default() }).await
}

async fn send(cluster: &Cluster, request: CreateDeploymentRequest) -> Result<CreateDeploymentResponse, Status> {
    let answer = DeploymentServiceClient::new(cluster.channel()).create_deployment(request).await;
    answer.map(tonic::Response::into_inner)
}

fn changes(response: &CreateDeploymentResponse) -> Vec<(&str, i64, Change)> {
    response.pipelines.iter().map(|p| (p.pipeline.as_str(), p.version, p.change())).collect()
}

#[tokio::test]
async fn a_project_is_deployed_changed_and_taken_back() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let mut files = project();
    let (travelled, first) = deploy(&cluster, &files).await;
    assert_eq!(travelled, files.len());
    assert_eq!(changes(&first), [("daily", 1, Change::Created)], "{:?}", first.diagnostics);

    let (travelled, again) = deploy(&cluster, &files).await;
    assert_eq!((travelled, changes(&again)), (0, vec![("daily", 1, Change::Unchanged)]));
    assert_eq!((&again.bundle_digest, again.deployed_at), (&first.bundle_digest, first.deployed_at));

    // One bad pipeline beside the good one, which gets the changed code.
    files.insert("data_loaders/load.py", "@data_loader\ndef load(*args, **kwargs):\n    return 2\n".to_owned());
    files.insert("pipelines/broken/metadata.yaml", "blocks: [\n".to_owned());
    let (travelled, second) = deploy(&cluster, &files).await;
    assert_eq!(travelled, 2);
    assert_eq!(changes(&second), [("broken", 0, Change::Rejected), ("daily", 2, Change::Updated)]);
    assert!(second.diagnostics.iter().any(|d| d.pipeline == "broken" && d.file.contains("broken")));

    // The good one breaks: its last good version stays and still runs.
    files.insert("pipelines/daily/metadata.yaml", "blocks: [\n".to_owned());
    let (_, third) = deploy(&cluster, &files).await;
    assert_eq!(changes(&third), [("broken", 0, Change::Rejected), ("daily", 2, Change::Rejected)]);
    cluster.run("sales", "daily").await;

    files.remove("pipelines/daily/metadata.yaml");
    files.insert("pipelines/weekly/metadata.yaml", pipeline_yaml("load", "data_loader"));
    let (_, fourth) = deploy(&cluster, &files).await;
    let expected = [("broken", 0, Change::Rejected), ("daily", 2, Change::Archived), ("weekly", 1, Change::Created)];
    assert_eq!(changes(&fourth), expected);
    let run = json!({ "workspace": "sales", "pipeline": "daily" });
    assert_eq!(cluster.refused("RunService/CreateRun", run).await.1, "PIPELINE_NOT_FOUND");
}

#[tokio::test]
async fn triggers_are_desired_state() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let mut files = project();
    let triggers = "triggers:\n- name: nightly\n  schedule_type: time\n  schedule_interval: '@daily'\n  status: active\n\
                    - name: manual\n  schedule_type: api\n";
    files.insert("pipelines/daily/triggers.yaml", triggers.to_owned());
    let (_, response) = deploy(&cluster, &files).await;
    assert!(response.diagnostics.iter().any(|d| d.message.contains("`manual`")), "{:?}", response.diagnostics);
    let read = async || -> Vec<(String, String, bool)> {
        let query = "SELECT name, source, archived_at IS NOT NULL FROM trigger ORDER BY name";
        let rows = cluster.database.client().await.query(query, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    };
    let own = |name: &str, source: &str, archived| (name.to_owned(), source.to_owned(), archived);
    assert_eq!(read().await, [own("manual", "built-in", false), own("nightly", "project", false)]);
    files.remove("pipelines/daily/triggers.yaml");
    deploy(&cluster, &files).await;
    assert_eq!(read().await, [own("manual", "built-in", false), own("nightly", "project", true)]);
}

#[tokio::test]
async fn what_only_validates_changes_nothing() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let files = project();
    let missing = create(&cluster, manifest(&files), true).await.unwrap_err();
    assert_eq!(missing.code(), Code::FailedPrecondition);
    let (_, _) = deploy(&cluster, &files).await;
    let answer = send(&cluster, emptied(&files, true, true)).await.unwrap();
    assert_eq!(changes(&answer), [("daily", 1, Change::Archived)]);
    assert_eq!(answer.deployed_at, None);
    cluster.run("sales", "daily").await;
}

/// The project without its pipelines.
fn emptied(files: &Files, validate_only: bool, empty: bool) -> CreateDeploymentRequest {
    let mut manifest = manifest(files);
    manifest.files.retain(|file| !file.path.starts_with("pipelines/"));
    let (workspace, manifest) = ("sales".to_owned(), Some(manifest));
    CreateDeploymentRequest { workspace, manifest, validate_only, empty, ..Default::default() }
}

#[tokio::test]
async fn a_folder_without_pipelines_archives_none_unless_it_is_meant() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let files = project();
    deploy(&cluster, &files).await;
    for validate_only in [true, false] {
        let refused = send(&cluster, emptied(&files, validate_only, false)).await.unwrap_err();
        let problem = rpc::status::Problem::from_status(&refused);
        assert_eq!((refused.code(), problem.reason.as_str()), (Code::FailedPrecondition, "PROJECT_EMPTY"));
        assert!(problem.message.contains("every pipeline of the workspace (1 in all)"), "{}", problem.message);
        assert!(problem.remedy.is_some_and(|remedy| remedy.contains("--empty")));
    }
    cluster.run("sales", "daily").await;
    let answer = send(&cluster, emptied(&files, false, true)).await.unwrap();
    assert_eq!(changes(&answer), [("daily", 1, Change::Archived)]);
    // There is nothing left that it could take away.
    let again = send(&cluster, emptied(&files, false, false)).await.unwrap();
    assert_eq!(changes(&again), []);
    assert!(again.diagnostics.iter().any(|d| d.file == "pipelines/"), "{:?}", again.diagnostics);
}

#[tokio::test]
async fn bundles_that_lie_are_refused() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let mut client = DeploymentServiceClient::new(cluster.channel());
    for path in ["../evil", "/etc/passwd", "a/../../b", "a//b", "", "a\\..\\b", "./a"] {
        let mut manifest = manifest(&project());
        manifest.files[0].path = path.to_owned();
        let plan = PlanDeploymentRequest { workspace: "sales".to_owned(), manifest: Some(manifest) };
        assert_eq!(client.plan_deployment(plan).await.unwrap_err().code(), Code::InvalidArgument, "{path}");
    }
    let header = FileHeader { sha256: sha256("something else"), size_bytes: 3 };
    let lie = vec![part(Part::Header(header)), part(Part::Chunk(b"abc".to_vec()))];
    let refused = client.upload_files(tokio_stream::iter(lie)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let endless = FileHeader { sha256: sha256("x"), size_bytes: i64::MAX };
    let refused = client.upload_files(tokio_stream::iter(vec![part(Part::Header(endless))])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_upload_is_in_the_trail_of_the_workspace_that_it_is_for() {
    let cluster = Cluster::new().await;
    let eve = cluster.person("eve@example.org", "ROLE_UNSPECIFIED").await;
    cluster.workspace("sales").await;
    deploy(&cluster, &project()).await;
    let upload = async |workspace: &str| {
        let header = FileHeader { sha256: sha256("eves"), size_bytes: 4 };
        let parts = [Part::Header(header), Part::Chunk(b"eves".to_vec())];
        let parts = parts.map(|part| UploadFilesRequest { part: Some(part), workspace: workspace.to_owned() });
        DeploymentServiceClient::new(cluster.channel_as(&eve)).upload_files(tokio_stream::iter(parts)).await
    };
    assert_eq!(upload("sales").await.unwrap_err().code(), Code::NotFound, "it is not hers");
    let trail = cluster.call("AuditService/ListAuditEntries", json!({ "workspace": "sales" })).await;
    let uploads: Vec<_> = trail["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| ["method", "actor", "object", "outcome"].map(|field| entry[field].as_str().unwrap().to_owned()))
        .filter(|entry| entry[0] == "DeploymentService/UploadFiles")
        .collect();
    let entry = |actor: &str, outcome: &str| {
        ["DeploymentService/UploadFiles", actor, "workspace sales", outcome].map(str::to_owned)
    };
    assert_eq!(uploads, [entry("eve@example.org", "denied"), entry("owner@localhost", "ok")]);
    // Without a workspace they are for her own project.
    assert_eq!(upload("").await.unwrap().into_inner().stored_files, 1);
}

#[tokio::test]
async fn a_project_stores_no_more_than_it_may() {
    let limit = 20_000;
    let cluster = Cluster::with(|settings| settings.limits.project_bytes = limit).await;
    cluster.workspace("sales").await;
    deploy(&cluster, &project()).await;
    let db = cluster.database.client().await;
    let counted: i64 = db.query_one("SELECT sum(size_bytes)::bigint FROM project_file", &[]).await.unwrap().get(0);
    let held: i64 = project().values().map(|content| content.len() as i64).sum();
    assert!((1..=held).contains(&counted) && held < 10_000, "{counted} of {held}: each content once");
    // A model counts as it is announced; the sentence names the use, the limit and what helps.
    let model = |name: &str, size: i64| json!({ "workspace": "sales", "name": name, "fileName": "m", "sizeBytes": size.to_string(), "sha256": sha256(name) });
    cluster.call("ModelService/StartUpload", model("small", 10_000)).await;
    let refused = cluster.post("ModelService/StartUpload", model("large", 10_000)).await;
    assert_eq!(reason(&refused), "PROJECT_STORAGE_FULL");
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    let used = format!("holds {} bytes", counted + 10_000);
    assert!(
        message.contains(&used) && message.contains("20000") && message.contains("limits.project_bytes"),
        "{message}"
    );
    // A file that is too much is not stored, and what is there may be deployed again.
    let content = "x".repeat(11_000);
    let header = FileHeader { sha256: sha256(&content), size_bytes: content.len() as i64 };
    let upload = async |workspace: &str| {
        let whole = [Part::Header(header.clone()), Part::Chunk(content.clone().into_bytes())];
        let parts: Vec<_> = whole
            .into_iter()
            .map(|part| UploadFilesRequest { part: Some(part), workspace: workspace.to_owned() })
            .collect();
        DeploymentServiceClient::new(cluster.channel()).upload_files(tokio_stream::iter(parts)).await
    };
    assert_eq!(upload("sales").await.unwrap_err().code(), Code::ResourceExhausted);
    let files = [("big.txt", content.clone())].into();
    let plan = PlanDeploymentRequest { workspace: "sales".to_owned(), manifest: Some(manifest(&files)) };
    let missing = DeploymentServiceClient::new(cluster.channel()).plan_deployment(plan).await.unwrap().into_inner();
    assert_eq!(missing.missing_sha256.len(), 1);
    create(&cluster, manifest(&project()), false).await.unwrap();
    // Another project has room of its own, and a wrong size in the announcement makes nothing free.
    cluster.call("ProjectService/CreateProject", json!({ "name": "other" })).await;
    cluster.call("WorkspaceService/CreateWorkspace", json!({ "name": "there", "project": "other" })).await;
    upload("there").await.unwrap();
    assert_eq!(upload("sales").await.unwrap_err().code(), Code::ResourceExhausted);
}

/// What the project of `sales` holds, as a refusal tells it.
async fn held(cluster: &Cluster) -> i64 {
    let huge = json!({ "workspace": "sales", "name": "huge", "fileName": "m", "sizeBytes": "1000000", "sha256": sha256("huge") });
    let refused = cluster.post("ModelService/StartUpload", huge).await;
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    message.split("holds ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect(&message)
}

#[tokio::test]
async fn only_what_is_stored_is_counted() {
    let cluster = Cluster::with(|settings| settings.limits.project_bytes = 900_000).await;
    cluster.workspace("sales").await;
    deploy(&cluster, &project()).await;
    let before = held(&cluster).await;
    let of_sales = |part: Part| UploadFilesRequest { part: Some(part), workspace: "sales".to_owned() };
    let content = "y".repeat(500_000);
    let header = |sha256: String| of_sales(Part::Header(FileHeader { sha256, size_bytes: 500_000 }));
    let chunk = || of_sales(Part::Chunk(content.clone().into_bytes()));
    let mut client = DeploymentServiceClient::new(cluster.channel());
    let none_counted = async |what: &str| {
        testkit::wait_for(what, std::time::Duration::from_secs(20), async || {
            (held(&cluster).await == before).then_some(())
        })
        .await;
    };
    // Content that is not what its header says, and one that ends early.
    for parts in [
        vec![header(sha256("something else")), chunk()],
        vec![header(sha256(&content)), of_sales(Part::Chunk(vec![b'y'; 7]))],
    ] {
        client.upload_files(tokio_stream::iter(parts)).await.unwrap_err();
        none_counted("an upload that failed").await;
    }
    // One whose client goes away in the middle: it counts until then.
    let (sender, parts) = tokio::sync::mpsc::channel(4);
    let mut going = client.clone();
    let upload =
        tokio::spawn(async move { going.upload_files(tokio_stream::wrappers::ReceiverStream::new(parts)).await });
    sender.send(header(sha256(&content))).await.unwrap();
    testkit::wait_for("the upload to count", std::time::Duration::from_secs(20), async || {
        (held(&cluster).await == before + 500_000).then_some(())
    })
    .await;
    let other = [of_sales(Part::Header(FileHeader { sha256: sha256("z"), size_bytes: 400_001 }))];
    assert_eq!(client.upload_files(tokio_stream::iter(other)).await.unwrap_err().code(), Code::ResourceExhausted);
    upload.abort();
    none_counted("an upload that was left").await;
    drop(sender);
    // Of two that bring one file at once, the second is no longer counted when the first fails; it is when it has come.
    let (sender, parts) = tokio::sync::mpsc::channel(4);
    let mut first = client.clone();
    let failing =
        tokio::spawn(async move { first.upload_files(tokio_stream::wrappers::ReceiverStream::new(parts)).await });
    sender.send(header(sha256(&content))).await.unwrap();
    testkit::wait_for("the first to count", std::time::Duration::from_secs(20), async || {
        (held(&cluster).await == before + 500_000).then_some(())
    })
    .await;
    let (beside, parts) = tokio::sync::mpsc::channel(4);
    let mut second = client.clone();
    let coming =
        tokio::spawn(async move { second.upload_files(tokio_stream::wrappers::ReceiverStream::new(parts)).await });
    beside.send(header(sha256(&content))).await.unwrap();
    beside.send(of_sales(Part::Chunk(content.as_bytes()[..9].to_vec()))).await.unwrap();
    drop(sender);
    failing.await.unwrap().unwrap_err();
    beside.send(of_sales(Part::Chunk(content.as_bytes()[9..].to_vec()))).await.unwrap();
    drop(beside);
    coming.await.unwrap().unwrap();
    testkit::wait_for("the second to count", std::time::Duration::from_secs(20), async || {
        (held(&cluster).await == before + 500_000).then_some(())
    })
    .await;
    assert_eq!(held(&cluster).await, before + 500_000);
    let again = [header(sha256(&content)), chunk()];
    client.upload_files(tokio_stream::iter(again)).await.unwrap();
    assert_eq!(held(&cluster).await, before + 500_000, "what is there costs nothing");

    // An upload of a model counts as announced, and no more when its content is refused.
    let model = vec![7; 1_000];
    let mut lie = crate::models::start("fraud", &model);
    lie["sha256"] = sha256("other").into();
    let began = cluster.call("ModelService/StartUpload", lie).await;
    assert_eq!(held(&cluster).await, before + 501_000);
    let url = cluster.url(&format!("/api/v1/uploads/{}?offset=0", began["uploadId"].as_str().unwrap()));
    let authorization = format!("Bearer {}", crate::cluster::TOKEN);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/octet-stream")];
    let refused = crate::http::send(crate::http::request(::http::Method::PUT, &url, &headers, model.clone())).await;
    assert_eq!(reason(&refused), "CONTENT_NOT_AS_ANNOUNCED");
    assert_eq!(held(&cluster).await, before + 500_000);
    // An archived one keeps its versions, which can be downloaded; so it goes on counting, and coming back costs nothing.
    crate::models::upload(&cluster, crate::models::start("fraud", &model), &model).await;
    cluster.call("ModelService/ArchiveModel", json!({ "workspace": "sales", "name": "fraud" })).await;
    assert_eq!(held(&cluster).await, before + 501_000);
}
