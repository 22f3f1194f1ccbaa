"""Files as programs expect them: open flags, offsets, sizes, several descriptors, unlink and rename while open."""

import errno
import mmap
import os
import stat
import threading

import pytest

from harness import blob, python, raises_errno, read_file, wait_until, write_file

pytestmark = pytest.mark.sanitizer


def stored(fs, name, data):
    """The bytes are in the file, in the bucket, and come back without any local copy."""
    assert read_file(fs.p(name)) == data
    if fs.has_server:
        fs.server.check_object(name, data)
    fs.forget()
    assert os.stat(fs.p(name)).st_size == len(data)
    assert read_file(fs.p(name)) == data


# ---------------------------------------------------------------------------------------------------- open, create


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 131072, 1048576, 1048577, 3000000])
def test_write_read(fs, size):
    data = blob(size)
    write_file(fs.p("f"), data)
    st = os.stat(fs.p("f"))
    assert st.st_size == size and stat.S_ISREG(st.st_mode) and st.st_nlink == 1
    stored(fs, "f", data)


def test_open_missing(fs):
    with raises_errno(errno.ENOENT):
        os.open(fs.p("none"), os.O_RDONLY)
    with raises_errno(errno.ENOENT):
        os.open(fs.p("none/below"), os.O_WRONLY | os.O_CREAT)
    with raises_errno(errno.ENOENT):
        os.stat(fs.p("none"))


def test_create_exclusive(fs):
    fd = os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    os.write(fd, b"one")
    with raises_errno(errno.EEXIST):
        os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.close(fd)
    with raises_errno(errno.EEXIST):
        os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    fs.forget()
    with raises_errno(errno.EEXIST):
        os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert read_file(fs.p("f")) == b"one"


def test_create_exclusive_race(fs):
    """Of many creators at once exactly one wins."""
    won = []

    def create(i):
        try:
            fd = os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        os.write(fd, b"%d" % i)
        os.close(fd)
        won.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(won) == 1
    assert read_file(fs.p("f")) == b"%d" % won[0]


def test_truncate_on_open(fs):
    write_file(fs.p("f"), blob(5000))
    fd = os.open(fs.p("f"), os.O_RDWR | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    assert os.read(fd, 10) == b""
    os.write(fd, b"new")
    os.close(fd)
    stored(fs, "f", b"new")


def test_truncate_on_open_and_close(fs):
    """O_TRUNC without a write: an empty file, in the bucket with the release (which close does not wait for)."""
    write_file(fs.p("f"), blob(5000))
    os.close(os.open(fs.p("f"), os.O_WRONLY | os.O_TRUNC))
    if fs.has_server:
        wait_until(lambda: fs.server.object("f") == b"", 5, "the empty object")
    stored(fs, "f", b"")


def test_create_keeps_existing(fs):
    write_file(fs.p("f"), b"old")
    os.close(os.open(fs.p("f"), os.O_RDWR | os.O_CREAT, 0o600))
    stored(fs, "f", b"old")


@pytest.mark.parametrize("umask,asked,expected", [(0o022, 0o666, 0o644), (0o077, 0o777, 0o700), (0, 0o604, 0o604)])
def test_create_mode(fs, umask, asked, expected):
    old = os.umask(umask)
    try:
        os.close(os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT, asked))
        os.mkdir(fs.p("d"), asked)
    finally:
        os.umask(old)
    for name in "f", "d":
        assert stat.S_IMODE(os.stat(fs.p(name)).st_mode) == expected
    fs.forget()
    for name in "f", "d":
        assert stat.S_IMODE(os.stat(fs.p(name)).st_mode) == expected


def test_access_mode_of_descriptor(fs):
    write_file(fs.p("f"), b"data")
    fd = os.open(fs.p("f"), os.O_RDONLY)
    with raises_errno(errno.EBADF):
        os.write(fd, b"x")
    os.close(fd)
    fd = os.open(fs.p("f"), os.O_WRONLY)
    with raises_errno(errno.EBADF):
        os.read(fd, 1)
    os.close(fd)


