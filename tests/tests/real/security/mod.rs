//! What a review of security and reliability found, each as a test of what may not be
//! any more.

mod cache;
mod doors;
mod epochs;
mod forged;
mod granted;
mod http;
mod in_flight;
mod kafka;
mod limits;
mod locks;
mod names;
mod postgres;
mod prepared;
mod rights;
mod shapes;
mod values;
mod ways;
mod zookeeper;
