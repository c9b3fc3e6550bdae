//! What a project's runtimes may be and hold, and what they hold. Refuses to judge a runtime by it.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::{
    device::DeviceModel,
    id::ProjectId,
    quota::{Quota, Usage},
    runtime::rules,
};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// A project's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What a runtime is judged by.
    pub rules: rules::Policy,
    /// How many of its runtimes may be stopped for others within an hour.
    pub disruptions_per_hour: Option<u32>,
    /// Runtimes that hold more than a smaller quota are stopped after so long, seconds; `None`: they go on.
    pub over_quota_grace_s: Option<u32>,
    /// Rises with each change; 0 while nobody has set one.
    pub version: i64,
}

/// The policy of a project, or what holds without one; `None` when there is no such project.
///
/// # Errors
/// When the statement fails.
pub async fn get(db: &impl GenericClient, project: ProjectId) -> Result<Option<Policy>, Error> {
    Ok(query::row(db, include_str!("../sql/project_policy/get.sql"), &[&project.0]).await?.as_ref().map(decode))
}

fn decode(row: &Row) -> Policy {
    let large = |at: usize| row.get::<_, Option<i64>>(at).map(i64::unsigned_abs);
    let small = |at: usize| row.get::<_, Option<i32>>(at).map(i32::unsigned_abs);
    let quota = Quota {
        gpu_milli: large(2),
        model_milli: models(&row.get(3)),
        cpu_milli: large(4),
        memory_bytes: large(5),
        storage_bytes: large(6),
        holders: large(7),
    };
    let rules = rules::Policy {
        images: row.get(0),
        allow_root: row.get(1),
        group_allows_root: row.get(13),
        quota,
        group_quota: Quota {
            gpu_milli: large(14),
            model_milli: models(&row.get(15)),
            cpu_milli: large(16),
            memory_bytes: large(17),
            storage_bytes: large(18),
            holders: large(19),
        },
        idle_timeout_max_s: small(9),
        lifetime_max_s: small(10),
    };
    Policy { rules, disruptions_per_hour: small(8), over_quota_grace_s: small(12), version: row.get(11) }
}

/// Sets a project's policy; its version, and what the owning group says, are not. Hold the project's lock. Answers the
/// version.
///
/// # Errors
/// When the statement fails.
pub async fn set(db: &impl GenericClient, project: ProjectId, policy: &Policy) -> Result<i64, Error> {
    let large = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
    let small = |value: Option<u32>| value.map(|value| i32::try_from(value).unwrap_or(i32::MAX));
    let (rules, quota) = (&policy.rules, &policy.rules.quota);
    let models: BTreeMap<&str, u64> = quota.model_milli.iter().map(|(model, milli)| (model.as_str(), *milli)).collect();
    let parameters: query::Parameters<'_> = &[
        &project.0,
        &rules.images,
        &rules.allow_root,
        &large(quota.gpu_milli),
        &Value::from_iter(models),
        &large(quota.cpu_milli),
        &large(quota.memory_bytes),
        &large(quota.storage_bytes),
        &large(quota.holders),
        &small(policy.disruptions_per_hour),
        &small(rules.idle_timeout_max_s),
        &small(rules.lifetime_max_s),
        &small(policy.over_quota_grace_s),
    ];
    Ok(query::one(db, include_str!("../sql/project_policy/upsert.sql"), parameters).await?.get(0))
}

/// What a project holds: its runtimes, and as storage also its volumes, whose part of it is the second.
///
/// # Errors
/// When the statement fails.
pub async fn usage(db: &impl GenericClient, project: ProjectId) -> Result<(Usage, u64), Error> {
    let row = query::row(db, include_str!("../sql/project_usage/get.sql"), &[&project.0]).await?;
    let Some(row) = row else { return Ok((Usage::default(), 0)) };
    let large = |at: usize| row.get::<_, i64>(at).unsigned_abs();
    let usage = Usage {
        gpu_milli: large(0),
        model_milli: models(&row.get(1)),
        cpu_milli: large(2),
        memory_bytes: large(3),
        storage_bytes: large(4) + large(6),
        holders: large(5),
    };
    Ok((usage, large(6)))
}

/// An object of model to milli-GPU.
fn models(value: &Value) -> BTreeMap<DeviceModel, u64> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(model, milli)| Some((DeviceModel::new(model), milli.as_u64()?))).collect()
}
