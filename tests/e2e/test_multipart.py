"""Where PutObject ends and multipart begins, seen at the server: sizes, parts, requests, memory."""

import os
import threading
import urllib.parse

import pytest

from harness import big_chunks, blob, crc64, read_file, run, wait_until, write_file

MB = 1 << 20
PART_MIN = 102400


def parts_of(server, key):
    """Sizes of the parts that were uploaded for `key`, in the order of their numbers."""
    found = {}
    for entry in server.log("UploadPart", key):
        if entry["status"] == 200:
            number = int(urllib.parse.parse_qs(entry["query"])["partNumber"][0])
            found[number] = entry["bytes_in"]
    assert sorted(found) == list(range(1, len(found) + 1))
    return [found[n] for n in sorted(found)]


def check_multipart(server, key, size, expected_parts):
    counters = {k: v for k, v in server.counters().items() if k != "ListObjectsV2"}
    if expected_parts == 0:
        assert counters == {"PutObject": 1}
        assert server.objects()[key]["type"] == "Normal"
    else:
        wanted = {"InitiateMultipartUpload": 1, "UploadPart": expected_parts, "CompleteMultipartUpload": 1}
        assert counters == wanted
        assert server.objects()[key]["type"] == "Multipart"
        parts = parts_of(server, key)
        assert sum(parts) == size
        assert all(p >= PART_MIN for p in parts[:-1])
    assert server.uploads() == []


EDGES = [
    # (size, parts; 0: one PutObject)
    (0, 0),
    (1, 0),
    (MB - 1, 0),
    (MB, 0),  # the threshold itself is one PutObject
    (MB + 1, 2),
    (2 * MB - 1, 2),
    (2 * MB, 2),
    (2 * MB + 1, 3),
    (5 * MB, 5),  # exactly n parts
    (5 * MB + 1, 6),  # and a part of one byte
    (5 * MB + PART_MIN, 6),
]


