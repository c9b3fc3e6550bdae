//! The scheduler's process: settings, telemetry, health, the app, and a drain on SIGTERM.

use runtime::{
    admin,
    exit::{Code, fail},
    health::Health,
    shutdown::Shutdown,
    telemetry,
};
use scheduler::{App, settings};
use std::process::ExitCode;

const SERVICE: &str = "orrery-scheduler";

fn main() -> ExitCode {
    let settings: settings::Settings = match runtime::settings::load(SERVICE, "SCHEDULER", settings::KEYS) {
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
    let listen = settings.common.admin.listen;
    let app = match App::build(settings, &telemetry, health.clone(), shutdown.clone()).await {
        Ok(app) => app,
        Err(error) => return fail(SERVICE, Code::Unavailable, error.as_ref()),
    };
    if let Err(error) = admin::serve(listen, health, telemetry.clone(), shutdown.clone()).await {
        return fail(SERVICE, Code::Unavailable, &error);
    }
    let served = app.serve().await;
    shutdown.stop();
    telemetry.shutdown().await;
    match served {
        Ok(()) => Code::Ok.into(),
        Err(error) => fail(SERVICE, Code::Temporary, error.as_ref()),
    }
}
