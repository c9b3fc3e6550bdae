//! The address of a runtime and who may use it: web-servers, executors of runtimes, and nobody else.

use super::{Place, app, metadata};
use crate::{
    life::Life,
    names::{HOLDER, VISITORS},
};
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        networking::v1::{
            IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
            NetworkPolicyPort, NetworkPolicySpec,
        },
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};
use std::collections::BTreeMap;

/// Where clouds hand out credentials of their machines. By link-local addresses nearly all do: 169.254.169.254 is Amazon's,
/// Azure's, Google's, Oracle's and others', 169.254.170.23 that of EKS Pod Identity. Besides, by their own pages,
///
/// - Alibaba: alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata; by IPv6 as cloud-init asks it
/// - Azure's WireServer, which hands settings and keys of extensions to the machine's agent:
///   learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
/// - Amazon (254): docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html; EKS Pod Identity (23):
///   docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html
/// - Google: cloud.google.com/compute/docs/metadata/querying-metadata, for machines that have IPv6 alone
/// - Oracle: the SDK's `DEFAULT_METADATA_URL_BASE_IPV6` (github.com/oracle/oci-python-sdk)
/// - Akamai (`fd00:a9fe:…`), Scaleway (`fd00:42:…`): cloudinit.readthedocs.io/en/latest/reference/datasources.html
const METADATA: [(&str, &[&str]); 2] = [
    ("0.0.0.0/0", &["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"]),
    (
        "::/0",
        &[
            "fe80::/10",
            "fd00:ec2::254/128",
            "fd00:ec2::23/128",
            "fd20:ce::254/128",
            "fd00:c1::a9fe:a9fe/128",
            "fd00:100::100:200/128",
            "fd00:a9fe:a9fe::1/128",
            "fd00:42::42/128",
        ],
    ),
];
/// Where nodes may have a DNS of their own: node-local-dns on 169.254.20.10, Azure's and Google's where these addresses are.
const NODE_DNS: [&str; 3] = ["169.254.0.0/16", "168.63.129.16/32", "fd20:ce::254/128"];

/// A name in the cluster's DNS for the application.
#[must_use]
pub fn service(place: &Place, life: &Life, record_uid: &str) -> Service {
    let port = i32::from(app::port(&life.spec.app));
    let ports = vec![ServicePort {
        name: Some("app".to_owned()),
        port,
        target_port: Some(IntOrString::String("app".to_owned())),
        ..ServicePort::default()
    }];
    Service {
        metadata: metadata(place, life, Some(record_uid)),
        spec: Some(ServiceSpec { selector: Some(selected(life)), ports: Some(ports), ..ServiceSpec::default() }),
        status: None,
    }
}

/// Only web-servers and executors of runtimes come in; out goes everything but the addresses of the machine's own cloud, which
/// are asked for names and for nothing else.
#[must_use]
pub fn policy(place: &Place, life: &Life, record_uid: &str) -> NetworkPolicy {
    let (name, values) = VISITORS;
    let visitors = values.map(|value| NetworkPolicyPeer {
        namespace_selector: Some(named(&place.visitors)),
        pod_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(name.to_owned(), value.to_owned())])),
            ..LabelSelector::default()
        }),
        ip_block: None,
    });
    let port = NetworkPolicyPort { port: Some(IntOrString::String("app".to_owned())), ..NetworkPolicyPort::default() };
    let outside = METADATA.map(|(all, except)| block(all, except));
    let outside = NetworkPolicyEgressRule { to: Some(outside.into()), ports: None };
    let names = NODE_DNS.map(|dns| block(dns, &[]));
    let names = NetworkPolicyEgressRule { to: Some(names.into()), ports: Some(dns().into()) };
    NetworkPolicy {
        metadata: metadata(place, life, Some(record_uid)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(selected(life)), ..LabelSelector::default() }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule { from: Some(visitors.into()), ports: Some(vec![port]) }]),
            egress: Some(vec![outside, names]),
        }),
    }
}

