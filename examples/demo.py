#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A concordance of two libraries: every word of their sources, and where it is.

usage: demo.py RESULT_FILE

The program wants to hold the whole concordance in memory, which takes several
hundred megabytes.  When memory ends it gets MemoryError, as any Python program
would, and goes on with less: it drops what it had, halves its portion of text,
and writes each portion's words, sorted, to a temporary file; in the end it
merges the files.  Nothing in here knows of pagepool or of the limit.

Whatever the portions were, the result is the same: its SHA-256 says so.  The
result goes to RESULT_FILE as "name value" lines.
"""

import hashlib
import heapq
import itertools
import os
import re
import sys
import sysconfig
import tempfile

WORD = re.compile(r"[^\W\d]\w+")
FOLDERS = (sysconfig.get_path("stdlib"), "/usr/share/perl", "/usr/share/perl5")
ENDINGS = (".py", ".pm", ".pl", ".pod")
MAX_TEXT_BYTES = 48 << 20
MIN_PORTION_BYTES = 64 << 10


def list_texts():
    """The sources of Python's and Perl's libraries in a fixed order, as
    (path, bytes); enough of them, should the machine have many."""
    texts = []
    total_bytes = 0
    for folder, subfolders, names in itertools.chain(*map(os.walk, FOLDERS)):
        subfolders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not name.endswith(ENDINGS) or os.path.islink(path):
                continue
            size_bytes = os.path.getsize(path)
            total_bytes += size_bytes
            if total_bytes <= MAX_TEXT_BYTES:
                texts.append((path, size_bytes))
    return texts


def add_text(places_of, text_nr, path):
    """Add each word of one text, with text, line and column of each place."""
    with open(path, encoding="utf-8", errors="replace") as text:
        for line_nr, line in enumerate(text, 1):
            for match in WORD.finditer(line):
                word = match.group()
                place = (text_nr, line_nr, match.start())
                if word in places_of:
                    places_of[word].append(place)
                else:
                    places_of[word] = [place]


def write_sorted(places_of, out):
    """One line a word, in the order of words: the word and all its places."""
    for word in sorted(places_of):
        out.write(word)
        out.write("\t")
        out.write(" ".join("%d:%d:%d" % place for place in places_of[word]))
        out.write("\n")


def index_portion(texts, first, last, path):
    """Write the concordance of texts[first:last] to path.

    Returns the number of bytes of text, or -1 after a MemoryError; then what
    had been collected is dropped.
    """
    places_of = {}
    try:
        for text_nr in range(first, last):
            add_text(places_of, text_nr, texts[text_nr][0])
        with open(path, "w", encoding="utf-8") as out:
            write_sorted(places_of, out)
        return sum(size for _, size in texts[first:last])
    except MemoryError:
        places_of.clear()
        return -1


def end_of_portion(texts, first, portion_bytes):
    """The texts from first on that fit in a portion; at least one."""
    last = first
    while last < len(texts) and portion_bytes > 0:
        portion_bytes -= texts[last][1]
        last += 1
    return last


def index_all(texts, folder):
    """Index all texts in portions; returns their files and the MemoryErrors."""
    portion_bytes = sum(size for _, size in texts)
    files = []
    memory_errors = 0
    first = 0
    while first < len(texts):
        last = end_of_portion(texts, first, portion_bytes)
        path = os.path.join(folder, "portion%d" % len(files))
        done_bytes = index_portion(texts, first, last, path)
        if done_bytes >= 0:
            print("  %4.1f MB of text indexed (%d to %d of %d files)" %
                  (done_bytes / 1e6, first + 1, last, len(texts)), flush=True)
            files.append(path)
            first = last
            continue
        memory_errors += 1
        portion_bytes //= 2
        if portion_bytes < MIN_PORTION_BYTES:
            sys.exit("demo.py: not even a small portion fits in memory")
        print("  MemoryError: dropped what was collected; from now on %.1f MB"
              " of text at a time" % (portion_bytes / 1e6), flush=True)
    return files, memory_errors


def merge(files):
    """Put the portions together; returns what identifies the result."""
    digest = hashlib.sha256()
    nr_words = nr_places = 0

    def entries(path):
        with open(path, encoding="utf-8") as portion:
            for line in portion:
                yield line.rstrip("\n").split("\t")

    def word(entry):
        return entry[0]

    # heapq.merge takes equal words in the order of the files, so that the
    # places of each word stay in the order of the texts.
    merged = heapq.merge(*map(entries, files), key=word)
    for key, group in itertools.groupby(merged, word):
        nr_words += 1
        digest.update(key.encode())
        for _, places in group:
            nr_places += places.count(" ") + 1
            digest.update(b" " + places.encode())
        digest.update(b"\n")
    return nr_words, nr_places, digest.hexdigest()


def memory_kib(name):
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0


def main():
    texts = list_texts()
    with tempfile.TemporaryDirectory(prefix="pagepool-demo-") as folder:
        files, memory_errors = index_all(texts, folder)
        nr_words, nr_places, checksum = merge(files)
    with open(sys.argv[1], "w", encoding="ascii") as result:
        for name, value in (
                ("checksum", checksum),
                ("words", nr_words),
                ("places", nr_places),
                ("memory_errors", memory_errors),
                ("portions", len(files)),
                ("peak_kib", memory_kib("VmHWM")),
                ("code_kib", memory_kib("RssFile"))):
            print(name, value, file=result)
    print("  %d words at %d places, sha256 %s..." %
          (nr_words, nr_places, checksum[:16]), flush=True)


if __name__ == "__main__":
    try:
        main()
    except MemoryError:
        sys.exit("demo.py: not even the merging fits in memory")
