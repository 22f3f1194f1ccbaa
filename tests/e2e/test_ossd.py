"""The local server does what OSS does: operations, limits and error codes, over a client of the tests' own."""

import base64
import hashlib
import os
import socket
import time
from email.utils import formatdate

import pytest

from harness import blob, crc64_of
from osssign import Client, quote

BUCKET = "test-bucket"
PART = 102400


@pytest.fixture
def oss(server):
    """client(method, key, query, headers, body) on the test's bucket."""
    with Client(server.port) as client:

        def call(method, key="", query=(), headers=None, body=b"", length=True):
            return client(method, BUCKET, key, query, headers, body, length)

        call.client = client
        yield call


@pytest.fixture(params=["memory", "directory"])
def store_kind(request):
    return request.param


@pytest.fixture
def any_store(store_kind, server_factory, tmp):
    return server_factory(store=os.path.join(tmp, "store") if store_kind == "directory" else None)


def md5(data):
    return hashlib.md5(data)


def content_md5(data):
    return base64.b64encode(md5(data).digest()).decode()


def failed(reply, status, code):
    assert (reply.status, reply.code) == (status, code), (reply.status, reply.body)
    return reply


def complete_body(parts):
    text = "".join("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>" % p for p in parts)
    return ("<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % text).encode()


def initiate(oss, key, headers=None, query=()):
    r = oss("POST", key, [("uploads", "")] + list(query), headers)
    assert r.status == 200, r.body
    return r.text("UploadId")


def upload_part(oss, key, upload, number, data):
    r = oss("PUT", key, {"partNumber": str(number), "uploadId": upload}, body=data)
    assert r.status == 200, r.body
    assert r.etag == md5(data).hexdigest().upper() and r.crc == crc64_of(data)
    return number, r.etag


# ------------------------------------------------------------------------------------------- put, get, head


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 300000, 4 << 20, (4 << 20) + 1])
def test_put_get(any_store, size):
    data = blob(size)
    crc = crc64_of(data)
    with Client(any_store.port) as oss:
        r = oss("PUT", BUCKET, "dir/k", headers={"Content-MD5": content_md5(data)}, body=data)
        assert r.status == 200
        assert (r.etag, r.crc) == (md5(data).hexdigest().upper(), crc)
        assert r.headers["content-md5"] == content_md5(data)
        r = oss("GET", BUCKET, "dir/k")
        assert (r.status, r.body) == (200, data)
        h = oss("HEAD", BUCKET, "dir/k")
        assert (h.status, h.body, h.headers["content-length"]) == (200, b"", str(size))
        for one in (r, h):
            assert (one.etag, one.crc) == (md5(data).hexdigest().upper(), crc)
            assert one.headers["x-oss-object-type"] == "Normal"
            assert one.headers["content-type"] == "application/octet-stream"
            assert one.headers["x-oss-storage-class"] == "Standard"
            assert one.headers["accept-ranges"] == "bytes"
            assert len(one.headers["x-oss-request-id"]) == 24
            assert one.headers["server"] == "AliyunOSS"
        m = oss("HEAD", BUCKET, "dir/k", {"objectMeta": ""})
        assert (m.etag, m.headers["content-length"]) == (r.etag, str(size))
        assert "content-type" not in m.headers


def test_headers_of_an_object(oss):
    given = {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-cache",
        "Content-Disposition": 'attachment;filename="a b"',
        "Content-Encoding": "identity",
        "Content-Language": "de",
        "Expires": "Wed, 22 Feb 2012 08:32:21 GMT",
        "x-oss-meta-Mixed-Case": "O. Henry",
        "x-oss-meta-utf8": "\u76ee\u5f55",
        "x-oss-meta-empty": "",
        "x-oss-storage-class": "IA",
        "x-oss-server-side-encryption": "AES256",
        "x-oss-tagging": "a=1&b=%20x",
    }
    assert oss("PUT", "k", headers=given, body=b"data").status == 200
    for method in ("GET", "HEAD"):
        got = oss(method, "k").headers
        for name, value in given.items():
            if name not in ("x-oss-tagging", "x-oss-meta-utf8"):
                assert got[name.lower()] == value, name
        assert got["x-oss-meta-utf8"].encode("latin-1").decode() == "\u76ee\u5f55"
        assert got["x-oss-tagging-count"] == "2"
    r = oss("GET", "k", {"response-content-type": "a/b", "response-cache-control": "max-age=1"})
    assert (r.headers["content-type"], r.headers["cache-control"]) == ("a/b", "max-age=1")
    assert oss("PUT", "k", body=b"plain").status == 200
    assert "x-oss-meta-empty" not in oss("HEAD", "k").headers


RANGES = [
    # range, default: status and bytes, standard: status and bytes
    ("bytes=0-499", 206, (0, 500), 206, (0, 500)),
    ("bytes=999-999", 206, (999, 1000), 206, (999, 1000)),
    ("bytes=500-1999", 200, (0, 1000), 206, (500, 1000)),
    ("bytes=500-", 206, (500, 1000), 206, (500, 1000)),
    ("bytes=-10", 206, (990, 1000), 206, (990, 1000)),
    ("bytes=-2000", 200, (0, 1000), 206, (0, 1000)),
    ("bytes=1000-1999", 200, (0, 1000), 416, None),
    ("bytes=1000-", 200, (0, 1000), 416, None),
    ("byte=0-9", 200, (0, 1000), 200, (0, 1000)),
    ("bytes=9-5", 200, (0, 1000), 200, (0, 1000)),
    ("bytes=a-b", 200, (0, 1000), 200, (0, 1000)),
]


