//! The shape of a pipeline: who waits for whom, and who becomes many.
//!
//! Built once per pipeline version and shared by all of its runs. Refuses to know any run.

use crate::pipeline::{Block, Pipeline};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// A validated pipeline with its edges as indices.
#[derive(Debug, Clone)]
pub struct Graph {
    pipeline: Arc<Pipeline>,
    nodes: Vec<Node>,
    by_uuid: HashMap<String, usize>,
    order: Vec<usize>,
}

/// One block and its neighbours. Indices point into [`Pipeline::blocks`], [`Pipeline::callbacks`] and
/// [`Pipeline::conditionals`].
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// In the order of the block's positional arguments.
    pub upstream: Vec<(usize, Feed)>,
    /// Blocks that wait for this one.
    pub downstream: Vec<usize>,
    /// Callbacks that watch it.
    pub callbacks: Vec<usize>,
    /// Conditionals that guard it.
    pub conditionals: Vec<usize>,
    /// It runs once per combination of its upstreams' items, not once.
    pub is_fan: bool,
}

/// How an upstream block feeds one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// Its value, whole.
    Whole,
    /// One item of the list that the dynamic block returned.
    Items,
    /// The output of one of its children.
    Children,
    /// One item of what one of its children returned: the block is a child and dynamic at once.
    ChildItems,
    /// The outputs of all its children as one list.
    Reduced,
}

impl Feed {
    /// True when the downstream block is multiplied by this argument.
    #[must_use]
    pub fn multiplies(self) -> bool {
        matches!(self, Self::Items | Self::Children | Self::ChildItems)
    }
}

/// Why a pipeline has no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two blocks share a uuid.
    #[error("two blocks are named `{0}`")]
    Duplicate(String),
    /// A callback of a block has the stored name of another block, or of another callback's: they would share a row.
    #[error(
        "the callback `{callback}` of block `{block}` is stored as `{callback}:{block}`, which another block or callback is \
         called as well"
    )]
    Ambiguous {
        /// The callback.
        callback: String,
        /// The block that it watches.
        block: String,
    },
    /// An `upstream_blocks` entry names no block of the pipeline.
    #[error("block `{block}` names `{upstream}` in upstream_blocks, but the pipeline has no such block")]
    UnknownUpstream {
        /// The block that names it.
        block: String,
        /// The name that is not there.
        upstream: String,
    },
    /// Blocks wait for each other.
    #[error("blocks wait for each other: {}", .0.join(" → "))]
    Cycle(Vec<String>),
}

impl Graph {
    /// Checks the pipeline and links its blocks.
    ///
    /// # Errors
    /// On duplicate uuids and stored names, unknown upstreams and cycles.
    pub fn new(pipeline: Arc<Pipeline>) -> Result<Self, GraphError> {
        let by_uuid = index(&pipeline.blocks)?;
        let mut nodes = vec![Node::default(); pipeline.blocks.len()];
        for (at, block) in pipeline.blocks.iter().enumerate() {
            for uuid in &block.upstream {
                let up = find(&by_uuid, block, uuid)?;
                if nodes[at].upstream.iter().any(|(known, _)| *known == up) {
                    continue;
                }
                nodes[at].upstream.push((up, Feed::Whole));
                nodes[up].downstream.push(at);
            }
        }
        // Callbacks are steps with rows of their own; two of one name would share them.
        index(&pipeline.callbacks)?;
        for (at, callback) in pipeline.callbacks.iter().enumerate() {
            for watched in callback.upstream.iter().collect::<BTreeSet<_>>() {
                nodes[find(&by_uuid, callback, watched)?].callbacks.push(at);
            }
        }
        check_stored_names(&pipeline, &nodes, &by_uuid)?;
        for (at, guard) in pipeline.conditionals.iter().enumerate() {
            for guarded in guard.upstream.iter().collect::<BTreeSet<_>>() {
                nodes[find(&by_uuid, guard, guarded)?].conditionals.push(at);
            }
        }
        let order = topological(&nodes).map_err(|stuck| GraphError::Cycle(cycle(&nodes, &stuck, &pipeline.blocks)))?;
        mark_fans(&mut nodes, &order, &pipeline.blocks);
        Ok(Self { pipeline, nodes, by_uuid, order })
    }

    /// The pipeline that it was built from.
    #[must_use]
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// The block at an index.
    #[must_use]
    pub fn block(&self, at: usize) -> &Block {
        &self.pipeline.blocks[at]
    }

    /// The neighbours of the block at an index.
    #[must_use]
    pub fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    /// Number of blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True for a pipeline without blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The index of a block.
    #[must_use]
    pub fn find(&self, uuid: &str) -> Option<usize> {
        self.by_uuid.get(uuid).copied()
    }

