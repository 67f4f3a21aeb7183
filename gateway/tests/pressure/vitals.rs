//! What the kernel says about a process.

use std::time::Duration;

use super::support::Gateway;

fn status(gateway: &Gateway, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").parse().unwrap()
}

/// Memory held now, bytes.
pub fn rss(gateway: &Gateway) -> u64 {
    status(gateway, "VmRSS") * 1024
}

pub fn threads(gateway: &Gateway) -> u64 {
    status(gateway, "Threads")
}

/// Open file descriptors.
pub fn descriptors(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count()
}

/// CPU time used so far, in user and system; the kernel counts in hundredths of a second.
pub fn cpu(gateway: &Gateway) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    // proc(5): utime is field 14, stime 15; the two before `)` are gone.
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|f| f.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