@pytest.mark.parametrize("text,status,span,standard_status,standard_span", RANGES, ids=[r[0] for r in RANGES])
def test_ranges(oss, text, status, span, standard_status, standard_span):
    data = blob(1000)
    oss("PUT", "k", body=data)
    for headers, want, part in (
        ({"Range": text}, status, span),
        ({"Range": text, "x-oss-range-behavior": "standard"}, standard_status, standard_span),
    ):
        r = oss("GET", "k", headers=headers)
        assert r.status == want
        if part is None:
            assert r.code == "InvalidRange"
            continue
        assert r.body == data[part[0] : part[1]]
        assert r.crc == crc64_of(data)
        if want == 206:
            assert r.headers["content-range"] == "bytes %d-%d/1000" % (part[0], part[1] - 1)
        else:
            assert "content-range" not in r.headers


def test_ranges_over_parts(any_store):
    """A range that begins in one part and ends in another, in both stores."""
    with Client(any_store.port) as client:

        def oss(method, key, query=(), headers=None, body=b""):
            return client(method, BUCKET, key, query, headers, body)

        upload = initiate(oss, "k")
        data = [blob(PART + 7, 1), blob(PART, 2), blob(3, 3)]
        parts = [upload_part(oss, "k", upload, i + 1, d) for i, d in enumerate(data)]
        assert oss("POST", "k", {"uploadId": upload}, body=complete_body(parts)).status == 200
        whole = b"".join(data)
        assert oss("GET", "k").body == whole
        for a, b in ((0, 10), (PART, PART + 20), (PART + 6, 2 * PART + 9), (2 * PART + 7, 2 * PART + 10), (5, 2 * PART + 9)):
            r = oss("GET", "k", headers={"Range": "bytes=%d-%d" % (a, b - 1)})
            assert (r.status, r.body) == (206, whole[a:b])


def test_conditions(oss):
    oss("PUT", "k", body=b"data")
    head = oss("HEAD", "k")
    etag, modified = head.headers["etag"], head.headers["last-modified"]
    past, future = formatdate(time.time() - 1000, usegmt=True), formatdate(time.time() + 1000, usegmt=True)
    for headers, status in (
        ({"If-Match": etag}, 200),
        ({"If-Match": etag.strip('"')}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": past}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": "nonsense"}, 200),
        ({"If-Unmodified-Since": past}, 412),
        ({"If-Unmodified-Since": modified}, 200),
        ({"If-Unmodified-Since": future, "If-Modified-Since": past}, 200),
        ({"If-Match": etag, "If-None-Match": '"other"'}, 200),
    ):
        for method in ("GET", "HEAD"):
            r = oss(method, "k", headers=headers)
            assert r.status == status, (headers, method)
            if status == 412:
                assert r.code == "PreconditionFailed"
            if status == 304:
                assert r.body == b""


# ----------------------------------------------------------------------------------------- what is refused


def test_names(oss):
    for key in ("a" * 1023, "\u00e9" * 511, "a//b", "a/./b", "a/../b", "..", "dir/", "a\\b", "\x01", "%", "a b+c"):
        assert oss("PUT", key, body=b"x").status == 200, key
        assert oss("GET", key).body == b"x"
    for key in ("a" * 1024, "\u00e9" * 512, "/a", "\\a"):
        failed(oss("PUT", key, body=b"x"), 400, "InvalidObjectName")
        failed(oss("GET", key), 400, "InvalidObjectName")
        assert oss("HEAD", key).code == "InvalidObjectName"
    target, headers = oss.client.prepare("PUT", BUCKET, "k", (), {})
    client = oss.client
    for path in ("%ff", "a%C3", "a%00b", "%ED%A0%80", "%C0%AF"):
        client.how = "none"
        failed(client.send("GET", "/%s/%s" % (BUCKET, path), {"Host": "127.0.0.1"}), 403, "AccessDenied")
    client.how = "v4"


def test_names_without_signature(server_factory):
    server = server_factory("--no-auth")
    with Client(server.port) as client:
        for path in ("%ff", "a%C3", "a%00b", "%ED%A0%80", "%C0%AF", "%zz"):
            r = client.send("GET", "/%s/%s" % (BUCKET, path), {"Host": "127.0.0.1"})
            failed(r, 400, "InvalidObjectName")
        for bucket, code in (("ab", "InvalidBucketName"), ("Upper-case", "InvalidBucketName"), ("-abc", "InvalidBucketName"),
                             ("a" * 64, "InvalidBucketName"), ("unknown", "NoSuchBucket")):
            assert client.send("GET", "/%s/k" % bucket, {"Host": "127.0.0.1"}).code == code


