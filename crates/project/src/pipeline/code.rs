//! Which file holds a block's code.
//!
//! In Mage's order: the file of the replicated block, `configuration.file_source.path`, `configuration.file_path`, and
//! else `<type>s/<uuid>.<extension>`. Refuses to open the files.

use super::block::Draft;
use crate::{
    diagnostic::{Place, Report},
    files::{Folder, Refusal},
    nearest::nearest,
};
use domain::{
    executor_type::ExecutorType,
    pipeline::{Block, BlockKind, Language},
};
use std::{collections::BTreeMap, path::Path};

/// Replicas of replicas that are followed.
const REPLICAS_MAX: usize = 16;

/// Sets the file of every block that needs one; a missing one is an error.
pub(super) fn locate(folder: &Folder, pipeline_executor: Option<&str>, drafts: &mut [Draft<'_>], report: &mut Report) {
    for draft in drafts.iter_mut().filter(|draft| draft.block.replica_of.is_none() && draft.block.file.is_none()) {
        draft.block.file = own_file(folder, pipeline_executor, draft, report);
    }
    share_files(folder, pipeline_executor, drafts, report);
}

fn own_file(
    folder: &Folder,
    pipeline_executor: Option<&str>,
    draft: &Draft<'_>,
    report: &mut Report,
) -> Option<String> {
    let block = &draft.block;
    if block.kind == BlockKind::GlobalDataProduct {
        return None;
    }
    let by_rule = by_rule(block, &block.uuid);
    let needed = !is_codeless(block, pipeline_executor);
    let exists = folder.file(&by_rule).is_ok();
    match explicit(folder, draft, exists, report) {
        Explicit::Found(file) => return Some(file),
        Explicit::Refused => return None,
        Explicit::None => {}
    }
    match folder.file(&by_rule) {
        Ok(_) => return Some(by_rule),
        Err(Refusal::Absent) if !needed => return None,
        Err(Refusal::Absent) => {
            let message = format!("block {:?} has no file: expected {by_rule}", block.uuid);
            report.error(draft.keys.place("uuid"), message, other_language(folder, block));
        }
        Err(refusal) => {
            report.error(draft.keys.place("uuid"), format!("{by_rule} {refusal}"), refusal.remedy());
        }
    }
    None
}

fn is_codeless(block: &Block, pipeline_executor: Option<&str>) -> bool {
    let executor = ExecutorType::of(block.executor_type.as_deref(), pipeline_executor);
    block.kind.is_inert() || executor == ExecutorType::Noop
}

enum Explicit {
    Found(String),
    /// Reported.
    Refused,
    None,
}

/// The path that the block itself names, if it names one.
fn explicit(folder: &Folder, draft: &Draft<'_>, has_default: bool, report: &mut Report) -> Explicit {
    for (key, written) in named_paths(draft, report) {
        let Some(relative) = below(folder, &written) else {
            // Mage writes absolute paths of the author's machine into `file_source`.
            if has_default && Path::new(&written).is_absolute() && key.key.ends_with("file_source.path") {
                let message = format!("the absolute path {written:?} is ignored; the file is found by its usual name");
                report.warn(key, message, "remove `file_source`");
                continue;
            }
            report.error(key, format!("{written:?} {}", Refusal::Outside), Refusal::Outside.remedy());
            return Explicit::Refused;
        };
        match folder.file(&relative) {
            Ok(_) => return Explicit::Found(relative),
            Err(refusal) if has_default && matches!(refusal, Refusal::Absent | Refusal::NotAFile) => {
                let message = format!("{relative} {refusal}; the file is found by its usual name");
                report.warn(key, message, "remove the key, or correct the path");
            }
            Err(refusal) => {
                report.error(key, format!("{relative} {refusal}"), refusal.remedy());
                return Explicit::Refused;
            }
        }
    }
    Explicit::None
}

fn named_paths(draft: &Draft<'_>, report: &mut Report) -> Vec<(Place, String)> {
    let mut paths = Vec::new();
    let configuration = draft.keys.map("configuration", report);
    let source = configuration.as_ref().and_then(|configuration| configuration.map("file_source", report));
    for (keys, key) in [(source, "path"), (configuration, "file_path"), (Some(draft.keys.clone()), "file_path")] {
        let Some(keys) = keys else { continue };
        // `file_path` may also be user data, such as the CSV that a loader reads: then its ending is another one.
        if let Some(path) = keys.text(key, report).filter(|path| has_extension(path, draft.block.language)) {
            paths.push((keys.place(key), path));
        }
    }
    paths
}

fn has_extension(path: &str, language: Language) -> bool {
    let found = Path::new(path).extension().and_then(|found| found.to_str()).unwrap_or_default();
    found == extension(language) || (language == Language::Yaml && found == "yml")
}

/// The path relative to the project folder, or nothing when it leads elsewhere.
fn below(folder: &Folder, written: &str) -> Option<String> {
    let path = Path::new(written);
    let relative = if path.is_absolute() { path.strip_prefix(folder.path()).ok()? } else { path };
    // Mage also writes `<project>/transformers/x.py`.
    let relative = match relative.strip_prefix(folder.name()) {
        Ok(rest) if !folder.path().join(relative).exists() => rest,
        _ => relative,
    };
    relative.to_str().filter(|relative| crate::files::is_inside(relative)).map(str::to_owned)
}

/// `<type>s/<uuid>.<extension>`.
fn by_rule(block: &Block, uuid: &str) -> String {
    format!("{}/{uuid}.{}", directory(block.kind), extension(block.language))
}

fn directory(kind: BlockKind) -> &'static str {
    match kind {
        BlockKind::DataLoader => "data_loaders",
        BlockKind::Transformer => "transformers",
        BlockKind::DataExporter => "data_exporters",
        BlockKind::Custom => "custom",
        BlockKind::Sensor => "sensors",
        BlockKind::Conditional => "conditionals",
        BlockKind::Callback => "callbacks",
        BlockKind::Dbt => "dbt",
        BlockKind::GlobalDataProduct => "global_data_products",
        BlockKind::Extension => "extensions",
        BlockKind::Markdown => "markdowns",
        BlockKind::Chart => "charts",
        BlockKind::Scratchpad => "scratchpads",
    }
}

