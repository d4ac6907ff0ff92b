//! What librdkafka says beside its answers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What librdkafka says beside its answers: logged, and the last error kept to
/// explain a time-out.
#[derive(Default)]
pub(super) struct Reports {
    last: Mutex<Option<String>>,
    /// The last error of TLS or SASL: no server is away then.
    denied: Mutex<Option<String>>,
}

impl Reports {
    pub(super) fn note(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(target: "pgshovel::kafka", "{reason}");
        // What a server says of our certificate comes after the handshake, as if the connection broke.
        let alert = reason.contains("SSL alert");
        if alert || matches!(error.rdkafka_error_code(), Some(Code::SSL | Code::Authentication)) {
            *locked(&self.denied) = Some(reason.to_owned());
        }
        *locked(&self.last) = Some(reason.to_owned());
    }

    pub(super) fn last(&self) -> String {
        locked(&self.last).clone().unwrap_or_else(|| "no answer in time".to_owned())
    }

    pub(super) fn denied(&self) -> Option<String> {
        locked(&self.denied).clone()
    }
}

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "pgshovel::kafka", "{facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }
}

impl ConsumerContext for Reports {}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is valid at every moment, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
