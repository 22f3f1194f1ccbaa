"""The local server as an instrument: listings, faults, counters, restarts, many connections, TLS."""

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest

import harness
from harness import OSSD, blob, crc64_of, run, wait_until
from osssign import Client, quote, v4_headers

BUCKET = "test-bucket"


@pytest.fixture
def oss(server):
    with Client(server.port) as client:

        def call(method, key="", query=(), headers=None, body=b""):
            return client(method, BUCKET, key, query, headers, body)

        call.client = client
        yield call


# ------------------------------------------------------------------------------------------------- listings


def list_v2(oss, **query):
    query = {k.replace("_", "-"): str(v) for k, v in query.items()}
    return oss("GET", "", dict({"list-type": "2"}, **query))


def test_plant_many(oss, server):
    """Objects by the thousand are like others, and listed a page at a time without looking at the rest."""
    server.plant_many("d/f", 2500, size=3, first=10, headers={"x-oss-meta-mode": "33188"})
    names, token = [], {}
    while token is not None:
        r = list_v2(oss, prefix="d/", max_keys=1000, **token)
        names += r.texts("Contents/Key")
        token = {"continuation_token": r.text("NextContinuationToken")} if r.text("IsTruncated") == "true" else None
    assert names == ["d/f%07d" % i for i in range(10, 2510)]
    server.check_object("d/f0000777", b"xxx")
    assert server.headers("d/f0000777") == {"x-oss-meta-mode": "33188", "content-type": "application/octet-stream"}


KEYS = ["a", "a-b", "a/", "a/1", "a/2/x", "a/2/y", "a0", "b/c/d", "\u00e9/\u76ee", "z"]


@pytest.fixture
def tree(oss, server):
    for key in reversed(KEYS):
        server.plant(key, key.encode())
    return sorted(KEYS, key=lambda k: k.encode())


