//! Who comes, and whether that still holds: sign-ins and tokens of this server, and tickets for the origin of one
//! workspace. Refuses to know where requests go.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::credentials::Credentials;
use crate::identity::{Caller, Identity, Via, cookies};
use domain::ErrorKind;
use domain::id::{TokenId, UserId, WorkspaceId};
use domain::role::Role;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use secrets::{Place, Sealed};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use store::{
    idempotency,
    runtime_routes::{self, Opener, Route},
};
use tokio::time::Instant;
use uuid::Uuid;

/// What a collaborator is.
const NEED: Role = Role::Editor;
/// How long a yes or no is believed: with the pause between two looks at what is open, a revoked role counts within ten
/// seconds.
pub(super) const BELIEVED: Duration = Duration::from_secs(4);
/// Answers that are remembered; with more, all are forgotten.
const GRANTS_MAX: usize = 16_384;
/// From being sent to arriving.
const ENTER_SECONDS: i64 = 30;
/// How long a browser may stay without being sent again.
const STAY_SECONDS: i64 = 12 * 3_600;
/// Under what used tickets are remembered.
const ENTERED: &str = "runtimes/enter";
/// The cookie of a workspace's origin: no other host can set or read it.
const COOKIE: &str = "__Host-orrery_runtime";
/// What tickets are sealed for.
const PLACE: Place<'static> = Place { scope: "runtimes", name: "ticket", version: 1 };

/// For what a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// In an address, for some seconds.
    Enter,
    /// In a cookie.
    Stay,
}

/// Lets one person into one life of one workspace's application. Sealed by the cluster's keys, so that every web-server
/// reads it and nobody else makes one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ticket {
    /// Of this one alone: what stands in an address is used once.
    #[serde(default)]
    id: Uuid,
    stage: Stage,
    workspace: WorkspaceId,
    number: i64,
    user: UserId,
    session: Option<Vec<u8>>,
    token: Option<TokenId>,
    until: i64,
}

impl Ticket {
    pub(super) fn new(stage: Stage, opener: &Opener, route: &Route) -> Self {
        let seconds = match stage {
            Stage::Enter => ENTER_SECONDS,
            Stage::Stay => STAY_SECONDS,
        };
        Self {
            id: Uuid::new_v4(),
            stage,
            workspace: route.workspace,
            number: route.number,
            user: opener.user,
            session: opener.session.clone(),
            token: opener.token,
            until: Timestamp::now().as_second() + seconds,
        }
    }

    /// As text, for an address or a cookie.
    pub(super) fn seal(&self, core: &Core) -> Result<String, Fault> {
        let none = || {
            let message = "this server has no secret_keys_file, without which nobody can be let in; make one";
            Fault::new(ErrorKind::FailedPrecondition, "SECRETS_DISABLED", message)
        };
        let text = serde_json::to_vec(self).map_err(|error| Fault::internal(&error))?;
        let sealed = core.keyring.as_ref().ok_or_else(none)?.seal(&PLACE, &text);
        let bytes = sealed.map_err(|error| Fault::internal(&error))?.to_bytes();
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads one; `None` for anything that this cluster did not seal.
    pub(super) fn open(core: &Core, text: &str) -> Option<Self> {
        if !text.is_ascii() || !text.len().is_multiple_of(2) {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect::<Option<_>>()?;
        let opened = core.keyring.as_ref()?.open(&PLACE, &Sealed::from_bytes(&bytes).ok()?).ok()?;
        serde_json::from_slice(&opened).ok()
    }

    /// For this stage, this workspace, this life, and now.
    pub(super) fn fits(&self, stage: Stage, route: &Route) -> bool {
        self.is_for(stage, route) && !self.is_late()
    }

    /// For this stage, this workspace and this life.
    pub(super) fn is_for(&self, stage: Stage, route: &Route) -> bool {
        self.stage == stage && self.workspace == route.workspace && self.number == route.number
    }

    /// Its time is over.
    pub(super) fn is_late(&self) -> bool {
        Timestamp::now().as_second() >= self.until
    }

    /// Uses it up, for every server of the cluster: `false` when somebody has before. The row outlives the ticket by far,
    /// and goes with the answers that mutations are remembered by.
    ///
    /// # Errors
    /// When the database does not answer; then nobody comes in.
    pub(super) async fn take(&self, core: &Core) -> Result<bool, Fault> {
        let db = core.store.client().await?;
        Ok(idempotency::once(&db, ENTERED, &self.id.to_string()).await?)
    }

    pub(super) fn opener(&self) -> Opener {
        Opener { user: self.user, session: self.session.clone(), token: self.token }
    }
}

/// The ticket that a request shows at the origin of a workspace.
pub(super) fn shown(core: &Core, headers: &HeaderMap, route: &Route) -> Option<Ticket> {
    Ticket::open(core, cookies::get(headers, COOKIE)?).filter(|ticket| ticket.fits(Stage::Stay, route))
}

/// Sets a ticket as a cookie. Browsers take it over TLS, and from names of the loopback without.
pub(super) fn cookie(ticket: &str) -> String {
    format!("{COOKIE}={ticket}; Path=/; Max-Age={STAY_SECONDS}; SameSite=Lax; HttpOnly; Secure")
}

/// Who sends a request to this server itself.
///
/// # Errors
/// When nobody is signed in.
pub(super) async fn opener(credentials: &Credentials, headers: &HeaderMap) -> Result<Opener, Fault> {
    // The page of an application cannot show our second value: for these the origin of the request is what counts.
    match credentials.identify(&Method::GET, headers).await? {
        Identity::Person(Caller { user, via, .. }) => Ok(match via {
            Via::Operator => Opener { user: user.id, session: None, token: None },
            Via::Token { id, .. } => Opener { user: user.id, session: None, token: Some(id) },
            Via::Session(hash) => Opener { user: user.id, session: Some(hash), token: None },
        }),
        Identity::Nobody => Err(Fault::unauthenticated("sign in to Orrery first, then open the workspace again")),
    }
}

/// What was answered a moment ago.
#[derive(Default)]
pub(super) struct Grants(Mutex<HashMap<(Opener, WorkspaceId), (Instant, bool)>>);

impl Grants {
    /// Whether somebody may open a workspace's application now, give or take [`BELIEVED`].
    pub(super) async fn allow(&self, core: &Core, opener: &Opener, workspace: WorkspaceId) -> Result<bool, Fault> {
        let key = (opener.clone(), workspace);
        let known = self.lock().get(&key).filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, allowed)| *allowed);
        if let Some(allowed) = known {
            return Ok(allowed);
        }
        let db = core.store.client().await?;
        let allowed = runtime_routes::may_open(&db, opener, workspace, NEED).await?;
        drop(db);
        let mut grants = self.lock();
        if grants.len() >= GRANTS_MAX {
            grants.clear();
        }
        grants.insert(key, (Instant::now(), allowed));
        Ok(allowed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Opener, WorkspaceId), (Instant, bool)>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
