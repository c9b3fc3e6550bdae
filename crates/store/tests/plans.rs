//! Hot statements touch what they name and nothing else: on tables with many rows, none of them reads a table whole.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use serde_json::Value;
use std::path::Path;
use store::Store;
use testkit::Database;
use tokio_postgres::Client;

/// Each is executed for every command, result, claim, or look of a person. With the arguments that matter to its plan: how
/// much is taken at once. `None` is planned for any.
const HOT: &[(&str, Option<&str>)] = &[
    ("audit_entry/delete_old", None),
    ("audit_entry/list", None),
    ("audit_entry/list_of_actor", None),
    ("audit_entry/list_of_workspace", None),
    ("block_run/children", None),
    ("block_run/count_children", None),
    ("block_run/holds", None),
    ("block_run/list", None),
    ("block_run/select_output", None),
    ("firing/last_in_place", None),
    ("firing/last_refresh", None),
    ("firing/list", None),
    ("firing/of_run", None),
    ("firing/select_known", None),
    ("gpu_usage/delete_before", Some("now() - interval '699 days', 10000")),
    (
        "gpu_usage/list",
        Some("now() - interval '9 days', now() - interval '8 days', ARRAY['day'], NULL, NULL, '{}', 100"),
    ),
    (
        "log_chunk/list",
        Some(
            "300000, '-infinity', 'infinity', pg_temp.id(1, 1), NULL, NULL, 0::smallint, '{}', 16, 'publish', '', NULL",
        ),
    ),
    ("group_policy/guard", None),
    ("group_policy/held", Some("ARRAY[pg_temp.id(8, 1)]")),
    ("log_line/list", None),
    (
        "log_line/search",
        Some(
            "81920, 86016, '-infinity', 'infinity', pg_temp.id(1, 1), NULL, NULL, 'publish', '', 0::smallint, '', 100",
        ),
    ),
    ("log_line/search_run", None),
    ("log_straggler/select_ended", Some("pg_temp.id(2, 1), now(), 200")),
    (
        "notification/claim",
        Some("50, 60, ARRAY[pg_temp.id(1, 1)], ARRAY[pg_temp.id(2, 1)], ARRAY['project'], ARRAY['slack'], ARRAY[10]"),
    ),
    ("notification/lanes", None),
    ("notification/settle", None),
    ("output_removal/claim", Some("50, 60")),
    ("output_removal/request", Some("pg_temp.id(2, 1), now(), 60, 500")),
    ("pipeline/select_current", None),
    ("pipeline/select_current_many", None),
    ("pipeline_version/select_specs", None),
    ("placement_user/held", None),
    ("project_policy/guard", None),
    ("project_policy/limits", None),
    ("project_usage/get", None),
    ("run/commit", None),
    ("run/commit_step", None),
    ("run/commit_units", None),
    ("run/delete_before", Some("pg_temp.id(2, 1), now(), 500")),
    ("run/depth", None),
    ("run/drop_children", None),
    ("run/get", None),
    ("run/list", None),
    ("run/list_asked", None),
    ("run/list_of_trigger", None),
    ("run/list_late", Some("3600, NULL, 100")),
    ("run/miss_sla", None),
    ("run/repeat", None),
    ("run/retry", None),
    ("run/select_accepted", None),
    ("run/select_after_log_mark", Some("pg_temp.id(2, 1), now(), 200")),
    ("run/select_bundle", None),
    ("run/select_committed_output", None),
    ("run/select_expired", None),
    ("run/select_header", None),
    ("run/select_latest_status", None),
    ("run/select_repeated", None),
    ("run/select_state", None),
    ("run/select_unfinished", Some("ARRAY[1, 2]::smallint[]")),
    ("run/select_units", None),
    ("run/target", None),
    ("run_end/take", Some("50")),
    ("run_end_batch/count", None),
    ("run_end_batch/describe", None),
    ("run_end_batch/take", Some("16")),
    ("runtime_event/delete_before", Some("now() - interval '699 days', 10000")),
    ("runtime_event/list", None),
    ("secret/list_for_place", Some("ARRAY[pg_temp.id(4, 1)]")),
    ("trigger/guard", None),
    ("trigger_state/decide", None),
    ("trigger_token/get", None),
    ("user_policy/guard", None),
    ("volume/list", None),
    ("volume/sum", None),
];

