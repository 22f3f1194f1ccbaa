"""The request budget: what each operation costs, counted at the server, with default options."""

import os
import subprocess
import time

import pytest

from harness import blob, python, read_file, run, spawned, wait_until, write_file

pytestmark = pytest.mark.sanitizer


@pytest.fixture
def m(server, mount):
    """A mount whose root is known, and a server that counts from now on."""
    m = mount()
    os.listdir(m.path)
    server.reset()
    return m


def test_mount(server, mount_factory):
    server.plant("a", b"x")
    server.plant("d/b", b"x")
    server.reset()
    m = mount_factory(server)
    assert server.total() <= 2, server.counters()
    # What was listed for the mount is not asked for again.
    server.reset()
    assert sorted(os.listdir(m.path)) == ["a", "d"]
    assert server.total() == 0, server.counters()


def test_touch(server, m):
    run(["touch", m.p("f")])
    assert server.counters() == {"PutObject": 1}
    server.check_object("f", b"")


def test_echo(server, m):
    run(["sh", "-c", "echo x > f"], cwd=m.path)
    assert server.counters() == {"PutObject": 1}
    server.check_object("f", b"x\n")


def test_program(server, m):
    """create, write, close; and with all attributes set before the close."""
    write_file(m.p("f"), b"content")
    assert server.counters() == {"PutObject": 1}
    server.reset()
    fd = os.open(m.p("g"), os.O_WRONLY | os.O_CREAT, 0o600)
    for i in range(100):
        os.write(fd, b"x" * 1000)
    os.fchmod(fd, 0o640)
    os.utime(fd, ns=(10**18, 10**18))
    os.close(fd)
    assert server.counters() == {"PutObject": 1}
    server.check_object("g", b"x" * 100000)
    time.sleep(1.5)  # nothing follows late
    assert server.counters() == {"PutObject": 1}


