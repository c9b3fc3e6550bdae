//! Who may call what: every method and every route passes here, before anything decodes what it asks.
//!
//! There is one table, and what has no row is refused: this server does not start with a method or a route without one.
//! The tenant comes from the credential and the addressed thing, which is found in the database by the field that the
//! row names; nothing else in a message is believed. Refuses to know what a method does.

mod address;
mod check;
mod lasting;
mod message;
mod nul;
mod table;
mod told;
mod trail;

use crate::changed::Changed;
use crate::fault::Fault;
use crate::identity::Identity;
use crate::settings::Limits;
use crate::transcode;
use address::Field;
pub(crate) use check::{Beside, Verdict, workspace};
use domain::ErrorKind;
use http::{Request, Response};
use lasting::Began;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};
use rpc::status::Problem;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use store::Store;
use table::{Row, Who};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::{Service, ServiceExt as _};
pub(crate) use trail::{Call, Trail, to_the_end};

/// A method or a route without a row, or a row that fits nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// Denied to everybody, so nothing that should be served.
    #[error("`{0}` is served and has no row in the authorisation table")]
    Missing(String),
    /// A row that guards nothing hides a mistake.
    #[error("the authorisation table has a row for `{0}`, which is not served")]
    Idle(String),
    /// Two rows, of which one would not count.
    #[error("the authorisation table has two rows for `{0}`")]
    Double(String),
    /// The row addresses a field that the request does not have.
    #[error("the row of `{path}` names the field `{field}`, which its request does not have")]
    Field {
        /// The method.
        path: String,
        /// The field.
        field: String,
    },
}

/// A row with the fields of its method's request found in the contract.
struct Rule {
    row: Row,
    fields: HashMap<&'static str, Field>,
    /// What a method is asked by; routes have none.
    input: Option<MessageDescriptor>,
    streams_in: bool,
    /// A stream, in or out.
    lasts: bool,
}

/// The table, and what it is compared with.
pub(crate) struct Authority {
    rules: HashMap<&'static str, Rule>,
    store: Store,
    message_bytes: usize,
    /// The longest that an act may take when its caller is gone.
    act_timeout: Duration,
}

impl Authority {
    /// The table for the methods of the contract and these templates of routes.
    ///
    /// # Errors
    /// When a method or a route has no row, or a row is wrong.
    pub(crate) fn new(
        pool: &DescriptorPool,
        routes: &[&'static str],
        store: Store,
        limits: &Limits,
    ) -> Result<Self, TableError> {
        let methods: HashMap<String, MethodDescriptor> = methods(pool).collect();
        let mut rules = HashMap::new();
        for row in table::rows() {
            let path = row.path;
            let method = methods.get(path);
            if method.is_none() && !routes.contains(&path) && !table::is_foreign(path) {
                return Err(TableError::Idle(path.to_owned()));
            }
            let fields = method.map(|method| fields(&row, method)).transpose()?.unwrap_or_default();
            let streams_in = method.is_some_and(MethodDescriptor::is_client_streaming);
            let lasts = streams_in || method.is_some_and(MethodDescriptor::is_server_streaming);
            let input = method.map(MethodDescriptor::input);
            if rules.insert(path, Rule { row, fields, input, streams_in, lasts }).is_some() {
                return Err(TableError::Double(path.to_owned()));
            }
        }
        let served = methods.keys().map(String::as_str).chain(routes.iter().copied());
        for path in served {
            if !rules.contains_key(path) {
                return Err(TableError::Missing(path.to_owned()));
            }
        }
        Ok(Self { rules, store, message_bytes: limits.message_bytes, act_timeout: limits.upload_timeout })
    }

    /// Whether a path is open to who shows no credential. `template` is the route that it matched.
    pub(crate) fn is_open(&self, path: &str, template: Option<&str>) -> bool {
        let rule = self.rules.get(path).or_else(|| template.and_then(|template| self.rules.get(template)));
        rule.is_some_and(|rule| matches!(rule.row.who, Who::Everybody))
    }
}

/// The public methods of the contract, by path.
pub(crate) fn methods(pool: &DescriptorPool) -> impl Iterator<Item = (String, MethodDescriptor)> {
    let public = pool.services().filter(|service| service.package_name() == table::PACKAGE);
    public.flat_map(|service| {
        let methods: Vec<_> = service.methods().collect();
        methods.into_iter().map(move |method| (format!("/{}/{}", service.full_name(), method.name()), method))
    })
}

fn fields(row: &Row, method: &MethodDescriptor) -> Result<HashMap<&'static str, Field>, TableError> {
    let find = |name: &'static str| {
        let missing = || TableError::Field { path: row.path.to_owned(), field: name.to_owned() };
        Field::find(&method.input(), name).map(|field| (name, field)).ok_or_else(missing)
    };
    row.fields().into_iter().map(find).collect()
}

/// The services behind the table.
#[derive(Clone)]
pub(crate) struct Guarded {
    services: Routes,
    authority: Arc<Authority>,
}

