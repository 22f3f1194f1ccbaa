"""Crashes of the daemon: scripted workloads, the points at which it is killed, and what must be true afterwards.

A workload is a list of operations (tuples), run by a process that outlives the daemon and writes down which of them
succeeded. Model replays them and says which contents of which keys are legal in the bucket after the crash.
"""

import contextlib
import copy
import dataclasses
import functools
import glob
import mmap
import os
import re
import signal
import struct
import subprocess
import time

import harness

# The same contents come again with every crash.
blob = functools.lru_cache(256)(harness.blob)

# ------------------------------------------------------------------------------------------------ the workload


def perform(root, op, handles):
    """One operation of a workload, on the mount."""
    name, args = op[0], op[1:]
    p = lambda rel: os.path.join(root, rel)
    if name == "open":
        handles[args[0]] = os.open(p(args[1]), args[2], 0o644)
    elif name == "write":
        handle, size, seed, offset = args
        data = blob(size, seed)
        while data:
            fd = handles[handle]
            n = os.write(fd, data) if offset is None else os.pwrite(fd, data, offset)
            data = data[n:]
            offset = None if offset is None else offset + n
    elif name == "fsync":
        os.fsync(handles[args[0]])
    elif name == "close":
        os.close(handles.pop(args[0]))
    elif name == "read":
        harness.read_file(p(args[0]))
    elif name == "copy":
        source, target, n, at, to = args
        while n > 0:
            done = os.copy_file_range(handles[source], handles[target], n, at, to)
            n, at, to = n - done, at + done, to + done
    elif name == "fallocate":
        handle, mode, offset, n = args
        harness.fallocate(handles[handle], mode, offset, n)
    elif name == "truncate":
        os.truncate(p(args[0]), args[1])
    elif name == "ftruncate":
        os.ftruncate(handles[args[0]], args[1])
    elif name == "chmod":
        os.chmod(p(args[0]), args[1])
    elif name == "utime":
        os.utime(p(args[0]), (args[1], args[1]))
    elif name == "rename":
        os.rename(p(args[0]), p(args[1]))
    elif name == "unlink":
        os.unlink(p(args[0]))
    elif name == "mkdir":
        os.mkdir(p(args[0]))
    elif name == "sleep":
        time.sleep(args[0])
    elif name == "until":
        harness.wait_until(args[0], 20 * harness.slow_factor(), args[1])
    else:
        raise AssertionError(name)


class Runner:
    """Runs the operations in a process of its own, which records what succeeded."""

    def __init__(self, root, ops, record):
        self.record = record
        with open(record, "wb"):
            pass
        self.pid = os.fork()
        if self.pid == 0:
            self._child(root, ops)

    def _child(self, root, ops):
        status = 1
        try:
            signal.alarm(60 * harness.slow_factor())
            out = os.open(self.record, os.O_WRONLY | os.O_APPEND)
            handles = {}
            status = 0
            for i, op in enumerate(ops):
                os.write(out, b"begin %d\n" % i)
                try:
                    perform(root, op, handles)
                except OSError as e:
                    os.write(out, b"fail %d %d\n" % (i, e.errno))
                    return
                os.write(out, b"end %d\n" % i)
            # The end of a program closes its files, which publishes them: it stays until the daemon is dead.
            os.write(out, b"finish\n")
            while True:
                signal.pause()
        finally:
            os._exit(status)

    def ended(self):
        """It has done its last operation; what it left open is still open, unless the daemon is dead."""
        if self.pid is None or harness.read_file(self.record).endswith(b"finish\n"):
            return True
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.pid = None
            assert status == 0, "the workload's process ended with %#x" % status
        return self.pid is None

    def kill(self):
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = None

    def result(self):
        """(operations that succeeded, index of the one that was under way or None, errno it failed with or None)"""
        done, inside, error = 0, None, None
        for line in harness.read_file(self.record).split(b"\n"):
            word = line.split()
            if not word or word[0] == b"finish":
                continue
            i = int(word[1])
            if word[0] == b"begin":
                inside = i
            elif word[0] == b"end":
                done, inside = i + 1, None
            else:
                error = int(word[2])
        return done, inside, error


