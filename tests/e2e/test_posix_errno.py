"""
The rules of POSIX, errno by errno, in groups: what each call answers when it may not do what it is asked. The
cases of a group run one after the other, those that change something last, in a directory with a file `f` of 5 bytes, a directory `d`, a directory `full` with a file in it,
links `l` -> f, `dead` -> nothing, `loop` -> loop, and `ld` -> d. The counts by group are printed at the end.
"""

import errno
import os

import pytest

from harness import read_file, write_file

pytestmark = [pytest.mark.sanitizer]

LONG, DEEP = "n" * 256, "/".join(["d" * 250] * 20)
O = os.open


def opened(path, flags, call):
    fd = O(path, flags)
    try:
        return call(fd)
    finally:
        os.close(fd)


# group: (what is called, errno that it ends with, or 0)
GROUPS = {
    "open": [
        (lambda: O("none", os.O_RDONLY), errno.ENOENT),
        (lambda: O("", os.O_RDONLY), errno.ENOENT),
        (lambda: O("none/x", os.O_RDONLY), errno.ENOENT),
        (lambda: O("f/x", os.O_RDONLY), errno.ENOTDIR),
        (lambda: O("f/", os.O_RDONLY), errno.ENOTDIR),
        (lambda: O("d", os.O_WRONLY), errno.EISDIR),
        (lambda: O("d", os.O_RDWR), errno.EISDIR),
        (lambda: O("d", os.O_RDONLY | os.O_TRUNC), errno.EISDIR),
        (lambda: O("f", os.O_RDONLY | os.O_DIRECTORY), errno.ENOTDIR),
        (lambda: O("l", os.O_RDONLY | os.O_NOFOLLOW), errno.ELOOP),
        (lambda: O("loop", os.O_RDONLY), errno.ELOOP),
        (lambda: O("dead", os.O_RDONLY), errno.ENOENT),
        (lambda: O(LONG, os.O_RDONLY), errno.ENAMETOOLONG),
        (lambda: O(DEEP, os.O_RDONLY), errno.ENAMETOOLONG),
        (lambda: opened("f", os.O_RDONLY, lambda fd: os.write(fd, b"x")), errno.EBADF),
        (lambda: opened("f", os.O_WRONLY, lambda fd: os.read(fd, 1)), errno.EBADF),
        (lambda: opened("d", os.O_RDONLY, lambda fd: os.read(fd, 1)), errno.EISDIR),
        (lambda: opened("f", os.O_RDONLY, lambda fd: os.lseek(fd, -1, os.SEEK_SET)), errno.EINVAL),
        (lambda: opened("f", os.O_RDWR, lambda fd: os.pread(fd, 1, 100)), 0),
        (lambda: opened("ld", os.O_RDONLY | os.O_DIRECTORY, os.fstat), 0),
    ],
    "creat": [
        (lambda: O("f", os.O_CREAT | os.O_EXCL | os.O_WRONLY), errno.EEXIST),
        (lambda: O("d", os.O_CREAT | os.O_EXCL | os.O_WRONLY), errno.EEXIST),
        (lambda: O("l", os.O_CREAT | os.O_EXCL | os.O_WRONLY), errno.EEXIST),
        (lambda: O("dead", os.O_CREAT | os.O_EXCL | os.O_WRONLY), errno.EEXIST),
        (lambda: O("d", os.O_CREAT | os.O_WRONLY), errno.EISDIR),
        (lambda: O("new/", os.O_CREAT | os.O_WRONLY), errno.EISDIR),
        (lambda: O("f/x", os.O_CREAT | os.O_WRONLY), errno.ENOTDIR),
        (lambda: O("none/x", os.O_CREAT | os.O_WRONLY), errno.ENOENT),
        (lambda: O("loop", os.O_CREAT | os.O_WRONLY), errno.ELOOP),
        (lambda: O(LONG, os.O_CREAT | os.O_WRONLY), errno.ENAMETOOLONG),
        (lambda: O("n" * 255, os.O_CREAT | os.O_WRONLY), 0),
        (lambda: opened("dead", os.O_CREAT | os.O_WRONLY, os.fstat) and os.stat("nothing"), 0),
    ],
    "unlink": [
        (lambda: os.unlink("none"), errno.ENOENT),
        (lambda: os.unlink("none/x"), errno.ENOENT),
        (lambda: os.unlink("d"), errno.EISDIR),
        (lambda: os.unlink("full"), errno.EISDIR),
        (lambda: os.unlink("f/x"), errno.ENOTDIR),
        (lambda: os.unlink("f/"), errno.ENOTDIR),
        (lambda: os.unlink(LONG), errno.ENAMETOOLONG),
        (lambda: os.unlink("loop/x"), errno.ELOOP),
        (lambda: os.unlink("dead"), 0),
        (lambda: os.unlink("l") or os.stat("f"), 0),
    ],
    "mkdir": [
        (lambda: os.mkdir("d"), errno.EEXIST),
        (lambda: os.mkdir("f"), errno.EEXIST),
        (lambda: os.mkdir("dead"), errno.EEXIST),
        (lambda: os.mkdir("."), errno.EEXIST),
        (lambda: os.mkdir("none/x"), errno.ENOENT),
        (lambda: os.mkdir("f/x"), errno.ENOTDIR),
        (lambda: os.mkdir(LONG), errno.ENAMETOOLONG),
        (lambda: os.mkdir("loop/x"), errno.ELOOP),
        (lambda: os.mkdir("new/"), 0),
        (lambda: os.mkdir("ld/new") or os.rmdir("d/new"), 0),
    ],
    "rmdir": [
        (lambda: os.rmdir("none"), errno.ENOENT),
        (lambda: os.rmdir("f"), errno.ENOTDIR),
        (lambda: os.rmdir("l"), errno.ENOTDIR),
        (lambda: os.rmdir("ld"), errno.ENOTDIR),
        (lambda: os.rmdir("full"), errno.ENOTEMPTY),
        (lambda: os.rmdir("d/."), errno.EINVAL),
        (lambda: os.rmdir("full/.."), errno.ENOTEMPTY),
        (lambda: os.rmdir("f/x"), errno.ENOTDIR),
        (lambda: os.rmdir(LONG), errno.ENAMETOOLONG),
        (lambda: os.rmdir("d/"), 0),
    ],
    "rename": [
        (lambda: os.rename("none", "x"), errno.ENOENT),
        (lambda: os.rename("f", "none/x"), errno.ENOENT),
        (lambda: os.rename("f", ""), errno.ENOENT),
        (lambda: os.rename("f", "d"), errno.EISDIR),
        (lambda: os.rename("d", "f"), errno.ENOTDIR),
        (lambda: os.rename("d", "full"), errno.ENOTEMPTY),
        (lambda: os.rename("d", "d/x"), errno.EINVAL),
        (lambda: os.rename("full", "full/in/x"), errno.ENOTDIR),
        (lambda: os.rename("f/x", "y"), errno.ENOTDIR),
        (lambda: os.rename("f", "f/x"), errno.ENOTDIR),
        (lambda: os.rename("f", "x/"), errno.ENOTDIR),
        (lambda: os.rename("f", LONG), errno.ENAMETOOLONG),
        (lambda: os.rename("d/.", "x"), errno.EBUSY),
        (lambda: os.rename("f", "f"), 0),
        (lambda: os.rename("full", "d") or os.stat("d/in"), 0),
        (lambda: os.rename("f", "l") or read_file("l"), 0),
    ],
    "truncate": [
        (lambda: os.truncate("none", 0), errno.ENOENT),
        (lambda: os.truncate("d", 0), errno.EISDIR),
        (lambda: os.truncate("f/x", 0), errno.ENOTDIR),
        (lambda: os.truncate("f", -1), errno.EINVAL),
        (lambda: os.truncate("dead", 0), errno.ENOENT),
        (lambda: os.truncate("loop", 0), errno.ELOOP),
        (lambda: os.truncate(LONG, 0), errno.ENAMETOOLONG),
        (lambda: os.truncate("f", 1 << 60), errno.EFBIG),
        (lambda: opened("f", os.O_RDONLY, lambda fd: os.ftruncate(fd, 0)), errno.EINVAL),
        (lambda: os.truncate("l", 3), 0),
    ],
    "chmod": [
        (lambda: os.chmod("none", 0o600), errno.ENOENT),
        (lambda: os.chmod("f/x", 0o600), errno.ENOTDIR),
        (lambda: os.chmod("dead", 0o600), errno.ENOENT),
        (lambda: os.chmod("loop", 0o600), errno.ELOOP),
        (lambda: os.chmod(LONG, 0o600), errno.ENAMETOOLONG),
        (lambda: os.chmod("l", 0o600), 0),
        (lambda: os.chmod("d", 0o1777), 0),
    ],
    "chown": [
        (lambda: os.chown("none", -1, -1), errno.ENOENT),
        (lambda: os.chown("f/x", -1, -1), errno.ENOTDIR),
        (lambda: os.chown("loop", -1, -1), errno.ELOOP),
        (lambda: os.chown("dead", -1, -1), errno.ENOENT),
        (lambda: os.chown("f", os.getuid(), os.getgid()), 0),
        (lambda: os.lchown("dead", os.getuid(), os.getgid()), 0),
    ],
    "utimens": [
        (lambda: os.utime("none"), errno.ENOENT),
        (lambda: os.utime("f/x"), errno.ENOTDIR),
        (lambda: os.utime("loop"), errno.ELOOP),
        (lambda: os.utime("dead"), errno.ENOENT),
        (lambda: os.utime("dead", ns=(1, 1), follow_symlinks=False), 0),
        (lambda: os.utime("d", ns=(10**18, 10**18)), 0),
    ],
    "symlink": [
        (lambda: os.symlink("x", "f"), errno.EEXIST),
        (lambda: os.symlink("x", "dead"), errno.EEXIST),
        (lambda: os.symlink("x", "none/x"), errno.ENOENT),
        (lambda: os.symlink("", "x"), errno.ENOENT),
        (lambda: os.symlink("x", "f/x"), errno.ENOTDIR),
        (lambda: os.symlink("x", LONG), errno.ENAMETOOLONG),
        (lambda: os.symlink("x" * 4096, "x"), errno.ENAMETOOLONG),
        (lambda: os.readlink("f"), errno.EINVAL),
        (lambda: os.readlink("d"), errno.EINVAL),
        (lambda: os.readlink("none"), errno.ENOENT),
        (lambda: os.stat("loop"), errno.ELOOP),
        (lambda: os.symlink("y" * 4000, "x") or os.readlink("x"), 0),
    ],
    "readdir": [
        (lambda: os.listdir("none"), errno.ENOENT),
        (lambda: os.listdir("f"), errno.ENOTDIR),
        (lambda: os.listdir("dead"), errno.ENOENT),
        (lambda: os.listdir("loop"), errno.ELOOP),
        (lambda: os.listdir(LONG), errno.ENAMETOOLONG),
        (lambda: opened("f", os.O_RDONLY, os.listdir), errno.ENOTDIR),
        (lambda: os.listdir("ld"), 0),
    ],
}


def prepare(top):
    os.mkdir(top)
    write_file(os.path.join(top, "f"), b"12345")
    for name in "d", "full":
        os.mkdir(os.path.join(top, name))
    write_file(os.path.join(top, "full/in"), b"x")
    for name, target in ("l", "f"), ("dead", "nothing"), ("loop", "loop"), ("ld", "d"):
        os.symlink(target, os.path.join(top, name))


def outcome(call):
    try:
        fd = call()
    except OSError as e:
        return e.errno
    if isinstance(fd, int) and fd > 2 and call.__code__.co_names[0] == "O":
        os.close(fd)
    return 0


@pytest.mark.parametrize("group", list(GROUPS))
def test_errno(fs, group, record_property):
    here, wrong = os.getcwd(), []
    prepare(fs.p("t"))
    try:
        os.chdir(fs.p("t"))
        for i, (call, expected) in enumerate(GROUPS[group]):
            got = outcome(call)
            if got != expected:
                wrong.append("%s %d: %s, not %s" % (group, i, errno.errorcode.get(got, got), errno.errorcode.get(expected, 0)))
    finally:
        os.chdir(here)
    record_property("posix", (group, len(GROUPS[group]) - len(wrong), len(GROUPS[group])))
    assert not wrong
