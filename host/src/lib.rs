//! pgshovel: moves the changes made to a PostgreSQL database out of it.

pub mod backoff;
pub mod budget;
pub mod error;
pub mod ports;

pub mod admin;
pub mod capabilities;
pub mod cli;
pub mod config;
pub mod memory;
pub mod names;
pub mod nearest;
pub mod observe;
pub mod patience;
pub mod plugins;
pub mod postgres;
pub mod printable;
pub mod registry;
pub mod relay;
pub mod replicate;
pub mod stop;
pub mod supervise;
pub mod yaml;
