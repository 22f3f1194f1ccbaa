"""What every mount test stands on: a server process, mounts of its bucket, and what to look at afterwards.

Each server and each mount lives in its own temporary directory and on its own ports, so tests run side by side.
Nothing here waits without a limit. A daemon runs below a guard (guard.c): when it hangs, it is killed, whatever the test
process is stuck in comes back with an error, and the test fails instead of the run standing still.

Environment:
    OSSMOUNT_BUILD      the build directory that holds ossmount and ossd (default build)
    OSSMOUNT, OSSD      one of the binaries from elsewhere
    OSSMOUNT_TEST_DIR   plain-directory mode: cases that need no server run below this directory instead of a mount,
                        to prove the cases themselves
    OSSMOUNT_LONG       also the cases marked `long`
    OSSMOUNT_BUDGET     a file that the table of test_budget.py is written to
    OSSMOUNT_KEEP       keep the temporary directories
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("OSSMOUNT_BUILD") or os.path.join(TOP, "build")
OSSMOUNT = os.path.realpath(os.environ.get("OSSMOUNT") or os.path.join(BUILD, "ossmount"))
OSSD = os.path.realpath(os.environ.get("OSSD") or os.path.join(BUILD, "ossd"))
GUARD = os.path.join(os.path.dirname(OSSD), "guard")
PLAIN_DIR = os.environ.get("OSSMOUNT_TEST_DIR")

BUCKET = "test-bucket"
KEY_ID, KEY_SECRET = "test", "secret"
REGION = "cn-test"

# A daemon older than this is killed. Longer than any test may take (pytest.ini), shorter than anyone's patience.
GUARD_SECONDS = 600 if os.environ.get("OSSMOUNT_LONG") else 240

# What a daemon that is well never prints: a line of its log above "info", or words of a library, a sanitizer, a shell.
SUSPICIOUS = re.compile(
    rb"^\S+Z (warning|error|crit) |^(?!\S+Z (info|debug) ).*([Ee]rror|ERROR|[Ww]arning|WARNING|[Ff]ailed|cannot|BUG|SUMMARY: )"
)
# Not to be excused by any test.
FATAL = re.compile(
    rb"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehavior|runtime error:|[Aa]ssertion .*failed|invariant"
    rb"|stack smashing|double free|free\(\): |malloc\(\): |Segmentation|corrupted (size|double|unsorted)"
)

SANITIZED = None


class HarnessError(Exception):
    """The test environment does not work; not the product."""


def wait_until(condition, seconds, what, step=0.01):
    """Waits until condition() is true and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError("not within %g s: %s" % (seconds, what))
        time.sleep(step)


def slow_factor():
    """How much longer a sanitizer build may take for the same work."""
    global SANITIZED
    if SANITIZED is None:
        try:
            with open(OSSMOUNT, "rb") as f:
                data = f.read()
            SANITIZED = b"__asan_init" in data or b"__tsan_init" in data
        except OSError:
            SANITIZED = False
    return 5 if SANITIZED else 1


# ----------------------------------------------------------------------------------------------- data and checks


def blob(size, seed=0):
    """`size` bytes that repeat nowhere and are the same for the same seed."""
    import random

    rng = random.Random("%r/%d" % (seed, size))
    out = bytearray()
    while len(out) < size:
        out += rng.randbytes(min(1 << 20, size - len(out)))
    return bytes(out)


def big_chunks(size, seed=0, chunk=1 << 20):
    """The same for sizes that should not be in memory: chunks that differ from each other and compress well."""
    base = blob(4096, seed)
    offset = 0
    while offset < size:
        n = min(chunk, size - offset)
        out = bytearray()
        while len(out) < n:
            out += struct.pack(">QQ", offset + len(out), size) + base[16:]
        yield bytes(out[:n])
        offset += n


_lzma = ctypes.CDLL("liblzma.so.5")
_lzma.lzma_crc64.restype = ctypes.c_uint64
_lzma.lzma_crc64.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64)


