"""What goes wrong at the server or on the way: either nobody notices, or the program is told the truth."""

import errno
import os
import time

import pytest

from harness import blob, crc64_of, raises_errno, read_file, run, wait_until, write_file

pytestmark = pytest.mark.sanitizer

MB = 1 << 20
# Lines that a failed or repeated request leaves in the log; each test names what it provokes beyond these.
RETRIES = r" warning .*(again|retr|try|tries|answer|reply|\d\d\d |reset|closed|CRC|crc)"


def small_tree(top, files=120):
    expected = {}
    for i in range(files):
        name = "d%d/f%d" % (i % 6, i)
        os.makedirs(os.path.join(top, "d%d" % (i % 6)), exist_ok=True)
        expected[name] = blob(1000 + 37 * i, i)
        write_file(os.path.join(top, name), expected[name])
    return expected


def check_tree(server, expected, prefix):
    objects = server.objects()
    assert {k for k in objects if not k.endswith("/")} == {prefix + n for n in expected}
    for name, data in expected.items():
        assert objects[prefix + name]["size"] == len(data)
        assert int(objects[prefix + name]["crc64"]) == crc64_of(data)
        assert server.object(prefix + name) == data
    assert server.uploads() == []


# ------------------------------------------------------------------ one accident in the middle of a copy

ACCIDENTS = {
    "503": dict(action="status", status=503, code="ServiceUnavailable"),
    "500": dict(action="status", status=500, code="InternalError"),
    "429": dict(action="status", status=429, code="TooManyRequests"),
    "reset": dict(action="reset"),
    "lost reply": dict(action="lost"),
    "wrong CRC in the reply": dict(action="wrong_crc"),
    "damaged on the way": dict(action="corrupt_request"),
    "no CRC in the reply": dict(action="drop_crc"),
    "closed after the answer": dict(action="close"),
    "slow": dict(action="delay", ms=700),
}


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_accident_during_copy(server, mount, tmp, accident):
    """No error reaches the user, no object is wrong."""
    m = mount()
    m.allow(RETRIES)
    expected = small_tree(os.path.join(tmp, "source"))
    for skip in 10, 50, 100:
        server.fault(op="PutObject", skip=skip, count=1, **ACCIDENTS[accident])
    run(["cp", "-r", os.path.join(tmp, "source"), m.p("copy")])
    assert sum(f["hits"] for f in server.faults()) == 3 or accident == "slow"
    check_tree(server, expected, "copy/")
    m.forget()
    assert run(["diff", "-r", os.path.join(tmp, "source"), m.p("copy")]).stdout == ""


def test_ten_percent_503(server, mount, tmp):
    """A throttled service: every tenth request of any kind."""
    m = mount()
    m.allow(RETRIES)
    expected = small_tree(os.path.join(tmp, "source"))
    for i in range(60):
        server.fault(op="*", skip=9 * i, count=1, **ACCIDENTS["503"])
    run(["cp", "-r", os.path.join(tmp, "source"), m.p("copy")], timeout=100)
    server.clear_faults()
    check_tree(server, expected, "copy/")


