# SPDX-License-Identifier: MIT
"""Work for prog-python.test: each function is one run of the interpreter.

usage: prog-python.py FUNCTION LIMIT_BYTES

A run ends with status 0 and the line "passed FUNCTION", or with a traceback.
"""
import gc
import hashlib
import multiprocessing
import os
import sys
import threading

MIB = 1 << 20


def fill(make, keep, limit, size):
    """Appends what make(n) returns until MemoryError; how many fitted.

    The number is bounded by three times what could fit, for a program on
    which nothing sets a limit.  The ballast is what the caller has left when
    this returns: at the limit even a loop needs some memory.
    """
    most = 3 * limit // size
    ballast = bytearray(MIB // 2)
    count = 0
    try:
        while count < most:
            keep.append(make(count))
            count += 1
    except MemoryError:
        del ballast
        return count
    raise AssertionError("no MemoryError after %d objects" % most)


def insist(work):
    """Calls until there is memory, which other threads may hold just now."""
    for _ in range(100000):
        try:
            return work()
        except MemoryError:
            os.sched_yield()
    raise AssertionError("no memory in 100000 attempts")


def check_alive():
    """Work with a known answer, small objects and large ones."""
    words = {}
    for number in range(100000):
        word = "w%d" % (number % 1000)
        words[word] = words.get(word, 0) + 1
    assert len(words) == 1000 and set(words.values()) == {100}
    text = b"0123456789abcdef" * (256 * 1024)
    assert hashlib.sha256(text).hexdigest() == (
        hashlib.sha256(bytes(text)).hexdigest())
    assert text.count(b"9a") == 256 * 1024


def block_of(number, size):
    """A block that says at both ends who it is."""
    block = bytearray(size)
    block[:8] = block[-8:] = b"%08d" % number
    return block


def large(limit):
    """Large blocks to the limit, again and again; then one of most of it."""
    counts = []
    for _ in range(4):
        keep = []
        counts.append(fill(lambda n: block_of(n, MIB), keep, limit, MIB))
        for number, block in enumerate(keep):
            assert block[:8] == block[-8:] == b"%08d" % number
        del keep, block
    assert counts[0] * MIB > limit * 6 // 10, counts
    assert min(counts) >= counts[0] - 2, counts
    take_most(limit)
    try:
        bytearray(limit * 2)
    except MemoryError:
        return
    raise AssertionError("a block of twice the limit")


def take_most(limit):
    """Whatever was freed, one block gets most of the limit."""
    if os.environ.get("PP_PLAIN"):
        return      # libc's heap keeps holes, and promises nothing else.
    one = bytearray(limit * 6 // 10)
    one[-1] = 1
    assert one.count(0) == len(one) - 1


def small(limit):
    """Small objects to the limit; recovery; other sizes get all of it."""
    for size in (40, 500, 24, 3000):
        keep = []
        count = fill(lambda n: b"%09d" % n + b"x" * size, keep, limit, size)
        held = count * (size + 9 + 33)
        assert held > limit * 5 // 10, (size, held)
        for number in range(0, len(keep), 997):
            assert keep[number] == b"%09d" % number + b"x" * size
        del keep
        check_alive()
    take_most(limit)


def containers(limit):
    """A dictionary that cannot grow is still the dictionary it was."""
    table = {}
    ballast = bytearray(MIB)
    number = 0
    try:
        while number < limit // 10:
            table[number] = "value %d" % number
            number += 1
    except MemoryError:
        del ballast
    else:
        raise AssertionError("no MemoryError")
    assert len(table) in (number, number + 1)
    assert all(table[n] == "value %d" % n for n in range(0, number, 101))
    for key in range(0, number, 2):
        del table[key]
    assert len(table) in (number // 2, number // 2 + 1)
    table.clear()


def threads(limit):
    """Threads meet the limit together, and each one recovers."""
    done, go = [], []

    def work(index):
        while not go:
            os.sched_yield()
        for _ in range(5):
            keep = []
            try:
                # The ballast, too, may wait for what others hold.
                insist(lambda: fill(lambda n: bytearray(64 * 1024 + n),
                                    keep, limit, 65536))
            finally:
                sizes = [0, 0]
                if keep:
                    sizes = len(keep[0]), len(keep[-1]) - len(keep)
                del keep
            assert sizes in ((65536, 65535), [0, 0]), sizes
            own = insist(lambda: ["%d %d" % (index, n) for n in range(20000)])
            assert own[777] == "%d 777" % index
        done.append(index)

    pool = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in pool:
        thread.start()
    go.append(True)
    for thread in pool:
        thread.join()
    assert sorted(done) == [0, 1, 2, 3], done
    take_most(limit)


def many_threads(_):
    """A thousand short-lived threads; what one made another one drops."""
    made, sums = [], []

    def work(index):
        made.append([b"%d" % index * 50 for _ in range(200)])
        if len(made) > 8:
            sums.append(len(made.pop(0)))

    for first in range(0, 1000, 20):
        pool = [threading.Thread(target=work, args=(first + n,))
                for n in range(20)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
    assert sum(sums) + sum(map(len, made)) == 200000


def wait_for(pid):
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def child_at_limit(data, limit):
    """A forked child meets the limit by itself; its own child does not."""
    code = 1
    try:
        keep = []
        fill(lambda n: block_of(n, 262144), keep, limit, 262144)
        assert data[-9:] == b"sparent's", "parent's data changed"
        del keep
        check_alive()
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(7 if data.count(b"t's") == 1000000 else 8)
        code = 0 if wait_for(grandchild) == 7 else 9
    finally:
        os._exit(code)


def fork(limit):
    """Forks with threads under allocation; children at their limit."""
    data = b"parent's" * 1000000
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            [bytearray(n * 97 % 70000) for n in range(200)]

    churners = [threading.Thread(target=churn) for _ in range(2)]
    for thread in churners:
        thread.start()
    try:
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                child_at_limit(data, limit)
            assert wait_for(pid) == 0
        for number in range(100):
            pid = os.fork()
            if pid == 0:
                os._exit(len(str(list(range(5000)))) % 251)
            assert wait_for(pid) == len(str(list(range(5000)))) % 251
    finally:
        stop.set()
        for thread in churners:
            thread.join()
    assert data == b"parent's" * 1000000


def digest(number):
    text = b"%d;" % number * 50000
    return number, hashlib.sha256(text).hexdigest(), list(range(number % 100))


def pool(_):
    """multiprocessing: results of 2000 jobs, and a worker's MemoryError."""
    with multiprocessing.get_context("fork").Pool(4) as workers:
        for number, text, some in workers.imap_unordered(
                digest, range(2000), chunksize=20):
            assert some == list(range(number % 100))
            if number % 50 == 0:
                assert (number, text, some) == digest(number)
        try:
            workers.apply(bytearray, (1 << 40,))
        except MemoryError:
            pass
        else:
            raise AssertionError("no MemoryError from the worker")
        assert workers.map(abs, range(-1000, 0)) == list(range(1000, 0, -1))


def main():
    name, limit = sys.argv[1], int(sys.argv[2])
    functions = {f.__name__: f for f in (large, small, containers, threads,
                                         many_threads, fork, pool)}
    functions[name](limit)
    check_alive()
    print("passed", name)


if __name__ == "__main__":
    main()
