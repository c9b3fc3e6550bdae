//! Notice before a preemption: whoever has to leave for others is told first, and stopped when the time is up. Whether somebody
//! is under notice follows from the nominations that are kept, which are rows: where none names it any more, since whoever
//! came first has left or got another place, it goes on.
//!
//! Refuses to decide who leaves, and to stop anybody: that is the clock's.

use super::{Placer, turn::Turn};
use domain::{
    id::{HolderId, ProjectId},
    runtime::life::{Event, Goal, Life, Preemption, Stage},
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use store::ledger::{Placement, PlacementState};

/// What a preemption says to whoever may not know of the other.
const ANOTHER_FIRST: &str = "a runtime or block of another project comes first";

/// Whether it was told to leave, and may still stay.
pub(super) fn is_noticed(life: &Life) -> bool {
    life.preemption.is_some() && life.goal() == Some(Goal::Run)
}

impl Placer {
    /// When those are stopped who are told to leave now; `None` is at once: where there is no notice, and where nobody of them
    /// has come so far that there is something to save.
    pub(super) fn end_of_notice(&self, victims: &[HolderId]) -> Option<Timestamp> {
        let notice = self.parts.timing.rules.preemption_notice;
        let runs =
            |victim: &HolderId| self.lives.get(*victim).is_some_and(|stored| stored.life.stage == Stage::Running);
        let is_given = !notice.is_zero() && victims.iter().any(runs);
        is_given.then(|| self.now().saturating_add(notice).unwrap_or(Timestamp::MAX))
    }

    /// For whom somebody of a project has to leave. What another project does is not for everybody to know.
    pub(super) fn comes_first(&self, nominated: &Placement, project: ProjectId) -> String {
        if nominated.project != project {
            return ANOTHER_FIRST.to_owned();
        }
        let workspace = self.lives.get(nominated.holder).map(|stored| format!("workspace {}", stored.workspace));
        let name = workspace.or_else(|| self.block_name(nominated.holder));
        let queue = self.terms.queues.iter().find(|queue| queue.id == nominated.queue);
        let (name, queue) = (name.as_deref().unwrap_or("another"), queue.map_or("?", |queue| &*queue.name));
        format!("{name} of queue {queue} comes first")
    }

    /// How many of a project's lives are under notice, or were stopped so lately that its terms do not tell of it.
    pub(super) fn disrupted_of(&self, project: ProjectId) -> u32 {
        let noticed = self.noticed.iter().filter_map(|holder| self.lives.get(*holder));
        let noticed = noticed.filter(|stored| stored.life.project == project && is_noticed(&stored.life)).count();
        let stopped = self.disrupted.iter().filter(|disrupted| **disrupted == project).count();
        u32::try_from(noticed + stopped).unwrap_or(u32::MAX)
    }

    /// Who is under notice, and who should be, by rows that were just read.
    pub(super) fn find_noticed(&mut self) {
        let told = self.lives.iter().filter(|stored| is_noticed(&stored.life)).map(|stored| stored.life.holder);
        let named = self.nominated().flat_map(|placement| placement.victims.iter().copied());
        self.noticed = told.chain(named).collect();
    }

    /// Some of those who make room for it were only told so far, and may still stay.
    pub(super) fn is_revocable(&self, nominated: &Placement) -> bool {
        let stays = |victim: &HolderId| self.lives.get(*victim).is_some_and(|stored| is_noticed(&stored.life));
        nominated.victims.iter().any(stays)
    }

    /// Nobody new comes to the place that is kept, and not all have begun to leave it: nobody is to be stopped for that. Nor does
    /// somebody who is restarted wait for it.
    pub(super) fn is_kept_in_vain(&self, nominated: &Placement) -> bool {
        let devices = nominated.grants.iter().map(|grant| grant.device);
        self.fleet.is_closed(nominated.node, devices, &self.terms.drained)
            && (nominated.victims.is_empty() || self.is_revocable(nominated))
    }

    /// Tells those who may stay that they may, and those whom a former owner of the pool did not tell that they have to leave.
    pub(super) fn settle_notices(&mut self, turn: &mut Turn) {
        if self.noticed.is_empty() {
            return;
        }
        let named: BTreeMap<HolderId, HolderId> = self
            .nominated()
            .flat_map(|placement| placement.victims.iter().map(move |victim| (*victim, placement.holder)))
            .collect();
        for victim in std::mem::take(&mut self.noticed) {
            let Some(life) = self.lives.get(victim).map(|stored| &stored.life) else { continue };
            if life.goal() != Some(Goal::Run) {
                continue;
            }
            let (project, told) = (life.project, life.preemption.as_ref());
            let is_told = told.is_some_and(|told| !told.message.is_empty());
            match named.get(&victim).and_then(|nominee| self.placements.get(nominee)) {
                None => {
                    self.happen(victim, Event::Reprieved, turn);
                    // Who waited for its place to come free may have to look for another one.
                    self.planning.want();
                }
                // Queues have no names before the terms are read.
                Some(nominated) if !is_told && self.terms_read_at.is_some() => {
                    let message = self.comes_first(nominated, project);
                    let at = self.end_of_notice(&[victim]).unwrap_or_else(|| self.now());
                    self.happen(victim, Event::Preempted(Preemption { at, message }), turn);
                    self.noticed.insert(victim);
                }
                Some(_) => {
                    self.noticed.insert(victim);
                }
            }
        }
    }

    pub(super) fn nominated(&self) -> impl Iterator<Item = &Placement> {
        self.placements.values().filter(|placement| placement.state == PlacementState::Nominated)
    }
}
