//! The addresses under which Mage's triggers are called, with Mage's bodies and answers. An error has its real HTTP status
//! besides.
//!
//! API triggers bring a credential of their own; events need one of the cluster's, which the gate has asked for. Refuses
//! to know how anything is started.

mod answer;

use crate::authorisation::{self, Call};
use crate::commands::Started;
use crate::core::Core;
use crate::fault::Fault;
use crate::router::Api;
use crate::surface::Surface;
use crate::transcode;
use crate::triggers::{self, start, token};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use axum::response::Response;
use domain::{
    ErrorKind,
    id::{RunId, TriggerId},
    trigger::Kind,
};
use jiff::{Timestamp, civil, tz::TimeZone};
use rpc::status::Problem;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use store::triggers::Listed;
use tokio::time::Instant;

/// By which callers make a repetition harmless.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// What an event is published by.
const PUBLISH: &str = "/orrery.v1.EventService/PublishEvent";
/// The longest answer to an event, which may start a thousand runs.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// What both begin with.
const FOLDER: &str = "/api/pipeline_schedules/";

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Mage {
    /// Everything else.
    pub(crate) core: Arc<Core>,
    /// Of events that name none.
    pub(crate) default_workspace: Arc<str>,
    /// Whether a token in the address is looked at.
    pub(crate) token_in_url: bool,
}

/// The two addresses of API triggers.
const BY_ADDRESS: &str = "/api/pipeline_schedules/{id}/pipeline_runs/{token}";
const BY_HEADER: &str = "/api/pipeline_schedules/{id}/api_trigger";

/// The routes. Bodies are bounded where they are read.
pub(crate) fn routes(surface: Surface) -> Surface {
    surface.post(BY_ADDRESS, call_by_address).post(BY_HEADER, call_by_header).post("/api/events", event)
}

/// A path as it may be logged.
pub(crate) fn without_token(path: &str) -> &str {
    let token = path.starts_with(FOLDER).then(|| path.find("/pipeline_runs/")).flatten();
    token.map_or(path, |at| &path[..at + "/pipeline_runs/".len()])
}

async fn call_by_address(
    State(api): State<Api>,
    Path((id, token)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // A header is the better place, so it wins.
    let presented = bearer(&headers).or_else(|| api.mage.token_in_url.then_some(token));
    answer::of(api.mage.call(BY_ADDRESS, (&id, presented), &headers, body).await)
}

async fn call_by_header(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let presented = bearer(&headers);
    answer::of(api.mage.call(BY_HEADER, (&id, presented), &headers, body).await)
}

async fn event(State(api): State<Api>, Query(query): Query<HashMap<String, String>>, request: Request) -> Response {
    let workspace = query.get("workspace").map_or(&*api.mage.default_workspace, String::as_str);
    answer::of(publish(&api, workspace, request).await.map(|body| (StatusCode::OK, body)))
}

/// The method of the contract under Mage's address, with all that guards it.
async fn publish(api: &Api, workspace: &str, request: Request) -> Result<Value, Fault> {
    let (Parts { headers, extensions, .. }, body) = request.into_parts();
    let event = object(&api.mage.read(body).await?)?;
    // The event becomes a message, in which such a number would be another one.
    rpc::json::json_to_struct(&event, "event")?;
    let message = json!({ "workspace": workspace, "event": event, "idempotencyKey": idempotency_key(&headers)? });
    let response = api.transcoder.answer(PUBLISH, &headers, &extensions, message.to_string().as_bytes()).await;
    let response = response.map_err(|status| Fault(Problem::from_status(&status)))?;
    let broken = |error: &dyn std::error::Error| Fault::internal(error);
    let answer = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.map_err(|e| broken(&e))?;
    Ok(answer::event(&serde_json::from_slice(&answer).map_err(|e| broken(&e))?))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

impl Mage {
    /// Starts the trigger, and leaves a trail of it; whoever is not let in leaves none.
    async fn call(
        &self,
        route: &'static str,
        (id, presented): (&str, Option<String>),
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(StatusCode, Value), Fault> {
        let (listed, token) = self.admitted(id, presented.as_deref()).await?;
        let trigger = listed.trigger.id;
        // Whoever hangs up while sending starts nothing.
        let (this, headers, body) = (self.clone(), headers.clone(), self.read(body).await);
        let act = async move {
            let answer = this.start(listed, &token, &headers, body).await;
            let outcome = answer.as_ref().map(|(run, _)| *run).map_err(|fault| &fault.0);
            Call { route, token: &token, trigger, outcome }.record(&this.core.store).await;
            answer
        };
        let answer = authorisation::to_the_end(act).await?;
        answer.map(|(run, answer)| (if run.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED }, answer))
    }

    async fn start(
        &self,
        listed: Listed,
        token: &str,
        headers: &HeaderMap,
        body: Result<Bytes, Fault>,
    ) -> Result<(Option<RunId>, Value), Fault> {
        let told = told(object(&body?)?, headers)?;
        let told = start::Told { called_by: Some(token.to_owned()), ..told };
        let event_variables = told.event_variables.clone();
        match start::call(&self.core, listed, told).await? {
            (listed, Started::Run(id)) => {
                let run = self.core.run(id).await?;
                Ok((Some(id), answer::pipeline_run(&listed, &run, event_variables)))
            }
            (listed, Started::Later) => Ok((None, answer::later(&listed))),
            (listed, Started::Not(reason)) => {
                let message = format!("trigger `{}` started no run: {reason}", listed.trigger.name);
                Err(Fault::new(ErrorKind::Conflict, "RUN_SKIPPED", message))
            }
        }
    }

    /// The trigger, and the public part of the token if it is one of its own. Whoever has no right token learns nothing
    /// about triggers.
    async fn admitted(&self, id: &str, presented: Option<&str>) -> Result<(Listed, String), Fault> {
        let refused = || {
            let message =
                "there is no such trigger, or the token is not one of its own; send `Authorization: Bearer <token>`";
            Fault::new(ErrorKind::Unauthenticated, "TRIGGER_REFUSED", message)
        };
        let presented = presented.filter(|token| !token.is_empty() && token.len() <= token::BYTES_MAX);
        let presented = token::stored(presented.ok_or_else(refused)?);
        let db = self.core.store.client().await?;
        let trigger: TriggerId = id.parse().map_err(|_| refused())?;
        let (token, hash) = store::triggers::token(&db, trigger, &presented).await?.ok_or_else(refused)?;
        if !token::is_same(&presented, &hash) {
            return Err(refused());
        }
        drop(db);
        // A flood ends here. The same number holds over all replicas, by the count of the trigger's owner.
        self.core.rates.take(&token, self.core.limits.trigger_calls_per_second, Instant::now()).map_err(|wait| {
            let message = format!("this token is used too often; wait {} ms", wait.as_millis().max(1));
            Fault::busy("TOO_MANY_CALLS", message, wait)
        })?;
        let gone = |fault: Fault| if fault.0.kind == ErrorKind::NotFound { refused() } else { fault };
        let listed = triggers::find(&self.core, trigger).await.map_err(gone)?;
        if listed.trigger.spec.kind != Kind::Api {
            return Err(refused());
        }
        Ok((listed, token))
    }

    async fn read(&self, body: Body) -> Result<Bytes, Fault> {
        transcode::whole_body(body, self.core.limits.message_bytes).await
    }
}

/// A JSON object whose texts can be stored; nothing at all is an empty one.
fn object(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    if let Some(number) = rpc::json::oversized_integer(body) {
        return Err(Fault::new(ErrorKind::InvalidArgument, "INVALID_JSON", rpc::json::beyond(number)));
    }
    let object: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        Fault::new(ErrorKind::InvalidArgument, "INVALID_JSON", format!("the body is no JSON object: {error}"))
    })?;
    rpc::json::nul(&object, "").map_or(Ok(object), |field| Err(Fault::field(field, rpc::json::NUL)))
}

