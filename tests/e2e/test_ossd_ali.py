"""The vendor's own client, ali-oss from npm, against the local server: V4 and V1, both ways to name the bucket.

The packages come by a lock file that pins every one by its hash and names no address. Where no registry answers, the
test is skipped and says so.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess

import pytest

from harness import BUILD, TOP, run

HERE = os.path.join(TOP, "tests", "e2e", "ali-oss")
PATTERN = bytes((i * 31 + (i >> 8) * 17) & 255 for i in range(350000))

# npm's words for a registry that cannot be reached; anything else is a failure.
NO_REGISTRY = (
    "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ECONNRESET", "ENETUNREACH", "EHOSTUNREACH",
    "ERR_SOCKET_TIMEOUT", "E429", "E500", "E502", "E503", "E504", "ENOTCACHED",
)


def install():
    """Installs the locked packages below the build directory, once for each lock file; the directory."""
    digest = hashlib.sha256()
    for name in ("package.json", "package-lock.json"):
        with open(os.path.join(HERE, name), "rb") as f:
            digest.update(f.read())
    top = os.path.join(BUILD, "ali-oss")
    done = os.path.join(top, "installed")
    os.makedirs(top, exist_ok=True)
    with open(os.path.join(top, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(done) and open(done).read() == digest.hexdigest():
            return top
        for name in ("package.json", "package-lock.json"):
            shutil.copy(os.path.join(HERE, name), top)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000"]
        try:
            r = subprocess.run(command, cwd=top, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
        except FileNotFoundError:
            pytest.skip("npm is not installed")
        except subprocess.TimeoutExpired:
            pytest.skip("the package registry did not answer within 240 s")
        if r.returncode:
            reason = [line for line in r.stderr.splitlines() if any("code " + c in line for c in NO_REGISTRY)]
            if reason:
                pytest.skip("the package registry does not answer: " + reason[0])
            pytest.fail("npm ci: " + r.stderr[-3000:], pytrace=False)
        with open(done, "w") as f:
            f.write(digest.hexdigest())
    return top


def test_lock_file_names_no_address():
    with open(os.path.join(HERE, "package-lock.json")) as f:
        text = f.read()
    assert "://" not in text and '"resolved"' not in text
    assert text.count('"integrity"') == text.count("node_modules/") > 50


@pytest.mark.timeout(400)
@pytest.mark.parametrize("style", ["path", "virtual", "address"])
@pytest.mark.parametrize("version", ["v4", "v1"])
def test_ali_oss(server, tmp, version, style):
    top = install()
    scratch = os.path.join(tmp, "scratch")
    os.mkdir(scratch)
    shutil.copy(os.path.join(HERE, "run.js"), top)
    r = run(["node", "run.js", str(server.port), version, style, scratch], check=False, cwd=top, timeout=100)
    assert r.returncode == 0, r.stdout + r.stderr
    passed = [line[3:] for line in r.stdout.splitlines() if line.startswith("ok ")]
    assert len(passed) == 16, r.stdout
    # What the client believes is also what the store holds.
    assert server.object("whole") == server.object("multi") == server.object("copied-parts") == PATTERN
    assert server.object("log") == b"one,two"
    assert server.objects()["links/ln"]["target"].encode("latin-1").decode() == "\u76ee\u5f55/\u6587\u4ef6 \u540d.txt"
    assert server.uploads() == []
    assert server.counters()["CompleteMultipartUpload"] >= 4
