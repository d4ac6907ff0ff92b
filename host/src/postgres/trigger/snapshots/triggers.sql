CREATE OR REPLACE TRIGGER "pgshovel:default:bank:i" AFTER INSERT ON public.accounts FOR EACH ROW WHEN ("pgshovel:default"."accounts#3a81fca3fe97a6df:i"(NEW.*)) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:i";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:u" AFTER UPDATE ON public.accounts FOR EACH ROW WHEN ("pgshovel:default"."accounts#3a81fca3fe97a6df:u"(NEW.*, OLD.*)) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:u";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:d" AFTER DELETE ON public.accounts FOR EACH ROW WHEN ("pgshovel:default"."accounts#3a81fca3fe97a6df:d"(OLD.*)) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:d";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:t" AFTER TRUNCATE ON public.accounts FOR EACH STATEMENT WHEN ("pgshovel:default"."accounts#3a81fca3fe97a6df:t"()) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:t";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:b" BEFORE TRUNCATE ON public.accounts FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel:default"."bank:b"('public.accounts');
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:b";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:i" AFTER INSERT ON public.accounts FOR EACH ROW WHEN (CASE WHEN NEW.tableoid OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid THEN "pgshovel:default"."accounts#3a81fca3fe97a6df:i"(NEW.*, NEW.tableoid) ELSE false END) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:i";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:u" AFTER UPDATE ON public.accounts FOR EACH ROW WHEN (CASE WHEN NEW.tableoid OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid THEN "pgshovel:default"."accounts#3a81fca3fe97a6df:u"(NEW.*, OLD.*, NEW.tableoid) ELSE false END) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:u";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:d" AFTER DELETE ON public.accounts FOR EACH ROW WHEN (CASE WHEN OLD.tableoid OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid THEN "pgshovel:default"."accounts#3a81fca3fe97a6df:d"(OLD.*, OLD.tableoid) ELSE false END) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:d";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:t" AFTER TRUNCATE ON public.accounts FOR EACH STATEMENT WHEN ("pgshovel:default"."accounts#3a81fca3fe97a6df:t"()) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:t";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:b" BEFORE TRUNCATE ON public.accounts FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel:default"."bank:b"('public.accounts');
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:b";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:p" BEFORE TRUNCATE ON public.accounts_1 FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:p"();
ALTER TABLE public.accounts_1 ENABLE ALWAYS TRIGGER "pgshovel:default:bank:p";
CREATE OR REPLACE TRIGGER "pgshovel:default:bank:q" AFTER TRUNCATE ON public.accounts_1 FOR EACH STATEMENT WHEN ("pgshovel:default"."bank:q"('public.accounts', 'public.accounts_1'::pg_catalog.regclass)) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts_1 ENABLE ALWAYS TRIGGER "pgshovel:default:bank:q";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:p" BEFORE TRUNCATE ON public.accounts_1 FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:p"();
ALTER TABLE public.accounts_1 ENABLE ALWAYS TRIGGER "pgshovel:default:bank:p";
CREATE OR REPLACE TRIGGER "pgshovel:default:bank:q" AFTER TRUNCATE ON public.accounts_1 FOR EACH STATEMENT WHEN ("pgshovel:default"."bank:q"('public.accounts', 'public.accounts_1'::pg_catalog.regclass)) EXECUTE FUNCTION "pgshovel:default".never();
ALTER TABLE public.accounts_1 ENABLE ALWAYS TRIGGER "pgshovel:default:bank:q";