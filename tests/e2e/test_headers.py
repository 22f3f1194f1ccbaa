"""What goes with uploads: Content-Type, headers by option and by rule, MD5, callbacks; and each error's errno.

The table FLAGS is that of the man page: everything that `ossutil api put-object` can say of an object, and how the mount
says it. Each row is proven by what the server has stored, for each way in which an object comes to be.
"""

import base64
import errno
import http.server
import json
import os
import threading

import pytest

import harness
from harness import BUCKET, OSSMOUNT, blob, raises_errno, read_file, run, wait_until, write_file

BIG = (1 << 20) + 300000  # two parts

# flag of ossutil, field of a rule (or option), what the object then has
FLAGS = (
    ("--cache-control", "cache_control=max-age=60", {"cache-control": "max-age=60"}),
    ("--content-disposition", 'content_disposition="attachment; filename=x"', {"content-disposition": "attachment; filename=x"}),
    ("--content-encoding", "content_encoding=gzip", {"content-encoding": "gzip"}),
    ("--expires", "expires=2030-01-31T00:00:00Z", {"expires": "Thu, 31 Jan 2030 00:00:00 GMT"}),
    ("--metadata", "meta=owner=me;team=web", {"x-oss-meta-owner": "me", "x-oss-meta-team": "web"}),
    ("--object-acl", "acl=public-read", {"acl": "public-read"}),
    ("--server-side-encryption", "sse=AES256", {"x-oss-server-side-encryption": "AES256"}),
    (
        "--server-side-data-encryption, --server-side-encryption-key-id",
        "sse=KMS sse_data=SM4 sse_key_id=key-1",
        {
            "x-oss-server-side-encryption": "KMS",
            "x-oss-server-side-data-encryption": "SM4",
            "x-oss-server-side-encryption-key-id": "key-1",
        },
    ),
    ("--storage-class", "storage_class=IA", {"x-oss-storage-class": "IA"}),
    ("--tagging", "tagging=a=1&b=%20x", {"tags": "a=1&b=%20x"}),
    ("(Content-Type)", 'content_type="text/odd; charset=utf-8"', {"content-type": "text/odd; charset=utf-8"}),
    ("(Content-Language)", "content_language=de", {"content-language": "de"}),
)


def rules(tmp, text):
    path = os.path.join(tmp, "rules")
    write_file(path, text.encode())
    return path


def has(server, key, expected):
    found = server.objects(key)[key]
    all_of_it = {k.lower(): v for k, v in found["headers"].items()}
    all_of_it.update(acl=found["acl"], tags=found["tags"])
    got = {k: all_of_it.get(k) for k in expected}
    assert got == expected, key


def sent(server, op, key):
    """The headers without a trace of the requests of that kind for `key`: dicts."""
    return [
        dict(line.split(": ", 1) for line in e.get("sent", "").splitlines()) for e in server.log(op, key) if e["status"] < 400
    ]


def test_every_flag_of_put_object(server, mount, tmp):
    text = "".join("row%d/** %s\n" % (i, row[1]) for i, row in enumerate(FLAGS))
    m = mount(headers=rules(tmp, text), multipart_size=1, multipart_threshold=1)
    big = blob(BIG, 1)
    for i, (_, _, expected) in enumerate(FLAGS):
        d = "row%d" % i
        os.mkdir(m.p(d))
        write_file(m.p(d, "small"), b"s")
        write_file(m.p(d, "big"), big)
        write_file(m.p(d, "appended"), b"a", "ab")
        os.symlink("small", m.p(d, "link"))
        # AppendObject takes no key of one's own.
        appended = {k: v for k, v in expected.items() if not k.endswith("key-id")}
        for name in ("small", "big"):
            has(server, "%s/%s" % (d, name), expected)
        has(server, d + "/appended", appended)
        # Nothing of it gets lost by what is done to the file.
        os.chmod(m.p(d, "small"), 0o600)
        os.rename(m.p(d, "small"), m.p(d, "renamed"))
        write_file(m.p(d, "big"), b"small now")
        write_file(m.p(d, "appended"), b"more", "ab")
        for name in ("renamed", "big"):
            has(server, "%s/%s" % (d, name), expected)
        has(server, d + "/appended", appended)
        if "x-oss-server-side-encryption" in expected:
            has(server, d + "/link", {"x-oss-server-side-encryption": expected["x-oss-server-side-encryption"]})
        else:
            assert expected.items().isdisjoint(server.headers(d + "/link").items())


