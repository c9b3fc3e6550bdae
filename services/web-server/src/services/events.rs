//! Events from elsewhere. Refuses to keep them: an event that nothing matches leaves no trace.

use crate::commands::Started;
use crate::core::Core;
use crate::fault::Fault;
use crate::triggers::start;
use proto::v1::{EventOutcome, PublishEventRequest, PublishEventResponse, event_service_server::EventService};
use serde_json::Value;
use std::sync::Arc;
use store::triggers::Listed;
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.EventService`.
pub(crate) struct Events(pub(crate) Arc<Core>);

fn outcome((listed, started): (Listed, Started)) -> EventOutcome {
    let waits = started == Started::Later;
    let (run_id, skipped) = match started {
        Started::Run(run) => (run.to_string(), String::new()),
        Started::Later => (String::new(), String::new()),
        Started::Not(reason) => (String::new(), reason),
    };
    EventOutcome {
        trigger_id: listed.trigger.id.to_string(),
        pipeline: listed.pipeline,
        trigger: listed.trigger.name,
        run_id,
        skipped,
        waits,
    }
}

#[async_trait]
impl EventService for Events {
    async fn publish_event(
        &self,
        request: Request<PublishEventRequest>,
    ) -> Result<Response<PublishEventResponse>, Status> {
        let request = request.into_inner();
        let event = request.event.ok_or_else(|| Fault::field("event", "must be an object"))?;
        let event = Value::Object(rpc::json::struct_to_json(event, "event").map_err(Fault::from)?);
        let workspace = self.0.workspace(&request.workspace).await?;
        let outcomes = start::publish(&self.0, &workspace, &event, &request.idempotency_key).await?;
        Ok(Response::new(PublishEventResponse { outcomes: outcomes.into_iter().map(outcome).collect() }))
    }
}
