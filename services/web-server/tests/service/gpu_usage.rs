//! Who sees of the account of GPUs what, and by what it is told apart.

use crate::cluster::{Cluster, TOKEN};
use serde_json::{Value, json};

const LIST: &str = "GpuUsageService/ListGpuUsage";

/// Over midnight four hours of half a GPU of Ada's, half an hour of a block beside it, and an hour of Eve's elsewhere.
const ACCOUNT: &str = "
    INSERT INTO gpu_usage (holder, held_at, freed_at, project_id, queue_id, workspace_id, person_id, model, gpu_milli)
    SELECT gen_random_uuid(), v.held_at::timestamptz, v.freed_at::timestamptz, w.project_id,
           '00000000-0000-0000-0000-000000000000', w.id, u.id, v.model, v.milli
      FROM (VALUES ('lab', 'ada@example.org', '2026-03-01T22:00Z', '2026-03-02T02:00Z', 'A10', 500),
                   ('lab', '', '2026-03-02T03:00Z', '2026-03-02T03:30Z', 'A10', 1000),
                   ('den', 'eve@example.org', '2026-03-02T10:00Z', '2026-03-02T11:00Z', 'T4', 1000))
           AS v (workspace, person, held_at, freed_at, model, milli)
      JOIN workspace w ON w.name = v.workspace
      LEFT JOIN user_account u ON u.email = v.person";

struct World {
    cluster: Cluster,
    /// Works in `lab` of `acme`.
    ada: String,
    /// Administers `acme`.
    bob: String,
    /// Works in `den`, of her own project.
    eve: String,
}

async fn world() -> World {
    let cluster = Cluster::new().await;
    let person = async |name: &str| cluster.person(&format!("{name}@example.org"), "ROLE_UNSPECIFIED").await;
    let (ada, bob, eve) = (person("ada").await, person("bob").await, person("eve").await);
    cluster.call("ProjectService/CreateProject", json!({ "name": "acme" })).await;
    for (name, role) in [("ada", "ROLE_EDITOR"), ("bob", "ROLE_ADMIN")] {
        let member = json!({ "email": format!("{name}@example.org"), "role": role });
        cluster.call("ProjectService/SetProjectMember", json!({ "project": "acme", "member": member })).await;
    }
    cluster.call_as(&ada, "WorkspaceService/CreateWorkspace", json!({ "name": "lab", "project": "acme" })).await;
    cluster.call_as(&eve, "WorkspaceService/CreateWorkspace", json!({ "name": "den" })).await;
    cluster.database.client().await.batch_execute(ACCOUNT).await.unwrap();
    World { cluster, ada, bob, eve }
}

/// Of two days in March, by this.
fn march(by: &[&str]) -> Value {
    let by: Vec<String> = by.iter().map(|by| format!("GPU_USAGE_GROUPING_{}", by.to_uppercase())).collect();
    json!({ "since": "2026-03-01T00:00:00Z", "until": "2026-03-03T00:00:00Z", "groupBy": by })
}

