//! What an act leaves in the trail: who, what, on what, how it ended, and what it changed. Refuses to tell a field that
//! neither its row names nor the act itself tells.

use super::address::Field;
use super::{Authority, Rule, Verdict};
use crate::changed::Changed;
use crate::fault::Fault;
use crate::identity::{Caller, Identity};
use domain::ErrorKind;
use domain::id::{RunId, TriggerId};
use rpc::status::Problem;
use runtime::exit::chain;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::Store;
use store::audit::{self, NewEntry, Outcome};
use store::targets::{self, Target};
use store::users::User;
use tracing::Instrument as _;

/// The longest text of one field.
const TEXT_CHARS_MAX: usize = 300;
/// The longest text of one that was changed: lists of images and windows are told whole, as far as people write such.
const CHANGED_CHARS_MAX: usize = 2_000;
/// How somebody came who showed nothing.
const NOBODY: &str = "none";

/// Refusals of whoever showed nothing: anybody can cause them and nothing ever removes them, so there is room for few.
static UNPROVEN: Few = Few(Mutex::new(None));

/// Counts within a minute.
struct Few(Mutex<Option<(Instant, u32)>>);

impl Few {
    /// Of a minute.
    const MAX: u32 = 60;
    const MINUTE: Duration = Duration::from_secs(60);

    /// Whether there is room for one more; the first for which there is none is told in the log.
    fn takes(&self, now: Instant) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = counted.filter(|(since, _)| now.duration_since(*since) < Self::MINUTE).unwrap_or((now, 0));
        *counted = Some((since, count.saturating_add(1)));
        if count == Self::MAX {
            tracing::warn!("too many are refused who showed nothing; the trail leaves out the rest of this minute's");
        }
        count < Self::MAX
    }
}

impl Authority {
    /// Adds the entry of an act before its answer is given. That it cannot be added is told in the log: what was done is
    /// done.
    pub(super) async fn record(
        &self,
        rule: &Rule,
        identity: &Identity,
        addressed: &HashMap<&'static str, String>,
        verdict: &Verdict,
        ended: Result<Changed, Problem>,
    ) {
        add(&self.store, &entry(rule, identity, addressed, verdict, ended)).await;
    }

    /// Adds the entry of a browser that signed in, or tried to.
    pub(crate) async fn record_sign_in(&self, email: &str, outcome: Result<&User, &Fault>) {
        let entry = NewEntry {
            user: outcome.ok().map(|user| user.id),
            actor: short(email),
            via: NOBODY.to_owned(),
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
        add(&self.store, &entry).await;
    }
}

/// Acts, and leaves the trail of it, whether or not the caller is still there: a caller who hangs up ends no act that has
/// begun, and would otherwise leave no trail of it. Limits of time are the act's own.
///
/// # Errors
/// When it panics, or this server ends first.
pub(crate) async fn to_the_end<T: Send + 'static>(act: impl Future<Output = T> + Send + 'static) -> Result<T, Fault> {
    tokio::spawn(act.in_current_span()).await.map_err(|error| Fault::internal(&error))
}

async fn add(store: &Store, entry: &NewEntry) {
    let is_unproven = entry.user.is_none() && entry.via == NOBODY && !matches!(entry.outcome, Outcome::Ok);
    if is_unproven && !UNPROVEN.takes(Instant::now()) {
        return;
    }
    let added = match store.client().await {
        Ok(db) => audit::insert(&db, entry).await,
        Err(error) => Err(error),
    };
    if let Err(error) = added {
        tracing::error!(error = chain(&error), method = entry.method, actor = entry.actor, "the trail has a gap");
    }
}

/// A call of a trigger by a token of its own, which belongs to nobody.
pub(crate) struct Call<'a> {
    /// The template of the address.
    pub(crate) route: &'a str,
    /// The public part of the token.
    pub(crate) token: &'a str,
    /// What was called.
    pub(crate) trigger: TriggerId,
    /// The run that it started, if that does not wait for others; or why there is none.
    pub(crate) outcome: Result<Option<RunId>, &'a Problem>,
}

