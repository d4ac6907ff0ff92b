CREATE OR REPLACE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:u"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = postgres
SET bytea_output = hex SET "TimeZone" = 'UTC' SET lc_monetary = 'C'
AS $pgshovel$
DECLARE
  pgshovel_slot integer;
  pgshovel_disabled boolean;
BEGIN
  SELECT q.queue_cur_table, q.queue_disable_insert INTO pgshovel_slot, pgshovel_disabled FROM pgq.queue q WHERE q.queue_id = 7;
  IF NOT FOUND THEN RETURN NULL; END IF;
  IF pgshovel_disabled THEN RAISE EXCEPTION 'inserts into the PgQ queue % are disabled', 'pgshovel:default:bank'; END IF;
  IF pgshovel_slot = 0 THEN
INSERT INTO pgq.event_7_0 (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_7_id_seq'), now(), e.kind, e.new, 'public.accounts', e.old, '0123456789abcdef', 'j1' FROM (SELECT CASE WHEN o.number IS NULL THEN 'I' WHEN n.number IS NULL THEN 'D' ELSE 'U' END AS kind, n.data AS new, o.data AS old
FROM (SELECT row_number() OVER () AS number, row_to_json("pgshovel:row")::text AS data FROM old_rows AS "pgshovel:row") AS o
FULL JOIN (SELECT row_number() OVER () AS number, row_to_json("pgshovel:row")::text AS data FROM new_rows AS "pgshovel:row") AS n ON n.number = o.number
ORDER BY coalesce(o.number, n.number), n.number NULLS FIRST) AS e;
  ELSIF pgshovel_slot = 1 THEN
INSERT INTO pgq.event_7_1 (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_7_id_seq'), now(), e.kind, e.new, 'public.accounts', e.old, '0123456789abcdef', 'j1' FROM (SELECT CASE WHEN o.number IS NULL THEN 'I' WHEN n.number IS NULL THEN 'D' ELSE 'U' END AS kind, n.data AS new, o.data AS old
FROM (SELECT row_number() OVER () AS number, row_to_json("pgshovel:row")::text AS data FROM old_rows AS "pgshovel:row") AS o
FULL JOIN (SELECT row_number() OVER () AS number, row_to_json("pgshovel:row")::text AS data FROM new_rows AS "pgshovel:row") AS n ON n.number = o.number
ORDER BY coalesce(o.number, n.number), n.number NULLS FIRST) AS e;
  ELSIF pgshovel_slot = 2 THEN
INSERT INTO pgq.event_7_2 (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_7_id_seq'), now(), e.kind, e.new, 'public.accounts', e.old, '0123456789abcdef', 'j1' FROM (SELECT CASE WHEN o.number IS NULL THEN 'I' WHEN n.number IS NULL THEN 'D' ELSE 'U' END AS kind, n.data AS new, o.data AS old
FROM (SELECT row_number() OVER () AS number, row_to_json("pgshovel:row")::text AS data FROM old_rows AS "pgshovel:row") AS o
FULL JOIN (SELECT row_number() OVER () AS number, row_to_json("pgshovel:row")::text AS data FROM new_rows AS "pgshovel:row") AS n ON n.number = o.number
ORDER BY coalesce(o.number, n.number), n.number NULLS FIRST) AS e;
  END IF;
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:u"() FROM PUBLIC;
COMMENT ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:u"() IS 'pgshovel: captures changes for the set bank';