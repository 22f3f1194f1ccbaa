"""
Several programs at once in one small tree: creates, renames, removals, attribute changes, reads, all on the same few
names. What each call answers is open; that it answers one of the errnos that such a race may give, that every read is
one version whole, and that mount, bucket and a fresh mount agree in the end, is not.
"""

import concurrent.futures
import contextlib
import errno
import mmap
import os
import random
import stat
import subprocess
import sys
import time

import pytest

from harness import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, blob, fallocate, read_file, slow_factor, spawned, tree_of

pytestmark = [pytest.mark.sanitizer, pytest.mark.timeout(600 if os.environ.get("OSSMOUNT_LONG") else 200)]

SECONDS = 60 if os.environ.get("OSSMOUNT_LONG") else 8
NAMES = ["a", "b", "c", "d"]
# Of a name that another has just made, removed, or made something else.
RACES = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOTEMPTY,
    errno.EINVAL,
    errno.ELOOP,
    errno.ESTALE,
}
# Of a kind of thing that does not take it, or of an end that another has moved meanwhile.
WILD_RACES = RACES | {errno.EPERM, errno.ENODATA, errno.EOPNOTSUPP}
WILD_SECONDS = 180 if os.environ.get("OSSMOUNT_LONG") else 3
SIZE = 30000


def some_path(rng, top):
    return os.path.join(top, *(rng.choice(NAMES) for _ in range(rng.choice([1, 1, 2, 2, 3]))))


def write(rng, path):
    """One letter all over: a mix of two writers' files would show."""
    data = bytes([rng.randrange(65, 91)]) * rng.choice([0, 1, 5000, SIZE])
    # Beside and renamed over, as a careful program does: then every reader must see it whole.
    temporary = path + ".%x" % rng.getrandbits(64)
    with open(temporary, "xb") as f:
        f.write(data)
    try:
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def read(rng, path):
    with open(path, "rb") as f:
        data = f.read()
    assert data == data[:1] * len(data), "a mix in %s" % path


def step(rng, top, look=read):
    path, other = some_path(rng, top), some_path(rng, top)
    kind = rng.randrange(20)
    if kind < 5:
        write(rng, path)
    elif kind < 8:
        os.mkdir(path)
    elif kind < 10:
        os.unlink(path)
    elif kind == 10:
        os.rmdir(path)
    elif kind < 14:
        os.rename(path, other)
    elif kind == 14:
        os.symlink(os.path.basename(other), path)
    elif kind == 15:
        os.chmod(path, rng.choice([0o700, 0o750]) if os.path.isdir(path) else 0o600)
    elif kind == 16:
        os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)
    elif kind == 17:
        os.listdir(path)
    elif kind == 18:
        with open(path, "ab") as f:
            os.fsync(f.fileno())
    else:
        look(rng, path)


def worker(seed, top, seconds):
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    done = 0
    while time.monotonic() < end:
        try:
            step(rng, top)
        except OSError as e:
            assert e.errno in RACES, "%s" % e
        done += 1
    return done


def shape(top):
    return {k: (v[0], v[1], v[3]) for k, v in tree_of(top).items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_stress(fs, seed):
    fs.allow("NoSuchKey", " warning ")  # what was renamed has lost its name to another program meanwhile
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(worker, "%d/%d" % (seed, i), fs.path, SECONDS) for i in range(6)]
        done = sum(f.result() for f in futures)
    print("%d operations" % done)
    agree(fs)


def agree(fs):
    """Mount, bucket, and mounts to come show one tree."""
    before = shape(fs.path)
    if not fs.has_server:
        return
    fs.remount()
    assert shape(fs.path) == before, "a remount shows another tree"
    fs.forget()
    assert shape(fs.path) == before, "the bucket holds another tree"
    objects = fs.server.objects()
    for name, (kind, _, data) in before.items():
        key = os.fsdecode(name)
        if stat.S_ISDIR(kind):
            # A file made in a directory that is being renamed may leave the old name without a marker of its own.
            assert key + "/" in objects or any(k.startswith(key + "/") for k in objects), key
        elif stat.S_ISREG(kind):
            assert fs.server.object(key) == data, key
        else:
            assert key in objects, key
    assert {k.rstrip("/") for k in objects} <= {os.fsdecode(n) for n in before}
    assert fs.server.uploads() == []


# ------------------------------------------------------------------------------------------- eight processes


def in_place(rng, path):
    """Some changes of one open file."""
    fd = os.open(path, os.O_RDWR | (os.O_CREAT if rng.random() < 0.5 else 0), 0o640)
    try:
        for _ in range(rng.randrange(1, 5)):
            kind, offset, n = rng.randrange(7), rng.randrange(300000), rng.choice([1, 4096, 50000])
            if kind < 2:
                os.pwrite(fd, blob(n, rng.random()), offset)
            elif kind == 2:
                os.ftruncate(fd, offset)
            elif kind == 3:
                fallocate(fd, rng.choice([PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, 0]), offset, n)
            elif kind == 4:
                os.pread(fd, n, offset)
            elif kind == 5:
                os.fsync(fd)
            else:
                os.copy_file_range(fd, fd, n, 0, 400000)
    finally:
        os.close(fd)


