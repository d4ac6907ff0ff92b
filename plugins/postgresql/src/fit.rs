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

/// Types of the user are trusted to read their own text, and so is a type that is not
/// known: the stream of pgshovel 2015 does not say.
#[must_use]
pub fn keeps(source: &types::Column, target: &Column) -> bool {
    if source.type_name.is_empty() || source.type_oid >= OWN_TYPES {
        return true;
    }
    let (from, given) = parts(&source.type_name);
    let (to, room) = parts(&target.declared);
    if from == to {
        return has_room(&from, &given, &room);
    }
    // A domain of the target takes what the type does that it is over.
    match target.type_name.as_str() {
        base if base == from => true,
        "text" | "character varying" => true,
        "numeric" => room.is_empty() && matches!(from.as_str(), "smallint" | "integer" | "bigint"),
        "bigint" => matches!(from.as_str(), "smallint" | "integer"),
        "integer" => from == "smallint",
        "double precision" => from == "real",
        "inet" => from == "cidr",
        _ => false,
    }
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

    fn keeps(source: &str, declared: &str, base: &str) -> bool {
        let source = types::Column { name: "c".to_owned(), type_name: source.to_owned(), type_oid: 1 };
        let target = Column {
            name: "c".to_owned(),
            type_name: base.to_owned(),
            declared: declared.to_owned(),
            input: None,
            equality: String::new(),
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
            ("numeric(9,2)", "numeric(12,4)", "numeric"),
            ("character varying(9)", "character varying(3)", "character varying"),
            ("timestamp(3) with time zone", "timestamp(6) with time zone", "timestamp with time zone"),
            ("integer", "public.positive", "integer"),
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
            ("numeric", "numeric(9,2)", "numeric"),
            ("numeric(12,4)", "numeric(9,2)", "numeric"),
            ("numeric(12,4)[]", "numeric(9,2)[]", "numeric[]"),
            ("timestamp with time zone", "timestamp(0) with time zone", "timestamp with time zone"),
            ("timestamp with time zone", "timestamp without time zone", "timestamp without time zone"),
            ("json", "jsonb", "jsonb"),
            ("integer", "numeric(3,-1)", "numeric"),
            ("text", "public.positive", "integer"),
        ] {
            assert!(!keeps(source, declared, base), "{source} to {declared}");
        }
    }

    #[test]
    fn a_type_of_the_user_is_trusted() {
        let target = Column {
            name: "c".to_owned(),
            type_name: "integer".to_owned(),
            declared: "integer".to_owned(),
            input: None,
            equality: String::new(),
            is_generated: false,
            is_identity: false,
        };
        let source = types::Column { name: "c".to_owned(), type_name: "public.positive".to_owned(), type_oid: 16_400 };
        assert!(super::keeps(&source, &target));
    }
}
