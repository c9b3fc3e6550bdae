//! Volumes of the pool: executors are told what these shall be, and what they answer is written. Refuses to know sizes'
//! limits, and who mounts what: a volume that may not go is not told to.

use super::Placer;
use domain::id::VolumeId;
use proto::internal::v1::{self as pb, VolumePhase, serve_response::Message as Said};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use store::volumes::{self, Reported, Wanted};

/// Between two looks at what people set.
const REFRESH: Duration = Duration::from_secs(1);
/// Volumes of one message: some 200 bytes each.
const PART_MAX: usize = 4_096;

/// What was told, and what executors said of where.
#[derive(Default)]
pub(super) struct Volumes {
    known: Vec<Wanted>,
    read_at: Option<Instant>,
    /// Of those that not every node can mount. In no row: it is said again with each connection.
    reaches: HashMap<VolumeId, Reach>,
}

/// Who can mount a volume: nodes of these zones, and these nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) zones: Vec<String>,
    pub(super) nodes: Vec<String>,
}

impl Volumes {
    /// Who can mount it; `None` where any node can, as far as anybody said.
    pub(super) fn reach(&self, volume: VolumeId) -> Option<&Reach> {
        self.reaches.get(&volume)
    }

    /// Of volumes that are told no more.
    fn forget_reaches(&mut self) {
        let Self { known, reaches, .. } = self;
        reaches.retain(|id, _| known.binary_search_by_key(id, |known| known.id).is_ok());
    }

    fn take_reaches(&mut self, reports: &[pb::VolumeReport]) {
        for report in reports {
            let Some(id) = VolumeId::from_slice(&report.id) else { continue };
            if report.zones.is_empty() && report.nodes.is_empty() {
                self.reaches.remove(&id);
            } else {
                let reach = Reach { zones: report.zones.clone(), nodes: report.nodes.clone() };
                self.reaches.insert(id, reach);
            }
        }
    }
}

impl Placer {
    /// Reads what volumes shall be, when it is time to, and tells what has changed. What cannot be read is read again.
    pub(super) async fn look_at_volumes(&mut self) {
        if self.volumes.read_at.is_some_and(|at| at.elapsed() < REFRESH) {
            return;
        }
        self.volumes.read_at = Some(Instant::now());
        let found = match volumes::of_pool(&self.parts.store, &self.pool).await {
            Ok(found) => found,
            Err(error) => {
                let pool = &*self.pool;
                tracing::warn!(pool, error = runtime::exit::chain(&error), "failed to read which volumes there are");
                return;
            }
        };
        if i64::try_from(found.len()) == Ok(volumes::POOL_MAX) {
            tracing::error!(
                pool = &*self.pool,
                "the pool has {} volumes, with those that are gone; more are not told",
                volumes::POOL_MAX
            );
        }
        let was = |wanted: &Wanted| {
            let at = self.volumes.known.binary_search_by_key(&wanted.id, |known| known.id);
            at.ok().and_then(|at| self.volumes.known.get(at)) == Some(wanted)
        };
        let news: Vec<pb::PoolVolume> = found.iter().filter(|wanted| !was(wanted)).map(said).collect();
        self.volumes.known = found;
        self.volumes.forget_reaches();
        for session in self.fleet.ready_sessions() {
            self.say_volumes(session, &news);
        }
    }

    /// Says all of them to an executor that came.
    pub(super) fn tell_volumes(&self, session: u64) {
        self.say_volumes(session, &self.volumes.known.iter().map(said).collect::<Vec<_>>());
    }

    fn say_volumes(&self, session: u64, volumes: &[pb::PoolVolume]) {
        for part in volumes.chunks(PART_MAX) {
            self.fleet.say(session, Said::Volumes(pb::Volumes { volumes: part.to_vec() }));
        }
    }

    /// Writes what an executor says. It says all of it again after the next connection.
    pub(super) async fn volumes_reported(&mut self, reports: pb::VolumeReports) {
        self.volumes.take_reaches(&reports.volumes);
        let reports: Vec<Reported> = reports.volumes.into_iter().filter_map(reported).collect();
        if reports.is_empty() {
            return;
        }
        if let Err(error) = volumes::report(&self.parts.store, self.shard, &reports).await {
            let pool = &*self.pool;
            tracing::warn!(pool, error = runtime::exit::chain(&error), "failed to write what volumes there are");
            // They come again, and say it again.
            self.fleet.ready_sessions().into_iter().for_each(|session| self.fleet.close(session));
        }
    }
}

fn said(wanted: &Wanted) -> pb::PoolVolume {
    pb::PoolVolume {
        id: wanted.id.to_vec(),
        project: wanted.project.clone(),
        name: wanted.name.clone(),
        size_bytes: wanted.size_bytes,
        storage_class: wanted.storage_class.clone(),
        deleted: wanted.deleted,
    }
}

fn reported(report: pb::VolumeReport) -> Option<Reported> {
    let state = match report.phase() {
        VolumePhase::Unspecified => return None,
        VolumePhase::Ready => "ready",
        VolumePhase::Failed => "failed",
        VolumePhase::Deleting => "deleting",
        VolumePhase::Gone => "gone",
    };
    let id = VolumeId::from_slice(&report.id)?;
    Some(Reported { id, state, size_bytes: report.size_bytes, message: report.message })
}