/// Namespaces of these names, which the API server says by a label; any where there are none.
fn named(namespaces: &[String]) -> LabelSelector {
    let is_one = LabelSelectorRequirement {
        key: "kubernetes.io/metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(namespaces.to_vec()),
    };
    LabelSelector { match_expressions: (!namespaces.is_empty()).then(|| vec![is_one]), ..LabelSelector::default() }
}

fn block(cidr: &str, except: &[&str]) -> NetworkPolicyPeer {
    let except: Vec<String> = except.iter().copied().map(str::to_owned).collect();
    let block = IPBlock { cidr: cidr.to_owned(), except: (!except.is_empty()).then_some(except) };
    NetworkPolicyPeer { ip_block: Some(block), ..NetworkPolicyPeer::default() }
}

/// The port at which names are asked for.
fn dns() -> [NetworkPolicyPort; 2] {
    ["UDP", "TCP"].map(|protocol| NetworkPolicyPort {
        port: Some(IntOrString::Int(53)),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    })
}

fn selected(life: &Life) -> BTreeMap<String, String> {
    BTreeMap::from([(HOLDER.to_owned(), life.holder.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{classes::Classes, render::app::Images};
    use serde_json::json;

    fn life() -> Life {
        let id = "00000000-0000-4000-8000-000000000001";
        let ask = json!({ "gpus": 0, "gpu_milli": 0, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                          "link": "any", "cpu_milli": 100, "memory_bytes": 1 });
        let spec = json!({ "app": { "custom": { "port": 8000, "command": ["app"] } }, "ask": ask,
                           "post_start": { "script": "true" } });
        let life = json!({
            "holder": id, "workspace_id": id, "workspace": "lab", "project": "p", "queue": "default", "queue_priority": 0,
            "preemptible": false, "number": 1, "node": "n", "grants": [], "spec": spec, "access_key": "", "base_path": "/",
        });
        serde_json::from_value(life).unwrap()
    }

    fn place(visitors: Vec<String>) -> Place {
        let images = Images { jupyter: String::new(), vs_code: String::new(), pre_start: String::new() };
        let (pool, namespace) = ("default".to_owned(), "runtimes".to_owned());
        Place { pool, namespace, images, classes: Classes::default(), visitors }
    }

    #[test]
    fn visitors_come_from_their_namespaces() {
        let of_these =
            json!([{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["orrery", "second"] }]);
        for (visitors, expected) in [
            (vec![], json!({})),
            (vec!["orrery".to_owned(), "second".to_owned()], json!({ "matchExpressions": of_these })),
        ] {
            let policy = serde_json::to_value(policy(&place(visitors), &life(), "uid")).unwrap();
            let from = policy["spec"]["ingress"][0]["from"].as_array().unwrap();
            assert_eq!(from.len(), 2);
            for peer in from {
                assert_eq!(peer["namespaceSelector"], expected);
                assert!(peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"].is_string(), "{peer}");
            }
        }
    }

    /// A node's own DNS answers at a link-local address, beside what hands out the machine's credentials.
    #[test]
    fn addresses_of_credentials_are_asked_for_names_at_most() {
        let policy = serde_json::to_value(policy(&place(Vec::new()), &life(), "uid")).unwrap();
        let egress = policy["spec"]["egress"].as_array().unwrap();
        let ipv4 = ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"];
        let own = [
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:100::100:200",
            "fd00:a9fe:a9fe::1",
            "fd00:42::42",
        ];
        let ipv6: Vec<String> =
            ["fe80::/10".to_owned()].into_iter().chain(own.map(|address| format!("{address}/128"))).collect();
        let everywhere = json!({ "to": [
            { "ipBlock": { "cidr": "0.0.0.0/0", "except": ipv4 } },
            { "ipBlock": { "cidr": "::/0", "except": ipv6 } },
        ] });
        let names = ["169.254.0.0/16", "168.63.129.16/32", "fd20:ce::254/128"];
        let names = json!({
            "to": names.map(|cidr| json!({ "ipBlock": { "cidr": cidr } })),
            "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }],
        });
        assert_eq!(*egress, [everywhere, names]);
    }
}