def test_open_kinds(fs):
    os.mkdir(fs.p("d"))
    write_file(fs.p("f"), b"x")
    with raises_errno(errno.EISDIR):
        os.open(fs.p("d"), os.O_WRONLY)
    with raises_errno(errno.ENOTDIR):
        os.open(fs.p("f"), os.O_RDONLY | os.O_DIRECTORY)
    with raises_errno(errno.ENOTDIR):
        os.open(fs.p("f/x"), os.O_RDONLY)
    with raises_errno(errno.ENOTDIR):
        os.open(fs.p("f/x"), os.O_WRONLY | os.O_CREAT)
    with raises_errno(errno.ENOTDIR):
        os.listdir(fs.p("f"))
    os.close(os.open(fs.p("d"), os.O_RDONLY | os.O_DIRECTORY))


# ------------------------------------------------------------------------------------------------- reads and writes


def test_pread_pwrite(fs):
    data = bytearray(blob(300000))
    write_file(fs.p("f"), data)
    fd = os.open(fs.p("f"), os.O_RDWR)
    for offset, n in (0, 1), (299999, 1), (4095, 2), (131071, 3), (100000, 70000):
        piece = blob(n, seed=offset + 1)
        assert os.pwrite(fd, piece, offset) == n
        data[offset : offset + n] = piece
        assert os.pread(fd, n + 10, max(0, offset - 5)) == bytes(data[max(0, offset - 5) : max(0, offset - 5) + n + 10])
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    assert os.pread(fd, 10, 300000) == b"" and os.pread(fd, 10, 1 << 40) == b""
    os.close(fd)
    stored(fs, "f", bytes(data))


def test_partial_change_of_stored_object(fs):
    """A few bytes changed in the middle of an object that is only in the bucket: the rest stays."""
    data = bytearray(blob(2500000))
    write_file(fs.p("f"), data)
    fs.forget()
    fd = os.open(fs.p("f"), os.O_WRONLY)
    os.pwrite(fd, b"changed", 1200000)
    os.close(fd)
    data[1200000:1200007] = b"changed"
    stored(fs, "f", bytes(data))


def test_append_descriptor(fs):
    write_file(fs.p("f"), b"begin-")
    fd = os.open(fs.p("f"), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"one-")
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"two-")
    other = os.open(fs.p("f"), os.O_WRONLY | os.O_APPEND)
    os.write(other, b"three-")
    os.write(fd, b"four")
    os.close(fd)
    os.close(other)
    stored(fs, "f", b"begin-one-two-three-four")


def test_append_after_remount(fs):
    write_file(fs.p("f"), b"a" * 100000)
    fs.forget()
    with open(fs.p("f"), "ab") as f:
        f.write(b"tail")
    stored(fs, "f", b"a" * 100000 + b"tail")


def test_append_from_processes(fs):
    """Whole records from several writers of one host: none lost, none torn."""
    code = (
        "import os,sys\n"
        "for i in range(50):\n"
        "    fd=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND|os.O_CREAT)\n"
        "    os.write(fd,b'%s %03d\\n'%(sys.argv[2].encode()*20,i))\n"
        "    os.close(fd)\n"
    )
    threads = [threading.Thread(target=python, args=(code, fs.p("f"), x)) for x in "abc"]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    lines = read_file(fs.p("f")).splitlines()
    assert sorted(lines) == sorted(b"%s %03d" % (x * 20, i) for x in (b"a", b"b", b"c") for i in range(50))
    if fs.has_server:
        fs.server.check_object("f", read_file(fs.p("f")))


def test_read_while_writing(fs):
    writer = os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT)
    reader = os.open(fs.p("f"), os.O_RDONLY)
    data = b""
    for i in range(20):
        piece = blob(50000, seed=i)
        os.write(writer, piece)
        data += piece
        assert os.fstat(reader).st_size == len(data)
        assert os.stat(fs.p("f")).st_size == len(data)
        assert os.pread(reader, len(piece), len(data) - len(piece)) == piece
    assert os.pread(reader, len(data), 0) == data
    os.close(writer)
    os.close(reader)
    stored(fs, "f", data)


def test_two_writers(fs):
    a = os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT)
    b = os.open(fs.p("f"), os.O_WRONLY)
    os.pwrite(a, b"A" * 1000, 0)
    os.pwrite(b, b"B" * 1000, 1000)
    os.close(a)
    os.pwrite(b, b"C" * 1000, 2000)
    os.close(b)
    stored(fs, "f", b"A" * 1000 + b"B" * 1000 + b"C" * 1000)


