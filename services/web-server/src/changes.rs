//! Who waits for news of which run. One subscription per scheduler feeds every watcher of this process. Refuses to know
//! what changed: a watcher that is woken reads again, so that a lost wake-up costs time and nothing else.

use crate::fault::Fault;
use domain::id::RunId;
use proto::internal::v1::WatchChangesResponse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What there is news of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The run or its blocks.
    State,
    /// Its log.
    Log,
}

/// The watchers of this process.
#[derive(Clone)]
pub(crate) struct Changes {
    inner: Arc<Mutex<Watchers>>,
    limit: usize,
}

#[derive(Default)]
struct Watchers {
    runs: HashMap<RunId, Watched>,
    count: usize,
}

struct Watched {
    state: watch::Sender<News>,
    log: watch::Sender<News>,
    count: usize,
}

#[derive(Default)]
struct News {
    /// Whether the run has ended, by the latest of them.
    ended: bool,
}

/// One watcher's place; gives it back when dropped.
pub(crate) struct Subscription {
    changes: Changes,
    run: RunId,
    news: watch::Receiver<News>,
}

impl Changes {
    /// At most `limit` watchers at once.
    pub(crate) fn new(limit: usize) -> Self {
        Self { inner: Arc::default(), limit }
    }

    /// A place among the watchers.
    pub(crate) fn subscribe(&self, run: RunId, topic: Topic) -> Result<Subscription, Fault> {
        let mut watchers = self.lock();
        if watchers.count >= self.limit {
            let message =
                format!("this server has its limit of {} open streams; close some, or try another", self.limit);
            return Err(Fault::busy("TOO_MANY_WATCHERS", message, Fault::SOON));
        }
        watchers.count += 1;
        let watched = watchers.runs.entry(run).or_insert_with(|| Watched {
            state: watch::Sender::default(),
            log: watch::Sender::default(),
            count: 0,
        });
        watched.count += 1;
        let news = match topic {
            Topic::State => watched.state.subscribe(),
            Topic::Log => watched.log.subscribe(),
        };
        drop(watchers);
        Ok(Subscription { changes: self.clone(), run, news })
    }

    /// How many watchers there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().count
    }

    /// Wakes those whom a scheduler's message concerns.
    pub(crate) fn publish(&self, message: &WatchChangesResponse) {
        if message.overflow {
            return self.wake_all();
        }
        let watchers = self.lock();
        for id in message.run_ids.iter().filter_map(|id| RunId::from_slice(id)) {
            if let Some(watched) = watchers.runs.get(&id) {
                watched.state.send_modify(|news| news.ended = false);
                // Nothing new in the log.
                watched.log.send_if_modified(|news| {
                    news.ended = false;
                    false
                });
            }
        }
        for id in message.ended_run_ids.iter().filter_map(|id| RunId::from_slice(id)) {
            if let Some(watched) = watchers.runs.get(&id) {
                watched.state.send_modify(|news| news.ended = true);
                // The end of a run ends the tail of its log.
                watched.log.send_modify(|news| news.ended = true);
            }
        }
        for id in message.logged_run_ids.iter().filter_map(|id| RunId::from_slice(id)) {
            if let Some(watched) = watchers.runs.get(&id) {
                watched.log.send_modify(|_| {});
            }
        }
    }

    /// Wakes everyone: something may have been missed.
    pub(crate) fn wake_all(&self) {
        for watched in self.lock().runs.values() {
            watched.state.send_modify(|_| {});
            watched.log.send_modify(|_| {});
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watchers> {
        // Nothing panics while it is held; a count that was left odd is better than a dead server.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// Waits for news since the last call. Cancel-safe.
    pub(crate) async fn news(&mut self) {
        // The sender lives as long as this subscription is counted.
        let _ = self.news.changed().await;
    }

    /// Waits until the run has ended, which may be long ago. Cancel-safe.
    pub(crate) async fn end(&mut self) {
        let _ = self.news.wait_for(|news| news.ended).await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watchers = self.changes.lock();
        watchers.count = watchers.count.saturating_sub(1);
        if let Some(watched) = watchers.runs.get_mut(&self.run) {
            watched.count -= 1;
            if watched.count == 0 {
                watchers.runs.remove(&self.run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn only_those_concerned_are_woken_and_places_come_back() {
        let changes = Changes::new(2);
        let (a, b) = (RunId::new_in(0), RunId::new_in(0));
        let mut state = changes.subscribe(a, Topic::State).unwrap();
        let mut log = changes.subscribe(b, Topic::Log).unwrap();
        assert!(changes.subscribe(a, Topic::Log).is_err(), "the limit is two");
        changes.publish(&WatchChangesResponse { logged_run_ids: vec![a.to_vec(), b.to_vec()], ..Default::default() });
        assert!(state.news().now_or_never().is_none());
        assert!(log.news().now_or_never().is_some());
        changes.publish(&WatchChangesResponse { overflow: true, ..Default::default() });
        assert!(state.news().now_or_never().is_some() && log.news().now_or_never().is_some());
        changes.publish(&WatchChangesResponse {
            run_ids: vec![a.to_vec(), b.to_vec()],
            ended_run_ids: vec![b.to_vec()],
            ..Default::default()
        });
        assert!(state.news().now_or_never().is_some() && state.end().now_or_never().is_none());
        assert!(log.end().now_or_never().is_some(), "the end of a run ends the tail of its log");
        drop((state, log));
        assert_eq!(changes.count(), 0);
        assert!(changes.lock().runs.is_empty());
    }
}