def test_metadata_limits(oss):
    assert oss("PUT", "k", headers={"x-oss-meta-a": "v" * 8191}, body=b"").status == 200
    failed(oss("PUT", "k", headers={"x-oss-meta-a": "v" * 8192}, body=b""), 400, "InvalidArgument")
    failed(oss("PUT", "k", headers={"x-oss-meta-a_b": "v"}, body=b""), 400, "InvalidArgument")
    failed(oss("PUT", "k", headers={"x-oss-storage-class": "Cheap"}), 400, "InvalidArgument")
    failed(oss("PUT", "k", headers={"x-oss-object-acl": "mine"}), 400, "InvalidArgument")
    failed(oss("PUT", "k", headers={"x-oss-server-side-encryption": "ROT13"}), 400, "InvalidEncryptionAlgorithmError")
    failed(oss("PUT", "k", headers={"x-oss-tagging": "&".join("k%d=v" % i for i in range(11))}), 400, "InvalidTag")
    failed(oss("PUT", "k", headers={"x-oss-tagging": "a=1&a=2"}), 400, "InvalidTag")
    assert len(oss("HEAD", "k").headers["x-oss-meta-a"]) == 8191


def test_body_rules(oss, server):
    data = blob(200000)
    oss("PUT", "k", body=b"old")
    failed(oss("PUT", "k", body=b"", length=False), 411, "MissingContentLength")
    failed(oss("PUT", "k", headers={"Content-MD5": content_md5(b"other")}, body=data), 400, "InvalidDigest")
    failed(oss("PUT", "k", headers={"Content-MD5": "abc"}, body=data), 400, "InvalidDigest")
    failed(oss("PUT", "k", headers={"x-oss-hash-crc64ecma": "1"}, body=data), 400, "InvalidCRC64")
    failed(oss("PUT", "k", headers={"x-oss-hash-crc64ecma": "-1"}, body=data), 400, "InvalidArgument")
    failed(oss("PUT", "k", headers={"Content-Length": str((5 << 30) + 1), "Expect": "100-continue"}), 400, "EntityTooLarge")
    for name in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"):
        r = failed(oss("PUT", "k", headers={name: "*"}, body=data), 400, "NotImplemented")
        assert r.text("Header") == name.lower()
    assert oss("GET", "k").body == b"old"
    assert oss("PUT", "k", headers={"x-oss-hash-crc64ecma": str(crc64_of(data))}, body=data).status == 200
    r = oss("PUT", "chunked", body=[data[:10], data[10:100000], data[100000:]])
    assert (r.status, r.crc) == (200, crc64_of(data))
    assert oss("GET", "chunked").body == data


def test_overwrite_rules(oss):
    assert oss("PUT", "k", headers={"x-oss-forbid-overwrite": "true"}, body=b"1").status == 200
    failed(oss("PUT", "k", headers={"x-oss-forbid-overwrite": "true"}, body=b"2"), 409, "FileAlreadyExists")
    failed(oss("POST", "k", {"uploads": ""}, {"x-oss-forbid-overwrite": "true"}), 409, "FileAlreadyExists")
    failed(oss("PUT", "k", {"symlink": ""}, {"x-oss-forbid-overwrite": "true", "x-oss-symlink-target": "t"}), 409, "FileAlreadyExists")
    assert oss("GET", "k").body == b"1"
    assert oss("PUT", "k", {"acl": ""}, {"x-oss-object-acl": "private"}).status == 200
    assert oss("GET", "k", {"acl": ""}).text("AccessControlList/Grant") == "private"
    assert oss("PUT", "k", headers={"x-oss-object-acl": "public-read"}, body=b"2").status == 200
    assert oss("GET", "k", {"acl": ""}).text("AccessControlList/Grant") == "public-read"
    assert oss("PUT", "k", body=b"3").status == 200
    assert oss("GET", "k", {"acl": ""}).text("AccessControlList/Grant") == "default"


def test_missing_things(oss):
    r = failed(oss("GET", "k"), 404, "NoSuchKey")
    assert r.text("Key") == "k" and r.text("RequestId") == r.headers["x-oss-request-id"] and r.text("EC") == r.headers["x-oss-ec"]
    r = oss("HEAD", "k")
    assert (r.status, r.body, r.code) == (404, b"", "NoSuchKey")
    assert oss("DELETE", "k").status == 204
    for query in ({"acl": ""}, {"tagging": ""}, {"symlink": ""}):
        failed(oss("GET", "k", query), 404, "NoSuchKey")
    failed(oss.client("GET", "absent-bucket", "k"), 404, "NoSuchBucket")
    failed(oss("GET", "k", {"lifecycle": ""}), 400, "NotImplemented")
    failed(oss("POST", "k"), 405, "MethodNotAllowed")


# --------------------------------------------------------------------------------------------------- append


