//! One `pipelines/<name>/metadata.yaml` into one [`Pipeline`].
//!
//! Refuses to render templates (Mage does not either) and to run anything.

mod block;
mod code;
mod executor;
mod links;

use crate::{
    BLOCKS_MAX, Env, Metadata, YAML_BYTES_MAX,
    diagnostic::{Place, Report},
    files::Folder,
    keys::Keys,
    limits, metadata, nearest,
    yaml::{self, Document},
};
use block::Draft;
use domain::{
    graph::{Graph, GraphError},
    pipeline::{BlockKind, Pipeline, PipelineKind},
};
pub(crate) use executor::Templates;
use serde_json::{Map, Value};
use std::sync::Arc;

/// As in Mage, only the project says how long outputs are kept.
const PERIOD_OF_THE_PROJECT: &str = "variables_retention_period";
/// Keys of a pipeline, whether they mean something to a cluster or only to Mage's editor.
const KNOWN: [&str; 39] = [
    "name",
    "uuid",
    "description",
    "created_at",
    "created_by",
    "updated_at",
    "type",
    "tags",
    "blocks",
    "callbacks",
    "conditionals",
    "widgets",
    "extensions",
    "variables",
    "variables_dir",
    "remote_variables_dir",
    "cache_block_output_in_memory",
    "run_pipeline_in_one_process",
    "concurrency_config",
    "executor_type",
    "executor_config",
    "executor_count",
    "notification_config",
    "retry_config",
    "settings",
    "spark_config",
    "data_integration",
    "execution_framework",
    "timeout",
    "state_store_config",
    "dynamic_blocks",
    "overrides",
    "repo_path",
    "schedules",
    "data_providers",
    "limits",
    "run_retention_period",
    PERIOD_OF_THE_PROJECT,
    "secrets",
];

/// What a pipeline is read with.
pub(crate) struct Context<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) metadata: &'a Metadata,
    pub(crate) env: Env<'a>,
    pub(crate) templates: Templates<'a>,
}

/// The pipeline, or nothing when the report has an error.
pub(crate) fn read(context: &Context<'_>, name: &str, file: &str, report: &mut Report) -> Option<Pipeline> {
    let document = document(context.folder, file, report)?;
    for (key, line) in &document.repeated {
        let message = format!("the key {key:?} is written twice in one map; the last one counts");
        report.warn(Place::new(key.clone(), *line), message, "remove one of them");
    }
    let keys = Keys::of(&document.root, "", report)?;
    if keys.names().next().is_none() {
        report.error(Place::file(), "the file is empty", "write the pipeline's name, type and blocks");
        return None;
    }
    let pipeline = pipeline(context, name, &keys, report);
    (report.errors() == 0).then_some(pipeline)
}

fn document(folder: &Folder, file: &str, report: &mut Report) -> Option<Document> {
    let text = match folder.read(file, YAML_BYTES_MAX) {
        Ok(text) => text,
        Err(refusal) => {
            report.error(Place::file(), refusal.to_string(), refusal.remedy());
            return None;
        }
    };
    yaml::parse(&text)
        .map_err(|broken| report.error(Place::new("", broken.line), broken.message, "correct the YAML at this line"))
        .ok()
}

fn pipeline(context: &Context<'_>, name: &str, keys: &Keys<'_>, report: &mut Report) -> Pipeline {
    keys.warn_unknown(&KNOWN, report);
    warn_of_quirks(name, keys, report);
    let text = |key: &str, report: &mut Report| keys.text(key, report);
    let mut pipeline = Pipeline {
        name: name.to_owned(),
        description: text("description", report).unwrap_or_default(),
        kind: kind(keys, report),
        tags: keys.list("tags", report).into_iter().map(|tag| tag.name).collect(),
        blocks: Vec::new(),
        conditionals: Vec::new(),
        callbacks: Vec::new(),
        variables: keys.object("variables", report),
        one_process: keys.flag("run_pipeline_in_one_process", report).unwrap_or_else(|| one_process(context.env)),
        cache_output_in_memory: keys.flag("cache_block_output_in_memory", report).unwrap_or(false),
        executor_type: executor::of_pipeline(keys, &context.templates, report),
        executor_config: keys.object("executor_config", report),
        concurrency: limits::concurrency(&context.metadata.concurrency, keys, report),
        notification_config: notification_config(context, keys, report),
        run_timeout_s: keys.positive("timeout", report),
        outputs_retention_s: context.metadata.variables_retention_s,
        runs_retention_s: metadata::retention("run_retention_period", keys, report)
            .or(context.metadata.runs_retention_s),
        logs_retention_s: context.metadata.logs_retention_s,
        log_level: context.metadata.log_level.clone(),
        secrets: metadata::secrets(keys, report).or_else(|| context.metadata.secrets.clone()),
        place_secrets: context.metadata.place_secrets.clone(),
    };
    add_blocks(context, keys, &mut pipeline, report);
    executor::configure(context, keys, &mut pipeline, report);
    pipeline
}

/// The project's settings, overlaid with the pipeline's own.
fn notification_config(context: &Context<'_>, keys: &Keys<'_>, report: &mut Report) -> Map<String, Value> {
    let mut merged = context.metadata.notification_config.clone();
    merged.extend(keys.object("notification_config", report));
    merged
}

