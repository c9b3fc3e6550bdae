//! Runtimes on Kubernetes: what there is, the objects of a life, what is seen of it, and the loop that makes one out of
//! the other. And attempts of blocks, each as a Job.
//!
//! Rendering, inventory and observation are pure; the client is thin. Refuses to know schedulers, sessions and policy: it is
//! told levels and says levels. kube-scheduler allocates, and nothing here writes an allocation.

pub mod backend;
pub mod chip;
pub mod classes;
pub mod cluster;
pub mod codes;
pub mod error;
pub mod exporter;
pub mod inventory;
pub mod jobs;
pub mod life;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod plugin;
pub mod quantity;
pub mod render;
mod step;
pub mod volumes;

pub use self::backend::{Backend, Goal, Order, Sink};
pub use classes::Classes;
pub use cluster::{Access, Cluster};
pub use error::Error;
pub use exporter::Exporter;
pub use jobs::{Jobs, policy::Policy};
pub use life::{Grant, Life};
