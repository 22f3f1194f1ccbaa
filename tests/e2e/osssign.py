"""A small OSS client of the tests' own: signatures V4 and V1, in the header or in the URL, over http.client.

It shares nothing with the program nor with the server, so that three readings of the rules have to agree.
"""

import base64
import hashlib
import hmac
import http.client
import ssl
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from email.utils import formatdate

PLAIN = "-_.~"

SUBRESOURCES = set(
    """acl append asyncFetch bucketArchiveDirectRead bucketInfo callback callback-var cname comp continuation-token cors
    delete encryption endTime group httpsConfig inventory inventoryId lifecycle link live location logging metaQuery
    objectInfo objectMeta partNumber policy position publicAccessBlock qos qosInfo qosRequester redundancyTransition
    referer regionList replication replicationLocation replicationProgress requestPayment requesterQosInfo
    resourceGroup resourcePool resourcePoolBuckets resourcePoolInfo response-cache-control response-content-disposition
    response-content-encoding response-content-language response-content-type response-expires restore security-token
    sequential startTime stat status style styleName symlink tagging transferAcceleration uploadId uploads versionId
    versioning versions vod website worm wormExtend wormId x-oss-process x-oss-async-process x-oss-traffic-limit
    x-oss-request-payer""".split()
)


def quote(text, safe=""):
    return urllib.parse.quote(text, safe=safe + PLAIN)


def _lower(headers):
    return {k.lower(): str(v).strip() for k, v in headers.items()}


# ------------------------------------------------------------------------------------------------- version 4


def v4_canonical(method, bucket, key, query, headers, additional=()):
    """The canonical request; `headers` are all that are sent, `additional` the extra names to sign."""
    headers = _lower(headers)
    uri = "/" if bucket is None else "/%s/%s" % (bucket, quote(key or "", "/"))
    pairs = sorted((quote(k), quote(v)) for k, v in query)
    text = "&".join(k + "=" + v if v else k for k, v in pairs)
    names = v4_additional(headers, additional)
    signed = sorted(h for h in headers if v4_always(h) or h in names)
    lines = "".join("%s:%s\n" % (h, headers[h]) for h in signed)
    payload = headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD")
    return "\n".join([method, uri, text, lines, ";".join(names), payload])


def v4_always(name):
    return name in ("content-type", "content-md5") or name.startswith("x-oss-")


def v4_additional(headers, additional):
    return sorted({a.lower() for a in additional if a.lower() in headers and not v4_always(a.lower())})


