//! Fans: a block that runs once per combination of items. Children are a cursor and a few exceptions, not a list, so
//! that ten thousand of them cost what ten do.

use super::{CHILDREN_MAX, Kind, Run, Transition, attempt::End, unit_row};
use crate::{
    graph::Feed,
    unit::{BlockStatus, Ending, Failure, Unit, UnitKey, UnitRow},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

/// The children of one block.
#[derive(Debug, Clone, Default)]
pub(super) struct Fan {
    total: u32,
    started_at: Option<Timestamp>,
    /// Children below this were leased at least once, or ended because what they read did not complete.
    next: u32,
    /// Running, waiting for a retry, or ended otherwise than completed; by index.
    units: BTreeMap<u32, Unit>,
    /// Of `units`, those that ended.
    ended_badly: u32,
    completed: u32,
    /// Leases of completed children that are not `floor + 1`.
    odd_leases: BTreeMap<u32, i64>,
    /// Leases start above it.
    floor: i64,
    /// Children whose own output is dynamic: how many items each has.
    items: BTreeMap<u32, u32>,
    /// Where each child's items begin among all of them, and the child; made when first asked for.
    items_index: OnceLock<Vec<(u64, u32)>>,
    items_total: u64,
    skipped: BTreeSet<u32>,
    /// Some child failed, was cancelled or never leased, read one that did not complete.
    failed: bool,
    cancelled: bool,
    upstream_failed: bool,
}

impl Fan {
    pub(super) fn new(total: u32, floor: i64, started_at: Option<Timestamp>) -> Self {
        Self { total, floor, started_at, ..Self::default() }
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn completed(&self) -> u32 {
        self.completed
    }

    pub(super) fn is_over(&self) -> bool {
        self.completed + self.ended_badly == self.total
    }

    pub(super) fn has_unleased(&self) -> bool {
        self.next < self.total
    }

    /// Children that were never leased.
    pub(super) fn unleased(&self) -> usize {
        self.total.saturating_sub(self.next) as usize
    }

    /// Takes the next child that was never leased.
    pub(super) fn take_next(&mut self) -> Option<u32> {
        (self.next < self.total).then(|| {
            let child = self.next;
            self.next += 1;
            self.units.insert(child, Unit::ready(self.floor));
            child
        })
    }

    pub(super) fn child(&self, child: u32) -> Option<&Unit> {
        self.units.get(&child)
    }

    pub(super) fn child_mut(&mut self, child: u32) -> Option<&mut Unit> {
        self.units.get_mut(&child)
    }

    pub(super) fn active(&self) -> impl Iterator<Item = (u32, &Unit)> {
        self.units.iter().map(|(child, unit)| (*child, unit))
    }

    /// The committed lease of a child, if it completed.
    pub(super) fn output_lease(&self, child: u32) -> Option<i64> {
        if child >= self.next || self.units.contains_key(&child) {
            return None;
        }
        Some(self.odd_leases.get(&child).copied().unwrap_or(self.floor + 1))
    }

    pub(super) fn completed_children(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        (0..self.next).filter_map(|child| self.output_lease(child).map(|lease| (child, lease)))
    }

    /// How many items all children have together.
    pub(super) fn items_total(&self) -> u64 {
        self.items_total
    }

    pub(super) fn end_child(&mut self, child: u32, unit: Unit, ending: Ending, items: Option<u32>) {
        if ending == Ending::Completed {
            self.units.remove(&child);
            self.completed += 1;
            if unit.lease != self.floor + 1 {
                self.odd_leases.insert(child, unit.lease);
            }
            if let Some(items) = items {
                self.items.insert(child, items);
                self.items_total += u64::from(items);
                self.items_index = OnceLock::new();
            }
            return;
        }
        self.ended_badly += 1;
        match ending {
            Ending::ConditionFailed => {
                self.skipped.insert(child);
            }
            Ending::Cancelled => self.cancelled = true,
            Ending::UpstreamFailed => self.upstream_failed = true,
            Ending::Failed | Ending::Completed => self.failed = true,
        }
        self.units.insert(child, unit);
    }

    /// The children that were never leased will not be.
    pub(super) fn close(&mut self) {
        self.cancelled |= self.next < self.total;
        self.total = self.next;
    }

    pub(super) fn ending(&self) -> Ending {
        if self.failed {
            Ending::Failed
        } else if self.cancelled {
            Ending::Cancelled
        } else if self.upstream_failed {
            Ending::UpstreamFailed
        } else if self.total > 0 && self.skipped.len() == self.total as usize {
            Ending::ConditionFailed
        } else {
            Ending::Completed
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// How a child ends that reads a child which did not complete.
    pub(super) fn missing(&self, child: u32) -> Ending {
        if self.skipped.contains(&child) { Ending::ConditionFailed } else { Ending::UpstreamFailed }
    }

    /// The child that holds the n-th item of all children's items, and the item's index in it.
    pub(super) fn locate_item(&self, position: u32) -> (u32, u32) {
        let index = self.items_index.get_or_init(|| {
            let mut begin = 0;
            let begins = self.items.iter().map(|(child, items)| {
                let here = (begin, *child);
                begin += u64::from(*items);
                here
            });
            begins.collect()
        });
        // Children without items begin where the next one does: the last that begins here or before holds it.
        let after = index.partition_point(|(begin, _)| *begin <= u64::from(position));
        let (begin, child) = after.checked_sub(1).map_or((0, self.total), |at| index[at]);
        (child, u32::try_from(u64::from(position) - begin).unwrap_or(u32::MAX))
    }

    /// The highest lease that any child had.
    pub(super) fn highest_lease(&self) -> i64 {
        let odd = self.odd_leases.values().copied().max().unwrap_or(0);
        let units = self.units.values().map(|unit| unit.lease).max().unwrap_or(0);
        let plain = if self.next > 0 { self.floor + 1 } else { self.floor };
        odd.max(units).max(plain)
    }

    /// Puts a stored child back; only while rebuilding, in index order.
    pub(super) fn restore(&mut self, child: u32, unit: Unit, ending: Option<Ending>, items: Option<u32>) {
        self.next = self.next.max(child + 1);
        match ending {
            Some(ending) => self.end_child(child, unit, ending, items),
            None => {
                self.units.insert(child, unit);
            }
        }
    }

    /// Children that ended without completing become ready again, but not those that a guard refused; answers which.
    /// `total` is as the upstreams tell it.
    pub(super) fn reopen(&mut self, total: u32, now: Timestamp) -> Vec<u32> {
        self.total = total;
        self.started_at = Some(now);
        (self.failed, self.cancelled, self.upstream_failed) = (false, false, false);
        let mut again = Vec::new();
        for (child, unit) in &mut self.units {
            if !self.skipped.contains(child) {
                *unit = Unit::ready(unit.lease);
                again.push(*child);
            }
        }
        self.ended_badly = u32::try_from(self.skipped.len()).unwrap_or(u32::MAX);
        again
    }
}

impl Run {
    /// Counts the combinations and makes the block a fan of so many children.
    pub(super) fn expand(&mut self, at: usize, now: Timestamp, out: &mut Vec<Transition>) {
        let floor = self.blocks[at].carry.lease;
        match self.combinations(at) {
            Ok(total) => {
                let fan = Fan::new(total, floor, Some(now));
                out.push(Transition::Unit(Box::new(fan_row(at, &fan))));
                if total > 0 {
                    self.open_fans.push_back(at);
                }
                self.blocks[at].kind = Kind::Fan(fan);
                self.end_fan_if_over(at, now, out);
            }
            Err(failure) => {
                self.end_unit(UnitKey::block(at, None), Unit::ready(floor), End::failed(failure), now, out);
            }
        }
    }

    /// The product of what each multiplying upstream offers. Zero items mean zero children (Mage makes one, wrongly).
    pub(super) fn combinations(&self, at: usize) -> Result<u32, Failure> {
        let mut total: u64 = 1;
        for (up, feed) in &self.graph.node(at).upstream {
            total = total.saturating_mul(self.offered(*up, *feed));
        }
        u32::try_from(total).ok().filter(|total| *total <= CHILDREN_MAX).ok_or_else(|| {
            Failure::new("OUTPUT", format!("{total} dynamic children are more than the limit of {CHILDREN_MAX}"))
        })
    }

    /// How many values an upstream offers to a fan.
    pub(super) fn offered(&self, up: usize, feed: Feed) -> u64 {
        match (feed, &self.blocks[up].kind) {
            (Feed::Items, _) => u64::from(self.blocks[up].output.as_ref().and_then(|o| o.items).unwrap_or(0)),
            (Feed::Children, Kind::Fan(fan)) => u64::from(fan.total()),
            (Feed::ChildItems, Kind::Fan(fan)) => fan.items_total(),
            _ => 1,
        }
    }

    pub(super) fn end_fan_if_over(&mut self, at: usize, now: Timestamp, out: &mut Vec<Transition>) {
        let Kind::Fan(fan) = &self.blocks[at].kind else { return };
        if !fan.is_over() || self.blocks[at].ended.is_some() {
            return;
        }
        let ending = fan.ending();
        let mut row = fan_row(at, fan);
        row.status = ending.into();
        row.completed_at = Some(now);
        out.push(Transition::Unit(Box::new(row)));
        self.end_block(at, ending);
    }
}

/// The row of a running fan as a whole.
pub(super) fn fan_row(at: usize, fan: &Fan) -> UnitRow {
    let mut row = unit_row(UnitKey::block(at, None), &Unit::ready(fan.floor));
    row.status = BlockStatus::Running;
    row.children = Some(fan.total);
    row.started_at = fan.started_at;
    row
}
