"""Buckets that others wrote: ossfs's attributes and symlinks, markers, keys that are no path; and prefixes."""

import os
import stat

import pytest

from harness import blob, raises_errno, read_file, run, write_file

pytestmark = pytest.mark.sanitizer


def ossfs(mode, uid=1000, gid=1001, mtime=1500000000):
    return {
        "x-oss-meta-mode": str(mode),
        "x-oss-meta-uid": str(uid),
        "x-oss-meta-gid": str(gid),
        "x-oss-meta-mtime": str(mtime),
    }


# --------------------------------------------------------------------------------------------- ossfs's forms


def test_ossfs_file(server, mount):
    server.plant("f", b"data", headers=ossfs(0o100640))
    st = os.stat(mount().p("f"))
    assert (oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns) == (oct(0o100640), 1000, 1001, 1500000000 * 10**9)


def test_ossfs_mtime_with_fraction(server, mount):
    """Newer versions write seconds with nine decimals."""
    server.plant("f", b"data", headers={**ossfs(0o100640), "x-oss-meta-mtime": "1500000000.123456789"})
    assert os.stat(mount().p("f")).st_mtime_ns // 10**9 == 1500000000


def test_ossfs_directory(server, mount):
    server.plant("d/", b"", headers={**ossfs(0o40750), "Content-Type": "application/x-directory"})
    m = mount()
    st = os.stat(m.p("d"))
    assert (oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns) == (oct(0o40750), 1000, 1001, 1500000000 * 10**9)
    assert os.listdir(m.p("d")) == []


@pytest.mark.parametrize("target", ["d/target", "../up", "/abs/olute", "näme with space"])
def test_ossfs_symlink(server, mount, target):
    """An object with the mode of a symlink whose body is the target; its size in a listing is the target's length."""
    server.plant("l", target.encode(), headers=ossfs(0o120777))
    m = mount()
    st = os.lstat(m.p("l"))
    assert stat.S_ISLNK(st.st_mode) and st.st_size == len(target.encode())
    assert os.readlink(m.p("l")) == target
    assert "-> " + target in run(["ls", "-l", m.path], env=dict(os.environ, LC_ALL="C.UTF-8")).stdout


def test_what_we_write_is_what_ossfs_reads(server, mount):
    m = mount()
    write_file(m.p("f"), b"x")
    os.chmod(m.p("f"), 0o604)
    os.utime(m.p("f"), ns=(0, 1500000001 * 10**9))
    os.mkdir(m.p("d"))
    os.chmod(m.p("d"), 0o711)
    os.symlink("the/target", m.p("l"))
    if os.geteuid() == 0:
        os.chown(m.p("f"), 12, 34)
    m.unmount()
    f, d, l = server.headers("f"), server.headers("d/"), server.headers("l")
    assert f["x-oss-meta-mode"] == str(0o100604)
    assert f["x-oss-meta-mtime"].split(".")[0] == "1500000001"
    if os.geteuid() == 0:
        assert (f["x-oss-meta-uid"], f["x-oss-meta-gid"]) == ("12", "34")
    assert d["x-oss-meta-mode"] == str(0o40711) and server.objects()["d/"]["size"] == 0
    assert l["x-oss-meta-mode"] == str(0o120777) and server.object("l") == b"the/target"


def test_foreign_headers_are_carried_over(server, mount):
    """chmod, rename and overwrite keep what is not ours: content headers, other metadata, storage class, ACL."""
    foreign = {
        "Content-Type": "text/html",
        "Cache-Control": "max-age=60",
        "Content-Disposition": "inline",
        "Content-Encoding": "identity",
        "Content-Language": "de",
        "Expires": "Wed, 22 Feb 2034 08:32:21 GMT",
        "x-oss-meta-author": "somebody",
        "x-oss-storage-class": "IA",
        "x-oss-object-acl": "public-read",
    }
    server.plant("f", b"<p>x</p>", headers=foreign)
    m = mount()

    def check(key):
        found = server.headers(key)
        for name, value in foreign.items():
            if name != "x-oss-object-acl":
                assert found.get(name.lower()) == value, (key, name, found)
        assert server.objects()[key]["acl"] == "public-read"

    os.chmod(m.p("f"), 0o600)
    fd = os.open(m.p("f"), os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    check("f")
    os.rename(m.p("f"), m.p("g"))
    check("g")
    write_file(m.p("g"), b"<p>y</p>")
    check("g")
    m.forget()
    write_file(m.p("g"), b"<p>z</p>", "r+b")
    check("g")
    assert server.object("g") == b"<p>z</p>"


def test_objects_without_attributes(server, mount):
    """Uploaded by any tool: a readable file of the mounting user, its time the object's."""
    server.plant("f", blob(100))
    st = os.stat(mount().p("f"))
    assert stat.S_ISREG(st.st_mode) and st.st_mode & 0o400 and st.st_size == 100
    assert st.st_uid == os.geteuid()
    assert st.st_mtime == server.objects()["f"]["last_modified"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-oss-meta-mode": "-1"},
        {"x-oss-meta-mode": "99999999999999999999"},
        {"x-oss-meta-mode": "rwxr-xr-x"},
        {"x-oss-meta-mode": "420"},
        {"x-oss-meta-mode": "24576"},
        {"x-oss-meta-mode": "4096"},
        {"x-oss-meta-mode": "16877"},
        {"x-oss-meta-uid": "nobody", "x-oss-meta-gid": "-5"},
        {"x-oss-meta-mtime": "99999999999999999999999"},
        {"x-oss-meta-mtime": "yesterday"},
        {"x-oss-meta-mtime": ""},
    ],
)
def test_attributes_that_make_no_sense(server, mount, headers):
    """A regular file all the same (not a device, a fifo, a directory), with its bytes."""
    server.plant("f", b"data", headers=headers)
    m = mount()
    st = os.lstat(m.p("f"))
    assert stat.S_ISREG(st.st_mode), oct(st.st_mode)
    assert read_file(m.p("f")) == b"data"
    assert os.listdir(m.path) == ["f"]


