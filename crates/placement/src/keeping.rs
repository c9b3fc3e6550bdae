//! Capacity that is kept for those who waited long (EASY backfilling): others may use it only if they are gone in time, or
//! if it is enough for both.

use crate::fleet::{NodeState, Taking};
use domain::id::HolderId;
use jiff::Timestamp;
use std::{borrow::Cow, collections::BTreeMap};

/// One reservation on each node at most, so that each is true on its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keeping {
    by_node: BTreeMap<usize, Kept>,
}

/// One reservation: of one request, or of the members of one gang.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// Who gets what of the node.
    pub(crate) takings: Vec<(HolderId, Taking)>,
    /// When it can be taken; `None` is unknown.
    pub(crate) free_at: Option<Timestamp>,
    /// What is left for others at that time, with the reservation taken.
    pub(crate) left_then: NodeState,
}

impl Keeping {
    pub(crate) fn add(&mut self, kept: Kept) {
        if let Some((_, taking)) = kept.takings.first() {
            self.by_node.insert(taking.node, kept);
        }
    }

    pub(crate) fn remove(&mut self, holder: HolderId) {
        self.by_node.retain(|_, kept| !kept.is_for(holder));
    }

    pub(crate) fn len(&self) -> usize {
        self.by_node.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.by_node.values()
    }

    pub(crate) fn concerns(&self, node: usize) -> bool {
        self.by_node.contains_key(&node)
    }

    /// What `holder`, who ends at that time at the latest, may use of a node.
    pub(crate) fn view<'a>(
        &self,
        node: usize,
        state: &'a NodeState,
        holder: HolderId,
        ends_at: Option<Timestamp>,
    ) -> Cow<'a, NodeState> {
        match self.by_node.get(&node) {
            Some(kept) if !kept.is_for(holder) && !kept.outlasts(ends_at) => Cow::Owned(state.lesser(&kept.left_then)),
            _ => Cow::Borrowed(state),
        }
    }

    /// Somebody took something of a node.
    pub(crate) fn taken(&mut self, taking: &Taking, ends_at: Option<Timestamp>) {
        if let Some(kept) = self.by_node.get_mut(&taking.node)
            && !kept.outlasts(ends_at)
        {
            // Whoever got it through `view` left enough; what is nominated by a preemption may leave less than nothing.
            kept.left_then.take(taking);
        }
    }

    /// What `taken` was told about was undone; `whole` is the empty node.
    pub(crate) fn given_back(&mut self, taking: &Taking, ends_at: Option<Timestamp>, whole: &NodeState) {
        if let Some(kept) = self.by_node.get_mut(&taking.node)
            && !kept.outlasts(ends_at)
        {
            kept.left_then.give(taking, whole);
        }
    }
}

impl Kept {
    fn is_for(&self, holder: HolderId) -> bool {
        self.takings.iter().any(|(kept_for, _)| *kept_for == holder)
    }

    fn outlasts(&self, ends_at: Option<Timestamp>) -> bool {
        matches!((ends_at, self.free_at), (Some(end), Some(free)) if end <= free)
    }
}
