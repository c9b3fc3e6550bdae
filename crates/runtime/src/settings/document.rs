//! The table of settings as a page, and the checks that keep page, table and type the same.

use super::{Key, Kind, SettingsError, key, tree};
use serde::Serialize;
use serde_json::Value;
use std::{fmt::Write as _, path::Path};

/// The page names a service without the family's name, whichever its caller uses.
fn short(service: &str) -> &str {
    service.strip_prefix("orrery-").unwrap_or(service)
}

/// The settings of a service as a Markdown table.
#[must_use]
pub fn markdown(service: &str, keys: &[Key]) -> String {
    let service = short(service);
    let prefix = service.to_ascii_uppercase().replace('-', "_");
    let mut page = format!(
        "Flags of `orrery-{service}`, and `ORRERY_{prefix}_` before the name in the environment.\n\n\
         | key | environment | type | default | what it is |\n|---|---|---|---|---|\n"
    );
    for key in key::table(keys) {
        let default = if key.default.is_empty() { "–".to_owned() } else { format!("`{}`", key.default) };
        let (name, kind, doc) = (key.name, key.kind.name(), key.doc.replace('|', "\\|"));
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | `{}` | {kind} | {default} | {doc} |", key.environment());
    }
    page
}

/// Compares the section of `service` in the page at `path` (between `<!-- settings:NAME -->` and
/// `<!-- /settings:NAME -->`) with its table. With `ORRERY_UPDATE_DOCS` in the environment, writes the section instead.
///
/// # Errors
/// When they differ, the section is not there, or the page cannot be read; the message says how to write it anew.
pub fn check_doc(path: impl AsRef<Path>, service: &str, keys: &[Key]) -> Result<(), SettingsError> {
    let (path, service) = (path.as_ref(), short(service));
    let fail = |e: std::io::Error| SettingsError::File { path: path.to_owned(), source: e.into() };
    let page = std::fs::read_to_string(path).map_err(fail)?;
    let (open, close) = (format!("<!-- settings:{service} -->"), format!("<!-- /settings:{service} -->"));
    let section = page.split_once(&open).and_then(|(before, rest)| Some((before, rest.split_once(&close)?)));
    let Some((before, (section, after))) = section else {
        return Err(SettingsError::Rule(format!("{}: the markers `{open}` and `{close}` are missing", path.display())));
    };
    let wanted = markdown(service, keys);
    if section.trim() == wanted.trim() {
        return Ok(());
    }
    if std::env::var_os("ORRERY_UPDATE_DOCS").is_some() {
        return std::fs::write(path, format!("{before}{open}\n{wanted}{close}{after}")).map_err(fail);
    }
    let rule = format!("{}: the settings of {service} differ from their table", path.display());
    Err(SettingsError::Rule(format!("{rule}; run its tests with ORRERY_UPDATE_DOCS=1 and commit the page")))
}

/// Compares the table of a service with the defaults of its type: the same keys, and the same values.
///
/// # Errors
/// Names the first difference.
pub fn check_table<T: Serialize + Default>(keys: &[Key]) -> Result<(), SettingsError> {
    let table = key::table(keys);
    let leaves = tree::leaves(serde_json::to_value(T::default()).map_err(SettingsError::Shape)?);
    for (name, value) in &leaves {
        let key = table.iter().find(|key| key.name == name);
        let key = key.ok_or_else(|| SettingsError::Rule(format!("`{name}` is in the type and not in the table")))?;
        let documented = key.kind.parse(key.default);
        if !same(key.kind, documented.as_ref(), value) {
            let rule = format!("`{name}` defaults to {value} in the type and to `{}` in the table", key.default);
            return Err(SettingsError::Rule(rule));
        }
    }
    match table.iter().find(|key| leaves.iter().all(|(name, _)| key.name != name)) {
        Some(key) => Err(SettingsError::Rule(format!("`{}` is in the table and not in the type", key.name))),
        None => Ok(()),
    }
}

fn same(kind: Kind, documented: Option<&Value>, value: &Value) -> bool {
    let span = |value: &Value| value.as_str().and_then(super::duration::parse);
    match documented {
        Some(text) if kind == Kind::Duration => span(text) == span(value),
        documented => documented == Some(value),
    }
}
