//! Where blocks run and what they ask of it: `executor_type`, with a warning where it changes nothing here, and
//! `executor_config`.
//!
//! Refuses to know what of a config holds on a cluster: its executor says that when a block runs.

use super::Context;
use crate::{
    Env, YAML_BYTES_MAX,
    diagnostic::Report,
    keys::Keys,
    nearest, template,
    yaml::{self, Node},
};
use domain::{
    executor_type::{Backend, ExecutorType, KUBERNETES},
    pipeline::Pipeline,
};
use serde_json::{Map, Value};
use std::{cell::RefCell, collections::BTreeMap};

/// What every block on Kubernetes asks for, in the project's metadata.
const PROJECT_KEY: &str = "k8s_executor_config";
/// A file of the project with the four keys below.
const FILE_KEY: &str = "config_file";
const FILE_KEYS: [&str; 4] = ["metadata", "container", "pod", "job"];
/// Of a `job`, in either spelling.
const DEADLINE_KEYS: [&str; 2] = ["active_deadline_seconds", "activeDeadlineSeconds"];
/// May be a text with YAML in it.
const CONTAINER_KEY: &str = "container_config";

/// Different templates of one project's executor types: a project has thousands of blocks, and each template may take a while.
const TEMPLATES_MAX: usize = 64;

/// The templates of one project's executor types, each rendered once.
pub(crate) struct Templates<'a> {
    env: Env<'a>,
    rendered: RefCell<BTreeMap<String, Result<String, String>>>,
}

impl<'a> Templates<'a> {
    /// With these variables; nothing is rendered yet.
    pub(crate) fn new(env: Env<'a>) -> Self {
        Self { env, rendered: RefCell::default() }
    }

    fn render(&self, text: &str) -> Result<String, String> {
        if !template::is_one(text) {
            return Ok(text.to_owned());
        }
        let mut rendered = self.rendered.borrow_mut();
        if let Some(known) = rendered.get(text) {
            return known.clone();
        }
        if rendered.len() >= TEMPLATES_MAX {
            return Err(format!("the project has more than {TEMPLATES_MAX} different templates of executor types"));
        }
        let result = template::render(text, self.env).map_err(|broken| broken.message);
        rendered.insert(text.to_owned(), result.clone());
        result
    }
}

/// The `executor_type` of a pipeline; where that says nothing, the environment's `DEFAULT_EXECUTOR_TYPE`.
pub(super) fn of_pipeline(keys: &Keys<'_>, templates: &Templates<'_>, report: &mut Report) -> Option<String> {
    let written = read(keys, templates, report);
    if ExecutorType::says_something(written.as_deref()) {
        return written;
    }
    (templates.env)("DEFAULT_EXECUTOR_TYPE").filter(|kind| !kind.trim().is_empty()).or(written)
}

/// The `executor_type` of a pipeline or a block, rendered as Mage does: it is the one value of a pipeline's file that may be
/// a template.
pub(super) fn read(keys: &Keys<'_>, templates: &Templates<'_>, report: &mut Report) -> Option<String> {
    let text = keys.text("executor_type", report).filter(|kind| !kind.is_empty())?;
    let remedy = "write the type itself, or an env_var of the web-server's environment with a default";
    let written = match templates.render(&text) {
        Ok(written) if !written.trim().is_empty() => written,
        Ok(_) => {
            let message = format!("the executor type {text:?} renders to nothing, and counts as not said");
            report.warn(keys.place("executor_type"), message, remedy);
            return None;
        }
        Err(why) => {
            let message = format!("the executor type {text:?} does not render, and counts as not said: {why}");
            report.warn(keys.place("executor_type"), message, remedy);
            return None;
        }
    };
    let (why, remedy) = match ExecutorType::of(Some(&written), None) {
        ExecutorType::Process | ExecutorType::Noop | ExecutorType::Remote(KUBERNETES) => return Some(written),
        ExecutorType::Remote(_) => {
            let remedy = format!("give the executors what it needs, or write {KUBERNETES:?}");
            ("names machines that no executor has", remedy)
        }
        ExecutorType::Unknown(_) => ("is not known", nearest::choose(&written, &ExecutorType::NAMES)),
    };
    let message = format!("the executor type {written:?} {why}; what asks for it runs as a process of an executor");
    report.warn(keys.place("executor_type"), message, remedy);
    Some(written)
}

