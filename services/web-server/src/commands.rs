//! Commands to the schedulers: any of them serves any command, so one that is away is passed over. Refuses to validate;
//! that was done before.

mod runtimes;

use crate::fault::Fault;
use domain::{
    ErrorKind,
    id::{BackfillId, RunId},
};
use proto::internal::v1::{
    BackfillChange, CancelRunRequest, ChangeBackfillRequest, CleanLogsRequest, CleanLogsResponse,
    CreateBackfillRequest, CreateRunsRequest, ExpireOutputsOf, ExpireOutputsRequest, NewRun, ReadOutputRequest,
    ReadOutputResponse, RetryRunRequest, TestNotificationRequest, command_service_client::CommandServiceClient,
    output_read_service_client::OutputReadServiceClient, runtime_command_service_client::RuntimeCommandServiceClient,
};
use rpc::auth::Token;
use rpc::client::{Channel, ConnectError, within};
use rpc::status::Problem;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::transport::Uri;

/// A scheduler that takes longer is passed over.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// For a part of an output, which an executor reads for the scheduler.
const READ_TIMEOUT: Duration = Duration::from_secs(25);
/// Where none takes a command, they are asked again for so long: one may be starting, or another one be behind its address.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of a start that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Started {
    /// It is this run, which a former start with the same key may have created.
    Run(RunId),
    /// There is none yet: it waits for others to end.
    Later,
    /// There is none, for this reason.
    Not(String),
}

/// What schedulers say of a start that waits.
const WAITING: &str = "waiting";

/// Client of the command service over one lazily opened connection.
pub(crate) type Client = CommandServiceClient<Channel>;
/// The same, of the commands about runtimes.
type RuntimeClient = RuntimeCommandServiceClient<Channel>;
/// The same, of outputs that executors read.
type ReadClient = OutputReadServiceClient<Channel>;

/// The schedulers that this server knows, and which of them answered last.
#[derive(Clone)]
pub(crate) struct Commands {
    peers: Arc<[Client]>,
    runtimes: Arc<[RuntimeClient]>,
    reads: Arc<[ReadClient]>,
    last: Arc<AtomicUsize>,
    token: Option<Token>,
}

impl Commands {
    /// From the URI of every scheduler and the cluster's token.
    ///
    /// # Errors
    /// When there is no URI, or one of them names no peer.
    pub(crate) fn new(uris: &[Uri], token: Option<&Token>) -> Result<Self, ConnectError> {
        if uris.is_empty() {
            return Err(ConnectError::Endpoints(0));
        }
        let channel = |uri| rpc::client::connect(std::slice::from_ref(uri), token);
        let channels = uris.iter().map(channel).collect::<Result<Vec<_>, _>>()?;
        let peers = channels.iter().cloned().map(CommandServiceClient::new).collect();
        let runtimes = channels.iter().cloned().map(RuntimeCommandServiceClient::new).collect();
        let reads = channels.into_iter().map(OutputReadServiceClient::new).collect();
        Ok(Self { peers, runtimes, reads, last: Arc::default(), token: token.cloned() })
    }

    /// The scheduler that says it is at `address` (`host:port`).
    ///
    /// # Errors
    /// When that is no address.
    pub(crate) fn at(&self, address: &str) -> Result<Client, ConnectError> {
        let uri = format!("http://{address}").parse().map_err(|_| ConnectError::Uri(address.to_owned()))?;
        rpc::client::connect(&[uri], self.token.as_ref()).map(CommandServiceClient::new)
    }

    /// Every scheduler that is configured.
    pub(crate) fn peers(&self) -> &[Client] {
        &self.peers
    }

    /// Starts runs in one commit; the same keys again answer the same runs. For the manual trigger, which skips nothing.
    pub(crate) async fn create_runs(&self, runs: Vec<NewRun>) -> Result<Vec<RunId>, Fault> {
        let run = |started| match started {
            Started::Run(run) => Ok(run),
            Started::Later => {
                Err(Fault::new(ErrorKind::ResourceExhausted, "RUN_WAITS", "the run waits for others to end"))
            }
            Started::Not(reason) => {
                let message = format!("the run was not started ({reason}); try again when others have ended");
                Err(Fault::new(ErrorKind::ResourceExhausted, "RUN_SKIPPED", message))
            }
        };
        self.start_runs(runs).await?.into_iter().map(run).collect()
    }

    /// As `create_runs`, for triggers whose policies may skip a start.
    pub(crate) async fn start_runs(&self, runs: Vec<NewRun>) -> Result<Vec<Started>, Fault> {
        let message = CreateRunsRequest { runs, forwarded: false };
        let answer = self
            .any(|mut peer| {
                let request = within(COMMAND_TIMEOUT, message.clone());
                async move { peer.create_runs(request).await }
            })
            .await?;
        let skipped = answer.skipped.iter().map(Some).chain(std::iter::repeat(None));
        let started = |(id, skipped): (&Vec<u8>, Option<&String>)| match skipped.filter(|reason| !reason.is_empty()) {
            Some(reason) if id.is_empty() && reason == WAITING => Ok(Started::Later),
            Some(reason) if id.is_empty() => Ok(Started::Not(reason.clone())),
            _ => run_id(id).map(Started::Run),
        };
        answer.run_ids.iter().zip(skipped).map(started).collect()
    }

