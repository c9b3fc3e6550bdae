//! What is run for each kind of application.

use crate::life::Life;
use domain::runtime::{App, PostStart};

/// Where JupyterLab listens.
const JUPYTER_PORT: u16 = 8888;
/// Where code-server listens.
const VS_CODE_PORT: u16 = 8080;

/// Images where a life names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// For JupyterLab.
    pub jupyter: String,
    /// For VS Code.
    pub vs_code: String,
    /// For pre-start scripts; empty is the image of the life itself. It has to hold Python 3.
    pub pre_start: String,
}

/// With these words the launcher says that what comes after the start failed; a code follows.
pub(crate) const POST_START_ENDED: &str = "the post-start command or script ended with code ";

/// Takes over what the pre-start script left, and runs what comes after it, whose failure is only told, in the log.
pub(super) const LAUNCHER: &str = r#"if [ -n "$ORRERY_PRE_START_FILE" ]; then
  . "$ORRERY_PRE_START_FILE"
fi
unset ORRERY_PRE_START_FILE
if [ -n "$ORRERY_POST_START" ]; then
  sh -c "$ORRERY_POST_START" || echo "the post-start command or script ended with code $?; the application starts" >&2
fi
unset ORRERY_POST_START
exec "$@""#;

/// Where the application listens.
#[must_use]
pub fn port(app: &App) -> u16 {
    match app {
        App::Jupyter => JUPYTER_PORT,
        App::VsCode => VS_CODE_PORT,
        App::Custom { port, .. } => *port,
    }
}

/// The image to run.
#[must_use]
pub fn image<'a>(images: &'a Images, life: &'a Life) -> &'a str {
    match &life.spec.app {
        _ if !life.spec.image.is_empty() => &life.spec.image,
        App::Jupyter => &images.jupyter,
        App::VsCode => &images.vs_code,
        App::Custom { .. } => "",
    }
}

/// The command line; empty is the image's own. `$(POD_IP)` is Kubernetes' to fill in, and where the application listens.
#[must_use]
pub fn command(life: &Life) -> Vec<String> {
    let words: Vec<String> = match &life.spec.app {
        App::Jupyter => vec![
            "jupyter".into(),
            "lab".into(),
            "--no-browser".into(),
            "--ServerApp.ip=$(POD_IP)".into(),
            format!("--ServerApp.port={JUPYTER_PORT}"),
            "--ServerApp.port_retries=0".into(),
            format!("--ServerApp.base_url={}", life.base_path),
            // Requests come from a proxy that has checked their origin, by a name that the application does not know.
            "--ServerApp.allow_remote_access=True".into(),
            // Who it runs as is decided by the pod, where root needs a permission.
            "--ServerApp.allow_root=True".into(),
            "--ServerApp.quit_button=False".into(),
            "--ServerApp.shutdown_no_activity_timeout=0".into(),
            "--LabApp.news_url=None".into(),
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate".into(),
        ],
        App::VsCode => vec![
            "code-server".into(),
            format!("--bind-addr=$(POD_IP):{VS_CODE_PORT}"),
            "--auth=password".into(),
            "--disable-telemetry".into(),
            "--disable-update-check".into(),
            "--disable-proxy".into(),
        ],
        App::Custom { command, .. } => command.clone(),
    };
    words
}

/// The path that answers when the application is ready; none where a connection is enough.
#[must_use]
pub fn health(life: &Life) -> Option<String> {
    match &life.spec.app {
        App::Jupyter => Some(format!("{}api", life.base_path)),
        App::VsCode => Some("/healthz".to_owned()),
        App::Custom { health_path, .. } if health_path.is_empty() => None,
        App::Custom { health_path, keeps_base_path, .. } => {
            let base = if *keeps_base_path { &life.base_path } else { "/" };
            Some(format!("{base}{}", health_path.trim_start_matches('/')))
        }
    }
}

/// What is run before the application; empty is nothing.
#[must_use]
pub fn post_start(life: &Life) -> String {
    let PostStart { command, script } = &life.spec.post_start;
    let quoted: Vec<String> = command.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    let parts = [quoted.join(" "), script.clone()];
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_says_it_in_these_words() {
        assert!(LAUNCHER.contains(&format!("echo \"{POST_START_ENDED}$?;")));
    }
}