def test_flags_without_a_trace(server, mount, tmp):
    """--forbid-overwrite, and the traffic limit: on the requests that take them, and no others."""
    m = mount(headers=rules(tmp, "once/** forbid_overwrite=yes\nslow/** traffic_limit=819200\n"), multipart_size=1,
              multipart_threshold=1)
    os.mkdir(m.p("once"))
    os.mkdir(m.p("slow"))
    write_file(m.p("slow", "small"), b"s")
    write_file(m.p("slow", "big"), blob(BIG, 1))
    assert [x["x-oss-traffic-limit"] for x in sent(server, "PutObject", "slow/small")] == ["819200"]
    assert [x["x-oss-traffic-limit"] for x in sent(server, "UploadPart", "slow/big")] == ["819200"] * 2
    assert sent(server, "InitiateMultipartUpload", "slow/big") == [{}]
    assert all("x-oss-traffic-limit" not in x for x in sent(server, "CompleteMultipartUpload", "slow/big"))

    write_file(m.p("once", "small"), b"s")
    write_file(m.p("once", "big"), blob(BIG, 1))
    assert [x["x-oss-forbid-overwrite"] for x in sent(server, "PutObject", "once/small")] == ["true"]
    for op in ("InitiateMultipartUpload", "CompleteMultipartUpload"):
        assert [x["x-oss-forbid-overwrite"] for x in sent(server, op, "once/big")] == ["true"]
    os.chmod(m.p("once", "small"), 0o600)
    with open(m.p("once", "small"), "rb") as f:
        os.fsync(f.fileno())
    m.allow("FileAlreadyExists.*", "is unsent", "of once/", "unsent")
    with raises_errno(errno.EEXIST):
        write_file(m.p("once", "small"), b"other")
    assert server.object("once/small") == b"s"
    os.unlink(m.p("once", "small"))


def test_content_type(server, mount, tmp):
    server.plant("page", b"old", headers={"Content-Type": "text/html", "Cache-Control": "no-cache"})
    server.plant("data.json", b"old", headers={"Content-Type": "text/odd"})
    m = mount()
    server.reset()
    for name, kind in (("a.html", "text/html"), ("b.PNG", "image/png"), ("c.tar.nosuch", "application/octet-stream"),
                       ("noext", "application/octet-stream")):
        write_file(m.p(name), b"x")
        has(server, name, {"content-type": kind})
    assert server.counters() == {"PutObject": 4}
    # An object keeps its own, written in place or replaced as editors do.
    for name, kind in (("page", "text/html"), ("data.json", "text/odd")):
        write_file(m.p(name), b"new")
        has(server, name, {"content-type": kind})
        write_file(m.p("." + name + ".tmp"), b"newer")
        os.rename(m.p("." + name + ".tmp"), m.p(name))
        has(server, name, {"content-type": kind})
    has(server, "page", {"cache-control": "no-cache"})
    # What the suffix gave follows the name, without a request more.
    server.reset()
    write_file(m.p("x.part"), b"<html>")
    os.rename(m.p("x.part"), m.p("x.html"))
    has(server, "x.html", {"content-type": "text/html"})
    assert server.counters() == {"PutObject": 1, "CopyObject": 1, "DeleteObject": 1}
    os.chmod(m.p("x.html"), 0o640)
    with open(m.p("x.html"), "r+b") as f:
        os.fsync(f.fileno())
    has(server, "x.html", {"content-type": "text/html", "x-oss-meta-mode": str(0o100640)})