/// Tables that grow with use. Those that are left out have as many rows as there are shards or schedulers.
const LARGE: &[&str] = &[
    "attempt",
    "audit_entry",
    "block_run",
    "firing",
    "gpu_usage",
    "log_chunk",
    "log_line_default",
    "log_straggler",
    "notification",
    "output_removal",
    "pipeline",
    "placement",
    "placement_user",
    "pipeline_version",
    "project",
    "project_usage",
    "run",
    "run_end",
    "run_end_batch",
    "runtime_event",
    "trigger",
    "trigger_state",
    "unfinished_run",
    "user_account",
    "user_policy",
    "volume",
    "volume_state",
];

/// Those that a burst fills within a second: of these a plan that was made before it reads nothing even in the order of an index. A
/// lateral subquery with `OFFSET 0` is how a statement says so.
const FILLED_BY_BURSTS: &[&str] = &["block_run", "firing", "run", "unfinished_run"];

/// What a statement is to read whole: what holds GPUs at this moment is as much as there are GPUs.
const ASKED_WHOLE: &[(&str, &str)] = &[("gpu_usage/list", "placement")];

/// Ids by kind and number, in one session.
const IDS: &str = "
    CREATE FUNCTION pg_temp.id(kind integer, number bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
        $$ SELECT (lpad(to_hex(kind), 8, '0') || '000040008000' || lpad(to_hex(number), 12, '0'))::uuid $$;";

/// 5,000 pipelines with a trigger each; 20,000 runs, one in a hundred unfinished; four blocks, a firing, an attempt and ten log
/// lines each. 5,000 projects with four volumes and four placements each, of 500 groups, as many persons with a quota, and the
/// GPUs of two years.
const FILL: &str = "
    SET session_replication_role = replica; -- References are not what is tried here.
    INSERT INTO workspace (id, name) SELECT pg_temp.id(1, w), 'w' || w FROM generate_series(1, 50) w;
    INSERT INTO pipeline (id, workspace_id, name, version)
        SELECT pg_temp.id(2, p), pg_temp.id(1, p % 50 + 1), 'p' || p, 1 FROM generate_series(1, 5000) p;
    INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec)
        SELECT pg_temp.id(2, p), v, 'sha256:0', '{\"blocks\": [{\"uuid\": \"b1\", \"kind\": \"custom\"}]}'
        FROM generate_series(1, 5000) p, generate_series(1, 4) v;
    INSERT INTO trigger (id, pipeline_id, name, kind, active, source)
        SELECT pg_temp.id(3, p), pg_temp.id(2, p), 'manual', 'manual', true, 'built-in' FROM generate_series(1, 5000) p;
    INSERT INTO trigger_state (trigger_id, shard, version, state)
        SELECT pg_temp.id(3, p), (p % 256)::smallint, 1, '{}' FROM generate_series(1, 5000) p;
    INSERT INTO run (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status, execution_date, completed_at)
        SELECT pg_temp.id(4, r), pg_temp.id(1, r % 50 + 1), pg_temp.id(2, r % 5000 + 1), 1, pg_temp.id(3, r % 5000 + 1),
               (r % 256)::smallint, CASE WHEN r % 100 = 0 THEN 'running' ELSE 'completed' END, now(),
               CASE WHEN r % 100 <> 0 THEN now() END
        FROM generate_series(1, 20000) r;
    INSERT INTO block_run (run_id, block, status, lease, output)
        SELECT pg_temp.id(4, r), 'b' || b, 'completed', 1, '{\"outputs\": []}'
        FROM generate_series(1, 20000) r, generate_series(1, 4) b;
    INSERT INTO firing (trigger_id, logical_key, decided, run_id, shard_epoch)
        SELECT pg_temp.id(3, r % 5000 + 1), 'key:' || r, 'fired', pg_temp.id(4, r), 1 FROM generate_series(1, 20000) r;
    INSERT INTO attempt (run_id, block, child, lease, outcome)
        SELECT pg_temp.id(4, r), 'b1', -1, 1, 'lost' FROM generate_series(1, 20000) r;
    INSERT INTO log_line (run_id, at, block, level, stream, message, block_type)
        SELECT pg_temp.id(4, l % 20000 + 1), now() - interval '30 days', CASE WHEN l % 20000 = 0 THEN 'publish' ELSE 'b1' END, 20,
               'stdout', 'line ' || l, 'custom'
        FROM generate_series(1, 200000) l;
    INSERT INTO log_chunk (after_id, last_id, lines, min_at, max_at, max_level, workspaces, pipelines, triggers, grams, blocks, block_types)
        SELECT c * 4096, c * 4096 + 4096, 4096, now(), now(), 20, ARRAY[pg_temp.id(1, 1)], '{}', '{}', decode(repeat('00', 1024), 'hex'),
               ARRAY['b1'], ARRAY['custom'] FROM generate_series(0, 2000) c;
    INSERT INTO unfinished_run (shard, run_id) SELECT shard, id FROM run; -- As in a burst.
    INSERT INTO log_straggler (pipeline_id, run_id) SELECT pipeline_id, id FROM run;
    INSERT INTO run_end (run_id, status, completed_at)
        SELECT pg_temp.id(4, r), 'completed', now() FROM generate_series(1, 20000) r;
    INSERT INTO run_end_batch (run_ids, statuses, started_ats, completed_ats, former_end_ats)
        SELECT ARRAY[run_id], ARRAY[status], ARRAY[completed_at], ARRAY[completed_at], ARRAY[completed_at] FROM run_end;
    INSERT INTO notification (key, workspace_id, pipeline_id, pipeline_version, event, source, channel, status, ended_at)
        SELECT 'n' || n, pg_temp.id(1, 1), pg_temp.id(2, 1), 1, 'failure', 'project', 'slack',
               CASE WHEN n % 100 = 0 THEN 'pending' ELSE 'sent' END, CASE WHEN n % 100 <> 0 THEN now() END
        FROM generate_series(1, 20000) n;
    INSERT INTO audit_entry (actor, via, method, object, outcome)
        SELECT 'person' || a % 100, 'token', 'RunService/CreateRun', '', 'ok' FROM generate_series(1, 20000) a;
    INSERT INTO output_removal (run_id, bundle_digest, not_before)
        SELECT pg_temp.id(4, r), 'sha256:0', now() FROM generate_series(1, 20000) r;
    INSERT INTO gpu_usage (holder, held_at, freed_at, project_id, queue_id, model, gpu_milli)
        SELECT pg_temp.id(7, g), now() - make_interval(mins => 50 * g + 300), now() - make_interval(mins => 50 * g),
               pg_temp.id(6, g % 5000), pg_temp.id(8, 1), 'A10', 1000
        FROM generate_series(1, 20000) g;
    INSERT INTO runtime_event (workspace_id, number, at, state)
        SELECT pg_temp.id(1, e % 50 + 1), e, now() - make_interval(mins => 50 * (20000 - e)), 'stopped' FROM generate_series(1, 20000) e;
    INSERT INTO volume (id, project_id, name, pool, size_bytes, deleted_at)
        SELECT pg_temp.id(5, v), pg_temp.id(6, v % 5000), 'v' || v, 'default', 1, CASE WHEN v % 3 = 0 THEN now() END
        FROM generate_series(1, 20000) v;
    INSERT INTO volume_state (volume_id, state)
        SELECT pg_temp.id(5, v), CASE WHEN v % 3 = 0 THEN 'gone' ELSE 'ready' END FROM generate_series(1, 20000) v;
    INSERT INTO user_account (id, email) SELECT pg_temp.id(7, u), 'u' || u FROM generate_series(100, 5000) u;
    INSERT INTO user_policy (user_id, gpu_milli) SELECT pg_temp.id(7, u), 1000 FROM generate_series(100, 5000) u;
    INSERT INTO group_policy (group_id, gpu_milli) SELECT pg_temp.id(8, g), 1000 FROM generate_series(1, 500) g;
    INSERT INTO project (id, name, owner_group_id)
        SELECT pg_temp.id(6, p), 'p' || p, pg_temp.id(8, p % 500) FROM generate_series(1, 5000) p;
    INSERT INTO project_usage (project_id) SELECT pg_temp.id(6, p) FROM generate_series(1, 5000) p;
    INSERT INTO placement (holder, pool, node_id, project_id, queue_id, state, cpu_milli, memory_bytes, effective_milli)
        SELECT pg_temp.id(9, h), 'default', pg_temp.id(1, 1), pg_temp.id(6, h % 5000), pg_temp.id(1, 1), 'held', 1, 1, 1
        FROM generate_series(1, 20000) h;
    INSERT INTO placement_user (holder, user_id) SELECT pg_temp.id(9, h), pg_temp.id(7, h % 5000) FROM generate_series(1, 20000) h;
    ANALYZE;
    SET session_replication_role = origin;";

