//! The configuration of a service: one table of keys, and values from defaults, a file, the environment and flags, the
//! later ones winning. Refuses unknown keys, and to take or show a secret: a secret is given as the name of a file.

mod document;
pub mod duration;
mod error;
mod every_service;
mod key;
pub mod shared;
mod sources;
mod tree;

pub use document::{check_doc, check_table, markdown};
pub use error::SettingsError;
pub use every_service::{Admin, COMMON_KEYS, Common};
pub use key::{Key, Kind};
pub use sources::Sources;

use serde::{Serialize, de::DeserializeOwned};

/// The settings of a process.
///
/// `service` is the program's name, `prefix` its part of the environment: with `SCHEDULER`, the key `grpc.listen` is
/// `ORRERY_SCHEDULER_GRPC__LISTEN`, or `ORRERY_GRPC__LISTEN` for every service at once. `T` holds one field per row of
/// `keys` and of [`COMMON_KEYS`] (flatten [`Common`] into it), and its `Default` holds the defaults.
///
/// # Errors
/// Unknown keys, values of the wrong type, unreadable files; a service ends with [`crate::exit::Code::Usage`] then. And
/// [`SettingsError::Asked`] with the text to print for `--help` and `--version`.
pub fn load_from<T: DeserializeOwned + Serialize + Default>(
    service: &'static str,
    prefix: &'static str,
    keys: &[Key],
    sources: Sources,
) -> Result<T, SettingsError> {
    let table = key::table(keys);
    let mut values = serde_json::to_value(T::default()).map_err(SettingsError::Shape)?;
    sources.overlay(service, prefix, &table, &mut values)?;
    serde_json::from_value(values).map_err(SettingsError::Shape)
}

#[cfg(test)]
mod tests;
