//! The link to a scheduler: opens sessions one after the other, passes messages, knows nothing of attempts.

use proto::internal::v1::{
    self as pb, executor_session_service_client::ExecutorSessionServiceClient, session_response::Message,
};
use rpc::client::Dialer;
use runtime::backoff::{self, Backoff};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Messages to the scheduler that the stream has not taken.
const OUTGOING_MAX: usize = 4_096;
/// A first answer must come within this time, else another scheduler is tried.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

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
    let mut pause = Backoff::new(BACKOFF.0, BACKOFF.1);
    while !stop.is_cancelled() {
        let lasted = tokio::select! {
            () = stop.cancelled() => return,
            lasted = session(&mut dialer, &events) => lasted,
        };
        if events.send(LinkEvent::Down).await.is_err() {
            return;
        }
        if lasted {
            pause.reset();
        }
        tokio::time::sleep(pause.next(backoff::random())).await;
    }
}

/// One session, on a connection of its own; true when the scheduler answered.
async fn session(dialer: &mut Dialer, events: &mpsc::Sender<LinkEvent>) -> bool {
    let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
    let abandon = Abandon::new();
    if events.send(LinkEvent::Opening(sender, abandon.clone())).await.is_err() {
        return false;
    }
    let mut client =
        ExecutorSessionServiceClient::new(dialer.dial()).max_decoding_message_size(rpc::server::SESSION_BYTES_MAX);
    let opened = tokio::time::timeout(OPEN_TIMEOUT, client.session(ReceiverStream::new(outgoing))).await;
    let mut incoming = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            tracing::debug!(code = ?status.code(), message = status.message(), "no session with this scheduler");
            return false;
        }
        Err(_) => return false,
    };
    let mut answered = false;
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
                tracing::debug!(code = ?status.code(), message = status.message(), "the session broke");
                return answered;
            }
        };
        match message {
            None => {}
            Some(Message::Reconnect(_)) => return answered,
            Some(message) => {
                answered = true;
                if events.send(LinkEvent::Message(message)).await.is_err() {
                    return answered;
                }
            }
        }
    }
}
