//! How the planner weighs and how far it goes. Every bound of its work is here.

use domain::device::DeviceModel;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an operator may tune; the defaults hold the published bars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// How much of what is asked for the typical set has to cover, parts per million, most frequent first.
    pub typical_coverage_ppm: u64,
    /// Most members of the typical set. Where many insist on models, each model brings members of its own: with too few of
    /// them, those who insist are not seen.
    pub typical_max: usize,
    /// What a device that is fully claimed by those who insist on its model is worth beyond others, in thousandths. Little
    /// decides between places that lose about the same, which spares the model; much breaks whole devices of others for it,
    /// and leaves to those who insist what they cannot fill, where a node has less processor than they need.
    pub scarcity_permille: u64,
    /// What a model is worth against another, percent; a model that is not listed is worth 100.
    pub model_value_percent: BTreeMap<DeviceModel, u64>,
    /// What it costs to put together holders whose ends differ by a factor of two, in milli-GPU.
    pub lifetime_milli: u64,
    /// What it costs to spread over links where joined devices are preferred, in milli-GPU.
    pub link_milli: u64,
    /// Waiting so long is as good as one more of priority, seconds; 0 is never.
    pub aging_s: u64,
    /// Who waited so long gets capacity reserved, so that later ones cannot pass for ever, seconds.
    pub reserve_after_s: u64,
    /// Reservations at once.
    pub reservations_max: usize,
    /// Whether holders of preemptible queues may be stopped for others.
    pub preemption: bool,
    /// Who waited so long may have others stopped, seconds.
    pub preempt_after_s: u64,
    /// Holders that one plan stops at most.
    pub victims_max: usize,
    /// Holders of one node among which the least costly set is searched exactly; beyond, greedily. At most 12.
    pub exact_victims_max: usize,
    /// Least time that makes a start before the window's end worthwhile, seconds.
    pub useful_s: u64,
    /// How long a start takes, pulling images included, seconds.
    pub start_s: u64,
    /// Refused requests whose ways out are looked for.
    pub explained_max: usize,
    /// Moves that are looked for at the end of a plan; 0 where nobody asks for them.
    pub moves_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            typical_coverage_ppm: 950_000,
            typical_max: 256,
            scarcity_permille: 75,
            model_value_percent: BTreeMap::new(),
            lifetime_milli: 5,
            link_milli: 200,
            aging_s: 14_400,
            reserve_after_s: 300,
            reservations_max: 8,
            preemption: true,
            preempt_after_s: 0,
            victims_max: 64,
            exact_victims_max: 10,
            useful_s: 600,
            start_s: 120,
            explained_max: 100,
            moves_max: 0,
        }
    }
}
