//! A [`Registry`] as one process reaches it: sessions, leadership, and word of changes.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::{Faults, Leads};
use super::registry::{Candidate, Registry, State};
use crate::error::{Code, Error, Result};
use crate::ports::registry::{self as ports, Change, Report, Role, StoredSet};

/// How long a session lasts whose process ended without a word.
const SESSION_TIMEOUT: Duration = Duration::from_secs(1);

/// How late a change of the set may be told.
const LATE_MAX: Duration = Duration::from_secs(1);

/// The registry, as one process reaches it.
#[derive(Clone, Debug)]
pub struct Reach {
    pub registry: Arc<Registry>,
    pub faults: Arc<Faults>,
}

impl Reach {
    /// Whether the process leads by what the registry says now.
    #[must_use]
    pub fn leads(&self, role: Role) -> bool {
        let state = self.registry.lock();
        let leader = state.candidates.iter().find(|candidate| candidate.role == role);
        leader.is_some_and(|leader| Arc::ptr_eq(&leader.faults, &self.faults))
    }
}

impl ports::Registry for Reach {
    type Session = Session;

    async fn connect(&self, _cluster: &str) -> Result<Session> {
        let connect = || {
            let mut state = self.registry.lock();
            state.sessions += 1;
            Ok(Session(Arc::new(Alive { reach: self.clone(), id: state.sessions })))
        };
        self.faults.around("registry.connect", connect).await
    }
}

/// It ends when nobody has it any more.
#[derive(Clone, Debug)]
pub struct Session(Arc<Alive>);

/// Dropping it ends the session, with or without a word.
#[derive(Debug)]
struct Alive {
    reach: Reach,
    id: u64,
}

impl Drop for Alive {
    fn drop(&mut self) {
        let (registry, id) = (Arc::clone(&self.reach.registry), self.id);
        if registry.lock().random.random() {
            registry.change(|state| state.end(id));
            return;
        }
        tokio::spawn(async move {
            sleep(SESSION_TIMEOUT).await;
            registry.change(|state| state.end(id));
        });
    }
}

impl Session {
    async fn call<T>(&self, call: &'static str, perform: impl FnOnce(&mut State) -> Result<T> + Send) -> Result<T> {
        let perform = || {
            let mut state = self.0.reach.registry.lock();
            state.check(self.0.id)?;
            perform(&mut state)
        };
        self.0.reach.faults.around(call, perform).await
    }

    /// Returns when the process notices that the session is over.
    async fn over(&self) {
        let mut changes = self.0.reach.registry.changes.subscribe();
        let noticed = loop {
            let over = self.0.reach.registry.lock().over.iter().find(|(over, _)| *over == self.0.id).map(|(_, noticed)| *noticed);
            if let Some(noticed) = over {
                break noticed;
            }
            // The sender is the registry's.
            let _ = changes.changed().await;
        };
        sleep_until(noticed).await;
    }
}

impl ports::Session for Session {
    type Lease = Lease;
    type Watch = Watch;

    async fn set(&self, name: &str) -> Result<StoredSet> {
        let set = self.find_set(name).await?;
        set.ok_or_else(|| Error::configure(Code::SetAbsent, format!("the set {name:?} does not exist")))
    }

    async fn find_set(&self, _name: &str) -> Result<Option<StoredSet>> {
        self.call("registry.set", |state| Ok(state.set.clone())).await
    }

    async fn tell_if_open(&self) -> Result<()> {
        Ok(())
    }

    fn watch(&self, set: StoredSet) -> Watch {
        Watch { session: self.clone(), last: set }
    }

    async fn acquire(&self, _set: &str, role: Role, standing_by: impl FnOnce() + Send) -> Result<Lease> {
        let faults = Arc::clone(&self.0.reach.faults);
        let stand = |state: &mut State| {
            state.transaction += 1;
            let epoch = state.transaction;
            state.candidates.push(Candidate { session: self.0.id, role, report: None, faults });
            Ok(Place { session: self.clone(), role, epoch })
        };
        let place = self.call("registry.acquire", stand).await?;
        let mut changes = self.0.reach.registry.changes.subscribe();
        let mut standing_by = Some(standing_by);
        while !self.0.reach.registry.lock().leads(self.0.id, role) {
            if let Some(standing_by) = standing_by.take() {
                standing_by();
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = self.over() => return Err(Error::retry(Code::LeadershipLost, "the session ended while waiting for leadership")),
            }
        }
        self.0.reach.faults.lead(Leads::Yes);
        Ok(Lease(place))
    }
}

/// A place in line. Dropping it leaves the line, unless that is lost.
#[derive(Debug)]
struct Place {
    session: Session,
    role: Role,
    epoch: u64,
}

impl Place {
    fn leave(&self, state: &mut State) {
        state.candidates.retain(|candidate| (candidate.session, candidate.role) != (self.session.0.id, self.role));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Reach { registry, faults } = &self.session.0.reach;
        faults.lead(Leads::No);
        if registry.lock().random.random() {
            registry.change(|state| self.leave(state));
        }
    }
}

/// See [`ports::Lease`].
#[derive(Debug)]
pub struct Lease(Place);

impl ports::Lease for Lease {
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    fn is_held(&self) -> bool {
        let Alive { reach, id } = &*self.0.session.0;
        !reach.registry.lock().over.iter().any(|(over, noticed)| over == id && *noticed <= Instant::now())
    }

    async fn lost(&self) {
        self.0.session.over().await;
    }

    async fn is_confirmed(&self) -> bool {
        let Place { session, role, .. } = &self.0;
        let asked = session.call("registry.confirm", |state| Ok(state.leads(session.0.id, *role)));
        self.is_held() && matches!(asked.await, Ok(true))
    }

    async fn report(&self, report: &Report) -> Result<()> {
        let said = |state: &mut State| {
            state.reports += 1;
            let own = (self.0.session.0.id, self.0.role);
            if let Some(candidate) = state.candidates.iter_mut().find(|candidate| (candidate.session, candidate.role) == own) {
                candidate.report = Some(report.clone());
            }
            Ok(())
        };
        self.0.session.call("registry.report", said).await
    }

    async fn release(self) -> Result<()> {
        let Place { session, .. } = &self.0;
        let leave = |state: &mut State| {
            self.0.leave(state);
            Ok(())
        };
        let left = session.call("registry.release", leave).await;
        session.0.reach.registry.change(|_| ());
        left
    }
}

/// See [`ports::Watch`].
#[derive(Debug)]
pub struct Watch {
    session: Session,
    last: StoredSet,
}

impl ports::Watch for Watch {
    async fn changed(&mut self) -> Result<Change> {
        let Reach { registry, faults } = &self.session.0.reach;
        let mut changes = registry.changes.subscribe();
        let late = loop {
            {
                let mut state = registry.lock();
                if state.set.as_ref().map(|set| set.revision) != Some(self.last.revision) {
                    break state.random.random_range(Duration::ZERO..LATE_MAX);
                }
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = self.session.over() => return Err(Error::retry(Code::RegistryAway, "the session with the registry is over")),
            }
        };
        sleep(late).await;
        let read = || {
            let state = registry.lock();
            state.check(self.session.0.id)?;
            Ok(state.set.clone())
        };
        match faults.around("registry.watch", read).await? {
            Some(set) => {
                self.last = set.clone();
                Ok(Change::Changed(set))
            }
            None => Ok(Change::Dropped),
        }
    }
}
