"""Attributes that are known without asking: across mounts, after a crash, and never wrongly."""

import os
import stat
import time

import pytest

from harness import blob, read_file, run, wait_until, write_file

FINAL = 2.1  # seconds after which Last-Modified tells every version from the next


def heads(server):
    return server.counters().get("HeadObject", 0)


def look(path):
    st = os.lstat(path)
    return stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns, st.st_size


# -------------------------------------------------------------------------------------------- across mounts


def tree(m):
    """Things of every kind, written through the mount; returns {path: what it looks like}."""
    os.makedirs(m.p("d/sub"))
    write_file(m.p("d/f"), blob(1000))
    os.chmod(m.p("d/f"), 0o640)
    os.utime(m.p("d/f"), ns=(1, 1234567890123456789))
    write_file(m.p("d/sub/empty"), b"")
    os.symlink("../f", m.p("d/sub/l"))
    os.setxattr(m.p("d/f"), "user.color", b"blue")
    os.chmod(m.p("d/sub"), 0o750)
    os.utime(m.p("d/sub"), ns=(1, 1000000000000000000))
    names = ["d", "d/f", "d/sub", "d/sub/empty", "d/sub/l"]
    return {n: look(m.p(n)) for n in names if n != "d"}


def check_tree(m, seen):
    for name, wanted in seen.items():
        assert look(m.p(name)) == wanted, name
    assert os.readlink(m.p("d/sub/l")) == "../f"
    assert os.getxattr(m.p("d/f"), "user.color") == b"blue"


def test_after_a_remount(server, mount):
    m = mount()
    seen = tree(m)
    m.remount()
    server.reset()
    check_tree(m, seen)
    run(["ls", "-lR", m.path])
    assert heads(server) == 0, server.counters()
    assert read_file(m.p("d/f")) == blob(1000)
    m.forget()  # and the bucket says the same
    check_tree(m, seen)


def test_after_a_crash(server, mount):
    """kill -9: what was known is known, and right."""
    m = mount()
    seen = tree(m)
    write_file(m.p("g"), b"old")
    wait_until(lambda: server.headers("d/f").get("x-oss-meta-mode") == str(0o100640), 10, "the attributes are sent")
    wait_until(lambda: server.headers("d/sub/").get("x-oss-meta-mtime") == "1000000000", 10, "the directory's too")
    time.sleep(1.5)  # for what is answered to be on the disk
    os.chmod(m.p("g"), 0o600)
    m.kill()
    m.start()
    server.reset()
    check_tree(m, seen)
    run(["ls", "-lR", m.path])
    assert heads(server) <= 1, server.counters()  # of `g`, whose change may not have been answered
    told = lambda: int(server.headers("g")["x-oss-meta-mode"]) & 0o7777
    wait_until(lambda: stat.S_IMODE(os.stat(m.p("g")).st_mode) == told(), 20, "the mode of g is the bucket's")


def test_deleted_store(server, mount):
    m = mount()
    seen = tree(m)
    m.unmount()
    for top, _, names in os.walk(m.cache):
        for name in names:
            if name.startswith("attributes"):
                os.unlink(os.path.join(top, name))
    m.start()
    check_tree(m, seen)


def test_other_defaults(server, mount):
    """What an object does not carry comes from the options of this mount, not of the last one."""
    server.plant("f", b"x")
    time.sleep(FINAL)
    m = mount(umask="022")
    assert look(m.p("f"))[1] == 0o644
    m.remount(umask="077")
    assert look(m.p("f"))[1] == 0o600


def test_changed_by_others_between_mounts(server, mount):
    server.plant("d/f", b"x", headers={"x-oss-meta-mode": str(0o100600)})
    server.plant("d/g", b"x")
    time.sleep(FINAL)
    m = mount()
    run(["ls", "-l", m.p("d")])
    m.unmount()
    server.plant("d/f", b"x", headers={"x-oss-meta-mode": str(0o100644)})
    m.start()
    server.reset()
    assert look(m.p("d/f"))[1] == 0o644
    assert look(m.p("d/g"))[1] == 0o644
    run(["ls", "-l", m.p("d")])
    assert heads(server) <= 2  # of the one that was changed, and of the directory's absent marker


def test_changed_by_others_before_their_directory_is_renamed(server, mount):
    """Attributes that another host has changed since they were read: the copies carry them, and are not taken for ours."""
    server.plant("d/f", b"x", headers={"x-oss-meta-mode": str(0o100644)})
    time.sleep(FINAL)
    m = mount()
    assert look(m.p("d/f"))[1] == 0o644
    server.plant("d/f", b"x", headers={"x-oss-meta-mode": str(0o100600)})
    time.sleep(FINAL)
    os.rename(m.p("d"), m.p("e"))
    m.remount()
    assert look(m.p("e/f"))[1] == 0o600


# ------------------------------------------------------------------------------------------ within one second


def change_and_send(m, name, **what):
    fd = os.open(m.p(name), os.O_RDWR)
    try:
        if "mode" in what:
            os.fchmod(fd, what["mode"])
        if "mtime" in what:
            os.utime(fd, ns=(1, what["mtime"] * 10**9))
        os.fsync(fd)
    finally:
        os.close(fd)