/// The plan for these arguments, or the one that serves all, as JSON.
async fn plan(client: &Client, sql: &str, arguments: Option<&str>) -> Value {
    let count = client.prepare(sql).await.unwrap().params().len();
    let mode = if arguments.is_some() { "force_custom_plan" } else { "force_generic_plan" };
    let given = arguments.map_or_else(|| vec!["NULL"; count].join(", "), str::to_owned);
    let given = if given.is_empty() { given } else { format!("({given})") };
    client.batch_execute(&format!("SET plan_cache_mode = {mode}; PREPARE hot AS {sql}")).await.unwrap();
    let explained = client.query_one(&format!("EXPLAIN (FORMAT JSON) EXECUTE hot{given}"), &[]).await.unwrap().get(0);
    client.batch_execute("DEALLOCATE hot").await.unwrap();
    explained
}

/// Tables that a plan reads row by row; and those that it reads in the order of an index, but for the first few.
#[derive(Default)]
struct Read {
    whole: Vec<String>,
    in_order: Vec<String>,
}

impl Read {
    fn by(plan: &Value) -> Self {
        let mut read = Self::default();
        read.add(plan, false);
        read
    }

    fn add(&mut self, plan: &Value, is_limited: bool) {
        let node = plan["Node Type"].as_str().unwrap_or_default();
        let table = || plan["Relation Name"].as_str().unwrap_or_default().to_owned();
        match node {
            "Seq Scan" => self.whole.push(table()),
            "Index Scan" | "Index Only Scan" if plan["Index Cond"].is_null() && !is_limited => {
                self.in_order.push(table())
            }
            _ => {}
        }
        let is_limited = node == "Limit" || node == "LockRows" && is_limited;
        let children = plan.as_array().into_iter().flatten().chain(plan["Plans"].as_array().into_iter().flatten());
        children.chain(plan.get("Plan")).for_each(|child| self.add(child, is_limited));
    }
}