def test_options_and_rules(server, mount, tmp):
    """An option is for all paths, the last rule that matches wins; rules win over what an object had."""
    path = rules(tmp, "*.html cache_control=no-cache\nstatic/** cache_control=max-age=9 content_type=text/x\n")
    server.plant("static/old.html", b"1", headers={"Content-Type": "text/own", "Cache-Control": "own"})
    m = mount(headers=path, cache_control="private", storage_class="IA", meta="a=1;b=2")
    for name, control in (("f", "private"), ("f.html", "no-cache"), ("static/f.html", "max-age=9"), ("static/old.html", "max-age=9")):
        write_file(m.p(name), b"x")
        has(server, name, {"cache-control": control, "x-oss-storage-class": "IA", "x-oss-meta-a": "1", "x-oss-meta-b": "2"})
    has(server, "static/f.html", {"content-type": "text/x"})
    m.unmount()
    for text, words in (("*.html cachecontrol=x\n", "line 1: unknown field"), ("\n\n* acl=all\n", "line 3: acl: give default")):
        write_file(path, text.encode())
        done = run(m.command(), check=False)
        assert done.returncode == 1 and path in done.stderr and words in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
    m.options.update(headers=None, storage_class="Warm")
    done = run(m.command(), check=False)
    assert done.returncode == 1 and "storage_class: give Standard, IA" in done.stderr, done.stderr


def test_tags_and_acl_of_an_object_stay(server, mount, tmp):
    headers = {"x-oss-tagging": "a=1&b=2", "x-oss-object-acl": "public-read", "x-oss-server-side-encryption": "AES256"}
    expected = {"tags": "a=1&b=2", "acl": "public-read", "x-oss-server-side-encryption": "AES256"}
    for name in ("one", "two", "three"):
        server.plant(name, b"old", headers=headers)
    m = mount(acl="private", multipart_size=1, multipart_threshold=1)
    write_file(m.p("one"), b"new")
    write_file(m.p("two"), blob(BIG, 2))
    os.rename(m.p("three"), m.p("four"))
    for name in ("one", "two", "four"):
        has(server, name, expected)
    server.reset()
    write_file(m.p("one"), b"newer")
    has(server, "one", expected)
    # One more each, for what the service drops and nobody else knows.
    assert server.counters() == {"PutObject": 1, "GetObjectACL": 1, "GetObjectTagging": 1}
    m.remount()
    write_file(m.p("one"), b"newest")
    has(server, "one", expected)


def test_tags_stay_when_a_crash_came_between(server, mount):
    """What the next mount sends for a killed daemon carries the tags of the object that it replaces."""
    headers = {"x-oss-tagging": "a=1&b=2", "x-oss-object-acl": "public-read"}
    for name in ("one", "two"):
        server.plant(name, b"old", headers=headers)
    server.plant("three", b"old")
    m = mount(upload="background", upload_delay=3600, multipart_size=1, multipart_threshold=1)
    for name, data in (("one", b"new"), ("two", blob(BIG, 2)), ("three", b"new")):
        write_file(m.p(name), data)
    m.kill()
    m.options.update(upload_delay=0)
    m.start()
    m.unmount()
    for name, data in (("one", b"new"), ("two", blob(BIG, 2))):
        server.check_object(name, data)
        has(server, name, {"tags": "a=1&b=2", "acl": "public-read"})
    server.check_object("three", b"new")
    has(server, "three", {"tags": "", "acl": "default"})


def test_of_an_object_that_only_a_listing_shows(server, mount):
    """attributes=listing: what it has is asked for before it is written, and counts as always: less than a rule."""
    headers = {"content-type": "text/x-special", "cache-control": "no-store", "x-oss-tagging": "a=1"}
    for name in ("a.html", "b.html"):
        server.plant(name, b"old", headers=headers)
    m = mount(attributes="listing", cache_control="max-age=1")
    write_file(m.p("a.html"), b"new")
    has(server, "a.html", {"content-type": "text/x-special", "cache-control": "max-age=1", "tags": "a=1"})
    os.chmod(m.p("b.html"), 0o600)
    m.unmount()
    has(server, "b.html", {"content-type": "text/x-special", "cache-control": "no-store", "tags": "a=1"})


