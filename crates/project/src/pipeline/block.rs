//! One entry of `blocks`, `conditionals` or `callbacks`.
//!
//! Refuses to look at other blocks or at files; that is done once all are read.

use super::executor;
use crate::{
    data_products,
    diagnostic::{Place, Report},
    files::{self, Folder},
    keys::{Keys, Named},
    limits, nearest,
    yaml::Node,
};
use domain::{
    pipeline::{Block, BlockKind, Language},
    retry::RetryPolicy,
    run::{POKE_INTERVAL_S, POKE_INTERVAL_S_MIN},
};
use serde_json::Map;

/// Longest block uuid, bytes; nested names are paths.
const UUID_MAX: usize = 512;

/// Keys of a block, whether they mean something to a cluster or only to Mage's editor.
const KNOWN: [&str; 39] = [
    "uuid",
    "name",
    "description",
    "type",
    "language",
    "upstream_blocks",
    "downstream_blocks",
    "configuration",
    "executor_type",
    "executor_config",
    "retry_config",
    "timeout",
    "replicated_block",
    "has_callback",
    "status",
    "color",
    "groups",
    "extension_uuid",
    "all_upstream_blocks_executed",
    "content",
    "callback_blocks",
    "conditional_blocks",
    "file_path",
    "file_source",
    "priority",
    "tags",
    "created_at",
    "updated_at",
    "pipelines",
    "repo_path",
    "catalog",
    "metadata",
    "outputs",
    "widget",
    "error",
    "documentation",
    "concurrency_config",
    "interactions",
    "limits",
];

const KINDS: [(&str, BlockKind); 13] = [
    ("data_loader", BlockKind::DataLoader),
    ("transformer", BlockKind::Transformer),
    ("data_exporter", BlockKind::DataExporter),
    ("custom", BlockKind::Custom),
    ("sensor", BlockKind::Sensor),
    ("conditional", BlockKind::Conditional),
    ("callback", BlockKind::Callback),
    ("dbt", BlockKind::Dbt),
    ("global_data_product", BlockKind::GlobalDataProduct),
    ("extension", BlockKind::Extension),
    ("markdown", BlockKind::Markdown),
    ("chart", BlockKind::Chart),
    ("scratchpad", BlockKind::Scratchpad),
];

const LANGUAGES: [(&str, Language); 5] = [
    ("python", Language::Python),
    ("sql", Language::Sql),
    ("r", Language::R),
    ("yaml", Language::Yaml),
    ("markdown", Language::Markdown),
];

/// Databases of SQL blocks.
const PROVIDERS: [&str; 3] = ["duckdb", "postgres", "postgresql"];

/// A block whose neighbours and file are still to be checked.
pub(super) struct Draft<'n> {
    pub(super) block: Block,
    pub(super) keys: Keys<'n>,
    /// As written, with their places.
    pub(super) upstream: Vec<Named>,
}

/// What a pipeline says for all of its blocks.
pub(super) struct Inherited<'a> {
    pub(super) templates: &'a executor::Templates<'a>,
    pub(super) retry: RetryPolicy,
    /// Keys of limits.
    pub(super) limits: Vec<String>,
}

/// Reads one entry; `listed_as` is the kind that the list itself implies.
pub(super) fn draft<'n>(
    node: &'n Node,
    path: &str,
    listed_as: Option<BlockKind>,
    inherited: &Inherited<'_>,
    report: &mut Report,
) -> Option<Draft<'n>> {
    let keys = Keys::of(node, path, report)?;
    let uuid = uuid(&keys, report)?;
    keys.warn_unknown(&KNOWN, report);
    let kind = kind(&keys, listed_as, report)?;
    let language = language(&keys, kind, report)?;
    let (dynamic, reduce_output) = fan(&keys, report);
    warn_of_ignored(kind, &keys, report);
    if language == Language::Sql && kind != BlockKind::Dbt {
        warn_of_provider(&uuid, &keys, report);
    }
    let block = Block {
        name: keys.text("name", report).filter(|name| !name.is_empty()).unwrap_or_else(|| uuid.clone()),
        uuid,
        kind,
        language,
        file: None,
        upstream: Vec::new(),
        configuration: keys.object("configuration", report),
        executor_type: executor::read(&keys, inherited.templates, report),
        executor_config: keys.object("executor_config", report),
        retry: limits::retry(inherited.retry, &keys, report),
        timeout_s: keys.positive("timeout", report),
        limits: limits::keys(&inherited.limits, &keys, report),
        replica_of: keys.text("replicated_block", report).filter(|uuid| !uuid.is_empty()),
        dynamic,
        reduce_output,
    };
    let upstream = keys.list("upstream_blocks", report);
    Some(Draft { block, keys, upstream })
}

