//! Where somebody tells what GPUs do: pods of NVIDIA's dcgm-exporter, one on each node. Refuses to ask them.

use crate::{cluster::Cluster, error::Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use std::{collections::HashMap, net::SocketAddr, str::FromStr};

/// How its pods are found, written as `gpu-operator/app=nvidia-dcgm-exporter:9400`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exporter {
    namespace: String,
    selector: String,
    port: u16,
}

impl FromStr for Exporter {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let read = || {
            // A label may have a slash, too.
            let (namespace, rest) = text.trim().split_once('/')?;
            let (selector, port) = rest.rsplit_once(':')?;
            let port = port.parse().ok().filter(|port| *port > 0)?;
            let is_whole = !namespace.is_empty() && selector.contains('=');
            is_whole.then(|| Self { namespace: namespace.to_owned(), selector: selector.to_owned(), port })
        };
        read().ok_or_else(|| format!("`{text}` is no `namespace/label=value:port`"))
    }
}

impl Cluster {
    /// Where the exporter of each node listens; a node on which none runs is missing.
    ///
    /// # Errors
    /// The cluster refuses, or was not reached.
    pub async fn exporters(&self, exporter: &Exporter) -> Result<HashMap<String, SocketAddr>> {
        let selected = ListParams::default().labels(&exporter.selector);
        let pods = self.elsewhere::<Pod>(&exporter.namespace).list(&selected).await?;
        Ok(pods.into_iter().filter_map(|pod| place(pod, exporter.port)).collect())
    }
}

fn place(pod: Pod, port: u16) -> Option<(String, SocketAddr)> {
    let status = pod.status?;
    let runs = status.phase.as_deref() == Some("Running") && pod.metadata.deletion_timestamp.is_none();
    let address = status.pod_ip.filter(|_| runs)?.parse().ok()?;
    Some((pod.spec?.node_name?, SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn an_exporter_is_named_in_one_word() {
        let exporter = |namespace: &str, selector: &str, port| Exporter {
            namespace: namespace.to_owned(),
            selector: selector.to_owned(),
            port,
        };
        for (text, expected) in [
            ("gpu-operator/app=nvidia-dcgm-exporter:9400", exporter("gpu-operator", "app=nvidia-dcgm-exporter", 9400)),
            (" m/app.kubernetes.io/name=dcgm-exporter:1 ", exporter("m", "app.kubernetes.io/name=dcgm-exporter", 1)),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for bad in ["", "gpu-operator", "gpu-operator/app=x", "/app=x:9400", "m/app:9400", "m/app=x:0", "m/app=x:http"]
        {
            assert!(bad.parse::<Exporter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_pod_that_runs_is_asked() {
        let place = |phase: &str, deleted: Value| {
            let pod = json!({ "metadata": { "deletionTimestamp": deleted }, "spec": { "nodeName": "n", "containers": [] },
                              "status": { "phase": phase, "podIP": "10.0.0.7" } });
            place(serde_json::from_value(pod).unwrap(), 9400)
        };
        assert_eq!(place("Running", Value::Null), Some(("n".to_owned(), "10.0.0.7:9400".parse().unwrap())));
        assert_eq!(place("Pending", Value::Null), None);
        assert_eq!(place("Running", json!("2026-11-24T00:00:00Z")), None);
    }
}
