//! Calls that last: streams into and out of this server. Each is asked again what it was asked when it began, with the
//! person as the database has them by then.

use super::{Authority, refuse};
use crate::fault::Fault;
use crate::identity::{Caller, Identity, Via};
use crate::standing::{self, Lost, Standing};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use std::collections::HashMap;
use std::sync::Arc;
use store::credentials;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

/// What a call was allowed by.
#[derive(Clone)]
pub(super) struct Began {
    pub(super) path: String,
    pub(super) identity: Identity,
    pub(super) addressed: HashMap<&'static str, String>,
    /// A text of its message cannot be kept.
    pub(super) unstorable: Option<Fault>,
}

/// Answers a call for as long as whoever made it may make it.
pub(super) async fn answer(
    services: Routes,
    authority: &Arc<Authority>,
    began: Began,
    request: Request<Body>,
) -> Response<Body> {
    let (authority, began) = (Arc::clone(authority), Arc::new(began));
    let mut lost: Lost = Box::pin(standing::lost(move || {
        let (authority, began) = (Arc::clone(&authority), Arc::clone(&began));
        async move { authority.still(&began).await }
    }));
    let response = tokio::select! {
        answered = services.oneshot(request) => {
            let Ok(response) = answered;
            response
        }
        fault = &mut lost => return refuse(fault),
    };
    response.map(|body| Body::new(Standing::new(body, lost, last)))
}

/// The status of a stream that was ended.
fn last(fault: Fault) -> Result<Frame<Bytes>, Status> {
    let (status, mut trailers) = (Status::from(fault), HeaderMap::new());
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

impl Authority {
    async fn still(&self, began: &Began) -> Result<(), Fault> {
        let rule = self.rules.get(began.path.as_str()).ok_or_else(Fault::not_allowed)?;
        let identity = match &began.identity {
            Identity::Person(caller) => Identity::Person(self.anew(caller).await?),
            Identity::Nobody => Identity::Nobody,
        };
        self.check(rule, &identity, &began.addressed).await.granted
    }

    /// Who calls, if the credential still holds. The operator's is in a file, and holds as long as this process.
    async fn anew(&self, caller: &Caller) -> Result<Caller, Fault> {
        if caller.via == Via::Operator {
            return Ok(caller.clone());
        }
        let db = self.store.client().await?;
        let user = credentials::holder(&db, caller.user.id, &caller.shown()).await?;
        Ok(Caller { user: user.ok_or_else(standing::ended)?, ..caller.clone() })
    }
}