fn uuid(keys: &Keys<'_>, report: &mut Report) -> Option<String> {
    let Some(uuid) = keys.text("uuid", report).or_else(|| keys.text("name", report)) else {
        report.error(keys.here(), "the block has no uuid", "add `uuid`; it names the block and its file");
        return None;
    };
    if files::is_inside(&uuid) && uuid.len() <= UUID_MAX && !uuid.chars().any(char::is_control) {
        return Some(uuid);
    }
    let shown: String = uuid.chars().take(80).collect();
    let message = format!("the uuid {shown:?} leaves its folder, or is no name for a file");
    report.error(keys.place("uuid"), message, "use letters, digits, `_` and `/` only");
    None
}

fn kind(keys: &Keys<'_>, listed_as: Option<BlockKind>, report: &mut Report) -> Option<BlockKind> {
    let written = keys.text("type", report);
    let known =
        written.as_deref().and_then(|name| KINDS.iter().find(|(known, _)| *known == name)).map(|(_, kind)| *kind);
    match (listed_as, written, known) {
        (Some(listed), Some(name), kind) if kind != Some(listed) => {
            let message = format!("the type {name:?} does not fit this list, which decides");
            report.warn(keys.place("type"), message, "move the block to `blocks`, or correct its type");
            Some(listed)
        }
        (Some(listed), ..) => Some(listed),
        (None, _, Some(kind)) => Some(kind),
        (None, Some(name), None) => {
            let remedy = nearest::choose(&name, &KINDS.map(|(known, _)| known));
            report.error(keys.place("type"), format!("the block type {name:?} is not known"), remedy);
            None
        }
        (None, None, None) => {
            report.error(keys.here(), "the block has no type", "add `type`, such as data_loader");
            None
        }
    }
}

/// A missing language is common in old projects; then the kind decides.
fn language(keys: &Keys<'_>, kind: BlockKind, report: &mut Report) -> Option<Language> {
    let Some(written) = keys.text("language", report).filter(|name| !name.is_empty()) else {
        return Some(if kind == BlockKind::Markdown { Language::Markdown } else { Language::Python });
    };
    let found =
        LANGUAGES.iter().find(|(known, _)| *known == written.to_ascii_lowercase()).map(|(_, language)| *language);
    if found.is_none() {
        let remedy = nearest::choose(&written, &LANGUAGES.map(|(known, _)| known));
        report.error(keys.place("language"), format!("the language {written:?} is not known"), remedy);
    }
    found
}

/// Keys of `configuration` that do not act as they are written.
fn warn_of_ignored(kind: BlockKind, keys: &Keys<'_>, report: &mut Report) {
    let Some(configuration) = keys.nested("configuration") else { return };
    if kind == BlockKind::GlobalDataProduct
        && let Some(product) = configuration.nested("global_data_product")
    {
        data_products::warn(&product, report);
    }
    if kind == BlockKind::Sensor
        && let Some(node) = configuration.node("poke_interval")
    {
        let counts = match node.to_json().as_u64() {
            Some(0) => POKE_INTERVAL_S_MIN,
            Some(seconds) if u32::try_from(seconds).is_ok() => return,
            _ => POKE_INTERVAL_S,
        };
        let message = format!("the sensor is asked every {counts} s: its poke_interval is no whole number above 0");
        report.warn(configuration.place("poke_interval"), message, "write whole seconds from 1");
    }
}

