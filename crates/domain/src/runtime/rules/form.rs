//! What is wrong with a spec in itself. Refuses to know any project, plan or fleet.

use super::{Code, Denial};
use crate::device::{BYTES_MAX, CPU_MILLI_MAX, GPUS_MAX};
use crate::runtime::{App, Mount, Spec};

/// The longest name of a workspace with a runtime: objects of backends add to it, within 63 characters.
pub const NAME_CHARS_MAX: usize = 40;
/// Volumes of one runtime.
pub const MOUNTS_MAX: usize = 16;
/// Variables of one runtime.
pub const ENV_MAX: usize = 100;
/// Bytes of all their names and values.
pub const ENV_BYTES_MAX: usize = 32 << 10;
/// Bytes of a script.
pub const SCRIPT_BYTES_MAX: usize = 64 << 10;
/// The shortest time-out and lifetime, seconds.
pub const TIMEOUT_S_MIN: u32 = 60;
/// The longest time from asking a runtime to end to ending it, seconds.
pub const GRACE_S_MAX: u32 = 3600;
/// The lowest priority; 0 is the highest, so that nobody passes others of the queue by asking to.
const PRIORITY_MIN: i32 = -100;
/// Ports below need privileges that no runtime has.
const PORT_MIN: u16 = 1024;
/// Bytes of a reference of an image.
const IMAGE_BYTES_MAX: usize = 512;
/// Arguments of a command, and bytes of each.
const ARGUMENTS_MAX: usize = 64;
const ARGUMENT_BYTES_MAX: usize = 4 << 10;
/// Bytes of a path.
const PATH_BYTES_MAX: usize = 512;
/// Beginnings of what the platform says, and no runtime: its own names, and what keeps holders within their shares.
pub const RESERVED: [&str; 7] = [
    "ORRERY_",
    "NVIDIA_",
    "CUDA_DEVICE_",
    "CUDA_MPS_",
    "CUDA_DISABLE_CONTROL",
    "GPU_CORE_UTILIZATION_POLICY",
    "LD_PRELOAD",
];

/// Whether only the platform sets a variable of this name, whoever else would: a spec, a script, or a backend for a user.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| name.starts_with(reserved))
}

/// Whether a workspace of this name can have a runtime.
pub(super) fn check_name(name: &str) -> Result<(), Denial> {
    if is_label(name, NAME_CHARS_MAX) {
        return Ok(());
    }
    let sentence = format!(
        "the name of a workspace with a runtime has 1 to {NAME_CHARS_MAX} lower-case letters, digits and inner hyphens"
    );
    Err(Denial::new(Code::NameInvalid, "workspace", sentence, "make a workspace with a shorter name"))
}

/// Whether the spec means something.
pub(super) fn check(spec: &Spec) -> Result<(), Denial> {
    check_image(&spec.image)?;
    check_app(&spec.app)?;
    check_host(spec)?;
    check_devices(spec)?;
    check_env(spec)?;
    check_mounts(&spec.mounts)?;
    check_times(spec)?;
    check_scripts(spec)?;
    if (PRIORITY_MIN..=0).contains(&spec.priority) {
        return Ok(());
    }
    let sentence = format!("a priority of {} is asked for", spec.priority);
    let remedy = format!("use {PRIORITY_MIN} to 0; who is to come first gets a queue of higher priority");
    Err(Denial::new(Code::PriorityInvalid, "priority", sentence, remedy))
}

fn check_image(image: &str) -> Result<(), Denial> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@');
    let begins = image.starts_with(|c: char| c.is_ascii_alphanumeric());
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    // An allowed beginning is one of names that are what they say.
    let steps = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    let hex = |text: &str| text.len() == 64 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    let pinned = digest.is_none_or(|digest| digest.strip_prefix("sha256:").is_some_and(hex));
    let formed = begins && steps && pinned && image.len() <= IMAGE_BYTES_MAX && image.chars().all(plain);
    if image.is_empty() || formed {
        return Ok(());
    }
    let remedy = "write it as name:tag or name@sha256: and 64 hexadecimal digits";
    Err(Denial::new(Code::ImageInvalid, "image", "this is no reference of an image", remedy))
}

