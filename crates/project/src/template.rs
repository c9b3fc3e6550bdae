//! Jinja in `metadata.yaml` and `io_config.yaml`, with the functions that Mage offers there.
//!
//! An undefined name renders to nothing, as in Mage. Refuses to know where secrets are: the secret functions render to
//! nothing here, or to what the reader of a file puts in their place, and whoever is given secrets resolves them.

use crate::Env;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Steps that one file's template may take.
const FUEL: u64 = 200_000;
/// Nesting of includes and macros.
const RECURSION_MAX: usize = 32;
/// Functions whose values are not known when a project is read: of secrets that are kept here, and of others.
pub(crate) const OWN_SECRET: &str = "mage_secret_var";
const SECRET_FUNCTIONS: [&str; 3] = [OWN_SECRET, "aws_secret_var", "azure_secret_var"];

/// Why a file's template does not render.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) line: u32,
    pub(crate) message: String,
}

/// The text with its expressions replaced.
pub(crate) fn render(text: &str, env: Env<'_>) -> Result<String, Broken> {
    render_with(text, env, |_, _| None)
}

/// Whether the text has anything to render.
pub(crate) fn is_one(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// Whether the text asks for secrets at all.
pub(crate) fn names_secrets(text: &str) -> bool {
    SECRET_FUNCTIONS.iter().any(|name| text.contains(name))
}

/// The same, with what `secret` answers for a function and the name that it is called with in place of the secret.
pub(crate) fn render_with(
    text: &str,
    env: Env<'_>,
    secret: fn(function: &str, name: &str) -> Option<String>,
) -> Result<String, Broken> {
    // Most files have none, and then braces cannot surprise.
    if !is_one(text) {
        return Ok(text.to_owned());
    }
    let mut jinja = Environment::new();
    jinja.set_undefined_behavior(UndefinedBehavior::Chainable);
    jinja.set_auto_escape_callback(|_| AutoEscape::None);
    jinja.set_fuel(Some(FUEL));
    jinja.set_recursion_limit(RECURSION_MAX);
    let values = environment(text, env);
    jinja.add_function("env_var", move |name: &str, default: Option<Value>| {
        values.get(name).map(|value| Value::from(value.as_str())).or(default).unwrap_or(Value::UNDEFINED)
    });
    jinja.add_function("json_value", json_value);
    for function in SECRET_FUNCTIONS {
        jinja.add_function(function, move |name: &str, _: Option<Value>| {
            secret(function, name).map_or(Value::UNDEFINED, Value::from)
        });
    }
    jinja.render_str(text, ()).map_err(|error| {
        let line = error.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
        Broken { line, message: error.detail().map_or_else(|| error.kind().to_string(), str::to_owned) }
    })
}

/// A template's functions must own what they read, and `env` is borrowed: so every quoted word of the text that names
/// a variable is looked up beforehand.
fn environment(text: &str, env: Env<'_>) -> BTreeMap<String, String> {
    let words: BTreeSet<&str> = text
        .split(['\'', '"'])
        .filter(|word| !word.is_empty() && word.len() <= 256)
        .filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    words.into_iter().filter_map(|word| env(word).map(|value| (word.to_owned(), value))).collect()
}

/// The value of `key` in a JSON text; nothing when either is missing.
fn json_value(text: &str, key: &str) -> Value {
    serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .and_then(|value| serde_json::from_value::<Value>(value.get(key)?.clone()).ok())
        .unwrap_or(Value::UNDEFINED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let env = |name: &str| match name {
            "HOST" => Some("db.example".to_owned()),
            "CREDENTIALS" => Some(r#"{"user": "ada"}"#.to_owned()),
            _ => None,
        };
        assert_eq!(render(text, &env).unwrap(), expected);
    }

    #[test]
    fn functions_of_mage() {
        check("a: {{ env_var('HOST') }}", "a: db.example");
        check("a: \"{{ env_var('NONE') }}\"", "a: \"\"");
        check("a: {{ env_var('NONE', 'x') }}", "a: x");
        check("a: {{ json_value(env_var('CREDENTIALS'), 'user') }}", "a: ada");
        check("a: '{{ mage_secret_var('s') }}{{ nothing }}{{ nothing.inner }}'", "a: ''");
        check("# {ordinary} text", "# {ordinary} text");
        check("a: 1 {# b #}\nb: '{{ 1 }}'", "a: 1 \nb: '1'");
    }

    #[test]
    fn a_break_has_its_line_and_an_endless_loop_ends() {
        assert_eq!(render("a: 1\nb: {{ env_var( }}\n", &|_| None).unwrap_err().line, 2);
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(render(endless, &|_| None).is_err());
    }
}