# --------------------------------------------------------------------------------------------------- the model


class Node:
    """A file as its programs see it."""

    def __init__(self, local=b"", mode=None, dirty=False):
        self.local = local
        self.mode, self.mtime = mode, None
        self.dirty = dirty
        self.unsaved = []  # ranges written and not published


class Model:
    """
    What programs were promised. `bucket`: key -> the content it must have; `names`: path -> Node; `attrs`: key ->
    (set of legal modes, set of legal mtimes), None in a set: any.
    """

    def __init__(self, planted=()):
        self.bucket, self.names, self.attrs, self.handles = {}, {}, {}, {}
        self.dirs = set()
        for path, data in dict(planted).items():
            self.bucket[path] = data
            self.names[path] = Node(data)
            self.attrs[path] = ({None}, {None})
            for i, c in enumerate(path):
                if c == "/":
                    self.dirs.add(path[: i + 1])

    def key_of(self, node):
        return next((k for k, n in self.names.items() if n is node), None)

    def publish(self, node):
        key = self.key_of(node)
        if key is not None and node.dirty:
            self.bucket[key] = node.local
            self.attrs[key] = ({node.mode}, {node.mtime})
        node.dirty, node.unsaved = False, []

    def cut(self, node, size):
        node.local = node.local[:size].ljust(size, b"\0")
        node.unsaved = [(a, min(b, size)) for a, b in node.unsaved if a < size]
        node.dirty, node.mtime = True, None

    def move(self, old, new):
        self.names[new] = self.names.pop(old)
        if old in self.bucket:
            self.bucket[new] = self.bucket.pop(old)
            self.attrs[new] = self.attrs.pop(old)

    def apply(self, op):
        name, args = op[0], op[1:]
        getattr(self, "on_" + name)(*args)

    def on_open(self, handle, path, flags):
        if path not in self.names:
            self.names[path] = Node(dirty=True)
        node = self.names[path]
        if flags & os.O_TRUNC and node.local:
            self.cut(node, 0)
        self.handles[handle] = node

    def on_write(self, handle, size, seed, offset):
        node = self.handles[handle]
        at = len(node.local) if offset is None else offset
        old = node.local.ljust(at, b"\0")
        node.local = old[:at] + blob(size, seed) + old[at + size :]
        node.unsaved.append((at, at + size))
        node.dirty, node.mtime = True, None

    def on_copy(self, source, handle, n, at, to):
        node = self.handles[handle]
        data, old = self.handles[source].local[at : at + n], node.local.ljust(to, b"\0")
        node.local = old[:to] + data + old[to + n :]
        node.dirty, node.mtime = True, None  # what is kept aside holds what was written, not what was copied

    def on_fallocate(self, handle, mode, offset, n):
        node = self.handles[handle]
        data = node.local if mode & harness.KEEP_SIZE else node.local.ljust(offset + n, b"\0")
        if mode & ~harness.KEEP_SIZE:
            end = min(offset + n, len(data))
            data = data[:offset] + bytes(end - offset) + data[end:]
            node.unsaved = minus(node.unsaved, [(offset, end)])
        if data != node.local:
            node.local, node.dirty, node.mtime = data, True, None

    def on_fsync(self, handle):
        self.publish(self.handles[handle])

    def on_close(self, handle):
        self.publish(self.handles.pop(handle))

    def on_read(self, path):
        pass

    def on_truncate(self, path, size):
        self.cut(self.names[path], size)
        self.publish(self.names[path])

    def on_ftruncate(self, handle, size):
        self.cut(self.handles[handle], size)

    def set_attr(self, path, which, value):
        node = self.names[path]
        if path not in self.bucket:
            return
        if node.dirty:
            self.attrs[path][which].add(value)  # sent with the content, if that is ever closed
        else:
            legal = list(self.attrs[path])
            legal[which] = {value}
            self.attrs[path] = tuple(legal)

    def on_chmod(self, path, mode):
        self.names[path].mode = mode
        self.set_attr(path, 0, mode)

    def on_utime(self, path, mtime):
        self.names[path].mtime = mtime
        self.set_attr(path, 1, mtime)

    def on_rename(self, old, new):
        if old + "/" not in self.dirs:
            self.move(old, new)
            return
        for key in [k for k in self.names if k.startswith(old + "/")]:
            self.move(key, new + key[len(old) :])
        self.dirs = {new + d[len(old) :] if d.startswith(old + "/") else d for d in self.dirs}

    def on_unlink(self, path):
        del self.names[path]
        self.bucket.pop(path, None)
        self.attrs.pop(path, None)

    def on_mkdir(self, path):
        self.dirs.add(path + "/")

    def on_sleep(self, seconds):
        pass

    def on_until(self, condition, what):
        pass


