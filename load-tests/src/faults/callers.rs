//! Clients that start runs through the API for as long as the load lasts, and repeat a call with its key until it is
//! acknowledged, as a client has to.

use crate::cluster::WORKSPACE;
use proto::v1::{CreateRunRequest, run_service_client::RunServiceClient};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rpc::client::{Channel, within};
use std::time::Duration;
use tokio::{task::JoinSet, time::Instant};

/// A call that is not answered by then is repeated.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Before a call is repeated.
const REPEAT_PAUSE: Duration = Duration::from_millis(50);
/// After the load has ended, calls are repeated so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call that was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Acknowledged {
    /// The idempotency key.
    pub(super) key: String,
    /// The run that it was told.
    pub(super) run_id: String,
    /// From the first time that it was sent to the answer.
    pub(super) took: Duration,
}

/// What all clients were told.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// Calls with an answer.
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Keys whose calls were given up: there may be a run for each, or none.
    pub(super) given_up: Vec<String>,
    /// Calls that were repeated.
    pub(super) repeated: u64,
}

/// Clients at work.
#[derive(Debug)]
pub(super) struct Callers(JoinSet<Told>);

impl Callers {
    /// Starts `count` clients, each with a call about every `every`, until `until`.
    pub(super) fn start(channel: &Channel, count: u64, every: Duration, until: Instant, seed: u64) -> Self {
        let mut tasks = JoinSet::new();
        for caller in 0..count {
            let client = RunServiceClient::new(channel.clone());
            tasks.spawn(call(client, caller, every, until, StdRng::seed_from_u64(seed.wrapping_add(caller))));
        }
        Self(tasks)
    }

    /// What they were told, when all of them have ended.
    pub(super) async fn told(self) -> Told {
        self.0.join_all().await.into_iter().fold(Told::default(), |mut all, told| {
            all.acknowledged.extend(told.acknowledged);
            all.given_up.extend(told.given_up);
            all.repeated += told.repeated;
            all
        })
    }
}

async fn call(
    mut client: RunServiceClient<Channel>,
    caller: u64,
    every: Duration,
    until: Instant,
    mut dice: StdRng,
) -> Told {
    let mut told = Told::default();
    for number in 0_u64.. {
        tokio::time::sleep(every.mul_f64(0.5 + dice.random::<f64>())).await;
        if Instant::now() >= until {
            break;
        }
        let key = format!("caller-{caller}-{number}");
        let pipeline = super::stage::pipeline(dice.random_range(0..super::stage::PIPELINES));
        let request = CreateRunRequest {
            workspace: WORKSPACE.to_owned(),
            pipeline,
            idempotency_key: key.clone(),
            ..CreateRunRequest::default()
        };
        let begun = Instant::now();
        loop {
            let answer = client.create_run(within(CALL_TIMEOUT, request.clone())).await;
            if let Some(run) = answer.ok().and_then(|answer| answer.into_inner().run) {
                told.acknowledged.push(Acknowledged { key, run_id: run.id, took: begun.elapsed() });
                break;
            }
            if Instant::now() >= until + PATIENCE {
                told.given_up.push(key);
                break;
            }
            told.repeated += 1;
            tokio::time::sleep(REPEAT_PAUSE).await;
        }
    }
    told
}