def test_stream_over_an_object_that_only_a_listing_shows(server, mount):
    """The same of one that is sent while it is written: its upload begins long before the close."""
    headers = {"content-type": "text/x-special", "cache-control": "no-store", "x-oss-tagging": "a=1",
               "x-oss-object-acl": "public-read", "x-oss-meta-own": "kept", "content-disposition": "inline"}
    server.plant("a.html", b"old", headers=headers)
    m = mount(attributes="listing", multipart_size=1, multipart_threshold=1)
    os.stat(m.p("a.html"))
    server.reset()
    with open(m.p("a.html"), "wb") as f:
        f.write(blob(BIG, 4))
        f.flush()
        wait_until(lambda: sent(server, "UploadPart", "a.html"), 20 * harness.slow_factor(), "a part before the close")
    counters = server.counters()
    assert counters.pop("UploadPart") == -(-BIG // (1 << 20)), counters
    # What a listing does not show is asked for once, and nothing is sent twice.
    assert counters == {"HeadObject": 1, "GetObjectTagging": 1, "GetObjectACL": 1, "InitiateMultipartUpload": 1,
                        "CompleteMultipartUpload": 1}
    server.check_object("a.html", blob(BIG, 4))
    has(server, "a.html", {"content-type": "text/x-special", "cache-control": "no-store", "tags": "a=1",
                           "acl": "public-read", "x-oss-meta-own": "kept", "content-disposition": "inline"})


def test_content_md5(server, mount):
    m = mount(enable_content_md5=True, enable_crc64="no", multipart_size=1, multipart_threshold=1, retries=3)
    write_file(m.p("small"), b"small")
    write_file(m.p("big"), blob(BIG, 3))
    for op, key in (("PutObject", "small"), ("UploadPart", "big")):
        assert all(x.get("content-md5") for x in sent(server, op, key))
    # Damaged on the way: refused, sent again.
    m.allow("InvalidDigest")
    server.fault("corrupt_request", op="PutObject", key="again")
    write_file(m.p("again"), b"12345")
    assert server.object("again") == b"12345" and len(server.log("PutObject", "again")) == 2
    server.fault("corrupt_request", op="PutObject", key="never", count=-1)
    with raises_errno(errno.EIO):
        write_file(m.p("never"), b"12345")
    assert server.object("never") is None
    os.unlink(m.p("never"))
    server.clear_faults()


class Application(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), ApplicationHandler)
        self.heard, self.status = [], 200
        threading.Thread(target=self.serve_forever, daemon=True).start()


class ApplicationHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        self.server.heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(self.server.status)
        self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b'{"ok": "y"}')


def test_callbacks(server, mount, mount_factory, tmp):
    app = Application()
    callback = {
        "callbackUrl": "http://127.0.0.1:%d/told" % app.server_address[1],
        "callbackBody": "o=${object}&s=${size}&v=${x:who}&t=${mimeType}",
    }
    try:
        quoted = json.dumps(callback).replace('"', '\\"')
        path = rules(tmp, '*.txt callback="%s" callback_var="{\\"x:who\\": \\"me\\"}"\n' % quoted)
        m = mount(headers=path, multipart_size=1, multipart_threshold=1)
        write_file(m.p("small.txt"), b"12345")
        write_file(m.p("big.txt"), blob(BIG, 4))
        write_file(m.p("silent"), b"x")
        assert app.heard == ["o=small.txt&s=5&v=me&t=text/plain", "o=big.txt&s=%d&v=me&t=text/plain" % BIG]
        server.check_object("small.txt", b"12345")
        # It fails: stored, logged, sent once; whoever reads it gets it.
        m.allow("the object is stored, but its callback failed: 203 CallbackFailed.*check callbackUrl")
        app.status = 500
        server.reset()
        write_file(m.p("failed.txt"), b"123")
        write_file(m.p("failed-big.txt"), blob(BIG, 5))
        assert server.object("failed.txt") == b"123" and read_file(m.p("failed.txt")) == b"123"
        assert len(server.log("PutObject")) == 1 and len(server.log("CompleteMultipartUpload")) == 1
        assert m.stderr_text().count("callback failed") == 2
        m.unmount()
        value = base64.b64encode(json.dumps(callback).encode()).decode()
        m = mount_factory(server, callback=value, callback_errors=True, cache=m.cache)
        m.allow("callback failed")
        with raises_errno(errno.EREMOTEIO):
            write_file(m.p("failed2.txt"), b"12")
        assert server.object("failed2.txt") == b"12"
        server.reset()
        m.unmount()
        assert server.log("PutObject") == [], "it was stored: nothing is left to send"
    finally:
        app.shutdown()
        app.server_close()


