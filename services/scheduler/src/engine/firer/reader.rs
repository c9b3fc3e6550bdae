//! What the firer reads: the triggers of shards that were gained, and what was edited since. Definitions are the
//! web-server's; changes are found by looking once a second at what was edited lately. Refuses to decide anything.

use super::{Engine, OVERTAKEN_PAUSE};
use crate::engine::{armed::Armed, turn::Chain};
use domain::id::TriggerId;
use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};
use store::{
    Client,
    runs::StoredRun,
    triggers::{Edited, Listed, MANUAL},
};

/// Triggers that are read at once.
const PAGE: i64 = 2_000;
/// Between two looks at what was edited.
const REFRESH: Duration = Duration::from_secs(1);
/// A look covers so much time: an edit becomes visible later than the time that it wrote.
const LOOK_BACK: Duration = Duration::from_secs(60);
/// Edited triggers of one page; the next turn looks at the next one.
const CHANGED_MAX: i64 = 10_000;
/// Triggers that fire no more whose versions are kept, about; beyond it the memory starts anew, which costs a read each.
const DISARMED_MAX: usize = 2_000;

/// What the firer has to read.
#[derive(Default)]
pub(in crate::engine) struct Reading {
    /// Shards whose triggers are not all read yet, with the last that was.
    pages: Vec<(Vec<i32>, TriggerId)>,
    /// Triggers that are to be read anew.
    pub(super) stale: BTreeSet<TriggerId>,
    looked_at: Option<Instant>,
    /// Up to where a look at what was edited has come that found more than a page.
    looked_up_to: Option<Edited>,
}

impl Reading {
    pub(in crate::engine) fn gain(&mut self, shards: &[i16]) {
        self.pages.push((shards.iter().map(|shard| i32::from(*shard)).collect(), TriggerId(uuid::Uuid::nil())));
    }

    pub(in crate::engine) fn lose(&mut self, is_lost: impl Fn(i32) -> bool) {
        for (shards, _) in &mut self.pages {
            shards.retain(|shard| !is_lost(*shard));
        }
    }

    pub(in crate::engine) fn clear(&mut self) {
        *self = Self::default();
    }

    fn has_more(&self) -> bool {
        self.looked_up_to.is_some() || !self.stale.is_empty() || !self.pages.is_empty()
    }

    /// A page is read; the `last` of a full one is where the next begins.
    fn turn_page(&mut self, last: Option<TriggerId>) {
        match last {
            Some(last) => self.pages.last_mut().into_iter().for_each(|(_, after)| *after = last),
            None => drop(self.pages.pop()),
        }
    }
}

impl Engine {
    /// Reads what was gained or edited; a page in a turn, so that everything else goes on.
    pub(in crate::engine) async fn read_triggers(&mut self) {
        let is_time = self.reading.looked_at.is_none_or(|at| at.elapsed() >= REFRESH);
        let look = (is_time || self.reading.looked_up_to.is_some()) && self.shards.len() > 0;
        let waits = self.retry_overtaken_at.is_some_and(|at| at > self.now());
        if !look && self.reading.pages.is_empty() && (waits || self.reading.stale.is_empty()) {
            return;
        }
        if !waits {
            self.retry_overtaken_at = None;
        }
        if let Err(error) = self.try_read_triggers(look).await {
            tracing::warn!(error = %Chain(&error), "failed to read triggers; they are read again");
        }
        self.metrics.triggers_armed.set(i64::try_from(self.triggers.len()).unwrap_or(i64::MAX));
    }

    /// Shards were taken: their triggers are read page by page in the next turns, those of unfinished runs now.
    pub(in crate::engine) async fn load_triggers(
        &mut self,
        shards: &[i16],
        stored: &[StoredRun],
    ) -> Result<(), store::Error> {
        self.reading.gain(shards);
        // Their ends mean something to these, and come before all pages are read.
        let awaited = stored.iter().filter(|run| run.backfill_id.is_none() && run.trigger != MANUAL);
        self.reading.stale.extend(awaited.map(|run| run.trigger_id));
        if !self.reading.stale.is_empty() {
            self.try_read_triggers(false).await?;
        }
        self.again = true;
        Ok(())
    }

