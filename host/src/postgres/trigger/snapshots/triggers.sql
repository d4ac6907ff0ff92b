CREATE OR REPLACE TRIGGER "pgshovel:default:bank:i" AFTER INSERT ON public.accounts REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:i"();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:i";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:u" AFTER UPDATE ON public.accounts REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:u"();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:u";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:d" AFTER DELETE ON public.accounts REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:d"();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:d";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:t" AFTER TRUNCATE ON public.accounts FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:t"();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:t";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:r" AFTER INSERT OR UPDATE OR DELETE ON public.accounts FOR EACH ROW EXECUTE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:r"();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:r";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:t" AFTER TRUNCATE ON public.accounts FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:t"();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:t";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:b" BEFORE TRUNCATE ON public.accounts FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:b"();
ALTER TABLE public.accounts ENABLE ALWAYS TRIGGER "pgshovel:default:bank:b";

CREATE OR REPLACE TRIGGER "pgshovel:default:bank:p" BEFORE TRUNCATE ON public.accounts_1 FOR EACH STATEMENT EXECUTE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"();
ALTER TABLE public.accounts_1 ENABLE ALWAYS TRIGGER "pgshovel:default:bank:p";