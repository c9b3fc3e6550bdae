//! What the planners of pools know of nodes and no row has: why they take nobody new, and what strangers hold of them.
//! Refuses to wait long for a scheduler: a list without its word says that it is not known.

use crate::core::Core;
use futures_util::future::join_all;
use proto::internal::v1::{DescribeNodesRequest, SeenDevice, SeenNode};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

/// For each pool of a page.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The nodes of a page, by pool and name.
pub(crate) struct Seen(HashMap<(String, String), SeenNode>);

impl Seen {
    /// What is known of these nodes, each with its pool before it.
    pub(crate) async fn of(core: &Core, nodes: BTreeSet<(String, String)>) -> Self {
        let mut pools: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (pool, node) in nodes {
            pools.entry(pool).or_default().push(node);
        }
        // Side by side: one whose scheduler is away holds up no other.
        let told = join_all(pools.into_iter().map(|(pool, nodes)| of_pool(core, pool, nodes))).await;
        Self(told.into_iter().flatten().collect())
    }

    /// One node; `None` where nobody knows.
    pub(crate) fn node(&self, pool: &str, name: &str) -> Option<&SeenNode> {
        self.0.get(&(pool.to_owned(), name.to_owned()))
    }
}

async fn of_pool(core: &Core, pool: String, nodes: Vec<String>) -> Vec<((String, String), SeenNode)> {
    let request = DescribeNodesRequest { pool: pool.clone(), nodes, forwarded: false };
    match tokio::time::timeout(TIMEOUT, core.commands.describe_nodes(request)).await {
        Ok(Ok(told)) => told.into_iter().map(|node| ((pool.clone(), node.name.clone()), node)).collect(),
        Ok(Err(error)) => {
            // One of the version before does not know the question.
            tracing::warn!(pool, error = %error.0, "no scheduler told what is known of nodes; lists leave it out");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(pool, "no scheduler told in time what is known of nodes; lists leave it out");
            Vec::new()
        }
    }
}

/// What is to be said of a device of a node, besides what is to be said of the node.
pub(crate) fn device<'a>(node: &'a SeenNode, name: &str) -> Option<&'a SeenDevice> {
    node.devices.iter().find(|device| device.name == name)
}

/// What strangers hold of a device, in milli-GPU and bytes.
pub(crate) fn foreign(device: Option<&SeenDevice>) -> (i32, i64) {
    let strangers = device.into_iter().flat_map(|device| &device.strangers);
    strangers.fold((0_i32, 0_i64), |(milli, bytes), one| {
        (milli.saturating_add(one.milli), bytes.saturating_add(one.memory_bytes))
    })
}