/// What hot statements read whole when this session plans them.
async fn wrong(client: &Client) -> Vec<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for (name, arguments) in HOT {
        let sql = std::fs::read_to_string(here.join(format!("sql/{name}.sql"))).unwrap();
        let Read { mut whole, mut in_order } = Read::by(&plan(client, &sql, *arguments).await);
        whole.retain(|table| LARGE.contains(&table.as_str()) && !ASKED_WHOLE.contains(&(name, table)));
        in_order.retain(|table| FILLED_BY_BURSTS.contains(&table.as_str()));
        whole.extend(in_order);
        if !whole.is_empty() {
            wrong.push(format!("{name} reads {whole:?}"));
        }
    }
    wrong
}

async fn database() -> Database {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await
}

#[tokio::test]
async fn hot_statements_read_no_large_table_whole() {
    let database = database().await;
    let client = database.client().await;
    client.batch_execute(&[IDS, FILL].concat()).await.unwrap();
    let wrong = wrong(&client).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What is behind a mark is found by the mark, and not by all that lies before it.
    let behind = include_str!("../sql/run/select_after_log_mark.sql");
    let behind = plan(&client, behind, Some("pg_temp.id(2, 1), now(), 200")).await.to_string();
    let bounds = behind.split("\"Index Cond\":").skip(1).filter_map(|rest| rest.split("\",").next());
    assert_eq!(bounds.filter(|bound| bound.contains("created_at >= $")).count(), 2, "{behind}");
    // What this looks for is found where it is.
    let plain = Read::by(&plan(&client, "SELECT * FROM run WHERE variables = '{}'", None).await);
    assert_eq!(plain.whole, ["run"]);
    let sorted = plan(&client, "SELECT * FROM run WHERE variables = '{}' ORDER BY id LIMIT 1", None).await;
    assert_eq!(Read::by(&plan(&client, "SELECT id FROM run ORDER BY id", None).await).in_order, ["run"]);
    assert!(Read::by(&sorted).in_order.is_empty(), "the first few in an order are not all");
}

/// A plan outlives what it was made for: tables that are small now grow before anybody takes statistics of them.
#[tokio::test]
async fn nor_one_that_is_small_when_they_are_planned() {
    let database = database().await;
    let few = ["200000", "20000", "5000", "500"].iter().fold(FILL.to_owned(), |fill, many| fill.replace(many, "40"));
    database.client().await.batch_execute(&[IDS, &few].concat()).await.unwrap();
    let store = Store::connect(database.url(), 2).await.unwrap();
    let client = store.client().await.unwrap();
    client.batch_execute(IDS).await.unwrap();
    let wrong = wrong(&client).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What has to be read whole costs so much by its plan that it would be compiled each time.
    assert_eq!(client.query_one("SHOW jit", &[]).await.unwrap().get::<_, String>(0), "off");
}
