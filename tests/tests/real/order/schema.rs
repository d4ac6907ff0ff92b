//! Random tables with all that makes one write cause others.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// Columns of every table that are no key: `a` (with `ag`) and `b` may be foreign keys.
const COLUMNS: &str = "v int @v, n int NOT NULL DEFAULT 0, t text DEFAULT 'd', x numeric(8, 2) DEFAULT 1.50, a int @a, ag int, b int @b";

/// The same in another order, with one that is dropped.
const REORDERED: &str = "gone text, x numeric(8, 2) DEFAULT 1.50, b int @b, ag int, t text DEFAULT 'd', id int NOT NULL, n int NOT NULL DEFAULT 0, \
                         a int @a, g int NOT NULL DEFAULT 0, v int";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// Partitioned by ranges of `id`.
    Ranges,
    /// Partitioned by values of `g`.
    Lists,
    /// Inherits from a table, which is captured too.
    Child,
}

#[derive(Debug)]
pub struct Table {
    /// With its schema.
    pub name: String,
    pub kind: Kind,
    /// Whether `g` is of the key, too.
    pub composite: bool,
    /// Which tables the foreign keys refer to.
    pub a: Option<usize>,
    pub b: Option<usize>,
    /// Partitions that have rows.
    pub leaves: Vec<String>,
}

impl Table {
    pub fn key(&self) -> &'static str {
        if self.composite { "id, g" } else { "id" }
    }
}

/// A statement that makes something, and one that takes it away again.
#[derive(Debug)]
pub struct Part {
    pub create: String,
    /// `None`: everything else may be of it.
    pub drop: Option<String>,
    /// What has to occur somewhere else for this to be of use.
    pub name: String,
}

/// A foreign key, for the coverage.
#[derive(Debug)]
pub struct Reference {
    pub from: String,
    pub to: String,
    pub on_delete: &'static str,
    pub on_update: &'static str,
}

/// Tables that write to each other, in a schema of their own.
#[derive(Debug)]
pub struct Family {
    pub name: String,
    pub tables: Vec<Table>,
    pub parts: Vec<Part>,
    pub references: Vec<Reference>,
}

const ACTIONS: [(&str, u32); 5] = [("NO ACTION", 2), ("RESTRICT", 1), ("CASCADE", 5), ("SET NULL", 3), ("SET DEFAULT", 2)];

/// What a trigger does. `r` is the new row, or else the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    OwnRow,
    OwnNextRow,
    OwnKeyDeleted,
    OwnKeyLeftInserted,
    OwnRowReplaced,
    OwnRowAdded,
    OwnRowsAll,
    OtherUpserted,
    OtherDeleted,
    Parent,
    Adjusted,
    Skipped,
    Undone,
    FromTransitionTable,
    OnTruncate,
    Deferred,
    ExpressionUpdates,
    ExpressionInserts,
    ExpressionDeletes,
}

impl Trick {
    pub const ALL: [Self; 19] = [
        Self::OwnRow,
        Self::OwnNextRow,
        Self::OwnKeyDeleted,
        Self::OwnKeyLeftInserted,
        Self::OwnRowReplaced,
        Self::OwnRowAdded,
        Self::OwnRowsAll,
        Self::OtherUpserted,
        Self::OtherDeleted,
        Self::Parent,
        Self::Adjusted,
        Self::Skipped,
        Self::Undone,
        Self::FromTransitionTable,
        Self::OnTruncate,
        Self::Deferred,
        Self::ExpressionUpdates,
        Self::ExpressionInserts,
        Self::ExpressionDeletes,
    ];

    /// A sequence counts how often it was done, rolled back or not.
    pub fn sequence(self) -> String {
        format!("cover.{self:?}").to_lowercase()
    }
}

/// When a trigger fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Row {
        before: bool,
    },
    Statement {
        before: bool,
    },
    /// A constraint trigger, at the end of the transaction.
    Deferred,
    /// After a statement, with the rows that it wrote.
    Transition,
    Truncate,
}

impl Shape {
    fn random(random: &mut StdRng) -> Self {
        let before = random.random_bool(0.5);
        *[Self::Row { before }, Self::Row { before }, Self::Row { before }, Self::Statement { before }, Self::Deferred]
            .choose(random)
            .unwrap()
    }
}

