use proptest::prelude::*;
use proto::row::Value;

use super::relation::Described;
use super::value::Encoding;
use super::*;

#[path = "../../../../tests/fuzz/corpus.rs"]
mod files;

fn described(name: &str, type_name: &str, oid: u32) -> Described {
    Described { name: name.to_owned(), type_name: type_name.to_owned(), oid, encoding: Encoding::Json }
}

fn descriptor() -> Descriptor {
    let columns = vec![described("id", "bigint", 20), described("na\"me", "text", 25), described("at", "timestamp with time zone", 1184)];
    Descriptor::new("public", "accounts", "v1", columns, &["id".to_owned()]).unwrap()
}

fn decoder() -> Decoder {
    let mut decoder = Decoder::default();
    decoder.learn("v1", "public.accounts", Arc::new(descriptor()));
    decoder
}

fn event<'a>(operation: &'a str, new: Option<&'a str>, old: Option<&'a str>) -> Event<'a> {
    Event { id: 7, timestamp_us: 11, transaction: 13, operation, table: "public.accounts", version: "v1", format: "j1", new, old }
}

fn mutation_of(decoder: &mut Decoder, event: &Event<'_>) -> Mutation {
    match decoder.decode(event) {
        Ok(Decoded::Mutation(mutation)) => mutation,
        other => panic!("{event:?}: {other:?}"),
    }
}

/// One row of a binary COPY.
fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut bytes = i16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
    for field in fields {
        match field {
            None => bytes.extend((-1_i32).to_be_bytes()),
            Some(field) => {
                bytes.extend(i32::try_from(field.len()).unwrap().to_be_bytes());
                bytes.extend(*field);
            }
        }
    }
    bytes
}

const NEW: &str = r#"{"id":1,"na\"me":"a\\b","at":"2020-01-02T03:04:05+00:00"}"#;
const OLD: &str = r#"{"id":2,"na\"me":null,"at":"infinity"}"#;

fn new_row() -> Row {
    vec![Value::Integer(1), Value::Text("a\\b".to_owned()), Value::Text("2020-01-02 03:04:05+00".to_owned())]
}

fn old_row() -> Row {
    vec![Value::Integer(2), Value::Null, Value::Text("infinity".to_owned())]
}

