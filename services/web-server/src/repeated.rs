//! Runs that a key has started before: the request that names the key again must want the same. A scheduler knows keys
//! and answers the run that each created first; what that one was asked for stands in its row. Refuses to start any.

use crate::core::Core;
use crate::fault::Fault;
use domain::{ErrorKind, id::RunId};
use jiff::Timestamp;
use proto::internal::v1::NewRun;
use serde_json::{Map, Value};
use store::run_views::{self, Asked};

/// What a request with a key asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Which of the requests of a batch it is, and of the runs that answer them.
    pub(crate) at: usize,
    /// The client's key.
    pub(crate) key: String,
    pub(crate) variables: Map<String, Value>,
    /// Of a call of a trigger, which has variables of its own: those of the call are among the run's, and these are beside
    /// them. `None` where the variables must be exactly the run's.
    pub(crate) event_variables: Option<Map<String, Value>>,
    /// Now, when absent: then any is right.
    pub(crate) execution_date: Option<Timestamp>,
    /// The time-out in seconds, and whether blocks may fail; `None` where the trigger says both.
    pub(crate) options: Option<(Option<i32>, bool)>,
}

impl Wanted {
    /// Those of the requests that have keys, for the pipeline's manual trigger. `keys` and `runs` are in the same order.
    pub(crate) fn keyed(keys: &[String], runs: &[NewRun]) -> Vec<Self> {
        let keyed = keys.iter().zip(runs).enumerate().filter(|(_, (key, _))| !key.is_empty());
        keyed
            .map(|(at, (key, run))| Self {
                at,
                key: key.clone(),
                // They were written from an object a moment ago.
                variables: serde_json::from_str(&run.variables).unwrap_or_default(),
                event_variables: None,
                execution_date: run.execution_date_us.and_then(|us| Timestamp::from_microsecond(us).ok()),
                options: Some((Some(run.timeout_s).filter(|s| *s > 0), run.allow_blocks_to_fail)),
            })
            .collect()
    }

    /// What of it is not what the run was created for, as it completes "with …".
    fn differs(&self, run: &Asked) -> Option<&'static str> {
        let has = |(name, value): (&String, &Value)| run.variables.get(name) == Some(value);
        let same_variables = match &self.event_variables {
            None => run.variables.as_object() == Some(&self.variables),
            Some(beside) => {
                let told = run.event_variables.as_ref().and_then(Value::as_object);
                self.variables.iter().all(has) && told.map_or(beside.is_empty(), |told| told == beside)
            }
        };
        let differences = [
            ("other variables", !same_variables),
            ("another execution_date", self.execution_date.is_some_and(|at| at != run.execution_date)),
            ("another timeout", self.options.is_some_and(|(timeout_s, _)| timeout_s != run.timeout_s)),
            ("another allow_blocks_to_fail", self.options.is_some_and(|(_, allow)| allow != run.allow_blocks_to_fail)),
        ];
        differences.into_iter().find(|(_, differs)| *differs).map(|(what, _)| what)
    }
}

/// Refuses a key whose run was created for another request. `runs` answer all requests, in their order.
///
/// # Errors
/// `IDEMPOTENCY_KEY_REUSED`, with the key, its run and the field that differs; and when the database fails.
pub(crate) async fn check(core: &Core, wanted: &[Wanted], runs: &[RunId]) -> Result<(), Fault> {
    if wanted.is_empty() {
        return Ok(());
    }
    let of_keys: Vec<RunId> = wanted.iter().filter_map(|wanted| runs.get(wanted.at).copied()).collect();
    let asked = run_views::asked(&core.store.client().await?, &of_keys).await?;
    for wanted in wanted {
        let run = runs.get(wanted.at).and_then(|id| asked.iter().find(|run| run.id == *id));
        if let Some((run, differing)) = run.and_then(|run| Some((run, wanted.differs(run)?))) {
            let message = format!(
                "the idempotency key `{}` has started run `{}` with {differing}; choose a new key, or send the same request",
                wanted.key, run.id
            );
            return Err(Fault::new(ErrorKind::AlreadyExists, "IDEMPOTENCY_KEY_REUSED", message));
        }
    }
    Ok(())
}
