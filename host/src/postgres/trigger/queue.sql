-- What relays do with the queue of a set. PgQ allows it members of pgq_admin alone, who are as
-- much as PgQ's owner: they write names into pgq.queue that its functions use. So relays may call
-- these, which are of whoever made the set, and may nothing else to PgQ than read. Each is of a
-- set, and of its queue.

-- Makes the ticks and rotations of a queue the relays' alone, whoever else calls PgQ's functions,
-- its daemon too. pgq.ticker() passes over a queue with an external ticker, and pgq.ticker(text)
-- refuses it. The rotation that pgq.maint_operations would begin is due in a century; one that
-- somebody began is ended by pgq.maint_rotate_tables_step2, for all queues whose second step is
-- NULL: here a number stands for that. pgq.insert_event refuses: nobody but the triggers
-- writes events. Whether anything was otherwise.
CREATE OR REPLACE FUNCTION @schema@.own(in_set text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  UPDATE pgq.queue q
     SET queue_external_ticker = true, queue_disable_insert = true, queue_rotation_period = '100 years',
         queue_switch_step2 = coalesce(q.queue_switch_step2, 9223372036854775807)
   WHERE q.queue_name = @queue_prefix@ || in_set
     AND (NOT q.queue_external_ticker OR NOT q.queue_disable_insert OR q.queue_switch_step2 IS NULL
          OR q.queue_rotation_period IS DISTINCT FROM '100 years'::interval);
  RETURN FOUND;
END
$function$;

-- Draws the first event id, unless it is drawn: PgQ reads 1 from its sequence before that and
-- after it, so nobody would notice the first event.
CREATE OR REPLACE FUNCTION @schema@.draw_first(in_set text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  PERFORM nextval(q.queue_event_seq::regclass) FROM pgq.queue q
    WHERE q.queue_name = @queue_prefix@ || in_set AND pg_sequence_last_value(q.queue_event_seq::regclass) IS NULL;
END
$function$;

-- Ticks, if the last tick is still "after" and nobody else is at it. The sequence is read before the
-- transaction gets an id, by the lock, and before the snapshot of the tick is taken: who had
-- drawn an event by then is below that id. (PgQ does not set a sequence back.) New ticks refer
-- to the queue, and need not wait for the lock.
CREATE OR REPLACE FUNCTION @schema@.tick(in_set text, after bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  of_queue constant text := @queue_prefix@ || in_set;
  id int;
  drawn bigint;
BEGIN
  SELECT q.queue_id, pgq.seq_getval(q.queue_event_seq) INTO id, drawn FROM pgq.queue q WHERE q.queue_name = of_queue;
  PERFORM FROM pgq.queue q WHERE q.queue_id = id FOR NO KEY UPDATE SKIP LOCKED;
  IF NOT FOUND OR after IS DISTINCT FROM (SELECT t.tick_id FROM pgq.tick t WHERE t.tick_queue = id ORDER BY t.tick_id DESC LIMIT 1) THEN
    RETURN false;
  END IF;
  PERFORM pgq.ticker(of_queue, after + 1, clock_timestamp(), drawn);
  RETURN true;
END
$function$;

-- Of the ticks that all consumers have passed, and that are older than a minute, removes
-- those that another one follows within the same second: PgQ keeps them for two rotations. The
-- ticks up to "after" are not looked at; the last that was is returned.
CREATE OR REPLACE FUNCTION @schema@.thin(in_set text, after bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  looked bigint;
BEGIN
  WITH old AS (
    SELECT t.tick_queue, t.tick_id, date_trunc('second', t.tick_time) AS second,
           lead(date_trunc('second', t.tick_time)) OVER (ORDER BY t.tick_id) AS next
      FROM pgq.tick t JOIN pgq.queue q ON q.queue_id = t.tick_queue
     WHERE q.queue_name = @queue_prefix@ || in_set AND t.tick_id > after AND t.tick_time < clock_timestamp() - interval '1 minute'
       AND t.tick_id < (SELECT min(s.sub_last_tick) FROM pgq.subscription s WHERE s.sub_queue = q.queue_id)
  ), thinned AS (
    DELETE FROM pgq.tick t USING old o WHERE t.tick_queue = o.tick_queue AND t.tick_id = o.tick_id AND o.second = o.next
  )
  SELECT max(o.tick_id) INTO looked FROM old o;
  RETURN looked;
END
$function$;

-- Empties the oldest of the queue's tables, unless a consumer has not read it all, and lets triggers
-- write to it from now on: PgQ's two steps in one transaction. The second says that no
-- transaction with a later id writes to the table before, since the view that triggers write
-- through is replaced in this one. A rotation that was "begun" by PgQ's own function is only
-- ended. Whether triggers write to another table.
CREATE OR REPLACE FUNCTION @schema@.rotate(in_set text, begun boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  of_queue constant text := @queue_prefix@ || in_set;
  switched boolean;
BEGIN
  IF NOT begun THEN
    -- Makes it due.
    UPDATE pgq.queue q SET queue_rotation_period = '0' WHERE q.queue_name = of_queue;
    PERFORM pgq.maint_rotate_tables_step1(of_queue);
  END IF;
  switched := @schema@.switch(in_set);
  IF switched OR begun THEN
    UPDATE pgq.queue q SET queue_switch_step2 = txid_current()
      WHERE q.queue_name = of_queue AND coalesce(q.queue_switch_step2, 9223372036854775807) = 9223372036854775807;
  END IF;
  PERFORM @schema@.own(in_set);
  RETURN switched;
END
$function$;

