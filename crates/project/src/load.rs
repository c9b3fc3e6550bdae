//! A whole project folder, read in one go.
//!
//! One bad pipeline never hides the others. Refuses to know where the folder came from.

use crate::{
    Diagnostic, Env, Metadata, PIPELINES_MAX, Severity, Trigger, Unread, data_products,
    diagnostic::{Place, Report},
    files::{Folder, Refusal},
    io_config, metadata, outputs, pipeline, requirements, trigger,
};
use domain::pipeline::Pipeline;
use std::{fs, path::Path};

/// The folder of the pipelines, as findings about it name it.
pub const PIPELINES: &str = "pipelines/";

/// A project folder as it was read.
#[derive(Debug)]
pub struct Project {
    /// The folder's own name: user code imports `<name>.utils.x`.
    pub name: String,
    /// Project-wide settings.
    pub metadata: Metadata,
    /// By name; broken ones included.
    pub pipelines: Vec<LoadedPipeline>,
    /// Digest of the packages that `requirements.txt` names; `None` when it names none.
    pub requirements_digest: Option<String>,
    /// Names of the connection profiles in `io_config.yaml`.
    pub io_profiles: Vec<String>,
    /// Everything that a person should know, file by file.
    pub diagnostics: Vec<Diagnostic>,
}

/// One folder below `pipelines/`.
#[derive(Debug)]
pub struct LoadedPipeline {
    /// The folder's name.
    pub name: String,
    /// The definition, when it has no errors.
    pub definition: Result<Pipeline, Rejected>,
    /// The good ones of `triggers.yaml`, whether or not the definition is good.
    pub triggers: Vec<Trigger>,
    /// The others that the file means.
    pub unread_triggers: Unread,
}

/// A definition with errors; all of them are among the project's diagnostics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{first} ({errors} in all)")]
pub struct Rejected {
    /// How many errors.
    pub errors: usize,
    /// The first of them, for one line of output.
    pub first: String,
}

impl Project {
    /// The definitions without errors.
    pub fn definitions(&self) -> impl Iterator<Item = &Pipeline> {
        self.pipelines.iter().filter_map(|pipeline| pipeline.definition.as_ref().ok())
    }

    /// How many diagnostics are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
    }
}

/// Reads the project at `root`. It never fails as a whole: what is wrong is among the diagnostics.
///
/// `env` answers for `env_var(…)` in templates and for the variables that change defaults, such as
/// `RUN_PIPELINE_IN_ONE_PROCESS`; a service that reads other people's projects must not pass its own environment.
#[must_use]
pub fn load(root: &Path, env: Env<'_>) -> Project {
    match Folder::open(root) {
        Ok(folder) => load_folder(&folder, env),
        Err(error) => {
            let mut report = Report::new(".", "");
            let message = format!("the project folder {} cannot be read: {error}", root.display());
            report.error(Place::file(), message, "name an existing folder");
            Project {
                name: String::new(),
                metadata: Metadata::default(),
                pipelines: Vec::new(),
                requirements_digest: None,
                io_profiles: Vec::new(),
                diagnostics: report.finish(),
            }
        }
    }
}

fn load_folder(folder: &Folder, env: Env<'_>) -> Project {
    let (mut metadata, mut diagnostics) = metadata::read(folder, env);
    let place = outputs::of_folder(folder, env);
    metadata.place_secrets = place.secrets().into_iter().collect();
    metadata.remote_variables_dir = place.url;
    let (io_profiles, found) = io_config::profiles(folder, env, metadata.remote_variables_dir.is_some());
    diagnostics.extend(found);
    diagnostics.extend(data_products::check(folder));
    let mut packages = Report::new("requirements.txt", "");
    let requirements_digest = requirements::digest(folder, &mut packages);
    diagnostics.extend(packages.finish());
    let mut report = Report::new(PIPELINES, "");
    let names = pipeline_names(folder, &mut report);
    if names.is_empty() {
        let (message, remedy) = no_pipelines(folder);
        report.warn(Place::file(), message, remedy);
    }
    diagnostics.extend(report.finish());
    let templates = pipeline::Templates::new(env);
    let context = pipeline::Context { folder, metadata: &metadata, env, templates };
    let pipelines = names.into_iter().map(|name| load_pipeline(&context, name, &mut diagnostics)).collect();
    fold_copies(&mut diagnostics);
    Project { name: folder.name(), metadata, pipelines, requirements_digest, io_profiles, diagnostics }
}