def v4_key(secret, day, region, product="oss"):
    key = ("aliyun_v4" + secret).encode()
    for part in (day, region, product, "aliyun_v4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def v4_string(canonical, date, region, product="oss"):
    scope = "%s/%s/%s/aliyun_v4_request" % (date[:8], region, product)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return scope, "OSS4-HMAC-SHA256\n%s\n%s\n%s" % (date, scope, digest)


def v4_signature(canonical, date, region, secret, product="oss"):
    _, text = v4_string(canonical, date, region, product)
    return hmac.new(v4_key(secret, date[:8], region, product), text.encode(), hashlib.sha256).hexdigest()


def v4_headers(cred, region, method, bucket, key, query, headers, additional=(), date=None, product="oss"):
    """What has to be added to the request's headers."""
    key_id, secret, token = cred
    date = date or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    add = {"x-oss-date": date, "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}
    if token:
        add["x-oss-security-token"] = token
    sent = dict(headers, **add)
    canonical = v4_canonical(method, bucket, key, query, sent, additional)
    scope, _ = v4_string(canonical, date, region, product)
    names = v4_additional(_lower(sent), additional)
    items = ["Credential=%s/%s" % (key_id, scope)]
    if names:
        items.append("AdditionalHeaders=" + ";".join(names))
    items.append("Signature=" + v4_signature(canonical, date, region, secret, product))
    add["Authorization"] = "OSS4-HMAC-SHA256 " + ",".join(items)
    return add


def v4_presign(cred, region, method, bucket, key, query, headers, expires, additional=(), date=None, product="oss"):
    """The query of a presigned URL: what was given and what the signature adds."""
    key_id, secret, token = cred
    date = date or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    query = list(query) + [
        ("x-oss-signature-version", "OSS4-HMAC-SHA256"),
        ("x-oss-credential", "%s/%s/%s/%s/aliyun_v4_request" % (key_id, date[:8], region, product)),
        ("x-oss-date", date),
        ("x-oss-expires", str(expires)),
    ]
    names = v4_additional(_lower(headers), additional)
    if names:
        query.append(("x-oss-additional-headers", ";".join(names)))
    if token:
        query.append(("x-oss-security-token", token))
    canonical = v4_canonical(method, bucket, key, query, headers, additional)
    return query + [("x-oss-signature", v4_signature(canonical, date, region, secret, product))]


# ------------------------------------------------------------------------------------------------- version 1


def v1_string(method, bucket, key, query, headers, date):
    headers = _lower(headers)
    lines = "".join("%s:%s\n" % (h, headers[h]) for h in sorted(headers) if h.startswith("x-oss-"))
    resource = "/" if bucket is None else "/%s/%s" % (bucket, key or "")
    pairs = sorted((k, v) for k, v in query if k in SUBRESOURCES)
    if pairs:
        resource += "?" + "&".join(k + "=" + v if v else k for k, v in pairs)
    head = [method, headers.get("content-md5", ""), headers.get("content-type", ""), date]
    return "\n".join(head) + "\n" + lines + resource


def v1_signature(text, secret):
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()


def v1_headers(cred, method, bucket, key, query, headers, date=None):
    key_id, secret, token = cred
    date = date or formatdate(usegmt=True)
    add = {"Date": date}
    if token:
        add["x-oss-security-token"] = token
    sent = _lower(dict(headers, **add))
    text = v1_string(method, bucket, key, query, sent, sent.get("x-oss-date") or date)
    add["Authorization"] = "OSS %s:%s" % (key_id, v1_signature(text, secret))
    return add


def v1_presign(cred, method, bucket, key, query, headers, expires):
    """`expires` is a UNIX time."""
    key_id, secret, token = cred
    query = list(query)
    if token:
        query.append(("security-token", token))
    text = v1_string(method, bucket, key, query, headers, str(expires))
    return query + [
        ("OSSAccessKeyId", key_id),
        ("Expires", str(expires)),
        ("Signature", v1_signature(text, secret)),
    ]


# ---------------------------------------------------------------------------------------------------- client


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {k.lower(): v for k, v in headers}

    @property
    def xml(self):
        return ElementTree.fromstring(self.body)

    @property
    def code(self):
        """The OSS code of an error, also of a HEAD."""
        body = self.body or base64.b64decode(self.headers.get("x-oss-err", ""))
        return ElementTree.fromstring(body).findtext("Code") if body else None

    def texts(self, path):
        return [e.text or "" for e in self.xml.findall(path)]

    def text(self, path):
        return self.xml.findtext(path)

    @property
    def etag(self):
        return self.headers["etag"].strip('"')

    @property
    def crc(self):
        return int(self.headers["x-oss-hash-crc64ecma"])


class Client:
    """One connection, kept alive. `how`: v4, v1, v4-url, v1-url or none; `style`: path, or a domain behind the bucket."""

    def __init__(self, port, cred=("test", "secret", None), region="cn-test", how="v4", style="path", ca=None):
        self.port, self.cred, self.region, self.how, self.style = port, cred, region, how, style
        if ca:
            context = ssl.create_default_context(cafile=ca)
            self.connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()

    def prepare(self, method, bucket, key, query, headers):
        """The target and the headers of a request, signed."""
        query = list(query.items() if isinstance(query, dict) else query)
        headers = dict(headers)
        if self.style == "path":
            host = "127.0.0.1:%d" % self.port
            path = "/" if bucket is None else "/%s/%s" % (bucket, quote(key or "", "/"))
        else:
            host = self.style if bucket is None else "%s.%s" % (bucket, self.style)
            path = "/" + quote(key or "", "/")
        headers.setdefault("Host", host)
        if self.how == "v4":
            headers.update(v4_headers(self.cred, self.region, method, bucket, key, query, headers))
        elif self.how == "v1":
            headers.update(v1_headers(self.cred, method, bucket, key, query, headers))
        elif self.how == "v4-url":
            query = v4_presign(self.cred, self.region, method, bucket, key, query, headers, 600)
        elif self.how == "v1-url":
            query = v1_presign(self.cred, method, bucket, key, query, headers, int(time.time()) + 600)
        text = "&".join(quote(k) + ("=" + quote(v) if v else "") for k, v in query)
        return path + ("?" + text if text else ""), headers

    def send(self, method, target, headers, body=b"", length=True):
        """A request as it is; `body` may be an iterable of pieces, which go out chunked."""
        c = self.connection
        c.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for k, v in headers.items():
            c.putheader(k, v.encode() if isinstance(v, str) else v)
        if isinstance(body, bytes):
            names = {k.lower() for k in headers}
            if length and "content-length" not in names and (body or method in ("PUT", "POST")):
                c.putheader("Content-Length", str(len(body)))
            c.endheaders(body)
        else:
            c.putheader("Transfer-Encoding", "chunked")
            c.endheaders()
            for piece in body:
                c.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            c.send(b"0\r\n\r\n")
        try:
            r = c.getresponse()
            return Reply(r.status, r.getheaders(), r.read())
        except Exception:
            c.close()
            raise

    def __call__(self, method, bucket, key="", query=(), headers=None, body=b"", length=True):
        target, sent = self.prepare(method, bucket, key, query, headers or {})
        return self.send(method, target, sent, body, length)
