//! Whatever a table may hold and look like, through relay and worker: types, odd tables,
//! tables that are altered meanwhile, large rows and transactions.

mod altered;
mod large;
mod matrix;
pub mod setup;
mod tables;
