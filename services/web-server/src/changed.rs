//! What an act changed, for its trail: each field that is not as it was, with both. Refuses to know what a field means.

use crate::encode;
use domain::role::{Role, WorkspaceRole};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use tonic::Response;

/// Where there is no value.
const NOTHING: &str = "none";
/// What follows from other fields, or only counts changes.
const DERIVED: [&str; 3] = ["version", "open", "changes_at"];

/// Fields by name, with what they were and what they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changed(BTreeMap<String, (String, String)>);

impl Changed {
    /// Between two states of `name`, which is a message of this kind. `None` is not there.
    pub(crate) fn between<M: Message>(kind: &str, name: &str, was: Option<&M>, is: Option<&M>) -> Self {
        let (was, is) = (fields(kind, was), fields(kind, is));
        let told = |field: &&String| !DERIVED.contains(&field.as_str()) && was.get(*field) != is.get(*field);
        let both = |field: &String| (format!("{name}.{field}"), (text(was.get(field)), text(is.get(field))));
        Self(was.keys().chain(is.keys()).filter(told).map(both).collect())
    }

    /// Of one field.
    pub(crate) fn of(name: &str, was: Option<impl ToString>, is: Option<impl ToString>) -> Self {
        let [was, is] = [was.map(|was| was.to_string()), is.map(|is| is.to_string())];
        let pair = [was.clone(), is.clone()].map(|value| value.unwrap_or_else(|| NOTHING.to_owned()));
        Self(if was == is { BTreeMap::new() } else { BTreeMap::from([(name.to_owned(), pair.into())]) })
    }

    /// And of what else the act changed.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Of one role.
    pub(crate) fn of_role(name: &str, was: Option<Role>, is: Option<Role>) -> Self {
        let word = |role: Option<Role>| role.map(|role| encode::role(Some(role)).as_str_name());
        Self::of(name, word(was), word(is))
    }

    /// Of the role of a workspace's member.
    pub(crate) fn of_member(was: Option<WorkspaceRole>, is: Option<WorkspaceRole>) -> Self {
        let word = |role: WorkspaceRole| encode::workspace_role(Some(role)).as_str_name();
        Self::of("role", was.map(word), is.map(word))
    }

    /// The answer of the act that changed it.
    pub(crate) fn told_with<T>(self, answer: T) -> Response<T> {
        let mut response = Response::new(answer);
        response.extensions_mut().insert(self);
        response
    }

    /// By name what is, and by the name with `.was` what was before.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().flat_map(|(name, (was, is))| [(format!("{name}.was"), was.as_str()), (name.clone(), is.as_str())])
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        None => NOTHING.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// As JSON, with the names of the contract.
fn fields<M: Message>(kind: &str, message: Option<&M>) -> Map<String, Value> {
    static CONTRACT: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let contract = CONTRACT.get_or_init(|| DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).ok());
    let read = || {
        let kind = contract.as_ref()?.get_message_by_name(kind)?;
        let message = DynamicMessage::decode(kind, message?.encode_to_vec().as_slice()).ok()?;
        let names = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
        message.serialize_with_options(serde_json::value::Serializer, &names.stringify_64_bit_integers(false)).ok()
    };
    match read() {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{Plan, ProjectPolicy};

    fn lines(changed: &Changed) -> Vec<String> {
        changed.lines().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn only_what_changed_is_told_with_what_was_before() {
        let was = ProjectPolicy {
            model_gpu_milli: [("A10".to_owned(), 2000)].into(),
            allow_root: true,
            version: 1,
            ..ProjectPolicy::default()
        };
        let is = ProjectPolicy {
            model_gpu_milli: [("A10".to_owned(), 2000), ("T4".to_owned(), 500)].into(),
            gpu_milli: Some(4000),
            allow_root: true,
            version: 2,
            ..ProjectPolicy::default()
        };
        let changed = Changed::between("orrery.v1.ProjectPolicy", "policy", Some(&was), Some(&is));
        let told = lines(&changed);
        let models = [r#"policy.model_gpu_milli.was={"A10":2000}"#, r#"policy.model_gpu_milli={"A10":2000,"T4":500}"#];
        let gpus = ["policy.gpu_milli.was=none", "policy.gpu_milli=4000"];
        assert_eq!(told, [gpus, models].concat());
        let same = Changed::between("orrery.v1.ProjectPolicy", "policy", Some(&is), Some(&is));
        assert_eq!(lines(&same), Vec::<String>::new());
    }

    #[test]
    fn what_was_not_there_or_is_gone_is_told_too() {
        let plan = Plan { name: "office".into(), queues: vec!["gpu".into()], open: true, ..Plan::default() };
        let made = Changed::between("orrery.v1.Plan", "plan", None, Some(&plan));
        assert!(lines(&made).contains(&r#"plan.queues=["gpu"]"#.to_owned()), "{made:?}");
        assert!(!lines(&made).iter().any(|line| line.starts_with("plan.open")), "{made:?}");
        let gone = Changed::between("orrery.v1.Plan", "plan", Some(&plan), None);
        assert!(lines(&gone).contains(&"plan.name=none".to_owned()), "{gone:?}");
        assert_eq!(
            lines(&Changed::of("allow_root", None::<bool>, Some(true))),
            ["allow_root.was=none", "allow_root=true"]
        );
        assert_eq!(lines(&Changed::of("allow_root", Some(true), Some(true))), Vec::<String>::new());
    }
}
