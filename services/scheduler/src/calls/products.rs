//! Refreshes of global data products: of those who find one out of date at the same time, one refresh serves all. Refuses to
//! know what a product consists of.

use super::{AWAY_MAX, BACKSTOP, Calls, status, until_answered};
use crate::{
    engine::{CreateRun, Created},
    orders::Hop,
};
use domain::{product::StartingAt, trigger::key};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;
use store::{products, runs::StartablePipeline};
use tonic::Code;

/// The longest time for which a product may be held fresh, in seconds: a hundred years.
const FRESH_MAX_S: f64 = 100.0 * 366.0 * 86_400.0;

/// What a block says of the product that it asks for.
#[derive(Deserialize)]
pub(super) struct Product {
    /// Seconds; zero when it is never young enough.
    outdated_after_s: f64,
    /// Before this moment what there is serves, however old.
    #[serde(default)]
    outdated_starting_at: StartingAt,
}

impl Calls {
    /// A run to wait for, or none when the product is fresh. Refreshes are numbered: two who saw the same one as the last ask
    /// for the same next one, of which there is one run, whoever creates it. Who comes later finds it under way.
    pub(super) async fn refresh(
        &self,
        product: &Product,
        pipeline: &StartablePipeline,
        run: CreateRun,
    ) -> Result<Value, String> {
        let seconds = if product.outdated_after_s.is_finite() { product.outdated_after_s } else { FRESH_MAX_S };
        let seconds = seconds.clamp(0.0, FRESH_MAX_S);
        let seen = until_answered(|| products::look(&self.store, pipeline, seconds)).await?;
        if seen.young || (seen.kept && !product.outdated_starting_at.reached(seen.now)) {
            return Ok(json!({ "run_id": null, "status": "completed" }));
        }
        let run = match seen.under_way {
            Some(run) => run,
            None => {
                let logical_key = key::of_product(seen.refreshes + 1);
                self.create(CreateRun { logical_key, ..run }).await?
            }
        };
        self.header(run).await.map(|run| status(&run))
    }

    /// The run of this command, which may have been there before: so it is asked for until somebody answers.
    pub(super) async fn create(&self, command: CreateRun) -> Result<domain::id::RunId, String> {
        let begun = Instant::now();
        let runs = loop {
            match self.orders.create(vec![command.clone()], Hop::First).await {
                Ok(runs) => break runs,
                Err(away) if away.code() == Code::Unavailable && begun.elapsed() < AWAY_MAX => {
                    tokio::time::sleep(BACKSTOP).await;
                }
                Err(refused) => return Err(refused.message().to_owned()),
            }
        };
        runs.first().and_then(Created::run).ok_or_else(|| "the scheduler answered no run".to_owned())
    }
}