fn corpus() -> Vec<Vec<u8>> {
    files::corpus(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz"), "event")
}

#[test]
fn the_corpus_itself() {
    corpus().iter().for_each(|row| property::decode(row));
}

#[test]
fn a_row_of_copy_is_an_event() {
    let time = 5_i64.to_be_bytes();
    let fields: [Option<&[u8]>; 9] = [
        Some(&7_i64.to_be_bytes()),
        Some(&time),
        Some(&13_i64.to_be_bytes()),
        Some(b"U"),
        Some(b"public.accounts"),
        Some(b"v1"),
        Some(b"j1"),
        Some(NEW.as_bytes()),
        None,
    ];
    let expected = Event { timestamp_us: 946_684_800_000_005, ..event("U", Some(NEW), None) };
    let bytes = row(&fields);
    assert_eq!(Event::parse(&bytes), Ok(Some(expected)));
    let first = [HEADER, &bytes].concat();
    assert_eq!(Event::parse(&first), Ok(Some(expected)));
    assert_eq!(Event::parse(&(-1_i16).to_be_bytes()), Ok(None));
    for cut in 2..bytes.len() {
        assert!(Event::parse(&bytes[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn operations_become_changes() {
    let mut decoder = decoder();
    let mut change = |event| mutation_of(&mut decoder, &event).change;
    assert_eq!(change(event("I", Some(NEW), None)), Change::Insert(new_row()));
    assert_eq!(change(event("D", None, Some(OLD))), Change::Delete(old_row()));
    assert_eq!(change(event("U", Some(NEW), Some(OLD))), Change::Update { before: old_row(), after: new_row() });
    assert_eq!(change(event("T", None, None)), Change::Truncate);
}

#[test]
fn a_table_is_learned_first() {
    let mut decoder = Decoder::default();
    let unknown = Unknown::Relation { version: "v1".to_owned(), table: "public.accounts".to_owned() };
    assert_eq!(decoder.decode(&event("I", Some(NEW), None)), Ok(Decoded::Unknown(unknown)));
}

#[test]
fn white_space_is_no_other_shape() {
    let spaced = r#" { "id" : 1 , "na\"me":"a\\b", "at" : "2020-01-02T03:04:05+00:00" } "#;
    assert_eq!(mutation_of(&mut decoder(), &event("I", Some(spaced), None)).change, Change::Insert(new_row()));
}

#[test]
fn other_columns_are_learned_and_both_shapes_stay() {
    let mut decoder = decoder();
    let added = event("I", Some(r#"{"id":1,"at":"2020-01-02T03:04:05+00:00","extra":1.50}"#), None);
    let names = vec!["id".to_owned(), "at".to_owned(), "extra".to_owned()];
    let unknown = Unknown::Shape { version: "v1".to_owned(), table: "public.accounts".to_owned(), columns: names.clone() };
    assert_eq!(decoder.decode(&added), Ok(Decoded::Unknown(unknown)));

    let base = decoder.relation("v1", "public.accounts").unwrap();
    assert_eq!(base.unknown(&names), ["extra"]);
    let found = HashMap::from([("extra".to_owned(), described("extra", "numeric", 1700))]);
    decoder.learn("v1", "public.accounts", Arc::new(base.reshape(&names, &found).unwrap()));
    let mutation = mutation_of(&mut decoder, &added);
    let at = Value::Text("2020-01-02 03:04:05+00".to_owned());
    assert_eq!(mutation.change, Change::Insert(vec![Value::Integer(1), at, Value::Text("1.50".to_owned())]));
    assert_eq!(mutation.relation.columns[2].type_oid, 1700);
    assert_eq!(mutation.relation.identity, [0]);

    assert_eq!(mutation_of(&mut decoder, &event("I", Some(NEW), None)).change, Change::Insert(new_row()));
    assert_eq!(mutation_of(&mut decoder, &added).relation.columns.len(), 3);
}

#[test]
fn a_row_without_its_identity_has_no_shape() {
    let error = descriptor().reshape(&["at".to_owned()], &HashMap::new()).unwrap_err();
    assert!(error.contains("\"id\""), "{error}");
}

#[test]
fn errors_name_event_table_and_column_and_no_value() {
    let mut decoder = decoder();
    for (operation, new, old, words) in [
        ("I", Some(r#"{"id":"secret","na\"me":null,"at":null}"#), None, "column \"id\""),
        ("I", Some(r#"{"id":secret}"#), None, "expected a value"),
        ("I", Some("secret"), None, "expected an object"),
        ("I", None, None, "new row is missing"),
        ("U", Some(NEW), None, "old row is missing"),
        ("U", Some(NEW), Some(r#"{"id":1}"#), "different columns"),
        ("X", Some("secret"), None, "ev_type"),
    ] {
        let error = decoder.decode(&event(operation, new, old)).unwrap_err().to_string();
        assert!(error.starts_with("event 7 of table public.accounts") && error.contains(words), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let error = decoder.decode(&Event { format: "r1", ..event("I", Some(NEW), None) }).unwrap_err();
    assert!(error.cause.contains("j1"), "{error}");
}

proptest! {
    #[test]
    fn rows_near_the_corpus(mut row in prop::sample::select(corpus()), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let at = at.index(row.len());
        row[at] ^= byte;
        row.truncate(1 + cut.index(row.len()));
        property::decode(&row);
    }

    #[test]
    fn rows_read_as_serde_reads_them(id in any::<i64>(), name in any::<Option<String>>(), pretty in any::<bool>()) {
        let mut object = serde_json::Map::new();
        object.insert("id".to_owned(), id.into());
        object.insert("na\"me".to_owned(), name.clone().into());
        object.insert("at".to_owned(), "infinity".into());
        let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
        let expected = vec![Value::Integer(id), name.map_or(Value::Null, Value::Text), Value::Text("infinity".to_owned())];
        prop_assert_eq!(mutation_of(&mut decoder(), &event("D", None, Some(&text))).change, Change::Delete(expected));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::parse(&bytes);
    }

    #[test]
    fn any_texts_are_decoded_or_refused(new in any::<Option<String>>(), old in any::<Option<String>>(), operation in "[IUDTX]") {
        let _ = decoder().decode(&event(&operation, new.as_deref(), old.as_deref()));
    }
}
