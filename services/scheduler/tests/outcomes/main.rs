//! What becomes of an end: counted once, told once, whatever fails on the way; on a real Postgres, to real receivers.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod ends;

use domain::id::{PipelineId, WorkspaceId};
use notify::Policy;
use runtime::watchdog::Beat;
use scheduler::{
    clock::DbClock,
    loops::{notifier::Notifier, recorder::Recorder},
    metrics::Metrics,
};
use secrets::{Keyring, Place};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use store::{
    Store, notifications,
    outbox::{self, Claimed, Fate, Lane},
};
use testkit::{Database, wait_for};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const WAIT: Duration = Duration::from_secs(20);

fn keyring() -> Keyring {
    Keyring::parse(&format!("one:{}", "11".repeat(32))).unwrap()
}

struct World {
    database: Database,
    store: Store,
    workspace: WorkspaceId,
    pipeline: PipelineId,
    trigger: Uuid,
}

impl World {
    /// A pipeline whose metadata tells these channels, with a schedule.
    async fn new(config: Value) -> Self {
        let migrations = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
        let database = Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await;
        let store = Store::connect(database.url(), 6).await.unwrap();
        let [workspace, pipeline, trigger] = [(); 3].map(|()| Uuid::now_v7());
        let client = database.client().await;
        let digest = format!("sha256:{}", "0".repeat(64));
        let spec = json!({ "name": "p", "kind": "python", "blocks": [], "notification_config": config });
        let bundle = "INSERT INTO bundle (digest, project_name, file_count, size_bytes) VALUES ($1, 'x', 0, 0)";
        client.execute(bundle, &[&digest]).await.unwrap();
        client.execute("INSERT INTO workspace (id, name) VALUES ($1, 'w')", &[&workspace]).await.unwrap();
        let insert = "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, 'p', 1)";
        client.execute(insert, &[&pipeline, &workspace]).await.unwrap();
        let insert = "INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec) VALUES ($1, 1, $2, $3)";
        client.execute(insert, &[&pipeline, &digest, &spec]).await.unwrap();
        let insert = "INSERT INTO trigger (id, pipeline_id, name, kind, active, source)
                      VALUES ($1, $2, 'daily', 'time', true, 'project')";
        client.execute(insert, &[&trigger, &pipeline]).await.unwrap();
        Self { database, store, workspace: WorkspaceId(workspace), pipeline: PipelineId(pipeline), trigger }
    }

    /// A run of one block that took two seconds, was created three seconds late, and ended like this; as its commit
    /// leaves it.
    async fn run(&self, status: &str) -> Uuid {
        let run = Uuid::now_v7();
        let client = self.database.client().await;
        let insert = "
            INSERT INTO run (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status, execution_date,
                             created_at, started_at, completed_at, reason)
            SELECT $1, $2, $3, 1, $4, 0, $5, t - interval '5 s', t - interval '2 s', t - interval '2 s',
                   CASE WHEN $5 IN ('initial', 'running') THEN NULL ELSE t END, 'why' FROM (SELECT now() AS t) n";
        client.execute(insert, &[&run, &self.workspace.0, &self.pipeline.0, &self.trigger, &status]).await.unwrap();
        let insert = "
            INSERT INTO block_run (run_id, block, status, started_at, completed_at, error)
            SELECT id, 'load', status, started_at, completed_at, '{\"message\": \"no such table\"}' FROM run
             WHERE id = $1 AND completed_at IS NOT NULL";
        client.execute(insert, &[&run]).await.unwrap();
        let insert = "INSERT INTO run_end_batch (run_ids, statuses, started_ats, completed_ats, former_end_ats)
                      SELECT ARRAY[id], ARRAY[status], ARRAY[started_at], ARRAY[completed_at], ARRAY[former_end_at] FROM run
                       WHERE id = $1 AND completed_at IS NOT NULL";
        client.execute(insert, &[&run]).await.unwrap();
        run
    }

    fn recorder(&self) -> Recorder {
        Recorder::new(self.store.clone(), Some("https://orrery.example".into()))
    }

    fn notify(&self) -> CancellationToken {
        self.notify_with(keyring())
    }

    /// The first version of the workspace's configuration, as a web-server seals it.
    fn sealed(&self, keyring: &Keyring, config: &Value) -> store::secrets::Sealed {
        let scope = notifications::scope(self.workspace, None);
        let place = Place { scope: &scope, name: notifications::SEAL_NAME, version: 1 };
        let sealed = keyring.seal(&place, config.to_string().as_bytes()).unwrap();
        store::secrets::Sealed { key_id: sealed.key_id, wrapped_key: sealed.wrapped_key, value: sealed.value }
    }

