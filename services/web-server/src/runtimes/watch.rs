//! A stream that follows a runtime. Pulled by the client: a slow one is read for less often. Refuses to remember anything
//! between messages but what was sent last.

use super::view;
use crate::changes::Topic;
use crate::core::Core;
use crate::fault::Fault;
use crate::watch::pace::Pace;
use domain::id::RunId;
use futures_util::Stream;
use prost::Message;
use proto::v1::WatchRuntimeResponse;
use std::sync::Arc;
use tonic::Status;

struct Watch {
    core: Arc<Core>,
    workspace: String,
    pace: Pace,
    sent: Option<Vec<u8>>,
}

/// The runtime now, then after every change. Nobody publishes changes of runtimes: it is looked at once a second, and its place
/// among the watchers is that of a run with the workspace's id, which no run has.
pub(crate) async fn stream(
    core: Arc<Core>,
    workspace: String,
) -> Result<impl Stream<Item = Result<WatchRuntimeResponse, Status>>, Fault> {
    let (_, id) = core.target(&workspace).await?;
    let pace = Pace::new(&core, RunId(id.0), Topic::State)?;
    let watch = Watch { core, workspace, pace, sent: None };
    Ok(futures_util::stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        Some(match watch.next().await {
            Ok(message) => (Ok(message), Some(watch)),
            Err(fault) => (Err(fault.into()), None),
        })
    }))
}

impl Watch {
    /// The next message that differs from the last by more than the time.
    async fn next(&mut self) -> Result<WatchRuntimeResponse, Fault> {
        loop {
            if self.sent.is_some() {
                self.pace.wait().await?;
            }
            let runtime = self.core.runtime(&self.workspace).await?;
            let mut message = view::message(&self.core, runtime).await?;
            let now = message.now.take();
            let bytes = message.encode_to_vec();
            if self.sent.as_ref() != Some(&bytes) {
                self.sent = Some(bytes);
                message.now = now;
                return Ok(WatchRuntimeResponse { runtime: Some(message) });
            }
        }
    }
}
