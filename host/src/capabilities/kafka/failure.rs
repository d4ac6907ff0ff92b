//! Why a call failed.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::brokers::Brokers;
use super::reports::Reports;

/// What to do when the stream does not hold what comes next.
pub(super) const LOST_REMEDY: &str = "replicate once with --bootstrap to load the target anew";

/// Why a call failed; the cases of `kafka.wit`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Refused(String),
    /// As `Refused`: what the grant says of TLS, SASL or a user will not do.
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Misuse(String),
}

pub(super) type Outcome<T> = std::result::Result<T, Failure>;

/// Whose fault an error of librdkafka is. What cannot be told is passing: the
/// retry shows it again.
pub(super) fn failure(code: Code, doing: &str, brokers: &Brokers, reports: &Reports) -> Failure {
    let last = reports.last();
    if let (true, Some(reason)) = (is_silence(code), reports.denied()) {
        return denied(&reason, doing, brokers);
    }
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Failure::Refused(format!("{doing}: the topic does not exist at {}", brokers.servers()))
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => Failure::Refused(format!(
            "{doing}: a message is larger than the broker takes: raise the topic's `max.message.bytes`, and for more than 100 MB also \
                 the broker's `socket.request.max.bytes` and `message.max.bytes` in the grant"
        )),
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => Failure::Refused(format!(
            "{doing}: messages were lost, the broker no longer has the offset that comes next: {last}; {LOST_REMEDY}"
        )),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::SecurityDisabled => Failure::Denied(format!(
            "{doing}: access is denied: {code}; let the user of the grant do it (kafka-acls.sh), or give another one"
        )),
        Code::InvalidTopic
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::InvalidMessage
        | Code::BadMessage
        | Code::BadCompression
        | Code::InvalidRecord
        | Code::PolicyViolation
        | Code::UnsupportedCompressionType
        | Code::UnsupportedFeature
        | Code::UnsupportedVersion => Failure::Refused(format!("{doing}: {code}")),
        Code::AllBrokersDown | Code::BrokerTransportFailure | Code::OperationTimedOut | Code::MessageTimedOut | Code::Resolve => {
            Failure::Unavailable(format!("{doing}: no broker of {} answers: {last}", brokers.servers()))
        }
        Code::QueueFull => Failure::Refused(format!(
            "{doing}: it is larger than the producer's queue: raise `queue.buffering.max.kbytes` in the grant, or leave it out"
        )),
        other => Failure::Unavailable(format!("{doing}: {other}: {last}")),
    }
}

/// The same for the errors that carry no code.
pub(super) fn client_failure(error: &KafkaError, doing: &str, brokers: &Brokers, reports: &Reports) -> Failure {
    match error {
        KafkaError::ClientCreation(reason) => creation_failure(reason, doing),
        KafkaError::AdminOp(code) => failure(*code, doing, brokers, reports),
        other => match other.rdkafka_error_code() {
            Some(code) => failure(code, doing, brokers, reports),
            None => Failure::Misuse(format!("{doing}: {other}")),
        },
    }
}

/// Nobody answered in time, which the client says of brokers that it does not get through to too.
const fn is_silence(code: Code) -> bool {
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::SSL
            | Code::Authentication
    )
}

/// What TLS or SASL is in the way, and what to do.
fn denied(reason: &str, doing: &str, brokers: &Brokers) -> Failure {
    let says = |word: &str| reason.contains(word);
    let remedy = if says("certificate verify failed") || says("certificate could not be verified") {
        "see that ssl.ca.location holds the CA that signed the broker's certificate, that the certificate has not expired, and that it is for the broker's name in bootstrap.servers"
    } else if says("SSL authentication might be required") || says("alert") {
        "the broker refuses the certificate of the grant, or asks for one: give ssl.certificate.location and ssl.key.location, of a CA that it trusts, and see that it has not expired"
    } else if says("supported mechanisms") || says("Unsupported SASL") {
        "set sasl.mechanism to one that the broker has enabled: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
    } else if says("SSL") {
        "see security.protocol, and that the port is one where the broker speaks TLS"
    } else {
        "see sasl.mechanism, sasl.username and sasl.password in the grant, and the broker's users"
    };
    Failure::Denied(format!("{doing}: the brokers {} are not reached: {reason}; {remedy}", brokers.servers()))
}

/// A client that could not be made: of its properties, unless it had no thread.
fn creation_failure(reason: &str, doing: &str) -> Failure {
    if reason.contains("thread") {
        return no_thread(doing, reason);
    }
    let remedy = if reason.contains("SASL mechanism") {
        "sasl.mechanism is one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER"
    } else {
        "see the property of the kafka grant that it names"
    };
    Failure::Denied(format!("{doing}: the kafka grant is not accepted: {reason}; {remedy}"))
}

pub(super) fn no_thread(doing: &str, reason: impl std::fmt::Display) -> Failure {
    Failure::Unavailable(format!("{doing}: cannot start a thread: {reason}; raise the limit of processes (ulimit -u, pids.max)"))
}
