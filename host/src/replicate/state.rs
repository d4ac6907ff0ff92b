//! The state that a target keeps: to bytes, from bytes, and whose it is.

use prost::Message as _;
use proto::interfaces::common::Source;
use proto::interfaces::replication::{BootstrapState, State};

use crate::error::{Code, Error, Result};
use crate::ports::opening::Origin;

/// The bytes that a target stores.
#[must_use]
pub fn encode(state: &State) -> Vec<u8> {
    state.encode_to_vec()
}

/// Reads what a target stored. `Stop` if it is no state.
pub fn decode(bytes: &[u8]) -> Result<State> {
    proto::stored::decode(bytes).map_err(|error| {
        Error::stop(
            Code::StateUnreadable,
            format!("the state that the target holds is not readable: {error}; replicate with --bootstrap to load the target anew"),
        )
    })
}

/// The state of a target that holds a loader's rows, of this version, and nothing else.
#[must_use]
pub fn bootstrapped(origin: Origin, version: u64) -> State {
    let Origin { source, snapshot, opened_us: _ } = origin;
    let bootstrap_state = Some(BootstrapState { node: source.node.clone(), snapshot });
    State { bootstrap_state, stream_state: None, source: Some(source), version: Some(version) }
}

/// The state of a target that the operator gave to the set with all that it holds:
/// its rows may be replaced, and have to be.
#[must_use]
pub fn claim(source: &Source) -> State {
    State { bootstrap_state: None, stream_state: None, source: Some(source.clone()), version: None }
}

/// Whether a bootstrap is still to come.
#[must_use]
pub fn is_claim(state: &State) -> bool {
    state.bootstrap_state.is_none() && state.stream_state.is_none() && state.source.is_some()
}

/// `Stop` if the state is of another cluster or set. A state of pgshovel 2015
/// does not say whose it is.
pub fn check_owner(state: &State, cluster: &str, set: &str) -> Result<()> {
    match &state.source {
        Some(Source { cluster: owner, set: owned, .. }) if (owner.as_str(), owned.as_str()) != (cluster, set) => Err(Error::stop(
            Code::TargetTaken,
            format!(
                "the target holds the set {owned:?} of the cluster {owner:?}, and this worker replicates {set:?} of {cluster:?}; \
             give it a target of its own, or replicate with --bootstrap to replace what the target holds"
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proto::interfaces::common::Snapshot;

    use super::*;

    fn state() -> State {
        let source = Source { cluster: "c".into(), set: "s".into(), node: vec![1; 16], system_identifier: 7, timeline: 1, database_oid: 5 };
        bootstrapped(Origin { source, snapshot: Snapshot { min: 1, max: 3, active: vec![1] }, opened_us: 7 }, 8)
    }

    #[test]
    fn a_state_survives_its_bytes() {
        assert_eq!(decode(&encode(&state())).unwrap(), state());
        let error = decode(b"\xff\xff").unwrap_err();
        assert!(error.message.contains("--bootstrap"), "{error}");
    }

    #[test]
    fn a_state_of_another_set_or_cluster_is_refused() {
        check_owner(&state(), "c", "s").unwrap();
        for (cluster, set) in [("d", "s"), ("c", "t")] {
            let error = check_owner(&state(), cluster, set).unwrap_err();
            assert!(error.message.contains("\"s\" of the cluster \"c\""), "{error}");
        }
    }
}
