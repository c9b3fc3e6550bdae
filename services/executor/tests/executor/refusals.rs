//! What a machine cannot give to an application.

use crate::runtimes::{Machine, reaches, run, shell, spec};
use crate::scheduler::SOON;
use domain::runtime::App;
use executor::pool::RuntimeBackend;
use proto::internal::v1::RuntimePhase;

#[tokio::test]
async fn what_the_machine_lacks_has_a_code() {
    let mut machine = Machine::new();
    // Nothing can be installed below a file.
    let file = machine.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    machine.apps = Some(file.join("apps"));
    let backend = machine.backend();
    backend.recover().await.unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut occupied = shell("true");
    if let App::Custom { port, .. } = &mut occupied.app {
        *port = taken.local_addr().unwrap().port();
    }
    for (spec, code, word) in
        [(occupied, "PORT_TAKEN", "choose another one"), (spec(App::Jupyter), "APP_INSTALL_FAILED", "")]
    {
        let order = run(spec);
        backend.apply(order.clone());
        let gone = reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
        assert!(gone.code == code && gone.message.contains(word), "{gone:?}");
    }
}
