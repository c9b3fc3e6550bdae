//! `notification_config` of a Mage project, a pipeline, or the API: on what to tell, whom, and in which words.
//!
//! Keys are Mage's; `webhook_config` is ours. A channel that is not filled in is passed over, as Mage does.

use crate::channel::{Channel, Email, Webhook};
use domain::references;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Characters of one template.
const TEMPLATE_CHARS_MAX: usize = 8_192;
/// Receivers of one e-mail.
const RECEIVERS_MAX: usize = 100;
/// Headers of one webhook.
const HEADERS_MAX: usize = 20;
/// Keys whose values are shown to nobody.
const SECRET_KEYS: [&str; 7] = ["webhook_url", "url", "secret", "smtp_password", "smtp_user", "api_key", "headers"];
/// What a secret is replaced by.
const HIDDEN: &str = "***";
/// What an address is read as that is hidden.
const SOMEWHERE: &str = "https://hidden.invalid/";

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A run failed.
    Failure,
    /// A run completed.
    Success,
    /// A run did not end in its trigger's time.
    PassedSla,
    /// Somebody wants to see a message.
    Test,
}

impl Event {
    /// As the message templates and the database name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Success => "success",
            Self::PassedSla => "passed_sla",
            Self::Test => "test",
        }
    }

    /// The event of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Failure, Self::Success, Self::PassedSla, Self::Test].into_iter().find(|event| event.as_str() == name)
    }
}

/// The words of one event; what is absent has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    /// One line.
    pub title: Option<String>,
    /// What happened.
    pub summary: Option<String>,
    /// All that is known.
    pub details: Option<String>,
}

/// Whom to tell, on what, in which words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    alert_on: Vec<Event>,
    /// By key, such as `slack_config`.
    pub channels: BTreeMap<String, Channel>,
    templates: BTreeMap<&'static str, Template>,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {why}")]
pub struct ConfigError {
    /// Where, such as `slack_config.webhook_url`.
    pub key: String,
    /// What it must be.
    pub why: String,
}

fn wrong<T>(key: &str, why: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError { key: key.to_owned(), why: why.into() })
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// With the first key that cannot be used.
    pub fn parse(config: &Map<String, Value>) -> Result<Self, ConfigError> {
        let mut read = Self { alert_on: vec![Event::Failure, Event::PassedSla], ..Self::default() };
        for (key, value) in config {
            match key.as_str() {
                "alert_on" => read.alert_on = alert_on(value)?,
                "message_templates" => read.templates = templates(value)?,
                _ if value.is_null() => {}
                _ => {
                    if let Some(channel) = channel(key, object(key, value)?)? {
                        read.channels.insert(key.clone(), channel);
                    }
                }
            }
        }
        Ok(read)
    }

    /// Reads what [`redact`] has left of a configuration: on what it tells, and by which channels. Nothing can be sent by it.
    ///
    /// # Errors
    /// With the first key that cannot be used.
    pub fn outline(redacted: &Map<String, Value>) -> Result<Self, ConfigError> {
        let filled = redacted.iter().map(|(key, value)| match value {
            Value::Object(channel) => (key.clone(), Value::Object(fill(channel))),
            other => (key.clone(), other.clone()),
        });
        Self::parse(&filled.collect())
    }

    /// Whether this event is told. A test always is.
    #[must_use]
    pub fn tells(&self, event: Event) -> bool {
        event == Event::Test || self.alert_on.contains(&event)
    }

    /// The words for an event.
    #[must_use]
    pub fn template(&self, event: Event) -> Template {
        self.templates.get(event.as_str()).cloned().unwrap_or_default()
    }
}

/// The configuration with every secret replaced.
#[must_use]
pub fn redact(config: &Value) -> Value {
    match config {
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), hide(key, value))).collect()),
        Value::Array(list) => Value::Array(list.iter().map(redact).collect()),
        other => other.clone(),
    }
}

fn hide(key: &str, value: &Value) -> Value {
    let is_empty = value.is_null() || value.as_str().is_some_and(str::is_empty);
    if SECRET_KEYS.contains(&key) && !is_empty { HIDDEN.into() } else { redact(value) }
}

/// A channel whose hidden values are of the kind that they were.
fn fill(channel: &Map<String, Value>) -> Map<String, Value> {
    let is_hidden = |value: &Value| value.as_str() == Some(HIDDEN);
    let filled = channel.iter().filter(|(key, value)| *key != "headers" || !is_hidden(value)).map(|(key, value)| {
        let is_address = matches!(key.as_str(), "webhook_url" | "url") && is_hidden(value);
        (key.clone(), if is_address { SOMEWHERE.into() } else { value.clone() })
    });
    filled.collect()
}

fn object<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, ConfigError> {
    value.as_object().map_or_else(|| wrong(key, "must be a map"), Ok)
}

