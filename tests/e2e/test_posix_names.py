"""Names and directories: rename, symlinks, what may not be made, odd and long names, listings."""

import ctypes
import errno
import os
import stat

import pytest

from harness import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    blob,
    raises_errno,
    read_file,
    renameat2,
    run,
    write_file,
)

pytestmark = pytest.mark.sanitizer

ODD_NAMES = [
    b"with space",
    b" lead and trail ",
    b"new\nline",
    b"tab\there",
    b"per%cent",
    b"%2F",
    b"100%",
    b"pl+us",
    b"ha#sh",
    b"quest?ion",
    b"back\\slash",
    b"single'quote",
    b'double"quote',
    b"back`tick",
    b"<xml>&amp;",
    b"semi;colon",
    b"eq=ual&and",
    b"[brackets]{}",
    b"star*",
    b"col:on",
    b"com,ma",
    b"at@",
    b"dol$lar",
    b"-dash",
    b".hidden",
    b"...",
    b"trailing.",
    b"~tilde",
    b"\x01\x1f\x7f",
    b"a" * 255,
    "ünïcödé".encode(),
    "文件名".encode(),
    "e\u0301".encode(),
    "\u00e9".encode(),
    "😀".encode(),
    ("文" * 85).encode(),
    b"CON",
    b"Case",
    b"case",
]


# ------------------------------------------------------------------------------------------------------ odd names


def test_odd_names(fs):
    names = ODD_NAMES
    directories = [b"d-" + n if len(n) < 250 else n[3:] for n in names]
    for i, name in enumerate(names):
        write_file(fs.b(name), b"%d" % i)
        os.mkdir(fs.b(directories[i]))
        write_file(fs.b(directories[i], name), b"in %d" % i)
    listed = set(os.listdir(os.fsencode(fs.path)))
    assert listed == set(names) | set(directories)
    fs.forget()
    assert set(os.listdir(os.fsencode(fs.path))) == listed
    for i, name in enumerate(names):
        assert read_file(fs.b(name)) == b"%d" % i, name
        assert os.listdir(fs.b(directories[i])) == [name]
        assert read_file(fs.b(directories[i], name)) == b"in %d" % i, name


def test_odd_names_rename_and_remove(fs):
    for i, name in enumerate(ODD_NAMES):
        write_file(fs.b(name), b"%d" % i)
        os.rename(fs.b(name), fs.b(b"x"))
        os.rename(fs.b(b"x"), fs.b(name))
        assert read_file(fs.b(name)) == b"%d" % i
        os.symlink(name, fs.b(b"link"))
        assert os.readlink(fs.b(b"link")) == name
        assert read_file(fs.b(b"link")) == b"%d" % i
        os.unlink(fs.b(b"link"))
        os.unlink(fs.b(name))
    assert os.listdir(fs.path) == []


def test_odd_names_key_at_the_server(fs):
    if not fs.has_server:
        pytest.skip("needs a server")
    os.mkdir(fs.p("d é"))
    write_file(fs.p("d é", "a+b %41"), b"x")
    assert set(fs.server.objects()) == {"d é/", "d é/a+b %41"}


def test_name_too_long(fs):
    for operation in (
        lambda p: os.open(p, os.O_WRONLY | os.O_CREAT),
        os.stat,
        os.mkdir,
        os.unlink,
        os.rmdir,
        lambda p: os.symlink("x", p),
    ):
        with raises_errno(errno.ENAMETOOLONG):
            operation(fs.b(b"a" * 256))
    write_file(fs.p("f"), b"x")
    with raises_errno(errno.ENAMETOOLONG):
        os.rename(fs.p("f"), fs.b(b"a" * 256))
    assert os.listdir(fs.path) == ["f"]


