-- What a superuser does once in the target's database.

-- It owns the tables.
CREATE ROLE bench LOGIN;
GRANT CREATE ON SCHEMA public TO bench;

-- The worker: it changes rows, and keeps its state in a schema of its own.
CREATE ROLE shovel_sink LOGIN;
CREATE SCHEMA pgshovel AUTHORIZATION shovel_sink;
ALTER DEFAULT PRIVILEGES FOR ROLE bench IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLES TO shovel_sink;