fn check_app(app: &App) -> Result<(), Denial> {
    let App::Custom { port, command, health_path, .. } = app else { return Ok(()) };
    let wrong = |sentence: String, remedy: &str| Err(Denial::new(Code::AppInvalid, "app", sentence, remedy));
    if *port < PORT_MIN {
        return wrong(format!("the application listens on port {port}"), "use a port from 1024 on");
    }
    if command.len() > ARGUMENTS_MAX || command.iter().any(|argument| argument.len() > ARGUMENT_BYTES_MAX) {
        let sentence = format!(
            "the command has more than {ARGUMENTS_MAX} arguments, or one of more than {ARGUMENT_BYTES_MAX} bytes"
        );
        return wrong(sentence, "put it into a script of the image");
    }
    let path = health_path.as_str();
    let well_formed =
        path.starts_with('/') && !path.starts_with("//") && !path.chars().any(|c| c.is_control() || c == '\\');
    if path.is_empty() || (well_formed && path.len() <= PATH_BYTES_MAX) {
        return Ok(());
    }
    wrong("the health path is no path".to_owned(), "begin it with one slash")
}

fn check_devices(spec: &Spec) -> Result<(), Denial> {
    let ask = &spec.ask;
    if ask.gpus > GPUS_MAX {
        let sentence = format!("{} GPUs are asked for, and one runtime has at most {GPUS_MAX}", ask.gpus);
        return Err(Denial::new(Code::GpuCountLimit, "gpus", sentence, "ask for fewer"));
    }
    if ask.gpus == 0 && !ask.models.is_empty() {
        let sentence = "models are named, and no GPU is asked for";
        return Err(Denial::new(Code::ModelNotAllowed, "models", sentence, "ask for a GPU, or name no model"));
    }
    if ask.gpu_memory_bytes.is_some_and(|bytes| bytes > BYTES_MAX) {
        let sentence = format!("no device has {} MiB of memory", ask.gpu_memory_bytes.unwrap_or_default() >> 20);
        return Err(Denial::new(Code::MemInvalid, "gpu_memory_bytes", sentence, "ask for less"));
    }
    if ask.check().is_err() {
        let remedy = "ask for 1 to 100 %";
        return Err(Denial::new(Code::SmInvalid, "sm_percent", "the share of each GPU is out of range", remedy));
    }
    if ask.gpu_memory_bytes == Some(0) || (ask.gpus == 0 && ask.gpu_memory_bytes.is_some()) {
        let sentence = "device memory is asked for without a device, or none of it";
        return Err(Denial::new(Code::MemInvalid, "gpu_memory_bytes", sentence, "leave it out: it follows the share"));
    }
    Ok(())
}

fn check_host(spec: &Spec) -> Result<(), Denial> {
    for (field, asked, most) in [
        ("cpu_milli", spec.ask.cpu_milli, CPU_MILLI_MAX),
        ("cpu_limit_milli", spec.cpu_limit_milli, CPU_MILLI_MAX),
        ("memory_bytes", spec.ask.memory_bytes, BYTES_MAX),
        ("memory_limit_bytes", spec.memory_limit_bytes, BYTES_MAX),
        ("storage_bytes", spec.storage_bytes, BYTES_MAX),
    ] {
        if asked > most {
            let of_processor = || format!("more than {} cores are asked for", most / 1000);
            let of_bytes = || format!("more than {} GiB are asked for", most >> 30);
            let sentence = if most == CPU_MILLI_MAX { of_processor() } else { of_bytes() };
            let remedy = "ask for what one machine can have";
            return Err(Denial::new(Code::ResourceLimit, field, sentence, remedy));
        }
    }
    let below = |limit: u64, asked: u64| limit != 0 && limit < asked;
    let (field, what) = match spec {
        _ if spec.ask.cpu_milli == 0 => ("cpu_milli", "no processor is asked for"),
        _ if spec.ask.memory_bytes == 0 => ("memory_bytes", "no memory is asked for"),
        _ if below(spec.cpu_limit_milli, spec.ask.cpu_milli) => {
            ("cpu_limit_milli", "the limit is below what is asked for")
        }
        _ if below(spec.memory_limit_bytes, spec.ask.memory_bytes) => {
            ("memory_limit_bytes", "the limit is below what is asked for")
        }
        _ => return Ok(()),
    };
    Err(Denial::new(Code::ResourceLimit, field, what, "raise it"))
}

