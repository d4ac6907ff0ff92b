//! Leadership: one relay and one worker per set, any number of standbys.
//!
//! Candidates stand in line as ephemeral sequential nodes; the first one leads.
//! Each watches only the one before it, so that the end of one leader wakes one
//! standby. The epoch is the transaction id of ZooKeeper that created the
//! leader's node: 64 bits that grow in the order of the line.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zookeeper::{CreateMode, EventType, SessionState};
use zookeeper_client as zookeeper;

use super::answer::broken;
use super::cluster::Cluster;
use super::ensemble::Ensemble;
use super::watch::Watch;
use crate::error::{Code, Error, Result};
use crate::names;
use crate::ports::registry::{self as ports, Report, Role, StoredSet};

/// How long ZooKeeper may take to say who leads.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Leadership of one role of one set, until it is released, dropped or lost.
#[derive(Debug)]
pub struct Lease {
    place: Place,
    epoch: u64,
    held: watch::Receiver<bool>,
    guard: JoinHandle<()>,
}

impl ports::Registry for Ensemble {
    type Session = Cluster;

    async fn connect(&self, cluster: &str) -> Result<Cluster> {
        let cluster = Self::connect(self, cluster).await?;
        cluster.configuration().await?;
        Ok(cluster)
    }
}

impl ports::Session for Cluster {
    type Lease = Lease;
    type Watch = Watch;

    async fn set(&self, name: &str) -> Result<StoredSet> {
        Self::set(self, name).await
    }

    async fn find_set(&self, name: &str) -> Result<Option<StoredSet>> {
        Self::find_set(self, name).await
    }

    async fn tell_if_open(&self) -> Result<()> {
        Self::tell_if_open(self).await
    }

    fn watch(&self, set: StoredSet) -> Watch {
        Watch::new(self.clone(), set)
    }

    async fn acquire(&self, set: &str, role: Role, standing_by: impl FnOnce() + Send) -> Result<Lease> {
        names::check_set(set)?;
        let leaders = self.leaders_path(set);
        self.ensure(&leaders).await?;
        let place = Place::take(self, &leaders, role).await?;
        let epoch = place.wait_for_turn(standing_by).await?;
        let (sender, held) = watch::channel(true);
        let guard = tokio::spawn(guard(place.cluster.client.clone(), place.path.clone(), sender));
        tracing::info!(set, %role, epoch, session_timeout_seconds = self.client.session_timeout().as_secs_f64(), "leading");
        Ok(Lease { place, epoch, held, guard })
    }
}

impl Cluster {
    /// What the leader of `role` of `set` shows of itself: `None` if nobody leads, and a leader
    /// without a report if it shows nothing that this program understands.
    pub async fn leader(&self, set: &str, role: Role) -> Result<Option<Leader>> {
        let leaders = self.leaders_path(set);
        let Some(first) = line(self.children(&leaders).await?.unwrap_or_default(), &prefix(role)).into_iter().next() else {
            return Ok(None);
        };
        let found = self.read(&format!("{leaders}/{first}")).await?;
        Ok(found.map(|(data, _)| Leader { report: reported(&data) }))
    }
}

/// Whoever leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub report: Option<Report>,
}

impl ports::Lease for Lease {
    /// The transaction id of ZooKeeper that created the node of this leader. What relays publish
    /// under is kept where the queue is.
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    async fn lost(&self) {
        let mut held = self.held.clone();
        // A sender that is gone is a guard that ended: nobody watches any more.
        let _ = held.wait_for(|held| !held).await;
    }

    async fn is_confirmed(&self) -> bool {
        let Place { cluster, leaders, path, .. } = &self.place;
        let client = &cluster.client;
        let asked = async {
            client.sync(leaders).await?;
            client.check_stat(path).await
        };
        self.is_held() && matches!(timeout(ANSWER_TIMEOUT, asked).await, Ok(Ok(Some(_))))
    }

    async fn report(&self, report: &Report) -> Result<()> {
        let Place { cluster, path, token, .. } = &self.place;
        let json = serde_json::to_string(report).map_err(|error| Error::bug(error.to_string()))?;
        let data = format!("{token}\n{json}");
        match timeout(ANSWER_TIMEOUT, cluster.client.set_data(path, data.as_bytes(), None)).await {
            Ok(set) => set.map(drop).map_err(|error| cluster.explain(path, &error)),
            Err(_) => Err(Error::retry(Code::RegistryAway, "ZooKeeper has not answered in time")),
        }
    }