const BEFORE_ROW: Shape = Shape::Row { before: true };
const RARE: [(Shape, Option<Trick>); 12] = [
    (Shape::Deferred, None),
    (Shape::Transition, Some(Trick::FromTransitionTable)),
    (Shape::Truncate, None),
    (BEFORE_ROW, Some(Trick::Skipped)),
    (BEFORE_ROW, Some(Trick::OwnKeyLeftInserted)),
    (BEFORE_ROW, Some(Trick::OwnRowReplaced)),
    (Shape::Statement { before: false }, Some(Trick::OwnRowsAll)),
    (BEFORE_ROW, Some(Trick::Adjusted)),
    (BEFORE_ROW, Some(Trick::OwnKeyDeleted)),
    (Shape::Row { before: false }, Some(Trick::Parent)),
    (Shape::Truncate, Some(Trick::OtherDeleted)),
    (Shape::Transition, Some(Trick::FromTransitionTable)),
];

/// A deferred trigger that causes itself again does so at the same depth: it stops by number.
const SPEND: &str = "IF coalesce(nullif(current_setting('order.spent', true), ''), '0')::int > 8 THEN RETURN r; END IF; \
                     PERFORM set_config('order.spent', (coalesce(nullif(current_setting('order.spent', true), ''), '0')::int + 1)::text, true); ";

/// What every database has once.
pub fn cover() -> String {
    let sequences: String = Trick::ALL.iter().map(|trick| format!("CREATE SEQUENCE {};", trick.sequence())).collect();
    format!("CREATE SCHEMA cover; {sequences}")
}

impl Table {
    /// The tables that the set captures for it, as FROM takes those rows that are theirs.
    pub fn captured(&self) -> Vec<(String, &'static str)> {
        match self.kind {
            Kind::Child => vec![(self.name.clone(), "ONLY "), (format!("{}_up", self.name), "ONLY ")],
            _ => vec![(self.name.clone(), "")],
        }
    }
}

impl Family {
    pub fn random(random: &mut StdRng, number: usize) -> Self {
        let name = format!("f{number}");
        let mut family = Self { name, tables: Vec::new(), parts: Vec::new(), references: Vec::new() };
        let schema = format!("CREATE SCHEMA {}", family.name);
        family.part(schema, None, "");
        let count = random.random_range(2..=4);
        for index in 0..count {
            family.table(random, index);
        }
        family.expressions(random);
        for index in 0..count {
            family.foreign_keys(random, index, number);
        }
        for index in 0..count {
            for _ in 0..random.random_range(0..=2) {
                let shape = Shape::random(random);
                family.trigger(random, index, shape, None);
            }
        }
        // What is rare in these is in one family of every database.
        let (shape, trick) = RARE[number % RARE.len()];
        let index = random.random_range(0..count);
        family.trigger(random, index, shape, trick);
        family
    }

    fn part(&mut self, create: String, drop: Option<String>, name: &str) {
        self.parts.push(Part { create, drop, name: name.to_owned() });
    }

