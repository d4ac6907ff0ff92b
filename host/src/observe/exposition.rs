//! Facts as JSON, and in Prometheus's text format ("Exposition formats"). Pure.

use std::fmt::{Display, Write as _};

use serde_json::{Value, json};

use super::fault;
use super::{Facts, State};

/// Nobody reads more of an error.
const ERROR_CHARACTERS_MAX: usize = 1000;

const STATES: [&str; 5] = ["starting", "standby", "leading", "waiting", "stopping"];

impl Facts {
    /// One line.
    #[must_use]
    pub fn json(&self) -> String {
        let mut object = serde_json::Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                object.insert(name.to_owned(), value);
            }
        };
        put("role", json!(self.role));
        put("set", json!(self.set));
        put("state", json!(self.state().name()));
        put("phase", json!(self.phase));
        if let State::Waiting(code, error) = self.state() {
            put("code", json!(code.to_string()));
            put("for", json!(shortened(error)));
        }
        put("since_seconds", json!(self.since.elapsed().as_secs()));
        put("attempts", json!(self.attempts));
        put("ticker", json!(self.ticker.as_deref().map(shortened)));
        put("batches", json!(self.batches));
        put("tick", json!(self.last.map(|last| last.tick)));
        put("lag_seconds", json!(self.last.map(|last| last.lag_seconds)));
        put("queue", json!(self.queue));
        format!("{}\n", Value::Object(object))
    }

    #[must_use]
    pub fn metrics(&self) -> String {
        let mut text = Text { text: String::new(), labels: format!("role=\"{}\",set=\"{}\"", self.role, escape(&self.set)) };
        text.family("state", "gauge", "1 for the state that the process is in.");
        for state in STATES {
            text.labelled("state", "state", state, u8::from(state == self.state().name()));
        }
        text.metric("state_seconds", "gauge", "How long it is in that state.", self.since.elapsed().as_secs_f64());
        text.metric("failed_attempts", "gauge", "Failed attempts since something became durable.", self.attempts);
        text.metric("failed_attempts_total", "counter", "Failed attempts that were repeated.", self.failures);
        text.family("errors_total", "counter", "Errors after which an attempt was repeated, by their code.");
        for (code, count) in &self.errors {
            text.labelled("errors_total", "code", &code.to_string(), count);
        }
        text.metric("batches_total", "counter", "Batches that were relayed, or replicated.", self.batches);
        text.metric("mutations_total", "counter", "Mutations of batches that were relayed, or committed in the target.", self.mutations);
        if self.role == "relay" {
            text.metric("bytes_total", "counter", "Bytes of the messages of batches that were relayed.", self.bytes);
            if let Some(epoch) = self.epoch {
                text.metric("epoch", "gauge", "The epoch that the relay publishes under.", epoch);
            }
        } else {
            text.metric("rows_total", "counter", "Rows that were loaded into the target.", self.rows);
            text.metric("commits_total", "counter", "Commits of the target.", self.commits);
            text.metric(
                "fenced_messages_total",
                "counter",
                "Messages of superseded relays that were passed over, each time that they were read.",
                self.fenced,
            );
            text.family("phase", "gauge", "1 for the phase that the worker is in.");
            for phase in ["bootstrap", "catching-up", "streaming"] {
                text.labelled("phase", "phase", phase, u8::from(self.phase == Some(phase)));
            }
        }
        if let Some(last) = self.last {
            text.metric("tick", "gauge", "The last tick of the last batch.", last.tick);
            let ready = last.ready_us as f64 / 1_000_000.0;
            text.metric("tick_timestamp_seconds", "gauge", "When that tick was made; one comes at least once a minute.", ready);
            text.metric("lag_seconds", "gauge", "How old the last batch was when it was done.", last.lag_seconds);
        }
        if let Some(queue) = &self.queue {
            text.metric("queue_bytes", "gauge", "What the queue's tables take on disk.", queue.bytes);
            text.metric(
                "tables_uncaptured",
                "gauge",
                "How many of the set's tables have triggers that are not as they have to be, or none.",
                fault::tables(&queue.faults).len(),
            );
            text.family("queue_unread_events", "gauge", "About how many events the consumer has not read.");
            for consumer in &queue.consumers {
                text.labelled("queue_unread_events", "consumer", &consumer.name, consumer.unread_events);
            }
            text.family("queue_lag_seconds", "gauge", "How old the oldest event is that the consumer has not read.");
            for consumer in &queue.consumers {
                text.labelled("queue_lag_seconds", "consumer", &consumer.name, consumer.lag_seconds);
            }
        }
        text.text
    }
}

