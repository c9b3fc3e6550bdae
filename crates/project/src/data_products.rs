//! `global_data_products.yaml`: a word about what is written there and does not act, or never. The runner reads the file itself.
//!
//! Refuses to know when a product is out of date, and says nothing about products that blocks do not use.

use crate::{
    YAML_BYTES_MAX,
    diagnostic::{Diagnostic, Place, Report, Severity},
    files::{Folder, Refusal},
    keys::Keys,
    nearest, yaml,
};
use domain::product::FIELDS;

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
        warn(&product, report);
    }
}

/// A product, or what a block says in its place.
pub(crate) fn warn(product: &Keys<'_>, report: &mut Report) {
    if let Some(moment) = product.nested("outdated_starting_at") {
        moment.names().for_each(|name| warn_of_moment(name, &moment, report));
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

/// A moment that never comes holds the product fresh for ever.
fn warn_of_moment(name: &str, moment: &Keys<'_>, report: &mut Report) {
    let Some((_, least, greatest)) = FIELDS.into_iter().find(|(field, ..)| *field == name) else {
        let message = format!("{name} is ignored: outdated_starting_at has no such field");
        return report.warn(moment.place(name), message, nearest::choose(name, &FIELDS.map(|(field, ..)| field)));
    };
    let written = moment.text(name, report);
    if let Some(written) =
        written.filter(|text| !text.parse().is_ok_and(|value: i64| (least..=greatest).contains(&value)))
    {
        let message = format!("{name} is never {written:?}, so the product is refreshed wrongly, or never");
        report.warn(moment.place(name), message, format!("write a whole number from {least} to {greatest}"));
    }
}
