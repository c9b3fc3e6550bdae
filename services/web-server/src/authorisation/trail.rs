//! What an act leaves in the trail: who, what, on what, and how it ended. Refuses to tell a field that its row does not
//! name.

use super::{Authority, Grant, Rule};
use crate::fault::Fault;
use crate::identity::{Caller, Identity};
use domain::ErrorKind;
use rpc::status::Problem;
use runtime::exit::chain;
use serde_json::{Map, Value};
use std::collections::HashMap;
use store::Store;
use store::audit::{self, NewEntry, Outcome};
use store::targets::Target;
use store::users::User;

/// The longest text of one field.
const TEXT_CHARS_MAX: usize = 300;

impl Authority {
    /// Adds the entry of an act before its answer is given. That it cannot be added is told in the log: what was done is
    /// done.
    pub(super) async fn record(
        &self,
        rule: &Rule,
        identity: &Identity,
        addressed: &HashMap<&'static str, String>,
        grant: Option<&Grant>,
        problem: Option<Problem>,
    ) {
        let entry = entry(rule, identity, addressed, grant, problem);
        if let Err(error) = self.add(&entry).await {
            tracing::error!(error = chain(&error), method = entry.method, actor = entry.actor, "the trail has a gap");
        }
    }

    /// Adds the entry of a browser that signed in, or tried to.
    pub(crate) async fn record_sign_in(&self, email: &str, outcome: Result<&User, &Fault>) {
        let entry = NewEntry {
            user: outcome.ok().map(|user| user.id),
            actor: short(email),
            via: "none".to_owned(),
            method: "/auth/session".to_owned(),
            project: None,
            workspace: None,
            object: String::new(),
            outcome: match outcome {
                Ok(_) => Outcome::Ok,
                Err(fault) if is_denial(fault.0.kind) => Outcome::Denied,
                Err(_) => Outcome::Failed,
            },
            reason: outcome.err().map(|fault| fault.0.reason.clone()).unwrap_or_default(),
            detail: Value::Object(Map::new()),
        };
        if let Err(error) = self.add(&entry).await {
            tracing::error!(error = chain(&error), method = entry.method, actor = entry.actor, "the trail has a gap");
        }
    }

    async fn add(&self, entry: &NewEntry) -> Result<(), store::Error> {
        audit::insert(&self.store.client().await?, entry).await
    }
}

/// One act of a request that does many.
pub(crate) struct Trail<'a> {
    /// As if it had been called alone.
    pub(crate) method: &'a str,
    /// The workspace's name, as it was given.
    pub(crate) workspace: &'a str,
    /// The workspace, when the caller may act on it.
    pub(crate) target: Option<&'a Target>,
    /// Why it was not done.
    pub(crate) problem: Option<&'a Problem>,
}

impl Trail<'_> {
    /// Adds its entry. That it cannot be added is told in the log: what was done is done.
    pub(crate) async fn record(&self, store: &Store, caller: &Caller) {
        let entry = NewEntry {
            user: Some(caller.user.id),
            actor: caller.user.email.clone(),
            via: caller.via.to_string(),
            method: self.method.to_owned(),
            project: self.target.map(|target| target.project),
            workspace: self.target.and_then(|target| target.workspace),
            object: format!("workspace {}", short(self.workspace)),
            outcome: outcome(self.problem, self.target.is_some()),
            reason: self.problem.map(|problem| problem.reason.clone()).unwrap_or_default(),
            detail: Value::Object(Map::new()),
        };
        let added = match store.client().await {
            Ok(db) => audit::insert(&db, &entry).await,
            Err(error) => Err(error),
        };
        if let Err(error) = added {
            tracing::error!(error = chain(&error), method = entry.method, actor = entry.actor, "the trail has a gap");
        }
    }
}

/// How an act ended that was granted or not.
fn outcome(problem: Option<&Problem>, granted: bool) -> Outcome {
    match problem {
        None => Outcome::Ok,
        Some(problem) if !granted || is_denial(problem.kind) => Outcome::Denied,
        Some(_) => Outcome::Failed,
    }
}

fn entry(
    rule: &Rule,
    identity: &Identity,
    addressed: &HashMap<&'static str, String>,
    grant: Option<&Grant>,
    problem: Option<Problem>,
) -> NewEntry {
    let outcome = outcome(problem.as_ref(), grant.is_some());
    let (user, actor, via) = match identity {
        Identity::Person(caller) => (Some(caller.user.id), caller.user.email.clone(), caller.via.to_string()),
        Identity::Nobody => (None, short(addressed.get("email").map_or("", String::as_str)), "none".to_owned()),
    };
    let target = grant.and_then(|grant| grant.target.as_ref());
    NewEntry {
        user,
        actor,
        via,
        method: rule.row.path.trim_start_matches("/orrery.v1.").to_owned(),
        project: target.map(|target| target.project),
        workspace: target.and_then(|target| target.workspace),
        object: object(rule, addressed, grant),
        outcome,
        reason: problem.map(|problem| problem.reason).unwrap_or_default(),
        detail: Value::Object(detail(rule, addressed)),
    }
}

fn is_denial(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PermissionDenied | ErrorKind::Unauthenticated)
}

/// The addressed thing as it was written, and where it is.
fn object(rule: &Rule, addressed: &HashMap<&'static str, String>, grant: Option<&Grant>) -> String {
    let Some(thing) = rule.row.thing().map(|thing| thing.narrowed(addressed)) else { return String::new() };
    let kind = thing.word();
    let text = addressed.get(thing.field()).map_or("", String::as_str);
    if text.is_empty() {
        return String::new();
    }
    match grant.and_then(|grant| grant.target.as_ref()) {
        Some(target) if target.name != text => format!("{kind} {} of {}", short(text), target.name),
        _ => format!("{kind} {}", short(text)),
    }
}

fn detail(rule: &Rule, addressed: &HashMap<&'static str, String>) -> Map<String, Value> {
    let told = rule.row.told.unwrap_or_default().iter();
    let fields = told.filter_map(|name| addressed.get(name).filter(|text| !text.is_empty()).map(|text| (name, text)));
    fields.map(|(name, text)| ((*name).to_owned(), Value::String(short(text)))).collect()
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
