//! A table of many types, and what is done to its rows.

use rand::Rng;
use rand::rngs::StdRng;

/// For both databases.
pub const CREATE: &str = r#"
CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('sad', 'o''k', 'h\appy "x"', '');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE things (
    id bigint PRIMARY KEY, small smallint, number numeric, scaled numeric(30, 10), single real, float double precision,
    flag boolean, name text, code varchar(200), padded char(12), "at" timestamptz, "Local" timestamp, "day" date,
    clock time, zoned timetz, lasts interval, doc jsonb, json json, bytes bytea, list int[], words text[], uuid uuid,
    range int4range, period tstzrange, ranges int4multirange, bits bit varying, fixed bit(5), net inet, block cidr,
    mac macaddr, cash money, page xml, search tsvector, spot point, feeling mood, size positive, "both" pair, tags hstore);
CREATE TABLE "Odd ""pairs""" (left_half text COLLATE "C", "Right half" int, note text, PRIMARY KEY (left_half, "Right half"));
"#;

/// Settings of the session that a trigger must not be misled by.
const SETTINGS: [&str; 5] = [
    "SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET extra_float_digits = -15; SET bytea_output = 'escape'",
    "SET search_path = ''; SET TimeZone = 'Asia/Kathmandu'; SET row_security = off",
    "SET default_transaction_isolation = 'repeatable read'; SET xmloption = 'document'",
    "SET default_transaction_isolation = 'serializable'; SET quote_all_identifiers = on",
    "RESET ALL",
];

/// Rows are told apart by this many classes of their ids.
const CLASSES: u32 = 13;

/// Statements that together are one transaction, or nothing: they may collide with
/// another session, or with a row that is there.
pub fn transaction(random: &mut StdRng) -> String {
    let setting = SETTINGS[random.random_range(0..SETTINGS.len())];
    let class = random.random_range(0..CLASSES);
    let change = match random.random_range(0..300) {
        0 => "TRUNCATE public.things".to_owned(),
        1 => "TRUNCATE public.things, public.\"Odd \"\"pairs\"\"\"".to_owned(),
        2..110 => insert(random),
        110..160 => update(class),
        160..185 => format!("UPDATE public.things SET id = -id WHERE abs(id) % {CLASSES} = {class}"),
        185..215 => format!("DELETE FROM public.things WHERE abs(id) % {CLASSES} = {class}"),
        215..245 => pairs(random),
        245..260 => format!("BEGIN; {}; {}; ROLLBACK", insert(random), update(class)),
        260..285 => format!(
            "BEGIN; {}; SAVEPOINT inner_one; DELETE FROM public.things; ROLLBACK TO inner_one; \
             UPDATE public.things SET list = NULL, page = NULL WHERE abs(id) % {CLASSES} = {class}; {}; COMMIT",
            insert(random),
            pairs(random)
        ),
        // Its snapshot is older than what the queue does meanwhile.
        _ => format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM public.things; SELECT pg_catalog.pg_sleep({:.1}); {}; COMMIT",
            random.random_range(0.3..2.5),
            insert(random)
        ),
    };
    // What failed before may have left a transaction open.
    format!("ROLLBACK; {setting}; {change}")
}

fn update(class: u32) -> String {
    format!(
        r#"UPDATE public.things SET number = -number, flag = NOT flag, name = right(name || E'\u00e4\n\\"', 200),
           "at" = "at" - interval '1 microsecond', words = words || NULL::text, tags = NULL, padded = ' x'
           WHERE id % {CLASSES} = {class}"#
    )
}