impl Call<'_> {
    /// Adds its entry. That it cannot be added is told in the log: what was done is done.
    pub(crate) async fn record(&self, store: &Store) {
        let target = match store.client().await {
            Ok(db) => targets::find(&db, targets::Thing::Trigger(self.trigger.0), None).await,
            Err(error) => Err(error),
        };
        let target = target.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), trigger.id = %self.trigger, "the trail does not say where a trigger is");
            None
        });
        let mut detail = Map::new();
        if let Ok(Some(run)) = self.outcome {
            detail.insert("run_id".to_owned(), Value::String(run.to_string()));
        }
        let problem = self.outcome.err();
        let entry = NewEntry {
            user: None,
            actor: String::new(),
            via: format!("trigger-token:{}", self.token),
            method: self.route.to_owned(),
            project: target.as_ref().map(|target| target.project),
            workspace: target.as_ref().and_then(|target| target.workspace),
            object: match &target {
                Some(target) => format!("trigger {} of {}", self.trigger, target.name),
                None => format!("trigger {}", self.trigger),
            },
            outcome: outcome(problem, true),
            reason: problem.map(|problem| problem.reason.clone()).unwrap_or_default(),
            detail: Value::Object(detail),
        };
        add(store, &entry).await;
    }
}

/// One act of a request that does many.
pub(crate) struct Trail<'a> {
    /// As if it had been called alone.
    pub(crate) method: &'a str,
    /// The workspace's name, as it was given.
    pub(crate) workspace: &'a str,
    /// The workspace, when there is one of this name.
    pub(crate) target: Option<&'a Target>,
    /// Whether the caller may act on it.
    pub(crate) granted: bool,
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
            outcome: outcome(self.problem, self.granted),
            reason: self.problem.map(|problem| problem.reason.clone()).unwrap_or_default(),
            detail: Value::Object(Map::new()),
        };
        add(store, &entry).await;
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
    verdict: &Verdict,
    ended: Result<Changed, Problem>,
) -> NewEntry {
    let outcome = outcome(ended.as_ref().err(), verdict.granted.is_ok());
    let mut detail = detail(rule, addressed);
    let changed = ended.as_ref().ok().into_iter().flat_map(Changed::lines);
    detail.extend(changed.map(|(name, text)| (name, Value::String(cut(text, CHANGED_CHARS_MAX)))));
    let (user, actor, via) = match identity {
        Identity::Person(caller) => (Some(caller.user.id), caller.user.email.clone(), caller.via.to_string()),
        Identity::Nobody => (None, short(addressed.get("email").map_or("", String::as_str)), NOBODY.to_owned()),
    };
    // Also of what was refused: whoever answers for a workspace sees who tried what there.
    let target = verdict.target.as_ref();
    NewEntry {
        user,
        actor,
        via,
        method: rule.row.path.trim_start_matches("/orrery.v1.").to_owned(),
        project: target.map(|target| target.project),
        workspace: target.and_then(|target| target.workspace),
        object: object(rule, addressed, target),
        outcome,
        reason: ended.err().map(|problem| problem.reason).unwrap_or_default(),
        detail: Value::Object(detail),
    }
}

fn is_denial(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PermissionDenied | ErrorKind::Unauthenticated)
}

/// The addressed thing as it was written, and where it is.
fn object(rule: &Rule, addressed: &HashMap<&'static str, String>, target: Option<&Target>) -> String {
    let Some(thing) = rule.row.thing().map(|thing| thing.narrowed(addressed)) else { return String::new() };
    let kind = thing.word();
    let text = addressed.get(thing.field()).map_or("", String::as_str);
    if text.is_empty() {
        return String::new();
    }
    match target {
        Some(target) if target.name != text => format!("{kind} {} of {}", short(text), target.name),
        _ => format!("{kind} {}", short(text)),
    }
}

fn detail(rule: &Rule, addressed: &HashMap<&'static str, String>) -> Map<String, Value> {
    let told = rule.row.told.unwrap_or_default().iter();
    let fields = told.filter_map(|name| addressed.get(name).filter(|text| !text.is_empty()).map(|text| (name, text)));
    let shown = |name: &str, text: &str| {
        let is_many = rule.fields.get(name).is_some_and(Field::is_many);
        cut(text, if is_many { CHANGED_CHARS_MAX } else { TEXT_CHARS_MAX })
    };
    fields.map(|(name, text)| ((*name).to_owned(), Value::String(shown(name, text)))).collect()
}

fn short(text: &str) -> String {
    cut(text, TEXT_CHARS_MAX)
}

/// Without NUL, which the database refuses: a caller who writes one must not be left out of the trail.
fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_refusals_of_strangers_are_kept_a_minute() {
        let (few, now) = (Few(Mutex::new(None)), Instant::now());
        assert!((0..Few::MAX).all(|_| few.takes(now)) && !few.takes(now));
        assert!(!few.takes(now + Few::MINUTE / 2) && few.takes(now + Few::MINUTE));
    }
}
