//! Volumes between the rows that web-servers write and the executors that make them.

use crate::world::{POOL, WAIT, World};
use domain::id::{ProjectId, QueueId, VolumeId};
use serde_json::json;
use store::volumes;
use testkit::wait_for;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn executors_make_what_is_wanted_and_a_life_mounts_it_by_its_id() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let (project, other) = (world.project("p", None).await, world.project("q", None).await);
    let id = VolumeId(Uuid::now_v7());
    let mut db = world.store.client().await.unwrap();
    let transaction = db.transaction().await.unwrap();
    let (name, pool, size_bytes) = ("data", POOL, 1 << 30);
    let new = volumes::New { id, project, name, pool, size_bytes, storage_class: "fast", created_by: None };
    assert!(volumes::insert(&transaction, &new).await.unwrap());
    // The same name in another project, and in another pool, is another volume.
    let theirs = volumes::New { id: VolumeId(Uuid::now_v7()), project: other, ..new.clone() };
    assert!(volumes::insert(&transaction, &theirs).await.unwrap());
    let elsewhere = volumes::New { id: VolumeId(Uuid::now_v7()), name: "far", pool: "elsewhere", ..new.clone() };
    assert!(volumes::insert(&transaction, &elsewhere).await.unwrap());
    transaction.commit().await.unwrap();
    let state = async || volumes::get(&world.store.client().await.unwrap(), id).await.unwrap();
    wait_for("an executor to make it", WAIT, async || (state().await.state.as_deref() == Some("ready")).then_some(()))
        .await;

    let mounts = json!([{ "volume": "data", "path": "/data" }, { "volume": "far", "path": "/far" }]);
    let queue = QueueId(Uuid::nil());
    let workspace = world.workspace("w", project, queue, (1, 400), json!({ "mounts": mounts })).await;
    scheduler.start(workspace).await.unwrap();
    world.until(workspace, "running").await;
    let spec = executor.change(|state| state.runtimes.values().next().unwrap().order.spec.clone());
    let spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
    assert_eq!((&spec["mounts"][0]["id"], spec["mounts"][1].get("id")), (&json!(id), None));
    let uses = volumes::uses(&db, project, &[id, elsewhere.id], 9).await.unwrap();
    assert_eq!(uses.iter().map(|one| (one.volume, one.workspace.as_str())).collect::<Vec<_>>(), [(id, "w")]);
    scheduler.stop(workspace, "USER").await.unwrap();
    world.until(workspace, "stopped").await;
    assert!(volumes::uses(&db, project, &[id], 9).await.unwrap().is_empty());

    // Grown, then deleted: only what changed is said again.
    let transaction = db.transaction().await.unwrap();
    assert!(volumes::grow(&transaction, id, 2 << 30).await.unwrap());
    assert!(!volumes::grow(&transaction, id, 1 << 30).await.unwrap(), "none gets smaller");
    transaction.commit().await.unwrap();
    wait_for("it to grow", WAIT, async || (state().await.capacity_bytes == 2 << 30).then_some(())).await;
    let transaction = db.transaction().await.unwrap();
    volumes::delete(&transaction, id).await.unwrap();
    transaction.commit().await.unwrap();
    wait_for("it to be gone", WAIT, async || (state().await.state.as_deref() == Some("gone")).then_some(())).await;
    let told: Vec<(i64, bool, String)> = executor.change(|state| {
        let own = state.volumes.iter().filter(|volume| volume.id == id.to_vec());
        own.map(|volume| (volume.size_bytes, volume.deleted, volume.storage_class.clone())).collect()
    });
    let said = |gib: i64, deleted| (gib << 30, deleted, "fast".to_owned());
    assert_eq!(told, [said(1, false), said(2, false), said(2, true)]);

    // A new owner of the pool says everything again, and what is gone stays gone.
    scheduler.kill();
    let next = world.scheduler().await;
    world.give_all(&next).await;
    wait_for("it to be told again", WAIT, async || {
        let deleted = executor.change(|state| state.volumes.iter().filter(|volume| volume.deleted).count());
        (deleted > 1).then_some(())
    })
    .await;
    assert_eq!(state().await.state.as_deref(), Some("gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_begins_while_its_volume_is_deleted_has_none() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let id = volume(&world, project).await;
    let mut db = world.store.client().await.unwrap();
    let mounts = json!([{ "volume": "data", "path": "/data" }]);
    let workspace = world.workspace("w", project, QueueId(Uuid::nil()), (1, 400), json!({ "mounts": mounts })).await;

    // Nobody sees yet that it is deleted: the start finds it, and waits where it would be written.
    let transaction = db.transaction().await.unwrap();
    volumes::lock(&transaction, project, "data").await.unwrap();
    volumes::delete(&transaction, id).await.unwrap();
    assert!(volumes::uses(&transaction, project, &[id], 9).await.unwrap().is_empty());
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                 AND query LIKE '%FROM volume %FOR SHARE%'";
    let deleted = async {
        wait_for("the start to wait", WAIT, async || (world.count(waits).await > 0).then_some(())).await;
        transaction.commit().await.unwrap();
    };
    let (started, ()) = tokio::join!(scheduler.start(workspace), deleted);
    started.unwrap();
    world.until(workspace, "running").await;
    let spec = executor.change(|state| state.runtimes.values().next().unwrap().order.spec.clone());
    let spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
    assert_eq!((&spec["mounts"][0]["volume"], spec["mounts"][0].get("id")), (&json!("data"), None));
    let of_deleted = "SELECT count(*) FROM runtime r, volume v WHERE strpos(r.spec::text, v.id::text) > 0";
    assert_eq!(world.count(of_deleted).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_mounts_a_volume_goes_where_it_is_mounted_or_waits_for_room_there() {
    let (world, scheduler, _executor) = World::simple(&[1, 1]).await;
    let project = world.project("p", None).await;
    volume(&world, project).await;
    let mounting = async |name: &str, milli: u32| {
        let mounts = json!({ "mounts": [{ "volume": "data", "path": "/data" }] });
        world.workspace(name, project, QueueId(Uuid::nil()), (1, milli), mounts).await
    };
    let message = async |workspace: domain::id::WorkspaceId| -> String {
        let sql = "SELECT message FROM runtime WHERE workspace_id = $1";
        world.database.client().await.query_one(sql, &[&workspace.0]).await.unwrap().get(0)
    };
    let waits_for = async |workspace, words: &str| {
        wait_for(words, WAIT, async || message(workspace).await.contains(words).then_some(())).await;
    };
    let nodes = "SELECT count(DISTINCT node_id) FROM placement";

    // The other node has a whole device, and is no place for it.
    let (first, whole, part) =
        (mounting("first", 400).await, mounting("whole", 1000).await, mounting("part", 400).await);
    scheduler.start(first).await.unwrap();
    world.until(first, "running").await;
    scheduler.start(whole).await.unwrap();
    waits_for(whole, "volume `data` is mounted by `first` on node-").await;
    scheduler.start(part).await.unwrap();
    world.until(part, "running").await;
    assert_eq!(world.count(nodes).await, 1);
    for workspace in [first, part] {
        scheduler.stop(workspace, "USER").await.unwrap();
    }
    world.until(whole, "running").await;

    // Of those who come at once, one mounts it.
    scheduler.stop(whole, "USER").await.unwrap();
    world.until(whole, "stopped").await;
    let other = mounting("other", 1000).await;
    let (one, two) = tokio::join!(scheduler.start(whole), scheduler.start(other));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    let running = "SELECT count(*) FROM runtime WHERE state = 'running'";
    wait_for("one of them", WAIT, async || (world.count(running).await == 1).then_some(())).await;
    let late = if world.stage(whole).await == "running" { other } else { whole };
    waits_for(late, "volume `data` is mounted by").await;
    assert_eq!((world.count(nodes).await, world.count(running).await), (1, 1));
    let early = if late == other { whole } else { other };
    scheduler.stop(early, "USER").await.unwrap();
    world.until(late, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_mounts_a_volume_goes_where_it_can_be_mounted() {
    let (world, scheduler, _executor) = World::simple(&[1, 1]).await;
    let project = world.project("p", None).await;
    let mut db = world.store.client().await.unwrap();
    let transaction = db.transaction().await.unwrap();
    let mut workspaces = Vec::new();
    for (name, volume, milli) in [
        ("first", "a-at-node-0", 400),
        ("second", "b-at-node-1", 400),
        ("third", "c-at-node-0", 1000),
        ("far", "d-at-moon", 400),
    ] {
        let (id, storage_class, created_by) = (VolumeId(Uuid::now_v7()), "", None);
        let new = volumes::New { id, project, name: volume, pool: POOL, size_bytes: 1, storage_class, created_by };
        assert!(volumes::insert(&transaction, &new).await.unwrap());
        let mounts = json!({ "mounts": [{ "volume": volume, "path": "/data" }] });
        workspaces.push(world.workspace(name, project, QueueId(Uuid::nil()), (1, milli), mounts).await);
    }
    transaction.commit().await.unwrap();
    let made = "SELECT count(*) FROM volume_state WHERE state = 'ready'";
    wait_for("the volumes", WAIT, async || (world.count(made).await == 4).then_some(())).await;
    for workspace in &workspaces[..2] {
        scheduler.start(*workspace).await.unwrap();
        world.until(*workspace, "running").await;
    }
    let placed = "SELECT count(*) FROM runtime r JOIN placement p USING (holder) JOIN node n ON n.id = p.node_id
                   WHERE r.spec -> 'mounts' -> 0 ->> 'volume' LIKE '%at-' || n.name";
    assert_eq!(world.count(placed).await, 2);
    scheduler.start(workspaces[2]).await.unwrap();
    let told = "SELECT count(*) FROM runtime WHERE message LIKE '%volume `c-at-node-0` can be mounted on node-0 only'";
    wait_for("the reason", WAIT, async || (world.count(told).await == 1).then_some(())).await;
    // Where no node is said to reach it, its backend judges.
    scheduler.start(workspaces[3]).await.unwrap();
    world.until(workspaces[3], "running").await;
}

/// `data`, of a gibibyte and no class.
async fn volume(world: &World, project: ProjectId) -> VolumeId {
    let id = VolumeId(Uuid::now_v7());
    let mut db = world.store.client().await.unwrap();
    let transaction = db.transaction().await.unwrap();
    let (storage_class, created_by) = ("", None);
    let new = volumes::New { id, project, name: "data", pool: POOL, size_bytes: 1 << 30, storage_class, created_by };
    assert!(volumes::insert(&transaction, &new).await.unwrap());
    transaction.commit().await.unwrap();
    id
}
