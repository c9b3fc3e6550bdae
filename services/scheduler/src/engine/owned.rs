//! Which shards are owned here, in which epoch. Refuses to know how they are taken.

use std::collections::BTreeMap;
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

    /// True when exactly this generation of the shard is owned.
    pub(super) fn has(&self, shard: Shard) -> bool {
        self.by_id.values().any(|owned| *owned == shard)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.by_id.clear();
    }
}

impl FromIterator<Shard> for Owned {
    fn from_iter<T: IntoIterator<Item = Shard>>(shards: T) -> Self {
        // The table's own check keeps ids below 256.
        let byte = |shard: Shard| u8::try_from(shard.id).ok().map(|id| (id, shard));
        Self { by_id: shards.into_iter().filter_map(byte).collect() }
    }
}