def test_append(any_store):
    pieces = [b"", b"hello", blob(70000, 1), bytes(5 << 20), b"end"]
    with Client(any_store.port) as client:

        def append(key, position, data, headers=None):
            return client("POST", BUCKET, key, [("append", ""), ("position", str(position))], headers, data)

        whole = b""
        for i, piece in enumerate(pieces):
            r = append("k", len(whole), piece, {"x-oss-meta-n": str(i), "Content-MD5": content_md5(piece)})
            whole += piece
            assert r.status == 200, r.body
            assert int(r.headers["x-oss-next-append-position"]) == len(whole)
            assert r.crc == crc64_of(whole)
        h = client("HEAD", BUCKET, "k").headers
        assert (h["x-oss-object-type"], h["x-oss-next-append-position"], h["x-oss-meta-n"]) == ("Appendable", str(len(whole)), "0")
        assert "content-md5" not in h
        assert client("GET", BUCKET, "k").body == whole
        for position in (0, len(whole) - 1, len(whole) + 1):
            r = failed(append("k", position, b"x"), 409, "PositionNotEqualToLength")
            assert int(r.headers["x-oss-next-append-position"]) == len(whole)
        failed(append("absent", 1, b"x"), 409, "PositionNotEqualToLength")
        failed(append("k", len(whole), b"x", {"Content-MD5": content_md5(b"y")}), 400, "InvalidDigest")
        failed(client("POST", BUCKET, "k", {"append": ""}, body=b"x"), 400, "MissingArgument")
        client("PUT", BUCKET, "k", body=b"normal")
        failed(append("k", 6, b"x"), 409, "ObjectNotAppendable")
        assert client("HEAD", BUCKET, "k").headers["x-oss-object-type"] == "Normal"


def test_append_changes_the_etag_and_spares_readers(any_store):
    """A copy made before an append keeps its bytes, though both share the stored ones."""
    with Client(any_store.port) as client:
        etags = set()
        for i in range(20):
            r = client("POST", BUCKET, "log", [("append", ""), ("position", str(i))], body=b"%c" % (65 + i))
            etags.add(r.etag)
            client("PUT", BUCKET, "copy%d" % i, headers={"x-oss-copy-source": "/%s/log" % BUCKET})
        assert len(etags) == 20
        for i in range(20):
            assert client("GET", BUCKET, "copy%d" % i).body == bytes(range(65, 66 + i))
        assert client("GET", BUCKET, "log").body == bytes(range(65, 85))


def test_racing_appends(server):
    """Of many appends at the same position exactly one wins, and the bytes are the winner's."""
    import threading

    for turn in range(5):
        replies = [None] * 8

        def one(i):
            with Client(server.port) as client:
                body = bytes([65 + i]) * 50000
                replies[i] = client("POST", BUCKET, "race%d" % turn, [("append", ""), ("position", "0")], body=body)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
        [t.start() for t in threads]
        [t.join(30) for t in threads]
        winners = [i for i, r in enumerate(replies) if r.status == 200]
        assert len(winners) == 1
        assert all(r.code == "PositionNotEqualToLength" for i, r in enumerate(replies) if i not in winners)
        assert server.object("race%d" % turn) == bytes([65 + winners[0]]) * 50000


# ------------------------------------------------------------------------------------------------ multipart


def test_multipart(oss, server):
    data = [blob(PART, 1), blob(PART + 1, 2), b"x"]
    oss("PUT", "k", body=b"old")
    upload = initiate(oss, "k", {"x-oss-meta-a": "1", "Content-Type": "text/x"})
    numbers = [9, 2, 10000]
    parts = sorted(upload_part(oss, "k", upload, n, d) for n, d in zip(numbers, [data[1], data[0], data[2]]))
    listed = oss("GET", "k", {"uploadId": upload})
    assert listed.texts("Part/PartNumber") == ["2", "9", "10000"]
    assert listed.texts("Part/Size") == [str(PART), str(PART + 1), "1"]
    assert listed.texts("Part/HashCrc64ecma") == [str(crc64_of(d)) for d in data]
    assert listed.text("IsTruncated") == "false"
    page = oss("GET", "k", {"uploadId": upload, "max-parts": "1", "part-number-marker": "2"})
    assert (page.texts("Part/PartNumber"), page.text("IsTruncated"), page.text("NextPartNumberMarker")) == (["9"], "true", "9")
    assert oss("GET", "k").body == b"old"
    r = oss("POST", "k", {"uploadId": upload}, {"x-oss-object-acl": "private"}, complete_body(parts))
    assert r.status == 200 and r.text("ETag").strip('"') == r.etag and r.etag.endswith("-3")
    assert r.crc == crc64_of(b"".join(data))
    got = oss("GET", "k")
    assert got.body == b"".join(data) and got.crc == r.crc and got.etag == r.etag
    assert (got.headers["x-oss-object-type"], got.headers["x-oss-meta-a"], got.headers["content-type"]) == ("Multipart", "1", "text/x")
    assert "content-md5" not in got.headers
    assert oss("GET", "k", {"acl": ""}).text("AccessControlList/Grant") == "private"
    failed(oss("POST", "k", {"uploadId": upload}, body=complete_body(parts)), 404, "NoSuchUpload")
    failed(oss("PUT", "k", {"uploadId": upload, "partNumber": "1"}, body=b"x"), 404, "NoSuchUpload")
    failed(oss("GET", "k", {"uploadId": upload}), 404, "NoSuchUpload")
    failed(oss("DELETE", "k", {"uploadId": upload}), 404, "NoSuchUpload")
    assert server.uploads() == []