/// `pipeline_run` says what the run is; what stands beside it are event variables. Only what is known is taken.
fn told(mut body: Map<String, Value>, headers: &HeaderMap) -> Result<start::Told, Fault> {
    let mut run = match body.remove("pipeline_run") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(run)) => run,
        Some(_) => return Err(Fault::field("pipeline_run", "must be an object")),
    };
    let variables = match run.remove("variables") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(_) => return Err(Fault::field("pipeline_run.variables", "must be an object")),
    };
    let execution_date = match run.remove("execution_date") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(instant(&text)?),
        Some(_) => {
            return Err(Fault::field("pipeline_run.execution_date", "must be text, such as 2026-01-31T06:00:00Z"));
        }
    };
    let idempotency_key = idempotency_key(headers)?.to_owned();
    Ok(start::Told { variables, event_variables: body, execution_date, idempotency_key, called_by: None })
}

/// With an offset, or in UTC, as Mage takes a time without one.
fn instant(text: &str) -> Result<Timestamp, Fault> {
    let civil = || text.parse::<civil::DateTime>().ok().and_then(|civil| civil.to_zoned(TimeZone::UTC).ok());
    let at = text.parse::<Timestamp>().ok().or_else(|| civil().map(|zoned| zoned.timestamp()));
    at.filter(|at| (domain::trigger::FIRST..domain::trigger::LAST).contains(at)).ok_or_else(|| {
        Fault::field(
            "pipeline_run.execution_date",
            "must be a time between 1970 and 2200, such as 2026-01-31T06:00:00Z",
        )
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<&str, Fault> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok("") };
    value.to_str().map_err(|_| Fault::field(IDEMPOTENCY_KEY, "must be visible ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_not_logged() {
        assert_eq!(
            without_token("/api/pipeline_schedules/7/pipeline_runs/secret"),
            "/api/pipeline_schedules/7/pipeline_runs/"
        );
        assert_eq!(without_token("/api/pipeline_schedules/7/pipeline_runs/secret/x").find("secret"), None);
        assert_eq!(without_token("/api/v1/runs"), "/api/v1/runs");
    }

    #[test]
    fn bodies_are_read_as_mage_does_and_no_further() {
        let read = |body: &str| told(object(body.as_bytes()).unwrap(), &HeaderMap::new());
        let one =
            r#"{"pipeline_run": {"variables": {"a": 1}, "execution_date": "2026-01-31 06:00:00", "id": 7}, "x": [2]}"#;
        let one = read(one).unwrap();
        assert_eq!(Value::Object(one.variables).to_string(), r#"{"a":1}"#);
        assert_eq!(Value::Object(one.event_variables).to_string(), r#"{"x":[2]}"#);
        assert_eq!(one.execution_date.unwrap().to_string(), "2026-01-31T06:00:00Z");
        assert!(read("").unwrap().variables.is_empty());
        for bad in [
            r#"{"pipeline_run": 1}"#,
            r#"{"pipeline_run": {"variables": []}}"#,
            r#"{"pipeline_run": {"execution_date": "9999-01-01T00:00:00Z"}}"#,
            r#"{"pipeline_run": {"execution_date": -1}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let exact = read(r#"{"pipeline_run": {"variables": {"id": 9007199254740993}}}"#).unwrap();
        assert_eq!(Value::Object(exact.variables).to_string(), r#"{"id":9007199254740993}"#);
        assert!(object(br#"{"id": 99999999999999999999}"#).is_err(), "it would be another number");
        assert!(object(b"[]").is_err() && object(b"{").is_err());
    }
}
