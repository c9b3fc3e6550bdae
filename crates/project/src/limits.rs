//! Retries and limits, which a project, a pipeline and a block may each set key by key.
//!
//! Refuses to know what is retried or limited.

use crate::{
    Env,
    diagnostic::{Place, Report},
    keys::Keys,
    nearest,
};
use domain::{
    limits::LIMIT_MAX,
    pipeline::{Concurrency, OnLimit},
    retry::RetryPolicy,
};
use std::collections::BTreeMap;

const RETRY_KEYS: [&str; 4] = ["retries", "delay", "max_delay", "exponential_backoff"];
const CONCURRENCY_KEYS: [&str; 4] =
    ["block_run_limit", "pipeline_run_limit", "pipeline_run_limit_all_triggers", "on_pipeline_run_limit_reached"];
/// Limits that a project may define by name, without that over all of its blocks.
const DEFINED_MAX: usize = 499;

/// `base` with what the `retry_config` of `keys` sets.
pub(crate) fn retry(base: RetryPolicy, keys: &Keys<'_>, report: &mut Report) -> RetryPolicy {
    let Some(keys) = keys.map("retry_config", report) else { return base };
    keys.warn_unknown(&RETRY_KEYS, report);
    RetryPolicy {
        retries: keys.number("retries", report).unwrap_or(base.retries),
        delay_s: keys.number("delay", report).unwrap_or(base.delay_s),
        max_delay_s: keys.number("max_delay", report).unwrap_or(base.max_delay_s),
        exponential_backoff: keys.flag("exponential_backoff", report).unwrap_or(base.exponential_backoff),
    }
}

/// `base` with what the `concurrency_config` of `keys` sets.
pub(crate) fn concurrency(base: &Concurrency, keys: &Keys<'_>, report: &mut Report) -> Concurrency {
    let Some(keys) = keys.map("concurrency_config", report) else { return base.clone() };
    keys.warn_unknown(&CONCURRENCY_KEYS, report);
    let mut limit = |key: &str, base: Option<u32>| keys.positive(key, report).or(base);
    Concurrency {
        block_run_limit: limit("block_run_limit", base.block_run_limit),
        pipeline_run_limit: limit("pipeline_run_limit", base.pipeline_run_limit),
        pipeline_run_limit_all_triggers: limit("pipeline_run_limit_all_triggers", base.pipeline_run_limit_all_triggers),
        on_limit: on_limit(base.on_limit, &keys, report),
    }
}

fn on_limit(base: OnLimit, keys: &Keys<'_>, report: &mut Report) -> OnLimit {
    let key = "on_pipeline_run_limit_reached";
    match keys.text(key, report).as_deref() {
        None => base,
        Some("wait") => OnLimit::Wait,
        Some("skip") => OnLimit::Skip,
        Some(other) => {
            let remedy = nearest::choose(other, &["wait", "skip"]);
            report.error(keys.place(key), format!("{other:?} is neither wait nor skip"), remedy);
            base
        }
    }
}

/// `base` with the keys of limits that `keys` names in its own `limits`.
pub(crate) fn keys(base: &[String], keys: &Keys<'_>, report: &mut Report) -> Vec<String> {
    let mut all = base.to_vec();
    for named in keys.list("limits", report) {
        // An expression may hold spaces; what it becomes for a run is checked when it is looked up.
        let is_plain = !named.name.contains("{{");
        match domain::limits::check_name(&named.name) {
            Err(error) if is_plain => report.error(named.place, error.to_string(), "write a key such as warehouse"),
            _ if all.contains(&named.name) => {}
            _ => all.push(named.name),
        }
    }
    if all.len() > domain::limits::KEYS_MAX {
        let message = format!("{} keys of limits hold for one block; {} may", all.len(), domain::limits::KEYS_MAX);
        report.error(keys.place("limits"), message, "name fewer, or one limit for several things");
        all.truncate(domain::limits::KEYS_MAX);
    }
    all
}

/// The limits that a project defines: `queue_config.concurrency` over all of its blocks, and those of `limits`.
pub(crate) fn defined(keys: &Keys<'_>, report: &mut Report) -> BTreeMap<String, u32> {
    let mut defined = BTreeMap::new();
    if let Some(all) = keys.map("queue_config", report).and_then(|queue| queue.positive("concurrency", report)) {
        defined.insert(domain::limits::WORKSPACE.to_owned(), all.min(LIMIT_MAX));
    }
    let Some(limits) = keys.map("limits", report) else { return defined };
    let mut names: Vec<String> = limits.names().map(str::to_owned).collect();
    if names.len() > DEFINED_MAX {
        let message = format!("{} limits are defined; {DEFINED_MAX} may", names.len());
        report.error(keys.place("limits"), message, "define fewer; a name that ends with `*` holds for each key apart");
        names.truncate(DEFINED_MAX);
    }
    for name in names {
        if let Err(error) = domain::limits::check_name(&name) {
            report.error(limits.place(&name), error.to_string(), "write a name and a number, such as `warehouse: 2`");
            continue;
        }
        match limits.positive(&name, report) {
            Some(blocks) => {
                defined.insert(name, blocks.min(LIMIT_MAX));
            }
            None => report.warn(limits.place(&name), "a limit of nothing is no limit", "write a number above 0"),
        }
    }
    defined
}

/// The limits that environment variables set for every pipeline.
pub(crate) fn from_environment(env: Env<'_>, report: &mut Report) -> Concurrency {
    let mut limit = |name: &str| {
        let written = env(name).filter(|text| !text.trim().is_empty())?;
        let parsed = written.trim().parse::<u32>().ok();
        if parsed.is_none() {
            let message = format!("the environment variable {name} is {written:?}, not a number; it is ignored");
            report.warn(Place::file(), message, "set it to a whole number, or unset it");
        }
        parsed.filter(|n| *n > 0)
    };
    Concurrency {
        block_run_limit: limit("CONCURRENCY_CONFIG_BLOCK_RUN_LIMIT"),
        pipeline_run_limit: limit("CONCURRENCY_CONFIG_PIPELINE_RUN_LIMIT"),
        pipeline_run_limit_all_triggers: None,
        on_limit: OnLimit::Wait,
    }
}
