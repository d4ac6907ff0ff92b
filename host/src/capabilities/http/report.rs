//! What is refused, told to the operator: each thing once, and again after a while.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::refusal::Refusal;

/// How long nothing is said that was said.
const PAUSE: Duration = Duration::from_secs(60);
/// Things that are remembered to have been said. A plugin that asks for more servers is cut short.
const SAID_MAX: usize = 32;

/// Where it is told.
pub struct Reports {
    say: Box<dyn Fn(&str) + Send + Sync>,
    place: String,
    said: Mutex<HashMap<String, Instant>>,
}

impl Reports {
    pub fn new(place: String, say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { say: Box::new(say), place, said: Mutex::default() }
    }

    pub fn report(&self, refusal: &Refusal) {
        if self.is_new(&refusal.text) {
            (self.say)(&format!("http: {} ({})", refusal.text, self.place));
        }
    }

    fn is_new(&self, text: &str) -> bool {
        // What was said is whole or not there, whatever panicked.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, since| since.elapsed() < PAUSE);
        let new = !said.contains_key(text) && said.len() < SAID_MAX;
        if new {
            said.insert(text.to_owned(), Instant::now());
        }
        new
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").field("place", &self.place).finish_non_exhaustive()
    }
}
