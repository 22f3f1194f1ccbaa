"""The request budget: what each operation may cost, counted at the server, default options. Each row of the table is a
case; `make budget` prints the table, which README.md shows.

OSSMOUNT_LONG=1 runs the same rows with more files.
"""

import contextlib
import os
import subprocess
import time

import pytest

from harness import blob, read_file, run, wait_until, write_file

LONG = bool(os.environ.get("OSSMOUNT_LONG"))


class Budget:
    """What a row works with: a server, mounts of its bucket, a directory outside, and the counter."""

    def __init__(self, row, request, server, mount, tmp):
        self.row, self.request, self.server, self.mount_new, self.tmp = row, request, server, mount, tmp
        self.m = None

    def mount(self, **options):
        self.m = self.mount_new(**options)
        return self.m

    def p(self, *names):
        return self.m.p(*names)

    @contextlib.contextmanager
    def at_most(self, **limits):
        """
        The block may send so many requests of each operation, and none of any other. A limit of several operations
        together is written A_or_B.
        """
        self.server.reset()
        yield
        self.check(**limits)

    def check(self, **limits):
        counted = self.server.counters()
        self.request.node.user_properties.append(("budget", self.row + (counted,)))
        left = dict(counted)
        for name, limit in limits.items():
            ops = name.split("_or_")
            n = sum(left.pop(op, 0) for op in ops)
            assert n <= limit, "%d %s, the budget is %d: %s" % (n, name, limit, counted)
        assert not left, "not in the budget: %s of %s" % (left, counted)


ROWS = []


def row(operation, budget):
    def add(case):
        ROWS.append(pytest.param(case, (len(ROWS), operation, budget), id=case.__name__))
        return case

    return add


def files(top, directories, n, size):
    """n files in so many directories below `top`."""
    for i in range(directories):
        os.makedirs(os.path.join(top, "d%d" % i))
    for j in range(n):
        write_file(os.path.join(top, "d%d" % (j % directories), "f%05d" % j), blob(size, j))
    return top


# ---------------------------------------------------------------------------------------------- single files


@row("mount", "2: first page of the root listing, GetBucketInfo")
def mount(b):
    b.server.plant("a", b"x")
    with b.at_most(ListObjectsV2=1, GetBucketInfo=1):
        b.mount()
        assert os.listdir(b.m.path) == ["a"]


@row("`touch f`", "1 PUT")
def touch(b):
    b.mount()
    with b.at_most(PutObject=1):
        run(["touch", b.p("f")])


@row("`echo x > f`", "1 PUT")
def echo(b):
    b.mount()
    with b.at_most(PutObject=1):
        run(["sh", "-c", "echo x > f"], cwd=b.m.path)


@row("create, write, chmod, utimens, close", "1 PUT")
def create(b):
    b.mount()
    with b.at_most(PutObject=1):
        fd = os.open(b.p("f"), os.O_WRONLY | os.O_CREAT)
        os.write(fd, blob(100000))
        os.fchmod(fd, 0o600)
        os.utime(fd, ns=(10**18, 10**18))
        os.close(fd)
        time.sleep(1.2)  # nothing follows late
    b.server.check_object("f", blob(100000))


@row("create, write, close: 4 parts", "1 Initiate + 4 parts + 1 Complete")
def parts(b):
    b.mount(multipart_threshold=1, multipart_size=1)
    with b.at_most(InitiateMultipartUpload=1, UploadPart=4, CompleteMultipartUpload=1):
        write_file(b.p("f"), blob(4 << 20))
    b.server.check_object("f", blob(4 << 20))


@row("the same, chmod after the first part left", "the same + 1 COPY")
def parts_and_attributes(b):
    b.mount(multipart_threshold=1, multipart_size=1)
    with b.at_most(InitiateMultipartUpload=1, UploadPart=4, CompleteMultipartUpload=1, CopyObject=1):
        fd = os.open(b.p("f"), os.O_WRONLY | os.O_CREAT)
        for i in range(4):
            os.write(fd, blob(1 << 20, i))
        os.fchmod(fd, 0o600)
        os.close(fd)
    assert b.server.headers("f")["x-oss-meta-mode"] == str(0o100600)


