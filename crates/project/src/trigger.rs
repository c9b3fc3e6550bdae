//! `triggers.yaml`: what an author wants to start the pipeline, as desired state.
//!
//! The file is never written back and holds no runtime state here; `last_enabled_at` is read because old files carry
//! it. Refuses to know when a schedule is due.

mod definition;

use crate::{
    TRIGGERS_MAX, YAML_BYTES_MAX,
    diagnostic::{Place, Report},
    files::{Folder, Refusal},
    keys::Keys,
    nearest, yaml,
};
use domain::trigger::Every;
use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt};

const KNOWN: [&str; 19] = [
    "name",
    "description",
    "schedule_type",
    "schedule_interval",
    "start_time",
    "end_time",
    "time_zone",
    "timezone",
    "event_patterns",
    "status",
    "last_enabled_at",
    "variables",
    "sla",
    "settings",
    "envs",
    "token",
    "repo_path",
    "pipeline_uuid",
    "id",
];
const INTERVALS: [&str; 7] = ["@once", "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@always_on"];
/// Triggers that Mage makes for itself and writes into the files of projects; here, runs that code asks for need none.
const OF_MAGE: [&str; 3] = ["GLOBAL_DATA_PRODUCT_TRIGGER", "GLOBAL_HOOK_TRIGGER", "API_TRIGGER_CREATED_FROM_CODE"];
/// The shortest token that a file may bring; Mage's have 32 characters.
const TOKEN_BYTES_MIN: usize = 16;
const ENVIRONMENTS: [&str; 5] = ["dev", "staging", "prod", "test", "test_mage"];

/// What starts a pipeline, as its author wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Unique in the pipeline: a renamed trigger is another trigger.
    pub name: String,
    /// Free text.
    pub description: String,
    /// What it waits for.
    pub kind: TriggerKind,
    /// `@once` … `@always_on`, or a cron expression; only with [`TriggerKind::Time`].
    pub schedule_interval: Option<String>,
    /// Not before this time.
    pub start_time: Option<Timestamp>,
    /// Not from this time on.
    #[serde(default)]
    pub end_time: Option<Timestamp>,
    /// The clock of the schedule, an IANA name; UTC when absent.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// Of an event trigger: one of them has to match.
    #[serde(default)]
    pub event_patterns: Vec<Value>,
    /// Whether it may fire; inactive unless the file says otherwise.
    pub active: bool,
    /// When Mage enabled it last.
    pub last_enabled_at: Option<Timestamp>,
    /// Override the pipeline's.
    pub variables: Map<String, Value>,
    /// Seconds after which a run is late.
    pub sla_s: Option<u32>,
    /// As written, such as `skip_if_previous_running`.
    pub settings: Map<String, Value>,
    /// Holds only in these environments; empty means in all.
    pub envs: Vec<String>,
    /// Of an API trigger.
    pub token: Option<Token>,
}

/// Mage's trigger types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// A call.
    Api,
    /// An event that matches.
    Event,
    /// The clock.
    Time,
}

/// The secret in the address of an API trigger; not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Trigger {
    /// Whether it holds in this environment (`production` means `prod`).
    #[must_use]
    pub fn holds_in(&self, environment: &str) -> bool {
        let current = if environment == "production" { "prod" } else { environment };
        self.envs.is_empty() || self.envs.iter().any(|name| name == current)
    }
}

/// Which triggers the file means and does not tell: what the cluster has of them stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// Those of these names; none in a good file.
    Named(BTreeSet<String>),
    /// It cannot be known which.
    Any,
}