def test_attributes_of_the_object(server, mount):
    server.plant("f.txt", b"12345", headers={"Content-Type": "text/plain", "x-oss-tagging": "a=1", "x-oss-meta-color": "red"})
    m = mount()

    def get(name, path="f.txt"):
        return os.getxattr(m.p(path), "user.oss." + name).decode()

    def set_(name, value, path="f.txt"):
        os.setxattr(m.p(path), "user.oss." + name, value.encode())

    found = server.objects()["f.txt"]
    for name, value in (("etag", found["etag"]), ("crc64", found["crc64"]), ("type", "Normal"), ("size", "5"), ("tagging", "a=1"),
                        ("storage_class", "Standard"), ("acl", "default"), ("content_type", "text/plain")):
        assert get(name) == value
    for name in ("version_id", "cache_control", "restore", "nonsense"):
        with raises_errno(errno.ENODATA):
            get(name)
    # Not listed: cp -a and rsync -X must not try to copy an ETag.
    assert os.listxattr(m.p("f.txt")) == ["user.color"]
    for name, value, stored in (
        ("storage_class", "IA", {"x-oss-storage-class": "IA"}),
        ("cache_control", "no-cache", {"cache-control": "no-cache"}),
        ("content_type", "text/html", {"content-type": "text/html"}),
        ("acl", "public-read", {"acl": "public-read"}),
        ("tagging", "x=1&y=2", {"tags": "x=1&y=2"}),
    ):
        set_(name, value)
        has(server, "f.txt", stored)
        assert get(name) == value
    # It stays so, whatever is done.
    kept = {"x-oss-storage-class": "IA", "cache-control": "no-cache", "content-type": "text/html", "acl": "public-read",
            "tags": "x=1&y=2", "x-oss-meta-color": "red"}
    has(server, "f.txt", kept)
    write_file(m.p("f.txt"), b"other")
    has(server, "f.txt", kept)
    os.rename(m.p("f.txt"), m.p("g.txt"))
    has(server, "g.txt", kept)
    for name, gone in (("cache_control", {"cache-control": None}), ("tagging", {"tags": ""}), ("acl", {"acl": "default"})):
        os.removexattr(m.p("g.txt"), "user.oss." + name)
        has(server, "g.txt", gone)
    for name, value, code in (("etag", "x", errno.EOPNOTSUPP), ("nonsense", "x", errno.EOPNOTSUPP), ("storage_class", "Warm", errno.EINVAL),
                              ("acl", "all", errno.EINVAL)):
        with raises_errno(code):
            set_(name, value, "g.txt")
    # An unsent file is sent first.
    with open(m.p("open"), "wb") as f:
        f.write(b"unsent")
        f.flush()
        set_("tagging", "t=1", "open")
        has(server, "open", {"tags": "t=1"})
    assert server.object("open") == b"unsent"
    has(server, "open", {"tags": "t=1"})
    with raises_errno(errno.EACCES):
        server.fault("status", op="PutObjectTagging", status=403, code="AccessDenied")
        m.allow("AccessDenied")
        set_("tagging", "t=2", "open")


