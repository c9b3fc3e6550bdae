//! What of a project's wishes the operator allows. Pure; whose an object is, is asked by whoever has a client.

use super::config::{Asked, Gpus, OUR_VARIABLES};
use crate::{classes::Classes, names};
use ::backend::NoDevices;
use domain::runtime::rules::is_reserved;
use k8s_openapi::api::core::v1::{EnvFromSource, EnvVarSource, Volume};
use std::collections::BTreeMap;

/// A block with GPUs names its node, or which nodes it may have.
const NODE_UNSUPPORTED: &str = "NODE_UNSUPPORTED";
/// A share of a device of which blocks have no shares; as the planner says it of others.
const SHARE_UNSUPPORTED: &str = "SHARE_UNSUPPORTED";

/// The labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// What the operator says about jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where they are made unless a project may and does name another one.
    pub namespace: String,
    /// Others that projects may name.
    pub other_namespaces: Vec<String>,
    /// The image; it holds the executor's program.
    pub image: String,
    /// Beginnings of the names of others that projects may name; they must hold the program as well.
    pub other_images: Vec<String>,
    /// The executor's program in an image: a name that is found there, or a path.
    pub program: String,
    /// What they run as; the namespace's own when empty.
    pub service_account: String,
    /// Others that projects may name.
    pub other_service_accounts: Vec<String>,
    /// A secret whose entries are variables of the program and not of user code: the object store's credentials. None when
    /// empty.
    pub secret: String,
    /// Volume claims that every job mounts, each with the folder where: code and outputs that lie in no object store.
    pub volumes: Vec<(String, String)>,
    /// The device classes by which blocks may ask for GPUs; the first one where they name none. Without any they get none.
    pub gpu_classes: Vec<String>,
    /// Whose devices are whose, and which are shared by a server of MPS.
    pub classes: Classes,
}

impl Policy {
    /// Every namespace in which there may be jobs, each once.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        let others = self.other_namespaces.iter().filter(|name| **name != self.namespace);
        std::iter::once(&self.namespace).chain(others).map(String::as_str)
    }
}

/// An object that a block may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
    Volume,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "config map",
            Self::Volume => "volume claim",
        }
    }
}

/// A source of many variables.
#[derive(Debug)]
pub(super) struct VariablesFrom {
    pub(super) kind: Kind,
    pub(super) name: String,
    prefix: String,
    /// Its entries, once they were read.
    pub(super) names: Vec<String>,
}

impl VariablesFrom {
    fn variables(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|name| format!("{}{name}", self.prefix))
    }
}

/// What is allowed of what was asked.
#[derive(Debug)]
pub(super) struct Allowed {
    pub(super) asked: Asked,
    pub(super) namespace: String,
    pub(super) image: String,
    pub(super) service_account: String,
    pub(super) variables_from: Vec<VariablesFrom>,
}

/// Holds the wishes against the policy; what is refused becomes a remark.
pub(super) fn allow(mut asked: Asked, policy: &Policy) -> Allowed {
    let mut remarks = Vec::new();
    let named = |list: &[String], name: &str| list.iter().any(|known| known == name);
    let begins = |name: &str| policy.other_images.iter().any(|prefix| !prefix.is_empty() && name.starts_with(prefix));
    let namespace = Choice { what: "namespace", usual: &policy.namespace, setting: "jobs_namespaces" };
    let namespace = namespace.of(asked.namespace.take(), |name| named(&policy.other_namespaces, name), &mut remarks);
    let image = Choice { what: "image", usual: &policy.image, setting: "jobs_images" };
    let image = image.of(asked.image.take(), begins, &mut remarks);
    let account = Choice { what: "service account", usual: &policy.service_account, setting: "jobs_service_accounts" };
    let service_account =
        account.of(asked.service_account.take(), |name| named(&policy.other_service_accounts, name), &mut remarks);
    asked.gpus = asked.gpus.take().and_then(|gpus| of_class(gpus, &policy.gpu_classes, &mut remarks));
    asked.remarks.extend(remarks);
    let variables_from = variables_from(&asked);
    Allowed { asked, namespace, image, service_account, variables_from }
}

