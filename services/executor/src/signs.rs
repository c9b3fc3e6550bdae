//! What an application itself tells of its use, over HTTP, wherever it runs. Each source says active, idle or unknown; what
//! cannot be read is unknown, never idle. None of these looks counts as activity for the application.
//!
//! | source | active means |
//! |---|---|
//! | `kernels` | a kernel is busy, or was used |
//! | `terminals` | a terminal was used, or printed something |
//! | `heartbeat` | a window of the editor is open |
//!
//! JupyterLab's own `last_activity` of the server is left alone: pages that poll by themselves move it.
//!
//! The times that an application tells are of its machine's clock, which may be any: only that they have changed since the
//! last look counts, and when that was seen here. Refuses to decide what idleness is for, and to know of processes.

pub(crate) mod devices;
pub(crate) mod http;

use crate::pool::Life;
use domain::runtime::App;
use jiff::Timestamp;
use proto::internal::v1::{ActivityReport, activity_report::State};
use runtime::secret::Secret;
use serde_json::Value;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

/// Above this share of a core something works; editors that watch files stay below it.
pub(crate) const BUSY_MILLI: u64 = 50;

/// An application that is asked.
pub(crate) struct Asked {
    app: App,
    base_path: String,
    key: Secret,
    at: SocketAddr,
    began: Timestamp,
    told: Mutex<HashMap<&'static str, Told>>,
}

/// What a source told last.
struct Told {
    /// Its times, in its own words.
    times: Vec<String>,
    /// When it was seen to be in use last.
    used: Timestamp,
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
            told: Mutex::default(),
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
                let (kernels, terminals) = tokio::join!(self.ask("api/kernels"), self.ask("api/terminals"));
                let kernels = kernels.and_then(|all| Ok((is_busy(&all)?, times(&all)?)));
                let terminals = terminals.and_then(|all| Ok((false, times(&all)?)));
                vec![
                    ("kernels", self.judge("kernels", kernels, now)),
                    ("terminals", self.judge("terminals", terminals, now)),
                ]
            }
            App::VsCode => {
                let beat = self.heartbeat().await.map(|beat| (false, vec![beat]));
                vec![("heartbeat", self.judge("heartbeat", beat, now))]
            }
            App::Custom { .. } => Vec::new(),
        }
    }

    /// Active while it says so and when its times have changed, by our clock; those of the first look may be of any day.
    fn judge(&self, source: &'static str, found: Result<(bool, Vec<String>), String>, now: Timestamp) -> State {
        let (busy, times) = match found {
            Ok(found) => found,
            Err(why) => return State::Unknown(why),
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let used = match told.get(source) {
            _ if busy => now,
            None => self.began,
            Some(told) if told.times == times => told.used,
            Some(_) => now,
        };
        told.insert(source, Told { times, used });
        if busy { State::ActiveUs(now.as_microsecond()) } else { since(used) }
    }

    /// The time of the last sign of life of a window; the answer of `/healthz` is none itself.
    async fn heartbeat(&self) -> Result<String, String> {
        let answer = self.get("/healthz").await?;
        match &answer["lastHeartbeat"] {
            Value::Number(ms) => Ok(ms.to_string()),
            _ => Err("the editor tells no heartbeat".to_owned()),
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

/// A busy kernel is in use however silent its cell is.
fn is_busy(all: &Value) -> Result<bool, String> {
    let waits = |kernel: &Value| kernel["execution_state"] == "idle" || kernel["execution_state"] == "dead";
    Ok(!list(all)?.iter().all(waits))
}

/// Every `last_activity` of a list, in whichever order it came.
fn times(all: &Value) -> Result<Vec<String>, String> {
    let mut times: Vec<String> =
        list(all)?.iter().filter_map(|one| one["last_activity"].as_str().map(str::to_owned)).collect();
    times.sort_unstable();
    Ok(times)
}

fn list(all: &Value) -> Result<&[Value], String> {
    all.as_array().map(Vec::as_slice).ok_or_else(|| "what should be a list is none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(at: SocketAddr, began: Timestamp) -> Asked {
        let (app, base_path, key) = (App::Jupyter, "/".to_owned(), Secret::new("k"));
        Asked { app, base_path, key, at, began, told: Mutex::default() }
    }

    #[test]
    fn a_busy_kernel_is_in_use_however_silent() {
        let kernel = |state: &str| json!({ "execution_state": state, "last_activity": "2020-01-01T00:00:00.5Z" });
        assert!(is_busy(&json!([kernel("idle"), kernel("busy")])).unwrap());
        assert!(is_busy(&json!([kernel("starting")])).unwrap());
        assert!(!is_busy(&json!([kernel("idle"), kernel("dead")])).unwrap());
        assert!(!is_busy(&json!([])).unwrap());
        assert!(is_busy(&json!({})).is_err() && times(&json!({ "message": "no terminals here" })).is_err());
    }

    #[test]
    fn what_an_application_tells_counts_by_our_clock_whatever_its_own_is() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let asked = asked("127.0.0.1:1".parse().unwrap(), at(0));
        // Its clock is forty minutes behind ours, and then it is set, to yet another time.
        let tells = |own: i64, now: i64| {
            let all = json!([{ "name": "1", "last_activity": at(own).to_string() }]);
            asked.judge("terminals", times(&all).map(|times| (false, times)), at(now))
        };
        assert_eq!(tells(-2_400, 15), since(at(0)), "it may have been used long ago");
        assert_eq!(tells(-2_385, 30), since(at(30)), "it printed something");
        assert_eq!(tells(-2_385, 45), since(at(30)));
        assert_eq!(tells(9_000, 60), since(at(60)));
        assert_eq!(tells(9_000, 75), since(at(60)), "a clock that is ahead is not believed");
        assert_eq!(tells(70, 90), since(at(90)), "nor is one that went back");
        // Of a kernel, the end of what it did is the last use.
        let kernel = |busy: bool, now: i64| asked.judge("kernels", Ok((busy, vec!["never moves".to_owned()])), at(now));
        assert_eq!(kernel(true, 100), State::ActiveUs(at(100).as_microsecond()));
        assert_eq!(kernel(false, 115), since(at(100)));
        // An answer that did not come says nothing, and nothing is forgotten for it.
        assert!(matches!(asked.judge("kernels", Err("no answer".to_owned()), at(130)), State::Unknown(_)));
        assert_eq!(kernel(false, 145), since(at(100)));
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_asked_everything_at_once() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked = asked(silent.local_addr().unwrap(), Timestamp::now());
        let look = tokio::spawn(async move { asked.look(Timestamp::now()).await });
        // Both are there before the first was answered, and neither ever is.
        let both = async { [silent.accept().await.unwrap(), silent.accept().await.unwrap()] };
        let both = tokio::time::timeout(std::time::Duration::from_secs(4), both).await.unwrap();
        drop(both);
        assert!(look.await.unwrap().iter().all(|(_, state)| matches!(state, State::Unknown(_))));
    }
}
