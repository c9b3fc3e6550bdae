//! What the firer reads: the triggers of shards that were gained, and what was edited since. Definitions are the
//! web-server's; changes are found by looking once a second at what was edited lately. Refuses to decide anything.

use super::{Engine, OVERTAKEN_PAUSE};
use crate::engine::{
    armed::{Armed, Kept},
    turn::Chain,
};
use domain::id::TriggerId;
use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};
use store::{
    Client,
    runs::StoredRun,
    triggers::{Edited, Listed, MANUAL, Stored},
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
    pub(in crate::engine) stale: BTreeSet<TriggerId>,
    /// What those of them that were overtaken know of their runs' ends.
    pub(in crate::engine) kept: HashMap<TriggerId, Kept>,
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
        self.pages.retain(|(shards, _)| !shards.is_empty());
        self.kept.retain(|_, kept| !is_lost(i32::from(kept.pipeline.shard())));
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

/// What can be read before anything of it is known.
pub(in crate::engine) struct Heard {
    looked: bool,
    edited: Vec<Edited>,
    page: Vec<Result<Listed, store::Error>>,
}

/// What is to be read after that.
pub(in crate::engine) struct Unread {
    page: Vec<Result<Listed, store::Error>>,
    stale: Vec<TriggerId>,
    /// Of both, whose states are wanted.
    ids: Vec<TriggerId>,
}

/// What [`Unread`] asks for.
pub(in crate::engine) type Rest = (Vec<Result<Listed, store::Error>>, Vec<Stored>);

impl Engine {
    /// Whether something is to be read in this turn, what was gained or edited, and whether it is time to look for edits.
    pub(in crate::engine) fn triggers_to_read(&mut self) -> Option<bool> {
        let is_time = self.reading.looked_at.is_none_or(|at| at.elapsed() >= REFRESH);
        let look = (is_time || self.reading.looked_up_to.is_some()) && self.shards.len() > 0;
        let waits = self.retry_overtaken_at.is_some_and(|at| at > self.now());
        if !look && self.reading.pages.is_empty() && (waits || self.reading.stale.is_empty()) {
            return None;
        }
        if !waits {
            self.retry_overtaken_at = None;
        }
        Some(look)
    }

    /// Shards were taken: their triggers are read page by page, the first one at once and the others in the next turns;
    /// those of unfinished runs at once.
    pub(in crate::engine) fn gain_triggers(&mut self, stored: &[StoredRun]) {
        // Their ends mean something to these, and come before all pages are read.
        let awaited = stored.iter().filter(|run| run.backfill_id.is_none() && run.trigger != MANUAL);
        self.reading.stale.extend(awaited.map(|run| run.trigger_id));
        self.again = true;
    }

    /// Reads triggers that were found to be unknown in the middle of a turn.
    pub(in crate::engine) async fn read_triggers(&mut self) -> Result<(), store::Error> {
        let client = self.store.client().await?;
        let heard = self.hear_triggers(&client, Some(false)).await?;
        let unread = self.unread_triggers(heard);
        let rest = Self::rest_of_triggers(&client, &unread).await?;
        self.arm_triggers(unread, rest);
        Ok(())
    }

    /// What was edited lately, if it is time to look; and the next page of what was gained. Nothing where nothing is to
    /// be read.
    pub(in crate::engine) async fn hear_triggers(
        &self,
        client: &Client,
        read: Option<bool>,
    ) -> Result<Option<Heard>, store::Error> {
        let Some(looked) = read else { return Ok(None) };
        let (edited, page) = tokio::try_join!(biased; self.edits(client, looked), self.page(client))?;
        Ok(Some(Heard { looked, edited, page }))
    }

    /// Notes what was edited lately and is not known in that version, and answers what is to be read.
    pub(in crate::engine) fn unread_triggers(&mut self, heard: Option<Heard>) -> Option<Unread> {
        let Heard { looked, edited, page } = heard?;
        if looked {
            self.note_edits(edited);
        }
        let stale: Vec<TriggerId> = self.reading.stale.iter().take(PAGE as usize).copied().collect();
        let readable = page.iter().filter_map(|found| found.as_ref().ok()).map(|found| found.trigger.id);
        let ids = stale.iter().copied().chain(readable).collect();
        Some(Unread { page, stale, ids })
    }

    /// Reads it.
    pub(in crate::engine) async fn rest_of_triggers(
        client: &Client,
        unread: &Option<Unread>,
    ) -> Result<Option<Rest>, store::Error> {
        let Some(Unread { stale, ids, .. }) = unread else { return Ok(None) };
        let of_ids = store::triggers::of_ids(client, stale);
        tokio::try_join!(biased; of_ids, store::triggers::states(client, ids)).map(Some)
    }

    /// Arms what was read.
    pub(in crate::engine) fn arm_triggers(&mut self, unread: Option<Unread>, rest: Option<Rest>) {
        let (Some(Unread { page, stale, .. }), Some((of_ids, states))) = (unread, rest) else { return };
        let full = page.len() as i64 == PAGE;
        let last = page.iter().filter_map(|found| found.as_ref().ok()).map(|found| found.trigger.id).max();
        let states: HashMap<TriggerId, _> = states.into_iter().map(|state| (state.trigger, state)).collect();
        let now = self.now();
        for found in page.into_iter().chain(of_ids) {
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "a trigger cannot be read; the others go on");
                    continue;
                }
            };
            let (id, pipeline) = (found.trigger.id, found.trigger.pipeline);
            if self.shards.get(pipeline.shard()).is_some() {
                self.disarmed.remove(&id);
                // One that was called for, or edited lately, is read before its page is, or twice. In that version memory
                // knows more than the database: what this turn has decided is not written yet.
                if self.triggers.get(id).is_none_or(|armed| armed.version != found.trigger.version) {
                    let state = states.get(&id).cloned();
                    let kept = self.triggers.get(id).map_or_else(|| self.reading.kept.remove(&id), Kept::of);
                    let mut armed = Armed::new(found, state, now);
                    kept.into_iter().for_each(|kept| armed.go_on_from(kept));
                    self.triggers.arm(id, armed);
                    self.relimit(id);
                }
            }
        }
        // Only now: what failed before is read again.
        self.reading.turn_page(last.filter(|_| full));
        for id in stale {
            self.reading.stale.remove(&id);
            self.reading.kept.remove(&id);
        }
        self.again |= self.reading.has_more();
        self.metrics.triggers_armed.set(i64::try_from(self.triggers.len()).unwrap_or(i64::MAX));
    }

    async fn edits(&self, client: &Client, look: bool) -> Result<Vec<Edited>, store::Error> {
        if !look {
            return Ok(Vec::new());
        }
        let shards: Vec<i32> = self.shards.iter().map(|shard| i32::from(shard.id)).collect();
        store::triggers::changed(client, &shards, LOOK_BACK, self.reading.looked_up_to, CHANGED_MAX).await
    }

    fn note_edits(&mut self, edited: Vec<Edited>) {
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
    }

    /// The next triggers of shards that were gained.
    async fn page(&self, client: &Client) -> Result<Vec<Result<Listed, store::Error>>, store::Error> {
        let Some((shards, after)) = self.reading.pages.last() else { return Ok(Vec::new()) };
        store::triggers::of_shards(client, shards, *after, PAGE).await
    }

    /// What was decided by a version that is not in force any more did not count: it is read and decided anew, after the
    /// edit that may be under way. That its runs have ended stays true.
    pub(in crate::engine) fn overtaken(&mut self, overtaken: &[TriggerId]) {
        if overtaken.is_empty() {
            return;
        }
        for id in overtaken {
            self.metrics.decisions_overtaken.inc();
            if let Some(kept) = self.triggers.get(*id).and_then(Kept::of) {
                self.reading.kept.insert(*id, kept);
            }
            self.triggers.disarm(*id);
            self.reading.stale.insert(*id);
        }
        self.retry_overtaken_at = Some(self.now() + OVERTAKEN_PAUSE);
    }
}