/// Gives every block on Kubernetes all that is asked of its container: the project's `k8s_executor_config`, overlaid with the
/// pipeline's `executor_config` and the block's own, key by key.
pub(super) fn configure(context: &Context<'_>, keys: &Keys<'_>, pipeline: &mut Pipeline, report: &mut Report) {
    let is_kubernetes = |block: &domain::pipeline::Block| {
        let kind = ExecutorType::of(block.executor_type.as_deref(), pipeline.executor_type.as_deref());
        kind == ExecutorType::Remote(KUBERNETES)
    };
    if pipeline.one_process && pipeline.blocks.iter().any(is_kubernetes) {
        let message = "the blocks of a run in one process share a memory: they run as a process, not on Kubernetes";
        let remedy = "turn run_pipeline_in_one_process off, or remove the executor type";
        report.warn(keys.place("executor_type"), message, remedy);
    }
    let project = context.metadata.settings.get(PROJECT_KEY).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut configs = Vec::new();
    let lists = [&pipeline.blocks, &pipeline.conditionals, &pipeline.callbacks];
    for block in lists.into_iter().flatten() {
        let wanted = Backend::of(block, pipeline) == Some(Backend::Kubernetes);
        configs.push(wanted.then(|| {
            let mut merged = project.clone();
            merged.extend(pipeline.executor_config.clone());
            merged.extend(block.executor_config.clone());
            unfold(context, keys, merged, report)
        }));
    }
    let lists = [&mut pipeline.blocks, &mut pipeline.conditionals, &mut pipeline.callbacks];
    for (block, config) in lists.into_iter().flatten().zip(configs) {
        if let Some(mut config) = config {
            if let Some(deadline) = take_deadline(&mut config) {
                block.timeout_s = Some(block.timeout_s.map_or(deadline, |timeout| timeout.min(deadline)));
            }
            block.executor_config = config;
        }
    }
}

/// What Mage leaves to the Job is the block's time-out here: a container that its cluster ends gives its attempt back, and
/// that would begin again.
fn take_deadline(config: &mut Map<String, Value>) -> Option<u32> {
    let job = config.get_mut("job")?.as_object_mut()?;
    let key = DEADLINE_KEYS.into_iter().find(|key| job.contains_key(*key))?;
    let seconds = job[key].as_u64().and_then(|seconds| u32::try_from(seconds).ok()).filter(|seconds| *seconds > 0)?;
    job.remove(key);
    Some(seconds)
}

/// With everything in it that it names elsewhere or says as a text.
fn unfold(
    context: &Context<'_>,
    keys: &Keys<'_>,
    mut config: Map<String, Value>,
    report: &mut Report,
) -> Map<String, Value> {
    if let Some(Value::String(text)) = config.get(CONTAINER_KEY) {
        match parsed(text) {
            Ok(fields) => drop(config.insert(CONTAINER_KEY.to_owned(), Value::Object(fields))),
            Err(why) => {
                let message = format!("{CONTAINER_KEY} is a text that is no YAML map: {why}");
                report.warn(keys.place("executor_config"), message, "write its keys as a map");
            }
        }
    }
    let Some(Value::String(file)) = config.get(FILE_KEY).cloned() else { return config };
    let read = context.folder.read(&file, YAML_BYTES_MAX).map_err(|refusal| refusal.to_string());
    match read.and_then(|text| parsed(&text)) {
        Ok(fields) => {
            config.remove(FILE_KEY);
            for (key, value) in fields.into_iter().filter(|(key, _)| FILE_KEYS.contains(&key.as_str())) {
                config.entry(key).or_insert(value);
            }
        }
        Err(why) => {
            let message = format!("{FILE_KEY} {file:?} cannot be read, and what it asks for is not had: {why}");
            report.warn(
                keys.place("executor_config"),
                message,
                "put the file into the project, and name it from there",
            );
        }
    }
    config
}

