//! Streams that follow a run: its state, and its log. Pulled by the client: a slow one is read for less often, holds one
//! message at a time and harms nobody. Refuses to remember anything between messages but what was sent last.

pub(crate) mod log;
pub(crate) mod pace;
mod recent;

use crate::block_pages::{self, Loaded};
use crate::changes::Topic;
use crate::core::Core;
use crate::fault::Fault;
use domain::{id::RunId, pipeline::Pipeline};
use futures_util::Stream;
use pace::Pace;
use prost::Message;
use proto::v1::WatchRunResponse;
use std::sync::Arc;
use tonic::Status;

struct Watch {
    core: Arc<Core>,
    run: RunId,
    pace: Pace,
    pipeline: Option<Pipeline>,
    sent: Option<Vec<u8>>,
}

/// The run and its blocks now, then after every change, until it has ended.
pub(crate) fn stream(
    core: Arc<Core>,
    run: RunId,
) -> Result<impl Stream<Item = Result<WatchRunResponse, Status>>, Fault> {
    let pace = Pace::new(&core, run, Topic::State)?;
    let watch = Watch { core, run, pace, pipeline: None, sent: None };
    Ok(futures_util::stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        Some(match watch.next().await {
            Ok((message, true)) => (Ok(message), None),
            Ok((message, false)) => (Ok(message), Some(watch)),
            Err(fault) => (Err(fault.into()), None),
        })
    }))
}

impl Watch {
    /// The next message that differs from the last, and whether it is the end.
    async fn next(&mut self) -> Result<(WatchRunResponse, bool), Fault> {
        loop {
            if self.sent.is_some() {
                self.pace.wait().await?;
            }
            let loaded = block_pages::load(&self.core, self.run, self.pipeline.take()).await?;
            let message = response(&loaded);
            let ended = loaded.run.has_ended();
            self.pipeline = Some(loaded.into_pipeline());
            let bytes = message.encode_to_vec();
            if self.sent.as_ref() != Some(&bytes) {
                self.sent = Some(bytes);
                return Ok((message, ended));
            }
        }
    }
}

fn response(loaded: &Loaded) -> WatchRunResponse {
    WatchRunResponse { run: Some(crate::encode::run(loaded.run.clone())), block_runs: loaded.view().blocks() }
}
