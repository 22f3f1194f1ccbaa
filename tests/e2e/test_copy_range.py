"""copy_file_range within the mount: ranges are copied at the server, and the source may go at any time."""

import errno
import os

import pytest

from harness import blob, raises_errno, read_file, run, write_file

pytestmark = [pytest.mark.bucket, pytest.mark.sanitizer]

MB = 1 << 20
SMALL = dict(multipart_threshold=1, multipart_size=1)


def copy_range(source, target, n, at=0, to=0):
    """All of the range; returns in how many calls."""
    calls = 0
    while n > 0:
        done = os.copy_file_range(source, target, n, at, to)
        if done == 0:
            break
        n, at, to, calls = n - done, at + done, to + done, calls + 1
    return calls


@pytest.fixture
def big(server):
    data = blob(4 * MB, "big")
    server.plant("big", data, headers={"x-oss-meta-mode": str(0o100604), "Content-Type": "text/x-big"})
    return data


def test_cp_moves_no_data(server, mount, big):
    """cp of an object: one CopyObject, attributes of its own."""
    m = mount()
    assert os.stat(m.p("big")).st_size == len(big)
    server.reset()
    run(["cp", m.p("big"), m.p("copy")])
    assert server.counters() == {"CopyObject": 1}
    assert sum(server.bytes()) < MB
    server.check_object("copy", big)
    assert int(server.headers("copy")["x-oss-meta-mode"]) & 0o7777 == 0o604 & ~0o022
    m.forget()
    assert read_file(m.p("copy")) == big


def test_cp_archive(server, mount, big):
    """With -p the attributes follow, in the same request or one more."""
    m = mount()
    os.stat(m.p("big"))
    server.reset()
    run(["cp", "-p", m.p("big"), m.p("copy")])
    m.unmount()
    assert server.counters()["CopyObject"] <= 2 and sum(server.counters().values()) <= 2, server.counters()
    assert int(server.headers("copy")["x-oss-meta-mode"]) & 0o7777 == 0o604
    server.check_object("copy", big)


def test_cp_small(server, mount):
    """A small file never read here: one CopyObject; one whose bytes are here: one PutObject."""
    server.plant("a", blob(5000), headers={"x-oss-meta-mode": str(0o100644)})
    m = mount()
    os.stat(m.p("a"))
    server.reset()
    run(["cp", m.p("a"), m.p("b")])
    assert server.counters() == {"CopyObject": 1}
    write_file(m.p("c"), blob(6000))
    server.reset()
    run(["cp", m.p("c"), m.p("d")])
    assert server.counters() == {"PutObject": 1}
    server.check_object("b", blob(5000))
    server.check_object("d", blob(6000))


def test_cp_over_an_existing_file(server, mount, big):
    server.plant("copy", b"old", headers={"x-oss-object-acl": "public-read", "x-oss-meta-mode": "33188"})
    m = mount()
    server.reset()
    run(["cp", m.p("big"), m.p("copy")])
    server.check_object("copy", big)
    assert server.objects()["copy"]["acl"] == "public-read"
    assert server.counters().get("PutObject", 0) == 0 and sum(server.bytes()) < MB


