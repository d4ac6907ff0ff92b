"""What a change looks like in the history: pure functions, tested by test_history.py."""

import json
import math

# In the order of the columns of `records`.
COLUMNS = ("relation", "operation", "event", "transaction", "made_at", "before", "after")


def settings(configuration):
    """The schema that holds the history. Raises ValueError with a text for the operator."""
    given = json.loads(configuration)
    if not isinstance(given, dict):
        raise ValueError("the configuration has to be a mapping")
    unknown = sorted(set(given) - {"schema"})
    if unknown:
        raise ValueError(f"the configuration has no `{unknown[0]}`: it takes `schema`")
    schema = given.get("schema", "history")
    if not isinstance(schema, str) or not 0 < len(schema.encode()) < 64 or "\0" in schema:
        raise ValueError("`schema` has to be the name of a schema: a text of 1 to 63 bytes")
    return schema


def quote(identifier):
    return '"' + identifier.replace('"', '""') + '"'


def setup(schema):
    """Statements that make the tables unless they are there."""
    name = quote(schema)
    return [
        f"CREATE SCHEMA IF NOT EXISTS {name}",
        f"""CREATE TABLE IF NOT EXISTS {name}.changes (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            cluster text NOT NULL, "set" text NOT NULL,
            node uuid, start_tick bigint, end_tick bigint,
            relation text NOT NULL, operation text NOT NULL,
            event numeric(20), transaction numeric(20), made_at timestamptz,
            before jsonb, after jsonb)""",
        f"""CREATE TABLE IF NOT EXISTS {name}.state (
            cluster text NOT NULL, "set" text NOT NULL, state bytea NOT NULL,
            PRIMARY KEY (cluster, "set"))""",
    ]


def insert(schema):
    """One statement for any number of records: each column is an array of texts, those
    of the batch (which all its records share) too."""
    return f"""INSERT INTO {quote(schema)}.changes
        (cluster, "set", node, start_tick, end_tick, relation, operation, event, transaction, made_at, before, after)
        SELECT cluster, "set", node::uuid, start_tick::bigint, end_tick::bigint,
               relation, operation, event::numeric, transaction::numeric,
               timestamptz 'epoch' + made_at::bigint * interval '1 microsecond', before::jsonb, after::jsonb
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                    $9::text[], $10::text[], $11::text[], $12::text[])
             WITH ORDINALITY AS t (cluster, "set", node, start_tick, end_tick, relation, operation, event, transaction,
                                   made_at, before, after, position)
        ORDER BY position"""


def plain(value):
    """A value of `types.wit` as one of JSON. What JSON has no number for becomes text."""
    kind = type(value).__name__
    if kind == "Value_Null":
        return None
    if kind == "Value_Bytes":
        return "\\x" + value.value.hex()
    if kind == "Value_Float" and not math.isfinite(value.value):
        return "NaN" if math.isnan(value.value) else "Infinity" if value.value > 0 else "-Infinity"
    return value.value


def document(names, row):
    return json.dumps({name: plain(value) for name, value in zip(names, row)}, ensure_ascii=False, allow_nan=False)


class Relations:
    """The relations of one call, by what a record needs of them."""

    def __init__(self, relations):
        self.known = {
            relation.id: (f"{quote(relation.schema)}.{quote(relation.table)}", [column.name for column in relation.columns])
            for relation in relations
        }

    def record(self, mutation):
        """One mutation, as texts in the order of COLUMNS."""
        relation, names = self.known[mutation.relation]
        before = after = None
        change = mutation.change
        kind = type(change).__name__
        if kind == "Change_Insert":
            operation, after = "insert", document(names, change.value)
        elif kind == "Change_Update":
            operation = "update"
            before, after = document(names, change.value.before), document(names, change.value.after)
        elif kind == "Change_Delete":
            operation, before = "delete", document(names, change.value)
        else:
            operation = "truncate"
        return relation, operation, str(mutation.id), str(mutation.transaction), str(mutation.timestamp_us), before, after

    def loaded(self, relation, row):
        """One row of the bootstrap, in the same form."""
        name, names = self.known[relation.id]
        return name, "load", None, None, None, None, document(names, row)


def columns(shared, records):
    """Columns for `insert`: what all records share, then theirs."""
    return [[value] * len(records) for value in shared] + [list(column) for column in zip(*records)]