/// Something of which the operator says what is usual, and what else a project may choose.
struct Choice<'a> {
    what: &'static str,
    usual: &'a str,
    /// By which the operator says it.
    setting: &'static str,
}

impl Choice<'_> {
    fn of(&self, wanted: Option<String>, allows: impl Fn(&str) -> bool, remarks: &mut Vec<String>) -> String {
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty() && wanted != self.usual) else {
            return self.usual.to_owned();
        };
        if allows(&wanted) {
            return wanted;
        }
        let Self { what, usual, setting } = self;
        let instead = if usual.is_empty() { "the usual one".to_owned() } else { format!("`{usual}`") };
        remarks.push(format!(
            "executor_config: the {what} `{wanted}` is not among those that projects may name (the executor's setting \
             {setting}); {instead} is used"
        ));
        (*usual).to_owned()
    }
}

/// The same GPUs with a class that blocks may use.
fn of_class(mut gpus: Gpus, classes: &[String], remarks: &mut Vec<String>) -> Option<Gpus> {
    if gpus.class.is_empty() {
        gpus.class = classes.first().cloned().unwrap_or_default();
    }
    if classes.contains(&gpus.class) {
        return Some(gpus);
    }
    let of = if gpus.class.is_empty() { String::new() } else { format!(" of the class `{}`", gpus.class) };
    remarks.push(format!(
        "executor_config: GPUs{of} are not for blocks (the executor's setting jobs_gpu_classes); the block runs without"
    ));
    None
}

/// Whether an object is for blocks of this workspace. What we made ourselves is for nobody: it holds keys.
pub(super) fn belongs(labels: Option<&Labels>, workspace: &str) -> bool {
    labels.is_some_and(|labels| {
        labels.get(names::WORKSPACE).map(String::as_str) == Some(names::as_label(workspace).as_str())
            && labels.get("app.kubernetes.io/managed-by").map(String::as_str) != Some(names::MANAGER)
    })
}

impl Allowed {
    /// Why the GPUs that are asked for could never be had.
    pub(super) fn never_given(&self, policy: &Policy) -> Option<NoDevices> {
        let gpus = self.asked.gpus.as_ref()?;
        if !self.asked.node_selector.is_empty() || self.asked.affinity.is_some() {
            let why = "the owner of the pool chooses the node of a block with GPUs, and knows neither node_selector nor affinity: \
                       leave them out, and name the GPUs' class in `gpus`";
            return Some(NoDevices { code: NODE_UNSUPPORTED, why: why.to_owned() });
        }
        if (1..100).contains(&gpus.sm) && policy.classes.is_mps(&gpus.class) {
            let why = format!(
                "devices of the class `{}` are shared by MPS, of which a block has whole ones only: leave `sm` out",
                gpus.class
            );
            return Some(NoDevices { code: SHARE_UNSUPPORTED, why });
        }
        None
    }

    /// Every object that is named.
    pub(super) fn named(&self) -> Vec<(Kind, String)> {
        let mut named: Vec<(Kind, String)> = self.asked.volumes.iter().filter_map(of_volume).collect();
        named.extend(self.asked.env.iter().filter_map(|variable| of_variable(variable.value_from.as_ref()?)));
        named.extend(self.variables_from.iter().map(|from| (from.kind, from.name.clone())));
        named.extend(self.asked.image_pull_secrets.iter().map(|secret| (Kind::Secret, secret.name.clone())));
        let mut once = Vec::with_capacity(named.len());
        for object in named {
            if !once.contains(&object) {
                once.push(object);
            }
        }
        once
    }

    /// Takes away everything that names an object that is not theirs.
    pub(super) fn without(&mut self, kind: Kind, name: &str, workspace: &str) {
        let is = |found: Option<(Kind, String)>| found.is_some_and(|(k, n)| k == kind && n == name);
        let asked = &mut self.asked;
        asked.remarks.push(format!(
            "executor_config: the {} `{name}` does not exist in `{}` or is not labelled {}={}; whatever names it is passed \
             over",
            kind.noun(),
            self.namespace,
            names::WORKSPACE,
            names::as_label(workspace),
        ));
        asked.volumes.retain(|volume| !is(of_volume(volume)));
        let volumes = &asked.volumes;
        asked.mounts.retain(|mount| volumes.iter().any(|volume| volume.name == mount.name));
        asked.env.retain(|variable| !is(variable.value_from.as_ref().and_then(of_variable)));
        asked.image_pull_secrets.retain(|secret| kind != Kind::Secret || secret.name != name);
        self.without_source(kind, name);
    }

