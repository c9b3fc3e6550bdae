//! Where volumes keep those who mount them: one node mounts a volume at a time, and some only nodes that are near. Refuses to
//! place anybody.

use super::{Placer, lives::Lives, volumes::Reach};
use domain::{
    id::{GangId, HolderId, NodeId, VolumeId},
    runtime::life::Life,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Names of zones or nodes in one sentence.
const NAMED_MAX: usize = 5;

/// Volumes, with the lives that mount them and have a place, or are to have one.
pub(super) type Mounted = BTreeMap<VolumeId, Vec<Use>>;

/// A life that mounts a volume.
pub(super) struct Use {
    holder: HolderId,
    gang: Option<GangId>,
    node: NodeId,
}

impl Use {
    /// Members of a gang do not wait for each other: nobody of them would ever start.
    fn binds(&self, life: &Life) -> bool {
        let together = self.gang.is_some() && self.gang == gang(life);
        self.holder != life.holder && !together
    }
}

impl Placer {
    /// Which volumes are mounted, and where.
    pub(super) fn mounted(&self) -> Mounted {
        let mut mounted = Mounted::new();
        for life in self.lives.iter().map(|stored| &stored.life).filter(|life| !life.spec.mounts.is_empty()) {
            let Some(placement) = self.placements.get(&life.holder) else { continue };
            for volume in volumes(life) {
                let one = Use { holder: life.holder, gang: gang(life), node: placement.node };
                mounted.entry(volume).or_default().push(one);
            }
        }
        mounted
    }

    /// What a volume has to do with somebody's waiting, in words.
    pub(super) fn tie(&self, holder: HolderId, mounted: &Mounted) -> Option<String> {
        let life = &self.lives.get(holder)?.life;
        let mounted = life.spec.mounts.iter().find_map(|mount| {
            let other = mounted.get(&mount.id?)?.iter().find(|other| other.binds(life))?;
            let workspace = self.lives.get(other.holder).map_or("", |stored| &*stored.workspace);
            let node = self.fleet.name_of(other.node);
            let volume = &mount.volume;
            Some(format!("volume `{volume}` is mounted by `{workspace}` on {node}, and one node mounts it at a time"))
        });
        let near = || life.spec.mounts.iter().find_map(|mount| self.near(&mount.volume, mount.id?));
        mounted.or_else(near)
    }

    fn near(&self, name: &str, volume: VolumeId) -> Option<String> {
        let reach = self.volumes.reach(volume)?;
        self.fleet.within(reach)?;
        Some(format!("volume `{name}` can be mounted {} only", spoken(reach)))
    }

    /// The only nodes on which a life can mount its volumes, and may be tried; `None` where any will do.
    pub(super) fn nodes_for(&self, life: &Life, mounted: &Mounted) -> Option<BTreeSet<NodeId>> {
        let of_others = |volume: VolumeId| {
            let others = mounted.get(&volume)?.iter().filter(|other| other.binds(life));
            Some(others.map(|other| other.node).collect::<BTreeSet<_>>()).filter(|nodes| !nodes.is_empty())
        };
        // What no node of the pool is said to reach is left to its backend.
        let near = |volume| self.fleet.within(self.volumes.reach(volume)?);
        let all = volumes(life).filter_map(of_others).chain(volumes(life).filter_map(near));
        let nodes = all.reduce(|all, nodes| all.intersection(&nodes).copied().collect());
        self.without_avoided(life, nodes)
    }

    /// Leaves those out of a plan's decisions who would mount a volume elsewhere than those before them: they are thought of
    /// again, beside these. `taken` is where volumes are by what was kept.
    pub(super) fn apart<T>(
        &mut self,
        groups: Vec<Vec<T>>,
        taken: &mut HashMap<VolumeId, NodeId>,
        place: impl Fn(&T) -> (HolderId, NodeId),
    ) -> Vec<Vec<T>> {
        let count = groups.len();
        let kept: Vec<Vec<T>> =
            groups.into_iter().filter(|group| joins(&self.lives, group.iter().map(&place), taken)).collect();
        if kept.len() < count {
            self.planning.want();
        }
        kept
    }
}

/// Notes where a group would mount its volumes, unless one of them is elsewhere.
fn joins(
    lives: &Lives,
    group: impl Iterator<Item = (HolderId, NodeId)>,
    taken: &mut HashMap<VolumeId, NodeId>,
) -> bool {
    let placed = group.filter_map(|(holder, node)| Some((&lives.get(holder)?.life, node)));
    let wanted: Vec<_> = placed.flat_map(|(life, node)| volumes(life).map(move |volume| (volume, node))).collect();
    let fits = wanted.iter().all(|(volume, node)| taken.get(volume).is_none_or(|there| there == node));
    if fits {
        taken.extend(wanted);
    }
    fits
}

/// `in zone a or b`, `on node-1`
fn spoken(reach: &Reach) -> String {
    let listed = |names: &[String]| match names {
        names if names.len() > NAMED_MAX => format!("{} of them", names.len()),
        names => names.join(" or "),
    };
    let zones = (!reach.zones.is_empty()).then(|| format!("in zone {}", listed(&reach.zones)));
    let nodes = (!reach.nodes.is_empty()).then(|| format!("on {}", listed(&reach.nodes)));
    zones.into_iter().chain(nodes).collect::<Vec<_>>().join(", or ")
}

fn volumes(life: &Life) -> impl Iterator<Item = VolumeId> {
    life.spec.mounts.iter().filter_map(|mount| mount.id)
}

fn gang(life: &Life) -> Option<GangId> {
    life.gang.as_ref().map(|gang| gang.id)
}
