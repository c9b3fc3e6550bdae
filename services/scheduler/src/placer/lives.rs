//! The lives of one pool in memory, by holder and by workspace, and what is due of them when. Refuses to change them by
//! itself.

use domain::{
    id::{HolderId, ProjectId, WorkspaceId},
    runtime::life::Rules,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::ledger::StoredLife;

/// Those that have not ended.
#[derive(Default)]
pub(super) struct Lives {
    by_holder: BTreeMap<HolderId, StoredLife>,
    by_workspace: HashMap<WorkspaceId, HolderId>,
    due: BTreeSet<(Timestamp, HolderId)>,
    due_of: HashMap<HolderId, Timestamp>,
}

impl Lives {
    pub(super) fn len(&self) -> usize {
        self.by_holder.len()
    }

    pub(super) fn get(&self, holder: HolderId) -> Option<&StoredLife> {
        self.by_holder.get(&holder)
    }

    pub(super) fn get_mut(&mut self, holder: HolderId) -> Option<&mut StoredLife> {
        self.by_holder.get_mut(&holder)
    }

    pub(super) fn of(&self, workspace: WorkspaceId) -> Option<HolderId> {
        self.by_workspace.get(&workspace).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &StoredLife> {
        self.by_holder.values()
    }

    pub(super) fn holders(&self) -> Vec<HolderId> {
        self.by_holder.keys().copied().collect()
    }

    pub(super) fn projects(&self) -> Vec<ProjectId> {
        let projects: BTreeSet<ProjectId> = self.iter().map(|stored| stored.life.project).collect();
        projects.into_iter().collect()
    }

    /// Adds a life, or replaces it as it was decided.
    pub(super) fn insert(&mut self, stored: StoredLife, rules: &Rules) {
        let holder = stored.life.holder;
        self.by_workspace.insert(stored.life.workspace, holder);
        self.by_holder.insert(holder, stored);
        self.arm(holder, rules);
    }

    pub(super) fn remove(&mut self, holder: HolderId) -> Option<StoredLife> {
        let stored = self.by_holder.remove(&holder)?;
        if self.by_workspace.get(&stored.life.workspace) == Some(&holder) {
            self.by_workspace.remove(&stored.life.workspace);
        }
        if let Some(at) = self.due_of.remove(&holder) {
            self.due.remove(&(at, holder));
        }
        Some(stored)
    }

    /// Notes when a life is to be woken, after it has changed.
    pub(super) fn arm(&mut self, holder: HolderId, rules: &Rules) {
        let due = self.by_holder.get(&holder).and_then(|stored| stored.life.due(rules));
        if self.due_of.get(&holder).copied() == due {
            return;
        }
        if let Some(before) = self.due_of.remove(&holder) {
            self.due.remove(&(before, holder));
        }
        if let Some(at) = due {
            self.due_of.insert(holder, at);
            self.due.insert((at, holder));
        }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Those that are due at `now`.
    pub(super) fn due(&self, now: Timestamp) -> Vec<HolderId> {
        self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, holder)| *holder).collect()
    }
}
