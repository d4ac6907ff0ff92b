use expect_test::expect;

use super::*;
use crate::postgres::event::value::Encoding;

fn column(name: &str, encoding: Encoding) -> Column {
    Column { name: name.to_owned(), number: 1, type_oid: 23, type_modifier: -1, encoding }
}

fn capture(mode: Mode, columns: Columns) -> Capture {
    Capture {
        schema: "public".to_owned(),
        table: "accounts".to_owned(),
        key: "public.accounts".to_owned(),
        mode,
        columns,
        partitions: None,
    }
}

const CONTEXT: Context<'static> = Context { cluster: "default", set: "bank", version: "0123456789abcdef", queue: Some(7) };

fn scalars() -> Columns {
    Columns { table: 16_400, list: vec![column("id", Encoding::Json), column("balance", Encoding::Json)], identity: vec![1], every: true }
}

fn odd() -> Columns {
    let tags = Column { number: 3, type_oid: 1009, ..column("tags", Encoding::Text) };
    Columns { table: 16_400, list: vec![column("id", Encoding::Json), tags], identity: vec![1], every: false }
}

#[test]
fn update_of_a_table_of_scalars() {
    expect_test::expect_file!["snapshots/update_whole.sql"].assert_eq(&create_function(
        &CONTEXT,
        &capture(Mode::Statement, scalars()),
        Event::Update,
    ));
}

#[test]
fn update_of_named_columns() {
    expect_test::expect_file!["snapshots/update_named.sql"].assert_eq(&create_function(
        &CONTEXT,
        &capture(Mode::Statement, odd()),
        Event::Update,
    ));
}

#[test]
fn rows_of_a_partitioned_table() {
    let text = format!(
        "{}\n\n{}\n",
        create_function(&CONTEXT, &capture(Mode::Row, scalars()), Event::Row),
        create_function(&CONTEXT, &capture(Mode::Row, odd()), Event::Row)
    );
    expect_test::expect_file!["snapshots/rows.sql"].assert_eq(&text);
}

#[test]
fn truncation_of_partitions() {
    let partitioned = |columns| Capture { partitions: Some(vec!["public.accounts_1".to_owned()]), ..capture(Mode::Row, columns) };
    let text = format!(
        "{}\n\n{}\n\n{}\n",
        create_function(&CONTEXT, &partitioned(scalars()), Event::Begin),
        create_function(&CONTEXT, &partitioned(scalars()), Event::Partition),
        create_function(&CONTEXT, &partitioned(odd()), Event::Partition)
    );
    expect_test::expect_file!["snapshots/partitions.sql"].assert_eq(&text);
}

#[test]
fn triggers() {
    let capture = capture(Mode::Statement, scalars());
    let partitioned = Capture { mode: Mode::Row, partitions: Some(vec!["public.accounts_1".to_owned()]), ..capture.clone() };
    let triggers: Vec<String> = [capture, partitioned]
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
        let capture = Capture { schema: schema.to_owned(), table: table.to_owned(), ..capture(Mode::Statement, scalars()) };
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
    let function = create_function(&CONTEXT, &capture(Mode::Statement, columns), Event::Insert);
    assert!(function.contains("AS $_pgshovel$\n") && function.contains("END\n$_pgshovel$;"));
}
