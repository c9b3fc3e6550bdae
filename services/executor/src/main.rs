//! The executor's process. With `run-attempt` as its first argument it runs one attempt and ends as that ended.

use executor::{
    App, one_shot,
    settings::{KEYS, PREFIX, Settings},
};
use runtime::{
    admin,
    exit::Code,
    service::{self, Failure, Process, Service},
    settings::Sources,
};
use std::process::ExitCode;

const SERVICE: Service = Service { name: "orrery-executor", prefix: PREFIX, keys: KEYS };

fn main() -> ExitCode {
    if let Some(code) = backend_process::launch::when_asked() {
        return code;
    }
    let mut sources = Sources::of_process();
    if sources.take_command(one_shot::COMMAND) {
        service::main_from(SERVICE, sources, run_attempt)
    } else {
        service::main_from(SERVICE, sources, run)
    }
}

async fn run(settings: Settings, process: &Process) -> Result<Code, Failure> {
    let Process { telemetry, shutdown, health } = process;
    let usage = |error| Failure::new(Code::Usage, error);
    let app = App::start(&settings, telemetry, health, shutdown).await.map_err(usage)?;
    let admin = admin::serve(settings.common.admin.listen, health.clone(), telemetry.clone(), shutdown.clone()).await;
    admin.map_err(|error| Failure::new(Code::Unavailable, error))?;
    app.serve().await.map_err(|error| Failure::new(Code::Unavailable, error))?;
    Ok(Code::Ok)
}

async fn run_attempt(settings: Settings, process: &Process) -> Result<Code, Failure> {
    let Process { telemetry, shutdown, health } = process;
    let usage = |error| Failure::new(Code::Usage, error);
    let app = App::for_one_attempt(&settings, telemetry, health, shutdown).map_err(usage)?;
    let outcome = app.serve().await.map_err(|error| Failure::new(Code::Unavailable, error))?;
    if let Some(path) = &settings.outcome_file {
        one_shot::tell(path, outcome.as_ref()).map_err(|error| Failure::new(Code::Unavailable, error))?;
    }
    Ok(one_shot::code(outcome.as_ref()))
}