fn kind(keys: &Keys<'_>, report: &mut Report) -> PipelineKind {
    const KINDS: [(&str, PipelineKind); 6] = [
        ("python", PipelineKind::Python),
        ("streaming", PipelineKind::Streaming),
        ("integration", PipelineKind::Integration),
        ("pyspark", PipelineKind::Pyspark),
        ("databricks", PipelineKind::Databricks),
        ("execution_framework", PipelineKind::ExecutionFramework),
    ];
    let Some(written) = keys.text("type", report) else { return PipelineKind::Python };
    if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == written) {
        if matches!(kind, PipelineKind::Streaming | PipelineKind::Integration) {
            let message = format!("{written} pipelines are read but not run");
            report.warn(keys.place("type"), message, "keep it where it runs now");
        }
        return *kind;
    }
    let remedy = nearest::choose(&written, &KINDS.map(|(name, _)| name));
    report.error(keys.place("type"), format!("the pipeline type {written:?} is not known"), remedy);
    PipelineKind::Python
}

fn one_process(env: Env<'_>) -> bool {
    env("RUN_PIPELINE_IN_ONE_PROCESS")
        .is_some_and(|value| matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "true" | "yes"))
}

fn warn_of_quirks(name: &str, keys: &Keys<'_>, report: &mut Report) {
    if let Some(uuid) = keys.text("uuid", report).filter(|uuid| uuid != name) {
        let message =
            format!("the pipeline calls itself {uuid:?}, but its folder is {name:?}; the folder's name counts");
        report.warn(keys.place("uuid"), message, "make both the same");
    }
    if let Some(dir) = keys.text("variables_dir", report).filter(|dir| dir.starts_with('/')) {
        let message =
            format!("outputs of blocks are not kept in the folder {dir:?}, but where the executors keep them");
        report.warn(keys.place("variables_dir"), message, "remove the key");
    }
    if keys.node(PERIOD_OF_THE_PROJECT).is_some() {
        let message = format!("{PERIOD_OF_THE_PROJECT} holds for the whole project; in a pipeline it is ignored");
        report.warn(
            keys.place(PERIOD_OF_THE_PROJECT),
            message,
            "write it in the project's metadata.yaml, or remove it",
        );
    }
    if keys.map("extensions", report).is_some_and(|extensions| extensions.names().next().is_some()) {
        report.warn(keys.place("extensions"), "extensions are read but not run", "check the data in an @test function");
    }
}

/// The nodes of one list with their paths, and the kind that the list implies.
type Entries<'n> = (Vec<(String, &'n yaml::Node)>, Option<BlockKind>);

fn add_blocks<'n>(context: &Context<'_>, keys: &Keys<'n>, pipeline: &mut Pipeline, report: &mut Report) {
    let lists =
        [("blocks", None), ("conditionals", Some(BlockKind::Conditional)), ("callbacks", Some(BlockKind::Callback))];
    let [blocks, conditionals, callbacks] = lists.map(|(list, kind)| (keys.nodes(list, report), kind));
    let count = blocks.0.len() + conditionals.0.len() + callbacks.0.len();
    if count > BLOCKS_MAX {
        report.error(
            keys.place("blocks"),
            format!("{count} blocks; {BLOCKS_MAX} are allowed"),
            "split the pipeline, or use a dynamic block",
        );
        return;
    }
    let inherited = block::Inherited {
        templates: &context.templates,
        retry: limits::retry(context.metadata.retry, keys, report),
        limits: limits::keys(&[], keys, report),
    };
    let mut read = |entries: Entries<'n>| -> Vec<Draft<'n>> {
        let (nodes, kind) = entries;
        nodes.into_iter().filter_map(|(path, node)| block::draft(node, &path, kind, &inherited, report)).collect()
    };
    let (mut blocks, mut conditionals, mut callbacks) = (read(blocks), read(conditionals), read(callbacks));
    callbacks.extend(block::legacy_callbacks(context.folder, &blocks, &callbacks, report));
    links::check(&mut blocks, &mut conditionals, &mut callbacks, report);
    for drafts in [&mut blocks, &mut conditionals, &mut callbacks] {
        code::locate(context.folder, pipeline.executor_type.as_deref(), drafts, report);
    }
    let places: Vec<(String, Place)> =
        blocks.iter().map(|d| (d.block.uuid.clone(), d.keys.place("upstream_blocks"))).collect();
    let take = |drafts: Vec<Draft<'_>>| drafts.into_iter().map(|draft| draft.block).collect();
    (pipeline.blocks, pipeline.conditionals, pipeline.callbacks) = (take(blocks), take(conditionals), take(callbacks));
    if report.errors() == 0 {
        check_graph(pipeline, &places, report);
    }
}

/// The cluster's own graph has the last word: what it refuses is refused here, with a line.
fn check_graph(pipeline: &Pipeline, places: &[(String, Place)], report: &mut Report) {
    let Err(error) = Graph::new(Arc::new(pipeline.clone())) else { return };
    let (at, remedy) = match &error {
        GraphError::Cycle(blocks) => (blocks.first(), "remove one of these upstream_blocks"),
        GraphError::Duplicate(uuid) => (Some(uuid), "rename one of them"),
        GraphError::UnknownUpstream { block, .. } => (Some(block), "correct the name"),
        GraphError::Ambiguous { block, .. } => (Some(block), "rename one of them, without a `:`"),
    };
    let place = at.and_then(|uuid| places.iter().find(|(known, _)| known == uuid)).map(|(_, place)| place.clone());
    report.error(place.unwrap_or_default(), error.to_string(), remedy);
}
