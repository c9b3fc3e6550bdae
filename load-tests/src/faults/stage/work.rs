//! Runs beside the load: those that take long, write much or fail, and what becomes of them.

use super::{DRAIN_MAX, LOOK_AGAIN, NAP, PATIENCE, SLOW, Stage};
use crate::{
    cluster::WORKSPACE,
    history::{JournalEvent, JournalLine},
};
use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use proto::v1::CreateRunRequest;
use rand::RngExt;
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// A call that is not answered by then is repeated, with its key.
const CALL_MAX: Duration = Duration::from_secs(5);

impl Stage {
    /// Starts runs of a pipeline, with these variables; answers their ids.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub(in crate::faults) async fn start_runs(
        &mut self,
        pipeline: &str,
        count: usize,
        variables: &[(&str, f64)],
    ) -> Result<Vec<Uuid>> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let number = |value: f64| prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(value)) };
            let fields = variables.iter().map(|(name, value)| ((*name).to_owned(), number(*value))).collect();
            let request = CreateRunRequest {
                workspace: WORKSPACE.to_owned(),
                pipeline: pipeline.to_owned(),
                idempotency_key: format!("row-{}", self.dice.random::<u64>()),
                variables: Some(prost_types::Struct { fields }),
                ..CreateRunRequest::default()
            };
            // It may come before the cluster can take it, and a call that waits for a connection has no deadline.
            let begun = Instant::now();
            let run = loop {
                let call = timeout(CALL_MAX, { self.cluster.runs() }.create_run(request.clone())).await;
                match call {
                    Ok(Ok(answer)) => break answer.into_inner().run.context("a run")?,
                    Ok(Err(refused)) if begun.elapsed() > PATIENCE => return Err(refused).context("start a run"),
                    Err(_) if begun.elapsed() > PATIENCE => bail!("no answer to the start of a run"),
                    _ => sleep(LOOK_AGAIN).await,
                }
            };
            ids.push(run.id.parse()?);
        }
        Ok(ids)
    }

    /// How these runs stand: status and how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(in crate::faults) async fn statuses(&self, runs: &[Uuid]) -> Result<BTreeMap<String, i64>> {
        let sql = "SELECT status, count(*) FROM run WHERE id = ANY ($1) GROUP BY 1";
        let rows = self.sql().await?.query(sql, &[&runs]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Waits until these runs have ended.
    ///
    /// # Errors
    /// When they have not by then.
    pub(in crate::faults) async fn until_ended(&self, runs: &[Uuid], limit: Duration) -> Result<BTreeMap<String, i64>> {
        let begun = Instant::now();
        loop {
            let statuses = self.statuses(runs).await?;
            if !statuses.contains_key("running") && !statuses.contains_key("initial") {
                return Ok(statuses);
            }
            ensure!(begun.elapsed() < limit, "after {} s runs stand as {statuses:?}", limit.as_secs());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs a pipeline a few times, so that code and environments are ready everywhere.
    ///
    /// # Errors
    /// When they do not end.
    pub(in crate::faults) async fn warm(&mut self, pipeline: &str, variables: &[(&str, f64)]) -> Result<()> {
        let first = self.start_runs(pipeline, 6, variables).await?;
        self.until_ended(&first, DRAIN_MAX).await.map(drop)
    }

    /// Runs the slow pipeline once, so that environments are ready, then starts so many that each take so long, and waits
    /// until all of them run.
    ///
    /// # Errors
    /// When they do not start.
    pub(in crate::faults) async fn warm_and_start_slow(&mut self, count: usize, seconds: f64) -> Result<Vec<Uuid>> {
        self.warm(SLOW, &[("seconds", 0.5)]).await?;
        self.start_slow(count, seconds).await
    }

    /// Starts so many slow runs that each take so long, and waits until all of them run.
    ///
    /// # Errors
    /// When they do not start.
    pub(in crate::faults) async fn start_slow(&mut self, count: usize, seconds: f64) -> Result<Vec<Uuid>> {
        let runs = self.start_runs(SLOW, count, &[("seconds", seconds)]).await?;
        let begun = Instant::now();
        let sql = self.sql().await?;
        loop {
            let query = "SELECT count(*) FROM block_run WHERE run_id = ANY ($1) AND block = $2 AND status = 'running'";
            if sql.query_one(query, &[&runs, &NAP]).await?.get::<_, i64>(0) == i64::try_from(count)? {
                return Ok(runs);
            }
            ensure!(begun.elapsed() < PATIENCE, "slow runs do not start");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The executor that runs most of these.
    ///
    /// # Errors
    /// When none does.
    pub(in crate::faults) async fn holder(&self, runs: &[Uuid]) -> Result<String> {
        let query = "SELECT e.name FROM block_run b JOIN executor e ON e.id = b.executor_id
                      WHERE b.run_id = ANY ($1) AND b.status = 'running' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1";
        let row = self.sql().await?.query_opt(query, &[&runs]).await?;
        Ok(row.context("an executor that runs something")?.get(0))
    }

    /// The executor that ran most of these, whatever became of them.
    ///
    /// # Errors
    /// When none did.
    pub(in crate::faults) async fn worker(&self, runs: &[Uuid]) -> Result<String> {
        let query = "SELECT e.name FROM block_run b JOIN executor e ON e.id = b.executor_id
                      WHERE b.run_id = ANY ($1) GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1";
        let row = self.sql().await?.query_opt(query, &[&runs]).await?;
        Ok(row.context("an executor that ran something")?.get(0))
    }

    /// Waits until an executor, by its own journal, runs no nap of these runs any more that it ran at an instant. Answers how long
    /// after that it ended each that was not over by itself, and how many it still runs when the time is up.
    ///
    /// # Errors
    /// When its journal cannot be read.
    pub(in crate::faults) async fn until_stopped(
        &self,
        executor: &str,
        runs: &[Uuid],
        (since, limit): (Timestamp, Duration),
    ) -> Result<(Vec<Duration>, usize)> {
        let begun = Instant::now();
        loop {
            let (stopped, open) = self.stopped(executor, runs, since)?;
            if open == 0 || begun.elapsed() > limit {
                return Ok((stopped, open));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn stopped(&self, executor: &str, runs: &[Uuid], since: Timestamp) -> Result<(Vec<Duration>, usize)> {
        let since_us = since.as_microsecond();
        let (mut open, mut stopped) = (HashSet::new(), Vec::new());
        for JournalLine { at_us, event, .. } in self.journal(executor)? {
            match event {
                JournalEvent::Start { attempt, .. }
                    if at_us <= since_us && attempt.block == NAP && runs.contains(&attempt.run) =>
                {
                    open.insert(attempt);
                }
                JournalEvent::End { attempt, outcome } if open.remove(&attempt) => {
                    let after = u64::try_from(at_us - since_us).ok().filter(|_| outcome != "completed");
                    stopped.extend(after.map(Duration::from_micros));
                }
                _ => {}
            }
        }
        Ok((stopped, open.len()))
    }

    /// What an executor has noted so far.
    fn journal(&self, executor: &str) -> Result<Vec<JournalLine>> {
        let journal = std::fs::read_to_string(self.cluster.history().join(format!("{executor}.jsonl")))?;
        // The last line may be under way.
        Ok(journal.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Results of attempts that others had by then, by an executor's own words: those that a scheduler refused, and those
    /// that it dropped by itself. What only gave an attempt back that had not begun is no result of one.
    ///
    /// # Errors
    /// When its journal cannot be read.
    pub(in crate::faults) fn unwanted(&self, executor: &str) -> Result<(u64, u64)> {
        let (mut refused, mut dropped) = (0, 0);
        let mut given_back = HashSet::new();
        for line in self.journal(executor)? {
            match line.event {
                JournalEvent::Result { attempt, outcome } if outcome == "released" => drop(given_back.insert(attempt)),
                JournalEvent::Ack { attempt, accepted: false } if !given_back.contains(&attempt) => refused += 1,
                JournalEvent::Dropped { .. } => dropped += 1,
                _ => {}
            }
        }
        Ok((refused, dropped))
    }

    /// Attempts of these runs that were given up with their executor.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(in crate::faults) async fn lost_attempts(&self, runs: &[Uuid]) -> Result<u64> {
        let query = "SELECT count(*) FROM attempt WHERE run_id = ANY ($1) AND outcome = 'lost'";
        Ok(u64::try_from(self.sql().await?.query_one(query, &[&runs]).await?.get::<_, i64>(0))?)
    }

    /// Waits until some of them were; answers how many.
    ///
    /// # Errors
    /// When none was by then.
    pub(in crate::faults) async fn until_lost(&self, runs: &[Uuid], limit: Duration) -> Result<u64> {
        let begun = Instant::now();
        loop {
            let lost = self.lost_attempts(runs).await?;
            if lost > 0 {
                return Ok(lost);
            }
            ensure!(begun.elapsed() < limit, "no attempt was given to others in {} s", limit.as_secs());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Why blocks of these runs failed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(in crate::faults) async fn errors_of(&self, runs: &[Uuid]) -> Result<Vec<String>> {
        let query = "SELECT DISTINCT error::text FROM block_run WHERE run_id = ANY ($1) AND status = 'failed'";
        Ok(self.sql().await?.query(query, &[&runs]).await?.iter().map(|row| row.get(0)).collect())
    }
}
