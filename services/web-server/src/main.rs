//! The `orrery-web-server` process: configuration, telemetry, serve, drain, exit code.

use runtime::exit::{Code, fail};
use runtime::shutdown::Shutdown;
use runtime::{admin, settings, telemetry};
use std::error::Error;
use std::process::ExitCode;
use web_server::settings::{KEYS, PREFIX, SERVICE, Settings};
use web_server::{App, BuildError};

#[tokio::main]
async fn main() -> ExitCode {
    let settings: Settings = match settings::load(SERVICE, PREFIX, KEYS) {
        Ok(settings) => settings,
        Err(error) => return fail(SERVICE, Code::Usage, &error),
    };
    let telemetry = match telemetry::init(SERVICE, &settings.common.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(SERVICE, Code::Usage, &error),
    };
    let code = match run(&settings, &telemetry).await {
        Ok(()) => Code::Ok.into(),
        Err(error) => fail(SERVICE, code_of(&*error), &*error),
    };
    telemetry.shutdown().await;
    code
}

async fn run(settings: &Settings, telemetry: &telemetry::Telemetry) -> Result<(), Box<dyn Error>> {
    let shutdown = Shutdown::listen_after(settings.common.drain_delay, settings.common.drain_timeout)?;
    store::Store::migrate(web_server::database_url(settings)?.expose()).await?;
    let app = App::build(settings, &shutdown, telemetry).await?;
    tracing::info!(addr = %app.addr()?, "serving the API and the UI");
    let admin = admin::serve(settings.common.admin.listen, app.health(), telemetry.clone(), shutdown.clone()).await?;
    app.serve(shutdown.clone()).await;
    shutdown.stop();
    admin.join().await;
    Ok(())
}

fn code_of(error: &(dyn Error + 'static)) -> Code {
    match error.downcast_ref::<BuildError>() {
        Some(error) if error.is_usage() => Code::Usage,
        _ => Code::Unavailable,
    }
}