/// The triggers of the file; a bad one is reported and left out, and never hides the others.
pub(crate) fn read(folder: &Folder, file: &str, report: &mut Report) -> (Vec<Trigger>, Unread) {
    let text = match folder.read(file, YAML_BYTES_MAX) {
        Ok(text) => text,
        Err(Refusal::Absent) => return (Vec::new(), Unread::Named(BTreeSet::new())),
        Err(refusal) => {
            report.error(Place::file(), refusal.to_string(), refusal.remedy());
            return (Vec::new(), Unread::Any);
        }
    };
    let document = match yaml::parse(&text) {
        Ok(document) => document,
        Err(broken) => {
            let remedy = "correct the YAML at this line; until then the pipeline's triggers stay as they are";
            report.error(Place::new("", broken.line), broken.message, remedy);
            return (Vec::new(), Unread::Any);
        }
    };
    let Some(keys) = Keys::of(&document.root, "", report) else { return (Vec::new(), Unread::Any) };
    let errors = report.errors();
    let nodes = keys.nodes("triggers", report);
    if nodes.len() > TRIGGERS_MAX {
        let message = format!("{} triggers; only the first {TRIGGERS_MAX} are read", nodes.len());
        report.error(keys.place("triggers"), message, "split the pipeline");
    }
    // What is no list, or a longer one than is read, does not tell all names.
    let mut all_named = report.errors() == errors;
    let (mut read, mut names, mut bad) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (path, node) in nodes.into_iter().take(TRIGGERS_MAX) {
        let name = Keys::of(node, &path, report).and_then(|keys| Some((name(&keys, report)?, keys)));
        let Some((name, keys)) = name else {
            all_named = false;
            continue;
        };
        if names.contains(&name) {
            let message = format!("a second trigger is named {name:?}; it is left out");
            report.error(keys.place("name"), message, "give each trigger its own name");
            continue;
        }
        // As if it were not there: what was deployed under its name fires no more.
        if never_fires(&name, &keys, report) {
            continue;
        }
        match trigger(name.clone(), &keys, report) {
            Some(trigger) => {
                names.insert(name);
                read.push(trigger);
            }
            None => drop(bad.insert(name)),
        }
    }
    (read, if all_named { Unread::Named(&bad - &names) } else { Unread::Any })
}

fn name(keys: &Keys<'_>, report: &mut Report) -> Option<String> {
    let name = keys.text("name", report).filter(|name| !name.trim().is_empty());
    let Some(name) = name else {
        report.error(keys.here(), "the trigger has no name", "add a `name`; it identifies the trigger");
        return None;
    };
    if let Err(invalid) = domain::trigger::check_name(&name) {
        report.error(
            keys.place("name"),
            format!("the trigger's name {invalid}"),
            "shorten it, or leave such characters out",
        );
        return None;
    }
    Some(name)
}

/// A schedule without an interval: Mage's editor writes such drafts, and Mage itself one for data products. One that a person
/// made active is a mistake.
fn never_fires(name: &str, keys: &Keys<'_>, report: &mut Report) -> bool {
    let written = |key: &str| keys.node(key).map(yaml::Node::to_json);
    let is_schedule = written("schedule_type").is_none_or(|kind| kind == "time");
    let has_interval = written("schedule_interval").is_some_and(|interval| interval != "");
    let is_meant = written("status").is_some_and(|status| status == "active") && !OF_MAGE.contains(&name);
    if !is_schedule || has_interval || is_meant {
        return false;
    }
    let message = "the schedule has no interval, so it never fires and is left out";
    report.warn(keys.here(), message, "add `schedule_interval`, such as @daily, or remove the trigger");
    true
}

fn trigger(name: String, keys: &Keys<'_>, report: &mut Report) -> Option<Trigger> {
    let errors = report.errors();
    let kind = kind(keys, report);
    let trigger = Trigger {
        name,
        description: keys.text("description", report).unwrap_or_default(),
        kind: kind.unwrap_or(TriggerKind::Time),
        schedule_interval: interval(keys, kind, report),
        start_time: instant(keys, "start_time", report),
        end_time: instant(keys, "end_time", report),
        time_zone: keys.text("time_zone", report).or_else(|| keys.text("timezone", report)),
        event_patterns: keys.nodes("event_patterns", report).into_iter().map(|(_, node)| node.to_json()).collect(),
        active: active(keys, report),
        last_enabled_at: instant(keys, "last_enabled_at", report),
        variables: keys.object("variables", report),
        sla_s: keys.positive("sla", report),
        settings: settings(keys, report),
        envs: envs(keys, report),
        token: token(keys, kind, report),
    };
    keys.warn_unknown(&KNOWN, report);
    if report.errors() == errors {
        check(keys, &trigger, report);
    }
    (report.errors() == errors).then_some(trigger)
}

fn kind(keys: &Keys<'_>, report: &mut Report) -> Option<TriggerKind> {
    let written = keys.text("schedule_type", report);
    match written.as_deref() {
        Some("api") => Some(TriggerKind::Api),
        Some("event") => Some(TriggerKind::Event),
        Some("time") | None => Some(TriggerKind::Time),
        Some(other) => {
            let remedy = nearest::choose(other, &["api", "event", "time"]);
            report.error(keys.place("schedule_type"), format!("the trigger type {other:?} is not known"), remedy);
            None
        }
    }
}

fn active(keys: &Keys<'_>, report: &mut Report) -> bool {
    match keys.text("status", report).as_deref() {
        Some("active") => true,
        Some("inactive") | None => false,
        Some(other) => {
            let remedy = nearest::choose(other, &["active", "inactive"]);
            report.error(keys.place("status"), format!("the status {other:?} is not known"), remedy);
            false
        }
    }
}

