//! The lab of simulated nodes that all tests share, as one test of the command line sees it: in a namespace of its own.

use crate::{answer::Answer, cluster::Cluster, wait};
use provision::Kubelab;
use serde_json::Value;
use std::{process::Command, time::Duration};

/// For a start or a stop on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// What a runtime may leave behind, and must not.
const KINDS: &str = "pods,resourceclaims,services,networkpolicies,secrets";

/// The lab as its administrator sees it, in one namespace, which goes with the value.
pub(crate) struct Lab<'a> {
    pub(crate) kubernetes: &'a Kubelab,
    pub(crate) namespace: String,
}

impl Lab<'_> {
    pub(crate) fn kubectl(&self, words: &[&str]) -> Answer {
        let mut command = match self.kubernetes.pid {
            Some(_) => Command::new(&self.kubernetes.program),
            None => Command::new("kubectl"),
        };
        command.args(self.kubernetes.pid.map(|_| "kubectl"));
        command.env("KUBECONFIG", &self.kubernetes.kubeconfig).args(["--namespace", &self.namespace]).args(words);
        wait::output(&mut command).into()
    }

    #[track_caller]
    pub(crate) fn get(&self, what: &str) -> Value {
        let answer = self.kubectl(&["get", what, "--output", "json"]).with_code(0);
        serde_json::from_str(&answer.out).unwrap()
    }

    /// The only object of a kind.
    #[track_caller]
    pub(crate) fn only(&self, what: &str) -> Value {
        let all = self.get(what)["items"].take();
        assert_eq!(all.as_array().map(Vec::len), Some(1), "{all:#}");
        all[0].clone()
    }

    /// The storage class that a volume is of which asks for none.
    pub(crate) fn default_class(&self) -> String {
        let all = self.get("storageclasses")["items"].take();
        let is_default =
            |class: &&Value| class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true";
        all.as_array().unwrap().iter().find(is_default).unwrap()["metadata"]["name"].as_str().unwrap().to_owned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let all = self.get(KINDS)["items"].take();
        all.as_array().unwrap().iter().map(|one| format!("{}/{}", one["kind"], one["metadata"]["name"])).collect()
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        self.kubectl(&["delete", "namespace", &self.namespace, "--wait=false", "--ignore-not-found"]);
    }
}

#[track_caller]
pub(crate) fn orrery(cluster: &Cluster, words: &[&str]) -> Answer {
    Answer::from(wait::output(cluster.orrery().args(words))).with_code(0)
}

#[track_caller]
pub(crate) fn json(cluster: &Cluster, words: &[&str]) -> Value {
    orrery(cluster, &[words, &["--json"]].concat()).json()
}

/// The devices of which the workspace holds a share, as `class/node/name` and milli-GPU.
pub(crate) fn held(cluster: &Cluster, workspace: &str) -> Vec<(String, i64)> {
    let all = json(cluster, &["gpus"])["devices"].take();
    let share = |device: &Value| {
        let holder = device["holders"].as_array()?.iter().find(|holder| holder["workspace"] == workspace)?;
        Some((device["name"].as_str()?.to_owned(), holder["milli"].as_i64()?))
    };
    let mut held: Vec<_> = all.as_array().into_iter().flatten().filter_map(share).collect();
    held.sort();
    held
}