@pytest.mark.sanitizer
@pytest.mark.parametrize("size,parts", EDGES)
def test_edges_of_1_mb(server, mount, size, parts):
    m = mount(multipart_threshold=1, multipart_size=1)
    os.listdir(m.path)
    server.reset()
    data = blob(size)
    write_file(m.p("f"), data)
    check_multipart(server, "f", size, parts)
    if parts:
        assert parts_of(server, "f") == [MB] * (size // MB) + ([size % MB] if size % MB else [])
    server.check_object("f", data)
    m.forget()
    assert read_file(m.p("f")) == data


@pytest.mark.parametrize("size,parts", [(10 * MB - 1, 0), (10 * MB, 0), (10 * MB + 1, 2), (30 * MB, 3), (30 * MB + 1, 4)])
def test_edges_of_the_default(server, mount, size, parts):
    """10 MB and 10 MB when nothing is said."""
    m = mount()
    os.listdir(m.path)
    server.reset()
    write_file(m.p("f"), blob(size))
    check_multipart(server, "f", size, parts)
    if parts:
        assert parts_of(server, "f") == [10 * MB] * (size // (10 * MB)) + ([size % (10 * MB)] if size % (10 * MB) else [])
    server.check_object("f", blob(size))


def test_threshold_above_part_size(server, mount):
    """The threshold decides the way, the part size the parts."""
    m = mount(multipart_threshold=4, multipart_size=1)
    for size, parts in (4 * MB, 0), (4 * MB + 1, 5):
        os.listdir(m.path)
        server.reset()
        write_file(m.p("f%d" % size), blob(size))
        check_multipart(server, "f%d" % size, size, parts)


def test_part_size_above_threshold(server, mount):
    """Larger than the threshold and smaller than a part: a multipart upload of one part is legal, so is a PutObject."""
    m = mount(multipart_threshold=1, multipart_size=8)
    size = 3 * MB
    os.listdir(m.path)
    server.reset()
    write_file(m.p("f"), blob(size))
    server.check_object("f", blob(size))
    assert sum(server.counters().values()) <= 3
    assert server.uploads() == []


def test_overwrite_crosses_the_threshold(server, mount):
    """Small over large and large over small."""
    m = mount(multipart_threshold=1, multipart_size=1)
    for size, kind in (3 * MB, "Multipart"), (100, "Normal"), (2 * MB + 7, "Multipart"), (0, "Normal"):
        write_file(m.p("f"), blob(size))
        # An empty file over bytes is published by the release, which close() does not wait for.
        wait_until(lambda: server.objects()["f"]["size"] == size, 5, "the new object")
        assert server.objects()["f"]["type"] == kind
        server.check_object("f", blob(size))
    assert server.uploads() == []


@pytest.mark.sanitizer
def test_change_within_multipart_object(server, mount):
    """Some bytes changed in a large object, grown at its end, cut: always the bytes that were written."""
    m = mount(multipart_threshold=1, multipart_size=1)
    data = bytearray(blob(6 * MB))
    write_file(m.p("f"), data)
    m.forget()
    fd = os.open(m.p("f"), os.O_RDWR)
    os.pwrite(fd, b"changed", 3 * MB - 3)
    os.pwrite(fd, blob(2 * MB, "tail"), 6 * MB + 100)
    os.close(fd)
    data[3 * MB - 3 : 3 * MB + 4] = b"changed"
    data += bytes(100) + blob(2 * MB, "tail")
    server.check_object("f", bytes(data))
    m.forget()
    os.truncate(m.p("f"), 4 * MB + 5)
    server.check_object("f", bytes(data[: 4 * MB + 5]))
    assert read_file(m.p("f")) == data[: 4 * MB + 5]
    assert server.uploads() == []


def test_parts_go_in_parallel(server, mount):
    """Five parts are on their way before any of them has been answered."""
    m = mount(multipart_threshold=1, multipart_size=1)
    m.allow(" warning ")  # those that hang are answered by nobody, and sent again
    server.fault(op="UploadPart", action="hang", count=-1)
    thread = threading.Thread(target=write_file, args=(m.p("f"), blob(10 * MB)))
    thread.start()
    wait_until(lambda: server.faults()[0]["hits"] >= 5, 60, "five parts at once")
    server.clear_faults()
    thread.join(100)
    server.check_object("f", blob(10 * MB))


def test_several_large_files_at_once(server, mount):
    m = mount(multipart_threshold=1, multipart_size=1)
    run(["sh", "-c", "for i in 1 2 3 4 5 6; do head -c 9000000 /dev/urandom > f$i & done; wait"], cwd=m.path)
    sums = run(["sh", "-c", "md5sum f?"], cwd=m.path).stdout
    for i in range(1, 7):
        data = server.object("f%d" % i)
        assert len(data) == 9000000
    m.forget()
    assert run(["sh", "-c", "md5sum f?"], cwd=m.path).stdout == sums
    assert server.uploads() == []


def big_file(server, m, tmp, size):
    """A large file through cp, in and out; returns how much the daemon's memory grew at most."""
    source = os.path.join(tmp, "big")
    with open(source, "wb") as f:
        for chunk in big_chunks(size):
            f.write(chunk)
    # The idle state is one in which connections and threads have been used.
    for i in range(20):
        write_file(m.p("warm%d" % i), blob(100000, i))
        read_file(m.p("warm%d" % i))
    with m.memory_peak() as memory:
        run(["cp", source, m.p("big")], timeout=400)
        run(["cmp", source, m.p("big")], timeout=400)
    growth = memory[1] - memory[0]
    described = server.objects()["big"]
    assert described["size"] == size
    assert int(described["crc64"]) == crc64(big_chunks(size))
    m.forget()
    with m.memory_peak() as memory:
        run(["cmp", source, m.p("big")], timeout=400)
    growth = max(growth, memory[1] - memory[0])
    os.unlink(source)
    assert server.uploads() == []
    return growth


@pytest.mark.timeout(300)
def test_256_mib(server_factory, mount_factory, tmp):
    server = server_factory(store=os.path.join(tmp, "store"))
    m = mount_factory(server)
    growth = big_file(server, m, tmp, 256 * MB)
    print("256 MiB: memory grew by %.1f MiB" % (growth / MB))
    assert growth <= 64 * MB


@pytest.mark.long
@pytest.mark.timeout(600)
def test_2_gib(server_factory, mount_factory, tmp):
    server = server_factory(store=os.path.join(tmp, "store"))
    m = mount_factory(server)
    growth = big_file(server, m, tmp, 2048 * MB)
    print("2 GiB: memory grew by %.1f MiB" % (growth / MB))
    assert growth <= 64 * MB
