"""
Random operations against a model: a file's bytes against a bytearray, a tree against the same calls on a local
directory (result or errno must be the same). A failure names its seed and step; OSSMOUNT_SEED=N runs another one.
"""

import errno
import os
import random
import stat

import pytest

from harness import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, blob, drop_temp, fallocate, make_temp, tree_of

pytestmark = [pytest.mark.sanitizer, pytest.mark.timeout(240)]

SEEDS = [int(os.environ["OSSMOUNT_SEED"])] if os.environ.get("OSSMOUNT_SEED") else [1, 2, 3, 4]
STEPS = 2000 if os.environ.get("OSSMOUNT_LONG") else 250


class File:
    """One file, several descriptors, and what its bytes should be."""

    def __init__(self, fs, rng, limit):
        self.fs, self.rng, self.limit = fs, rng, limit
        self.model = bytearray()
        self.fds = []
        os.close(os.open(fs.p("f"), os.O_CREAT | os.O_WRONLY))

    def fd(self):
        if not self.fds or (len(self.fds) < 4 and self.rng.random() < 0.2):
            self.fds.append(os.open(self.fs.p("f"), os.O_RDWR))
        return self.rng.choice(self.fds)

    def place(self):
        r = self.rng
        offset = r.choice([0, len(self.model), r.randrange(len(self.model) + 1), r.randrange(self.limit)])
        return min(offset, self.limit - 1), r.choice([1, 100, 4096, 5000, 65536, 200000])

    def write(self):
        offset, n = self.place()
        data = blob(n, self.rng.random())
        assert os.pwrite(self.fd(), data, offset) == n
        self.model[len(self.model) :] = bytes(max(0, offset - len(self.model)))
        self.model[offset : offset + n] = data

    def append(self):
        data = blob(self.rng.choice([1, 1000, 70000]), self.rng.random())
        fd = os.open(self.fs.p("f"), os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)
        self.model += data

    def read(self):
        offset, n = self.place()
        assert os.pread(self.fd(), n, offset) == bytes(self.model[offset : offset + n]), (offset, n)

    def truncate(self):
        size = self.rng.choice([0, self.rng.randrange(len(self.model) + 1), self.rng.randrange(self.limit)])
        if self.rng.random() < 0.5:
            os.ftruncate(self.fd(), size)
        else:
            os.truncate(self.fs.p("f"), size)
        del self.model[size:]
        self.model += bytes(size - len(self.model))

    def zero(self):
        """fallocate: punches a hole, or makes zeros of a range, which may end behind the file."""
        offset, n = self.place()
        punch = self.rng.random() < 0.5
        fallocate(self.fd(), PUNCH_HOLE | KEEP_SIZE if punch else ZERO_RANGE, offset, n)
        if not punch:
            self.model += bytes(max(0, offset + n - len(self.model)))
        n = max(0, min(n, len(self.model) - offset))
        self.model[offset : offset + n] = bytes(n)

    def holes(self):
        """What is no data reads as zeros."""
        fd, at = self.fd(), 0
        while at < len(self.model):
            hole = os.lseek(fd, at, os.SEEK_HOLE)
            try:
                at = os.lseek(fd, hole, os.SEEK_DATA) if hole < len(self.model) else hole
            except OSError as e:
                assert e.errno == errno.ENXIO
                at = len(self.model)
            assert not any(self.model[hole:at]), (hole, at)

    def stat(self):
        assert os.stat(self.fs.p("f")).st_size == len(self.model)

    def close(self):
        if self.fds:
            os.close(self.fds.pop(self.rng.randrange(len(self.fds))))

    def sync(self):
        os.fsync(self.fd())
        if self.fs.has_server:
            assert self.fs.server.object("f") == self.model

    def rename(self):
        os.rename(self.fs.p("f"), self.fs.p("g"))
        assert os.stat(self.fs.p("g")).st_size == len(self.model)
        os.rename(self.fs.p("g"), self.fs.p("f"))

    def replace(self):
        """Another file takes the name; the open descriptors keep the old one and are closed."""
        data = blob(self.rng.choice([0, 10, 100000]), self.rng.random())
        with open(self.fs.p("new"), "wb") as f:
            f.write(data)
        os.rename(self.fs.p("new"), self.fs.p("f"))
        for fd in self.fds:
            assert os.pread(fd, 300000, 0) == self.model[:300000]
            os.close(fd)
        self.fds = []
        self.model = bytearray(data)

    def remount(self):
        self.close_all()
        self.fs.remount(cache=self.rng.choice(["same", "empty"]))

    def close_all(self):
        while self.fds:
            self.close()

    def check(self):
        with open(self.fs.p("f"), "rb") as f:
            assert f.read() == self.model
        if self.fs.has_server and not self.fds:
            self.fs.server.check_object("f", bytes(self.model))


