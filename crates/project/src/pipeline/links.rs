//! Names that must be unique, and names that must exist.
//!
//! Mage drops an upstream that does not exist, so that a block runs too early and with too few arguments. Here that is
//! an error for a block. For a guard or a reaction the order of blocks does not depend on it: a warning, and it is
//! dropped. Cycles are the business of `domain::graph`.

use super::block::Draft;
use crate::{diagnostic::Report, nearest::nearest};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check<'n>(
    blocks: &mut [Draft<'_>],
    conditionals: &mut [Draft<'n>],
    callbacks: &mut [Draft<'n>],
    report: &mut Report,
) {
    check_unique(blocks, report);
    check_unique(conditionals, report);
    check_unique(callbacks, report);
    let known: BTreeSet<String> = blocks.iter().map(|draft| draft.block.uuid.clone()).collect();
    let reactions: BTreeSet<String> =
        conditionals.iter().chain(callbacks.iter()).map(|draft| draft.block.uuid.clone()).collect();
    for draft in blocks {
        link(draft, &known, |draft, name, report| missing(draft, name, &known, &reactions, report), report);
    }
    for draft in conditionals.iter_mut().chain(callbacks) {
        link(draft, &known, |draft, name, report| dropped(draft, name, &known, report), report);
    }
}

fn check_unique(drafts: &[Draft<'_>], report: &mut Report) {
    let mut first: BTreeMap<&str, u32> = BTreeMap::new();
    for draft in drafts {
        let place = draft.keys.place("uuid");
        if let Some(line) = first.get(draft.block.uuid.as_str()) {
            let message = format!("the uuid {:?} is taken by another block, in line {line}", draft.block.uuid);
            report.error(place, message, "rename one of the two blocks and its file");
        } else {
            first.insert(&draft.block.uuid, place.line);
        }
    }
}

/// Keeps the upstreams that exist, each once, in order; `on_missing` says what it means that one does not.
fn link(
    draft: &mut Draft<'_>,
    known: &BTreeSet<String>,
    on_missing: impl Fn(&Draft<'_>, usize, &mut Report),
    report: &mut Report,
) {
    let mut kept: Vec<String> = Vec::new();
    for n in 0..draft.upstream.len() {
        let upstream = &draft.upstream[n];
        if !known.contains(&upstream.name) {
            on_missing(draft, n, report);
        } else if kept.contains(&upstream.name) {
            let message = format!("the upstream block {:?} is listed twice; once counts", upstream.name);
            report.warn(upstream.place.clone(), message, "remove one of them");
        } else {
            kept.push(upstream.name.clone());
        }
    }
    draft.block.upstream = kept;
}

fn missing(draft: &Draft<'_>, n: usize, known: &BTreeSet<String>, reactions: &BTreeSet<String>, report: &mut Report) {
    let (name, place) = (&draft.upstream[n].name, draft.upstream[n].place.clone());
    let block = &draft.block.uuid;
    if reactions.contains(name) {
        let message =
            format!("block {block:?} waits for {name:?}, which is a conditional or a callback and not a step");
        return report.error(place, message, "remove it from upstream_blocks");
    }
    let message = format!("block {block:?} waits for {name:?}, which is not a block of this pipeline");
    report.error(place, message, did_you_mean(name, known));
}

fn dropped(draft: &Draft<'_>, n: usize, known: &BTreeSet<String>, report: &mut Report) {
    let (name, place) = (&draft.upstream[n].name, draft.upstream[n].place.clone());
    let message =
        format!("{:?} refers to {name:?}, which is not a block of this pipeline; it is dropped", draft.block.uuid);
    report.warn(place, message, did_you_mean(name, known));
}

fn did_you_mean(name: &str, known: &BTreeSet<String>) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(candidate) => format!("did you mean {candidate:?}?"),
        None => "add the block, or remove the name".to_owned(),
    }
}
