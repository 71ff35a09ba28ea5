//! Counts and what was seen, as a monitoring system reads them.
//!
//! A family is here once, with its name, its help and its values. Whoever adds one adds it to the table in
//! docs/OPERATIONS.md too: a test compares them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet, prometheus_text, text,
    },
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{
    Metrics, Seen,
    counted::{By, Connections},
    histogram::Histogram,
    labels::{Door, Label},
    seen::{Disk, GateScope},
};

/// The form of an exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

impl Format {
    /// The format that who asks prefers, by its `Accept` (RFC 9110, 12.5.1): OpenMetrics only where it is named.
    #[must_use]
    pub fn wanted(accept: &str) -> Self {
        let weight_of = |kind: &str| {
            let ranges = accept.split(',').map(|range| range.split(';').map(str::trim));
            let weights =
                ranges.filter_map(|mut parts| (parts.next()?.eq_ignore_ascii_case(kind)).then(|| weight(parts)));
            weights.fold(0.0, f32::max)
        };
        match weight_of("application/openmetrics-text") {
            open if open > 0.0 && open >= weight_of("text/plain") => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }
}

fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> f32 {
    let given = parameters.find_map(|one| one.strip_prefix("q=").or_else(|| one.strip_prefix("Q=")));
    given.map_or(1.0, |text| text.parse().unwrap_or(0.0))
}

/// All that is counted and was seen.
///
/// # Errors
/// None that could be: it is written into memory.
pub fn exposition(metrics: &Arc<Metrics>, seen: Seen, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(All { metrics: Arc::clone(metrics), seen }));
    let mut told = String::new();
    match format {
        Format::OpenMetrics => text::encode(&mut told, &registry)?,
        Format::Text => prometheus_text::encode(&mut told, &registry)?,
    }
    Ok(told)
}

#[derive(Debug)]
struct All {
    metrics: Arc<Metrics>,
    seen: Seen,
}

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(&mut encoder);
        self.counted(&mut families)?;
        self.connections(&mut families)?;
        self.times(&mut families)?;
        self.server(&mut families)?;
        self.queue(&mut families)?;
        gate(&self.seen.gate, &mut families)?;
        self.seen.disk.map_or(Ok(()), |disk| room(&disk, &mut families))
    }
}

impl All {
    fn counted(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let Metrics { accepted, refused, cut, received_bytes, login_failures, .. } = &*self.metrics;
        let mut family = families.counter("forebay_uploads_accepted", "Uploads that were accepted.", None)?;
        for (door, count) in of_doors(accepted, read) {
            family.count([("door", door)], count)?;
        }
        let mut family = families.counter("forebay_uploads_refused", "Uploads that were refused.", None)?;
        for (door, kind, count) in of_doors_and(refused) {
            family.count([("door", door), ("kind", kind)], count)?;
        }
        let help = "Uploads that did not arrive whole, or are not what their sender declared.";
        let mut family = families.counter("forebay_uploads_cut", help, None)?;
        for (door, count) in of_doors(cut, read) {
            family.count([("door", door)], count)?;
        }
        let help = "Bytes of uploads that have come, whatever became of them.";
        let mut family = families.counter("forebay_received", help, Some(&Unit::Bytes))?;
        for (door, count) in of_doors(received_bytes, read) {
            family.count([("door", door)], count)?;
        }
        let mut family = families.counter("forebay_login_failures", "Logins that failed.", None)?;
        for (door, reason, count) in of_doors_and(login_failures) {
            family.count([("door", door), ("reason", reason)], count)?;
        }
        Ok(())
    }

    fn connections(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let all = &self.metrics.connections;
        let mut family = families.gauge("forebay_connections", "Connections that are open.", None)?;
        for (door, open) in of_doors(all, |of: &Connections| read(&of.open)) {
            family.value([("door", door)], &open)?;
        }
        let help = "Connections that were admitted.";
        let mut family = families.counter("forebay_connections_admitted", help, None)?;
        for (door, count) in of_doors(all, |of: &Connections| read(&of.admitted)) {
            family.count([("door", door)], count)?;
        }
        let help = "Connections that were turned away for want of a place.";
        let mut family = families.counter("forebay_connections_refused", help, None)?;
        for (door, count) in of_doors(all, |of: &Connections| read(&of.refused)) {
            family.count([("door", door)], count)?;
        }
        Ok(())
    }

