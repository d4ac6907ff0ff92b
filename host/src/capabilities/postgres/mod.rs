//! The capability `postgres`: see `wit/postgres.wit`, which is its contract.

mod connection;
mod failure;
mod grant;
mod link;
mod parameter;
mod pipeline;
mod query;
mod rights;
mod statements;
mod weight;

pub use connection::Connection;
pub use failure::{DatabaseError, Failure};
pub use link::Postgres;
