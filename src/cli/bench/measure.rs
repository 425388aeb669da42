//! What is measured, and of what: latencies, counts by the second, the server's processor time, memory and disk.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Clock ticks a second of the figures in `/proc/PID/stat`: fixed at 100 for all of Linux's user space.
const TICKS: u64 = 100;

/// How long each of many took, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies(Vec<u32>);

impl Latencies {
    pub(super) fn push(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn join(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// The median, the 99th percentile and the largest, in microseconds; nothing of nothing.
    pub(super) fn summary(mut self) -> Option<Summary> {
        self.0.sort_unstable();
        let last = self.0.len().checked_sub(1)?;
        let at = |hundredths: usize| u64::from(self.0[last * hundredths / 100]);
        Some(Summary { p50_us: at(50), p99_us: at(99), max_us: at(100) })
    }
}

/// Latencies in three figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) max_us: u64,
}

/// What a process takes of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Processor time since its start, in milliseconds.
    pub(super) cpu_ms: u64,
    /// Memory in use, in bytes.
    pub(super) memory_bytes: u64,
    /// The most memory that was in use, in bytes.
    pub(super) peak_bytes: u64,
}

impl Usage {
    /// What the process has used. Nothing where there is none, or where the system does not tell (it is Linux that does).
    pub(super) fn of(process_id: Option<u32>) -> Self {
        let Some(id) = process_id else { return Self::default() };
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}")).unwrap_or_default();
        let (stat, status) = (read("stat"), read("status"));
        // The name in brackets may hold spaces; user and system time are the 12th and 13th after it.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        Self {
            cpu_ms: ticks * 1_000 / TICKS,
            memory_bytes: kilobytes("VmRSS:") * 1_024,
            peak_bytes: kilobytes("VmHWM:") * 1_024,
        }
    }
}

/// What the files below `folder` take of the disk, in bytes.
pub(super) fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        // Blocks of 512 bytes, whatever the file system's are.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// How many of something came in each second from a start on.
pub(super) fn by_second(acked: &[(Duration, u64)]) -> Vec<u64> {
    let mut seconds = Vec::new();
    for (at, count) in acked {
        let second = at.as_secs() as usize;
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += count;
    }
    seconds
}

/// A rate in whole units a second.
pub(super) fn rate(count: u64, took: Duration) -> u64 {
    let micros = took.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_middle_and_the_end() {
        let mut latencies = Latencies::default();
        (1..=1_000).rev().for_each(|micros| latencies.push(Duration::from_micros(micros)));
        assert_eq!(latencies.summary(), Some(Summary { p50_us: 500, p99_us: 990, max_us: 1_000 }));
        assert_eq!(Latencies::default().summary(), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(Some(std::process::id()));
        assert!(usage.memory_bytes > 1_000_000 && usage.peak_bytes >= usage.memory_bytes / 2, "{usage:?}");
    }

    #[test]
    fn seconds_are_counted_from_the_start() {
        let at = Duration::from_millis;
        assert_eq!(by_second(&[(at(10), 1), (at(999), 2), (at(2_001), 5)]), [3, 0, 5]);
        assert_eq!(rate(1_000, Duration::from_millis(500)), 2_000);
    }
}