/// A SQL block fails when it runs on a database that runners do not speak to; people are told before.
fn warn_of_provider(uuid: &str, keys: &Keys<'_>, report: &mut Report) {
    let Some(configuration) = keys.nested("configuration") else { return };
    let Some(node) = configuration.node("data_provider") else { return };
    let written = node.to_json();
    let Some(provider) = written.as_str().filter(|name| !name.is_empty()) else { return };
    if PROVIDERS.contains(&provider.to_ascii_lowercase().as_str()) {
        return;
    }
    let message = format!("block {uuid:?} will fail: SQL blocks run on duckdb and postgres, and not on {provider:?}");
    report.warn(configuration.place("data_provider"), message, "use a Python block with the client of that database");
}

/// `dynamic` and `reduce_output`, in the first form (two flags) or the second (a map).
fn fan(keys: &Keys<'_>, report: &mut Report) -> (bool, bool) {
    let Some(configuration) = keys.map("configuration", report) else { return (false, false) };
    let reduce_output = configuration.flag("reduce_output", report).unwrap_or(false);
    let is_map = configuration.node("dynamic").is_some_and(|node| node.noun() == "a map");
    if !is_map {
        return (configuration.flag("dynamic", report).unwrap_or(false), reduce_output);
    }
    let Some(dynamic) = configuration.map("dynamic", report) else { return (false, reduce_output) };
    for (path, mode) in dynamic.nodes("modes", report) {
        let Some(mode) = Keys::of(mode, &path, report) else { continue };
        if mode.text("type", report).as_deref() == Some("stream") {
            let message = "children start when the parent has returned, not while it runs";
            report.warn(mode.place("type"), message, "nothing, if that is early enough");
        }
    }
    let reduced = dynamic.flag("reduce_output", report).unwrap_or(false);
    (dynamic.flag("parent", report).unwrap_or(false), reduce_output || reduced)
}

/// Blocks of old projects say `has_callback`, which means the file `callbacks/<uuid>_callback.py`.
pub(super) fn legacy_callbacks<'n>(
    folder: &Folder,
    blocks: &[Draft<'n>],
    callbacks: &[Draft<'n>],
    report: &mut Report,
) -> Vec<Draft<'n>> {
    let mut found = Vec::new();
    for draft in blocks {
        if !draft.keys.flag("has_callback", report).unwrap_or(false) {
            continue;
        }
        let watched = callbacks.iter().any(|c| c.upstream.iter().any(|up| up.name == draft.block.uuid));
        let uuid = format!("{}_callback", draft.block.uuid);
        let file = format!("callbacks/{uuid}.py");
        if watched {
            continue;
        }
        if folder.file(&file).is_err() {
            let message = format!("has_callback is set, but there is no {file}; nothing is called");
            report.warn(draft.keys.place("has_callback"), message, "create the file, or remove the key");
            continue;
        }
        let place = draft.keys.place("has_callback");
        found.push(Draft {
            block: legacy_callback(uuid, file),
            keys: draft.keys.clone(),
            upstream: vec![named(draft, place)],
        });
    }
    found
}

fn named(draft: &Draft<'_>, place: Place) -> Named {
    Named { name: draft.block.uuid.clone(), place }
}

fn legacy_callback(uuid: String, file: String) -> Block {
    Block {
        name: uuid.clone(),
        uuid,
        kind: BlockKind::Callback,
        language: Language::Python,
        file: Some(file),
        upstream: Vec::new(),
        configuration: Map::new(),
        executor_type: None,
        executor_config: Map::new(),
        retry: RetryPolicy::default(),
        timeout_s: None,
        limits: Vec::new(),
        replica_of: None,
        dynamic: false,
        reduce_output: false,
    }
}
