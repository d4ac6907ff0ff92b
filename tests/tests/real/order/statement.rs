//! Random transactions over a family's tables, made without looking into them.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::schema::{Family, Kind, Table};

/// Keys that most statements draw from: few, so that they meet.
const KEYS: i32 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    Insert,
    InsertOnConflictNothing,
    InsertOnConflictUpdate,
    Update,
    UpdateOfKey,
    KeysShifted,
    KeysSwapped,
    Delete,
    DeleteUsing,
    WritingCtes,
    DeletedAndInsertedByCte,
    WrittenOnByCte,
    Merge,
    Copy,
    ExceptionBlock,
    RolledBackToSavepoint,
    SavepointReleased,
    Cursor,
    CursorInLoop,
    Truncate,
    TruncateCascade,
    TruncatePartition,
    PartitionWritten,
    RowsMoved,
    ParentWritten,
    FunctionInSet,
    FunctionInWhere,
    FunctionInReturning,
    FunctionInValues,
    ConstraintsSet,
}

impl Feature {
    pub const ALL: [Self; 30] = [
        Self::Insert,
        Self::InsertOnConflictNothing,
        Self::InsertOnConflictUpdate,
        Self::Update,
        Self::UpdateOfKey,
        Self::KeysShifted,
        Self::KeysSwapped,
        Self::Delete,
        Self::DeleteUsing,
        Self::WritingCtes,
        Self::DeletedAndInsertedByCte,
        Self::WrittenOnByCte,
        Self::Merge,
        Self::Copy,
        Self::ExceptionBlock,
        Self::RolledBackToSavepoint,
        Self::SavepointReleased,
        Self::Cursor,
        Self::CursorInLoop,
        Self::Truncate,
        Self::TruncateCascade,
        Self::TruncatePartition,
        Self::PartitionWritten,
        Self::RowsMoved,
        Self::ParentWritten,
        Self::FunctionInSet,
        Self::FunctionInWhere,
        Self::FunctionInReturning,
        Self::FunctionInValues,
        Self::ConstraintsSet,
    ];

    /// Rows come mostly, so that there is something to change.
    fn weight(self) -> u32 {
        match self {
            Self::Insert => 16,
            Self::InsertOnConflictNothing | Self::InsertOnConflictUpdate | Self::Merge | Self::Copy => 8,
            Self::Update | Self::WritingCtes => 10,
            Self::Delete | Self::UpdateOfKey => 6,
            Self::Truncate | Self::TruncateCascade => 2,
            Self::ConstraintsSet => 1,
            _ => 3,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub feature: Feature,
    pub sql: String,
    /// What COPY reads.
    pub copied: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each statement in a savepoint, so that one that is refused is one less.
    Savepoints,
    Plain,
    /// One statement, without BEGIN.
    Alone,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub mode: Mode,
    pub repeatable_read: bool,
    pub commits: bool,
    pub statements: Vec<Statement>,
}

impl Transaction {
    pub fn random(random: &mut StdRng, family: &Family) -> Self {
        let mode = *[Mode::Savepoints, Mode::Savepoints, Mode::Plain, Mode::Alone].choose(random).unwrap();
        let count = if mode == Mode::Alone { 1 } else { random.random_range(1..=5) };
        let mut statements = Vec::new();
        while statements.len() < count {
            let feature = *Feature::ALL.choose_weighted(random, |feature| feature.weight()).unwrap();
            // A cursor and savepoints need a transaction block.
            let block =
                matches!(feature, Feature::Cursor | Feature::RolledBackToSavepoint | Feature::SavepointReleased | Feature::ConstraintsSet);
            if !(block && mode == Mode::Alone) {
                statements.extend(Maker { random, family }.statement(feature));
            }
        }
        let mut statements: Vec<Statement> = statements;
        statements.truncate(count);
        Self { mode, repeatable_read: random.random_bool(0.1), commits: mode == Mode::Alone || random.random_bool(0.93), statements }
    }

    /// As one would type it.
    pub fn text(&self) -> String {
        let statements = self.statements.iter().map(|statement| match &statement.copied {
            None => format!("{};\n", statement.sql),
            Some(rows) => format!("{};\n{rows}\\.\n", statement.sql),
        });
        let statements: String = statements.collect();
        let begin = if self.repeatable_read { "BEGIN ISOLATION LEVEL REPEATABLE READ" } else { "BEGIN" };
        match self.mode {
            Mode::Alone => statements,
            _ => format!("{begin};\n{statements}{};\n", if self.commits { "COMMIT" } else { "ROLLBACK" }),
        }
    }
}

struct Maker<'a> {
    random: &'a mut StdRng,
    family: &'a Family,
}

impl<'a> Maker<'a> {
    fn any(&mut self) -> &'a Table {
        self.family.tables.choose(self.random).unwrap()
    }

