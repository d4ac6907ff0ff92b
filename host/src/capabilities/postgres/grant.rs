//! `grants.postgres`: the databases that a plugin may use.

use crate::capabilities::grants::{Resources, Secret, named};
use crate::yaml::{Field, Problem, Sources, Value, expand_dsn};

type Result<T> = std::result::Result<T, Problem>;

pub(super) fn read(field: &Field<'_>, sources: &Sources<'_>) -> Result<Resources<Secret>> {
    Ok(match field.value {
        Value::Mapping(_) => named(field, |field| dsn(field, sources))?,
        _ => Resources::One(dsn(field, sources)?),
    })
}

fn dsn(field: &Field<'_>, sources: &Sources<'_>) -> Result<Secret> {
    let text = field.text("write a connection string, such as postgresql://app@localhost:5432/app")?;
    let text = expand_dsn(text, sources).map_err(|message| field.problem(message))?;
    match crate::postgres::connect::parse(&text) {
        Ok(_) => Ok(Secret::new(text)),
        Err(error) => Err(field.problem(error.message)),
    }
}
