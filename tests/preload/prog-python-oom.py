# SPDX-License-Identifier: MIT
"""Work for prog-python-oom.test: what a program does about a MemoryError.

usage: prog-python-oom.py FUNCTION LIMIT_BYTES

Each function fills the pool with small objects, of each size in turn, so that
what reports the error finds nothing free but what a failed thread is left.  A
run ends with status 0 and the line "passed FUNCTION", or with a traceback.
"""
import io
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback

MIB = 1 << 20
IN_TIME_S = 0.08
OVER_S = 0.13
ATTEMPTS = 30
BYTES_HEADER = 33

# What malloc is asked for.  The first fills the pool, three take the pages
# that are left, and then each size of small objects gets to its end.
SIZES = tuple(n - BYTES_HEADER for n in (
    [96, MIB, 65536, 20000] + list(range(2048, 1024, -128)) +
    list(range(1024, 512, -64)) + list(range(512, 256, -32)) +
    list(range(256, 48, -16))))


def exhaust(slots):
    """Nothing of any size is left, and no failure is recent.

    The objects go into slots that are there already: a list that grows would
    fail before they do.
    """
    number = 0
    for size in SIZES:
        try:
            while True:
                slots[number] = bytes(size)
                number += 1
        except MemoryError:
            pass
        time.sleep(OVER_S)


def slots_for(limit):
    return [None] * (limit // 64)


def too_large():
    """Fails at the limit, whatever a failed thread is left."""
    return bytes(MIB)


def works(path):
    """Does path(error) work, called where a MemoryError was caught?

    False: it met another one, in time.  Late is not wrong: then once more.
    """
    for _ in range(ATTEMPTS):
        try:
            too_large()
            return False
        except MemoryError as error:
            # Before it there is no memory for a number.
            start = time.monotonic()
            try:
                return path(error)
            except MemoryError:
                if time.monotonic() - start < IN_TIME_S:
                    return False
    return False


def at_limit(limit, path, rounds=5):
    """Whether the path works at the limit is asked, then memory freed."""
    slots = slots_for(limit)
    results = [False] * rounds
    exhaust(slots)
    for number in range(rounds):
        results[number] = works(path)
        time.sleep(OVER_S)
    slots.clear()
    assert all(results), results
    check_alive(limit)


def check_alive(limit):
    """Memory is there again, in small pieces and in one."""
    words = {}
    for number in range(100000):
        word = "w%d" % (number % 1000)
        words[word] = words.get(word, 0) + 1
    assert len(words) == 1000 and set(words.values()) == {100}
    one = bytearray(limit * 6 // 10)
    one[-1] = 1
    assert one.count(0) == len(one) - 1


def is_traceback(text):
    return (text.startswith("Traceback (most recent call last):\n") and
            "in too_large\n    return bytes(MIB)" in text and
            text.rstrip().endswith("MemoryError"))


def printed(limit):
    """traceback.print_exc(), the source's lines and all."""
    def path(_):
        text = io.StringIO()
        traceback.print_exc(file=text)
        traceback.print_exc()
        return is_traceback(text.getvalue())
    at_limit(limit, path)


def logged(limit):
    """A line of a log with the traceback below it, and one more line."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log = logging.getLogger("requests")
    log.addHandler(handler)
    log.propagate = False
    numbers = iter(range(1000))

    def path(error):
        number = next(numbers)
        log.exception("request %d of %s was not served", number, "somebody")
        log.warning("%r is what it ended with", error)
        written = text.getvalue()
        return (("ERROR request %d of somebody was not served\nTraceback" %
                 number) in written and
                written.endswith("WARNING MemoryError() is what it ended "
                                 "with\n"))
    at_limit(limit, path)


def replied(limit):
    """An error reply to a client."""
    ours, theirs = socket.socketpair()

    def path(error):
        reply = {"status": 503, "error": type(error).__name__,
                 "detail": ["out of memory", {"asked": MIB}],
                 "trace": traceback.format_exc().splitlines()}
        ours.sendall(json.dumps(reply, indent=1).encode())
        got = json.loads(theirs.recv(8192))
        return got == reply and got["error"] == "MemoryError"
    at_limit(limit, path)


def raised_again(limit):
    """Another exception, made of the first one."""
    def serve():
        try:
            too_large()
        except MemoryError as error:
            raise RuntimeError("the request asked for %d bytes" %
                               MIB) from error

    def path(_):
        try:
            serve()
        except RuntimeError as error:
            text = "".join(traceback.format_exception(error))
            return ("the direct cause" in text and
                    "the request asked for 1048576 bytes" in text)
        return False
    at_limit(limit, path)


def join(thread):
    """This thread has not failed lately, and join() needs memory, too."""
    while True:
        try:
            thread.join()
            return
        except MemoryError:
            pass


def threads(limit):
    """Threads fail at once, each with a traceback of its own."""
    slots = slots_for(limit)
    go = []
    results = [[False] * 10 for _ in range(4)]

    def path(_):
        return is_traceback(traceback.format_exc())

    def work(index):
        while not go:
            os.sched_yield()
        for number in range(10):
            results[index][number] = works(path)

    pool = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in pool:
        thread.start()
    # One to start them with; no list is to grow when memory is out.
    start = slots_for(6400)
    exhaust(slots)
    go += start[:1]
    for thread in pool:
        join(thread)
    slots.clear()
    assert all(map(all, results)), results
    check_alive(limit)


def lists(limit):
    """Threads whose lists of small objects grow until there is no memory."""
    told = [0] * 4

    def grow(keep):
        number = 0
        while True:
            keep.append("value %d" % number * (number % 20))
            number += 1

    def work(index):
        for _ in range(5):
            keep = []
            try:
                grow(keep)
            except MemoryError:
                text = None
                try:
                    text = traceback.format_exc()
                except MemoryError:
                    pass
                # The list is of use still, and the next round begins anew.
                last = len(keep) - 1
                assert keep[last] == "value %d" % last * (last % 20)
                del keep
                if text and "in grow\n" in text:
                    told[index] += 1

    for count in (1, 4):
        told[:] = [0] * 4
        pool = [threading.Thread(target=work, args=(n,))
                for n in range(count)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        # Where threads take each other's memory, one in five may be late.
        assert sum(told) >= count * 4, told
    check_alive(limit)


def uncaught(limit):
    """Ends with a traceback on standard error, while memory is out."""
    slots = slots_for(limit)
    exhaust(slots)
    too_large()


def main():
    name, limit = sys.argv[1], int(sys.argv[2])
    functions = {f.__name__: f for f in (printed, logged, replied,
                                         raised_again, threads, lists,
                                         uncaught)}
    functions[name](limit)
    print("passed", name)


if __name__ == "__main__":
    main()
