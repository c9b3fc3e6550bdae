//! A look at outputs, and their end.

use crate::cluster::Cluster;
use serde_json::{Value, json};
use uuid::Uuid;

async fn run_of(cluster: &Cluster, spec: Value) -> Uuid {
    cluster.workspace("sales").await;
    let blocks = json!([{ "uuid": "a/b", "name": "a/b", "kind": "transformer", "language": "python", "upstream": [] }]);
    let mut whole = json!({ "name": "daily", "kind": "python", "blocks": blocks });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    cluster.put_pipeline("sales", "daily", whole).await;
    cluster.run("sales", "daily").await
}

const LEFT: &str = r#"INSERT INTO block_run (run_id, block, status, lease, completed_at, output)
    VALUES ($1, 'a/b', 'completed', 3, now(),
    '{"outputs": [{"name": "output_0", "kind": "dataframe", "rows": 7, "size_bytes": 512}], "store": ""}')"#;
const END: &str = "UPDATE run SET status = 'completed', completed_at = now() - interval '40 days',
                      created_at = now() - interval '41 days' WHERE id = $1";

#[tokio::test]
async fn what_was_noted_is_shown_and_its_absence_is_told() {
    let cluster = Cluster::new().await;
    let run = run_of(&cluster, json!({})).await;
    let ask = json!({ "runId": run, "block": "a/b" });
    assert_eq!(cluster.refused("OutputService/GetOutputs", ask.clone()).await.1, "OUTPUT_NOT_FOUND");
    cluster.change(run, LEFT).await;
    let seen = cluster.call("OutputService/GetOutputs", ask.clone()).await;
    assert_eq!((&seen["outputs"][0]["kind"], &seen["outputs"][0]["rows"]), (&json!("dataframe"), &json!("7")));
    assert!(seen["unavailable"].as_str().unwrap().contains("nothing was noted"), "{seen}");

    let folder = cluster.folder.path().join("outputs").join(run.to_string()).join("a%2fb/_/3");
    std::fs::create_dir_all(&folder).unwrap();
    let note = json!({ "version": 1, "outputs": [
        { "name": "output_0", "columns": [["n", "int64"]], "sample": [[1], [null]], "complete": true }
    ]});
    std::fs::write(folder.join("preview.json"), note.to_string()).unwrap();
    let seen = cluster.call("OutputService/GetOutputs", ask.clone()).await;
    let output = &seen["outputs"][0];
    assert_eq!((&output["columns"][0]["name"], &output["sample"]), (&json!("n"), &json!([[1.0], [null]])), "{seen}");
    assert_eq!((&output["complete"], &seen["unavailable"]), (&json!(true), &json!("")));
    let by_path = cluster.get(&format!("/api/v1/runs/{run}/blocks/a%2Fb/outputs?name=output_0")).await;
    assert_eq!(by_path.json()["outputs"][0]["sample"], json!([[1.0], [null]]));

    std::fs::write(folder.join("preview.json"), "{").unwrap();
    assert!(
        cluster.call("OutputService/GetOutputs", ask.clone()).await["unavailable"]
            .as_str()
            .unwrap()
            .contains("cannot be read")
    );
    let foreign = r#"UPDATE block_run SET output = output || '{"store": "s3://lake/x"}' WHERE run_id = $1"#;
    cluster.change(run, foreign).await;
    let seen = cluster.call("OutputService/GetOutputs", ask.clone()).await;
    assert!(seen["unavailable"].as_str().unwrap().contains("project_outputs"), "{seen}");
    for wrong in [
        json!({ "runId": run, "block": "a/b", "name": "output_9" }),
        json!({ "runId": run, "block": "a/b", "child": 2 }),
    ] {
        assert_eq!(cluster.refused("OutputService/GetOutputs", wrong).await.1, "OUTPUT_NOT_FOUND");
    }
}

