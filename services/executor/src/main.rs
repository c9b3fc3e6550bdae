//! The executor's process: settings, telemetry, health, the app, and a drain on SIGTERM.

use executor::{App, settings};
use runtime::{
    admin,
    exit::{Code, fail},
    health::Health,
    shutdown::Shutdown,
    telemetry,
};
use std::process::ExitCode;

const SERVICE: &str = "orrery-executor";

fn main() -> ExitCode {
    if let Some(code) = backend_process::launch::when_asked() {
        return code;
    }
    let settings: settings::Settings = match runtime::settings::load(SERVICE, "EXECUTOR", settings::KEYS) {
        Ok(settings) => settings,
        Err(error) => return fail(SERVICE, Code::Usage, &error),
    };
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(run(settings)),
        Err(error) => fail(SERVICE, Code::Unavailable, &error),
    }
}

async fn run(settings: settings::Settings) -> ExitCode {
    let telemetry = match telemetry::init(SERVICE, &settings.common.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(SERVICE, Code::Usage, &error),
    };
    let shutdown = match Shutdown::listen_after(settings.common.drain_delay, settings.common.drain_timeout) {
        Ok(shutdown) => shutdown,
        Err(error) => return fail(SERVICE, Code::Unavailable, &error),
    };
    let health = Health::until(&shutdown);
    let app = match App::build(&settings, &telemetry, &health, &shutdown) {
        Ok(app) => app,
        Err(error) => return fail(SERVICE, Code::Usage, error.as_ref()),
    };
    let admin = admin::serve(settings.common.admin.listen, health, telemetry.clone(), shutdown.clone()).await;
    if let Err(error) = admin {
        return fail(SERVICE, Code::Unavailable, &error);
    }
    app.serve().await;
    telemetry.shutdown().await;
    Code::Ok.into()
}
