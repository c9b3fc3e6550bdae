//! What a cluster is loaded with: schedules by interval and by cron, events, backfills, and clients that start runs.
//!
//! The schedules are known beforehand down to the single logical time, so that what is missing afterwards can be named; of
//! the rest, each client keeps a log. Refuses to know what is broken meanwhile.

use super::{Plan, SLOW, Stage};
use crate::{
    cluster::WORKSPACE,
    faults::callers::{Backfills, Callers, Events, KIND, Runs},
    history::Check,
    project_files::{ProjectFolder, noop},
};
use anyhow::{Context, Result};
use jiff::Timestamp;
use proto::v1::{
    CreateTriggerRequest, EventPatterns, TriggerSpec, trigger_service_client::TriggerServiceClient, trigger_spec::Kind,
};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Pipelines of one block that schedules, events and clients start, spread over the shards.
pub(in crate::faults) const PIPELINES: usize = 24;
/// Pipelines of blocks in a row, that cron and backfills start, and how many blocks they have. As each quick one earns its run more
/// leases ahead, they are leased one, two, eight and five at a time.
pub(in crate::faults) const CHAINS: usize = 4;
const CHAIN_BLOCKS: usize = 16;
/// Schedules by cron that are due in each second.
const CRONS: u32 = 4;
/// Triggers that wait for the load's events.
const EVENT_TRIGGERS: usize = 2;
/// Clients that start runs, and about how long each waits between two calls.
const CALLERS: usize = 4;
const CALL_EVERY: Duration = Duration::from_millis(250);
/// Those that send events, each at another web-server first, and the one that starts backfills.
const EVENT_EVERY: Duration = Duration::from_millis(400);
const BACKFILL_EVERY: Duration = Duration::from_millis(1_500);
/// Policies under which runs of one trigger never overlap. Those runs take three seconds and are wanted each second, so that one too many
/// overlaps by more than two owners' readings of the clock are apart; and they are over with the rest of the load.
const ALONE: [&str; 2] = ["skip", "buffer_one"];
const ALONE_SLACK_MS: u32 = 1_000;
const ALONE_ENDS_BEFORE_S: i64 = 6;
/// Between the making of the triggers and their first time.
const LEAD: Duration = Duration::from_secs(3);
/// The first part of the load is left undisturbed, to be compared with, and the last one too, to see it come back; where it
/// lasts long enough for that.
const CALM: Duration = Duration::from_secs(2);
const COMPARED_FROM: Duration = Duration::from_secs(10);

/// So many triggers that are due each second from their first time to their last. What they missed they catch up with.
const INSERT: &str = "
    INSERT INTO trigger (id, pipeline_id, name, kind, active, source, spec)
    SELECT gen_random_uuid(), p.id, $1::text || n, 'time', true, 'api', jsonb_build_object(
        'kind', jsonb_build_object('type', 'schedule', 'every', $2::text, 'zone', 'UTC', 'start', $3::text, 'end', $4::text),
        'overlap', $8::text, 'catch_up', jsonb_build_object('all', jsonb_build_object('window_s', 7200, 'count', 1000)))
    FROM generate_series(1, $5::integer) AS n
    JOIN (SELECT id, row_number() OVER (ORDER BY name) - 1 AS place FROM pipeline WHERE starts_with(name, $6)) AS p
      ON p.place = n % $7::integer";

/// A load that is under way.
#[derive(Debug, Clone, Copy)]
pub(in crate::faults) struct Load {
    /// Times of every schedule.
    pub(in crate::faults) seconds: u32,
    /// How many schedules there are.
    pub(in crate::faults) schedules: u32,
    /// The first of those times, by the database's clock and by this process's.
    pub(in crate::faults) from: Timestamp,
    pub(in crate::faults) began: Instant,
    /// How long nothing is broken at first: no time at all where it is from the start. `None` where the load is too short to be
    /// compared with itself.
    pub(in crate::faults) calm: Option<Duration>,
    /// Until when things are to be broken.
    pub(in crate::faults) broken_until: Instant,
    /// When the last time has come, about.
    pub(in crate::faults) ends_at: Instant,
}

/// The name of one of the pipelines of one block.
#[must_use]
pub(in crate::faults) fn pipeline(number: usize) -> String {
    format!("load_{:02}", number % PIPELINES)
}

/// The name of one of the pipelines of blocks in a row.
#[must_use]
pub(in crate::faults) fn chain(number: usize) -> String {
    format!("chain_{}", number % CHAINS)
}

/// Writes the pipelines of the load.
///
/// # Errors
/// When they cannot be written.
pub(super) fn put_pipelines(project: &ProjectFolder<'_>) -> Result<()> {
    for number in 0..PIPELINES {
        project.pipeline(&pipeline(number), &[noop::<&str>("only", &[])])?;
    }
    let names: Vec<String> = (0..CHAIN_BLOCKS).map(|at| format!("block_{at}")).collect();
    let blocks: Vec<_> = (0..CHAIN_BLOCKS).map(|at| noop(&names[at], &names[at.saturating_sub(1)..at])).collect();
    (0..CHAINS).try_for_each(|number| project.pipeline(&chain(number), &blocks))
}

