//! Volumes on one machine: a folder for each, which runtimes find in their own. Nothing keeps a folder within a size, or
//! keeps anybody from writing.

use super::{Shared, life::Ended};
use crate::pool::Volume;
use domain::{id::VolumeId, runtime::Mount};
use proto::internal::v1::{self as pb, VolumePhase};
use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{MutexGuard, PoisonError},
};

/// Below a workspace's folder: a link for each volume, by its name.
const LINKS: &str = "volumes";
/// Of the names of their folders; those of workspaces lie beside them.
const PREFIX: &str = "volume-";

impl Shared {
    /// Makes folders, or removes them with what is in them, and says so; blocking.
    pub(super) fn keep_volumes(&self, volumes: &[Volume]) {
        for volume in volumes {
            let folder = folder(&self.parts.volumes, volume.id);
            let goes = || self.gone_volumes().contains(&volume.id);
            let is_classed = !volume.storage_class.is_empty();
            let made = if goes() || is_classed { Ok(()) } else { std::fs::create_dir_all(&folder) };
            // It may have been told to go meanwhile.
            let (done, phase) = match goes() {
                true => (remove(&folder), VolumePhase::Gone),
                false => (made, VolumePhase::Ready),
            };
            let (phase, message) = match done {
                Ok(()) if is_classed && phase == VolumePhase::Ready => (VolumePhase::Failed, no_class(volume)),
                Ok(()) => (phase, String::new()),
                Err(error) => (VolumePhase::Failed, format!("its folder cannot be made or removed: {error}")),
            };
            let id = volume.id.to_vec();
            let phase = phase.into();
            self.board.report_volume(pb::VolumeReport { id, phase, message, ..pb::VolumeReport::default() });
        }
    }

    /// Volumes that are to go, or are gone. Nothing panics while it is held.
    pub(super) fn gone_volumes(&self) -> MutexGuard<'_, HashSet<VolumeId>> {
        self.gone_volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Volumes that are to be of a storage class: here there are none. Nothing panics while it is held.
    pub(super) fn classed_volumes(&self) -> MutexGuard<'_, HashSet<VolumeId>> {
        self.classed_volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves links to a runtime's volumes in its workspace's folder, and no others. A life may come before its volumes are told.
///
/// # Errors
/// A volume that is deleted, of a storage class, or not to be written, which nothing keeps here.
pub(super) fn link(shared: &Shared, home: &Path, mounts: &[Mount]) -> Result<(), Ended> {
    let links = home.join(LINKS);
    // Their owner may have made anything of it: no link is followed, and what he made there is not ours to remove.
    let is_folder = links.symlink_metadata().is_ok_and(|there| there.is_dir());
    for entry in is_folder.then(|| std::fs::read_dir(&links)).into_iter().flatten().flatten().flatten() {
        if std::fs::read_link(entry.path()).is_ok_and(|target| is_folder_of_one(&shared.parts.volumes, &target)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    for mount in mounts {
        let unsupported = |why: &str| Err(Ended::new("MOUNT_UNSUPPORTED", format!("volume `{}` {why}", mount.volume)));
        let Some(id) = mount.id else {
            return unsupported("is none of the project's in this pool; make it with `orrery volumes create`");
        };
        if mount.read_only {
            return unsupported("cannot be kept from being written on this backend; mount it without `:ro`");
        }
        if shared.gone_volumes().contains(&id) {
            return unsupported("is being deleted; take it out of the spec, or make another one");
        }
        if shared.classed_volumes().contains(&id) {
            return unsupported("is to be of a storage class, and there is none on one machine; make one without it");
        }
        let target = folder(&shared.parts.volumes, id);
        std::fs::create_dir_all(&target)?;
        if !links.symlink_metadata().is_ok_and(|there| there.is_dir()) {
            let made = std::fs::create_dir(&links);
            if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
                return unsupported(&format!("has no place: `{LINKS}` is no folder; move it away"));
            }
            made?;
        }
        let link = links.join(&mount.volume);
        match std::os::unix::fs::symlink(&target, &link) {
            // One that is mounted at two paths has one link.
            Err(_) if std::fs::read_link(&link).is_ok_and(|there| there == target) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return unsupported(&format!(
                    "has no place: something else is `{LINKS}/{}`; move it away",
                    mount.volume
                ));
            }
            linked => linked?,
        }
    }
    Ok(())
}

fn no_class(volume: &Volume) -> String {
    format!(
        "this pool's runtimes are processes of one machine, whose volumes are folders and of no storage class such as `{}`; \
         delete it, and make it without one",
        volume.storage_class
    )
}

fn folder(volumes: &Path, id: VolumeId) -> PathBuf {
    volumes.join(format!("{PREFIX}{id}"))
}

fn is_folder_of_one(volumes: &Path, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    path.parent() == Some(volumes) && name.is_some_and(|name| name.starts_with(PREFIX))
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
