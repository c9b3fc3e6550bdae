//! `io_config.yaml`, as far as a mistake in it can be told before a block runs.
//!
//! The values are credentials: they are neither kept nor shown; only the profiles' names leave this module. The runner
//! reads the file itself, beside the code that was given the secrets.

use crate::{
    Env, YAML_BYTES_MAX,
    diagnostic::{Diagnostic, Place, Report},
    files::{Folder, Refusal},
    keys::Keys,
    outputs, template, unresolved, yaml,
};

const FILE: &str = "io_config.yaml";

/// The names of the connection profiles. With `opens_outputs`, executors open the store of outputs with its keys.
pub(crate) fn profiles(folder: &Folder, env: Env<'_>, opens_outputs: bool) -> (Vec<String>, Vec<Diagnostic>) {
    let mut report = Report::new(FILE, "");
    let profiles = read(folder, env, opens_outputs, &mut report).unwrap_or_default();
    (profiles, report.finish())
}

fn read(folder: &Folder, env: Env<'_>, opens_outputs: bool, report: &mut Report) -> Option<Vec<String>> {
    let text = match folder.read(FILE, YAML_BYTES_MAX) {
        Ok(text) => text,
        Err(Refusal::Absent) => return None,
        Err(refusal) => {
            report.error(Place::file(), refusal.to_string(), refusal.remedy());
            return None;
        }
    };
    let rendered = match template::render(&text, env) {
        Ok(rendered) => rendered,
        Err(broken) => {
            report.error(
                Place::new("", broken.line),
                format!("the template is broken: {}", broken.message),
                "correct the `{{ … }}` expression",
            );
            return None;
        }
    };
    let document = match yaml::parse(&rendered) {
        Ok(document) => document,
        Err(broken) => {
            // The parser quotes the text around a break, which may be a password.
            report.error(
                Place::new("", broken.line),
                "the file is not valid YAML",
                "correct the line; quote values with special characters",
            );
            return None;
        }
    };
    if opens_outputs {
        for place in unresolved::foreign_places(&text, env).into_iter().filter(|place| outputs::opens(&place.key)) {
            let message = "only secrets of the cluster are known where executors open the store of remote_variables_dir: \
                           the value is empty there";
            report.warn(place, message, "use mage_secret_var(…) or env_var(…)");
        }
    }
    let keys = Keys::of(&document.root, "", report)?;
    Some(keys.names().filter(|name| *name != "version").map(str::to_owned).collect())
}
