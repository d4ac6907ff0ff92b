//! What a queue holds, whether it is too much, and what does not come into it. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::fault::Fault;

/// A queue as it is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Backlog {
    /// Of its tables on disk, with their indexes, read events that are still there too.
    pub bytes: u64,
    pub consumers: Vec<Consumer>,
    /// What is wrong with the set's triggers.
    pub faults: Vec<Fault>,
}

/// Who reads the queue, and what it has before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Consumer {
    pub name: String,
    /// About: events that were rolled back count too.
    pub unread_events: u64,
    /// How old the oldest unread event is; 0 if there is none.
    pub lag_seconds: f64,
    /// The session of the relay that reads, as the server calls it.
    pub relay: Option<String>,
}

/// What an operator calls too much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub bytes_max: Option<u64>,
    pub lag_max: Option<Duration>,
}

impl Backlog {
    /// Of the consumer that has most before it.
    #[must_use]
    pub fn unread_events(&self) -> u64 {
        self.consumers.iter().map(|consumer| consumer.unread_events).max().unwrap_or(0)
    }

    /// Of the consumer that is furthest behind.
    #[must_use]
    pub fn lag_seconds(&self) -> f64 {
        self.slowest().map_or(0.0, |consumer| consumer.lag_seconds)
    }

    fn slowest(&self) -> Option<&Consumer> {
        let behind = |consumer: &Consumer| (consumer.lag_seconds, consumer.unread_events);
        self.consumers.iter().max_by(|one, other| behind(one).partial_cmp(&behind(other)).unwrap_or(std::cmp::Ordering::Equal))
    }

    /// What is too much, whom it waits for, and what to do.
    #[must_use]
    pub fn excess(&self, queue: &str, bounds: Bounds) -> Option<String> {
        let mut text = format!("queue {queue:?}");
        let mut join = " ";
        if let Some(bytes_max) = bounds.bytes_max.filter(|bytes_max| self.bytes > *bytes_max) {
            let _ = write!(text, "{join}takes {} of disk, more than {}", size(self.bytes), size(bytes_max));
            join = " and ";
        }
        if let Some(lag_max) = bounds.lag_max.filter(|lag_max| self.lag_seconds() > lag_max.as_secs_f64()) {
            let _ = write!(text, "{join}is {:.0} s behind, more than {} s", self.lag_seconds(), lag_max.as_secs());
            join = " and ";
        }
        (join != " ").then(|| format!("{text}: {}", self.remedy(queue)))
    }

    fn remedy(&self, queue: &str) -> String {
        let Some(Consumer { name, unread_events, lag_seconds, relay }) = self.slowest() else {
            return "it has no consumer, so its events are lost with the next rotation: drop the set and create it again".to_owned();
        };
        if *unread_events == 0 {
            return "nothing in it is unread, and its space is freed as its tables are rotated: see that a relay runs and may do that (its log says so), and that no transaction stays open, in pg_stat_activity and pg_prepared_xacts".to_owned();
        }
        let behind = format!("consumer {name:?} has about {unread_events} unread events, the oldest {lag_seconds:.0} s old");
        match relay {
            Some(relay) => format!("{behind}, and its relay ({relay}) does not keep up or is held up: see its log"),
            None => format!(
                "{behind}, and no relay reads them: start one with `pgshovel relay --consumer-id {name}`, or give them up, by SELECT pgq.unregister_consumer('{queue}', '{name}') if others read the set, by `set drop` if not"
            ),
        }
    }
}

/// For people.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} {unit_name}") } else { format!("{value:.1} {unit_name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(name: &str, unread_events: u64, lag_seconds: f64) -> Consumer {
        Consumer { name: name.to_owned(), unread_events, lag_seconds, relay: None }
    }

    #[test]
    fn too_much_is_said_with_the_slowest_consumer() {
        let mut backlog =
            Backlog { bytes: 3 << 30, consumers: vec![consumer("default", 5, 2.0), consumer("other", 7, 3600.0)], faults: Vec::new() };
        let bounds = |bytes_max, lag_max| Bounds { bytes_max, lag_max };
        assert_eq!(backlog.excess("q", Bounds::default()), None);
        assert_eq!(backlog.excess("q", bounds(Some(3 << 30), Some(Duration::from_secs(3600)))), None);
        let text = backlog.excess("q", bounds(Some(1 << 30), Some(Duration::from_secs(60)))).unwrap();
        assert!(text.starts_with("queue \"q\" takes 3.0 GiB of disk, more than 1.0 GiB and is 3600 s behind, more than 60 s: "), "{text}");
        assert!(
            text.contains("consumer \"other\" has about 7 unread events") && text.contains("unregister_consumer('q', 'other')"),
            "{text}"
        );
        backlog.consumers[1].relay = Some("pgshovel relay 7 s".to_owned());
        let text = backlog.excess("q", bounds(None, Some(Duration::from_secs(60)))).unwrap();
        assert!(text.starts_with("queue \"q\" is 3600 s behind") && text.contains("(pgshovel relay 7 s)"), "{text}");
        backlog.consumers = vec![consumer("default", 0, 0.0)];
        assert!(backlog.excess("q", bounds(Some(1), None)).unwrap().contains("nothing in it is unread"));
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([0, 1023, 1024, 1536, 10 << 30].map(size), ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "10.0 GiB"]);
    }
}
