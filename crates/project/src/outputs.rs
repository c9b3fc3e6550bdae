//! Where a project wants the outputs of its blocks, and the keys that its own `io_config.yaml` gives for that place.
//!
//! Secrets in it stay references (`domain::references`) until somebody opens the place. Refuses to open any store.

use crate::{
    Env, YAML_BYTES_MAX,
    files::Folder,
    metadata, references, template,
    yaml::{self, Node, Value},
};
use domain::references as named;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The files that say it.
const METADATA: &str = "metadata.yaml";
const IO_CONFIG: &str = "io_config.yaml";

/// The profile that Mage takes unless a block names another.
const PROFILE: &str = "default";
/// Keys of the profile that open object stores.
const KEYS: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT",
    // Not GOOGLE_SERVICE_ACC_KEY_FILEPATH: a project must not choose which files of an executor are read.
    "GOOGLE_SERVICE_ACC_KEY",
];

/// What a project says about its outputs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OutputsPlace {
    /// `remote_variables_dir`, or a `variables_dir` in an object store; `None` leaves it to the cluster.
    pub url: Option<String>,
    /// Keys for object stores, by the names of `io_config.yaml`.
    pub keys: BTreeMap<String, String>,
}

impl fmt::Debug for OutputsPlace {
    /// Names the keys, never their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.keys.keys().collect();
        f.debug_struct("OutputsPlace").field("url", &self.url).field("keys", &keys).finish()
    }
}

impl OutputsPlace {
    /// The names of the secrets that it refers to.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<String> {
        self.url.iter().chain(self.keys.values()).flat_map(|text| named::names_in(text)).collect()
    }

    /// The same with these secrets, by name, in place of the references.
    ///
    /// # Errors
    /// The name of a secret that is not among them.
    pub fn filled(&self, secrets: &BTreeMap<String, String>) -> Result<Self, String> {
        if let Some(missing) = self.secrets().into_iter().find(|name| !secrets.contains_key(name)) {
            return Err(missing);
        }
        let keys = self.keys.iter().map(|(key, text)| (key.clone(), filled_key(text, secrets)));
        Ok(Self { url: self.url.as_ref().map(|url| named::fill_in(url, secrets)), keys: keys.collect() })
    }
}

/// A key may be JSON whose strings are references, where quotes and ends of lines of a secret have to be escaped.
fn filled_key(text: &str, secrets: &BTreeMap<String, String>) -> String {
    match serde_json::from_str(text) {
        Ok(document @ serde_json::Value::Object(_)) => named::fill(&document, secrets).to_string(),
        _ => named::fill_in(text, secrets),
    }
}

/// As [`outputs_place`], from the files of a folder.
pub(crate) fn of_folder(folder: &Folder, env: Env<'_>) -> OutputsPlace {
    let text = |file: &str| folder.read(file, YAML_BYTES_MAX).ok();
    outputs_place(text(METADATA).as_deref(), text(IO_CONFIG).as_deref(), env)
}

/// Reads the texts of `metadata.yaml` and `io_config.yaml`, where the project has them. What is broken in them was told
/// when the project was deployed, and counts as absent here.
#[must_use]
pub fn outputs_place(metadata: Option<&str>, io_config: Option<&str>, env: Env<'_>) -> OutputsPlace {
    let Some(root) = metadata.and_then(|text| document(text, env)) else { return OutputsPlace::default() };
    let dir = |key: &str| text(entry(&root, key)?).map(|dir| dir.trim().to_owned());
    // A secret may hold the whole address. A variables_dir that is one may as well be a folder.
    let remote = dir("remote_variables_dir").filter(|dir| metadata::is_bucket(dir) || named::starts(dir));
    let Some(url) = remote.or_else(|| dir("variables_dir").filter(|dir| metadata::is_bucket(dir))) else {
        return OutputsPlace::default();
    };
    let profiles = io_config.and_then(|text| document(text, env));
    let profile = profiles.as_ref().and_then(|root| entry(root, PROFILE));
    let value = |key: &str| {
        let written = profile.and_then(|profile| entry(profile, key)).and_then(text).filter(|text| !text.is_empty())?;
        Some((key.to_owned(), written))
    };
    OutputsPlace { url: Some(url), keys: KEYS.into_iter().filter_map(value).collect() }
}

/// Whether this key of `io_config.yaml`, or one below it, opens the store of outputs.
pub(crate) fn opens(path: &str) -> bool {
    let mut names = path.split('.');
    names.next() == Some(PROFILE) && names.next().is_some_and(|name| KEYS.contains(&name))
}

