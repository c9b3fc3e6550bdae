//! Which order counts, and who holds what: the last line of defence against a device that is given twice. Pure; refuses
//! to know how anything is run.

use super::{Board, Grant, Life, Order, order::Goal};
use domain::{device::WHOLE_MILLI, id::HolderId};
use std::collections::HashMap;

/// A grant would give away what somebody still has.
pub const DEVICE_HELD: &str = "DEVICE_HELD";
/// A grant names a device that is not there.
pub const DEVICE_MISSING: &str = "DEVICE_MISSING";

/// The orders in force.
#[derive(Debug, Default)]
pub struct Holdings(HashMap<HolderId, Held>);

#[derive(Debug, Clone)]
struct Held {
    fence: i64,
    node: String,
    /// Empty once it is gone, and for what was refused.
    grants: Vec<Grant>,
    refused: Option<Verdict>,
}

/// What to do with an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Hand it over.
    Obey,
    /// A later one is in force.
    Stale,
    /// It cannot be: what it gives is not free, or not there.
    Refuse {
        /// One of the codes of docs/RUNTIMES.md.
        code: &'static str,
        /// In words.
        message: String,
    },
}

impl Held {
    fn of(fence: i64, life: &Life) -> Self {
        Self { fence, node: life.node.clone(), grants: life.grants.clone(), refused: None }
    }

    fn has(&self, life: &Life) -> bool {
        self.refused.is_none() && self.node == life.node && self.grants == life.grants
    }
}

impl Holdings {
    /// What to do with an order. `board` tells what devices there are and who is gone.
    pub fn admit(&mut self, order: &Order, board: &Board) -> Verdict {
        let known = self.0.get(&order.holder);
        if known.is_some_and(|held| order.fence < held.fence) {
            return Verdict::Stale;
        }
        if let Some(Held { fence, refused: Some(refused), .. }) = known
            && *fence == order.fence
        {
            return refused.clone();
        }
        let gone: Vec<HolderId> = board.holders().into_iter().filter(|(_, gone)| *gone).map(|(id, _)| id).collect();
        for holder in &gone {
            self.0.entry(*holder).and_modify(|held| held.grants.clear());
        }
        let mut held = Held { fence: order.fence, node: String::new(), grants: Vec::new(), refused: None };
        match &order.goal {
            Goal::Forget => {
                self.0.remove(&order.holder);
                return Verdict::Obey;
            }
            // What has ended does not begin again, and holds nothing.
            Goal::Run(_) if gone.contains(&order.holder) => {}
            // What it has already, it has, whatever is told of its devices now: nobody else has had it meanwhile.
            Goal::Run(life) if self.0.get(&order.holder).is_some_and(|known| known.has(life)) => {
                held = Held::of(order.fence, life);
            }
            Goal::Run(life) => {
                held.node.clone_from(&life.node);
                match self.conflict(order.holder, &life.node, &life.grants, board) {
                    None => held.grants.clone_from(&life.grants),
                    refused => held.refused = refused,
                }
            }
            // Until it is gone it holds what it held.
            Goal::Stop { .. } => {
                if let Some(known) = self.0.get(&order.holder) {
                    held = Held { fence: order.fence, refused: None, ..known.clone() };
                }
            }
        }
        let verdict = held.refused.clone().unwrap_or(Verdict::Obey);
        self.0.insert(order.holder, held);
        verdict
    }

    /// Takes up what an earlier life of this process left. It holds what it held, also of a device that nobody tells of at
    /// present.
    pub fn recall(&mut self, order: &Order, board: &Board) -> Verdict {
        match (self.admit(order, board), &order.goal) {
            (Verdict::Refuse { code: DEVICE_MISSING, .. }, Goal::Run(life)) => {
                self.0.insert(order.holder, Held::of(order.fence, life));
                Verdict::Obey
            }
            (verdict, _) => verdict,
        }
    }