def crc64(chunks):
    """CRC-64/XZ by liblzma, whose format is checked by it: neither ours nor the server's."""
    crc = 0
    for chunk in chunks:
        chunk = bytes(chunk)
        crc = _lzma.lzma_crc64(chunk, len(chunk), crc)
    return crc


def crc64_of(data):
    return crc64([data])


def tree_of(top, content=True):
    """What is below `top`: {relative path: (type, mode, mtime_ns, target or content)}."""
    top = os.fsencode(top)
    out = {}

    def walk(path, rel):
        with os.scandir(path) as it:
            names = sorted(e.name for e in it)
        for name in names:
            p = os.path.join(path, name)
            r = os.path.join(rel, name) if rel else name
            st = os.lstat(p)
            kind = st.st_mode & 0o170000
            if kind == 0o120000:
                out[r] = (kind, 0o777, None, os.readlink(p))
            elif kind == 0o040000:
                out[r] = (kind, st.st_mode & 0o7777, st.st_mtime_ns, None)
                walk(p, r)
            else:
                data = None
                if content:
                    with open(p, "rb") as f:
                        data = f.read()
                out[r] = (kind, st.st_mode & 0o7777, st.st_mtime_ns, data)

    walk(top, b"")
    return out


def write_file(path, data, mode="wb"):
    with open(path, mode) as f:
        f.write(data)


KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32


def fallocate(fd, mode, offset, n):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(n)):
        raise OSError(ctypes.get_errno(), "fallocate")


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


def run(args, timeout=60, check=True, **kw):
    """
    Runs a program with a hard limit; returns the CompletedProcess with text output. The whole process group is killed
    when the limit passes, and a group stuck in a dead mount is left behind rather than waited for.
    """
    kw.setdefault("stdout", subprocess.PIPE)
    kw.setdefault("stderr", subprocess.PIPE)
    kw.setdefault("stdin", subprocess.DEVNULL)
    timeout *= slow_factor()
    with contextlib.ExitStack() as stack:
        proc = subprocess.Popen(args, start_new_session=True, **kw)
        stack.callback(_reap, proc)
        try:
            out, err = proc.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("no end within %g s: %r" % (timeout, args)) from None
    out = (out or b"").decode("utf-8", "surrogateescape") if not isinstance(out, str) else out
    err = (err or b"").decode("utf-8", "surrogateescape") if not isinstance(err, str) else err
    done = subprocess.CompletedProcess(args, proc.returncode, out, err)
    if check and proc.returncode != 0:
        raise AssertionError("exit %d: %r\nstdout: %s\nstderr: %s" % (proc.returncode, args, out[-4000:], err[-4000:]))
    return done


def _reap(proc):
    """Ends a process group that we started, without waiting for one that cannot be killed."""
    if proc.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(proc.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            proc.wait(5)


def python(code, *args, **kw):
    """Runs a piece of Python in a process of its own."""
    return run([sys.executable, "-c", code] + [os.fspath(a) for a in args], **kw)


@contextlib.contextmanager
def spawned(args, **kw):
    """A program in the background, ended with the block."""
    kw.setdefault("stdin", subprocess.DEVNULL)
    proc = subprocess.Popen(args, start_new_session=True, **kw)
    try:
        yield proc
    finally:
        _reap(proc)


@contextlib.contextmanager
def raises_errno(*codes):
    """The block must fail with one of these errnos."""
    names = "/".join(errno.errorcode.get(c, str(c)) for c in codes)
    try:
        yield
    except OSError as e:
        assert e.errno in codes, "expected %s, got %s (%s)" % (names, errno.errorcode.get(e.errno, e.errno), e)
    else:
        raise AssertionError("expected %s, but it succeeded" % names)


_libc = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4


def renameat2(old, new, flags):
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), ctypes.c_uint(flags)) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e), old)


