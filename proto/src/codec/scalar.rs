//! One field: its type on the wire, its range, that it is there and is there once.

use super::error::{Fault, Problem, Within as _, fault, fault_at};
use crate::batch::Id;
use crate::interfaces::common::{Snapshot, Source, Tick, Timestamp};
use crate::wire::{Field, Fields, varint};
use crate::{snapshot, timestamp as time};

/// No serializer writes a field twice that is not repeated; a decoder of
/// protobuf would merge the two, and hide that the message is damaged.
pub(super) fn once<T>(slot: &mut Option<T>, value: Result<T, Fault>) -> Result<(), Fault> {
    match slot.replace(value?) {
        None => Ok(()),
        Some(_) => Err(fault(Problem::Twice)),
    }
}

pub(super) fn need<T>(slot: Option<T>, field: &str) -> Result<T, Fault> {
    slot.ok_or_else(|| fault_at(field, Problem::Missing))
}

pub(super) fn uint64(field: Field<'_>) -> Result<u64, Fault> {
    match field {
        Field::Varint(value) => Ok(value),
        _ => Err(fault(Problem::Type)),
    }
}

pub(super) fn uint32(field: Field<'_>) -> Result<u32, Fault> {
    u32::try_from(uint64(field)?).map_err(|_| fault(Problem::Range))
}

pub(super) fn bytes(field: Field<'_>) -> Result<&[u8], Fault> {
    match field {
        Field::Delimited(bytes) => Ok(bytes),
        _ => Err(fault(Problem::Type)),
    }
}

pub(super) fn string(field: Field<'_>) -> Result<&str, Fault> {
    std::str::from_utf8(bytes(field)?).map_err(|_| fault(Problem::Utf8))
}

pub(super) fn id(field: Field<'_>) -> Result<Id, Fault> {
    let bytes = bytes(field)?;
    bytes.try_into().map_err(|_| fault(Problem::Id(bytes.len())))
}

/// A repeated number, which a writer may pack.
pub(super) fn numbers(all: &mut Vec<u64>, field: Field<'_>) -> Result<(), Fault> {
    match field {
        Field::Varint(number) => all.push(number),
        Field::Delimited(mut packed) => {
            while !packed.is_empty() {
                let (number, rest) = varint(packed)?;
                all.push(number);
                packed = rest;
            }
        }
        Field::Fixed32(_) | Field::Fixed64(_) | Field::Group => return Err(fault(Problem::Type)),
    }
    Ok(())
}

pub(super) fn timestamp(field: Field<'_>) -> Result<Timestamp, Fault> {
    let (mut seconds, mut nanos) = (None, None);
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut seconds, uint64(field)).within("seconds")?,
            2 => once(&mut nanos, uint64(field)).within("nanos")?,
            _ => {}
        }
    }
    let seconds = need(seconds, "seconds")? as i64;
    let nanos = i32::try_from(need(nanos, "nanos")?).ok().filter(|nanos| *nanos < 1_000_000_000);
    Ok(Timestamp { seconds, nanos: nanos.ok_or_else(|| fault_at("nanos", Problem::Nanos))? })
}

/// A timestamp in microseconds since 1970-01-01T00:00:00Z.
pub(super) fn micros(field: Field<'_>) -> Result<i64, Fault> {
    time::micros(&timestamp(field)?).ok_or_else(|| fault_at("seconds", Problem::Range))
}

pub(super) fn tick(field: Field<'_>) -> Result<Tick, Fault> {
    let (mut id, mut snapshot, mut made) = (None, None, None);
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut id, uint64(field)).within("id")?,
            2 => once(&mut snapshot, self::snapshot(field)).within("snapshot")?,
            3 => once(&mut made, timestamp(field)).within("timestamp")?,
            _ => {}
        }
    }
    Ok(Tick { id: need(id, "id")?, snapshot: need(snapshot, "snapshot")?, timestamp: need(made, "timestamp")? })
}

pub(super) fn source(field: Field<'_>) -> Result<Source, Fault> {
    let (mut cluster, mut set, mut node) = (None, None, None);
    let (mut system_identifier, mut timeline, mut database_oid) = (None, None, None);
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut cluster, string(field)).within("cluster")?,
            2 => once(&mut set, string(field)).within("set")?,
            3 => once(&mut node, id(field)).within("node")?,
            4 => once(&mut system_identifier, uint64(field)).within("system_identifier")?,
            5 => once(&mut timeline, uint32(field)).within("timeline")?,
            6 => once(&mut database_oid, uint32(field)).within("database_oid")?,
            _ => {}
        }
    }
    Ok(Source {
        cluster: need(cluster, "cluster")?.to_owned(),
        set: need(set, "set")?.to_owned(),
        node: need(node, "node")?.to_vec(),
        system_identifier: need(system_identifier, "system_identifier")?,
        timeline: need(timeline, "timeline")?,
        database_oid: need(database_oid, "database_oid")?,
    })
}

fn snapshot(field: Field<'_>) -> Result<Snapshot, Fault> {
    let (mut min, mut max, mut active) = (None, None, Vec::new());
    let mut fields = Fields::new(bytes(field)?);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => once(&mut min, uint64(field)).within("min")?,
            2 => once(&mut max, uint64(field)).within("max")?,
            3 => numbers(&mut active, field).within("active")?,
            _ => {}
        }
    }
    // PostgreSQL keeps them sorted; the definition of 2015 did not say so.
    active.sort_unstable();
    let snapshot = Snapshot { min: need(min, "min")?, max: need(max, "max")?, active };
    snapshot::check(&snapshot).map_err(|problem| fault(Problem::Snapshot(problem)))?;
    Ok(snapshot)
}
