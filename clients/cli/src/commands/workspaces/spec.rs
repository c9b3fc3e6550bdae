//! A spec as options say it, laid over what is saved. Refuses to judge it: the server does.

use crate::{
    arguments::{
        amounts::Setting,
        workspaces::{App, Link, SpecOptions},
    },
    failure::{Code, Failure, Result},
};
use proto::v1::{CustomApp, GpuLink, PostStart, RuntimeApp, RuntimeSpec, VolumeMount};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What the options change of a spec.
pub(crate) fn overlay(mut spec: RuntimeSpec, options: SpecOptions) -> Result<RuntimeSpec> {
    app(&mut spec, &options)?;
    devices(&mut spec, &options);
    set(&mut spec.image, options.image);
    set(&mut spec.cpu_milli, options.cpu);
    set(&mut spec.memory_bytes, options.memory);
    set(&mut spec.cpu_limit_milli, options.cpu_limit);
    set(&mut spec.memory_limit_bytes, options.memory_limit);
    set(&mut spec.storage_bytes, options.storage);
    set(&mut spec.root, options.root);
    set(&mut spec.priority, options.priority);
    set(&mut spec.idle_timeout_s, options.idle_timeout);
    set(&mut spec.gpu_idle_timeout_s, options.gpu_idle_timeout);
    set(&mut spec.lifetime_s, options.lifetime);
    set(&mut spec.grace_s, options.grace);
    set(&mut spec.requeue, options.requeue);
    for variable in options.env {
        match variable.split_once('=') {
            Some((name, value)) => spec.env.insert(name.to_owned(), value.to_owned()),
            None => spec.env.remove(&variable),
        };
    }
    if options.no_mounts {
        spec.mounts.clear();
    } else if !options.mount.is_empty() {
        spec.mounts = options.mount.iter().map(|text| mount(text)).collect::<Result<_>>()?;
    }
    if let Some(file) = options.pre_start {
        spec.pre_start = script(file)?;
    }
    if let Some(file) = options.post_start {
        let command = spec.post_start.map(|post| post.command).unwrap_or_default();
        spec.post_start = Some(PostStart { command, script: script(file)? });
    }
    Ok(spec)
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn app(spec: &mut RuntimeSpec, options: &SpecOptions) -> Result<()> {
    if let Some(app) = options.app {
        let app = match app {
            App::Jupyter => RuntimeApp::Jupyter,
            App::VsCode => RuntimeApp::VsCode,
            App::Custom => RuntimeApp::Custom,
        };
        spec.app = app.into();
        if app != RuntimeApp::Custom {
            spec.custom = None;
        }
    }
    if options.port.is_none() && options.command.is_empty() {
        return Ok(());
    }
    if spec.app() != RuntimeApp::Custom {
        return Err(Failure::new(Code::Usage, "--port and --command are of a custom application", "add --app custom"));
    }
    let custom = spec.custom.get_or_insert_with(CustomApp::default);
    set(&mut custom.port, options.port.map(i32::from));
    if !options.command.is_empty() {
        let none = options.command == ["none"];
        custom.command = if none { Vec::new() } else { options.command.clone() };
    }
    Ok(())
}

fn devices(spec: &mut RuntimeSpec, options: &SpecOptions) {
    set(&mut spec.gpus, options.gpus);
    set(&mut spec.sm_percent, options.sm);
    set(&mut spec.gpu_memory_bytes, options.gpu_memory);
    set(&mut spec.models_ordered, options.ordered);
    if options.any_model || !options.model.is_empty() {
        spec.models.clone_from(&options.model);
    }
    let link = options.link.map(|link| match link {
        Link::Any => GpuLink::Unspecified,
        Link::Preferred => GpuLink::Preferred,
        Link::Required => GpuLink::Required,
    });
    set(&mut spec.link, link.map(i32::from));
    // A share, models or memory mean a GPU; none at all means none of them.
    let meant = options.sm.is_some() || !options.model.is_empty();
    if spec.gpus == 0 && options.gpus.is_none() && meant {
        spec.gpus = 1;
    }
    if spec.gpus == 0 {
        (spec.gpu_memory_bytes, spec.models_ordered, spec.sm_percent) = (0, false, 0);
        spec.models.clear();
    }
}

/// `VOLUME:PATH`, with `:ro` for one that cannot be written.
fn mount(text: &str) -> Result<VolumeMount> {
    let (rest, read_only) = text.strip_suffix(":ro").map_or((text, false), |rest| (rest, true));
    let (volume, path) = rest.split_once(':').ok_or_else(|| {
        Failure::new(Code::Usage, format!("`{text}` is no mount"), "write it as VOLUME:PATH or VOLUME:PATH:ro")
    })?;
    Ok(VolumeMount { volume: volume.to_owned(), path: path.to_owned(), read_only })
}

fn script(file: Setting<PathBuf>) -> Result<String> {
    file.value().map_or_else(|| Ok(String::new()), |path| read(&path))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path)
        .map_err(|e| Failure::new(Code::Usage, format!("{} cannot be read: {e}", path.display()), "name a text file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let saved = RuntimeSpec {
            gpus: 2,
            sm_percent: 40,
            models: vec!["A10".into()],
            env: [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())].into(),
            ..RuntimeSpec::default()
        };
        let options = SpecOptions { env: vec!["A".into(), "C=3".into()], cpu: Some(500), ..SpecOptions::default() };
        let changed = overlay(saved.clone(), options).unwrap();
        assert_eq!((changed.gpus, changed.sm_percent, changed.cpu_milli), (2, 40, 500));
        assert_eq!(changed.env, [("B".to_owned(), "2".to_owned()), ("C".to_owned(), "3".to_owned())].into());
        let none = overlay(saved, SpecOptions { gpus: Some(0), ..SpecOptions::default() }).unwrap();
        assert_eq!((none.models.len(), none.sm_percent), (0, 0), "without a GPU nothing is asked of one");
        let one = overlay(RuntimeSpec::default(), SpecOptions { sm: Some(40), ..SpecOptions::default() }).unwrap();
        assert_eq!(one.gpus, 1);
        let mounts = vec!["data:/data:ro".to_owned(), "more:/more".to_owned()];
        let mounted = overlay(RuntimeSpec::default(), SpecOptions { mount: mounts, ..SpecOptions::default() }).unwrap();
        assert_eq!((mounted.mounts[0].read_only, mounted.mounts[1].path.as_str()), (true, "/more"));
        let started = PostStart { command: vec!["true".into()], script: "x".into() };
        let saved = RuntimeSpec { pre_start: "y".into(), post_start: Some(started), ..RuntimeSpec::default() };
        let none =
            SpecOptions { pre_start: Some(Setting::None), post_start: Some(Setting::None), ..SpecOptions::default() };
        let taken = overlay(saved, none).unwrap();
        assert_eq!((taken.pre_start.as_str(), taken.post_start.unwrap().script.as_str()), ("", ""));
        assert!(overlay(RuntimeSpec::default(), SpecOptions { port: Some(1), ..SpecOptions::default() }).is_err());
    }
}
