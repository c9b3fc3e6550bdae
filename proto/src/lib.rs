//! The wire contract, compiled from the `.proto` files beside this folder. No hand-written code lives here.
#![allow(missing_docs, clippy::all, rustdoc::all, reason = "generated code")]

/// The public API: what clients may rely on.
pub mod v1 {
    tonic::include_proto!("orrery.v1");
}

/// Between the services of one cluster; may change with every release.
pub mod internal {
    /// Version 1 of the internal protocol.
    pub mod v1 {
        tonic::include_proto!("orrery.internal.v1");
    }
}

/// KEDA's contract for external scalers, which the web-server serves.
pub mod externalscaler {
    tonic::include_proto!("externalscaler");
}

/// Every file of the contract with its comments, for reflection and for JSON transcoding.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptor");
