COMMENT ON SCHEMA @capture@ IS 'pgshovel: what captures changes. Nobody needs USAGE on it, and whoever has it can call what writes events.';
CREATE TABLE IF NOT EXISTS @schema@.truncating (
  transaction xid8 NOT NULL,
  "set" text NOT NULL,
  key text NOT NULL,
  whole text,
  events bigint
);
REVOKE ALL ON @schema@.truncating FROM PUBLIC;
-- What the role may do that the functions run as: it has no login, and nothing of its own.
GRANT USAGE ON SCHEMA @schema@, @capture@ TO @role@;
GRANT SELECT, INSERT, DELETE ON @schema@.truncating TO @role@;
COMMENT ON TABLE @schema@.truncating IS 'The tables that a transaction is truncating; of a partition the whole table, and how many events of that were captured by triggers on rows or before.';

-- The columns of a table as they are, whatever snapshot the transaction has; "sample" is a row
-- of it. In REPEATABLE READ a query sees the catalog as it was when the transaction began, and
-- ALTER TABLE may have come in between. So the function asks what needs no snapshot: names by
-- their number, and the planner for the type of the row, whose constants it prints with their
-- types, modifiers and all. Only a row of NULLs is looked at, for which no code of a type's
-- owner is run; and no name is looked up, which could be another table's or type's by then.
CREATE OR REPLACE FUNCTION @capture@.columns(relation oid, sample record) RETURNS TABLE (attnum int2, attname name, atttypid oid, type text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $function$
DECLARE
  names text[];
  plan json;
  i int := 1;
BEGIN
  IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
    RETURN QUERY SELECT a.attnum, a.attname, a.atttypid, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
      WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;
    RETURN;
  END IF;
  EXECUTE 'SELECT ARRAY(SELECT json_object_keys(row_to_json(r)) FROM (SELECT (CASE WHEN false THEN $1 END).*) r)' INTO names USING sample;
  EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT (CASE WHEN false THEN $1 END).*' INTO plan USING sample;
  FOR number IN 1 .. 1600 LOOP
    EXIT WHEN i > cardinality(names);
    attname := (pg_identify_object_as_address('pg_class'::regclass, relation, number)).object_names[3];
    -- One that was dropped has a name too.
    CONTINUE WHEN attname IS DISTINCT FROM names[i];
    attnum := number;
    EXECUTE format('SELECT pg_typeof((CASE WHEN false THEN $1 END).%I)::oid', attname) INTO atttypid USING sample;
    type := substring(plan #>> ARRAY['0', 'Plan', 'Output', (i - 1)::text] FROM '^NULL::(.*?)( COLLATE (("([^"]|"")*"|[a-z0-9_]+)\.?)+)?$');
    type := coalesce(type, format_type(atttypid, -1));
    i := i + 1;
    RETURN NEXT;
  END LOOP;
END
$function$;

-- Whether the table has the columns that its functions were written for, each as "name
-- type modifier", and the set's view is there. It says IMMUTABLE, so that the planner
-- asks it once per plan; its arguments are constants of type regclass, which make the plan
-- depend on the table and the view: whatever ALTER TABLE changes, PostgreSQL plans anew.
-- What the snapshot cannot see is not as known: a row of the catalog that was changed since
-- has an xmax of a transaction that did not roll back.
CREATE OR REPLACE FUNCTION @capture@.as_known(relation regclass, events regclass, captured text[], every_column boolean) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RETURN (
    SELECT count(*) FILTER (WHERE a.attname || ' ' || a.atttypid || ' ' || a.atttypmod = ANY (captured) AND a.is_current) = cardinality(captured)
      AND (NOT every_column OR count(*) = cardinality(captured) AND bool_and(c.is_current))
      AND EXISTS (SELECT FROM pg_class v WHERE v.oid = events AND v.relkind = 'v')
    FROM (SELECT attname, atttypid, atttypmod, @capture@.is_current(xmax) FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped) a
    CROSS JOIN (SELECT @capture@.is_current(xmax) FROM pg_class WHERE oid = relation) c
  );
END
$function$;

-- Whether a row of the catalog that the snapshot sees is the last one, by its xmax: 32 bits
-- of the id of a transaction that may be younger than the snapshot.
CREATE OR REPLACE FUNCTION @capture@.is_current(changed_by xid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
  SELECT changed_by = '0'::xid OR pg_xact_status(((s.next + ((changed_by::text::bigint - s.next + 2147483648) & 4294967295) - 2147483648))::text::xid8) IS NOT DISTINCT FROM 'aborted'
  FROM (SELECT txid_snapshot_xmax(txid_current_snapshot()) AS next) s
$function$;

-- How the rows of a table are selected from one that is called "r", and how an event says
-- so. The numbers are of the table "configured"; another one has columns of the same names.
-- "sample" is a row of the table. Whatever table it is of, the statements that take it are
-- planned for it alone.
CREATE OR REPLACE FUNCTION @capture@.describe(relation oid, configured oid, captured int2[], "identity" int2[], sample record, OUT selected text, OUT format text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $function$
DECLARE
  of_relation json;
  of_configured json;
  identifying json;
BEGIN
  EXECUTE 'SELECT coalesce(json_agg(c), ''[]'') FROM @capture@.columns($1, $2) c' INTO of_relation USING relation, sample;
  of_configured := of_relation;
  IF configured <> relation THEN
    EXECUTE 'SELECT coalesce(json_agg(c), ''[]'') FROM @capture@.columns($1, $2) c' INTO of_configured USING configured, sample;
  END IF;
  SELECT json_agg(c.attname ORDER BY array_position("identity", c.attnum)) INTO identifying
  FROM json_to_recordset(of_configured) AS c (attnum int2, attname name) WHERE c.attnum = ANY ("identity");
  SELECT coalesce(string_agg(format(CASE WHEN e.json THEN 'r.%1$I' ELSE @text@ END, a.attname), ', ' ORDER BY a.attnum), ''),
    @format@ || ' ' || json_build_object(
      'columns', json_agg(json_build_object('name', a.attname, 'type', a.type, 'oid', a.atttypid::int8, 'encoding', CASE WHEN e.json THEN 'json' ELSE 'text' END) ORDER BY a.attnum),
      'identity', identifying)
  INTO selected, format
  FROM json_to_recordset(of_relation) AS a (attnum int2, attname name, atttypid oid, type text)
  -- A type that is newer than the snapshot is written as its text.
  LEFT JOIN pg_type t ON t.oid = a.atttypid
  CROSS JOIN LATERAL (SELECT coalesce(@json_is_exact@, false) AS json) e
  WHERE captured IS NULL OR a.attname IN (SELECT c.attname FROM json_to_recordset(of_configured) AS c (attnum int2, attname name) WHERE c.attnum = ANY (captured));
END
$function$;

-- Captures a row of a table that is not as its function knows it, whatever ALTER TABLE did:
-- builds the statement from the columns that there are, and describes them in the event.
-- "leaf" is the partition that holds the row, "row_type" the type of the table's rows. Refuses
-- what no statement has written: whoever may use the schema can call a table's function, and
-- PostgreSQL counts what a session writes. A value is looked at only once its type is that of
-- the table: another type may have casts that are its owner's code.
CREATE OR REPLACE FUNCTION @capture@.altered(kind text, in_set text, key text, version text, configured oid, row_type oid, leaf oid, captured int2[], "identity" int2[], n record, o record) RETURNS void
LANGUAGE plpgsql @settings@ AS $function$
DECLARE
  events constant text := format('%I.%I', @capture_name@, in_set);
  relation oid := configured;
  type oid;
  written oid;
  writes bigint;
  selected text;
  format text;
  new text;
  old text;
BEGIN
  -- A queue that was dropped with CASCADE captures nothing, and stops no write: the relay reports it.
  IF to_regclass(events) IS NULL THEN RETURN; END IF;
  IF kind <> 'D' THEN
    EXECUTE 'SELECT pg_typeof($1)::oid' INTO type USING n;
  END IF;
  IF kind <> 'I' THEN
    EXECUTE 'SELECT CASE WHEN pg_typeof($1)::oid = $2 OR $2 IS NULL THEN pg_typeof($1)::oid ELSE 0 END' INTO type USING o, type;
  END IF;
  IF type <> row_type THEN
    -- A restored copy of the database has other OIDs.
    SELECT t.typrelid INTO relation FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.oid = type AND c.relkind IN ('r', 'p') AND c.oid::regclass::text = key AND NOT EXISTS (SELECT FROM pg_class other WHERE other.oid = configured AND other.relkind IN ('r', 'p'));
  END IF;
  written := coalesce(leaf, relation);
  writes := CASE kind WHEN 'I' THEN pg_stat_get_xact_tuples_inserted(written) WHEN 'U' THEN pg_stat_get_xact_tuples_updated(written) ELSE pg_stat_get_xact_tuples_deleted(written) END;
  -- PostgreSQL does not count what is written to a foreign table.
  IF relation IS NULL
    OR writes = 0 AND current_setting('track_counts')::boolean AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = written AND c.relkind = 'f')
    OR written <> relation AND NOT @capture@.is_below(written, relation)
  THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
      MESSAGE = format('pgshovel captures a change of %s only where a statement makes it', key),
      HINT = 'The function belongs to a trigger, and is not to be called.';
  END IF;
  IF kind = 'D' THEN
    n := o;
  END IF;
  EXECUTE 'SELECT d.selected, d.format FROM @capture@.describe($1, $1, $2, $3, $4) d' INTO selected, format USING relation, captured, "identity", n;
  IF kind <> 'D' THEN
    EXECUTE 'SELECT row_to_json(x.*)::text FROM (SELECT ' || selected || ' FROM (SELECT ($1).*) AS r) AS x' INTO new USING n;
  END IF;
  IF kind <> 'I' THEN
    EXECUTE 'SELECT row_to_json(x.*)::text FROM (SELECT ' || selected || ' FROM (SELECT ($1).*) AS r) AS x' INTO old USING o;
  END IF;
  IF kind = 'U' AND captured IS NOT NULL AND new = old THEN RETURN; END IF;
  EXECUTE 'INSERT INTO ' || events || ' (ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4) VALUES (now(), $1, $2, $3, $4, $5, $6)'
    USING kind, new, key, old, version, format;
END
$function$;

-- Makes a view of the rows of a partition, for this transaction alone, from a query in which "%s"
-- stands for the partition: a view is of the table itself, whatever has its name by then, and says which that is. NULL where
-- a query of the table could run code of its owner's as this role: the planner evaluates
-- constant calls in the expressions of indexes and statistics. The table has to be locked.
CREATE OR REPLACE FUNCTION @capture@.rows_of(leaf oid, query text, OUT rows text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $function$
DECLARE
  name constant text := format('%I.%I', @capture_name@, leaf || ':rows');
BEGIN
  IF EXISTS (SELECT FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner WHERE c.oid = leaf AND NOT o.rolsuper AND o.rolname <> current_user)
    AND EXISTS (
      SELECT FROM pg_depend d WHERE d.refobjid >= 16384
        AND (d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) OR d.refclassid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t WHERE t.oid = d.refobjid AND t.typtype <> 'e'))
        AND (d.classid = 'pg_class'::regclass AND d.objid IN (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = leaf AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
          OR d.classid = 'pg_statistic_ext'::regclass AND d.objid IN (SELECT s.oid FROM pg_statistic_ext s WHERE s.stxrelid = leaf AND s.stxexprs IS NOT NULL)))
  THEN RETURN; END IF;
  EXECUTE 'CREATE VIEW ' || name || ' AS ' || format(query, leaf::regclass);
  -- Its schema may have been renamed meanwhile.
  IF ARRAY(SELECT DISTINCT d.refobjid FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid
           WHERE d.classid = 'pg_rewrite'::regclass AND w.ev_class = name::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class) <> ARRAY[leaf] THEN
    RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format('another table was given the name of the partition %s meanwhile; try again', leaf::regclass);
  END IF;
  rows := name;
END
$function$;

-- Captures the rows of a partition that is about to be truncated, unless its whole table is.
-- TRUNCATE takes away rows that the snapshot of an older transaction does not see, and no query
-- in there could find them. It reads a table, so it runs as whoever made the set.
CREATE OR REPLACE FUNCTION @capture@.truncated_partition(in_set text, key text, version text, configured oid, leaf oid, captured int2[], "identity" int2[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER @settings@ SET row_security = off SET constraint_exclusion = off AS $function$
DECLARE
  events constant text := format('%I.%I', @capture_name@, in_set);
  deleted bigint;
  selected text;
  format text;
  rows text;
BEGIN
  IF to_regclass(events) IS NULL
    OR EXISTS (SELECT FROM @schema@.truncating t WHERE t.transaction = pg_current_xact_id() AND t."set" = in_set AND t.key = truncated_partition.key)
    -- It was detached since.
    OR NOT @capture@.is_below(leaf, configured)
  THEN RETURN; END IF;
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
      MESSAGE = format('pgshovel cannot capture TRUNCATE of the partition %s in a transaction that is %s', leaf::regclass, upper(current_setting('transaction_isolation'))),
      HINT = format('It may hold rows that the transaction does not see. Use READ COMMITTED, or DELETE, or truncate the whole of %s.', key);
  END IF;
  SELECT d.selected, d.format INTO selected, format FROM @capture@.describe(leaf, configured, captured, "identity", NULL) d;
  rows := @capture@.rows_of(leaf, 'SELECT row_to_json(x.*)::text AS image FROM (SELECT ' || replace(selected, '%', '%%') || ' FROM ONLY %s AS r) AS x');
  IF rows IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
      MESSAGE = format('pgshovel cannot capture TRUNCATE of the partition %s: an expression of its indexes or statistics calls a function, which reading its rows could run as the role %I', leaf::regclass, current_user),
      HINT = format('Use DELETE, or truncate the whole of %s, or let the owner of the table run `pgshovel cluster upgrade --force`.', key);
  END IF;
  EXECUTE 'INSERT INTO ' || events || ' (ev_time, ev_type, ev_extra1, ev_extra2, ev_extra3, ev_extra4) SELECT now(), ''D'', $1, x.image, $2, $3 FROM ' || rows || ' AS x'
    USING key, version, format;
  GET DIAGNOSTICS deleted = ROW_COUNT;
  EXECUTE 'DROP VIEW ' || rows;
  UPDATE @schema@.truncating t SET events = t.events + deleted WHERE t.transaction = pg_current_xact_id() AND t."set" = in_set AND t.whole = truncated_partition.key;
  INSERT INTO @schema@.truncating (transaction, "set", key, whole, events)
  VALUES (pg_current_xact_id(), in_set, leaf::regclass::text, key, @capture@.captured_here(in_set, key));
END
$function$;

-- How many events the transaction has captured of a table.
CREATE OR REPLACE FUNCTION @capture@.captured_here(in_set text, key text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  events bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM %I.%I WHERE ev_txid = txid_current() AND ev_extra1 = $1', @capture_name@, in_set) INTO events USING key;
  RETURN events;
END
$function$;

-- Refuses what cannot be captured: that another trigger BEFORE TRUNCATE wrote to the whole table
-- after the rows of a partition were captured, since TRUNCATE may have taken that away too.
CREATE OR REPLACE FUNCTION @capture@.emptied_partition(in_set text, key text, leaf text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  before bigint;
BEGIN
  DELETE FROM @schema@.truncating t WHERE t.transaction = pg_current_xact_id() AND t."set" = in_set AND t.key = leaf RETURNING t.events INTO before;
  IF before <> @capture@.captured_here(in_set, key) THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
      MESSAGE = format('pgshovel cannot capture TRUNCATE of the partition %s where a trigger BEFORE TRUNCATE writes to %s', leaf, key),
      HINT = format('Let the trigger fire AFTER TRUNCATE, or truncate the whole of %s.', key);
  END IF;
END
$function$;

-- Captures that a table was truncated, if its other trigger left word of it.
CREATE OR REPLACE FUNCTION @capture@.truncated(in_set text, key text, version text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  events constant text := format('%I.%I', @capture_name@, in_set);
BEGIN
  IF to_regclass(events) IS NULL THEN RETURN; END IF;
  DELETE FROM @schema@.truncating t WHERE t.transaction = pg_current_xact_id() AND t."set" = in_set AND t.key = truncated.key;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
      MESSAGE = format('pgshovel captures the TRUNCATE of %s only where a statement makes it', key),
      HINT = 'If TRUNCATE itself fails so, a trigger of the set is missing or disabled: run `pgshovel set check`.';
  END IF;
  EXECUTE 'INSERT INTO ' || events || ' (ev_time, ev_type, ev_extra1, ev_extra3, ev_extra4) VALUES (now(), ''T'', $1, $2, $3)' USING key, version, @format@;
END
$function$;

-- What the triggers are to execute, and never do: their conditions capture, and are false.
CREATE OR REPLACE FUNCTION @capture@.never() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
  RAISE EXCEPTION 'the condition of a trigger that captures is never true';
END
$function$;

-- Lets the set's triggers write to the queue's current table. Waits for the transactions that
-- have written to another one, and for no longer than a writer may be kept waiting behind it.
CREATE OR REPLACE FUNCTION @schema@.switch(in_set text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '30ms' AS $function$
DECLARE
  wanted regclass;
  events constant text := format('%I.%I', @capture_name@, in_set);
BEGIN
  SELECT (q.queue_data_pfx || '_' || q.queue_cur_table)::regclass INTO STRICT wanted FROM pgq.queue q WHERE q.queue_name = @queue_prefix@ || in_set;
  IF EXISTS (SELECT FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
             WHERE d.classid = 'pg_rewrite'::regclass AND r.ev_class = to_regclass(events) AND d.refclassid = 'pg_class'::regclass AND d.refobjid = wanted) THEN
    RETURN false;
  END IF;
  EXECUTE 'CREATE OR REPLACE VIEW ' || events || ' AS SELECT ev_txid, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4 FROM ' || wanted;
  EXECUTE 'GRANT INSERT ON ' || events || ' TO ' || @role_name@;
  RETURN true;
END
$function$;

-- Whether a partition that was attached holds rows from before that: of older transactions than
-- the last one that attached it, or of this one before it did. NULL where that cannot be told. The
-- caller has to hold its lock, so that nobody makes an index for it meanwhile.
CREATE OR REPLACE FUNCTION @schema@.holds_rows(in_set text, leaf oid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET constraint_exclusion = off AS $function$
DECLARE
  rows text;
  holds boolean;
  whole oid;
BEGIN
  SELECT w.relation INTO whole FROM @schema@.captured w WHERE w."set" = in_set AND w.function LIKE '%:t' AND @capture@.is_below(leaf, w.relation) LIMIT 1;
  IF NOT FOUND OR NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.relation = leaf AND l.granted AND l.mode = 'ShareRowExclusiveLock')
    OR NOT has_table_privilege(leaf, 'SELECT') THEN RETURN NULL; END IF;
  rows := @capture@.rows_of(leaf, 'SELECT r.xmin AS made, r.cmin AS command FROM ONLY %s AS r');
  IF rows IS NULL THEN RETURN NULL; END IF;
  EXECUTE 'WITH attached AS (
      SELECT i.xmin, i.cmin::text::bigint AS command FROM pg_partition_ancestors($1) a JOIN pg_inherits i ON i.inhrelid = a.relid
      WHERE a.relid NOT IN (SELECT u.relid FROM pg_partition_ancestors($2) u)
      ORDER BY age(i.xmin), command DESC LIMIT 1)
    SELECT EXISTS (SELECT FROM ' || rows || ' r, attached a WHERE age(r.made) > age(a.xmin) OR r.made = a.xmin AND r.command::text::bigint < a.command)'
    INTO holds USING leaf, whole;
  EXECUTE 'DROP VIEW ' || rows;
  RETURN holds;
END
$function$;

-- Forgets a partition that is none any more.
CREATE OR REPLACE FUNCTION @schema@.forget(in_set text, partition text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  DELETE FROM @schema@.captured p WHERE p."set" = in_set AND p.key = partition AND p.function ~ ':[pq]$'
    AND NOT EXISTS (SELECT FROM pg_partition_ancestors(p.relation) a JOIN @schema@.captured w ON w.relation = a.relid
                    WHERE w."set" = p."set" AND w.function = left(p.function, -1) || 't');
END
$function$;

-- Whether a table is a partition below another one. PostgreSQL's own function leaves out one
-- that is being detached CONCURRENTLY, while sessions still write to it as a partition; a query
-- leaves out one that is younger than the snapshot.
CREATE OR REPLACE FUNCTION @capture@.is_below(leaf oid, configured oid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RETURN configured = ANY (ARRAY(SELECT pg_partition_ancestors(leaf))) OR configured IN (
    WITH RECURSIVE above (oid) AS (
      SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = leaf
      UNION SELECT i.inhparent FROM above JOIN pg_inherits i ON i.inhrelid = above.oid
    )
    SELECT oid FROM above);
END
$function$;

CREATE TABLE IF NOT EXISTS @schema@.captured (
  "set" text NOT NULL,
  relation oid NOT NULL,
  key text NOT NULL,
  trigger oid NOT NULL,
  name text NOT NULL,
  function text NOT NULL,
  digest text NOT NULL,
  made text,
  PRIMARY KEY (trigger)
);
ALTER TABLE @schema@.captured ADD COLUMN IF NOT EXISTS made text;
COMMENT ON TABLE @schema@.captured IS 'The triggers of sets as they have to be: what `set create` and `set update` made.';

DROP FUNCTION IF EXISTS @schema@.columns(oid);
DO $block$
DECLARE
  function regprocedure;
BEGIN
  FOR function IN SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = pg_catalog.to_regnamespace(@capture_quoted@) AND pg_catalog.obj_description(p.oid, 'pg_proc') IS NULL
       OR p.pronamespace = pg_catalog.to_regnamespace(@schema_quoted@) LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
    EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO CURRENT_USER', function);
  END LOOP;
  FOR function IN SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = pg_catalog.to_regnamespace(@capture_quoted@) AND pg_catalog.obj_description(p.oid, 'pg_proc') IS NULL LOOP
    EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s', function, @role_name@);
  END LOOP;
  IF pg_catalog.to_regrole('pgq_admin') IS NOT NULL THEN
    EXECUTE pg_catalog.format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %s TO pgq_admin', @schema_quoted@);
  END IF;
END
$block$;

-- It would run any query as whoever made the set.
REVOKE ALL ON FUNCTION @capture@.rows_of(oid, text) FROM @role@;

-- What earlier versions had instead.
DROP VIEW IF EXISTS @schema@.capturing;
DROP FUNCTION IF EXISTS @capture@.columns(oid), @capture@.describe(oid, oid, int2[], int2[]), @capture@.altered(text, text, text, text, oid, oid, int2[], int2[], record, record);

-- Whoever makes a partition clones the triggers, for which PostgreSQL asks for this right.
GRANT EXECUTE ON FUNCTION @capture@.never() TO PUBLIC;
