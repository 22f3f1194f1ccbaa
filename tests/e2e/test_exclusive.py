"""O_EXCL: on one host always, between hosts with excl=strict; and what is open and has no name any more."""

import errno
import os
import threading

import pytest

from harness import blob, read_file, wait_until, write_file

pytestmark = [pytest.mark.bucket]

EXCL = os.O_CREAT | os.O_EXCL | os.O_WRONLY


@pytest.fixture
def two(server, mount_factory):
    mounts = [mount_factory(server, excl="strict", stat_cache_expire=1) for _ in range(2)]
    for m in mounts:
        m.allow("FileAlreadyExists")
    return mounts


def create(m, name):
    """A descriptor, or the errno."""
    try:
        return os.open(m.p(name), EXCL, 0o640), None
    except OSError as e:
        return None, e.errno


def test_second_host(two):
    a, b = two
    os.listdir(b.path)  # believes that there is nothing
    fd, _ = create(a, "lock")
    a.server.check_object("lock", b"")
    assert create(b, "lock") == (None, errno.EEXIST)
    assert os.path.exists(b.p("lock"))  # and knows it now
    os.write(fd, b"mine")
    os.close(fd)
    assert a.server.object("lock") == b"mine"
    assert create(a, "lock") == (None, errno.EEXIST)
    os.unlink(a.p("lock"))
    got = []
    wait_until(lambda: got.append(create(b, "lock")[0]) or got[-1], 10, "the name to be free")
    os.close(got[-1])
    assert os.stat(b.p("lock")).st_mode & 0o777 == 0o640


def test_races(two):
    """Of two that create a name at once, one gets it."""
    n = 40
    gate, results = threading.Barrier(2), [[], []]

    def race(i):
        for k in range(n):
            gate.wait(60)
            fd, error = create(two[i], "f%d" % k)
            if fd is not None:
                os.write(fd, b"%d" % i)
                os.close(fd)
            results[i].append(error)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(results[0]) == len(results[1]) == n
    for k, (x, y) in enumerate(zip(*results)):
        assert {x, y} == {None, errno.EEXIST}, (k, x, y)
        assert two[0].server.object("f%d" % k) == (b"0" if x is None else b"1")


def test_cost_and_headers(two):
    """One PUT more for a file that is written; a plain create costs none more; the type is as ever."""
    m = two[0]
    m.server.reset()
    write_file(m.p("plain"), b"x")
    assert m.server.counters() == {"PutObject": 1}
    fd, _ = create(m, "page.html")
    os.write(fd, blob(5000))
    os.close(fd)
    assert m.server.counters() == {"PutObject": 3}
    fd, _ = create(m, "empty.html")
    os.close(fd)
    assert m.server.counters() == {"PutObject": 4}
    for name in "page.html", "empty.html":
        assert m.server.headers(name)["content-type"] == "text/html"
    assert read_file(m.p("page.html")) == blob(5000)


def test_failed_put(server, mount):
    m = mount(excl="strict")
    m.allow("creating", "AccessDenied", "access key")
    server.fault("status", op="PutObject", status=403, code="AccessDenied")
    assert create(m, "f") == (None, errno.EACCES)
    fd, _ = create(m, "f")
    os.close(fd)
    server.check_object("f", b"")


def test_orphan_attributes(mount):
    """Of an open file that was removed: as on any file system, and nothing is sent."""
    m = mount()
    write_file(m.p("f"), blob(100))
    fd = os.open(m.p("f"), os.O_RDWR)
    os.unlink(m.p("f"))
    m.server.reset()
    os.fchmod(fd, 0o600)
    os.fchown(fd, os.getuid(), os.getgid())
    os.utime(fd, ns=(10**18, 10**18))
    os.ftruncate(fd, 50)
    os.utime(fd, ns=(10**18, 10**18))
    st = os.fstat(fd)
    assert (st.st_mode & 0o777, st.st_mtime_ns, st.st_size, st.st_nlink) == (0o600, 10**18, 50, 0)
    os.fsync(fd)
    os.close(fd)
    assert m.server.total() == 0 and not list(m.server.objects())


def test_removed_directory_attributes(mount):
    m = mount()
    os.mkdir(m.p("d"))
    fd = os.open(m.p("d"), os.O_RDONLY)
    os.rmdir(m.p("d"))
    m.server.reset()
    os.fchmod(fd, 0o700)
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert m.server.total() == 0
