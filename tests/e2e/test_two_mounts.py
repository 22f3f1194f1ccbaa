"""Two mounts of one bucket, and a mount beside another client: what one writes the other sees, whole."""

import os
import threading
import time

import pytest

import harness
from harness import blob, read_file, wait_until, write_file

pytestmark = pytest.mark.sanitizer


@pytest.fixture
def two(server, mount_factory):
    return mount_factory(server, stat_cache_expire=1), mount_factory(server, stat_cache_expire=1)


def test_new_file(two):
    a, b = two
    assert not os.path.exists(b.p("f"))
    write_file(a.p("f"), b"from a")
    wait_until(lambda: os.path.exists(b.p("f")), 5, "the new name")
    assert read_file(b.p("f")) == b"from a"
    wait_until(lambda: os.listdir(b.path) == ["f"], 5, "the listing")


def test_changed_file(two):
    a, b = two
    write_file(a.p("f"), b"one")
    wait_until(lambda: os.path.exists(b.p("f")), 5, "the new name")
    assert read_file(b.p("f")) == b"one"
    write_file(a.p("f"), b"another length")
    wait_until(lambda: os.stat(b.p("f")).st_size == 14, 5, "the new size")
    assert read_file(b.p("f")) == b"another length"
    write_file(b.p("f"), b"and back")
    wait_until(lambda: read_file(a.p("f")) == b"and back", 5, "the change of the other")


def test_changed_file_of_the_same_size(two):
    """Size and second may be equal: the ETag tells."""
    a, b = two
    write_file(a.p("f"), b"1" * 5000)
    wait_until(lambda: os.path.exists(b.p("f")), 5, "the new name")
    assert read_file(b.p("f")) == b"1" * 5000
    write_file(a.p("f"), b"2" * 5000)
    wait_until(lambda: read_file(b.p("f")) == b"2" * 5000, 5, "the new bytes")


def test_removed_and_renamed(two):
    a, b = two
    write_file(a.p("f"), b"x")
    os.mkdir(a.p("d"))
    wait_until(lambda: sorted(os.listdir(b.path)) == ["d", "f"], 5, "both names")
    os.rename(a.p("f"), a.p("d/g"))
    wait_until(lambda: os.path.exists(b.p("d/g")) and not os.path.exists(b.p("f")), 5, "the rename")
    os.unlink(a.p("d/g"))
    os.rmdir(a.p("d"))
    wait_until(lambda: os.listdir(b.path) == [], 5, "the removal")


def test_attributes(two):
    a, b = two
    write_file(a.p("f"), b"x")
    wait_until(lambda: os.path.exists(b.p("f")), 5, "the new name")
    os.chmod(a.p("f"), 0o600)
    os.utime(a.p("f"), ns=(10**18, 10**18))
    wait_until(lambda: os.stat(b.p("f")).st_mode & 0o777 == 0o600, 8, "the mode")
    wait_until(lambda: os.stat(b.p("f")).st_mtime_ns == 10**18, 8, "the time")


def test_default_expiry_is_kept(server, mount):
    """A known name is believed for the time of the option (default a minute), not for ever and not for nothing."""
    server.plant("f", b"1")
    m = mount()
    assert os.stat(m.p("f")).st_size == 1
    server.plant("f", b"22")
    time.sleep(1.2)
    server.reset()
    assert os.stat(m.p("f")).st_size == 1
    assert server.total() == 0


@pytest.mark.timeout(150)
@pytest.mark.parametrize("size,expire", [(3 << 20, 1), (3 << 20, 0), (25 << 20, 0)])
def test_overwritten_object_is_read_whole(server, mount, size, expire):
    """Another client replaces the object again and again: each open-read-close gets one version, whole."""
    versions = [bytes([65 + i]) * size for i in range(8)]
    server.plant("f", versions[0])
    m = mount(stat_cache_expire=expire)
    m.allow(" (warning|error) ")
    stop = threading.Event()

    def writer():
        i = 0
        while not stop.is_set():
            i += 1
            server.plant("f", versions[i % 8])
            stop.wait((0.05 + size / (100 << 20)) * harness.slow_factor())

    thread = threading.Thread(target=writer)
    thread.start()
    reads = stale = 0
    try:
        end = time.monotonic() + 8
        while time.monotonic() < end or (not reads and time.monotonic() < end + 60):
            try:
                data = read_file(m.p("f"))
            except OSError as e:
                assert e.errno == 116, e  # ESTALE
                stale += 1
                continue
            reads += 1
            assert len(data) == size and data == data[:1] * size, "a mix of versions"
    finally:
        stop.set()
        thread.join()
    print("%d whole reads, %d ESTALE" % (reads, stale))
    assert reads > 0
    wait_until(lambda: read_file(m.p("f")) == server.object("f"), 5, "the last version")


def test_writers_on_both_sides(two):
    """Different files from both mounts at once: all there, all right."""
    a, b = two
    os.mkdir(a.p("d"))
    wait_until(lambda: os.path.isdir(b.p("d")), 5, "the directory")

    def work(m, name):
        for i in range(40):
            write_file(m.p("d", "%s%d" % (name, i)), blob(2000, (name, i)))

    threads = [threading.Thread(target=work, args=x) for x in ((a, "a"), (b, "b"))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    expected = sorted("%s%d" % (n, i) for n in "ab" for i in range(40))
    for m in two:
        wait_until(lambda: sorted(os.listdir(m.p("d"))) == expected, 5, "all names")
        for n in "ab":
            for i in range(40):
                assert read_file(m.p("d", "%s%d" % (n, i))) == blob(2000, (n, i))


def test_last_writer_wins_whole(two, server):
    """The same file closed on both mounts: one of the two, whole."""
    a, b = two
    contents = b"A" * 100000, b"B" * 70000
    threads = [threading.Thread(target=write_file, args=(m.p("f"), c)) for m, c in zip(two, contents)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert server.object("f") in contents
    for m in two:
        wait_until(lambda: read_file(m.p("f")) == server.object("f"), 5, "what is in the bucket")
