//! Mage project folders: parse, validate, bundle.
//!
//! [`load`] reads a folder as it is and answers [`domain::pipeline::Pipeline`] values together with everything a person
//! should know about the files; [`bundle`] turns the same folder into a content-addressed manifest.
//!
//! Refuses to know how anything is executed, and never runs, imports or compiles user code: a syntax error in a block
//! is found by the runner.

mod data_products;
mod diagnostic;
mod files;
mod io_config;
mod keys;
mod limits;
mod load;
mod metadata;
mod nearest;
mod outputs;
mod pipeline;
mod references;
mod requirements;
mod template;
mod trigger;
mod unresolved;
mod yaml;

pub mod bundle;

pub use diagnostic::{Diagnostic, Severity};
pub use load::{LoadedPipeline, PIPELINES, Project, Rejected, load};
pub use metadata::Metadata;
pub use outputs::{OutputsPlace, outputs_place};
pub use trigger::{Token, Trigger, TriggerKind, Unread};

/// Answers the value of an environment variable; the caller decides which ones a project may see.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Pipelines of one project; further ones are reported and left out.
pub const PIPELINES_MAX: usize = 5_000;
/// Blocks of one pipeline, guards and reactions included.
pub const BLOCKS_MAX: usize = 5_000;
/// Triggers of one pipeline.
pub const TRIGGERS_MAX: usize = 1_000;
/// Size of one YAML file, bytes.
pub const YAML_BYTES_MAX: u64 = 8 << 20;
/// Diagnostics of one file; the rest is counted.
pub const DIAGNOSTICS_MAX: usize = 100;
