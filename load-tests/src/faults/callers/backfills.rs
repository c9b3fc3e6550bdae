//! A client that starts small backfills, so that one is always somewhere between its first run and its last.

use super::{Asks, CALL_TIMEOUT};
use crate::{
    cluster::WORKSPACE,
    faults::stage::{CHAINS, chain},
    history::{ClientEvent, Request},
};
use proto::v1::{BackfillSpec, CreateBackfillRequest, IntervalUnit, backfill_service_client::BackfillServiceClient};
use rand::{RngExt, rngs::StdRng};
use rpc::client::{Channel, within};

/// 2024-01-01, in seconds.
const START_S: i64 = 1_704_067_200;
/// Intervals of each, a minute long, and runs at once.
const INTERVALS: i64 = 12;
const PARALLELISM: i32 = 3;

/// See the module's page.
pub(in crate::faults) struct Backfills(pub(in crate::faults) Channel);

impl Asks for Backfills {
    fn next(&self, key: String, dice: &mut StdRng) -> Request {
        let pipeline = chain(dice.random_range(0..CHAINS));
        Request::CreateBackfill { workspace: WORKSPACE.to_owned(), pipeline, name: key }
    }

    async fn ask(&mut self, request: &Request) -> Result<ClientEvent, String> {
        let Request::CreateBackfill { workspace, pipeline, name } = request.clone() else {
            return Err("this client starts backfills".to_owned());
        };
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let spec = BackfillSpec {
            name: name.clone(),
            start_time: at(START_S),
            end_time: at(START_S + (INTERVALS - 1) * 60),
            unit: IntervalUnit::Minute.into(),
            parallelism: PARALLELISM,
            ..BackfillSpec::default()
        };
        let request = CreateBackfillRequest { workspace, pipeline, spec: Some(spec), idempotency_key: name };
        let answer = BackfillServiceClient::new(self.0.clone()).create_backfill(within(CALL_TIMEOUT, request)).await;
        answer.map_err(|status| status.message().to_owned())?.into_inner().backfill.ok_or("no backfill")?;
        Ok(ClientEvent::Acknowledged { run_id: None, version: None, instead: None, started: Vec::new() })
    }
}
