//! What a runtime shall be: checked when it is saved, by the rules that hold at its start. Refuses to touch a life.

use super::{images, none, spec};
use crate::core::Core;
use crate::fault::Fault;
use crate::plans::absent;
use crate::runtimes::act;
use domain::ErrorKind;
use domain::device::DeviceModel;
use domain::runtime::Spec;
use domain::runtime::rules::{self, Terms};
use jiff::Timestamp;
use proto::v1::{SetRuntimeSpecRequest, SetRuntimeSpecResponse};
use store::runtime_specs;

/// Checks a spec and saves it.
pub(crate) async fn set(core: &Core, request: SetRuntimeSpecRequest) -> Result<SetRuntimeSpecResponse, Fault> {
    let spec = spec::decode(request.spec.ok_or_else(|| Fault::field("spec", "must say what it shall be"))?)?;
    if request.version < 0 {
        return Err(Fault::field("version", "must not be negative"));
    }
    let (target, workspace) = core.target(&request.workspace).await?;
    let queue = core.queue(&request.queue).await?;
    // No connection is held while a registry is asked.
    let terms = runtime_specs::terms(&core.store.client().await?, target.project, &queue).await?;
    images::judged(core, &spec, |spec| rules::check(&target.name, spec, &terms)).await?;
    let warnings = warnings(&spec, &terms, Timestamp::now());
    let db = core.store.client().await?;
    if request.validate_only {
        let saved = runtime_specs::get(&db, workspace).await?;
        return Ok(SetRuntimeSpecResponse { version: saved.map_or(0, |saved| saved.version), warnings });
    }
    let id = queue.definition.id;
    let version = runtime_specs::set(&db, workspace, &spec, id, request.version).await?.ok_or_else(|| {
        let message = format!("version {} of the spec is not in force any more; read it again", request.version);
        Fault::new(ErrorKind::Conflict, "SPEC_CHANGED", message)
    })?;
    Ok(SetRuntimeSpecResponse { version, warnings })
}

/// What is odd, and may be meant.
fn warnings(spec: &Spec, terms: &Terms, now: Timestamp) -> Vec<String> {
    let mut known: Vec<&str> = terms.offers.iter().map(|offer| offer.model.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    let named = spec.ask.models.iter().map(DeviceModel::as_str);
    let mut warnings = absent(named, &known, |name, model| name == model);
    if spec.ask.gpus > 0 && terms.offers.is_empty() && warnings.is_empty() {
        warnings.push(format!("no devices are known in the pool of queue `{}` at present", terms.queue));
    }
    if spec.gpu_idle_timeout_s > 0 && spec.ask.gpus == 0 {
        warnings.push("it has no GPUs, so `gpu_idle_timeout_s` ends nothing; set `idle_timeout_s`".to_owned());
    }
    let open = terms.plans.iter().filter(|plan| plan.check(spec).is_ok());
    let best = open.map(|plan| domain::window::access(&plan.windows, now)).max_by(domain::window::Access::cmp_use);
    if let Some(denial) = best.and_then(|access| rules::closed(terms, &access)) {
        warnings.push(denial.sentence);
    }
    warnings
}

/// Forgets what a runtime shall be, once it has stopped.
pub(crate) async fn delete(core: &Core, workspace: &str) -> Result<(), Fault> {
    let (_, id) = core.target(workspace).await?;
    if runtime_specs::delete(&core.store.client().await?, id).await? {
        return Ok(());
    }
    let runtime = core.runtime(workspace).await?;
    if runtime.saved.is_none() {
        return Err(none(workspace));
    }
    Err(act::wrong_state(&runtime, "stop it first, and an error has to be reset"))
}
