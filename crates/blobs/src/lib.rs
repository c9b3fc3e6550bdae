//! Content-addressed files and bundle manifests over object storage, bundles laid out on a local disk, and folders of
//! files that are sent to a store and fetched again, and large contents in parts. A store is a folder, or a bucket of S3, of what speaks like it, or
//! of Google.
//!
//! Refuses to know what files mean: a bundle is a list of paths, digests and modes, a manifest is bytes.

mod digest;
mod error;
mod folders;
mod materialise;
mod parts;
mod place;
mod store;

pub use digest::check_digest;
pub use error::Error;
pub use folders::{Amount, FileStream, Folders};
pub use materialise::{Bundle, BundleFile};
pub use place::Access;
pub use store::{Blobs, Content};