def test_multipart_rules(oss):
    upload = initiate(oss, "k")
    one, two = upload_part(oss, "k", upload, 1, blob(PART - 1, 1)), upload_part(oss, "k", upload, 2, b"tail")

    def complete(parts, headers=None, body=None):
        return oss("POST", "k", {"uploadId": upload}, headers, complete_body(parts) if body is None else body)

    r = failed(complete([one, two]), 400, "EntityTooSmall")
    assert r.text("PartNumber") == "1"
    failed(complete([two, one]), 400, "InvalidPartOrder")
    failed(complete([one, one]), 400, "InvalidPartOrder")
    failed(complete([(1, "0" * 32)]), 400, "InvalidPart")
    failed(complete([(3, one[1])]), 400, "InvalidPart")
    failed(complete([]), 400, "MalformedXML")
    failed(complete([], body=b"not xml"), 400, "MalformedXML")
    failed(complete([], body=b"<!DOCTYPE a [<!ENTITY e 'x'>]>" + complete_body([two])), 400, "MalformedXML")
    failed(complete([one], {"x-oss-complete-all": "yes"}), 400, "InvalidArgument")
    failed(complete([], {"x-oss-complete-all": "yes"}, b""), 400, "EntityTooSmall")
    for number in ("0", "10001", "-1", "x"):
        failed(oss("PUT", "k", {"uploadId": upload, "partNumber": number}, body=b"x"), 400, "InvalidArgument")
    failed(oss("PUT", "other", {"uploadId": upload, "partNumber": "1"}, body=b"x"), 404, "NoSuchUpload")
    failed(oss("PUT", "k", {"uploadId": upload, "partNumber": "1"}, {"x-oss-hash-crc64ecma": "7"}, b"x"), 400, "InvalidCRC64")
    bigger = upload_part(oss, "k", upload, 1, blob(PART, 4))
    failed(complete([one, two]), 400, "InvalidPart")
    r = complete([], {"x-oss-complete-all": "yes"}, b"")
    assert r.status == 200 and r.crc == crc64_of(blob(PART, 4) + b"tail")
    assert bigger[1] != one[1]
    upload = initiate(oss, "k")
    parts = [upload_part(oss, "k", upload, 7, b"only")]
    assert complete([(7, '"%s"' % parts[0][1])]).status == 200
    assert oss("GET", "k").body == b"only"
    upload = initiate(oss, "k")
    upload_part(oss, "k", upload, 1, b"gone")
    assert oss("DELETE", "k", {"uploadId": upload}).status == 204
    failed(complete([], {"x-oss-complete-all": "yes"}, b""), 404, "NoSuchUpload")


def test_sequential_upload(oss):
    upload = initiate(oss, "k", query=[("sequential", "")])
    failed(oss("PUT", "k", {"uploadId": upload, "partNumber": "2"}, body=b"x"), 400, "PartNotSequential")
    one = upload_part(oss, "k", upload, 1, b"x")
    r = failed(oss("PUT", "k", {"uploadId": upload, "partNumber": "1"}, body=b"y"), 409, "PartAlreadyExist")
    assert r.text("ETag") == one[1]


def test_upload_part_copy(oss):
    data = blob(3 * PART, 5)
    oss("PUT", "src", body=data)
    etag = oss("HEAD", "src").etag
    upload = initiate(oss, "k")

    def copy(number, **headers):
        headers = {"x-oss-copy-source-" + k.replace("_", "-"): v for k, v in headers.items()}
        headers["x-oss-copy-source"] = "/%s/src" % BUCKET
        return oss("PUT", "k", {"uploadId": upload, "partNumber": str(number)}, headers)

    r = copy(1, range="bytes=10-%d" % (2 * PART + 9), if_match=etag)
    assert r.status == 200 and r.headers["content-range"] == "bytes 10-%d/%d" % (2 * PART + 9, 3 * PART)
    assert r.crc == crc64_of(data[10 : 2 * PART + 10])
    whole = copy(2)
    assert whole.status == 200 and "content-range" not in whole.headers
    failed(copy(3, range="bytes=0-%d" % (3 * PART)), 416, "InvalidRange")
    failed(copy(3, range="bytes=5-"), 416, "InvalidRange")
    failed(copy(3, if_match="other"), 412, "PreconditionFailed")
    assert copy(3, if_none_match=etag).status == 304
    parts = [(1, r.text("ETag")), (2, whole.text("ETag"))]
    oss("PUT", "src", body=b"changed")
    done = oss("POST", "k", {"uploadId": upload}, body=complete_body(parts))
    assert done.crc == crc64_of(data[10 : 2 * PART + 10] + data)
    assert oss("GET", "k").body == data[10 : 2 * PART + 10] + data


def test_list_uploads(oss):
    ids = {}
    for key in ("a", "a", "b/1", "b/2", "c", "\u76ee"):
        ids.setdefault(key, []).append(initiate(oss, key))

    def page(**query):
        return oss("GET", "", dict({"uploads": "", "encoding-type": "url"}, **{k.replace("_", "-"): v for k, v in query.items()}))

    r = page()
    assert r.texts("Upload/Key") == ["a", "a", "b%2F1", "b%2F2", "c", quote("\u76ee")]
    assert r.texts("Upload/UploadId")[:2] == sorted(ids["a"])
    assert r.text("IsTruncated") == "false" and r.text("NextKeyMarker") == ""
    r = page(max_uploads="1")
    assert (r.text("NextKeyMarker"), r.text("NextUploadIdMarker"), r.text("IsTruncated")) == ("a", sorted(ids["a"])[0], "true")
    seen, query = [], {}
    while True:
        r = page(max_uploads="2", **query)
        seen += r.texts("Upload/UploadId")
        if r.text("IsTruncated") == "false":
            break
        query = {"key_marker": r.text("NextKeyMarker").replace("%2F", "/"), "upload_id_marker": r.text("NextUploadIdMarker")}
    assert sorted(seen) == sorted(sum(ids.values(), []))
    r = page(delimiter="/")
    assert r.texts("CommonPrefixes/Prefix") == ["b%2F"] and len(r.texts("Upload/Key")) == 4
    assert page(prefix="b/").texts("Upload/Key") == ["b%2F1", "b%2F2"]
    assert page(key_marker="a").texts("Upload/Key")[0] == "b%2F1"
    failed(page(max_uploads="1001"), 400, "InvalidArgument")


