//! How much one turn begins: starts of triggers, and leases, so many of each.
//!
//! A turn is one commit, and counts as a whole or not at all. The longer a database was away, the more has piled up, the larger is
//! the commit that catches up with it, and the likelier it is that it breaks as well, where connections break. So a turn after
//! one that did not count, or under which a session broke, begins little, and each that counts lets the next one begin twice as much. Messages are taken as they come: who
//! has said something is not silent.
//!
//! Refuses to know what is begun. What a turn leaves is begun by the next one, which comes at once.

/// Of a turn when nothing is wrong.
const LONGEST: usize = 4_096;
/// Of the turn after one that did not count: a few hundred rows are little beside what it costs to load everything again.
const SHORTEST: usize = 256;

/// How much the next turn begins of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stride(usize);

impl Default for Stride {
    fn default() -> Self {
        Self(LONGEST)
    }
}

impl Stride {
    pub(super) fn now(self) -> usize {
        self.0
    }

    /// A turn did not count, or not at once.
    pub(super) fn shorten(&mut self) {
        self.0 = SHORTEST;
    }

    /// A commit counts, and nothing broke.
    pub(super) fn lengthen(&mut self) {
        self.0 = (self.0 * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_lets_the_next_turn_take_more_until_one_does_not_count() {
        let mut stride = Stride::default();
        let mut lengths = vec![stride.now()];
        stride.shorten();
        for _ in 0..6 {
            lengths.push(stride.now());
            stride.lengthen();
        }
        stride.shorten();
        lengths.push(stride.now());
        assert_eq!(lengths, [4_096, 256, 512, 1_024, 2_048, 4_096, 4_096, 256]);
    }
}
