//! A registry, as several processes see it over a bad network: sessions that end without their
//! process knowing it, answers that are lost, changes that are told late, and a registry that is
//! made anew and counts from the beginning.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::interfaces::configurations::{DatabaseConfiguration, ReplicationSetConfiguration};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::Instant;

use super::faults::{Faults, Leads};
use super::source::PLACE;
use crate::error::{Code, Error, Result};
use crate::ports::registry::{Report, Revision, Role, StoredSet};

/// How long a process may take to notice that its session is over.
const UNAWARE_MAX: Duration = Duration::from_millis(1500);

/// Keeps one set, and who leads in it.
#[derive(Debug)]
pub struct Registry {
    state: Mutex<State>,
    /// Counts changes of the state.
    pub(super) changes: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct State {
    pub random: StdRng,
    pub set: Option<StoredSet>,
    /// Of the last transaction.
    pub transaction: u64,
    /// Never twice, whatever becomes of the rest.
    pub sessions: u64,
    /// In the order of standing in line.
    pub candidates: Vec<Candidate>,
    /// Sessions that are over, and when their process notices.
    pub over: Vec<(u64, Instant)>,
    /// How often a leader lost its leadership without giving it back.
    expired: u64,
    pub reports: u64,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub session: u64,
    pub role: Role,
    pub report: Option<Report>,
    pub faults: Arc<Faults>,
}

impl Registry {
    /// With one set, whose queue is at [`PLACE`].
    #[must_use]
    pub fn new(set: &str, seed: u64) -> Self {
        let configuration = ReplicationSetConfiguration {
            database: DatabaseConfiguration { dsn: PLACE.to_owned() },
            ..ReplicationSetConfiguration::default()
        };
        let set = StoredSet { name: set.to_owned(), configuration, version: "1".to_owned(), revision: Revision { created: 1, version: 0 } };
        let state = State {
            random: StdRng::seed_from_u64(seed),
            set: Some(set),
            transaction: 1,
            sessions: 0,
            candidates: Vec::new(),
            over: Vec::new(),
            expired: 0,
            reports: 0,
        };
        Self { state: Mutex::new(state), changes: watch::Sender::new(0) }
    }

    /// Changes what the set captures.
    pub fn update(&self) {
        self.change(|state| state.set(|set| set.version = format!("{}", set.revision.version + 2)));
    }

    /// Moves the set to the database at `place`.
    pub fn move_to(&self, place: &str) {
        self.change(|state| state.set(|set| set.configuration.database.dsn = place.to_owned()));
    }

    /// Drops the set.
    pub fn remove(&self) {
        self.change(|state| state.set = None);
    }

    /// Gives the session of the leader up: another one may lead, and this one does not know.
    pub fn expire(&self, role: Role) {
        self.change(|state| {
            let leader = state.candidates.iter().find(|candidate| candidate.role == role).map(|leader| leader.session);
            if let Some(session) = leader {
                state.expired += 1;
                state.end(session);
            }
        });
    }

    /// Forgets all but the set: sessions, and how far epochs had come.
    pub fn forget(&self) {
        self.change(|state| {
            let sessions: Vec<u64> = state.candidates.iter().map(|candidate| candidate.session).collect();
            for session in sessions {
                state.end(session);
            }
            state.transaction = 0;
        });
    }

    /// How often a leader lost its leadership without giving it back.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.lock().expired
    }

    /// How often a leader said how it is.
    #[must_use]
    pub fn reports(&self) -> u64 {
        self.lock().reports
    }

    /// What the leader shows of itself.
    #[must_use]
    pub fn report(&self, role: Role) -> Option<Report> {
        self.lock().candidates.iter().find(|candidate| candidate.role == role)?.report.clone()
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changes.send_modify(|changes| *changes += 1);
        changed
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set(&mut self, change: impl FnOnce(&mut StoredSet)) {
        if let Some(set) = &mut self.set {
            change(set);
            set.revision.version += 1;
        }
    }

    /// Ends a session. Its process notices a while later.
    pub fn end(&mut self, session: u64) {
        if self.over.iter().any(|(over, _)| *over == session) {
            return;
        }
        let noticed = Instant::now() + self.random.random_range(Duration::ZERO..UNAWARE_MAX);
        self.over.push((session, noticed));
        for role in [Role::Relay, Role::Worker] {
            let leader = self.candidates.iter().find(|candidate| candidate.role == role);
            if let Some(leader) = leader.filter(|leader| leader.session == session) {
                leader.faults.lead(Leads::Until(noticed));
            }
        }
        self.candidates.retain(|candidate| candidate.session != session);
    }

    pub fn check(&self, session: u64) -> Result<()> {
        match self.over.iter().any(|(over, _)| *over == session) {
            true => Err(Error::retry(Code::RegistryAway, "the session with the registry is over")),
            false => Ok(()),
        }
    }

    pub fn leads(&self, session: u64, role: Role) -> bool {
        self.candidates.iter().find(|candidate| candidate.role == role).is_some_and(|leader| leader.session == session)
    }
}
