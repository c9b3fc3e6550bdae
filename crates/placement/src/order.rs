//! Whose turn is next. Shares change with every decision, so only the first of each queue and project is compared anew.

use crate::{
    accounts::{Accounts, aged},
    policy::Policy,
    snapshot::Request,
};
use domain::id::{GangId, ProjectId, QueueId};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Those who still wait for their turn.
pub(crate) struct Order<'a> {
    lanes: Vec<VecDeque<Turn<'a>>>,
}

/// Who has to be decided about together.
#[derive(Clone)]
pub(crate) enum Turn<'a> {
    /// One request.
    Single(&'a Request),
    /// All members of a gang that wait, in the order of their ids.
    Gang(Vec<&'a Request>),
}

impl<'a> Turn<'a> {
    /// Who stands for it in comparisons.
    fn first(&self) -> &'a Request {
        match self {
            Self::Single(request) => request,
            Self::Gang(members) => members[0],
        }
    }
}

impl<'a> Order<'a> {
    pub(crate) fn new(requests: impl Iterator<Item = &'a Request>, now: Timestamp, policy: &Policy) -> Self {
        let mut gangs: BTreeMap<GangId, Vec<&Request>> = BTreeMap::new();
        let mut turns = Vec::new();
        for request in requests {
            match &request.gang {
                Some(gang) => gangs.entry(gang.id).or_default().push(request),
                None => turns.push(Turn::Single(request)),
            }
        }
        for mut members in gangs.into_values() {
            members.sort_by_key(|member| member.holder);
            turns.push(Turn::Gang(members));
        }
        turns.sort_by_key(|turn| {
            let first = turn.first();
            (std::cmp::Reverse(aged(first, first.priority, now, policy)), first.submitted_at, first.holder)
        });
        let mut lanes: Vec<VecDeque<Turn<'_>>> = Vec::new();
        let mut index: HashMap<(QueueId, ProjectId), usize> = HashMap::new();
        for turn in turns {
            let key = (turn.first().queue, turn.first().project);
            let lane = *index.entry(key).or_insert(lanes.len());
            if lane == lanes.len() {
                lanes.push(VecDeque::new());
            }
            lanes[lane].push_back(turn);
        }
        Self { lanes }
    }

    /// Whose turn it is, as the accounts are now.
    pub(crate) fn next(&mut self, accounts: &Accounts, now: Timestamp, policy: &Policy) -> Option<Turn<'a>> {
        let aged = |request: &Request, priority: i32| aged(request, priority, now, policy);
        let heads = self.lanes.iter().enumerate().filter_map(|(lane, turns)| Some((lane, turns.front()?.first())));
        let (lane, _) = heads.min_by(|(_, a), (_, b)| accounts.turn(a, b, aged))?;
        self.lanes[lane].pop_front()
    }
}