# Every code that the service's documents list for PutObject, multipart uploads and AppendObject: errno, and words of the
# log line. (Position and type of an append, and lost uploads, are the append and fault tests'.)
CODES = (
    ("PutObject", 400, "MissingContentLength", "EIO", "proxy"),
    ("PutObject", 400, "InvalidEncryptionAlgorithmError", "EINVAL", "check sse="),
    ("PutObject", 400, "InvalidArgument", "EINVAL", "rules of headers="),
    ("PutObject", 400, "EntityTooLarge", "EFBIG", "multipart_threshold"),
    ("PutObject", 400, "InvalidObjectName", "EILSEQ", "UTF-8"),
    ("PutObject", 400, "RequestTimeout", "ETIMEDOUT", "parallel_count"),
    ("PutObject", 400, "InvalidDigest", "EIO", "damaged"),
    ("PutObject", 400, "InvalidCRC64", "EIO", "damaged"),
    ("PutObject", 400, "BadRequest", "EIO", "proxy"),
    ("PutObject", 400, "IncompleteBody", "EIO", "network"),
    ("PutObject", 400, "InvalidTag", "EINVAL", "tagging="),
    ("PutObject", 403, "AccessDenied", "EACCES", "grant"),
    ("PutObject", 403, "KmsServiceNotEnabled", "EACCES", "enable KMS"),
    ("PutObject", 404, "NoSuchBucket", "ENOENT", "deleted"),
    ("PutObject", 409, "FileAlreadyExists", "EEXIST", "forbid_overwrite"),
    ("PutObject", 409, "FileImmutable", "EPERM", "retention"),
    ("PutObject", 403, "QuotaExceeded", "EDQUOT", "quota"),
    ("PutObject", 400, "NotImplemented", "ENOTSUP", "does not know"),
    ("PutObject", 500, "InternalError", "EIO", "request id"),
    ("InitiateMultipartUpload", 400, "InvalidArgument", "EINVAL", "rules of headers="),
    ("InitiateMultipartUpload", 403, "KmsServiceNotEnabled", "EACCES", "enable KMS"),
    ("UploadPart", 400, "InvalidDigest", "EIO", "damaged"),
    ("UploadPart", 409, "PartAlreadyExist", "EEXIST", ""),
    ("UploadPart", 400, "PartNotSequential", "EIO", "report"),
    ("CompleteMultipartUpload", 400, "InvalidPart", "EIO", "begins anew"),
    ("CompleteMultipartUpload", 400, "InvalidPartOrder", "EIO", "report"),
    ("CompleteMultipartUpload", 400, "EntityTooSmall", "EIO", "100 KB"),
    ("CompleteMultipartUpload", 400, "MalformedXML", "EINVAL", "report"),
    ("CompleteMultipartUpload", 400, "FilePartNotExist", "EIO", "lifecycle"),
    ("CompleteMultipartUpload", 409, "FileImmutable", "EPERM", "retention"),
)


def test_every_error_code(server, mount):
    m = mount(retries=0, multipart_size=1, multipart_threshold=1)
    m.allow("failed", "40[0-9]", "500", "unsent", "CRC", "could not be sent before the close", "may not write everything")
    big = blob(BIG, 6)
    for i, (op, status, code, name, words) in enumerate(CODES):
        path = m.p("f%d" % i)
        server.fault("status", op=op, key="f%d" % i, status=status, code=code, count=-1)
        with raises_errno(getattr(errno, name)):
            write_file(path, b"x" if op == "PutObject" else big)
        server.clear_faults()
        os.unlink(path)
        lines = [x for x in m.stderr_text().splitlines() if "sending of f%d failed" % i in x]
        assert lines and code in lines[-1] and "request id" in lines[-1] and words in lines[-1], (code, lines)
    assert server.files() == {} and server.uploads() == []


def test_rename_of_a_directory_keeps_class_and_encryption(server, mount):
    """Which a copy does not take by itself. The listing tells the class; the encryption, whoever has looked before."""
    headers = {"x-oss-storage-class": "IA", "x-oss-server-side-encryption": "AES256"}
    for name in "a", "b":
        server.plant("d/" + name, b"x" * 100, headers)
    server.plant("d/c", b"x" * 100)
    m = mount()
    os.stat(m.p("d", "a"))
    os.rename(m.p("d"), m.p("e"))
    assert "x-oss-storage-class" not in server.headers("e/c") or server.headers("e/c")["x-oss-storage-class"] == "Standard"
    has(server, "e/a", headers)
    has(server, "e/b", {"x-oss-storage-class": "IA"})
