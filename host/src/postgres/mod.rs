//! PostgreSQL: connections, node identity, the PgQ queue, trigger DDL.

pub mod connect;
pub mod event;
