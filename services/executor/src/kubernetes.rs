//! This executor on Kubernetes: what its settings say of the cluster, and its runtimes there.
//!
//! Refuses to know objects and watches; those are `backend-kubernetes`'s.

pub mod runtimes;

pub use runtimes::KubernetesRuntimes;

use crate::settings::Settings;
use backend_kubernetes::{
    Access, Classes,
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
    let rows = settings.device_classes.iter().map(String::as_str).filter(|row| !row.trim().is_empty());
    let classes = Classes::read(rows).map_err(|what| anyhow::anyhow!("device_classes: {what}"))?;
    Ok(Place {
        pool: settings.pool.clone(),
        namespace: settings.kubernetes_namespace.clone(),
        images: Images { jupyter: settings.jupyter_image.clone(), vs_code: settings.vs_code_image.clone() },
        classes,
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
    }
}
