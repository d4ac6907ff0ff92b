CREATE OR REPLACE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:r"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = postgres
SET bytea_output = hex SET "TimeZone" = 'UTC' SET lc_monetary = 'C'
AS $pgshovel$
DECLARE
  pgshovel_slot integer;
  pgshovel_disabled boolean;
  pgshovel_new text;
  pgshovel_old text;
BEGIN
  SELECT q.queue_cur_table, q.queue_disable_insert INTO pgshovel_slot, pgshovel_disabled FROM pgq.queue q WHERE q.queue_id = 7;
  IF NOT FOUND THEN RETURN NULL; END IF;
  IF pgshovel_disabled THEN RAISE EXCEPTION 'inserts into the PgQ queue % are disabled', 'pgshovel:default:bank'; END IF;
  IF TG_OP <> 'DELETE' THEN pgshovel_new := row_to_json(NEW)::text; END IF;
  IF TG_OP <> 'INSERT' THEN pgshovel_old := row_to_json(OLD)::text; END IF;
  IF pgshovel_slot = 0 THEN
INSERT INTO pgq.event_7_0 (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_7_id_seq'), now(), e.kind, e.new, 'public.accounts', e.old, '0123456789abcdef', 'j1' FROM (SELECT left(TG_OP, 1) AS kind, pgshovel_new AS new, pgshovel_old AS old) AS e;
  ELSIF pgshovel_slot = 1 THEN
INSERT INTO pgq.event_7_1 (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_7_id_seq'), now(), e.kind, e.new, 'public.accounts', e.old, '0123456789abcdef', 'j1' FROM (SELECT left(TG_OP, 1) AS kind, pgshovel_new AS new, pgshovel_old AS old) AS e;
  ELSIF pgshovel_slot = 2 THEN
INSERT INTO pgq.event_7_2 (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_7_id_seq'), now(), e.kind, e.new, 'public.accounts', e.old, '0123456789abcdef', 'j1' FROM (SELECT left(TG_OP, 1) AS kind, pgshovel_new AS new, pgshovel_old AS old) AS e;
  END IF;
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:r"() FROM PUBLIC;
COMMENT ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:r"() IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:r"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = postgres
SET bytea_output = hex SET "TimeZone" = 'UTC' SET lc_monetary = 'C'
AS $pgshovel$
DECLARE
  pgshovel_slot integer;
  pgshovel_disabled boolean;
  pgshovel_new text;
  pgshovel_old text;
  pgshovel_columns text;
BEGIN
  SELECT q.queue_cur_table, q.queue_disable_insert INTO pgshovel_slot, pgshovel_disabled FROM pgq.queue q WHERE q.queue_id = 7;
  IF NOT FOUND THEN RETURN NULL; END IF;
  IF pgshovel_disabled THEN RAISE EXCEPTION 'inserts into the PgQ queue % are disabled', 'pgshovel:default:bank'; END IF;
  IF (SELECT count(*) FILTER (WHERE a.attname = 'id' OR a.attname = 'tags' OR a.attname = 'yes' AND a.atttypid = 16500) = 3 FROM pg_attribute a WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped) THEN
  IF TG_OP <> 'DELETE' THEN SELECT row_to_json("pgshovel:row")::text INTO pgshovel_new FROM (SELECT NEW."id", NEW."tags"::text AS "tags", pg_catalog."boolout"(NEW."yes")::text AS "yes") AS "pgshovel:row"; END IF;
  IF TG_OP <> 'INSERT' THEN SELECT row_to_json("pgshovel:row")::text INTO pgshovel_old FROM (SELECT OLD."id", OLD."tags"::text AS "tags", pg_catalog."boolout"(OLD."yes")::text AS "yes") AS "pgshovel:row"; END IF;
  ELSE
  SELECT string_agg(format(
      CASE WHEN a.attname = ANY (ARRAY['id']::name[]) OR a.attname <> ALL (ARRAY['tags', 'yes']::name[]) AND t.typtype IN ('b', 'e') AND t.typcategory <> 'A'
        THEN '%1$s.%2$I' ELSE '%1$s.%2$I::text AS %2$I' END, '"pgshovel:row"', a.attname), ', ' ORDER BY a.attnum)
    INTO pgshovel_columns FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (ARRAY['id']::name[] || ARRAY['tags', 'yes']::name[]);
  IF pgshovel_columns IS NULL THEN RETURN NULL; END IF;
  IF TG_OP <> 'DELETE' THEN EXECUTE 'SELECT row_to_json("pgshovel:row")::text FROM (SELECT ' || pgshovel_columns || ' FROM (SELECT ($1).*) AS "pgshovel:row") AS "pgshovel:row"' INTO pgshovel_new USING NEW; END IF;
  IF TG_OP <> 'INSERT' THEN EXECUTE 'SELECT row_to_json("pgshovel:row")::text FROM (SELECT ' || pgshovel_columns || ' FROM (SELECT ($1).*) AS "pgshovel:row") AS "pgshovel:row"' INTO pgshovel_old USING OLD; END IF;
  END IF;
  IF TG_OP = 'UPDATE' AND pgshovel_new IS NOT DISTINCT FROM pgshovel_old THEN RETURN NULL; END IF;
  IF pgshovel_slot = 0 THEN
INSERT INTO pgq.event_7_0 (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_7_id_seq'), now(), e.kind, e.new, 'public.accounts', e.old, '0123456789abcdef', 'j1' FROM (SELECT left(TG_OP, 1) AS kind, pgshovel_new AS new, pgshovel_old AS old) AS e;
  ELSIF pgshovel_slot = 1 THEN
INSERT INTO pgq.event_7_1 (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_7_id_seq'), now(), e.kind, e.new, 'public.accounts', e.old, '0123456789abcdef', 'j1' FROM (SELECT left(TG_OP, 1) AS kind, pgshovel_new AS new, pgshovel_old AS old) AS e;
  ELSIF pgshovel_slot = 2 THEN
INSERT INTO pgq.event_7_2 (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval('pgq.event_7_id_seq'), now(), e.kind, e.new, 'public.accounts', e.old, '0123456789abcdef', 'j1' FROM (SELECT left(TG_OP, 1) AS kind, pgshovel_new AS new, pgshovel_old AS old) AS e;
  END IF;
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:r"() FROM PUBLIC;
COMMENT ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:r"() IS 'pgshovel: captures changes for the set bank';
