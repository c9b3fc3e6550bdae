//! This executor on Kubernetes: what its settings say of the cluster and of Jobs, and its runtimes there.
//!
//! Refuses to know objects and watches; those are `backend-kubernetes`'s.

pub mod runtimes;

pub use runtimes::KubernetesRuntimes;

use crate::settings::Settings;
use backend_kubernetes::{
    Access, Classes, Exporter, Policy,
    render::{Place, app::Images},
};

/// How the API server is reached.
///
/// # Errors
/// When a kubeconfig is named that is no file: what is wrong there does not mend by itself.
pub fn access(settings: &Settings) -> anyhow::Result<Access> {
    let kubeconfig = settings.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty());
    match kubeconfig.as_ref().filter(|path| !path.is_file()) {
        Some(missing) => anyhow::bail!("kubeconfig: {} is no file", missing.display()),
        None => Ok(Access { kubeconfig }),
    }
}

/// Where objects go, and whose devices count.
///
/// # Errors
/// When a row of `device_classes` is none.
pub fn place(settings: &Settings) -> anyhow::Result<Place> {
    Ok(Place {
        pool: settings.pool.clone(),
        namespace: settings.kubernetes_namespace.clone(),
        images: Images {
            jupyter: settings.jupyter_image.clone(),
            vs_code: settings.vs_code_image.clone(),
            pre_start: settings.pre_start_image.clone().unwrap_or_default(),
        },
        classes: classes(settings)?,
        visitors: settings.visitor_namespaces.clone(),
    })
}

/// Who tells what GPUs do; `None` is nobody.
///
/// # Errors
/// When `gpu_exporter` names none.
pub fn exporter(settings: &Settings) -> anyhow::Result<Option<Exporter>> {
    let named = settings.gpu_exporter.as_deref().filter(|text| !text.trim().is_empty());
    named.map(str::parse).transpose().map_err(|what: String| anyhow::anyhow!("gpu_exporter: {what}"))
}

fn classes(settings: &Settings) -> anyhow::Result<Classes> {
    let rows = settings.device_classes.iter().map(String::as_str).filter(|row| !row.trim().is_empty());
    Classes::read(rows).map_err(|what| anyhow::anyhow!("device_classes: {what}"))
}

/// What Jobs are made of, and what projects may choose.
///
/// # Errors
/// When no image is named (there is none that every cluster could pull), and when a row of `jobs_volumes` or of
/// `device_classes` is none.
pub fn jobs(settings: &Settings) -> anyhow::Result<Policy> {
    let Some(image) = settings.jobs_image.clone().filter(|image| !image.trim().is_empty()) else {
        anyhow::bail!(
            "jobs_image: attempts on Kubernetes need an image that holds this program; name the executor's own"
        );
    };
    let volume = |row: &String| {
        let (claim, folder) =
            row.split_once(':').filter(|(claim, folder)| !claim.is_empty() && folder.starts_with('/'))?;
        Some((claim.to_owned(), folder.to_owned()))
    };
    let rows = settings.jobs_volumes.iter().filter(|row| !row.trim().is_empty());
    let volumes =
        rows.map(|row| volume(row).ok_or_else(|| anyhow::anyhow!("jobs_volumes: `{row}` is no `claim:/folder`")));
    Ok(Policy {
        volumes: volumes.collect::<Result<_, _>>()?,
        namespace: settings.kubernetes_namespace.clone(),
        other_namespaces: settings.jobs_namespaces.clone(),
        image,
        other_images: settings.jobs_images.clone(),
        program: settings.jobs_program.clone(),
        service_account: settings.jobs_service_account.clone().unwrap_or_default(),
        other_service_accounts: settings.jobs_service_accounts.clone(),
        secret: settings.jobs_secret.clone().unwrap_or_default(),
        gpu_classes: settings.jobs_gpu_classes.clone(),
        classes: classes(settings)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_mend_by_themselves_are_refused_at_once() {
        let settings = Settings { kubeconfig: Some("/nowhere/config".into()), ..Settings::default() };
        assert!(access(&settings).unwrap_err().to_string().contains("/nowhere/config"));
        let settings = Settings { kubeconfig: Some("".into()), ..Settings::default() };
        assert_eq!(access(&settings).unwrap().kubeconfig, None, "an empty setting is none");
        assert_eq!(place(&settings).unwrap().classes, Classes::known());
        let settings = Settings { device_classes: vec!["gpu.example.com".into()], ..Settings::default() };
        assert!(place(&settings).unwrap_err().to_string().contains("gpu.example.com"));
        assert!(jobs(&settings).unwrap_err().to_string().contains("jobs_image"));
        assert_eq!(exporter(&Settings { gpu_exporter: Some(" ".into()), ..Settings::default() }).unwrap(), None);
        let settings = Settings { gpu_exporter: Some("gpu-operator".into()), ..settings };
        assert!(exporter(&settings).unwrap_err().to_string().contains("gpu_exporter: `gpu-operator`"));
        let settings = Settings { jobs_image: Some("orrery-executor:1".into()), ..Settings::default() };
        assert_eq!(
            (jobs(&settings).unwrap().program.as_str(), jobs(&settings).unwrap().namespace.as_str()),
            ("orrery-executor", "orrery")
        );
    }
}
