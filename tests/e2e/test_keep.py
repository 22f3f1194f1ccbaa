"""Clean data outlives the daemon: it is used by the next mount, for the same object only, and within the bounds."""

import contextlib
import os

import pytest

import crash
from harness import blob, read_file, wait_until, write_file

MB = 1 << 20

pytestmark = pytest.mark.sanitizer


class Cached:
    """A cache directory with mounts that follow each other."""

    def __init__(self, server, mount_factory, tmp):
        self.server, self.factory = server, mount_factory
        self.cache = os.path.join(tmp, "kept-cache")
        self.m = None

    def mount(self, **options):
        if self.m:
            self.m.unmount()
        self.m = self.factory(self.server, cache=self.cache, **options)
        self.server.reset()
        return self.m

    def recorded(self, *keys):
        """Until the file `kept` names them (of large files that is written behind their close)."""
        wait_until(lambda: set(keys) <= {r.key for r in crash.kept_records(self.cache).values()}, 20, "the records")

    def gets(self):
        return self.server.counters().get("GetObject", 0)

    def damage(self, key, change):
        """Changes the data file of `key`, between two mounts: change(path, record)."""
        (record,) = [r for r in crash.kept_records(self.cache).values() if r.key == key]
        change(os.path.join(crash.state_dir(self.cache), "data", record.name), record)


@pytest.fixture
def cached(server, mount_factory, tmp):
    yield Cached(server, mount_factory, tmp)


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("end", ["unmount", "kill"])
@pytest.mark.parametrize("by", ["write", "read"])
@pytest.mark.parametrize("size", [100, 3 * MB + 5])
def test_read_again(cached, size, by, end):
    """What was written or read is not fetched again by the next mount, not a byte of it."""
    data = blob(size, "again")
    if by == "read":
        cached.server.plant("f", data)
    m = cached.mount()
    if by == "write":
        write_file(m.p("f"), data)
    assert read_file(m.p("f")) == data
    cached.recorded("f")
    if end == "kill":
        m.kill()
        cached.m = None
    m = cached.mount()
    assert cached.server.total() <= 2, "requests at the mount: %r" % cached.server.counters()
    assert read_file(m.p("f")) == data
    assert cached.gets() == 0
    m.unmount()
    crash.check_kept(cached.cache, cached.server)
    # And once more: what was only believed is still kept.
    cached.m = None
    m = cached.mount()
    assert read_file(m.p("f")) == data and cached.gets() == 0


def test_small_files(cached):
    """Many of them, in one record file."""
    files = {"d/f%d" % i: blob(500 + i, i) for i in range(200 if not os.environ.get("OSSMOUNT_LONG") else 1000)}
    for key, data in files.items():
        cached.server.plant(key, data)
    m = cached.mount()
    for key, data in files.items():
        assert read_file(m.p(key)) == data
    m = cached.mount()
    for key, data in files.items():
        assert read_file(m.p(key)) == data
    assert cached.gets() == 0
    m.unmount()
    crash.check_kept(cached.cache, cached.server)
    assert len(crash.kept_records(cached.cache)) == len(files)


@pytest.mark.parametrize("size", [3000, 2 * MB])
def test_changed_by_another_client(cached, size):
    """Same size, other bytes: the ETag tells, and the whole new content is read."""
    cached.server.plant("f", blob(size, "old"))
    m = cached.mount()
    assert read_file(m.p("f")) == blob(size, "old")
    m.unmount()
    cached.m = None
    cached.server.plant("f", blob(size, "new"))
    m = cached.mount()
    assert read_file(m.p("f")) == blob(size, "new")
    assert cached.gets() >= 1
    m.unmount()
    crash.check_kept(cached.cache, cached.server)
    assert len(os.listdir(os.path.join(crash.state_dir(cached.cache), "data"))) == 1, "the old data file is left"


def test_parts_of_a_file(cached):
    """Of a file that was read in part, that part is kept; the rest is fetched."""
    data = blob(8 * MB, "parts")
    cached.server.plant("f", data)
    m = cached.mount()
    with open(m.p("f"), "rb", buffering=0) as f:
        f.seek(5 * MB)
        assert f.read(4096) == data[5 * MB :][:4096]
    m.unmount()
    cached.m = None
    crash.check_kept(cached.cache, cached.server)
    m = cached.mount()
    with open(m.p("f"), "rb", buffering=0) as f:
        f.seek(5 * MB)
        assert f.read(4096) == data[5 * MB :][:4096]
    assert cached.gets() == 0
    assert read_file(m.p("f")) == data
    assert 0 < cached.server.bytes()[1] < 8 * MB + 100000


def damage_byte(path, record):
    flip(path, record.ranges[1][0] + 77)


