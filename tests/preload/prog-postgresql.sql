-- A session of prog-postgresql.test.  A statement below a line "-- fails" ends
-- with "out of memory"; every other one is served, and says what is known.
\set VERBOSITY verbose
SET work_mem = '1GB';
SET maintenance_work_mem = '1GB';
SET hash_mem_multiplier = 1;
SET max_parallel_maintenance_workers = 0;
SET max_parallel_workers_per_gather = 0;
CREATE TEMP TABLE mine AS SELECT g AS n FROM generate_series(1, 1000) g;
PREPARE total AS SELECT 'total', sum(n) FROM mine;
SELECT 'session', pg_backend_pid();

-- Many small requests, one large one.
-- fails
SELECT array_agg(g) FROM generate_series(1, 20000000) g;
EXECUTE total;
-- fails
SELECT length(repeat('x', 200000000));
EXECUTE total;

-- Hash table, sort, hash join, aggregates that grow.
SET enable_sort = off;
-- fails
SELECT count(*) FROM (SELECT pad || id FROM item GROUP BY 1) s;
EXECUTE total;
RESET enable_sort;
-- fails
SELECT max(p) FROM (SELECT pad || id AS p FROM item ORDER BY 1 OFFSET 1) s;
EXECUTE total;
SET enable_mergejoin = off;
SET enable_nestloop = off;
-- fails
SELECT count(*) FROM item a JOIN item b USING (pad);
EXECUTE total;
-- fails
SELECT length(string_agg(pad, ',')) FROM item;
-- fails
SELECT jsonb_array_length(jsonb_agg(item)) FROM item;
EXECUTE total;

-- An index that cannot be built, and then can.
-- fails
CREATE INDEX item_pad ON item (pad);
SET maintenance_work_mem = '8MB';
CREATE INDEX item_pad ON item (pad);
SET work_mem = '4MB';
SELECT 'joined', count(*) FROM item a JOIN item b USING (pad);
SET work_mem = '1GB';

-- What the transaction did before is undone, or what the savepoint did.
BEGIN;
UPDATE account SET balance = balance + 1000 WHERE id = 0;
INSERT INTO journal VALUES (0, 1000);
-- fails
SELECT array_agg(g) FROM generate_series(1, 20000000) g;
COMMIT;
BEGIN;
UPDATE account SET balance = balance + 7 WHERE id = 0;
INSERT INTO journal VALUES (0, 7);
SAVEPOINT before;
UPDATE account SET balance = balance + 3000 WHERE id = 0;
-- fails
SELECT length(string_agg(pad, ',')) FROM item;
ROLLBACK TO before;
COMMIT;
SELECT 'balance', balance FROM account WHERE id = 0;

-- A function that catches it, again and again.
CREATE FUNCTION pg_temp.caught(times int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	n int := 0;
BEGIN
	FOR i IN 1 .. times LOOP
		BEGIN
			PERFORM array_agg(pad || i) FROM item;
		EXCEPTION WHEN out_of_memory THEN
			n := n + 1;
		END;
	END LOOP;
	RETURN n;
END $$;
SELECT 'caught', pg_temp.caught(5);
EXECUTE total;
SELECT 'session', pg_backend_pid();
