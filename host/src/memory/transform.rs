//! A transform that changes nothing, and may fail.

use std::sync::Arc;

use proto::row::Mutation;

use super::faults::Faults;
use crate::error::Result;
use crate::ports;

#[derive(Debug)]
pub struct Transform {
    faults: Arc<Faults>,
}

impl Transform {
    #[must_use]
    pub fn new(faults: Arc<Faults>) -> Self {
        Self { faults }
    }
}

impl ports::Transform for Transform {
    async fn transform(&mut self, mutations: Vec<Mutation>) -> Result<Vec<Mutation>> {
        self.faults.around("transform", || Ok(mutations)).await
    }
}
