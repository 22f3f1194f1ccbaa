"""Attributes: mode, owner, times, extended attributes, statfs, access; and that they last."""

import concurrent.futures
import errno
import os
import shutil
import stat
import time

import pytest

from harness import blob, python, raises_errno, read_file, write_file

pytestmark = pytest.mark.sanitizer

NOBODY = 65534


def attributes(path):
    st = os.lstat(path)
    return st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns


def kinds(fs):
    write_file(fs.p("f"), blob(1000))
    os.mkdir(fs.p("d"))
    return [fs.p("f"), fs.p("d")]


def test_chmod(fs):
    for path in kinds(fs):
        for mode in 0o000, 0o400, 0o755, 0o2755, 0o4711, 0o1777, 0o640:
            os.chmod(path, mode)
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
        os.chmod(path, 0o751)
    fs.forget()
    for path in fs.p("f"), fs.p("d"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o751
    assert read_file(fs.p("f")) == blob(1000)


def test_chown(fs):
    if os.geteuid() != 0:
        pytest.skip("chown needs root")
    for path in kinds(fs):
        os.chown(path, 1234, -1)
        os.chown(path, -1, 5678)
        st = os.stat(path)
        assert (st.st_uid, st.st_gid) == (1234, 5678)
    os.symlink("x", fs.p("l"))
    os.lchown(fs.p("l"), 11, 12)
    fs.forget()
    for path in fs.p("f"), fs.p("d"):
        st = os.stat(path)
        assert (st.st_uid, st.st_gid) == (1234, 5678)
    st = os.lstat(fs.p("l"))
    assert (st.st_uid, st.st_gid) == (11, 12) and stat.S_ISLNK(st.st_mode)
    assert os.readlink(fs.p("l")) == "x"


@pytest.mark.parametrize(
    "ns", [1, 10**9, 1234567890 * 10**9 + 123456789, 1234567890 * 10**9, 4102444800 * 10**9 + 5, 253402300799 * 10**9]
)
def test_utimens(fs, ns):
    if not fs.has_server and ns > 10**19:
        pytest.skip("tmpfs may not hold it")
    for path in kinds(fs):
        os.utime(path, ns=(ns, ns))
        assert os.stat(path).st_mtime_ns == ns
    fs.forget()
    for path in fs.p("f"), fs.p("d"):
        assert os.stat(path).st_mtime_ns == ns
    assert read_file(fs.p("f")) == blob(1000)


def test_utimens_before_epoch(fs):
    write_file(fs.p("f"), b"x")
    os.utime(fs.p("f"), ns=(-5 * 10**9, -5 * 10**9))
    assert os.stat(fs.p("f")).st_mtime_ns == -5 * 10**9
    fs.forget()
    assert os.stat(fs.p("f")).st_mtime_ns == -5 * 10**9


def test_utimens_now_and_omit(fs):
    write_file(fs.p("f"), b"x")
    os.utime(fs.p("f"), ns=(10**18, 10**18))
    before = time.time()
    os.utime(fs.p("f"))
    assert before - 2 <= os.stat(fs.p("f")).st_mtime <= time.time() + 2


def test_utimens_of_symlink(fs):
    os.symlink("nowhere", fs.p("l"))
    os.utime(fs.p("l"), ns=(10**18, 10**18 + 7), follow_symlinks=False)
    assert os.lstat(fs.p("l")).st_mtime_ns == 10**18 + 7
    fs.forget()
    assert os.lstat(fs.p("l")).st_mtime_ns == 10**18 + 7
    assert os.readlink(fs.p("l")) == "nowhere"


def test_attributes_before_close(fs):
    """As cp -p and tar do: written, then attributes on the open descriptor, then closed."""
    fd = os.open(fs.p("f"), os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, b"data")
    os.utime(fd, ns=(1, 987654321 * 10**9 + 1))
    os.fchmod(fd, 0o4755)
    if os.geteuid() == 0:
        os.fchown(fd, 1000, 1001)
        os.fchmod(fd, 0o4755)
    os.close(fd)
    expected = attributes(fs.p("f"))
    assert expected[3] == 987654321 * 10**9 + 1
    assert stat.S_IMODE(expected[0]) == 0o4755
    fs.forget()
    assert attributes(fs.p("f")) == expected


def test_attributes_survive_a_write(fs):
    """An overwrite keeps mode and owner, and its mtime is the write's."""
    write_file(fs.p("f"), b"one")
    os.chmod(fs.p("f"), 0o600)
    os.chown(fs.p("f"), os.geteuid(), 77 if os.geteuid() == 0 else -1)
    os.utime(fs.p("f"), ns=(10**18, 10**18))
    fs.forget()
    before = time.time()
    write_file(fs.p("f"), b"two")
    for _ in range(2):
        st = os.stat(fs.p("f"))
        assert stat.S_IMODE(st.st_mode) == 0o600
        assert st.st_gid == (77 if os.geteuid() == 0 else st.st_gid)
        assert before - 2 <= st.st_mtime <= time.time() + 2
        fs.forget()
    assert read_file(fs.p("f")) == b"two"


def test_attributes_survive_a_rename(fs):
    write_file(fs.p("a"), b"x")
    os.chmod(fs.p("a"), 0o604)
    os.utime(fs.p("a"), ns=(10**18, 10**18 + 3))
    os.setxattr(fs.p("a"), "user.note", b"hello")
    expected = attributes(fs.p("a"))
    os.rename(fs.p("a"), fs.p("b"))
    assert attributes(fs.p("b")) == expected
    fs.forget()
    assert attributes(fs.p("b")) == expected
    assert os.getxattr(fs.p("b"), "user.note") == b"hello"


def test_chmod_then_rename_then_write(fs):
    """Attribute changes that may still wait are not lost by what follows them."""
    write_file(fs.p("a"), b"x")
    os.chmod(fs.p("a"), 0o611)
    os.rename(fs.p("a"), fs.p("b"))
    write_file(fs.p("b"), b"y", "ab")
    fs.forget()
    assert stat.S_IMODE(os.stat(fs.p("b")).st_mode) == 0o611
    assert read_file(fs.p("b")) == b"xy"


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def settle(fs, modes):
    """These modes hold at once, when whatever was pending has been sent, and after a remount."""
    for _ in range(2):
        assert {n: oct(mode_of(fs.p(n))) for n in modes} == {n: oct(m) for n, m in modes.items()}
        os.listdir(fs.path)
        if fs.has_server:
            time.sleep(1.3)
    fs.forget()
    assert {n: oct(mode_of(fs.p(n))) for n in modes} == {n: oct(m) for n, m in modes.items()}


def test_rename_over_directory_with_pending_attributes(fs):
    """What was asked of the directory that is replaced is not done to the one that replaces it."""
    os.makedirs(fs.p("b/b"))
    os.makedirs(fs.p("d/a"))
    os.chmod(fs.p("b"), 0o700)
    os.chmod(fs.p("b/b"), 0o711)
    if fs.has_server:
        time.sleep(1.3)
    os.chmod(fs.p("d/a"), 0o750)
    os.utime(fs.p("d/a"), ns=(10**18, 10**18))
    os.rename(fs.p("b"), fs.p("d/a"))
    settle(fs, {"d/a": 0o700, "d/a/b": 0o711})


def test_rename_directory_with_pending_attributes_below(fs):
    """They go with what they were asked of, not with its old name."""
    os.makedirs(fs.p("x/sub"))
    write_file(fs.p("x/f"), b"x")
    os.chmod(fs.p("x/sub"), 0o711)
    os.chmod(fs.p("x/f"), 0o600)
    os.chmod(fs.p("x"), 0o701)
    os.rename(fs.p("x"), fs.p("y"))
    os.makedirs(fs.p("x/sub"))
    write_file(fs.p("x/f"), b"x")
    for name, mode in ("x", 0o755), ("x/sub", 0o755), ("x/f", 0o644):
        assert mode_of(fs.p(name)) == mode & ~_umask()
    settle(fs, {"y": 0o701, "y/sub": 0o711, "y/f": 0o600})
    for name, mode in ("x", 0o755), ("x/sub", 0o755), ("x/f", 0o644):
        assert mode_of(fs.p(name)) == mode & ~_umask()


@pytest.mark.parametrize("how", ["remove", "rename away", "rename over"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_pending_attributes_and_a_new_owner_of_the_name(fs, kind, how):
    """chmod, then the name goes to something else within the second: it keeps its own mode."""

    def make(name, mode):
        if kind == "file":
            write_file(fs.p(name), name.encode())
        else:
            os.mkdir(fs.p(name))
        os.chmod(fs.p(name), mode)

    make("a", 0o700)
    if fs.has_server:
        time.sleep(1.3)
    os.chmod(fs.p("a"), 0o750)
    if how == "remove":
        (os.unlink if kind == "file" else os.rmdir)(fs.p("a"))
        make("a", 0o711)
    elif how == "rename away":
        os.rename(fs.p("a"), fs.p("old"))
        make("a", 0o711)
    else:
        make("new", 0o711)
        os.rename(fs.p("new"), fs.p("a"))
    settle(fs, {"a": 0o711, "old": 0o750} if how == "rename away" else {"a": 0o711})


def test_attributes_of_what_was_just_made(fs):
    """
    The reply to a symlink or mkdir can overtake the thread that asked for it; the next call then met a file without
    attributes, answered with mode 0, and the kernel gave the inode up (EIO).
    """

    def work(top):
        os.mkdir(fs.p(top))
        end = time.monotonic() + 4
        i = 0
        while time.monotonic() < end:
            i += 1
            link, directory = fs.p(top, "l%d" % i), fs.p(top, "d%d" % i)
            os.symlink("target", link)
            os.utime(link, ns=(10**18, 10**18 + i), follow_symlinks=False)
            os.mkdir(directory)
            os.chmod(directory, 0o711)
            os.rename(link, directory + "x")
            os.utime(directory + "x", ns=(10**18, 10**18), follow_symlinks=False)
            os.unlink(directory + "x")
            os.symlink("other", link)
            assert os.readlink(link) == "other" and mode_of(directory) == 0o711

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, "t%d" % i) for i in range(4)]:
            future.result()


def _umask():
    old = os.umask(0)
    os.umask(old)
    return old


def test_mtime_of_a_plain_write_is_stable(fs):
    """What stat said after the close is what it says after a remount."""
    write_file(fs.p("f"), b"x")
    now = os.stat(fs.p("f")).st_mtime_ns
    assert abs(now / 1e9 - time.time()) < 10
    fs.forget()
    assert os.stat(fs.p("f")).st_mtime_ns == now


def test_mtime_moves_with_writes_only(fs):
    write_file(fs.p("f"), b"x" * 100)
    os.utime(fs.p("f"), ns=(10**18, 10**18))
    fd = os.open(fs.p("f"), os.O_RDWR)
    os.read(fd, 10)
    assert os.fstat(fd).st_mtime_ns == 10**18
    os.write(fd, b"y")
    assert abs(os.fstat(fd).st_mtime - time.time()) < 10
    os.close(fd)
    assert abs(os.stat(fs.p("f")).st_mtime - time.time()) < 10


def test_stat_fields(fs):
    write_file(fs.p("f"), blob(10000))
    os.mkdir(fs.p("d"))
    f, d = os.stat(fs.p("f")), os.stat(fs.p("d"))
    assert f.st_ino != d.st_ino and f.st_dev == d.st_dev
    assert f.st_blocks * 512 >= 10000 and f.st_blksize >= 4096
    assert (f.st_uid, f.st_gid) == (os.geteuid(), os.getegid())
    assert os.stat(fs.p("f")).st_ino == f.st_ino


# ------------------------------------------------------------------------------------------------------------ xattr


def test_xattr(fs):
    for path in kinds(fs):
        assert os.listxattr(path) == []
        os.setxattr(path, "user.one", b"1")
        os.setxattr(path, "user.two", b"\0\xff binary \n")
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, "user.Case_and.dots", "größe".encode())
    for _ in range(2):
        for path in fs.p("f"), fs.p("d"):
            assert sorted(os.listxattr(path)) == ["user.Case_and.dots", "user.empty", "user.one", "user.two"]
            assert os.getxattr(path, "user.one") == b"1"
            assert os.getxattr(path, "user.two") == b"\0\xff binary \n"
            assert os.getxattr(path, "user.empty") == b""
            assert os.getxattr(path, "user.Case_and.dots") == "größe".encode()
            with raises_errno(errno.ENODATA):
                os.getxattr(path, "user.none")
        fs.forget()
    for path in fs.p("f"), fs.p("d"):
        os.setxattr(path, "user.one", b"changed")
        os.removexattr(path, "user.two")
        with raises_errno(errno.ENODATA):
            os.removexattr(path, "user.two")
    fs.forget()
    for path in fs.p("f"), fs.p("d"):
        assert sorted(os.listxattr(path)) == ["user.Case_and.dots", "user.empty", "user.one"]
        assert os.getxattr(path, "user.one") == b"changed"
    assert read_file(fs.p("f")) == blob(1000)