    pub(super) async fn try_read_triggers(&mut self, look: bool) -> Result<(), store::Error> {
        let client = self.store.client().await?;
        if look {
            self.look_for_edits(&client).await?;
        }
        let mut listed = Vec::new();
        let page = self.page(&client).await?;
        let full = page.len() as i64 == PAGE;
        let last = page.iter().filter_map(|found| found.as_ref().ok()).map(|found| found.trigger.id).max();
        listed.extend(page);
        let stale: Vec<TriggerId> = self.reading.stale.iter().take(PAGE as usize).copied().collect();
        if !stale.is_empty() {
            listed.extend(store::triggers::of_ids(&client, &stale).await?);
        }
        let mut readable = Vec::with_capacity(listed.len());
        for found in listed {
            match found {
                Ok(found) => readable.push(found),
                Err(error) => tracing::error!(error = %Chain(&error), "a trigger cannot be read; the others go on"),
            }
        }
        let ids: Vec<TriggerId> = readable.iter().map(|found| found.trigger.id).collect();
        let states: HashMap<TriggerId, _> =
            store::triggers::states(&client, &ids).await?.into_iter().map(|state| (state.trigger, state)).collect();
        let now = self.now();
        for found in readable {
            let (id, pipeline) = (found.trigger.id, found.trigger.pipeline);
            if self.shards.get(pipeline.shard()).is_some() {
                self.disarmed.remove(&id);
                // One that was called for, or edited lately, is read before its page is, or twice. In that version memory
                // knows more than the database: what this turn has decided is not written yet.
                if self.triggers.get(id).is_none_or(|armed| armed.version != found.trigger.version) {
                    let state = states.get(&id).cloned();
                    self.triggers.arm(id, Armed::new(found, state, now));
                }
            }
        }
        // Only now: what failed before is read again.
        self.reading.turn_page(last.filter(|_| full));
        for id in stale {
            self.reading.stale.remove(&id);
        }
        self.again |= self.reading.has_more();
        Ok(())
    }

    /// Notes what was edited lately and is not known in that version.
    async fn look_for_edits(&mut self, client: &Client) -> Result<(), store::Error> {
        let shards: Vec<i32> = self.shards.iter().map(|shard| i32::from(shard.id)).collect();
        let after = self.reading.looked_up_to;
        let edited = store::triggers::changed(client, &shards, LOOK_BACK, after, CHANGED_MAX).await?;
        self.reading.looked_up_to = edited.last().copied().filter(|_| edited.len() as i64 == CHANGED_MAX);
        for Edited { trigger: id, version, .. } in edited {
            let known = self.triggers.get(id).map(|armed| armed.version);
            if known != Some(version) && self.disarmed.get(&id) != Some(&version) {
                self.reading.stale.insert(id);
            }
        }
        self.reading.looked_at = Some(Instant::now());
        if self.disarmed.len() > DISARMED_MAX {
            self.disarmed.clear();
        }
        Ok(())
    }

    /// The next triggers of shards that were gained.
    async fn page(&self, client: &Client) -> Result<Vec<Result<Listed, store::Error>>, store::Error> {
        let Some((shards, after)) = self.reading.pages.last() else { return Ok(Vec::new()) };
        store::triggers::of_shards(client, shards, *after, PAGE).await
    }

    /// What was decided by a version that is not in force any more did not count: it is read and decided anew, after the
    /// edit that may be under way.
    pub(in crate::engine) fn overtaken(&mut self, overtaken: &[TriggerId]) {
        if overtaken.is_empty() {
            return;
        }
        for id in overtaken {
            self.metrics.decisions_overtaken.inc();
            self.triggers.disarm(*id);
            self.reading.stale.insert(*id);
        }
        self.retry_overtaken_at = Some(self.now() + OVERTAKEN_PAUSE);
    }
}