    /// Takes away sources of variables that would set ours. Their entries have to be known.
    pub(super) fn without_our_variables(&mut self) {
        let sets_ours = |from: &&VariablesFrom| from.variables().any(|name| is_reserved(&name));
        let refused = self.variables_from.iter().filter(sets_ours).map(|from| (from.kind, from.name.clone()));
        for (kind, name) in refused.collect::<Vec<_>>() {
            self.asked.remarks.push(format!(
                "executor_config: the {} `{name}` gives variables that are the platform's to set ({OUR_VARIABLES}…, or those of \
                 devices); it is passed over as a source of variables",
                kind.noun(),
            ));
            self.without_source(kind, &name);
        }
    }

    fn without_source(&mut self, kind: Kind, name: &str) {
        self.variables_from.retain(|from| from.kind != kind || from.name != name);
        self.asked.env_from.retain(|from| source(from).is_none_or(|(k, n)| k != kind || n != name));
    }

    /// The variables that user code may see: all that the project set itself.
    pub(super) fn seen_by_user_code(&self) -> Vec<String> {
        let mut names: Vec<String> = self.asked.env.iter().map(|variable| variable.name.clone()).collect();
        for from in &self.variables_from {
            names.extend(from.variables());
        }
        names
    }
}

fn variables_from(asked: &Asked) -> Vec<VariablesFrom> {
    let of = |from: &EnvFromSource| {
        let (kind, name) = source(from)?;
        Some(VariablesFrom { kind, name, prefix: from.prefix.clone().unwrap_or_default(), names: Vec::new() })
    };
    asked.env_from.iter().filter_map(of).collect()
}

fn source(from: &EnvFromSource) -> Option<(Kind, String)> {
    let secret = from.secret_ref.as_ref().map(|secret| (Kind::Secret, secret.name.clone()));
    let map = from.config_map_ref.as_ref().map(|map| (Kind::ConfigMap, map.name.clone()));
    secret.or(map)
}

fn of_volume(volume: &Volume) -> Option<(Kind, String)> {
    let claim = volume.persistent_volume_claim.as_ref().map(|claim| (Kind::Volume, claim.claim_name.clone()));
    let map = volume.config_map.as_ref().map(|map| (Kind::ConfigMap, map.name.clone()));
    let secret = volume.secret.as_ref().and_then(|secret| Some((Kind::Secret, secret.secret_name.clone()?)));
    claim.or(map).or(secret)
}

fn of_variable(source: &EnvVarSource) -> Option<(Kind, String)> {
    let secret = source.secret_key_ref.as_ref().map(|key| (Kind::Secret, key.name.clone()));
    let map = source.config_map_key_ref.as_ref().map(|key| (Kind::ConfigMap, key.name.clone()));
    secret.or(map)
}

#[cfg(test)]
mod tests {
    use super::{super::config, *};
    use serde_json::{Value, json};

    fn held(config: &Value, policy: &Policy) -> Allowed {
        allow(config::read(&config.to_string()), policy)
    }

    #[test]
    fn gpus_that_could_never_be_had_are_refused_before_anybody_waits_for_them() {
        let policy = Policy {
            gpu_classes: vec!["gpus".into(), "mps-gpus".into()],
            classes: Classes::read(["gpu.nvidia.com/gpu=mps-gpus:mps", "gpu.example.com=gpus"]).unwrap(),
            ..Policy::default()
        };
        let code = |gpus: Value, pod: Value| {
            held(&json!({ "gpus": gpus, "pod": pod }), &policy).never_given(&policy).map_or("", |refused| refused.code)
        };
        let affinity = json!({ "affinity": { "nodeAffinity": {} } });
        let here = json!({ "node_selector": { "zone": "a" } });
        for (gpus, pod, expect) in [
            (json!(1), json!({}), ""),
            (json!(1), json!({ "tolerations": [{ "key": "a", "operator": "Exists" }] }), ""),
            (json!(0), here.clone(), ""),
            (json!(1), here, NODE_UNSUPPORTED),
            (json!(1), affinity, NODE_UNSUPPORTED),
            (json!({ "count": 1, "sm": 40, "class": "gpus" }), json!({}), ""),
            (json!({ "count": 1, "sm": 40, "class": "mps-gpus" }), json!({}), SHARE_UNSUPPORTED),
            (json!({ "count": 1, "sm": 100, "class": "mps-gpus" }), json!({}), ""),
        ] {
            assert_eq!(code(gpus.clone(), pod.clone()), expect, "{gpus} {pod}");
        }
    }

