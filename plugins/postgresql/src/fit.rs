//! Whether a column of the target keeps every value of the source's column as it is.
//! Pure.
//!
//! PostgreSQL reads `007` as the integer 7 and rounds 1.005 to fit numeric(9,2), both
//! without a word. Where a type of PostgreSQL's own meets another that may do so, rows
//! have to wait until the types agree.

use crate::catalog::Column;
use crate::pgshovel::plugin::types;

/// `pg_type.oid` of types that are not PostgreSQL's own starts here.
const OWN_TYPES: u32 = 16_384;

/// Digits of a second that a time without modifier has.
const SECOND_DIGITS: i32 = 6;

/// A type of the user is trusted to read the text of one that has its name, in whatever
/// schema, and any to read that of a type that is not known: the stream of pgshovel 2015
/// does not say.
#[must_use]
pub fn keeps(source: &types::Column, target: &Column) -> bool {
    if source.type_name.is_empty() || matches!(target.type_name.as_str(), "text" | "character varying") {
        return true;
    }
    let (from, given) = parts(&source.type_name);
    if source.type_oid >= OWN_TYPES {
        return unqualified(&from) == unqualified(&parts(&target.declared).0);
    }
    // A domain of the target takes what the type does that it is over.
    let (to, room) = parts(&target.base);
    if from == to {
        return has_room(&from, &given, &room);
    }
    match to.as_str() {
        "numeric" => room.is_empty() && matches!(from.as_str(), "smallint" | "integer" | "bigint"),
        "bigint" => matches!(from.as_str(), "smallint" | "integer"),
        "integer" => from == "smallint",
        "double precision" => from == "real",
        "inet" => from == "cidr",
        _ => false,
    }
}

/// A type's name without its schema: `public."odd.name"[]` is `"odd.name"[]`.
fn unqualified(name: &str) -> &str {
    let mut quoted = false;
    let dot = name.bytes().rposition(|byte| {
        quoted ^= byte == b'"';
        byte == b'.' && !quoted
    });
    dot.and_then(|dot| name.get(dot + 1..)).unwrap_or(name)
}

/// A type's name without its modifier, and the modifier's numbers: `numeric(20,6)` is
/// `numeric` and 20, 6; `time(3) with time zone[]` is `time with time zone[]` and 3.
fn parts(type_name: &str) -> (String, Vec<i32>) {
    let Some((before, rest)) = type_name.split_once('(') else { return (type_name.to_owned(), Vec::new()) };
    let Some((modifier, after)) = rest.split_once(')') else { return (type_name.to_owned(), Vec::new()) };
    let numbers = modifier.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    (format!("{before}{after}"), numbers)
}

/// Whether values under the modifier `given` fit under `room` unrounded. What does not
/// fit in another way (length, digits before the point) the server refuses.
fn has_room(name: &str, given: &[i32], room: &[i32]) -> bool {
    if room.is_empty() {
        return true;
    }
    let name = name.trim_end_matches("[]");
    if name == "numeric" {
        let scale = |modifier: &[i32]| modifier.get(1).copied().unwrap_or_default();
        return !given.is_empty() && scale(given) <= scale(room);
    }
    if name.starts_with("time") || name == "interval" {
        let digits = |modifier: &[i32]| modifier.first().copied().unwrap_or(SECOND_DIGITS);
        return digits(given) <= digits(room);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `base` is the target's type without its domain.
    fn keeps(source: &str, declared: &str, base: &str) -> bool {
        let type_oid = if source.contains('.') { OWN_TYPES } else { 1 };
        let source = types::Column { name: "c".to_owned(), type_name: source.to_owned(), type_oid };
        let target = Column {
            name: "c".to_owned(),
            type_name: parts(base).0,
            declared: declared.to_owned(),
            base: base.to_owned(),
            input: None,
            equality: String::new(),
            has_array: true,
            leads_index: true,
            is_generated: false,
            is_identity: false,
        };
        super::keeps(&source, &target)
    }

    #[test]
    fn types_that_agree_or_are_wider_keep_every_value() {
        for (source, declared, base) in [
            ("integer", "integer", "integer"),
            ("integer", "bigint", "bigint"),
            ("smallint", "numeric", "numeric"),
            ("real", "double precision", "double precision"),
            ("jsonb", "text", "text"),
            ("numeric(9,2)", "numeric", "numeric"),
            ("numeric(9,2)", "numeric(12,4)", "numeric(12,4)"),
            ("character varying(9)", "character varying(3)", "character varying(3)"),
            ("timestamp(3) with time zone", "timestamp(6) with time zone", "timestamp(6) with time zone"),
            ("integer", "public.positive", "integer"),
            ("numeric(9,2)", "public.price", "numeric(9,2)"),
            ("integer", "public.name", "character varying(9)"),
            ("public.mood", "text", "text"),
            ("public.mood", "copy.mood", "copy.mood"),
            ("public.\"a.b\"[]", "\"c.d\".\"a.b\"[]", "\"c.d\".\"a.b\"[]"),
            ("public.geometry(Point,4326)", "gis.geometry", "gis.geometry"),
            ("public.price", "copy.price", "numeric(9,2)"),
            ("", "integer", "integer"),
        ] {
            assert!(keeps(source, declared, base), "{source} to {declared}");
        }
    }

    #[test]
    fn types_that_may_change_a_value_do_not() {
        for (source, declared, base) in [
            ("text", "integer", "integer"),
            ("bigint", "integer", "integer"),
            ("numeric", "double precision", "double precision"),
            ("numeric", "numeric(9,2)", "numeric(9,2)"),
            ("numeric(12,4)", "numeric(9,2)", "numeric(9,2)"),
            ("numeric(12,4)[]", "numeric(9,2)[]", "numeric(9,2)[]"),
            ("timestamp with time zone", "timestamp(0) with time zone", "timestamp(0) with time zone"),
            ("timestamp with time zone", "timestamp without time zone", "timestamp without time zone"),
            ("json", "jsonb", "jsonb"),
            ("integer", "numeric(3,-1)", "numeric(3,-1)"),
            ("text", "public.positive", "integer"),
            ("numeric(12,4)", "public.price", "numeric(9,2)"),
            ("public.price", "numeric(9,2)", "numeric(9,2)"),
            ("public.mood", "public.other", "public.other"),
            ("public.\"a.b\"", "public.b", "public.b"),
            ("public.code", "integer", "integer"),
        ] {
            assert!(!keeps(source, declared, base), "{source} to {declared}");
        }
    }
}
