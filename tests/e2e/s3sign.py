"""A small S3 client of the tests' own: AWS signature V4 in the header or in the URL, over http.client."""

import hashlib
import hmac
import http.client
import time
import urllib.parse

EMPTY = hashlib.sha256(b"").hexdigest()


def quote(text, safe=""):
    return urllib.parse.quote(text, safe=safe + "-_.~")


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(method, path, query, headers, names, payload, date, region, secret):
    """The signature in hex; `query` is a list of pairs, `headers` has lower-case names."""
    text = "&".join("%s=%s" % p for p in sorted((quote(k), quote(v)) for k, v in query))
    lines = "".join("%s:%s\n" % (n, " ".join(headers[n].split())) for n in names)
    canonical = "\n".join([method, quote(path, "/"), text, lines, ";".join(names), payload])
    scope = "%s/%s/s3/aws4_request" % (date[:8], region)
    string = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = _hmac(("AWS4" + secret).encode(), date[:8])
    for part in (region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return hmac.new(key, string.encode(), hashlib.sha256).hexdigest()


class S3:
    """Answers (status, headers in lower case, body)."""

    def __init__(self, port, bucket="test-bucket", key="test", secret="secret", region="cn-test"):
        self.port, self.bucket, self.key, self.secret, self.region = port, bucket, key, secret, region

    def date(self):
        return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())

    def send(self, method, path, query, headers, body):
        text = "&".join("%s=%s" % (quote(k), quote(v)) for k, v in query)
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            c.request(method, quote(path, "/") + ("?" + text if text else ""), body=body, headers=headers)
            reply = c.getresponse()
            return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
        finally:
            c.close()

    def call(self, method, key=None, query=(), headers=None, body=b"", payload=None, unsigned=(), date=None):
        path = "/%s" % self.bucket if key is None else "/%s/%s" % (self.bucket, key)
        date = date or self.date()
        sent = {"host": "127.0.0.1:%d" % self.port, "x-amz-date": date}
        sent["x-amz-content-sha256"] = payload or hashlib.sha256(body).hexdigest()
        sent.update(headers or {})
        names = sorted(n for n in sent if n not in unsigned)
        hash_ = sent["x-amz-content-sha256"]
        hex_ = signature(method, path, list(query), sent, names, hash_, date, self.region, self.secret)
        sent["Authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s/%s/s3/aws4_request, SignedHeaders=%s, Signature=%s" % (
            self.key,
            date[:8],
            self.region,
            ";".join(names),
            hex_,
        )
        return self.send(method, path, query, sent, body)

    def presigned(self, method, key, expires=60, body=b"", date=None):
        path, date = "/%s/%s" % (self.bucket, key), date or self.date()
        query = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", "%s/%s/%s/s3/aws4_request" % (self.key, date[:8], self.region)),
            ("X-Amz-Date", date),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", "host"),
        ]
        headers = {"host": "127.0.0.1:%d" % self.port}
        hex_ = signature(method, path, query, headers, ["host"], "UNSIGNED-PAYLOAD", date, self.region, self.secret)
        return self.send(method, path, query + [("X-Amz-Signature", hex_)], headers, body)