impl Guarded {
    /// Puts the table before the services.
    pub(crate) fn new(services: Routes, authority: Arc<Authority>) -> Self {
        Self { services, authority }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        // Everything that is served has a rule.
        let Some(rule) = self.authority.rules.get(path.as_str()) else {
            return transcode::no_method(&path).into_http();
        };
        let identity = request.extensions().get::<Identity>().cloned().unwrap_or(Identity::Nobody);
        let (mut head, body) = request.into_parts();
        let (first, body) = match rule.needs_message() {
            false => (None, body),
            true => match message::peek(&head.headers, body, self.authority.message_bytes).await {
                Ok((first, body)) => (Some(first), body),
                Err(fault) => return refuse(fault),
            },
        };
        let addressed = match rule.addressed(first.as_deref()) {
            Ok(addressed) => addressed,
            Err(fault) => return refuse(fault),
        };
        let storable = match (&rule.input, &first) {
            (Some(kind), Some(first)) => nul::check(kind, first),
            _ => Ok(()),
        };
        let mut verdict = self.authority.check(rule, &identity, &addressed).await;
        if let Some(beside) = verdict.take_beside() {
            head.extensions.insert(beside);
        }
        // A stream in that breaks off with its caller ends by that, and leaves its trail like any other act.
        let outlives = rule.row.audited();
        let act = self.act(
            Began { path, identity, addressed, unstorable: storable.err() },
            verdict,
            Request::from_parts(head, body),
        );
        if outlives { to_the_end(act).await.unwrap_or_else(refuse) } else { act.await }
    }

    /// Does what was granted, and leaves the trail of it.
    async fn act(self, began: Began, verdict: Verdict, request: Request<Body>) -> Response<Body> {
        let Self { services, authority } = self;
        let Some(rule) = authority.rules.get(began.path.as_str()) else { return refuse(Fault::not_allowed()) };
        let answer = async {
            if rule.lasts {
                return lasting::answer(services, &authority, began.clone(), request).await;
            }
            let Ok(response) = services.oneshot(request).await;
            response
        };
        // Who may not do it is told that first.
        let unstorable = began.unstorable.as_ref().filter(|_| !verdict.is_denied());
        let response = match unstorable.map_or(verdict.granted.as_ref(), Err) {
            Err(fault) => refuse(fault.clone()),
            Ok(()) => timeout(authority.act_timeout, authority.store.watched(answer)).await.unwrap_or_else(|_| {
                refuse(Fault::new(ErrorKind::DeadlineExceeded, "REQUEST_TIMEOUT", "it took too long"))
            }),
        };
        if rule.row.audited() {
            authority.record(rule, &began.identity, &began.addressed, &verdict, ended(&response)).await;
        }
        response
    }
}

impl Rule {
    /// What is looked at here is in the first message: its texts, and what the row wants to know. A stream has it only where
    /// the row addresses something by it.
    fn needs_message(&self) -> bool {
        self.input.is_some() && (!self.streams_in || (!self.fields.is_empty() && self.row.addresses()))
    }

    /// The fields that the row names, as the first message has them.
    fn addressed(&self, message: Option<&[u8]>) -> Result<HashMap<&'static str, String>, Fault> {
        let Some(message) = message else { return Ok(HashMap::new()) };
        let read = |(name, field): (&&'static str, &Field)| {
            let malformed = || Fault::new(ErrorKind::InvalidArgument, "INVALID_MESSAGE", "the message is malformed");
            Ok((*name, field.read(message).map_err(|_| malformed())?))
        };
        self.fields.iter().map(read).collect()
    }
}

impl<B> Service<Request<B>> for Guarded
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request.map(Body::new)).await) })
    }
}

fn refuse(fault: Fault) -> Response<Body> {
    Status::from(fault).into_http()
}

/// How a response of a method ended, as far as its head tells, and what was changed by it: streams may still break.
fn ended(response: &Response<Body>) -> Result<Changed, Problem> {
    match Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok) {
        Some(status) => Err(Problem::from_status(&status)),
        None => Ok(response.extensions().get().cloned().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> DescriptorPool {
        DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap()
    }

    #[test]
    fn every_method_has_one_row_whose_fields_it_has() {
        let pool = pool();
        let methods: HashMap<String, MethodDescriptor> = methods(&pool).collect();
        let rows = table::rows();
        for (path, method) in &methods {
            let row: Vec<_> = rows.iter().filter(|row| row.path == path).collect();
            assert_eq!(row.len(), 1, "{path} needs one row in authorisation/table.rs");
            assert!(fields(row[0], method).is_ok(), "{path}: {:?}", fields(row[0], method).err());
        }
    }

    #[test]
    fn a_pipeline_is_read_beside_the_workspace_that_it_is_named_in() {
        let beside: Vec<_> = table::rows().into_iter().filter(|row| row.pipeline.is_some()).collect();
        assert!(!beside.is_empty());
        for row in beside {
            assert!(matches!(row.who, Who::On(table::Thing::Workspace(_), _)), "{}", row.path);
        }
    }

    #[test]
    fn what_changes_something_leaves_a_trail() {
        let reads = ["Get", "List", "Watch", "Tail", "Who", "Count", "Download", "Plan", "Preview", "Search"];
        for row in table::rows().into_iter().filter(|row| row.path.starts_with("/orrery.v1.")) {
            let name = row.path.rsplit('/').next().unwrap();
            let changes = !reads.iter().any(|read| name.starts_with(read));
            assert_eq!(row.audited(), changes, "{}", row.path);
        }
    }
}