@pytest.mark.bucket
def test_key_too_long(fs):
    """Four components of 250 and one that just fits, or just does not: a key has 1023 bytes."""
    parts = [b"%d" % i + b"d" * 249 for i in range(4)]
    os.makedirs(fs.b(*parts))  # 4 * 250 + 3 = 1003 bytes, and one more for the marker
    room = 1023 - 1004
    write_file(fs.b(*parts, b"f" * room), b"fits")
    with raises_errno(errno.ENAMETOOLONG):
        write_file(fs.b(*parts, b"f" * (room + 1)), b"too long")
    with raises_errno(errno.ENAMETOOLONG):
        os.mkdir(fs.b(*parts, b"d" * room))  # its marker ends in a slash
    os.mkdir(fs.b(*parts, b"d" * (room - 1)))
    with raises_errno(errno.ENAMETOOLONG):
        os.symlink(b"t", fs.b(*parts, b"s" * (room + 1)))
    write_file(fs.b(b"f"), b"x")
    with raises_errno(errno.ENAMETOOLONG):
        os.rename(fs.b(b"f"), fs.b(*parts, b"f" * (room + 1)))
    # A directory whose own new name fits but whose children's do not.
    with raises_errno(errno.ENAMETOOLONG):
        os.rename(fs.b(parts[0]), fs.b(parts[0] + b"xxxxx"))
    fs.forget()
    assert sorted(os.listdir(fs.b(*parts))) == [b"d" * (room - 1), b"f" * room]
    assert read_file(fs.b(*parts, b"f" * room)) == b"fits"
    assert read_file(fs.b(b"f")) == b"x"


