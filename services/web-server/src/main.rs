//! The web-server's process.

use runtime::{
    admin,
    exit::Code,
    service::{self, Failure, Process, Service},
};
use std::process::ExitCode;
use web_server::{
    App, BuildError,
    settings::{KEYS, PREFIX, SERVICE, Settings},
};

fn main() -> ExitCode {
    service::main(Service { name: SERVICE, prefix: PREFIX, keys: KEYS }, run)
}

async fn run(settings: Settings, process: &Process) -> Result<Code, Failure> {
    let Process { telemetry, shutdown, .. } = process;
    let url = web_server::database_url(&settings).map_err(failure)?;
    store::Store::migrate(url.expose()).await.map_err(Failure::unavailable)?;
    let app = App::build(&settings, shutdown, telemetry).await.map_err(failure)?;
    tracing::info!(addr = %app.addr().map_err(Failure::unavailable)?, "serving the API and the UI");
    let admin = admin::serve(settings.common.admin.listen, app.health(), telemetry.clone(), shutdown.clone()).await;
    admin.map_err(Failure::unavailable)?;
    app.serve(shutdown.clone()).await;
    Ok(Code::Ok)
}

fn failure(error: BuildError) -> Failure {
    if error.is_usage() { Failure::usage(error) } else { Failure::unavailable(error) }
}
