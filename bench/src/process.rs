//! What Linux says of another process: its memory, its time, its threads. And how the program under measurement is found.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// How often it was given a processor.
    pub turns: u64,
}

/// The built program: `TASKIQ_FLOW_BIN`, else the one that the release build put beside this benchmark.
///
/// # Errors
/// When it has not been built.
pub fn program() -> io::Result<PathBuf> {
    let path = match std::env::var_os("TASKIQ_FLOW_BIN") {
        Some(path) => path.into(),
        None => std::env::current_exe()?.with_file_name("../taskiq-flow"),
    };
    match path.is_file() {
        true => Ok(path),
        false => Err(io::Error::other(format!(
            "{} is not there: run `cargo build --release -p taskiq-flow-cli` first, or name the program in TASKIQ_FLOW_BIN",
            path.display()
        ))),
    }
}

/// What a process holds of the machine's memory, in bytes (`VmRSS`, proc(5)). What the kernel keeps for its sockets is
/// not in it.
///
/// # Errors
/// When there is no such process.
pub fn resident(pid: u32) -> io::Result<u64> {
    let status = read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("no VmRSS"))? << 10)
}

/// The time of processors that a process has used, in its own code and in the kernel.
///
/// # Errors
/// When there is no such process.
pub fn processor_time(pid: u32) -> io::Result<Duration> {
    let stat = read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let ticks = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or_default()).sum::<u64>();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The threads of a process, by their ids.
///
/// # Errors
/// When there is no such process.
pub fn threads(pid: u32) -> io::Result<BTreeMap<u32, Thread>> {
    let mut threads = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        // One that has ended meanwhile is none.
        let Ok(status) = read_to_string(path.join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        let turns = |name| field(name).and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
        let turns = turns("voluntary_ctxt_switches:") + turns("nonvoluntary_ctxt_switches:");
        if let Some(id) = id {
            threads.insert(id, Thread { name: field("Name:").unwrap_or_default().to_owned(), turns });
        }
    }
    Ok(threads)
}

/// Bytes that wait in the kernel between two ports of this machine: sent by `from` and not taken by `to` yet (proc(5),
/// `/proc/net/tcp`).
///
/// # Errors
/// The system's.
pub fn on_their_way(from: u16, to: u16) -> io::Result<u64> {
    let table = read_to_string("/proc/net/tcp")?;
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
    let waits = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
        let (sending, received) = fields.nth(1)?.split_once(':')?;
        match (local, remote) {
            (local, remote) if (local, remote) == (from, to) => Some(number(sending)),
            (local, remote) if (local, remote) == (to, from) => Some(number(received)),
            _ => None,
        }
    });
    Ok(waits.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let ballast = vec![1_u8; 8 << 20];
        assert!(resident(pid).unwrap() >= ballast.len() as u64);
        let before = processor_time(pid).unwrap();
        while processor_time(pid).unwrap() == before {
            std::hint::black_box((0..10_000_u64).sum::<u64>());
        }
        assert!(processor_time(pid).unwrap() > before);
        assert!(threads(pid).unwrap().values().any(|thread| thread.turns > 0));
        assert!(resident(u32::MAX).is_err());
    }

    #[test]
    fn what_nobody_takes_is_on_its_way() {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.write_all(&[0; 1000]).unwrap();
        let (from, to) = (listener.local_addr().unwrap().port(), near.local_addr().unwrap().port());
        assert_eq!((on_their_way(from, to).unwrap(), on_their_way(to, from).unwrap()), (1000, 0));
    }
}
