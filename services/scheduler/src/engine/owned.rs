//! Which shards are owned here, in which epoch. Refuses to know how they are taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use store::shards::Shard;

/// The shards of one engine.
#[derive(Debug, Default)]
pub(super) struct Owned {
    by_id: BTreeMap<u8, Shard>,
    /// Epochs that turned out to be over, and when.
    over: BTreeMap<u8, (i64, Instant)>,
}

/// The keeper reads the table before it says what is in it, and its word may wait. It says so again each second, so that nothing is
/// lost where a database that forgot its latest commits has given an epoch once more.
const LATE_MAX: Duration = Duration::from_secs(10);

impl Owned {
    /// The shard in its epoch, when it is owned.
    pub(super) fn get(&self, shard: u8) -> Option<Shard> {
        self.by_id.get(&shard).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Shard> {
        self.by_id.values().copied()
    }

    /// What is gained and lost when exactly `next` is owned. A shard in a later epoch is both; one in an earlier epoch is
    /// old news, and stays as it is; so is one in an epoch that has just turned out to be over.
    pub(super) fn changes(&self, next: &[Shard], now: Instant) -> (Vec<Shard>, BTreeSet<u8>) {
        let is_late = |(over, at): &(i64, Instant), shard: &Shard| *over >= shard.epoch && now < *at + LATE_MAX;
        let next: BTreeMap<u8, Shard> = next.iter().filter_map(keyed).collect();
        let gained = next
            .iter()
            .filter(|(id, shard)| self.by_id.get(id).is_none_or(|owned| owned.epoch < shard.epoch))
            .filter(|(id, shard)| !self.over.get(id).is_some_and(|over| is_late(over, shard)))
            .map(|(_, shard)| *shard)
            .collect();
        let lost = self
            .by_id
            .iter()
            .filter(|(id, owned)| next.get(id).is_none_or(|shard| shard.epoch > owned.epoch))
            .map(|(id, _)| *id)
            .collect();
        (gained, lost)
    }

    pub(super) fn add(&mut self, gained: &[Shard]) {
        self.by_id.extend(gained.iter().filter_map(keyed));
    }

    /// The database has refused to write in the epochs of these: whoever says that they are owned in them is late.
    pub(super) fn refuse(&mut self, lost: &BTreeSet<u8>, now: Instant) {
        let refused = self.by_id.iter().filter(|(id, _)| lost.contains(id));
        self.over.extend(refused.map(|(id, shard)| (*id, (shard.epoch, now))));
    }

    /// Owns nothing, until everything is taken again in later epochs.
    pub(super) fn clear(&mut self, now: Instant) {
        self.refuse(&self.by_id.keys().copied().collect(), now);
        self.by_id.clear();
    }

    pub(super) fn remove(&mut self, lost: &BTreeSet<u8>) {
        self.by_id.retain(|id, _| !lost.contains(id));
    }
}

/// The table's own check keeps ids below 256.
fn keyed(shard: &Shard) -> Option<(u8, Shard)> {
    u8::try_from(shard.id).ok().map(|id| (id, *shard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_comes_and_goes() {
        let shard = |id, epoch| Shard { id, epoch };
        let mut owned = Owned::default();
        owned.add(&[shard(1, 4), shard(2, 4), shard(3, 4)]);
        let now = Instant::now();
        let (gained, lost) = owned.changes(&[shard(1, 4), shard(2, 5), shard(3, 3), shard(9, 1)], now);
        assert_eq!(gained, [shard(2, 5), shard(9, 1)]);
        assert_eq!(lost, BTreeSet::from([2]), "the later epoch is loaded anew, the earlier one is old news");
        let (gained, lost) = owned.changes(&[], now);
        assert_eq!((gained.len(), lost.len()), (0, 3));
    }

    #[test]
    fn the_word_that_comes_late_gives_back_nothing_that_was_refused() {
        let shard = |id, epoch| Shard { id, epoch };
        let now = Instant::now();
        let gained = |owned: &Owned, next| owned.changes(&[next], now).0.len();
        let mut owned = Owned::default();
        owned.add(&[shard(1, 3), shard(2, 4)]);
        owned.refuse(&BTreeSet::from([1]), now);
        owned.remove(&BTreeSet::from([1, 2]));
        assert_eq!([gained(&owned, shard(1, 3)), gained(&owned, shard(1, 4))], [0, 1]);
        assert_eq!(gained(&owned, shard(2, 4)), 1, "it was let go, and nobody has taken it");
        owned.add(&[shard(1, 4), shard(2, 4)]);
        owned.clear(now);
        assert_eq!([gained(&owned, shard(1, 4)), gained(&owned, shard(2, 4))], [0, 0]);
        assert_eq!([gained(&owned, shard(1, 5)), gained(&owned, shard(2, 5))], [1, 1], "taken again");
        assert_eq!(owned.changes(&[shard(1, 4)], now + LATE_MAX).0.len(), 1, "said for so long, it is so");
    }
}