def test_program_with_fsync(server, m):
    """fsync sent it; the close has nothing to add."""
    fd = os.open(m.p("f"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x")
    os.fsync(fd)
    os.close(fd)
    assert server.counters() == {"PutObject": 1}


def test_touch_existing(server, m):
    """A touch of a file that is there changes its time: one copy onto itself, no data."""
    write_file(m.p("f"), blob(100000))
    server.reset()
    run(["touch", m.p("f")])
    m.unmount()
    assert server.counters() == {"CopyObject": 1}
    assert server.bytes()[0] < 10000


def test_overwrite(server, m):
    write_file(m.p("f"), b"old")
    server.reset()
    run(["sh", "-c", "echo new > f"], cwd=m.path)
    assert server.counters() == {"PutObject": 1}
    server.check_object("f", b"new\n")


def test_descriptors_shared_by_processes(server, m):
    """Closes of descriptors that were only inherited upload nothing more."""
    code = (
        "import os,sys\n"
        "fd=os.open(sys.argv[1],os.O_WRONLY|os.O_CREAT)\n"
        "os.write(fd,b'x'*1000)\n"
        "for i in range(5):\n"
        "    if os.fork()==0: os._exit(0)\n"
        "    os.wait()\n"
        "os.close(fd)\n"
    )
    python(code, m.p("f"))
    assert server.counters() == {"PutObject": 1}


def test_parts(server, mount):
    m = mount(multipart_threshold=1, multipart_size=1)
    os.listdir(m.path)
    server.reset()
    write_file(m.p("f"), blob(4 << 20))
    wanted = {"InitiateMultipartUpload": 1, "UploadPart": 4, "CompleteMultipartUpload": 1}
    assert server.counters() == wanted
    server.reset()
    fd = os.open(m.p("g"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, blob(4 << 20))
    os.fchmod(fd, 0o600)
    os.close(fd)
    assert {k: v for k, v in server.counters().items() if k != "CopyObject"} == wanted
    assert server.counters().get("CopyObject", 0) <= 1


# ------------------------------------------------------------------------- cmd > file over a good object


def test_failing_command_keeps_the_old_bytes_while_it_runs(server, m):
    """`(true; read; exit 1) > good`: nothing is published before a descriptor was written or all are closed."""
    write_file(m.p("good"), b"good bytes")
    server.reset()
    with spawned(["sh", "-c", "(true; read x; exit 1) > good"], cwd=m.path, stdin=subprocess.PIPE) as p:
        wait_until(lambda: os.path.getsize(m.p("good")) == 0, 20, "the shell has opened it")
        end = time.monotonic() + 1.6
        while time.monotonic() < end:
            assert server.object("good") == b"good bytes"
            time.sleep(0.05)
        assert server.counters().get("PutObject", 0) == 0
        p.stdin.close()
        assert p.wait(20) == 1
    # Its last descriptor is closed: the file is empty, as on any file system.
    wait_until(lambda: server.object("good") == b"", 10, "the empty file is published")
    assert read_file(m.p("good")) == b""
    assert server.counters() == {"PutObject": 1}


def test_command_over_existing(server, m):
    """`cmd > file`: the old bytes until the new ones are complete, in one PutObject."""
    write_file(m.p("good"), b"good bytes")
    server.reset()
    with spawned(["sh", "-c", "(sleep 0.7; echo one; sleep 0.7; echo two) > good"], cwd=m.path) as p:
        seen = set()
        while p.poll() is None:
            seen.add(server.object("good"))
            time.sleep(0.03)
        assert p.returncode == 0
    wait_until(lambda: server.object("good") == b"one\ntwo\n", 5, "the new bytes")
    assert b"" not in seen
    # `echo` is a builtin: its shell flushes once for each program it starts; never an empty or torn version.
    assert seen <= {b"good bytes", b"one\n", b"one\ntwo\n"}, seen


def test_new_file_by_redirection_appears_at_once(server, m):
    """With no old object there is nothing to protect: `touch` and an empty redirection leave an object."""
    run(["sh", "-c", ": > f"], cwd=m.path)
    wait_until(lambda: server.object("f") == b"", 5, "the empty object")
    assert server.counters() == {"PutObject": 1}


def test_killed_program_and_old_object(server, m):
    """A writer that dies has closed its files (as on any file system); what it wrote is there."""
    write_file(m.p("f"), b"old")
    code = "import os,sys,time; fd=os.open(sys.argv[1],os.O_WRONLY|os.O_TRUNC); os.write(fd,b'new'); time.sleep(60)"
    with spawned(["/usr/bin/python3", "-c", code, m.p("f")]) as p:
        wait_until(lambda: os.stat(m.p("f")).st_size == 3 and read_file(m.p("f")) == b"new", 10, "written")
        assert server.object("f") == b"old"
        p.kill()
        p.wait(10)
    wait_until(lambda: server.object("f") == b"new", 10, "the dead program's close")


# ------------------------------------------------------------------------------------------------- trees


def small_files(top, directories, files, size):
    for i in range(directories):
        os.makedirs(os.path.join(top, "d%d" % i))
        for j in range(files // directories):
            write_file(os.path.join(top, "d%d" % i, "f%d" % j), blob(size, (i, j)))
    return top


def test_cp_recursive(server, m, tmp):
    """1,000 files of 4 KiB in 10 directories: n PUTs, m + 1 markers, and lists."""
    source = small_files(os.path.join(tmp, "source"), 10, 1000, 4096)
    run(["cp", "-r", source, m.p("copy")], timeout=120)
    counters = server.counters()
    assert counters["PutObject"] == 1000 + 11, counters
    assert sum(counters.values()) <= 1035, counters
    print("cp -r of 1000 files in 10 directories:", counters)
    assert len(server.files()) == 1000


def test_cp_archive(server, m, tmp):
    """The attributes of files go with their one PUT; each directory costs at most one copy more."""
    source = small_files(os.path.join(tmp, "source"), 10, 200, 1000)
    for i in range(10):
        os.symlink("f0", os.path.join(source, "d%d" % i, "l"))
    run(["cp", "-a", source, m.p("copy")], timeout=120)
    m.unmount()
    counters = server.counters()
    assert counters["PutObject"] == 200 + 11 + 10, counters
    assert counters.get("CopyObject", 0) <= 11 + 10, counters
    assert sum(counters.values()) <= 200 + 2 * 11 + 2 * 10 + 11, counters
    print("cp -a of 200 files, 10 symlinks, 11 directories:", counters)


def test_remove_tree(server, m, tmp):
    """rm -r of what is known: one DELETE each, and a list for each directory's emptiness at most."""
    source = small_files(os.path.join(tmp, "source"), 5, 100, 100)
    run(["cp", "-r", source, m.p("copy")])
    server.reset()
    run(["rm", "-r", m.p("copy")])
    counters = server.counters()
    assert counters.get("DeleteObject", 0) + counters.get("DeleteMultipleObjects", 0) <= 106, counters
    assert sum(counters.values()) <= 106 + 2 * 6, counters
    assert server.objects() == {}


# ------------------------------------------------------------------------------------------ reads and stats


def test_stat_of_known_names(server, m):
    write_file(m.p("f"), b"x")
    os.mkdir(m.p("d"))
    with_missing = ["f", "d", "none"]
    for name in with_missing:
        os.path.exists(m.p(name))
    server.reset()
    for _ in range(10):
        assert [os.path.exists(m.p(n)) for n in with_missing] == [True, True, False]
        assert sorted(os.listdir(m.path)) == ["d", "f"]
    assert server.counters() == {}


def test_known_absent_after_listing(server, mount):
    """A complete listing answers for every name that is not in it."""
    server.plant("d/a", b"x")
    m = mount()
    os.listdir(m.p("d"))
    server.reset()
    for i in range(20):
        assert not os.path.exists(m.p("d", "none%d" % i))
    assert server.counters() == {}


def test_read_small_file(server, mount):
    """A small file just looked up is one GET; the second read is none."""
    server.plant("d/f", blob(5000))
    server.plant("d/g", blob(100))
    m = mount()
    assert os.stat(m.p("d/f")).st_size == 5000
    server.reset()
    assert read_file(m.p("d/f")) == blob(5000)
    assert server.counters() == {"GetObject": 1}
    assert read_file(m.p("d/f")) == blob(5000)
    assert server.counters() == {"GetObject": 1}


def test_kernel_reads_ahead(m):
    """Where the daemon may say so (as root), the kernel asks for 512 KiB at a time, not for 128."""
    device = os.stat(m.path).st_dev
    path = "/sys/class/bdi/%d:%d/read_ahead_kb" % (os.major(device), os.minor(device))
    with open(path, encoding="ascii") as f:
        assert int(f.read()) >= (512 if os.access(path, os.W_OK) else 1)


def test_read_own_file(server, m):
    """What was just written is still here."""
    write_file(m.p("f"), blob(300000))
    server.reset()
    assert read_file(m.p("f")) == blob(300000)
    assert server.counters() == {}


def test_cold_stat(server, mount):
    """a/b/c never seen: at most 3 requests for each component."""
    server.plant("a/b/c", b"x")
    m = mount()
    server.reset()
    assert os.stat(m.p("a/b/c")).st_size == 1
    assert server.total() <= 9, server.counters()


def test_list_large_directory(server, mount):
    """A plain listing sends a list for each 1,000 names and no HEAD."""
    for i in range(2200):
        server.plant("d/f%04d" % i, b"x")
    m = mount()
    server.reset()
    out = subprocess.run(["ls", "-f", m.p("d")], capture_output=True, timeout=60, check=True).stdout
    assert out.count(b"\n") == 2202
    counters = server.counters()
    assert counters.get("HeadObject", 0) <= 1, counters
    assert counters["ListObjectsV2"] <= 4, counters


def test_list_with_attributes(server, mount):
    """ls -l of n names never seen: the lists and at most n HEADs; known afterwards."""
    for i in range(300):
        server.plant("d/f%04d" % i, b"x" * i)
    m = mount()
    os.stat(m.p("d"))
    server.reset()
    run(["ls", "-l", m.p("d")])
    heads = [e["key"] for e in server.log("HeadObject")]
    assert sorted(heads) == sorted(set(heads)), "asked twice: %s" % {k for k in heads if heads.count(k) > 1}
    counters = server.counters()
    assert counters.get("HeadObject", 0) <= 300 and counters["ListObjectsV2"] <= 3, counters
    server.reset()
    run(["ls", "-l", m.p("d")])
    assert server.counters() == {}


# --------------------------------------------------------------------------------------- changes of names


def test_rename_file(server, m):
    """One COPY and one DELETE; the permission of an object of our own is not asked for."""
    write_file(m.p("a"), blob(1000))
    server.reset()
    os.rename(m.p("a"), m.p("b"))
    counters = server.counters()
    assert counters.pop("DeleteObject", 0) + counters.pop("DeleteMultipleObjects", 0) == 1
    assert counters == {"CopyObject": 1}


def test_rename_unsent_file(server, m):
    """Not uploaded yet: nothing is copied, and one PUT goes to the new name."""
    fd = os.open(m.p("a"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x")
    os.rename(m.p("a"), m.p("b"))
    os.close(fd)
    assert server.counters() == {"PutObject": 1}
    assert list(server.objects()) == ["b"]


def test_rename_directory(server, mount):
    """n objects: ceil(n/1000) lists, n copies, ceil(n/1000) batch deletes."""
    for i in range(120):
        server.plant("old/f%03d" % i, b"x", headers={"x-oss-meta-mode": "33188"})
    server.plant("old/", b"")
    m = mount()
    os.listdir(m.path)
    os.stat(m.p("old"))
    server.reset()
    os.rename(m.p("old"), m.p("new"))
    counters = server.counters()
    acl = counters.pop("GetObjectACL", 0)  # objects of somebody else: asked for once each
    assert acl <= 121
    assert counters.pop("CopyObject") == 121, counters
    assert counters.pop("DeleteMultipleObjects") == 1, counters
    assert sum(counters.values()) <= 3, counters


def test_mkdir_and_symlink(server, m):
    os.mkdir(m.p("d"))
    assert server.counters() == {"PutObject": 1}
    server.reset()
    os.symlink("target", m.p("l"))
    assert os.readlink(m.p("l")) == "target"
    assert os.lstat(m.p("l")).st_size == 6
    assert server.counters() == {"PutObject": 1}


def test_unlink(server, m):
    write_file(m.p("f"), b"x")
    server.reset()
    os.unlink(m.p("f"))
    assert server.counters() == {"DeleteObject": 1}


def test_attributes_of_closed_file_are_folded(server, m):
    """chmod + chown + utimens: one copy."""
    write_file(m.p("f"), b"x")
    server.reset()
    os.chmod(m.p("f"), 0o640)
    os.chown(m.p("f"), os.geteuid(), os.getegid())
    os.utime(m.p("f"), ns=(10**18, 10**18))
    m.unmount()
    assert server.counters() == {"CopyObject": 1}


def test_attributes_reach_the_bucket_by_themselves(server, m):
    write_file(m.p("f"), b"x")
    os.chmod(m.p("f"), 0o640)
    wait_until(lambda: server.headers("f").get("x-oss-meta-mode") == str(0o100640), 5, "the new mode at the server")
    assert server.counters() == {"PutObject": 1, "CopyObject": 1}


def test_acl_is_asked_for_once(server, mount):
    """The first change of an object that we did not create reads its ACL; the second does not."""
    server.plant("f", b"x", headers={"x-oss-object-acl": "public-read"})
    m = mount()
    os.stat(m.p("f"))
    server.reset()
    write_file(m.p("f"), b"changed")
    assert server.counters() == {"GetObjectACL": 1, "PutObject": 1}
    assert server.objects()["f"]["acl"] == "public-read"
    write_file(m.p("f"), b"again")
    assert server.objects()["f"]["acl"] == "public-read"


def test_unmount_of_an_idle_mount(server, m):
    m.unmount()
    assert server.counters() == {}


def test_known_file_after_its_time(server, mount):
    """What was a file is asked for as one; only when it is gone is it asked for as everything else."""
    keys = ["a/f", "b/gone", "c/dir"]
    for key in keys:
        server.plant(key, b"x")
        server.plant(os.path.dirname(key) + "/stays", b"x")
    m = mount(stat_cache_expire=1)
    assert [len(os.listdir(m.p(os.path.dirname(key)))) for key in keys] == [2, 2, 2]
    for key in keys[1:]:
        server.call("DELETE", "/object", server._key(key))
    server.plant("c/dir/x", b"x")
    for _ in range(10):
        time.sleep(1.2)
        begun = time.monotonic()
        for directory in "abc":
            os.stat(m.p(directory))
        server.reset()
        assert os.path.isfile(m.p("a/f"))
        counted = server.counters()
        if time.monotonic() - begun < 0.9:  # else the directory's own time may be over as well
            break
    assert counted == {"HeadObject": 1}
    assert not os.path.lexists(m.p("b/gone"))
    assert os.path.isdir(m.p("c/dir"))


def test_long_directory_slowly(server, mount):
    """A directory too long to be listed for a lookup, and its listing forgotten before the program is through."""
    n = 12000
    server.plant_many("d/f", n, 10)
    m = mount(stat_cache_expire=1)
    names = os.listdir(m.p("d"))
    assert len(names) == n
    time.sleep(1.2)
    server.reset()
    begun = time.monotonic()
    for name in names:
        os.stat(m.p("d/" + name))
    seconds = time.monotonic() - begun
    counted = server.counters()
    # Another listing is tried each time that the last is forgotten, ten pages of it.
    assert counted.pop("ListObjectsV2", 0) <= 10 * (seconds + 2)
    assert counted.pop("HeadObject") <= n * 1.2 and not counted
