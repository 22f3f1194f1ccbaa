"""Above max_inodes the kernel is asked to forget; big directories."""

import contextlib
import ctypes
import json
import mmap
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

import harness
from harness import OSSMOUNT, run, wait_until

pytestmark = [pytest.mark.bucket, pytest.mark.sanitizer]

# Old enough to be believed for good.
MODE = {"x-oss-meta-mode": str(stat.S_IFREG | 0o640), "x-ossd-last-modified": "1700000000"}
DIRS, EACH = 4, 300


def inodes(m):
    return json.loads(run([OSSMOUNT, "status", m.path, "--json"]).stdout)["inodes"]["count"]


def await_shed(m, limit):
    return wait_until(lambda: inodes(m) <= limit, 60 * harness.slow_factor(), "at most %d inodes" % limit, step=0.2)


def numbers(m):
    """{path: inode number} of all files, each looked up by its name."""
    paths = [m.p("d%d" % d, "f%07d" % i) for d in range(DIRS) for i in range(EACH)]
    return {p: os.lstat(p).st_ino for p in paths}


@pytest.fixture
def many(server, mount):
    for d in range(DIRS):
        server.plant_many("d%d/f" % d, EACH, size=3, headers=MODE)
    return mount(max_inodes=300, stat_cache_expire=3600)


CWD = """
import os, sys
print(os.getcwd(), flush=True)
for line in sys.stdin:
    print(os.getcwd(), os.stat("f0000299").st_size, len(os.listdir(".")), flush=True)
"""


@contextlib.contextmanager
def working_in(path):
    """A program with that working directory; yields a function that asks it what it sees of it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with harness.spawned([sys.executable, "-c", CWD], cwd=path, text=True, **pipes) as proc:

        def ask():
            proc.stdin.write("\n")
            proc.stdin.flush()
            return proc.stdout.readline().split()

        assert proc.stdout.readline().strip() == path
        yield ask


def test_shed(many, server):
    """What nobody uses goes; what is in use stays as it is; what went is found again as it was, and costs nothing."""
    m = many
    first = numbers(m)
    await_shed(m, 300)
    server.reset()
    held = m.p("d0", "f0000001")
    with open(held, "rb") as f, working_in(m.p("d1")) as ask, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        for _ in range(2):
            assert numbers(m) == first
            await_shed(m, 300)
            assert ask() == [m.p("d1"), "3", str(EACH)]
            assert os.readlink("/proc/self/fd/%d" % f.fileno()) == held
            assert os.fstat(f.fileno()).st_ino == first[held]
            assert f.read(1) == b"x" and mapped[:] == b"xxx"
    asked = [(e["op"], e["key"]) for e in server.log() if e["op"] != "GetObject"]
    assert asked == [], "a name that went and came again costs no request"


def test_shed_unsent(server, mount):
    """Names with something unsent are forgotten and found like others; what is written keeps its inode."""
    m = mount(max_inodes=100, upload="background", upload_delay=3600)
    found = {}
    for i in range(110):
        with open(m.p("f%d" % i), "w") as f:
            f.write(str(i))
        found[i] = os.stat(m.p("f%d" % i)).st_ino
    with open(m.p("open"), "w") as f:
        f.write("half")
        f.flush()
        await_shed(m, 100)
        f.write("whole")
    for i, ino in found.items():
        assert os.stat(m.p("f%d" % i)).st_ino == ino
        assert harness.read_file(m.p("f%d" % i)) == b"%d" % i
    await_shed(m, 100)
    m.unmount()
    assert server.object("open") == b"halfwhole"
    assert len(server.objects()) == 111


def test_mounted_on(many, server):
    """The kernel would take away what is mounted on a directory that is to go."""
    m = many
    for place, names in ((m.p("d2"), {"here"}), (m.p("d3", "f0000003"), None)):
        source = os.path.join(m.directory, "source%d" % (names is None))
        if names:
            os.mkdir(source)
        harness.write_file(os.path.join(source, "here") if names else source, b"other")
        run(["mount", "--bind", source, place])
    try:
        for d in (0, 1):
            for i in range(EACH):
                os.lstat(m.p("d%d" % d, "f%07d" % i))
        await_shed(m, 300)
        assert os.listdir(m.p("d2")) == ["here"]
        assert harness.read_file(m.p("d3", "f0000003")) == b"other"
    finally:
        run(["umount", m.p("d2")])
        run(["umount", m.p("d3", "f0000003")])


def look_up(m, stop, names):
    while not stop.is_set():
        for name in names:
            try:
                os.lstat(m.p("d0", name))
            except FileNotFoundError:
                pass
            except OSError:
                return  # the mount is gone


@pytest.mark.parametrize("how", ["signal", "lazy"])
def test_end_while_shedding(server, mount, how):
    """
    The kernel takes the directory's lock to forget a name, and operations that wait for the bucket hold it: neither
    the end of the daemon nor that of the programs may wait for ever.
    """
    server.plant_many("d0/f", 1000, headers=MODE)
    m = mount(max_inodes=100, stat_cache_expire=3600)
    m.allow(" warning ", " error ")
    os.listdir(m.p("d0"))
    stop = threading.Event()
    server.fault("delay", op="HeadObject", count=-1, ms=300)
    threads = [threading.Thread(target=look_up, args=(m, stop, ["f%07d" % i for i in range(k, 1000, 8)])) for k in range(8)]
    for t in threads:
        t.start()
    wait_until(lambda: inodes(m) > 150, 60 * harness.slow_factor(), "more inodes than the limit", step=0.05)
    if how == "signal":
        m.signal(signal.SIGTERM)
    else:
        run(["fusermount3", "-uz", m.path])
    stop.set()
    for t in threads:
        t.join(60 * harness.slow_factor())
        assert not t.is_alive()
    assert m.wait_exit(60) == 0


# --------------------------------------------------------------------------------------------- big directories

MANY = 1000000 if os.environ.get("OSSMOUNT_LONG") else 20000


class Directory:
    """A directory stream of libc: Python's own can neither tell nor seek."""

    def __init__(self, path):
        self.libc = ctypes.CDLL(None, use_errno=True)
        for name, result, arguments in (
            ("opendir", ctypes.c_void_p, [ctypes.c_char_p]),
            ("readdir", ctypes.c_void_p, [ctypes.c_void_p]),
            ("telldir", ctypes.c_long, [ctypes.c_void_p]),
            ("seekdir", None, [ctypes.c_void_p, ctypes.c_long]),
            ("rewinddir", None, [ctypes.c_void_p]),
            ("closedir", ctypes.c_int, [ctypes.c_void_p]),
        ):
            function = getattr(self.libc, name)
            function.restype, function.argtypes = result, arguments
        self.stream = self.libc.opendir(os.fsencode(path))
        assert self.stream, os.strerror(ctypes.get_errno())

    def read(self, n=-1):
        """The next n names (-1: all that follow), without `.` and `..`."""
        names = []
        while n < 0 or len(names) < n:
            entry = self.libc.readdir(self.stream)
            if not entry:
                break
            name = os.fsdecode(ctypes.string_at(entry + 19))  # behind d_ino, d_off, d_reclen, d_type
            if name not in (".", ".."):
                names.append(name)
        return names

    def tell(self):
        return self.libc.telldir(self.stream)

    def seek(self, place):
        self.libc.seekdir(self.stream, place)

    def rewind(self):
        self.libc.rewinddir(self.stream)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.libc.closedir(self.stream)


