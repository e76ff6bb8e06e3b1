# SPDX-License-Identifier: MIT
"""Work for prog-sqlite-oom.test: a connection that meets the limit.

usage: prog-sqlite-oom.py FUNCTION LIMIT_BYTES DATABASE

A statement for which there is no memory raises MemoryError and has no effect;
the same connection goes on.  A run ends with status 0 and the line "passed
FUNCTION", or with a traceback.
"""
import os
import sqlite3
import sys
import threading
import time

STEP = 16 << 10
NR_ACCOUNTS = 100
OVER_S = 0.13


def refuses(call, *arguments):
    try:
        call(*arguments)
    except MemoryError:
        return True
    return False


def connect(path):
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def one(connection, sql, *values):
    return connection.execute(sql, values).fetchone()[0]


def is_whole(connection):
    return one(connection, "PRAGMA integrity_check") == "ok"


# Each asks for more than there is, in another way.  The first one reads on to
# its end before it says so.
TOO_MUCH = (
    "SELECT length(group_concat(t)) FROM (SELECT a.name || b.name AS t"
    " FROM item a, item b LIMIT 3000000)",
    "SELECT length(hex(zeroblob(90000000)))",
    "SELECT count(*) FROM (SELECT DISTINCT a.name || b.id FROM item a, item b)",
    "SELECT name FROM (SELECT a.name || b.id AS name FROM item a, item b)"
    " ORDER BY name LIMIT -1 OFFSET 1",
    "WITH RECURSIVE r(n, t) AS (SELECT 1, 'x' UNION SELECT n + 1, t || n"
    " FROM r) SELECT max(n) FROM r",
)


def fill_items(connection):
    connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT)")
    connection.execute(
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r"
        " WHERE n < 20000) INSERT INTO item SELECT n, printf('name-%06d', n)"
        " FROM r")


def query(_, path):
    """Queries that fail, and in between one that does not."""
    connection = connect(path)
    fill_items(connection)
    for _ in range(2):
        for sql in TOO_MUCH:
            assert refuses(lambda: connection.execute(sql).fetchall()), sql
            assert one(connection, "SELECT sum(id) FROM item") == 200010000
            assert one(connection, "SELECT name FROM item WHERE id = ?",
                       777) == "name-000777"
    assert is_whole(connection)


def memory(limit, _):
    """A database in memory fills the pool with small rows."""
    connection = connect(":memory:")
    connection.execute("CREATE TABLE row(id INTEGER PRIMARY KEY, a, b)")
    connection.execute("CREATE INDEX row_a ON row(a)")
    room = bytearray(limit // 16)
    batch = [("a%d" % (n * 7919 % 1000), "b" * (n % 100)) for n in range(1000)]
    nr_batches = 0
    try:
        while nr_batches < limit // 16384:
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO row(a, b) VALUES (?, ?)",
                                   batch)
            connection.execute("COMMIT")
            nr_batches += 1
        raise AssertionError("no MemoryError")
    except MemoryError:
        # Where not everything can be undone, SQLite has undone it all.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    assert nr_batches > limit // 1000000, nr_batches
    assert one(connection, "SELECT count(*) FROM row") == nr_batches * 1000
    del room
    assert is_whole(connection)
    # What is changed is kept until the commit: in pieces.
    for first in range(0, nr_batches * 1000, 1000):
        connection.execute("DELETE FROM row WHERE id > ? AND id <= ?"
                           " AND id % 10 < 9", (first, first + 1000))
    left = one(connection, "SELECT count(*) FROM row")
    assert left == nr_batches * 100, left
    assert is_whole(connection)
    # The pages are free in the database.
    connection.executemany("INSERT INTO row(a, b) VALUES (?, ?)", batch)
    connection.close()
    if not os.environ.get("PP_PLAIN"):
        # libc's heap keeps holes, and promises nothing else.
        assert len(bytearray(limit // 2)) == limit // 2


def make_accounts(connection):
    connection.execute("CREATE TABLE account(id INTEGER PRIMARY KEY, sum INT,"
                       " note TEXT)")
    connection.executemany("INSERT INTO account VALUES (?, 0, ?)",
                           ((n, "x" * 500) for n in range(NR_ACCOUNTS)))
    connection.execute("CREATE TABLE journal(account INT, change INT)")


def books_are_right(connection):
    return one(connection, "SELECT count(*) FROM account a WHERE sum <>"
               " (SELECT total(change) FROM journal"
               " WHERE account = a.id)") == 0


def transfer(connection, number):
    """All of it or nothing, and which of them."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE account SET sum = sum + 1, note = note ||"
                           " ? WHERE id >= ?",
                           ("y" * 200, number % NR_ACCOUNTS))
        connection.execute("INSERT INTO journal SELECT id, 1 FROM account"
                           " WHERE id >= ?", (number % NR_ACCOUNTS,))
        connection.execute("COMMIT")
        return True
    except MemoryError:
        return False


def fill(keep):
    """Steps first, then what is left in smaller pieces."""
    for size in (STEP, 4096, 1024, 512, 256, 128):
        try:
            number = keep.index(None)
            while True:
                keep[number] = bytes(size - 33)
                number += 1
        except MemoryError:
            pass
        time.sleep(OVER_S)


def transaction(limit, path):
    """With nothing left, then a step more each time, until it can be done.

    Either way the books are right, to this connection and to a new one.
    """
    connection = connect(path)
    make_accounts(connection)
    outcomes = []
    for nr_steps in range(0, 48, 4):
        keep = [None] * (limit // 512)
        done = [None]
        connection.execute("PRAGMA shrink_memory")
        fill(keep)
        for n in range(nr_steps):
            keep[n] = None
        try:
            done[0] = transfer(connection, nr_steps)
        finally:
            keep.clear()
        if connection.in_transaction:
            assert not done[0]
            connection.execute("ROLLBACK")
        outcomes.append(done[0])
        assert books_are_right(connection)
        nr_done = one(connection, "SELECT sum FROM account WHERE id = ?",
                      NR_ACCOUNTS - 1)
        assert nr_done == outcomes.count(True), (nr_done, outcomes)
    assert True in outcomes and False in outcomes, outcomes
    assert is_whole(connection)
    connection.close()
    connection = connect(path)
    assert books_are_right(connection) and is_whole(connection)


def threads(_, path):
    """Connections of four threads, each with queries that fail."""
    setup = connect(path)
    fill_items(setup)
    setup.execute("CREATE TABLE done(thread INT, round INT)")
    errors = []

    def insist(call):
        """The others may have all the memory for a moment."""
        for _ in range(100000):
            try:
                return call()
            except MemoryError:
                time.sleep(0)
        raise AssertionError("no memory in 100000 attempts")

    def work(index):
        try:
            connection = insist(lambda: connect(path))
            for number in range(5):
                sql = TOO_MUCH[(index + number) % len(TOO_MUCH)]
                assert refuses(lambda: connection.execute(sql).fetchall())
                insist(lambda: connection.execute(
                    "INSERT INTO done VALUES (?, ?)", (index, number)))
        except BaseException as error:      # noqa: told by the main thread
            errors.append((index, repr(error)))

    pool = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    assert not errors, errors
    rows = setup.execute("SELECT thread, round FROM done ORDER BY 1, 2")
    assert rows.fetchall() == [(t, n) for t in range(4) for n in range(5)]
    assert is_whole(setup)


def main():
    name, limit, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    functions = {f.__name__: f for f in (query, memory, transaction, threads)}
    functions[name](limit, path)
    print("passed", name)


if __name__ == "__main__":
    main()
