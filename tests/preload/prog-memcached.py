# SPDX-License-Identifier: MIT
"""Client for prog-memcached.test.

usage: prog-memcached.py SOCKET fill | evict | serve

fill:  stores values until the server refuses one for lack of memory (started
       with -M), then sees that it serves on: what it accepted is unchanged,
       and what is deleted makes room.
evict: stores values of one size until old ones must have gone; then values of
       a size for which the server has no memory left are refused.
serve: ordinary work of eight clients at once, far below any limit.

Ends with status 0 and "passed NAME".
"""
import hashlib
import socket
import sys
import threading


SIZE = 15000


class Client:
    """The text protocol, as much of it as is needed."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.file = self.socket.makefile("rwb")

    def line(self):
        text = self.file.readline()
        assert text.endswith(b"\r\n"), "the server hung up: %r" % text
        return text[:-2].decode()

    def ask(self, text):
        self.file.write(text.encode() + b"\r\n")
        self.file.flush()
        return self.line()

    def ask_nothing(self, text):
        """Of a request that the server answers by hanging up."""
        self.file.write(text.encode() + b"\r\n")
        self.file.flush()
        assert self.file.read() == b""

    def store(self, verb, key, value):
        self.file.write(b"%s %s 0 0 %d\r\n%s\r\n" %
                        (verb.encode(), key.encode(), len(value), value))
        self.file.flush()
        return self.line()

    def get(self, key):
        head = self.ask("get " + key)
        if head == "END":
            return None
        assert head.startswith("VALUE " + key + " "), head
        size = int(head.split()[3])
        value = self.file.read(size + 2)
        assert len(value) == size + 2 and self.line() == "END"
        return value[:-2]

    def stats(self):
        stats = {}
        line = self.ask("stats")
        while line != "END":
            _, name, value = line.split(" ", 2)
            stats[name] = value
            line = self.line()
        return stats


def value_of(key, size):
    seed = hashlib.md5(key.encode()).hexdigest().encode()
    return (seed * (size // 32 + 1))[:size]


def is_refusal(answer):
    return (answer.startswith("SERVER_ERROR") and
            "out of memory" in answer.lower())


def alive(path):
    """A client that comes now is served."""
    late = Client(path)
    assert late.ask("version").startswith("VERSION ")
    assert int(late.stats()["uptime"]) >= 0
    late.socket.close()


def fill(path):
    client = Client(path)
    stored, refusals = [], 0
    while refusals < 100:
        key = "k%d" % (len(stored) + refusals)
        answer = client.store("set", key, value_of(key, SIZE))
        if answer == "STORED":
            stored.append(key)
        else:
            assert is_refusal(answer), answer
            refusals += 1
        assert len(stored) < 100000, "never refused"
    print("stored", len(stored))
    assert len(stored) > 2000
    alive(path)
    for key in stored:
        assert client.get(key) == value_of(key, SIZE), key
    assert is_refusal(client.store("set", "one", value_of("one", 900000)))
    for key in stored[:1000]:
        assert client.ask("delete " + key) == "DELETED", key
    for number in range(900):
        key = "again%d" % number
        assert client.store("set", key, value_of(key, SIZE)) == "STORED", key
    for key in stored[1000:]:
        assert client.get(key) == value_of(key, SIZE), key
    assert client.stats()["evictions"] == "0"


def evict(path):
    client = Client(path)
    for number in range(12000):
        key = "k%d" % number
        answer = client.store("set", key, value_of(key, SIZE))
        assert answer == "STORED", answer
    assert int(client.stats()["evictions"]) > 1000
    assert client.get("k11999") == value_of("k11999", SIZE)
    answers = [client.store("set", "l%d" % size, value_of("l", size))
               for size in range(200000, 900000, 50000)]
    assert all(a == "STORED" or is_refusal(a) for a in answers), answers
    assert any(map(is_refusal, answers)), answers
    assert client.get("k11998") == value_of("k11998", SIZE)


def serve_one(path, index, done):
    client = Client(path)
    assert client.store("set", "n%d" % index, b"0") == "STORED"
    for number in range(1500):
        key = "s%d.%d" % (index, number % 700)
        size = number * 37 % 9000
        assert client.store("set", key, value_of(key, size)) == "STORED"
        assert client.get(key) == value_of(key, size)
        if number % 3 == 0:
            assert client.ask("delete " + key) == "DELETED"
            assert client.get(key) is None
        assert client.store("add", "n%d" % index, b"x") == "NOT_STORED"
        assert client.ask("incr n%d 1" % index) == str(number + 1)
    done.append(index)


def serve(path):
    done = []
    clients = [threading.Thread(target=serve_one, args=(path, n, done))
               for n in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert sorted(done) == list(range(8)), done


def main():
    path, name = sys.argv[1:]
    {"fill": fill, "evict": evict, "serve": serve}[name](path)
    alive(path)
    Client(path).ask_nothing("shutdown")
    print("passed", name)


if __name__ == "__main__":
    main()
