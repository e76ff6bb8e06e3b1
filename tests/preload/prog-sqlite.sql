-- Work for prog-sqlite.test: a large import, then queries with known answers.
-- The file rows.csv in the current folder has 600000 rows; row i is
--	i, name-NNNNNN with N = i * 7919 mod 600000, i mod 1000,
--	i mod 500 . i mod 100
.bail on
PRAGMA cache_size = -65536;
PRAGMA temp_store = MEMORY;
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, kind INT, price REAL);
.mode csv
.import rows.csv item
.mode list
SELECT 'rows', count(*), sum(id), min(id), max(id) FROM item;
CREATE UNIQUE INDEX item_name ON item(name);
CREATE INDEX item_kind ON item(kind, price);
SELECT 'kinds', count(*), min(n), max(n)
	FROM (SELECT count(*) AS n FROM item GROUP BY kind);
SELECT 'found', id FROM item
	WHERE name = printf('name-%06d', 7919 * 12345 % 600000);
SELECT 'sorted', group_concat(id) FROM
	(SELECT id FROM item ORDER BY name DESC LIMIT 5);
SELECT 'distinct', count(DISTINCT name || kind) FROM item
	WHERE id <= 200000;
SELECT 'joined', count(*) FROM item a JOIN item b ON b.id = a.id + 1000
	WHERE a.kind = b.kind;
SELECT 'hash', count(*), sum(length(h)) FROM
	(SELECT hex(zeroblob(id % 50)) AS h FROM item ORDER BY h, id);
SELECT 'window', sum(r) FROM (SELECT row_number()
	OVER (PARTITION BY kind ORDER BY name) AS r FROM item);
WITH RECURSIVE f(n, a, b) AS
	(SELECT 1, 0, 1 UNION ALL SELECT n + 1, b, a + b FROM f WHERE n < 80)
	SELECT 'recursive', max(a) FROM f;
BEGIN;
UPDATE item SET name = name || '-changed' WHERE kind < 100;
SELECT 'changed', count(*) FROM item WHERE name LIKE '%-changed';
ROLLBACK;
SELECT 'back', count(*) FROM item WHERE name LIKE '%-changed';
DELETE FROM item WHERE kind >= 900;
VACUUM;
SELECT 'left', count(*), sum(id) FROM item;
SELECT 'check', integrity_check FROM pragma_integrity_check;