# ----------------------------------------------------------------------------------------------------- copy


def test_copy(oss, server):
    headers = {"Content-Type": "text/x", "x-oss-meta-a": "1", "x-oss-tagging": "t=1", "x-oss-object-acl": "private"}
    oss("PUT", "dir/src +", headers=dict(headers, **{"x-oss-server-side-encryption": "AES256"}), body=b"data")
    source = "/%s/%s" % (BUCKET, quote("dir/src +"))
    r = oss("PUT", "dst", headers={"x-oss-copy-source": source})
    assert r.status == 200 and r.text("ETag").strip('"') == md5(b"data").hexdigest().upper()
    assert r.crc == crc64_of(b"data")
    got = oss("GET", "dst")
    assert (got.body, got.headers["content-type"], got.headers["x-oss-meta-a"]) == (b"data", "text/x", "1")
    assert "x-oss-server-side-encryption" not in got.headers
    assert oss("GET", "dst", {"acl": ""}).text("AccessControlList/Grant") == "default"
    assert oss("GET", "dst", {"tagging": ""}).texts("TagSet/Tag/Key") == ["t"]
    r = oss("PUT", "dst", headers={"x-oss-copy-source": source, "x-oss-metadata-directive": "REPLACE", "x-oss-meta-b": "2",
                                   "x-oss-object-acl": "public-read", "x-oss-tagging-directive": "Replace"})
    assert r.status == 200
    got = oss("HEAD", "dst").headers
    assert "x-oss-meta-a" not in got and got["x-oss-meta-b"] == "2" and got["content-type"] == "application/octet-stream"
    assert "x-oss-tagging-count" not in got
    assert oss("GET", "dst", {"acl": ""}).text("AccessControlList/Grant") == "public-read"


def test_copy_onto_itself_takes_the_requests_metadata(oss):
    oss("PUT", "k", headers={"x-oss-meta-a": "1", "x-oss-object-acl": "private"}, body=b"data")
    before = oss("HEAD", "k")
    for directive in ({}, {"x-oss-metadata-directive": "COPY"}, {"x-oss-metadata-directive": "REPLACE"}):
        r = oss("PUT", "k", headers=dict({"x-oss-copy-source": "/%s/k" % BUCKET, "x-oss-meta-b": "2"}, **directive))
        assert r.status == 200
        got = oss("GET", "k")
        assert (got.body, got.etag, got.headers.get("x-oss-meta-a"), got.headers["x-oss-meta-b"]) == (b"data", before.etag, None, "2")
        assert oss("GET", "k", {"acl": ""}).text("AccessControlList/Grant") == "default"


def test_copy_rules(oss, server):
    oss("PUT", "src", body=b"data")
    etag = oss("HEAD", "src").etag
    source = {"x-oss-copy-source": "/%s/src" % BUCKET}

    def copy(to="dst", **headers):
        return oss("PUT", to, headers=dict(source, **{k.replace("_", "-"): v for k, v in headers.items()}))

    past, future = formatdate(time.time() - 1000, usegmt=True), formatdate(time.time() + 1000, usegmt=True)
    assert copy(x_oss_copy_source_if_match=etag).status == 200
    failed(copy(x_oss_copy_source_if_match="other"), 412, "PreconditionFailed")
    assert copy(x_oss_copy_source_if_none_match=etag).status == 304
    assert copy(x_oss_copy_source_if_modified_since=future).status == 304
    failed(copy(x_oss_copy_source_if_unmodified_since=past), 412, "PreconditionFailed")
    failed(copy(x_oss_forbid_overwrite="true"), 409, "FileAlreadyExists")
    failed(copy(x_oss_metadata_directive="MOVE"), 400, "InvalidArgument")
    failed(copy(if_match="x"), 400, "NotImplemented")
    for wrong, code in (("src", "InvalidArgument"), ("/%s" % BUCKET, "InvalidArgument"), ("/%s/" % BUCKET, "InvalidArgument"),
                        ("/%s/absent" % BUCKET, "NoSuchKey"), ("/absent-bucket/k", "NoSuchBucket")):
        assert oss("PUT", "dst", headers={"x-oss-copy-source": wrong}).code == code, wrong


