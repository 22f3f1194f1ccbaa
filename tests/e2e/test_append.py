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


@pytest.mark.parametrize("megabytes", [10, pytest.param(100, marks=pytest.mark.long)])
def test_ten_kilobytes_to_a_large_object(server, mount, megabytes):
    size = megabytes * MB
    head = blob(MB, "head") * megabytes
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
    same = server.object("log") == head + tail  # of so much no difference is shown
    assert same
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


# ---------------------------------------------------------------------------------------------- what goes wrong

FAULTS = {
    "503": ({"action": "status", "status": 503, "code": "ServiceUnavailable", "count": 2}, 0),
    "500": ({"action": "status", "status": 500, "code": "InternalError"}, 0),
    "429": ({"action": "status", "status": 429, "code": "TooManyRequests"}, 0),
    "reset": ({"action": "reset"}, 0),
    "reset again": ({"action": "reset", "count": 3}, 0),
    "lost": ({"action": "lost"}, 0),
    "truncated": ({"action": "truncate"}, 0),
    "garbage": ({"action": "garbage", "mode": "html"}, 0),
    "wrong CRC": ({"action": "wrong_crc"}, 0),
    "no CRC": ({"action": "drop_crc"}, 0),
    "damaged": ({"action": "corrupt_request"}, 0),
    "hang": ({"action": "hang"}, 0),
    "denied": ({"action": "status", "status": 403, "code": "AccessDenied"}, errno.EACCES),
    "immutable": ({"action": "status", "status": 409, "code": "FileImmutable"}, errno.EPERM),
    "position": ({"action": "status", "status": 409, "code": "PositionNotEqualToLength"}, 0),
    "not appendable": ({"action": "status", "status": 409, "code": "ObjectNotAppendable"}, 0),
    "never appendable": ({"action": "status", "status": 409, "code": "ObjectNotAppendable", "count": -1}, 0),
    "argument": ({"action": "status", "status": 400, "code": "InvalidArgument"}, 0),
}


