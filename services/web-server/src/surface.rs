//! What is served on the one port, written down while it is put together. The authorisation table is held against this, and
//! so are the tests: a route that nobody listed cannot be served. Refuses to know what a route does.

use crate::router::Api;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, any, on};
use http::Method;

/// A route that is no method of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The verb that it takes; `None` for every one. `GET` takes `HEAD` along.
    pub verb: Option<Method>,
    /// Its path, with the names of parameters in braces.
    pub template: &'static str,
}

/// Routes that are put together. There is no other way to add one.
#[derive(Default)]
pub(crate) struct Surface {
    router: Router<Api>,
    routes: Vec<Route>,
}

impl Surface {
    pub(crate) fn get<T: 'static>(self, template: &'static str, handler: impl Handler<T, Api>) -> Self {
        self.on(Method::GET, MethodFilter::GET, template, handler)
    }

    pub(crate) fn post<T: 'static>(self, template: &'static str, handler: impl Handler<T, Api>) -> Self {
        self.on(Method::POST, MethodFilter::POST, template, handler)
    }

    pub(crate) fn put<T: 'static>(self, template: &'static str, handler: impl Handler<T, Api>) -> Self {
        self.on(Method::PUT, MethodFilter::PUT, template, handler)
    }

    /// Whatever the verb is.
    pub(crate) fn any<T: 'static>(mut self, template: &'static str, handler: impl Handler<T, Api>) -> Self {
        self.routes.push(Route { verb: None, template });
        self.router = self.router.route(template, any(handler));
        self
    }

    fn on<T: 'static>(
        mut self,
        verb: Method,
        filter: MethodFilter,
        template: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        self.routes.push(Route { verb: Some(verb), template });
        self.router = self.router.route(template, on(filter, handler));
        self
    }

    /// The methods of a service of the contract, such as `/orrery.v1.RunService`: each has a row of its own, by which it
    /// is refused when there is none.
    pub(crate) fn service<T: 'static>(mut self, service: &str, handler: impl Handler<T, Api>) -> Self {
        self.router = self.router.route(&format!("{service}/{{method}}"), any(handler));
        self
    }

    /// What was put together, without the methods of the contract.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The routes as they serve.
    pub(crate) fn into_router(self) -> Router<Api> {
        self.router
    }
}
