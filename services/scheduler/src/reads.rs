//! Parts of outputs on their way from an executor, which has the keys of a project's own store, to a web-server that shows
//! them. Refuses to keep anything of them, and to judge who may look.

use crate::{owners::Owners, values, wire::AttemptId};
use domain::unit;
use proto::internal::v1::{
    self as pb, output_read_service_client::OutputReadServiceClient, output_read_service_server::OutputReadService,
    read_output_response, serve_reads_request,
};
use rpc::client::within;
use secrets::Keyring;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use store::{Store, runs};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// An executor's time for one part.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The other schedulers', all of them.
const PEERS_TIMEOUT: Duration = Duration::from_secs(11);
/// Parts that one executor has not taken; the next one is asked then.
const ORDERS_MAX: usize = 16;
/// Parts under way at once; their answers are in memory.
const UNDER_WAY_MAX: usize = 128;

type Order = pb::ServeReadsResponse;
/// `None`: there is no such file.
type Answer = Option<serve_reads_request::Outcome>;

/// Serves executors that read, and web-servers for whom they do.
#[derive(Clone)]
pub struct Reads {
    store: Store,
    keyring: Option<Arc<Keyring>>,
    owners: Owners,
    readers: Readers,
    /// Streams end with it: executors look elsewhere.
    stop: CancellationToken,
}

impl Reads {
    /// Finds code in the database; `keyring` opens the secrets that say where outputs are.
    #[must_use]
    pub fn new(store: Store, keyring: Option<Arc<Keyring>>, owners: Owners, stop: CancellationToken) -> Self {
        Self { store, keyring, owners, readers: Readers::default(), stop }
    }

    async fn order(&self, attempt: &AttemptId, request: &pb::ReadOutputRequest) -> Result<Order, Status> {
        let away = |error: store::Error| rpc::status::to_status(error.kind(), "DATABASE", error.to_string(), &[]);
        let bundle_digest = runs::bundle(&self.store, attempt.run).await.map_err(away)?;
        let mut secrets =
            values::of_places(&self.store, self.keyring.as_deref(), &[attempt.run]).await.map_err(away)?;
        Ok(Order {
            id: 0,
            bundle_digest: bundle_digest.ok_or_else(|| Status::not_found("there is no such run"))?,
            secrets: secrets.remove(&attempt.run).unwrap_or_default().into_iter().collect(),
            folder: unit::output_folder(attempt.run, &attempt.block, attempt.child, attempt.lease),
            file: request.file.clone(),
            offset: request.offset,
            length: request.length,
        })
    }

    /// By way of the other schedulers, one after the other.
    async fn elsewhere(&self, request: pb::ReadOutputRequest) -> pb::ReadOutputResponse {
        let request = pb::ReadOutputRequest { forwarded: true, ..request };
        let until = Instant::now() + PEERS_TIMEOUT;
        for channel in self.owners.others().into_iter().filter_map(|other| self.owners.channel(other)) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let asked = OutputReadServiceClient::new(channel).read_output(within(left, request.clone())).await;
            match asked {
                Ok(answer) => return answer.into_inner(),
                Err(status) => {
                    tracing::debug!(code = ?status.code(), message = status.message(), "nobody reads outputs elsewhere");
                }
            }
        }
        let nobody = "no executor is connected that could read them, or all are busy".to_owned();
        pb::ReadOutputResponse { outcome: Some(read_output_response::Outcome::Failure(nobody)) }
    }
}

#[tonic::async_trait]
impl OutputReadService for Reads {
    type ServeReadsStream = Pin<Box<dyn Stream<Item = Result<Order, Status>> + Send>>;

    async fn serve_reads(
        &self,
        request: Request<Streaming<pb::ServeReadsRequest>>,
    ) -> Result<Response<Self::ServeReadsStream>, Status> {
        let mut inbound = request.into_inner();
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let (here, stop) = (self.readers.come(sender), self.stop.clone());
        tokio::spawn(async move {
            while let Some(Ok(Some(answer))) = stop.run_until_cancelled(inbound.message()).await {
                here.answered(answer);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(orders).map(Ok))))
    }

    async fn read_output(
        &self,
        request: Request<pb::ReadOutputRequest>,
    ) -> Result<Response<pb::ReadOutputResponse>, Status> {
        let request = request.into_inner();
        let attempt = request.attempt.clone().and_then(AttemptId::from_proto);
        let attempt =
            attempt.ok_or_else(|| Status::invalid_argument("attempt must name a run, a block and a lease"))?;
        // No secret is opened for nobody.
        if !self.readers.is_empty()
            && let Some(answer) = self.readers.read(&self.order(&attempt, &request).await?).await
        {
            return Ok(Response::new(pb::ReadOutputResponse { outcome: answer.map(told) }));
        }
        if request.forwarded {
            return Err(Status::unavailable("no executor is here that could read them, or all are busy"));
        }
        Ok(Response::new(self.elsewhere(request).await))
    }
}

fn told(outcome: serve_reads_request::Outcome) -> read_output_response::Outcome {
    match outcome {
        serve_reads_request::Outcome::Part(part) => read_output_response::Outcome::Part(part),
        serve_reads_request::Outcome::Failure(failure) => read_output_response::Outcome::Failure(failure),
    }
}

