//! A server behind something that ends TLS, as an ingress does: what the command line says to it is encrypted, and it speaks
//! with nobody whose certificate it cannot verify.

use crate::{answer::Answer, cluster::shared, wait};
use std::{fs, path::PathBuf, process::Command, sync::Arc};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// Ends TLS before a server, as `localhost`, until it is dropped.
struct Front {
    url: String,
    certificate: PathBuf,
    _folder: tempfile::TempDir,
    _runtime: Runtime,
}

impl Front {
    fn before(server: &str) -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("ca.pem");
        fs::write(&certificate, certified.cert.pem()).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let behind = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    let mut outside = acceptor.accept(stream).await?;
                    let mut inside = TcpStream::connect(behind).await?;
                    copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        });
        Self { url, certificate, _folder: folder, _runtime: runtime }
    }

    fn whoami(&self, certificate: Option<&PathBuf>) -> Answer {
        let mut command: Command = shared().orrery();
        command.env("ORRERY_SERVER", &self.url).arg("whoami");
        command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
        command.envs(certificate.map(|file| ("SSL_CERT_FILE", file)));
        wait::output(&mut command).into()
    }
}

#[test]
fn a_server_is_spoken_to_by_https_and_its_certificate_verified() {
    let front = Front::before(shared().server().0);
    let answer = front.whoami(Some(&front.certificate));
    assert_eq!(answer.code, 0, "{answer:?}");

    let stranger = Front::before(shared().server().0);
    let refused = front.whoami(Some(&stranger.certificate));
    assert_eq!(refused.code, 69, "{refused:?}");
    assert!(refused.err.contains("certificate"), "{refused:?}");
}