def test_patchwork(server, mount, big):
    """A file made of ranges of two others, of its own bytes, and of a hole, larger than the threshold."""
    other = blob(2 * MB, "other")
    server.plant("other", other)
    m = mount(**SMALL)
    a, b = os.open(m.p("big"), os.O_RDONLY), os.open(m.p("other"), os.O_RDONLY)
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT)
    server.reset()
    copy_range(a, fd, 2 * MB, MB, 0)
    os.pwrite(fd, b"own" * 1000, 2 * MB)
    copy_range(b, fd, MB, 12345, 2 * MB + 200000)
    copy_range(a, fd, 300, 7, 1000)  # too short to be copied there
    os.ftruncate(fd, 3 * MB + MB // 2)
    copy_range(a, fd, MB, 2 * MB, 4 * MB)
    expected = bytearray(5 * MB)
    expected[: 2 * MB] = big[MB : 3 * MB]
    expected[2 * MB : 2 * MB + 3000] = b"own" * 1000
    expected[2 * MB + 200000 : 3 * MB + 200000] = other[12345 : 12345 + MB]
    expected[1000:1300] = big[7:307]
    expected[4 * MB :] = big[2 * MB : 3 * MB]
    assert os.pread(fd, 4000, 4 * MB + 5) == bytes(expected[4 * MB + 5 : 4 * MB + 4005])
    os.close(fd)
    assert server.counters()["UploadPartCopy"] >= 3
    server.check_object("f", bytes(expected))
    os.close(a)
    os.close(b)
    m.forget()
    assert read_file(m.p("f")) == bytes(expected)


def test_within_one_file(server, mount, big):
    m = mount(**SMALL)
    fd = os.open(m.p("big"), os.O_RDWR)
    server.reset()
    copy_range(fd, fd, 2 * MB, 0, 4 * MB)
    copy_range(fd, fd, MB, 3 * MB, 0)
    os.close(fd)
    expected = big[3 * MB :] + big[MB:] + big[: 2 * MB]
    server.check_object("big", expected)
    assert sum(server.bytes()) < MB
    m.forget()
    assert read_file(m.p("big")) == expected


def test_changed_source(server, mount, big):
    """What was written into the source and is not sent yet is in the copy."""
    m = mount(**SMALL)
    source = os.open(m.p("big"), os.O_RDWR)
    os.pwrite(source, b"new" * 5000, 2 * MB)
    fd = os.open(m.p("copy"), os.O_WRONLY | os.O_CREAT)
    copy_range(source, fd, 20 * MB)
    os.close(fd)
    expected = big[: 2 * MB] + b"new" * 5000 + big[2 * MB + 15000 :]
    server.check_object("copy", expected)
    assert server.object("big") == big
    os.close(source)
    server.check_object("big", expected)


GONE = {
    "unlinked": lambda m: os.unlink(m.p("big")),
    "renamed": lambda m: os.rename(m.p("big"), m.p("elsewhere")),
    "renamed over": lambda m: os.rename(m.p("small"), m.p("big")),
    "overwritten": lambda m: write_file(m.p("big"), b"another content"),
    "changed": lambda m: run(["dd", "of=" + m.p("big"), "conv=notrunc", "bs=1M", "count=1", "if=/dev/zero"]),
    "truncated": lambda m: os.truncate(m.p("big"), 100),
    "chmod": lambda m: (os.chmod(m.p("big"), 0o600), run(["sync", m.p("big")])),
    "directory": lambda m: os.rename(m.p("d"), m.p("e")),
}


@pytest.mark.parametrize("how", GONE)
def test_source_goes_before_the_close(server, mount, big, how):
    """The copy has the bytes that were there when it was made."""
    server.plant("small", b"small")
    server.plant("d/big", blob(2 * MB, "d"))
    m = mount(**SMALL)
    a, b = os.open(m.p("big"), os.O_RDONLY), os.open(m.p("d/big"), os.O_RDONLY)
    fd = os.open(m.p("copy"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"head")
    copy_range(a, fd, 2 * MB, MB, 4)
    copy_range(b, fd, MB, MB, 4 + 2 * MB)
    os.close(a)
    os.close(b)
    GONE[how](m)
    os.close(fd)
    server.check_object("copy", b"head" + big[MB : 3 * MB] + blob(2 * MB, "d")[MB:])


def test_source_replaced_by_another_host(server, mount, big):
    """The close says ESTALE, nothing is mixed; and the next copy is of the new object."""
    m = mount(**SMALL)
    m.allow("PreconditionFailed", "unsent", "earlier daemon")
    a = os.open(m.p("big"), os.O_RDONLY)
    fd = os.open(m.p("copy"), os.O_WRONLY | os.O_CREAT)
    copy_range(a, fd, 3 * MB)
    os.close(a)
    server.plant("big", blob(2 * MB, "new"))
    with raises_errno(errno.ESTALE):
        os.close(fd)
    assert server.object("copy") is None and server.uploads() == []
    os.unlink(m.p("copy"))
    run(["cp", m.p("big"), m.p("copy")])
    server.check_object("copy", blob(2 * MB, "new"))


@pytest.mark.parametrize("whole", [True, False])
def test_service_that_does_not_copy(server, mount, big, whole):
    """Refused (an archived object, an Appendable one where that is not allowed): through the client then."""
    m = mount(**SMALL)
    m.allow("OperationNotSupported")
    server.fault(
        "status", op="CopyObject" if whole else "UploadPartCopy", status=400, code="OperationNotSupported", count=-1
    )
    a = os.open(m.p("big"), os.O_RDONLY)
    fd = os.open(m.p("copy"), os.O_WRONLY | os.O_CREAT)
    copy_range(a, fd, 4 * MB if whole else 3 * MB)
    os.close(fd)
    os.close(a)
    server.check_object("copy", big[: 4 * MB if whole else 3 * MB])
    assert server.uploads() == []


def test_chain(server, mount, big):
    """A copy of a copy that is not sent yet, and two copies that take from each other."""
    m = mount(**SMALL)
    a = os.open(m.p("big"), os.O_RDONLY)
    x = os.open(m.p("x"), os.O_RDWR | os.O_CREAT)
    y = os.open(m.p("y"), os.O_RDWR | os.O_CREAT)
    copy_range(a, x, 3 * MB)
    copy_range(x, y, 2 * MB, MB)
    os.close(x)
    os.close(y)
    server.check_object("x", big[: 3 * MB])
    server.check_object("y", big[MB : 3 * MB])
    x, y = os.open(m.p("x"), os.O_RDWR), os.open(m.p("y"), os.O_RDWR)
    copy_range(x, y, MB, 0, 2 * MB)
    copy_range(y, x, MB, 0, 3 * MB)
    os.close(x)
    os.close(y)
    server.check_object("x", big[: 3 * MB] + big[MB : 2 * MB])
    server.check_object("y", big[MB : 3 * MB] + big[:MB])
    os.close(a)