    fn times(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let help = "Time from the last byte of an accepted upload until it was durable with its record.";
        let mut family = families.histogram("forebay_commit", help)?;
        for (content, times) in self.metrics.commits.iter() {
            family.times([("content", content.text())], times)?;
        }
        let help = "Time of single syncs of the disk.";
        let mut family = families.histogram("forebay_sync", help)?;
        for (volume, all) in self.metrics.syncs.iter() {
            for (what, times) in all.iter() {
                family.times([("volume", volume.text()), ("what", what.text())], times)?;
            }
        }
        Ok(())
    }

    fn server(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let Seen { version, started_at, is_ready, lost_log_lines, schedule_is_broken, look_age, .. } = &self.seen;
        let mut family = families.0.encode_descriptor("forebay_build", "The program.", None, MetricType::Info)?;
        family.encode_info(&[("version", *version)])?;
        let help = "When the server was started, since 1970.";
        families.gauge("forebay_start_time", help, Some(&Unit::Seconds))?.alone(started_at)?;
        let help = "Whether files can be taken in, as /readyz says: 1 or 0.";
        families.gauge("forebay_ready", help, None)?.alone(&u64::from(*is_ready))?;
        let help = "Lines of the log that could not be written.";
        families.counter("forebay_log_lines_lost", help, None)?.alone_count(*lost_log_lines)?;
        if let Some(is_broken) = schedule_is_broken {
            let help = "Whether the file of the schedule was refused, so that an earlier one is in force: 1 or 0.";
            families.gauge("forebay_schedule_broken", help, None)?.alone(&u64::from(*is_broken))?;
        }
        if let Some(age) = look_age {
            let help = "Age of what is asked of disk and index: above some seconds one of them does not answer.";
            families.gauge("forebay_look_age", help, Some(&Unit::Seconds))?.alone(&age.as_secs_f64())?;
        }
        Ok(())
    }

    fn queue(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let queue = &self.seen.queue;
        let mut family = families.gauge("forebay_files", "Files in each state.", None)?;
        for one in &queue.states {
            family.value([("state", one.state)], &one.files)?;
        }
        let help = "Bytes of the files in each state.";
        let mut family = families.gauge("forebay_files", help, Some(&Unit::Bytes))?;
        for one in &queue.states {
            family.value([("state", one.state)], &one.bytes)?;
        }
        if let Some(age) = queue.oldest_waiting {
            let help = "For how long the oldest file has waited that is ready, or is to be tried again; 0: none waits.";
            families.gauge("forebay_oldest_waiting", help, Some(&Unit::Seconds))?.alone(&age.as_secs_f64())?;
        }
        if let Some(responds) = queue.responds {
            let help = "Whether the queue has answered the latest question for its figures: 1 or 0.";
            families.gauge("forebay_queue_responds", help, None)?.alone(&u64::from(responds))?;
        }
        Ok(())
    }
}

fn gate(scopes: &[GateScope], families: &mut Families<'_, '_>) -> fmt::Result {
    let help = "Whether the gate is open for a route, or for web: 1 or 0.";
    let mut family = families.gauge("forebay_gate_open", help, None)?;
    for one in scopes {
        family.value([("scope", one.scope.as_str())], &u64::from(one.is_open))?;
    }
    let mut family =
        families.gauge("forebay_gate_closed", "Whether the gate is closed for this cause: 1 or 0.", None)?;
    for one in scopes {
        for (cause, closes) in &one.causes {
            family.value([("scope", one.scope.as_str()), ("cause", *cause)], &u64::from(*closes))?;
        }
    }
    let help = "Time until the gate opens or closes next, if nobody acts; none where that is not known.";
    let mut family = families.gauge("forebay_gate_next_change", help, Some(&Unit::Seconds))?;
    for one in scopes {
        if let Some(time) = one.next_change {
            family.value([("scope", one.scope.as_str())], &time.as_secs_f64())?;
        }
    }
    Ok(())
}

