//! What an application itself tells of its use, over HTTP, wherever it runs. Each source says active, idle or unknown; what
//! cannot be read is unknown, never idle. None of these looks counts as activity for the application.
//!
//! | source | active means |
//! |---|---|
//! | `kernels` | a kernel is busy, or was used |
//! | `terminals` | a terminal was used, or printed something |
//! | `heartbeat` | a window of the editor is open |
//!
//! JupyterLab's own `last_activity` of the server is left alone: pages that poll by themselves move it. Refuses to decide
//! what idleness is for, and to know of processes.

pub(crate) mod http;

use crate::pool::Life;
use domain::runtime::App;
use jiff::Timestamp;
use proto::internal::v1::{ActivityReport, activity_report::State};
use runtime::secret::Secret;
use serde_json::Value;
use std::net::SocketAddr;

/// An application that is asked.
pub(crate) struct Asked {
    app: App,
    base_path: String,
    key: Secret,
    at: SocketAddr,
    began: Timestamp,
}

impl Asked {
    /// For a life that is ready now, and is not known to have been used.
    pub(crate) fn new(life: &Life, at: SocketAddr) -> Self {
        Self {
            app: life.spec.app.clone(),
            base_path: life.base_path.clone(),
            key: life.access_key.clone(),
            at,
            began: Timestamp::now(),
        }
    }

    /// Where it listens.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    /// What each of its sources says; an application that nobody knows has none.
    pub(crate) async fn look(&self, now: Timestamp) -> Vec<(&'static str, State)> {
        match self.app {
            App::Jupyter => {
                // Each may take as long as an answer may: one that does not answer holds its turn no longer than that.
                let (listed, terminals) = tokio::join!(self.ask("api/kernels"), self.terminals());
                let kernels = listed.map_or_else(State::Unknown, |all| kernels(&all, self.began, now));
                vec![("kernels", kernels), ("terminals", terminals)]
            }
            App::VsCode => vec![("heartbeat", self.heartbeat().await)],
            App::Custom { .. } => Vec::new(),
        }
    }

    async fn terminals(&self) -> State {
        self.ask("api/terminals").await.map_or_else(State::Unknown, |all| terminals(&all, self.began))
    }

    /// The time of the last sign of life of a window; the answer of `/healthz` is none itself.
    async fn heartbeat(&self) -> State {
        match self.get("/healthz").await {
            Ok(answer) => match answer["lastHeartbeat"].as_i64() {
                Some(ms) => since(Timestamp::from_millisecond(ms).unwrap_or(self.began).max(self.began)),
                None => State::Unknown("the editor tells no heartbeat".to_owned()),
            },
            Err(why) => State::Unknown(why),
        }
    }

    async fn ask(&self, what: &str) -> Result<Value, String> {
        self.get(&format!("{}{what}?no_track_activity=1", self.base_path)).await
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let (status, body) = http::get(self.at, path, self.key.expose()).await.map_err(|error| error.to_string())?;
        if status != 200 {
            return Err(format!("the application answers with status {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("the application's answer is no JSON: {error}"))
    }
}

/// As it is told on, read now.
pub(crate) fn reports(found: Vec<(&str, State)>) -> Vec<ActivityReport> {
    let read_us = Timestamp::now().as_microsecond();
    let report =
        |(source, state): (&str, State)| ActivityReport { source: source.to_owned(), state: Some(state), read_us };
    found.into_iter().map(report).collect()
}

/// Idle, and since when.
pub(crate) fn since(last: Timestamp) -> State {
    State::IdleSinceUs(last.as_microsecond())
}

/// A busy kernel is active however silent its cell is; of the others, the last message counts.
fn kernels(all: &Value, began: Timestamp, now: Timestamp) -> State {
    let Some(list) = all.as_array() else { return State::Unknown("the list of kernels is none".to_owned()) };
    let waits = |kernel: &Value| kernel["execution_state"] == "idle" || kernel["execution_state"] == "dead";
    if list.iter().all(waits) {
        return since(latest(list).map_or(began, |last| last.max(began)));
    }
    State::ActiveUs(now.as_microsecond())
}

fn terminals(all: &Value, began: Timestamp) -> State {
    match all.as_array() {
        Some(list) => since(latest(list).map_or(began, |last| last.max(began))),
        None => State::Unknown("the list of terminals is none".to_owned()),
    }
}

/// The latest `last_activity` of a list.
fn latest(list: &[Value]) -> Option<Timestamp> {
    let times = list.iter().filter_map(|one| one["last_activity"].as_str()?.parse().ok());
    times.max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_busy_kernel_is_active_however_silent() {
        let (began, now) = (Timestamp::UNIX_EPOCH, Timestamp::now());
        let kernel = |state: &str| json!({ "execution_state": state, "last_activity": "2020-01-01T00:00:00.5Z" });
        let active = State::ActiveUs(now.as_microsecond());
        assert_eq!(kernels(&json!([kernel("idle"), kernel("busy")]), began, now), active);
        assert_eq!(kernels(&json!([kernel("starting")]), began, now), active);
        assert_eq!(kernels(&json!([kernel("idle")]), began, now), State::IdleSinceUs(1_577_836_800_500_000));
        assert_eq!(kernels(&json!([]), began, now), State::IdleSinceUs(0));
        assert!(matches!(kernels(&json!({}), began, now), State::Unknown(_)));
    }

    #[test]
    fn a_list_that_is_none_says_nothing_about_terminals() {
        let began = Timestamp::UNIX_EPOCH;
        assert_eq!(terminals(&json!([]), began), State::IdleSinceUs(0));
        let used = json!([{ "name": "1", "last_activity": "2020-01-01T00:00:00Z" }]);
        assert_eq!(terminals(&used, began), State::IdleSinceUs(1_577_836_800_000_000));
        assert!(matches!(terminals(&json!({ "message": "no terminals here" }), began), State::Unknown(_)));
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_asked_everything_at_once() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked = Asked {
            app: App::Jupyter,
            base_path: "/".to_owned(),
            key: Secret::new("k"),
            at: silent.local_addr().unwrap(),
            began: Timestamp::now(),
        };
        let look = tokio::spawn(async move { asked.look(Timestamp::now()).await });
        // Both are there before the first was answered, and neither ever is.
        let both = async { [silent.accept().await.unwrap(), silent.accept().await.unwrap()] };
        let both = tokio::time::timeout(std::time::Duration::from_secs(4), both).await.unwrap();
        drop(both);
        assert!(look.await.unwrap().iter().all(|(_, state)| matches!(state, State::Unknown(_))));
    }
}
