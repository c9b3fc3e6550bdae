//! What the database's statement (`limit_hold/settle.sql` of the store) does with claims, in plain numbers.

use super::{Claim, Pool};

/// What a shard holds of a pool after a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which pool.
    pub pool: Pool,
    /// Which shard.
    pub shard: u8,
    /// Permits that it holds now.
    pub granted: u32,
    /// As claimed.
    pub target: u32,
    /// As claimed.
    pub wanted: u32,
    /// More is wanted in all than there is.
    pub contended: bool,
    /// What it may use while others wait: see [`fair_share`].
    pub share: u32,
    /// Permits that all shards together hold beyond the limit, for units that run already.
    pub excess: u32,
    /// Permits that nobody holds.
    pub free: u32,
    /// What all shards together want, and hold.
    pub in_all: Want,
}

/// What each claim on one pool holds afterwards. `max` is the limit, `used` what is granted in all, and `held` what each
/// claimant holds now. What is given up comes first; what runs is held in any case; the rest is granted in order.
#[must_use]
pub fn settle(max: u32, used: u32, claims: &[(u32, &Claim)]) -> Vec<u32> {
    // Beyond the limit nothing is kept but what runs.
    let kept = |(held, claim): &(u32, &Claim)| {
        if used > max { claim.in_use } else { claim.in_use.max((*held).min(claim.target)) }
    };
    let kept: Vec<u32> = claims.iter().map(kept).collect();
    let others = used - claims.iter().map(|(held, _)| held).sum::<u32>().min(used);
    let mut free = max.saturating_sub(others.saturating_add(kept.iter().sum()));
    let mut granted = Vec::with_capacity(claims.len());
    for ((_, claim), kept) in claims.iter().zip(kept) {
        let more = claim.target.saturating_sub(kept).min(free);
        free -= more;
        granted.push(kept + more);
    }
    granted
}

/// What a shard holds of a pool, and what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Permits granted.
    pub held: u32,
    /// Permits that it could use.
    pub wanted: u32,
}

/// How many permits a shard that holds `held` may use so that everybody who wants some (`all`, itself included) gets an
/// equal part, and who wants less leaves the rest to the others. While somebody has none, parts are rounded down, to
/// nothing where there are more shards than permits: they pass from one to the next. Without contention there is no bound.
#[must_use]
pub fn fair_share(max: u32, all: &[Want], held: u32) -> u32 {
    let mut wanted: Vec<u32> = all.iter().map(|want| want.wanted).filter(|wanted| *wanted > 0).collect();
    wanted.sort_unstable();
    let somebody_has_none = all.iter().any(|want| want.held == 0 && want.wanted > 0);
    let mut left = max;
    let mut claimants = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    for want in wanted {
        // Only who wants no more than the even part leaves something: what is left over by rounding is somebody's.
        if want > left / claimants {
            let level = if somebody_has_none { left / claimants } else { left.div_ceil(claimants) };
            return if held == 0 { level.max(1) } else { level };
        }
        left -= want;
        claimants -= 1;
    }
    u32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_and_use_everything() {
        let share = |max, wanted: &[u32]| {
            let all: Vec<Want> = wanted.iter().map(|wanted| Want { held: 1, wanted: *wanted }).collect();
            fair_share(max, &all, 1)
        };
        assert_eq!(share(20, &[5, 5]), u32::MAX, "there is enough");
        assert_eq!(share(20, &[100, 100]), 10);
        assert_eq!(share(20, &[1, 100, 100]), 10, "19 for two, rounded up: none is left over");
        assert_eq!(share(4, &[1, 2, 2]), 2, "3 for two: one of them gets 2");
        assert_eq!(share(0, &[9]), 0);
    }

    #[test]
    fn with_more_shards_than_permits_they_pass_from_one_to_the_next() {
        let all = [Want { held: 1, wanted: 9 }, Want { held: 0, wanted: 9 }];
        assert_eq!(fair_share(1, &all, 1), 0, "who has one gives it back when its unit ends");
        assert_eq!(fair_share(1, &all, 0), 1);
    }
}