#[tokio::test]
async fn files_come_as_they_were_stored_and_no_others() {
    let cluster = Cluster::new().await;
    let run = run_of(&cluster, json!({})).await;
    cluster.change(run, LEFT).await;
    let path = |query: &str| format!("/api/v1/runs/{run}/blocks/a%2Fb/outputs/output_0/content{query}");
    let absent = cluster.get(&path("")).await;
    assert!(absent.json()["message"].as_str().unwrap().contains("not where they were written"), "{:?}", absent.body);

    let folder = cluster.folder.path().join("outputs").join(run.to_string()).join("a%2fb/_/3");
    std::fs::create_dir_all(folder.join("output_0")).unwrap();
    let (table, types) = ("output_0/data.parquet", "output_0/data_column_types.json");
    let manifest = json!({ "version": 1, "outputs": [
        { "name": "output_0", "kind": "dataframe", "files": [table, types], "rows": 7, "size_bytes": 512 }
    ]});
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    // More than a message holds, and not a multiple of it.
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    std::fs::write(folder.join(table), &content).unwrap();
    std::fs::write(folder.join(types), "{}").unwrap();
    std::fs::write(folder.join("other"), "not an output's").unwrap();
    let whole = cluster.get(&path("")).await;
    assert!(whole.body == content, "{} of {} bytes", whole.body.len(), content.len());
    assert_eq!(whole.headers["content-length"], "3000001");
    let about: Value = serde_json::from_slice(whole.headers["orrery-output"].as_bytes()).unwrap();
    assert_eq!(about, json!({ "name": table, "kind": "dataframe", "files": [table, types] }));
    let second = cluster.get(&path(&format!("?file={types}"))).await;
    assert_eq!(second.body, "{}");
    for wrong in ["other", "manifest.json", "../3/output_0/data.parquet", "/etc/passwd"] {
        let answer = cluster.get(&path(&format!("?file={wrong}"))).await;
        assert!(
            answer.json()["message"].as_str().unwrap().contains(&format!("has no file `{wrong}`")),
            "{:?}",
            answer.body
        );
    }
    let wrong = cluster.get(&path("").replace("output_0", "output_9")).await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.json()["details"][0]["debug"]["reason"].as_str()),
        (404, Some("OUTPUT_NOT_FOUND"))
    );
    assert_eq!(cluster.get(&path("").replace("a%2Fb", "none")).await.status, 404);

    // One of very many files: a header has no room for their names, nor has a refusal.
    let parts: Vec<String> = (0..5_000).map(|part| format!("output_0/{part}/data.json")).collect();
    let manifest = json!({ "version": 1, "outputs": [{ "name": "output_0", "kind": "parts", "files": parts }] });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    std::fs::create_dir_all(folder.join("output_0/0")).unwrap();
    std::fs::write(folder.join(&parts[0]), "[]").unwrap();
    let first = cluster.get(&path("")).await;
    let about: Value = serde_json::from_slice(first.headers["orrery-output"].as_bytes()).unwrap();
    assert_eq!((about, &*first.body), (json!({ "name": parts[0], "kind": "parts" }), b"[]".as_slice()));
    let refused = cluster.get(&path("?file=other")).await;
    assert!(refused.json()["message"].as_str().unwrap().ends_with("output_0/9/data.json and 4990 others"));
    let ask = json!({ "runId": run, "block": "a/b", "name": "output_0" });
    let lines = cluster.post("OutputService/DownloadOutput", ask).await.body;
    let line: Value = serde_json::from_slice(lines.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(line["file"]["files"], json!(parts));

    cluster.change(run, "UPDATE run SET outputs_expired_at = now() WHERE id = $1").await;
    let gone = cluster.get(&path("")).await;
    assert!(gone.json()["message"].as_str().unwrap().contains("are gone since"), "{:?}", gone.body);
}

#[tokio::test]
async fn cleaning_counts_first_and_needs_a_time() {
    let cluster = Cluster::new().await;
    let old = run_of(&cluster, json!({})).await;
    cluster.change(old, LEFT).await;
    cluster.change(old, END).await;
    let latest = cluster.run("sales", "daily").await;
    cluster.change(latest, END).await;
    let clean = |extra: Value| {
        let mut message = json!({ "workspace": "sales" });
        message.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        message
    };
    let refused = cluster.refused("OutputService/CleanOutputs", clean(json!({}))).await;
    assert_eq!(refused, ("failed_precondition".to_owned(), "NO_RETENTION".to_owned()));
    let period = "UPDATE pipeline_version SET spec = spec || '{\"outputs_retention_s\": 86400}'
                   WHERE pipeline_id = (SELECT pipeline_id FROM run WHERE id = $1)";
    cluster.change(old, period).await;
    let counted = cluster.call("OutputService/CleanOutputs", clean(json!({ "dryRun": true }))).await;
    assert_eq!((&counted["pipelines"][0]["runs"], &counted["pipelines"][0]["sizeBytes"]), (&json!("1"), &json!("512")));
    let ask = json!({ "runId": old, "block": "a/b" });
    assert_eq!(cluster.call("OutputService/GetOutputs", ask.clone()).await["expiredAt"], Value::Null);
    cluster.call("OutputService/CleanOutputs", clean(json!({ "pipeline": "daily" }))).await;
    let seen = cluster.call("OutputService/GetOutputs", ask).await;
    assert!(seen["expiredAt"].is_string() && seen["outputs"][0]["rows"] == "7", "{seen}");
    let none = cluster.refused("OutputService/CleanOutputs", clean(json!({ "pipeline": "none" }))).await;
    assert_eq!(none.1, "PIPELINE_NOT_FOUND");
}
