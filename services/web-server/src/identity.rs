//! Who calls: a person, by one of three credentials, or nobody. Refuses to know what anybody may do.

pub(crate) mod bootstrap;
pub(crate) mod cookies;
pub(crate) mod credentials;
pub(crate) mod passwords;
pub(crate) mod tokens;

use crate::fault::Fault;
use domain::ErrorKind;
use domain::id::{TokenId, UserId};
use domain::role::Role;
use std::fmt;
use store::credentials::{Origin, Shown};
use store::users::User;

/// Who calls; among the extensions of every request behind the gate.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// Nobody who showed a credential.
    Nobody,
    /// A person.
    Person(Caller),
}

/// A person who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The account.
    pub(crate) user: User,
    /// The credential.
    pub(crate) via: Via,
    /// What that credential came from.
    pub(crate) origin: Origin,
}

/// The credential that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Via {
    /// The token in the file of this server's settings.
    Operator,
    /// A personal token.
    Token {
        /// Which.
        id: TokenId,
        /// How it begins.
        prefix: String,
    },
    /// A browser's cookie, by the hash of its secret.
    Session(Vec<u8>),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Token { prefix, .. } => write!(f, "token:{prefix}"),
            Self::Session(_) => f.write_str("session"),
        }
    }
}

impl Caller {
    /// The caller of a request that came through the authorisation.
    ///
    /// # Errors
    /// When nobody is signed in.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Fault> {
        match request.extensions().get::<Identity>() {
            Some(Identity::Person(caller)) => Ok(caller.clone()),
            _ => Err(Fault::unauthenticated("a credential is needed; send the header `Authorization: Bearer <token>`")),
        }
    }

    /// The credential of this call, for whoever ends all others or asks for it again.
    pub(crate) fn shown(&self) -> Shown<'_> {
        match &self.via {
            Via::Operator => Shown::default(),
            Via::Token { id, .. } => Shown { session: None, token: Some(*id) },
            Via::Session(secret_hash) => Shown { session: Some(secret_hash), token: None },
        }
    }

    /// Whose lists to show: `None` for one whose role covers the whole cluster.
    pub(crate) fn sees(&self) -> Option<UserId> {
        if self.user.role.is_some() { None } else { Some(self.user.id) }
    }

    /// Refuses to hand out more than the caller has over the whole cluster.
    pub(crate) fn check_grant(&self, role: Option<Role>) -> Result<(), Fault> {
        if role <= self.user.role {
            return Ok(());
        }
        let message = "nobody grants a role above the own one, or changes a person who has one; ask an owner";
        Err(Fault::new(ErrorKind::PermissionDenied, "ROLE_TOO_HIGH", message))
    }
}
