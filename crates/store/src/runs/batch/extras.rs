//! What a batch writes beside runs and units, in the same transaction: seldom, so each has a statement of its own.

use super::{
    Batch, Decision, LostColumns,
    columns::{json, without_nul},
};
use crate::{Error, journal::Statements};
use domain::{id::TriggerId, pipeline::BlockKind, unit::BlockStatus};
use jiff::Timestamp;
use std::collections::HashSet;
use tokio_postgres::Client;
use uuid::Uuid;

/// The triggers among the decided ones that must not be written about.
pub(super) async fn guard(writer: &Client, statements: &Statements, batch: &Batch) -> Result<Vec<TriggerId>, Error> {
    if batch.decisions.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = batch.decisions.keys().map(|id| id.0).collect();
    let versions: Vec<i64> = batch.decisions.values().map(|(_, decision)| decision.version).collect();
    let latest: Vec<Option<Timestamp>> = batch.decisions.values().map(|(_, decision)| decision.latest).collect();
    let rows = writer.query(&statements.guard, &[&ids, &versions, &latest]).await?;
    let in_force: HashSet<Uuid> = rows.iter().map(|row| row.get("id")).collect();
    let is_wrong = |id: &TriggerId| !in_force.contains(&id.0) || batch.torn.contains(id);
    Ok(ids.into_iter().map(TriggerId).filter(is_wrong).collect())
}

/// The children of blocks that run again from the start.
pub(super) async fn drop_children(writer: &Client, statements: &Statements, batch: &Batch) -> Result<(), Error> {
    if batch.dropped.is_empty() {
        return Ok(());
    }
    let runs: Vec<Uuid> = batch.dropped.iter().map(|(run, ..)| run.0).collect();
    let blocks: Vec<&str> = batch.dropped.iter().map(|(_, block, _)| block.as_str()).collect();
    let shards: Vec<i16> = batch.dropped.iter().map(|(.., shard)| *shard).collect();
    let epochs: Vec<i64> = shards.iter().map(|shard| batch.epoch(*shard)).collect();
    writer.execute(&statements.drop_children, &[&runs, &blocks, &shards, &epochs]).await?;
    Ok(())
}

/// As `log_line.level` has them.
const LEVEL_WARNING: i16 = 30;
const LEVEL_ERROR: i16 = 40;

#[derive(Default)]
struct DecisionColumns {
    trigger: Vec<Uuid>,
    shard: Vec<i16>,
    epoch: Vec<i64>,
    state: Vec<Option<String>>,
    waiting: Vec<Option<String>>,
    next_due: Vec<Option<Timestamp>>,
    version: Vec<i64>,
    history: Vec<Option<String>>,
}

#[derive(Default)]
struct SkipColumns {
    trigger: Vec<Uuid>,
    shard: Vec<i16>,
    epoch: Vec<i64>,
    key: Vec<String>,
    reason: Vec<&'static str>,
    first: Vec<Timestamp>,
    last: Vec<Timestamp>,
    times: Vec<i32>,
    version: Vec<i64>,
}

impl SkipColumns {
    fn add(&mut self, trigger: TriggerId, shard: i16, epoch: i64, decision: &Decision) {
        for skip in &decision.skips {
            self.trigger.push(trigger.0);
            self.shard.push(shard);
            self.epoch.push(epoch);
            self.key.push(skip.first.key.clone());
            self.reason.push(skip.reason.as_str());
            self.first.push(skip.first.at);
            self.last.push(skip.last);
            self.times.push(i32::try_from(skip.times).unwrap_or(i32::MAX));
            self.version.push(decision.version);
        }
    }
}

/// What was decided about triggers.
pub(super) async fn decide(writer: &Client, statements: &Statements, batch: &Batch) -> Result<(), Error> {
    if batch.decisions.is_empty() {
        return Ok(());
    }
    let (mut all, mut skips) = (DecisionColumns::default(), SkipColumns::default());
    for (trigger, (shard, decision)) in &batch.decisions {
        let epoch = batch.epoch(*shard);
        all.trigger.push(trigger.0);
        all.shard.push(*shard);
        all.epoch.push(epoch);
        all.state.push(json(Some(&decision.state)));
        all.waiting.push(decision.waiting.as_deref().map(without_nul));
        all.next_due.push(decision.next_due);
        all.version.push(decision.version);
        all.history.push(json(Some(&decision.history)));
        skips.add(*trigger, *shard, epoch, decision);
    }
    writer
        .execute(
            &statements.decide,
            &[
                &all.trigger,
                &all.shard,
                &all.epoch,
                &all.state,
                &all.waiting,
                &all.next_due,
                &skips.trigger,
                &skips.shard,
                &skips.epoch,
                &skips.key,
                &skips.reason,
                &skips.first,
                &skips.last,
                &skips.times,
                &skips.version,
                &all.version,
                &all.history,
            ],
        )
        .await?;
    Ok(())
}

