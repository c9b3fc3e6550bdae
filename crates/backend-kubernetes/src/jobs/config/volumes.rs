//! Which volumes a block may mount: those that hold nothing of the machine and nothing of the cluster's identity.

use super::{Asked, Reader};
use k8s_openapi::api::core::v1::Volume;

/// Where our own files are in a container; no volume goes there.
pub(in super::super) const OURS: &str = "/var/run/orrery";

/// Removes the rest, with what mounts it.
pub(super) fn keep_safe(asked: &mut Asked, reader: &mut Reader) {
    asked.volumes = std::mem::take(&mut asked.volumes).into_iter().filter_map(|volume| safe(volume, reader)).collect();
    asked.mounts.retain(|mount| {
        let known = asked.volumes.iter().any(|volume| volume.name == mount.name);
        let ours = mount.mount_path.trim_end_matches('/');
        let free = ours != OURS && !ours.starts_with(&format!("{OURS}/")) && !OURS.starts_with(&format!("{ours}/"));
        if !known {
            reader.refuse(&format!("volume_mounts {}", mount.mount_path), "names a volume that is not there");
        } else if !free {
            reader.refuse(&format!("volume_mounts {}", mount.mount_path), "hides our own files");
        }
        known && free
    });
}

/// The volume with nothing but the source that is allowed.
fn safe(volume: Volume, reader: &mut Reader) -> Option<Volume> {
    let Volume { name, empty_dir, persistent_volume_claim, config_map, secret, .. } = volume;
    let kept = Volume { name, empty_dir, persistent_volume_claim, config_map, secret, ..Volume::default() };
    let sources = [
        kept.empty_dir.is_some(),
        kept.persistent_volume_claim.is_some(),
        kept.config_map.is_some(),
        kept.secret.is_some(),
    ];
    if sources.into_iter().filter(|has| *has).count() == 1 {
        return Some(kept);
    }
    let why = "is none that a block may have: emptyDir, persistentVolumeClaim, configMap or secret; paths of the machine, \
               networks and identities of the cluster are not for projects";
    reader.refuse(&format!("pod.volumes {}", kept.name), why);
    None
}
