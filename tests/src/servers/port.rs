//! Ports that nobody uses.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use pgshovel::error::{Code, Error, Result};

/// Below the ports that the kernel gives to outgoing connections, so that none
/// of them takes a server's port between its choice and its use.
const RANGE: std::ops::Range<u16> = 15_000..32_000;
const TRIES_MAX: usize = 200;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port of 127.0.0.1 that is free, and that this program has not given out before.
pub fn free() -> Result<u16> {
    let mut guard = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = guard.get_or_insert_default();
    for _ in 0..TRIES_MAX {
        let port = rand::random_range(RANGE);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return Ok(port);
        }
    }
    Err(Error::stop(Code::ToolFailed, format!("no free port on 127.0.0.1 between {} and {} in {TRIES_MAX} tries", RANGE.start, RANGE.end)))
}
