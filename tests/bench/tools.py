"""What is measured: the local server, and the programs that mount its bucket. Loopback only; every wait is bounded."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
OSSMOUNT = os.environ.get("OSSMOUNT") or os.path.join(TOP, "build", "ossmount")
OSSD = os.environ.get("OSSD") or os.path.join(TOP, "build", "ossd")
BUCKET, REGION = "test-bucket", "cn-test"
CONNECTIONS = 5  # of every tool
LIMIT = 600  # seconds that one step may take
SETTLE = 60  # ... and the server may wait for what a program has said is done


def run(args, **kw):
    kw.setdefault("stdout", subprocess.DEVNULL)
    kw.setdefault("stderr", subprocess.PIPE)
    done = subprocess.run(args, timeout=LIMIT, stdin=subprocess.DEVNULL, check=False, **kw)
    if done.returncode:
        raise RuntimeError("%s: exit %d: %s" % (args[0], done.returncode, (done.stderr or b"")[-400:].decode("utf-8", "replace")))
    return done


def wait_until(condition, what, seconds=SETTLE, step=0.002):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("not within %d s: %s" % (seconds, what))
        time.sleep(step)
        step = min(step * 1.5, 0.05)


class Server:
    """ossd with opaque ETags: MD5 would cost more than the rest of the server, for every tool alike."""

    def __init__(self, directory, tls=None):
        self.tls = tls
        port_file = os.path.join(directory, "ports")
        args = [OSSD, "--memory", "--etag=opaque", "--no-auth", "--port", "0", "--control-port", "0"]
        args += ["--bucket", BUCKET, "--key", "test:secret", "--region", REGION, "--write-port-file", port_file]
        if tls:
            args += ["--tls", tls[0], tls[1]]
        self.proc = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(port_file), "the server's ports", 10)
        with open(port_file, encoding="ascii") as f:
            port, control = f.read().split()
        self.url = "%s://127.0.0.1:%s" % ("https" if tls else "http", port)
        self.control = "http://127.0.0.1:" + control

    def call(self, method, path, body=None):
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(self.control + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=LIMIT) as reply:
            return reply.read()

    def warm(self, path):
        """Memory that is new to a virtual machine costs ten times what it does later: not in the first row only."""
        run(["curl", "-sfk", "-T", path, "%s/%s/warm" % (self.url, BUCKET)])
        self.call("DELETE", "/object?bucket=%s&key=warm" % BUCKET)

    def slow(self, ms, bandwidth):
        self.call("POST", "/latency", {"ms": ms, "bandwidth": bandwidth})

    def counters(self):
        c = json.loads(self.call("GET", "/counters"))
        return c["requests"]["total"], c["bytes_in"], c["bytes_out"]

    def holds(self):
        """(objects, bytes, running uploads)"""
        c = json.loads(self.call("GET", "/bucket?bucket=" + BUCKET))
        return c["objects"], c["bytes"], c["uploads"]

    def objects(self, prefix):
        return json.loads(self.call("GET", "/objects?bucket=%s&prefix=%s" % (BUCKET, prefix)))

    def plant(self, prefix, count, size):
        """Objects PREFIX000000000 and so on."""
        self.call("POST", "/plant", {"bucket": BUCKET, "prefix": prefix, "count": count, "size": size})

    def stop(self):
        self.proc.terminate()
        try:
            self.proc.wait(20)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()


def proc_cpu(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def proc_status(pid, name):
    with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as f:
        for line in f:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0


class Peer:
    """A program that mounts the bucket; subclasses say how it is started."""

    name = ""

    def __init__(self, server, directory):
        self.server, self.dir = server, directory
        self.path, self.cache = os.path.join(directory, "mnt"), os.path.join(directory, "cache")
        self.proc = None
        for d in (self.path, self.cache):
            os.makedirs(d, exist_ok=True)

    def command(self):
        raise NotImplementedError

    def environment(self):
        keep = {k: v for k, v in os.environ.items() if k not in ("AWS_CA_BUNDLE", "RCLONE_CONFIG")}
        return dict(keep, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="secret")

    def start(self):
        log = open(os.path.join(self.dir, self.name + ".log"), "ab")
        with log:
            self.proc = subprocess.Popen(
                self.command(), env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: os.path.ismount(self.path) or self.proc.poll() is not None, self.name + " mounted", 30)
        if self.proc.poll() is not None:
            raise RuntimeError("%s did not mount: %s" % (self.name, open(log.name, "rb").read()[-400:]))
        return self

    def stop(self):
        if self.proc is None:
            return
        subprocess.run(["umount", self.path], check=False, stderr=subprocess.DEVNULL, timeout=LIMIT)
        try:
            self.proc.wait(60)
        except subprocess.TimeoutExpired:
            self.proc.send_signal(signal.SIGKILL)
            self.proc.wait()
        subprocess.run(["umount", "-l", self.path], check=False, stderr=subprocess.DEVNULL, timeout=60)
        self.proc = None

    def remount(self, keep=False):
        """A new process, with an empty cache unless `keep`."""
        self.stop()
        if not keep:
            shutil.rmtree(self.cache, ignore_errors=True)
            os.makedirs(self.cache)
        self.start()

    def reset_peak(self):
        with contextlib.suppress(OSError), open("/proc/%d/clear_refs" % self.proc.pid, "w", encoding="ascii") as f:
            f.write("5")

    def cpu(self):
        return proc_cpu(self.proc.pid)

    def peak_kb(self):
        return proc_status(self.proc.pid, "VmHWM")


class Ossmount(Peer):
    name = "ossmount"
    extra = ()

    def command(self):
        options = ["url=" + self.server.url, "use_path_request_style", "region=" + REGION, "cache_dir=" + self.cache]
        options += ["parallel_count=%d" % CONNECTIONS, *self.extra]
        if self.server.tls:
            options.append("cacert=" + self.server.tls[0])
        return [OSSMOUNT, BUCKET, self.path, "-f", "-o", ",".join(options)]

    def environment(self):
        return dict(os.environ, OSS_ACCESS_KEY_ID="test", OSS_ACCESS_KEY_SECRET="secret")


class OssmountBackground(Ossmount):
    """close() answers when the local disk has it, as rclone does."""

    name = "ossmount-background"
    extra = ("upload=background",)


class S3fs(Peer):
    """As its manual has it: a local cache, and the number of connections that all tools get."""

    name = "s3fs"
    extra = ()

    def command(self):
        options = ["url=" + self.server.url, "use_path_request_style", "endpoint=" + REGION, "use_cache=" + self.cache]
        options += ["parallel_count=%d" % CONNECTIONS, *self.extra]
        if self.server.tls:
            options += ["no_check_certificate", "ssl_verify_hostname=0"]
        return ["s3fs", BUCKET, self.path, "-f", "-o", ",".join(options)]


class S3fsUnsigned(S3fs):
    """Without the SHA-256 of every body, which its manual offers against the load on the processor."""

    name = "s3fs-unsigned"
    extra = ("enable_unsigned_payload",)


class Rclone(Peer):
    """The cache mode that its manual recommends for programs; written back at once, not after five seconds."""

    name = "rclone"

    def command(self):
        config = os.path.join(self.dir, "rclone.conf")
        with open(config, "w", encoding="ascii") as f:
            f.write("[b]\ntype = s3\nprovider = Other\nenv_auth = true\nregion = %s\n" % REGION)
            f.write("endpoint = %s\nforce_path_style = true\nno_check_bucket = true\n" % self.server.url)
        args = ["rclone", "mount", "b:" + BUCKET, self.path, "--config", config, "--cache-dir", self.cache]
        args += ["--vfs-cache-mode", "full", "--vfs-write-back", "0s", "--transfers", str(CONNECTIONS)]
        args += ["--s3-upload-concurrency", str(CONNECTIONS)]
        return args + (["--no-check-certificate"] if self.server.tls else [])


PEERS = {p.name: p for p in (Ossmount, OssmountBackground, S3fs, S3fsUnsigned, Rclone)}
PACKAGES = {"s3fs": "s3fs", "s3fs-unsigned": "s3fs", "rclone": "rclone"}
