"""Signatures of the local server: every vector is replayed to it, and each way to get one wrong is refused.

The vectors come from the official SDK. The tests' own signer (osssign.py) has to make the same signatures, and the
server has to accept the very requests they describe, at the time they were signed.
"""

import calendar
import json
import os
import time
from email.utils import formatdate

import pytest

import harness
import osssign
from harness import TOP
from osssign import Client

BUCKET = "test-bucket"


def vectors(name):
    with open(os.path.join(TOP, "tests", "unit", "vectors", name), encoding="utf-8") as f:
        return json.load(f)["cases"]


V4, V1 = vectors("sign_v4.json"), vectors("sign_v1.json")


def cred_of(given):
    return given["access_key_id"], given["access_key_secret"], given["security_token"]


@pytest.mark.parametrize("case", V4, ids=lambda c: c["name"])
def test_own_signer_v4(case):
    given, expect = case["input"], case["expect"]
    cred, query = cred_of(given), [tuple(q) for q in given["query"]]
    where = (given["method"], given["bucket"], given["key"], query, given["headers"])
    if given["kind"] == "header":
        added = osssign.v4_headers(
            cred, given["region"], *where, given["additional_headers"], given["datetime"], given["product"]
        )
        assert added.pop("Authorization") == expect["authorization_compact"]
        assert added == {k.lower(): v for k, v in expect["headers_added_by_signer"].items()}
    else:
        signed = osssign.v4_presign(
            cred,
            given["region"],
            *where,
            given["expires"],
            given["additional_headers"],
            given["datetime"],
            given["product"],
        )
        assert dict(signed)["x-oss-signature"] == expect["signature"]


@pytest.mark.parametrize("case", V1, ids=lambda c: c["name"])
def test_own_signer_v1(case):
    given, expect = case["input"], case["expect"]
    cred, query = cred_of(given), [tuple(q) for q in given["query"]]
    where = (given["method"], given["bucket"], given["key"], query, given["headers"])
    if given["kind"] == "header":
        added = osssign.v1_headers(cred, *where, formatdate(given["unix_time"], usegmt=True))
        assert added["Authorization"] == expect["authorization"]
    else:
        signed = osssign.v1_presign(cred, *where, given["unix_time"] + given["expires_in"])
        assert dict(signed)["Signature"] == expect["signature"]


# ---------------------------------------------------------------------------------- replayed to the server


def replay(server, given, headers, query, now):
    """Sends the request of a vector, as it was signed."""
    server.call("POST", "/clock", body={"now": now})
    body = {"id": given["access_key_id"], "secret": given["access_key_secret"]}
    if given["security_token"]:
        body["token"] = given["security_token"]
    server.call("POST", "/keyrotate", body=body)
    host, _, path = given["url"].split("://", 1)[1].partition("/")
    headers = dict(headers)
    headers.setdefault("Host", host)
    target = "/" + path
    if query:
        target += "?" + "&".join(osssign.quote(k) + ("=" + osssign.quote(v) if v else "") for k, v in query)
    with Client(server.port) as client:
        body = b"0123456789" if "Content-MD5" in headers else bytes(int(headers.get("Content-Length", 0)))
        return client.send(given["method"], target, headers, body)


SIGNATURE_CODES = (
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "AccessDenied",
    "RequestTimeTooSkewed",
    "InvalidSecurityToken",
    "AccessKeyIdAndSecurityTokenNotMatch",
)


def accepted(reply):
    """Whatever became of the operation: it was not the signature that it failed at."""
    if reply.code == "InvalidArgument" and reply.body:
        return reply.text("ArgumentName") is not None
    return reply.code not in SIGNATURE_CODES


def unix(compact):
    return calendar.timegm(time.strptime(compact, "%Y%m%dT%H%M%SZ"))


def raw(headers):
    """Values as UTF-8 on the wire."""
    return {k: v.encode() for k, v in headers.items()}


@pytest.fixture(scope="module")
def replay_servers(tmp_path_factory):
    servers = {}
    for region in ("cn-hangzhou", "ap-southeast-1"):
        directory = str(tmp_path_factory.mktemp(region))
        servers[region] = harness.Ossd(
            directory, "--region", region, "--cname", "img.example.com=examplebucket", "--bucket", "bkt", bucket="examplebucket"
        ).start()
    yield servers
    for server in servers.values():
        server.stop()


