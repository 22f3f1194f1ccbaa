"""Keys that no file of a mount may have, and listings that lie: an error at most for that name, the rest works."""

import errno
import os

import pytest

from harness import blob, read_file, write_file

pytestmark = [pytest.mark.bucket, pytest.mark.sanitizer]

# Shown as they are, read and written and removed.
SHOWN = [b"\x01\x02", b"new\nline", b"\x7f", b"\xc2\x85", b"a\\b", b"%2F", b"...", b"n" * 255]
# Not valid UTF-8: listed, and EILSEQ for whoever looks at it.
ILLEGAL = [b"\xff", b"a\xc3", b"\xed\xa0\x80"]
# No path, or longer than a name may be; what is below x/ and p/ is a path in part.
HIDDEN = [b"..", b".", b"../../etc/passwd", b"x/../y", b"p//q", b"/lead", b"m" * 256, b"k" * 1023]
DEEP = "/".join(["d"] * 500)


@pytest.mark.parametrize("where", [b"", b"dir/"])
def test_keys(server, mount, where):
    for i, key in enumerate(SHOWN + ILLEGAL + HIDDEN):
        if len(where + key) <= 1023:
            server.plant(where + key, blob(10, i))
    server.plant(where + b"good", b"good")
    m = mount()
    m.allow("InvalidObjectName")  # of those that are not UTF-8, asked for in advance
    top = os.path.join(os.fsencode(m.path), where)
    rest = {b"x", b"p", b"good"} | set(ILLEGAL)
    assert set(os.listdir(top)) | rest == set(SHOWN) | rest
    for i, name in enumerate(SHOWN):
        assert read_file(os.path.join(top, name)) == blob(10, i)
        write_file(os.path.join(top, name), b"changed")
        assert server.object(os.fsdecode(where + name)) == b"changed"
        os.unlink(os.path.join(top, name))
    for name, error in [(n, errno.EILSEQ) for n in ILLEGAL] + [(b"m" * 256, errno.ENAMETOOLONG)]:
        with pytest.raises(OSError) as e:
            os.stat(os.path.join(top, name))
        assert e.value.errno == error
    assert read_file(os.path.join(top, b"good")) == b"good"
    for directory in b"x", b"p":
        if os.path.isdir(os.path.join(top, directory)):
            assert os.listdir(os.path.join(top, directory)) == []
    assert set(os.listdir(top)) | rest == rest


def test_deep(server, mount):
    """500 directories, all of them implicit."""
    server.plant(DEEP + "/f", b"deep")
    m = mount()
    fd = os.open(m.path, os.O_RDONLY)
    for _ in range(500):
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    assert os.listdir(fd) == ["f"]
    leaf = os.open("f", os.O_RDONLY, dir_fd=fd)
    assert os.read(leaf, 10) == b"deep"
    os.close(leaf)
    os.close(fd)


@pytest.mark.parametrize("action", ["truncate", "garbage"])
def test_broken_listing(server, mount, action):
    """A listing whose body is cut off, or no XML, each time: that directory is an error, others work."""
    server.plant("bad/f", b"x")
    server.plant("good/f", b"good")
    m = mount(retries=1, metadata_deadline=2)
    m.allow("ListObjectsV2", "listing", "cut|malformed|ended")
    server.fault(action, op="ListObjectsV2", count=-1)
    with pytest.raises(OSError) as e:
        os.listdir(m.p("bad"))
    assert e.value.errno in (errno.EIO, errno.ETIMEDOUT)
    assert read_file(m.p("good/f")) == b"good"
    server.clear_faults()
    assert os.listdir(m.p("bad")) == ["f"]
