"""
kill -9 at the n-th write, truncation, creation, removal, rename, send or reply of a daemon at work; at the n-th
request, before and after the server applied it; and while it recovers. Then a mount on the same cache directory, and
a look at the bucket: everything promised is there, nothing else, and what was never closed is kept aside.

The points of a workload are sampled evenly, each run the same ones; with OSSMOUNT_LONG=1 all of them are taken.
"""

import contextlib
import itertools
import os
import random
import shutil
import signal
import struct
import time

import pytest

import crash
import harness
from harness import blob, wait_until

pytestmark = [pytest.mark.bucket]

MB = 1 << 20
C, R, RW, T, X = os.O_CREAT | os.O_WRONLY, os.O_RDONLY, os.O_RDWR, os.O_TRUNC, os.O_EXCL
A = os.O_APPEND | os.O_WRONLY
OPTIONS = {"multipart_threshold": 1, "multipart_size": 1}
BIG = 3 * MB
COMMIT, PART = crash.TYPES.index("COMMIT"), crash.TYPES.index("PART")
PLANTED = {"big": blob(BIG, "big"), "small": blob(3000, "small"), "dir/x": blob(900, "x"), "dir/sub/y": blob(70, "y")}

# Each ends with something that was never closed.
WORKLOADS = {
    "new": [
        ("open", "a", "a", C | X),
        ("write", "a", 10, 1, 0),
        ("close", "a"),
        ("open", "b", "b", C | X),
        ("write", "b", 200000, 2, None),
        ("fsync", "b"),
        ("write", "b", 5000, 3, None),
        ("close", "b"),
        ("open", "e", "empty", C | X),
        ("close", "e"),
        ("open", "c", "c", C | X),
        ("write", "c", 4000, 4, None),
    ],
    "overwrite": [
        ("open", "s", "small", os.O_WRONLY | T),
        ("write", "s", 1500, 1, 0),
        ("close", "s"),
        ("open", "s", "small", RW),
        ("write", "s", 4000, 2, 0),
        ("fsync", "s"),
        ("write", "s", 300, 3, 100),
        ("close", "s"),
        ("open", "x", "dir/x", os.O_WRONLY | T),
        ("write", "x", 50, 4, 0),
    ],
    "partial": [
        ("open", "g", "big", RW),
        ("write", "g", 4096, 1, MB + 77),
        ("close", "g"),
        ("open", "g", "big", RW),
        ("write", "g", 100, 2, 5),
        ("write", "g", 100, 3, 2 * MB + 500000),
        ("fsync", "g"),
        ("write", "g", 3000, 4, MB),
        ("close", "g"),
        ("open", "g", "big", RW),
        ("write", "g", 10, 5, 7),
    ],
    "append": [
        ("open", "s", "small", A),
        ("write", "s", 100, 1, None),
        ("close", "s"),
        ("open", "n", "log", A | os.O_CREAT),
        ("write", "n", 80, 2, None),
        ("write", "n", 80, 3, None),
        ("close", "n"),
        ("open", "n", "log", A),
        ("write", "n", 80, 4, None),
        ("fsync", "n"),
        ("write", "n", 80, 5, None),
    ],
    # Of an object that is appendable already, with attributes, and with what is sent by time.
    "append_flush": [
        ("open", "n", "log", A | os.O_CREAT),
        ("write", "n", 80, 1, None),
        ("fsync", "n"),
        ("write", "n", 300000, 2, None),
        ("write", "n", 80, 3, None),
        ("fsync", "n"),
        ("chmod", "log", 0o600),
        ("write", "n", 80, 4, None),
        ("close", "n"),
        ("rename", "log", "log.1"),
        ("open", "n", "log", A | os.O_CREAT),
        ("write", "n", 1000, 5, None),
        ("close", "n"),
        ("open", "n", "log", A),
        ("write", "n", 1000, 6, None),
        ("fsync", "n"),
        ("open", "o", "log.1", A),
        ("write", "o", 70, 7, None),
        ("close", "o"),
        ("write", "n", 1000, 8, None),
    ],
    "multipart": [
        ("open", "m", "m", C | X),
        ("write", "m", 2 * MB, 1, None),
        ("fsync", "m"),
        ("write", "m", 3 * MB // 2, 2, None),
        ("close", "m"),
        ("open", "m", "m", C | T),
        ("write", "m", 3 * MB // 2, 3, None),
    ],
    # Parts leave while these are written; what is renamed, cut or left open takes its upload with it.
    "stream": [
        ("open", "a", "a", C | X),
        ("write", "a", 5 * MB // 2, 1, None),
        ("sleep", 0.1),
        ("write", "a", 1000, 2, None),
        ("utime", "a", 1300000000),
        ("close", "a"),
        ("open", "b", "b.tmp", C | X),
        ("write", "b", 2 * MB + 7, 3, None),
        ("rename", "b.tmp", "b"),
        ("write", "b", MB, 4, None),
        ("close", "b"),
        ("open", "c", "c", C | X),
        ("write", "c", 5 * MB // 2, 5, None),
        ("ftruncate", "c", MB + 5),
        ("write", "c", 2 * MB, 6, MB),
    ],
    "truncate": [
        ("truncate", "small", 1000),
        ("truncate", "big", 2 * MB + 3),
        ("open", "g", "big", RW),
        ("ftruncate", "g", MB // 2),
        ("write", "g", 1000, 1, MB // 2 + 10),
        ("close", "g"),
        ("truncate", "small", 5000),
        ("open", "x", "dir/x", RW),
        ("write", "x", 100, 2, 50),
        ("ftruncate", "x", 100),
    ],
    "attributes": [
        ("open", "a", "a", C | X),
        ("write", "a", 100, 1, 0),
        ("close", "a"),
        ("chmod", "a", 0o600),
        ("utime", "a", 1000000000),
        ("chmod", "small", 0o640),
        ("chmod", "big", 0o604),
        ("sleep", 1.3),
        ("utime", "small", 1100000000),
        ("open", "s", "small", A),
        ("write", "s", 10, 2, None),
        ("close", "s"),
        ("chmod", "dir/x", 0o600),
    ],
    "rename": [
        ("open", "a", ".a.tmp", C | X),
        ("write", "a", 3000, 1, 0),
        ("close", "a"),
        ("utime", ".a.tmp", 1200000000),
        ("rename", ".a.tmp", "a"),
        ("rename", "big", "big2"),
        ("rename", "a", "small"),
        ("chmod", "small", 0o600),
        ("rename", "small", "dir/new"),
        ("read", "dir/new"),
    ],
    "rename_dirty": [
        ("open", "a", "a.tmp", C | X),
        ("write", "a", 3000, 1, None),
        ("rename", "a.tmp", "a"),
        ("write", "a", 3000, 2, None),
        ("close", "a"),
        ("open", "b", "b.tmp", C | X),
        ("write", "b", 100, 3, 0),
        ("rename", "b.tmp", "small"),
        ("close", "b"),
        ("open", "g", "big", RW),
        ("write", "g", 100, 4, MB),
        ("rename", "big", "dir/big"),
        ("write", "g", 100, 5, 0),
        ("fsync", "g"),
        ("write", "g", 100, 6, 50),
        ("rename", "dir/big", "end"),
    ],
    "unlink": [
        ("open", "a", "a", C | X),
        ("write", "a", 3000, 1, 0),
        ("close", "a"),
        ("unlink", "a"),
        ("open", "b", "b", C | X),
        ("write", "b", 3000, 2, 0),
        ("unlink", "b"),
        ("write", "b", 10, 3, 5),
        ("close", "b"),
        ("chmod", "small", 0o600),
        ("unlink", "small"),
        ("open", "s", "small", C | X),
        ("write", "s", 77, 4, 0),
        ("close", "s"),
        ("open", "x", "dir/x", RW),
        ("write", "x", 10, 5, 0),
        ("unlink", "dir/x"),
        ("open", "x2", "dir/x", C | X),
        ("write", "x2", 20, 6, 0),
    ],
    "directories": [
        ("mkdir", "d"),
        ("mkdir", "d/e"),
        ("open", "f", "d/e/f", C | X),
        ("write", "f", 100, 1, 0),
        ("close", "f"),
        ("open", "o", "d/open", C | X),
        ("write", "o", 100, 2, None),
        ("rename", "d", "d2"),
        ("write", "o", 100, 3, None),
        ("rename", "dir", "d2/dir"),
        ("close", "o"),
        ("open", "p", "d2/dir/x", RW),
        ("write", "p", 5, 4, 0),
        ("rename", "d2", "d3"),
    ],
    "copy": [
        ("open", "g", "big", R),
        ("open", "c", "copy", C | X),
        ("copy", "g", "c", 3 * MB, 0, 0),
        ("close", "c"),
        ("open", "d", "d", C | X),
        ("write", "d", 100, 1, 0),
        ("copy", "g", "d", 2 * MB, 5, 100),
        ("rename", "big", "moved"),
        ("write", "d", 100, 2, MB),
        ("fsync", "d"),
        ("open", "c2", "copy", RW),
        ("copy", "c2", "c2", MB, 0, 2 * MB + 7),
        ("close", "c2"),
        ("open", "e", "small", C | T),
        ("copy", "g", "e", 2 * MB, MB, 0),
        ("unlink", "moved"),
        ("close", "e"),
    ],
    "interleaved": [
        ("open", "a", "a", C | X),
        ("open", "b", "b", C | X),
        ("write", "a", 3 * MB // 2, 1, None),
        ("write", "b", 1000, 2, None),
        ("fsync", "a"),
        ("write", "b", 1000, 3, None),
        ("open", "s", "small", RW),
        ("write", "s", 20, 4, 10),
        ("close", "a"),
        ("write", "s", 20, 5, 2000),
        ("fsync", "b"),
        ("write", "b", 5, 6, 0),
        ("close", "s"),
    ],
}

# With upload=background the same must be true once the next mount has sent what it found.
WORKLOADS.update(
    {
        "background:again": [
            ("open", "b", "b", C | X),
            ("write", "b", 200000, 1, None),
            ("fsync", "b"),
            ("write", "b", 5000, 2, None),
            ("fsync", "b"),
            ("ftruncate", "b", 1000),
            ("write", "b", 3000, 3, 500),
            ("close", "b"),
            ("open", "g", "big", RW),
            ("write", "g", 4096, 4, MB + 77),
            ("fsync", "g"),
            ("write", "g", 100, 5, 7),
        ],
        "background:zeros": [
            ("open", "b", "b", C | X),
            ("write", "b", 200000, 1, None),
            ("fsync", "b"),
            ("fallocate", "b", 0, 0, 250000),
            ("fsync", "b"),
            ("fallocate", "b", harness.ZERO_RANGE, 1000, 5000),
            ("fsync", "b"),
            ("fallocate", "b", harness.PUNCH_HOLE | harness.KEEP_SIZE, 100000, 9000),
            ("fsync", "b"),
            ("open", "g", "big", R),
            ("copy", "g", "b", 2000, 5, 700),
            ("fsync", "b"),
            ("copy", "g", "b", MB, 0, 100000),
            ("fsync", "b"),
            ("ftruncate", "b", 60000),
        ],
        "background:files": [
            ("open", "a", "a", C | X),
            ("write", "a", 3000, 1, 0),
            ("close", "a"),
            ("open", "b", "b", C | X),
            ("write", "b", 200000, 2, None),
            ("fsync", "b"),
            ("close", "b"),
            ("open", "m", "m", C | X),
            ("write", "m", 2 * MB + 5, 3, None),
            ("close", "m"),
            ("open", "g", "big", RW),
            ("write", "g", 4096, 4, MB + 77),
            ("close", "g"),
            ("chmod", "a", 0o600),
            ("open", "a", "a", C | T),
            ("write", "a", 900, 5, 0),
            ("close", "a"),
            ("open", "s", "small", A),
            ("write", "s", 10, 6, None),
            ("close", "s"),
            ("sleep", 1.3),
            ("open", "n", "n", C | X),
            ("write", "n", 900, 7, 0),
        ],
        "background:names": [
            ("open", "a", ".a.tmp", C | X),
            ("write", "a", 3000, 1, 0),
            ("close", "a"),
            ("rename", ".a.tmp", "a"),
            ("open", "b", "b", C | X),
            ("write", "b", 3000, 2, 0),
            ("close", "b"),
            ("unlink", "b"),
            ("open", "c", "c", C | X),
            ("write", "c", 2 * MB, 3, 0),
            ("close", "c"),
            ("rename", "c", "small"),
            ("sleep", 1.2),
            ("rename", "small", "dir/new"),
            ("truncate", "big", MB),
            ("unlink", "a"),
        ],
    }
)


# Of files that the cache does not hold, what has left it stands in hidden objects.
WORKLOADS["segments"] = [
    ("open", "a", "a", C | X),
    ("write", "a", 7 * MB // 2, 1, None),
    ("write", "a", 5000, 2, 3 * MB // 2),
    ("close", "a"),
    ("open", "b", "b", C | X),
    ("write", "b", 3 * MB, 3, None),
    ("fsync", "b"),
    ("write", "b", 2 * MB, 4, None),
    ("close", "b"),
    ("open", "c", "c.tmp", C | X),
    ("write", "c", 3 * MB, 5, None),
    ("ftruncate", "c", 2 * MB),
    ("rename", "c.tmp", "c"),
    ("write", "c", 2 * MB, 6, 2 * MB),
    ("write", "c", 5000, 7, 9 * MB // 4),
    ("write", "c", 70, 8, 5 * MB // 4),
]


def options_of(name):
    if name == "segments":
        return dict(OPTIONS, cache_size=2)
    return dict(OPTIONS, upload="background") if name.startswith("background:") else OPTIONS


# How many points of each workload the bounded form takes: of the process, and of the requests (each in both ways).
SAMPLE, SAMPLE_REQUESTS, SAMPLE_DOUBLE = 6, 3, 2


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return crash.build_library(str(tmp_path_factory.mktemp("crashpoint")))


class Stage:
    """A server and a cache directory for one crash."""

    def __init__(self, top, library=None, planted=PLANTED, options=OPTIONS):
        self.directory = harness.make_temp("crash")
        self.library, self.planted, self.options = library, planted, options
        self.cache = os.path.join(self.directory, "cache")
        self.control = crash.CrashPoints(os.path.join(self.directory, "control"))
        self.mounts, self.runner, self.log_text = [], None, ""
        self.server = harness.Ossd(self.directory)

    def __enter__(self):
        self.server.start()
        self.plant()
        return self

    def __exit__(self, kind, value, trace):
        if self.runner:
            self.runner.kill()
        for m in self.mounts:
            m.kill()
        self.server.stop(kill=True)
        self.control.close()
        if not (kind and os.environ.get("OSSMOUNT_KEEP")):
            shutil.rmtree(self.directory, ignore_errors=True)

    def plant(self):
        for key, data in self.planted.items():
            self.server.plant(key, data)

    def mount(self, preload=False, **control):
        m = crash.CrashMount(
            self.server,
            os.path.join(self.directory, "m%d" % len(self.mounts)),
            self.cache,
            self.options,
            self.library if preload else None,
            self.control,
        )
        self.mounts.append(m)
        if control:
            self.control.arm(**control)
        m.start(wait=not control)
        return m

    def work(self, m, ops):
        self.runner = crash.Runner(m.path, ops, os.path.join(self.directory, "record"))
        return self.runner

    def wait_work(self, m):
        """Until the script has ended; one whose daemon was killed ends with an error."""
        wait_until(self.runner.ended, 60 * harness.slow_factor(), "the end of the workload")

    def recover(self):
        """The mount after the crash, with all that it sends; returns its log."""
        m = self.mount()
        m.unmount(60)
        self.log_text += m.stderr_text()
        crash.check_log(m)
        return m

    def verify(self, ops, again=True, named=True):
        """What the crash left is right, and a further mount finds nothing to do."""
        done, inside, _ = self.runner.result()
        crash.Verdict(self.server, self.cache, self.planted, ops, done, inside, self.log_text, named).check()
        data, aside = set(crash.unsent(self.cache)), set(crash.listing(self.cache, "aside"))
        assert not data, "files are left in data/ after the unmount: %r\n%s" % (sorted(data), self.log_text)
        crash.check_kept(self.cache, self.server)
        if again:
            self.server.reset()
            m = self.mount()
            m.unmount()
            crash.check_log(m)
            assert "kept in" not in m.stderr_text() and "earlier daemon" not in m.stderr_text(), m.stderr_text()
            assert set(self.server.counters()) <= {"ListObjectsV2", "GetBucketInfo"}, self.server.counters()
            assert set(crash.listing(self.cache, "aside")) == aside and not crash.unsent(self.cache)
            crash.check_kept(self.cache, self.server)


@contextlib.contextmanager
def explain(name, what):
    """Prefixes a failure with the point, so that it can be provoked again."""
    try:
        yield
    except AssertionError as e:
        raise AssertionError("%s, %s: %s" % (name, what, e)) from None


@pytest.fixture
def every(record_property):
    """
    every(points, crash_here): crash_here(*point) for all points, also after a failure: which of them fail says more
    than that one does. conftest.py prints the count.
    """

    def run(points, crash_here):
        count, failures = 0, []
        for point in points:
            count += 1
            try:
                crash_here(*point)
            except AssertionError as e:
                failures.append(str(e))
        record_property("crashes", count)
        if failures:
            raise AssertionError("%d of %d crashes\n\n%s" % (len(failures), count, "\n\n".join(failures)))

    return run


@pytest.fixture(scope="session")
def count_points(library, tmp_path_factory):
    """
    count_points(name): the kinds of all points of a workload, one letter each, and the number of its requests. What
    one case has counted the others of a run read, also those in other processes.
    """
    shared = str(tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.getbasetemp())

    def count(name):
        path = os.path.join(shared, "points-" + name.replace(":", "-"))
        if not os.path.exists(path):
            kinds, requests = run_whole(library, name)
            with open("%s.%d" % (path, os.getpid()), "w", encoding="ascii") as f:
                f.write("%s %d" % (kinds, requests))
            os.rename(f.name, path)
        kinds, requests = harness.read_file(path).decode().split()
        return kinds, int(requests)

    return count


def run_whole(library, name):
    """A workload without a crash until its end."""
    with Stage(None, library, options=options_of(name)) as s:
        m = s.mount(preload=True)
        s.server.reset()
        s.control.arm()
        s.work(m, WORKLOADS[name])
        s.wait_work(m)
        done, inside, error = s.runner.result()
        assert done == len(WORKLOADS[name]), "%r failed: %s" % (WORKLOADS[name][inside], os.strerror(error))
        kinds, requests = s.control.kinds(), s.server.total()
        assert {"w", "c", "s", "f"} <= set(kinds), "the library is not in the daemon: %r" % kinds
        s.control.disarm()
        m.kill()
        s.recover()
        with explain(name, "killed at the end"):
            s.verify(WORKLOADS[name])
    return kinds, requests


def crash_at(library, name, at, torn=False, again=True):
    ops = WORKLOADS[name]
    with Stage(None, library, options=options_of(name)) as s:
        m = s.mount(preload=True)
        s.control.arm(at, torn)
        s.work(m, ops)
        s.wait_work(m)
        m.kill()
        kinds = s.control.kinds()[:at]
        what = "point %d%s, %s" % (at, " torn" if torn else "", crash.KINDS.get(kinds[-1:], "?"))
        with explain(name, what):
            s.recover()
            s.verify(ops, again)


def spread(items, n, seed):
    """n of the items, evenly, the first one chosen by the seed."""
    if len(items) <= n:
        return list(items)
    first = random.Random(seed).random()
    return [items[int((i + first) * len(items) / n)] for i in range(n)]


def candidates(kinds):
    """Points, sends of one request but the first and every eighth left out: they differ in nothing but bytes sent."""
    out, run = [], 0
    for i, kind in enumerate(kinds):
        run = run + 1 if kind == "s" else 0
        if run % 8 <= 1:
            out.append(i + 1)
    return out


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_kill(library, count_points, every, name):
    kinds, _ = count_points(name)
    points = spread(candidates(kinds), SAMPLE, name)
    every(
        [(at, i % 2 == 1, i % 3 == 0) for i, at in enumerate(points)],
        lambda at, torn, again: crash_at(library, name, at, torn, again),
    )


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", list(WORKLOADS))
def test_kill_everywhere(library, count_points, every, name):
    kinds, _ = count_points(name)
    points = [(at, torn) for at in range(1, len(kinds) + 1) for torn in (False, True)[: 1 + (kinds[at - 1] in "ws")]]
    every(points, lambda at, torn: crash_at(library, name, at, torn))


# ----------------------------------------------------------------------------------------- at the n-th request


def crash_at_request(name, n, applied):
    """The n-th request of the workload gets no answer, applied or not, and all after it; then the daemon is killed."""
    ops = WORKLOADS[name]
    with Stage(None, options=options_of(name)) as s:
        m = s.mount()
        s.server.reset()
        if applied:
            s.server.fault("lost", skip=n - 1)
        s.server.fault("hang", skip=n - 1, count=-1)
        s.work(m, ops)
        hits = lambda: s.server.faults()[0]["hits"]
        wait_until(lambda: hits() or s.runner.ended(), 60 * harness.slow_factor(), "request %d" % n)
        time.sleep(0.03)
        os.kill(m.pid, signal.SIGKILL)  # what the workload does from here on, it does on a dead mount
        s.wait_work(m)
        m.kill()
        s.server.clear_faults()
        with explain(name, "request %d %s" % (n, "applied" if applied else "not applied")):
            s.recover()
            s.verify(ops, again=n % 3 == 0)


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_kill_at_request(count_points, every, name):
    _, requests = count_points(name)
    points = spread(range(1, requests + 1), SAMPLE_REQUESTS, name + "r")
    every([(n, applied) for n in points for applied in (False, True)], lambda *p: crash_at_request(name, *p))


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("n", [4, 5, 6])  # the last part, Complete, and the copy that sets the times
def test_times_set_while_streaming(n, applied):
    """Initiate was sent before the times were known: the upload that goes on with its parts sets them all the same."""
    crash_at_request("stream", n, applied)


def test_kill_before_the_times_are_sent(library, count_points, every, monkeypatch):
    """Between Complete and the copy that sets the times, at each record that the journal gets."""
    monkeypatch.setitem(WORKLOADS, "times", WORKLOADS["stream"][:6])
    kinds, _ = count_points("times")
    records = [i + 1 for i in range(kinds.rindex("f")) if kinds[i] == "w"]
    every([(at,) for at in records[-4:]], lambda at: crash_at(library, "times", at, again=False))


def test_mode_set_before_an_append_that_was_carried_out():
    crash_at_request("append_flush", 3, True)


def test_copy_that_was_carried_out():
    """CopyObject was not answered: the object is not taken for another host's, nor the file put aside."""
    crash_at_request("copy", 2, True)


def test_unlink_of_what_had_unsent_attributes():
    """The DELETE was not answered: the attributes that were still to be sent go with the object, without a word."""
    crash_at_request("unlink", 4, True)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", list(WORKLOADS))
def test_kill_at_every_request(count_points, every, name):
    _, requests = count_points(name)
    points = [(n, applied) for n in range(1, requests + 1) for applied in (False, True)]
    every(points, lambda *p: crash_at_request(name, *p))


# --------------------------------------------------------------------------------------- while it is recovering


def crash_twice(library, name, at, again_at):
    """Killed at a request, and the next mount at its n-th point. Returns whether that mount lived so long."""
    ops = WORKLOADS[name]
    with Stage(None, library, options=options_of(name)) as s:
        m = s.mount()
        s.server.reset()
        s.server.fault("hang", skip=at - 1, count=-1)
        s.work(m, ops)
        hits = lambda: s.server.faults()[0]["hits"]
        wait_until(lambda: hits() or s.runner.ended(), 60 * harness.slow_factor(), "request %d" % at)
        m.kill()
        s.wait_work(m)
        s.server.clear_faults()
        m = s.mount(preload=True, at=again_at)
        wait_until(lambda: m.dead() or harness.is_mounted(m.path), 20 * harness.slow_factor(), "the second mount")
        time.sleep(0.05)
        if not m.dead():
            # Draining goes on after the unmount.
            harness.run(["fusermount3", "-uz", m.path], check=False)
            wait_until(m.dead, 60 * harness.slow_factor(), "the end of the second mount")
        killed = s.control.killed
        s.log_text += m.stderr_text()
        m.kill()
        with explain(name, "request %d, then point %d of the recovery" % (at, again_at)):
            s.recover()
            # The mount that kept something may have died before it could say so.
            s.verify(ops, again=False, named=False)
        return killed


DOUBLE = [("new", 2), ("partial", 5), ("multipart", 4), ("multipart", 9), ("rename_dirty", 2), ("interleaved", 4)]


@pytest.mark.parametrize("name,at", DOUBLE)
def test_kill_while_recovering(library, every, name, at):
    rng = random.Random(name)
    points = [rng.randint(5, 25) for _ in range(SAMPLE_DOUBLE)]
    every([(n,) for n in points], lambda n: crash_twice(library, name, at, n))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name,at", DOUBLE)
def test_kill_everywhere_while_recovering(library, every, name, at):
    alive = []  # the first point that the recovery does not reach
    points = itertools.takewhile(lambda point: not alive, ((n,) for n in itertools.count(1)))

    def crash_here(n):
        if not crash_twice(library, name, at, n):
            alive.append(n)

    every(points, crash_here)


# ------------------------------------------------------------------------------- uploads that are gone on with


def is_noted(cache, parts):
    """Does a journal tell of a close, and of so many parts?"""
    directory = os.path.join(crash.state_dir(cache), "data")
    kinds = []
    for name in os.listdir(directory):
        if name.endswith(".journal"):
            # One that is gone, or just being written, is looked at again.
            with contextlib.suppress(OSError, AssertionError, struct.error):
                kinds += [kind for kind, *_ in crash.journal_records(harness.read_file(os.path.join(directory, name)))]
    return COMMIT in kinds and kinds.count(PART) >= parts


def hang_and_kill(s, ops, op, skip=0, count=1):
    """The workload up to a request that hangs (all of its kind after `skip`), then the daemon is killed."""
    m = s.mount()
    s.server.reset()
    s.server.fault("hang", op=op, skip=skip, count=-1)
    s.work(m, ops)
    wait_until(
        lambda: s.server.faults()[0]["hits"] >= count or s.runner.ended(), 60 * harness.slow_factor(), "%s" % op
    )
    # A request counts when it comes; those before it may not be answered yet, nor the close have begun.
    parts = skip if op == "UploadPart" else 0
    wait_until(lambda: is_noted(s.cache, parts), 60 * harness.slow_factor(), "the close and the parts in the journal")
    m.kill()
    s.wait_work(m)
    s.server.clear_faults()


NEW_PARTS = [("open", "m", "m", C | X), ("write", "m", 5 * MB + 5, 1, None), ("close", "m")]


def test_multipart_goes_on():
    """An upload whose close had begun goes on from its last finished part: no finished part is sent again."""
    with Stage(None) as s:
        hang_and_kill(s, NEW_PARTS, "UploadPart", skip=4)
        assert len(s.server.uploads()) == 1
        s.server.reset()
        s.recover()
        assert s.server.counters()["UploadPart"] == 6 - 4, s.server.counters()
        assert "InitiateMultipartUpload" not in s.server.counters()
        assert "m" in s.server.files()
        s.verify(NEW_PARTS)


def test_complete_is_all_that_is_left():
    with Stage(None) as s:
        hang_and_kill(s, NEW_PARTS, "CompleteMultipartUpload")
        s.server.reset()
        s.recover()
        assert "UploadPart" not in s.server.counters() and s.server.counters()["CompleteMultipartUpload"] == 1
        assert "m" in s.server.files()
        s.verify(NEW_PARTS)


def test_upload_that_the_service_forgot():
    """A lifecycle rule aborted it meanwhile: all of it is sent anew."""
    with Stage(None) as s:
        hang_and_kill(s, NEW_PARTS, "UploadPart", skip=3)
        s.server.fault("status", op="UploadPart", status=404, code="NoSuchUpload", count=1)
        m = s.mount()
        m.unmount(60)
        s.log_text = m.stderr_text()
        crash.check_log(m, "NoSuchUpload")
        assert s.server.object("m") == blob(5 * MB + 5, 1)


def test_uploads_of_others_are_left_alone():
    """The reply to Initiate was lost: what is aborted is ours by key and time, not what another tool has under way."""
    ops = [("open", "m", "m", C | X), ("write", "m", 3 * MB, 1, None), ("close", "m")]
    with Stage(None) as s:
        m = s.mount()
        s.server.reset()
        s.server.fault("lost", op="InitiateMultipartUpload", key="m")
        s.server.fault("hang", skip=0, count=-1, key="m", op="InitiateMultipartUpload")
        s.work(m, ops)
        wait_until(lambda: s.server.faults()[1]["hits"], 60 * harness.slow_factor(), "the second Initiate")
        m.kill()
        s.wait_work(m)
        s.server.clear_faults()
        assert len(s.server.uploads()) == 1
        s.recover()
        s.verify(ops)


ABANDONED = {
    "renamed": [("rename", "b.tmp", "b"), ("close", "b")],
    "unlinked": [("unlink", "b.tmp"), ("close", "b")],
    "emptied": [("ftruncate", "b", 0), ("write", "b", 100, 2, 0), ("close", "b")],
}


@pytest.mark.parametrize("case", list(ABANDONED))
def test_upload_that_was_to_be_aborted(case):
    """It was begun while the file was written, and given up; all else was sent or gone when the daemon died."""
    with Stage(None) as s:
        m = s.mount()
        ops = [
            ("open", "b", "b.tmp", C | X),
            ("write", "b", 5 * MB // 2, 1, None),
            ("until", s.server.uploads, "an upload begun"),
        ] + ABANDONED[case]
        s.server.fault("hang", op="AbortMultipartUpload", count=-1)
        s.work(m, ops)
        s.wait_work(m)
        wait_until(lambda: s.server.faults()[0]["hits"], 20 * harness.slow_factor(), "the abort")
        m.kill()
        s.server.clear_faults()
        assert len(s.server.uploads()) == 1
        s.recover()
        s.verify(ops)


# ------------------------------------------------------------------------------------------ beyond the cache


LARGE = [("open", "c", "large", C | X), ("write", "c", 7 * MB // 2, 1, None), ("write", "c", 5000, 2, 3 * MB // 2)]


def hidden_objects(s):
    return [k for k in s.server.files() if k.startswith(".ossmount-hidden/")]


def hang_mount(s, ops, op, **where):
    """A mount that is killed when a request hangs; `ops`: what it is to do, None: nothing but to recover."""
    s.server.fault("hang", op=op, count=-1, **where)
    m = s.mount()
    if ops:
        s.work(m, ops)
    wait_until(lambda: s.server.faults()[0]["hits"], 60 * harness.slow_factor(), op)
    m.kill()
    if ops:
        s.wait_work(m)
    s.server.clear_faults()
    s.log_text += m.stderr_text()


@pytest.mark.parametrize("op", ["UploadPartCopy", "CompleteMultipartUpload"])
def test_kill_with_hidden_bases(op):
    """Behind COMMIT, and once more while the next mount goes on: the object is made of what hidden objects hold."""
    ops = LARGE + [("close", "c")]
    with Stage(None, options=options_of("segments")) as s:
        hang_mount(s, ops, op, key="large")
        assert hidden_objects(s)
        hang_mount(s, None, op, key="large")
        assert hidden_objects(s) and "large" not in s.server.files()
        s.recover()
        s.verify(ops)


def test_conflict_with_hidden_bases():
    """Somebody else's object is there when the next mount goes on: it stays, and ours is kept aside whole."""
    with Stage(None, options=options_of("segments")) as s:
        hang_mount(s, LARGE + [("close", "c")], "CompleteMultipartUpload", key="large")
        s.server.plant("large", b"another host's")
        m = s.mount()
        m.unmount(60)
        crash.check_log(m, "sending of .* failed", "sending large", "412 PreconditionFailed", "404 NoSuchKey")
        assert s.server.object("large") == b"another host's"
        assert not s.server.uploads() and not hidden_objects(s)
        model = crash.Model(PLANTED)
        for op in LARGE:
            model.apply(op)
        aside = [d for n, d in crash.listing(s.cache, "aside").items() if not n.endswith(".journal")]
        assert aside == [model.names["large"].local]


def test_kill_while_rescuing():
    """
    A file that was never closed, most of which only hidden objects have: the mount that fetches it is killed, the next
    one is refused; the third keeps it aside whole, and then nothing of it is left in the bucket.
    """
    with Stage(None, options=options_of("segments")) as s:
        m = s.mount()
        s.work(m, LARGE)
        s.wait_work(m)
        m.kill()
        before = hidden_objects(s)
        assert before
        s.server.reset()
        hang_mount(s, None, "GetObject")
        kept = set(hidden_objects(s))  # one that was made, and not in the journal yet, is removed
        assert kept and kept <= set(before) and not crash.listing(s.cache, "aside")
        s.server.fault("status", op="GetObject", status=403, code="AccessDenied", count=-1)
        m = s.mount()
        m.unmount(60)
        crash.check_log(m, "AccessDenied", "stay in .* until a mount can fetch the rest")
        assert "until a mount can fetch the rest" in m.stderr_text()
        assert set(hidden_objects(s)) == kept and crash.listing(s.cache, "data")
        s.server.clear_faults()
        s.recover()
        s.verify(LARGE)


# ------------------------------------------------------------------------------------------------- conflicts


CONFLICTS = {
    "whole": ("small", [("open", "s", "small", os.O_WRONLY | T), ("write", "s", 900, 1, 0), ("close", "s")], "PutObject"),
    "partial": ("big", [("open", "g", "big", RW), ("write", "g", 50, 1, MB), ("close", "g")], "CompleteMultipartUpload"),
    "parts": ("big", [("open", "g", "big", RW), ("write", "g", 50, 1, MB), ("close", "g")], "UploadPart"),
    "new": ("n", [("open", "n", "n", C | X), ("write", "n", 900, 1, 0), ("close", "n")], "PutObject"),
    "new parts": ("n", [("open", "n", "n", C | X), ("write", "n", 2 * MB, 1, 0), ("close", "n")], "CompleteMultipartUpload"),
}


@pytest.mark.parametrize("change", ["replaced", "removed"])
@pytest.mark.parametrize("case", list(CONFLICTS))
def test_conflict(case, change):
    """The object is another one when the next daemon wants to go on: nothing is overwritten, both are kept."""
    key, ops, op = CONFLICTS[case]
    if change == "removed" and key not in PLANTED:
        return test_new_file_meets_nothing(case)
    with Stage(None) as s:
        hang_and_kill(s, ops, op)
        if change == "replaced":
            s.server.plant(key, b"another host's")
        else:
            s.server.call("DELETE", "/object", s.server._key(key))
        m = s.mount()
        m.unmount(60)
        s.log_text = m.stderr_text()
        crash.check_log(m, "sending of .* failed", "412 PreconditionFailed", "404 NoSuchKey", "reading of .* failed")
        assert s.server.object(key) == (b"another host's" if change == "replaced" else None)
        assert not s.server.uploads()
        aside = {n: d for n, d in crash.listing(s.cache, "aside").items() if not n.endswith(".journal")}
        name, size, seed, at = ops[1][1:]
        assert [d[at : at + size] for d in aside.values()] == [blob(size, seed)]
        assert crash.ASIDE.search(s.log_text).group(1) == key
        m = s.mount()
        m.unmount()
        crash.check_log(m)
        assert "aside" not in m.stderr_text() and not crash.unsent(s.cache)


def test_new_file_meets_nothing(case="new"):
    """For comparison: the same crash with nobody in between is no conflict."""
    key, ops, op = CONFLICTS[case]
    with Stage(None) as s:
        hang_and_kill(s, ops, op)
        s.recover()
        s.server.check_object(key, blob(ops[1][2], ops[1][3]))
        assert not crash.listing(s.cache, "aside")


# ------------------------------------------------------------------------------------ power cuts, torn journals


def edit_journals(cache, change):
    """Every journal becomes change(its bytes)."""
    directory = os.path.join(crash.state_dir(cache), "data")
    names = [n for n in os.listdir(directory) if n.endswith(".journal")]
    for name in names:
        path = os.path.join(directory, name)
        data = change(harness.read_file(path))
        harness.write_file(path, data)
    return len(names)


POWER = {
    "closing": (NEW_PARTS, "UploadPart", 3),
    "completing": (NEW_PARTS, "CompleteMultipartUpload", 0),
    "small": (CONFLICTS["whole"][1], "PutObject", 0),
    "partial": (CONFLICTS["partial"][1], "CompleteMultipartUpload", 0),
    "open": (NEW_PARTS[:2] + [("open", "n", "n", C | X), ("write", "n", 5, 2, 0), ("close", "n")], "PutObject", 0),
}


@pytest.mark.parametrize("data", ["whole", "half", "none"])
@pytest.mark.parametrize("case", list(POWER))
def test_power_cut(case, data):
    """After another boot nothing is believed, for nothing was synced: nothing is published, what is there is kept."""
    ops, op, skip = POWER[case]
    with Stage(None) as s:
        hang_and_kill(s, ops, op, skip)
        before = {k: s.server.object(k) for k in s.server.files()}
        assert edit_journals(s.cache, crash.other_boot) >= 1
        kept = {}
        directory = os.path.join(crash.state_dir(s.cache), "data")
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if not name.endswith(".journal"):
                size = os.path.getsize(path)
                os.truncate(path, {"whole": size, "half": size // 2, "none": 0}[data])
                if os.path.exists(path + ".journal") and data != "none":
                    kept[name] = harness.read_file(path)
        s.recover()
        assert {k: s.server.object(k) for k in s.server.files()} == before
        assert not s.server.uploads()
        found = {n: d for n, d in crash.listing(s.cache, "aside").items() if not n.endswith(".journal")}
        assert {n: found.get(n) for n in kept} == kept
        assert not crash.unsent(s.cache)


@pytest.mark.parametrize("case", ["completing", "partial", "small"])
def test_journal_rolled_back(case):
    """
    The journal ends at each record boundary, or within a record: the changed file is published whole or kept aside,
    and the old object is replaced by nothing else.
    """
    ops, op, skip = POWER[case]
    with Stage(None) as s:
        hang_and_kill(s, ops, op, skip)
        state = crash.state_dir(s.cache)
        image = {n: d for n, d in crash.listing(s.cache, "data").items()}
        (journal,) = [n for n in image if n.endswith(".journal")]
        records = crash.journal_records(image[journal])
        committed = next(end for kind, _, _, end in records if kind == 3)
        model = crash.Model(PLANTED)
        for o in ops:
            model.apply(o)
        (key,) = [k for k, v in model.bucket.items() if v != PLANTED.get(k)]
        size, seed, at = ops[1][2], ops[1][3], ops[1][4] or 0
        cuts = [0] + [e for _, _, _, e in records] + [a + (e - a) // 2 for _, _, a, e in records]
        for cut in sorted(cuts):
            s.server.stop(kill=True)
            s.server.start()
            s.plant()
            shutil.rmtree(os.path.join(state, "aside"), ignore_errors=True)
            for name, content in image.items():
                content = content[:cut] if name == journal else content
                harness.write_file(os.path.join(state, "data", name), content)
            m = s.mount()
            m.unmount(60)
            with explain(case, "cut at %d" % cut):
                # The planted object is a new one with the same bytes; the uploads are gone.
                crash.check_log(m, "NoSuchUpload")
                assert not s.server.uploads() and not crash.unsent(s.cache)
                found = s.server.object(key)
                assert found in (PLANTED.get(key), model.bucket[key]), "neither the old nor the new object"
                aside = [d for n, d in crash.listing(s.cache, "aside").items() if not n.endswith(".journal")]
                if cut < committed:
                    assert found == PLANTED.get(key), "published before anybody asked for it"
                else:
                    assert found == model.bucket[key]
                # Without a whole BEGIN nothing had been changed.
                if found == PLANTED.get(key) and cut >= records[0][3]:
                    assert [d[at : at + size] for d in aside] == [blob(size, seed)]


# -------------------------------------------------------------------------------------------- hostile journals


def hostile_journals():
    """(name, bytes) of what may lie in a cache directory that somebody or some disk has damaged."""
    record, text = crash.journal_record, crash.text
    attr = struct.pack("<IIIqIQ", 0o100644, 0, 0, 1, 2, 100)
    with open("/proc/sys/kernel/random/boot_id", "rb") as f:
        boot = f.read().strip()
    begin = lambda key=b"h", a=attr: record(1, text(boot) + text(key) + a + struct.pack("<IB", 0, 0), 1)
    commit = lambda ranges, a=attr, flags=3, n=None: record(
        3,
        a + struct.pack("<IBI", 0, flags, len(ranges) if n is None else n) + b"".join(struct.pack("<QQ", *r) for r in ranges),
        2,
    )
    huge = struct.pack("<IIIqIQ", 0o100644, 0, 0, 1, 2, 1 << 63)
    many = 2**64 - 1
    part = lambda n, offset, size: struct.pack("<IQQ", n, offset, size) + text("E") + struct.pack("<BQ", 1, 5)
    upload = begin() + commit([(0, 100)]) + record(4, struct.pack("<Q", int(time.time())), 3) + record(5, text("U"), 4)
    yield "empty", b""
    yield "half a header", begin()[:13]
    yield "garbage", blob(5000, "garbage")
    yield "zeros", bytes(4096)
    yield "a magic and garbage", b"OSSJ" + blob(500, "m")
    yield "a newer version", record(1, b"whatever", 1, version=2)
    yield "an unknown type", begin() + record(77, b"", 2)
    yield "type 0", begin() + record(0, b"", 2)
    yield "a wrong CRC", begin()[:-1] + b"X"
    yield "a length beyond the end", record(1, b"x", 1, length=1 << 26)
    yield "the greatest length", record(1, b"x", 1, length=0xFFFFFFFF)
    yield "no BEGIN", record(3, attr + struct.pack("<IBI", 0, 3, 0), 1)
    yield "BEGIN twice", begin() + record(1, begin()[24:], 2)
    yield "an empty key", begin(b"") + commit([(0, 100)])
    yield "a key with a NUL", begin(b"a\0b") + commit([(0, 100)])
    yield "a key of 60,000 bytes", begin(b"k" * 60000) + commit([(0, 100)])
    yield "text beyond its payload", record(1, struct.pack("<I", 0xFFFFFFFF) + b"x" * 50, 1)
    yield "4 G extents", begin() + commit([], n=0xFFFFFFFF)
    yield "an extent backwards", begin() + commit([(50, 10)])
    yield "an extent beyond the size", begin() + commit([(0, many)])
    yield "a size of 2^63", begin(a=huge) + commit([(0, 100)], a=huge)
    yield "4 G headers", record(1, text(boot) + text("h") + attr + struct.pack("<I", 0xFFFFFFFF), 1)
    yield "a part number of -1", upload + record(6, part(0xFFFFFFFF, many, many), 5)
    there = struct.pack("<B", 1) + text("E") + struct.pack("<QqBBI", 3000, 1, 0, 0, 0o100644)
    hidden = lambda start, end, key: record(18, struct.pack("<QQQ", start, end, 0) + text(key) + there, 2)
    yield "another's object as a hidden one", begin() + hidden(0, 100, "small")
    yield "a hidden object that is not there", begin() + hidden(0, 100, ".ossmount-hidden/" + "0" * 32)
    yield "a hidden range beyond any size", begin() + hidden(0, many, ".ossmount-hidden/" + "0" * 32)
    yield "an upload id of 5,000 bytes", begin() + commit([(0, 100)]) + record(5, text("u" * 5000), 3)
    yield "a directory with content", record(1, text(boot) + text("h") + struct.pack("<IIIqIQIB", 0o40755, 0, 0, 1, 2, 100, 0, 0), 1) + commit([(0, 100)])


# A proper prefix of a BEGIN.
TORN = {"empty", "a length beyond the end", "half a header"}


def hostile_journal(name, journal, old):
    data = blob(100, "data")
    with Stage(None) as s, explain("hostile", name):
        s.mount().unmount()
        path = os.path.join(crash.state_dir(s.cache), "data", "00000000000000ab")
        harness.write_file(path, data)
        harness.write_file(path + ".journal", journal)
        if old:
            os.utime(path + ".journal", (1, 1))
        m = s.mount()
        try:
            harness.write_file(m.p("works"), b"yes")
        except OSError as e:
            raise AssertionError("nothing can be written: %s" % e) from None
        m.unmount(60)
        log = m.stderr_text()
        assert not harness.FATAL.search(log.encode()), log
        s.server.check_object("works", b"yes")
        for key, content in PLANTED.items():
            assert s.server.object(key) == content
        extra = set(s.server.files()) - set(PLANTED) - {"works"}
        assert all(s.server.object(k) == data for k in extra), extra
        assert not s.server.uploads()
        kept = crash.listing(s.cache, "aside")
        # Cut off in its BEGIN it is what a crash leaves before anything was changed: the data is a clean copy.
        unsent = crash.unsent(s.cache)
        places = [*kept.values(), *unsent.values()]
        assert (name in TORN and not old) or data in places or extra, "the bytes are gone: %s" % log
        assert not unsent or "is unsent" in log
        m = s.mount()
        m.unmount()
        assert set(crash.listing(s.cache, "aside")) == set(kept)
        assert set(crash.unsent(s.cache)) == set(unsent)


@pytest.mark.sanitizer
@pytest.mark.parametrize("group", range(4))
def test_hostile_journals(every, group):
    """
    Whatever the journal is: the daemon mounts and works, the bytes beside it are kept (or, where the journal is whole
    and says so, sent), and no object that was there changes.
    """
    data = blob(100, "data")
    cases = [(n, j, old) for n, j in hostile_journals() for old in ((False, True) if n in TORN else (False,))]
    every(cases[group::4], hostile_journal)


@pytest.mark.sanitizer
def test_odd_files_in_the_data_directory():
    """Links, directories, pipes and names that nobody gives: none is followed, none stops the mount."""
    with Stage(None) as s:
        s.mount().unmount()
        directory = os.path.join(crash.state_dir(s.cache), "data")
        outside = os.path.join(s.directory, "outside")
        harness.write_file(outside, b"precious")
        os.symlink(outside, os.path.join(directory, "00000000000000aa"))
        os.symlink(outside, os.path.join(directory, "00000000000000ab.journal"))
        harness.write_file(os.path.join(directory, "00000000000000ab"), b"bytes")
        os.mkdir(os.path.join(directory, "00000000000000ac"))
        os.mkdir(os.path.join(directory, "00000000000000ad.journal"))
        harness.write_file(os.path.join(directory, "x" * 200), b"")
        m = s.mount()
        harness.write_file(m.p("works"), b"yes")
        m.unmount()
        assert not harness.FATAL.search(m.stderr_text().encode())
        assert harness.read_file(outside) == b"precious"
        s.server.check_object("works", b"yes")
        assert set(s.server.files()) == set(PLANTED) | {"works"}