fn check_env(spec: &Spec) -> Result<(), Denial> {
    let wrong = |sentence: String, remedy: &str| Err(Denial::new(Code::EnvInvalid, "env", sentence, remedy));
    let bytes: usize = spec.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if spec.env.len() > ENV_MAX || bytes > ENV_BYTES_MAX {
        return wrong(
            format!("there are more than {ENV_MAX} variables, or {ENV_BYTES_MAX} bytes of them"),
            "set fewer",
        );
    }
    for (name, value) in &spec.env {
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !begins || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || value.contains('\0') {
            let shown: String = name.chars().take(60).collect();
            return wrong(format!("`{shown}` cannot be set"), "use letters, digits and `_`");
        }
        if is_reserved(name) {
            return wrong(format!("`{name}` is set by the platform"), "leave it out");
        }
    }
    Ok(())
}

fn check_mounts(mounts: &[Mount]) -> Result<(), Denial> {
    let wrong = |code, sentence: String, remedy: &str| Err(Denial::new(code, "mounts", sentence, remedy));
    if mounts.len() > MOUNTS_MAX {
        return wrong(Code::PvcTooMany, format!("there are {} volumes", mounts.len()), "mount 16 at most");
    }
    for (at, mount) in mounts.iter().enumerate() {
        let label = mount.volume.split('.').all(|part| is_label(part, 63)) && mount.volume.len() <= 253;
        if !label {
            let remedy = "use lower-case letters, digits and inner hyphens";
            return wrong(Code::PvcNameInvalid, "a volume's name is not one of a volume".to_owned(), remedy);
        }
        let path = mount.path.as_str();
        if !is_mountable(path) {
            let remedy =
                "use a plain absolute path without a colon, and not /, /proc, /sys, /dev or anything below these";
            return wrong(Code::PvcPathInvalid, format!("volume `{}` cannot be mounted there", mount.volume), remedy);
        }
        let other = mounts[..at].iter().find(|other| is_within(&other.path, path) || is_within(path, &other.path));
        if let Some(other) = other {
            let sentence = format!(
                "volumes `{}` and `{}` are mounted at one path or below each other",
                other.volume, mount.volume
            );
            return wrong(Code::PvcPathNested, sentence, "mount them side by side");
        }
    }
    Ok(())
}

fn is_mountable(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.chars().any(char::is_control);
    let systems = ["/proc", "/sys", "/dev"];
    // Kubernetes takes no colon in the path of a mount.
    let short = path.len() <= PATH_BYTES_MAX && !path.contains(':');
    short && rest.split('/').all(plain) && !systems.iter().any(|system| is_within(path, system))
}

/// `path` is `folder` or below it.
fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_times(spec: &Spec) -> Result<(), Denial> {
    for (field, seconds, code) in [
        ("idle_timeout_s", spec.idle_timeout_s, Code::TimeoutLimit),
        ("gpu_idle_timeout_s", spec.gpu_idle_timeout_s, Code::TimeoutLimit),
        ("lifetime_s", spec.lifetime_s, Code::LifetimeLimit),
    ] {
        if (1..TIMEOUT_S_MIN).contains(&seconds) {
            let sentence = format!("{seconds} seconds are too short");
            return Err(Denial::new(code, field, sentence, "use 60 seconds or more, or 0 for never"));
        }
    }
    if spec.grace_s > GRACE_S_MAX {
        let sentence = format!("{} seconds from asking to ending are too long", spec.grace_s);
        return Err(Denial::new(Code::TimeoutLimit, "grace_s", sentence, "use an hour at most"));
    }
    Ok(())
}

fn check_scripts(spec: &Spec) -> Result<(), Denial> {
    let command: usize = spec.post_start.command.iter().map(String::len).sum();
    for (field, bytes) in [
        ("pre_start", spec.pre_start.len()),
        ("post_start.script", spec.post_start.script.len()),
        ("post_start.command", command),
    ] {
        if bytes > SCRIPT_BYTES_MAX {
            let sentence = format!("it has {bytes} bytes, and {SCRIPT_BYTES_MAX} are possible");
            return Err(Denial::new(
                Code::ScriptTooLong,
                field,
                sentence,
                "put it into the image or a volume, and call it",
            ));
        }
    }
    Ok(())
}

fn is_label(text: &str, chars_max: usize) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= chars_max
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