    async fn release(mut self) -> Result<()> {
        self.guard.abort();
        self.place.leave().await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.guard.abort();
    }
}

/// Watches over a lease and says when it is gone.
async fn guard(client: zookeeper::Client, path: String, held: watch::Sender<bool>) {
    let mut states = client.state_watcher();
    let mut state = client.state();
    loop {
        let node = async {
            match client.check_and_watch_stat(&path).await {
                Ok((Some(_), event)) => match event.changed().await.event_type {
                    EventType::NodeDeleted => {}
                    // The session's state says the rest.
                    EventType::Session => std::future::pending().await,
                    _ => return false,
                },
                Ok((None, _)) => {}
                Err(_) => std::future::pending().await,
            }
            true
        };
        let gone = match state {
            SessionState::SyncConnected => tokio::select! {
                gone = node => gone,
                next = states.changed() => { state = next; false }
            },
            // A broken connection is noticed after at most two fifths of the
            // session's time, so half of it more still ends before the session does.
            SessionState::Disconnected | SessionState::ConnectedReadOnly => {
                match timeout(client.session_timeout() / 2, reconnected(&mut states)).await {
                    Ok(next) => {
                        state = next;
                        false
                    }
                    Err(_) => true,
                }
            }
            SessionState::AuthFailed | SessionState::Expired | SessionState::Closed => true,
        };
        if gone {
            tracing::warn!("leadership is lost: ZooKeeper was out of reach for too long, or the node of this leader was deleted");
            let _ = held.send(false);
            return;
        }
    }
}

async fn reconnected(states: &mut zookeeper::StateWatcher) -> SessionState {
    loop {
        match states.changed().await {
            SessionState::Disconnected | SessionState::ConnectedReadOnly => {}
            state => return state,
        }
    }
}

/// A place in line. Dropping it leaves the line.
#[derive(Debug)]
struct Place {
    cluster: Cluster,
    leaders: String,
    prefix: String,
    /// The process, and what tells its node from others of its own.
    token: String,
    /// Empty once the line was left.
    path: String,
}

impl Place {
    async fn take(cluster: &Cluster, leaders: &str, role: Role) -> Result<Self> {
        let prefix = prefix(role);
        let token = format!("{} {}", std::process::id(), uuid::Uuid::new_v4());
        let options = CreateMode::EphemeralSequential.with_acls(cluster.access.acls());
        let start = format!("{leaders}/{prefix}");
        loop {
            let path = match cluster.client.create(&start, token.as_bytes(), &options).await {
                Ok((_, sequence)) => Some(format!("{start}{sequence}")),
                // The reply was lost: the node may stand.
                Err(error) if broken(&error) => find(cluster, leaders, &prefix, token.as_bytes()).await?,
                Err(error) => return Err(cluster.explain(&start, &error)),
            };
            if let Some(path) = path {
                return Ok(Self { cluster: cluster.clone(), leaders: leaders.to_owned(), prefix, token, path });
            }
        }
    }

    async fn wait_for_turn(&self, standing_by: impl FnOnce()) -> Result<u64> {
        let mut standing_by = Some(standing_by);
        loop {
            let line = match self.cluster.client.list_children(&self.leaders).await {
                Ok(names) => line(names, &self.prefix),
                Err(error) if broken(&error) => continue,
                Err(error) => return Err(self.cluster.explain(&self.leaders, &error)),
            };
            let own = self.path.strip_prefix(&self.leaders).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
            let Some(index) = line.iter().position(|name| name == own) else {
                return Err(Error::retry(Code::LeadershipLost, "the place in line for leadership was lost with the session"));
            };
            let Some(before) = index.checked_sub(1).and_then(|index| line.get(index)) else {
                return self.epoch().await;
            };
            if let Some(standing_by) = standing_by.take() {
                tracing::info!(ahead = index, "standing by: another process leads");
                standing_by();
            }
            match self.cluster.client.check_and_watch_stat(&format!("{}/{before}", self.leaders)).await {
                Ok((Some(_), event)) => {
                    if event.changed().await.session_state.is_terminated() {
                        return Err(Error::retry(Code::LeadershipLost, "the session with ZooKeeper ended while waiting for leadership"));
                    }
                }
                Ok((None, _)) => {}
                Err(error) if broken(&error) => {}
                Err(error) => return Err(self.cluster.explain(&self.leaders, &error)),
            }
        }
    }