def test_sparse(fs):
    fd = os.open(fs.p("f"), os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"end", 3000000)
    os.pwrite(fd, b"middle", 1000000)
    assert os.fstat(fd).st_size == 3000003
    assert os.pread(fd, 10, 500000) == b"\0" * 10
    os.close(fd)
    expected = bytearray(3000003)
    expected[1000000:1000006] = b"middle"
    expected[3000000:] = b"end"
    stored(fs, "f", bytes(expected))


# ------------------------------------------------------------------------------------------------------- truncation


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("size", [0, 1, 99999, 100000, 100001, 250000])
def test_truncate_by_path(fs, size, cold):
    data = blob(100000)
    write_file(fs.p("f"), data)
    if cold:
        fs.forget()
    os.truncate(fs.p("f"), size)
    assert os.stat(fs.p("f")).st_size == size
    expected = data[:size] + b"\0" * (size - len(data))
    if fs.has_server:
        # truncate(2) has no close that could upload: its answer is the bucket's.
        fs.server.check_object("f", expected)
    stored(fs, "f", expected)


def test_ftruncate_both_ways(fs):
    """What was cut off is gone: growing again shows zeros."""
    fd = os.open(fs.p("f"), os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 10000)
    os.ftruncate(fd, 3000)
    assert os.fstat(fd).st_size == 3000
    os.ftruncate(fd, 8000)
    assert os.pread(fd, 8000, 0) == b"x" * 3000 + b"\0" * 5000
    os.pwrite(fd, b"y", 9000)
    os.close(fd)
    stored(fs, "f", b"x" * 3000 + b"\0" * 6000 + b"y")


def test_shrink_and_grow_stored_object(fs):
    """The old object's bytes do not come back into the hole."""
    write_file(fs.p("f"), b"x" * 300000)
    fs.forget()
    fd = os.open(fs.p("f"), os.O_RDWR)
    os.ftruncate(fd, 100000)
    os.ftruncate(fd, 200000)
    assert os.pread(fd, 200000, 0) == b"x" * 100000 + b"\0" * 100000
    os.close(fd)
    stored(fs, "f", b"x" * 100000 + b"\0" * 100000)


def test_truncate_errors(fs):
    os.mkdir(fs.p("d"))
    with raises_errno(errno.ENOENT):
        os.truncate(fs.p("none"), 0)
    with raises_errno(errno.EISDIR):
        os.truncate(fs.p("d"), 0)
    with raises_errno(errno.EINVAL):
        os.truncate(fs.p("d"), -1)


# ------------------------------------------------------------------------------------- unlink and rename while open


def test_unlink_while_open(fs):
    write_file(fs.p("f"), blob(200000))
    fd = os.open(fs.p("f"), os.O_RDWR)
    os.unlink(fs.p("f"))
    assert os.listdir(fs.path) == []
    with raises_errno(errno.ENOENT):
        os.stat(fs.p("f"))
    assert os.fstat(fd).st_nlink == 0
    assert os.pread(fd, 200000, 0) == blob(200000)
    os.pwrite(fd, b"more", 200000)
    assert os.pread(fd, 10, 199999) == blob(200000)[-1:] + b"more"
    os.close(fd)
    assert os.listdir(fs.path) == []
    if fs.has_server:
        assert fs.server.objects() == {}


def test_unlink_while_open_cold(fs):
    """The only copy of the bytes is the object that the unlink deletes."""
    write_file(fs.p("f"), blob(3000000))
    fs.forget()
    fd = os.open(fs.p("f"), os.O_RDONLY)
    assert os.pread(fd, 10, 0) == blob(3000000)[:10]
    os.unlink(fs.p("f"))
    assert os.pread(fd, 3000000, 0) == blob(3000000)
    os.close(fd)
    if fs.has_server:
        assert fs.server.objects() == {}


def test_unlink_dirty_and_create_again(fs):
    """A removed file's late close must not come back under the name of its successor."""
    old = os.open(fs.p("f"), os.O_RDWR | os.O_CREAT)
    os.write(old, b"old" * 1000)
    os.unlink(fs.p("f"))
    write_file(fs.p("f"), b"new")
    os.write(old, b"still old")
    os.close(old)
    stored(fs, "f", b"new")
    if fs.has_server:
        assert list(fs.server.objects()) == ["f"]


