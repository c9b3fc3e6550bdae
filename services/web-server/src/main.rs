//! The web-server's process.

use runtime::{
    admin,
    exit::Code,
    service::{self, Failure, Process, Service},
};
use std::process::ExitCode;
use web_server::{
    App, BuildError, Given,
    settings::{KEYS, PREFIX, SERVICE, Settings},
};

fn main() -> ExitCode {
    service::main(Service { name: SERVICE, prefix: PREFIX, keys: KEYS }, run)
}

async fn run(settings: Settings, process: &Process) -> Result<Code, Failure> {
    let Process { telemetry, shutdown, health } = process;
    let given = Given::read(&settings).map_err(failure)?;
    // Alive while it migrates, however long that takes, and ready after it.
    let started = health.condition("start");
    let admin = admin::serve(settings.common.admin.listen, health.clone(), telemetry.clone(), shutdown.clone()).await;
    admin.map_err(Failure::unavailable)?;
    store::Store::migrate(given.database_url()).await.map_err(Failure::unavailable)?;
    let app = App::build(&settings, given, health.clone(), shutdown, telemetry).await.map_err(failure)?;
    started.hold();
    tracing::info!(addr = %app.addr().map_err(Failure::unavailable)?, "serving the API and the UI");
    app.serve(shutdown.clone()).await;
    Ok(Code::Ok)
}

fn failure(error: BuildError) -> Failure {
    if error.is_usage() { Failure::usage(error) } else { Failure::unavailable(error) }
}
