//! Which shards are owned here, in which epoch. Refuses to know how they are taken.

use std::collections::{BTreeMap, BTreeSet};
use store::shards::Shard;

/// The shards of one engine.
#[derive(Debug, Default)]
pub(super) struct Owned {
    by_id: BTreeMap<u8, Shard>,
}

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
    /// old news, and stays as it is.
    pub(super) fn changes(&self, next: &[Shard]) -> (Vec<Shard>, BTreeSet<u8>) {
        let next: BTreeMap<u8, Shard> = next.iter().filter_map(keyed).collect();
        let gained = next
            .iter()
            .filter(|(id, shard)| self.by_id.get(id).is_none_or(|owned| owned.epoch < shard.epoch))
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
        let (gained, lost) = owned.changes(&[shard(1, 4), shard(2, 5), shard(3, 3), shard(9, 1)]);
        assert_eq!(gained, [shard(2, 5), shard(9, 1)]);
        assert_eq!(lost, BTreeSet::from([2]), "the later epoch is loaded anew, the earlier one is old news");
        let (gained, lost) = owned.changes(&[]);
        assert_eq!((gained.len(), lost.len()), (0, 3));
    }
}
