//! The executor's process. With `run-attempt` as its first argument it runs one attempt and ends as that ended.

use executor::{
    App,
    data_dir::InUse,
    one_shot,
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
    let app = App::start(&settings, telemetry, health, shutdown).await.map_err(not_built)?;
    let admin = admin::serve(settings.common.admin.listen, health.clone(), telemetry.clone(), shutdown.clone()).await;
    admin.map_err(Failure::unavailable)?;
    app.serve().await.map_err(Failure::unavailable)?;
    Ok(Code::Ok)
}

async fn run_attempt(settings: Settings, process: &Process) -> Result<Code, Failure> {
    let Process { telemetry, shutdown, health } = process;
    let app = App::for_one_attempt(&settings, telemetry, health, shutdown).map_err(not_built)?;
    let outcome = app.serve().await.map_err(Failure::unavailable)?;
    if let Some(path) = &settings.outcome_file {
        one_shot::tell(path, outcome.as_ref()).map_err(Failure::unavailable)?;
    }
    Ok(one_shot::code(outcome.as_ref()))
}

/// Folders and settings are the operator's to put right; a folder that is in use will be free again.
fn not_built(error: anyhow::Error) -> Failure {
    if error.is::<InUse>() { Failure::unavailable(error) } else { Failure::usage(error) }
}
