//! Schedulers that die while lives of their pools stand where the row wants them to: each step of a start, and the end of one,
//! is aimed at in turn. Refuses to know what comes of it.

use crate::faults::{Seen, stage::Stage};
use anyhow::Result;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use uuid::Uuid;

/// Where a life can be, and whether somebody has to have died there. Between the commit of its place and its executor's first
/// word a life is for a few milliseconds only: that is aimed at like the others, told, and not asked for.
const STEPS: [(&str, bool); 4] = [("queued", true), ("placed", false), ("starting", true), ("stopping", true)];
/// How long a life at the step is waited for, before anybody dies; and between two looks.
const AIM: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// The address of whoever owns the pool of somebody at a step, unless that is one that was killed and of whom nobody knows yet.
const OWNERS: &str = "SELECT m.address FROM runtime r JOIN pool p ON p.name = r.pool JOIN shard s ON s.id = p.shard
     JOIN scheduler m ON m.id = s.owner
    WHERE CASE r.state WHEN 'starting' THEN r.step ELSE r.state END = $1 AND m.id <> ALL ($2) LIMIT 1";
/// The life of the scheduler at an address; none before it has come up.
const LIVES: &str = "SELECT id FROM scheduler WHERE address = $1 AND id <> ALL ($2)";
/// How many lives stand where, of those in the pools that a scheduler owns.
const STANDING: &str = "SELECT CASE r.state WHEN 'starting' THEN r.step ELSE r.state END, count(*)
    FROM runtime r JOIN pool p ON p.name = r.pool JOIN shard s ON s.id = p.shard
   WHERE s.owner = ANY ($1) AND r.state IN ('starting', 'stopping') GROUP BY 1";

/// The deaths of a row.
#[derive(Default)]
pub(super) struct Deaths {
    count: u64,
    /// Lives of schedulers that are over.
    over: Vec<Uuid>,
    /// Lives of runtimes that lost their scheduler, by where they stood.
    lost: BTreeMap<String, u64>,
}

impl Deaths {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether nobody has died yet where somebody has to.
    pub(super) fn is_missing(&self) -> bool {
        STEPS.iter().any(|(step, is_asked)| *is_asked && self.at(step) == 0)
    }

    fn at(&self, step: &str) -> u64 {
        self.lost.get(step).copied().unwrap_or_default()
    }

    /// Kills the owner of somebody who is at the step whose turn it is; any scheduler, where nobody is. Answers which.
    ///
    /// # Errors
    /// When it cannot be signalled, or the database does not answer.
    pub(super) async fn kill(&mut self, stage: &mut Stage, sql: &Client) -> Result<String> {
        let step = STEPS[usize::try_from(self.count)? % STEPS.len()].0;
        let any = stage.victim("scheduler", 3);
        let look = sql.prepare(OWNERS).await?;
        let begun = Instant::now();
        let address = loop {
            let found = sql.query_opt(&look, &[&step, &self.over]).await?;
            if found.is_some() || begun.elapsed() > AIM {
                break found.map(|row| row.get::<_, String>(0));
            }
            sleep(LOOK_AGAIN).await;
        };
        let owner = address.and_then(|address| {
            stage.cluster.services().find(|(_, service)| service.advertised() == address).map(|(name, _)| name.clone())
        });
        let victim = owner.unwrap_or(any);
        let service = stage.cluster.service(&victim)?;
        // Frozen, it takes nobody further before it is dead.
        service.freeze()?;
        let lives = sql.query(LIVES, &[&service.advertised(), &self.over]).await?;
        let lives: Vec<Uuid> = lives.iter().map(|row| row.get(0)).collect();
        for row in sql.query(STANDING, &[&lives]).await? {
            *self.lost.entry(row.get(0)).or_default() += u64::try_from(row.get::<_, i64>(1))?;
        }
        service.kill()?;
        self.over.extend(lives);
        self.count += 1;
        Ok(victim)
    }

    /// Notes them, and where they left whom.
    pub(super) fn tell(&self, seen: &mut Seen) {
        seen.bite("schedulers killed", self.count);
        for (step, is_asked) in STEPS {
            let what = format!("lives that were {step} when theirs was");
            if is_asked {
                seen.bite(&what, self.at(step));
            } else {
                #[expect(clippy::cast_precision_loss, reason = "a count for people")]
                seen.tell(&what, self.at(step) as f64, "");
            }
        }
    }
}
