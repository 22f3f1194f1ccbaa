"""The rows: what a user does, in groups that share a mount. A row ends when the server holds every object whole.

A row is a generator: what it does before its first `yield` is not measured, what it does up to the second is the time
at return, and the last `yield` comes when the server has it all.
"""

import mmap
import os
import random
import subprocess
import tempfile

import tools
from tools import run, wait_until

MIB = 1 << 20


def in_memory():
    """A directory there, None where the system has none."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


class Data:
    """What is copied, made once."""

    def __init__(self, big_mib, files):
        self.dir = tempfile.mkdtemp(prefix="ossmount-bench-", dir=in_memory())
        self.big_mib, self.files = big_mib, files
        self.big = os.path.join(self.dir, "big")
        rng = random.Random(5)
        with open(self.big, "wb") as f:
            for _ in range(big_mib):
                f.write(rng.randbytes(MIB))
        self.small = self.tree("small", files, 4096, 10, rng)
        self.medium = self.tree("medium", 100, MIB, 1, rng)
        self.tar = os.path.join(self.dir, "small.tar")
        run(["tar", "cf", self.tar, "-C", self.small, "."])
        self.repository = os.path.join(self.dir, "repository.git")
        self.make_repository()

    def tree(self, name, files, size, directories, rng):
        top = os.path.join(self.dir, name)
        for i in range(files):
            d = os.path.join(top, "d%d" % (i % directories))
            os.makedirs(d, exist_ok=True)
            with open(os.path.join(d, "f%05d" % i), "wb") as f:
                f.write(rng.randbytes(size))
        return top

    def make_repository(self):
        git = ["git", "-c", "user.name=b", "-c", "user.email=b@localhost", "-c", "init.defaultBranch=main"]
        work = os.path.join(self.dir, "work")
        run(git + ["init", "-q", work])
        for n in range(5):
            for i in range(60):
                with open(os.path.join(work, "f%03d" % i), "w", encoding="ascii") as f:
                    f.write("line %d of %d\n" % (n, i) * (50 + i))
            run(git + ["-C", work, "add", "."])
            run(git + ["-C", work, "commit", "-q", "-m", "commit %d" % n])
        run(git + ["clone", "-q", "--bare", work, self.repository])


def whole(server, objects, size):
    """Waits until the bucket holds at least so many objects and exactly so many bytes, and no upload runs."""
    seen = []

    def there():
        seen[:] = server.holds()
        return seen[0] >= objects and seen[1] == size and seen[2] == 0

    wait_until(there, "%d objects, %d bytes whole; there is %s" % (objects, size, seen))


def etag(server, key):
    found = [o for o in server.objects(key) if o["key"] == key]
    return (found[0]["etag"], found[0]["size"]) if found else None


def size_name(mib):
    return "%d GiB" % (mib // 1024) if mib % 1024 == 0 else "%d MiB" % mib


def cp(source, to):
    run(["cp", "-r", source, to])


def read(path):
    run(["dd", "if=" + path, "of=/dev/null", "bs=1M"])


def together(c, n, mib):
    jobs = []
    for i in range(n):
        args = ["dd", "if=" + c.data.big, "of=" + os.path.join(c.mount.path, "w%02d" % i), "bs=1M", "count=%d" % mib]
        jobs.append(subprocess.Popen(args, stderr=subprocess.DEVNULL))
    if any([j.wait(tools.LIMIT) for j in jobs]):
        raise RuntimeError("a writer failed")


# ------------------------------------------------------------------------------------------------------ groups


def big(c):
    m, d = c.mount, c.data
    size = d.big_mib * MIB

    def write():
        yield
        run(["dd", "if=" + d.big, "of=" + os.path.join(m.path, "big"), "bs=1M"])
        yield
        whole(c.server, 1, size)

    def cold():
        m.remount()
        os.stat(m.path)
        yield
        read(os.path.join(m.path, "big"))
        yield

    def again():
        yield
        read(os.path.join(m.path, "big"))
        yield

    def remounted():
        m.remount(keep=True)
        yield
        read(os.path.join(m.path, "big"))
        yield

    def random_reads():
        m.remount()
        rng = random.Random(9)
        fd = os.open(os.path.join(m.path, "big"), os.O_RDONLY)
        yield
        for _ in range(200):
            os.pread(fd, 4096, rng.randrange(size // 4096) * 4096)
        yield
        os.close(fd)

    def change():
        m.remount()
        os.stat(os.path.join(m.path, "big"))
        before = etag(c.server, "big")
        yield
        run(["dd", "if=/dev/zero", "of=" + os.path.join(m.path, "big"), "bs=4k", "count=1", "conv=notrunc",
             "seek=%d" % (size // 8192)])  # fmt: skip
        yield
        wait_until(lambda: etag(c.server, "big") != before and c.server.holds()[2] == 0, "the changed object")

    n = size_name(d.big_mib)
    return [("write " + n, write), ("read %s cold" % n, cold), ("read again", again), ("read after a remount", remounted),
            ("200 random reads of 4 KiB", random_reads), ("change 4 KiB in " + n, change)]  # fmt: skip


def line(c):
    """Bytes alone: also far away, and over https."""
    return [(name + c.suffix, row) for name, row in big(c)[:2]]


def far(c):
    """Requests alone, from far away."""
    return [(name + c.suffix, row) for name, row in listing(c)[:1] + small(c)[:1]]


def small(c):
    m, d = c.mount, c.data
    size = d.files * 4096

    def copy():
        there = c.server.holds()
        yield
        cp(d.small, os.path.join(m.path, "small"))
        yield
        whole(c.server, there[0] + d.files, there[1] + size)

    def cat():
        m.remount()
        yield
        run(["sh", "-c", "cat %s/small/*/* >/dev/null" % m.path])
        yield

    def rename():
        yield
        os.rename(os.path.join(m.path, "small"), os.path.join(m.path, "moved"))
        yield
        wait_until(lambda: not c.server.objects("small/") and c.server.holds()[1] == size, "the renamed directory")

    def remove():
        yield
        run(["rm", "-rf", os.path.join(m.path, "moved")])
        yield
        wait_until(lambda: c.server.holds()[0] == 0, "the removed directory")

    def rsync():
        yield
        run(["rsync", "-a", d.small + "/", os.path.join(m.path, "sync")])
        yield
        whole(c.server, d.files, size)

    def rsync_again():
        yield
        run(["rsync", "-a", d.small + "/", os.path.join(m.path, "sync")])
        yield

    n = "{:,}".format(d.files)
    return [("copy %s x 4 KiB" % n, copy), ("cat %s x 4 KiB cold" % n, cat), ("rename a directory of %s" % n, rename),
            ("rm -rf %s" % n, remove), ("rsync -a first", rsync), ("rsync -a again", rsync_again)]  # fmt: skip


def programs(c):
    m, d = c.mount, c.data

    def medium():
        yield
        cp(d.medium, os.path.join(m.path, "medium"))
        yield
        whole(c.server, 100, 100 * MIB)

    def append():
        path = os.path.join(m.path, "log")
        yield
        for _ in range(50):
            with open(path, "ab") as f:
                f.write(b"x" * 1024)
        yield
        whole(c.server, 101, 100 * MIB + 50 * 1024)

    def eight():
        yield
        together(c, 8, 64)
        yield
        whole(c.server, 109, 100 * MIB + 50 * 1024 + 8 * 64 * MIB)

    def settled():
        last = None
        while True:
            run(["sync", "-f", m.path])
            now = c.server.holds()
            if now == last and now[2] == 0:
                return
            last = now
            tools.time.sleep(0.05)

    def clone():
        yield
        run(["git", "clone", "-q", "--no-hardlinks", d.repository, os.path.join(m.path, "clone")])
        yield
        wait_until(lambda: any(o["key"].endswith("clone/f059") for o in c.server.objects("clone/f")), "the clone")

    def tar():
        settled()
        before = c.server.holds()
        yield
        run(["tar", "xf", d.tar, "-C", m.path])
        yield
        whole(c.server, before[0] + d.files, before[1] + d.files * 4096)

    return [("copy 100 x 1 MiB", medium), ("append 1 KiB x 50", append), ("8 writers of 64 MiB", eight),
            ("git clone", clone), ("tar x", tar)]  # fmt: skip


def listing(c):
    m, n = c.mount, c.entries
    c.server.plant("dir/f", n, 10)

    def ls():
        yield
        run(["ls", "-l", os.path.join(m.path, "dir")])
        yield

    def find():
        m.remount()
        yield
        run(["find", os.path.join(m.path, "dir")])
        yield

    return [("ls -l of %s" % "{:,}".format(n), ls), ("find of %s" % "{:,}".format(n), find)]


def sized(c, mib):
    """A file of any size, from the bytes of one that may be smaller, written and read cold."""
    path = os.path.join(c.mount.path, "sized")

    def write():
        with open(c.data.big, "rb") as source:
            most = os.fstat(source.fileno()).st_size // MIB
            with mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ) as content:
                view = memoryview(content)
                yield
                fd = os.open(path, os.O_WRONLY | os.O_CREAT)
                for i in range(mib):
                    at = i % most * MIB
                    if os.write(fd, view[at : at + MIB]) != MIB:
                        raise RuntimeError("a short write")
                os.close(fd)
                yield
                view.release()
        whole(c.server, 1, mib * MIB)

    def cold():
        c.mount.remount()
        os.stat(c.mount.path)
        yield
        read(path)
        yield

    return [write, cold]


def writers(c, n, mib):
    """`n` programs that write at once."""

    def write():
        yield
        together(c, n, mib)
        yield
        whole(c.server, n, n * mib * MIB)

    return write