fn interval(keys: &Keys<'_>, kind: Option<TriggerKind>, report: &mut Report) -> Option<String> {
    let written = keys.text("schedule_interval", report).map(|text| text.trim().to_owned());
    let written = written.filter(|text| !text.is_empty());
    if kind != Some(TriggerKind::Time) {
        return written;
    }
    let Some(interval) = written else {
        report.error(
            keys.here(),
            "the schedule has no interval",
            "add `schedule_interval`, such as @daily or 0 6 * * 1",
        );
        return None;
    };
    let Err(invalid) = Every::parse(&interval) else { return Some(interval) };
    let message =
        format!("the interval {:?} is not understood: {invalid}", interval.chars().take(60).collect::<String>());
    let remedy = nearest::nearest(&interval, INTERVALS)
        .map_or_else(|| "write five cron fields, such as 0 6 * * 1".to_owned(), |name| format!("did you mean {name}?"));
    report.error(keys.place("schedule_interval"), message, remedy);
    None
}

/// Whether it means something as a whole. What Mage takes and ignores is only said.
fn check(keys: &Keys<'_>, trigger: &Trigger, report: &mut Report) {
    if let Err(invalid) = trigger.definition() {
        let (place, remedy) = match invalid.field.as_str() {
            "schedule" => (keys.place("schedule_interval"), "write @daily, or five cron fields such as 0 6 * * 1"),
            "time_zone" => (keys.place("time_zone"), "write an IANA name such as Europe/Berlin"),
            "start_time" | "end_time" | "variables" | "description" => (keys.place(&invalid.field), "correct it"),
            "sla" => (keys.place("sla"), "write seconds"),
            field if field.starts_with("event") => {
                (keys.place("event_patterns"), "give each field a list of what may match")
            }
            _ => (keys.place("settings"), "correct the setting"),
        };
        let field = if invalid.field.is_empty() { String::new() } else { format!("{} ", invalid.field) };
        report.error(place, format!("the trigger cannot be used: {field}{invalid}"), remedy);
    }
    if trigger.kind == TriggerKind::Event && trigger.event_patterns.is_empty() {
        let message = "the trigger has no patterns, so no event starts it";
        report.warn(keys.here(), message, "add `event_patterns`, or edit it by `orrery triggers edit`");
    }
}

fn instant(keys: &Keys<'_>, key: &str, report: &mut Report) -> Option<Timestamp> {
    let written = keys.text(key, report)?;
    let parsed = parse_instant(written.trim());
    if parsed.is_none() {
        let message = format!("the time {written:?} is not understood");
        report.error(keys.place(key), message, "write it as 2024-05-31 18:00:00+00:00");
    }
    parsed
}

