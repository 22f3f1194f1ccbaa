"""
Each accident of test_faults.py, and more, at each request of a large file: one that leaves while it is written, one
that is sent in the background, one of which a part was changed. Once, or for as long as it lasts.

The files of a batch meet their accidents at the same time, each by its own name. The normal run takes a few of each
kind, always the same; OSSMOUNT_LONG=1 all.
"""

import collections
import concurrent.futures
import errno
import json
import os
import random

import pytest

import harness
from harness import OSSMOUNT, blob, read_file, run, wait_until
from test_faults import ACCIDENTS, SHORT

pytestmark = pytest.mark.bucket

KB, MB = 1 << 10, 1 << 20
INITIATE, PART, COPY, COMPLETE = "InitiateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload"


def refusal(status, code):
    return dict(action="status", status=status, code=code)


# What happens, and what the program may be told of it when it never ends.
MATRIX = {name: (ACCIDENTS[name], {errno.EIO}) for name in ("503", "429", "reset", "wrong CRC in the reply")}
MATRIX["lost reply"] = (ACCIDENTS["lost reply"], {errno.EIO, errno.ETIMEDOUT})
MATRIX["truncated reply"] = (dict(action="truncate"), {errno.EIO})
MATRIX["hang"] = (dict(action="hang"), {errno.EIO, errno.ETIMEDOUT})
MATRIX["AccessDenied"] = (refusal(403, "AccessDenied"), {errno.EACCES})
MATRIX["NoSuchUpload"] = (refusal(404, "NoSuchUpload"), {errno.ENOENT, errno.EIO})
MATRIX["NoSuchBucket"] = (refusal(404, "NoSuchBucket"), {errno.ENOENT, errno.EIO})

REFUSED = ("AccessDenied", "NoSuchUpload", "NoSuchBucket")
# The request was carried out, or may have been.
UNCLEAR = ("lost reply", "truncated reply", "wrong CRC in the reply")

LARGE = dict(multipart_threshold=1, multipart_size=1)
OWN = [INITIATE, PART, COMPLETE]
# What a mount has, and which requests of the file there are.
Shape = collections.namedtuple("Shape", "options requests")
SHAPES = {
    "streamed": Shape(LARGE, OWN),
    "background": Shape(dict(LARGE, upload="background", upload_delay=0), OWN + [COPY]),
    "changed": Shape(LARGE, OWN + [COPY]),
}
SAMPLE = 3

Case = collections.namedtuple("Case", "name op accident")
Outcome = collections.namedtuple("Outcome", "case old content fsync close")


def cases_of(shape, often):
    all_of_them = [(op, name) for op in SHAPES[shape].requests for name in MATRIX]
    # The CRC of a copied range is known from that reply alone: with a wrong one, the object that is made looks like
    # another program's.
    all_of_them = [x for x in all_of_them if x != (COPY, "wrong CRC in the reply")]
    if not os.environ.get("OSSMOUNT_LONG"):
        quick = [x for x in all_of_them if x[1] != "hang"]
        all_of_them = random.Random(shape + often).sample(quick, SAMPLE)
    return [Case("f%03d" % i, *x) for i, x in enumerate(all_of_them)]


def code_of(call, *args):
    try:
        call(*args)
    except OSError as e:
        return e.errno
    return 0


def is_change(shape, case):
    return shape == "changed" or (shape == "background" and case.op == COPY)


def old_content(shape, case):
    return blob(3 * MB, case.name) if is_change(shape, case) else b"old " + case.name.encode()


def work(m, server, shape, case):
    """A program writes the file, syncs it and closes it; what it was told."""
    old = old_content(shape, case)
    if is_change(shape, case):
        content = bytearray(old)
        fd = os.open(m.p(case.name), os.O_RDWR)
        for at in (MB, 2 * MB + 500 * KB):
            piece = blob(1000, at)
            os.pwrite(fd, piece, at)
            content[at : at + len(piece)] = piece
        content = bytes(content)
    else:
        content = blob(3 * MB + 77, case.name)
        fd = os.open(m.p(case.name), os.O_WRONLY | os.O_TRUNC)
        for at in range(0, len(content), 256 * KB):
            assert os.write(fd, content[at : at + 256 * KB]) == len(content[at : at + 256 * KB])
    fsync = code_of(os.fsync, fd)
    return Outcome(case, old, content, fsync, code_of(os.close, fd))


def status(m):
    return json.loads(run([OSSMOUNT, "status", m.path, "--json"]).stdout)


def unsent(m):
    found = status(m)
    return {f["key"] for kind in ("sending", "pending", "failed") for f in found[kind]["files"]}


def check_told(m, server, shape, often, o, listed):
    """What the program was told is so, in the bucket and in the cache."""
    what = "%s: %s" % (shape, o)[:300]
    name, accident = o.case.name, o.case.accident
    found = server.object(name)
    if shape == "background":
        assert o.fsync == o.close == 0, what
    elif o.close == 0:
        assert found == o.content, what
    if found != o.content:
        assert found == o.old, what
        assert name in listed, what
    elif shape != "background" and o.close:
        assert accident in UNCLEAR, what
    assert read_file(m.p(name)) == o.content, what
    for code in o.fsync, o.close:
        assert code in MATRIX[accident][1] | {0}, what
    if often == "once" and accident not in REFUSED:
        assert o.fsync == o.close == 0, what
    if often == "for ever" and accident not in UNCLEAR:
        assert found == o.old and (o.close or shape == "background"), what


def ended(m, server, outcomes):
    """Is each in the bucket, or has it failed?"""
    failed = {f["key"] for f in status(m)["failed"]["files"]}
    return all(o.case.name in failed or server.object(o.case.name) == o.content for o in outcomes)


def arrived(m, outcomes):
    run([OSSMOUNT, "retry", m.path], check=False)
    return not unsent(m) & {o.case.name for o in outcomes}


def run_batch(m, server, shape, often, cases):
    for case in cases:
        fault, _ = MATRIX[case.accident]
        skip = 2 if case.op == PART and often == "once" and not is_change(shape, case) else 0
        server.fault(op=case.op, key=case.name, skip=skip, count=1 if often == "once" else -1, **fault)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda case: work(m, server, shape, case), cases))
    patience = 60 * harness.slow_factor()
    if shape == "background":
        wait_until(lambda: ended(m, server, outcomes), patience, "an end of each upload", step=0.2)
    assert all(f["hits"] for f in server.faults()), server.faults()
    listed = unsent(m)
    for o in outcomes:
        check_told(m, server, shape, often, o, listed)
    server.clear_faults()
    wait_until(lambda: arrived(m, outcomes), patience, "what was unsent", step=0.2)
    for o in outcomes:
        server.check_object(o.case.name, o.content)


@pytest.mark.parametrize("often", ["once", "for ever"])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_matrix(server, mount, shape, often):
    cases = cases_of(shape, often)
    for case in cases:
        server.plant(case.name, old_content(shape, case))
    m = mount(**SHAPES[shape].options, **(SHORT if often == "for ever" else dict(readwrite_timeout=3)))
    m.allow(" (warning|error) ")
    run_batch(m, server, shape, often, cases)
    m.unmount()
    # Whether a lost Initiate began an upload is for the next mount to see, which aborts it.
    unknown = {case.name for case in cases if case.op == INITIATE and case.accident in UNCLEAR}
    assert {u["key"] for u in server.uploads()} <= unknown
    if unknown:
        m.remount()
        m.unmount()
        assert server.uploads() == []
