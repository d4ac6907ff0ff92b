-- What a superuser does once in the source's database: roles that can do what their part
-- takes, and nothing else. Give them passwords (\password shovel), and put these into the
-- password files of whoever runs the commands.
CREATE EXTENSION IF NOT EXISTS pgq;

-- PgQ's functions that run as its owner are to find no operators or tables of others.
DO $$ DECLARE f regprocedure; BEGIN
  FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'pgq'::regnamespace AND p.prosecdef LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', f);
  END LOOP;
END $$;

-- The application: it owns the tables, and knows nothing of what follows.
CREATE ROLE bench LOGIN;
GRANT CREATE ON SCHEMA public TO bench;

-- Who creates and changes sets. It owns what captures, and can be the tables' owner, since
-- triggers are made by them.
CREATE ROLE shovel LOGIN;
GRANT CREATE ON DATABASE source TO shovel;
GRANT bench TO shovel;
GRANT pgq_admin TO shovel;
-- It grants these to the relay.
GRANT pgq_reader, pg_read_all_stats TO shovel WITH ADMIN OPTION;

-- What captures runs as this role, in every database of the server that the cluster
-- `default` captures.
CREATE ROLE "pgshovel:default" NOLOGIN;
GRANT "pgshovel:default" TO shovel;
ALTER DEFAULT PRIVILEGES IN SCHEMA pgq GRANT USAGE ON SEQUENCES TO "pgshovel:default";

-- `set create --relay-role shovel_relay --loader-role shovel_loader` says what these may do.
CREATE ROLE shovel_relay LOGIN;
CREATE ROLE shovel_loader LOGIN;
