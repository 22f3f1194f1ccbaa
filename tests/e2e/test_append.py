"""
Appending: O_APPEND writes travel alone, by AppendObject; every record once and whole, whatever happens to replies and
whoever else appends; and what an appendable object can and cannot do as a file.
"""

import contextlib
import errno
import os
import subprocess
import sys
import threading
import time

import pytest

import harness
from harness import blob, raises_errno, read_file, run, wait_until, write_file

pytestmark = [pytest.mark.bucket]

MB = 1 << 20


def append(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        assert os.write(fd, data) == len(data)
    finally:
        os.close(fd)


def kind(server, key):
    return server.objects(key)[key]["type"]


# ------------------------------------------------------------------------------------------- what is sent


def test_budget(server, mount):
    m = mount()
    os.listdir(m.path)
    server.reset()
    run(["sh", "-c", "echo one >> %s" % m.p("log")])
    assert server.counters() == {"AppendObject": 1}
    assert kind(server, "log") == "Appendable"
    run(["sh", "-c", "echo two >> %s; echo three | tee -a %s" % (m.p("log"), m.p("log"))])
    run(["dd", "if=/dev/zero", "of=" + m.p("log"), "bs=10", "count=3", "oflag=append", "conv=notrunc"])
    assert server.counters() == {"AppendObject": 4}
    server.check_object("log", b"one\ntwo\nthree\n" + bytes(30))


def test_ten_kilobytes_to_a_hundred_megabytes(server, mount):
    size = 100 * MB
    head = b"".join(harness.big_chunks(size))
    server.plant("log", head, {"x-ossd-type": "Appendable"})
    m = mount()
    assert os.stat(m.p("log")).st_size == size
    server.reset()
    tail = b""
    for i in range(10):
        piece = blob(1024, i)
        append(m.p("log"), piece)
        tail += piece
    assert server.counters() == {"AppendObject": 10}
    assert server.bytes() == (10240, 0)
    assert server.object("log") == head + tail
    assert int(server.objects("log")["log"]["crc64"]) == harness.crc64([head, tail])


# ------------------------------------------------------------------------- records of writers on two mounts

# Each record by open(O_APPEND), write, close; its text says whose it is and which.
WRITER = """
import os, sys
path, name, n, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for i in range(n):
    record = ("%s-%06d " % (name, i)).encode()
    record += bytes([97 + (i * 7 + len(name)) % 26]) * (size - len(record) - 1) + b"\\n"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    assert os.write(fd, record) == len(record)
    os.close(fd)
"""


def record(name, i, size):
    text = ("%s-%06d " % (name, i)).encode()
    return text + bytes([97 + (i * 7 + len(name)) % 26]) * (size - len(text) - 1) + b"\n"


def check_records(data, writers, n, size):
    """Exactly the records that were written, each once, whole, and those of one writer in their order."""
    lines = data.split(b"\n")
    assert lines.pop() == b"", "the end of the object is not the end of a record"
    found = {}
    for line in lines:
        name, _, rest = line.partition(b"-")
        found.setdefault(name.decode(), []).append(line + b"\n")
    assert sorted(found) == sorted(writers)
    for name in writers:
        assert found[name] == [record(name, i, size) for i in range(n)], name
    assert len(data) == len(writers) * n * size


def append_records(mounts, key, n, size=60, seconds=100):
    writers = []
    with contextlib.ExitStack() as stack:
        procs = []
        for i, m in enumerate(mounts):
            name = "w%d" % i
            writers.append(name)
            command = [sys.executable, "-c", WRITER, m.p(key), name, str(n), str(size)]
            procs.append(stack.enter_context(harness.spawned(command, stderr=subprocess.PIPE)))
        for p in procs:
            _, err = p.communicate(timeout=seconds * harness.slow_factor())
            assert p.returncode == 0, err.decode()[-2000:]
    return writers


def lose_replies(server, every, count):
    """Of every so many appends one is lost on its way, and then one on its way back; `count` of both."""
    for i in range(count):
        server.fault("lost" if i % 2 else "reset", op="AppendObject", skip=every * (i + 1) - 1 - i)


@pytest.mark.parametrize("n", [pytest.param(60, id="240"), pytest.param(12500, id="50000", marks=[pytest.mark.long, pytest.mark.timeout(3000)])])
def test_records(server, mount, n):
    """4 writers on 2 mounts, one append in a hundred meets a reset or a lost reply: each record once, whole."""
    a, b = mount(), mount()
    for m in a, b:
        m.allow("AppendObject log: ", "AppendObject")
    os.listdir(a.path), os.listdir(b.path)
    server.reset()
    lose_replies(server, 20 if n < 1000 else 99, 12 if n < 1000 else 600)
    writers = append_records([a, a, b, b], "log", n, seconds=2500 if n > 1000 else 60)
    check_records(server.object("log"), writers, n, 60)
    print(server.counters(), sum(f["hits"] for f in server.faults()))
    assert kind(server, "log") == "Appendable"