@pytest.mark.bucket
@pytest.mark.parametrize("name", [b"\xff", b"a\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"ok\x80"])
def test_name_not_utf8(fs, name):
    with raises_errno(errno.EILSEQ):
        write_file(fs.b(name), b"x")
    with raises_errno(errno.EILSEQ):
        os.mkdir(fs.b(name))
    with raises_errno(errno.EILSEQ):
        os.symlink(b"x", fs.b(name))
    write_file(fs.p("f"), b"x")
    with raises_errno(errno.EILSEQ):
        os.rename(fs.p("f"), fs.b(name))
    with raises_errno(errno.EILSEQ, errno.ENOENT):
        os.stat(fs.b(name))
    assert os.listdir(fs.path) == ["f"]


# --------------------------------------------------------------------------------------------------- directories


def test_mkdir_rmdir(fs):
    os.mkdir(fs.p("d"), 0o750)
    st = os.stat(fs.p("d"))
    assert stat.S_ISDIR(st.st_mode)
    if fs.has_server:
        assert list(fs.server.objects()) == ["d/"]
    with raises_errno(errno.EEXIST):
        os.mkdir(fs.p("d"))
    write_file(fs.p("f"), b"x")
    with raises_errno(errno.EEXIST):
        os.mkdir(fs.p("f"))
    with raises_errno(errno.ENOENT):
        os.mkdir(fs.p("none/d"))
    with raises_errno(errno.ENOTDIR):
        os.mkdir(fs.p("f/d"))
    fs.forget()
    with raises_errno(errno.EEXIST):
        os.mkdir(fs.p("d"))
    os.rmdir(fs.p("d"))
    with raises_errno(errno.ENOENT):
        os.rmdir(fs.p("d"))
    with raises_errno(errno.ENOTDIR):
        os.rmdir(fs.p("f"))
    assert os.listdir(fs.path) == ["f"]


@pytest.mark.parametrize("child", ["file", "directory", "symlink"])
@pytest.mark.parametrize("cold", [False, True])
def test_rmdir_not_empty(fs, child, cold):
    os.mkdir(fs.p("d"))
    if child == "file":
        write_file(fs.p("d/x"), b"x")
    elif child == "directory":
        os.mkdir(fs.p("d/x"))
    else:
        os.symlink("nowhere", fs.p("d/x"))
    if cold:
        fs.forget()
    with raises_errno(errno.ENOTEMPTY):
        os.rmdir(fs.p("d"))
    assert os.listdir(fs.p("d")) == ["x"]


def test_unlink_kinds(fs):
    os.mkdir(fs.p("d"))
    with raises_errno(errno.EISDIR):
        os.unlink(fs.p("d"))
    with raises_errno(errno.ENOENT):
        os.unlink(fs.p("none"))
    write_file(fs.p("f"), b"x")
    with raises_errno(errno.ENOTDIR):
        os.unlink(fs.p("f/x"))
    os.unlink(fs.p("f"))
    with raises_errno(errno.ENOENT):
        os.unlink(fs.p("f"))
    fs.forget()
    assert os.listdir(fs.path) == ["d"]


def test_directory_stays_after_its_last_file(fs):
    os.mkdir(fs.p("d"))
    write_file(fs.p("d/f"), b"x")
    os.unlink(fs.p("d/f"))
    assert os.listdir(fs.p("d")) == []
    fs.forget()
    assert os.listdir(fs.p("d")) == []


def test_deep_tree(fs):
    path = "/".join("d%d" % i for i in range(60))
    os.makedirs(fs.p(path))
    write_file(fs.p(path, "f"), b"deep")
    fs.forget()
    assert read_file(fs.p(path, "f")) == b"deep"
    run(["rm", "-rf", fs.p("d0")])
    assert os.listdir(fs.path) == []
    if fs.has_server:
        assert fs.server.objects() == {}


def test_remove_tree(fs):
    for i in range(5):
        os.makedirs(fs.p("t", "d%d" % i, "sub"))
        for j in range(20):
            write_file(fs.p("t", "d%d" % i, "f%d" % j), b"x")
            write_file(fs.p("t", "d%d" % i, "sub", "f%d" % j), b"x")
    fs.forget()
    run(["rm", "-r", fs.p("t")])
    assert os.listdir(fs.path) == []
    if fs.has_server:
        assert fs.server.objects() == {}


def test_open_directory_removed(fs):
    os.mkdir(fs.p("d"))
    fd = os.open(fs.p("d"), os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(fs.p("d"))
    assert os.listdir(fd) == []
    with raises_errno(errno.ENOENT):
        os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.close(fd)


def test_root_directory(fs):
    """`.` and `..` of the root, and what may not be done to it."""
    names = run(["ls", "-a", fs.path]).stdout.split()
    assert names == [".", ".."]
    if fs.has_server:
        with raises_errno(errno.EBUSY):
            os.rmdir(fs.path)
        os.chmod(fs.path, 0o750)
        assert stat.S_IMODE(os.stat(fs.path).st_mode) == 0o750


# -------------------------------------------------------------------------------------------------------- listing


def test_big_directory(fs):
    """2,500 entries: several pages of a listing, each name once."""
    expected = set()
    os.mkdir(fs.p("d"))
    if fs.has_server:
        for i in range(2500):
            fs.server.plant("d/file-%05d" % i, b"x")
            expected.add("file-%05d" % i)
        for i in range(10):
            fs.server.plant("d/dir-%05d/x" % i, b"x")
            expected.add("dir-%05d" % i)
        fs.forget()
    else:
        for i in range(2500):
            write_file(fs.p("d/file-%05d" % i), b"x")
            expected.add("file-%05d" % i)
    with os.scandir(fs.p("d")) as it:
        listed = [(e.name, e.is_dir(follow_symlinks=False)) for e in it]
    assert len(listed) == len(expected)
    assert {n for n, _ in listed} == expected
    assert all(is_dir == n.startswith("dir") for n, is_dir in listed)


class Dir:
    """opendir, telldir, seekdir of the C library."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = ctypes.c_void_p
    libc.opendir.argtypes = [ctypes.c_char_p]
    libc.readdir64.restype = ctypes.c_void_p
    libc.readdir64.argtypes = [ctypes.c_void_p]
    libc.telldir.restype = ctypes.c_long
    libc.telldir.argtypes = [ctypes.c_void_p]
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    libc.rewinddir.argtypes = [ctypes.c_void_p]
    libc.closedir.argtypes = [ctypes.c_void_p]

    def __init__(self, path):
        self.d = self.libc.opendir(os.fsencode(path))
        assert self.d, os.strerror(ctypes.get_errno())

    def read(self):
        ctypes.set_errno(0)
        entry = self.libc.readdir64(self.d)
        if not entry:
            assert ctypes.get_errno() == 0, os.strerror(ctypes.get_errno())
            return None
        return ctypes.string_at(entry + 19)  # struct dirent64: ino 8, off 8, reclen 2, type 1, name

    def rest(self):
        out = []
        while (name := self.read()) is not None:
            out.append(name)
        return out

    def tell(self):
        return self.libc.telldir(self.d)

    def seek(self, where):
        self.libc.seekdir(self.d, where)

    def rewind(self):
        self.libc.rewinddir(self.d)

    def close(self):
        self.libc.closedir(self.d)


def test_seekdir(fs):
    """A position taken at any entry leads back to exactly the entries after it."""
    for i in range(1200):
        write_file(fs.p("f%04d" % i), b"")
    d = Dir(fs.path)
    names, places = [], []
    while True:
        places.append(d.tell())
        name = d.read()
        if name is None:
            break
        names.append(name)
    assert len(set(places)) == len(places)
    assert sorted(names) == sorted([b".", b".."] + [b"f%04d" % i for i in range(1200)])
    for i in (0, 1, 2, 3, 17, 600, 1000, 1200, 1201, 1202):
        d.seek(places[i])
        assert d.rest() == names[i:]
    d.rewind()
    assert d.rest() == names
    d.close()


def test_listing_while_removing(fs):
    """rm -r reads a directory while it empties it: what is not removed appears exactly once."""
    for i in range(1500):
        write_file(fs.p("f%04d" % i), b"")
    fs.forget()
    d = Dir(fs.path)
    seen = []
    while (name := d.read()) is not None:
        if name in (b".", b".."):
            continue
        seen.append(name)
        if int(name[1:]) % 2:
            os.unlink(fs.b(name))
    d.close()
    assert sorted(seen) == [b"f%04d" % i for i in range(1500)]
    assert sorted(os.listdir(fs.path)) == ["f%04d" % i for i in range(0, 1500, 2)]


def test_listing_shows_new_and_open_files(fs):
    """A file that is not uploaded yet is in the listing; rewinddir shows what came since."""
    os.mkdir(fs.p("d"))
    d = Dir(fs.p("d"))
    assert sorted(d.rest()) == [b".", b".."]
    fd = os.open(fs.p("d/new"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"123")
    assert os.listdir(fs.p("d")) == ["new"]
    assert os.stat(fs.p("d/new")).st_size == 3
    d.rewind()
    assert sorted(d.rest()) == [b".", b"..", b"new"]
    os.close(fd)
    d.close()
    assert os.listdir(fs.p("d")) == ["new"]


# --------------------------------------------------------------------------------------------------------- rename


def test_rename_file(fs):
    os.mkdir(fs.p("d"))
    write_file(fs.p("a"), blob(5000))
    os.chmod(fs.p("a"), 0o640)
    os.rename(fs.p("a"), fs.p("d/b"))
    with raises_errno(errno.ENOENT):
        os.stat(fs.p("a"))
    fs.forget()
    assert os.listdir(fs.path) == ["d"] and os.listdir(fs.p("d")) == ["b"]
    assert read_file(fs.p("d/b")) == blob(5000)
    assert stat.S_IMODE(os.stat(fs.p("d/b")).st_mode) == 0o640


@pytest.mark.parametrize("cold", [False, True])
def test_rename_over_existing(fs, cold):
    write_file(fs.p("a"), b"new")
    write_file(fs.p("b"), b"old and longer")
    if cold:
        fs.forget()
    os.rename(fs.p("a"), fs.p("b"))
    assert os.listdir(fs.path) == ["b"]
    assert os.stat(fs.p("b")).st_size == 3 and read_file(fs.p("b")) == b"new"
    fs.forget()
    assert os.listdir(fs.path) == ["b"]
    assert read_file(fs.p("b")) == b"new"


def test_rename_onto_itself(fs):
    write_file(fs.p("a"), b"x")
    os.mkdir(fs.p("d"))
    os.rename(fs.p("a"), fs.p("a"))
    os.rename(fs.p("d"), fs.p("d"))
    fs.forget()
    assert read_file(fs.p("a")) == b"x"
    assert sorted(os.listdir(fs.path)) == ["a", "d"]


def test_rename_kinds(fs):
    write_file(fs.p("f"), b"x")
    os.mkdir(fs.p("d"))
    os.mkdir(fs.p("full"))
    write_file(fs.p("full/x"), b"x")
    with raises_errno(errno.EISDIR):
        os.rename(fs.p("f"), fs.p("d"))
    with raises_errno(errno.ENOTDIR):
        os.rename(fs.p("d"), fs.p("f"))
    with raises_errno(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(fs.p("d"), fs.p("full"))
    with raises_errno(errno.EINVAL):
        os.rename(fs.p("d"), fs.p("d/below"))
    with raises_errno(errno.ENOENT):
        os.rename(fs.p("none"), fs.p("x"))
    with raises_errno(errno.ENOENT):
        os.rename(fs.p("f"), fs.p("none/x"))
    os.rename(fs.p("full"), fs.p("d"))
    fs.forget()
    assert sorted(os.listdir(fs.path)) == ["d", "f"]
    assert os.listdir(fs.p("d")) == ["x"]


def test_rename_noreplace(fs):
    write_file(fs.p("a"), b"a")
    write_file(fs.p("b"), b"b")
    os.mkdir(fs.p("d"))
    with raises_errno(errno.EEXIST):
        renameat2(fs.p("a"), fs.p("b"), RENAME_NOREPLACE)
    with raises_errno(errno.EEXIST):
        renameat2(fs.p("a"), fs.p("d"), RENAME_NOREPLACE)
    fs.forget()
    with raises_errno(errno.EEXIST):
        renameat2(fs.p("a"), fs.p("b"), RENAME_NOREPLACE)
    renameat2(fs.p("a"), fs.p("c"), RENAME_NOREPLACE)
    fs.forget()
    assert sorted(os.listdir(fs.path)) == ["b", "c", "d"]
    assert read_file(fs.p("b")) == b"b" and read_file(fs.p("c")) == b"a"


@pytest.mark.bucket
def test_rename_flags_refused(fs):
    write_file(fs.p("a"), b"a")
    write_file(fs.p("b"), b"b")
    for flags in RENAME_EXCHANGE, RENAME_WHITEOUT:
        with raises_errno(errno.EINVAL):
            renameat2(fs.p("a"), fs.p("b"), flags)
    assert read_file(fs.p("a")) == b"a" and read_file(fs.p("b")) == b"b"


@pytest.mark.parametrize("cold", [False, True])
def test_rename_directory(fs, cold):
    os.makedirs(fs.p("old/sub/deep"))
    os.mkdir(fs.p("old/empty"))
    for name in "old/a", "old/sub/b", "old/sub/deep/c", "oldish":
        write_file(fs.p(name), name.encode())
    os.symlink("../a", fs.p("old/sub/link"))
    os.chmod(fs.p("old/a"), 0o600)
    os.chmod(fs.p("old/sub"), 0o700)
    if cold:
        fs.forget()
    os.rename(fs.p("old"), fs.p("new"))

    def check():
        assert sorted(os.listdir(fs.path)) == ["new", "oldish"]
        assert sorted(os.listdir(fs.p("new"))) == ["a", "empty", "sub"]
        assert sorted(os.listdir(fs.p("new/sub"))) == ["b", "deep", "link"]
        assert os.listdir(fs.p("new/empty")) == []
        assert read_file(fs.p("new/sub/deep/c")) == b"old/sub/deep/c"
        assert read_file(fs.p("new/sub/link")) == b"old/a"
        assert stat.S_IMODE(os.stat(fs.p("new/a")).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(fs.p("new/sub")).st_mode) == 0o700
        with raises_errno(errno.ENOENT):
            os.stat(fs.p("old/a"))
        with raises_errno(errno.ENOENT):
            os.stat(fs.p("old"))

    check()
    fs.forget()
    check()
    if fs.has_server:
        assert not [k for k in fs.server.objects() if k.startswith("old/")]


def test_rename_directory_over_empty(fs):
    os.mkdir(fs.p("a"))
    write_file(fs.p("a/f"), b"x")
    os.mkdir(fs.p("b"))
    os.rename(fs.p("a"), fs.p("b"))
    fs.forget()
    assert os.listdir(fs.path) == ["b"] and os.listdir(fs.p("b")) == ["f"]


def test_rename_directory_with_open_files(fs):
    """A dirty and a clean handle below a renamed directory go on; the dirty one lands under the new name."""
    os.mkdir(fs.p("old"))
    write_file(fs.p("old/clean"), blob(100000))
    fs.forget()
    clean = os.open(fs.p("old/clean"), os.O_RDONLY)
    dirty = os.open(fs.p("old/dirty"), os.O_RDWR | os.O_CREAT)
    os.write(dirty, b"before-")
    os.rename(fs.p("old"), fs.p("new"))
    assert os.pread(clean, 100000, 0) == blob(100000)
    os.write(dirty, b"after")
    os.close(dirty)
    os.close(clean)
    assert read_file(fs.p("new/dirty")) == b"before-after"
    fs.forget()
    assert os.listdir(fs.path) == ["new"]
    assert sorted(os.listdir(fs.p("new"))) == ["clean", "dirty"]
    assert read_file(fs.p("new/dirty")) == b"before-after"


def test_rename_directory_of_many(fs):
    """More objects than one page of a listing or one batch delete holds."""
    os.mkdir(fs.p("old"))
    n = 1300
    if fs.has_server:
        for i in range(n):
            fs.server.plant("old/f%04d" % i, b"%d" % i)
        fs.forget()
    else:
        for i in range(n):
            write_file(fs.p("old/f%04d" % i), b"%d" % i)
    os.rename(fs.p("old"), fs.p("new"))
    assert os.listdir(fs.path) == ["new"]
    assert sorted(os.listdir(fs.p("new"))) == ["f%04d" % i for i in range(n)]
    fs.forget()
    assert sorted(os.listdir(fs.p("new"))) == ["f%04d" % i for i in range(n)]
    assert all(read_file(fs.p("new/f%04d" % i)) == b"%d" % i for i in range(0, n, 100))
    if fs.has_server:
        assert set(fs.server.objects()) == {"new/"} | {"new/f%04d" % i for i in range(n)}
        assert all(fs.server.object("new/f%04d" % i) == b"%d" % i for i in range(0, n, 100))


def test_swap_by_three_renames(fs):
    write_file(fs.p("a"), b"A")
    write_file(fs.p("b"), b"B")
    for _ in range(3):
        os.rename(fs.p("a"), fs.p("t"))
        os.rename(fs.p("b"), fs.p("a"))
        os.rename(fs.p("t"), fs.p("b"))
    assert read_file(fs.p("a")) == b"B" and read_file(fs.p("b")) == b"A"
    fs.forget()
    assert read_file(fs.p("a")) == b"B" and read_file(fs.p("b")) == b"A"


# -------------------------------------------------------------------------------------------------------- symlinks


@pytest.mark.parametrize(
    "target",
    ["f", "./f", "../x/../f", "/etc/passwd", "d/sub", "nowhere", "/nowhere/at/all", "..", ".", "x" * 4000, "a b\n%é"],
)
def test_symlink(fs, target):
    os.symlink(target, fs.p("l"))
    for _ in range(2):
        st = os.lstat(fs.p("l"))
        assert stat.S_ISLNK(st.st_mode)
        assert st.st_size == len(os.fsencode(target))
        assert os.readlink(fs.p("l")) == target
        assert os.listdir(fs.path) == ["l"]
        with os.scandir(fs.path) as it:
            assert next(it).is_symlink()
        fs.forget()
    os.unlink(fs.p("l"))
    assert os.listdir(fs.path) == []


def test_symlink_follow(fs):
    os.mkdir(fs.p("d"))
    write_file(fs.p("d/f"), b"content")
    os.symlink("d", fs.p("ld"))
    os.symlink("d/f", fs.p("lf"))
    os.symlink("lf", fs.p("llf"))
    os.symlink("loop", fs.p("loop"))
    os.symlink("none", fs.p("dangling"))
    for _ in range(2):
        assert read_file(fs.p("lf")) == b"content"
        assert read_file(fs.p("llf")) == b"content"
        assert read_file(fs.p("ld/f")) == b"content"
        with raises_errno(errno.ELOOP):
            os.stat(fs.p("loop"))
        with raises_errno(errno.ENOENT):
            os.stat(fs.p("dangling"))
        assert os.path.lexists(fs.p("dangling"))
        with raises_errno(errno.ELOOP):
            os.open(fs.p("lf"), os.O_RDONLY | os.O_NOFOLLOW)
        fs.forget()
    write_file(fs.p("dangling"), b"made through the link")
    assert read_file(fs.p("none")) == b"made through the link"
    write_file(fs.p("lf"), b"changed")
    assert read_file(fs.p("d/f")) == b"changed"


def test_symlink_errors(fs):
    write_file(fs.p("f"), b"x")
    with raises_errno(errno.EEXIST):
        os.symlink("x", fs.p("f"))
    with raises_errno(errno.ENOENT):
        os.symlink("x", fs.p("none/l"))
    with raises_errno(errno.EINVAL):
        os.readlink(fs.p("f"))
    os.symlink("f", fs.p("l"))
    with raises_errno(errno.EEXIST):
        os.symlink("f", fs.p("l"))
    with raises_errno(errno.ENOTDIR):
        os.rmdir(fs.p("l"))


def test_symlink_rename(fs):
    os.symlink("target", fs.p("a"))
    write_file(fs.p("b"), b"x")
    os.rename(fs.p("a"), fs.p("b"))
    fs.forget()
    assert os.listdir(fs.path) == ["b"]
    assert os.readlink(fs.p("b")) == "target"


# ------------------------------------------------------------------------------------------ what a bucket cannot do


@pytest.mark.bucket
def test_no_hard_links(fs):
    write_file(fs.p("a"), b"x")
    with raises_errno(errno.EPERM):
        os.link(fs.p("a"), fs.p("b"))
    assert os.listdir(fs.path) == ["a"]


@pytest.mark.bucket
@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_no_special_files(fs, kind):
    with raises_errno(errno.EPERM):
        os.mknod(fs.p("n"), kind | 0o600, os.makedev(1, 3))
    assert os.listdir(fs.path) == []


def test_mknod_regular(fs):
    """mknod(2) of a regular file is a create."""
    os.mknod(fs.p("f"), stat.S_IFREG | 0o640)
    fs.forget()
    st = os.stat(fs.p("f"))
    assert stat.S_ISREG(st.st_mode) and st.st_size == 0 and stat.S_IMODE(st.st_mode) == 0o640 & ~_umask()


def _umask():
    old = os.umask(0)
    os.umask(old)
    return old
