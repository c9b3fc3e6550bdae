//! Which runs changed: a hint for whoever shows them. Losing one costs the reader its backstop interval, nothing else.

use domain::id::RunId;
use std::{collections::HashSet, sync::Arc};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout_at},
};

/// Notices that a slow reader may fall behind by; then it is told to read everything it watches.
const NOTICES_MAX: usize = 256;

/// Runs whose rows, or whose log lines, changed in one commit.
#[derive(Debug, Clone, Default)]
pub struct Notice {
    /// Rows changed.
    pub runs: Arc<[RunId]>,
    /// Of these, the runs that have ended.
    pub ended: Arc<[RunId]>,
    /// Lines were added.
    pub logged: Arc<[RunId]>,
}

/// Where notices are sent and heard.
#[derive(Debug, Clone)]
pub struct Changes {
    sender: broadcast::Sender<Notice>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { sender: broadcast::channel(NOTICES_MAX).0 }
    }
}

impl Changes {
    /// Tells that rows of these runs changed, and which of them have `ended`.
    pub fn changed(&self, runs: Vec<RunId>, ended: Vec<RunId>) {
        if !runs.is_empty() && self.sender.receiver_count() > 0 {
            // Nobody listening is no error.
            let _ = self.sender.send(Notice { runs: runs.into(), ended: ended.into(), ..Notice::default() });
        }
    }

    /// Tells that these runs have new log lines.
    pub fn logged(&self, runs: Vec<RunId>) {
        if !runs.is_empty() && self.sender.receiver_count() > 0 {
            let _ = self.sender.send(Notice { logged: runs.into(), ..Notice::default() });
        }
    }

    /// Hears everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.sender.subscribe()
    }
}

/// Notices that are told as one.
#[derive(Debug, Default)]
pub struct News {
    /// Rows of these changed.
    pub runs: HashSet<RunId>,
    /// Of these, the runs that have ended.
    pub ended: HashSet<RunId>,
    /// These have new lines.
    pub logged: HashSet<RunId>,
    /// Some notices were missed.
    pub overflow: bool,
}

impl News {
    /// Waits for a notice, and takes what comes with it until `gathered`: no longer when a run has ended, for which
    /// somebody may wait. `None` when there will be no more. Cancel-safe until the first notice has come.
    pub async fn next(notices: &mut broadcast::Receiver<Notice>, gathered: Instant) -> Option<Self> {
        let mut news = Self::default();
        if !news.take(notices.recv().await) {
            return None;
        }
        loop {
            // What is there already is taken even when the time has come.
            let until = if news.ended.is_empty() { gathered } else { Instant::now() };
            match timeout_at(until, notices.recv()).await {
                Ok(notice) => {
                    if !news.take(notice) {
                        return Some(news);
                    }
                }
                Err(_) => return Some(news),
            }
        }
    }

    /// False when there will be no more.
    fn take(&mut self, notice: Result<Notice, RecvError>) -> bool {
        match notice {
            Ok(notice) => self.add(&notice),
            Err(RecvError::Lagged(_)) => self.overflow = true,
            Err(RecvError::Closed) => return false,
        }
        true
    }

    fn add(&mut self, notice: &Notice) {
        self.runs.extend(notice.runs.iter());
        self.ended.extend(notice.ended.iter());
        self.logged.extend(notice.logged.iter());
    }
}
