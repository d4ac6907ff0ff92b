//! What ZooKeeper's answers mean: those that were lost, and its errors.

use zookeeper_client as zookeeper;

use crate::error::{Code, Error};

/// How often a read is repeated whose connection broke.
const READS_MAX: u32 = 10;

/// How often a write is, whose reply was lost and which turned out not to be there.
pub(super) const WRITES_MAX: u32 = 10;

/// Asks again while the connection breaks, up to [`READS_MAX`] times in all.
pub(super) async fn again<T, F>(ask: impl Fn() -> F) -> std::result::Result<T, zookeeper::Error>
where
    F: Future<Output = std::result::Result<T, zookeeper::Error>>,
{
    for _ in 1..READS_MAX {
        match ask().await {
            Err(error) if broken(&error) => {}
            result => return result,
        }
    }
    ask().await
}

/// The connection broke, and the client makes another one: what was asked can be
/// asked again, and waits for it; what was written is there, or is not.
pub(super) const fn broken(error: &zookeeper::Error) -> bool {
    // The client passes on what the operating system said as it came.
    matches!(error, zookeeper::Error::ConnectionLoss | zookeeper::Error::Custom(_))
}

/// Names a ZooKeeper error by what to do next.
pub(super) fn explain(error: &zookeeper::Error) -> Error {
    use zookeeper::Error as Cause;
    match error {
        Cause::QuotaExceeded => Error::stop(Code::RegistryRefused, format!("refused: {error}")),
        Cause::BadArguments(_) | Cause::UnmarshalError { .. } | Cause::MarshallingError | Cause::Unimplemented => {
            Error::bug(error.to_string())
        }
        _ => Error::retry(Code::RegistryAway, error.to_string()),
    }
}
