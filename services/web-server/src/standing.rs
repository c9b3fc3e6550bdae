//! Whether the right that let somebody in still stands, asked again while a stream is open: roles, tokens and sessions end
//! while streams go on. Everything that outlives the head of its answer comes here. Refuses to know which right it is, and
//! how a stream says that it is over.

use crate::fault::Fault;
use bytes::Bytes;
use domain::ErrorKind;
use http_body::{Body, Frame, SizeHint};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::sleep;

/// Between two looks: a stream ends so soon after its right, and as long as a look takes.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// Ends when a right is lost.
pub(crate) type Lost = Pin<Box<dyn Future<Output = Fault> + Send>>;

/// Waits until `check` refuses; the answer is what the stream says at its end. A check that cannot be made is no refusal.
/// Safe to cancel.
pub(crate) async fn lost<C, F>(check: C) -> Fault
where
    C: Fn() -> F,
    F: Future<Output = Result<(), Fault>>,
{
    loop {
        sleep(INTERVAL).await;
        match check().await {
            Err(fault) if is_refusal(fault.0.kind) => return ended(),
            _ => {}
        }
    }
}

/// What one may no longer see is not found.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unauthenticated | ErrorKind::PermissionDenied | ErrorKind::NotFound)
}

/// In the same words for every stream.
pub(crate) fn ended() -> Fault {
    let message = "your role there, your token or your session has ended meanwhile; sign in again, or ask an owner";
    Fault::new(ErrorKind::PermissionDenied, "RIGHT_ENDED", message)
}

/// A body that lasts as long as a right.
pub(crate) struct Standing<B: Body> {
    body: B,
    lost: Lost,
    end: Option<End<B>>,
}

/// The last frame of a body whose right was lost, or the error that it ends with.
type End<B> = fn(Fault) -> Result<Frame<Bytes>, <B as Body>::Error>;

impl<B: Body> Standing<B> {
    pub(crate) fn new(body: B, lost: Lost, end: End<B>) -> Self {
        Self { body, lost, end: Some(end) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Standing<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(end) = self.end else { return Poll::Ready(None) };
        if let Poll::Ready(fault) = self.lost.as_mut().poll(context) {
            self.end = None;
            return Poll::Ready(Some(end(fault)));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