/// With an offset, or in UTC, as Mage takes a time without one.
fn parse_instant(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let civil = text.parse::<civil::DateTime>().ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// One that could be guessed is no token, and the trigger is better off without.
fn token(keys: &Keys<'_>, kind: Option<TriggerKind>, report: &mut Report) -> Option<Token> {
    let token = Token(keys.text("token", report)?);
    if kind == Some(TriggerKind::Api) && token.0.len() < TOKEN_BYTES_MIN {
        let message = format!("the token is shorter than {TOKEN_BYTES_MIN} characters and does not count");
        report.warn(keys.place("token"), message, "leave it out and make one by `orrery triggers token`");
        return None;
    }
    Some(token)
}

fn envs(keys: &Keys<'_>, report: &mut Report) -> Vec<String> {
    let listed = keys.list("envs", report);
    for name in listed.iter().filter(|env| !ENVIRONMENTS.contains(&env.name.as_str())) {
        let message = format!("the environment {:?} is none of Mage's", name.name);
        report.warn(name.place.clone(), message, nearest::choose(&name.name, &ENVIRONMENTS));
    }
    listed.into_iter().map(|env| env.name).collect()
}

fn settings(keys: &Keys<'_>, report: &mut Report) -> Map<String, Value> {
    if let Some(settings) = keys.map("settings", report) {
        for key in ["pipeline_run_limit", "timeout"] {
            settings.number(key, report);
        }
        for key in
            ["skip_if_previous_running", "allow_blocks_to_fail", "create_initial_pipeline_run", "landing_time_enabled"]
        {
            settings.flag(key, report);
        }
    }
    keys.object("settings", report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(yaml: &str) -> (Vec<Trigger>, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("triggers.yaml"), yaml).unwrap();
        let mut report = Report::new("triggers.yaml", "p");
        let (triggers, _) = read(&Folder::open(root.path()).unwrap(), "triggers.yaml", &mut report);
        (triggers, report.finish().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_cannot_be_read_is_not_gone() {
        let named = |names: &[&str]| Unread::Named(names.iter().map(|name| (*name).to_owned()).collect());
        for (yaml, expect) in [
            ("triggers: []", named(&[])),
            ("triggers: [{name: a, schedule_type: api}]", named(&[])),
            ("triggers: [{name: a}, {name: b, schedule_type: api}]", named(&[])),
            ("triggers: [{name: a, schedule_interval: '61 * * * *'}, {name: b, schedule_type: api}]", named(&["a"])),
            ("triggers: [{name: a, schedule_interval: no}, {name: a, schedule_type: api}]", named(&[])),
            ("triggers: [{schedule_type: api}, {name: b, schedule_type: api}]", Unread::Any),
            ("triggers: [5]", Unread::Any),
            ("triggers: {name: a}", Unread::Any),
            ("- name: a", Unread::Any),
            ("triggers: [{name: a, schedule_type: api}", Unread::Any),
        ] {
            let root = tempfile::tempdir().unwrap();
            std::fs::write(root.path().join("triggers.yaml"), yaml).unwrap();
            let mut report = Report::new("triggers.yaml", "p");
            let (_, unread) = read(&Folder::open(root.path()).unwrap(), "triggers.yaml", &mut report);
            assert_eq!(unread, expect, "{yaml}");
        }
        let root = tempfile::tempdir().unwrap();
        let absent = read(&Folder::open(root.path()).unwrap(), "triggers.yaml", &mut Report::new("triggers.yaml", "p"));
        assert_eq!(absent, (Vec::new(), named(&[])), "a file that is gone wants no trigger");
    }

    #[test]
    fn a_trigger_as_mage_writes_it() {
        let (triggers, found) = check(
            "triggers:\n- description: null\n  envs: []\n  last_enabled_at: 2023-08-02 22:38:41.124518\n  name: nightly\n  \
             pipeline_uuid: p\n  schedule_interval: '@daily'\n  schedule_type: time\n  settings: null\n  sla: 3600\n  \
             start_time: 2023-08-01 00:00:00+02:00\n  status: active\n  token: abc\n  variables: {n: 1}\n",
        );
        assert!(found.is_empty(), "{found:?}");
        let trigger = &triggers[0];
        assert!(trigger.active);
        assert_eq!(trigger.start_time.map(|t| t.to_string()).as_deref(), Some("2023-07-31T22:00:00Z"));
        assert_eq!(trigger.last_enabled_at.map(|t| t.to_string()).as_deref(), Some("2023-08-02T22:38:41.124518Z"));
        assert_eq!((trigger.sla_s, trigger.variables["n"].as_i64()), (Some(3600), Some(1)));
        assert!(!format!("{trigger:?}").contains("abc"));
        let copy: Trigger = serde_json::from_value(serde_json::to_value(trigger).unwrap()).unwrap();
        assert_eq!(&copy, trigger);
    }

    #[test]
    fn a_schedule_without_an_interval_is_a_draft_unless_it_is_active() {
        let (triggers, found) = check(
            "triggers:\n- {name: GLOBAL_DATA_PRODUCT_TRIGGER, schedule_type: time, schedule_interval: null, status: active}\n\
             - {name: draft, schedule_interval: ''}\n- {name: meant, schedule_type: time, status: active}\n\
             - {name: other, schedule_type: api, schedule_interval: null, status: active}\n",
        );
        assert_eq!(triggers.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["other"]);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(
            found[..2].iter().all(|said| said.starts_with("warning") && said.contains("never fires")),
            "{found:#?}"
        );
        assert!(found[2].starts_with("error: triggers.yaml:4 (triggers[2])"), "{found:#?}");
    }

    #[test]
    fn a_bad_trigger_does_not_hide_the_others() {
        let (triggers, found) = check(
            "triggers:\n- {name: a, schedule_interval: '@dayly'}\n- {name: b, schedule_interval: 0 6 * * 1}\n\
             - {name: b, schedule_interval: '@once'}\n- {name: c, schedule_type: tiem, schedule_interval: '@once'}\n\
             - {name: d, schedule_type: api, start_time: soon}\n- {name: e, schedule_type: api, status: on hold}\n- {}\n",
        );
        assert_eq!(triggers.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(found.len(), 6, "{found:#?}");
        assert!(found[0].contains("triggers.yaml:2 (triggers[0].schedule_interval)") && found[0].contains("@daily"));
    }

    #[test]
    fn environments() {
        let (triggers, _) = check("triggers: [{name: a, schedule_type: api, envs: [prod]}]");
        let in_env = |name| triggers[0].holds_in(name);
        assert!(in_env("production") && in_env("prod") && !in_env("staging") && !in_env("dev"));
    }
}
