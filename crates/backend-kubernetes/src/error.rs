//! What can go wrong with a cluster.

use crate::render::claim::ClaimError;

/// What a pod is refused with in a namespace that was made a moment ago, and has no service account yet.
const YOUNG: &str = "error looking up service account";

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The credentials cannot be read.
    #[error("read the credentials for Kubernetes: {0}")]
    Credentials(String),
    /// The API server refused, or was not reached.
    #[error("ask Kubernetes: {}", said(.0))]
    Api(#[from] kube::Error),
    /// A watch ended for good.
    #[error("watch {0}: it ended")]
    Watch(&'static str),
    /// The server drops fields that are needed.
    #[error(
        "use Kubernetes {version}: it drops the capacity that a claim asks for; version 1.36 or newer, or the feature gate \
         DRAConsumableCapacity, is needed"
    )]
    DropsCapacity {
        /// The server's version.
        version: String,
    },
    /// The namespace is not there, and these credentials may not make it.
    #[error("use the namespace `{name}`: it is not there; make it with `kubectl create namespace {name}`")]
    NoNamespace {
        /// Its name.
        name: String,
    },
    /// A life cannot be written down.
    #[error("write a life as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An attempt cannot have the devices that it was given.
    #[error("{0}")]
    Unplaced(String),
    /// A grant does not fit to its chip.
    #[error("render the claim: {0}")]
    Claim(#[from] ClaimError),
}

/// The words of the API server alone: the library shows its whole answer behind them.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => format!("{} {}", status.code, status.reason),
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl Error {
    /// The object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 404)
    }

    /// The object is there already, or it is another one than was meant.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409)
    }

    /// These credentials may not do that.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403)
    }

    /// The API server refuses the object itself: trying again does not help.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let Self::Api(kube::Error::Api(status)) = self else { return false };
        matches!(status.code, 400 | 403 | 422) && !status.message.contains(YOUNG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answered(code: u16, message: &str) -> Error {
        let status = json!({ "status": "Failure", "code": code, "message": message, "reason": "Forbidden" });
        Error::Api(kube::Error::Api(serde_json::from_value(status).unwrap()))
    }

    fn refused(code: u16, message: &str) -> bool {
        answered(code, message).is_refusal()
    }

    #[test]
    fn an_answer_is_told_in_its_own_words() {
        assert_eq!(answered(422, "spec is invalid").to_string(), "ask Kubernetes: spec is invalid");
        assert_eq!(answered(403, "").to_string(), "ask Kubernetes: 403 Forbidden");
    }

    #[test]
    fn what_mends_by_itself_is_no_refusal() {
        assert!(refused(403, "pods \"a\" is forbidden: violates PodSecurity"));
        assert!(refused(422, "is invalid"));
        assert!(!refused(409, "is there already"));
        let young =
            "pods \"a\" is forbidden: error looking up service account n/default: serviceaccount \"default\" not found";
        assert!(!refused(403, young));
    }
}
