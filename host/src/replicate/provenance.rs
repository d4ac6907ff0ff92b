//! Tells the target which database its rows come from, whenever that changes.

use proto::interfaces::common::Source;

use crate::error::Result;
use crate::ports::{Provenance, Target};

/// What the target of one attempt was told.
#[derive(Debug)]
pub struct Origins {
    tables: Vec<(String, String)>,
    transformed: bool,
    /// Of the last database it was told of: system identifier and OID.
    told: Option<(u64, u32)>,
}

impl Origins {
    /// `tables` are the set's, `transformed` says whether transforms may rename them.
    #[must_use]
    pub fn new(tables: Vec<(String, String)>, transformed: bool) -> Self {
        Self { tables, transformed, told: None }
    }

    /// What follows comes from `source`. Pgshovel 2015 does not say where it comes from.
    pub async fn announce(&mut self, source: Option<&Source>, target: &mut impl Target) -> Result<()> {
        let Some(source) = source else { return Ok(()) };
        let database = (source.system_identifier, source.database_oid);
        if self.told == Some(database) {
            return Ok(());
        }
        let (system_identifier, database_oid) = database;
        let provenance = Provenance { system_identifier, database_oid, tables: self.tables.clone(), transformed: self.transformed };
        target.set_source(&provenance).await?;
        self.told = Some(database);
        Ok(())
    }
}