def test_faults(server, mount):
    """Each meets an append to a new object, and one to what is there: the right bytes, or the right errno."""
    m = mount(readwrite_timeout=2, connect_timeout=2)
    m.allow("AppendObject", "sending of", "what was there before", "may not write everything")
    for name, (fault, code) in FAULTS.items():
        for old in b"", b"old" * 300:
            key = "%s %d" % (name, len(old))
            if old:
                append(m.p(key), old)
            server.fault(op="AppendObject", **fault)
            fd = os.open(m.p(key), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(fd, b"new" * 100)
            if code:
                with raises_errno(code):
                    os.fsync(fd)
                assert server.object(key) == (old or None), key
                with raises_errno(code) if fault.get("count") == -1 else contextlib.nullcontext():
                    os.fsync(fd)
            os.close(fd)
            server.clear_faults()
            assert server.object(key) == old + b"new" * 100, key
            append(m.p(key), b"more")
            assert server.object(key) == old + b"new" * 100 + b"more", key
            assert read_file(m.p(key)) == old + b"new" * 100 + b"more", key
    assert server.uploads() == []


# -------------------------------------------------------------------------- what an appendable object is as a file

BOTH = pytest.mark.parametrize("copies", ["yes", "no"])


@pytest.fixture
def refusing(server_factory, mount_factory):
    """A server at one setting of the doubt whether appendable objects can be copied, and a mount of it."""

    def start(copies, *args, **options):
        server = server_factory("--appendable-copy=" + copies, *args)
        m = mount_factory(server, **options)
        m.allow("CopyObject", "UploadPartCopy", "OperationNotSupported")
        return server, m

    return start


@BOTH
def test_rename(refusing, copies):
    server, m = refusing(copies)
    append(m.p("log"), b"one\n")
    append(m.p("log"), b"two\n")
    os.setxattr(m.p("log"), "user.color", b"red")
    os.chmod(m.p("log"), 0o640)
    before = os.stat(m.p("log"))
    os.rename(m.p("log"), m.p("log.1"))
    append(m.p("log"), b"new\n")
    append(m.p("log.1"), b"three\n")
    server.check_object("log", b"new\n")
    server.check_object("log.1", b"one\ntwo\nthree\n")
    assert kind(server, "log") == "Appendable"
    os.rename(m.p("log"), m.p("log.2"))
    os.rename(m.p("log.1"), m.p("sub")), os.rename(m.p("sub"), m.p("log.1"))
    m.remount()
    assert read_file(m.p("log.1")) == b"one\ntwo\nthree\n" and read_file(m.p("log.2")) == b"new\n"
    st = os.stat(m.p("log.1"))
    assert st.st_mode & 0o7777 == 0o640 and os.getxattr(m.p("log.1"), "user.color") == b"red"
    assert abs(st.st_mtime - before.st_mtime) < 30
    assert not os.path.exists(m.p("log")) and server.uploads() == []


@BOTH
def test_rename_keeps_the_time(refusing, copies):
    server, m = refusing(copies)
    server.plant("log", b"x" * 5000, {"x-ossd-type": "Appendable", "x-ossd-last-modified": "1600000000"})
    m.forget()
    assert os.stat(m.p("log")).st_mtime == 1600000000
    os.rename(m.p("log"), m.p("old"))
    assert os.stat(m.p("old")).st_mtime == 1600000000
    m.remount()
    assert os.stat(m.p("old")).st_mtime == 1600000000
    server.check_object("old", b"x" * 5000)


@BOTH
def test_attributes(refusing, copies):
    server, m = refusing(copies)
    append(m.p("log"), b"one\n")
    os.chmod(m.p("log"), 0o600)
    os.utime(m.p("log"), (10**9, 10**9))
    os.setxattr(m.p("log"), "user.a", b"b")
    append(m.p("log"), b"two\n")
    os.utime(m.p("log"), (10**9, 1234567890))
    m.remount()
    assert os.stat(m.p("log")).st_mtime == 1234567890
    assert os.stat(m.p("log")).st_mode & 0o7777 == 0o600 and os.getxattr(m.p("log"), "user.a") == b"b"
    server.reset()
    append(m.p("log"), b"three\n")
    assert server.counters() == {"AppendObject": 1}
    m.remount(stat_cache_expire=0)
    st = os.stat(m.p("log"))
    assert st.st_size == 14 and abs(st.st_mtime - time.time()) < 600, "the time of the last append"
    assert st.st_mode & 0o7777 == 0o600
    server.check_object("log", b"one\ntwo\nthree\n")
    assert kind(server, "log") == "Appendable"


@BOTH
def test_copy_and_change(refusing, copies):
    """A copy, a change in the middle, a truncation: right at both settings, and with parts."""
    server, m = refusing(copies, multipart_threshold=1, multipart_size=1)
    data = blob(MB + 300000, "log")
    append(m.p("log"), data)
    run(["cp", m.p("log"), m.p("copy")])
    assert server.object("copy") == data
    with open(m.p("log"), "r+b") as f:
        f.seek(MB // 2)
        f.write(b"changed")
    changed = data[: MB // 2] + b"changed" + data[MB // 2 + 7 :]
    assert server.object("log") == changed
    assert kind(server, "log") != "Appendable"
    append(m.p("log"), b"more")
    assert server.object("log") == changed + b"more"
    append(m.p("short"), data[:200000])
    os.truncate(m.p("short"), 150000)
    append(m.p("short"), b"x")
    assert server.object("short") == data[:150000] + b"x"
    m.forget()
    append(m.p("big"), data)
    m.forget()
    os.rename(m.p("big"), m.p("big2"))
    assert server.object("big2") == data
    assert server.uploads() == []


@BOTH
def test_past_the_limit(refusing, copies):
    """The service takes no more: the object is converted, by copies of its own where it makes them."""
    server, m = refusing(copies, "--append-max=400000", multipart_threshold=1, multipart_size=1)
    m.allow("AppendObject")
    data = b""
    for i in range(4):
        piece = blob(150077, i)
        append(m.p("log"), piece)
        data += piece
        assert server.object("log") == data
    m.forget()
    append(m.p("log"), b"after a remount")
    data += b"after a remount"
    assert server.object("log") == data
    assert kind(server, "log") == "Multipart"
    if copies == "yes":
        server.reset()
        append(m.p("log"), b"end")
        assert server.object("log") == data + b"end"
        assert server.bytes()[1] < 100000, "the service copies by itself"
    assert server.uploads() == []


# ----------------------------------------------------------------------------- files that are never closed


@contextlib.contextmanager
def held_open(path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)


def test_a_log_that_is_never_closed(server, mount, tmp):
    """append_flush sends it; a reader on the other mount has it open all the time."""
    a, b = mount(append_flush=1, stat_cache_expire=1), mount(stat_cache_expire=1)
    append(a.p("log"), b"first\n")
    wait_until(lambda: os.path.exists(b.p("log")), 10, "the name on the other mount")
    out = os.path.join(tmp, "tail")
    with open(out, "wb") as f, harness.spawned(["tail", "-n", "+1", "-f", "-s", "0.2", b.p("log")], stdout=f):
        wait_until(lambda: read_file(out) == b"first\n", 20, "what is there")
        with held_open(a.p("log")) as fd:
            expected = b"first\n"
            for i in range(3):
                line = b"line %d\n" % i
                os.write(fd, line)
                expected += line
                wait_until(lambda: read_file(out) == expected, 20, "line %d" % i)
    assert server.counters()["AppendObject"] == 4
    server.check_object("log", expected)


def test_append_flush_off(server, mount):
    m = mount(append_flush=0)
    with held_open(m.p("log")) as fd:
        os.write(fd, b"x")
        time.sleep(1.5)
        assert server.object("log") is None
    server.check_object("log", b"x")


def test_readers_of_the_same_mount(server, mount):
    """A reader whose kernel pages end within the last page sees what others append through the same mount."""
    m = mount()
    append(m.p("log"), b"0" * 10)
    total = b"0" * 10
    with open(m.p("log"), "rb", buffering=0) as reader:
        assert reader.read() == total
        for i in range(30):
            append(m.p("log"), b"%d" % (i % 10) * 7)
            total += b"%d" % (i % 10) * 7
            assert os.pread(reader.fileno(), 1000, 0) == total
            assert read_file(m.p("log")) == total


def test_readers_see_what_others_append(server, mount):
    """An open file, and one that is opened anew, on a mount that appends too."""
    a, b = mount(stat_cache_expire=0), mount(stat_cache_expire=0)
    append(a.p("log"), b"one\n")
    with open(b.p("log"), "rb", buffering=0) as reader:
        assert reader.read() == b"one\n"
        total = b"one\n"
        for i in range(5):
            append(a.p("log"), b"a%d\n" % i)
            append(b.p("log"), b"b%d\n" % i)
            total += b"a%d\nb%d\n" % (i, i)
            assert os.stat(b.p("log")).st_size == len(total)
            assert read_file(b.p("log")) == total
            assert os.pread(reader.fileno(), 1000, 0) == total
    server.check_object("log", total)
    # Replaced by another one, and longer: the open file keeps to the old one, a new one shows the new one.
    with open(b.p("log"), "rb", buffering=0) as reader:
        server.plant("log", b"something else " * 10, {"x-ossd-type": "Appendable"})
        assert read_file(b.p("log")) == b"something else " * 10
        assert os.pread(reader.fileno(), 1000, 0) in (total, b"something else " * 10)