    fn notify_with(&self, keyring: Keyring) -> CancellationToken {
        let stop = CancellationToken::new();
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let policy = Policy::new(&["127.0.0.0/8".into()]).unwrap();
        tokio::spawn(
            Notifier::new(
                self.store.clone(),
                DbClock::new(jiff::Timestamp::now()),
                policy,
                metrics,
                (Some(Arc::new(keyring)), true),
            )
            .run(stop.clone(), Beat::unwatched()),
        );
        stop
    }

    async fn claim(&self, lease: Duration) -> Vec<Claimed> {
        let waiting = outbox::waiting(&self.store, &Lane::default(), 10).await.unwrap();
        let lanes: Vec<_> = waiting.iter().map(|waiting| (&waiting.lane, 10)).collect();
        outbox::claim(&self.store, &lanes, 10, lease).await.unwrap()
    }

    /// Many messages to one channel, noted so long ago.
    async fn note(&self, channel: &str, count: i32, ago: &str) {
        let insert = "
            INSERT INTO notification (key, workspace_id, pipeline_id, pipeline_version, event, source, channel, created_at, not_before)
            SELECT gen_random_uuid(), $1, $2, 1, 'failure', 'project', $3, t.at, t.at
              FROM generate_series(1, $4), (SELECT now() - $5::text::interval AS at) t";
        let client = self.database.client().await;
        client.execute(insert, &[&self.workspace.0, &self.pipeline.0, &channel, &count, &ago]).await.unwrap();
    }

    async fn told(&self) -> Vec<notifications::Notification> {
        let db = self.store.client().await.unwrap();
        notifications::list(&db, self.workspace, None, i64::MAX, 100).await.unwrap()
    }
}

/// Answers every request with 200 after the first `busy` with 503; hands over the bodies.
async fn receiver(busy: usize) -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (got, bodies) = mpsc::channel(64);
    tokio::spawn(async move {
        for n in 0.. {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let (mut length, mut line) = (0, String::new());
            while stream.read_line(&mut line).await.unwrap() > 2 {
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let status = if n < busy { "503 Busy" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            got.send(serde_json::from_slice(&body).unwrap()).await.unwrap();
        }
    });
    (url, bodies)
}

/// Takes connections and never answers.
async fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/hook", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn a_failure_is_told_with_its_reason_and_a_busy_receiver_asked_again() {
    let (url, mut bodies) = receiver(1).await;
    let world = World::new(json!({ "webhook_config": { "url": url } })).await;
    world.run("completed").await;
    let run = world.run("failed").await;
    world.recorder().run_once().await.unwrap();
    assert_eq!(world.told().await.len(), 1, "success is not told unless asked for");
    let stop = world.notify();
    let first = bodies.recv().await.unwrap();
    assert_eq!((&first["event"], &first["facts"]["error"]), (&json!("failure"), &json!("no such table")));
    assert_eq!(first["facts"]["pipeline_run_url"], json!(format!("https://orrery.example/#/runs/{run}")));
    let again = bodies.recv().await.unwrap();
    assert_eq!(again["id"], first["id"], "the same message, by its name");
    let sent =
        wait_for("the record", WAIT, || async { world.told().await.into_iter().find(|told| told.status == "sent") });
    assert_eq!(sent.await.attempts, 2);
    stop.cancel();
}

