//! Types of PostgreSQL, each with values that lose something on a careless way, and
//! sessions that write them: what every test of types shares.
//!
//! Everything is SQL that runs whatever the session's settings are: names are
//! qualified, literals hold no backslash that is not in an `E''`.

use rand::Rng;

/// Extensions and types that the tables need. Runs once, in a database that has none
/// of them, as a superuser.
pub const SCHEMA: &str = "\
CREATE EXTENSION hstore SCHEMA public; CREATE EXTENSION citext SCHEMA public; CREATE EXTENSION ltree SCHEMA public; \
CREATE EXTENSION cube SCHEMA public; CREATE EXTENSION seg SCHEMA public; CREATE EXTENSION isn SCHEMA public; \
CREATE TYPE public.mood AS ENUM ('so so', 'good', 'quo\"te', 'ü😀'); CREATE TYPE public.\"Odd \"\" type\" AS ENUM ('A', 'a'); \
CREATE TYPE public.pair AS (a int, b text); CREATE DOMAIN public.short AS varchar(3); \
CREATE DOMAIN public.positive AS int CHECK (VALUE > 0); CREATE DOMAIN public.yes AS boolean; CREATE DOMAIN public.padded AS char(4); \
CREATE DOMAIN public.host AS inet; CREATE DOMAIN public.codes AS int[] CHECK (array_ndims(VALUE) = 1); \
CREATE DOMAIN public.couple AS public.pair; \
CREATE TYPE public.nested AS (p public.pair, list public.pair[], code public.codes, m public.mood, f float8, at timestamptz); \
CREATE TYPE public.textrange AS RANGE (subtype = text, collation = \"C\"); \
CREATE COLLATION public.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

