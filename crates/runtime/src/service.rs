//! The life of a service's process, the same for every service: settings, telemetry, signals, the service itself, the last
//! spans, the exit code. Refuses to know what is served.

use crate::{
    exit::{Code, fail},
    health::Health,
    settings::{self, Common, Key, SettingsError, Sources},
    shutdown::Shutdown,
    telemetry::{self, Telemetry},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{error::Error, fmt, process::ExitCode};

/// A service, as its process calls itself and finds its settings.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// The program's name.
    pub name: &'static str,
    /// Of its environment variables, after `ORRERY_`.
    pub prefix: &'static str,
    /// Its own settings.
    pub keys: &'static [Key],
}

/// What surrounds a service in its process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Logs, traces and metrics.
    pub telemetry: Telemetry,
    /// Drains on SIGTERM.
    pub shutdown: Shutdown,
    /// Readiness, off before the drain.
    pub health: Health,
}

/// Why a service ended that should not have.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    error: Box<dyn Error>,
}

impl Failure {
    /// Ends the process with this code.
    #[must_use]
    pub fn new(code: Code, error: impl Into<Box<dyn Error>>) -> Self {
        Self { code, error: error.into() }
    }

    /// The configuration is wrong: starting again changes nothing.
    #[must_use]
    pub fn usage(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Code::Usage, error)
    }

    /// Something that is needed is not there.
    #[must_use]
    pub fn unavailable(error: impl Into<Box<dyn Error>>) -> Self {
        Self::new(Code::Unavailable, error)
    }

    /// How the process ends by it.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Runs a service until `serve` returns: all of its `main`. `--help` and `--version` are answered here.
pub fn main<S>(service: Service, serve: impl AsyncFnOnce(S, &Process) -> Result<Code, Failure>) -> ExitCode
where
    S: DeserializeOwned + Serialize + Default + AsRef<Common>,
{
    main_from(service, Sources::of_process(), serve)
}

/// As [`main`], with arguments from which a command of the service's own is taken away.
pub fn main_from<S>(
    service: Service,
    sources: Sources,
    serve: impl AsyncFnOnce(S, &Process) -> Result<Code, Failure>,
) -> ExitCode
where
    S: DeserializeOwned + Serialize + Default + AsRef<Common>,
{
    let settings: S = match settings::load_from(service.name, service.prefix, service.keys, sources) {
        Ok(settings) => settings,
        Err(SettingsError::Asked(text)) => {
            use std::io::Write as _;
            // A closed pipe (`--help | head`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return Code::Ok.into();
        }
        Err(error) => return fail(service.name, Code::Usage, &error),
    };
    let ended = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(live(service.name, settings, serve)),
        Err(error) => Err(Failure::unavailable(error)),
    };
    match ended {
        Ok(code) => code.into(),
        Err(failure) => fail(service.name, failure.code, failure.error.as_ref()),
    }
}

async fn live<S: AsRef<Common>>(
    name: &'static str,
    settings: S,
    serve: impl AsyncFnOnce(S, &Process) -> Result<Code, Failure>,
) -> Result<Code, Failure> {
    let common = settings.as_ref();
    let telemetry = telemetry::init(name, &common.telemetry).map_err(Failure::usage)?;
    let shutdown = Shutdown::listen_after(common.drain_delay, common.drain_timeout).map_err(Failure::unavailable)?;
    let process = Process { health: Health::until(&shutdown), telemetry, shutdown };
    let ended = serve(settings, &process).await;
    process.shutdown.stop();
    let cut_short = process.shutdown.is_cut_short();
    process.telemetry.shutdown().await;
    // What others have to take over now is not done.
    ended.map(|code| if cut_short && code == Code::Ok { Code::Temporary } else { code })
}
