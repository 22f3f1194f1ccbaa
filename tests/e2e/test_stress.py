"""
Several programs at once in one small tree: creates, renames, removals, attribute changes, reads, all on the same few
names. What each call answers is open; that it answers one of the errnos that such a race may give, that every read is
one version whole, and that mount, bucket and a fresh mount agree in the end, is not.
"""

import concurrent.futures
import errno
import os
import random
import stat
import time

import pytest

from harness import blob, tree_of

pytestmark = [pytest.mark.sanitizer, pytest.mark.timeout(200)]

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


def step(rng, top):
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
        read(rng, path)


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