impl Stage {
    /// Begins the load, and waits until the part of it is over in which nothing is to be broken.
    ///
    /// # Errors
    /// When the triggers or the clients' logs cannot be made.
    pub(in crate::faults) async fn begin(&mut self) -> Result<Load> {
        self.begin_after(CALM).await
    }

    /// As [`Stage::begin`], where something is broken from the start.
    ///
    /// # Errors
    /// As [`Stage::begin`].
    pub(in crate::faults) async fn begin_broken(&mut self) -> Result<Load> {
        self.begin_after(Duration::ZERO).await
    }

    async fn begin_after(&mut self, calm: Duration) -> Result<Load> {
        let Plan { seconds, triggers, .. } = self.plan;
        let listening = self.listen().await?;
        let sql = self.sql().await?;
        let now: Timestamp = sql.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
        let from = Timestamp::from_second(now.as_second() + i64::try_from(LEAD.as_secs())? + 1)?;
        let end = Timestamp::from_second(from.as_second() + i64::from(seconds))?;
        let (from_text, end_text) = (from.to_string(), end.to_string());
        for (name, every, count, prefix, places) in
            [("every-", "@every 1s", triggers, "load_", PIPELINES), ("cron-", "* * * * * *", CRONS, "chain_", CHAINS)]
        {
            let (count, places) = (i32::try_from(count)?, i32::try_from(places)?);
            let values: [&(dyn ToSql + Sync); 8] =
                [&name, &every, &from_text, &end_text, &count, &prefix, &places, &"allow_all"];
            sql.execute(INSERT, &values).await?;
        }
        let whole = Duration::from_secs(seconds.into());
        let calm = (whole >= COMPARED_FROM).then_some(calm);
        let began = Instant::now() + Duration::try_from(now.duration_until(from))?;
        let ends_at = began + whole;
        let schedules = triggers + CRONS;
        let broken_until = ends_at - calm.unwrap_or_default();
        let load = Load { seconds, schedules, from, began, calm, broken_until, ends_at };
        let callers = self.call(ends_at, listening)?;
        self.taken_before = self.takings().await?;
        self.load = Some((load, callers));
        sleep_until(began + calm.unwrap_or_default()).await;
        Ok(load)
    }

    /// Makes triggers whose runs take longer than their interval and must not overlap, whatever happens to schedulers: C6 has something
    /// to check.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(in crate::faults) async fn one_at_a_time(&mut self, load: &Load) -> Result<()> {
        let sql = self.sql().await?;
        let now: Timestamp = sql.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
        let from = Timestamp::from_second(now.as_second() + 1)?.to_string();
        let end = load.from.as_second() + i64::from(load.seconds) - ALONE_ENDS_BEFORE_S;
        let end = Timestamp::from_second(end)?.to_string();
        for policy in ALONE {
            let name = format!("alone-{policy}-");
            let values: [&(dyn ToSql + Sync); 8] = [&name, &"@every 1s", &from, &end, &1_i32, &SLOW, &1_i32, &policy];
            sql.execute(INSERT, &values).await?;
        }
        self.promises.must_check.push(Check::C6);
        self.promises.clock_slack_ms = ALONE_SLACK_MS;
        Ok(())
    }

    /// Makes the triggers that wait for events.
    async fn listen(&self) -> Result<Vec<Uuid>> {
        let mut client = TriggerServiceClient::new(self.cluster.channel());
        let mut triggers = Vec::new();
        for number in 0..EVENT_TRIGGERS {
            let kind = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(KIND.to_owned())) };
            let kinds = prost_types::value::Kind::ListValue(prost_types::ListValue { values: vec![kind] });
            let fields = [("kind".to_owned(), prost_types::Value { kind: Some(kinds) })];
            let patterns = vec![prost_types::Struct { fields: fields.into() }];
            let spec = TriggerSpec { kind: Some(Kind::Event(EventPatterns { patterns })), ..TriggerSpec::default() };
            let name = format!("event-{number}");
            let request = CreateTriggerRequest {
                workspace: WORKSPACE.to_owned(),
                pipeline: pipeline(number * PIPELINES / EVENT_TRIGGERS),
                name: name.clone(),
                active: true,
                spec: Some(spec),
                idempotency_key: name,
            };
            let trigger = client.create_trigger(request).await?.into_inner().trigger.context("a trigger")?;
            triggers.push(trigger.id.parse()?);
        }
        Ok(triggers)
    }

    fn call(&self, until: Instant, listening: Vec<Uuid>) -> Result<Callers> {
        let (history, channel) = (self.cluster.history(), self.cluster.channel());
        let mut callers = Callers::until(until, self.plan.seed);
        for number in 0..CALLERS {
            callers.add(Runs(channel.clone()), format!("caller-{number}"), &history, CALL_EVERY)?;
        }
        let doors = self.cluster.doors();
        for first in 0..doors.len() {
            let mut web_servers = doors.clone();
            web_servers.rotate_left(first);
            let events = Events { web_servers, token: self.cluster.token()?, triggers: listening.clone() };
            callers.add(events, format!("sender-{first}"), &history, EVENT_EVERY)?;
        }
        callers.add(Backfills(channel), "filler".to_owned(), &history, BACKFILL_EVERY)?;
        Ok(callers)
    }
}
