//! Reads outputs for web-servers, which have no key of a project's own store: waits at a scheduler for what somebody looks at.
//! Refuses to judge who may look.

use crate::{bundles::Bundles, outputs::Outputs, process::keeping};
use futures_util::StreamExt;
use proto::internal::v1::{
    self as pb, output_read_service_client::OutputReadServiceClient, serve_reads_request::Outcome,
};
use rpc::client::Dialer;
use runtime::backoff::{self, Backoff};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// What is read at once; each holds at most [`BYTES_MAX`].
const AT_ONCE: usize = 4;
/// Of one answer, which is one message.
const BYTES_MAX: u64 = 1 << 20;
/// For one part: below the time that the scheduler waits for it.
const READ_TIMEOUT: Duration = Duration::from_secs(8);
/// A scheduler takes the stream within this time, else another one is tried.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries. One that knows no such service is seldom asked.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// See the module's page.
pub struct Reader {
    dialer: Dialer,
    bundles: Arc<Bundles>,
    outputs: Arc<Outputs>,
}

impl Reader {
    /// Over a connection of its own to one scheduler after the other.
    #[must_use]
    pub fn new(dialer: Dialer, bundles: Arc<Bundles>, outputs: Arc<Outputs>) -> Self {
        Self { dialer, bundles, outputs }
    }

    /// Reads until it is stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = Backoff::new(BACKOFF.0, BACKOFF.1);
        while let Some(served) = stop.run_until_cancelled(self.serve()).await {
            if served {
                pause.reset();
            }
            let pause = tokio::time::sleep(pause.next(backoff::random()));
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// One stream; true when a scheduler took it.
    async fn serve(&mut self) -> bool {
        let (sender, outgoing) = mpsc::channel(AT_ONCE);
        let mut client = OutputReadServiceClient::new(self.dialer.dial());
        let opened = tokio::time::timeout(OPEN_TIMEOUT, client.serve_reads(ReceiverStream::new(outgoing))).await;
        let orders = match opened {
            Ok(Ok(opened)) => opened.into_inner(),
            Ok(Err(status)) => {
                tracing::debug!(code = ?status.code(), message = status.message(), "no scheduler lets outputs be read here");
                return false;
            }
            Err(_) => return false,
        };
        // An error of the stream is its end.
        let orders = tokio_stream::StreamExt::map_while(orders, Result::ok);
        let reader = &*self;
        let answers = orders.map(|order| reader.answer(order)).buffer_unordered(AT_ONCE);
        tokio::pin!(answers);
        while let Some(answer) = answers.next().await {
            if sender.send(answer).await.is_err() {
                break;
            }
        }
        true
    }

    async fn answer(&self, order: pb::ServeReadsResponse) -> pb::ServeReadsRequest {
        let id = order.id;
        let outcome = match tokio::time::timeout(READ_TIMEOUT, self.read(order)).await {
            Ok(Ok(part)) => part.map(Outcome::Part),
            Ok(Err(failure)) => Some(Outcome::Failure(failure)),
            Err(_) => Some(Outcome::Failure(format!("their store did not answer within {} s", READ_TIMEOUT.as_secs()))),
        };
        pb::ServeReadsRequest { id, outcome }
    }

    /// `None` when there is no such file.
    async fn read(&self, order: pb::ServeReadsResponse) -> Result<Option<pb::FilePart>, String> {
        let (secrets, masks) = (order.secrets.into_iter().collect(), Arc::default());
        let place = keeping::place(&self.bundles, &self.outputs, &order.bundle_digest, &secrets, &masks);
        let place = place.await.map_err(|error| told(&error))?;
        let offset = u64::try_from(order.offset).map_err(|_| "the offset is negative")?;
        let length = u64::try_from(order.length).unwrap_or(0).min(BYTES_MAX);
        let part = self.outputs.read_part(&place, &order.folder, &order.file, (offset, length)).await;
        Ok(part
            .map_err(|error| told(&error))?
            .map(|(size, content)| pb::FilePart { size_bytes: i64::try_from(size).unwrap_or(i64::MAX), content }))
    }
}

fn told(error: &dyn std::error::Error) -> String {
    runtime::exit::chain(error)
}
