"""A target of pgshovel in Python: keeps every change as a row of a history, with what
the row was before and after, in the PostgreSQL database that is granted to it.

A batch and the state are committed in one transaction, so each batch is in the
history exactly once, whatever crashes: the guarantee `transactional`.
"""

import functools

from componentize_py_types import Err
from wit_world.exports import target as base
from wit_world.imports import log, postgres, types

import history


def failure(error):
    """What the host shall do about a failure of the capability `postgres`."""
    if isinstance(error, postgres.Failure_Refused):
        said = error.value
        text = f"the history's database refused a statement: {said.message} (SQLSTATE {said.sqlstate})"
        return types.Error_Retry(text) if said.passing else types.Error_Stop(text)
    if isinstance(error, postgres.Failure_Unavailable):
        return types.Error_Retry(error.value)
    return types.Error_Stop(error.value)


def reporting(method):
    """Any other exception is a trap, with a traceback in the host's log."""

    @functools.wraps(method)
    def call(*arguments):
        try:
            return method(*arguments)
        except Err as raised:
            if isinstance(raised.value, (types.Error_Retry, types.Error_Stop, types.Error_Configure)):
                raise
            raise Err(failure(raised.value)) from None

    return call


class Session(base.Session):
    @classmethod
    def open(cls, context, configuration):
        return cls(context, configuration)

    @reporting
    def __init__(self, context, configuration):
        try:
            self.schema = history.settings(configuration)
        except ValueError as error:
            raise Err(types.Error_Configure(f"{context.section}.configuration: {error}")) from None
        self.key = (context.cluster, context.set)
        self.insert = history.insert(self.schema)
        self.loading = False
        self.batch = None
        self.database = postgres.Connection.open(None)
        for statement in history.setup(self.schema):
            self.database.execute(statement, [])
        log.emit(log.Level.INFO, f"the history is kept in the schema {history.quote(self.schema)}")

    def guarantee(self):
        return base.Guarantee.TRANSACTIONAL

    @reporting
    def load_state(self):
        rows = self.database.query(
            f'SELECT state FROM {history.quote(self.schema)}.state WHERE cluster = $1 AND "set" = $2', self.parameters()
        )
        return rows[0][0].value if rows else None

    def set_source(self, source):
        """The history is in tables of its own, so it may be in the source's database."""

    @reporting
    def load(self, relation, rows, version):
        if not self.loading:
            self.loading = True
            self.database.execute("BEGIN", [])
            self.database.execute(
                f'DELETE FROM {history.quote(self.schema)}.changes WHERE cluster = $1 AND "set" = $2', self.parameters()
            )
        relations = history.Relations([relation])
        self.write([relations.loaded(relation, row) for row in rows])

    @reporting
    def begin(self, batch):
        self.batch = (batch.node, str(batch.start_tick), str(batch.end_tick))
        self.database.execute("BEGIN", [])

    @reporting
    def apply(self, relations, mutations):
        known = history.Relations(relations)
        self.write([known.record(mutation) for mutation in mutations])

    @reporting
    def commit(self, expected, state):
        if self.batch is None and not self.loading:
            # An empty bootstrap.
            self.database.execute("BEGIN", [])
        name = history.quote(self.schema)
        if expected is None:
            stored = self.database.execute(
                f"INSERT INTO {name}.state VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", self.parameters(types.Value_Bytes(state))
            )
        else:
            stored = self.database.execute(
                f'UPDATE {name}.state SET state = $3 WHERE cluster = $1 AND "set" = $2 AND state = $4',
                self.parameters(types.Value_Bytes(state), types.Value_Bytes(expected)),
            )
        if stored != 1:
            self.database.execute("ROLLBACK", [])
            raise Err(types.Error_Stop(f"the state in {name}.state is not what this worker stored last: let only one worker run for this set"))
        self.database.execute("COMMIT", [])
        self.batch, self.loading = None, False

    @reporting
    def rollback(self):
        self.database.execute("ROLLBACK", [])
        self.batch, self.loading = None, False

    def write(self, records):
        if records:
            shared = self.key + (self.batch or (None, None, None))
            self.database.execute_set(self.insert, history.columns(shared, records))

    def parameters(self, *more):
        return [types.Value_Text(part) for part in self.key] + list(more)