@row("read of a small file just looked up", "1 GET; again: 0")
def read_small(b):
    b.server.plant("d/f", blob(5000))
    b.mount()
    os.stat(b.p("d/f"))
    with b.at_most(GetObject=1):
        assert read_file(b.p("d/f")) == blob(5000)
        assert read_file(b.p("d/f")) == blob(5000)


@row("chmod + chown + utimens of a closed file", "1 COPY")
def attributes(b):
    b.mount()
    write_file(b.p("f"), b"x")
    with b.at_most(CopyObject=1):
        os.chmod(b.p("f"), 0o640)
        os.chown(b.p("f"), os.geteuid(), os.getegid())
        os.utime(b.p("f"), ns=(10**18, 10**18))
        wait_until(lambda: b.server.headers("f")["x-oss-meta-mtime"] == "1000000000", 10, "the new time")
        b.m.unmount()


@row("overwrite of an object of somebody else", "1 GET ?acl + 1 PUT")
def foreign(b):
    b.server.plant("f", b"x", headers={"x-oss-object-acl": "public-read"})
    b.mount()
    os.stat(b.p("f"))
    with b.at_most(GetObjectACL=1, PutObject=1):
        write_file(b.p("f"), b"changed")
    assert b.server.objects()["f"]["acl"] == "public-read"


# ------------------------------------------------------------------------------------------------------ names


@row("stat of known and known-absent names", "0")
def stat_known(b):
    b.server.plant("d/f", b"x")
    b.mount()
    os.listdir(b.p("d"))
    os.stat(b.p("d/f"))
    with b.at_most():
        for i in range(20):
            assert os.path.exists(b.p("d/f")) and not os.path.exists(b.p("d/none%d" % i))


@row("cold stat of a/b/c", "9, in three round trips")
def stat_cold(b):
    b.server.plant("a/b/c", b"x")
    b.mount()
    with b.at_most(HeadObject_or_ListObjectsV2=9):
        assert os.stat(b.p("a/b/c")).st_size == 1


@row("mkdir", "1 PUT")
def mkdir(b):
    b.mount()
    with b.at_most(PutObject=1):
        os.mkdir(b.p("d"))


@row("symlink and readlink", "1 PUT")
def symlink(b):
    b.mount()
    with b.at_most(PutObject=1):
        os.symlink("target", b.p("l"))
        assert os.readlink(b.p("l")) == "target"


@row("unlink", "1 DELETE")
def unlink(b):
    b.mount()
    write_file(b.p("f"), b"x")
    with b.at_most(DeleteObject=1):
        os.unlink(b.p("f"))


@row("rename of a file", "1 COPY + 1 DELETE")
def rename(b):
    b.mount()
    write_file(b.p("a"), blob(1000))
    with b.at_most(CopyObject=1, DeleteObject_or_DeleteMultipleObjects=1):
        os.rename(b.p("a"), b.p("b"))
    assert list(b.server.objects()) == ["b"]


@row("rename of a file not uploaded yet", "0 (its PUT goes to the new name)")
def rename_unsent(b):
    b.mount()
    with b.at_most(PutObject=1):
        fd = os.open(b.p("a"), os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"x")
        os.rename(b.p("a"), b.p("b"))
        os.close(fd)
    assert list(b.server.objects()) == ["b"]


@row("append to a file that was appended to before", "1 AppendObject; it is created by one too")
def append(b):
    b.mount()
    with b.at_most(AppendObject=2):
        run(["sh", "-c", "echo x >>f; echo y >>f"], cwd=b.m.path)
    b.server.check_object("f", b"x\ny\n")


@row("`cp a b` inside the mount", "1 COPY, no data moved")
def cp(b):
    b.mount()
    write_file(b.p("a"), blob(500000))
    with b.at_most(CopyObject=1):
        run(["cp", "a", "b"], cwd=b.m.path)
    b.server.check_object("b", blob(500000))


@row("write of a temporary name, rename to its own, with `defer_temp`", "1 PUT")
def defer_temp(b):
    b.mount(defer_temp=True)
    with b.at_most(PutObject=1):
        write_file(b.p(".f.Xy12ab"), blob(5000))
        os.chmod(b.p(".f.Xy12ab"), 0o640)
        os.rename(b.p(".f.Xy12ab"), b.p("f"))
    b.server.check_object("f", blob(5000))