    #[test]
    fn a_project_chooses_among_what_the_operator_named() {
        let policy = Policy {
            namespace: "jobs".into(),
            other_namespaces: vec!["data".into()],
            image: "ours:1".into(),
            other_images: vec!["lake/".into(), String::new()],
            other_service_accounts: vec!["loader".into()],
            gpu_classes: vec!["whole".into(), "shared".into()],
            ..Policy::default()
        };
        let config = |namespace: &str, image: &str, account: &str, class: &str| {
            json!({
                "namespace": namespace,
                "container_config": { "image": image },
                "service_account_name": account,
                "gpus": { "count": 1, "class": class },
            })
        };
        let chosen = held(&config("data", "lake/own:7", "loader", "shared"), &policy);
        let words = (chosen.namespace.as_str(), chosen.image.as_str(), chosen.service_account.as_str());
        assert_eq!(words, ("data", "lake/own:7", "loader"));
        assert_eq!(chosen.asked.gpus.unwrap().class, "shared");
        assert_eq!(chosen.asked.remarks, Vec::<String>::new());

        let refused = held(&config("kube-system", "evil/lake/own", "admin", "others"), &policy);
        let words = (refused.namespace.as_str(), refused.image.as_str(), refused.service_account.as_str());
        assert_eq!((words, refused.asked.gpus), (("jobs", "ours:1", ""), None));
        for setting in ["jobs_namespaces", "jobs_images", "jobs_service_accounts", "jobs_gpu_classes"] {
            assert!(refused.asked.remarks.iter().any(|remark| remark.contains(setting)), "{setting}");
        }

        let usual = held(&json!({ "gpus": 1 }), &policy).asked;
        assert_eq!((usual.gpus.unwrap().class.as_str(), usual.remarks.len()), ("whole", 0));
        let closed = held(&json!({ "resource_limits": { "nvidia.com/gpu": 1 } }), &Policy::default()).asked;
        assert_eq!((closed.gpus, closed.remarks.len()), (None, 1), "without a class there are none for blocks");
    }

    #[test]
    fn a_source_of_variables_does_not_set_ours() {
        let source = |name: &str, prefix: &str| json!({ "config_map_ref": { "name": name }, "prefix": prefix });
        let sources = json!([source("a", ""), source("b", "ORRERY_"), source("c", "OR")]);
        let mut allowed = held(&json!({ "container_config": { "env_from": sources } }), &Policy::default());
        for from in &mut allowed.variables_from {
            from.names = vec![if from.name == "c" { "RERY_X" } else { "KEY" }.to_owned()];
        }
        allowed.without_our_variables();
        assert_eq!(allowed.seen_by_user_code(), ["KEY"]);
        assert_eq!((allowed.asked.env_from.len(), allowed.asked.remarks.len()), (1, 2));
    }

    #[test]
    fn an_object_is_for_blocks_of_the_workspace_in_its_label_unless_it_is_ours() {
        let labels =
            |of: &[(&str, &str)]| of.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Labels>();
        assert!(belongs(Some(&labels(&[("orrery.dev/workspace", "lake")])), "lake"));
        assert!(!belongs(Some(&labels(&[("orrery.dev/workspace", "sea")])), "lake"));
        let ours = [("orrery.dev/workspace", "lake"), ("app.kubernetes.io/managed-by", "orrery")];
        assert!(!belongs(Some(&labels(&ours)), "lake"));
        assert!(!belongs(Some(&labels(&[])), "") && !belongs(None, "lake"));
    }
}
