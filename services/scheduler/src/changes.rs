//! Which runs changed: a hint for whoever shows them. Losing one costs the reader its backstop interval, nothing else.

use domain::id::RunId;
use std::{collections::HashSet, sync::Arc};
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};

/// Notices that a slow reader may fall behind by; then it is told to read everything it watches.
const NOTICES_MAX: usize = 256;

/// Runs whose rows, or whose log lines, changed in one commit.
#[derive(Debug, Clone, Default)]
pub struct Notice {
    /// Rows changed.
    pub runs: Arc<[RunId]>,
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
    /// Tells that rows of these runs changed.
    pub fn changed(&self, runs: Vec<RunId>) {
        if !runs.is_empty() && self.sender.receiver_count() > 0 {
            // Nobody listening is no error.
            let _ = self.sender.send(Notice { runs: runs.into(), logged: Arc::default() });
        }
    }

    /// Tells that these runs have new log lines.
    pub fn logged(&self, runs: Vec<RunId>) {
        if !runs.is_empty() && self.sender.receiver_count() > 0 {
            let _ = self.sender.send(Notice { runs: Arc::default(), logged: runs.into() });
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
    /// These have new lines.
    pub logged: HashSet<RunId>,
    /// Some notices were missed.
    pub overflow: bool,
}

impl News {
    /// Waits for a notice, and takes all that have come with it. `None` when there will be no more. Cancel-safe.
    pub async fn next(notices: &mut broadcast::Receiver<Notice>) -> Option<Self> {
        let mut news = Self::default();
        match notices.recv().await {
            Ok(notice) => news.add(&notice),
            Err(RecvError::Lagged(_)) => news.overflow = true,
            Err(RecvError::Closed) => return None,
        }
        loop {
            match notices.try_recv() {
                Ok(notice) => news.add(&notice),
                Err(TryRecvError::Lagged(_)) => news.overflow = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(news),
            }
        }
    }

    fn add(&mut self, notice: &Notice) {
        self.runs.extend(notice.runs.iter());
        self.logged.extend(notice.logged.iter());
    }
}