fn room(disk: &Disk, families: &mut Families<'_, '_>) -> fmt::Result {
    let bytes = Some(&Unit::Bytes);
    families
        .gauge("forebay_disk_free", "Free room on the disk of the data directory.", bytes)?
        .alone(&disk.free_bytes)?;
    families.gauge("forebay_disk_size", "Size of that disk.", bytes)?.alone(&disk.total_bytes)?;
    let help = "Room that uploads leave free: at this they are refused.";
    families.gauge("forebay_disk_reserve", help, bytes)?.alone(&disk.reserve_bytes)?;
    if let (Some(free), Some(reserve)) = (disk.free_inodes, disk.reserve_inodes) {
        families.gauge("forebay_disk_free_inodes", "Inodes that are free on it.", None)?.alone(&free)?;
        let help = "Inodes that uploads leave free: at this they are refused.";
        families.gauge("forebay_disk_reserve_inodes", help, None)?.alone(&reserve)?;
    }
    Ok(())
}

/// The values of each door; `other` only when there is something to tell of it.
fn of_doors<T>(all: &By<Door, T>, value: impl Fn(&T) -> u64) -> impl Iterator<Item = (&'static str, u64)> {
    let each = all.iter().map(move |(door, of)| (door, value(of)));
    each.filter(|(door, count)| *door != Door::Other || *count > 0).map(|(door, count)| (door.text(), count))
}

fn of_doors_and<L: Label>(all: &By<Door, By<L, AtomicU64>>) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
    let each = all.iter().flat_map(|(door, of)| of.iter().map(move |(label, count)| (door, label, read(count))));
    let told = each.filter(|(door, _, count)| *door != Door::Other || *count > 0);
    told.map(|(door, label, count)| (door.text(), label.text(), count))
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Begins families.
struct Families<'a, 'b>(&'a mut DescriptorEncoder<'b>);

/// A family that was begun.
struct Family<'a>(MetricEncoder<'a>);

impl Families<'_, '_> {
    /// A counter. Its name is without `_total`, which is put behind it.
    fn counter<'s>(&'s mut self, name: &'s str, help: &str, unit: Option<&'s Unit>) -> Result<Family<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, MetricType::Counter).map(Family)
    }

    fn gauge<'s>(&'s mut self, name: &'s str, help: &str, unit: Option<&'s Unit>) -> Result<Family<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge).map(Family)
    }

    fn histogram<'s>(&'s mut self, name: &'s str, help: &str) -> Result<Family<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram).map(Family)
    }
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl Family<'_> {
    fn count<const N: usize>(&mut self, labels: Labels<'_, N>, count: u64) -> fmt::Result {
        counted(&mut self.0.encode_family(&labels)?, &count)
    }

    fn value<const N: usize>(&mut self, labels: Labels<'_, N>, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_family(&labels)?.encode_gauge(value)
    }

    fn times<const N: usize>(&mut self, labels: Labels<'_, N>, histogram: &Histogram) -> fmt::Result {
        let times = histogram.times();
        self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            times.sum_seconds,
            times.count,
            &times.buckets,
            None,
        )
    }

    /// The only value of a family without labels.
    fn alone(&mut self, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_gauge(value)
    }

    fn alone_count(&mut self, count: u64) -> fmt::Result {
        counted(&mut self.0, &count)
    }
}

fn counted(encoder: &mut MetricEncoder<'_>, count: &impl EncodeCounterValue) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, f64>(count, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_name_it() {
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain", Format::Text),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.3", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=x", Format::Text),
        ] {
            assert_eq!(Format::wanted(accept), format, "{accept}");
        }
    }

    #[test]
    fn names_of_scopes_cannot_leave_their_label() {
        let scope = "a\"} 1\nforged{b=\"\\".to_owned();
        let gate = vec![GateScope { scope, is_open: true, causes: Vec::new(), next_change: None }];
        let told = exposition(&Arc::default(), Seen { gate, ..Seen::default() }, Format::Text).unwrap();
        assert!(told.contains("forebay_gate_open{scope=\"a\\\"} 1\\nforged{b=\\\"\\\\\"} 1\n"), "{told}");
        assert!(!told.lines().any(|line| line.starts_with("forged")));
    }
}
