"""The S3 subset of the local server: what s3fs and rclone ask of it, and each way to get a signature wrong."""

import base64
import hashlib
import os
import time
import xml.etree.ElementTree as ElementTree

import pytest

import harness
from s3sign import S3


@pytest.fixture
def s3(server):
    return S3(server.port)


def code_of(reply):
    return reply[0], ElementTree.fromstring(reply[2]).findtext("Code")


def ok(reply, status=200):
    assert reply[0] == status, reply
    return reply


def md5_header(body):
    return {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}


def test_put_get_head_delete(server, s3):
    body = harness.blob(100000)
    reply = ok(s3.call("PUT", "a b/ü+%.txt", headers={"x-amz-meta-mode": "33188", "content-type": "a/b"}, body=body))
    assert reply[1]["etag"].strip('"').lower() == hashlib.md5(body).hexdigest()
    status, headers, data = s3.call("GET", "a b/ü+%.txt")
    assert (status, data, headers["content-type"], headers["x-amz-meta-mode"]) == (200, body, "a/b", "33188")
    assert "x-oss-meta-mode" not in headers
    assert ok(s3.call("HEAD", "a b/ü+%.txt"))[1]["content-length"] == "100000"
    assert ok(s3.call("GET", "a b/ü+%.txt", headers={"range": "bytes=99990-200000"}), 206)[2] == body[-10:]
    assert code_of(s3.call("GET", "a b/ü+%.txt", headers={"range": "bytes=100000-"})) == (416, "InvalidRange")
    ok(s3.call("DELETE", "a b/ü+%.txt"), 204)
    assert s3.call("HEAD", "a b/ü+%.txt")[0] == 404
    assert ok(s3.call("HEAD"))[2] == b""
    assert server.counters()["PutObject"] == 1


@pytest.mark.parametrize("version", ["1", "2"])
def test_lists_page_by_page(s3, version):
    names = sorted(["d/%02d" % i for i in range(7)] + ["e", "f&<g"])
    for name in names:
        ok(s3.call("PUT", name, body=name.encode()))
    found, prefixes, query = [], [], []
    more = True
    while more:
        ask = [("list-type", "2")] if version == "2" else []
        top = ElementTree.fromstring(ok(s3.call("GET", query=ask + [("max-keys", "2")] + query))[2])
        found += [(c.findtext("Key"), int(c.findtext("Size")), c.findtext("ETag")) for c in top.findall("Contents")]
        more = top.findtext("IsTruncated") == "true"
        token = top.findtext("NextContinuationToken") if version == "2" else top.findtext("NextMarker")
        query = [("continuation-token" if version == "2" else "marker", token or "")]
    assert [f[0] for f in found] == names
    assert all(e == '"%s"' % hashlib.md5(n.encode()).hexdigest().upper() for n, _, e in found)
    ask = [("delimiter", "/"), ("prefix", ""), ("list-type", version)]
    top = ElementTree.fromstring(ok(s3.call("GET", query=ask))[2])
    prefixes = [p.findtext("Prefix") for p in top.findall("CommonPrefixes")]
    assert prefixes == ["d/"] and [c.findtext("Key") for c in top.findall("Contents")] == ["e", "f&<g"]


def test_a_thousand_keys_without_asking(server, s3):
    for i in range(110):
        server.call("PUT", "/object", {"bucket": harness.BUCKET, "key": "k%03d" % i}, body=b"x")
    assert len(ElementTree.fromstring(ok(s3.call("GET"))[2]).findall("Contents")) == 110
    assert len(ElementTree.fromstring(ok(s3.call("GET", query=[("max-keys", "5000")]))[2]).findall("Contents")) == 110


