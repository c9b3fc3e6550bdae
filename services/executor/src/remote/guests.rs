//! Attempts that run elsewhere and come back over a session: who they are, by the token that each was given, and what
//! they say. To a guest this executor is the scheduler. Refuses to know how it was started, and what its words mean.

use crate::logs::AttemptLog;
use backend::Token;
use proto::internal::v1::{
    self as pb, executor_session_service_server::ExecutorSessionService, session_request::Message as Up,
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt::Write as _,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

/// Messages to one guest that its stream has not taken.
const OUTGOING_MAX: usize = 256;
/// Words of one guest that nobody has heard; it waits beyond.
const WORDS_MAX: usize = 64;

/// Messages to a guest.
pub(super) type Outbox = mpsc::Sender<Result<pb::SessionResponse, Status>>;

/// What a guest says.
#[derive(Debug)]
pub(super) enum Word {
    /// It opened a session, its first or another one, and says what it runs.
    Hello(pb::Hello, Outbox),
    /// It said something.
    Said(Up),
}

/// The guests that are expected, by the SHA-256 of their tokens. Copies share them.
#[derive(Clone, Default)]
pub struct Guests(Arc<Mutex<HashMap<[u8; 32], Guest>>>);

#[derive(Clone)]
struct Guest {
    log: AttemptLog,
    words: mpsc::Sender<Word>,
}

/// A guest that is expected as long as this value lives.
pub(super) struct Expected {
    guests: Guests,
    key: [u8; 32],
    /// What it says.
    pub(super) words: mpsc::Receiver<Word>,
    /// By what it proves who it is.
    pub(super) token: Token,
}

impl Guests {
    /// Expects another guest, whose lines go to `log`.
    pub(super) fn expect(&self, log: &AttemptLog) -> Expected {
        let secret = rand::random::<[u8; 32]>().iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        let (sender, words) = mpsc::channel(WORDS_MAX);
        let key = digest(&secret);
        self.with(|known| known.insert(key, Guest { log: log.clone(), words: sender }));
        Expected { guests: self.clone(), key, words, token: Token::new(secret) }
    }

    /// Whose request it is. The table is searched by digests, so its times tell nothing about tokens.
    fn guest(&self, metadata: &MetadataMap) -> Result<Guest, Status> {
        let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        token
            .and_then(|token| self.with(|known| known.get(&digest(token)).cloned()))
            .ok_or_else(|| Status::unauthenticated("no attempt with this token is expected here; it may be over"))
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<[u8; 32], Guest>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.guests.with(|known| known.remove(&self.key));
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn over<T>(_: T) -> Status {
    Status::unavailable("the attempt is over")
}

#[tonic::async_trait]
impl ExecutorSessionService for Guests {
    type SessionStream = ReceiverStream<Result<pb::SessionResponse, Status>>;
    type PushLogsStream = Pin<Box<dyn Stream<Item = Result<pb::PushLogsResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let guest = self.guest(request.metadata())?;
        let mut requests = request.into_inner();
        let Some(Up::Hello(hello)) = requests.message().await?.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("the first message of a session must be Hello"));
        };
        let (outbox, outgoing) = mpsc::channel(OUTGOING_MAX);
        guest.words.send(Word::Hello(hello, outbox)).await.map_err(over)?;
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some(message) = request.message
                    && guest.words.send(Word::Said(message)).await.is_err()
                {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn push_logs(
        &self,
        request: Request<Streaming<pb::PushLogsRequest>>,
    ) -> Result<Response<Self::PushLogsStream>, Status> {
        let guest = self.guest(request.metadata())?;
        let acks = request.into_inner().then(move |batch| {
            let log = guest.log.clone();
            async move {
                let batch = batch?;
                for line in &batch.lines {
                    log.relay(line);
                }
                log.room().await;
                Ok(pb::PushLogsResponse { sequence: batch.sequence })
            }
        });
        Ok(Response::new(Box::pin(acks)))
    }
}