def child_pids(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [int(x) for x in f.read().split()]


# ---------------------------------------------------------------------------------------------------- the server


class Ossd:
    """One server process and its control port. All sizes are bytes, all times milliseconds as on the wire."""

    def __init__(self, directory, *args, store=None, bucket=BUCKET):
        self.directory = directory
        self.args = list(args)
        self.store = store
        self.bucket = bucket
        self.proc = None
        self.port = self.control = 0
        self.seq = 0
        self.stderr_path = os.path.join(directory, "ossd.stderr")

    def start(self):
        cmd = [OSSD, "--port", str(self.port), "--control-port", str(self.control)]
        cmd += ["--bucket", self.bucket, "--key", "%s:%s" % (KEY_ID, KEY_SECRET), "--region", REGION]
        cmd += ["--store", self.store] if self.store else ["--memory"]
        self.proc, line = _start_guarded(cmd + self.args, self.stderr_path, first_line=True)
        m = re.search(r"listening (http://127\.0\.0\.1:(\d+)) control (http://127\.0\.0\.1:(\d+))", line)
        if not m:
            raise HarnessError("ossd did not say where it listens: %r %s" % (line, self.stderr_text()))
        self.url, self.port = m.group(1), int(m.group(2))
        self.control_url, self.control = m.group(3), int(m.group(4))
        return self

    def stop(self, kill=False):
        """Ends the process; a later start() takes the same ports."""
        if self.proc is None:
            return
        code = _end_guarded(self.proc, signal.SIGKILL if kill else signal.SIGTERM, 10)
        self.proc = None
        if not kill and code not in (0, 128 + signal.SIGTERM, -signal.SIGTERM):
            raise AssertionError("ossd ended with %s: %s" % (code, self.stderr_text()))

    def stderr_text(self):
        with contextlib.suppress(OSError):
            return read_file(self.stderr_path).decode("utf-8", "replace")
        return ""

    # -- the control port

    def call(self, method, path, query=None, body=None, headers=None, raw=False):
        if query:
            path += "?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = urllib.request.Request(self.control_url + path, data=body, method=method, headers=headers or {})
        if body is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/octet-stream")
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                data = reply.read()
        except urllib.error.HTTPError as e:
            if e.code == 404 and method == "GET":
                return None
            raise HarnessError("%s %s: %s %r" % (method, path, e.code, e.read()[:400])) from None
        if raw:
            return data
        return json.loads(data) if data.strip() else None

    def counters(self):
        """{operation: number of requests} since the last reset, operations that never came left out."""
        found = self.call("GET", "/counters")["requests"]
        return {op: n for op, n in found.items() if n and op != "total"}

    def bytes(self):
        found = self.call("GET", "/counters")
        return found["bytes_in"], found["bytes_out"]

    def total(self):
        return sum(self.counters().values())

    def reset(self):
        self.call("POST", "/reset", body=b"")
        self.seq = self.call("GET", "/counters")["seq"]

    def log(self, op=None, key=None):
        """The requests since the last reset, oldest first: dicts with op, key, status, bytes_in, query, ..."""
        found = self.call("GET", "/log", {"since": self.seq})
        return [e for e in found if op in (None, e["op"]) and key in (None, e["key"])]

    def fault(self, action, op=None, key=None, skip=0, count=1, **more):
        """From now on: after `skip` matching requests the next `count` (-1: all) meet `action`."""
        body = {"action": action, "skip": skip, "count": count}
        if op:
            body["op"] = op
        if key is not None:
            body["key"] = key
        body.update(more)
        self.call("POST", "/faults", body=body)

    def faults(self):
        return self.call("GET", "/faults")

    def clear_faults(self):
        self.call("DELETE", "/faults")

    def latency(self, ms=0, bandwidth=0):
        self.call("POST", "/latency", body={"ms": ms, "bandwidth": bandwidth})

    def outage(self, on):
        self.call("POST", "/outage", body={"on": bool(on)})

    def objects(self, prefix=""):
        """{key: description} of the whole bucket."""
        found = self.call("GET", "/objects", {"bucket": self.bucket, "prefix": prefix})
        return {os.fsdecode(bytes.fromhex(e["key_hex"])): e for e in found}

    def files(self, prefix=""):
        """The same without directory markers."""
        return {k: e for k, e in self.objects(prefix).items() if not k.endswith("/")}

    def object(self, key):
        """The bytes, None when there is no such object."""
        return self.call("GET", "/object", self._key(key), raw=True)

    def plant(self, key, data=b"", headers=None, target=None):
        """Puts an object as another client would, with these headers; with `target` an OSS Symlink object."""
        headers = dict(headers or {})
        if target is not None:
            headers["x-ossd-target"] = target.encode().decode("latin-1")
        self.call("PUT", "/object", self._key(key), body=data, headers=headers)

    def plant_many(self, prefix, count, size=0, first=0, headers=None):
        """Puts `count` objects of `size` equal bytes, named prefix and seven digits."""
        body = {"bucket": self.bucket, "prefix": prefix, "first": first, "count": count, "size": size}
        self.call("POST", "/plant", body=body, headers=headers)

    def _key(self, key):
        # Any byte may be in a key, and a query would lose some.
        return {"bucket": self.bucket, "key_hex": os.fsencode(key).hex()}

    def uploads(self):
        """The multipart uploads that are neither completed nor aborted."""
        return self.call("GET", "/uploads", {"bucket": self.bucket})

    def headers(self, key):
        """The stored headers of an object, names in lower case."""
        return {k.lower(): v for k, v in self.objects(key)[key]["headers"].items()}

    def check_object(self, key, data):
        """The object holds exactly `data`, and the server's CRC is that of these bytes."""
        found = self.object(key)
        assert found is not None, "no object %r; there are %r" % (key, sorted(self.objects())[:20])
        assert len(found) == len(data), "object %r has %d bytes, not %d" % (key, len(found), len(data))
        assert found == data, "object %r: other bytes, first at %d" % (key, _first_difference(found, data))
        assert int(self.objects(key)[key]["crc64"]) == crc64_of(data), "object %r: CRC-64 at the server" % key


def _first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _start_guarded(cmd, stderr_path, env=None, first_line=False, guard=None):
    """
    Starts a daemon below its guard (guard.c), which binds its life to ours. Returns (process, first line of its output); the
    daemon's own pid is process.daemon.
    """
    with open(stderr_path, "ab") as err:
        proc = subprocess.Popen(
            [GUARD, str(guard or GUARD_SECONDS)] + cmd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if first_line else err,
            stderr=err,
            start_new_session=True,
            env=env,
        )
    line = ""
    if first_line:
        timer = threading.Timer(20, proc.kill)
        timer.start()
        line = proc.stdout.readline().decode("utf-8", "replace")
        timer.cancel()
        # Kept open, so that a daemon that says more does not die of it.
    proc.daemon = 0
    end = time.monotonic() + 10
    while proc.poll() is None and time.monotonic() < end and not proc.daemon:
        with contextlib.suppress(OSError):
            children = child_pids(proc.pid)
            proc.daemon = children[0] if children else 0
        if not proc.daemon:
            time.sleep(0.002)
    proc.pidfd = -1
    if proc.daemon:
        with contextlib.suppress(OSError):
            proc.pidfd = os.pidfd_open(proc.daemon)
    return proc, line


def _signal_daemon(proc, sig):
    if proc.pidfd >= 0:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(proc.pidfd, sig)


def _end_guarded(proc, sig, seconds):
    """Ends the daemon and returns the guard's exit status, which is the daemon's (128 + n after a signal)."""
    if sig:
        _signal_daemon(proc, sig)
    try:
        code = proc.wait(seconds)
    except subprocess.TimeoutExpired:
        _signal_daemon(proc, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            proc.wait(5)
        code = None
    if proc.pidfd >= 0:
        os.close(proc.pidfd)
        proc.pidfd = -1
    if proc.stdout:
        proc.stdout.close()
    return code


# ----------------------------------------------------------------------------------------------------- the mount


def is_mounted(path):
    with open("/proc/self/mountinfo", "rb") as f:
        wanted = os.fsencode(path)
        for line in f:
            at = line.split(b" ")[4]
            at = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8)]), at)
            if at == wanted:
                return True
    return False


