//! Orders as values: what the owner of a pool wants one runtime to be. Refuses what is not well formed, and judges
//! nothing else.

use domain::{
    id::{HolderId, WorkspaceId},
    runtime::Spec,
};
use proto::internal::v1::{self as pb, RuntimeGoal};
use runtime::secret::Secret;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Between asking a runtime to end and ending it, when nobody says.
pub const GRACE: Duration = Duration::from_secs(30);
/// The longest such time.
const GRACE_MAX: Duration = Duration::from_secs(3_600);

/// What one runtime shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Which.
    pub holder: HolderId,
    /// The order with the greatest one counts.
    pub fence: i64,
    /// What.
    pub goal: Goal,
}

/// What a runtime shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// It runs.
    Run(Arc<Life>),
    /// It ends.
    Stop {
        /// Time to end by itself.
        grace: Duration,
        /// Why, as in `orrery.v1.Runtime.reason`.
        reason: String,
    },
    /// Its end was noted: nobody asks for it any more.
    Forget,
}

/// Everything about one life of a runtime; does not change as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Whose.
    pub workspace_id: WorkspaceId,
    /// Its name, a DNS label.
    pub workspace: String,
    /// The project's name.
    pub project: String,
    /// The queue's name.
    pub queue: String,
    /// Greater is served first.
    pub queue_priority: i32,
    /// Others may have its devices.
    pub preemptible: bool,
    /// The workspace and this name the objects of a backend.
    pub number: i64,
    /// Where.
    pub node: String,
    /// On which devices.
    pub grants: Vec<Grant>,
    /// What.
    pub spec: Spec,
    /// Opens the application, for whoever comes through a proxy.
    pub access_key: Secret,
    /// The path below which it is served; begins and ends with a slash.
    pub base_path: String,
}

/// What a runtime has of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Of the node's devices.
    pub device: String,
    /// Of its compute; 1000 is all.
    pub milli: u32,
    /// Of its memory, bytes.
    pub memory_bytes: u64,
    /// Of a partitioned device: the profile.
    pub profile: String,
    /// And the slots that it occupies.
    pub slots: u64,
}

impl Life {
    /// Names of its devices on its node, each once.
    #[must_use]
    pub fn devices(&self) -> BTreeSet<&str> {
        self.grants.iter().map(|grant| grant.device.as_str()).collect()
    }
}

impl Order {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, naming the field.
    pub fn from_proto(order: &pb::Order) -> Result<Self, String> {
        let holder = HolderId::from_slice(&order.holder).ok_or("an order's holder is no id")?;
        let goal = match order.goal() {
            RuntimeGoal::Run => Goal::Run(Arc::new(life(order).map_err(|what| format!("order {holder}: {what}"))?)),
            RuntimeGoal::Stop => Goal::Stop { grace: grace(order.grace_s), reason: order.reason.clone() },
            RuntimeGoal::Forget => Goal::Forget,
            RuntimeGoal::Unspecified => return Err(format!("order {holder}: it has no goal")),
        };
        Ok(Self { holder, fence: order.fence, goal })
    }

    /// The same as a message.
    ///
    /// # Errors
    /// When the spec cannot be written.
    pub fn to_proto(&self) -> Result<pb::Order, serde_json::Error> {
        let order = pb::Order { holder: self.holder.to_vec(), fence: self.fence, ..pb::Order::default() };
        Ok(match &self.goal {
            Goal::Run(life) => pb::Order {
                goal: RuntimeGoal::Run.into(),
                workspace_id: life.workspace_id.to_vec(),
                workspace: life.workspace.clone(),
                project: life.project.clone(),
                queue: life.queue.clone(),
                queue_priority: life.queue_priority,
                preemptible: life.preemptible,
                number: life.number,
                node: life.node.clone(),
                grants: life.grants.iter().map(Grant::to_proto).collect(),
                spec: serde_json::to_string(&life.spec)?,
                access_key: life.access_key.expose().to_owned(),
                base_path: life.base_path.clone(),
                ..order
            },
            Goal::Stop { grace, reason } => pb::Order {
                goal: RuntimeGoal::Stop.into(),
                grace_s: i32::try_from(grace.as_secs()).unwrap_or(i32::MAX),
                reason: reason.clone(),
                ..order
            },
            Goal::Forget => pb::Order { goal: RuntimeGoal::Forget.into(), ..order },
        })
    }

