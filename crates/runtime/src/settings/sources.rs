//! Where values come from: a TOML file, then the environment, then the flags.

use super::{Key, SettingsError, shared, tree};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use std::{collections::BTreeMap, ffi::OsString, path::Path};

/// The environment variable that names the configuration file.
const FILE_VARIABLE: &str = "ORRERY_CONFIG";
/// A configuration file is at most this long.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What surrounds a process: its arguments (the program's name first) and its environment.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The arguments.
    pub arguments: Vec<OsString>,
    /// The environment. Variables that are not text are left out.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self { arguments: std::env::args_os().collect(), environment: std::env::vars_os().filter_map(text).collect() }
    }

    /// Takes a command of a service's own away from the arguments: true when it was the first of them.
    #[must_use]
    pub fn take_command(&mut self, command: &str) -> bool {
        let first = self.arguments.get(1).is_some_and(|first| first == command);
        if first {
            self.arguments.remove(1);
        }
        first
    }

    /// Writes every value that is given over `values`.
    pub(super) fn overlay(
        &self,
        service: &'static str,
        prefix: &'static str,
        table: &[Key],
        values: &mut Value,
    ) -> Result<(), SettingsError> {
        let flags = arguments(service, table, &self.arguments)?;
        let file = flags.get_one::<String>("config").or_else(|| self.environment.get(FILE_VARIABLE));
        if let Some(path) = file.filter(|path| !path.is_empty()) {
            overlay_file(Path::new(path), table, values)?;
        }
        self.overlay_environment(prefix, table, values)?;
        overlay_flags(&flags, table, values)
    }

    fn overlay_environment(&self, prefix: &str, table: &[Key], values: &mut Value) -> Result<(), SettingsError> {
        let own = format!("ORRERY_{prefix}_");
        for name in self.environment.keys().filter_map(|name| name.strip_prefix(&own)) {
            let key = name.to_ascii_lowercase().replace("__", ".");
            let is_another = shared::BEGIN_AS_A_SERVICE.contains(&format!("{prefix}_{name}").as_str());
            if !is_another && table.iter().all(|known| known.environment() != name) {
                return Err(unknown(&key, format!("the environment ({own}{name})"), table));
            }
        }
        // A shared variable that this service does not have may well be another's: only its own are refused above.
        for key in table {
            for variable in [format!("ORRERY_{}", key.environment()), format!("{own}{}", key.environment())] {
                if let Some(text) = self.environment.get(&variable) {
                    put(key, Value::from(text.as_str()), &format!("the environment ({variable})"), values)?;
                }
            }
        }
        Ok(())
    }
}

fn overlay_file(path: &Path, table: &[Key], values: &mut Value) -> Result<(), SettingsError> {
    let fail = |source| SettingsError::File { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(|e| fail(e.into()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(fail(format!("longer than {FILE_BYTES_MAX} bytes").into()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.into()))?;
    let file: Value = config::Config::builder()
        .add_source(config::File::from_str(&text, config::FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|e| fail(e.into()))?;
    let origin = path.display().to_string();
    for (name, value) in tree::leaves(file) {
        let key = table.iter().find(|key| key.name == name).ok_or_else(|| unknown(&name, origin.clone(), table))?;
        put(key, value, &origin, values)?;
    }
    Ok(())
}

fn overlay_flags(flags: &ArgMatches, table: &[Key], values: &mut Value) -> Result<(), SettingsError> {
    for pair in flags.get_many::<String>("set").into_iter().flatten() {
        let Some((name, text)) = pair.split_once('=') else {
            return Err(SettingsError::Arguments(format!("--set {pair}: write --set key=value")));
        };
        let key = table.iter().find(|key| key.name == name.trim());
        let key = key.ok_or_else(|| unknown(name, "the flags (--set)".to_owned(), table))?;
        put(key, text.into(), "the flags (--set)", values)?;
    }
    for key in table {
        if let Some(text) = flags.get_one::<String>(&key.flag()) {
            put(key, text.as_str().into(), &format!("the flags (--{})", key.flag()), values)?;
        }
    }
    Ok(())
}

fn put(key: &Key, value: Value, origin: &str, values: &mut Value) -> Result<(), SettingsError> {
    let shown = value.as_str().map_or_else(|| value.to_string(), Into::into);
    // A file name given as a secret may be the secret itself, by mistake, and a URI may hold a password.
    let shown = (key.kind != super::Kind::SecretFile && !shown.contains('@')).then_some(shown);
    let accepted = key.kind.accept(value).ok_or_else(|| SettingsError::Invalid {
        key: key.name.to_owned(),
        origin: origin.to_owned(),
        expected: format!("of type {}", key.kind.name()),
        got: shown,
    })?;
    tree::set(values, key.name, accepted);
    Ok(())
}

fn unknown(key: &str, origin: String, table: &[Key]) -> SettingsError {
    let nearest = tree::nearest(key, table.iter().map(|key| key.name));
    SettingsError::Unknown { key: key.to_owned(), origin, nearest }
}

fn arguments(service: &'static str, table: &[Key], arguments: &[OsString]) -> Result<ArgMatches, SettingsError> {
    let config = Arg::new("config").long("config").value_name("FILE").help("Read settings from this TOML file");
    let set = Arg::new("set").long("set").value_name("KEY=VALUE").action(ArgAction::Append);
    let command = Command::new(service)
        .version(env!("CARGO_PKG_VERSION"))
        .arg(config)
        .arg(set.help("Give one setting; may be repeated"))
        .args(table.iter().map(flag));
    command.try_get_matches_from(arguments).map_err(|error| {
        let text = error.render().to_string();
        if error.use_stderr() {
            SettingsError::Arguments(text.trim_end().to_owned())
        } else {
            SettingsError::Asked(text)
        }
    })
}

fn flag(key: &Key) -> Arg {
    let default = if key.default.is_empty() { String::new() } else { format!(" [default: {}]", key.default) };
    let name = key.flag();
    Arg::new(name.clone()).long(name).value_name(key.kind.name()).help(format!("{}{default}", key.doc))
}