fn parsed(text: &str) -> Result<Map<String, Value>, String> {
    let document = yaml::parse(text).map_err(|broken| broken.message)?;
    match Node::to_json(&document.root) {
        Value::Object(fields) => Ok(fields),
        Value::Null => Ok(Map::new()),
        _ => Err("it is no map".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Project, load};
    use domain::executor_type::Backend;
    use serde_json::{Map, Value, json};
    use std::fs;

    const PROJECT: &str = "k8s_executor_config: {namespace: lab, resource_limits: {cpu: 1}, job_name_prefix: x}\n";

    fn project(files: &[(&str, &str)], default: Option<&str>) -> Project {
        let folder = tempfile::tempdir().unwrap();
        let blocks = ["data_loaders/a.py", "data_loaders/b.py", "callbacks/a_callback.py"].map(|path| (path, ""));
        for (path, text) in [("metadata.yaml", PROJECT)].iter().chain(&blocks).chain(files) {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        load(folder.path(), &|name| default.filter(|_| name == "DEFAULT_EXECUTOR_TYPE").map(str::to_owned))
    }

    /// Where a block runs, and what it asks for there.
    type Placed = (Option<Backend>, Map<String, Value>);

    /// The blocks of the pipeline and its callbacks, and what was said about it.
    fn blocks(files: &[(&str, &str)], default: Option<&str>) -> (Vec<Placed>, String) {
        let project = project(files, default);
        let pipeline = project.pipelines[0].definition.as_ref().unwrap();
        let all = pipeline.blocks.iter().chain(&pipeline.callbacks);
        let found = all.map(|block| (Backend::of(block, pipeline), block.executor_config.clone())).collect();
        (found, project.diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_block_on_kubernetes_asks_for_what_the_project_the_pipeline_and_itself_say() {
        let pipeline = "executor_type: k8s\nexecutor_config: {namespace: data, gpus: 1}\nblocks:\n\
            - {uuid: a, type: data_loader, executor_config: {namespace: own, container_config: 'image: mine'}}\n\
            - {uuid: b, type: data_loader, executor_type: local_python_force, executor_config: {namespace: own}}\n\
            callbacks:\n- {uuid: a_callback, type: callback, upstream_blocks: [a]}\n";
        let (blocks, said) = blocks(&[("pipelines/p/metadata.yaml", pipeline)], None);
        let usual = json!({ "resource_limits": { "cpu": 1 }, "job_name_prefix": "x", "gpus": 1 });
        let with = |more: Value| {
            let mut config = usual.as_object().unwrap().clone();
            config.extend(more.as_object().unwrap().clone());
            config
        };
        let own = with(json!({ "namespace": "own", "container_config": { "image": "mine" } }));
        assert_eq!(blocks[0], (Some(Backend::Kubernetes), own), "{said}");
        assert_eq!(blocks[1].0, Some(Backend::Process));
        assert_eq!(Value::from(blocks[1].1.clone()), json!({ "namespace": "own" }), "a process asks for nothing more");
        assert_eq!(blocks[2], (Some(Backend::Kubernetes), with(json!({ "namespace": "data" }))), "a callback, too");
        assert_eq!(said, "");
    }

    #[test]
    fn the_default_of_the_environment_holds_where_nothing_else_is_said() {
        let pipeline = "blocks:\n- {uuid: a, type: data_loader}\n\
            - {uuid: b, type: data_loader, executor_type: local_python_force}\n";
        let places = |head: &str, default| {
            let (blocks, _) = blocks(&[("pipelines/p/metadata.yaml", &format!("{head}{pipeline}"))], default);
            [blocks[0].0, blocks[1].0]
        };
        let (process, kubernetes) = (Some(Backend::Process), Some(Backend::Kubernetes));
        assert_eq!(places("", None), [process, process]);
        assert_eq!(places("", Some("k8s")), [kubernetes, process]);
        assert_eq!(places("executor_type: local_python\n", Some("k8s")), [kubernetes, process]);
        assert_eq!(places("executor_type: local_python_force\n", Some("k8s")), [process, process]);
        assert_eq!(places("executor_type: noop\n", Some("k8s")), [None, process]);
        assert_eq!(places("run_pipeline_in_one_process: true\n", Some("k8s")), [process, process]);
        assert_eq!(places("", Some("ecs")), [process, process]);
        let rendered = "executor_type: \"{{ env_var('DEFAULT_EXECUTOR_TYPE') }}\"\n";
        assert_eq!(places(rendered, Some("noop")), [None, process]);
        assert_eq!(places(rendered, None), [process, process]);
    }

    #[test]
    fn the_deadline_of_a_job_is_the_time_out_of_its_block() {
        let timeouts = |timeout: &str, deadline: &str| {
            let pipeline = format!(
                "executor_type: k8s\nexecutor_config: {{job: {{active_deadline_seconds: {deadline}}}}}\n\
                 blocks: [{{uuid: a, type: data_loader{timeout}}}]\n"
            );
            let project = project(&[("pipelines/p/metadata.yaml", &pipeline)], None);
            let block = &project.pipelines[0].definition.as_ref().unwrap().blocks[0];
            (block.timeout_s, block.executor_config["job"].as_object().unwrap().len())
        };
        assert_eq!(timeouts("", "60"), (Some(60), 0));
        assert_eq!(timeouts(", timeout: 7", "60"), (Some(7), 0));
        assert_eq!(timeouts(", timeout: 70", "60"), (Some(60), 0));
        assert_eq!(timeouts(", timeout: 7", "-1"), (Some(7), 1), "the executor tells what it does not take");
    }

    #[test]
    fn a_config_file_is_read_with_the_project_and_one_that_cannot_be_read_is_told() {
        let pipeline = |file: &str| {
            format!(
                "executor_type: k8s\nexecutor_config: {{config_file: {file}, pod: {{schedulerName: own}}}}\n\
                 blocks: [{{uuid: a, type: data_loader}}]\n"
            )
        };
        let file = "pod: {schedulerName: theirs}\njob: {backoffLimit: 0}\nmore: 1\n";
        let read = |named: &str| {
            let files = [("pipelines/p/metadata.yaml", pipeline(named)), ("k8s/config.yaml", file.to_owned())];
            let (mut blocks, said) = blocks(&files.each_ref().map(|(path, text)| (*path, text.as_str())), None);
            (Value::from(blocks.remove(0).1), said)
        };
        let (config, said) = read("k8s/config.yaml");
        assert_eq!((&config["pod"]["schedulerName"], &config["job"]["backoffLimit"]), (&json!("own"), &json!(0)));
        assert_eq!((config.get("more"), config.get("config_file"), said.as_str()), (None, None, ""));
        for nowhere in ["gone.yaml", "../outside.yaml", "/etc/passwd"] {
            let (config, said) = read(nowhere);
            assert!(said.contains(nowhere) && config.get("job").is_none(), "{config}: {said}");
        }
    }

    #[test]
    fn a_template_is_rendered_once_and_there_are_not_too_many_of_them() {
        let read = |type_of: &dyn Fn(usize) -> String| {
            let mut pipeline = "blocks:\n".to_owned();
            for n in 0..2_000 {
                pipeline += &format!("- {{uuid: b{n}, type: scratchpad, executor_type: \"{}\"}}\n", type_of(n));
            }
            let said = project(&[("pipelines/p/metadata.yaml", &pipeline)], None).diagnostics;
            said.iter().map(ToString::to_string).collect::<String>()
        };
        let long = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        let begun = std::time::Instant::now();
        let same = read(&|_| long.to_owned());
        // Once for each block it takes minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "it took {:?}", begun.elapsed());
        assert!(same.contains("does not render") && !same.contains("different templates"), "{same}");
        assert!(read(&|n| format!("{{{{ {n} }}}}")).contains("more than 64 different templates"));
    }
}
