"""Access keys that renew themselves: a program, the metadata service, files; and none at all.

The server knows of each key when it dies, and refuses it from then on. What is stated here is that no request is
refused: whoever copies through a mount whose key lives for seconds notices nothing, and neither does the service.
"""

import contextlib
import datetime
import errno
import http.server
import json
import os
import sys
import threading
import time

import pytest

import harness
from harness import BUCKET, KEY_ID, KEY_SECRET, OSSMOUNT, REGION, blob, raises_errno, read_file, write_file
from osssign import Client

LONG = bool(os.environ.get("OSSMOUNT_LONG"))
LIFE, SECONDS = (30, 180) if LONG else (3, 7)


class Issuer(http.server.ThreadingHTTPServer):
    """
    Issues keys that live for `life` seconds, at the server too, and answers as the metadata service of ECS does: to
    whoever has a token. Like that service it hands out the same key again until half of its life is over.
    """

    def __init__(self, server, role="my-role", life=LIFE, hardened=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.server, self.role, self.life, self.hardened = server, role, life, hardened
        self.lock = threading.Lock()
        self.issued, self.current, self.until = 0, None, 0.0
        self.asked, self.broken = [], False
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def key(self):
        with self.lock:
            now = time.time()
            if not self.current or now > self.until - self.life / 2:
                # Whole seconds are all that the answer can tell.
                self.until = float(int(now + self.life))
                self.issued += 1
                name = "STS.%s.%d" % (self.role, self.issued)
                self.current = {
                    "Code": "Success",
                    "AccessKeyId": name,
                    "AccessKeySecret": "secret-of-" + name,
                    "SecurityToken": "token/of+" + name,
                    "Expiration": datetime.datetime.utcfromtimestamp(self.until).strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
                self.set(life_ms=int((self.until - now) * 1000))
            return self.current

    def set(self, **more):
        key = self.current
        body = {"id": key["AccessKeyId"], "secret": key["AccessKeySecret"], "token": key["SecurityToken"], **more}
        self.server.call("POST", "/keyrotate", body=body)

    def revoke(self):
        """The key is worth nothing from now on, whatever was promised."""
        with self.lock:
            self.set(expired=True)
            self.current = None


class Handler(http.server.BaseHTTPRequestHandler):
    ROLES = "/latest/meta-data/ram/security-credentials/"

    def log_message(self, *args):
        pass

    def answer(self, status, text=""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        self.server.asked.append(self.path)
        good = self.path == "/latest/api/token" and 1 <= int(
            self.headers.get("X-aliyun-ecs-metadata-token-ttl-seconds", 0)
        ) <= 21600
        if self.server.hardened and good:
            self.answer(200, "the-token")
        else:
            self.answer(404)

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.server.broken:
            self.answer(500)
        elif self.server.hardened and self.headers.get("X-aliyun-ecs-metadata-token") != "the-token":
            self.answer(403)
        elif self.path == self.ROLES:
            self.answer(200, self.server.role + "\n")
        elif self.path in (self.ROLES + self.server.role, "/own"):
            self.answer(200, json.dumps(self.server.key()))
        else:
            self.answer(404)


@pytest.fixture
def issuer(server):
    with contextlib.ExitStack() as stack:

        def start(**options):
            one = Issuer(server, **options)
            stack.callback(one.server_close)
            stack.callback(one.shutdown)
            return one

        yield start


def program(tmp, issuer, name="program"):
    """A program that gets the key from `issuer` and writes it as an external process does."""
    path = os.path.join(tmp, name)
    write_file(
        path,
        (
            "#!%s\nimport sys, urllib.request\nassert sys.argv[1:] == ['an argument'], sys.argv\n"
            "print(urllib.request.urlopen('%s/own').read().decode())\n" % (sys.executable, issuer.url)
        ).encode(),
    )
    os.chmod(path, 0o700)
    return path


def refusals(server):
    return [e for e in server.log() if e["status"] in (400, 401, 403) and e["op"] != "GetBucketInfo"]


def keep_copying(mount, name, seconds, stop):
    """Small files, and one that takes longer than a key lives, until the time is over; compares at the end."""
    big = blob(8 << 20, 7)
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end and not stop.is_set():
        write_file(mount.p("%s-big" % name), big)
        for i in range(3):
            write_file(mount.p("%s-%d-%d" % (name, n, i)), blob(1000, i))
            time.sleep(0.05)
        assert read_file(mount.p("%s-%d-0" % (name, n))) == blob(1000, 0)
        n += 1
    return big, n


def test_keys_that_live_for_seconds(server, issuer, mount_factory, tmp):
    role = issuer(role="a-role")
    other = issuer(role="b-role", hardened=False)
    mounts = [
        mount_factory(server, passwd_file=None, ram_role="auto", metadata_url=role.url, bucket=BUCKET + ":/r",
                      multipart_size=1, multipart_threshold=1, parallel_count=2),
        mount_factory(server, passwd_file=None, credential_process=program(tmp, other) + " 'an argument'",
                      bucket=BUCKET + ":/p", multipart_size=1, multipart_threshold=1, parallel_count=2),
    ]
    server.latency(bandwidth=2 << 20)
    results, stop = {}, threading.Event()

    def work(i):
        try:
            results[i] = keep_copying(mounts[i], "f", SECONDS, stop)
        except BaseException as e:
            results[i] = e
            stop.set()

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    server.latency()
    for i, prefix in ((0, "r/"), (1, "p/")):
        if isinstance(results[i], BaseException):
            raise results[i]
        big, n = results[i]
        assert n > 0
        assert server.object(prefix + "f-big") == big
    assert refusals(server) == []
    # Each issuer has given out about one key for each half of a life; the mount has lived on several.
    assert role.issued >= SECONDS // LIFE and other.issued >= SECONDS // LIFE
    assert role.asked.count("/latest/api/token") >= role.issued


def test_a_key_that_is_revoked(server, issuer, mount, tmp):
    """Refused long before its time: a new one is asked for at once, and the program hears nothing of it."""
    role = issuer(life=7200)
    m = mount(passwd_file=None, ram_role=role.role, metadata_url=role.url)
    m.allow("SecurityTokenExpired.*again in 0 ms")
    write_file(m.p("one"), b"1")
    role.revoke()
    write_file(m.p("two"), b"2")
    assert role.issued == 2 and server.object("two") == b"2"
    # Nobody can renew it: EACCES, and the bytes stay until somebody can.
    m.allow("SecurityTokenExpired", "access key not renewed: ram_role: .* answers 500")
    role.revoke()
    role.broken = True
    with raises_errno(errno.EACCES):
        write_file(m.p("three"), b"3")
    role.broken = False
    with open(m.p("three"), "r+b") as f:
        os.fsync(f.fileno())
    assert server.object("three") == b"3"


def test_a_role_by_url_and_errors(server, issuer, mount, tmp):
    role = issuer(life=7200, hardened=False)
    m = mount(passwd_file=None, ram_role=role.url + "/own", metadata_url=role.url)
    write_file(m.p("one"), b"1")
    m.unmount()
    for options, words in (
        ({"ram_role": "other", "metadata_url": role.url}, "404"),
        ({"ram_role": "auto", "metadata_url": "http://127.0.0.1:9"}, "cannot be asked"),
        ({"credential_process": "/nowhere/program"}, "/nowhere/program: No such file"),
        ({"credential_process": "program"}, "whole path"),
    ):
        text = ",".join("%s=%s" % x for x in {"url": server.url, "region": REGION, "cache_dir": tmp + "/c", **options}.items())
        done = harness.run([OSSMOUNT, BUCKET, m.path, "-f", "-o", text], check=False)
        assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def ossutil_file(directory, server, key_id, secret, extra=""):
    path = os.path.join(directory, ".ossutilconfig")
    write_file(
        path + ".new",
        (
            "[Credentials]\nlanguage=EN\nendpoint=%s\naccessKeyID=%s\naccessKeySecret=%s\nregion=%s\n%s"
            % (server.url, key_id, secret, REGION, extra)
        ).encode(),
    )
    os.chmod(path + ".new", 0o600)
    os.rename(path + ".new", path)
    return path


def test_the_file_of_ossutil(server, mount, tmp, monkeypatch):
    """Found in the home directory with its endpoint; a key changed there is used without a remount."""
    monkeypatch.setenv("HOME", tmp)
    path = ossutil_file(tmp, server, KEY_ID, KEY_SECRET)
    m = mount(passwd_file=None, url=None, region=None)
    write_file(m.p("one"), b"1")
    server.call("POST", "/keyrotate", body={"id": KEY_ID, "secret": KEY_SECRET, "expired": True})
    server.call("POST", "/keyrotate", body={"id": "second", "secret": "key"})
    ossutil_file(tmp, server, "second", "key")
    m.allow("InvalidAccessKeyId.*again in 0 ms")
    write_file(m.p("two"), b"2")
    assert server.object("one") == b"1" and server.object("two") == b"2"
    m.unmount()
    os.chmod(path, 0o644)
    env = {k: v for k, v in os.environ.items() if not k.startswith("OSS_")}
    done = harness.run([OSSMOUNT, BUCKET, m.path, "-f"], check=False, env=env)
    assert done.returncode == 1 and "chmod 600" in done.stderr, done.stderr
    # Without an endpoint anywhere.
    write_file(path, b"[Credentials]\naccessKeyID=a\naccessKeySecret=b\n")
    os.chmod(path, 0o600)
    done = harness.run([OSSMOUNT, BUCKET, m.path, "-f"], check=False, env=env)
    assert done.returncode == 1 and "no endpoint" in done.stderr, done.stderr


def test_a_public_bucket(server, mount_factory):
    server.plant("d/f", b"for all")
    with Client(server.port) as client:
        assert client("PUT", BUCKET, None, {"acl": ""}, headers={"x-oss-acl": "public-read"}).status == 200
    m = mount_factory(server, passwd_file=None, public_bucket=True, ro=True)
    assert os.listdir(m.p("d")) == ["f"] and read_file(m.p("d", "f")) == b"for all"
    with raises_errno(errno.EROFS):
        write_file(m.p("mine"), b"x")
    # A private bucket says no at the mount.
    with Client(server.port) as client:
        assert client("PUT", BUCKET, None, {"acl": ""}, headers={"x-oss-acl": "private"}).status == 200
    m.unmount()
    done = harness.run(m.command(), check=False)
    assert done.returncode == 1 and "AccessDenied" in done.stderr, done.stderr


def test_a_public_bucket_that_may_be_written(server, mount_factory):
    """Nobody without a key may read an ACL: objects of others are changed all the same, and that is said once."""
    for name in ("f", "g"):
        server.plant(name, b"old")
    with Client(server.port) as client:
        assert client("PUT", BUCKET, None, {"acl": ""}, headers={"x-oss-acl": "public-read-write"}).status == 200
    m = mount_factory(server, passwd_file=None, public_bucket=True)
    write_file(m.p("f"), b"new")
    write_file(m.p("new"), b"new")
    with open(m.p("g"), "ab") as f:
        f.write(b"er")
    m.unmount()
    assert {k: server.object(k) for k in server.files()} == {"f": b"new", "new": b"new", "g": b"older"}
    assert m.stderr_text().count("without an access key the ACL") == 1
    assert server.log("GetObjectACL") == []