def test_two_mounts_within_one_second(server, mount_factory):
    """Two mounts change attributes of one object within a second of the server: both end with what the bucket holds."""
    a = mount_factory(server, stat_cache_expire=1)
    b = mount_factory(server, stat_cache_expire=1)
    for m in (a, b):
        m.allow("CopyObject f.*PreconditionFailed")  # how the second notices the first
    for i in range(3):
        write_file(a.p("f%d" % i), b"content")
    time.sleep(FINAL)
    for i in range(3):
        assert look(a.p("f%d" % i)) == look(b.p("f%d" % i))
    # Each side first, and right after the start of a second, so that both fall into it.
    time.sleep(1 - time.time() % 1)
    for i in range(3):
        one, two = (a, b) if i % 2 else (b, a)
        change_and_send(one, "f%d" % i, mode=0o600)
        change_and_send(two, "f%d" % i, mtime=1500000000 + i)
    for i in range(3):
        name = "f%d" % i

        def same():
            h = server.headers(name)
            wanted = int(h["x-oss-meta-mode"]) & 0o7777, int(h["x-oss-meta-mtime"])
            return all((look(m.p(name))[1], look(m.p(name))[4] // 10**9) == wanted for m in (a, b)) and wanted

        time.sleep(FINAL if i == 0 else 0)
        assert wait_until(same, 15, "both say what the bucket says") == (0o600, 1500000000 + i)
    for m in (a, b):
        m.remount()
        for i in range(3):
            assert look(m.p("f%d" % i))[1] == 0o600
            assert look(m.p("f%d" % i))[4] == (1500000000 + i) * 10**9


def test_young_object_is_looked_at_again(server, mount):
    """Read in the second of its change, then changed once more in that second by a tool that knows no rules."""
    m = mount(stat_cache_expire=1)
    for attempt in range(5):
        name = "f%d" % attempt
        time.sleep(1 - time.time() % 1)
        server.plant(name, b"x", headers={"x-oss-meta-mode": str(0o100600)})
        wait_until(lambda: os.path.lexists(m.p(name)), 5, "the new name")
        assert look(m.p(name))[1] == 0o600
        server.plant(name, b"x", headers={"x-oss-meta-mode": str(0o100640)})
        os.listdir(m.path)
        wait_until(lambda: look(m.p(name))[1] == 0o640, 10, "the second change")
        m.remount()
        assert look(m.p(name))[1] == 0o640
        if attempt >= 1:
            break


# ------------------------------------------------------------------------------------------ attributes=listing


def test_listing_is_all(server, mount):
    """attributes=listing: no HEAD; and what a change needs to know of an object is asked for then."""
    for i in range(50):
        server.plant("d/f%02d" % i, b"x" * i, headers={"content-type": "text/x-special", "cache-control": "no-store"})
    m = mount(attributes="listing")
    server.reset()
    run(["ls", "-lR", m.path])
    assert os.stat(m.p("d/f10")).st_size == 10
    assert set(server.counters()) <= {"ListObjectsV2"}, server.counters()
    server.reset()
    assert read_file(m.p("d/f10")) == b"x" * 10
    assert set(server.counters()) == {"GetObject"}, server.counters()
    os.chmod(m.p("d/f10"), 0o600)
    write_file(m.p("d/f11"), b"new")
    os.rename(m.p("d/f12"), m.p("d/renamed"))
    fd = os.open(m.p("d/f13"), os.O_RDONLY)
    os.fchmod(fd, 0o600)
    os.fsync(fd)
    os.close(fd)
    m.unmount()
    for key in "d/f10", "d/f11", "d/renamed", "d/f13":
        h = server.headers(key)
        assert h["content-type"] == "text/x-special" and h["cache-control"] == "no-store", (key, h)
    assert server.headers("d/f10")["x-oss-meta-mode"] == str(0o100600)


@pytest.mark.parametrize("directory", [False, True])
def test_listing_keeps_headers(server, mount, directory):
    """attributes=listing: a rename, of the file or of its directory, carries over what no listing has shown."""
    headers = {"Cache-Control": "max-age=7", "Content-Type": "text/x-own", "x-oss-meta-own": "kept"}
    server.plant("d/f", b"bytes", headers=headers)
    m = mount(attributes="listing")
    assert os.listdir(m.p("d")) == ["f"]
    os.stat(m.p("d/f"))
    if directory:
        os.rename(m.p("d"), m.p("e"))
    else:
        os.rename(m.p("d/f"), m.p("d/g"))
    found = server.headers("e/f" if directory else "d/g")
    assert {k: found.get(k.lower()) for k in headers} == headers


def test_listing_or_full(server, mount_factory):
    m = mount_factory(server, run=False, attributes="some")
    with pytest.raises(AssertionError, match="attributes=some: give full or listing"):
        m.start()


# ---------------------------------------------------------------------------------------------- plain listings


def test_plain_ls_asks_for_nothing(server, mount):
    for i in range(1200):
        server.plant("d/f%04d" % i, b"x")
    m = mount()
    os.stat(m.p("d"))
    server.reset()
    for _ in range(3):
        assert len(os.listdir(m.p("d"))) == 1200
    assert sum(1 for _ in os.scandir(m.p("d"))) == 1200
    assert server.counters() == {"ListObjectsV2": 2}
