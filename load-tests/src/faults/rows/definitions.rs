//! Triggers: many at one instant, and many that are edited, paused and removed while they fire.

use super::schedulers::{LATE_MAX_S, count};
use crate::faults::{Plan, Seen, stage::Stage};
use anyhow::{Context, Result};
use jiff::Timestamp;
use proto::v1::{
    CreateTriggerRequest, DeleteTriggerRequest, PauseTriggerRequest, Schedule, StartTriggerRequest, Trigger,
    TriggerSpec, UpdateTriggerRequest, trigger_service_client::TriggerServiceClient, trigger_spec::Kind,
};
use rand::RngExt;
use rpc::client::Channel;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Triggers that are edited.
const EDITED: usize = 20;

/// Row 18: all of a load's triggers, many times as many as usual, at one second.
pub(super) async fn herd(plan: Plan) -> Result<Seen> {
    // As many as in the row's whole time otherwise, and at least so many that it is one.
    let triggers = (plan.triggers * plan.seconds).clamp(1_000, 10_000);
    let plan = Plan { triggers, seconds: 1, ..plan };
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let seen = Seen::default();
    let load = stage.begin().await?;
    tokio::time::sleep_until(load.broken_until).await;
    let mut most = 0;
    let at_once = "SELECT coalesce(max(fired), 0) FROM (
                       SELECT count(DISTINCT f.trigger_id) AS fired FROM firing f JOIN trigger t ON t.id = f.trigger_id
                        WHERE starts_with(t.name, 'every-') AND f.decided = 'fired' GROUP BY f.logical_key) AS seconds";
    let count = async |sql: &tokio_postgres::Client| {
        most = sql.query_one(at_once, &[]).await?.get::<_, i64>(0);
        Ok(Vec::new())
    };
    let mut seen = stage.finish_with(seen, 2.0, count).await?;
    seen.bite("triggers that fired for the same second", u64::try_from(most)?);
    seen.must(most >= i64::from(triggers), || format!("of {triggers} triggers {most} fired for one second"));
    Ok(seen)
}

/// An edit, a pause or a removal that was acknowledged.
struct Edit {
    trigger: Uuid,
    /// No firing of an older version may be committed after it.
    version: i64,
    /// By the database's clock, read after the acknowledgement.
    at: Timestamp,
}

/// Row 20.
pub(super) async fn edited(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    let mut client = TriggerServiceClient::new(stage.cluster.channel());
    let mut triggers = Vec::new();
    for number in 0..EDITED {
        triggers.push(create(&mut client, number).await?);
    }
    let load = stage.begin().await?;
    let sql = stage.sql().await?;
    let mut edits: Vec<Edit> = Vec::new();
    let (mut refused, mut removed) = (0_u64, 0_u64);
    while Instant::now() < load.broken_until {
        // Close to the second, when decisions are under way.
        let into: f64 = sql.query_one("SELECT (extract(epoch FROM clock_timestamp()) % 1)::float8", &[]).await?.get(0);
        let jitter = stage.dice.random_range(-0.01..0.03);
        tokio::time::sleep(Duration::from_secs_f64((1.0 - into + jitter).max(0.0))).await;
        for _ in 0..4 {
            let at = stage.throw(triggers.len());
            match edit(&mut client, &triggers[at], stage.throw(8)).await {
                Ok(Some(now)) => {
                    let clock: Timestamp = sql.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
                    edits.push(Edit { trigger: now.id.parse()?, version: now.version, at: clock });
                    triggers[at] = now;
                }
                Ok(None) => {
                    let gone = triggers.swap_remove(at);
                    let clock: Timestamp = sql.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
                    edits.push(Edit { trigger: gone.id.parse()?, version: i64::MAX, at: clock });
                    removed += 1;
                    triggers.push(create(&mut client, EDITED + usize::try_from(removed)?).await?);
                }
                Err(_) => refused += 1,
            }
        }
    }
    seen.bite("edits, pauses and removals that were acknowledged", edits.len() as u64);
    seen.bite("removals among them", removed);
    seen.must(refused == 0, || format!("{refused} edits were refused"));
    let overtaken = stage.metric_of_all("scheduler", "scheduler_decisions_overtaken_total").await;
    seen.bite("decisions that an edit overtook", count(overtaken));
    let count = "SELECT count(*) FROM firing f JOIN trigger t ON t.id = f.trigger_id
                  WHERE starts_with(t.name, 'edited-') AND f.decided = 'fired'";
    let fired: i64 = sql.query_one(count, &[]).await?.get(0);
    seen.bite("firings of triggers that were being edited", u64::try_from(fired)?);
    // The load ends, and these would fire on: a cluster is judged once all its work is done. A pause is one more edit.
    for trigger in triggers.into_iter().filter(|trigger| trigger.active) {
        let paused = client.pause_trigger(PauseTriggerRequest { trigger_id: trigger.id }).await?.into_inner();
        let paused = paused.trigger.context("a trigger")?;
        let clock: Timestamp = sql.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
        edits.push(Edit { trigger: paused.id.parse()?, version: paused.version, at: clock });
    }
    let mut seen = stage.finish_with(seen, LATE_MAX_S, async |sql| stale(sql, &edits).await).await?;
    seen.firings += u64::try_from(fired)?;
    Ok(seen)
}

