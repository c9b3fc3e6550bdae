//! The words of a message. Templates are Jinja (`{{ pipeline_uuid }}`), or Mage's own form (`{pipeline_uuid}`). A template
//! that fails when it is used gives way to the default words: a message in plain words is better than none.

use crate::config::{Config, Event, Template};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Steps that one template may take.
const FUEL: u64 = 50_000;
/// Characters of a title, and of each other part.
const TITLE_CHARS_MAX: usize = 250;
const PART_CHARS_MAX: usize = 6_000;

/// What is known when something is told. Fields have the names that Mage's templates use, where it has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Facts {
    pub workspace: String,
    pub pipeline_uuid: String,
    pub pipeline_run_id: String,
    pub pipeline_run_url: String,
    pub pipeline_schedule_id: String,
    pub pipeline_schedule_name: String,
    pub pipeline_schedule_description: String,
    /// The run's logical time.
    pub execution_time: String,
    pub status: String,
    pub started_at: String,
    pub completed_at: String,
    /// By when it should have ended.
    pub due_at: String,
    /// The block that failed first.
    pub block_uuid: String,
    pub error: String,
    pub stacktrace: String,
}

/// What a channel shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What happened.
    pub event: Event,
    /// One line.
    pub title: String,
    /// A sentence.
    pub summary: String,
    /// The rest; may be empty.
    pub details: String,
}

/// Whether a template can be read.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(template: &Template) -> Result<(), String> {
    let parts = [&template.title, &template.summary, &template.details];
    parts.into_iter().flatten().try_for_each(|text| {
        let outcome = environment().template_from_str(text).map(drop);
        outcome.map_err(|error| format!("is no template: {}", error.detail().unwrap_or("it cannot be read")))
    })
}

/// The message about an event.
#[must_use]
pub fn message(config: &Config, event: Event, facts: &Facts) -> Message {
    let template = config.template(event);
    let (title, summary, details) = words(event);
    let part = |own: &Option<String>, default: &str, max: usize| {
        let text = own.as_deref().and_then(|own| render(own, facts)).or_else(|| render(default, facts));
        cut(text.unwrap_or_default().trim(), max)
    };
    Message {
        event,
        // A line break in a subject or a title would begin something else.
        title: part(&template.title, title, TITLE_CHARS_MAX).replace(['\r', '\n'], " "),
        summary: part(&template.summary, summary, PART_CHARS_MAX),
        details: part(&template.details, details, PART_CHARS_MAX),
    }
}

fn words(event: Event) -> (&'static str, &'static str, &'static str) {
    const DETAILS: &str = "{% if block_uuid %}Block: {{ block_uuid }}\n{% endif %}\
        {% if pipeline_schedule_name %}Trigger: {{ pipeline_schedule_name }}\n{% endif %}\
        Run: {{ pipeline_run_id }}, of {{ execution_time }}\n\
        {% if pipeline_run_url %}{{ pipeline_run_url }}\n{% endif %}\
        {% if stacktrace %}\n{{ stacktrace }}{% endif %}";
    match event {
        Event::Failure => (
            "{{ pipeline_uuid }} failed",
            "Pipeline {{ pipeline_uuid }} of workspace {{ workspace }} failed{% if error %}: {{ error }}{% endif %}",
            DETAILS,
        ),
        Event::Success => (
            "{{ pipeline_uuid }} completed",
            "Pipeline {{ pipeline_uuid }} of workspace {{ workspace }} completed at {{ completed_at }}.",
            DETAILS,
        ),
        Event::PassedSla => (
            "{{ pipeline_uuid }} is late",
            "Pipeline {{ pipeline_uuid }} of workspace {{ workspace }} should have ended by {{ due_at }}.",
            DETAILS,
        ),
        Event::Test => (
            "Test message of workspace {{ workspace }}",
            "Notifications of {% if pipeline_uuid %}pipeline {{ pipeline_uuid }}{% else %}workspace {{ workspace }}{% endif %} arrive here.",
            "",
        ),
    }
}

fn environment() -> Environment<'static> {
    let mut jinja = Environment::new();
    jinja.set_undefined_behavior(UndefinedBehavior::Chainable);
    jinja.set_auto_escape_callback(|_| AutoEscape::None);
    jinja.set_fuel(Some(FUEL));
    jinja
}

fn render(text: &str, facts: &Facts) -> Option<String> {
    let facts = serde_json::to_value(facts).ok()?;
    if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
        let context: BTreeMap<String, String> = facts
            .as_object()?
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().into()))
            .collect();
        return environment().render_str(text, context).ok();
    }
    Some(fill(text, facts.as_object()?))
}

/// Replaces `{name}` where the name is known, in one pass: what a value holds is not replaced again.
fn fill(text: &str, facts: &Map<String, Value>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        let known = rest.find('}').and_then(|end| Some((end, facts.get(&rest[1..end])?.as_str()?)));
        match known {
            Some((end, value)) => {
                filled.push_str(value);
                rest = &rest[end + 1..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

pub(crate) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts() -> Facts {
        Facts {
            workspace: "sales".into(),
            pipeline_uuid: "nightly".into(),
            error: "no such table {pipeline_uuid} {{ workspace }}".into(),
            ..Facts::default()
        }
    }

    fn title(template: &str) -> String {
        let config = json!({ "message_templates": { "failure": { "title": template } } });
        message(&Config::parse(config.as_object().unwrap()).unwrap(), Event::Failure, &facts()).title
    }

    #[test]
    fn both_forms_of_templates_are_filled_once() {
        assert_eq!(title("{pipeline_uuid}: {error}"), "nightly: no such table {pipeline_uuid} {{ workspace }}");
        assert_eq!(title("{{ pipeline_uuid | upper }} in {{ workspace }}"), "NIGHTLY in sales");
        assert_eq!(title("{unknown} {"), "{unknown} {");
        assert_eq!(title("two\nlines"), "two lines");
    }

    #[test]
    fn a_template_that_fails_or_never_ends_gives_way_to_plain_words() {
        assert_eq!(title("{{ pipeline_uuid / 2 }}"), "nightly failed");
        assert_eq!(
            title("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"),
            "nightly failed"
        );
    }

    #[test]
    fn default_words_say_what_is_known() {
        let message = message(&Config::default(), Event::Failure, &facts());
        assert!(message.summary.starts_with("Pipeline nightly of workspace sales failed: no such table"));
        assert!(!message.details.contains("Trigger"), "{}", message.details);
    }
}
