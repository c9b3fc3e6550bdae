//! Whether what comes after a life's start failed. The launcher says so in the container's log, before the application begins,
//! and nowhere else; so the log is read once, beside the steps, and a failure noted on the record.
//!
//! Refuses to make anything depend on it: the application runs, and where the log cannot be had, nobody is told.

use super::{Desired, Step};
use crate::{
    codes,
    error::Error,
    life::Life,
    observe::{self, Seen},
    render::{POST_START, app},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::LogParams};
use proto::internal::v1::RuntimePhase;
use serde_json::json;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};

/// Bytes of a log that are read at once.
const LOG_BYTES: u32 = 256 << 10;
/// Lines of its end that are read where its beginning is not enough.
const LOG_LINES: i64 = 1_000;
/// Bytes of the script's output that are told.
const OUTPUT_BYTES: usize = 2 << 10;
/// How often a log is asked for, how long each time, and the first pause.
const TRIES: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
/// Logs that are read at the same time: a process that comes anew asks for those of all lives.
static READERS: Semaphore = Semaphore::const_new(8);

/// What is known of one life's post-start command and script.
#[derive(Debug, Default)]
pub(crate) struct PostStart {
    /// Somebody reads the log, or has.
    is_asked: AtomicBool,
    /// How it failed; `None` in it is not at all, as far as can be told.
    outcome: OnceLock<Option<String>>,
}

impl Step<'_> {
    /// A life that is ready, with the failure of what came after its start as a warning, once that is known. It is noted, so that
    /// whoever comes after this process says the same though the log has gone on.
    pub(super) async fn with_post_start(&self, desired: &Desired, life: &Life, name: &str, seen: Seen) -> Seen {
        let is_run = !app::post_start(life).is_empty() && !app::command(life).is_empty();
        // What is wrong with it now comes first; that it is not bound, its scheduler tells where there is no code.
        if !is_run || seen.phase != RuntimePhase::Ready || !seen.code.is_empty() || !seen.bound {
            return seen;
        }
        let noted = desired.known_record().and_then(|record| record.annotations().get(POST_START).cloned());
        let known = &desired.post_start;
        let failure = match (noted, known.outcome.get()) {
            (Some(noted), _) => noted,
            (None, Some(Some(found))) => {
                // What runs is told of all the same, and this is tried again with the next look.
                if let Err(error) = self.note(desired, name, json!({ POST_START: found })).await {
                    tracing::warn!(holder = %desired.holder, %error, "how a post-start script failed is not noted yet");
                }
                found.clone()
            }
            (None, Some(None)) => return seen,
            (None, None) => {
                if !known.is_asked.swap(true, Ordering::Relaxed) {
                    let (known, api) = (Arc::clone(known), self.cluster.api::<Pod>());
                    tokio::spawn(find_out(known, api, name.to_owned(), life.clone()));
                }
                return seen;
            }
        };
        Seen { code: codes::POST_START_FAILED.to_owned(), message: failure, ..seen }
    }
}

async fn find_out(known: Arc<PostStart>, api: Api<Pod>, pod: String, life: Life) {
    // Nobody closes it.
    let _permit = READERS.acquire().await;
    let mut pause = PAUSE;
    for _ in 0..TRIES {
        let error = match timeout(PATIENCE, read(&api, &pod, &life)).await {
            Ok(Ok(outcome)) => {
                // Nobody else sets it.
                drop(known.outcome.set(outcome));
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        tracing::warn!(pod, error, "failed to read how a post-start script ended");
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// How it failed, by the beginning of the log; or by its end, where there is more before that. The key goes before anything is
/// cut, which would leave a part of it.
async fn read(api: &Api<Pod>, pod: &str, life: &Life) -> Result<Option<String>, Error> {
    let head = text(api, pod, None).await?;
    let found = failure(&life.without_key(&head));
    if found.is_some() || head.len() < LOG_BYTES as usize {
        return Ok(found);
    }
    Ok(failure(&life.without_key(&text(api, pod, Some(LOG_LINES)).await?)))
}

async fn text(api: &Api<Pod>, pod: &str, tail_lines: Option<i64>) -> Result<String, Error> {
    let part = LogParams {
        container: Some("app".to_owned()),
        limit_bytes: Some(i64::from(LOG_BYTES)),
        tail_lines,
        ..LogParams::default()
    };
    match api.logs(pod, &part).await {
        // What a script prints need not be text, and what is cut need not end with a character.
        Err(kube::Error::FromUtf8(error)) => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        log => Ok(log?),
    }
}

/// What the launcher says, and the end of what was printed before.
fn failure(log: &str) -> Option<String> {
    let (output, rest) = log.split_once(app::POST_START_ENDED)?;
    let code: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let output = output.trim_end();
    let from = output.len().saturating_sub(OUTPUT_BYTES);
    let from = (from..output.len()).find(|at| output.is_char_boundary(*at)).unwrap_or(output.len());
    Some(observe::quoted(&format!("{}{code}", app::POST_START_ENDED), &output[from..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_code_and_its_last_words_are_told() {
        let ended = format!("{}3; the application starts\n", app::POST_START_ENDED);
        let told = |before: &str| failure(&format!("{before}{ended}the application's own words\n")).unwrap();
        assert_eq!(told(""), "the post-start command or script ended with code 3");
        assert_eq!(told("no idea\n"), "the post-start command or script ended with code 3; its last line: no idea");
        let both = told("begun\nno idea");
        assert!(both.ends_with("its last line: no idea\nthe end of its output:\nbegun\nno idea"), "{both}");
        let long = told(&"ä".repeat(OUTPUT_BYTES));
        assert!(long.len() < OUTPUT_BYTES + 100 && long.ends_with("ää"), "{long}");
        assert_eq!(failure("the application's own words\n"), None);
    }
}
