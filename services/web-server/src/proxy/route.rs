//! Where a workspace's application is, as the database said a moment ago. Refuses to keep anything for long, and to know
//! who asks.

use super::super::core::Core;
use crate::fault::Fault;
use domain::{ErrorKind, runtime::App};
use secrets::Sealed;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::runtime_routes::{self, Named, Route};
use tokio::time::Instant;

/// How long an answer of the database is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// Workspaces that are remembered; with more, all are forgotten.
const ROUTES_MAX: usize = 4_096;

/// A route, with the key that opens the application.
pub(super) struct Goes {
    pub(super) route: Route,
    pub(super) key: Option<String>,
}

impl Goes {
    /// It is served at its root, and its base path is for us alone.
    pub(super) fn is_stripped(&self) -> bool {
        match &self.route.app {
            Some(App::Jupyter) | None => false,
            Some(App::VsCode) => true,
            Some(App::Custom { keeps_base_path, .. }) => !keeps_base_path,
        }
    }
}

/// What is remembered.
#[derive(Default)]
pub(super) struct Routes(Mutex<HashMap<String, (Instant, Arc<Goes>)>>);

impl Routes {
    /// The route of a workspace; `None` when there is none of that name.
    pub(super) async fn find(&self, core: &Core, named: Named<'_>) -> Result<Option<Arc<Goes>>, Fault> {
        let key = match named {
            Named::Name(name) => name.to_owned(),
            // No name has a colon.
            Named::Id(id) => format!(":{id}"),
        };
        let known = self.lock().get(&key).filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, goes)| Arc::clone(goes));
        if known.is_some() {
            return Ok(known);
        }
        let db = core.store.client().await?;
        let Some(route) = runtime_routes::find(&db, named).await? else { return Ok(None) };
        drop(db);
        let goes = Arc::new(Goes { key: open(core, &route)?, route });
        let mut routes = self.lock();
        if routes.len() >= ROUTES_MAX {
            routes.clear();
        }
        routes.insert(key, (Instant::now(), Arc::clone(&goes)));
        Ok(Some(goes))
    }

    /// What was believed turned out wrong.
    pub(super) fn forget(&self, goes: &Goes) {
        let mut routes = self.lock();
        routes.remove(&goes.route.name);
        routes.remove(&format!(":{}", goes.route.workspace));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Arc<Goes>)>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(core: &Core, route: &Route) -> Result<Option<String>, Fault> {
    let Some(sealed) = &route.access_key else { return Ok(None) };
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(workspace = route.name, %error, "the key of an application does not open");
        let message = "this server cannot open the application's key; give it the schedulers' secret_keys_file";
        Fault::new(ErrorKind::FailedPrecondition, "ACCESS_KEY", message)
    };
    let keyring = core.keyring.as_ref().ok_or_else(|| failed(&"there is no secret_keys_file"))?;
    let workspace = route.workspace.to_string();
    let sealed = Sealed::from_bytes(sealed).map_err(|error| failed(&error))?;
    let key = keyring.open(&secrets::access_key(&workspace, route.number), &sealed).map_err(|error| failed(&error))?;
    String::from_utf8(key.to_vec()).map(Some).map_err(|error| failed(&error))
}
