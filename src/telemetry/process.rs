//! Metrics of the process, read from `/proc/self` when they are asked for. Elsewhere than on Linux there are none.
//!
//! The names are Prometheus's usual ones: `process_cpu_seconds_total`, `process_resident_memory_bytes`,
//! `process_open_fds`, `process_start_time_seconds`.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// Ticks a second of the times in `/proc` (proc(5)). The kernel has reported 100 to programs on every architecture since
/// 2.6, whatever it uses itself; `sysconf` would need unsafe code to say the same.
const TICKS: f64 = 100.0;

/// Reads `/proc/self` on every scrape.
#[derive(Clone)]
pub(super) struct ProcessCollector {
    cpu: Counter,
    memory: Gauge,
    descriptors: Gauge,
    start: Gauge,
    /// A counter can only be added to: two scrapes at once must not both add the same seconds.
    reading: Arc<Mutex<()>>,
}

impl ProcessCollector {
    pub(super) fn new(_: &str) -> prometheus::Result<Self> {
        let collector = Self {
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "CPU time used, user and system, in seconds.",
            )?,
            memory: Gauge::new("process_resident_memory_bytes", "Memory in use, in bytes.")?,
            descriptors: Gauge::new("process_open_fds", "Open file descriptors.")?,
            start: Gauge::new(
                "process_start_time_seconds",
                "When the process started, in seconds since 1970.",
            )?,
            reading: Arc::default(),
        };
        let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
        if let Some((boot, stat)) = boot.zip(Stat::read()) {
            collector.start.set(boot + stat.start);
        }
        Ok(collector)
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let mut descriptions = self.cpu.desc();
        for gauge in [&self.memory, &self.descriptors, &self.start] {
            descriptions.extend(gauge.desc());
        }
        descriptions
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stat) = Stat::read() {
            self.cpu.inc_by((stat.cpu - self.cpu.get()).max(0.0));
        }
        if let Some(bytes) = fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|text| resident(&text))
        {
            self.memory.set(bytes);
        }
        if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
            // One of them is what reads the folder.
            self.descriptors.set(descriptors.count().saturating_sub(1) as f64);
        }
        drop(reading);
        let gauges = [&self.memory, &self.descriptors, &self.start];
        let mut families = self.cpu.collect();
        families.extend(gauges.into_iter().flat_map(Collector::collect));
        families
    }
}

/// Times of `/proc/self/stat`, in seconds.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu: f64,
    /// Since the machine was booted.
    start: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// Fields are counted from after the program's name, which may itself hold spaces and brackets.
    fn parse(text: &str) -> Option<Self> {
        let (_, after) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        // utime, stime and starttime are fields 14, 15 and 22 of proc_pid_stat(5); the first after the name is 3.
        let seconds = |field: usize| Some(fields.get(field - 3)?.parse::<f64>().ok()? / TICKS);
        Some(Self {
            cpu: seconds(14)? + seconds(15)?,
            start: seconds(22)?,
        })
    }
}

/// `VmRSS` of `/proc/self/status`, in bytes. In pages it would be in `statm`, but their size is not 4 KiB everywhere.
fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// When the machine was booted, in seconds since 1970, from `/proc/stat`.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_after_the_name() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 12345 1 2";
        let expected = Stat {
            cpu: 2.0,
            start: 123.45,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        for text in [
            "",
            "42 (a",
            "42 (a) S 1 2 3",
            "42 (a) S 1 1 1 1 1 1 1 1 1 1 x 1 1 1 1 1 1 1 1",
        ] {
            assert_eq!(Stat::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn memory_and_boot_time_are_found_among_the_lines() {
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t    2048 kB\nVmData: 1 kB\n"),
            Some(2_097_152.0)
        );
        assert_eq!(resident("Name:\tx\n"), None);
        assert_eq!(
            boot_time("cpu 1 2\nbtime 1700000000\nprocesses 1\n"),
            Some(1_700_000_000.0)
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_began_a_while_ago() {
        let collector = ProcessCollector::new("process").unwrap();
        let families = collector.collect();
        let names: Vec<_> = families.iter().map(MetricFamily::name).collect();
        assert_eq!(
            names,
            [
                "process_cpu_seconds_total",
                "process_resident_memory_bytes",
                "process_open_fds",
                "process_start_time_seconds"
            ]
        );
        assert!(collector.memory.get() > 100_000.0);
        assert!(collector.descriptors.get() >= 3.0);
        assert!(collector.start.get() > 1_000_000_000.0);
        let before = collector.cpu.get();
        collector.collect();
        assert!(collector.cpu.get() >= before);
    }
}
