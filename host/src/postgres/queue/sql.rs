//! The statements that a relay sends to PgQ and PostgreSQL. Pure.

use proto::interfaces::common::Snapshot;
use proto::snapshot::{print, visible};

use crate::names;
use crate::postgres::trigger::shared::OF_RELAYS;
use crate::postgres::{event, literal, quote};

/// What the sessions of relays are called: the set follows, which PostgreSQL may cut off.
pub const APPLICATION: &str = "pgshovel relay";

/// Settings of every session of a relay: those of the role or the database must
/// not make a long reading fail, nor change what it reads. Names that the
/// server does not know are passed over.
pub const SETTINGS: &str = "
SELECT pg_catalog.set_config(name, setting, false)
  FROM (VALUES ('search_path', 'pg_catalog, pg_temp'),
               ('statement_timeout', '0'),
               ('lock_timeout', '10s'),
               ('idle_session_timeout', '0'),
               ('idle_in_transaction_session_timeout', '60s'),
               ('default_transaction_isolation', 'read committed'),
               ('default_transaction_read_only', 'off'),
               ('jit', 'off'),
               ('max_parallel_workers_per_gather', '0'),
               ('work_mem', '64MB'),
               ('TimeZone', 'UTC'),
               ('DateStyle', 'ISO, YMD')) AS ours(name, setting)
 WHERE pg_catalog.current_setting(name, true) IS NOT NULL";

/// The relay that has the consumer $2 of the set $1, or had it last: its epoch, process, when
/// that started, and what its session is called, unless it is over. A pool may have
/// given the session to somebody else.
#[must_use]
pub fn holder(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!(
        "SELECT r.epoch, r.process, r.started, a.application_name
           FROM {schema}.relays r
           LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = r.process AND coalesce(a.backend_start, r.started) = r.started
                 AND pg_catalog.starts_with(a.application_name, '{APPLICATION} ')
          WHERE r.\"set\" = $1 AND r.consumer = $2"
    )
}

