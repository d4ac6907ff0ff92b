//! What a review of security and reliability found, each as a test of what may not be
//! any more.

mod forged;
mod postgres;
mod prepared;
mod rights;