    /// The life that it is about, when it says.
    #[must_use]
    pub fn life(&self) -> Option<&Arc<Life>> {
        match &self.goal {
            Goal::Run(life) => Some(life),
            Goal::Stop { .. } | Goal::Forget => None,
        }
    }
}

impl Grant {
    fn to_proto(&self) -> pb::DeviceGrant {
        pb::DeviceGrant {
            device: self.device.clone(),
            milli: i32::try_from(self.milli).unwrap_or(i32::MAX),
            memory_bytes: i64::try_from(self.memory_bytes).unwrap_or(i64::MAX),
            profile: self.profile.clone(),
            slots: self.slots,
        }
    }
}

fn grace(seconds: i32) -> Duration {
    match u64::try_from(seconds) {
        Ok(0) | Err(_) => GRACE,
        Ok(seconds) => Duration::from_secs(seconds).min(GRACE_MAX),
    }
}

fn life(order: &pb::Order) -> Result<Life, String> {
    let base_path = order.base_path.clone();
    if !base_path.starts_with('/') || !base_path.ends_with('/') {
        return Err("base_path must begin and end with a slash".to_owned());
    }
    Ok(Life {
        workspace_id: WorkspaceId::from_slice(&order.workspace_id).ok_or("workspace_id is no id")?,
        workspace: order.workspace.clone(),
        project: order.project.clone(),
        queue: order.queue.clone(),
        queue_priority: order.queue_priority,
        preemptible: order.preemptible,
        number: order.number,
        node: order.node.clone(),
        grants: order.grants.iter().map(grant).collect::<Result<_, _>>()?,
        spec: serde_json::from_str(&order.spec).map_err(|error| format!("spec: {error}"))?,
        access_key: Secret::new(&order.access_key),
        base_path,
    })
}

fn grant(grant: &pb::DeviceGrant) -> Result<Grant, String> {
    let bad = |_| format!("the grant of device `{}` has a negative amount", grant.device);
    Ok(Grant {
        device: grant.device.clone(),
        milli: u32::try_from(grant.milli).map_err(bad)?,
        memory_bytes: u64::try_from(grant.memory_bytes).map_err(bad)?,
        profile: grant.profile.clone(),
        slots: grant.slots,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run() -> pb::Order {
        let ask = json!({ "gpus": 0, "gpu_milli": 0, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                          "link": "any", "cpu_milli": 100, "memory_bytes": 1 });
        pb::Order {
            holder: vec![1; 16],
            fence: 3,
            goal: RuntimeGoal::Run.into(),
            workspace_id: vec![2; 16],
            base_path: "/runtimes/lab/".into(),
            spec: json!({ "app": "jupyter", "ask": ask }).to_string(),
            access_key: "k3y".into(),
            ..pb::Order::default()
        }
    }

    #[test]
    fn what_is_not_well_formed_is_named() {
        let grants = vec![pb::DeviceGrant { device: "gpu-0".into(), milli: 400, slots: 6, ..Default::default() }];
        let order = Order::from_proto(&pb::Order { grants, ..run() }).unwrap();
        assert_eq!(Order::from_proto(&order.to_proto().unwrap()).unwrap(), order, "it is kept on a disk like this");
        assert_eq!(order.life().unwrap().spec.app, domain::runtime::App::Jupyter);
        assert!(!format!("{order:?}").contains("k3y"), "the key is in no log");
        for (change, word) in [
            (pb::Order { holder: vec![1], ..run() }, "holder"),
            (pb::Order { base_path: "lab".into(), ..run() }, "base_path"),
            (pb::Order { spec: "{}".into(), ..run() }, "spec"),
            (pb::Order { goal: 0, ..run() }, "goal"),
            (pb::Order { grants: vec![pb::DeviceGrant { milli: -1, ..Default::default() }], ..run() }, "negative"),
        ] {
            let error = Order::from_proto(&change).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_grace_is_bounded() {
        assert_eq!([grace(0), grace(-1), grace(7), grace(i32::MAX)], [GRACE, GRACE, Duration::from_secs(7), GRACE_MAX]);
    }
}
