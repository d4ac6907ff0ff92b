//! Which versions of the cluster's configuration this program works with.

use proto::interfaces::configurations::ClusterConfiguration;

use crate::error::{Code, Error, Result};

/// The version that this program writes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether this program can work in a cluster of `version`: the first number is
/// its own, and while that is 0 the second one too.
#[must_use]
pub fn speaks(version: &str) -> bool {
    let series = |version: &str| {
        let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(0)), Some(Ok(minor))) => Some((0, minor)),
            (Some(Ok(major)), _) if major > 0 => Some((major, 0)),
            _ => None,
        }
    };
    series(version).is_some() && series(version) == series(VERSION)
}

pub(super) fn check_spoken(name: &str, configuration: &ClusterConfiguration) -> Result<()> {
    if speaks(&configuration.version) {
        return Ok(());
    }
    Err(Error::configure(
        Code::VersionDiffers,
        format!(
            "the cluster {name:?} is of version {:?}, this is pgshovel {VERSION}; run the pgshovel of that version, or `cluster upgrade` with this one",
            configuration.version
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_same_series_are_spoken() {
        assert!(speaks(VERSION));
        assert!(speaks("0.1.99"));
        for other in ["0.2.0", "1.0.0", "", "x", "0"] {
            assert!(!speaks(other), "{other}");
        }
    }
}