@pytest.mark.parametrize("spelling", ["compact", "sdk"])
@pytest.mark.parametrize("case", V4, ids=lambda c: c["name"])
def test_server_v4(replay_servers, case, spelling):
    given, expect = case["input"], case["expect"]
    server, now = replay_servers[given["region"]], unix(given["datetime"])
    query, headers = [tuple(q) for q in given["query"]], dict(given["headers"])
    if given["kind"] == "header":
        headers.update(expect["headers_added_by_signer"])
        names = expect["authorization_compact"].split("AdditionalHeaders=")
        additional = names[1].split(",")[0].split(";") if len(names) > 1 else []
        if spelling == "compact" or additional:
            headers["Authorization"] = expect["authorization_compact"]
        else:
            headers["Authorization"] = expect["authorization"]
    else:
        query += list(expect["query_added_by_signer"].items()) + [("x-oss-signature", expect["signature"])]
    good = replay(server, given, raw(headers), query, now)
    assert accepted(good), (good.status, good.body, good.headers)
    # The same with one character of the signature changed is refused.
    if given["kind"] == "header":
        text = headers["Authorization"]
        at = text.index("Signature=") + 10
        headers["Authorization"] = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
    else:
        query = [(k, ("0" if v[0] != "0" else "1") + v[1:]) if k == "x-oss-signature" else (k, v) for k, v in query]
    bad = replay(server, given, raw(headers), query, now)
    assert (bad.status, bad.code) == (403, "SignatureDoesNotMatch")
    if bad.body:
        assert bad.text("StringToSign") == expect["string_to_sign"]
        assert bad.text("CanonicalRequest") == expect["canonical_request"]


@pytest.mark.parametrize("case", V1, ids=lambda c: c["name"])
def test_server_v1(replay_servers, case):
    given, expect = case["input"], case["expect"]
    server, query = replay_servers["cn-hangzhou"], [tuple(q) for q in given["query"]]
    headers = dict(given["headers"])
    if given["kind"] == "header":
        headers.update(expect["headers_added_by_signer"])
        headers["Authorization"] = expect["authorization"]
    else:
        query += list(expect["query_added_by_signer"].items())
    now = given["unix_time"]
    if "x-oss-date" in headers:
        now = calendar.timegm(time.strptime(headers["x-oss-date"], "%a, %d %b %Y %H:%M:%S GMT"))
    good = replay(server, given, raw(headers), query, now)
    assert accepted(good), (good.status, good.body, good.headers)
    given = dict(given, access_key_secret="another")
    bad = replay(server, given, raw(headers), query, now)
    assert (bad.status, bad.code) == (403, "SignatureDoesNotMatch")
    if bad.body:
        assert bad.text("StringToSign") == expect["string_to_sign"]


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("style", ["path", "oss-cn-test.aliyuncs.com"])
@pytest.mark.parametrize("how", ["v4", "v1", "v4-url", "v1-url"])
def test_every_way_to_sign(server, how, style):
    with Client(server.port, how=how, style=style) as client:
        for key in ("a", "dir/b c+d%&=?#.txt", "\u76ee\u5f55/'(*)!~"):
            assert client("PUT", BUCKET, key, headers={"x-oss-meta-a": "1"}, body=b"data").status == 200
            assert client("GET", BUCKET, key).body == b"data"
            assert client("GET", BUCKET, query={"prefix": key, "delimiter": "/", "list-type": "2"}).status == 200
            assert client("PUT", BUCKET, key, headers={"x-oss-copy-source": "/%s/a" % BUCKET}).status == 200


def test_wrong_key_secret_region(server):
    for how in ("v4", "v1", "v4-url", "v1-url"):
        with Client(server.port, ("other", "secret", None), how=how) as client:
            r = client("GET", BUCKET, "k")
            assert (r.status, r.code) == (403, "InvalidAccessKeyId")
        with Client(server.port, ("test", "wrong", None), how=how) as client:
            r = client("HEAD", BUCKET, "k")
            assert (r.status, r.code) == (403, "SignatureDoesNotMatch")
    with Client(server.port, region="cn-other") as client:
        r = client("GET", BUCKET, "k")
        assert (r.status, r.code) == (400, "InvalidArgument")


def test_no_signature(server):
    with Client(server.port, how="none") as client:
        assert client("GET", BUCKET, "k").code == "AccessDenied"
        assert client("GET", None).code == "AccessDenied"
        assert client("PUT", BUCKET, "k", body=b"x").code == "AccessDenied"
    with Client(server.port) as owner, Client(server.port, how="none") as client:
        owner("PUT", BUCKET, "public", headers={"x-oss-object-acl": "public-read"}, body=b"seen")
        assert client("GET", BUCKET, "public").body == b"seen"
        r = client("GET", BUCKET, "public", {"response-content-type": "a/b"})
        assert r.status == 400
        assert client("DELETE", BUCKET, "public").code == "AccessDenied"
        assert owner("PUT", BUCKET, query={"acl": ""}, headers={"x-oss-acl": "public-read-write"}).status == 200
        assert client("PUT", BUCKET, "k", body=b"x").status == 200
        assert client("GET", BUCKET, "k").body == b"x"
        owner("PUT", BUCKET, "k", {"acl": ""}, {"x-oss-object-acl": "private"})
        assert client("GET", BUCKET, "k").code == "AccessDenied"