fn pairs(random: &mut StdRng) -> String {
    let number = random.random_range(0..50);
    match random.random_range(0..4) {
        0 => format!(
            r#"UPDATE public."Odd ""pairs""" SET "Right half" = - "Right half", left_half = left_half || '\' WHERE "Right half" % 7 = {number} % 7"#
        ),
        1 => format!(r#"DELETE FROM public."Odd ""pairs""" WHERE abs("Right half") % 7 = {number} % 7 OR length(left_half) > 60"#),
        _ => format!(
            r#"INSERT INTO public."Odd ""pairs""" SELECT E'k\u00f6y	"' || n, n * {number}, pg_catalog.repeat('nöte', n)
               FROM pg_catalog.generate_series(1, 20) AS n ON CONFLICT DO NOTHING"#
        ),
    }
}

fn insert(random: &mut StdRng) -> String {
    let mut one = |values: &[&'static str]| values[random.random_range(0..values.len())];
    let number = one(&["NaN", "Infinity", "-0.00", "1e100", "0.000000000000000000000000000001", "12345678901234567890123456789.123456789"]);
    let scaled = one(&["0", "-0.0000000001", "12345678901234567890.0123456789"]);
    let single = one(&["NaN", "3.4028235e38", "1e-45", "-0", "0.1"]);
    let float = one(&["NaN", "-Infinity", "-0", "5e-324", "0.1", "1.7976931348623157e308"]);
    let instant = one(&["infinity", "4713-01-02 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "2026-03-29 02:30:00+00"]);
    let local = one(&["-infinity", "0001-01-01 00:00:00 BC", "1999-12-31 23:59:60"]);
    let day = one(&["0044-03-15 BC", "infinity", "5874897-12-31", "2024-02-29"]);
    let lasts = one(&["-1 year 2 mons -3 days 04:05:06.789", "0", "178000000 years", "-1 microsecond"]);
    let doc = one(&[r#"{"a": [1, 1.0, null, "\\u00e4"], "": {}}"#, "null", r#""\"\\\\""#, "1e400"]);
    let json = one(&[
        r#"{"a":1, "a" : 2}"#,
        "  null ",
        r#""\u0000""#,
        r#"[1,
        2]"#,
    ]);
    let list = one(&["[0:1][2:3]={{1,NULL},{3,4}}", "{}", "{NULL}", "[-2:-1]={7,8}"]);
    let words = one(&[r#"{"", "NULL", NULL, "a\"b\\c", "{x,y}"}"#, "{}"]);
    let ranges = one(&["{}", "{(,1),[3,5),[7,)}"]);
    let period = one(&["empty", "[2020-01-01 00:00+00,infinity)", "(,)"]);
    let bits = one(&["", "0101", "1111111111111111111111111"]);
    let net = one(&["::ffff:1.2.3.4/96", "10.0.0.1", "192.168.1.5/24"]);
    let money = one(&["-92233720368547758.08", "0.01", "-0.5"]);
    let page = one(&["<a b=\"&lt;\">x<!-- y --></a>", "<x/>"]);
    let feeling = one(&["sad", "o''k", "h\\appy \"x\"", ""]);
    let pair = one(&["(1,\"a,\"\"b\")", "(,)", "(7,\"\")"]);
    let tags = one(&[r#"a=>NULL, "b c"=>"d\"e", ""=>"""#, ""]);
    let (start, count): (u32, u32) = (random.random_range(0..4000), random.random_range(1..60));
    format!(
        "INSERT INTO public.things SELECT id, (id - 2000)::smallint, '{number}', '{scaled}', '{single}', '{float}', \
         CASE id % 3 WHEN 0 THEN true WHEN 1 THEN false END, repeat(chr(1 + id::int % 2000), id::int % 50), \
         repeat(' \t', id::int % 9), 'pad', '{instant}', '{local}', '{day}', '24:00:00', '23:59:59.999999-15:59:59', '{lasts}', \
         '{doc}', '{json}', decode(repeat('00ff5c0a', id::int % 5), 'hex'), '{list}', '{words}', md5(id::text)::uuid, '(,5]', '{period}', \
         '{ranges}', B'{bits}', B'10110', '{net}', '2001:db8::/32', '08:00:2b:01:02:03', '{money}', '{page}', \
         E'\\'a b\\':1A \\'c\\':2,3', '(1e300,-0)', E'{feeling}', 1 + id::int, '{pair}', '{tags}' \
         FROM generate_series({start}, {start} + {count}) AS id ON CONFLICT DO NOTHING",
        feeling = feeling.replace('\\', "\\\\"),
    )
}