fn extension(language: Language) -> &'static str {
    match language {
        Language::Python => "py",
        Language::Sql => "sql",
        Language::R => "r",
        Language::Yaml => "yaml",
        Language::Markdown => "md",
    }
}

/// The remedy for a missing file: perhaps only the language is wrong.
fn other_language(folder: &Folder, block: &Block) -> String {
    let languages =
        [(Language::Python, "python"), (Language::Sql, "sql"), (Language::R, "r"), (Language::Yaml, "yaml")];
    for (language, name) in languages {
        let file = format!("{}/{}.{}", directory(block.kind), block.uuid, extension(language));
        if language != block.language && folder.file(&file).is_ok() {
            return format!("there is {file}: set `language: {name}`");
        }
    }
    "create the file, or remove the block from the pipeline".to_owned()
}

/// Gives each replica the file of its original.
fn share_files(folder: &Folder, pipeline_executor: Option<&str>, drafts: &mut [Draft<'_>], report: &mut Report) {
    let originals: BTreeMap<String, (Option<String>, Option<String>)> = drafts
        .iter()
        .map(|draft| (draft.block.uuid.clone(), (draft.block.replica_of.clone(), draft.block.file.clone())))
        .collect();
    for draft in drafts.iter_mut() {
        let Some(mut original) = draft.block.replica_of.clone() else { continue };
        for _ in 0..REPLICAS_MAX {
            let Some((Some(next), _)) = originals.get(&original) else { break };
            original.clone_from(next);
        }
        if let Some((replica_of, file)) = originals.get(&original) {
            if replica_of.is_some() {
                let message = format!("block {:?} is a replica of itself, over {original:?}", draft.block.uuid);
                report.error(draft.keys.place("replicated_block"), message, "name the block that has the file");
            }
            draft.block.file.clone_from(file);
            continue;
        }
        // The original may have been removed from the pipeline while its file stayed.
        let file = by_rule(&draft.block, &original);
        if crate::files::is_inside(&file) && folder.file(&file).is_ok() {
            draft.block.file = Some(file);
        } else if !is_codeless(&draft.block, pipeline_executor) {
            let message =
                format!("block {:?} replicates {original:?}, which is neither a block nor a file", draft.block.uuid);
            let remedy = nearest(&original, originals.keys().map(String::as_str))
                .map_or_else(|| format!("create {file}"), |candidate| format!("did you mean {candidate:?}?"));
            report.error(draft.keys.place("replicated_block"), message, remedy);
        }
    }
}