@pytest.mark.parametrize("threshold", [None, 1])
@pytest.mark.parametrize("seed", SEEDS)
def test_file(request, seed, threshold, fs):
    if threshold and fs.has_server:
        fs.remount(multipart_threshold=threshold, multipart_size=threshold)
    rng = random.Random(seed)
    file = File(fs, rng, 3000000 if threshold else 600000)
    actions = {"write": 30, "append": 5, "read": 30, "truncate": 6, "stat": 5, "close": 12, "sync": 3, "rename": 2}
    actions.update({"replace": 2, "remount": 1, "zero": 6, "holes": 3})
    for step in range(STEPS):
        name = rng.choices(list(actions), actions.values())[0]
        try:
            getattr(file, name)()
        except (OSError, AssertionError) as e:
            raise AssertionError("seed %d, step %d, %s: %s" % (seed, step, name, str(e)[:400])) from e
    file.close_all()
    file.check()
    fs.forget()
    file.check()


# ------------------------------------------------------------------------------------------------------- trees

NAMES = ["a", "b", "c", "d", "ü e", "f%2"]


def some_path(rng):
    return "/".join(rng.choice(NAMES) for _ in range(rng.choice([1, 1, 2, 2, 3])))


def act(rng):
    """One random operation as a function of the top directory; called twice with the same decisions."""
    kind = rng.choices(
        ["create", "overwrite", "append", "mkdir", "unlink", "rmdir", "rename", "symlink", "read", "list", "chmod",
         "utime", "truncate", "stat", "readlink", "exclusive"],
        [16, 8, 6, 14, 8, 6, 14, 4, 8, 6, 6, 4, 4, 6, 2, 4],
    )[0]  # fmt: skip
    path, other, n, seed = some_path(rng), some_path(rng), rng.choice([0, 1, 5000, 140000]), rng.random()
    mode, ns = rng.choice([0o644, 0o600, 0o755]), rng.randrange(10**18, 17 * 10**17)

    def do(top):
        p = os.path.join(top, path)
        if kind in ("create", "overwrite", "append", "exclusive"):
            flags = {
                "create": os.O_CREAT,
                "overwrite": os.O_TRUNC,
                "append": os.O_APPEND,
                "exclusive": os.O_CREAT | os.O_EXCL,
            }[kind]
            fd = os.open(p, os.O_WRONLY | flags, mode)
            try:
                os.write(fd, blob(n, seed))
            finally:
                os.close(fd)
        elif kind == "mkdir":
            os.mkdir(p, mode | 0o100)
        elif kind == "unlink":
            os.unlink(p)
        elif kind == "rmdir":
            os.rmdir(p)
        elif kind == "rename":
            os.rename(p, os.path.join(top, other))
        elif kind == "symlink":
            os.symlink(other, p)
        elif kind == "read":
            with open(p, "rb") as f:
                return f.read()
        elif kind == "list":
            return sorted(os.listdir(p))
        elif kind == "chmod":
            os.chmod(p, mode | (0o100 if os.path.isdir(p) else 0))
        elif kind == "utime":
            if not os.path.isdir(p):  # a directory's own time moves with every change below it on one of the two
                os.utime(p, ns=(ns, ns))
        elif kind == "truncate":
            os.truncate(p, n // 2)
        elif kind == "stat":
            st = os.lstat(p)
            return st.st_mode, st.st_size if not stat.S_ISDIR(st.st_mode) else 0
        elif kind == "readlink":
            return os.readlink(p)

    return do, "%s %r %r" % (kind, path, other)


def outcome(do, top, text):
    try:
        return do(top)
    except OSError as e:
        # rename(2) may answer either for a directory that is not empty.
        return OSError, errno.ENOTEMPTY if e.errno == errno.EEXIST and text.startswith("rename") else e.errno


def shape(top):
    """Kinds, modes, bytes, targets: everything but times."""
    return {k: (v[0], v[1], v[3]) for k, v in tree_of(top).items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_tree(seed, fs):
    rng = random.Random(seed)
    reference = make_temp("reference")
    try:
        for step in range(STEPS * 2):
            do, text = act(rng)
            want, have = outcome(do, reference, text), outcome(do, fs.path, text)
            assert want == have, "seed %d, step %d, %s: expected %r, got %r" % (seed, step, text, want, have)
            if rng.random() < 0.008:
                fs.remount(cache=rng.choice(["same", "empty"]))
                assert shape(reference) == shape(fs.path), "seed %d, step %d" % (seed, step)
        assert shape(reference) == shape(fs.path)
        fs.forget()
        assert shape(reference) == shape(fs.path)
        if fs.has_server:
            assert fs.server.uploads() == []
    finally:
        drop_temp(reference)
