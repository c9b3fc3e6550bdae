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
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use std::collections::BTreeMap;

/// Where clouds hand out credentials of their machines.
const METADATA: [(&str, &str); 2] = [("0.0.0.0/0", "169.254.0.0/16"), ("::/0", "fe80::/10")];

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

/// Only web-servers and executors of runtimes come in; out goes everything but the addresses of the machine's own cloud.
#[must_use]
pub fn policy(place: &Place, life: &Life, record_uid: &str) -> NetworkPolicy {
    let (name, values) = VISITORS;
    let visitors = values.map(|value| NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(name.to_owned(), value.to_owned())])),
            ..LabelSelector::default()
        }),
        ip_block: None,
    });
    let port = NetworkPolicyPort { port: Some(IntOrString::String("app".to_owned())), ..NetworkPolicyPort::default() };
    let outside = METADATA.map(|(all, except)| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: all.to_owned(), except: Some(vec![except.to_owned()]) }),
        ..NetworkPolicyPeer::default()
    });
    NetworkPolicy {
        metadata: metadata(place, life, Some(record_uid)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(selected(life)), ..LabelSelector::default() }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule { from: Some(visitors.into()), ports: Some(vec![port]) }]),
            egress: Some(vec![NetworkPolicyEgressRule { to: Some(outside.into()), ports: None }]),
        }),
    }
}

fn selected(life: &Life) -> BTreeMap<String, String> {
    BTreeMap::from([(HOLDER.to_owned(), life.holder.to_string())])
}
