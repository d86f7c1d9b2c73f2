//! Free ports.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Ports below those that Linux gives to outgoing connections, so that a client of a test cannot be sitting on one.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port of 127.0.0.1 that nobody listened on a moment ago, picked at random: two tests that ask at the same time
/// rarely get the same, and whoever starts a server on it must be ready to ask again.
///
/// # Panics
/// When none of a thousand picks is free.
pub fn free_port() -> u16 {
    let width = u64::from(RANGE.end - RANGE.start);
    for _ in 0..1_000 {
        // Each RandomState is keyed anew, which makes it a random number.
        let offset = RandomState::new().hash_one(std::process::id()) % width;
        let port = RANGE.start + u16::try_from(offset).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 in {RANGE:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports: Vec<u16> = (0..8).map(|_| free_port()).collect();
        assert!(ports.iter().any(|port| *port != ports[0]), "{ports:?}");
        assert!(ports.iter().all(|port| RANGE.contains(port)));
        TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
    }
}