fn alert_on(value: &Value) -> Result<Vec<Event>, ConfigError> {
    let Some(list) = value.as_array() else { return wrong("alert_on", "must be a list") };
    let event = |value: &Value| match value.as_str() {
        Some("trigger_failure") => Ok(Event::Failure),
        Some("trigger_success") => Ok(Event::Success),
        Some("trigger_passed_sla") => Ok(Event::PassedSla),
        _ => wrong("alert_on", "may hold trigger_failure, trigger_success and trigger_passed_sla"),
    };
    list.iter().map(event).collect()
}

fn templates(value: &Value) -> Result<BTreeMap<&'static str, Template>, ConfigError> {
    let mut templates = BTreeMap::new();
    if value.is_null() {
        return Ok(templates);
    }
    for (name, words) in object("message_templates", value)? {
        let place = format!("message_templates.{name}");
        let Some(event) = Event::parse(name) else {
            return wrong(&place, "is no event; write success, failure or passed_sla");
        };
        let words = object(&place, words)?;
        let word = |key: &str| text(&place, words, key);
        let template = Template { title: word("title")?, summary: word("summary")?, details: word("details")? };
        crate::message::check(&template).map_err(|why| ConfigError { key: place.clone(), why })?;
        templates.insert(event.as_str(), template);
    }
    Ok(templates)
}

/// A text that is there and not empty.
fn text(place: &str, map: &Map<String, Value>, key: &str) -> Result<Option<String>, ConfigError> {
    let key_of = || format!("{place}.{key}");
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() > TEMPLATE_CHARS_MAX => {
            wrong(&key_of(), format!("must have at most {TEMPLATE_CHARS_MAX} characters"))
        }
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(_) => wrong(&key_of(), "must be text"),
    }
}

fn channel(key: &str, map: &Map<String, Value>) -> Result<Option<Channel>, ConfigError> {
    let url = |name: &str| match text(key, map, name)? {
        // Judged when the message is sent, as every address is.
        Some(url) if references::has(&url) => Ok(Some(url)),
        Some(url) => crate::address::check_url(&url)
            .map(|()| Some(url))
            .map_err(|why| ConfigError { key: format!("{key}.{name}"), why }),
        None => Ok(None),
    };
    Ok(match key {
        "slack_config" => url("webhook_url")?.map(Channel::Slack),
        "teams_config" => url("webhook_url")?.map(Channel::Teams),
        "discord_config" => url("webhook_url")?.map(Channel::Discord),
        "google_chat_config" => url("webhook_url")?.map(Channel::GoogleChat),
        "telegram_config" => url("webhook_url")?.map(Channel::Telegram),
        "webhook_config" => match url("url")? {
            Some(url) => {
                Some(Channel::Webhook(Webhook { url, secret: text(key, map, "secret")?, headers: headers(map)? }))
            }
            None => None,
        },
        "email_config" => email(map)?.map(Channel::Email),
        "opsgenie_config" if text(key, map, "api_key")?.is_none() => None,
        _ => {
            let known = "slack_config, teams_config, discord_config, google_chat_config, telegram_config, \
                         webhook_config and email_config";
            return wrong(key, format!("is no channel that messages can be sent by; there are {known}"));
        }
    })
}

fn headers(map: &Map<String, Value>) -> Result<Vec<(String, String)>, ConfigError> {
    const PLACE: &str = "webhook_config.headers";
    let Some(headers) = map.get("headers").filter(|headers| !headers.is_null()) else { return Ok(Vec::new()) };
    let headers = object(PLACE, headers)?;
    if headers.len() > HEADERS_MAX {
        return wrong(PLACE, format!("may hold at most {HEADERS_MAX} headers"));
    }
    let header = |(name, value): (&String, &Value)| {
        let value = value.as_str().unwrap_or_default();
        let usable = reqwest::header::HeaderName::try_from(name).is_ok()
            && reqwest::header::HeaderValue::try_from(value).is_ok()
            && !["host", "content-length", "transfer-encoding", "connection"]
                .contains(&name.to_ascii_lowercase().as_str());
        if usable { Ok((name.clone(), value.to_owned())) } else { wrong(PLACE, "must map names of headers to texts") }
    };
    headers.iter().map(header).collect()
}

