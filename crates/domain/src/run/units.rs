//! Finding units: by key, by executor.

use super::{Kind, Run};
use crate::{
    id::ExecutorId,
    unit::{Ending, Phase, Step, Unit, UnitKey},
};

impl Run {
    /// Everything that is leased to one executor.
    #[must_use]
    pub fn running_on(&self, executor: ExecutorId) -> Vec<(UnitKey, i64)> {
        self.running_units().filter(|(_, _, on)| *on == executor).map(|(key, lease, _)| (key, lease)).collect()
    }

    /// Everything that is leased: unit, lease, executor.
    pub fn running_units(&self) -> impl Iterator<Item = (UnitKey, i64, ExecutorId)> + '_ {
        let blocks = self.blocks.iter().enumerate().flat_map(|(at, block)| {
            let (single, fan) = match &block.kind {
                Kind::Single(unit) => (Some((UnitKey::block(at, None), unit)), None),
                Kind::Fan(fan) => (None, Some(fan)),
                Kind::Waiting => (None, None),
            };
            let children = fan
                .into_iter()
                .flat_map(move |fan| fan.active().map(move |(child, unit)| (UnitKey::block(at, Some(child)), unit)));
            single.into_iter().chain(children)
        });
        blocks
            .chain(self.callbacks.iter().map(|(key, unit)| (*key, unit)))
            .filter_map(|(key, unit)| Some((key, unit.lease, unit.leased_to()?)))
    }

    pub(super) fn unit(&self, key: UnitKey) -> Option<&Unit> {
        match (key.step, key.child) {
            (Step::Block(at), child) => match (&self.blocks.get(at)?.kind, child) {
                (Kind::Single(unit), None) => Some(unit),
                (Kind::Fan(fan), Some(child)) => fan.child(child),
                _ => None,
            },
            (Step::Callback { .. }, _) => self.callbacks.get(&key),
        }
    }

    pub(super) fn unit_mut(&mut self, key: UnitKey) -> Option<&mut Unit> {
        match (key.step, key.child) {
            (Step::Block(at), child) => match (&mut self.blocks.get_mut(at)?.kind, child) {
                (Kind::Single(unit), None) => Some(unit),
                (Kind::Fan(fan), Some(child)) => fan.child_mut(child),
                _ => None,
            },
            (Step::Callback { .. }, _) => self.callbacks.get_mut(&key),
        }
    }

    pub(super) fn put_unit(&mut self, key: UnitKey, unit: Unit) {
        if let Some(slot) = self.unit_mut(key) {
            *slot = unit;
        }
    }

    /// True when exactly this try is leased to exactly this executor; to compare with what an executor says that it
    /// holds when it connects.
    #[must_use]
    pub fn is_running(&self, key: UnitKey, lease: i64, executor: ExecutorId) -> bool {
        self.unit(key).is_some_and(|unit| unit.lease == lease && unit.leased_to() == Some(executor))
    }

    /// True when this try of a block is over and is not its result, as that of what was taken back. Never of children and of
    /// callbacks: of those that are over too little is kept to tell.
    #[must_use]
    pub fn has_passed(&self, key: UnitKey, lease: i64) -> bool {
        let counts = |unit: &Unit| {
            unit.lease == lease && (unit.leased_to().is_some() || unit.phase == Phase::Ended(Ending::Completed))
        };
        matches!((key.step, key.child), (Step::Block(_), None)) && !self.unit(key).is_some_and(counts)
    }
}
