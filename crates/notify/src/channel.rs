//! What each channel is told in its own form. Pure.

use crate::{
    config::Event,
    message::{Facts, Message, cut},
};
use serde_json::{Value, json};

/// What Discord takes at most.
const DISCORD_CHARS_MAX: usize = 1_900;
/// What Slack shows of one section, about.
const SECTION_CHARS_MAX: usize = 2_900;

/// Where messages go. URLs of chat rooms are secrets: whoever has one can write there.
#[derive(Clone, PartialEq, Eq)]
pub enum Channel {
    /// An incoming webhook.
    Slack(String),
    /// The URL of a workflow that posts cards.
    Teams(String),
    /// A webhook.
    Discord(String),
    /// A webhook of a space.
    GoogleChat(String),
    /// A URL of the bot's `sendMessage`, with its chat.
    Telegram(String),
    /// Anything that takes JSON.
    Webhook(Webhook),
    /// By SMTP.
    Email(Email),
}

/// Anything that takes JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where.
    pub url: String,
    /// Of the signature; none means unsigned.
    pub secret: Option<String>,
    /// Sent along.
    pub headers: Vec<(String, String)>,
}

/// A mail server, and whom it is to deliver to.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The sender.
    pub from: String,
    /// Receivers.
    pub to: Vec<String>,
    /// Without one, nobody logs in.
    pub user: Option<String>,
    /// Of the user.
    pub password: Option<String>,
    /// Encrypt after the greeting.
    pub starttls: bool,
    /// Encrypt from the first byte.
    pub tls: bool,
}

impl std::fmt::Debug for Channel {
    /// The kind alone: the rest is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Slack(_) => "Slack",
            Self::Teams(_) => "Teams",
            Self::Discord(_) => "Discord",
            Self::GoogleChat(_) => "GoogleChat",
            Self::Telegram(_) => "Telegram",
            Self::Webhook(_) => "Webhook",
            Self::Email(_) => "Email",
        })
    }
}

impl Channel {
    /// The host that takes messages of this channel; who shares it waits for each other.
    #[must_use]
    pub fn receiver(&self) -> String {
        let host = |url: &str| {
            let url = reqwest::Url::parse(url).ok();
            url.and_then(|url| Some(url.host_str()?.to_owned())).unwrap_or_default()
        };
        match self {
            Self::Slack(url) | Self::Teams(url) | Self::Discord(url) | Self::GoogleChat(url) | Self::Telegram(url) => {
                host(url)
            }
            Self::Webhook(webhook) => host(&webhook.url),
            Self::Email(email) => email.host.clone(),
        }
    }

    /// The URL and the JSON document of a message; `None` for e-mail.
    pub(crate) fn request(&self, key: &str, message: &Message, facts: &Facts) -> Option<(&str, Value)> {
        let Message { event, title, summary, details } = message;
        Some(match self {
            Self::Slack(url) => (url, slack(message)),
            Self::Teams(url) => (url, teams(message, &facts.pipeline_run_url)),
            Self::Discord(url) => {
                let text = cut(&format!("**{title}**\n{summary}\n{details}"), DISCORD_CHARS_MAX);
                // No name in a message may call anybody.
                (url, json!({ "content": text, "allowed_mentions": { "parse": [] } }))
            }
            Self::GoogleChat(url) => (url, json!({ "text": format!("*{title}*\n{summary}\n{details}") })),
            Self::Telegram(url) => (url, json!({ "text": format!("{title}\n{summary}\n{details}") })),
            Self::Webhook(webhook) => {
                let document = json!({
                    "id": key, "event": event.as_str(), "title": title, "summary": summary, "details": details,
                    "facts": facts,
                });
                (&webhook.url, document)
            }
            Self::Email(_) => return None,
        })
    }
}

fn slack(message: &Message) -> Value {
    // The three characters that Slack's markup gives a meaning.
    let plain = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let section = |text: String| json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(&text, SECTION_CHARS_MAX) } });
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&message.title, 140) } }),
        section(plain(&message.summary)),
    ];
    if !message.details.is_empty() {
        blocks.push(section(format!(
            "```{}```",
            plain(&cut(&message.details, SECTION_CHARS_MAX - 100)).replace("```", "'''")
        )));
    }
    json!({ "text": plain(&message.title), "blocks": blocks })
}

fn teams(message: &Message, url: &str) -> Value {
    let colour = match message.event {
        Event::Failure => "attention",
        Event::PassedSla => "warning",
        Event::Success => "good",
        Event::Test => "default",
    };
    let mut body = vec![
        json!({ "type": "TextBlock", "text": message.title, "weight": "bolder", "size": "medium", "color": colour, "wrap": true }),
        json!({ "type": "TextBlock", "text": message.summary, "wrap": true }),
    ];
    if !message.details.is_empty() {
        body.push(json!({ "type": "TextBlock", "text": message.details, "wrap": true, "fontType": "monospace" }));
    }
    let actions = if url.is_empty() {
        json!([])
    } else {
        json!([{ "type": "Action.OpenUrl", "title": "Open the run", "url": url }])
    };
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": body, "actions": actions,
    });
    json!({ "type": "message", "attachments": [
        { "contentType": "application/vnd.microsoft.card.adaptive", "content": card },
    ] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_wrote_is_no_markup() {
        let message = Message {
            event: Event::Failure,
            title: "t".into(),
            summary: "<!channel> & <@U1>".into(),
            details: "a```b".into(),
        };
        let told = slack(&message).to_string();
        assert!(told.contains("&lt;!channel&gt; &amp;") && !told.contains("<@U1>") && told.contains("a'''b"), "{told}");
    }

    #[test]
    fn a_channel_does_not_show_its_secret() {
        let channel = Channel::Slack("https://hooks.example.com/SECRET".into());
        assert_eq!(format!("{channel:?}"), "Slack");
    }
}