class Mount:
    """
    One mountpoint and its daemon. `path` is the mountpoint (str), `p()` joins names to it. The daemon's stderr is
    checked by finish(); allow() names what a test provokes.
    """

    has_server = True

    def __init__(self, server, directory, options=None, bucket=None, cache=None):
        self.server = server
        self.directory = directory
        self.bucket = bucket or server.bucket
        self.options = dict(options or {})
        self.path = os.path.join(directory, "mnt")
        self.cache = cache or os.path.join(directory, "cache")
        self.passwd = os.path.join(directory, "passwd")
        self.stderr_path = os.path.join(directory, "stderr")
        self.proc = None
        self.allowed = []
        self.problems = []
        os.makedirs(self.path, exist_ok=True)
        fd = os.open(self.passwd, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, b"%s:%s\n" % (KEY_ID.encode(), KEY_SECRET.encode()))
        os.close(fd)

    def p(self, *names):
        return os.path.join(self.path, *names)

    def b(self, *names):
        return os.path.join(os.fsencode(self.path), *names)

    def allow(self, *patterns):
        """Lines that match are no finding: the test provokes them."""
        self.allowed += [re.compile(x if isinstance(x, bytes) else x.encode()) for x in patterns]

    def command(self):
        options = {
            "url": self.server.url,
            "region": REGION,
            "passwd_file": self.passwd,
            "cache_dir": self.cache,
        }
        options.update(self.options)
        text = ",".join(k if v is True else "%s=%s" % (k, v) for k, v in options.items() if v is not None)
        return [OSSMOUNT, self.bucket, self.path, "-f", "-o", text]

    def start(self, wait=True):
        assert self.proc is None, "mounted already"
        env = dict(os.environ)
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1:halt_on_error=1:exitcode=99")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
        env.setdefault("TSAN_OPTIONS", "halt_on_error=0:exitcode=66")
        for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"):
            env.pop(name, None)
        self.proc, _ = _start_guarded(self.command(), self.stderr_path, env=env)
        if wait:
            self.wait_mounted()
        return self

    def wait_mounted(self, seconds=20):
        end = time.monotonic() + seconds * slow_factor()
        while not is_mounted(self.path):
            if self.proc.poll() is not None or time.monotonic() > end:
                code = self.proc.poll()
                self.kill()
                raise AssertionError("no mount (exit %s): %s" % (code, self.stderr_text()))
            time.sleep(0.005)
        # The mount is there before the daemon answers; a stat of the root waits for its first reply.
        os.stat(self.path)

    @property
    def pid(self):
        return self.proc.daemon

    def stderr_text(self):
        with contextlib.suppress(OSError):
            return read_file(self.stderr_path).decode("utf-8", "surrogateescape")
        return ""

    def unmount(self, seconds=30):
        """Unmounts as a user does and waits for the daemon's end. It must end by itself, with status 0."""
        if self.proc is None:
            return
        end = time.monotonic() + seconds * slow_factor()
        while True:
            done = subprocess.run(["fusermount3", "-u", self.path], capture_output=True, timeout=60)
            if done.returncode == 0 or not is_mounted(self.path):
                break
            if time.monotonic() > end or self.proc.poll() is not None:
                why = done.stderr.decode("utf-8", "replace").strip()
                code = self.proc.poll()
                self.kill()
                raise AssertionError("unmount failed (daemon's exit %s): %s; %s" % (code, why, self.stderr_text()))
            time.sleep(0.05)  # busy: a descriptor is just being closed
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.proc.wait(max(1, end - time.monotonic()))
        where = self.backtrace() if self.proc.poll() is None else ""
        code = _end_guarded(self.proc, 0, 1)
        self.proc = None
        if code is None:
            text = "the daemon did not end within %g s after unmount: %s\n%s"
            raise AssertionError(text % (seconds, self.stderr_text(), where))
        if code != 0:
            raise AssertionError("the daemon ended with %d after unmount: %s" % (code, self.stderr_text()))

    def backtrace(self):
        """Where the daemon's threads are, as far as a debugger is there to tell."""
        command = ["gdb", "-p", str(self.pid), "-batch", "-nx", "-ex", "thread apply all bt 12"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            text = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
            return "\n".join(x for x in text.splitlines() if x.startswith(("#", "Thread")))
        return ""

    def signal(self, sig):
        _signal_daemon(self.proc, sig)

    def wait_exit(self, seconds=30):
        code = _end_guarded(self.proc, 0, seconds * slow_factor())
        self.proc = None
        return code

    def kill(self):
        """kill -9 and lazy unmount: the crash of a machine's daemon, and the last resort."""
        if self.proc is not None:
            _end_guarded(self.proc, signal.SIGKILL, 10)
            self.proc = None
        for _ in range(5):
            if not is_mounted(self.path):
                break
            if subprocess.run(["fusermount3", "-uz", self.path], capture_output=True, timeout=60).returncode != 0:
                subprocess.run(["umount", "-l", self.path], capture_output=True, timeout=60)

    def remount(self, cache="same", **options):
        """Unmounts and mounts again; cache "empty" forgets everything local first."""
        self.unmount()
        if cache == "empty":
            shutil.rmtree(self.cache, ignore_errors=True)
        self.options.update(options)
        return self.start()

    def forget(self):
        """Everything afterwards comes from the bucket: remount with an empty cache."""
        return self.remount(cache="empty")

    def memory(self, field="RssAnon"):
        """Bytes of that line of /proc/PID/status."""
        with open("/proc/%d/status" % self.pid) as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise HarnessError("no %s" % field)

    @contextlib.contextmanager
    def memory_peak(self):
        """Samples the daemon's memory during the block; the yielded list ends with [idle, peak]."""
        result = [self.memory(), 0]
        stop = threading.Event()

        def sample():
            while not stop.is_set():
                with contextlib.suppress(OSError, HarnessError):
                    result[1] = max(result[1], self.memory())
                stop.wait(0.005)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield result
        finally:
            stop.set()
            thread.join(5)

    def findings(self):
        """Lines of the daemon's stderr (and log file) that should not be there."""
        out = []
        paths = [self.stderr_path]
        if isinstance(self.options.get("logfile"), str):
            paths.append(self.options["logfile"])
        for path in paths:
            with contextlib.suppress(OSError):
                for line in read_file(path).splitlines():
                    if FATAL.search(line) or (
                        SUSPICIOUS.search(line) and not any(x.search(line) for x in self.allowed)
                    ):
                        out.append(line.decode("utf-8", "replace"))
        return out

    def finish(self, test_failed=False):
        """Ends the mount and returns what was wrong with it, as text lines."""
        wrong = []
        if self.proc is not None:
            if self.proc.poll() is not None:
                wrong.append("the daemon ended during the test with %s" % self.proc.poll())
                self.kill()
            elif test_failed:
                # Whatever hangs must not cost another timeout; a clean unmount is tried for its stderr.
                with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                    self.unmount(seconds=3)
                self.kill()
            else:
                try:
                    self.unmount()
                except (AssertionError, subprocess.TimeoutExpired) as e:
                    wrong.append(str(e))
                    self.kill()
        self.kill()
        findings = self.findings()
        if findings:
            wrong.append("the daemon's log: " + "\n    ".join(findings[:20]))
        return wrong


class PlainDir:
    """A plain directory in the place of a mount, to prove cases that need no server."""

    has_server = False

    def __init__(self, directory):
        self.path = os.path.join(directory, "mnt")
        os.makedirs(self.path)

    p = Mount.p
    b = Mount.b

    def allow(self, *patterns):
        pass

    def remount(self, cache="same", **options):
        return self

    def forget(self):
        return self

    def unmount(self, seconds=0):
        pass

    def finish(self, test_failed=False):
        return []


def make_temp(name):
    """A fresh directory; not below TMPDIR of a mount under test."""
    return tempfile.mkdtemp(prefix="ossmount-%s-" % re.sub(r"[^A-Za-z0-9]+", "-", name)[:40])


def drop_temp(directory):
    if not os.environ.get("OSSMOUNT_KEEP"):
        shutil.rmtree(directory, ignore_errors=True)
