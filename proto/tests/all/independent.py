"""The other side of independent.rs: protobuf as another project implements it.

Its definitions are built here, from the names, numbers and types that
pgshovel 2015 had, and not from ours. Reads lines from its standard input
(`decode MESSAGE HEX`, `encode NAME`, `print TEXT-AS-HEX`, `text HEX`) and
answers each with one line.
"""

import sys

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

PACKAGE = "pgshovel.interfaces."

# Per message: (name, number, type, label), the oneof it is of in front of the type.
COMMON = {
    "Snapshot": [("min", 1, "uint64", "required"), ("max", 2, "uint64", "required"), ("active", 3, "uint64", "repeated")],
    "Timestamp": [("seconds", 1, "int64", "required"), ("nanos", 2, "int32", "required")],
    "BatchIdentifier": [("id", 1, "uint64", "required"), ("node", 2, "bytes", "required")],
    "Tick": [("id", 1, "uint64", "required"), ("snapshot", 2, "common.Snapshot", "required"), ("timestamp", 3, "common.Timestamp", "required")],
    "Column": [
        ("name", 1, "string", "required"),
        ("boolean", 2, "bool", "value"),
        ("integer64", 3, "int64", "value"),
        ("float", 4, "float", "value"),
        ("string", 5, "string", "value"),
    ],
    "Row": [("columns", 1, "common.Column", "repeated")],
}
STREAMS = {
    "Header": [("publisher", 1, "bytes", "required"), ("sequence", 2, "uint64", "required"), ("timestamp", 3, "common.Timestamp", "required")],
    "Message": [("header", 1, "streams.Header", "required"), ("batch_operation", 2, "streams.BatchOperation", "operation")],
    "BatchOperation": [
        ("batch_identifier", 1, "common.BatchIdentifier", "required"),
        ("begin_operation", 2, "streams.BeginOperation", "operation"),
        ("mutation_operation", 3, "streams.MutationOperation", "operation"),
        ("commit_operation", 4, "streams.CommitOperation", "operation"),
        ("rollback_operation", 5, "streams.RollbackOperation", "operation"),
    ],
    "BeginOperation": [("start", 1, "common.Tick", "required"), ("end", 2, "common.Tick", "required")],
    "MutationOperation": [
        ("id", 1, "uint64", "required"),
        ("schema", 2, "string", "required"),
        ("table", 3, "string", "required"),
        ("operation", 4, "enum", "required"),
        ("identity_columns", 5, "string", "repeated"),
        ("old", 6, "common.Row", "optional"),
        ("new", 7, "common.Row", "optional"),
        ("timestamp", 8, "common.Timestamp", "required"),
        ("transaction", 9, "uint64", "required"),
    ],
    "CommitOperation": [],
    "RollbackOperation": [],
}
ENDED = [("publisher", 1, "bytes", "required"), ("batch_identifier", 2, "common.BatchIdentifier", "required")]
REPLICATION = {
    "BootstrapState": [("node", 1, "bytes", "required"), ("snapshot", 2, "common.Snapshot", "required")],
    "ConsumerState": [("offset", 1, "uint64", "required"), ("header", 2, "streams.Header", "required"), ("dead_publishers", 3, "bytes", "repeated")],
    "InTransaction": ENDED,
    "Committed": ENDED,
    "RolledBack": ENDED,
    "TransactionState": [
        ("in_transaction", 1, "replication.InTransaction", "state"),
        ("committed", 2, "replication.Committed", "state"),
        ("rolled_back", 3, "replication.RolledBack", "state"),
    ],
    "StreamState": [
        ("consumer_state", 1, "replication.ConsumerState", "required"),
        ("transaction_state", 2, "replication.TransactionState", "required"),
    ],
    "State": [("bootstrap_state", 1, "replication.BootstrapState", "optional"), ("stream_state", 2, "replication.StreamState", "optional")],
}
CONFIGURATIONS = {
    "DatabaseConfiguration": [("dsn", 1, "string", "required")],
    "TableConfiguration": [
        ("name", 1, "string", "required"),
        ("primary_keys", 2, "string", "repeated"),
        ("columns", 3, "string", "repeated"),
        ("schema", 4, "string", "optional"),
    ],
    "ReplicationSetConfiguration": [
        ("database", 1, "configurations.DatabaseConfiguration", "required"),
        ("tables", 2, "configurations.TableConfiguration", "repeated"),
    ],
}


