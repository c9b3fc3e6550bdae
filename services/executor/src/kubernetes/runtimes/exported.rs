//! What GPUs of nodes do, as NVIDIA's dcgm-exporter tells of each node: text in Prometheus' format, each device by its UUID.
//!
//! | metric | of |
//! |---|---|
//! | `DCGM_FI_DEV_GPU_UTIL` | the share of time in which anything ran, percent |
//! | `DCGM_FI_PROF_GR_ENGINE_ACTIVE`, `DCGM_FI_PROF_SM_ACTIVE` | the share of time, and of the processors, 0 to 1 |
//!
//! Whichever of them there are count. The exporter names pods, too, but puts the work of a whole device to each of those that
//! share it, and misses partitions that came after its start: so neither is read. Refuses to know who has which device.

use crate::signs::{devices::WORKING_PERCENT, http};
use backend_kubernetes::{Cluster, Exporter};
use futures_util::StreamExt as _;
use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// For the pods of exporters, and then for all of their answers.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Exporters that are asked at once.
const ASKED_AT_ONCE: usize = 32;
/// The longest answer that is read: some hundred devices and partitions, each with all metrics that there are.
const TEXT_BYTES_MAX: u64 = 8 << 20;
/// Each metric that counts, and which of its values is all of a device.
const METRICS: [(&str, f64); 3] =
    [("DCGM_FI_DEV_GPU_UTIL", 100.0), ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 1.0), ("DCGM_FI_PROF_SM_ACTIVE", 1.0)];

/// Devices of one node by their UUIDs, or why nothing is known of them.
pub(super) type Exported = Result<HashMap<String, Load>, String>;

/// What one device does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// It, or a partition of it, works.
    pub(super) works: bool,
    /// All of it was told of, and not only partitions.
    pub(super) is_whole: bool,
}

/// Asks the exporters of these nodes. One that does not answer in time is told as such.
pub(super) async fn read(cluster: &Cluster, exporter: &Exporter, nodes: BTreeSet<String>) -> HashMap<String, Exported> {
    let places = match timeout(TIMEOUT, cluster.exporters(exporter)).await {
        Ok(answer) => answer.map_err(|error| format!("failed to {error}")),
        Err(_) => Err("the cluster does not say in time where exporters run".to_owned()),
    };
    let late = || Err("its node's exporter does not answer in time".to_owned());
    let mut all: HashMap<String, Exported> = nodes.iter().map(|node| (node.clone(), late())).collect();
    let asked = nodes.into_iter().map(|node| {
        let place = places.as_ref().map(|places| places.get(&node).copied());
        async move {
            let told = match place {
                Ok(Some(at)) => ask(at).await,
                Ok(None) => Err("no exporter that `gpu_exporter` names runs on its node".to_owned()),
                Err(why) => Err(why.clone()),
            };
            (node, told)
        }
    });
    let answers = futures_util::stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).take_until(sleep(TIMEOUT));
    all.extend(answers.collect::<Vec<_>>().await);
    all
}

async fn ask(at: SocketAddr) -> Exported {
    match http::text(at, "/metrics", TEXT_BYTES_MAX).await {
        Ok((200, body)) => Ok(loads(&String::from_utf8_lossy(&body))),
        Ok((status, _)) => Err(format!("its node's exporter answers with status {status}")),
        Err(error) => Err(format!("its node's exporter cannot be asked: {error}")),
    }
}

/// What a text tells. A line that is cut off, or cannot be read, tells nothing.
fn loads(text: &str) -> HashMap<String, Load> {
    let mut all: HashMap<String, Load> = HashMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let Some((_, whole)) = METRICS.iter().find(|(metric, _)| *metric == name) else { continue };
        let Some((labels, value)) = labelled(rest) else { continue };
        let share = value.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
        let share = share.map(|value| value * 100.0 / whole).filter(|share| (0.0..=100.0).contains(share));
        let label = |name: &str| labels.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let (Some(share), Some(device)) = (share, label("UUID")) else { continue };
        let load = all.entry(device.to_owned()).or_default();
        load.works |= share >= f64::from(WORKING_PERCENT);
        load.is_whole |= label("GPU_I_ID").is_none_or(str::is_empty);
    }
    all
}

/// Labels with their values as they are written, and what follows the brace behind them.
fn labelled(mut rest: &str) -> Option<(Vec<(&str, &str)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(value) = rest.strip_prefix('}') {
            return Some((labels, value));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut is_escaped = false;
        let end = quoted.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        })?;
        labels.push((name, &quoted[..end]));
        rest = &quoted[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a",pci_bus_id="00000000:01:00.0",device="nvidia0",modelName="NVIDIA H200"} 1980
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",device="nvidia0",modelName="NVIDIA H200",Hostname="n",container="app",namespace="orrery-runtimes",pod="ws-lab-r1"} 0
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",device="nvidia1",modelName="odd \"}, 1\\",Hostname="n"} 1
DCGM_FI_DEV_GPU_UTIL{gpu="2",UUID="GPU-c",Hostname="n"} 0
DCGM_FI_DEV_GPU_UTIL{gpu="3",UUID="GPU-d",Hostname="n"} NaN
DCGM_FI_DEV_GPU_UTIL{gpu="3",UUID="GPU-d",Hostname="n"} 9223372036854775794
# TYPE DCGM_FI_PROF_GR_ENGINE_ACTIVE gauge
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="GPU-a",Hostname="n"} 0.009999
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="2",UUID="GPU-c",Hostname="n"} 0.010000 1700000000000
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="4",UUID="GPU-e",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7",Hostname="n"} 0.000000
DCGM_FI_PROF_SM_ACTIVE{gpu="5",UUID="GPU-f",Hostname="n"} 0.5
DCGM_FI_DEV_GPU_UTIL{gpu="6",UUID="GPU-g",Hostname="n"} 0"#;

    #[test]
    fn devices_work_from_one_percent_on_by_whatever_tells_of_them() {
        let load = |works, is_whole| Load { works, is_whole };
        let expected = HashMap::from([
            ("GPU-a".to_owned(), load(false, true)),
            ("GPU-b".to_owned(), load(true, true)),
            ("GPU-c".to_owned(), load(true, true)),
            ("GPU-e".to_owned(), load(false, false)),
            ("GPU-f".to_owned(), load(true, true)),
        ]);
        assert_eq!(loads(TEXT), expected, "nothing is told of GPU-d, nor by the line without an end");
    }
}