# ------------------------------------------------------------------------------------------------ OSS symlinks


@pytest.mark.parametrize(
    "key,target,shown",
    [
        ("l", "target", "target"),
        ("d/l", "target", "../target"),
        ("d/l", "d/target", "target"),
        ("a/b/l", "c/d/target", "../../c/d/target"),
        ("l", "nowhere/at/all", "nowhere/at/all"),
    ],
)
def test_oss_symlink(server, mount, key, target, shown):
    """An OSS Symlink object names another key: shown relative to where it is; a dangling one still exists."""
    server.plant("target", b"T")
    server.plant("d/target", b"DT")
    server.plant("c/d/target", b"CDT")
    server.plant(key, target=target)
    m = mount()
    st = os.lstat(m.p(key))
    assert stat.S_ISLNK(st.st_mode)
    assert os.readlink(m.p(key)) == shown
    assert st.st_size == len(shown)
    assert os.path.basename(key) in os.listdir(m.p(os.path.dirname(key)))
    if target.startswith("nowhere"):
        assert not os.path.exists(m.p(key))
    else:
        assert read_file(m.p(key)) == server.object(target)
    os.unlink(m.p(key))
    assert key not in server.objects()


def test_oss_symlink_in_prefix_mount(server, mount_factory):
    server.plant("pre/fix/target", b"T")
    server.plant("pre/fix/d/l", target="pre/fix/target")
    server.plant("pre/fix/d/out", target="elsewhere/target")
    m = mount_factory(server, bucket=server.bucket + ":/pre/fix")
    assert os.readlink(m.p("d/l")) == "../target"
    assert read_file(m.p("d/l")) == b"T"
    assert stat.S_ISLNK(os.lstat(m.p("d/out")).st_mode)  # it leads out of the mount: shown, and dangling
    assert not os.path.exists(m.p("d/out"))


# ------------------------------------------------------------------------------------------------- odd buckets


def test_prefixes_without_markers(server, mount):
    """A directory is there because something is below it, and stays when its last file is removed through the mount."""
    server.plant("a/b/c/f", b"x")
    server.plant("a/g", b"y")
    m = mount()
    assert os.listdir(m.path) == ["a"]
    assert sorted(os.listdir(m.p("a"))) == ["b", "g"]
    assert stat.S_ISDIR(os.stat(m.p("a/b")).st_mode)
    assert read_file(m.p("a/b/c/f")) == b"x"
    os.unlink(m.p("a/b/c/f"))
    assert os.listdir(m.p("a/b/c")) == []
    os.unlink(m.p("a/g"))
    assert os.listdir(m.path) == ["a"] and os.listdir(m.p("a")) == ["b"]
    m.forget()
    assert os.listdir(m.p("a/b/c")) == []
    run(["rm", "-r", m.p("a")])
    assert server.objects() == {}


def test_prefix_without_marker_takes_attributes(server, mount):
    server.plant("d/f", b"x")
    m = mount()
    os.chmod(m.p("d"), 0o711)
    m.forget()
    assert stat.S_IMODE(os.stat(m.p("d")).st_mode) == 0o711
    assert os.listdir(m.p("d")) == ["f"]


def test_marker_with_content(server, mount):
    """Somebody stored bytes in a `dir/` object: a directory."""
    server.plant("d/", b"bytes nobody can reach")
    server.plant("d/f", b"x")
    m = mount()
    assert stat.S_ISDIR(os.stat(m.p("d")).st_mode)
    assert os.listdir(m.p("d")) == ["f"]


