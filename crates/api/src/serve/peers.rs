//! How many connections one address has open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use taskiq_flow_security::rate_limit::ip_key;

/// Counts open connections by address, IPv6 by /64: what one subscriber gets. It holds an entry for each address that
/// has a connection, and so never more than there are connections.
#[derive(Debug, Clone)]
pub(super) struct Peers {
    open: Arc<Mutex<HashMap<String, usize>>>,
    most: usize,
}

/// One counted connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct PeerRoom {
    peers: Peers,
    key: String,
}

impl Peers {
    /// At most so many for one address.
    pub(super) fn new(most: usize) -> Self {
        Self { open: Arc::default(), most }
    }

    /// Room for one more connection; none when the address has as many as may be.
    pub(super) fn enter(&self, ip: IpAddr) -> Option<PeerRoom> {
        let key = ip_key(ip);
        let mut open = self.open.lock();
        let count = open.get(&key).copied().unwrap_or_default();
        if count >= self.most {
            return None;
        }
        open.insert(key.clone(), count + 1);
        drop(open);
        Some(PeerRoom { peers: self.clone(), key })
    }
}

impl Drop for PeerRoom {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock();
        match open.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_room_for_so_many_and_a_closed_one_makes_room() {
        let peers = Peers::new(2);
        let enter = |ip: &str| peers.enter(ip.parse().unwrap());
        let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some() && enter("192.0.2.1").is_none());
        // One subscriber has a /64.
        let _six = (enter("2001:db8::1").unwrap(), enter("2001:db8::ffff").unwrap());
        assert!(enter("2001:db8::2").is_none() && enter("2001:db8:0:1::1").is_some());
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        drop(second);
        assert_eq!(peers.open.lock().len(), 1, "what is closed is forgotten");
    }
}