/// A field of each line, with its GPU-seconds.
fn lines(answer: &Value, field: &str) -> Vec<(String, i64)> {
    let line = |line: &Value| {
        let milli_seconds: i64 = line["gpuMilliSeconds"].as_str().unwrap().parse().unwrap();
        (line[field].as_str().unwrap().to_owned(), milli_seconds / 1_000)
    };
    answer["usage"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test]
async fn each_sees_their_own_and_administrators_their_projects() {
    let World { cluster, ada, bob, eve } = world().await;
    let seen = async |token: &str, by: &str| lines(&cluster.call_as(token, LIST, march(&[by])).await, by);
    let list = |lines: &[(&str, i64)]| lines.iter().map(|(of, s)| ((*of).to_owned(), *s)).collect::<Vec<_>>();
    assert_eq!(seen(TOKEN, "workspace").await, list(&[("den", 3_600), ("lab", 9_000)]));
    assert_eq!(seen(&bob, "person").await, list(&[("", 1_800), ("ada@example.org", 7_200)]));
    assert_eq!(seen(&ada, "workspace").await, list(&[("lab", 7_200)]), "the block is nobody's");
    assert_eq!(seen(&eve, "workspace").await, list(&[("den", 3_600)]));
    // She started something there once, and is no member any more: it was hers.
    let elsewhere = "UPDATE gpu_usage SET project_id = (SELECT id FROM project WHERE name = 'acme') WHERE model = 'T4'";
    cluster.database.client().await.execute(elsewhere, &[]).await.unwrap();
    assert_eq!(seen(&eve, "project").await, list(&[("acme", 3_600)]));
    assert_eq!(seen(&bob, "project").await, list(&[("acme", 12_600)]));
    let mut narrow = march(&["person"]);
    narrow["project"] = json!("acme");
    assert_eq!(lines(&cluster.call_as(&ada, LIST, narrow.clone()).await, "person").len(), 1);
    assert_eq!(lines(&cluster.call_as(&bob, LIST, narrow.clone()).await, "person").len(), 3);
    assert_eq!(cluster.refused_as(&eve, LIST, narrow).await, "PROJECT_NOT_FOUND");
}

#[tokio::test]
async fn it_is_told_apart_by_what_is_asked_for_and_paged() {
    let World { cluster, .. } = world().await;
    let days = cluster.call(LIST, march(&["day"])).await;
    let expected = [("2026-03-01".to_owned(), 3_600), ("2026-03-02".to_owned(), 9_000)];
    assert_eq!(lines(&days, "day"), expected);
    let all = cluster.call(LIST, march(&[])).await;
    assert_eq!((lines(&all, "model"), &all["usage"][0]["lives"]), (vec![(String::new(), 12_600)], &json!("3")));
    let mut page = march(&["model", "day"]);
    page["pageSize"] = json!(2);
    let first = cluster.call(LIST, page.clone()).await;
    assert_eq!(first["usage"][1]["day"], "2026-03-02");
    page["pageToken"] = first["nextPageToken"].clone();
    let last = cluster.call(LIST, page.clone()).await;
    assert_eq!((lines(&last, "model"), &last["nextPageToken"]), (vec![("T4".to_owned(), 3_600)], &json!("")));
    page["groupBy"] = json!(["GPU_USAGE_GROUPING_DAY"]);
    assert_eq!(cluster.refused(LIST, page).await.1, "INVALID_FIELD");
    assert_eq!(cluster.refused(LIST, march(&["unspecified"])).await.1, "INVALID_FIELD");
    let years = json!({ "since": "2024-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z" });
    assert_eq!(cluster.refused(LIST, years).await.1, "INVALID_FIELD");
}

#[tokio::test]
async fn what_is_held_now_counts_and_is_told() {
    let World { cluster, ada, .. } = world().await;
    let spec = json!({ "workspace": "lab", "spec": { "gpus": 1, "smPercent": 40, "models": ["A10"] } });
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", spec).await;
    cluster.call_as(&ada, "RuntimeService/StartRuntime", json!({ "workspace": "lab" })).await;
    let place = "
        INSERT INTO placement (holder, pool, node_id, project_id, queue_id, state, cpu_milli, memory_bytes, effective_milli, model,
                               created_at)
        SELECT holder, pool, '00000000-0000-0000-0000-0000000000aa', project_id, queue_id, 'held', 1, 1, 400, 'A10',
               now() - interval '1 hour' FROM runtime";
    cluster.database.client().await.batch_execute(place).await.unwrap();
    let by = json!({ "groupBy": ["GPU_USAGE_GROUPING_PERSON"] });
    let answer = cluster.call_as(&ada, LIST, by).await;
    let [(person, seconds)] = lines(&answer, "person").try_into().unwrap();
    assert_eq!((person.as_str(), &answer["usage"][0]["heldGpuMilli"]), ("ada@example.org", &json!("400")));
    assert!((1_440..1_500).contains(&seconds), "{seconds}");
    // Of a time that is over, nothing is held now.
    let past = cluster.call_as(&ada, LIST, march(&["person"])).await;
    assert_eq!((lines(&past, "person")[0].1, &past["usage"][0]["heldGpuMilli"]), (7_200, &json!("0")));
}
