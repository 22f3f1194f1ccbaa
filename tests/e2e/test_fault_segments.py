"""
The accidents of test_fault_matrix.py at each request of a file that the cache does not hold: its parts go to objects
under hidden keys, are read again from there, and enter the file's own upload as copies. Once, or for as long as it
lasts.

While it is open the file is read, written over and cut off where the bucket has it alone. Nothing may be lost or
mixed up by it, and nothing hidden be left behind. The normal run takes a few, always the same; OSSMOUNT_LONG=1 all.
"""

import collections
import errno
import os
import random

import pytest

import harness
from harness import blob, read_file, wait_until
from test_fault_matrix import COMPLETE, COPY, INITIATE, MATRIX, PART, REFUSED, UNCLEAR, code_of, status, unsent
from test_faults import ACCIDENTS, SHORT

pytestmark = pytest.mark.bucket

KB, MB = 1 << 10, 1 << 20
HIDDEN = ".ossmount-hidden/"
GET, DELETE = "GetObject", "DeleteObject"
OPTIONS = dict(multipart_threshold=1, multipart_size=1, cache_size=2)
# Which requests there are; those with HIDDEN are of the hidden objects.
REQUESTS = [(op, "large") for op in (INITIATE, PART, COPY, COMPLETE)]
REQUESTS += [(op, HIDDEN) for op in (INITIATE, PART, COMPLETE, GET, DELETE)]
SLOW = {"slow": (ACCIDENTS["slow"], set())}
SAMPLE = 3

Case = collections.namedtuple("Case", "op key accident often")


def sense(case):
    """Is there such an accident?"""
    return not (case.accident == "wrong CRC in the reply" and case.op in (INITIATE, GET, DELETE, COPY))


CASES = [
    Case(op, key, accident, often)
    for op, key in REQUESTS
    for accident in {**MATRIX, **SLOW}
    for often in ("once", "for ever")
]
CASES = [case for case in CASES if sense(case)]


def chosen():
    if os.environ.get("OSSMOUNT_LONG"):
        return CASES
    quick = [case for case in CASES if case.accident not in ("hang", "slow") and case.key == HIDDEN]
    return random.Random(5).sample(quick, SAMPLE)


class Program:
    """Writes, reads and changes the file; knows what it must hold, and what it was told."""

    def __init__(self, path):
        self.content = bytearray()
        self.told = collections.defaultdict(set)
        self.fd = os.open(path, os.O_RDWR | os.O_TRUNC)

    def write(self, data, at):
        try:
            n = os.pwrite(self.fd, data, at)
        except OSError as e:
            self.told["write"].add(e.errno)
            return False
        self.content[at : at + n] = data[:n]
        return n == len(data)

    def read(self, n, at):
        try:
            found = os.pread(self.fd, n, at)
        except OSError as e:
            self.told["read"].add(e.errno)
            return
        assert found == self.content[at : at + n], (n, at)

    def run(self):
        data = blob(5 * MB + 77, "segments")
        at = 0
        while at < len(data) and self.write(data[at : at + 256 * KB], at):
            at = len(self.content)
        for at in (100 * KB, 1300 * KB, 3 * MB):
            self.read(128 * KB, at)
        self.write(blob(5000, "early"), 1400 * KB)
        self.read(64 * KB, 1390 * KB)
        size = max(0, len(self.content) - 700 * KB)
        self.told["truncate"].add(code_of(os.ftruncate, self.fd, size))
        del self.content[size:]
        self.write(blob(9000, "end"), size)
        self.told["fsync"].add(code_of(os.fsync, self.fd))
        self.told["close"].add(code_of(os.close, self.fd))


def check_told(server, case, p, listed):
    found = server.object("large")
    codes = {**MATRIX, **SLOW}[case.accident][1]
    sent = p.told["fsync"] | p.told["close"] == {0}
    assert found == p.content if sent else found in (b"old", p.content), p.told
    assert sent or found == p.content or "large" in listed, p.told
    assert p.told["fsync"] | p.told["close"] <= codes | {0}, p.told
    assert p.told["read"] <= (codes if case.op == GET else set()), p.told
    assert p.told["truncate"] == {0}
    # What the hidden objects do not take stays here, and there is no more room than the cache has.
    full = case.key == HIDDEN and case.op != DELETE and case.often == "for ever"
    assert p.told["write"] <= ({errno.ENOSPC} if full else set()), p.told
    if case.often == "once" and case.accident not in REFUSED:
        assert sent, p.told
    if case.often == "for ever" and case.key == "large" and case.accident not in UNCLEAR + ("slow",):
        assert not sent and found == b"old", p.told


def arrived(m):
    harness.run([harness.OSSMOUNT, "retry", m.path], check=False)
    return not unsent(m)


@pytest.mark.parametrize("case", chosen(), ids=lambda case: "%s-%s-%s-%s" % case)
def test_segments(server, mount, case):
    server.plant("large", b"old")
    m = mount(**OPTIONS, **(SHORT if case.often == "for ever" else dict(readwrite_timeout=3)))
    m.allow(" (warning|error) ")
    fault, _ = {**MATRIX, **SLOW}[case.accident]
    server.fault(op=case.op, key=case.key, count=1 if case.often == "once" else -1, **fault)
    p = Program(m.p("large"))
    p.run()
    check_told(server, case, p, unsent(m))
    assert all(f["hits"] for f in server.faults()) or case.op == DELETE, server.faults()
    server.clear_faults()
    patience = 60 * harness.slow_factor()
    assert read_file(m.p("large")) == p.content
    wait_until(lambda: arrived(m), patience, "what was unsent", step=0.2)
    server.check_object("large", bytes(p.content))
    assert not status(m)["failed"]["files"]
    m.remount()  # what could not be removed goes now
    wait_until(lambda: not server.objects(HIDDEN), patience, "no hidden object")
    wait_until(lambda: not server.uploads(), patience, "no upload, nor one whose Initiate was lost")
    assert read_file(m.p("large")) == p.content