def test_rename_while_open(fs):
    fd = os.open(fs.p("a"), os.O_RDWR | os.O_CREAT)
    os.write(fd, b"before-")
    os.rename(fs.p("a"), fs.p("b"))
    os.write(fd, b"after")
    os.close(fd)
    assert os.listdir(fs.path) == ["b"]
    stored(fs, "b", b"before-after")
    if fs.has_server:
        assert list(fs.server.objects()) == ["b"]


def test_rename_over_open(fs):
    """The handle of the file that was replaced goes on reading it."""
    write_file(fs.p("old"), blob(200000, "old"))
    fs.forget()
    fd = os.open(fs.p("old"), os.O_RDONLY)
    write_file(fs.p("new"), b"new")
    os.rename(fs.p("new"), fs.p("old"))
    assert os.pread(fd, 200000, 0) == blob(200000, "old")
    assert read_file(fs.p("old")) == b"new"
    os.close(fd)
    stored(fs, "old", b"new")


def test_rename_over_open_dirty(fs):
    """A dirty file that is replaced never overwrites its successor."""
    fd = os.open(fs.p("target"), os.O_RDWR | os.O_CREAT)
    os.write(fd, b"dirty")
    write_file(fs.p("new"), b"new")
    os.rename(fs.p("new"), fs.p("target"))
    os.write(fd, b"more")
    os.close(fd)
    stored(fs, "target", b"new")


def test_save_by_rename(fs):
    """How editors and package managers save: write beside, fsync, rename over."""
    write_file(fs.p("f"), b"v0")
    for i in range(5):
        fd = os.open(fs.p("f.tmp"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, b"v%d" % (i + 1))
        os.fsync(fd)
        os.close(fd)
        os.rename(fs.p("f.tmp"), fs.p("f"))
        assert read_file(fs.p("f")) == b"v%d" % (i + 1)
    assert os.listdir(fs.path) == ["f"]
    stored(fs, "f", b"v5")


# ------------------------------------------------------------------------------------------ descriptors, fork, mmap


def test_dup_flushes(fs):
    """A dup'ed descriptor's close flushes; the original goes on writing."""
    fd = os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"one")
    os.close(os.dup(fd))
    if fs.has_server:
        fs.server.check_object("f", b"one")
    os.write(fd, b"two")
    os.close(fd)
    stored(fs, "f", b"onetwo")


def test_empty_file_beside_its_namesake_of_another_mount(server_factory, mount_factory):
    """An empty file is sent by its close, though the program holds the file of that key in another mount."""
    servers = [server_factory(), server_factory()]
    held, made = [mount_factory(s) for s in servers]
    write_file(held.p("f"), b"held")
    servers[1].fault(op="PutObject", action="delay", ms=300, count=1)
    with open(held.p("f"), "rb"):
        write_file(made.p("f"), b"")
        servers[1].check_object("f", b"")


def test_fork_shares_descriptor(fs):
    """A child that inherits the descriptor and exits, then the parent writes on."""
    code = (
        "import os,sys\n"
        "fd=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT)\n"
        "os.write(fd,b'parent-')\n"
        "if os.fork()==0:\n"
        "    os.write(fd,b'child-')\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "os.write(fd,b'end')\n"
        "os.close(fd)\n"
    )
    python(code, fs.p("f"))
    stored(fs, "f", b"parent-child-end")


def test_fsync_is_in_the_bucket(fs):
    fd = os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"synced")
    os.fsync(fd)
    if fs.has_server:
        fs.server.check_object("f", b"synced")
    os.write(fd, b"+more")
    os.fdatasync(fd)
    if fs.has_server:
        fs.server.check_object("f", b"synced+more")
    os.close(fd)
    stored(fs, "f", b"synced+more")


def test_exit_without_close(fs):
    """A program that ends without close() has closed."""
    python("import os,sys; fd=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT); os.write(fd,b'x'); os._exit(0)", fs.p("f"))
    stored(fs, "f", b"x")


