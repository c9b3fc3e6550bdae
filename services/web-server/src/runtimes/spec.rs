//! Specs on the wire and in the domain. Refuses to judge them by any rule: only what a number or a word can mean is looked at.

use crate::fault::Fault;
use domain::device::{Ask, DeviceModel, Link, WHOLE_MILLI};
use domain::runtime::{App, Mount, PostStart, Spec};
use proto::v1::{self, GpuLink, RuntimeApp, RuntimeSpec};

/// Thousandths of a core, when nobody says.
const CPU_MILLI_DEFAULT: u64 = 1_000;
/// Bytes, when nobody says.
const MEMORY_DEFAULT: u64 = 2 << 30;
/// Models that one runtime names at most.
const MODELS_MAX: usize = 16;
const MODEL_BYTES_MAX: usize = 100;

/// The domain's form of what came in.
pub(crate) fn decode(spec: RuntimeSpec) -> Result<Spec, Fault> {
    let app = app(&spec)?;
    let ask = ask(&spec)?;
    let mounts =
        spec.mounts.into_iter().map(|m| Mount { volume: m.volume, id: None, path: m.path, read_only: m.read_only });
    let post_start = spec.post_start.unwrap_or_default();
    Ok(Spec {
        app,
        image: spec.image,
        ask,
        cpu_limit_milli: large(spec.cpu_limit_milli, "spec.cpu_limit_milli")?,
        memory_limit_bytes: large(spec.memory_limit_bytes, "spec.memory_limit_bytes")?,
        storage_bytes: large(spec.storage_bytes, "spec.storage_bytes")?,
        env: spec.env.into_iter().collect(),
        mounts: mounts.collect(),
        root: spec.root,
        priority: spec.priority,
        idle_timeout_s: small(spec.idle_timeout_s, "spec.idle_timeout_s")?,
        gpu_idle_timeout_s: small(spec.gpu_idle_timeout_s, "spec.gpu_idle_timeout_s")?,
        lifetime_s: small(spec.lifetime_s, "spec.lifetime_s")?,
        grace_s: small(spec.grace_s, "spec.grace_s")?,
        requeue: spec.requeue,
        pre_start: spec.pre_start,
        post_start: PostStart { command: post_start.command, script: post_start.script },
    })
}

fn app(spec: &RuntimeSpec) -> Result<App, Fault> {
    let custom = spec.custom.as_ref();
    match (RuntimeApp::try_from(spec.app), custom) {
        (Ok(RuntimeApp::Unspecified | RuntimeApp::Jupyter), None) => Ok(App::Jupyter),
        (Ok(RuntimeApp::VsCode), None) => Ok(App::VsCode),
        (Ok(RuntimeApp::Custom), Some(custom)) => Ok(App::Custom {
            port: u16::try_from(custom.port).map_err(|_| Fault::field("spec.custom.port", "must be a port"))?,
            command: custom.command.clone(),
            keeps_base_path: custom.keeps_base_path,
            health_path: custom.health_path.clone(),
        }),
        (Ok(_), _) => Err(Fault::field("spec.custom", "must come with RUNTIME_APP_CUSTOM, and only with it")),
        (Err(_), _) => Err(Fault::field("spec.app", "must be an application, such as RUNTIME_APP_JUPYTER")),
    }
}

fn ask(spec: &RuntimeSpec) -> Result<Ask, Fault> {
    let gpus = small(spec.gpus, "spec.gpus")?;
    let percent = small(spec.sm_percent, "spec.sm_percent")?;
    if spec.models.len() > MODELS_MAX || spec.models.iter().any(|m| m.is_empty() || m.len() > MODEL_BYTES_MAX) {
        return Err(Fault::field(
            "spec.models",
            format!("must be at most {MODELS_MAX} names of {MODEL_BYTES_MAX} bytes"),
        ));
    }
    let or = |value: u64, default: u64| if value == 0 { default } else { value };
    let gpu_milli = match (gpus, percent) {
        (0, _) => 0,
        (_, 0) => WHOLE_MILLI,
        (_, percent) => percent.saturating_mul(10),
    };
    let link = match GpuLink::try_from(spec.link) {
        Ok(GpuLink::Unspecified) => Link::Any,
        Ok(GpuLink::Preferred) => Link::Preferred,
        Ok(GpuLink::Required) => Link::Required,
        Err(_) => return Err(Fault::field("spec.link", "must be a link, such as GPU_LINK_PREFERRED")),
    };
    Ok(Ask {
        gpus,
        gpu_milli,
        gpu_memory_bytes: Some(large(spec.gpu_memory_bytes, "spec.gpu_memory_bytes")?).filter(|bytes| *bytes > 0),
        models: spec.models.iter().map(|model| DeviceModel::new(model)).collect(),
        models_ordered: spec.models_ordered,
        link,
        cpu_milli: or(large(spec.cpu_milli, "spec.cpu_milli")?, CPU_MILLI_DEFAULT),
        memory_bytes: or(large(spec.memory_bytes, "spec.memory_bytes")?, MEMORY_DEFAULT),
    })
}

