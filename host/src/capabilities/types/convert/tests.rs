use super::*;

fn relation(table: &str, columns: &[&str], identity: &[u32]) -> Relation {
    let column = |name: &&str| Column { name: (*name).to_owned(), type_name: "integer".into(), type_oid: 23 };
    Relation {
        schema: "public".into(),
        table: table.into(),
        columns: columns.iter().map(column).collect(),
        identity: identity.to_vec(),
        version: "v1".into(),
    }
}

fn insert(id: u64, relation: &Arc<Relation>, row: Row) -> Mutation {
    Mutation { id, relation: Arc::clone(relation), change: Change::Insert(row), transaction: 7, timestamp_us: -1, version: 100 + id }
}

fn every_change(a: &Arc<Relation>, b: &Arc<Relation>) -> Vec<Mutation> {
    let row = vec![Value::Integer(1), Value::Text("ü".into())];
    let other = vec![Value::Bytes(vec![0, 255])];
    let change = |id, relation: &Arc<Relation>, change| Mutation { change, ..insert(id, relation, vec![]) };
    vec![
        insert(1, a, row.clone()),
        change(1, b, Change::Delete(other)),
        change(4, a, Change::Update { before: row.clone(), after: vec![Value::Integer(2), Value::Null] }),
        change(5, b, Change::Truncate),
        insert(9, a, vec![Value::Boolean(true), Value::Float(f64::INFINITY)]),
    ]
}

/// What a plugin that changes nothing returns.
fn through(mutations: Vec<Mutation>) -> Result<Vec<Mutation>> {
    let (passed, relations, mutations) = to_mutations(mutations);
    from_mutations(relations, mutations.clone(), &passed, &mutations)
}

#[test]
fn mutations_come_back_as_they_went_and_share_their_relations() {
    let (a, b) = (Arc::new(relation("a", &["id", "name"], &[0])), Arc::new(relation("b", &["key"], &[0])));
    let mutations = every_change(&a, &b);
    let (_, relations, passed) = to_mutations(mutations.clone());
    assert_eq!(relations.iter().map(|relation| (relation.id, relation.table.as_str())).collect::<Vec<_>>(), [(0, "a"), (1, "b")]);
    assert_eq!(passed.iter().map(|mutation| mutation.relation).collect::<Vec<_>>(), [0, 1, 0, 1, 0]);
    let returned = through(mutations.clone()).unwrap();
    assert_eq!(returned, mutations);
    assert!(Arc::ptr_eq(&returned[0].relation, &a) && Arc::ptr_eq(&returned[1].relation, &b));
}

#[test]
fn what_breaks_the_contract_is_named_without_values() {
    let a = Arc::new(relation("a", &["id", "name"], &[0]));
    let good = || vec![insert(3, &a, vec![Value::Integer(1), Value::Null]), insert(4, &a, vec![Value::Integer(2), Value::Null])];
    type Spoil = fn(&mut Vec<types::Relation>, &mut Vec<types::Mutation>);
    let cases: [(Spoil, &str); 12] = [
        (|_, mutations| mutations[1].version += 1, "the mutation 4 with another version than it had"),
        (|_, mutations| mutations[0].relation = 5, "the mutation 3 of the relation 5, which is not among those it returned"),
        (|_, mutations| mutations.swap(0, 1), "the mutation 3 out of its order, or without having got it"),
        (|_, mutations| mutations[1].id = 5, "the mutation 5 out of its order, or without having got it"),
        (
            |_, mutations| mutations[1].change = types::Change::Insert(vec![types::Value::Integer(1)]),
            "a row of the mutation 4 (public.a) with 1 values for 2 columns",
        ),
        (
            |_, mutations| mutations[0].change = types::Change::Delete(vec![types::Value::Null, types::Value::Null]),
            "a row of the mutation 3 (public.a) whose identity column id is null",
        ),
        (|relations, _| relations[0].identity.clear(), "the relation public.a without an identity"),
        (|relations, _| relations[0].identity.push(2), "the relation public.a whose identity has an index past its columns"),
        (|relations, _| relations[0].identity.push(0), "the relation public.a whose identity names a column twice"),
        (|relations, _| relations[0].columns[1].name = "id".into(), "the relation public.a with two columns of one name"),
        (|relations, _| relations[0].table.clear(), "the relation public. without a name"),
        (|relations, _| relations.extend_from_within(..), "two relations with the id 0"),
    ];
    for (spoil, expected) in cases {
        let (passed, mut relations, mut mutations) = to_mutations(good());
        let input = mutations.clone();
        spoil(&mut relations, &mut mutations);
        assert_eq!(from_mutations(relations, mutations, &passed, &input).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_transform_may_drop_split_rename_and_change() {
    let a = Arc::new(relation("a", &["id", "name"], &[0]));
    let (passed, mut relations, mut mutations) = to_mutations(vec![
        insert(3, &a, vec![Value::Integer(1), Value::Null]),
        insert(4, &a, vec![Value::Integer(2), Value::Null]),
        insert(5, &a, vec![Value::Integer(3), Value::Null]),
    ]);
    let input = mutations.clone();
    relations[0].table = "renamed".into();
    relations[0].id = 77;
    mutations.remove(1);
    mutations.insert(0, mutations[0].clone());
    mutations.iter_mut().for_each(|mutation| mutation.relation = 77);
    let returned = from_mutations(relations, mutations, &passed, &input).unwrap();
    assert_eq!(
        returned.iter().map(|mutation| (mutation.id, mutation.relation.table.as_str())).collect::<Vec<_>>(),
        [(3, "renamed"), (3, "renamed"), (5, "renamed")]
    );
}
