use expect_test::expect;

use super::*;
use crate::postgres::event::value::Encoding;

fn column(name: &str, encoding: Encoding) -> Column {
    Column { name: name.to_owned(), number: 1, type_oid: 23, type_modifier: -1, encoding }
}

fn capture(columns: Columns) -> Capture {
    Capture {
        table_oid: 16_400,
        row_type_oid: 16_402,
        schema: "public".to_owned(),
        table: "accounts".to_owned(),
        key: "public.accounts".to_owned(),
        columns,
        is_partition: false,
        partitions: None,
    }
}

fn partitioned(columns: Columns) -> Capture {
    Capture { partitions: Some(vec!["public.accounts_1".to_owned()]), ..capture(columns) }
}

const CONTEXT: Context<'static> = Context { cluster: "default", set: "bank", version: "0123456789abcdef", view: Some(16_999) };

fn scalars() -> Columns {
    Columns { list: vec![column("id", Encoding::Json), column("balance", Encoding::Json)], identity: vec![1], every: true }
}

fn odd() -> Columns {
    let tags = Column { number: 3, type_oid: 1009, ..column("tags", Encoding::Text) };
    let at = Column { number: 4, type_oid: 1184, ..column("at", Encoding::Json) };
    Columns { list: vec![column("id", Encoding::Json), tags, at], identity: vec![1], every: false }
}

fn functions(capture: &Capture, events: &[Event]) -> String {
    let functions: Vec<String> = events.iter().map(|event| create_function(&CONTEXT, capture, *event)).collect();
    functions.join("\n\n") + "\n"
}

#[test]
fn rows_of_a_table_of_scalars() {
    let text = functions(&capture(scalars()), &[Event::Insert, Event::Update, Event::Delete]);
    expect_test::expect_file!["snapshots/rows_whole.sql"].assert_eq(&text);
}

#[test]
fn rows_of_named_columns() {
    let text = functions(&capture(odd()), &[Event::Insert, Event::Update, Event::Delete]);
    expect_test::expect_file!["snapshots/rows_named.sql"].assert_eq(&text);
}

#[test]
fn a_partitioned_table() {
    let text = functions(&partitioned(scalars()), &[Event::Update, Event::Truncate, Event::Begin, Event::Partition, Event::Emptied]);
    let inner = Capture { is_partition: true, ..partitioned(scalars()) };
    expect_test::expect_file!["snapshots/partitioned.sql"].assert_eq(&(text + &functions(&inner, &[Event::Delete])));
}

#[test]
fn triggers() {
    let triggers: Vec<String> = [capture(scalars()), partitioned(scalars())]
        .iter()
        .flat_map(|capture| {
            capture
                .events()
                .iter()
                .flat_map(|event| capture.tables(*event).into_iter().map(|table| create_trigger(&CONTEXT, capture, *event, table)))
        })
        .collect();
    expect_test::expect_file!["snapshots/triggers.sql"].assert_eq(&triggers.join("\n\n"));
}

#[test]
fn no_place_is_left_in_what_sets_share() {
    let sql = shared::create("a@schema@b");
    let places = sql.replace("a@schema@b", "").matches('@').count();
    assert_eq!(places, 0, "{sql}");
}

#[test]
fn names_fit_and_differ() {
    let long = "x".repeat(60);
    let names = [
        trigger_name("default", "bank", Event::Insert),
        trigger_name("default", &long, Event::Insert),
        trigger_name("default", &long, Event::Update),
        trigger_name("defaul", &format!("{long}y"), Event::Insert),
        trigger_name("default", &format!("{}ü", "ü".repeat(30)), Event::Truncate),
        trigger_name("default", &format!("{}ä", "ü".repeat(30)), Event::Truncate),
    ];
    assert!(names.iter().all(|name| name.len() <= IDENTIFIER_BYTES_MAX), "{names:?}");
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    expect![[r#"pgshovel:default:bank:i"#]].assert_eq(&names[0]);
}

#[test]
fn functions_of_tables_that_look_alike_differ() {
    let named = |schema: &str, table: &str| {
        let capture = Capture { schema: schema.to_owned(), table: table.to_owned(), ..capture(scalars()) };
        function_name(&CONTEXT, &capture, Event::Insert)
    };
    assert_ne!(named("a.b", "c"), named("a", "b.c"));
    assert_ne!(named("a", "b"), named("b", "b"));
    let long = named("a", &"ü".repeat(31));
    assert!(long.len() <= IDENTIFIER_BYTES_MAX, "{long}");
}

#[test]
fn a_body_cannot_end_its_quote() {
    let name = "$pgshovel$; DROP TABLE x; --";
    let columns = Columns { list: vec![column(name, Encoding::Text)], ..scalars() };
    let function = create_function(&CONTEXT, &capture(columns), Event::Insert);
    assert!(function.contains("AS $_pgshovel$\n") && function.contains("END\n$_pgshovel$;"));
}