    /// The fence in force for a holder.
    #[must_use]
    pub fn fence(&self, holder: HolderId) -> i64 {
        self.0.get(&holder).map_or(0, |held| held.fence)
    }

    fn conflict(&self, holder: HolderId, node: &str, grants: &[Grant], board: &Board) -> Option<Verdict> {
        let refuse = |code, message| Some(Verdict::Refuse { code, message });
        grants.iter().find_map(|grant| {
            let name = &grant.device;
            let Some(device) = board.device(node, name) else {
                return refuse(DEVICE_MISSING, format!("node `{node}` has no device `{name}`"));
            };
            let others = self.0.iter().filter(|(other, held)| **other != holder && held.node == node);
            let theirs: Vec<(&HolderId, &Grant)> = others
                .flat_map(|(other, held)| held.grants.iter().map(move |grant| (other, grant)))
                .filter(|(_, theirs)| theirs.device == *name)
                .collect();
            let milli: u64 = theirs.iter().map(|(_, grant)| u64::from(grant.milli)).sum();
            let memory = theirs.iter().fold(0_u64, |sum, (_, grant)| sum.saturating_add(grant.memory_bytes));
            let total = u64::try_from(device.memory_bytes).unwrap_or(0);
            let fits = milli + u64::from(grant.milli) <= u64::from(WHOLE_MILLI)
                && memory.saturating_add(grant.memory_bytes) <= total
                && theirs.iter().all(|(_, theirs)| theirs.slots & grant.slots == 0);
            let (other, _) = theirs.first().filter(|_| !fits)?;
            refuse(DEVICE_HELD, format!("device `{name}` of node `{node}` is still held by {other}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::internal::v1::{self as pb, RuntimePhase};
    use std::{sync::Arc, time::Duration};
    use uuid::Uuid;

    fn holder(n: u128) -> HolderId {
        HolderId(Uuid::from_u128(n))
    }

    fn run(n: u128, fence: i64, milli: u32, slots: u64) -> Order {
        let ask = r#"{"gpus":1,"gpu_milli":1,"gpu_memory_bytes":null,"models":[],"models_ordered":false,"link":"any","cpu_milli":1,"memory_bytes":1}"#;
        let life = Life {
            workspace_id: domain::id::WorkspaceId(Uuid::from_u128(n)),
            workspace: "lab".into(),
            project: "p".into(),
            queue: "default".into(),
            queue_priority: 0,
            preemptible: false,
            number: 1,
            node: "here".into(),
            grants: vec![Grant { device: "gpu-0".into(), milli, memory_bytes: 10, profile: String::new(), slots }],
            spec: serde_json::from_str(&format!(r#"{{"app":"jupyter","ask":{ask}}}"#)).unwrap(),
            access_key: runtime::secret::Secret::new("k"),
            base_path: "/".into(),
        };
        Order { holder: holder(n), fence, goal: Goal::Run(Arc::new(life)) }
    }

    fn stop(n: u128, fence: i64) -> Order {
        Order { holder: holder(n), fence, goal: Goal::Stop { grace: Duration::ZERO, reason: "USER".into() } }
    }

    fn board() -> Board {
        let board = Board::new();
        let device = pb::PoolDevice { name: "gpu-0".into(), memory_bytes: 24, healthy: true, ..Default::default() };
        board.set_node(pb::Node { name: "here".into(), devices: vec![device], ..Default::default() });
        board
    }

    fn gone(board: &Board, n: u128) {
        let (holder, phase) = (holder(n).to_vec(), RuntimePhase::Gone.into());
        board.report(pb::RuntimeReport { holder, phase, ..Default::default() });
    }

    fn refused(verdict: &Verdict) -> Option<&'static str> {
        match verdict {
            Verdict::Refuse { code, .. } => Some(code),
            _ => None,
        }
    }

    #[test]
    fn a_device_is_free_when_its_holder_is_gone_and_not_before() {
        let (mut holdings, board) = (Holdings::default(), board());
        assert_eq!(holdings.admit(&run(1, 1, 600, 0), &board), Verdict::Obey);
        assert_eq!(holdings.admit(&run(1, 1, 600, 0), &board), Verdict::Obey, "a level may be said again");
        assert_eq!(holdings.admit(&run(2, 1, 400, 0), &board), Verdict::Obey);
        assert_eq!(refused(&holdings.admit(&run(3, 1, 1, 0), &board)), Some(DEVICE_HELD));
        assert_eq!(holdings.admit(&stop(1, 2), &board), Verdict::Obey);
        assert_eq!(refused(&holdings.admit(&run(3, 2, 600, 0), &board)), Some(DEVICE_HELD), "it is only stopping");
        gone(&board, 1);
        assert_eq!(refused(&holdings.admit(&run(3, 2, 600, 0), &board)), Some(DEVICE_HELD), "this order was refused");
        assert_eq!(holdings.admit(&run(1, 2, 600, 0), &board), Verdict::Obey, "said again, and holding nothing");
        assert_eq!(holdings.admit(&run(3, 3, 600, 0), &board), Verdict::Obey);
        assert_eq!(refused(&holdings.admit(&run(4, 1, 1, 0), &board)), Some(DEVICE_HELD));
    }

    #[test]
    fn what_somebody_has_stays_his_when_its_device_is_not_told_of() {
        let (mut holdings, full) = (Holdings::default(), board());
        assert_eq!(holdings.admit(&run(1, 1, 600, 0), &full), Verdict::Obey);
        let empty = Board::new();
        assert_eq!(holdings.admit(&run(1, 1, 600, 0), &empty), Verdict::Obey, "a level that is said again");
        assert_eq!(refused(&holdings.admit(&run(2, 1, 400, 0), &empty)), Some(DEVICE_MISSING));
        assert_eq!(refused(&holdings.admit(&run(3, 1, 500, 0), &full)), Some(DEVICE_HELD));
        // The next life of this process finds it so.
        let mut next = Holdings::default();
        assert_eq!(next.recall(&run(1, 1, 600, 0), &empty), Verdict::Obey);
        assert_eq!(next.admit(&run(1, 1, 600, 0), &empty), Verdict::Obey);
        assert_eq!(refused(&next.admit(&run(3, 1, 500, 0), &full)), Some(DEVICE_HELD));
        assert_eq!(refused(&next.recall(&run(4, 1, 500, 0), &full)), Some(DEVICE_HELD), "two that hold the same");
    }

    #[test]
    fn older_fences_never_count() {
        let (mut holdings, board) = (Holdings::default(), board());
        assert_eq!(holdings.admit(&stop(1, 5), &board), Verdict::Obey);
        assert_eq!(holdings.admit(&run(1, 4, 1000, 0), &board), Verdict::Stale);
        assert_eq!(holdings.fence(holder(1)), 5);
        let forget = Order { holder: holder(1), fence: 5, goal: Goal::Forget };
        assert_eq!(holdings.admit(&forget, &board), Verdict::Obey);
        assert_eq!(holdings.fence(holder(1)), 0);
    }

    #[test]
    fn slots_memory_and_strange_devices_are_looked_at() {
        let (mut holdings, board) = (Holdings::default(), board());
        assert_eq!(holdings.admit(&run(1, 1, 100, 0b011), &board), Verdict::Obey);
        assert_eq!(refused(&holdings.admit(&run(2, 1, 100, 0b110), &board)), Some(DEVICE_HELD));
        assert_eq!(holdings.admit(&run(3, 1, 100, 0b100), &board), Verdict::Obey);
        assert_eq!(refused(&holdings.admit(&run(4, 1, 100, 0b1000), &board)), Some(DEVICE_HELD), "its memory is full");
        board.remove_node("here");
        assert_eq!(refused(&holdings.admit(&run(5, 1, 1, 0), &board)), Some(DEVICE_MISSING));
    }
}
