"""Holes at the mount: SEEK_HOLE and SEEK_DATA, and fallocate with its modes."""

import errno
import os

import pytest

from harness import COLLAPSE_RANGE, INSERT_RANGE, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, blob, fallocate, run, write_file

pytestmark = [pytest.mark.bucket]

MB = 1 << 20


def ranges(fd):
    """The data of a file as SEEK_DATA and SEEK_HOLE tell it."""
    out, at = [], 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            assert e.errno == errno.ENXIO
            return out
        end = os.lseek(fd, at, os.SEEK_HOLE)
        out.append((at, end))
        at = end


@pytest.fixture
def file(mount):
    m = mount()
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT)
    yield m, fd
    os.close(fd)


def test_seek(file):
    m, fd = file
    os.ftruncate(fd, 8 * MB)
    assert ranges(fd) == []
    os.pwrite(fd, blob(4096), MB)
    os.pwrite(fd, blob(8192), 3 * MB)
    assert ranges(fd) == [(MB, MB + 4096), (3 * MB, 3 * MB + 8192)]
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    for whence in os.SEEK_DATA, os.SEEK_HOLE:
        with pytest.raises(OSError) as e:
            os.lseek(fd, 8 * MB, whence)
        assert e.value.errno == errno.ENXIO
    os.fsync(fd)
    m.server.check_object("f", os.pread(fd, 8 * MB, 0))


def test_remote_is_data(server, mount):
    server.plant("f", bytes(100000))
    m = mount()
    fd = os.open(m.p("f"), os.O_RDONLY)
    m.server.reset()
    assert ranges(fd) == [(0, 100000)]
    assert m.server.total() == 0
    os.close(fd)


@pytest.mark.parametrize("mode", [PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE, ZERO_RANGE])
@pytest.mark.parametrize("how", ["dirty", "clean", "remote"])
def test_zeros(mount, mode, how):
    m = mount()
    want = bytearray(blob(2 * MB))
    write_file(m.p("f"), want)
    if how == "remote":
        m.remount(cache="empty")
    fd = os.open(m.p("f"), os.O_RDWR)
    if how == "dirty":
        want[:10000] = blob(10000, "new")
        os.pwrite(fd, want[:10000], 0)
    for offset, n in (5000, 300000), (MB, 1), (2 * MB - 10, 100):
        fallocate(fd, mode, offset, n)
        want[offset : offset + n] = bytes(n if mode == ZERO_RANGE else min(n, len(want) - offset))
        assert os.fstat(fd).st_size == len(want)
        assert os.pread(fd, 3 * MB, 0) == want
    os.close(fd)
    m.server.check_object("f", bytes(want))


def test_modes(file):
    m, fd = file
    os.write(fd, blob(1000))
    fallocate(fd, KEEP_SIZE, 0, 5000)
    assert os.fstat(fd).st_size == 1000
    fallocate(fd, 0, 500, 1500)
    assert os.fstat(fd).st_size == 2000
    fallocate(fd, 0, 0, 10)
    assert os.fstat(fd).st_size == 2000
    for mode in COLLAPSE_RANGE, INSERT_RANGE:
        with pytest.raises(OSError) as e:
            fallocate(fd, mode, 0, 4096)
        assert e.value.errno == errno.EOPNOTSUPP
    os.fsync(fd)
    m.server.check_object("f", blob(1000) + bytes(1000))


def test_costs_no_disk(file):
    """A large hole, and a copy of it."""
    m, fd = file
    os.write(fd, blob(MB))
    fallocate(fd, ZERO_RANGE, 0, 40 * MB)
    assert os.fstat(fd).st_size == 40 * MB and ranges(fd) == []
    used = sum(os.stat(os.path.join(top, n)).st_blocks * 512 for top, _, names in os.walk(m.cache) for n in names)
    assert used < 8 * MB, used
    assert run(["cp", "--sparse=always", "f", os.path.join(m.directory, "copy")], cwd=m.path).returncode == 0
    assert os.stat(os.path.join(m.directory, "copy")).st_blocks * 512 < MB
    os.ftruncate(fd, 10)
