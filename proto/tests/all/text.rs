//! Configurations as people write them.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use proto::interfaces::configurations::{ClusterConfiguration, DatabaseConfiguration, ReplicationSetConfiguration, TableConfiguration};
use proto::text::{parse, print};

fn set(text: &str) -> ReplicationSetConfiguration {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str, expected: Expect) {
    match parse::<ReplicationSetConfiguration>(text) {
        Ok(set) => panic!("accepted as {set:?}"),
        Err(error) => expected.assert_eq(&error.to_string()),
    }
}

#[test]
fn one_form_is_written_of_the_many_that_are_read() {
    let canonical = expect![[r#"
        database {
          dsn: "host=db dbname=shop"
        }
        tables {
          name: "accounts"
          primary_keys: "aid"
          primary_keys: "bid"
          columns: "abalance"
          schema: "public"
        }
        tables {
          name: "Größe \"x\"\n\001"
        }
    "#]];
    let printed = print(&set(r#"
        # the shop
        tables: [{ name: 'accounts', primary_keys: ["aid", "bid"]; schema: "pub" 'lic' columns: "abalance" }]
        database: < dsn: "host=db \x64bname\075shop" >  # at the end
        tables { name: "Gr\303\266\u00dfe \"x\"\n\001" }
    "#));
    canonical.assert_eq(&printed);
    assert_eq!(print(&set(&printed)), printed);
}

#[test]
fn defaults_are_known_and_not_written() {
    let set = set("database { dsn: '' } tables { name: 't' }");
    assert_eq!(set.tables[0].schema(), "public");
    assert_eq!(set.tables[0].schema, None);
}

#[test]
fn a_cluster_is_read_too() {
    let cluster: ClusterConfiguration = parse("version: \"1\"").unwrap();
    assert_eq!(print(&cluster), "version: \"1\"\n");
}

#[test]
fn errors_name_line_column_and_what_was_expected() {
    refused("", expect!["line 1, column 1: `database` is missing in this ReplicationSetConfiguration"]);
    refused(
        "database {\n  dsn: 'x'\n}\ntabels {\n}",
        expect!["line 4, column 1: ReplicationSetConfiguration has no field `tabels`; did you mean `tables`?"],
    );
    refused(
        "database { dsn: 'x' } tables { name: 't' zzz: 't' }",
        expect!["line 1, column 42: TableConfiguration has no field `zzz`; it has: name, primary_keys, columns, schema"],
    );
    refused("database {\n}", expect!["line 2, column 1: `dsn` is missing in `database`"]);
    refused(
        "database { dsn: 'x' }\ntables { name: 'a' }\ntables { schema: 'b'\n  }",
        expect!["line 4, column 3: `name` is missing in `tables`"],
    );
    refused("database { dsn 'x' }", expect!["line 1, column 16: expected `:` after `dsn`, found a string"]);
    refused("database { dsn: 5432 }", expect!["line 1, column 17: expected a string in quotes for `dsn`, found a number"]);
    refused("database: 'x'", expect!["line 1, column 11: expected `{` after `database`, found a string"]);
    refused("database { dsn: 'x'", expect!["line 1, column 20: expected the name of a field, or `}`, found the end of the text"]);
    refused("database { dsn: 'x' >", expect!["line 1, column 21: expected the name of a field, or `}`, found `>`"]);
    refused("database { dsn: 'x' } }", expect!["line 1, column 23: expected the name of a field, found `}`"]);
    refused("database { dsn: 'x' dsn: 'y' }", expect!["line 1, column 21: `dsn` is given twice"]);
    refused("database { dsn: 'geheim\n' }", expect!["line 1, column 17: the string is not closed: expected ' before the end of its line"]);
    refused(
        "database { dsn: '\\q' }",
        expect![[r#"line 1, column 18: unknown escape: expected one of \n \r \t \a \b \f \v \? \\ \' \" \ooo \xhh \uhhhh \Uhhhhhhhh"#]],
    );
    refused("database { dsn: '\\377' }", expect!["line 1, column 17: the string for `dsn` is not UTF-8"]);
    refused("database { dsn: '\\400' }", expect!["line 1, column 18: an octal escape above \\377"]);
    refused("database { dsn: '\\ud800' }", expect!["line 1, column 18: an escape that is no character of Unicode"]);
    refused("tables { primary_keys: ['a' 'b'} }", expect!["line 1, column 32: expected `,` or `]`, found `}`"]);
    refused("ä", expect![[r"line 1, column 1: `\u{e4}` begins nothing that the text format knows"]]);
    refused("{}", expect!["line 1, column 1: expected the name of a field, found `{`"]);
}

#[test]
fn no_error_repeats_a_string() {
    for text in ["database { dsn 'hunter2' }", "database 'hunter2'", "'hunter2'", "database { dsn: 'hunter2' dsn: 'hunter2' }"] {
        let error = parse::<ReplicationSetConfiguration>(text).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

fn table() -> impl Strategy<Value = TableConfiguration> {
    let names = || prop::collection::vec(any::<String>(), 0..3);
    (any::<String>(), names(), names(), any::<Option<String>>()).prop_map(|(name, primary_keys, columns, schema)| TableConfiguration {
        name,
        primary_keys,
        columns,
        schema,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(dsn in any::<String>(), tables in prop::collection::vec(table(), 0..3)) {
        let set = ReplicationSetConfiguration { database: DatabaseConfiguration { dsn }, tables };
        prop_assert_eq!(parse::<ReplicationSetConfiguration>(&print(&set)), Ok(set));
    }

    #[test]
    fn no_text_makes_it_panic(text in "([a-z_]{0,9}|[{}<>\\[\\]:,;'\"\\\\#\n0-9 xu.-]|database|tables|name|dsn|\\PC){0,40}") {
        let _ = parse::<ReplicationSetConfiguration>(&text);
    }
}
