//! What a project asks of the container of a block: Mage's `k8s_executor_config`, and `gpus`, which is ours.
//!
//! Pure. What is not taken is a remark and never a failure: a project that ran elsewhere with it shall run. Refuses to know
//! what the operator allows; see [`super::policy`].

mod reader;
mod volumes;

use domain::runtime::rules::is_reserved;
use k8s_openapi::{
    api::core::v1::{Affinity, EnvFromSource, EnvVar, LocalObjectReference, Toleration, Volume, VolumeMount},
    apimachinery::pkg::api::resource::Quantity,
};
use reader::Reader;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
pub(super) use volumes::OURS;

/// By which projects of other clusters ask for GPUs.
const GPU_RESOURCE: &str = "nvidia.com/gpu";
/// With which the names of our own variables begin.
pub(super) const OUR_VARIABLES: &str = "ORRERY_";
/// Devices of one block.
const GPUS_MAX: u32 = 32;

/// Amounts of resources, by name.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// Everything that was asked for and may be had by somebody.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) namespace: Option<String>,
    pub(super) service_account: Option<String>,
    pub(super) image: Option<String>,
    pub(super) image_pull_policy: Option<String>,
    pub(super) image_pull_secrets: Vec<LocalObjectReference>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) env: Vec<EnvVar>,
    pub(super) env_from: Vec<EnvFromSource>,
    pub(super) requests: Amounts,
    pub(super) limits: Amounts,
    pub(super) gpus: Option<Gpus>,
    pub(super) volumes: Vec<Volume>,
    pub(super) mounts: Vec<VolumeMount>,
    pub(super) affinity: Option<Affinity>,
    pub(super) node_selector: BTreeMap<String, String>,
    pub(super) scheduler_name: Option<String>,
    pub(super) tolerations: Vec<Toleration>,
    /// What does not hold, and why.
    pub(super) remarks: Vec<String>,
}

/// GPUs, as a claim asks for them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Gpus {
    pub(super) count: u32,
    /// The device class; the operator's first when it is empty.
    pub(super) class: String,
    /// Of each one's compute, percent; the whole of it when 0.
    pub(super) sm: u32,
    /// Of each one's memory.
    pub(super) memory: Option<Quantity>,
}

/// Reads a config. An empty text asks for nothing.
pub(super) fn read(config: &str) -> Asked {
    let mut reader = Reader::default();
    let mut asked = Asked::default();
    let written = if config.is_empty() { Ok(Value::Object(Map::new())) } else { serde_json::from_str(config) };
    match written {
        Ok(Value::Object(keys)) => top(keys, &mut asked, &mut reader),
        _ => reader.refuse("executor_config", "is no map of keys and values"),
    }
    volumes::keep_safe(&mut asked, &mut reader);
    asked.env.retain(|variable| {
        let why = match &variable.name {
            name if name.starts_with(OUR_VARIABLES) => "begins with ORRERY_, which names our own variables",
            name if is_reserved(name) => "is set where a block has devices, to keep it within its share",
            _ => return true,
        };
        reader.refuse(&format!("env {}", variable.name), why);
        false
    });
    if let Some(gpus) = &mut asked.gpus {
        gpus.memory = gpus.memory.take().and_then(|memory| reader.amount("gpus.memory", memory));
    }
    if let Some(gpus) = asked.gpus.as_ref().filter(|gpus| gpus.count > GPUS_MAX || gpus.sm > 100) {
        let why = format!("asks for {} devices at {} %; at most {GPUS_MAX} at 100 % can be had", gpus.count, gpus.sm);
        reader.refuse("gpus", &why);
        asked.gpus = None;
    }
    asked.remarks = reader.remarks;
    asked
}

fn top(mut keys: Map<String, Value>, asked: &mut Asked, reader: &mut Reader) {
    // In this order: of what is said twice, the later one counts.
    if let Some(metadata) = reader.map("metadata", keys.remove("metadata")) {
        self::metadata(metadata, asked, reader);
    }
    for (amounts, key) in [(&mut asked.limits, "resource_limits"), (&mut asked.requests, "resource_requests")] {
        amounts.extend(reader.amounts(key, keys.remove(key)));
    }
    for key in ["container", "container_config"] {
        if let Some(fields) = reader.map(key, keys.remove(key)) {
            container(key, fields, asked, reader);
        }
    }
    if let Some(fields) = reader.map("pod", keys.remove("pod")) {
        pod(fields, asked, reader);
    }
    if let Some(fields) = reader.map("job", keys.remove("job")) {
        job(fields, reader);
    }
    asked.namespace = reader.typed("namespace", keys.remove("namespace")).or(asked.namespace.take());
    let account = reader.typed("service_account_name", keys.remove("service_account_name"));
    asked.service_account = account.or(asked.service_account.take());
    gpus(keys.remove("gpus"), asked, reader);
    for key in keys.keys() {
        match key.as_str() {
            "job_name_prefix" => {
                reader.refuse(key, "names no job here: look for the labels orrery.dev/run and orrery.dev/block")
            }
            "config_file" => {
                reader.refuse(key, "is read when a project is deployed, from a file of the project, and was not there")
            }
            _ => reader.refuse(key, "is not known"),
        }
    }
}