struct Text {
    text: String,
    /// Of every sample.
    labels: String,
}

impl Text {
    // Writing to a string does not fail.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP pgshovel_{name} {help}\n# TYPE pgshovel_{name} {kind}");
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.text, "pgshovel_{name}{{{}}} {value}", self.labels);
    }

    fn labelled(&mut self, name: &str, label: &str, of: &str, value: impl Display) {
        let _ = writeln!(self.text, "pgshovel_{name}{{{},{label}=\"{}\"}} {value}", self.labels, escape(of));
    }
}

/// A label's value.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn shortened(error: &str) -> String {
    error.chars().take(ERROR_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::super::backlog::{Backlog, Consumer};
    use super::super::{Last, Status};
    use super::*;
    use crate::error::{Code, Error};

    #[tokio::test(start_paused = true)]
    async fn a_wait_says_for_what() {
        let status = Status::new("relay", "app");
        status.wait_for(&Error::retry(Code::RegistryAway, "zookeeper at \"a:1\":\nconnection refused"));
        let json = status.facts().json();
        assert_eq!(
            json,
            "{\"role\":\"relay\",\"set\":\"app\",\"state\":\"waiting\",\"code\":\"PS201\",\"for\":\"zookeeper at \\\"a:1\\\":\\nconnection refused\",\"since_seconds\":0,\"attempts\":1,\"batches\":0}\n"
        );
        status.wait_for(&Error::retry(Code::RegistryAway, "x".repeat(5000)));
        assert!(status.facts().json().len() < 1200);
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_are_in_prometheus_text() {
        let status = Status::new("relay", "app");
        status.wait_for(&Error::retry(Code::StreamAway, "away"));
        status.enter(State::Leading);
        status.update(|facts| {
            (facts.batches, facts.mutations, facts.bytes) = (3, 40, 500);
            facts.last = Some(Last { tick: 7, ready_us: 1_500_000, lag_seconds: 0.25 });
            let consumer = Consumer { name: "a\"\\\nb".to_owned(), unread_events: 9, lag_seconds: 1.5, relay: None };
            facts.queue =
                Some(Backlog { bytes: 8192, consumers: vec![consumer], faults: vec![fault::Fault::read("public.a", "t", "disabled")] });
        });
        let text = status.facts().metrics();
        for line in [
            "# TYPE pgshovel_batches_total counter",
            "pgshovel_errors_total{role=\"relay\",set=\"app\",code=\"PS401\"} 1",
            "pgshovel_batches_total{role=\"relay\",set=\"app\"} 3",
            "pgshovel_bytes_total{role=\"relay\",set=\"app\"} 500",
            "pgshovel_state{role=\"relay\",set=\"app\",state=\"leading\"} 1",
            "pgshovel_state{role=\"relay\",set=\"app\",state=\"waiting\"} 0",
            "pgshovel_tick_timestamp_seconds{role=\"relay\",set=\"app\"} 1.5",
            "pgshovel_queue_bytes{role=\"relay\",set=\"app\"} 8192",
            "pgshovel_tables_uncaptured{role=\"relay\",set=\"app\"} 1",
            "pgshovel_queue_unread_events{role=\"relay\",set=\"app\",consumer=\"a\\\"\\\\\\nb\"} 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("pgshovel_rows_total"));
    }
}