    fn table(&mut self, random: &mut StdRng, index: usize) {
        let name = format!("{}.t{index}", self.name);
        let kind = *[Kind::Plain, Kind::Plain, Kind::Plain, Kind::Ranges, Kind::Lists, Kind::Child].choose(random).unwrap();
        let composite = match kind {
            Kind::Lists => true,
            Kind::Ranges => false,
            Kind::Plain | Kind::Child => random.random_bool(0.2),
        };
        let defaults = |text: &str, v: &str, a: &str, b: &str| text.replace("@v", v).replace("@a", a).replace("@b", b);
        let [a, b] = [(); 2].map(|()| *["", "", "DEFAULT 1", "DEFAULT 2"].choose(random).unwrap());
        let v = if random.random_bool(0.2) { format!("DEFAULT {}.touch(3)", self.name) } else { "DEFAULT 0".to_owned() };
        let columns = format!("id int NOT NULL, g int NOT NULL DEFAULT 0, {}", defaults(COLUMNS, &v, a, b));
        let reordered = defaults(REORDERED, "", a, b);
        let table = Table { composite, kind, a: None, b: None, leaves: Vec::new(), name: name.clone() };
        let key = table.key();
        let attached = |bounds: &str| {
            format!(
                "; CREATE TABLE {name}_2 ({reordered}); ALTER TABLE {name}_2 DROP gone; ALTER TABLE {name} ATTACH PARTITION {name}_2 FOR VALUES {bounds}"
            )
        };
        let leaves = ["1", "2", "3a", "3b"].map(|leaf| format!("{name}_{leaf}")).to_vec();
        let (create, leaves) = match kind {
            Kind::Plain => (format!("CREATE TABLE {name} ({columns}, PRIMARY KEY ({key}))"), Vec::new()),
            Kind::Ranges => (
                format!(
                    "CREATE TABLE {name} ({columns}, PRIMARY KEY ({key})) PARTITION BY RANGE (id); \
                     CREATE TABLE {name}_1 PARTITION OF {name} FOR VALUES FROM (MINVALUE) TO (4){}; \
                     CREATE TABLE {name}_3 PARTITION OF {name} FOR VALUES FROM (8) TO (MAXVALUE) PARTITION BY RANGE (id); \
                     CREATE TABLE {name}_3a PARTITION OF {name}_3 FOR VALUES FROM (8) TO (16); \
                     CREATE TABLE {name}_3b PARTITION OF {name}_3 FOR VALUES FROM (16) TO (MAXVALUE)",
                    attached("FROM (4) TO (8)")
                ),
                leaves,
            ),
            Kind::Lists => (
                format!(
                    "CREATE TABLE {name} ({columns}, PRIMARY KEY ({key})) PARTITION BY LIST (g); \
                     CREATE TABLE {name}_1 PARTITION OF {name} FOR VALUES IN (0){}; \
                     CREATE TABLE {name}_3 PARTITION OF {name} DEFAULT PARTITION BY RANGE (id); \
                     CREATE TABLE {name}_3a PARTITION OF {name}_3 FOR VALUES FROM (MINVALUE) TO (6); \
                     CREATE TABLE {name}_3b PARTITION OF {name}_3 FOR VALUES FROM (6) TO (MAXVALUE)",
                    attached("IN (1)")
                ),
                leaves,
            ),
            Kind::Child => (
                format!(
                    "CREATE TABLE {name}_up ({columns}, PRIMARY KEY ({key})); CREATE TABLE {name} (PRIMARY KEY ({key})) INHERITS ({name}_up)"
                ),
                Vec::new(),
            ),
        };
        self.tables.push(Table { leaves, ..table });
        self.part(create, None, &name);
    }

