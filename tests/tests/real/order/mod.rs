//! The stream says what happened, in the order in which it happened.

mod examples;
mod property;
mod replay;
mod schema;
mod session;
mod shrink;
mod statement;
