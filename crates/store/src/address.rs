//! Where the database is, and whether the way there is encrypted. Refuses to encrypt without knowing whom it speaks with: what
//! asks for TLS has the server's certificate verified, by name too, also where libpq would only encrypt.

use crate::Error;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use std::{fmt::Display, net::IpAddr, sync::Arc};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A database's URL, understood.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
}

impl Address {
    /// Understands `sslmode` and `sslrootcert`, PostgreSQL's own names: `require`, `verify-ca` and `verify-full` ask for TLS, everything
    /// else for none; the file holds the certificates (PEM) of whoever signs the server's, instead of the system's.
    ///
    /// # Errors
    /// What is no URL of a database, and certificates that cannot be read.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let (url, authorities) = understood(url);
        let mut config: Config = url.parse()?;
        let encrypted = config.get_ssl_mode() == SslMode::Require;
        if !encrypted {
            config.ssl_mode(SslMode::Disable);
        }
        let roots = if encrypted { roots(authorities.as_deref())? } else { RootCertStore::empty() };
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS cannot be spoken", error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config, tls: MakeRustlsConnect::new(tls) })
    }

    /// The hosts to which everything travels in the clear, beyond this machine.
    pub(crate) fn in_the_clear(&self) -> Vec<&str> {
        if self.config.get_ssl_mode() == SslMode::Require {
            return Vec::new();
        }
        let is_here = |name: &str| name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let beyond = |host| match host {
            &Host::Tcp(ref name) if !is_here(name) => Some(name.as_str()),
            _ => None,
        };
        self.config.get_hosts().iter().filter_map(beyond).collect()
    }
}

/// The URL in the driver's words, and the file of certificates.
fn understood(url: &str) -> (String, Option<String>) {
    let Some((address, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let (mut kept, mut authorities) = (Vec::new(), None);
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslrootcert", file)) => authorities = Some(file.to_owned()),
            Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
            Some(("sslmode", "allow")) => {}
            _ => kept.push(pair),
        }
    }
    let query = kept.join("&");
    (if query.is_empty() { address.to_owned() } else { format!("{address}?{query}") }, authorities)
}

fn roots(authorities: Option<&str>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(file) = authorities else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let remedy = "install `ca-certificates`, or name a file by `sslrootcert=` in the database's URL";
            return Err(unusable("this machine has no certificates to verify PostgreSQL's by", remedy));
        }
        return Ok(roots);
    };
    let unreadable =
        |error: &dyn Display| unusable(&format!("cannot read certificates from {file} (sslrootcert)"), error);
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() { Err(unreadable(&"there is none in it")) } else { Ok(roots) }
}

fn unusable(what: &str, why: impl Display) -> Error {
    Error::Address(format!("{what}: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

    use super::*;

    #[test]
    fn what_asks_for_tls_gets_it_or_fails_and_nothing_else_does() {
        let plain = ["", "?sslmode=disable", "?sslmode=prefer&application_name=x", "?sslmode=allow"];
        for query in plain {
            let address = Address::parse(&format!("postgres://u@db.example/orrery{query}")).unwrap();
            assert_eq!(address.config.get_ssl_mode(), SslMode::Disable, "{query}");
            assert_eq!(address.in_the_clear(), ["db.example"], "{query}");
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://u@db.example/orrery?sslmode={mode}&sslrootcert=/nowhere/ca.pem");
            let refused = Address::parse(&url).map(|_| ()).unwrap_err().to_string();
            assert!(refused.contains("/nowhere/ca.pem"), "{refused}");
        }
        let (url, file) = understood("postgres://u@h/d?sslmode=verify-full&connect_timeout=3&sslrootcert=/a/b.pem");
        assert_eq!(url.as_str(), "postgres://u@h/d?sslmode=require&connect_timeout=3");
        assert_eq!(file.as_deref(), Some("/a/b.pem"));
        assert!(Address::parse("postgres://u@h/d?sslmode=sometimes").is_err());
    }

    #[test]
    fn this_machine_is_no_network() {
        for url in ["postgres://u@127.0.0.1/d", "postgres://u@localhost/d", "postgres://u@%2Ftmp/d"] {
            assert!(Address::parse(url).unwrap().in_the_clear().is_empty(), "{url}");
        }
    }
}
