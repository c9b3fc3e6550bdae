//! `global_data_products.yaml`: a word about what is written there and does not act. The runner reads the file itself.
//!
//! Refuses to know when a product is out of date, and says nothing about products that blocks do not use.

use crate::{
    YAML_BYTES_MAX,
    diagnostic::{Diagnostic, Place, Report, Severity},
    files::{Folder, Refusal},
    keys::Keys,
    yaml,
};

const FILE: &str = "global_data_products.yaml";

/// What a person should know about the file, if there is one.
pub(crate) fn check(folder: &Folder) -> Vec<Diagnostic> {
    let mut report = Report::new(FILE, "");
    match folder.read(FILE, YAML_BYTES_MAX) {
        Ok(text) => products(&text, &mut report),
        Err(Refusal::Absent) => {}
        Err(refusal) => report.error(Place::file(), refusal.to_string(), refusal.remedy()),
    }
    // Only blocks that use a product fail by a broken file.
    report.finish().into_iter().map(|found| Diagnostic { severity: Severity::Warning, ..found }).collect()
}

fn products(text: &str, report: &mut Report) {
    let document = match yaml::parse(text) {
        Ok(document) => document,
        Err(broken) => {
            return report.error(Place::new("", broken.line), broken.message, "correct the YAML at this line");
        }
    };
    let Some(keys) = Keys::of(&document.root, "", report) else { return };
    for product in keys.names().filter_map(|name| keys.nested(name)) {
        warn_of_ignored(&product, report);
    }
}

/// A product, or what a block says in its place.
pub(crate) fn warn_of_ignored(product: &Keys<'_>, report: &mut Report) {
    if product.node("outdated_starting_at").is_some() {
        report.warn(
            product.place("outdated_starting_at"),
            "outdated_starting_at is ignored: a product is out of date as soon as outdated_after has passed",
            "remove the key; to refresh at a certain time, give the product's pipeline a trigger with a schedule",
        );
    }
    let Some(settings) = product.nested("settings") else { return };
    let blocks = settings.names().filter_map(|block| settings.nested(block));
    for block in blocks.filter(|block| block.node("partitions").is_some()) {
        report.warn(
            block.place("partitions"),
            "partitions is ignored: a product is the outputs of its pipeline's latest completed run",
            "remove the key; for earlier data, let the pipeline itself return it",
        );
    }
}
