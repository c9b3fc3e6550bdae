//! The scheduler's process.

use runtime::{
    admin,
    exit::Code,
    service::{self, Failure, Process, Service},
};
use scheduler::{
    App, Given,
    settings::{KEYS, Settings},
};
use std::process::ExitCode;

fn main() -> ExitCode {
    service::main(Service { name: "orrery-scheduler", prefix: "SCHEDULER", keys: KEYS }, run)
}

async fn run(settings: Settings, process: &Process) -> Result<Code, Failure> {
    let Process { telemetry, shutdown, health } = process;
    let listen = settings.common.admin.listen;
    let given = Given::read(&settings).map_err(Failure::usage)?;
    // Alive while it migrates, however long that takes, and ready after it.
    let started = health.condition("start");
    let admin = admin::serve(listen, health.clone(), telemetry.clone(), shutdown.clone()).await;
    admin.map_err(Failure::unavailable)?;
    let app = App::build(settings, given, telemetry, health.clone(), shutdown.clone()).await;
    let app = app.map_err(Failure::unavailable)?;
    started.hold();
    app.serve().await.map_err(|error| Failure::new(Code::Temporary, error))?;
    Ok(Code::Ok)
}
