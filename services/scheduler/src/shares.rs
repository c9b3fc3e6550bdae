//! Which scheduler should own which shard: the same answer on every replica that sees the same members, with few changes
//! when one comes or goes. Pure; refuses to know who owns what for how long, and how a shard is taken.

use domain::id::SchedulerId;
use std::collections::HashSet;
use store::shards::Ownership;

/// Slices of the work.
pub const SHARDS: usize = 256;
/// A living owner gives up at most so many shards in one round, so that a new replica does not stop everything at once. It
/// does so once a second: half of all shards of one scheduler have moved to a second one after four.
pub const MOVES_MAX: usize = 32;

/// What one scheduler should do in this round.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Free, and meant for it.
    pub take: Vec<i16>,
    /// Its own, and meant for another that lives.
    pub release: Vec<i16>,
}

/// Who should own each shard, by its number; empty without members. Rendezvous hashing: each shard ranks the members,
/// and goes to the first that has not got its share yet.
#[must_use]
pub fn shares(members: &[SchedulerId]) -> Vec<SchedulerId> {
    if members.is_empty() {
        return Vec::new();
    }
    let most = SHARDS.div_ceil(members.len());
    let mut loads = vec![0_usize; members.len()];
    let mut shares = Vec::with_capacity(SHARDS);
    for shard in 0..SHARDS as u64 {
        let free = (0..members.len()).filter(|&at| loads[at] < most);
        // There is always one: together they may hold more than there is.
        let Some(first) = free.max_by_key(|&at| weight(members[at], shard)) else { break };
        loads[first] += 1;
        shares.push(members[first]);
    }
    shares
}

/// What `me` should do, given who lives and what the table says.
#[must_use]
pub fn plan(me: SchedulerId, members: &[SchedulerId], table: &[Ownership]) -> Plan {
    let shares = shares(members);
    let living: HashSet<SchedulerId> = members.iter().copied().collect();
    let mut plan = Plan::default();
    if !living.contains(&me) {
        return plan;
    }
    for shard in table {
        let Some(meant) = usize::try_from(shard.id).ok().and_then(|id| shares.get(id)) else { continue };
        let is_free = shard.owner.is_none_or(|owner| !living.contains(&owner));
        if *meant == me && is_free {
            plan.take.push(shard.id);
        } else if *meant != me && shard.owner == Some(me) && plan.release.len() < MOVES_MAX {
            plan.release.push(shard.id);
        }
    }
    plan
}

/// How much `shard` wants `member`: a hash of both (the finaliser of splitmix64), the same on every machine and version.
fn weight(member: SchedulerId, shard: u64) -> (u64, SchedulerId) {
    let (high, low) = member.0.as_u64_pair();
    (mix(mix(high ^ shard.wrapping_mul(0x9e37_79b9_7f4a_7c15)) ^ low), member)
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn members(count: u128) -> Vec<SchedulerId> {
        (1..=count).map(|n| SchedulerId(Uuid::from_u128(n * 0x1234_5678_9abc_def1))).collect()
    }

    fn table(shares: &[SchedulerId]) -> Vec<Ownership> {
        let row = |(id, owner): (usize, &SchedulerId)| Ownership { id: id as i16, epoch: 1, owner: Some(*owner) };
        shares.iter().enumerate().map(row).collect()
    }

    #[test]
    fn shares_are_even_whatever_the_number_of_members() {
        for count in 1..=9 {
            let members = members(count);
            let shares = shares(&members);
            assert_eq!(shares.len(), SHARDS);
            for member in &members {
                let load = shares.iter().filter(|owner| *owner == member).count();
                let even = SHARDS / members.len();
                assert!(load * 100 <= even * 120 + 100 && load * 100 >= even * 80, "{load} of {even}");
            }
        }
    }

    #[test]
    fn a_new_member_takes_its_share_and_little_else_moves() {
        for count in 1..=8 {
            let (before, after) = (shares(&members(count)), shares(&members(count + 1)));
            let newcomer = *members(count + 1).last().unwrap();
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let gained = after.iter().filter(|owner| **owner == newcomer).count();
            assert!(moved <= gained * 2, "{moved} moved for {gained} with {count} members");
        }
    }

    #[test]
    fn living_owners_let_go_slowly_and_dead_ones_are_replaced_at_once() {
        let members = members(3);
        let (a, b) = (members[0], members[1]);
        let alone = table(&shares(&members[..1]));
        let plan_of_a = plan(a, &members, &alone);
        assert_eq!((plan_of_a.take.len(), plan_of_a.release.len()), (0, MOVES_MAX));
        assert_eq!(plan(b, &members, &alone), Plan::default(), "nothing is free yet");
        let survivors = &members[1..];
        let taken: usize = survivors.iter().map(|me| plan(*me, survivors, &alone).take.len()).sum();
        assert_eq!(taken, SHARDS, "what the dead one owned is taken in one round");
        assert_eq!(plan(a, survivors, &alone), Plan::default(), "who is no member does nothing");
    }
}