@row("rename of a directory of n = %d objects of ours" % (1500 if LONG else 120), "ceil(n/1000) lists (+ 1: is the target empty?) + n COPY + ceil(n/1000) batch DELETE")
def rename_directory(b):
    n = 1500 if LONG else 120
    b.mount()
    os.mkdir(b.p("old"))
    for i in range(n - 1):
        write_file(b.p("old/f%04d" % i), b"x")
    with b.at_most(ListObjectsV2=n // 1000 + 2, CopyObject=n, DeleteMultipleObjects=n // 1000 + 1):
        os.rename(b.p("old"), b.p("new"))
    assert len(b.server.objects("new/")) == n == len(b.server.objects())


@row("`ls -l` of a directory that was renamed; again after a remount", "1 list each, 0 HEAD")
def ls_renamed(b):
    b.mount()
    run(["sh", "-c", "umask 067; mkdir old; for i in `seq 20`; do echo x >old/f$i; done"], cwd=b.m.path)
    os.rename(b.p("old"), b.p("new"))
    with b.at_most(ListObjectsV2=3):
        look = lambda: run(["ls", "-ln", b.p("new")]).stdout + oct(os.stat(b.p("new")).st_mode)
        before = look()
        b.m.remount()
        b.server.reset()  # the mount itself is another row
        assert look() == before and before.count("-rw------- ") == 20 and before.endswith("710")


# ------------------------------------------------------------------------------------------------------ trees

N = 1000 if LONG else 200


@row("`cp -r` of n = %d files in m = 11 new directories" % N, "n + m PUT, a list for each directory at most")
def cp_r(b):
    b.mount()
    source = files(os.path.join(b.tmp, "source"), 10, N, 4096)
    with b.at_most(PutObject=N + 11, ListObjectsV2=11):
        run(["cp", "-r", source, b.p("copy")], timeout=120)
    assert len(b.server.files()) == N


@row("`cp -a` of n = 100 files, 10 symlinks, m = 6 directories", "n + 10 + m PUT, 1 COPY for each directory and symlink, a list for each directory at most")
def cp_a(b):
    b.mount()
    source = files(os.path.join(b.tmp, "source"), 5, 100, 1000)
    for i in range(10):
        os.symlink("f%05d" % i, os.path.join(source, "d%d" % (i % 5), "l%d" % i))
    with b.at_most(PutObject=100 + 10 + 6, CopyObject=6 + 10, ListObjectsV2=6):
        run(["cp", "-a", source, b.p("copy")], timeout=120)
        b.m.unmount()


@row("`tar x` of the same, and 2 symlinks to absolute targets", "the same + 1 PUT, 1 DELETE (its placeholder) for each of the two")
def tar_x(b):
    b.mount()
    source = files(os.path.join(b.tmp, "source"), 5, 100, 1000)
    for i in range(10):
        os.symlink("f%05d" % i, os.path.join(source, "d%d" % (i % 5), "l%d" % i))
    os.symlink("/etc/passwd", os.path.join(source, "d0", "absolute"))
    os.symlink("../d0/f00000", os.path.join(source, "d1", "up"))
    run(["tar", "cf", os.path.join(b.tmp, "x.tar"), "-C", b.tmp, "source"])
    with b.at_most(PutObject=100 + 12 + 6 + 2, CopyObject=6 + 12, DeleteObject=2, ListObjectsV2=6):
        run(["tar", "xf", os.path.join(b.tmp, "x.tar"), "-C", b.m.path], timeout=120)
        b.m.unmount()


@row("`rsync -a` of n = 100 new small files, m = 6 directories", "3 for each file: PUT, COPY, DELETE; 2 and a list for each directory at most")
def rsync(b):
    b.mount()
    source = files(os.path.join(b.tmp, "source"), 5, 100, 1000)
    with b.at_most(PutObject=100 + 6, CopyObject=100 + 6, DeleteObject=100, ListObjectsV2=6):
        run(["rsync", "-a", source + "/", b.p("copy")], timeout=120)
        b.m.unmount()


def tree_copied(b, n, **options):
    """n small files in 5 directories that rsync has copied in; the mount has forgotten what it knew in memory."""
    b.mount(**options)
    source = files(os.path.join(b.tmp, "source"), 5, n, 100)
    run(["rsync", "-a", source + "/", b.p("copy")], timeout=300)
    b.m.remount()
    b.server.reset()
    return source


M = 2500 if LONG else 150


@row("second `rsync -a` of n = %d files, after a remount" % M, "ceil(entries/1000) lists for each directory, 0 HEAD")
def rsync_again(b):
    source = tree_copied(b, M)
    with b.at_most(ListObjectsV2=6 + M // 1000):
        out = run(["rsync", "-a", "--itemize-changes", source + "/", b.p("copy")], timeout=300).stdout
        assert out == ""


@row("`ls -lR` of the same after a remount", "a list for each directory, 0 HEAD")
def ls_again(b):
    tree_copied(b, 60)
    with b.at_most(ListObjectsV2=6):
        run(["ls", "-lR", b.m.path])


@row("`find -newer` over n = 150 files, after a remount", "a list for each directory, 0 HEAD")
def find_again(b):
    source = tree_copied(b, 150)
    with b.at_most(ListObjectsV2=6):
        run(["find", b.m.path, "-newer", source])


@row("second `ls -l` of names of somebody else, after a remount", "ceil(n/1000) lists, 0 HEAD")
def ls_l_again(b):
    for i in range(100):
        b.server.plant("d/f%04d" % i, b"x")
    time.sleep(2.1)  # what is younger may be changed once more within its second
    b.mount()
    run(["ls", "-l", b.p("d")])
    b.m.remount()
    with b.at_most(ListObjectsV2=1):
        run(["ls", "-l", b.p("d")])


@row("`git status` in a clone of 40 files in 4 directories, after a remount", "a list for each directory, 0 HEAD; its files are read from the cache, the index is written and renamed")
def git_status(b):
    b.mount()
    source = files(os.path.join(b.tmp, "source"), 4, 40, 100)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x"]
    run(git + ["init", "-q", source])
    run(git + ["-C", source, "add", "."])
    run(git + ["-C", source, "commit", "-qm", "x"])
    run(["cp", "-a", source, b.p("clone")], timeout=120)
    run(git + ["-C", b.p("clone"), "status", "--porcelain"])  # its index learns the inodes
    b.m.remount()
    with b.at_most(ListObjectsV2=30, PutObject=2, CopyObject=1, DeleteObject=1, GetObjectACL=1):
        assert run(git + ["-C", b.p("clone"), "status", "--porcelain"]).stdout == ""


@row("`rm -r` of n = 100 files in m = 6 directories", "n + m DELETE, 1 list for each directory")
def rm_r(b):
    b.mount()
    run(["cp", "-r", files(os.path.join(b.tmp, "source"), 5, 100, 100), b.p("copy")])
    with b.at_most(DeleteObject=106, ListObjectsV2=6):
        run(["rm", "-r", b.p("copy")])
    assert b.server.objects() == {}


@row("`ls`, `find` of n = 2,200 names in one directory", "ceil(n/1000) lists, 0 HEAD for files")
def find(b):
    for i in range(2200):
        b.server.plant("d/f%04d" % i, b"x")
    b.mount()
    # The directory itself: is it one, and what are its attributes?
    with b.at_most(ListObjectsV2=4, HeadObject=2):
        out = subprocess.run(["find", b.p("d")], capture_output=True, timeout=60, check=True).stdout
        assert out.count(b"\n") == 2201
        assert subprocess.run(["ls", b.p("d")], capture_output=True, timeout=60).stdout.count(b"\n") == 2200


@row("first `ls -l` of n = 300 names never seen", "ceil(n/1000) lists, n HEAD at most, 64 in parallel")
def ls_l(b):
    for i in range(300):
        b.server.plant("d/f%04d" % i, b"x")
    b.mount()
    os.stat(b.p("d"))
    with b.at_most(ListObjectsV2=1, HeadObject=300):
        run(["ls", "-l", b.p("d")])


@pytest.mark.parametrize("case,row", ROWS)
def test_budget(case, row, request, server, mount, tmp):
    case(Budget(row, request, server, mount, tmp))