/// Mage copies the author's `variables_dir` into every pipeline: one warning says it all.
fn fold_copies(diagnostics: &mut Vec<Diagnostic>) {
    let is_copy =
        |d: &Diagnostic| d.key == "variables_dir" && !d.pipeline.is_empty() && d.severity == Severity::Warning;
    let copies = diagnostics.iter().filter(|d| is_copy(d)).count();
    let mut seen = 0;
    diagnostics.retain(|d| {
        seen += usize::from(is_copy(d));
        !is_copy(d) || seen == 1
    });
    if let Some(first) = diagnostics.iter_mut().find(|d| copies > 1 && is_copy(d)) {
        first.message = format!("{} (and so in {} other pipelines)", first.message, copies - 1);
    }
}

fn no_pipelines(folder: &Folder) -> (&'static str, &'static str) {
    if folder.file("settings.yaml").is_ok() {
        let message = "there are no pipelines here; settings.yaml says that several projects live below this folder";
        return (message, "name the folder of one of the projects");
    }
    ("there are no pipelines: no folder pipelines/<name> has a metadata.yaml", "name the folder that holds `pipelines`")
}

fn load_pipeline(context: &pipeline::Context<'_>, name: String, diagnostics: &mut Vec<Diagnostic>) -> LoadedPipeline {
    let file = format!("pipelines/{name}/metadata.yaml");
    let mut report = Report::new(&file, &name);
    let definition = pipeline::read(context, &name, &file, &mut report).ok_or_else(|| Rejected {
        errors: report.errors(),
        first: report.first_error().map(ToString::to_string).unwrap_or_default(),
    });
    diagnostics.extend(report.finish());
    let file = format!("pipelines/{name}/triggers.yaml");
    let mut report = Report::new(&file, &name);
    let (triggers, unread_triggers) = trigger::read(context.folder, &file, &mut report);
    diagnostics.extend(report.finish());
    LoadedPipeline { name, definition, triggers, unread_triggers }
}

/// The folders below `pipelines/` that have a `metadata.yaml`, sorted.
fn pipeline_names(folder: &Folder, report: &mut Report) -> Vec<String> {
    let directory = folder.path().join("pipelines");
    // A link to another folder would be followed once per pipeline; it is refused once, here.
    match directory.canonicalize() {
        Ok(real) if !real.starts_with(folder.path()) => {
            report.error(
                Place::file(),
                "pipelines is a symlink that leads out of the project folder",
                Refusal::LinkOutside.remedy(),
            );
            return Vec::new();
        }
        Ok(_) => {}
        Err(_) => return Vec::new(),
    }
    let Ok(entries) = fs::read_dir(&directory) else { return Vec::new() };
    let mut names = Vec::new();
    for entry in entries.flatten() {
        match entry.file_name().into_string() {
            Ok(name) if is_pipeline(&directory, &name) => names.push(name),
            Ok(_) => {}
            Err(name) => {
                let message = format!("the folder pipelines/{} has a name that is not UTF-8", name.to_string_lossy());
                report.error(Place::file(), message, "rename it");
            }
        }
    }
    names.sort();
    if names.len() > PIPELINES_MAX {
        let message = format!("{} pipelines; only the first {PIPELINES_MAX} are read", names.len());
        report.error(Place::file(), message, "split the project");
        names.truncate(PIPELINES_MAX);
    }
    names
}

fn is_pipeline(directory: &Path, name: &str) -> bool {
    !name.starts_with('.') && directory.join(name).join("metadata.yaml").symlink_metadata().is_ok()
}
