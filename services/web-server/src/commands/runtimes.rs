//! Commands about runtimes, in the way of the others. Refuses to validate; that was done before.

use super::{COMMAND_TIMEOUT, Commands, RuntimeClient};
use crate::fault::Fault;
use proto::internal::v1::{
    DescribeNodesRequest, PlanRuntimesRequest, ReportActivityRequest, RewrapAccessKeysRequest, SeenNode,
    SnoozeRuntimeRequest, StartRuntimeRequest, StopRuntimeRequest, SwitchQueueRequest,
};
use rpc::client::within;
use std::future::Future;
use tonic::{Response, Status};

impl Commands {
    /// Begins a life; the same key again is the same life.
    pub(crate) async fn start_runtime(&self, message: StartRuntimeRequest) -> Result<(), Fault> {
        let call = |mut peer: RuntimeClient| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.start_runtime(request).await }
        };
        self.of_runtimes(call).await.map(drop)
    }

    /// Ends a life.
    pub(crate) async fn stop_runtime(&self, message: StopRuntimeRequest) -> Result<(), Fault> {
        let call = |mut peer: RuntimeClient| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.stop_runtime(request).await }
        };
        self.of_runtimes(call).await.map(drop)
    }

    /// Moves a life to another queue of its pool.
    pub(crate) async fn switch_queue(&self, message: SwitchQueueRequest) -> Result<(), Fault> {
        let call = |mut peer: RuntimeClient| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.switch_queue(request).await }
        };
        self.of_runtimes(call).await.map(drop)
    }

    /// Keeps a life from being stopped for idleness.
    pub(crate) async fn snooze_runtime(&self, message: SnoozeRuntimeRequest) -> Result<(), Fault> {
        let call = |mut peer: RuntimeClient| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.snooze_runtime(request).await }
        };
        self.of_runtimes(call).await.map(drop)
    }

    /// What proxies saw.
    pub(crate) async fn report_activity(&self, message: ReportActivityRequest) -> Result<(), Fault> {
        let call = |mut peer: RuntimeClient| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.report_activity(request).await }
        };
        self.of_runtimes(call).await.map(drop)
    }

    /// What the planner of a pool would answer, as JSON.
    pub(crate) async fn plan_runtimes(&self, message: PlanRuntimesRequest) -> Result<String, Fault> {
        let call = |mut peer: RuntimeClient| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.plan_runtimes(request).await }
        };
        Ok(self.of_runtimes(call).await?.plan)
    }

    /// What the planner of a pool knows of nodes.
    pub(crate) async fn describe_nodes(&self, message: DescribeNodesRequest) -> Result<Vec<SeenNode>, Fault> {
        let call = |mut peer: RuntimeClient| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.describe_nodes(request).await }
        };
        Ok(self.of_runtimes(call).await?.nodes)
    }

    /// Seals keys of applications anew; answers how many.
    pub(crate) async fn rewrap_access_keys(&self, message: RewrapAccessKeysRequest) -> Result<i64, Fault> {
        let call = |mut peer: RuntimeClient| {
            let request = within(COMMAND_TIMEOUT, message.clone());
            async move { peer.rewrap_access_keys(request).await }
        };
        Ok(self.of_runtimes(call).await?.rewrapped)
    }

    async fn of_runtimes<T, F>(&self, call: impl Fn(RuntimeClient) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.first(&self.runtimes, call).await
    }
}
