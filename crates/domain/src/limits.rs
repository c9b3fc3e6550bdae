//! Limits on blocks that run at once in a workspace: one over all of them (Mage's `queue_config.concurrency`), and keyed
//! ones, such as at most 2 on the warehouse.
//!
//! A block names its keys in its metadata (`limits: [warehouse]`), or its pipeline does for all of its blocks. A key may be
//! an expression: `tenant:{{ customer }}` takes the run's variable. A limit is defined for a key, or with a trailing `*`
//! for every key that begins so; each such key then has a count of its own. A key that no limit is defined for does not
//! limit. Refuses to count: see [`crate::permits`].

use serde_json::{Map, Value};
use std::sync::Arc;

/// The name of the limit over all blocks of a workspace.
pub const WORKSPACE: &str = "workspace";
/// Blocks of a workspace at once where nothing else is said; Mage's default, there for each scheduler, here for all.
pub const WORKSPACE_DEFAULT: u32 = 20;
/// Bytes of a key, and of a limit's name.
pub const NAME_BYTES_MAX: usize = 200;
/// Keys of one block.
pub const KEYS_MAX: usize = 8;
/// The highest limit.
pub const LIMIT_MAX: u32 = 1_000_000;

/// Why a name names no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or too much.
    #[error("the name of a limit must have 1 to {NAME_BYTES_MAX} bytes")]
    Length,
    /// A character that would not be seen.
    #[error("the name of a limit must not hold spaces or control characters")]
    Character,
    /// A `*` that is not the last character.
    #[error("`*` may only be the last character of a limit's name: it stands for everything that follows")]
    Star,
}

/// Checks the name of a limit.
///
/// # Errors
/// When it could not be written as a key.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(NameError::Length);
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(NameError::Character);
    }
    match name.find('*') {
        Some(at) if at + 1 < name.len() => Err(NameError::Star),
        _ => Ok(()),
    }
}

/// The limits that are defined in one workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definitions {
    names: Vec<Arc<str>>,
}

impl FromIterator<Arc<str>> for Definitions {
    fn from_iter<T: IntoIterator<Item = Arc<str>>>(names: T) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        Self { names }
    }
}

impl Definitions {
    /// The limit that holds for a key: the one of its name, otherwise the longest pattern that it begins with.
    #[must_use]
    pub fn of(&self, key: &str) -> Option<&Arc<str>> {
        let exact = self.names.iter().find(|name| !name.ends_with('*') && name.as_ref() == key);
        let pattern = || {
            let fits = |name: &&Arc<str>| name.strip_suffix('*').is_some_and(|prefix| key.starts_with(prefix));
            self.names.iter().filter(fits).max_by_key(|name| name.len())
        };
        exact.or_else(pattern)
    }
}

/// A key as written, with each `{{ name }}` replaced by the variable of that name: text as it is, other values as JSON,
/// a variable that is not there as nothing. Control characters are left out, as no limit's name has any and PostgreSQL
/// keeps no NUL.
#[must_use]
pub fn render(written: &str, variables: &Map<String, Value>) -> String {
    let mut rendered = String::with_capacity(written.len());
    let mut rest = written;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        rendered.push_str(before);
        match variables.get(name.trim()) {
            Some(Value::String(text)) => rendered.push_str(text),
            Some(value) => rendered.push_str(&value.to_string()),
            None => {}
        }
        rest = after;
    }
    rendered.push_str(rest);
    rendered.retain(|c| !c.is_control());
    let mut end = rendered.len().min(NAME_BYTES_MAX);
    while !rendered.is_char_boundary(end) {
        end -= 1;
    }
    rendered.truncate(end);
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_exact_name_wins_over_the_longest_pattern() {
        let defined: Definitions = ["a*", "ab*", "abc", "b"].into_iter().map(Arc::from).collect();
        let of = |key: &str| defined.of(key).map(ToString::to_string);
        assert_eq!(of("abc"), Some("abc".to_owned()));
        assert_eq!(of("abd"), Some("ab*".to_owned()));
        assert_eq!(of("a"), Some("a*".to_owned()));
        assert_eq!(of("bb"), None);
    }

    #[test]
    fn keys_take_the_variables_of_their_run() {
        let variables = json!({ "customer": "acme", "n": 3 });
        let variables = variables.as_object().unwrap();
        assert_eq!(render("tenant:{{ customer }}/{{n}}", variables), "tenant:acme/3");
        assert_eq!(render("{{ nobody }}-{{ open", variables), "-{{ open");
        assert_eq!(render(&"ä".repeat(150), variables).len(), 200);
        let odd = json!({ "customer": "a\u{0}b\nc" });
        assert_eq!(render("tenant:{{ customer }}", odd.as_object().unwrap()), "tenant:abc");
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(check_name("warehouse"), Ok(()));
        assert_eq!(check_name("tenant:*"), Ok(()));
        assert_eq!(check_name(""), Err(NameError::Length));
        assert_eq!(check_name("a b"), Err(NameError::Character));
        assert_eq!(check_name("a*b"), Err(NameError::Star));
    }
}