def damage_cut(path, record):
    os.truncate(path, os.path.getsize(path) // 2)


def damage_gone(path, record):
    os.unlink(path)


def damage_link(path, record):
    os.rename(path, path + "x")
    os.symlink(path + "x", path)


@pytest.mark.parametrize("how", ["byte", "cut", "gone", "link"])
def test_damaged_data_file(cached, how):
    """Whatever became of the data file between two mounts: what is read is the object."""
    data = blob(3 * MB, how)
    cached.server.plant("f", data)
    m = cached.mount()
    assert read_file(m.p("f")) == data
    m.unmount()
    cached.m = None
    cached.damage("f", globals()["damage_" + how])
    m = cached.mount()
    m.allow("is damaged at|cannot be opened")
    assert read_file(m.p("f")) == data
    assert cached.gets() >= 1
    if how == "byte":
        assert cached.server.bytes()[1] < 3 * MB, "one byte costs a part of the file"
    m.unmount()
    crash.check_kept(cached.cache, cached.server)


def test_byte_damaged_is_not_published(cached):
    """A wrong byte on the disk does not get into the object when another one of the file is changed."""
    data = blob(2 * MB, "published")
    cached.server.plant("f", data)
    m = cached.mount()
    assert read_file(m.p("f")) == data
    m.unmount()
    cached.m = None
    cached.damage("f", lambda path, record: flip(path, 100))
    m = cached.mount()
    m.allow("is damaged at")
    with open(m.p("f"), "r+b", buffering=0) as f:
        f.seek(MB + 50)
        f.write(b"changed")
    wanted = data[: MB + 50] + b"changed" + data[MB + 57 :]
    cached.server.check_object("f", wanted)
    assert read_file(m.p("f")) == wanted
    m = cached.mount()
    m.allow("is damaged at")
    assert read_file(m.p("f")) == wanted


@pytest.mark.parametrize("how", ["byte", "tail", "nothing", "garbage", "link", "version"])
def test_damaged_record(cached, how):
    """A record that is not whole is not believed, nor what stands behind it; what was before it is."""
    for key in "a", "b":
        cached.server.plant(key, blob(50000, key))
    m = cached.mount()
    for key in "a", "b":
        assert read_file(m.p(key)) == blob(50000, key)
    m.unmount()
    cached.m = None
    path = os.path.join(crash.state_dir(cached.cache), "kept")
    last = max(r.end - r.start for r in crash.kept_records(cached.cache).values())
    size = os.path.getsize(path)
    if how == "byte":
        flip(path, size - last + 30)
    elif how == "tail":
        os.truncate(path, size - 1)
    elif how == "nothing":
        os.unlink(path)
    elif how == "garbage":
        write_file(path, blob(3000, "garbage"))
    elif how == "version":
        write_file(path, read_file(path)[:4] + b"\2" + read_file(path)[5:])
    else:
        os.rename(path, path + "x")
        os.symlink(path + "x", path)
    m = cached.mount()
    for key in "a", "b":
        assert read_file(m.p(key)) == blob(50000, key)
    assert cached.gets() == (1 if how in ("byte", "tail") else 2)
    m.unmount()
    crash.check_kept(cached.cache, cached.server)
    cached.m = None
    m = cached.mount()
    for key in "a", "b":
        assert read_file(m.p(key)) == blob(50000, key)
    assert cached.gets() == 0


def test_killed_while_it_is_changed(cached):
    """The record goes before the first byte is written over: the next mount reads the object, not the change."""
    data = blob(3 * MB, "old")
    cached.server.plant("f", data)
    m = cached.mount()
    assert read_file(m.p("f")) == data
    m = cached.mount()
    fd = os.open(m.p("f"), os.O_RDWR)
    os.pwrite(fd, b"x" * 5000, MB)
    m.kill()
    with contextlib.suppress(OSError):
        os.close(fd)
    cached.m = None
    m = cached.mount()
    m.allow("are kept in")
    assert "f" not in {r.key for r in crash.kept_records(cached.cache).values()}
    assert read_file(m.p("f")) == data
    cached.server.check_object("f", data)


def test_smaller_cache(cached):
    """The bounds of the new mount hold from its first moment; what was used last stays."""
    for i in range(8):
        cached.server.plant("f%d" % i, blob(2 * MB, i))
    m = cached.mount()
    for i in range(8):
        assert read_file(m.p("f%d" % i)) == blob(2 * MB, i)
    m = cached.mount(cache_size=8)
    directory = os.path.join(crash.state_dir(cached.cache), "data")
    used = sum(os.stat(os.path.join(directory, n)).st_blocks * 512 for n in os.listdir(directory))
    assert 0 < used <= 8 * MB, used
    for i in (7, 6):
        assert read_file(m.p("f%d" % i)) == blob(2 * MB, i)
    assert cached.gets() == 0
    assert read_file(m.p("f0")) == blob(2 * MB, 0) and cached.gets() > 0


def test_names_move(cached):
    """A rename takes the data along; what is removed leaves nothing."""
    for key in "a", "b", "c":
        cached.server.plant(key, blob(40000, key))
    m = cached.mount()
    for key in "a", "b", "c":
        assert read_file(m.p(key)) == blob(40000, key)
    m = cached.mount()
    os.rename(m.p("a"), m.p("moved"))
    os.unlink(m.p("b"))
    os.chmod(m.p("c"), 0o600)
    m = cached.mount()
    assert read_file(m.p("moved")) == blob(40000, "a")
    assert read_file(m.p("c")) == blob(40000, "c")
    assert cached.gets() == 0
    m.unmount()
    crash.check_kept(cached.cache, cached.server)
    assert {r.key for r in crash.kept_records(cached.cache).values()} == {"moved", "c"}
    assert len(os.listdir(os.path.join(crash.state_dir(cached.cache), "data"))) == 2


def test_two_buckets(cached, server_factory):
    """Two buckets in one cache directory: each has its own."""
    other = server_factory()
    for server, word in (cached.server, "one"), (other, "two"):
        server.plant("f", blob(9000, word))
    for _ in range(2):
        for server, word in (cached.server, "one"), (other, "two"):
            m = cached.factory(server, cache=cached.cache)
            server.reset()
            assert read_file(m.p("f")) == blob(9000, word)
            m.unmount()
    assert cached.gets() == 0 and other.counters().get("GetObject", 0) == 0