def test_file_and_directory_of_one_name(server, mount):
    """`d` beside `d/...`: the directory is shown, once, and the object `d` is not touched."""
    server.plant("d", b"the file")
    server.plant("d/f", b"x")
    server.plant("e", b"the other")
    server.plant("e/", b"")
    m = mount()
    assert sorted(os.listdir(m.path)) == ["d", "e"]
    for name in "d", "e":
        assert stat.S_ISDIR(os.stat(m.p(name)).st_mode)
    assert read_file(m.p("d/f")) == b"x"
    assert server.object("d") == b"the file" and server.object("e") == b"the other"


def test_neighbours_in_sort_order(server, mount):
    """`a-b`, `a.txt` and `a0` sort around `a/`: none hides another."""
    for key in "a-b", "a.txt", "a/x", "a0", "a/-", "a!/y":
        server.plant(key, key.encode())
    m = mount()
    assert sorted(os.listdir(m.path)) == ["a", "a!", "a-b", "a.txt", "a0"]
    for key in "a-b", "a.txt", "a/x", "a0", "a/-", "a!/y":
        assert read_file(m.p(key)) == key.encode()


def test_keys_that_are_no_path(server, mount):
    """Not shown, and they harm nobody: the rest of their directory works."""
    odd = ["a//b", "a/./c", "a/../d", "..", ".", "../up", "./here", "a/..", "x//", "//y", "a/" + "n" * 256]
    for key in odd:
        server.plant(key, b"odd")
    for key in "a/good", "good", "x/good":
        server.plant(key, b"good")
    m = mount()
    assert sorted(os.listdir(m.path)) == ["a", "good", "x"]
    assert os.listdir(m.p("a")) == ["good"]
    assert os.listdir(m.p("x")) == ["good"]
    for path in "good", "a/good", "x/good":
        assert read_file(m.p(path)) == b"good"
    assert run(["find", m.path, "-type", "f"]).stdout.count("\n") == 3
    for key in odd:
        assert server.object(key) == b"odd"


def test_leading_slash(server, mount):
    server.plant("/lead", b"x")
    server.plant("good", b"good")
    m = mount()
    assert os.listdir(m.path) == ["good"]
    assert not os.path.exists(m.p("lead"))


def test_directory_of_odd_keys_is_not_removed(server, mount):
    """rmdir and rename of a directory that looks empty but holds keys that are not shown lose nothing."""
    server.plant("d/", b"")
    server.plant("d//hidden", b"hidden")
    m = mount()
    assert os.listdir(m.p("d")) == []
    with raises_errno(39):  # ENOTEMPTY
        os.rmdir(m.p("d"))
    assert server.object("d//hidden") == b"hidden"


@pytest.mark.parametrize("name", ["new\nline", "tab\there", "\x01\x02", "\x7f", "\u0085", "\ufffd", "]]>", "&amp;"])
def test_control_characters(server, mount, name):
    server.plant("d/" + name, b"odd")
    server.plant("d/good", b"good")
    m = mount()
    assert sorted(os.listdir(m.p("d"))) == sorted([name, "good"])
    assert read_file(m.p("d", name)) == b"odd"
    os.rename(m.p("d", name), m.p("d/plain"))
    assert server.object("d/plain") == b"odd"
    os.rename(m.p("d/plain"), m.p("d", name))
    os.unlink(m.p("d", name))
    assert set(server.objects()) - {"d/"} == {"d/good"}


# -------------------------------------------------------------------------------------------------- prefix mounts


@pytest.mark.parametrize("spec", [":/pre/fix", ":pre/fix", ":/pre/fix/"])
def test_prefix_mount(server, mount_factory, spec):
    server.plant("pre/fix/f", b"inside")
    server.plant("pre/fixed", b"beside")
    server.plant("pre/other", b"outside")
    m = mount_factory(server, bucket=server.bucket + spec)
    assert os.listdir(m.path) == ["f"]
    assert read_file(m.p("f")) == b"inside"
    os.mkdir(m.p("d"))
    write_file(m.p("d/g"), b"new")
    os.symlink("d/g", m.p("l"))
    os.rename(m.p("f"), m.p("d/f"))
    m.forget()
    assert sorted(os.listdir(m.path)) == ["d", "l"]
    assert sorted(os.listdir(m.p("d"))) == ["f", "g"]
    assert read_file(m.p("l")) == b"new"
    keys = set(server.objects()) - {"pre/fix/"}
    assert keys == {"pre/fix/d/", "pre/fix/d/f", "pre/fix/d/g", "pre/fix/l", "pre/fixed", "pre/other"}


def test_two_prefixes_at_once(server, mount_factory):
    """Two parts of one bucket mounted beside each other do not see each other."""
    server.plant("one/", b"")
    server.plant("two/", b"")
    a = mount_factory(server, bucket=server.bucket + ":/one")
    b = mount_factory(server, bucket=server.bucket + ":/two")
    write_file(a.p("f"), b"in one")
    write_file(b.p("f"), b"in two")
    assert read_file(a.p("f")) == b"in one" and read_file(b.p("f")) == b"in two"
    assert {k for k in server.objects() if not k.endswith("/")} == {"one/f", "two/f"}