fn email(map: &Map<String, Value>) -> Result<Option<Email>, ConfigError> {
    const PLACE: &str = "email_config";
    let (Some(host), Some(from)) = (text(PLACE, map, "smtp_host")?, text(PLACE, map, "smtp_mail_from")?) else {
        return Ok(None);
    };
    let flag = |key: &str, default: bool| map.get(key).and_then(Value::as_bool).unwrap_or(default);
    let to: Vec<String> = match map.get("to_emails") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().filter_map(|to| Some(to.as_str()?.trim().to_owned())).collect(),
        Some(_) => return wrong("email_config.to_emails", "must be a list of addresses"),
    };
    if to.is_empty() {
        return Ok(None);
    }
    if to.len() > RECEIVERS_MAX {
        return wrong("email_config.to_emails", format!("may hold at most {RECEIVERS_MAX} addresses"));
    }
    for address in to.iter().chain([&from]) {
        if !references::has(address) && address.parse::<lettre::message::Mailbox>().is_err() {
            return wrong(PLACE, "holds something that is no e-mail address in smtp_mail_from or to_emails");
        }
    }
    let port = match map.get("smtp_port") {
        None | Some(Value::Null) => 587,
        Some(port) => match port.as_u64().or_else(|| port.as_str()?.parse().ok()).and_then(|p| u16::try_from(p).ok()) {
            Some(port) if port > 0 => port,
            _ => return wrong("email_config.smtp_port", "must be a port"),
        },
    };
    Ok(Some(Email {
        host,
        port,
        from,
        to,
        user: text(PLACE, map, "smtp_user")?,
        password: text(PLACE, map, "smtp_password")?,
        starttls: flag("smtp_starttls", true),
        tls: flag("smtp_ssl", false),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(config: Value) -> Result<Config, ConfigError> {
        Config::parse(config.as_object().unwrap())
    }

    #[test]
    fn mages_form_is_read_and_empty_channels_are_passed_over() {
        let config = parse(json!({
            "alert_on": ["trigger_success"],
            "slack_config": { "webhook_url": "https://hooks.example.com/a" },
            "teams_config": { "webhook_url": "" },
            "discord_config": null,
            "email_config": { "smtp_host": "mail.example.com", "smtp_mail_from": "a@example.com", "smtp_port": "25",
                              "to_emails": ["b@example.com"] },
            "opsgenie_config": { "url": "", "api_key": "" },
            "message_templates": { "failure": { "title": "{pipeline_uuid} broke" } },
        }))
        .unwrap();
        assert_eq!(config.channels.keys().collect::<Vec<_>>(), ["email_config", "slack_config"]);
        assert!(config.tells(Event::Success) && !config.tells(Event::Failure) && config.tells(Event::Test));
        assert!(parse(json!({})).unwrap().tells(Event::Failure), "failures and passed SLAs are told by default");
        let Channel::Email(email) = &config.channels["email_config"] else { panic!() };
        assert_eq!((email.port, email.starttls, email.tls), (25, true, false));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (config, key) in [
            (json!({ "slack_config": { "webhook_url": "ftp://x" } }), "slack_config.webhook_url"),
            (json!({ "slack_config": { "webhook_url": "https://user:pw@x/" } }), "slack_config.webhook_url"),
            (json!({ "slack_config": { "webhook_url": 3 } }), "slack_config.webhook_url"),
            (json!({ "pager_config": {} }), "pager_config"),
            (json!({ "alert_on": ["always"] }), "alert_on"),
            (json!({ "message_templates": { "failure": { "title": "{{ broken" } } }), "message_templates.failure"),
            (
                json!({ "webhook_config": { "url": "https://x/", "headers": { "host": "y" } } }),
                "webhook_config.headers",
            ),
            (
                json!({ "email_config": { "smtp_host": "m", "smtp_mail_from": "a@b.c\r\nBcc: x@y.z", "to_emails": ["a@b.c"] } }),
                "email_config",
            ),
        ] {
            assert_eq!(parse(config.clone()).unwrap_err().key, key, "{config}");
        }
    }

    #[test]
    fn whom_to_tell_is_known_without_secrets() {
        let whole = json!({
            "alert_on": ["trigger_success"],
            "slack_config": { "webhook_url": "https://hooks.example.com/T0/SECRET" },
            "teams_config": { "webhook_url": "" },
            "telegram_config": { "webhook_url": "{{ mage_secret_var('TELEGRAM') }}" },
            "webhook_config": { "url": "https://u/", "secret": "SECRET", "headers": { "authorization": "SECRET" } },
            "email_config": { "smtp_host": "m", "smtp_mail_from": "a@example.com", "to_emails": ["b@example.com"],
                              "smtp_user": "u", "smtp_password": "SECRET" },
        });
        let shown = redact(&whole);
        let (whole, outline) = (parse(whole).unwrap(), Config::outline(shown.as_object().unwrap()).unwrap());
        assert_eq!(outline.channels.keys().collect::<Vec<_>>(), whole.channels.keys().collect::<Vec<_>>());
        assert!(outline.tells(Event::Success) && !outline.tells(Event::Failure));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = redact(&json!({
            "slack_config": { "webhook_url": "https://hooks.example.com/T0/SECRET" },
            "email_config": { "smtp_password": "SECRET", "smtp_host": "m", "smtp_user": "" },
            "webhook_config": { "url": "https://u/", "secret": "SECRET", "headers": { "authorization": "SECRET" } },
        }));
        assert!(!shown.to_string().contains("SECRET"), "{shown}");
        assert_eq!(
            (shown["email_config"]["smtp_host"].as_str(), &shown["email_config"]["smtp_user"]),
            (Some("m"), &json!(""))
        );
    }
}