fn document(text: &str, env: Env<'_>) -> Option<Node> {
    if text.len() as u64 > YAML_BYTES_MAX {
        return None;
    }
    Some(yaml::parse(&template::render_with(text, env, references::mark).ok()?).ok()?.root)
}

fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
        _ => None,
    }
}

/// Text with its references, numbers as they are written, a map as JSON: a Google key may be written either way.
fn text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar(serde_json::Value::Null) => None,
        Value::Scalar(serde_json::Value::String(text)) => Some(references::written_text(text)),
        Value::Scalar(other) => Some(other.to_string()),
        _ => Some(references::written_text(&node.to_json().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "BUCKET").then(|| "lake".to_owned())
    }

    #[track_caller]
    fn check(metadata: &str, url: Option<&str>) {
        assert_eq!(outputs_place(Some(metadata), None, &env).url.as_deref(), url, "{metadata}");
    }

    #[test]
    fn a_remote_place_wins_over_a_local_one() {
        check("remote_variables_dir: s3://{{ env_var('BUCKET') }}/prefix", Some("s3://lake/prefix"));
        check("variables_dir: /data\nremote_variables_dir: gs://b", Some("gs://b"));
        check("variables_dir: s3://b/x", Some("s3://b/x"));
        check("variables_dir: s3://b/x\nremote_variables_dir: ' gs://c '", Some("gs://c"));
        check("remote_variables_dir: s3://bucket/path_prefix", None);
        check("variables_dir: ~/.mage_data", None);
        check("remote_variables_dir: /local", None);
        check("a: [", None);
        check("", None);
        assert_eq!(outputs_place(None, None, &env), OutputsPlace::default());
    }

    #[test]
    fn secrets_stay_references_until_they_are_filled_in() {
        check("remote_variables_dir: s3://{{ mage_secret_var('b') }}/x", Some("s3://{{ mage_secret_var('b') }}/x"));
        check("remote_variables_dir: '{{ mage_secret_var(\"b\") }}'", Some("{{ mage_secret_var('b') }}"));
        check(
            "variables_dir: gs://{{env_var('BUCKET')}}/{{mage_secret_var('b')}}",
            Some("gs://lake/{{ mage_secret_var('b') }}"),
        );
        check("variables_dir: \"{{ mage_secret_var('b') }}\"", None);
        check("remote_variables_dir: /data/{{ mage_secret_var('b') }}", None);
        let io_config = "default:\n  AWS_ACCESS_KEY_ID: {{ mage_secret_var('id') }}\n  GOOGLE_SERVICE_ACC_KEY:\n    key: \"{{ \
                         mage_secret_var('pem') }}\"\nother: {AWS_REGION: \"{{ mage_secret_var('not') }}\"}\n";
        let place = outputs_place(Some("remote_variables_dir: s3://{{ mage_secret_var('b') }}"), Some(io_config), &env);
        assert_eq!(place.secrets().into_iter().collect::<Vec<_>>(), ["b", "id", "pem"]);
        let mut secrets: BTreeMap<String, String> =
            [("b", "lake\n"), ("id", "a:b")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(place.filled(&secrets), Err("pem".to_owned()));
        secrets.insert("pem".to_owned(), "a\n\"b\"".to_owned());
        let filled = place.filled(&secrets).unwrap();
        assert_eq!((filled.url.as_deref(), filled.keys["AWS_ACCESS_KEY_ID"].as_str()), (Some("s3://lake"), "a:b"));
        assert_eq!(filled.keys["GOOGLE_SERVICE_ACC_KEY"], r#"{"key":"a\n\"b\""}"#);
        assert_eq!(filled.secrets().len(), 0);
    }

    #[test]
    fn keys_come_from_the_default_profile_and_are_not_shown() {
        let io_config = "version: 0.1.1\ndefault:\n  AWS_ACCESS_KEY_ID: id\n  AWS_SECRET_ACCESS_KEY: {{ env_var('BUCKET') }}\n  \
                         POSTGRES_PASSWORD: x\n  GOOGLE_SERVICE_ACC_KEY:\n    type: service_account\nother:\n  AWS_REGION: y\n";
        let place = outputs_place(Some("remote_variables_dir: s3://b"), Some(io_config), &env);
        let expected = [
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "lake"),
            ("GOOGLE_SERVICE_ACC_KEY", r#"{"type":"service_account"}"#),
        ];
        assert_eq!(place.keys, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert!(!format!("{place:?}").contains("lake"));
        assert_eq!(outputs_place(Some("a: 1"), Some(io_config), &env).keys.len(), 0, "without a place, no keys");
    }
}