    /// Every block after all of its upstreams.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// A block and everything downstream of it.
    #[must_use]
    pub fn closure(&self, from: usize) -> Vec<bool> {
        let mut inside = vec![false; self.nodes.len()];
        inside[from] = true;
        for &at in &self.order {
            if self.nodes[at].upstream.iter().any(|(up, _)| inside[*up]) {
                inside[at] = true;
            }
        }
        inside
    }
}

fn index(blocks: &[Block]) -> Result<HashMap<String, usize>, GraphError> {
    let mut by_uuid = HashMap::with_capacity(blocks.len());
    for (at, block) in blocks.iter().enumerate() {
        if by_uuid.insert(block.uuid.clone(), at).is_some() {
            return Err(GraphError::Duplicate(block.uuid.clone()));
        }
    }
    Ok(by_uuid)
}

/// Units are stored by name, and a callback of a block is called `<callback>:<block>`. A uuid may hold a `:`, as long as no two
/// units of a run have one name.
fn check_stored_names(pipeline: &Pipeline, nodes: &[Node], by_uuid: &HashMap<String, usize>) -> Result<(), GraphError> {
    let mut names = HashSet::new();
    for (node, block) in nodes.iter().zip(&pipeline.blocks) {
        for callback in node.callbacks.iter().map(|&at| &pipeline.callbacks[at]) {
            let name = format!("{}:{}", callback.uuid, block.uuid);
            if by_uuid.contains_key(&name) || !names.insert(name) {
                return Err(GraphError::Ambiguous { callback: callback.uuid.clone(), block: block.uuid.clone() });
            }
        }
    }
    Ok(())
}

fn find(by_uuid: &HashMap<String, usize>, block: &Block, uuid: &str) -> Result<usize, GraphError> {
    by_uuid
        .get(uuid)
        .copied()
        .ok_or_else(|| GraphError::UnknownUpstream { block: block.uuid.clone(), upstream: uuid.to_owned() })
}

/// Kahn's order; on a cycle, which blocks are on or behind one.
fn topological(nodes: &[Node]) -> Result<Vec<usize>, Vec<bool>> {
    let mut left: Vec<usize> = nodes.iter().map(|n| n.upstream.len()).collect();
    let mut order: Vec<usize> = (0..nodes.len()).filter(|&at| left[at] == 0).collect();
    let mut next = 0;
    while next < order.len() {
        for &down in &nodes[order[next]].downstream {
            left[down] -= 1;
            if left[down] == 0 {
                order.push(down);
            }
        }
        next += 1;
    }
    if order.len() == nodes.len() { Ok(order) } else { Err(left.iter().map(|left| *left > 0).collect()) }
}

/// Walks upstream from a stuck block, through stuck blocks, until one repeats: each has a stuck upstream, or it would
/// not be stuck.
fn cycle(nodes: &[Node], stuck: &[bool], blocks: &[Block]) -> Vec<String> {
    let mut path: Vec<usize> = stuck.iter().position(|stuck| *stuck).into_iter().collect();
    let mut place = vec![None; nodes.len()];
    while let Some(&here) = path.last() {
        place[here] = Some(path.len() - 1);
        let Some(up) = nodes[here].upstream.iter().map(|(up, _)| *up).find(|up| stuck[*up]) else { break };
        path.push(up);
        if let Some(start) = place[up] {
            // Upstream was the way; the data flows back.
            return path[start..].iter().rev().map(|&at| blocks[at].uuid.clone()).collect();
        }
    }
    Vec::new()
}

/// A block fans out when an upstream multiplies it: a dynamic block, or a fan whose output is not reduced.
/// Inert blocks are neither: nothing runs that could return items or read one. (Mage computes the same from the files
/// at every pass; here it is a property of the version.)
fn mark_fans(nodes: &mut [Node], order: &[usize], blocks: &[Block]) {
    for &at in order {
        let mut is_fan = false;
        for slot in 0..nodes[at].upstream.len() {
            let up = nodes[at].upstream[slot].0;
            let dynamic = blocks[up].dynamic && !blocks[up].kind.is_inert();
            let feed = match (nodes[up].is_fan, dynamic, blocks[up].reduce_output) {
                (false, true, false) => Feed::Items,
                (false, _, _) => Feed::Whole,
                (true, _, true) => Feed::Reduced,
                (true, true, false) => Feed::ChildItems,
                (true, false, false) => Feed::Children,
            };
            nodes[at].upstream[slot].1 = feed;
            is_fan |= feed.multiplies();
        }
        nodes[at].is_fan = is_fan && !blocks[at].kind.is_inert();
    }
}
