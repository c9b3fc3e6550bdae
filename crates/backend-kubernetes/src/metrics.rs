//! What our pods use, as the cluster itself measures it (`metrics.k8s.io`), where something in it does. Refuses to judge.

use crate::{
    cluster::Cluster,
    error::{Error, Result},
    quantity,
    render::pod,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{
    ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde::Deserialize;
use std::{collections::HashMap, time::Duration};

/// What one pod used in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Thousandths of a core, of all its containers.
    pub cpu_milli: u64,
    /// The end of that time, by the clock of whoever measured.
    pub until: Timestamp,
    /// How long it was.
    pub window: Duration,
}

/// What of a `PodMetrics` is read.
#[derive(Deserialize)]
struct Measured {
    timestamp: String,
    window: String,
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    usage: HashMap<String, Quantity>,
}

impl Cluster {
    /// What the pods of our namespace used, by name. One that was not measured, or not in a way that can be read, is missing.
    ///
    /// # Errors
    /// The cluster serves no such thing, refuses, or was not reached; see [`why`].
    pub async fn usage(&self) -> Result<HashMap<String, Usage>> {
        let kind = GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics");
        let resource = ApiResource::from_gvk_with_plural(&kind, "pods");
        let all = self.dynamic(&resource).list(&ListParams::default()).await?;
        Ok(all.into_iter().filter_map(|one| Some((one.name_any(), read(one)?))).collect())
    }
}

/// Why nothing was measured, for people.
#[must_use]
pub fn why(error: &Error) -> String {
    match error {
        error if error.is_not_found() => "the cluster does not measure pods: it serves no metrics.k8s.io".to_owned(),
        error if error.is_forbidden() => "this executor may not list pods of metrics.k8s.io".to_owned(),
        other => format!("failed to {other}"),
    }
}

fn read(object: DynamicObject) -> Option<Usage> {
    let measured: Measured = serde_json::from_value(object.data).ok()?;
    if !measured.containers.iter().any(|container| container.name == pod::APP) {
        return None;
    }
    let cpu = measured.containers.iter().map(|container| quantity::milli_of(container.usage.get("cpu")?));
    Some(Usage {
        cpu_milli: cpu.sum::<Option<u64>>()?,
        until: measured.timestamp.parse().ok()?,
        window: measured.window.parse::<SignedDuration>().ok()?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read_from(data: Value) -> Option<Usage> {
        read(serde_json::from_value(data).unwrap())
    }

    fn measured(window: &str, containers: Value) -> Value {
        json!({ "metadata": { "name": "ws-lab-r1" }, "timestamp": "2026-11-23T20:41:35Z", "window": window,
                "containers": containers })
    }

    #[test]
    fn what_containers_use_is_summed_and_what_cannot_be_read_is_nothing() {
        let app = |cpu: &str| json!({ "name": "app", "usage": { "cpu": cpu, "memory": "1Mi" } });
        let beside = json!({ "name": "beside", "usage": { "cpu": "3m" } });
        let usage =
            |cpu_milli, window| Some(Usage { cpu_milli, until: "2026-11-23T20:41:35Z".parse().unwrap(), window });
        let seconds = Duration::from_secs;
        assert_eq!(read_from(measured("15s", json!([app("49000001n"), beside]))), usage(53, seconds(15)));
        assert_eq!(read_from(measured("1m0s", json!([app("0")]))), usage(0, seconds(60)));
        assert_eq!(read_from(measured("15.052s", json!([app("1")]))), usage(1_000, Duration::from_millis(15_052)));
        for unreadable in [
            measured("15s", json!([])),
            measured("15s", json!([beside])),
            measured("15s", json!([app("some")])),
            measured("15s", json!([{ "name": "app", "usage": {} }])),
            measured("-15s", json!([app("0")])),
            measured("", json!([app("0")])),
            json!({ "metadata": { "name": "ws-lab-r1" } }),
        ] {
            assert_eq!(read_from(unreadable.clone()), None, "{unreadable}");
        }
    }

    #[test]
    fn it_is_told_why_nothing_was_measured() {
        let said = |code: u16| {
            let status = json!({ "status": "Failure", "code": code, "message": "the server is away", "reason": "No" });
            why(&Error::Api(kube::Error::Api(serde_json::from_value(status).unwrap())))
        };
        assert!(said(404).contains("serves no"));
        assert!(said(403).contains("may not"));
        assert_eq!(said(503), "failed to ask Kubernetes: the server is away");
    }
}
