//! Free ports of the loopback, for servers that must be told theirs before they start.

use crate::error::{Error, Result};
use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// Linux takes the port of a connection from above these (`net.ipv4.ip_local_port_range` begins at 32,768): between the
/// choice and the start of the server, and while a server that was killed is down, nobody's connection has it.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const TRIES: u32 = 1_000;

/// What this process has given away. Nobody listens yet at a port that was chosen a moment ago, so looking at the kernel
/// alone would give it to two servers now and then.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 that nobody listens at, and that this process is given once only.
///
/// # Errors
/// None was found among a thousand.
pub fn free() -> Result<u16> {
    let mut source = File::open("/dev/urandom").map_err(Error::file("open", "/dev/urandom"))?;
    for _ in 0..TRIES {
        let mut bytes = [0; 2];
        source.read_exact(&mut bytes).map_err(Error::file("read", "/dev/urandom"))?;
        let width = PORTS.end - PORTS.start;
        let port = PORTS.start + u16::from_le_bytes(bytes) % width;
        let new = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if new && is_free(port) {
            return Ok(port);
        }
    }
    Err(Error::NoPort)
}

/// Whether nobody listens at this port of 127.0.0.1.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_given_twice() {
        let given: BTreeSet<u16> = (0..500).map(|_| free().unwrap()).collect();
        assert_eq!(given.len(), 500);
        assert!(given.iter().all(|port| PORTS.contains(port)));
    }
}
