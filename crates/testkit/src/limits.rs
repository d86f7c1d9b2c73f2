//! What the system allows a process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets this process, and those it starts from now on, have `wanted` files and sockets open at once.
///
/// # Panics
/// When the system's hard limit is lower.
pub fn raise_open_files(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    // None means no limit.
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(wanted);
    setrlimit(Resource::Nofile, limit).unwrap_or_else(|error| {
        panic!("{wanted} open files are needed, the hard limit is {:?}: {error}", limit.maximum)
    });
}