fn metadata(mut fields: Map<String, Value>, asked: &mut Asked, reader: &mut Reader) {
    asked.namespace = reader.typed("metadata.namespace", fields.remove("namespace"));
    for (texts, key) in [(&mut asked.labels, "labels"), (&mut asked.annotations, "annotations")] {
        let path = format!("metadata.{key}");
        *texts = reader.texts(&path, fields.remove(key));
        texts.retain(|name, _| {
            // Container runtimes, networks and admission obey such names: they hand out devices, identities, interfaces.
            let told = name.contains(['/', '.']);
            if told {
                let why = "has a prefix or a dot: programs of the cluster obey such names, which are not for projects";
                reader.refuse(&format!("{path}.{name}"), why);
            }
            !told
        });
    }
    reader.leftover("metadata", &fields, "labels, annotations and namespace");
}

fn container(path: &str, mut fields: Map<String, Value>, asked: &mut Asked, reader: &mut Reader) {
    fields.remove("name");
    let at = |key: &str| format!("{path}.{key}");
    let mut take = |key: &str| fields.remove(key).or_else(|| fields.remove(&reader::camel(key)));
    let (image, policy) = (take("image"), take("image_pull_policy"));
    let (env, env_from, mounts, resources) = (take("env"), take("env_from"), take("volume_mounts"), take("resources"));
    asked.image = reader.typed(&at("image"), image).or(asked.image.take());
    asked.image_pull_policy = reader.typed(&at("image_pull_policy"), policy).or(asked.image_pull_policy.take());
    asked.env.extend(reader.list::<EnvVar>(&at("env"), env));
    asked.env_from.extend(reader.list::<EnvFromSource>(&at("env_from"), env_from));
    asked.mounts.extend(reader.list::<VolumeMount>(&at("volume_mounts"), mounts));
    if let Some(mut resources) = reader.map(&at("resources"), resources) {
        for (amounts, key) in [(&mut asked.limits, "limits"), (&mut asked.requests, "requests")] {
            amounts.extend(reader.amounts(&at(key), resources.remove(key)));
        }
        reader.leftover(&at("resources"), &resources, "limits and requests");
    }
    reader.leftover(path, &fields, "image, image_pull_policy, env, env_from, resources and volume_mounts");
}

fn pod(mut fields: Map<String, Value>, asked: &mut Asked, reader: &mut Reader) {
    let mut take = |key: &str| fields.remove(key).or_else(|| fields.remove(&reader::camel(key)));
    let (account, affinity, selector) = (take("service_account_name"), take("affinity"), take("node_selector"));
    let (scheduler, tolerations, volumes, pull) =
        (take("scheduler_name"), take("tolerations"), take("volumes"), take("image_pull_secrets"));
    asked.service_account = reader.typed("pod.service_account_name", account);
    asked.affinity = reader.typed("pod.affinity", affinity);
    asked.node_selector = reader.texts("pod.node_selector", selector);
    asked.scheduler_name = reader.typed("pod.scheduler_name", scheduler);
    asked.tolerations = reader.list("pod.tolerations", tolerations);
    asked.volumes = reader.list("pod.volumes", volumes);
    asked.image_pull_secrets = reader.names("pod.image_pull_secrets", pull);
    let taken =
        "service_account_name, affinity, node_selector, scheduler_name, tolerations, volumes and image_pull_secrets";
    reader.leftover("pod", &fields, taken);
}

/// Its deadline became the time-out of the block when the project was deployed.
fn job(mut fields: Map<String, Value>, reader: &mut Reader) {
    let mut take = |key: &str| fields.remove(key).or_else(|| fields.remove(&reader::camel(key)));
    let (deadline, retries, kept) =
        (take("active_deadline_seconds"), take("backoff_limit"), take("ttl_seconds_after_finished"));
    if deadline.is_some() {
        reader.refuse("job.active_deadline_seconds", "is no positive number of seconds");
    }
    if retries.is_some_and(|limit| limit.as_i64() != Some(0)) {
        reader.refuse("job.backoff_limit", "does not retry: the block's retry_config does");
    }
    if kept.is_some() {
        reader.refuse("job.ttl_seconds_after_finished", "keeps nothing: a job goes when its result is known");
    }
    reader.leftover("job", &fields, "active_deadline_seconds and a backoff_limit of 0");
}

/// What `gpus` says, a number or a map; where it says nothing, what was asked for as Kubernetes' older resource.
fn gpus(written: Option<Value>, asked: &mut Asked, reader: &mut Reader) {
    let (limit, request) = (asked.limits.remove(GPU_RESOURCE), asked.requests.remove(GPU_RESOURCE));
    let resource = limit.or(request).and_then(|quantity| u32::try_from(crate::quantity::units(&quantity)).ok());
    let wanted = match written {
        Some(Value::Number(count)) => {
            let count = count.as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(u32::MAX);
            Some(Gpus { count, ..Gpus::default() })
        }
        Some(other) => reader.typed("gpus", Some(other)),
        None => resource.map(|count| Gpus { count, ..Gpus::default() }),
    };
    asked.gpus = wanted.filter(|gpus| gpus.count > 0);
}

#[cfg(test)]
mod tests;