def mapped(rng, path):
    """A file that no other process cuts: a page behind the end is a SIGBUS."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.ftruncate(fd, rng.choice([5000, 200000]))
        with mmap.mmap(fd, 0) as m:
            for _ in range(3):
                m[rng.randrange(5000)] = rng.randrange(256)
    finally:
        os.close(fd)


def attributes(rng, path):
    kind = rng.randrange(5)
    if kind == 0:
        os.chmod(path, rng.choice([0o700, 0o755]) if os.path.isdir(path) else rng.choice([0o600, 0o644]))
    elif kind == 1:
        os.utime(path, ns=(10**18, rng.randrange(10**18)), follow_symlinks=False)
    elif kind == 2:
        os.setxattr(path, "user.x", b"%d" % rng.randrange(100), follow_symlinks=False)
    elif kind == 3:
        os.listxattr(path, follow_symlinks=False)
    else:
        os.chown(path, rng.randrange(3), rng.randrange(3), follow_symlinks=False)


def copy(rng, path, other):
    with open(path, "rb") as source, open(other, "wb") as target:
        os.copy_file_range(source.fileno(), target.fileno(), 1 << 20)


def wild_step(rng, top, own):
    path, other = some_path(rng, top), some_path(rng, top)
    kind = rng.randrange(24)
    if kind < 7:
        in_place(rng, path)
    elif kind < 9:
        attributes(rng, path)
    elif kind == 9:
        copy(rng, path, other)
    elif kind == 10:
        with open(path, "ab") as f:
            f.write(b"a" * rng.choice([1, 1000]))
    elif kind == 11:
        for e in os.scandir(path):
            e.stat(follow_symlinks=False)
    elif kind == 12:
        os.link(path, other)
    elif kind == 13:
        mapped(rng, own)
    else:
        step(rng, top, look=lambda _, path: read_file(path))


def wild(seed, top, seconds):
    """One of the processes."""
    rng = random.Random(seed)
    end = time.monotonic() + float(seconds)
    done = 0
    while time.monotonic() < end:
        try:
            wild_step(rng, top, os.path.join(top, "own" + seed[-1]))
        except OSError as e:
            assert e.errno in WILD_RACES, "%s: %s" % (seed, e)
        done += 1
    print(done)


def test_eight_processes(fs):
    """Whatever eight processes do to one small tree, for minutes with OSSMOUNT_LONG: in the end all agree."""
    fs.allow("NoSuchKey", " warning ")  # as in test_stress()
    code = "import sys, test_stress; test_stress.wild(*sys.argv[1:])"
    with contextlib.ExitStack() as stack:
        processes = []
        for i in range(8):
            command = [sys.executable, "-c", code, "8/%d" % i, fs.path, str(WILD_SECONDS)]
            kw = {"cwd": os.path.dirname(__file__), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            processes.append(stack.enter_context(spawned(command, **kw)))
        done = 0
        for p in processes:
            out, err = p.communicate(timeout=WILD_SECONDS + 60 * slow_factor())
            assert p.returncode == 0, err[-3000:]
            done += int(out)
    print("%d operations" % done)
    agree(fs)


def test_one_file_many_openers(fs):
    """Threads write, cut, sync, read and close one file; at the end mount and bucket hold the same bytes."""
    # Written while it is read for an upload: the CRC tells, and the upload begins anew.
    fs.allow(" warning .*(InvalidCRC64|cannot be read|end of the transfer)")
    path = fs.p("f")
    end = time.monotonic() + SECONDS

    def work(i):
        rng = random.Random(i)
        while time.monotonic() < end:
            fd = os.open(path, os.O_RDWR | os.O_CREAT)
            try:
                for _ in range(rng.randrange(1, 6)):
                    action = rng.randrange(8)
                    if action < 3:
                        os.pwrite(fd, blob(rng.choice([10, 5000, 140000]), i), rng.randrange(2000000))
                    elif action < 5:
                        os.pread(fd, 200000, rng.randrange(2000000))
                    elif action == 5:
                        os.ftruncate(fd, rng.randrange(2000000))
                    elif action == 6:
                        os.fsync(fd)
                    else:
                        os.utime(fd)
            finally:
                os.close(fd)

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        for future in [pool.submit(work, i) for i in range(5)]:
            future.result()
    with open(path, "rb") as f:
        data = f.read()
    if fs.has_server:
        fs.server.check_object("f", data)
    fs.forget()
    with open(path, "rb") as f:
        assert f.read() == data