    fn of_kind(&mut self, kinds: &[Kind]) -> Option<&'a Table> {
        let tables: Vec<&Table> = self.family.tables.iter().filter(|table| kinds.contains(&table.kind)).collect();
        tables.choose(self.random).copied()
    }

    fn key(&mut self) -> i32 {
        self.random.random_range(1..=KEYS)
    }

    fn keys(&mut self, count: usize) -> Vec<i32> {
        let mut keys: Vec<i32> = (1..=KEYS).collect();
        keys.shuffle(self.random);
        keys.truncate(count);
        keys
    }

    fn g(&mut self) -> i32 {
        *[0, 0, 1, 2].choose(self.random).unwrap()
    }

    /// A condition that some rows meet.
    fn some(&mut self) -> String {
        let key = self.key();
        match self.random.random_range(0..6) {
            0 | 1 => format!("id = {key}"),
            2 => format!("id BETWEEN {key} AND {}", key + 3),
            3 => format!("id % 3 = {}", key % 3),
            4 => format!("v > {key}"),
            _ => format!("id >= {key}"),
        }
    }

    fn set(&mut self) -> String {
        let key = self.key();
        match self.random.random_range(0..6) {
            0 => format!("v = {key}"),
            1 => "v = coalesce(v, 0) + 1, t = t || 'u'".to_owned(),
            2 => format!("n = n + 1, x = x + {key}"),
            3 => "a = NULL, ag = NULL".to_owned(),
            4 => "b = NULL, v = id".to_owned(),
            _ => "v = v".to_owned(),
        }
    }

    /// Rows for `table` whose foreign keys mostly refer to something.
    fn rows(&mut self, table: &Table, keys: &[i32]) -> (String, String) {
        let values: Vec<String> =
            keys.iter().map(|key| format!("({key}, {}, {}, 'i')", self.g(), self.random.random_range(0..6))).collect();
        let mut columns = "id, g, v, t".to_owned();
        let mut select = "s.id, s.g, s.v, s.t".to_owned();
        let mut joins = String::new();
        if let Some(to) = table.a {
            let to = &self.family.tables[to].name;
            columns.push_str(", a, ag");
            select.push_str(", p.id, p.g");
            joins.push_str(&format!(
                " LEFT JOIN LATERAL (SELECT id, g FROM {to} o WHERE o.id <= s.id ORDER BY id DESC, g LIMIT 1) p ON s.v < 4"
            ));
        }
        if let Some(to) = table.b {
            let to = &self.family.tables[to].name;
            columns.push_str(", b");
            select.push_str(", q.id");
            joins.push_str(&format!(" LEFT JOIN LATERAL (SELECT id FROM {to} o WHERE o.id >= s.id ORDER BY id LIMIT 1) q ON s.v > 1"));
        }
        (columns, format!("SELECT {select} FROM (VALUES {}) s (id, g, v, t){joins}", values.join(", ")))
    }

    fn absent(table: &Table) -> String {
        let g = if table.composite { " AND h.g = s.g" } else { "" };
        format!("NOT EXISTS (SELECT FROM {} h WHERE h.id = s.id{g})", table.name)
    }

    fn insert(&mut self, table: &Table) -> String {
        let count = self.random.random_range(1..=4);
        let keys = self.keys(count);
        let (columns, rows) = self.rows(table, &keys);
        let only = if self.random.random_bool(0.85) { format!(" WHERE {}", Self::absent(table)) } else { String::new() };
        format!("INSERT INTO {} ({columns}) {rows}{only}", table.name)
    }

    fn update(&mut self, table: &Table) -> String {
        format!("UPDATE {} SET {} WHERE {}", table.name, self.set(), self.some())
    }

    fn delete(&mut self, table: &Table) -> String {
        format!("DELETE FROM {} WHERE {}", table.name, self.some())
    }

    fn write(&mut self, table: &Table) -> String {
        match self.random.random_range(0..4) {
            0 => self.insert(table),
            1 | 2 => self.update(table),
            _ => self.delete(table),
        }
    }

    fn statement(&mut self, feature: Feature) -> Option<Statement> {
        let table = self.any();
        let name = &table.name;
        let key = table.key();
        let mut copied = None;
        let sql = match feature {
            Feature::Insert => self.insert(table),
            Feature::InsertOnConflictNothing => {
                let keys = self.keys(3);
                let (columns, rows) = self.rows(table, &keys);
                format!("INSERT INTO {name} ({columns}) {rows} WHERE true ON CONFLICT DO NOTHING")
            }
            Feature::InsertOnConflictUpdate => {
                let keys = self.keys(3);
                let (columns, rows) = self.rows(table, &keys);
                let set = if self.random.random_bool(0.2) {
                    "id = w.id + 14".to_owned()
                } else {
                    "n = w.n + 1, t = excluded.t || 'c'".to_owned()
                };
                format!("INSERT INTO {name} AS w ({columns}) {rows} WHERE true ON CONFLICT ({key}) DO UPDATE SET {set}")
            }
            Feature::Update => self.update(table),
            Feature::UpdateOfKey => {
                let (from, to) = (self.key(), self.key());
                let free = format!("NOT EXISTS (SELECT FROM {name} h WHERE h.id = {to})");
                format!("UPDATE {name} SET id = {to}, v = {from} WHERE id = {from} AND {free}")
            }
            Feature::KeysShifted => match self.random.random_range(0..4) {
                0 => format!("UPDATE {name} SET id = id + 1 WHERE id >= {}", self.key()),
                1 => format!("UPDATE {name} SET id = id - 1 WHERE id > {}", self.key()),
                2 => format!("UPDATE {name} SET id = -id; UPDATE {name} SET id = 1 - id WHERE id < 0"),
                _ => format!(
                    "UPDATE {name} w SET id = w.id + 1 FROM (SELECT id, g FROM {name} ORDER BY id DESC OFFSET 0) o WHERE o.id = w.id AND o.g = w.g"
                ),
            },
            Feature::KeysSwapped => {
                let [x, y] = self.keys(2)[..] else { return None };
                if self.random.random_bool(0.3) {
                    format!(
                        "WITH d AS (DELETE FROM {name} WHERE id IN ({x}, {y}) RETURNING *) INSERT INTO {name} (id, g, v, n, t) \
                         SELECT {x} + {y} - id, g, v, n, t FROM d"
                    )
                } else {
                    format!(
                        "UPDATE {name} SET id = -1 WHERE id = {x}; UPDATE {name} SET id = {x} WHERE id = {y}; UPDATE {name} SET id = {y} WHERE id = -1"
                    )
                }
            }
            Feature::Delete => self.delete(table),
            Feature::DeleteUsing => {
                let other = self.any();
                format!("DELETE FROM {name} w USING {} o WHERE w.{} AND o.id = w.id AND o.v <> w.n", other.name, self.some())
            }
            Feature::WritingCtes => {
                let count = self.random.random_range(2..=4);
                let mut writes: Vec<String> = (0..count)
                    .map(|_| {
                        let table = self.any();
                        self.write(table)
                    })
                    .collect();
                let last = writes.pop()?;
                let ctes =
                    writes.iter().enumerate().map(|(index, write)| format!("w{index} AS ({write} RETURNING id)")).collect::<Vec<_>>();
                if self.random.random_bool(0.3) {
                    // The last one is read, or not even that.
                    format!("WITH {}, l AS ({last} RETURNING id) SELECT count(*) FROM l", ctes.join(", "))
                } else {
                    format!("WITH {} {last}", ctes.join(", "))
                }
            }
            Feature::DeletedAndInsertedByCte => {
                let some = self.some();
                format!(
                    "WITH d AS (DELETE FROM {name} WHERE {some} RETURNING id, g, v, n) INSERT INTO {name} (id, g, v, n, t) SELECT id, g, v, n, 'new' FROM d"
                )
            }
            Feature::WrittenOnByCte => {
                let (other, keys) = (self.any(), self.keys(3));
                let (columns, rows) = self.rows(table, &keys);
                format!(
                    "WITH i AS (INSERT INTO {name} ({columns}) {rows} WHERE {} RETURNING id, n), u AS (UPDATE {} SET n = n + 1 WHERE id IN (SELECT id FROM i) RETURNING id) \
                     DELETE FROM {} WHERE id IN (SELECT id + 1 FROM u) OR id IN (SELECT id - 1 FROM i)",
                    Self::absent(table),
                    other.name,
                    self.any().name
                )
            }
            Feature::Merge => {
                let keys = self.keys(4);
                let values: Vec<String> = keys.iter().map(|key| format!("({key}, {})", self.g())).collect();
                let on = if table.composite { "w.id = s.id AND w.g = s.g" } else { "w.id = s.id" };
                let matched = *[
                    "WHEN MATCHED AND w.v > 2 THEN DELETE WHEN MATCHED THEN UPDATE SET n = w.n + 1, v = s.g",
                    "WHEN MATCHED AND w.id % 2 = 0 THEN UPDATE SET id = w.id + 15 WHEN MATCHED THEN DELETE",
                    "WHEN MATCHED THEN UPDATE SET v = coalesce(w.v, 0) + 1",
                    "WHEN MATCHED AND w.v IS NULL THEN DO NOTHING WHEN MATCHED THEN DELETE",
                ]
                .choose(self.random)?;
                format!(
                    "MERGE INTO {name} w USING (VALUES {}) s (id, g) ON {on} {matched} WHEN NOT MATCHED AND s.id < 10 THEN INSERT (id, g, v) VALUES (s.id, s.g, s.id)",
                    values.join(", ")
                )
            }
            Feature::Copy => {
                let first = self.random.random_range(1..48);
                let rows = (0..self.random.random_range(1..5)).map(|index| format!("{}\t{}\t{index}\tc\n", first + index * 2, self.g()));
                copied = Some(rows.collect());
                format!("COPY {name} (id, g, v, t) FROM STDIN")
            }
            Feature::ExceptionBlock => {
                let (first, second, third) = (self.write(table), self.write(table), self.write(table));
                let fails = *["RAISE EXCEPTION 'e'", "PERFORM 1 / 0", "NULL"].choose(self.random)?;
                format!("DO $do$BEGIN {first}; BEGIN {second}; {fails}; EXCEPTION WHEN OTHERS THEN {third}; END; END$do$")
            }
            Feature::RolledBackToSavepoint => {
                let (first, second, third) = (self.write(table), self.write(table), self.write(table));
                format!("{first}; SAVEPOINT i; {second}; SAVEPOINT j; {third}; RELEASE j; ROLLBACK TO i; {third}; RELEASE i")
            }
            Feature::SavepointReleased => {
                let (first, second) = (self.write(table), self.write(table));
                format!("SAVEPOINT i; {first}; SAVEPOINT j; {second}; RELEASE i")
            }
            Feature::Cursor => {
                let (some, set) = (self.some(), self.set());
                let write = if self.random.random_bool(0.6) { format!("UPDATE {name} SET {set}") } else { format!("DELETE FROM {name}") };
                // An empty cursor has no current row, and the statement is refused.
                let some = if self.random.random_bool(0.7) { "true" } else { &some };
                let again =
                    if self.random.random_bool(0.3) { format!("MOVE 1 FROM c; {write} WHERE CURRENT OF c; ") } else { String::new() };
                format!(
                    "DECLARE c CURSOR FOR SELECT * FROM {name} WHERE {some} FOR UPDATE; MOVE 1 FROM c; {write} WHERE CURRENT OF c; {again}CLOSE c"
                )
            }
            Feature::CursorInLoop => {
                let some = self.some();
                let write = *["UPDATE @ SET n = n + 1, v = c.id", "DELETE FROM @", "UPDATE @ SET id = id + 17"].choose(self.random)?;
                format!(
                    "DO $do$DECLARE c CURSOR FOR SELECT * FROM {name} WHERE {some}; BEGIN FOR r IN c LOOP {} WHERE CURRENT OF c; END LOOP; END$do$",
                    write.replace('@', name).replace("c.id", "r.id")
                )
            }
            Feature::Truncate => format!("TRUNCATE {name}"),
            Feature::TruncateCascade => format!("TRUNCATE {name} CASCADE"),
            Feature::TruncatePartition => {
                let table = self.of_kind(&[Kind::Ranges, Kind::Lists])?;
                format!("TRUNCATE {}", table.leaves.choose(self.random)?)
            }
            Feature::PartitionWritten => {
                let table = self.of_kind(&[Kind::Ranges, Kind::Lists])?;
                let leaf = table.leaves.choose(self.random)?;
                match self.random.random_range(0..4) {
                    0 => format!("UPDATE {leaf} SET {} WHERE {}", self.set(), self.some()),
                    1 => format!("DELETE FROM {leaf} WHERE {}", self.some()),
                    // What belongs there: 1 for both kinds.
                    _ => format!(
                        "INSERT INTO {}_1 (id, g, v) VALUES ({}, 0, 1) ON CONFLICT DO NOTHING",
                        table.name,
                        self.random.random_range(1..4)
                    ),
                }
            }
            Feature::RowsMoved => {
                let table = self.of_kind(&[Kind::Ranges, Kind::Lists])?;
                let set = if table.kind == Kind::Lists { "g = (g + 1) % 3, v = 1" } else { "id = 11 - id, n = n + 1" };
                format!("UPDATE {} SET {set} WHERE {}", table.name, self.some())
            }
            Feature::ParentWritten => {
                let table = self.of_kind(&[Kind::Child])?;
                let name = &table.name;
                match self.random.random_range(0..4) {
                    0 => format!("DELETE FROM {name}_up WHERE {}", self.some()),
                    1 => format!("INSERT INTO {name}_up (id, v) VALUES ({}, 0)", self.key()),
                    _ => format!("UPDATE {name}_up SET {} WHERE {}", self.set(), self.some()),
                }
            }
            Feature::FunctionInSet => format!("UPDATE {name} SET v = {} WHERE {}", self.function("id"), self.some()),
            Feature::FunctionInWhere => {
                let (function, some) = (self.function("id"), self.some());
                let write =
                    if self.random.random_bool(0.5) { format!("UPDATE {name} SET n = n + 1") } else { format!("DELETE FROM {name}") };
                format!("{write} WHERE {some} AND {function} % 2 = 0")
            }
            Feature::FunctionInReturning => {
                let (function, write) = (self.function("id"), self.write(table));
                format!("{write} RETURNING {function}")
            }
            Feature::FunctionInValues => {
                let (keys, function) = (self.keys(2), self.function("s.id"));
                format!(
                    "INSERT INTO {name} (id, g, v) SELECT s.id, s.g, {function} FROM (VALUES ({}, {}), ({}, 0)) s (id, g) WHERE {}",
                    keys[0],
                    self.g(),
                    keys[1],
                    Self::absent(table)
                )
            }
            Feature::ConstraintsSet => {
                format!("SET CONSTRAINTS ALL {}", if self.random.random_bool(0.5) { "DEFERRED" } else { "IMMEDIATE" })
            }
        };
        Some(Statement { feature, sql, copied })
    }

    fn function(&mut self, argument: &str) -> String {
        let name = *["touch", "touch", "make", "remove"].choose(self.random).unwrap();
        format!("{}.{name}({argument})", self.family.name)
    }
}
