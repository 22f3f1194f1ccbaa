"""upload=background: close and fsync answer when the local disk has it. defer_temp: a temporary name waits."""

import concurrent.futures
import errno
import os
import threading
import time

import pytest

import crash
import harness
from harness import blob, raises_errno, read_file, run, wait_until, write_file

pytestmark = [pytest.mark.bucket, pytest.mark.sanitizer]

MB = 1 << 20
LATER = dict(upload="background", upload_delay=3600)  # as late as the unmount


def test_close_does_not_wait(server, mount):
    """It answers while the server is away; the object comes by itself when it is back."""
    m = mount(upload="background")
    m.allow(" (warning|error) ")
    os.listdir(m.path)
    server.outage(True)
    for i in range(20):
        fd = os.open(m.p("f%d" % i), os.O_WRONLY | os.O_CREAT)
        os.write(fd, blob(3000, i))
        os.fsync(fd)
        os.close(fd)
    assert read_file(m.p("f7")) == blob(3000, 7)
    server.outage(False)
    wait_until(lambda: len(server.files()) == 20, 60 * harness.slow_factor(), "the uploads")
    for i in range(20):
        server.check_object("f%d" % i, blob(3000, i))


def test_removed_or_renamed_before_it_is_sent(server, mount):
    """A removal costs no request, a rename none either: one upload, to the new name."""
    m = mount(**LATER)
    os.listdir(m.path)
    server.reset()
    write_file(m.p("gone"), b"x" * 5000)
    os.unlink(m.p("gone"))
    write_file(m.p(".tmp"), b"y" * 5000)
    os.chmod(m.p(".tmp"), 0o640)
    os.rename(m.p(".tmp"), m.p("kept"))
    write_file(m.p("big"), blob(12 * MB))
    os.unlink(m.p("big"))
    assert server.counters() == {}
    m.unmount()
    assert server.counters() == {"PutObject": 1}
    server.check_object("kept", b"y" * 5000)
    assert int(server.headers("kept")["x-oss-meta-mode"]) & 0o7777 == 0o640


def test_versions_in_order(server, mount):
    """Each version that is seen in the bucket is one that was closed, and they come in order."""
    m = mount(upload="background", upload_delay=0)
    seen = []
    for i in range(30):
        write_file(m.p("f"), b"%04d" % i * 2000)
        data = server.object("f")
        if data:
            assert len(data) == 8000 and data == data[:4] * 2000
            seen.append(int(data[:4]))
    m.unmount()
    assert seen == sorted(seen)
    server.check_object("f", b"0029" * 2000)


def copy_into(fd, source):
    with open(source, "rb") as f:
        assert os.copy_file_range(f.fileno(), fd, 3000, 0, 100) == 3000


CHANGES = {
    "write": lambda fd, source: os.pwrite(fd, b"new", 100),
    "truncate": lambda fd, source: os.ftruncate(fd, 2000),
    "longer": lambda fd, source: harness.fallocate(fd, 0, 0, 9000),
    "zeros": lambda fd, source: harness.fallocate(fd, harness.ZERO_RANGE, 100, 500),
    "hole": lambda fd, source: harness.fallocate(fd, harness.PUNCH_HOLE | harness.KEEP_SIZE, 100, 500),
    "copy": copy_into,
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_fsynced_version_is_sent_before_it_is_changed(server, mount, change):
    """There is one copy of it on the disk: a crash in the middle of the change must not be all that is left of it."""
    server.plant("source", blob(3000, "source"))
    m = mount(**LATER)
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT)
    os.write(fd, blob(5000))
    os.fsync(fd)
    assert server.object("f") is None
    CHANGES[change](fd, m.p("source"))
    server.check_object("f", blob(5000))
    expected = os.pread(fd, 10000, 0)
    assert expected != blob(5000)
    os.close(fd)
    m.unmount()
    server.check_object("f", expected)


def test_fsync_in_the_middle_of_a_copy(server, mount):
    """The copy makes way for the upload of what was fsynced of it, and goes on."""
    data = blob(4 * MB)
    m = mount(**LATER)
    write_file(m.p("source"), data)
    source, fd = os.open(m.p("source"), os.O_RDWR), os.open(m.p("f"), os.O_RDWR | os.O_CREAT)
    os.write(source, data[:1])  # of what is not sent nothing can be shared
    over = threading.Event()
    syncs = []

    def keep_syncing():
        while not over.is_set() and len(syncs) < 5:
            os.fsync(fd)
            syncs.append(os.fstat(fd).st_size)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        job = pool.submit(keep_syncing)
        at = 0
        while at < len(data):
            at += os.copy_file_range(source, fd, len(data) - at, at, at)
        over.set()
        job.result(60)
    assert at == len(data) and syncs
    os.close(fd)
    os.close(source)
    m.unmount()
    server.check_object("f", data)