def define(pool, package, messages, imports):
    Field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=package + ".proto", package=PACKAGE + package, syntax="proto2")
    file.dependency.extend(name + ".proto" for name in imports)
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label in fields:
            added = message.field.add(name=field, number=number, label=Field.LABEL_OPTIONAL)
            if label in ("required", "repeated"):
                added.label = getattr(Field, "LABEL_" + label.upper())
            elif label != "optional":
                if not message.oneof_decl:
                    message.oneof_decl.add(name=label)
                added.oneof_index = 0
            if kind == "enum":
                added.type, added.type_name = Field.TYPE_ENUM, "." + PACKAGE + package + "." + name + ".Operation"
                operation = message.enum_type.add(name="Operation")
                for value, value_name in enumerate(["INSERT", "UPDATE", "DELETE"], 1):
                    operation.value.add(name=value_name, number=value)
            elif "." in kind:
                added.type, added.type_name = Field.TYPE_MESSAGE, "." + PACKAGE + kind
            else:
                added.type = getattr(Field, "TYPE_" + kind.upper())
    pool.Add(file)


pool = descriptor_pool.DescriptorPool()
define(pool, "common", COMMON, [])
define(pool, "streams", STREAMS, ["common"])
define(pool, "replication", REPLICATION, ["common", "streams"])
define(pool, "configurations", CONFIGURATIONS, [])


def new(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(PACKAGE + name))()


PUBLISHER, NODE = b"P" * 16, b"N" * 16


def message(sequence, batch=7):
    made = new("streams.Message")
    made.header.publisher, made.header.sequence = PUBLISHER, sequence
    made.header.timestamp.seconds, made.header.timestamp.nanos = 1_450_000_000, 999_999_999
    made.batch_operation.batch_identifier.id, made.batch_operation.batch_identifier.node = batch, NODE
    return made, made.batch_operation


def begin():
    made, operation = message(0)
    for tick, number in ((operation.begin_operation.start, 3), (operation.begin_operation.end, 4)):
        tick.id, tick.snapshot.min, tick.snapshot.max = number, 100 * number, 100 * number + 5
        tick.snapshot.active.extend([100 * number + 3, 100 * number])
        tick.timestamp.seconds, tick.timestamp.nanos = -1, 0
    return made


def row(target, **values):
    for name, value in values.items():
        column = target.columns.add(name=name)
        if isinstance(value, bool):
            column.boolean = value
        elif isinstance(value, int):
            column.integer64 = value
        elif isinstance(value, float):
            column.float = value
        elif value is not None:
            column.string = value
    target.SetInParent()


def mutation(sequence, operation, old=None, new=None):
    made, batch = message(sequence)
    mutation = batch.mutation_operation
    mutation.id, mutation.schema, mutation.table, mutation.operation = 40 + sequence, "public", "Grüße", operation
    mutation.identity_columns.append("id")
    mutation.timestamp.seconds, mutation.timestamp.nanos, mutation.transaction = 1_450_000_000, 5000, 2**63 + 1
    if old is not None:
        row(mutation.old, **old)
    if new is not None:
        row(mutation.new, **new)
    return made


def empty(sequence, operation):
    made, batch = message(sequence)
    getattr(batch, operation).SetInParent()
    return made


def committed():
    state = new("replication.State")
    consumer = state.stream_state.consumer_state
    consumer.offset, consumer.header.publisher, consumer.header.sequence = 12, PUBLISHER, 5
    consumer.header.timestamp.seconds, consumer.header.timestamp.nanos = 1, 2
    consumer.dead_publishers.append(b"D" * 16)
    ended = state.stream_state.transaction_state.committed
    ended.publisher, ended.batch_identifier.id, ended.batch_identifier.node = PUBLISHER, 7, NODE
    return state


FIRST = {"id": -1, "ok": True, "ratio": 0.5, "note": "ü\u0001", "nothing": None}
ENCODED = {
    "begin": begin,
    "insert": lambda: mutation(1, 1, new=FIRST),
    "update": lambda: mutation(2, 2, old=FIRST, new={**FIRST, "nothing": "something"}),
    "delete": lambda: mutation(3, 3, old={"id": 2**63 - 1, "ok": None, "ratio": None, "note": None, "nothing": None}),
    "commit": lambda: empty(4, "commit_operation"),
    "rollback": lambda: empty(4, "rollback_operation"),
    "committed": committed,
}


def configuration(hexadecimal):
    return text_format.Parse(bytes.fromhex(hexadecimal).decode(), new("configurations.ReplicationSetConfiguration"))


def decode(argument):
    name, hexadecimal = argument.split(" ")
    decoded = new(name)
    decoded.ParseFromString(bytes.fromhex(hexadecimal))
    known = new(name)
    known.CopyFrom(decoded)
    known.DiscardUnknownFields()
    return text_format.MessageToString(known, as_one_line=True, as_utf8=True)


COMMANDS = {
    "decode": decode,
    "encode": lambda name: ENCODED[name]().SerializeToString().hex(),
    "parse": lambda text: configuration(text).SerializeToString().hex(),
    "print": lambda text: text_format.MessageToString(configuration(text)).encode().hex(),
}

for line in sys.stdin:
    command, argument = line.rstrip("\n").split(" ", 1)
    print(COMMANDS[command](argument), flush=True)
