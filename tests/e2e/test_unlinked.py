"""
What an open handle may still read when its object is deleted or overwritten: the rest of a small file is fetched, that
of a large one copied within the bucket, and the copy goes with the last handle. (More of it: tests/unit/test_save.c)
"""

import os

import pytest

import crash
import harness
from harness import blob, wait_until

pytestmark = [pytest.mark.bucket]

MB = 1 << 20
LARGE = 70  # MB: beyond what is fetched


def piece(i):
    """Megabyte i of the large file."""
    return b"%7d\n" % i * (MB // 8)


@pytest.fixture
def large(server):
    server.plant("f", b"".join(map(piece, range(LARGE))), headers={"x-oss-object-acl": "private"})


def hidden(server):
    return [k for k in server.files() if k.startswith(".ossmount-hidden/")]


def test_unlink_of_a_large_file(server, mount, large):
    """One copy, one deletion and no data; read through a cache that does not hold it; nothing is left."""
    m = mount(cache_size=16)
    fd = os.open(m.p("f"), os.O_RDWR)
    server.reset()
    os.unlink(m.p("f"))
    assert server.counters() == {"GetObjectACL": 1, "CopyObject": 1, "DeleteObject": 1}
    assert server.bytes()[1] < MB
    (copy,) = hidden(server)
    assert server.objects(copy)[copy]["acl"] == "private"
    assert os.listdir(m.path) == []
    os.pwrite(fd, b"changed", 3)
    assert os.pread(fd, MB, 0) == piece(0)[:3] + b"changed" + piece(0)[10:]
    for i in range(1, LARGE):
        assert os.pread(fd, MB, i * MB) == piece(i), i
    os.close(fd)
    wait_until(lambda: not server.files(), 20 * harness.slow_factor(), "the removal of the copy")
    m.unmount()
    assert not server.uploads()


def test_of_a_small_or_cached_file_nothing_is_copied(server, mount):
    server.plant("small", blob(3 * MB, "small"))
    server.plant("cached", blob(3 * MB, "cached"))
    m = mount()
    fds = [os.open(m.p(name), os.O_RDONLY) for name in ("small", "cached")]
    assert os.pread(fds[1], 3 * MB, 0) == blob(3 * MB, "cached")
    server.reset()
    os.unlink(m.p("small"))
    os.unlink(m.p("cached"))
    counters = server.counters()
    assert set(counters) == {"GetObject", "DeleteObject"} and counters["DeleteObject"] == 2, counters
    assert 3 * MB <= server.bytes()[1] < 4 * MB
    for fd, name in zip(fds, ("small", "cached")):
        assert os.pread(fd, 3 * MB, 0) == blob(3 * MB, name)
        os.close(fd)


def test_crash_with_a_copy(server, mount_factory, tmp, large):
    """The next mount removes it, whether the daemon died before the object was overwritten or behind it."""
    cache = os.path.join(tmp, "cache")
    server.plant("g", b"new")
    for op, skip in ("CopyObject", 1), ("DeleteObject", 0):
        m = mount_factory(server, cache=cache)
        fd = os.open(m.p("f"), os.O_RDONLY)
        server.fault("hang", op=op, skip=skip, count=-1)
        with harness.spawned(["mv", "-f", m.p("g"), m.p("f")], stderr=harness.subprocess.DEVNULL):
            wait_until(lambda: server.faults()[0]["hits"], 20 * harness.slow_factor(), op)
            m.kill()
        server.clear_faults()
        os.close(fd)
        assert len(hidden(server)) == 1
        m = mount_factory(server, cache=cache)
        m.unmount()
        assert server.object("f")[:8] in (piece(0)[:8], b"new")
        assert set(server.files()) <= {"f", "g"} and not server.uploads()
        assert crash.unsent(cache) == {} and crash.listing(cache, "hidden") == {}