def test_append_to_what_is_not_sent_yet(server, mount):
    m = mount(**LATER)
    for i in range(5):
        write_file(m.p("f"), b"%d" % i * 100, "ab")
    os.truncate(m.p("f"), 450)
    m.unmount()
    server.check_object("f", b"".join(b"%d" % i * 100 for i in range(5))[:450])


def test_what_cannot_be_sent_stays_for_the_next_mount(server, mount_factory, tmp):
    options = dict(retries=0, connect_timeout=1, readwrite_timeout=1, metadata_deadline=2, transfer_deadline=2)
    cache = os.path.join(tmp, "cache")
    m = mount_factory(server, cache=cache, **LATER, **options)
    m.allow(" (warning|error) ")
    write_file(m.p("f"), blob(5000))
    server.outage(True)
    m.unmount(60)
    server.outage(False)
    assert server.files() == {}
    m = mount_factory(server, cache=cache)
    m.unmount()
    server.check_object("f", blob(5000))


def test_released_without_a_close(server, mount):
    """A program that is killed has closed its files."""
    m = mount(upload="background")
    code = "import os,sys,signal; fd=os.open(sys.argv[1],65); os.write(fd,b'z'*9000); os.kill(os.getpid(),9)"
    run(["/usr/bin/python3", "-c", code, m.p("f")], check=False)
    wait_until(lambda: server.object("f") == b"z" * 9000, 20 * harness.slow_factor(), "the upload")


def test_cache_full_of_what_is_not_sent(server, mount):
    """A write without room has what was closed sent at once, and nothing is lost."""
    m = mount(cache_size=4, **LATER)
    m.allow("No space")
    write_file(m.p("a"), blob(3 * MB))
    write_file(m.p("b"), blob(3 * MB, "b"))
    m.unmount()
    server.check_object("a", blob(3 * MB))
    server.check_object("b", blob(3 * MB, "b"))


# --------------------------------------------------------------------------------------------- the power fails


class Cut:
    """A daemon that is killed with nothing sent; then another boot, with the state directory as a disk may leave it."""

    def __init__(self, server, mount_factory, tmp):
        self.server, self.factory = server, mount_factory
        self.cache = os.path.join(tmp, "cache")
        server.plant("f", b"old")
        server.plant("old", blob(3 * MB, "old"))
        self.m = mount_factory(server, cache=self.cache, multipart_threshold=1, multipart_size=1, **LATER)

    def kill(self, change=lambda name, data: data):
        self.m.kill()
        directory = os.path.join(crash.state_dir(self.cache), "data")
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            data = read_file(path)
            if name.endswith(".journal"):
                data = crash.other_boot(data)
            data = change(name, data)
            if data is None:
                os.unlink(path)
            else:
                write_file(path, data)

    def recover(self):
        m = self.factory(self.server, cache=self.cache)
        m.allow("kept in", "sending of f failed")
        m.unmount(60)
        assert crash.unsent(self.cache) == {} and self.server.uploads() == []
        return {n: d for n, d in crash.listing(self.cache, "aside").items() if not n.endswith(".journal")}


@pytest.fixture
def cut(server, mount_factory, tmp):
    return Cut(server, mount_factory, tmp)


def test_power_cut_after_close(cut, server):
    """What was closed is durable: it is sent after the next boot, whatever its size, partial changes too."""
    write_file(cut.m.p("a"), blob(5000))
    write_file(cut.m.p("b"), blob(3 * MB, "b"))
    fd = os.open(cut.m.p("old"), os.O_RDWR)
    os.pwrite(fd, b"W" * 100, MB)
    os.close(fd)
    cut.kill()
    assert cut.recover() == {}
    server.check_object("a", blob(5000))
    server.check_object("b", blob(3 * MB, "b"))
    server.check_object("old", blob(3 * MB, "old")[:MB] + b"W" * 100 + blob(3 * MB, "old")[MB + 100 :])


SYNCED = 17


def test_power_cut_with_the_journal_rolled_back(cut, server):
    """A journal that ends before SYNCED is not believed: nothing is published, and what is there is kept."""
    write_file(cut.m.p("f"), blob(5000))

    def change(name, data):
        if not name.endswith(".journal"):
            return data[:4096]  # a page of it never reached the disk
        records = crash.journal_records(data)
        assert [kind for kind, _, _, _ in records].count(SYNCED) == 1
        return data[: next(start for kind, _, start, _ in records if kind == SYNCED)]

    cut.kill(change)
    assert list(cut.recover().values()) == [blob(5000)[:4096]]
    assert server.object("f") == b"old"


def test_power_cut_while_it_is_written_again(cut, server):
    """Written over behind the fsync: that version was sent before, and a mix of two, as the disk may have it, is not."""
    fd = os.open(cut.m.p("f"), os.O_RDWR)
    os.write(fd, blob(5000))
    os.fsync(fd)
    os.pwrite(fd, b"newer", 100)
    cut.kill()
    assert len(cut.recover()) == 1
    assert server.object("f") == blob(5000)


