//! Clients that ask the cluster for something for as long as the load lasts, and repeat a call with its key until it is
//! acknowledged, as a client has to.

mod backfills;
mod events;

pub(super) use backfills::Backfills;
pub(super) use events::{Events, KIND};

use super::stage::{PIPELINES, pipeline};
use crate::{
    cluster::WORKSPACE,
    history::{ClientEvent, ClientLog, Request},
};
use anyhow::Result;
use proto::v1::{CreateRunRequest, run_service_client::RunServiceClient};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rpc::client::{Channel, within};
use std::{future::Future, path::Path, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// A call that is not answered by then is repeated.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Before a call is repeated.
const REPEAT_PAUSE: Duration = Duration::from_millis(50);
/// After the load has ended, calls are repeated so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client asks for, and how.
pub(super) trait Asks: Send + 'static {
    /// The next thing to be asked for, with this key.
    fn next(&self, key: String, dice: &mut StdRng) -> Request;

    /// Asks once; the error is what the answer says, or that there is none.
    fn ask(&mut self, request: &Request) -> impl Future<Output = Result<ClientEvent, String>> + Send;
}

/// What all clients were told; the history has it call by call.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// How long each call took that was acknowledged, from the first time that it was sent.
    pub(super) took: Vec<Duration>,
    /// Calls that were given up: they may have been carried out, or not.
    pub(super) given_up: u64,
    /// Calls that were repeated.
    pub(super) repeated: u64,
}

/// Clients at work, until an instant.
#[derive(Debug)]
pub(super) struct Callers {
    tasks: JoinSet<Result<Told>>,
    until: Instant,
    seed: u64,
}

impl Callers {
    /// None yet.
    pub(super) fn until(until: Instant, seed: u64) -> Self {
        Self { tasks: JoinSet::new(), until, seed }
    }

    /// One more, with a call about every `every`, and a log of its own, by its name, in the history's folder.
    ///
    /// # Errors
    /// When the log cannot be made.
    pub(super) fn add(&mut self, asks: impl Asks, name: String, history: &Path, every: Duration) -> Result<()> {
        let log = ClientLog::create(history, &name)?;
        let caller = Caller { asks, log, name, until: self.until, told: Told::default() };
        let dice = StdRng::seed_from_u64(self.seed.wrapping_add(self.tasks.len() as u64));
        self.tasks.spawn(caller.run(every, dice));
        Ok(())
    }

    /// What they were told, when all of them have ended.
    ///
    /// # Errors
    /// When a log could not be written.
    pub(super) async fn told(self) -> Result<Told> {
        let mut all = Told::default();
        for told in self.tasks.join_all().await {
            let told = told?;
            all.took.extend(told.took);
            all.given_up += told.given_up;
            all.repeated += told.repeated;
        }
        Ok(all)
    }
}

struct Caller<A> {
    asks: A,
    log: ClientLog,
    name: String,
    until: Instant,
    told: Told,
}

impl<A: Asks> Caller<A> {
    async fn run(mut self, every: Duration, mut dice: StdRng) -> Result<Told> {
        for number in 0_u64.. {
            tokio::time::sleep(every.mul_f64(0.5 + dice.random::<f64>())).await;
            if Instant::now() >= self.until {
                break;
            }
            let request = self.asks.next(format!("{}-{number}", self.name), &mut dice);
            self.call(request).await?;
        }
        Ok(self.told)
    }

    async fn call(&mut self, request: Request) -> Result<()> {
        let begun = Instant::now();
        loop {
            let noted = self.log.asked(request.clone())?;
            match self.asks.ask(&request).await {
                Ok(answer) => {
                    self.log.answered(noted, answer)?;
                    self.told.took.push(begun.elapsed());
                    return Ok(());
                }
                Err(error) => self.log.answered(noted, ClientEvent::Failed { error })?,
            }
            if Instant::now() >= self.until + PATIENCE {
                self.told.given_up += 1;
                return Ok(());
            }
            self.told.repeated += 1;
            tokio::time::sleep(REPEAT_PAUSE).await;
        }
    }
}

/// Starts runs of pipelines.
pub(super) struct Runs(pub(super) Channel);

impl Asks for Runs {
    fn next(&self, key: String, dice: &mut StdRng) -> Request {
        let pipeline = pipeline(dice.random_range(0..PIPELINES));
        Request::CreateRun { workspace: WORKSPACE.to_owned(), pipeline, key }
    }

    async fn ask(&mut self, request: &Request) -> Result<ClientEvent, String> {
        let Request::CreateRun { workspace, pipeline, key } = request.clone() else {
            return Err("this client starts runs".to_owned());
        };
        let request = CreateRunRequest { workspace, pipeline, idempotency_key: key, ..CreateRunRequest::default() };
        let answer = RunServiceClient::new(self.0.clone()).create_run(within(CALL_TIMEOUT, request)).await;
        let run = answer.map_err(|status| status.message().to_owned())?.into_inner().run.ok_or("no run")?;
        let run_id = run.id.parse().map_err(|error| format!("{:?} names no run: {error}", run.id))?;
        Ok(ClientEvent::Acknowledged { run_id: Some(run_id), version: None, instead: None, started: Vec::new() })
    }
}
