//! Content-addressed files and bundle manifests over object storage, and bundles laid out on a local disk.
//!
//! Refuses to know what files mean: a bundle is a list of paths, digests and modes, a manifest is bytes.

mod digest;
mod error;
mod materialise;
mod store;

pub use error::Error;
pub use materialise::{Bundle, BundleFile};
pub use store::{Blobs, Content};