def test_power_cut_never_believes_what_was_not_closed(cut, server):
    fd = os.open(cut.m.p("g"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, blob(5000))
    cut.kill()
    cut.recover()
    assert server.object("g") is None


def test_power_cut_and_another_host(cut, server):
    """The object is another one by then: both are kept."""
    write_file(cut.m.p("f"), blob(5000))
    cut.kill()
    server.plant("f", b"another host's")
    assert list(cut.recover().values()) == [blob(5000)]
    assert server.object("f") == b"another host's"


# --------------------------------------------------------------------------------------------- temporary names


def rsync(source, m, *options):
    run(["rsync", "-a", *options, source + "/", m.p("d") + "/"])


@pytest.mark.parametrize("options", [dict(defer_temp=True), dict(upload="background", upload_delay=2)])
def test_rsync_of_new_small_files(server, mount, tmp, options):
    """One PutObject for each file, with its attributes."""
    source = os.path.join(tmp, "source")
    os.mkdir(source)
    for i in range(10):
        write_file(os.path.join(source, "f%d" % i), blob(1000 + i, i))
        os.chmod(os.path.join(source, "f%d" % i), 0o604)
        os.utime(os.path.join(source, "f%d" % i), (10**9, 10**9))
    m = mount(**options)
    os.mkdir(m.p("d"))
    os.listdir(m.p("d"))
    server.reset()
    rsync(source, m)
    m.unmount()
    counters = server.counters()
    assert counters.pop("PutObject") == 10, counters
    # The directory's own time and mode.
    assert counters.pop("CopyObject", 0) <= 2 and sum(counters.values()) <= 2, counters
    for i in range(10):
        server.check_object("d/f%d" % i, blob(1000 + i, i))
        headers = server.headers("d/f%d" % i)
        assert int(headers["x-oss-meta-mode"]) & 0o7777 == 0o604
        assert int(float(headers["x-oss-meta-mtime"])) == 10**9


def test_rename_answers_for_the_deferred_upload(server, mount):
    m = mount(defer_temp=True)
    m.allow("AccessDenied", "unsent", "access key")
    os.listdir(m.path)
    server.fault("status", op="PutObject", status=403, code="AccessDenied", count=-1)
    write_file(m.p(".f.AbC123"), b"x" * 1000)
    with raises_errno(errno.EACCES):
        os.rename(m.p(".f.AbC123"), m.p("f"))
    server.clear_faults()
    m.unmount()
    server.check_object("f", b"x" * 1000)
    assert list(server.files()) == ["f"]


def test_temporary_name_that_is_never_renamed(server, mount):
    """It is sent by the unmount; and other names are not deferred."""
    m = mount(defer_temp=True)
    write_file(m.p(".f.AbC123"), b"x")
    write_file(m.p(".f.AbC12"), b"y")
    assert list(server.files()) == [".f.AbC12"]
    m.unmount()
    assert server.object(".f.AbC123") == b"x"


@pytest.mark.parametrize("options", [[], ["--inplace"], ["--partial"], ["--delete"], ["--append"]])
def test_rsync_costs(server, mount, tmp, options):
    """One new, one grown, one unchanged, one removed file, with default options of the mount."""
    source = os.path.join(tmp, "source")
    os.mkdir(source)
    for i in range(3):
        write_file(os.path.join(source, "f%d" % i), blob(20000, i))
    m = mount()
    rsync(source, m)
    m.forget()
    os.listdir(m.p("d"))
    write_file(os.path.join(source, "new"), blob(5000, "new"))
    write_file(os.path.join(source, "f0"), blob(3000, "tail"), "ab")
    os.unlink(os.path.join(source, "f2"))
    server.reset()
    rsync(source, m, *options)
    time.sleep(1.2)
    counters = server.counters()
    heads = counters.pop("HeadObject", 0)
    assert heads <= 3 + 3, counters
    assert counters.pop("ListObjectsV2", 0) <= 2, counters
    assert counters.pop("GetObject", 0) <= 1, counters  # what the delta is made against
    assert counters.pop("GetObjectACL", 0) <= 1 + 1, counters
    # Each of the two: PUT, COPY, DELETE; in place: PUT and at most one COPY. The directory: one COPY.
    in_place = options in (["--inplace"], ["--append"])
    assert counters.pop("PutObject", 0) + counters.pop("AppendObject", 0) <= 2, counters
    assert counters.pop("CopyObject", 0) <= 2 + 1, counters
    assert counters.pop("DeleteObject", 0) <= (0 if in_place else 2) + (options == ["--delete"]), counters
    assert counters == {}
    server.check_object("d/f0", blob(20000, 0) + blob(3000, "tail"))
    server.check_object("d/new", blob(5000, "new"))
    assert (server.object("d/f2") is None) == (options == ["--delete"])
