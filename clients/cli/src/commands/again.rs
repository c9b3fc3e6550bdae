//! Streams that are opened again when they were lost, and calls that are made again: how often, and after which pauses.
//! Refuses to know what is streamed or asked.

use runtime::backoff::{self, Backoff};
use std::time::Duration;
use tonic::{Code, Response, Status};

/// A lost stream is opened again so often in a row; with the pauses that is about a minute.
pub(super) const TRIES_MAX: u32 = 15;

/// The tries to open one stream.
pub(super) struct Again {
    pause: Backoff,
    lost: u32,
}

impl Again {
    pub(super) const fn new() -> Self {
        Self { pause: Backoff::new(Duration::from_millis(200), Duration::from_secs(5)), lost: 0 }
    }

    /// Waits until the next try; answers how many have failed in a row.
    ///
    /// # Errors
    /// The one that ended the stream, when another try would do no better, or too many were made.
    pub(super) async fn after(&mut self, error: Status) -> Result<u32, Status> {
        self.lost += 1;
        if self.lost > TRIES_MAX || !passes(&error) {
            return Err(error);
        }
        tokio::time::sleep(self.pause.next(backoff::random())).await;
        Ok(self.lost)
    }

    /// Something came.
    pub(super) fn came(&mut self) {
        self.lost = 0;
        self.pause.reset();
    }
}

/// Makes a call with a key again while a server is lost before it answered: it is one act, and its caller hears of it.
///
/// # Errors
/// What was answered, or that there is nobody who answers. Without any server there is nothing to wait for.
pub(super) async fn until_answered<T>(
    call: impl AsyncFn() -> Result<Response<T>, Status>,
) -> Result<Response<T>, Status> {
    let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut lost = 0;
    loop {
        match call().await {
            Err(error) if lost == 0 && error.code() == Code::Unavailable => return Err(error),
            Err(error) if lost < TRIES_MAX && rpc::status::is_away(&error) => lost += 1,
            answer => return answer,
        }
        tokio::time::sleep(pause.next(backoff::random())).await;
    }
}

/// Whether another stream may go better: a server that restarts, or a connection that was cut.
fn passes(error: &Status) -> bool {
    matches!(error.code(), Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Aborted | Code::DeadlineExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_tried_again_for_a_while_and_only_where_that_helps() {
        let mut again = Again::new();
        assert_eq!(again.after(Status::unavailable("restarts")).await.unwrap(), 1);
        assert_eq!(again.after(Status::unknown("cut")).await.unwrap(), 2);
        assert!(again.after(Status::permission_denied("no more")).await.is_err());
        again.lost = TRIES_MAX;
        assert!(again.after(Status::unavailable("restarts")).await.is_err());
        again.came();
        assert_eq!(again.after(Status::unavailable("restarts")).await.unwrap(), 1);
    }
}