def test_list_order_and_fields(oss, tree):
    r = list_v2(oss)
    assert r.texts("Contents/Key") == tree
    assert [c.tag for c in r.xml][:5] == ["Name", "Prefix", "MaxKeys", "Delimiter", "IsTruncated"]
    assert (r.text("KeyCount"), r.text("IsTruncated"), r.text("MaxKeys")) == (str(len(tree)), "false", "100")
    one = r.xml.find("Contents")
    assert [c.tag for c in one] == ["Key", "LastModified", "ETag", "Type", "Size", "StorageClass"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", one.findtext("LastModified"))
    assert re.fullmatch(r'"[0-9A-F]{32}"', one.findtext("ETag"))
    assert (one.findtext("Size"), one.findtext("Type"), one.findtext("StorageClass")) == ("1", "Normal", "Standard")
    assert list_v2(oss, fetch_owner="true").text("Contents/Owner/ID")
    v1 = oss("GET")
    assert v1.texts("Contents/Key") == tree and v1.text("Contents/Owner/ID")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("prefix,delimiter", [("", ""), ("", "/"), ("a", "/"), ("a/", "/"), ("a/2", "/"), ("x", "/"), ("", "2")])
def test_list_pages(oss, tree, version, size, prefix, delimiter):
    """Every page size gives the same entries, each once, as the rule of common prefixes says."""
    keys, groups = [], []
    for key in tree:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            if at < 0:
                keys.append(key)
            elif key[: at + 1] not in groups:
                groups.append(key[: at + 1])
    found, found_groups, marker, pages = [], [], None, 0
    while True:
        query = {"prefix": prefix, "delimiter": delimiter, "max-keys": str(size), "encoding-type": "url"}
        if version == 2:
            query["list-type"] = "2"
        if marker:
            query["continuation-token" if version == 2 else "marker"] = marker
        r = oss("GET", "", query)
        assert r.status == 200
        found += r.texts("Contents/Key")
        found_groups += r.texts("CommonPrefixes/Prefix")
        pages += 1
        count = len(r.texts("Contents/Key")) + len(r.texts("CommonPrefixes/Prefix"))
        if version == 2:
            assert r.text("KeyCount") == str(count)
        if r.text("IsTruncated") == "false":
            break
        assert count == size
        marker = http_unquote(r.text("NextContinuationToken" if version == 2 else "NextMarker"))
    assert found == [quote(k) for k in keys]
    assert found_groups == [quote(g) for g in groups]
    assert pages == max(1, -(-(len(keys) + len(groups)) // size))


def http_unquote(text):
    return harness.urllib.parse.unquote(text)


def test_list_arguments(oss, tree):
    assert list_v2(oss, start_after="a/2/x").texts("Contents/Key") == tree[tree.index("a/2/x") + 1 :]
    assert list_v2(oss, start_after="a/2", prefix="a").texts("Contents/Key") == ["a/2/x", "a/2/y", "a0"]
    for query in (
        {"max-keys": "0"},
        {"max-keys": "1001"},
        {"max-keys": "x"},
        {"prefix": "p" * 1024},
        {"delimiter": "//"},
        {"continuation-token": "!!"},
        {"continuation-token": "CgVhYg--"},
        {"encoding-type": "base64"},
        {"start-after": "s" * 1024},
    ):
        r = oss("GET", "", dict({"list-type": "2"}, **query))
        assert (r.status, r.code) == (400, "InvalidArgument"), query
    assert list_v2(oss, continuation_token="CgJiYw--").texts("Contents/Key") == ["z", "\u00e9/\u76ee"]


def test_hostile_keys(oss, server):
    """Keys that no client may make can be planted, listed and read, byte for byte."""
    keys = ["..", "../x", "/abs", "a//b", "a/../b", "nul\0in", "new\nline", "\udcff\udcfe", "a/./b", "x" * 1500, "&<>\"'"]
    for key in keys:
        server.plant(key, key.encode("utf-8", "surrogateescape"))
    assert set(server.objects()) == set(keys)
    for key in keys:
        assert server.object(key) == key.encode("utf-8", "surrogateescape")
    r = list_v2(oss, encoding_type="url", max_keys=1000)
    raw = sorted(os.fsencode(k) for k in keys)
    assert [harness.urllib.parse.unquote_to_bytes(k) for k in r.texts("Contents/Key")] == raw
    for key in keys:
        server.call("DELETE", "/object", server._key(key))
    assert server.objects() == {}


def test_planted_attributes(oss, server):
    server.plant("k", b"x", headers={"x-oss-meta-mode": "33188", "x-ossd-last-modified": "1000000000", "x-ossd-etag": "ODD",
                                     "x-oss-object-acl": "private", "x-oss-tagging": "a=b", "x-ossd-type": "Appendable"})
    h = oss("HEAD", "k").headers
    assert (h["x-oss-meta-mode"], h["etag"], h["x-oss-object-type"]) == ("33188", '"ODD"', "Appendable")
    assert h["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    o = server.objects()["k"]
    assert (o["acl"], o["tags"], o["type"], o["last_modified"]) == ("private", "a=b", "Appendable", 1000000000)
    server.plant("l", target="k")
    assert oss("GET", "l").body == b"x"


# --------------------------------------------------------------------------------------- counters and log


def test_counters_and_log(oss, server):
    server.reset()
    oss("PUT", "k", body=b"12345")
    oss("GET", "k", headers={"Range": "bytes=1-3"})
    oss("HEAD", "k")
    oss("GET", "absent")
    oss("PUT", "copy", headers={"x-oss-copy-source": "/%s/k" % BUCKET})
    assert server.counters() == {"PutObject": 1, "GetObject": 2, "HeadObject": 1, "CopyObject": 1}
    found = server.call("GET", "/counters")
    assert found["by_op"]["PutObject"] == {"requests": 1, "bytes_in": 5, "bytes_out": 0, "errors": 0}
    assert found["by_op"]["GetObject"]["errors"] == 1 and found["requests"]["total"] == 5
    assert found["by_op"]["GetObject"]["bytes_out"] > 3 and found["bytes_in"] == 5
    log = server.log()
    assert [(e["op"], e["key"], e["status"], e["code"]) for e in log] == [
        ("PutObject", "k", 200, ""),
        ("GetObject", "k", 206, ""),
        ("HeadObject", "k", 200, ""),
        ("GetObject", "absent", 404, "NoSuchKey"),
        ("CopyObject", "copy", 200, ""),
    ]
    assert log[1]["range"] == "bytes=1-3" and log[1]["bytes_out"] == 3 and log[4]["source"] == "/%s/k" % BUCKET
    server.reset()
    assert server.counters() == {} and server.log() == []


# --------------------------------------------------------------------------------------------------- faults


def broken(call, *args, **kw):
    """The connection broke before a whole answer was there."""
    try:
        call(*args, **kw)
    except (http.client.HTTPException, ConnectionError) as e:
        return type(e).__name__
    raise AssertionError("an answer came")


def test_fault_status_skip_count_key(oss, server):
    server.fault("status", op="PutObject", key="hit", skip=1, count=2, status=503, code="ServiceUnavailable")
    codes = [oss("PUT", k, body=b"x").status for k in ("hit1", "other", "hit2", "a/hit/b", "hit4")]
    assert codes == [200, 200, 503, 503, 200]
    assert set(server.objects()) == {"hit1", "other", "hit4"}
    fault = server.faults()[0]
    assert (fault["hits"], fault["count"], fault["skip"]) == (2, 0, 0)
    server.clear_faults()
    assert server.faults() == []
    server.fault("status", status=429, code="TooManyRequests", count=-1)
    r = oss("HEAD", "hit1")
    assert (r.status, r.code) == (429, "TooManyRequests")
    assert oss("GET", "hit1").code == "TooManyRequests"
    with pytest.raises(harness.HarnessError):
        server.fault("explode")
    with pytest.raises(harness.HarnessError):
        server.fault("reset", op="Nonsense")


@pytest.mark.parametrize("size", [0, 100, 500000])
def test_fault_reset_and_lost(oss, server, size):
    server.fault("reset", op="PutObject")
    broken(oss, "PUT", "reset", body=blob(size))
    assert server.objects() == {}
    server.fault("lost", op="PutObject")
    broken(oss, "PUT", "lost", body=blob(size))
    assert server.object("lost") == blob(size)
    assert oss("PUT", "fine", body=blob(size)).status == 200
    server.fault("lost", op="DeleteObject")
    broken(oss, "DELETE", "lost")
    assert set(server.objects()) == {"fine"}


def test_fault_on_downloads(oss, server):
    data = blob(300000)
    oss("PUT", "k", body=data)
    server.fault("truncate", op="GetObject")
    with pytest.raises(http.client.IncompleteRead) as e:
        oss("GET", "k")
    assert e.value.partial == data[:150000]
    server.fault("truncate", op="GetObject", bytes=7)
    with pytest.raises(http.client.IncompleteRead) as e:
        oss("GET", "k")
    assert e.value.partial == data[:7]
    server.fault("corrupt_body", op="GetObject")
    r = oss("GET", "k")
    assert r.status == 200 and r.body[1:] == data[1:] and r.body[0] == data[0] ^ 1 and r.crc == crc64_of(data)
    server.fault("wrong_crc", op="GetObject")
    assert oss("GET", "k").crc == crc64_of(data) ^ 1
    server.fault("drop_crc", op="*")
    assert "x-oss-hash-crc64ecma" not in oss("GET", "k").headers
    r = oss("GET", "k")
    assert (r.body, r.crc) == (data, crc64_of(data))


def test_fault_corrupt_request(oss, server):
    """A body damaged on the way is refused when the request carries its CRC, and the old object stays."""
    oss("PUT", "k", body=b"old")
    server.fault("corrupt_request", op="PutObject", count=2)
    r = oss("PUT", "k", headers={"x-oss-hash-crc64ecma": str(crc64_of(b"new"))}, body=b"new")
    assert (r.status, r.code) == (400, "InvalidCRC64")
    assert server.object("k") == b"old"
    r = oss("PUT", "k", body=b"new")
    assert r.status == 200 and r.crc != crc64_of(b"new") and server.object("k") == b"oew"


def test_fault_delay_and_bandwidth(oss, server):
    oss("PUT", "k", body=blob(200000))
    server.fault("delay", op="GetObject", ms=300)
    server.fault("bandwidth", op="GetObject", bandwidth=1000000)
    start = time.monotonic()
    assert oss("GET", "k").body == blob(200000)
    assert 0.45 < time.monotonic() - start
    server.fault("bandwidth", op="PutObject", bandwidth=1000000)
    start = time.monotonic()
    assert oss("PUT", "k", body=blob(300000)).status == 200
    assert 0.28 < time.monotonic() - start
    server.clear_faults()
    server.latency(ms=150)
    start = time.monotonic()
    oss("HEAD", "k")
    assert 0.15 <= time.monotonic() - start
    server.latency()


def test_fault_hang(oss, server):
    """Hanging requests hold nobody else up; clearing lets them go without an answer, and nothing was applied."""
    server.fault("hang", op="PutObject", count=200)
    ended = []

    def put(i):
        with Client(server.port) as client:
            try:
                client("PUT", BUCKET, "hang%d" % i, body=b"x")
                ended.append("answered")
            except (http.client.HTTPException, ConnectionError):
                ended.append("closed")

    threads = [threading.Thread(target=put, args=(i,)) for i in range(200)]
    [t.start() for t in threads]
    wait_until(lambda: server.faults()[0]["hits"] == 200, 30, "200 hanging requests")
    assert oss("PUT", "free", body=b"x").status == 200 and oss("GET", "free").body == b"x"
    assert not ended
    server.clear_faults()
    [t.join(30) for t in threads]
    assert ended == ["closed"] * 200
    assert set(server.objects()) == {"free"}


def test_hang_ends_with_the_client(oss, server):
    server.fault("hang", op="GetObject")
    with socket.create_connection(("127.0.0.1", server.port)) as s:
        s.sendall(b"GET /test-bucket/k HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: server.faults()[0]["hits"] == 1, 10, "hang")
    wait_until(lambda: server.log(op="GetObject"), 10, "the server noticed")
    assert server.log(op="GetObject")[0]["status"] == 0


@pytest.mark.parametrize("mode", ["text", "html", "truncated", "huge", "deep", "entities", "empty"])
def test_fault_garbage(oss, server, mode):
    server.plant("k", b"x")
    server.fault("garbage", op="ListObjectsV2", mode=mode, bytes=1 << 20)
    r = list_v2(oss)
    assert r.status == 200
    if mode == "huge":
        assert len(r.body) == 1 << 20
    if mode != "entities":
        with pytest.raises(Exception):
            r.xml
    else:
        assert b"<!ENTITY" in r.body
    assert list_v2(oss).texts("Contents/Key") == ["k"]


def test_fault_close(oss, server):
    server.fault("close", op="HeadObject")
    assert oss("HEAD", "k").headers["connection"] == "close"
    assert oss("HEAD", "k").status == 404


def test_outage(oss, server):
    server.plant("k", b"x")
    assert oss("GET", "k").body == b"x"
    server.outage(True)
    for _ in range(3):
        broken(oss, "GET", "k")
    server.outage(False)
    assert oss("GET", "k").body == b"x"
    server.call("POST", "/drop", body=b"")
    broken(oss, "GET", "k")
    assert oss("GET", "k").body == b"x"


def test_complete_that_takes_its_time(server_factory):
    """The upload is gone at once, the object comes later, also when nobody waits for the answer."""
    server = server_factory("--complete-delay=2000")
    for lost in (False, True):
        with Client(server.port) as oss:
            key = "lost" if lost else "slow"
            upload = oss("POST", BUCKET, key, {"uploads": ""}).text("UploadId")
            oss("PUT", BUCKET, key, {"uploadId": upload, "partNumber": "1"}, body=b"part")
            if lost:
                server.fault("lost", op="CompleteMultipartUpload")
            start = time.monotonic()
            call = ("POST", BUCKET, key, {"uploadId": upload}, {"x-oss-complete-all": "yes"})
            if lost:
                broken(oss, *call)
                assert oss("HEAD", BUCKET, key).status == 404
                assert oss(*call).code == "NoSuchUpload"
            else:
                assert oss(*call).status == 200
                assert time.monotonic() - start >= 2.0
            wait_until(lambda: server.object(key) == b"part", 10, "the object appears")


# ----------------------------------------------------------------------------- storage, connections, the process


def populate(server):
    with Client(server.port) as oss:
        oss("PUT", BUCKET, "dir/small", headers={"x-oss-meta-a": "1", "x-oss-object-acl": "private", "x-oss-tagging": "t=1"}, body=b"s")
        oss("PUT", BUCKET, "big", body=blob(3 << 20, 1))
        oss("PUT", BUCKET, "empty", body=b"")
        oss("PUT", BUCKET, "link", {"symlink": ""}, {"x-oss-symlink-target": "big"})
        for i in range(3):
            oss("POST", BUCKET, "log", [("append", ""), ("position", str(i * 1000))], body=blob(1000, i))
        oss("PUT", BUCKET, "copy", headers={"x-oss-copy-source": "/%s/big" % BUCKET})
        oss("PUT", BUCKET, "over", body=b"old")
        oss("PUT", BUCKET, "over", body=b"new")
        oss("PUT", BUCKET, "gone", body=blob(100000))
        oss("DELETE", BUCKET, "gone")
        oss("PUT", "second-bucket")
        server.plant("nul\0key", b"n")
        upload = oss("POST", BUCKET, "multi", {"uploads": ""}, {"x-oss-meta-m": "1"}).text("UploadId")
        oss("PUT", BUCKET, "multi", {"uploadId": upload, "partNumber": "1"}, body=blob(102400, 7))
    return upload


@pytest.mark.parametrize("kill", [False, True])
def test_restart(server_factory, tmp, kill):
    """All is there again, after an orderly end and after kill -9; open uploads go on."""
    store = os.path.join(tmp, "store")
    server = server_factory(store=store)
    upload = populate(server)
    before = server.objects()
    for turn in range(2):
        server.stop(kill=kill)
        server.start()
        assert server.objects() == before
    assert server.object("big") == server.object("copy") == blob(3 << 20, 1)
    assert server.object("log") == b"".join(blob(1000, i) for i in range(3))
    assert server.object("over") == b"new" and server.object("nul\0key") == b"n"
    with Client(server.port) as oss:
        assert oss("GET", BUCKET, "link").body == blob(3 << 20, 1)
        assert oss("GET", None).texts("Buckets/Bucket/Name") == ["second-bucket", BUCKET]
        r = oss("POST", BUCKET, "log", [("append", ""), ("position", "3000")], body=b"more")
        assert r.status == 200
        oss("PUT", BUCKET, "multi", {"uploadId": upload, "partNumber": "2"}, body=b"tail")
        r = oss("POST", BUCKET, "multi", {"uploadId": upload}, {"x-oss-complete-all": "yes"})
        assert r.crc == crc64_of(blob(102400, 7) + b"tail")
        assert oss("HEAD", BUCKET, "multi").headers["x-oss-meta-m"] == "1"
    server.stop(kill=kill)
    server.start()
    assert server.object("multi") == blob(102400, 7) + b"tail"
    assert server.object("log")[3000:] == b"more"


def test_torn_log(server_factory, tmp):
    """A record that was cut off or damaged is dropped with all behind it; what came before is there."""
    store = os.path.join(tmp, "store")
    server = server_factory(store=store)
    for i in range(10):
        server.plant("k%d" % i, b"%d" % i)
    server.stop(kill=True)
    log = os.path.join(store, "index.log")
    size = os.path.getsize(log)
    os.truncate(log, size - 5)
    server.start()
    assert set(server.objects()) == {"k%d" % i for i in range(9)}
    server.plant("later", b"x")
    server.stop()
    server.start()
    assert set(server.objects()) == {"k%d" % i for i in range(9)} | {"later"}
    server.stop()
    with open(log, "r+b") as f:
        f.write(b"something")
    line = run([OSSD, "--dir", store], check=False, timeout=20)
    assert line.returncode == 1 and "not a log" in line.stderr
    assert os.listdir(os.path.join(store, "blobs"))
    with open(log, "r+b") as f:
        f.write(b"ossdlog1")
    server.start()


def test_blobs_are_removed(server_factory, tmp):
    store = os.path.join(tmp, "store")
    server = server_factory(store=store)
    for i in range(20):
        server.plant("k", blob(200000, i))
    assert len(os.listdir(os.path.join(store, "blobs"))) == 1
    with Client(server.port) as oss:
        server.fault("reset", op="PutObject")
        broken(oss, "PUT", BUCKET, "half", body=blob(300000))
        oss("DELETE", BUCKET, "k")
    wait_until(lambda: not os.listdir(os.path.join(store, "blobs")), 10, "no blob is left")


def test_one_server_for_a_directory(server_factory, tmp):
    store = os.path.join(tmp, "store")
    server_factory(store=store)
    second = run([OSSD, "--dir", store], check=False, timeout=20)
    assert second.returncode == 1 and "another server" in second.stderr


def test_reader_keeps_the_old_bytes(any_kind_server):
    """An object that is replaced and deleted while it is read: the reader gets the old one to the end."""
    server = any_kind_server
    old = blob(8 << 20, 1)
    server.plant("k", old)
    server.fault("bandwidth", op="GetObject", bandwidth=20 << 20)
    with Client(server.port) as slow:
        target, headers = slow.prepare("GET", BUCKET, "k", (), {})
        slow.connection.request("GET", target, headers=headers)
        r = slow.connection.getresponse()
        first = r.read(100000)
        server.plant("k", blob(100, 2))
        with Client(server.port) as oss:
            assert oss("GET", BUCKET, "k").body == blob(100, 2)
            oss("DELETE", BUCKET, "k")
        assert first + r.read() == old


@pytest.fixture(params=["memory", "directory"])
def any_kind_server(request, server_factory, tmp):
    return server_factory(store=os.path.join(tmp, "store") if request.param == "directory" else None)


def test_concurrent_writers(any_kind_server):
    """Many writers of a few keys: at the end each key holds one of the bodies, whole."""
    server = any_kind_server
    errors = []

    def work(n):
        try:
            with Client(server.port) as oss:
                for i in range(25):
                    body = bytes([n]) * (1000 * (i % 7) + 70000 * (i % 3) + 1)
                    assert oss("PUT", BUCKET, "k%d" % (i % 5), body=body).status == 200
                    got = oss("GET", BUCKET, "k%d" % ((i + 1) % 5))
                    assert got.status == 404 or (len(set(got.body)) == 1 and crc_fits(got))
        except Exception as e:
            errors.append(repr(e))

    def crc_fits(got):
        return int(got.headers["content-length"]) == len(got.body)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    [t.start() for t in threads]
    [t.join(60) for t in threads]
    assert not errors, errors[:3]
    for key, o in server.objects().items():
        data = server.object(key)
        assert len(data) == o["size"] and len(set(data)) == 1 and crc64_of(data) == int(o["crc64"])


def test_expect_continue(server):
    """A refused upload is told before its body is sent; an accepted one is asked for."""
    headers = v4_headers(("test", "secret", None), "cn-test", "PUT", BUCKET, "k", [], {})
    for wrong, first in ((False, b"HTTP/1.1 100 "), (True, b"HTTP/1.1 403 ")):
        with socket.create_connection(("127.0.0.1", server.port), 20) as s:
            text = "PUT /%s/k HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n" % BUCKET
            for k, v in headers.items():
                text += "%s: %s\r\n" % (k, v + "0" if wrong and k == "Authorization" else v)
            s.sendall((text + "\r\n").encode())
            assert s.recv(13) == first
            if not wrong:
                s.sendall(b"12345")
                wait_until(lambda: server.object("k") == b"12345", 10, "stored")


def test_tls(tmp):
    key, cert = os.path.join(tmp, "key.pem"), os.path.join(tmp, "cert.pem")
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
    command = ["timeout", "60", OSSD, "--memory", "--exit-with-stdin", "--tls", cert, key]
    with harness.spawned(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proc:
        line = proc.stdout.readline().decode()
        m = re.fullmatch(r"ossd listening https://127\.0\.0\.1:(\d+) control http://127\.0\.0\.1:\d+\n", line)
        with Client(int(m.group(1)), ca=cert) as oss:
            data = blob(1 << 20)
            assert oss("PUT", BUCKET, "k", body=data).status == 200
            assert oss("GET", BUCKET, "k").body == data
        with pytest.raises(ssl.SSLError):
            http.client.HTTPSConnection("localhost", int(m.group(1)), timeout=10).request("GET", "/")
        proc.stdin.close()
        assert proc.wait(10) == 0


def test_command_line(tmp):
    for args in (["--port", "x"], ["--nonsense"], ["--bucket", "A_B"], ["--etag=sha"], ["extra"], ["--key", "nocolon"]):
        r = run(["timeout", "10", OSSD] + args, check=False)
        assert r.returncode == 1 and r.stderr.startswith(("ossd: ", "usage", OSSD)), args
    assert "--complete-delay" in run([OSSD, "--help"]).stdout
    ports = os.path.join(tmp, "ports")
    command = ["timeout", "30", OSSD, "--exit-with-stdin", "--write-port-file", ports]
    with harness.spawned(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proc:
        line = proc.stdout.readline().decode()
        with open(ports) as f:
            assert re.findall(r":(\d+)", line) == f.read().split()
        proc.stdin.close()
        assert proc.wait(10) == 0


def test_control_refuses_nonsense(server):
    for method, path, body in (
        ("POST", "/faults", b"not json"),
        ("POST", "/faults", b'{"action":"status","status":9999}'),
        ("POST", "/faults", b'{"a":{"nested":1}}'),
        ("POST", "/keyrotate", b"{}"),
        ("POST", "/nothing", b""),
        ("GET", "/objects", None),
        ("PUT", "/object?bucket=absent-bucket&key=k", b"x"),
        ("PUT", "/object?bucket=test-bucket&key_hex=0g", b"x"),
    ):
        with pytest.raises(harness.HarnessError):
            server.call(method, path, body=body)
    assert server.total() == 0
    assert json.dumps(server.faults()) == "[]"
