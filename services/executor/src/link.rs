//! The link to a scheduler: opens sessions one after the other, passes messages, knows nothing of attempts.

use proto::internal::v1::{
    self as pb, executor_session_service_client::ExecutorSessionServiceClient, session_response::Message,
};
use rpc::client::Dialer;
use runtime::backoff::{self, Backoff};
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Messages to the scheduler that the stream has not taken.
const OUTGOING_MAX: usize = 4_096;
/// A first answer must come within this time, else another scheduler is tried.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Without a session for so long, the log tells why, and again whenever so much more has gone by.
const TOLD_AFTER: Duration = Duration::from_secs(10);
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Ends one session from this side: the link then opens another.
pub type Abandon = CancellationToken;

/// What the link tells.
#[derive(Debug)]
pub enum LinkEvent {
    /// A session may begin: Hello is to be sent here first.
    Opening(mpsc::Sender<pb::SessionRequest>, Abandon),
    /// The scheduler said something.
    Message(Message),
    /// The session is over; another follows.
    Down,
}

/// Opens sessions until it is stopped.
pub async fn keep_open(mut dialer: Dialer, events: mpsc::Sender<LinkEvent>, stop: CancellationToken) {
    let (mut pause, mut outage) = (Backoff::new(BACKOFF.0, BACKOFF.1), Outage::default());
    while !stop.is_cancelled() {
        let had = tokio::select! {
            () = stop.cancelled() => return,
            had = session(&mut dialer, &events) => had,
        };
        if events.send(LinkEvent::Down).await.is_err() {
            return;
        }
        match had {
            Ok(()) => {
                outage = Outage::default();
                pause.reset();
            }
            Err(why) => match outage.is_told(Instant::now()) {
                Some(lasts) => tracing::warn!(why, seconds = lasts.as_secs(), "no scheduler takes a session"),
                None => tracing::debug!(why, "no session with this scheduler"),
            },
        }
        tokio::time::sleep(pause.next(backoff::random())).await;
    }
}

/// The time without a session.
#[derive(Default)]
struct Outage {
    since: Option<Instant>,
    told: Option<Instant>,
}

impl Outage {
    /// One more try was in vain: how long that goes on, if it is time to tell.
    fn is_told(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let due = self.told.map_or(since + TOLD_AFTER, |told| told + TOLD_EVERY);
        (now >= due).then(|| {
            self.told = Some(now);
            now - since
        })
    }
}

/// One session, on a connection of its own, until it ends; or why the scheduler never said a word.
async fn session(dialer: &mut Dialer, events: &mpsc::Sender<LinkEvent>) -> Result<(), String> {
    let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
    let abandon = Abandon::new();
    let closed = || "this executor ends".to_owned();
    events.send(LinkEvent::Opening(sender, abandon.clone())).await.map_err(|_| closed())?;
    let mut client =
        ExecutorSessionServiceClient::new(dialer.dial()).max_decoding_message_size(rpc::server::SESSION_BYTES_MAX);
    let opened = tokio::time::timeout(OPEN_TIMEOUT, client.session(ReceiverStream::new(outgoing))).await;
    let opened = opened.map_err(|_| format!("no answer within {} s", OPEN_TIMEOUT.as_secs()))?;
    let mut incoming = opened.map_err(|status| said(&status))?.into_inner();
    let mut answered = Err("the session ended before its first word".to_owned());
    loop {
        let message = tokio::select! {
            // Its peer may be frozen: the stream itself would tell only after the keep-alive has given up.
            () = abandon.cancelled() => return answered,
            message = incoming.message() => message,
        };
        let message = match message {
            Ok(Some(message)) => message.message,
            Ok(None) => return answered,
            Err(status) => {
                tracing::debug!(why = said(&status), "the session broke");
                return answered.map_err(|_| said(&status));
            }
        };
        match message {
            None => {}
            Some(Message::Reconnect(_)) => return answered,
            Some(message) => {
                answered = Ok(());
                if events.send(LinkEvent::Message(message)).await.is_err() {
                    return answered;
                }
            }
        }
    }
}

fn said(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_after_a_while_and_then_now_and_then() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let mut told = |second| outage.is_told(start + Duration::from_secs(second)).map(|lasts| lasts.as_secs());
        assert_eq!([0, 9, 10, 11, 69, 70, 71].map(&mut told), [None, None, Some(10), None, None, Some(70), None]);
    }
}
