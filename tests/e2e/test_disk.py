"""The disk: never more of it than cache_size, whoever writes."""

import concurrent.futures
import contextlib
import os
import signal
import threading

import pytest

from harness import blob, wait_until

pytestmark = [pytest.mark.bucket, pytest.mark.sanitizer]

MB = 1 << 20
CACHE, WRITERS, SIZE = 4, 8, 3 * MB


def stopped(pid):
    """Has the last of its threads come to rest? One that is in a write ends it first."""
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/stat" % (pid, task)) as f:
            if f.read().rpartition(")")[2].split()[0] not in "Tt":
                return False
    return True


def disk_used(m):
    """Of all files below the cache directory, those without a name as well."""
    paths = [os.path.join(top, name) for top, _, names in os.walk(m.cache) for name in names]
    fds = "/proc/%d/fd" % m.pid
    for fd in os.listdir(fds):
        with contextlib.suppress(OSError):
            if os.readlink(os.path.join(fds, fd)).startswith(m.cache):
                paths.append(os.path.join(fds, fd))
    return sum({(st.st_dev, st.st_ino): st.st_blocks * 512 for st in map(os.stat, paths)}.values())


@contextlib.contextmanager
def disk_peak(m):
    """Samples what is used during the block, of a daemon that stands still meanwhile. Yields [peak]."""
    peak, end = [0], threading.Event()

    def sample():
        while not end.wait(0.005):
            os.kill(m.pid, signal.SIGSTOP)
            try:
                wait_until(lambda: stopped(m.pid), 60, "that the daemon stands still", 0.001)
                peak[0] = max(peak[0], disk_used(m))
            finally:
                os.kill(m.pid, signal.SIGCONT)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sampler = pool.submit(sample)
        try:
            yield peak
        finally:
            end.set()
            sampler.result()


@pytest.mark.parametrize("threshold", [1, 100])
def test_many_write_at_once(server, mount, threshold):
    """What was let in and is not written yet counts as well, and what has left does not come back to be one request."""
    m = mount(cache_size=CACHE, multipart_threshold=threshold, multipart_size=1)
    data = [blob(SIZE, i) for i in range(WRITERS)]

    def write(i):
        with open(m.p("f%d" % i), "wb", buffering=0) as f:
            for at in range(0, SIZE, MB):
                assert f.write(data[i][at : at + MB]) == MB

    with disk_peak(m) as peak, concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    assert MB < peak[0] <= CACHE * MB
    assert "GetObject" not in server.counters()
    for i in range(WRITERS):
        server.check_object("f%d" % i, data[i])


def test_copy_range_waits_for_room(server, mount):
    """Of bytes that are here and unsent, into a cache that has no room for them twice."""
    m = mount(cache_size=CACHE, multipart_threshold=1, multipart_size=1)
    data = blob(SIZE, 1)
    with open(m.p("a"), "w+b", buffering=0) as a, open(m.p("b"), "wb", buffering=0) as b:
        assert a.write(data) == SIZE
        at = 0
        while at < SIZE:
            n = os.copy_file_range(a.fileno(), b.fileno(), SIZE - at, at, at)
            assert n > 0
            at += n
    server.check_object("a", data)
    server.check_object("b", data)