/// Takes the consumer $2 of the set $1 from whoever has it under the epoch $3, NULL if nobody
/// ever had it: no row if somebody else took it meanwhile. The new epoch is not below $4, nor
/// below the time, in microseconds, so that it is above those before a set was created
/// anew, moved or restored. Waits for an end of a batch that is under way, and none
/// of the epochs before comes after it.
#[must_use]
pub fn take(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!(
        "INSERT INTO {schema}.relays AS r (\"set\", consumer, epoch, process, started)
         SELECT $1, $2, greatest($4, (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint), a.pid, a.backend_start
           FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_catalog.pg_backend_pid()
         ON CONFLICT (\"set\", consumer) DO UPDATE
           SET epoch = greatest(r.epoch + 1, excluded.epoch), process = excluded.process, started = excluded.started
           WHERE r.epoch = $3
         RETURNING epoch"
    )
}

/// Ends the session of process $1 that started at $2 and is called as this one is.
pub const EVICT: &str = "
SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a
 WHERE a.pid = $1 AND coalesce(a.backend_start, $2) = $2 AND a.pid <> pg_catalog.pg_backend_pid()
   AND a.application_name = pg_catalog.current_setting('application_name')";

/// Whether the extension, the queue ($1) and its consumer ($2) exist.
pub const EXISTS: &str = "
SELECT q.queue_id, EXISTS (SELECT FROM pgq.subscription s JOIN pgq.consumer c ON c.co_id = s.sub_consumer
                            WHERE s.sub_queue = q.queue_id AND c.co_name = $2)
  FROM pgq.queue q WHERE q.queue_name = $1";

/// $1 queue, $2 consumer.
pub const NEXT: &str = "SELECT batch_id, prev_tick_id, cur_tick_id FROM pgq.next_batch_info($1, $2)";

/// $1 id of the queue, $2 and $3 ticks. The time is in microseconds since 1970.
pub const TICKS: &str = "
SELECT tick_id, tick_snapshot::text, (extract(epoch FROM tick_time) * 1000000)::bigint
  FROM pgq.tick WHERE tick_queue = $1 AND tick_id IN ($2, $3) ORDER BY tick_id";

/// The last ticks up to one, the last first: $1 id of the queue, $2 tick.
pub const TICKS_BEFORE: &str = "
SELECT tick_snapshot::text FROM pgq.tick WHERE tick_queue = $1 AND tick_id <= $2 ORDER BY tick_id DESC LIMIT 32";

/// $1 batch, of the set $2 and its consumer $3, which this relay took under the epoch $4: no row
/// if another one took it since. 1: ended; 0: it was not open. The disk is not waited for: what [`NEXT`] writes
/// is behind it in the log, and a batch that a crash of the server opens again is one that
/// the stream has and its readers pass over.
#[must_use]
pub fn finish(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!(
        "SELECT pgq.finish_batch($1)
           FROM (SELECT FROM {schema}.relays WHERE \"set\" = $2 AND consumer = $3 AND epoch = $4 FOR SHARE) AS own,
                pg_catalog.set_config('synchronous_commit', 'off', true)"
    )
}

/// Streams the events of a batch: those of transactions that `end` sees and `start` does
/// not. `queue` is the queue's id.
///
/// All of the queue's tables are read, whichever of them PgQ calls the current one: an
/// event is found in whatever table it is. As `pgq.batch_event_sql` does, transactions that
/// were in progress at the start are looked for one by one, so that a long one does not make
/// each batch read again what was delivered meanwhile.
#[must_use]
pub fn copy(queue: i32, start: &Snapshot, end: &Snapshot) -> String {
    let columns = event::COLUMNS;
    let since = |transaction: &u64| visible(end, *transaction);
    let late: Vec<String> = start.active.iter().filter(|transaction| since(transaction)).map(u64::to_string).collect();
    let late = match late.is_empty() {
        true => String::new(),
        false => format!("UNION ALL SELECT {columns} FROM pgq.event_{queue} WHERE ev_txid = ANY ('{{{}}}') ", late.join(",")),
    };
    format!(
        "COPY (SELECT {columns} FROM pgq.event_{queue} WHERE ev_txid >= {from} AND ev_txid < {to} \
         AND txid_visible_in_snapshot(ev_txid, '{end}') {late}ORDER BY ev_id) TO STDOUT (FORMAT binary)",
        from = start.max,
        to = end.max,
        end = print(end),
    )
}

/// What the rows of a table look like: $1 set, $2 version, $3 table.
#[must_use]
pub fn relation(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!("SELECT schema, \"table\", columns::text, identity FROM {schema}.relations WHERE \"set\" = $1 AND version = $2 AND key = $3")
}

/// What identifies the rows of a table by now: $1 set, $2 table.
#[must_use]
pub fn identity(cluster: &str) -> String {
    let schema = quote(&names::schema(cluster));
    format!(
        "SELECT r.identity FROM {schema}.relations r JOIN {schema}.sets s ON s.name = r.\"set\" AND s.version = r.version WHERE s.name = $1 AND r.key = $2"
    )
}

/// Columns that a table has by now: $1 the table as SQL names it, $2 names. It takes no right
/// on the table's schema, as a cast to regclass would.
pub const COLUMNS: &str = "
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($2)";

/// What sessions that look for events plan with: tables of events have no statistics, and
/// an index that finds at once what a plan for a small table would read all of it for.
pub const PLANS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan";

/// One reading of the queue $1 and its consumer $2 for [`tick::due`](super::tick::due).
/// It waits as long as no event is drawn after the event $3, and looks at most $4 times
/// for one, $5 seconds apart. What it reads, but for the event drawn last, is of before.
pub const READING: &str = "
WITH RECURSIVE drawn (looks, event, sequence) AS (
    SELECT 0, pgq.seq_getval(queue_event_seq), queue_event_seq FROM pgq.queue WHERE queue_name = $1
     UNION ALL
    SELECT looks + 1, CASE WHEN pg_catalog.pg_sleep($5) IS NOT NULL THEN pgq.seq_getval(sequence) END, sequence
      FROM drawn WHERE looks < $4::integer AND event = $3
)
SELECT pg_catalog.txid_current_snapshot()::text, t.tick_id, t.tick_snapshot::text, t.tick_event_seq,
       extract(epoch FROM pg_catalog.clock_timestamp() - t.tick_time)::float8,
       s.sub_last_tick, q.queue_ticker_paused,
       (SELECT event FROM drawn ORDER BY looks DESC LIMIT 1), t.ticker
  FROM pgq.queue q
  JOIN pgq.subscription s ON s.sub_queue = q.queue_id
  JOIN pgq.consumer c ON c.co_id = s.sub_consumer AND c.co_name = $2,
       LATERAL (SELECT tick_id, tick_snapshot, tick_event_seq, tick_time, xmin::text::bigint AS ticker FROM pgq.tick WHERE tick_queue = q.queue_id ORDER BY tick_id DESC LIMIT 1) t
 WHERE q.queue_name = $1";

/// See `trigger/queue.sql`. $1 set.
#[must_use]
pub fn draw_first(cluster: &str) -> String {
    format!("SELECT {}.draw_first($1)", quote(&names::schema(cluster)))
}

/// Begins the transaction of a tick. The disk is not waited for: what [`NEXT`] writes is
/// behind it in the log, and nobody outside hears of a tick before that is durable.
pub const BEGIN_TICK: &str = "BEGIN; SET LOCAL synchronous_commit = off";

/// $1 set, for which [`own`] was done, $2 the last tick of its queue, if it still is. The first
/// statement of its transaction.
#[must_use]
pub fn tick(cluster: &str) -> String {
    format!("SELECT {}.tick($1, $2)", quote(&names::schema(cluster)))
}

/// $1 set, $2 the tick up to which it was done.
#[must_use]
pub fn thin(cluster: &str) -> String {
    format!("SELECT {}.thin($1, $2)", quote(&names::schema(cluster)))
}

/// The table that the tables of the queue $1 inherit from.
pub const EVENTS: &str = "SELECT queue_data_pfx FROM pgq.queue WHERE queue_name = $1";

/// Whether `events`, as [`EVENTS`] says, has an event of a transaction between one of $1 and
/// the one of $2 beside it.
#[must_use]
pub fn any_event(events: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest($1::bigint[]), pg_catalog.unnest($2::bigint[])) AS ended (first, last),
                               LATERAL (SELECT FROM {} WHERE ev_txid BETWEEN ended.first AND ended.last LIMIT 1) AS event)",
        table(events)
    )
}

