//! Clients that start runs through the API for as long as the load lasts, and repeat a call with its key until it is
//! acknowledged, as a client has to.

use crate::{
    cluster::WORKSPACE,
    history::{ClientEvent, ClientLog, Request},
};
use anyhow::Result;
use proto::v1::{CreateRunRequest, run_service_client::RunServiceClient};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rpc::client::{Channel, within};
use std::{path::Path, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// A call that is not answered by then is repeated.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Before a call is repeated.
const REPEAT_PAUSE: Duration = Duration::from_millis(50);
/// After the load has ended, calls are repeated so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all clients were told; the history has it call by call.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// How long each call took that was acknowledged, from the first time that it was sent.
    pub(super) took: Vec<Duration>,
    /// Calls that were given up: there may be a run for each, or none.
    pub(super) given_up: u64,
    /// Calls that were repeated.
    pub(super) repeated: u64,
}

/// Clients at work.
#[derive(Debug)]
pub(super) struct Callers(JoinSet<Result<Told>>);

impl Callers {
    /// Starts `count` clients, each with a call about every `every`, until `until`. Each has a log in the history's folder.
    ///
    /// # Errors
    /// When a log cannot be made.
    pub(super) fn start(
        channel: &Channel,
        history: &Path,
        (count, every): (u64, Duration),
        until: Instant,
        seed: u64,
    ) -> Result<Self> {
        let mut tasks = JoinSet::new();
        for caller in 0..count {
            let caller = Caller {
                client: RunServiceClient::new(channel.clone()),
                log: ClientLog::create(history, &format!("caller-{caller}"))?,
                name: caller,
                until,
                told: Told::default(),
            };
            let dice = StdRng::seed_from_u64(seed.wrapping_add(caller.name));
            tasks.spawn(caller.run(every, dice));
        }
        Ok(Self(tasks))
    }

    /// What they were told, when all of them have ended.
    ///
    /// # Errors
    /// When a log could not be written.
    pub(super) async fn told(self) -> Result<Told> {
        let mut all = Told::default();
        for told in self.0.join_all().await {
            let told = told?;
            all.took.extend(told.took);
            all.given_up += told.given_up;
            all.repeated += told.repeated;
        }
        Ok(all)
    }
}

struct Caller {
    client: RunServiceClient<Channel>,
    log: ClientLog,
    name: u64,
    until: Instant,
    told: Told,
}

impl Caller {
    async fn run(mut self, every: Duration, mut dice: StdRng) -> Result<Told> {
        for number in 0_u64.. {
            tokio::time::sleep(every.mul_f64(0.5 + dice.random::<f64>())).await;
            if Instant::now() >= self.until {
                break;
            }
            let pipeline = super::stage::pipeline(dice.random_range(0..super::stage::PIPELINES));
            self.call(pipeline, format!("caller-{}-{number}", self.name)).await?;
        }
        Ok(self.told)
    }

    async fn call(&mut self, pipeline: String, key: String) -> Result<()> {
        let workspace = WORKSPACE.to_owned();
        let asked = Request::CreateRun { workspace: workspace.clone(), pipeline: pipeline.clone(), key: key.clone() };
        let request = CreateRunRequest { workspace, pipeline, idempotency_key: key, ..CreateRunRequest::default() };
        let begun = Instant::now();
        loop {
            let noted = self.log.asked(asked.clone())?;
            let answer = self.client.create_run(within(CALL_TIMEOUT, request.clone())).await;
            match answer.map(|answer| answer.into_inner().run) {
                Ok(Some(run)) => {
                    let run_id = Some(run.id.parse()?);
                    let answer =
                        ClientEvent::Acknowledged { run_id, version: None, instead: None, started: Vec::new() };
                    self.log.answered(noted, answer)?;
                    self.told.took.push(begun.elapsed());
                    return Ok(());
                }
                Ok(None) => self.log.answered(noted, ClientEvent::Failed { error: "no run".to_owned() })?,
                Err(status) => {
                    self.log.answered(noted, ClientEvent::Failed { error: status.message().to_owned() })?;
                }
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
