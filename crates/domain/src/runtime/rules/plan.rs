//! What a plan lets one runtime be. Refuses to know which queues it opens and which projects have it.

use super::policy::bounded;
use super::{Code, Denial, listed};
use crate::id::PlanId;
use crate::quota::Excess;
use crate::runtime::Spec;
use crate::window::Window;

/// What an administrator set about a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which.
    pub id: PlanId,
    /// As people call it.
    pub name: String,
    /// Models, exact or beginnings ending in `*`; empty is any.
    pub models: Vec<String>,
    /// Devices of one runtime.
    pub gpus_max: Option<u32>,
    /// Effective GPU of one runtime, milli-GPU.
    pub gpu_milli_max: Option<u64>,
    /// Processor of one runtime, thousandths of a core.
    pub cpu_milli_max: Option<u64>,
    /// Memory of one runtime, bytes.
    pub memory_max: Option<u64>,
    /// The longest lifetime, seconds.
    pub lifetime_max_s: Option<u32>,
    /// When it is open; none is always.
    pub windows: Vec<Window>,
}

impl Plan {
    /// Whether the plan lets a runtime be so.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, spec: &Spec) -> Result<(), Denial> {
        let ask = &spec.ask;
        if let Some(max) = self.gpus_max.filter(|max| ask.gpus > *max) {
            let sentence =
                format!("plan `{}` lets one runtime have {max} GPUs, and {} are asked for", self.name, ask.gpus);
            return Err(Denial::new(Code::GpuCountLimit, "gpus", sentence, "ask for fewer"));
        }
        let effective = ask.effective_milli();
        if let Some(max) = self.gpu_milli_max.filter(|max| effective > *max) {
            let excess = Excess { what: "GPU".to_owned(), limit: max, used: 0, wanted: effective };
            let [limit, wanted] = [max, effective].map(|milli| excess.spoken(milli));
            let sentence =
                format!("plan `{}` lets one runtime have {limit}, and GPUs times share are {wanted}", self.name);
            return Err(Denial::new(
                Code::GpuCountLimit,
                "sm_percent",
                sentence,
                "ask for fewer GPUs or a smaller share",
            ));
        }
        self.check_models(spec)?;
        let most = |asked: u64, limit: u64| asked.max(limit);
        self.within("cpu_milli", "CPU", most(ask.cpu_milli, spec.cpu_limit_milli), self.cpu_milli_max)?;
        self.within("memory_bytes", "memory", most(ask.memory_bytes, spec.memory_limit_bytes), self.memory_max)?;
        bounded(
            Code::LifetimeLimit,
            "lifetime_s",
            spec.lifetime_s,
            self.lifetime_max_s,
            &format!("plan `{}`", self.name),
        )
    }

    /// Every model that was named has to be allowed: one that is not would be passed over in silence.
    fn check_models(&self, spec: &Spec) -> Result<(), Denial> {
        let Some(model) = spec.ask.models.iter().find(|model| !listed(&self.models, model.as_str())) else {
            return Ok(());
        };
        let sentence = format!("plan `{}` does not allow model `{model}`", self.name);
        let remedy = format!("ask for one of {}", self.models.join(", "));
        Err(Denial::new(Code::ModelNotAllowed, "models", sentence, remedy))
    }

    fn within(&self, field: &'static str, what: &str, asked: u64, max: Option<u64>) -> Result<(), Denial> {
        let Some(limit) = max.filter(|max| asked > *max) else { return Ok(()) };
        let excess = Excess { what: what.to_owned(), limit, used: 0, wanted: asked };
        let [limit, wanted] = [limit, asked].map(|value| excess.spoken(value));
        let sentence = format!("plan `{}` lets one runtime have {limit}, and {wanted} is asked for", self.name);
        Err(Denial::new(Code::ResourceLimit, field, sentence, "ask for less"))
    }
}