fn table(events: &str) -> String {
    events.split('.').map(quote).collect::<Vec<_>>().join(".")
}

/// What is looked up only to be told of may not load the server for long.
pub const LOOK_TIMEOUT: &str = "SET statement_timeout = '5s'; SET search_path = pg_catalog, pg_temp";

/// The queue $1: the table that its events' tables inherit from, what they all take on
/// disk, and the last event id that was drawn.
pub const SIZE: &str = "
SELECT q.queue_data_pfx,
       (SELECT coalesce(sum(pg_catalog.pg_total_relation_size(i.inhrelid)), 0)::bigint
          FROM pg_catalog.pg_inherits i WHERE i.inhparent = q.queue_data_pfx::regclass),
       pgq.seq_getval(q.queue_event_seq)
  FROM pgq.queue q WHERE q.queue_name = $1";

/// Who reads the queue $1: name, and of the last tick that it read up to the last event
/// id drawn before it, its snapshot and its age in seconds.
pub const CONSUMERS: &str = "
SELECT c.co_name, t.tick_event_seq, t.tick_snapshot::text, extract(epoch FROM pg_catalog.clock_timestamp() - t.tick_time)::float8
  FROM pgq.queue q
  JOIN pgq.subscription s ON s.sub_queue = q.queue_id
  JOIN pgq.consumer c ON c.co_id = s.sub_consumer
  LEFT JOIN pgq.tick t ON t.tick_queue = q.queue_id AND t.tick_id = s.sub_last_tick
 WHERE q.queue_name = $1 ORDER BY c.co_name";