    fn foreign_keys(&mut self, random: &mut StdRng, index: usize, number: usize) {
        for column in ["a", "b"] {
            // The first is there always, so that some family has each action.
            let first = index == 0 && column == "a";
            if !first && !random.random_bool(0.6) {
                continue;
            }
            // Itself, now and then.
            let to = random.random_range(0..self.tables.len());
            let composite = self.tables[to].composite;
            if composite && column == "b" {
                continue;
            }
            let [on_delete, on_update] = [number, number + 2].map(|number| match first {
                true => ACTIONS[number % ACTIONS.len()].0,
                false => ACTIONS.choose_weighted(random, |(_, weight)| *weight).unwrap().0,
            });
            let deferrable = ["", "", "", "DEFERRABLE", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE INITIALLY DEFERRED"]
                .choose(random)
                .unwrap();
            let (from, target) = (self.tables[index].name.clone(), self.tables[to].name.clone());
            let columns = if composite { "a, ag" } else { column };
            let constraint = format!("fk_{column}");
            let create = format!(
                "ALTER TABLE {from} ADD CONSTRAINT {constraint} FOREIGN KEY ({columns}) REFERENCES {target} ({}) \
                 ON DELETE {on_delete} ON UPDATE {on_update} {deferrable}",
                self.tables[to].key()
            );
            self.part(create, Some(format!("ALTER TABLE {from} DROP CONSTRAINT {constraint}")), "");
            let slot = if column == "a" { &mut self.tables[index].a } else { &mut self.tables[index].b };
            *slot = Some(to);
            self.references.push(Reference { from, to: target, on_delete, on_update });
        }
    }

    /// Functions that write inside of an expression.
    fn expressions(&mut self, random: &mut StdRng) {
        let own = self.name.clone();
        let mut any = || self.tables.choose(random).unwrap();
        let (touched, made, removed) = (any(), any(), any());
        let bodies = [
            ("touch", Trick::ExpressionUpdates, format!("UPDATE {} SET n = n + 1 WHERE id = k % 8", touched.name)),
            (
                "make",
                Trick::ExpressionInserts,
                format!("INSERT INTO {} (id, g, v) VALUES (k % 8 + 1, 0, 5) ON CONFLICT DO NOTHING", made.name),
            ),
            ("remove", Trick::ExpressionDeletes, format!("DELETE FROM {} WHERE id = k + 1", removed.name)),
        ];
        let creates = bodies.map(|(name, trick, body)| {
            let create = format!(
                "CREATE FUNCTION {own}.{name}(k int) RETURNS int LANGUAGE plpgsql AS $$BEGIN \
                 IF pg_trigger_depth() < 2 THEN PERFORM nextval('{}'); BEGIN {body}; EXCEPTION WHEN OTHERS THEN NULL; END; END IF; RETURN k; END$$",
                trick.sequence()
            );
            Part { create, drop: None, name: format!("{own}.{name}(") }
        });
        // A table's default may call one.
        self.parts.splice(1..1, creates);
    }

    fn trigger(&mut self, random: &mut StdRng, index: usize, shape: Shape, wanted: Option<Trick>) {
        let own = &self.tables[index];
        let other = self.tables.choose(random).unwrap();
        let parent = own.a.map_or(other, |to| &self.tables[to]);
        let (row, before) = match shape {
            Shape::Row { before } => (true, before),
            Shape::Statement { before } => (false, before),
            Shape::Deferred => (true, false),
            Shape::Transition => (false, false),
            Shape::Truncate => (false, random.random_bool(0.5)),
        };
        let events = match (shape, random.random_range(0..7)) {
            (Shape::Truncate, _) => "TRUNCATE",
            _ if wanted.is_some() => "UPDATE",
            (_, 0 | 1) => "INSERT",
            (_, 2 | 3) => "UPDATE",
            (_, 4) => "UPDATE OF v",
            (_, 5) => "DELETE",
            _ => "INSERT OR UPDATE OR DELETE",
        };
        let left = events == "UPDATE" || events == "DELETE";
        let mut tricks = vec![
            Trick::OwnRow,
            Trick::OwnNextRow,
            Trick::OwnRowAdded,
            Trick::OtherUpserted,
            Trick::OtherDeleted,
            Trick::Parent,
            Trick::Undone,
        ];
        if row && before {
            tricks.extend([Trick::Adjusted, Trick::Skipped, Trick::OwnKeyDeleted, Trick::OwnKeyDeleted]);
        }
        if row && left {
            tricks.extend([Trick::OwnKeyLeftInserted, Trick::OwnRowReplaced, Trick::OwnKeyLeftInserted, Trick::OwnRowReplaced]);
        }
        if !row {
            tricks.push(Trick::OwnRowsAll);
        }
        let trick = wanted.unwrap_or_else(|| *tricks.choose(random).unwrap());
        let (k, row_of) = (random.random_range(1..8), if row { "r" } else { "" });
        let r = |column: &str| match column {
            _ if !row_of.is_empty() => format!("r.{column}"),
            "id" => k.to_string(),
            _ => "0".to_owned(),
        };
        let (id, g) = (r("id"), r("g"));
        let (own_name, other_name) = (&own.name, &other.name);
        let body = match trick {
            Trick::OwnRow => format!("UPDATE {own_name} SET n = n + 1 WHERE id = {id};"),
            Trick::OwnNextRow => format!("UPDATE {own_name} SET n = n + 1, v = {id} WHERE id = {id} + 1;"),
            Trick::OwnKeyDeleted => format!("DELETE FROM {own_name} WHERE id = {id} AND g = {g};"),
            Trick::OwnKeyLeftInserted => {
                format!("INSERT INTO {own_name} (id, g, v) VALUES ({id} - 1, {g}, 7), (OLD.id - 1, {g}, 7) ON CONFLICT DO NOTHING;")
            }
            Trick::OwnRowReplaced => format!(
                "DELETE FROM {own_name} WHERE id = OLD.id - 1 AND g = {g}; INSERT INTO {own_name} (id, g, v) VALUES (OLD.id - 1, {g}, 8);"
            ),
            Trick::OwnRowAdded => format!("INSERT INTO {own_name} (id, g, v) VALUES ({id} + 11, {g}, 9) ON CONFLICT DO NOTHING;"),
            Trick::OwnRowsAll => format!("UPDATE {own_name} SET n = n + 1 WHERE id % 3 = {k} % 3;"),
            Trick::OtherUpserted => format!(
                "INSERT INTO {other_name} AS o (id, g, v) VALUES ({id}, {g}, 6) ON CONFLICT ({}) DO UPDATE SET n = o.n + 1;",
                other.key()
            ),
            Trick::OtherDeleted => format!("DELETE FROM {other_name} WHERE id = {id} % 5;"),
            Trick::Parent => format!("UPDATE {} SET n = n + 1 WHERE id = {};", parent.name, r("a")),
            Trick::Adjusted => "IF TG_OP <> 'DELETE' THEN r.v := coalesce(r.v, 0) + 1; END IF;".to_owned(),
            Trick::Skipped => "IF r.id % 5 = 4 THEN RETURN NULL; END IF;".to_owned(),
            Trick::Undone => format!(
                "UPDATE {own_name} SET n = n + 100 WHERE id = {id}; DELETE FROM {other_name} WHERE id = {k}; RAISE EXCEPTION 'undone';"
            ),
            Trick::FromTransitionTable => format!(
                "INSERT INTO {other_name} AS o (id, g, v) SELECT DISTINCT ON ({}) id, g, 4 FROM written ON CONFLICT ({}) DO UPDATE SET n = o.n + 1;",
                other.key(),
                other.key()
            ),
            trick => unreachable!("{trick:?} is of another kind"),
        };
        let depth = *[1, 1, 2, 2, 3].choose(random).unwrap();
        // What does not fit must not be the end of most statements.
        let guarded = trick == Trick::Undone || random.random_bool(0.7);
        let body = if guarded { format!("BEGIN {body} EXCEPTION WHEN OTHERS THEN NULL; END;") } else { body };
        let number = self.parts.len();
        let function = format!("{}.w{number}", self.name);
        let count = |trick: Trick| format!("PERFORM nextval('{}');", trick.sequence());
        let counts = [
            count(trick),
            if shape == Shape::Deferred { format!("{SPEND}{}", count(Trick::Deferred)) } else { String::new() },
            if shape == Shape::Truncate { count(Trick::OnTruncate) } else { String::new() },
        ]
        .concat();
        let (declared, assigned, result) = if row {
            ("DECLARE r record; ", "IF TG_OP = 'DELETE' THEN r := OLD; ELSE r := NEW; END IF; ", "RETURN r;")
        } else {
            ("", "", "RETURN NULL;")
        };
        let create_function = format!(
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $${declared}BEGIN {assigned}IF pg_trigger_depth() > {depth} THEN {result} END IF; {counts} {body} {result} END$$"
        );
        let name = format!("{}_{number}", ["a", "z", "q", "pgshovel"].choose(random).unwrap());
        let (constraint, timing, more) = match shape {
            Shape::Deferred => ("CONSTRAINT ", "AFTER", "DEFERRABLE INITIALLY DEFERRED "),
            Shape::Transition => ("", "AFTER", "REFERENCING NEW TABLE AS written "),
            _ => ("", if before { "BEFORE" } else { "AFTER" }, ""),
        };
        let each = if row { "ROW" } else { "STATEMENT" };
        let table = own.name.clone();
        self.part(create_function, None, &function);
        self.part(
            format!("CREATE {constraint}TRIGGER {name} {timing} {events} ON {table} {more}FOR EACH {each} EXECUTE FUNCTION {function}()"),
            Some(format!("DROP TRIGGER {name} ON {table}")),
            "",
        );
    }
}