    async fn epoch(&self) -> Result<u64> {
        let stat = self.cluster.found(&self.path, self.cluster.client.check_stat(&self.path).await)?.flatten();
        let stat = stat.ok_or_else(|| Error::retry(Code::LeadershipLost, "the place in line for leadership was lost with the session"))?;
        u64::try_from(stat.czxid).map_err(|_| Error::bug(format!("ZooKeeper gave the transaction id {}", stat.czxid)))
    }

    async fn leave(&mut self) -> Result<()> {
        let path = std::mem::take(&mut self.path);
        match self.cluster.client.delete(&path, None).await {
            Ok(()) | Err(zookeeper::Error::NoNode) => Ok(()),
            Err(error) => Err(self.cluster.explain(&path, &error)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.path.is_empty() {
            // The request is sent by the call itself. Its answer changes nothing:
            // what it does not delete, the session's end does.
            drop(self.cluster.client.delete(&self.path, None));
        }
    }
}

/// What a leader wrote behind its token.
fn reported(data: &[u8]) -> Option<Report> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    serde_json::from_slice(data.get(end + 1..)?).ok()
}

/// How the names of a role's candidates begin.
fn prefix(role: Role) -> String {
    format!("{role}-")
}

/// The path of the candidate that wrote `token`.
async fn find(cluster: &Cluster, leaders: &str, prefix: &str, token: &[u8]) -> Result<Option<String>> {
    for name in line(cluster.children(leaders).await?.unwrap_or_default(), prefix) {
        let path = format!("{leaders}/{name}");
        if cluster.read(&path).await?.is_some_and(|(data, _)| data == token) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Candidates of one role, the leader first. ZooKeeper's numbers have 32 bits: after the last
/// comes the lowest, and those that stand in line together are near each other.
fn line(names: Vec<String>, prefix: &str) -> Vec<String> {
    let mut places: Vec<(i64, String)> =
        names.into_iter().filter_map(|name| Some((name.strip_prefix(prefix)?.parse().ok()?, name))).collect();
    if let Some((first, _)) = places.first() {
        let first = *first;
        places.sort_unstable_by_key(|(number, _)| number.wrapping_sub(first) as i32);
    }
    places.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever may write to ZooKeeper may have written it.
    #[test]
    fn a_report_is_read_as_it_was_written_or_not_at_all() {
        let data = |text: &str| [b"17 0a1b\n", text.as_bytes()].concat();
        let report = Report { state: ports::Condition::Blocked, since: 5, tick: Some(9) };
        assert_eq!(reported(&data(r#"{"state":"blocked","since":5,"tick":9}"#)), Some(report));
        for text in ["", "{}", r#"{"state":"\u001b[31m","since":5,"tick":9}"#, r#"{"state":"blocked","since":-5,"tick":9}"#] {
            assert_eq!(reported(&data(text)), None, "{text}");
        }
        assert_eq!(reported(b"17 0a1b"), None);
    }

    #[test]
    fn a_line_is_of_one_role_and_in_order() {
        let names = ["relay-0000000010", "worker-0000000001", "relay-0000000009", "relay-x"];
        assert_eq!(line(names.map(str::to_owned).to_vec(), "relay-"), ["relay-0000000009", "relay-0000000010"]);
    }

    /// Before, nobody led any more.
    #[test]
    fn a_line_goes_on_where_the_numbers_begin_again() {
        let expected = ["relay-2147483646", "relay-2147483647", "relay--2147483648", "relay--2147483647"];
        for rotation in 0..expected.len() {
            let mut names = expected.map(str::to_owned).to_vec();
            names.rotate_left(rotation);
            assert_eq!(line(names, "relay-"), expected);
        }
        let around_zero = ["relay-0000000001", "relay--000000001", "relay-0000000000"];
        let expected = ["relay--000000001", "relay-0000000000", "relay-0000000001"];
        assert_eq!(line(around_zero.map(str::to_owned).to_vec(), "relay-"), expected);
    }
}