def check_lists(server):
    """A page for a thousand entries, once."""
    assert server.counters()["ListObjectsV2"] == MANY // 1000


@pytest.mark.timeout(900)
def test_big_directory(server, mount):
    """
    A directory of a million entries (OSSMOUNT_LONG; else of 20,000): one request for a thousand of them, each name once
    whatever comes and goes meanwhile, and the memory that it costs.
    """
    server.plant_many("big/f", MANY, headers=MODE)
    m = mount(stat_cache_expire=3600)
    names = {"f%07d" % i for i in range(MANY)}
    os.stat(m.p("big"))
    server.reset()
    with m.memory_peak() as memory:
        begin = time.monotonic()
        with os.scandir(m.p("big")) as it:
            found = [e.name for e in it]
        first = time.monotonic() - begin
        assert len(found) == MANY and set(found) == names
        check_lists(server)
        begin = time.monotonic()
        assert int(run(["sh", "-c", 'ls -f "$0" | wc -l', m.p("big")], timeout=120).stdout) == MANY + 2
        again = time.monotonic() - begin
        check_lists(server)
    idle, peak = memory
    each = (peak - idle) / MANY
    print("%d entries: listed in %.2f s, again in %.2f s, %.0f bytes each" % (MANY, first, again, each))
    if harness.slow_factor() == 1:
        assert peak - idle < 200 * MANY + (16 << 20)

    gone, new = ["f0000000", "f%07d" % (MANY // 2), "f%07d" % (MANY - 1)], ["a", "g", "f0000000a"]
    with Directory(m.p("big")) as d:
        before = d.read(MANY // 3)
        place = d.tell()
        some = d.read(10)
        for name in gone:
            os.unlink(m.p("big", name))
        for name in new:
            harness.write_file(m.p("big", name), b"")
        d.seek(place)
        assert d.read(10) == some, "the place is another one"
        rest = d.read()
        seen = before + some + rest
        assert len(seen) == len(set(seen)), "a name twice"
        assert names - set(gone) <= set(seen) <= names | set(new)
        d.rewind()
        assert sorted(d.read()) == sorted(names - set(gone) | set(new))
    check_lists(server)