/// How far backfills are.
pub(super) async fn backfills(writer: &Client, statements: &Statements, batch: &Batch) -> Result<(), Error> {
    if batch.backfills.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = batch.backfills.iter().collect();
    let count = |of: fn(&domain::backfill::Cursor) -> u64| -> Vec<i64> {
        rows.iter().map(|(_, (_, row))| i64::try_from(of(&row.cursor)).unwrap_or(i64::MAX)).collect()
    };
    let ids: Vec<Uuid> = rows.iter().map(|(id, _)| id.0).collect();
    let shards: Vec<i16> = rows.iter().map(|(_, (shard, ..))| *shard).collect();
    let epochs: Vec<i64> = shards.iter().map(|shard| batch.epoch(*shard)).collect();
    let statuses: Vec<&str> = rows.iter().map(|(_, (_, row))| row.cursor.status.as_str()).collect();
    let ends: Vec<Option<Timestamp>> = rows.iter().map(|(_, (_, row))| row.ended_at).collect();
    let lasts: Vec<Option<Timestamp>> = rows.iter().map(|(_, (_, row))| row.cursor.last).collect();
    let reasons: Vec<Option<&str>> = rows.iter().map(|(_, (_, row))| row.pause_reason.as_deref()).collect();
    writer
        .execute(
            &statements.backfills,
            &[
                &ids,
                &shards,
                &epochs,
                &statuses,
                &count(|cursor| cursor.started),
                &count(|cursor| cursor.completed),
                &count(|cursor| cursor.failed),
                &count(|cursor| cursor.cancelled),
                &ends,
                &lasts,
                &reasons,
            ],
        )
        .await?;
    Ok(())
}

/// Runs that are late.
pub(super) async fn miss_sla(writer: &Client, statements: &Statements, batch: &Batch) -> Result<(), Error> {
    if batch.missed.is_empty() {
        return Ok(());
    }
    let runs: Vec<Uuid> = batch.missed.iter().map(|(run, _)| run.0).collect();
    let shards: Vec<i16> = batch.missed.iter().map(|(_, shard)| *shard).collect();
    let epochs: Vec<i64> = shards.iter().map(|shard| batch.epoch(*shard)).collect();
    writer.execute(&statements.miss_sla, &[&runs, &shards, &epochs, &batch.missed_at]).await?;
    Ok(())
}

/// Runs that run again, and what they were retried by.
pub(super) async fn retry(writer: &Client, statements: &Statements, batch: &Batch) -> Result<(), Error> {
    if batch.retried.is_empty() {
        return Ok(());
    }
    let runs: Vec<Uuid> = batch.retried.iter().map(|(run, ..)| run.0).collect();
    let shards: Vec<i16> = batch.retried.iter().map(|(_, shard, _)| *shard).collect();
    let epochs: Vec<i64> = shards.iter().map(|shard| batch.epoch(*shard)).collect();
    let keys: Vec<Option<&str>> = batch.retried.iter().map(|(.., key)| key.as_deref()).collect();
    writer.execute(&statements.retry, &[&runs, &shards, &epochs, &keys]).await?;
    Ok(())
}

/// Runs in whose place others are from now on.
pub(super) async fn repeat(writer: &Client, statements: &Statements, batch: &Batch) -> Result<(), Error> {
    if batch.repeated.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = batch.repeated.iter().collect();
    let runs: Vec<Uuid> = rows.iter().map(|(former, _)| former.0).collect();
    let shards: Vec<i16> = rows.iter().map(|(_, (shard, _))| *shard).collect();
    let epochs: Vec<i64> = shards.iter().map(|shard| batch.epoch(*shard)).collect();
    let by: Vec<Uuid> = rows.iter().map(|(_, (_, run))| run.0).collect();
    writer.execute(&statements.repeat, &[&runs, &shards, &epochs, &by]).await?;
    Ok(())
}

/// What becomes of a unit whose executor was lost, in words, and the level of the line that says so.
fn after_loss(batch: &Batch, lost: &LostColumns) -> (i16, String) {
    let row = batch.units.get(&(lost.run, lost.attempt.key)).map(|unit| &unit.row);
    match row.map(|row| (row.status, &row.error)) {
        Some((BlockStatus::Failed, Some(error))) => (LEVEL_ERROR, error.message.replace('\0', "")),
        Some((BlockStatus::Cancelled, _)) => {
            (LEVEL_WARNING, "the run is being stopped, and it is not tried again".to_owned())
        }
        _ => (LEVEL_WARNING, "it is tried again, which does not count against its retries".to_owned()),
    }
}

/// As definitions name it, such as `data_loader`.
fn name(kind: BlockKind) -> String {
    serde_json::to_value(kind).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
}

/// The lines of attempts whose executor was lost.
pub(super) async fn tell_lost(writer: &Client, statements: &Statements, batch: &Batch) -> Result<(), Error> {
    let lost: Vec<&LostColumns> = batch.lost.iter().filter(|lost| lost.attempt.is_by_executor()).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let shards: Vec<i16> = lost.iter().map(|lost| lost.shard).collect();
    let epochs: Vec<i64> = shards.iter().map(|shard| batch.epoch(*shard)).collect();
    let runs: Vec<Uuid> = lost.iter().map(|lost| lost.run.0).collect();
    let blocks: Vec<&str> = lost.iter().map(|lost| lost.block.as_str()).collect();
    let children: Vec<i32> = lost.iter().map(|lost| lost.child).collect();
    let leases: Vec<i64> = lost.iter().map(|lost| lost.attempt.lease).collect();
    let executors: Vec<Uuid> = lost.iter().map(|lost| lost.attempt.executor.0).collect();
    let kinds: Vec<String> = lost.iter().map(|lost| name(lost.kind)).collect();
    let (levels, texts): (Vec<i16>, Vec<String>) = lost.iter().map(|lost| after_loss(batch, lost)).unzip();
    writer
        .execute(
            &statements.lost,
            &[&shards, &epochs, &runs, &blocks, &children, &leases, &levels, &kinds, &executors, &texts],
        )
        .await?;
    Ok(())
}