/// A number that is not negative, and that a column holds.
pub(crate) fn large(value: i64, field: &str) -> Result<u64, Fault> {
    u64::try_from(value).map_err(|_| Fault::field(field, "must not be negative"))
}

/// As [`large`].
pub(crate) fn small(value: i32, field: &str) -> Result<u32, Fault> {
    u32::try_from(value).map_err(|_| Fault::field(field, "must not be negative"))
}

/// A count as the wire has it.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// As [`signed`].
pub(crate) fn signed_small(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// The wire's form of a stored spec.
pub(crate) fn encode(spec: Spec) -> RuntimeSpec {
    let (app, custom) = match &spec.app {
        App::Jupyter => (RuntimeApp::Jupyter, None),
        App::VsCode => (RuntimeApp::VsCode, None),
        App::Custom { port, command, keeps_base_path, health_path } => {
            let (command, health_path) = (command.clone(), health_path.clone());
            let custom =
                v1::CustomApp { port: (*port).into(), command, keeps_base_path: *keeps_base_path, health_path };
            (RuntimeApp::Custom, Some(custom))
        }
    };
    let link = match spec.ask.link {
        Link::Any => GpuLink::Unspecified,
        Link::Preferred => GpuLink::Preferred,
        Link::Required => GpuLink::Required,
    };
    let mount = |m: Mount| v1::VolumeMount { volume: m.volume, path: m.path, read_only: m.read_only };
    let PostStart { command, script } = spec.post_start;
    RuntimeSpec {
        app: app.into(),
        custom,
        image: spec.image,
        gpus: signed_small(spec.ask.gpus),
        sm_percent: percent(spec.ask.gpu_milli),
        gpu_memory_bytes: signed(spec.ask.gpu_memory_bytes.unwrap_or_default()),
        models: spec.ask.models.iter().map(ToString::to_string).collect(),
        models_ordered: spec.ask.models_ordered,
        link: link.into(),
        cpu_milli: signed(spec.ask.cpu_milli),
        memory_bytes: signed(spec.ask.memory_bytes),
        cpu_limit_milli: signed(spec.cpu_limit_milli),
        memory_limit_bytes: signed(spec.memory_limit_bytes),
        storage_bytes: signed(spec.storage_bytes),
        env: spec.env.into_iter().collect(),
        mounts: spec.mounts.into_iter().map(mount).collect(),
        root: spec.root,
        priority: spec.priority,
        idle_timeout_s: signed_small(spec.idle_timeout_s),
        gpu_idle_timeout_s: signed_small(spec.gpu_idle_timeout_s),
        lifetime_s: signed_small(spec.lifetime_s),
        grace_s: signed_small(spec.grace_s),
        requeue: spec.requeue,
        pre_start: spec.pre_start,
        post_start: (!command.is_empty() || !script.is_empty()).then_some(v1::PostStart { command, script }),
    }
}

/// Of a share in thousandths.
pub(crate) fn percent(milli: u32) -> i32 {
    signed_small(milli.div_ceil(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_said_again() {
        let said = RuntimeSpec {
            app: RuntimeApp::Custom.into(),
            custom: Some(v1::CustomApp { port: 8080, command: vec!["serve".into()], ..Default::default() }),
            image: "lab/app:1".into(),
            gpus: 2,
            sm_percent: 40,
            models: vec!["A10".into()],
            link: GpuLink::Required.into(),
            cpu_milli: 500,
            memory_bytes: 1 << 30,
            storage_bytes: 1 << 33,
            env: [("A".to_owned(), "b".to_owned())].into(),
            mounts: vec![v1::VolumeMount { volume: "data".into(), path: "/data".into(), read_only: true }],
            idle_timeout_s: 3600,
            post_start: Some(v1::PostStart { script: "true".into(), ..Default::default() }),
            ..RuntimeSpec::default()
        };
        assert_eq!(encode(decode(said.clone()).unwrap()), said);
        let plain = decode(RuntimeSpec { gpus: 1, ..RuntimeSpec::default() }).unwrap();
        assert_eq!((plain.ask.gpu_milli, plain.ask.cpu_milli, plain.ask.memory_bytes), (1000, 1000, 2 << 30));
        for wrong in [
            RuntimeSpec { gpus: -1, ..RuntimeSpec::default() },
            RuntimeSpec { app: RuntimeApp::Custom.into(), ..RuntimeSpec::default() },
            RuntimeSpec { app: 9, ..RuntimeSpec::default() },
            RuntimeSpec { models: vec![String::new()], ..RuntimeSpec::default() },
        ] {
            assert!(decode(wrong).is_err());
        }
    }
}