def touched(model, op):
    """The paths that an operation is about."""
    if op is None:
        return set()
    if op[0] in ("write", "fsync", "close", "ftruncate", "fallocate"):
        return {model.key_of(model.handles[op[1]])} - {None}
    if op[0] == "copy":
        return {model.key_of(model.handles[op[2]])} - {None}
    if op[0] == "open":
        return {op[2]}
    if op[0] in ("sleep", "until"):
        return set()
    paths = set(op[1:3]) if op[0] == "rename" else {op[1]}
    paths |= {k for k in model.names if k.startswith(op[1] + "/")}
    if op[0] == "rename":
        paths |= {op[2] + k[len(op[1]) :] for k in paths if k.startswith(op[1] + "/")}
    return paths


# ---------------------------------------------------------------------------------------------- the crash points


KINDS = {
    "w": "pwrite",
    "t": "truncate",
    "c": "create",
    "u": "unlink",
    "r": "rename",
    "s": "send",
    "f": "reply",
}


class CrashPoints:
    """The preloaded library's shared page: see crashpoint.c."""

    SIZE = 24 + 65536

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as f:
            f.truncate(self.SIZE)
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), self.SIZE)

    def close(self):
        self.map.close()
        self.file.close()

    def arm(self, at=0, torn=False):
        self.map[0:24] = struct.pack("<6I", 0, at, torn, 0, 0, 0)
        self.map[0:4] = struct.pack("<I", 1)

    def disarm(self):
        self.map[0:4] = struct.pack("<I", 0)

    @property
    def count(self):
        return struct.unpack("<I", self.map[12:16])[0]

    @property
    def killed(self):
        return struct.unpack("<I", self.map[20:24])[0] != 0

    def kinds(self):
        return self.map[24 : 24 + self.count].decode()