/// The executors that are here to read.
#[derive(Clone, Default)]
struct Readers(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Numbers streams and orders.
    last: i64,
    /// The stream that was asked last.
    turn: i64,
    streams: BTreeMap<i64, mpsc::Sender<Order>>,
    waiting: HashMap<i64, Waiting>,
}

/// For an executor's answer.
struct Waiting {
    stream: i64,
    answer: oneshot::Sender<Answer>,
}

/// A stream, as long as it lasts.
struct Here {
    readers: Readers,
    stream: i64,
}

/// An order that was given, as long as somebody waits for it.
struct Asked {
    readers: Readers,
    id: i64,
    answer: oneshot::Receiver<Answer>,
}

impl Readers {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.known().streams.is_empty()
    }

    fn come(&self, orders: mpsc::Sender<Order>) -> Here {
        let mut known = self.known();
        known.last += 1;
        let stream = known.last;
        known.streams.insert(stream, orders);
        Here { readers: self.clone(), stream }
    }

    /// The answer of the first executor that gives one; `None` when there is nobody to ask.
    async fn read(&self, order: &Order) -> Option<Answer> {
        let mut tried = BTreeSet::new();
        while let Some(mut asked) = self.ask(order, &mut tried) {
            match tokio::time::timeout(READ_TIMEOUT, &mut asked.answer).await {
                Ok(Ok(answer)) => return Some(answer),
                // It is gone, or busy.
                Ok(Err(_)) => {}
                Err(_) => {
                    let late = format!("an executor did not answer within {} s", READ_TIMEOUT.as_secs());
                    return Some(Some(serve_reads_request::Outcome::Failure(late)));
                }
            }
        }
        None
    }

    /// Asks the next one that was not tried; `None` when all were, or too much is under way.
    fn ask(&self, order: &Order, tried: &mut BTreeSet<i64>) -> Option<Asked> {
        let mut known = self.known();
        if known.waiting.len() >= UNDER_WAY_MAX {
            return None;
        }
        let after = known.streams.range(known.turn + 1..);
        let mut in_turn = after.chain(known.streams.range(..=known.turn)).map(|(stream, _)| *stream);
        let stream = in_turn.find(|stream| !tried.contains(stream))?;
        tried.insert(stream);
        known.turn = stream;
        known.last += 1;
        let (id, (answer, answered)) = (known.last, oneshot::channel());
        // One that takes no more loses the sender, and the next one is asked.
        if known.streams.get(&stream).is_some_and(|orders| orders.try_send(Order { id, ..order.clone() }).is_ok()) {
            known.waiting.insert(id, Waiting { stream, answer });
        }
        Some(Asked { readers: self.clone(), id, answer: answered })
    }
}

impl Here {
    fn answered(&self, answer: pb::ServeReadsRequest) {
        let mut known = self.readers.known();
        if known.waiting.get(&answer.id).is_some_and(|waiting| waiting.stream == self.stream)
            && let Some(waiting) = known.waiting.remove(&answer.id)
        {
            // Whoever asked may have gone by now.
            let _ = waiting.answer.send(answer.outcome);
        }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut known = self.readers.known();
        known.streams.remove(&self.stream);
        known.waiting.retain(|_, waiting| waiting.stream != self.stream);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.readers.known().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: i64) -> pb::ServeReadsRequest {
        let part = pb::FilePart { size_bytes: id, content: Vec::new() };
        pb::ServeReadsRequest { id, outcome: Some(serve_reads_request::Outcome::Part(part)) }
    }

    #[tokio::test]
    async fn the_next_executor_is_asked_when_one_goes_away() {
        let readers = Readers::default();
        assert!(readers.read(&Order::default()).await.is_none());
        let (first, mut of_first) = mpsc::channel(1);
        let (second, mut of_second) = mpsc::channel(1);
        let (first, second) = (readers.come(first), readers.come(second));
        let asked = readers.clone();
        let reading = tokio::spawn(async move { asked.read(&Order::default()).await });
        let lost = of_first.recv().await.unwrap();
        // An answer that is not its own counts for nothing.
        second.answered(part(lost.id));
        drop(first);
        let order = of_second.recv().await.unwrap();
        second.answered(part(order.id));
        let Some(Some(serve_reads_request::Outcome::Part(part))) = reading.await.unwrap() else { panic!("no part") };
        assert_eq!(part.size_bytes, order.id);
        assert!(readers.known().waiting.is_empty());
    }

    #[tokio::test]
    async fn nobody_waits_for_an_executor_that_takes_no_more() {
        let readers = Readers::default();
        let (sender, orders) = mpsc::channel(1);
        let here = readers.come(sender);
        let mut tried = BTreeSet::new();
        let waits = readers.ask(&Order::default(), &mut tried).unwrap();
        assert!(readers.read(&Order::default()).await.is_none(), "it is busy");
        drop(waits);
        assert!(readers.known().waiting.is_empty());
        drop((here, orders));
        assert!(readers.is_empty());
    }
}
