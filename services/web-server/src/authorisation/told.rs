//! The fields that the trail tells of what administrators set: a refusal tells all that was asked for, as a change tells
//! all that was changed. Refuses to know who may ask for it.

/// Of a queue.
pub(super) const QUEUE: &[&str] = &[
    "queue.name",
    "queue.pool",
    "queue.priority",
    "queue.preemptible",
    "queue.deserved_gpu_milli",
    "queue.limit_gpu_milli",
    "queue.weight",
    "force",
];

/// Of a plan.
pub(super) const PLAN: &[&str] = &[
    "plan.name",
    "plan.models",
    "plan.gpus_max",
    "plan.gpu_milli_max",
    "plan.cpu_milli_max",
    "plan.memory_bytes_max",
    "plan.lifetime_s_max",
    "plan.queues",
    "plan.windows",
    "force",
];

/// Of a project's policy.
pub(super) const PROJECT_POLICY: &[&str] = &[
    "project",
    "policy.images",
    "policy.allow_root",
    "policy.gpu_milli",
    "policy.model_gpu_milli",
    "policy.cpu_milli",
    "policy.memory_bytes",
    "policy.storage_bytes",
    "policy.runtimes",
    "policy.disruptions_per_hour",
    "policy.idle_timeout_s_max",
    "policy.lifetime_s_max",
    "policy.over_quota_grace_s",
    "force",
];

/// Fields of one's own, and those of a quota.
macro_rules! with_quota {
    ($($own:literal),*) => {
        &[
            $($own,)*
            "quota.gpu_milli",
            "quota.model_gpu_milli",
            "quota.cpu_milli",
            "quota.memory_bytes",
            "quota.storage_bytes",
            "quota.runtimes",
            "force",
        ]
    };
}

/// Of what a group's projects may be and hold.
pub(super) const GROUP_POLICY: &[&str] = with_quota!["group", "allow_root"];

/// Of what a person may hold.
pub(super) const USER_QUOTA: &[&str] = with_quota!["email"];

/// Of a device class.
pub(super) const DEVICE_CLASS: &[&str] = &[
    "class.name",
    "class.sharing",
    "class.step_milli",
    "class.enforcement",
    "class.models",
    "class.claim_class",
    "class.worth",
    "force",
];