@pytest.mark.parametrize("accident", [a for a in ACCIDENTS if a not in ("slow", "429", "500")])
@pytest.mark.parametrize("op", ["InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_accident_during_multipart(server, mount, op, accident):
    m = mount(multipart_threshold=1, multipart_size=1)
    m.allow(RETRIES)
    data = blob(5 * MB + 77)
    server.fault(op=op, skip=2 if op == "UploadPart" else 0, count=1, **ACCIDENTS[accident])
    write_file(m.p("f"), data)
    server.clear_faults()
    server.check_object("f", data)
    if accident != "lost reply" or op != "InitiateMultipartUpload":  # a lost Initiate leaves an id that nobody knows
        assert server.uploads() == []
    m.forget()
    assert read_file(m.p("f")) == data


@pytest.mark.parametrize("accident", ["503", "reset", "lost reply"])
@pytest.mark.parametrize("op", ["CopyObject", "DeleteObject", "ListObjectsV2", "HeadObject", "GetObject", "DeleteMultipleObjects"])
def test_accident_during_everything_else(server, mount, op, accident):
    """A session of renames, stats, lists and removals with one accident in each kind of request."""
    m = mount()
    m.allow(RETRIES)
    os.mkdir(m.p("d"))
    for i in range(5):
        write_file(m.p("d/f%d" % i), blob(1000, i))
    m.forget()
    server.fault(op=op, count=1, **ACCIDENTS[accident])
    assert sorted(os.listdir(m.p("d"))) == ["f%d" % i for i in range(5)]
    assert read_file(m.p("d/f0")) == blob(1000, 0)
    os.rename(m.p("d/f0"), m.p("d/g0"))
    os.chmod(m.p("d/f1"), 0o600)
    os.rename(m.p("d"), m.p("e"))
    os.unlink(m.p("e/f2"))
    os.mkdir(m.p("x"))
    os.rmdir(m.p("x"))
    server.clear_faults()
    m.forget()
    assert sorted(os.listdir(m.p("e"))) == ["f1", "f3", "f4", "g0"]
    assert os.listdir(m.path) == ["e"]
    assert [read_file(m.p("e", n)) for n in ("g0", "f1", "f3", "f4")] == [blob(1000, i) for i in (0, 1, 3, 4)]
    assert os.stat(m.p("e/f1")).st_mode & 0o7777 == 0o600


# --------------------------------------------------------------------------------------------- refused


def test_access_denied_on_put(server, mount):
    """close() fails with EACCES, nothing is in the bucket, and the bytes are not thrown away."""
    m = mount()
    m.allow("AccessDenied", "not (yet )?(sent|uploaded)|unsent")
    server.fault(op="PutObject", action="status", status=403, code="AccessDenied", count=-1)
    fd = os.open(m.p("f"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"precious")
    with raises_errno(errno.EACCES):
        os.fsync(fd)
    with raises_errno(errno.EACCES):
        os.close(fd)
    assert server.objects() == {}
    assert read_file(m.p("f")) == b"precious"
    server.clear_faults()
    fd = os.open(m.p("f"), os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    server.check_object("f", b"precious")


def test_access_denied_keeps_the_old_object(server, mount):
    m = mount()
    m.allow("AccessDenied", "not (yet )?(sent|uploaded)|unsent")
    write_file(m.p("f"), b"old")
    server.fault(op="PutObject", action="status", status=403, code="AccessDenied", count=-1)
    assert run(["sh", "-c", "echo new > f"], cwd=m.path, check=False).returncode in (0, 1, 2)
    fd = os.open(m.p("f"), os.O_WRONLY)
    os.write(fd, b"newer")
    with raises_errno(errno.EACCES):
        os.close(fd)
    assert server.object("f") == b"old"
    os.unlink(m.p("f"))
    assert server.objects() == {}
    server.clear_faults()


def test_access_denied_reaches_cp(server, mount, tmp):
    m = mount()
    m.allow("AccessDenied", "not (yet )?(sent|uploaded)|unsent")
    server.fault(op="PutObject", key="copy", action="status", status=403, code="AccessDenied", count=-1)
    write_file(os.path.join(tmp, "x"), b"x")
    done = run(["cp", os.path.join(tmp, "x"), m.p("copy")], check=False)
    assert done.returncode == 1 and "Permission denied" in done.stderr
    assert server.objects() == {}
    os.unlink(m.p("copy"))
    server.clear_faults()


@pytest.mark.parametrize(
    "status,code,expected",
    [
        (403, "AccessDenied", errno.EACCES),
        (404, "NoSuchBucket", errno.ENOENT),
        (409, "FileImmutable", errno.EPERM),
        (403, "QuotaExceeded", errno.EDQUOT),
        (400, "EntityTooLarge", errno.EFBIG),
    ],
)
def test_refusals_of_put(server, mount, status, code, expected):
    m = mount()
    m.allow(code, "not (yet )?(sent|uploaded)|unsent")
    server.fault(op="PutObject", action="status", status=status, code=code, count=-1)
    fd = os.open(m.p("f"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x")
    with raises_errno(expected, *([errno.EIO] if code == "NoSuchBucket" else [])):
        os.close(fd)
    assert server.objects() == {}
    server.clear_faults()
    os.unlink(m.p("f"))


@pytest.mark.parametrize(
    "op,act",
    [
        ("DeleteObject", lambda m: os.unlink(m.p("f"))),
        ("CopyObject", lambda m: os.rename(m.p("f"), m.p("g"))),
        ("PutObject", lambda m: os.mkdir(m.p("new"))),
        ("PutObject", lambda m: os.symlink("x", m.p("new"))),
        ("PutObject", lambda m: os.truncate(m.p("f"), 3)),
        ("GetObject", lambda m: read_file(m.p("f"))),
        ("ListObjectsV2", lambda m: os.listdir(m.p("d"))),
    ],
    ids=["unlink", "rename", "mkdir", "symlink", "truncate", "read", "readdir"],
)
def test_access_denied_elsewhere(server, mount, op, act):
    """The operation says EACCES and has changed nothing, here or there."""
    m = mount()
    write_file(m.p("f"), b"content")
    os.mkdir(m.p("d"))
    write_file(m.p("d/x"), b"x")
    m.forget()
    assert os.stat(m.p("f")).st_size == 7
    before = {k: (e["etag"], e["size"]) for k, e in server.objects().items()}
    m.allow("AccessDenied", "not (yet )?(sent|uploaded)|unsent")
    server.fault(op=op, action="status", status=403, code="AccessDenied", count=-1)
    with raises_errno(errno.EACCES):
        act(m)
    server.clear_faults()
    assert {k: (e["etag"], e["size"]) for k, e in server.objects().items()} == before
    assert not os.path.lexists(m.p("new")) and not os.path.exists(m.p("g"))
    m.forget()
    assert sorted(os.listdir(m.path)) == ["d", "f"]
    assert os.listdir(m.p("d")) == ["x"]


def test_denied_multipart_is_aborted_or_kept(server, mount):
    """A refused part: EACCES at close, nothing under the name; the bytes go when the right is back."""
    m = mount(multipart_threshold=1, multipart_size=1)
    m.allow("AccessDenied", "not (yet )?(sent|uploaded)|unsent")
    data = blob(4 * MB)
    server.fault(op="UploadPart", skip=1, action="status", status=403, code="AccessDenied", count=-1)
    fd = os.open(m.p("f"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    with raises_errno(errno.EACCES):
        os.close(fd)
    assert server.objects() == {}
    server.clear_faults()
    fd = os.open(m.p("f"), os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    server.check_object("f", data)
    m.unmount()
    assert server.uploads() == []


# ---------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("accident", ["truncate", "corrupt_body", "reset", "503", "garbage"])
@pytest.mark.parametrize("size", [100, 3 * MB])
def test_read_with_one_accident(server, mount, accident, size):
    """Repeated within: the right bytes."""
    server.plant("f", blob(size))
    m = mount()
    # A damaged whole download is not delivered; it is the kernel that asks again, after its read-ahead has failed.
    m.allow(RETRIES, "GetObject", "reading of f failed")
    server.fault(op="GetObject", count=1, **ACCIDENTS.get(accident, dict(action=accident)))
    if size == 100 or accident not in ("corrupt_body", "garbage"):
        assert read_file(m.p("f")) == blob(size)
    else:
        # Only a whole download has a CRC to compare; a damaged range is TLS's to find, unless it has another length.
        try:
            data = read_file(m.p("f"))
        except OSError as e:
            assert e.errno == errno.EIO
        else:
            assert len(data) == size


@pytest.mark.parametrize("accident", ["truncate", "corrupt_body", "reset", "503", "garbage"])
def test_read_that_never_works(server, mount, accident):
    """EIO, never wrong bytes; and right again afterwards."""
    data = blob(5000)
    server.plant("f", data)
    m = mount(retries=1, connect_timeout=2, readwrite_timeout=2)
    m.allow(" (warning|error) ")
    server.fault(op="GetObject", count=-1, **ACCIDENTS.get(accident, dict(action=accident)))
    with raises_errno(errno.EIO, errno.ETIMEDOUT):
        read_file(m.p("f"))
    server.clear_faults()
    assert read_file(m.p("f")) == data


@pytest.mark.parametrize("mode", ["text", "html", "truncated", "huge", "deep", "entities", "empty"])
def test_listing_that_is_garbage(server, mount, mode):
    """EIO, in bounded time and memory, no crash; and right again afterwards."""
    server.plant("d/f", b"x")
    m = mount(retries=1)
    m.allow(" (warning|error) ")
    before = m.memory()
    server.fault(op="ListObjectsV2", count=-1, action="garbage", mode=mode)
    with raises_errno(errno.EIO):
        os.listdir(m.p("d"))
    assert m.memory() - before < 160 * MB
    server.clear_faults()
    assert os.listdir(m.p("d")) == ["f"]


@pytest.mark.parametrize("mode", ["text", "huge", "entities", "empty"])
@pytest.mark.parametrize("op", ["InitiateMultipartUpload", "CompleteMultipartUpload"])
def test_multipart_replies_that_are_garbage(server, mount, op, mode):
    """Told as a failure, or found out by asking; never a success that is none."""
    m = mount(multipart_threshold=1, multipart_size=1, retries=1)
    m.allow(" (warning|error) ")
    data = blob(2 * MB + 1)
    server.fault(op=op, count=-1, action="garbage", mode=mode)
    fd = os.open(m.p("f"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    try:
        os.close(fd)
    except OSError as e:
        assert e.errno == errno.EIO
    else:
        server.check_object("f", data)
    server.clear_faults()
    fd = os.open(m.p("f"), os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    server.check_object("f", data)


# ---------------------------------------------------------------------------------------------- outages


SHORT = dict(retries=2, connect_timeout=2, readwrite_timeout=2, metadata_deadline=5, transfer_deadline=5)


def test_outage(server, mount):
    """close fails after its deadline, the bytes are kept and readable, and go when the server is back."""
    m = mount(**SHORT)
    m.allow(" (warning|error) ")
    write_file(m.p("old"), b"old")
    server.outage(True)
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT)
    os.write(fd, blob(100000))
    begin = time.monotonic()
    with raises_errno(errno.EIO, errno.ETIMEDOUT):
        os.fsync(fd)
    with raises_errno(errno.EIO, errno.ETIMEDOUT):
        os.close(fd)
    assert time.monotonic() - begin < 60
    assert read_file(m.p("f")) == blob(100000)
    server.outage(False)
    assert "f" not in server.objects()
    fd = os.open(m.p("f"), os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    server.check_object("f", blob(100000))


def test_short_outage_goes_unnoticed(server, mount):
    """The server is away for two seconds while a file is closed: the close takes longer, and is good."""
    # The pauses are random: five of them may together be shorter than the outage.
    m = mount(retries=12)
    m.allow(" warning ")
    server.outage(True)
    code = "import sys,time; f=open(sys.argv[1],'wb'); f.write(b'x'*100000); f.close()"
    import threading

    threading.Timer(2, server.outage, (False,)).start()
    run(["/usr/bin/python3", "-c", code, m.p("f")], timeout=60)
    server.check_object("f", b"x" * 100000)


def test_server_restart(server_factory, mount_factory, tmp):
    """Stale connections after a restart are not an error."""
    server = server_factory(store=os.path.join(tmp, "store"))
    m = mount_factory(server)
    m.allow(" warning ")
    write_file(m.p("a"), b"a")
    server.stop()
    server.start()
    write_file(m.p("b"), b"b")
    assert read_file(m.p("a")) == b"a"
    server.stop(kill=True)
    server.start()
    assert sorted(os.listdir(m.path)) == ["a", "b"]
    write_file(m.p("c"), b"c")
    assert set(server.objects()) == {"a", "b", "c"}


def test_unsent_file_goes_at_unmount(server, mount):
    """What a failed close left is sent by the unmount, when the server is back by then."""
    m = mount(**SHORT)
    m.allow(" (warning|error) ")
    server.outage(True)
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT)
    os.write(fd, b"kept")
    with raises_errno(errno.EIO, errno.ETIMEDOUT):
        os.close(fd)
    server.outage(False)
    m.unmount()
    server.check_object("f", b"kept")


def test_unmount_during_outage_ends(server, mount):
    """Unmount does not hang for ever on what cannot be sent, and says so in the log."""
    m = mount(**SHORT)
    m.allow(" (warning|error) ")
    server.outage(True)
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT)
    os.write(fd, b"kept")
    with raises_errno(errno.EIO, errno.ETIMEDOUT):
        os.close(fd)
    begin = time.monotonic()
    run(["fusermount3", "-u", m.path])
    m.wait_exit(60)
    assert time.monotonic() - begin < 60
    assert "f" in m.stderr_text()
    server.outage(False)


def test_failed_attribute_change_is_told(server, mount):
    """chmod may answer before the bucket has: the next fsync of the file tells."""
    m = mount(**SHORT)
    m.allow(" (warning|error) ")
    write_file(m.p("f"), b"x")
    server.fault(op="CopyObject", action="status", status=403, code="AccessDenied", count=-1)
    os.chmod(m.p("f"), 0o600)
    fd = os.open(m.p("f"), os.O_RDWR)
    with raises_errno(errno.EACCES):
        os.fsync(fd)
    server.clear_faults()
    os.fsync(fd)
    os.close(fd)
    m.forget()
    assert os.stat(m.p("f")).st_mode & 0o7777 == 0o600


def test_object_changes_while_it_is_read(server, mount):
    """Replaced by another client in the middle: whole old bytes or ESTALE, never a mix."""
    old, new = b"o" * (40 * MB), b"n" * (40 * MB)
    server.plant("f", old)
    m = mount()
    m.allow(" (warning|error) ")
    fd = os.open(m.p("f"), os.O_RDONLY)
    assert os.pread(fd, 1000, 0) == b"o" * 1000
    server.plant("f", new)
    for offset in range(0, 40 * MB, 4 * MB):
        try:
            data = os.pread(fd, 1000, offset)
        except OSError as e:
            assert e.errno == errno.ESTALE
        else:
            assert data == b"o" * 1000
    os.close(fd)


def test_partial_change_of_replaced_object(server, mount):
    """A write into an object that another client replaced meanwhile: never a mix of the two."""
    old, new = b"o" * (4 * MB), b"n" * (4 * MB)
    server.plant("f", old)
    m = mount(multipart_threshold=1, multipart_size=1)
    m.allow(" (warning|error) ")
    fd = os.open(m.p("f"), os.O_RDWR)
    assert os.pread(fd, 10, 0) == b"o" * 10
    os.pwrite(fd, b"W" * 100, 2 * MB)
    server.plant("f", new)
    try:
        os.close(fd)
    except OSError as e:
        assert e.errno in (errno.ESTALE, errno.EIO)
        assert server.object("f") == new
    else:
        found = server.object("f")
        assert found[2 * MB : 2 * MB + 100] == b"W" * 100
        rest = set(found[: 2 * MB] + found[2 * MB + 100 :])
        assert rest in ({ord("o")}, {ord("n")}), "bytes of two versions in one object"


def test_errors_do_not_leak(server, mount):
    """After two hundred failed closes the daemon has as many descriptors as before."""
    m = mount(**SHORT)
    m.allow(" (warning|error) ", "unsent")
    write_file(m.p("x"), b"x")
    before = len(os.listdir("/proc/%d/fd" % m.pid))
    server.fault(op="PutObject", action="status", status=403, code="AccessDenied", count=-1)
    for i in range(200):
        fd = os.open(m.p("f"), os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"x")
        with raises_errno(errno.EACCES):
            os.close(fd)
        os.unlink(m.p("f"))
    server.clear_faults()
    wait_until(lambda: len(os.listdir("/proc/%d/fd" % m.pid)) <= before + 5, 10, "descriptors are closed")