def test_xattr_flags(fs):
    write_file(fs.p("f"), b"x")
    with raises_errno(errno.ENODATA):
        os.setxattr(fs.p("f"), "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(fs.p("f"), "user.a", b"1", os.XATTR_CREATE)
    with raises_errno(errno.EEXIST):
        os.setxattr(fs.p("f"), "user.a", b"2", os.XATTR_CREATE)
    os.setxattr(fs.p("f"), "user.a", b"3", os.XATTR_REPLACE)
    assert os.getxattr(fs.p("f"), "user.a") == b"3"


def test_xattr_survives_write(fs):
    write_file(fs.p("f"), b"x")
    os.setxattr(fs.p("f"), "user.a", b"kept")
    fs.forget()
    write_file(fs.p("f"), b"other", "r+b")
    write_file(fs.p("f"), b"other data")
    fs.forget()
    assert os.getxattr(fs.p("f"), "user.a") == b"kept"
    assert read_file(fs.p("f")) == b"other data"


@pytest.mark.bucket
def test_xattr_too_much(fs):
    """User metadata holds 8 KB in all: told by errno, and what was there stays."""
    write_file(fs.p("f"), b"x")
    os.setxattr(fs.p("f"), "user.a", b"kept")
    with raises_errno(errno.ENOSPC, errno.E2BIG, errno.ERANGE):
        os.setxattr(fs.p("f"), "user.big", b"x" * 9000)
    assert os.listxattr(fs.p("f")) == ["user.a"]
    fs.forget()
    assert os.getxattr(fs.p("f"), "user.a") == b"kept"


@pytest.mark.bucket
def test_xattr_other_namespaces(fs):
    write_file(fs.p("f"), b"x")
    for name in "system.posix_acl_access", "system.posix_acl_default", "trusted.x", "security.x":
        with raises_errno(errno.EOPNOTSUPP, errno.ENODATA):
            os.getxattr(fs.p("f"), name)
        with raises_errno(errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL):
            os.setxattr(fs.p("f"), name, b"x")
    assert os.listxattr(fs.p("f")) == []


# ------------------------------------------------------------------------------------------------- statfs and access


def test_statfs(fs):
    st = os.statvfs(fs.path)
    assert st.f_bsize >= 512 and st.f_blocks > 0 and st.f_bavail <= st.f_bfree <= st.f_blocks
    assert st.f_namemax == 255
    assert shutil.disk_usage(fs.path).free > 1 << 20


def test_access(fs):
    write_file(fs.p("f"), b"x")
    assert os.access(fs.p("f"), os.F_OK | os.R_OK | os.W_OK)
    os.chmod(fs.p("f"), 0o600)
    assert not os.access(fs.p("f"), os.X_OK)
    os.chmod(fs.p("f"), 0o700)
    assert os.access(fs.p("f"), os.X_OK)
    assert not os.access(fs.p("none"), os.F_OK)


@pytest.mark.bucket
def test_permissions_for_others(mount):
    """With allow_other the kernel checks modes: another user may read what it may, and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    m = mount(allow_other=True)
    write_file(m.p("open"), b"x")
    write_file(m.p("closed"), b"x")
    os.chmod(m.p("open"), 0o644)
    os.chmod(m.p("closed"), 0o600)
    os.mkdir(m.p("d"), 0o755)
    os.mkdir(m.p("w"))
    os.chmod(m.p("w"), 0o777)
    code = (
        "import os,sys\n"
        "os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "def t(f):\n"
        "    try: f(); return 'ok'\n"
        "    except OSError as e: return e.strerror\n"
        "print(t(lambda: open('open').read()), t(lambda: open('closed').read()), t(lambda: open('open','w')),\n"
        "      t(lambda: open('d/x','w')), t(lambda: open('w/x','w')), t(lambda: os.chmod('open',0o777)), sep='|')\n"
    )
    out = python(code, m.path).stdout.strip()
    assert out == "ok|Permission denied|Permission denied|Permission denied|ok|Operation not permitted"
    assert os.stat(m.p("w/x")).st_uid == NOBODY


@pytest.mark.bucket
def test_root_only_without_allow_other(mount):
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    m = mount()
    code = "import os,sys; os.setuid(65534)\ntry: os.listdir(sys.argv[1])\nexcept OSError as e: print(e.errno)"
    assert python(code, m.path).stdout.strip() == str(errno.EACCES)


@pytest.mark.bucket
def test_mount_options_uid_gid_umask(server, mount):
    """Options give attributes to objects that carry none."""
    server.plant("plain", b"x")
    server.plant("dir/plain", b"x")
    m = mount(uid=1234, gid=5678, umask="027")
    f, d = os.stat(m.p("plain")), os.stat(m.p("dir"))
    assert (f.st_uid, f.st_gid, d.st_uid, d.st_gid) == (1234, 5678, 1234, 5678)
    assert stat.S_IMODE(f.st_mode) & 0o027 == 0 and stat.S_IMODE(d.st_mode) == 0o750


@pytest.mark.bucket
def test_read_only_mount(server, mount):
    server.plant("f", b"data")
    m = mount(ro=True)
    assert read_file(m.p("f")) == b"data"
    for operation in (
        lambda: write_file(m.p("f"), b"x"),
        lambda: write_file(m.p("new"), b"x"),
        lambda: os.unlink(m.p("f")),
        lambda: os.mkdir(m.p("d")),
        lambda: os.rename(m.p("f"), m.p("g")),
        lambda: os.chmod(m.p("f"), 0o600),
        lambda: os.symlink("x", m.p("l")),
    ):
        with raises_errno(errno.EROFS):
            operation()
    assert server.object("f") == b"data"