def test_mmap_read(fs):
    write_file(fs.p("f"), blob(1000000))
    fs.forget()
    code = (
        "import mmap,os,sys\n"
        "fd=os.open(sys.argv[1],os.O_RDONLY)\n"
        "m=mmap.mmap(fd,0,prot=mmap.PROT_READ)\n"
        "sys.stdout.buffer.write(m[999990:]+m[:10]+m[500000:500010])\n"
    )
    out = python(code, fs.p("f")).stdout.encode("utf-8", "surrogateescape")
    data = blob(1000000)
    assert out == data[999990:] + data[:10] + data[500000:500010]


def test_mmap_write(fs):
    """Stores through a shared map reach the bucket with munmap and close."""
    write_file(fs.p("f"), blob(100000))
    code = (
        "import mmap,os,sys\n"
        "fd=os.open(sys.argv[1],os.O_RDWR)\n"
        "m=mmap.mmap(fd,0)\n"
        "m[0:5]=b'start'; m[99995:]=b'final'\n"
        "m.flush(); m.close(); os.close(fd)\n"
    )
    python(code, fs.p("f"))
    data = bytearray(blob(100000))
    data[0:5], data[99995:] = b"start", b"final"
    stored(fs, "f", bytes(data))


def test_mmap_write_after_close(fs):
    """The map outlives the descriptor: stores made after close() are published at munmap."""
    write_file(fs.p("f"), blob(100000))
    code = (
        "import mmap,os,sys\n"
        "fd=os.open(sys.argv[1],os.O_RDWR)\n"
        "m=mmap.mmap(fd,0); os.close(fd)\n"
        "m[0:5]=b'start'\n"
        "m.flush(); m.close()\n"
    )
    python(code, fs.p("f"))
    data = bytearray(blob(100000))
    data[0:5] = b"start"
    fs.remount()  # the release of a map's last reference is not waited for by munmap, but by unmount
    stored(fs, "f", bytes(data))


def test_mmap_private(fs):
    write_file(fs.p("f"), b"a" * 10000)
    fd = os.open(fs.p("f"), os.O_RDONLY)
    m = mmap.mmap(fd, 0, access=mmap.ACCESS_COPY)
    m[0:3] = b"xyz"
    m.close()
    os.close(fd)
    assert read_file(fs.p("f")) == b"a" * 10000


def test_read_sees_own_write_in_other_descriptor(fs):
    """The kernel's cached pages of a reader follow a writer on the same mount."""
    write_file(fs.p("f"), b"1" * 8192)
    fd = os.open(fs.p("f"), os.O_RDONLY)
    assert os.pread(fd, 8192, 0) == b"1" * 8192
    write_file(fs.p("f"), b"2" * 8192, "r+b")
    assert os.pread(fd, 8192, 0) == b"2" * 8192
    os.close(fd)


def test_many_open_files(fs):
    fds = [os.open(fs.p("f%d" % i), os.O_RDWR | os.O_CREAT) for i in range(200)]
    for i, fd in enumerate(fds):
        os.write(fd, b"%d" % i)
    for i, fd in enumerate(fds):
        assert os.pread(fd, 10, 0) == b"%d" % i
        os.close(fd)
    fs.forget()
    assert sorted(os.listdir(fs.path)) == sorted("f%d" % i for i in range(200))
    assert all(read_file(fs.p("f%d" % i)) == b"%d" % i for i in range(200))


def test_parallel_writers_of_different_files(fs):
    def work(i):
        for j in range(10):
            write_file(fs.p("w%d-%d" % (i, j)), blob(20000, (i, j)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    fs.forget()
    for i in range(8):
        for j in range(10):
            assert read_file(fs.p("w%d-%d" % (i, j))) == blob(20000, (i, j))


def test_file_larger_than_limit(fs):
    """48.8 TB is the reach of a multipart upload: told at once, nothing is written."""
    write_file(fs.p("f"), b"x")
    fd = os.open(fs.p("f"), os.O_RDWR)
    if fs.has_server:
        with raises_errno(errno.EFBIG):
            os.ftruncate(fd, 60 << 40)
        with raises_errno(errno.EFBIG):
            os.pwrite(fd, b"x", 60 << 40)
        assert os.fstat(fd).st_size == 1
    os.close(fd)
    stored(fs, "f", b"x")