def build_library(directory):
    source = os.path.join(harness.TOP, "tests", "e2e", "crashpoint.c")
    out = os.path.join(directory, "crashpoint.so")
    command = [os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC"]
    subprocess.run(command + ["-shared", "-o", out, source], check=True, timeout=60)
    return out


class CrashMount(harness.Mount):
    """A mount whose daemon may be killed at a counted point."""

    def __init__(self, server, directory, cache, options=None, library=None, control=None):
        os.makedirs(directory, exist_ok=True)
        super().__init__(server, directory, options, cache=cache)
        self.library, self.control = library, control

    def command(self):
        command = super().command()
        if self.library:
            preload = ["env", "LD_PRELOAD=" + self.library, "CRASH_FILE=" + self.control.path]
            if harness.slow_factor() > 1:
                old = os.environ.get("ASAN_OPTIONS", "detect_leaks=0:halt_on_error=1:exitcode=99")
                preload.append("ASAN_OPTIONS=verify_asan_link_order=0:" + old)
            command = preload + command
        return command

    def dead(self):
        return self.proc is None or self.proc.poll() is not None


# ------------------------------------------------------------------------------------------------ afterwards


def state_dir(cache):
    found = glob.glob(os.path.join(glob.escape(cache), "*", ""))
    assert len(found) == 1, found
    return found[0]


def listing(cache, which):
    """{name: content} of data/ or aside/ of the only state directory, without the reasons that are noted there."""
    directory = os.path.join(state_dir(cache), which)
    out = {}
    if os.path.isdir(directory):
        for name in [x for x in os.listdir(directory) if not x.endswith(".why")]:
            out[name] = harness.read_file(os.path.join(directory, name))
    return out


@dataclasses.dataclass
class Kept:
    """A record of the file `kept`: what data/`name` has of an object."""

    name: str
    size: int
    etag: str
    key: str
    ranges: list
    start: int
    end: int


def kept_records(cache):
    """{name of the data file: Kept}, as keep_log.h specifies the file. Strict, but for a tail that is being written."""
    path = os.path.join(state_dir(cache), "kept")
    data = harness.read_file(path) if os.path.exists(path) else b""
    out, at = {}, 0
    while at + 24 <= len(data):
        magic, version, kind, zero, length, zeros, crc = struct.unpack_from("<IBBHIIQ", data, at)
        payload = data[at + 24 : at + 24 + length]
        if len(payload) < length:
            break
        assert (magic, version, zero, zeros) == (0x4B53534F, 1, 0, 0) and kind in (1, 2), (magic, version, kind)
        assert crc == harness.crc64_of(data[at : at + 16] + payload)
        (number,) = struct.unpack_from("<Q", payload)
        name = "%016x" % number
        out.pop(name, None)
        if kind == 1:
            size, n, etag_size = struct.unpack_from("<QII", payload, 8)
            etag, rest = payload[24 : 24 + etag_size], payload[24 + etag_size :]
            (key_size,) = struct.unpack_from("<I", rest)
            key, rest = rest[4 : 4 + key_size], rest[4 + key_size :]
            assert etag.endswith(b"\0") and key.endswith(b"\0") and len(rest) == 24 * n
            ranges = list(struct.iter_unpack("<QQQ", rest))
            assert all(a < b and a >> 20 == (b - 1) >> 20 for a, b, _ in ranges)
            assert all(x[1] <= y[0] for x, y in zip(ranges, ranges[1:])) and ranges[-1][1] <= size
            out[name] = Kept(name, size, etag[:-1].decode(), os.fsdecode(key[:-1]), ranges, at, at + 24 + length)
        at += 24 + length
    return out


def unsent(cache):
    """What listing() has of data/, but for what the file `kept` says is clean."""
    files, kept = listing(cache, "data"), kept_records(cache)
    return {n: d for n, d in files.items() if n not in kept or n + ".journal" in files}


def check_kept(cache, server):
    """After an unmount: data/ has what the records claim, nothing else, and where the object is the same, its bytes."""
    files, kept = listing(cache, "data"), kept_records(cache)
    assert set(files) == set(kept), "in data/, but not recorded, or the other way round: %r" % (set(files) ^ set(kept))
    for name, record in kept.items():
        info = server.objects(record.key).get(record.key)
        same = info and info["etag"].strip('"') == record.etag.strip('"')
        found = server.object(record.key) if same else None
        for start, end, crc in record.ranges:
            part = files[name][start:end]
            assert len(part) == end - start, (record.key, start)
            if same:
                assert len(found) == record.size and part == found[start:end], (record.key, start)
            else:
                assert harness.crc64_of(part) == crc, (record.key, start)


ASIDE = re.compile(r"unsent changes of (.*) are kept in (\S+)/aside/(\S+): (.*)")


def check_log(mount, *allowed):
    """What may be in the log of a mount after a crash: that something is kept, and what the caller names."""
    mount.allow(r"unsent changes of .* are kept in", *allowed)
    found = mount.findings()
    assert not found, "the daemon's log: %s" % "\n".join(found)


class Verdict:
    """Compares the bucket and the cache with the model: `before` the operation that was under way, `after` it."""

    def __init__(self, server, cache, planted, ops, done, inside, log_text, named=True):
        self.named = named  # what is kept aside must be named in the log
        self.server, self.cache, self.log_text = server, cache, log_text
        self.op = ops[inside] if inside is not None else None
        self.before = Model(planted)
        for op in ops[:done]:
            self.before.apply(op)
        self.after = copy.deepcopy(self.before)
        if self.op:
            self.after.apply(self.op)
        self.touched = touched(self.before, self.op)

    def fail(self, text, *args):
        done = "everything was done" if self.op is None else "under way: %r" % (self.op,)
        raise AssertionError(text % args + "\n%s\nlog of the next mount:\n%s" % (done, self.log_text[-3000:]))

    def check(self):
        self.objects = {k: self.server.object(k) for k in self.server.files()}
        self.check_objects()
        self.check_attributes()
        self.check_directories()
        self.check_aside()
        uploads = self.server.uploads()
        if uploads:
            self.fail("multipart uploads are left: %r", uploads)

    def check_objects(self):
        before, after = self.before.bucket, self.after.bucket
        for key in set(self.objects) | set(before) | set(after):
            found = self.objects.get(key)
            if found not in (before.get(key), after.get(key)):
                self.fail(
                    "%r: %s; legal: %s or %s%s",
                    key,
                    self.describe(found),
                    self.describe(before.get(key)),
                    self.describe(after.get(key)),
                    self.difference(found, after.get(key)),
                )
        # A rename of a file that was cut off may leave both names, never none; of a directory one tree, never both.
        if self.op and self.op[0] == "rename":
            self.check_one_tree(self.op[1] + "/", self.op[2] + "/")
            for key in touched(self.before, ("unlink", self.op[1])):
                new = self.op[2] + key[len(self.op[1]) :]
                if key in before and self.objects.get(key) is None and self.objects.get(new) != before[key]:
                    self.fail("%r is neither there nor at %r", key, new)

    def check_one_tree(self, old, new):
        keys = set(self.server.objects())
        trees = [sorted(k for k in keys if k.startswith(prefix)) for prefix in (old, new)]
        if old in self.before.dirs and new not in self.before.dirs and all(trees):
            self.fail("both trees are left: %r", trees)

    @staticmethod
    def describe(data):
        return "no object" if data is None else "%d bytes (%s...)" % (len(data), data[:8].hex())

    @staticmethod
    def difference(found, wanted):
        if found is None or wanted is None:
            return ""
        return "; first difference at %d" % next(
            (i for i, (a, b) in enumerate(zip(found, wanted)) if a != b), min(len(found), len(wanted))
        )

    def check_attributes(self):
        for key in self.objects:
            if self.left_behind(key):
                continue
            headers = self.server.headers(key)
            for which, header, mask in (0, "x-oss-meta-mode", 0o7777), (1, "x-oss-meta-mtime", -1):
                legal = set()
                for model in self.before, self.after:
                    legal |= model.attrs.get(key, ({None}, {None}))[which] if key in model.bucket else set()
                if None in legal:
                    continue
                found = headers.get(header)
                if found is None or int(float(found)) & mask not in legal:
                    self.fail("%r: %s is %r; legal: %r", key, header, found, sorted(legal))

    def left_behind(self, key):
        """A rename that was cut off left the old name; the file's attributes belong to the new one."""
        if not self.op or self.op[0] != "rename" or key not in touched(self.before, ("unlink", self.op[1])):
            return False
        new = self.op[2] + key[len(self.op[1]) :]
        return self.objects.get(new) == self.objects[key]

    def check_directories(self):
        markers = {k for k in self.server.objects() if k.endswith("/")}
        for directory in self.before.dirs & self.after.dirs:
            if directory not in markers and not any(k.startswith(directory) for k in self.objects):
                self.fail("the directory %r is gone", directory)
        extra = markers - self.before.dirs - self.after.dirs
        if extra:
            self.fail("directories that nobody made: %r", extra)

    def check_aside(self):
        aside = listing(self.cache, "aside")
        kept = {n: d for n, d in aside.items() if not n.endswith(".journal")}
        lines = {m.group(3): m.group(1) for m in map(ASIDE.search, self.log_text.splitlines()) if m}
        allowed = set(self.touched)
        for path, node in self.before.names.items():
            if node.dirty:
                allowed.add(path)
            if node.unsaved:
                self.check_kept(path, node, kept, lines)
        for number, key in lines.items():
            if key not in allowed:
                self.fail("%r is kept aside although all of it was published", key)
        unnamed = {n.split(".")[0] for n in aside} - set(lines)
        if unnamed and self.named:
            self.fail("kept aside without a word in the log: %r", unnamed)

    def check_kept(self, path, node, kept, lines):
        """What was written and never published must be in aside/, if the operation under way did not publish it."""
        keys = {path}
        if path in self.touched:
            if self.op[0] in ("fsync", "close") and self.objects.get(path) == self.after.bucket.get(path):
                return
            if self.op[0] in ("unlink", "rename"):
                return self.check_kept_moved(path, node, kept, lines)
        unsure = []
        if self.op and path in self.touched:
            if self.op[0] == "write":
                unsure = self.after.names[path].unsaved[-1:]
            elif self.op[0] == "ftruncate":
                unsure = [(self.op[2], len(node.local))]
            elif self.op[0] == "fallocate":
                unsure = [(self.op[3], self.op[3] + self.op[4])]
        self.require(keys, node, kept, lines, unsure)

    def check_kept_moved(self, path, node, kept, lines):
        if self.op[0] == "unlink" or path not in touched(self.before, ("unlink", self.op[1])):
            return  # was about to go
        self.require({path, self.op[2] + path[len(self.op[1]) :]}, node, kept, lines, [])

    def require(self, keys, node, kept, lines, unsure):
        ranges = minus(node.unsaved, unsure)
        for number, data in kept.items():
            if (lines.get(number) in keys or not self.named) and all(data[a:b] == node.local[a:b] for a, b in ranges):
                return
        if ranges:
            self.fail("the unsent bytes of %r are lost: kept are %r", sorted(keys), {n: len(d) for n, d in kept.items()})


def minus(ranges, holes):
    """The parts of `ranges` that are in no hole."""
    out = list(ranges)
    for a, b in holes:
        out = [x for s, e in out for x in ((s, min(e, a)), (max(s, b), e)) if x[0] < x[1]]
    return out


# ------------------------------------------------------------------------------------------- journals on disk

MAGIC = 0x4A53534F
TYPES = ["", "BEGIN", "DIRTY", "COMMIT", "INTENT", "UPLOAD", "PART", "END", "SENT", "KEY"]


def journal_records(data):
    """[(type, payload, start, end)] of the records of a journal, as journal.h specifies them. Strict."""
    out, at = [], 0
    while at < len(data):
        magic, version, kind, zero, sequence, length, crc = struct.unpack_from("<IBBHIIQ", data, at)
        payload = data[at + 24 : at + 24 + length]
        assert (magic, version, zero, sequence) == (MAGIC, 1, 0, len(out) + 1), (magic, version, zero, sequence)
        assert len(payload) == length and crc == harness.crc64_of(data[at : at + 16] + payload)
        out.append((kind, payload, at, at + 24 + length))
        at += 24 + length
    return out


def journal_record(kind, payload, sequence, version=1, magic=MAGIC, zero=0, length=None, crc=None):
    head = struct.pack("<IBBHII", magic, version, kind, zero, sequence, len(payload) if length is None else length)
    return head + struct.pack("<Q", harness.crc64_of(head + payload) if crc is None else crc) + payload


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(value)) + value


def other_boot(data):
    """The journal as an earlier boot of the machine would have left it."""
    records = journal_records(data)
    assert records and records[0][0] == 1
    payload = records[0][1]
    (n,) = struct.unpack_from("<I", payload)
    with open("/proc/sys/kernel/random/boot_id", "rb") as f:
        assert payload[4 : 4 + n] == f.read().strip()
    payload = text("11111111-2222-3333-4444-555555555555") + payload[4 + n :]
    return journal_record(1, payload, 1) + data[records[0][3] :]