/// How many seconds ago the oldest event was made that the snapshot $1 does not see:
/// the first by transaction, for which there is an index. `events` is as [`SIZE`] says.
#[must_use]
pub fn oldest(events: &str) -> String {
    format!(
        "SELECT extract(epoch FROM pg_catalog.clock_timestamp() - ev_time)::float8 FROM {}
          WHERE ev_txid >= pg_catalog.txid_snapshot_xmin($1::text::txid_snapshot)
            AND NOT pg_catalog.txid_visible_in_snapshot(ev_txid, $1::text::txid_snapshot)
          ORDER BY ev_txid LIMIT 1",
        table(events)
    )
}

/// Whether PgQ's own daemon serves this database.
pub const DAEMON: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity
                WHERE datname = pg_catalog.current_database() AND application_name = 'pgqd')";

/// Makes the ticks and rotations of the set $1 the relays' alone.
#[must_use]
pub fn own(cluster: &str) -> String {
    format!("SELECT {}.own($1)", quote(&names::schema(cluster)))
}

/// Whether the functions that relays call are there; whether the role may call them; and whether it
/// has more rights than it needs, without being a superuser or who made the set.
#[must_use]
pub fn may_own(cluster: &str) -> String {
    let names = OF_RELAYS.iter().filter_map(|signature| signature.split_once('(')).map(|(name, _)| literal(name));
    format!(
        "SELECT count(*) = {count}, count(*) FILTER (WHERE pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) = {count},
       EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = current_user AND NOT r.rolsuper AND r.oid NOT IN (SELECT o.nspowner FROM pg_catalog.pg_namespace o WHERE o.nspname = {schema})
                AND pg_catalog.to_regrole('pgq_admin') IS NOT NULL AND pg_catalog.pg_has_role(r.oid, pg_catalog.to_regrole('pgq_admin')::oid, 'MEMBER'))
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = {schema} AND p.proname IN ({names})",
        count = OF_RELAYS.len(),
        schema = literal(&names::schema(cluster)),
        names = names.collect::<Vec<_>>().join(", ")
    )
}

/// Whether PgQ's own maintenance, if anybody runs it, leaves the tables of the queue $1 alone.
pub const LEFT_ALONE: &str = "SELECT coalesce(queue_rotation_period > '1 year', true) FROM pgq.queue WHERE queue_name = $1";

/// Whether other sessions' `backend_xmin` can be seen.
pub const SEES_SNAPSHOTS: &str = "SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')";

/// The queue's rotation: whether somebody began one by PgQ's own functions, and how many
/// seconds ago the last one was. $1 queue, for which [`own`] was done.
pub const ROTATION: &str = "
SELECT queue_switch_step2 = 9223372036854775807,
       CASE WHEN pg_catalog.isfinite(queue_switch_time) THEN extract(epoch FROM pg_catalog.clock_timestamp() - queue_switch_time)::float8 ELSE 'Infinity' END
  FROM pgq.queue WHERE queue_name = $1";

/// $1 set, $2 whether somebody began a rotation by PgQ's own functions.
#[must_use]
pub fn rotate(cluster: &str) -> String {
    format!("SELECT {}.rotate($1, $2)", quote(&names::schema(cluster)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_quoted() {
        assert!(relation("a\"b").contains("\"pgshovel_a\"\"b\".relations"));
    }
}