def test_copy_switches(server_factory):
    server = server_factory("--appendable-copy=no", "--copy-max=1000", "--crc-header=copies")
    with Client(server.port) as oss:
        oss("POST", BUCKET, "log", [("append", ""), ("position", "0")], body=b"line")
        failed(oss("PUT", BUCKET, "copy", headers={"x-oss-copy-source": "/%s/log" % BUCKET}), 400, "OperationNotSupported")
        r = oss("PUT", BUCKET, "log", headers={"x-oss-copy-source": "/%s/log" % BUCKET, "x-oss-meta-a": "1"})
        assert r.status == 200
        assert oss("HEAD", BUCKET, "log").headers["x-oss-object-type"] == "Appendable"
        oss("PUT", BUCKET, "big", body=blob(1001))
        failed(oss("PUT", BUCKET, "copy", headers={"x-oss-copy-source": "/%s/big" % BUCKET}), 400, "EntityTooLarge")
        assert oss("PUT", BUCKET, "big", headers={"x-oss-copy-source": "/%s/big" % BUCKET}).status == 200
        oss("PUT", BUCKET, "small", body=b"x")
        r = oss("PUT", BUCKET, "copy", headers={"x-oss-copy-source": "/%s/small" % BUCKET})
        assert r.status == 200 and "x-oss-hash-crc64ecma" not in r.headers
        assert "x-oss-hash-crc64ecma" not in oss("HEAD", BUCKET, "copy").headers
        assert "x-oss-hash-crc64ecma" in oss("HEAD", BUCKET, "small").headers
    with Client(server_factory("--crc-header=no").port) as oss:
        assert "x-oss-hash-crc64ecma" not in oss("PUT", BUCKET, "k", body=b"x").headers
        failed(oss("PUT", BUCKET, "k", headers={"x-oss-hash-crc64ecma": "1"}, body=b"x"), 400, "InvalidCRC64")
    with Client(server_factory("--etag=opaque").port) as oss:
        a, b = oss("PUT", BUCKET, "a", body=b"x").etag, oss("PUT", BUCKET, "b", body=b"y").etag
        assert len(a) == 32 and a != b and a != md5(b"x").hexdigest().upper()
        assert "content-md5" not in oss("HEAD", BUCKET, "a").headers
        failed(oss("PUT", BUCKET, "a", headers={"Content-MD5": content_md5(b"y")}, body=b"x"), 400, "InvalidDigest")
        assert oss("PUT", BUCKET, "a", headers={"Content-MD5": content_md5(b"x")}, body=b"x").etag == md5(b"x").hexdigest().upper()


def test_a_body_that_stops_coming(server_factory):
    """Answered RequestTimeout, nothing stored; a connection without a request may be idle for as long as it likes."""
    server = server_factory("--no-auth", "--body-timeout=300")
    whole = b"PUT /%s/whole HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nwhole" % BUCKET.encode()
    cut = b"PUT /%s/cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\ncut" % BUCKET.encode()
    with socket.create_connection(("127.0.0.1", server.port), 30) as s:
        for _ in range(2):
            s.sendall(whole)
            assert s.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.8)
        s.sendall(cut)
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"x-oss-request-id: " in head
    assert b"Content-Length: %d\r\n" % len(body) in head and b"<Code>RequestTimeout</Code>" in body
    assert sorted(server.objects()) == ["whole"]
    assert [(e["status"], e["code"]) for e in server.log(key="cut")] == [(400, "RequestTimeout")]


# ------------------------------------------------------------------------------------------------- the rest


def test_symlinks(oss, server):
    oss("PUT", "dir/target", headers={"x-oss-meta-t": "1"}, body=b"data")
    r = oss("PUT", "link", {"symlink": ""}, {"x-oss-symlink-target": quote("dir/target"), "x-oss-meta-l": "2"})
    assert r.status == 200 and "etag" in r.headers
    got = oss("GET", "link")
    assert (got.body, got.headers["x-oss-object-type"], got.etag) == (b"data", "Symlink", md5(b"data").hexdigest().upper())
    assert got.headers["x-oss-meta-l"] == "2" and "x-oss-meta-t" not in got.headers
    assert oss("HEAD", "link").headers["content-length"] == "4"
    link = oss("GET", "link", {"symlink": ""})
    assert (link.status, link.headers["x-oss-symlink-target"], link.etag) == (200, quote("dir/target"), r.etag)
    assert oss("HEAD", "link", {"objectMeta": ""}).etag == r.etag
    listed = oss("GET", "", {"list-type": "2", "prefix": "link"})
    assert (listed.text("Contents/Type"), listed.text("Contents/Size")) == ("Symlink", str(len("dir/target")))
    failed(oss("GET", "dir/target", {"symlink": ""}), 400, "NotSymlink")
    failed(oss("PUT", "link", {"symlink": ""}), 400, "MissingArgument")
    failed(oss("PUT", "link", {"symlink": ""}, {"x-oss-symlink-target": "/abs"}), 400, "InvalidObjectName")
    oss("PUT", "link2", {"symlink": ""}, {"x-oss-symlink-target": "link"})
    failed(oss("GET", "link2"), 400, "InvalidTargetType")
    oss("PUT", "copy", headers={"x-oss-copy-source": "/%s/link" % BUCKET})
    assert oss("GET", "copy", {"symlink": ""}).headers["x-oss-symlink-target"] == quote("dir/target")
    oss("DELETE", "dir/target")
    failed(oss("GET", "link"), 404, "SymlinkTargetNotExist")
    assert oss("HEAD", "link").code == "SymlinkTargetNotExist"
    assert oss("GET", "link", {"symlink": ""}).status == 200
    assert oss("DELETE", "link").status == 204


