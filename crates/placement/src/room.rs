//! Why there is no place for somebody who may have one.

use crate::{
    admission::{Reason, gpus, names, thousandths},
    candidate,
    fleet::NodeState,
    plan::Code,
    planner::Planner,
    shape::Shape,
    snapshot::Request,
};
use domain::device::{Ask, DeviceModel};

impl Code {
    /// Whether it would go away if somebody else left.
    pub(crate) fn is_about_room(self) -> bool {
        matches!(self, Self::NoCapacity | Self::Fragmented | Self::ReservedForOthers)
    }
}

impl Planner {
    /// The most definite reason: what can never be comes before what cannot be now.
    pub(crate) fn why_no_room(&self, request: &Request, permitted: &[DeviceModel], zone: Option<usize>) -> Reason {
        let shape = self.shape(request, permitted);
        if !shape.is_possible() {
            return self.why_no_device(request, permitted);
        }
        let nodes = self.nodes_for(request, zone);
        let opened = |at: &usize| candidate::fits(&self.fleet, *at, &opened(&self.fleet.empty[*at]), &shape);
        if !nodes.iter().any(opened) {
            let sentence = format!("no node could ever hold {}, even when it is empty", described(&request.ask));
            return Reason::new(Code::NeverFits, sentence);
        }
        if !nodes.iter().any(|at| candidate::fits(&self.fleet, *at, &self.fleet.empty[*at], &shape)) {
            let those = format!("the nodes that could hold {}", described(&request.ask));
            let sentence = format!("{those} are drained or not healthy, or a device plugin gives out their GPUs, too");
            return Reason::new(Code::NoCapacity, sentence);
        }
        if nodes.iter().any(|at| candidate::fits(&self.fleet, *at, &self.fleet.states[*at], &shape)) {
            let sentence = format!("{} is free, but kept for others who waited longer", described(&request.ask));
            return Reason::new(Code::ReservedForOthers, sentence);
        }
        let (idle, enough) = self.idle_for(&shape, &nodes);
        if enough {
            let sentence = format!(
                "{} is idle in all, but no single place holds {}",
                if request.ask.gpus > 0 { gpus(idle) } else { "enough processor and memory".to_owned() },
                described(&request.ask)
            );
            return Reason::new(Code::Fragmented, sentence);
        }
        Reason::new(Code::NoCapacity, format!("every place for {} is taken", described(&request.ask)))
    }

    fn why_no_device(&self, request: &Request, permitted: &[DeviceModel]) -> Reason {
        let any_memory = Request { ask: Ask { gpu_memory_bytes: None, ..request.ask.clone() }, ..request.clone() };
        if self.shape(&any_memory, permitted).is_possible() {
            let mebibytes = request.ask.gpu_memory_bytes.unwrap_or_default() >> 20;
            let sentence = format!("no device that will do has {mebibytes} MiB of memory for one holder");
            return Reason::new(Code::NeverFits, sentence);
        }
        let models =
            if request.ask.models.is_empty() { "these devices".to_owned() } else { names(&request.ask.models) };
        let single = Request { ask: Ask { gpus: 1, ..request.ask.clone() }, ..request.clone() };
        if request.ask.gpus > 1 && self.shape(&single, permitted).is_possible() {
            let sentence = format!("of {models} one holder has a part of one only; it takes one GPU, or whole ones");
            return Reason::new(Code::ShareUnsupported, sentence);
        }
        let share = gpus(u64::from(request.ask.gpu_milli));
        Reason::new(Code::ShareUnsupported, format!("a share of {share} of {models} is not offered"))
    }

    pub(crate) fn nodes_for(&self, request: &Request, zone: Option<usize>) -> Vec<usize> {
        let allowed = self.allowed_nodes(request);
        let all = 0..self.fleet.states.len();
        all.filter(|at| allowed.as_ref().is_none_or(|allowed| allowed.contains(at)))
            .filter(|at| zone.is_none_or(|zone| zone == self.fleet.infos[*at].zone))
            .collect()
    }

    /// What is idle of devices that would do, and whether all of it together would be enough.
    fn idle_for(&self, shape: &Shape, nodes: &[usize]) -> (u64, bool) {
        let open = || nodes.iter().map(|at| &self.fleet.states[*at]).filter(|state| state.open);
        let devices = open().flat_map(|state| &state.devices);
        let idle = devices.filter(|d| d.open && shape.need(d.kind).is_some()).map(|d| u64::from(d.free_milli)).sum();
        let cpu: u128 = open().map(|state| u128::from(state.cpu_milli)).sum();
        let memory: u128 = open().map(|state| u128::from(state.memory_bytes)).sum();
        let ask = &shape.ask;
        let host = cpu >= u128::from(ask.cpu_milli) && memory >= u128::from(ask.memory_bytes);
        let enough = idle >= ask.effective_milli() && host;
        (idle, enough)
    }
}

/// As if nothing were drained.
pub(crate) fn opened(state: &NodeState) -> NodeState {
    let mut opened = state.clone();
    opened.open = true;
    opened.devices.iter_mut().for_each(|device| device.open = true);
    opened
}

/// `2 × 40 % of A10 with 4 CPU and 8192 MiB`
pub(crate) fn described(ask: &Ask) -> String {
    let host = format!("{} CPU and {} MiB", thousandths(ask.cpu_milli), ask.memory_bytes >> 20);
    if ask.gpus == 0 {
        return host;
    }
    let models = if ask.models.is_empty() { "GPU".to_owned() } else { names(&ask.models) };
    let percent = format!("{}.{}", ask.gpu_milli / 10, ask.gpu_milli % 10);
    format!("{} × {} % of {models} with {host}", ask.gpus, percent.trim_end_matches(".0"))
}
