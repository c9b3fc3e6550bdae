//! The container that runs a life's pre-start script before the application, and the folder by which its answer comes there.
//!
//! It is of the same pod: what the script reaches is what the people of the workspace reach anyway. It has no device, no volume
//! and no key of the application. Refuses to run anything itself, and to know what a variable is for.

use super::{Place, app, pod};
use crate::life::Life;
use domain::runtime::rules::{ENV_BYTES_MAX, ENV_MAX, RESERVED};
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, EnvVar, Volume, VolumeMount};
use serde_json::{Value, json};

/// What it is called in the pod.
pub const NAME: &str = "pre-start";
/// The code with which it ends when the script asks for what it may not change.
pub const REFUSED: i32 = 3;
/// What its container ends with when it failed; the last line says how.
pub const FAILED: i32 = 2;
/// The file that it leaves, with the lines of a shell.
pub(super) const FILE: &str = "/run/orrery/environment";

const FOLDER: &str = "/run/orrery";
const PROGRAM: &str = include_str!("pre_start.py");
/// The longest that a script may take, and its processor time, seconds; as beside executors, like the next two.
const TIMEOUT_S: u32 = 20;
const CPU_S: u32 = 10;
/// Memory, bytes.
const MEMORY_BYTES: u64 = 512 << 20;
/// The longest answer, and the longest file of any kind.
const ANSWER_BYTES_MAX: u64 = 256 << 10;

/// Whether a life has a script.
pub(super) fn is_wanted(life: &Life) -> bool {
    !life.spec.pre_start.is_empty()
}

/// The folder.
pub(super) fn volume() -> Volume {
    Volume { name: NAME.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// The folder as a container sees it.
pub(super) fn mount(read_only: bool) -> VolumeMount {
    VolumeMount {
        name: NAME.to_owned(),
        mount_path: FOLDER.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

/// The container, of the image that operators name, else of the application's.
pub(super) fn container(place: &Place, life: &Life) -> Container {
    let image = match place.images.pre_start.as_str() {
        "" => app::image(&place.images, life),
        own => own,
    };
    let variables: Vec<Value> = pod::users(life).map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let config = json!({ "name": life.workspace, "image": life.spec.image, "env": variables });
    let reserved: Vec<&str> = RESERVED.into_iter().chain(pod::OURS).collect();
    let rules = json!({
        "timeout_s": TIMEOUT_S, "cpu_s": CPU_S, "memory_bytes": MEMORY_BYTES, "answer_bytes": ANSWER_BYTES_MAX,
        "env_max": ENV_MAX, "env_bytes": ENV_BYTES_MAX, "reserved": reserved,
    });
    let given = [
        ("ORRERY_FOLDER", FOLDER.to_owned()),
        ("ORRERY_PRE_START", life.spec.pre_start.clone()),
        ("ORRERY_CONTAINER_CONFIG", config.to_string()),
        ("ORRERY_RULES", rules.to_string()),
    ];
    let variable = |(name, value): (&str, String)| EnvVar {
        name: name.to_owned(),
        // As it stands: no reference of Kubernetes begins in it.
        value: Some(value.replace('$', "$$")),
        value_from: None,
    };
    let mut resources = pod::resources(life);
    resources.claims = None;
    Container {
        name: NAME.to_owned(),
        image: Some(image.to_owned()),
        command: Some(["python3", "-I", "-c", PROGRAM].map(str::to_owned).into()),
        env: Some(given.map(variable).into()),
        resources: Some(resources),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(pod::confined()),
        volume_mounts: Some(vec![mount(false)]),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_program_is_not_expanded_by_kubernetes() {
        assert!(!PROGRAM.contains('$'));
        assert!(FILE.starts_with(FOLDER));
    }
}