/// Firings of a version that an edit had replaced before they were committed.
async fn stale(sql: &tokio_postgres::Client, edits: &[Edit]) -> Result<Vec<String>> {
    let ids: Vec<Uuid> = edits.iter().map(|edit| edit.trigger).collect();
    let versions: Vec<i64> = edits.iter().map(|edit| edit.version).collect();
    let at: Vec<Timestamp> = edits.iter().map(|edit| edit.at).collect();
    let query = "SELECT f.trigger_id::text, f.logical_key, f.trigger_version, e.version
                   FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS e (id, version, at)
                   JOIN firing f ON f.trigger_id = e.id AND f.trigger_version < e.version
                        AND pg_xact_commit_timestamp(f.xmin) > e.at AND f.decided = 'fired'";
    let rows = sql.query(query, &[&ids, &versions, &at]).await?;
    let say = |row: &tokio_postgres::Row| {
        let (id, key): (String, String) = (row.get(0), row.get(1));
        let (fired, edited): (i64, i64) = (row.get(2), row.get(3));
        format!("{key} of {id} fired by version {fired} after version {edited} was acknowledged")
    };
    Ok(rows.iter().map(say).collect())
}

fn spec(description: &str) -> TriggerSpec {
    TriggerSpec {
        kind: Some(Kind::Schedule(Schedule { every: "@every 1s".to_owned(), ..Schedule::default() })),
        description: description.to_owned(),
        ..TriggerSpec::default()
    }
}

async fn create(client: &mut TriggerServiceClient<Channel>, number: usize) -> Result<Trigger> {
    let request = CreateTriggerRequest {
        workspace: crate::cluster::WORKSPACE.to_owned(),
        pipeline: crate::faults::stage::pipeline(number),
        name: format!("edited-{number}"),
        active: true,
        spec: Some(spec("new")),
        idempotency_key: format!("edited-{number}"),
    };
    client.create_trigger(request).await?.into_inner().trigger.context("a trigger")
}

/// One of the things that people do to a trigger; `None` when it was removed.
async fn edit(client: &mut TriggerServiceClient<Channel>, trigger: &Trigger, what: usize) -> Result<Option<Trigger>> {
    let trigger_id = trigger.id.clone();
    let now = match what {
        0 => {
            client.delete_trigger(DeleteTriggerRequest { trigger_id }).await?;
            return Ok(None);
        }
        _ if !trigger.active => client.start_trigger(StartTriggerRequest { trigger_id }).await?.into_inner().trigger,
        1 | 2 => client.pause_trigger(PauseTriggerRequest { trigger_id }).await?.into_inner().trigger,
        _ => {
            let spec = Some(spec(&format!("after version {}", trigger.version)));
            let request = UpdateTriggerRequest { trigger_id, version: trigger.version, spec };
            client.update_trigger(request).await?.into_inner().trigger
        }
    };
    now.context("a trigger").map(Some)
}