/// A type and expressions of values.
pub type Kind = (&'static str, &'static [&'static str]);

pub const TYPES: &[Kind] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "32767"]),
    ("integer", &["2147483647", "-2147483648"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    ("real", &["'0.1'", "'NaN'", "'-Infinity'", "'3.4028235e38'", "'1e-45'", "'-0'", "'16777217'"]),
    (
        "double precision",
        &[
            "'0.30000000000000004'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'5e-324'",
            "'2.2250738585072011e-308'",
            "'1.7976931348623157e308'",
            "'-0'",
            "'1e16'",
            "'1e15'",
            "'0.00001'",
        ],
    ),
    (
        "numeric",
        &[
            "'12345678901234567890123456789.000000000100'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'1e-1000'",
            "'0.10'",
            "'-0.00'",
            "'1e131071'",
            "('9' || repeat('8', 99))::numeric",
            "('-0.' || repeat('0123456789', 10))::numeric",
        ],
    ),
    ("numeric(20,6)", &["'12345678901234.123456'"]),
    ("numeric(3,-2)", &["'12300'"]),
    ("money", &["'-1234.56'", "'-92233720368547758.08'"]),
    (
        "text",
        &[
            "''",
            "E'\\\\N'",
            "E'a\\tb\\nc\\rd\\\\e'",
            "E'\\x01\\x02\\x07\\x08\\x0b\\x0c\\x1b\\x1f\\x7f'",
            "'é😀'",
            "E'\\\\.'",
            "E'\\u0085\\u2028\\ufeff\\uffff'",
            "'NULL'",
            "E'quote '' and \"double\"'",
            "repeat('x', 300000)",
        ],
    ),
    ("varchar(9)", &["' x '"]),
    ("char(5)", &["'a'", "'abcde'", "''"]),
    ("bpchar", &["'a  '"]),
    ("\"char\"", &["'x'", "''"]),
    ("name", &["'n'", "repeat('ü', 31)"]),
    ("bytea", &["''", "decode('00ff5c0a27', 'hex')", "decode(repeat('00ff5c', 50000), 'hex')"]),
    ("date", &["'0044-03-15 BC'", "'infinity'", "'-infinity'", "'5874897-12-31'", "'4713-01-01 BC'"]),
    ("time", &["'24:00:00'", "'00:00:00.000001'"]),
    ("time(2)", &["'01:02:03.45'"]),
    ("timetz", &["'01:02:03.5+05:30'", "'24:00:00-15:59:59'"]),
    ("timestamp", &["'4714-11-24 00:00:00 BC'", "'294276-12-31 23:59:59.999999'", "'-infinity'", "'infinity'", "'2020-02-29 12:00:00.5'"]),
    (
        "timestamptz",
        &[
            "'2020-02-29 12:00:00.000001-11:30'",
            "'1890-01-01 00:00:00+00'",
            "'infinity'",
            "'-infinity'",
            "'4714-11-24 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'2026-03-29 02:30:00+00'",
        ],
    ),
    ("timestamp(0)", &["'2020-02-29 12:00:01'"]),
    ("interval", &["'1 year -2 days 03:00:00.000001'", "'-178000000 years'", "'-1 mons 1 days -04:05:06.789'", "'0'", "'1 mon'"]),
    ("interval day to second(3)", &["'2 days 03:04:05.678'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"]),
    (
        "json",
        &[
            "E'{\"a\" : 1, \"a\": \"\\\\u0000\",\\n\\t\"b\":1e400, \"c\": [ ] }'",
            "'null'",
            "'\"x\"'",
            "'[1.10, null]'",
            "E'\"\\\\ud83d\\\\ude00\"'",
        ],
    ),
    ("jsonb", &["'{\"b\": 1.10, \"a\": [null]}'", "'null'", "'\"x\"'", "'1e300'", "E'\"\\\\\"\\\\n\"'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("xml", &["'<a>x &amp; y</a>'", "'<?xml version=\"1.0\"?><a b=\"ü\"/>'"]),
    ("inet", &["'10.0.0.1'", "'10.0.0.1/8'", "'::1'", "'::ffff:1.2.3.4/96'"]),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'", "'10.1.2.3/32'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(3)", &["B'101'"]),
    ("bit varying", &["B''", "B'0001'", "repeat('01', 5000)::bit varying"]),
    ("point", &["'(0.1,-0)'", "'(NaN,Infinity)'"]),
    ("line", &["'{1,2,3}'"]),
    ("lseg", &["'[(0.1,2),(3,-4e-300)]'"]),
    ("box", &["'((1,1),(0,0))'"]),
    ("path", &["'[(0,0),(1,1)]'", "'((0,0),(1,1))'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("circle", &["'<(0,0),1.5>'"]),
    ("tsvector", &["'a:1A b''c:2,3B'", "''"]),
    ("tsquery", &["'a & !b'", "'a <2> b | c:*AB'"]),
    ("int4range", &["'empty'", "'[1,5)'", "'(,)'"]),
    ("int8range", &["'[-9223372036854775808,)'"]),
    ("numrange", &["'(1.10,2]'", "'[NaN,)'"]),
    ("tsrange", &["'[infinity,infinity]'", "'(\"0044-03-15 00:00:00 BC\",]'"]),
    ("tstzrange", &["'[2020-01-01 00:00:00+00,2020-01-02 00:00:00.5+00)'"]),
    ("daterange", &["'[-infinity,2020-01-01)'"]),
    ("public.textrange", &["'[\"a,b\",\"c\"\"d)\")'", "'[,z]'"]),
    ("datemultirange", &["'{[2020-01-01,2020-02-01),[2021-01-01,)}'"]),
    ("int4multirange", &["'{}'"]),
    ("public.textmultirange", &["'{[\"{\",\"}\"]}'"]),
    ("integer[]", &["'{}'", "'[0:1][2:3]={{1,NULL},{3,4}}'", "'{{{{{{1}}}}}}'", "'[-5:-5]={7}'"]),
    ("text[]", &["ARRAY['', 'NULL', NULL, 'null', E'a,\"b\"\\\\c', E'\\n', ' x ', '{}']", "'{}'", "'[2:3]={a,b}'"]),
    ("bytea[]", &["ARRAY[decode('005c', 'hex')]"]),
    ("varchar(3)[]", &["'{abc}'"]),
    ("char(3)[]", &["'{a}'"]),
    ("boolean[]", &["'{t,f,NULL}'"]),
    ("double precision[]", &["ARRAY['NaN', '-0', '5e-324', '0.1']::float8[]"]),
    ("numeric[]", &["'{NaN,1.10,-Infinity}'"]),
    ("timestamptz[]", &["'{infinity,\"0044-03-15 00:00:00+00 BC\"}'"]),
    ("interval[]", &["'{\"1 year -2 days\",\"-00:00:00.5\"}'"]),
    ("box[]", &["'{((1,1),(0,0));((2,2),(1,1))}'"]),
    ("jsonb[]", &["ARRAY['{\"a\": \"b\"}', 'null', NULL]::jsonb[]"]),
    ("int4range[]", &["'{\"[1,5)\",empty}'"]),
    ("inet[]", &["'{10.0.0.1/8}'"]),
    ("public.mood", &["'so so'", "'quo\"te'", "'ü😀'"]),
    ("public.mood[]", &["ARRAY['so so', 'quo\"te', NULL]::public.mood[]"]),
    ("public.\"Odd \"\" type\"", &["'a'"]),
    ("public.pair", &["ROW(1, NULL)", "ROW(NULL, NULL)", "ROW(2, E'a\"b\\\\,(')", "ROW(3, '')"]),
    ("public.pair[]", &["ARRAY[ROW(1, 'x'), NULL, ROW(NULL, E'\"\\\\')]::public.pair[]"]),
    (
        "public.nested",
        &[
            "ROW(ROW(1, 'a'), ARRAY[ROW(2, NULL), NULL]::public.pair[], '{7,8}', 'quo\"te', '-0', '0044-03-15 00:00:00+00 BC')",
            "ROW(NULL, '{}', NULL, NULL, 'NaN', 'infinity')",
        ],
    ),
    ("public.short", &["'abc'"]),
    ("public.positive", &["7"]),
    ("public.yes", &["true", "false"]),
    ("public.padded", &["'a'"]),
    ("public.host", &["'10.0.0.1'"]),
    ("public.codes", &["'[3:4]={1,NULL}'"]),
    ("public.couple", &["ROW(1, 'x')::public.pair"]),
    ("public.positive[]", &["'{7,8}'"]),
    ("public.hstore", &["'a=>1, \"b c\"=>NULL, \"q\"=>\"\"'", "''"]),
    ("public.citext", &["'MiXed'"]),
    ("public.ltree", &["'Top.Science.Astronomy'", "''"]),
    ("public.lquery", &["'Top.*{1,2}.A*@'"]),
    ("public.cube", &["'(0.1,-0),(2,3)'", "'(5)'"]),
    ("public.seg", &["'1.50 .. 2'", "'~3'"]),
    ("public.isbn13", &["'978-0-11-000533-1'"]),
    ("oid", &["4294967295"]),
    ("regclass", &["'pg_catalog.pg_class'", "0"]),
    ("regtype", &["'pg_catalog.int4'"]),
    ("regproc", &["'pg_catalog.now'"]),
    ("oidvector", &["'1 4294967295'"]),
    ("int2vector", &["'-1 2'"]),
    ("tid", &["'(4294967295,65535)'"]),
    ("xid", &["'4294967295'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("pg_snapshot", &["'10:20:10,14,15'"]),
    ("refcursor", &["'a b'"]),
];

/// Types that identify rows, each with three values that are not equal; some are equal
/// to another text of the same type, which comes fourth.
pub const KEYS: &[(&str, [&str; 4])] = &[
    ("numeric", ["'1.0'", "'NaN'", "'-12345678901234567890.00'", "'1.00'"]),
    ("double precision", ["'-0'", "'NaN'", "'5e-324'", "'0'"]),
    ("real", ["'0.1'", "'-Infinity'", "'1e-45'", "'0.1'"]),
    ("text COLLATE public.blind", ["'Ab'", "'é'", "E'a\\\\\\'\"'", "'aB'"]),
    ("text COLLATE \"und-x-icu\"", ["'a'", "'ä'", "''", "'a'"]),
    ("char(5)", ["'a'", "'b '", "''", "'a  '"]),
    ("public.citext", ["'Ab'", "'b'", "''", "'aB'"]),
    ("timestamptz", ["'infinity'", "'0044-03-15 00:00:00+00 BC'", "'2020-02-29 12:00:00.000001+00'", "'infinity'"]),
    ("interval", ["'1 mon'", "'0'", "'-1 year'", "'30 days'"]),
    ("date", ["'-infinity'", "'0044-03-15 BC'", "'2020-02-29'", "'-infinity'"]),
    (
        "uuid",
        [
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
        ],
    ),
    ("bytea", ["''", "decode('00', 'hex')", "decode('5cff', 'hex')", "''"]),
    ("boolean", ["true", "false", "NULL", "true"]),
    ("inet", ["'10.0.0.1'", "'10.0.0.1/8'", "'::1'", "'10.0.0.1/32'"]),
    ("jsonb", ["'{\"a\": 1}'", "'null'", "'\"x\"'", "'{\"a\": 1.0}'"]),
    ("integer[]", ["'{}'", "'{1,NULL}'", "'[0:0]={1}'", "'{}'"]),
    ("public.mood", ["'so so'", "'ü😀'", "'quo\"te'", "'so so'"]),
    ("public.positive", ["1", "2", "3", "1"]),
    ("public.pair", ["ROW(1, NULL)", "ROW(1, '')", "ROW(NULL, NULL)", "ROW(1, NULL)"]),
    ("public.hstore", ["'a=>1'", "'a=>NULL'", "''", "'a=>1'"]),
    ("numrange", ["'[1.0,2)'", "'empty'", "'(,)'", "'[1.00,2.0)'"]),
    ("bit varying", ["B'0'", "B''", "B'00'", "B'0'"]),
    ("money", ["'1.50'", "'-1.50'", "'0'", "'1.5'"]),
    ("\"char\"", ["'x'", "'y'", "''", "'x'"]),
    ("name", ["'n'", "repeat('ü', 31)", "'N'", "'n'"]),
];

/// Settings of sessions, under which the same values have to arrive. Sessions that write
/// take turns; they suit any role.
pub const HOSTILE: [&str; 5] = [
    "SET DateStyle = 'SQL, DMY'; SET IntervalStyle = sql_standard; SET TimeZone = 'Asia/Kathmandu'; SET extra_float_digits = 0; SET bytea_output = escape",
    "SET DateStyle = German; SET IntervalStyle = iso_8601; SET TimeZone = 'America/St_Johns'; SET extra_float_digits = -15; SET search_path = ''",
    "SET search_path = pg_temp; SET lc_monetary = 'C'; SET xmlbinary = hex; SET quote_all_identifiers = on; SET plpgsql.extra_errors = 'all'",
    "SET DateStyle = 'Postgres, MDY'; SET IntervalStyle = postgres_verbose; SET standard_conforming_strings = off; SET escape_string_warning = off; SET backslash_quote = safe_encoding",
    "SET default_transaction_isolation = 'repeatable read'; SET row_security = off; SET transform_null_equals = on; SET client_min_messages = error; SET jit_above_cost = 0",
];

/// Settings of a database, for whoever connects to it without settings of his own.
pub const HOSTILE_DATABASE: [&str; 10] = [
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = sql_standard",
    "TimeZone = 'Asia/Kathmandu'",
    "extra_float_digits = -15",
    "bytea_output = escape",
    "search_path = public, pg_temp",
    "quote_all_identifiers = on",
    "standard_conforming_strings = off",
    "escape_string_warning = off",
    "default_transaction_isolation = 'repeatable read'",
];

/// The same for a target: they change what a text is read as.
pub const HOSTILE_TARGET: [&str; 2] = ["xmloption = document", "array_nulls = off"];

/// `CREATE TABLE`: `id`, and a column of each type, `c0` onwards; `how` follows the
/// columns, such as `PARTITION BY HASH (id)`.
#[must_use]
pub fn table(name: &str, how: &str) -> String {
    let columns: Vec<String> = TYPES.iter().enumerate().map(|(index, (kind, _))| format!("c{index} {kind}")).collect();
    format!("CREATE TABLE {name} (id bigint PRIMARY KEY, {}) {how}", columns.join(", "))
}

/// How many rows [`rows`] inserts.
#[must_use]
pub fn row_count() -> usize {
    TYPES.iter().map(|(_, values)| values.len()).sum::<usize>() + 2
}

/// Statements that insert a row for each value, a row of NULLs and a full one, with the
/// ids from `first` on; each may run in a session of its own.
#[must_use]
pub fn rows(table: &str, first: usize) -> Vec<String> {
    let values = TYPES.iter().enumerate().flat_map(|(column, (_, values))| values.iter().map(move |value| (column, value)));
    let mut rows: Vec<String> = values
        .zip(first..)
        .map(|((column, value), id)| format!("INSERT INTO {table} (id, c{column}) VALUES ({id}, {})", cast(column, value)))
        .collect();
    let id = first + rows.len();
    rows.push(format!("INSERT INTO {table} (id) VALUES ({id})"));
    let full = TYPES.iter().enumerate().map(|(column, (_, values))| cast(column, values.last().unwrap_or(&"NULL")));
    rows.push(format!("INSERT INTO {table} VALUES ({}, {})", id + 1, full.collect::<Vec<_>>().join(", ")));
    rows
}

fn cast(column: usize, value: &str) -> String {
    let kind = TYPES.get(column).map_or("text", |(kind, _)| kind);
    format!("CAST({value} AS {kind})")
}

/// A change of some rows of `table` under some settings, for a session that writes for
/// long: ids from 0 to a few hundred come and go. What it finds may refuse it.
pub fn statement(table: &str, random: &mut impl Rng) -> String {
    let setting = HOSTILE[random.random_range(0..HOSTILE.len())];
    let (id, column) = (random.random_range(0..400), random.random_range(0..TYPES.len()));
    let value = |random: &mut dyn FnMut(usize) -> usize, column: usize| {
        let (_, values) = TYPES[column];
        cast(column, values[random(values.len())])
    };
    let mut draw = |below: usize| random.random_range(0..below);
    let change = match draw(10) {
        0..5 => format!("INSERT INTO {table} (id, c{column}) VALUES ({id}, {}) ON CONFLICT DO NOTHING", value(&mut draw, column)),
        5..8 => format!("UPDATE {table} SET c{column} = {} WHERE id = {id} OR id % 17 = {}", value(&mut draw, column), draw(17)),
        8 => format!("UPDATE {table} SET id = {} WHERE id = {id}", draw(400)),
        _ => format!("DELETE FROM {table} WHERE id = {id} OR id % 31 = {}", draw(31)),
    };
    format!("RESET ALL; {setting}; {change}")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn every_type_has_a_value_and_its_own_name() {
        let names: std::collections::BTreeSet<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), TYPES.len());
        assert!(TYPES.iter().all(|(_, values)| !values.is_empty()));
        assert_eq!(rows("t", 0).len(), row_count());
    }

    #[test]
    fn a_seed_gives_the_same_statements() {
        let some = |seed| (0..50).map(|_| statement("t", &mut StdRng::seed_from_u64(seed))).collect::<Vec<_>>();
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }
}