    /// Starts a backfill; answers its id, or that of the same one.
    pub(crate) async fn create_backfill(&self, message: CreateBackfillRequest) -> Result<BackfillId, Fault> {
        let answer = self
            .any(|mut peer| {
                let request = within(COMMAND_TIMEOUT, message.clone());
                async move { peer.create_backfill(request).await }
            })
            .await?;
        BackfillId::from_slice(&answer.backfill_id).ok_or_else(|| {
            Fault::new(ErrorKind::Internal, "INTERNAL", "a scheduler answered with something that is no backfill")
        })
    }

    /// Pauses, resumes or cancels a backfill.
    pub(crate) async fn change_backfill(&self, id: BackfillId, change: BackfillChange) -> Result<(), Fault> {
        let message = ChangeBackfillRequest { backfill_id: id.to_vec(), change: change.into(), ..Default::default() };
        self.any(|mut peer| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.change_backfill(request).await }
        })
        .await?;
        Ok(())
    }

    /// Asks a run to stop.
    pub(crate) async fn cancel_run(&self, run: RunId, reason: String) -> Result<(), Fault> {
        let message = CancelRunRequest { run_id: run.to_vec(), reason, forwarded: false };
        self.any(|mut peer| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.cancel_run(request).await }
        })
        .await?;
        Ok(())
    }

    /// Runs it again, whole or in part; answers the run to look at.
    pub(crate) async fn retry_run(&self, message: RetryRunRequest) -> Result<RunId, Fault> {
        let answer = self
            .any(|mut peer| {
                let request = within(COMMAND_TIMEOUT, message.clone());
                async move { peer.retry_run(request).await }
            })
            .await?;
        run_id(&answer.run_id)
    }

    /// Marks outputs of ended runs as gone; answers whether there are more.
    pub(crate) async fn expire_outputs(&self, pipelines: Vec<ExpireOutputsOf>) -> Result<bool, Fault> {
        let message = ExpireOutputsRequest { pipelines };
        let answer = self
            .any(|mut peer| {
                let request = within(COMMAND_TIMEOUT, message.clone());
                async move { peer.expire_outputs(request).await }
            })
            .await?;
        Ok(answer.more)
    }

    /// A part of a file of an output, by way of an executor.
    pub(crate) async fn read_output(&self, message: ReadOutputRequest) -> Result<ReadOutputResponse, Fault> {
        let call = |mut peer: ReadClient| {
            let request = within(READ_TIMEOUT, message.clone());
            async move { peer.read_output(request).await }
        };
        self.first(&self.reads, call).await
    }

    /// Drops days of log lines, or tells which ones would go.
    pub(crate) async fn clean_logs(&self, message: CleanLogsRequest) -> Result<CleanLogsResponse, Fault> {
        self.any(|mut peer| {
            let request = within(COMMAND_TIMEOUT, message);
            async move { peer.clean_logs(request).await }
        })
        .await
    }

    /// Sends a test message to whoever is told; answers how many messages there are.
    pub(crate) async fn test_notification(&self, message: TestNotificationRequest) -> Result<i32, Fault> {
        let answer = self
            .any(|mut peer| {
                let request = within(COMMAND_TIMEOUT, message.clone());
                async move { peer.test_notification(request).await }
            })
            .await?;
        Ok(answer.notifications)
    }

    async fn any<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.first(&self.peers, call).await
    }

    /// Asks the scheduler that answered last, then the others, and all again while that is worth it. Every command may be repeated
    /// safely.
    async fn first<P, T, F>(&self, peers: &[P], call: impl Fn(P) -> F) -> Result<T, Fault>
    where
        P: Clone,
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let (first, begun) = (self.last.load(Ordering::Relaxed), Instant::now());
        let mut refused = None;
        loop {
            for step in 0..peers.len() {
                let at = (first + step) % peers.len();
                match call(peers[at].clone()).await {
                    Ok(response) => {
                        self.last.store(at, Ordering::Relaxed);
                        return Ok(response.into_inner());
                    }
                    // Away, or frozen. What it may have done nevertheless is found again by the command's key.
                    Err(status) if rpc::status::is_away(&status) => refused = Some(status),
                    Err(status) => return Err(fault(&status)),
                }
            }
            if begun.elapsed() >= PATIENCE {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        tracing::warn!(error = refused.map(|s| s.message().to_owned()), "no scheduler took a command");
        Err(Fault::new(ErrorKind::Unavailable, "NO_SCHEDULER", "no scheduler answers; try again in a few seconds"))
    }
}

fn run_id(bytes: &[u8]) -> Result<RunId, Fault> {
    RunId::from_slice(bytes).ok_or_else(|| {
        Fault::new(ErrorKind::Internal, "INTERNAL", "a scheduler answered with something that is no run")
    })
}

/// What a scheduler says about a run is for the caller; what it says about itself is not.
fn fault(status: &Status) -> Fault {
    let problem = Problem::from_status(status);
    match problem.kind {
        ErrorKind::Internal | ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => Fault::internal(status),
        _ => Fault(problem),
    }
}