def test_multipart_with_a_copied_part(s3):
    parts = [harness.blob(200000, 1), harness.blob(150000, 2)[100:140000]]
    ok(s3.call("PUT", "source", body=harness.blob(150000, 2)))
    top = ElementTree.fromstring(ok(s3.call("POST", "big", [("uploads", "")], {"x-amz-meta-mtime": "7"}))[2])
    upload = top.findtext("UploadId")
    first = ok(s3.call("PUT", "big", [("partNumber", "1"), ("uploadId", upload)], body=parts[0]))[1]["etag"]
    headers = {"x-amz-copy-source": "test-bucket/source", "x-amz-copy-source-range": "bytes=100-139999"}
    copy = ok(s3.call("PUT", "big", [("partNumber", "2"), ("uploadId", upload)], headers))
    second = ElementTree.fromstring(copy[2]).findtext("ETag")
    body = "<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % "".join(
        "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>" % p for p in enumerate([first, second], 1)
    )
    ok(s3.call("POST", "big", [("uploadId", upload)], body=body.encode()))
    status, headers, data = s3.call("GET", "big")
    assert (status, data, headers["x-amz-meta-mtime"]) == (200, b"".join(parts), "7")
    top = ElementTree.fromstring(ok(s3.call("POST", "gone", [("uploads", "")]))[2])
    ok(s3.call("DELETE", "gone", [("uploadId", top.findtext("UploadId"))]), 204)


def test_copy_and_delete_many(s3):
    ok(s3.call("PUT", "old", headers={"x-amz-meta-uid": "1"}, body=b"bytes"))
    ok(s3.call("PUT", "new", headers={"x-amz-copy-source": "/test-bucket/old"}))
    assert ok(s3.call("HEAD", "new"))[1]["x-amz-meta-uid"] == "1"
    replace = {"x-amz-copy-source": "/test-bucket/new", "x-amz-metadata-directive": "REPLACE", "x-amz-meta-uid": "2"}
    ok(s3.call("PUT", "new", headers=replace))
    assert ok(s3.call("HEAD", "new"))[1]["x-amz-meta-uid"] == "2"
    body = b"<Delete><Object><Key>old</Key></Object><Object><Key>new</Key></Object></Delete>"
    top = ElementTree.fromstring(ok(s3.call("POST", query=[("delete", "")], headers=md5_header(body), body=body))[2])
    assert [d.findtext("Key") for d in top.findall("Deleted")] == ["old", "new"]
    assert s3.call("GET", "old")[0] == 404


def test_presigned(s3):
    ok(s3.presigned("PUT", "p", body=b"presigned"))
    assert ok(s3.presigned("GET", "p"))[2] == b"presigned"
    long_ago = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 3600))
    assert code_of(s3.presigned("GET", "p", date=long_ago)) == (403, "AccessDenied")
    assert ok(s3.presigned("GET", "p", expires=7200, date=long_ago))[2] == b"presigned"


def test_what_is_refused(server, s3):
    port = server.port
    assert code_of(S3(port, secret="wrong").call("PUT", "k", body=b"x")) == (403, "SignatureDoesNotMatch")
    assert code_of(S3(port, secret="wrong").presigned("GET", "k")) == (403, "SignatureDoesNotMatch")
    assert code_of(S3(port, key="nobody").call("GET", "k")) == (403, "InvalidAccessKeyId")
    assert code_of(S3(port, region="elsewhere").call("GET", "k")) == (400, "InvalidArgument")
    assert code_of(s3.call("PUT", "k", headers={"x-amz-acl": "private"}, unsigned=["x-amz-acl"])) == (403, "AccessDenied")
    assert code_of(s3.call("GET", "k", date="20200101T000000Z")) == (403, "RequestTimeTooSkewed")
    wrong = hashlib.sha256(b"other").hexdigest()
    assert code_of(s3.call("PUT", "k", body=b"bytes", payload=wrong)) == (400, "XAmzContentSHA256Mismatch")
    assert s3.call("HEAD", "k")[0] == 404
    assert code_of(s3.call("PUT", "k", headers=md5_header(b"other"), body=b"bytes")) == (400, "InvalidDigest")
    assert code_of(S3(port, bucket="no-such-bucket").call("GET")) == (404, "NoSuchBucket")
    ok(s3.call("PUT", "k", body=os.urandom(10), payload="UNSIGNED-PAYLOAD"))