def test_clock(server):
    server.call("POST", "/clock", body={"offset": 14 * 60})
    for how in ("v4", "v1"):
        with Client(server.port, how=how) as client:
            assert client("GET", BUCKET, "k").code == "NoSuchKey"
    for offset in (16 * 60, -16 * 60):
        server.call("POST", "/clock", body={"offset": offset})
        for how in ("v4", "v1"):
            with Client(server.port, how=how) as client:
                r = client("GET", BUCKET, "k")
                assert (r.status, r.code) == (403, "RequestTimeTooSkewed")
                assert r.text("ServerTime") and r.text("RequestTime")
    server.call("POST", "/clock", body={"offset": 3600})
    for how in ("v4-url", "v1-url"):
        with Client(server.port, how=how) as client:
            r = client("GET", BUCKET, "k")
            assert (r.status, r.code, r.text("Message")) == (403, "AccessDenied", "Request has expired.")


def test_tokens(server_factory):
    server = server_factory("--key", "sts:sts-secret:sts-token")
    good, missing, wrong = [("sts", "sts-secret", t) for t in ("sts-token", None, "other")]
    for how in ("v4", "v1", "v4-url", "v1-url"):
        for cred, code in ((good, "NoSuchKey"), (missing, "InvalidAccessKeyId"), (wrong, "InvalidSecurityToken")):
            with Client(server.port, cred, how=how) as client:
                assert client("GET", BUCKET, "k").code == code
        with Client(server.port, ("test", "secret", "sts-token"), how=how) as client:
            assert client("GET", BUCKET, "k").code == "AccessKeyIdAndSecurityTokenNotMatch"
    server.call("POST", "/keyrotate", body={"id": "sts", "secret": "sts-secret", "token": "sts-token", "expired": True})
    server.call("POST", "/keyrotate", body={"id": "test", "secret": "secret", "expired": True})
    server.call("POST", "/keyrotate", body={"id": "sts2", "secret": "s2", "token": "t2"})
    for cred, code in (
        (good, "SecurityTokenExpired"),
        (("test", "secret", None), "InvalidAccessKeyId"),
        (("sts2", "s2", "t2"), "NoSuchKey"),
    ):
        with Client(server.port, cred) as client:
            assert client("GET", BUCKET, "k").code == code


def test_malformed_signatures(server):
    with Client(server.port) as client:
        target, good = client.prepare("GET", BUCKET, "k", (), {})

        def status(**changed):
            headers = {k: v for k, v in dict(good, **{k.replace("_", "-"): v for k, v in changed.items()}).items() if v}
            r = client.send("GET", target, headers)
            return r.status, r.code

        text = good["Authorization"]
        assert status() == (404, "NoSuchKey")
        assert status(Authorization=text.replace(",", ", ")) == (404, "NoSuchKey")
        assert status(Authorization="OSS4-HMAC-SHA256 " + ", ".join(reversed(text.split(" ", 1)[1].split(",")))) == (
            404,
            "NoSuchKey",
        )
        for wrong in (
            "Basic abc",
            "OSS test",
            text.replace("/oss/", "/s3/"),
            text.replace("Signature=", "Sig="),
            text.replace("Credential=test/", "Credential=test"),
            text + ",AdditionalHeaders=",
            text + ",AdditionalHeaders=host;",
            text + ",AdditionalHeaders=Host",
            text + ",AdditionalHeaders=range;host",
            text + ",AdditionalHeaders=absent",
        ):
            assert status(Authorization=wrong) == (400, "InvalidArgument"), wrong
        assert status(x_oss_content_sha256="e3b0c442") == (400, "InvalidArgument")
        assert status(x_oss_date="yesterday") == (400, "InvalidArgument")
        assert status(x_oss_meta_added="later") == (403, "SignatureDoesNotMatch")
        both = target + "?x-oss-signature=00&x-oss-signature-version=OSS4-HMAC-SHA256"
        assert client.send("GET", both, good).code == "InvalidArgument"
        query = osssign.v4_presign(client.cred, "cn-test", "GET", BUCKET, "k", [], {}, 604801)
        r = client.send("GET", target + "?" + "&".join(k + "=" + osssign.quote(v) for k, v in query), {"Host": "127.0.0.1"})
        assert r.code == "InvalidArgument"


def test_host_styles(server_factory):
    server = server_factory("--cname", "files.example.com=" + BUCKET, "--no-auth")
    server.plant("dir/k", b"bytes")
    with Client(server.port, how="none") as client:
        for host, path in (
            ("127.0.0.1:1", "/test-bucket/dir/k"),
            ("localhost", "/test-bucket/dir%2Fk"),
            ("[::1]:80", "/test-bucket/dir/k"),
            ("test-bucket.oss-cn-test.aliyuncs.com", "/dir/k"),
            ("test-bucket.localhost:99", "/dir%2fk"),
            ("files.example.com", "/dir/k"),
        ):
            assert client.send("GET", path, {"Host": host}).body == b"bytes", host
        r = client.send("GET", "/test-bucket/dir/k", {"Host": "oss-cn-test.aliyuncs.com"})
        assert (r.status, r.code) == (403, "SecondLevelDomainForbidden")
        assert client.send("GET", "/", {"Host": "oss-cn-test.aliyuncs.com"}).xml.tag == "ListAllMyBucketsResult"
        assert client.send("GET", "/k", {"Host": "nobody.oss-cn-test.aliyuncs.com"}).code == "NoSuchBucket"