#[tokio::test]
async fn a_receiver_that_never_answers_delays_nobody_else() {
    let (url, mut bodies) = receiver(0).await;
    let config = json!({ "slack_config": { "webhook_url": silent().await }, "webhook_config": { "url": url } });
    let world = World::new(config).await;
    for _ in 0..12 {
        world.run("failed").await;
    }
    world.recorder().run_once().await.unwrap();
    assert_eq!(world.told().await.len(), 24);
    let stop = world.notify();
    // The silent one takes 20 s for each; the other has all of its own long before.
    let all = async {
        for _ in 0..12 {
            bodies.recv().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(15), all).await.expect("the others were delayed");
    stop.cancel();
}

#[tokio::test]
async fn a_dead_receiver_with_many_messages_costs_the_others_nothing() {
    let (dead, _refused) = receiver(usize::MAX).await;
    let (live, mut bodies) = receiver(0).await;
    let config = json!({ "slack_config": { "webhook_url": dead }, "webhook_config": { "url": live } });
    let world = World::new(config).await;
    // All of them were noted before, and would come first.
    world.note("slack_config", 20_000, "1 h").await;
    world.note("webhook_config", 40, "0 s").await;
    let stop = world.notify();
    // One after the other, past a waiting line that nobody works off.
    let all = async {
        for _ in 0..40 {
            bodies.recv().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("the others were delayed");
    let client = world.database.client().await;
    let of_dead = "SELECT count(*) FILTER (WHERE attempts > 0), count(*) FILTER (WHERE status = 'pending')
                     FROM notification WHERE channel = 'slack_config'";
    let row = client.query_one(of_dead, &[]).await.unwrap();
    let (tried, waiting): (i64, i64) = (row.get(0), row.get(1));
    // Four at first, then one after each pause, which doubles.
    assert!((1..=20).contains(&tried), "{tried} were tried");
    assert_eq!(waiting, 20_000, "none is lost");
    let put_off = wait_for("the pause", WAIT, || async {
        let waiting = outbox::waiting(&world.store, &Lane::default(), 10).await.unwrap();
        waiting.into_iter().find(|waiting| waiting.lane.channel == "slack_config" && waiting.failures > 0)
    });
    put_off.await;
    stop.cancel();
}

#[tokio::test]
async fn what_nobody_took_in_a_day_is_given_up_and_says_so() {
    let world = World::new(json!({})).await;
    world.note("slack_config", 30, "25 h").await;
    world.note("slack_config", 1, "23 h").await;
    let claimed = world.claim(WAIT).await;
    assert_eq!(claimed.len(), 10, "these are under way");
    let day_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let expire = async || outbox::expire(&world.store, day_ago, "given up", 15).await.unwrap();
    assert_eq!(
        (expire().await, expire().await, expire().await),
        (15, 5, 0),
        "a few at once, and none that is being sent"
    );
    let told = world.told().await;
    let given_up: Vec<_> = told.iter().filter(|told| told.status == "failed").collect();
    assert!(given_up.len() == 20 && given_up.iter().all(|told| told.error == "given up" && told.ended_at.is_some()));
    outbox::settle(&world.store, &claimed[0], &Fate::Sent).await.unwrap();
    assert_eq!(world.told().await.iter().filter(|told| told.status == "sent").count(), 1);
}

#[tokio::test]
async fn what_a_dead_sender_claimed_is_claimed_by_another_and_its_own_word_is_void() {
    let world = World::new(json!({ "slack_config": { "webhook_url": "https://h.example/x" } })).await;
    world.run("failed").await;
    world.recorder().run_once().await.unwrap();
    let lease = Duration::from_secs(3);
    let first = world.claim(lease).await;
    assert_eq!(first.len(), 1);
    assert!(world.claim(lease).await.is_empty(), "it is claimed");
    let second = wait_for("the end of the lease", WAIT, || async { world.claim(WAIT).await.into_iter().next() }).await;
    assert_eq!((second.id, second.attempt), (first[0].id, 2));
    outbox::settle(&world.store, &first[0], &Fate::Failed("late".into())).await.unwrap();
    assert_eq!(world.told().await[0].status, "pending");
    outbox::settle(&world.store, &second, &Fate::Sent).await.unwrap();
    assert_eq!(world.told().await[0].status, "sent");
}

#[tokio::test]
async fn a_late_run_is_told_once_while_it_goes_on_and_not_again_at_its_end() {
    let (url, _bodies) = receiver(0).await;
    let world = World::new(json!({ "webhook_config": { "url": url } })).await;
    let run = world.run("running").await;
    let client = world.database.client().await;
    client.execute("UPDATE run SET sla_at = now() - interval '1 s' WHERE id = $1", &[&run]).await.unwrap();
    let mut recorder = world.recorder();
    recorder.run_once().await.unwrap();
    let told = world.told().await;
    assert_eq!(told.iter().map(|t| t.event.as_str()).collect::<Vec<_>>(), ["passed_sla"]);
    let client = world.database.client().await;
    client.execute("UPDATE run SET status = 'completed', completed_at = now() WHERE id = $1", &[&run]).await.unwrap();
    let end = "INSERT INTO run_end_batch (run_ids, statuses, started_ats, completed_ats, former_end_ats)
               SELECT ARRAY[id], ARRAY[status], ARRAY[started_at], ARRAY[completed_at], ARRAY[former_end_at] FROM run WHERE id = $1";
    client.execute(end, &[&run]).await.unwrap();
    world.recorder().run_once().await.unwrap();
    assert_eq!(world.told().await.len(), 1);
}

#[tokio::test]
async fn what_is_sealed_is_opened_to_tell_and_nowhere_else() {
    let (url, mut bodies) = receiver(0).await;
    let world = World::new(json!({})).await;
    let db = world.store.client().await.unwrap();
    let config = json!({ "webhook_config": { "url": url } });
    let seal = world.sealed(&keyring(), &config);
    let shown = notify::config::redact(&config);
    let set = async |version: i64| {
        notifications::configure(&db, world.workspace, None, &shown, version, Some(&seal)).await.unwrap()
    };
    assert!(set(1).await && !set(1).await, "two who set it at once do not overwrite each other");
    world.run("failed").await;
    world.recorder().run_once().await.unwrap();
    let stop = world.notify();
    assert_eq!(bodies.recv().await.unwrap()["event"], "failure");
    stop.cancel();
    // A seal for another place, or version, tells nobody, says why, and does not stop the recorder.
    assert!(set(2).await);
    world.run("failed").await;
    world.recorder().run_once().await.unwrap();
    let stop = world.notify();
    let why = wait_for("the reason", WAIT, || async {
        world.told().await.into_iter().find(|told| told.status == "pending" && !told.error.is_empty())
    });
    assert_eq!(why.await.attempts, 1);
    stop.cancel();
}

#[tokio::test]
async fn an_end_is_told_though_nobody_has_the_key_yet() {
    let (url, mut bodies) = receiver(0).await;
    let world = World::new(json!({})).await;
    let db = world.store.client().await.unwrap();
    let config = json!({ "webhook_config": { "url": url } });
    // Web-servers seal with the new key already; the scheduler has only the old one.
    let both = || Keyring::parse(&format!("two:{}\none:{}", "22".repeat(32), "11".repeat(32))).unwrap();
    let seal = world.sealed(&both(), &config);
    let shown = notify::config::redact(&config);
    assert!(notifications::configure(&db, world.workspace, None, &shown, 1, Some(&seal)).await.unwrap());
    world.run("failed").await;
    world.recorder().run_once().await.unwrap();
    let stop = world.notify();
    wait_for("a try without the key", WAIT, || async {
        world.told().await.into_iter().find(|told| told.status == "pending" && !told.error.is_empty())
    })
    .await;
    stop.cancel();
    // It is due now, and has not to wait for its pause.
    let now = "UPDATE notification SET not_before = now(); DELETE FROM notification_lane";
    world.database.client().await.batch_execute(now).await.unwrap();
    let stop = world.notify_with(both());
    let told = tokio::time::timeout(WAIT, bodies.recv()).await.expect("a message").unwrap();
    assert_eq!(told["event"], "failure");
    stop.cancel();
}

#[tokio::test]
async fn a_secret_that_a_project_names_is_filled_in_on_the_way_out() {
    let (url, mut bodies) = receiver(0).await;
    let (host, _) = url.rsplit_once('/').unwrap();
    let config = json!({
        "webhook_config": { "url": format!("{host}/{{{{ mage_secret_var('PATH') }}}}") },
        "slack_config": { "webhook_url": "{{ mage_secret_var('NOWHERE') }}" },
    });
    let world = World::new(config).await;
    let scope = format!("workspace:{}", world.workspace);
    let sealed = keyring().seal(&Place { scope: &scope, name: "PATH", version: 1 }, b"hook").unwrap();
    let insert = "INSERT INTO secret (id, project_id, workspace_id, name, version, key_id, wrapped_key, sealed)
                  SELECT $1, project_id, id, 'PATH', 1, $2, $3, $4 FROM workspace";
    let client = world.database.client().await;
    let id = Uuid::now_v7();
    client.execute(insert, &[&id, &sealed.key_id, &sealed.wrapped_key, &sealed.value]).await.unwrap();
    world.run("failed").await;
    world.recorder().run_once().await.unwrap();
    let stop = world.notify();
    assert_eq!(bodies.recv().await.unwrap()["event"], "failure");
    let told = wait_for("what became of both", WAIT, || async {
        let told = world.told().await;
        told.iter().all(|told| told.status != "pending").then_some(told)
    })
    .await;
    let lost = told.iter().find(|told| told.channel == "slack_config").unwrap();
    assert!(lost.status == "failed" && lost.error.contains("`NOWHERE`"), "{lost:?}");
    stop.cancel();
}