def test_tagging(oss):
    oss("PUT", "k", body=b"x")
    modified = oss("HEAD", "k").headers["last-modified"]

    def put(*tags):
        text = "".join("<Tag><Key>%s</Key><Value>%s</Value></Tag>" % t for t in tags)
        return oss("PUT", "k", {"tagging": ""}, body=("<Tagging><TagSet>%s</TagSet></Tagging>" % text).encode())

    assert put(("a", "1"), ("b c", "x+-=._:/")).status == 200
    r = oss("GET", "k", {"tagging": ""})
    assert list(zip(r.texts("TagSet/Tag/Key"), r.texts("TagSet/Tag/Value"))) == [("a", "1"), ("b c", "x+-=._:/")]
    h = oss("HEAD", "k").headers
    assert (h["x-oss-tagging-count"], h["last-modified"]) == ("2", modified)
    failed(put(*[("k%d" % i, "v") for i in range(11)]), 400, "InvalidTag")
    failed(put(("a", "1"), ("a", "2")), 400, "InvalidTag")
    failed(put(("a" * 129, "1")), 400, "InvalidTag")
    failed(put(("a", "v" * 257)), 400, "InvalidTag")
    failed(put(("a$", "v")), 400, "InvalidTag")
    failed(oss("PUT", "k", {"tagging": ""}, body=b"<Tagging>"), 400, "MalformedXML")
    assert oss("DELETE", "k", {"tagging": ""}).status == 204
    assert oss("GET", "k", {"tagging": ""}).texts("TagSet/Tag") == []


def test_delete_multiple(oss, server):
    keys = ["a", "b&<>\"'", "\u76ee/\u5f55", "ctl\x01\x1f", "a b+c%20"]
    for key in keys:
        oss("PUT", key, body=b"x")

    def body(names, quiet=None):
        def escape(s):
            out = s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return "".join("&#x%X;" % ord(c) if ord(c) < 32 else c for c in out)

        text = "" if quiet is None else "<Quiet>%s</Quiet>" % quiet
        text += "".join("<Object><Key>%s</Key></Object>" % escape(n) for n in names)
        return ("<Delete>%s</Delete>" % text).encode()

    def delete(data, query=(), headers=None):
        headers = {"Content-MD5": content_md5(data)} if headers is None else headers
        return oss("POST", "", [("delete", "")] + list(query), headers, data)

    r = delete(body(keys + ["absent"]), [("encoding-type", "url")])
    assert r.status == 200 and r.texts("Deleted/Key") == [quote(k) for k in keys + ["absent"]]
    assert server.objects() == {}
    oss("PUT", "a", body=b"x")
    r = delete(body(["a"], "true"))
    assert (r.status, r.body) == (200, b"")
    assert server.objects() == {}
    failed(delete(body(["a"]), headers={}), 400, "MissingArgument")
    failed(delete(body(["a"]), headers={"Content-MD5": content_md5(b"")}), 400, "InvalidDigest")
    assert delete(body(["k%d" % i for i in range(1000)])).status == 200
    failed(delete(body(["k%d" % i for i in range(1001)])), 400, "MalformedXML")
    failed(delete(b"<Delete></Delete>"), 400, "MalformedXML")
    failed(delete(b"<Delete><Object></Object></Delete>"), 400, "MalformedXML")
    failed(delete(b"garbage"), 400, "MalformedXML")


def test_buckets(server, tmp):
    with Client(server.port) as oss:
        assert oss("PUT", "second-bucket", headers={"x-oss-acl": "public-read"},
                   body=b"<CreateBucketConfiguration><StorageClass>IA</StorageClass></CreateBucketConfiguration>").status == 200
        r = oss("GET", None)
        assert r.texts("Buckets/Bucket/Name") == ["second-bucket", BUCKET]
        assert oss("GET", None, query={"prefix": "sec"}).texts("Buckets/Bucket/Name") == ["second-bucket"]
        r = oss("GET", "second-bucket", query={"bucketInfo": ""})
        assert (r.text("Bucket/Name"), r.text("Bucket/Location"), r.text("Bucket/AccessControlList/Grant")) == (
            "second-bucket", "oss-cn-test", "public-read")
        assert oss("GET", BUCKET, query={"location": ""}).xml.text == "oss-cn-test"
        assert oss("GET", BUCKET, query={"acl": ""}).text("AccessControlList/Grant") == "private"
        oss("PUT", "second-bucket", "k", body=b"12345")
        r = oss("GET", "second-bucket", query={"stat": ""})
        assert (r.text("Storage"), r.text("ObjectCount")) == ("5", "1")
        failed(oss("DELETE", "second-bucket"), 409, "BucketNotEmpty")
        assert oss("PUT", BUCKET, "copied", headers={"x-oss-copy-source": "/second-bucket/k"}).status == 200
        oss("DELETE", "second-bucket", "k")
        assert oss("DELETE", "second-bucket").status == 204
        failed(oss("DELETE", "second-bucket"), 404, "NoSuchBucket")
        failed(oss("PUT", "Bad_Name"), 400, "InvalidBucketName")
        assert oss("GET", BUCKET, "copied").body == b"12345"
