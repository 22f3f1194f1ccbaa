"""The commands, as a user types them, with a running mount or with a bucket."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

import harness
import osssign
from harness import BUCKET, KEY_ID, KEY_SECRET, OSSMOUNT, REGION, is_mounted, run, wait_until, write_file

pytestmark = pytest.mark.bucket


def ossmount(*args, check=True, timeout=60, **kw):
    """`ossmount ARGS...`; what it says, whatever happens, is short and has no secret in it."""
    done = run([OSSMOUNT, *args], check=check, timeout=timeout, **kw)
    assert "%s:%s" % (KEY_ID, KEY_SECRET) not in done.stdout + done.stderr
    return done


def status(m):
    """The status of one mount as a script gets it."""
    return json.loads(ossmount("status", m.path, "--json").stdout)


def socket_of(m):
    """The control socket of a mount: named after its device and its process."""
    device = "%d:%d" % (os.major(os.stat(m.path).st_dev), os.minor(os.stat(m.path).st_dev))
    return "/run/ossmount/%s.%d" % (device, m.pid)


def connect(m):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20 * harness.slow_factor())
    s.connect(socket_of(m))
    return s


def slow(server, kib):
    """From now on the server takes `kib` KiB a second on each connection."""
    server.latency(bandwidth=kib * 1024)


@contextlib.contextmanager
def writing(m, name, data):
    """A program that has written `data` and is waiting in close()."""
    code = "import sys; f = open(sys.argv[1], 'wb'); f.write(sys.stdin.buffer.read()); f.close()"
    with harness.spawned(["/usr/bin/python3", "-c", code, m.p(name)], stdin=subprocess.PIPE) as proc:
        proc.stdin.write(data)
        proc.stdin.close()
        yield proc


def failing(server, count=-1, **more):
    server.fault("status", op="PutObject", count=count, status=403, code="AccessDenied", **more)


ALLOWED = ("AccessDenied", "of .* failed", "is unsent", "access key may not write")

# ------------------------------------------------------------------------------------------------------- status


@pytest.mark.sanitizer
def test_status(mount):
    m = mount()
    write_file(m.p("f"), b"hello")
    found = status(m)
    assert found["mountpoint"] == m.path and found["source"] == BUCKET and found["pid"] == m.pid
    assert found["sending"]["count"] == found["pending"]["count"] == found["failed"]["count"] == 0
    put = found["requests"]["PutObject"]
    assert put["requests"] == 1 and put["bytes_up"] == 5 and sum(put["errors"].values()) == 0
    screen = ossmount("status", m.path).stdout
    assert screen.startswith("%s on %s, for " % (BUCKET, m.path)) and "all is sent" in screen and "PutObject" in screen
    metrics = ossmount("status", "--metrics", m.path).stdout
    assert 'ossmount_requests_total{mount="%s",operation="PutObject"} 1\n' % m.path in metrics
    # Each metric once, each line of the form that Prometheus reads.
    kinds = re.findall(r"^# TYPE (\S+) (gauge|counter|histogram)$", metrics, re.M)
    assert len({name for name, _ in kinds}) == len(kinds) > 10
    for line in metrics.splitlines():
        assert line.startswith("# ") or re.fullmatch(r'ossmount_\w+\{mount="[^"]*"(,\w+="[^"]*")*\} [0-9.]+', line), line
    # What the kernel shows of it: nobody else may come near.
    assert stat.S_IMODE(os.stat(socket_of(m)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(socket_of(m))).st_mode) == 0o700


def test_status_finds_the_mount_by_any_path_on_it(mount):
    m = mount()
    os.makedirs(m.p("a/b"))
    for path in (m.path + "/", m.p("a", "b"), os.path.relpath(m.path), m.p("a", "none"), m.p("a", "..")):
        assert json.loads(ossmount("status", "--json", path).stdout)["pid"] == m.pid
    link = os.path.join(m.directory, "link")
    os.symlink(m.path, link)
    assert json.loads(ossmount("status", "--json", link).stdout)["pid"] == m.pid
    done = ossmount("status", m.directory, check=False)
    assert done.returncode == 1 and "not on a mount" in done.stderr


def test_odd_names(server, mount_factory, tmp):
    """A mountpoint and keys with every character that could break a screen, a line of JSON or a table of mounts."""
    m = mount_factory(server, run=False)
    m.path = os.path.join(tmp, 'od d\\"\n\t\x01é')
    os.mkdir(m.path)
    m.allow(*ALLOWED)
    m.start()
    failing(server)
    name = 'q"\\\n\x1b[31m\x7fü,'
    with harness.raises_errno(13):
        write_file(m.p(name), b"x")
    found = status(m)
    assert found["mountpoint"] == m.path
    assert [f["key"] for f in found["failed"]["files"]] == [name]
    for how in ([], ["--metrics"]):
        text = ossmount("status", m.path, *how).stdout
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    server.clear_faults()
    ossmount("flush", m.path)
    assert server.object(name) == b"x"


@pytest.mark.sanitizer
def test_two_mounts(server_factory, mount_factory):
    a, b = mount_factory(server_factory()), mount_factory(server_factory())
    write_file(a.p("f"), b"1")
    pids = {json.loads(line)["pid"] for line in ossmount("status", "--json", check=False).stdout.splitlines()}
    assert {a.pid, b.pid} <= pids
    assert status(a)["requests"]["PutObject"]["requests"] == 1 and "PutObject" not in status(b)["requests"]


def test_failed_is_listed_with_its_cause(mount, server):
    m = mount()
    m.allow(*ALLOWED)
    failing(server)
    before = time.time()
    with harness.raises_errno(13):
        write_file(m.p("f"), b"hello")
    (f,) = status(m)["failed"]["files"]
    assert f["key"] == "f" and f["size"] == 5 and not f["attributes_only"]
    e = f["error"]
    assert (e["errno"], e["status"], e["code"], e["failures"]) == ("EACCES", 403, "AccessDenied", 1)
    assert len(e["request_id"]) == 24 and before - 2 <= e["since"] <= time.time() and e["next_try"] >= e["since"]
    assert status(m)["writes_refused_since"]
    screen = ossmount("status", m.path).stdout
    assert "failed 1\n  f  5 B\n" in screen and e["request_id"] in screen and "again in" in screen
    assert "may not write" in screen
    # Once more, and the count goes on; then it works, and nothing is left of it.
    done = ossmount("flush", m.path, check=False)
    assert done.returncode == 1 and "f: Permission denied" in done.stderr and "AccessDenied" in done.stderr
    assert status(m)["failed"]["files"][0]["error"]["failures"] == 2
    server.clear_faults()
    assert ossmount("retry", m.path).stdout == "1 file is sent again\n"
    wait_until(lambda: status(m)["failed"]["count"] == 0, 20, "the retry")
    assert server.object("f") == b"hello"
    assert ossmount("retry", m.path).stdout == "nothing has failed\n"


def test_retry_of_one_file(mount, server):
    m = mount()
    m.allow(*ALLOWED)
    failing(server, count=2)
    for name in ("a", "b"):
        with harness.raises_errno(13):
            write_file(m.p(name), b"x")
    assert ossmount("retry", m.path, m.p("a")).stdout == "1 file is sent again\n"
    wait_until(lambda: server.object("a") == b"x", 20, "the retry")
    assert server.object("b") is None
    assert [f["key"] for f in status(m)["failed"]["files"]] == ["b"]
    done = ossmount("retry", m.path, "none", check=False)
    assert done.returncode == 1 and "nothing of none has failed" in done.stderr
    assert ossmount("retry", m.path, "b").returncode == 0


def test_many_unsent_files(mount, server):
    """The status names at most so many, counts all, and does not grow with them."""
    m = mount()
    m.allow(*ALLOWED)
    n = 10000 if os.environ.get("OSSMOUNT_LONG") else 1050
    failing(server)
    for i in range(n):
        with contextlib.suppress(PermissionError):
            write_file(m.p("f%d" % i), b"x")
    found = status(m)
    counts = [found[k]["count"] for k in ("failed", "sending", "pending")]
    assert sum(counts) == n and all(len(found[k]["files"]) <= 1000 for k in ("failed", "sending", "pending"))
    assert len(ossmount("status", m.path).stdout.splitlines()) < 80
    server.clear_faults()
    ossmount("flush", m.path)
    assert len(server.files()) == n


# -------------------------------------------------------------------------------------------- flush and unmount


@pytest.mark.sanitizer
def test_progress_and_flush(mount, server):
    """Parts on a slow line: the status counts what has left; flush ends when the object is whole, not before."""
    m = mount(multipart_size=1, multipart_threshold=1, parallel_count=2)
    data = harness.blob(8 << 20)
    slow(server, 1024)
    with writing(m, "big", data) as program:
        wait_until(lambda: status(m)["sending"]["count"], 20, "the upload")
        seen, screens = [], []
        line = r"^sending 1\n  big +\[#*-+\] +\d+ %  \S+ \S+ of 8.0 MiB  \S+ \S+/s( .* left|)$"

        def progress():
            for f in status(m)["sending"]["files"]:
                assert f["key"] == "big" and 0 <= f["sent"] <= f["total"] <= len(data)
                seen.append(f["sent"])
            screens.append(ossmount("status", m.path).stdout)
            return len(set(seen)) >= 2 and any(re.search(line, x, re.M) for x in screens)

        wait_until(progress, 30, "progress")
        assert seen == sorted(seen), "progress went back"
        server.latency()
        # It leaves while it is written: only from the close on does a flush wait for it.
        wait_until(lambda: "still being written" not in ossmount("flush", m.path).stderr, 60, "the flush")
        server.check_object("big", data)
        assert program.wait(20) == 0
    assert status(m)["sending"]["count"] == 0
    assert not server.uploads()


def test_flush_leaves_what_is_being_written(mount, server):
    m = mount()
    # In a process of its own: a fork of this one would close its copy of the descriptor, and so publish.
    code = """
import os, sys
f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(f, b"half")
print("written", flush=True)
sys.stdin.read()
os.write(f, b" and half")
os.close(f)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with harness.spawned(["/usr/bin/python3", "-c", code, m.p("f")], **pipes) as writer:
        assert writer.stdout.readline() == b"written\n"
        done = ossmount("flush", m.path)
        assert "1 file is still being written" in done.stderr
        assert server.object("f") is None
        assert [f["open"] for f in status(m)["pending"]["files"]] == [True]
        writer.stdin.close()
        assert writer.wait(20) == 0
    assert server.object("f") == b"half and half"


def test_flush_while_the_server_is_dead(mount, server):
    """status answers, flush waits, Ctrl-C ends it, and nothing of that disturbs the mount."""
    m = mount(retries=1, transfer_deadline=2, readwrite_timeout=3)
    m.allow("PutObject", "of .* failed", "is unsent")
    server.latency(ms=8000)
    with harness.raises_errno(5, 110):
        write_file(m.p("f"), b"hello")
    with harness.spawned([OSSMOUNT, "flush", m.path], stderr=subprocess.PIPE) as flush:
        wait_until(lambda: status(m)["sending"]["count"], 20, "the flush at work")
        os.killpg(flush.pid, signal.SIGINT)
        assert flush.wait(10) == -signal.SIGINT
    assert os.listdir(m.path) == ["f"]
    server.latency()
    # What is on its way still meets the dead server, and flush says so.
    wait_until(lambda: ossmount("flush", m.path, check=False).returncode == 0, 30, "the flush")
    assert server.object("f") == b"hello"


@pytest.mark.sanitizer
def test_umount(mount, server):
    m = mount()
    write_file(m.p("f"), b"hello")
    with open(m.p("f"), "rb"):
        done = ossmount("umount", m.path, check=False)
        assert done.returncode == 1 and "in use" in done.stderr and is_mounted(m.path)
    assert ossmount("umount", m.path).stderr == ""
    assert not is_mounted(m.path)
    assert m.wait_exit(10) == 0, "it came back before the daemon had ended"


def test_umount_keeps_what_cannot_be_sent(mount, server):
    m = mount()
    m.allow(*ALLOWED)
    failing(server)
    with harness.raises_errno(13):
        write_file(m.p("f"), b"hello")
    done = ossmount("umount", m.path, check=False)
    assert done.returncode == 1 and "f: Permission denied" in done.stderr and is_mounted(m.path)
    assert ossmount("umount", "--force", m.path).returncode == 0
    assert not is_mounted(m.path) and m.wait_exit() == 0
    server.clear_faults()
    m.start()
    wait_until(lambda: server.object("f") == b"hello", 20, "what the last mount left")


# ------------------------------------------------------------------------------------------------ the socket


def test_dead_daemon(mount):
    """kill -9 leaves its socket behind: the commands say what is wrong, the next mount is found, the old name goes."""
    m = mount()
    path = socket_of(m)
    m.signal(signal.SIGKILL)
    m.wait_exit()
    assert os.path.exists(path)
    done = ossmount("status", m.path, check=False)
    assert done.returncode == 1 and "nobody answers" in done.stderr
    done = ossmount("umount", m.path, check=False)
    assert done.returncode == 1 and is_mounted(m.path)
    assert ossmount("umount", "--force", m.path).returncode == 0 and not is_mounted(m.path)
    m.start()
    assert status(m)["pid"] == m.pid
    assert not os.path.exists(path)
    now = socket_of(m)
    m.unmount()
    assert not os.path.exists(now)


@pytest.mark.sanitizer
def test_hostile_clients(mount):
    """Lines without an end, nonsense, questions by the hundred, clients that never read: only they pay for it."""
    m = mount()
    for junk in (b"x" * 100000, b"\n" * 50, b"status\n", b"status json %zz\n", b"a b c d e f g\n", b"\0\0\n", b"discard\n"):
        with connect(m) as s:
            with contextlib.suppress(OSError):
                s.sendall(junk)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
    with connect(m) as s:
        s.sendall(b"status json\n" * 300)
        answered = b""
        while answered.count(b"\nok ") < 299:
            answered += s.recv(65536)
    idle = [connect(m) for _ in range(40)]
    try:
        # More than are served: the rest is turned away at once.
        turned_away = [s for s in idle if ended(s)]
        assert len(turned_away) == 40 - 16
    finally:
        for s in idle:
            s.close()
    wait_until(lambda: ossmount("status", m.path, check=False).returncode == 0, 20, "an answer")
    write_file(m.p("f"), b"hello")


def ended(s):
    """Has the other side closed the connection? Waits a little, for the daemon to have come round to it."""
    s.settimeout(0.3)
    try:
        return s.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_other_users_are_turned_away(mount):
    """The socket answers its own user and root; whoever got a descriptor of it otherwise is asked for by the kernel."""
    m = mount()
    code = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
d = os.open(os.path.dirname(sys.argv[1]), os.O_PATH)
os.chmod(sys.argv[1], 0o666)
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
s.connect("/proc/self/fd/%d/%s" % (d, os.path.basename(sys.argv[1])))
s.sendall(b"status json\\n")
sys.exit(0 if s.recv(10) == b"" else 9)
"""
    assert run(["/usr/bin/python3", "-c", code, socket_of(m)], check=False).returncode in (0, 1)
    done = run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", OSSMOUNT, "status", m.path], check=False
    )
    assert done.returncode == 1 and "{" not in done.stdout


# ------------------------------------------------------------------------------------------------- the words


COMMANDS = ["status", "flush", "umount", "retry", "recover", "uploads", "check", "url", "restore"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    done = ossmount(command, "--help")
    assert done.stdout.startswith("ossmount %s " % command) and len(done.stdout.splitlines()) >= 3
    assert "ossmount %-10s" % command in ossmount("--help").stdout
    done = ossmount(command, "--no-such-option", check=False)
    assert done.returncode == 2 and "--help" in done.stderr
    done = ossmount(command, "a", "b", "c", "d", "e", check=False)
    assert done.returncode == 2 and "usage: ossmount %s" % command in done.stderr


def test_bucket_with_the_name_of_a_command(server_factory, tmp):
    """`status:/` is the bucket of that name, and mount(8) never means a command."""
    server = server_factory("--bucket", "status")
    os.mkdir(os.path.join(tmp, "mnt"))
    m = harness.Mount(server, tmp, bucket="status:/")
    m.start()
    try:
        write_file(m.p("f"), b"hello")
        assert json.loads(ossmount("status", "--json", m.path).stdout)["source"] == "status:/"
    finally:
        assert m.finish() == []


# ------------------------------------------------------------------------------------------------ the log


def test_log_line_of_each_upload(mount, server, tmp):
    """One line says that a file is sent, or not; HUP opens the file again, USR2 turns the level."""
    log = os.path.join(tmp, "log")
    m = mount(logfile=log)
    m.allow(*ALLOWED)
    write_file(m.p("a"), b"hello")
    os.rename(log, log + ".1")
    m.signal(signal.SIGHUP)
    wait_until(lambda: os.path.exists(log), 20, "the new file")
    failing(server, count=1)
    with harness.raises_errno(13):
        write_file(m.p("b"), b"x")
    first, second = (open(name).read() for name in (log + ".1", log))
    assert len(re.findall(r" info sent a: 5 bytes in 1 requests?, \d+ ms$", first, re.M)) == 1
    assert len(re.findall(r" error sending of b failed: 403 AccessDenied .* request id \w+", second)) == 1
    assert len(re.findall(r" warning AccessDenied: this access key may not write .*-o ro", second)) == 1
    m.signal(signal.SIGUSR2)
    wait_until(lambda: "log level: debug" in open(log).read(), 20, "the louder level")
    server.clear_faults()


# --------------------------------------------------------------------------------------- what was kept aside


def unsent_files(m):
    """What is in the state directory beside what each mount leaves there; nothing is cached in these tests."""
    every = re.compile("lock|kept|attributes.*")
    return [n for _, _, names in os.walk(m.cache) for n in names if not every.fullmatch(n)]


def kept(m):
    """[(id, size, name)] of `ossmount recover`."""
    text = ossmount("recover", m.path).stdout
    return re.findall(r"^([0-9a-f]{10,}) +(\S+(?: \S+)?)  \d{4}-\d\d-\d\d \S+  (.*)$", text, re.M)


def options(m):
    """What a mount was given, for the commands that talk to the bucket."""
    return m.command()[-1]


def crash_while_writing(m, name, data):
    """The daemon dies while a program has the file open: what was written is kept, and never published."""
    with open(m.p(name), "wb", buffering=0) as f:
        f.write(data)
        m.kill()
        with contextlib.suppress(OSError):
            f.close()


def test_recover(mount, server, tmp):
    m = mount()
    m.allow("are kept in")
    crash_while_writing(m, "new file", b"never closed")
    # Without a mount: the state directory is found by the options; it is unsent there.
    text = ossmount("recover", BUCKET, "-o", options(m)).stdout
    assert "unsent: the next mount sends it" in text and "new file" in text
    m.start()
    assert status(m)["kept_aside"] == 1 and "ossmount recover" in ossmount("status", m.path).stdout
    ((number, size, name),) = kept(m)
    assert (size, name) == ("12 B", "new file")
    text = ossmount("recover", m.path, "show", number).stdout
    assert "it was not closed when the daemon ended" in text and "all of its bytes are here" in text
    copy = os.path.join(tmp, "copy")
    ossmount("recover", m.path, "save", number, copy)
    assert harness.read_file(copy) == b"never closed"
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600
    done = ossmount("recover", m.path, "save", number, copy, check=False)
    assert done.returncode == 1 and "there already" in done.stderr
    assert server.object("new file") is None
    ossmount("recover", m.path, "send", number)
    assert server.object("new file") == b"never closed" and kept(m) == []
    assert "nothing is kept" in ossmount("recover", m.path).stdout
    for words in (["show", "1"], ["discard", "1"], ["dance"], ["save", "1"]):
        assert ossmount("recover", m.path, *words, check=False).returncode in (1, 2)


def test_recover_publishes_no_guess(mount, server, tmp):
    """A part of a stored file was written when the daemon died: it can be saved and removed, not sent."""
    server.plant("f", b"0123456789" * 1000)
    m = mount()
    m.allow("are kept in")
    with open(m.p("f"), "r+b", buffering=0) as f:
        f.seek(5000)
        f.write(b"changed")
        m.kill()
        with contextlib.suppress(OSError):
            f.close()
    m.start()
    ((number, _, name),) = kept(m)
    done = ossmount("recover", m.path, "send", number, check=False)
    assert done.returncode == 1 and "guess" in done.stderr
    assert server.object("f") == b"0123456789" * 1000
    m.unmount()
    # The same without a mount; and while another process has the directory, nothing is touched.
    done = ossmount("recover", BUCKET, "send", number, "-o", options(m), check=False)
    assert done.returncode == 1 and "needs the mount" in done.stderr
    ossmount("recover", BUCKET, "discard", number, "-o", options(m))
    assert "nothing is kept" in ossmount("recover", BUCKET, "-o", options(m)).stdout
    assert unsent_files(m) == []


def test_discard_of_what_failed(mount, server):
    m = mount()
    m.allow(*ALLOWED, "is dropped, as asked")
    server.plant("f", b"old")
    failing(server)
    for name in ("f", "new"):
        with harness.raises_errno(13):
            write_file(m.p(name), b"changed")
    text = ossmount("recover", m.path).stdout
    assert "nothing is kept" in text and "failed 2" in text and "AccessDenied" in text
    with open(m.p("f")):
        done = ossmount("recover", m.path, "discard", "f", check=False)
        assert done.returncode == 1 and "has it open" in done.stderr
    for name in ("f", "new"):
        wait_until(lambda: ossmount("recover", m.path, "discard", name, check=False).returncode == 0, 20, "the close")
    assert status(m)["failed"]["count"] == 0
    server.clear_faults()
    m.unmount()
    assert server.object("f") == b"old" and server.object("new") is None
    assert unsent_files(m) == []


# --------------------------------------------------------------------------------------------- at the bucket


def bucket_options(server, tmp, **more):
    passwd = os.path.join(tmp, "passwd")
    if not os.path.exists(passwd):
        fd = os.open(passwd, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b"%s:%s\n" % (KEY_ID.encode(), KEY_SECRET.encode()))
        os.close(fd)
    found = {"url": server.url, "region": REGION, "passwd_file": passwd, "cache_dir": os.path.join(tmp, "state")}
    found.update(more)
    return ",".join(k if v is True else "%s=%s" % (k, v) for k, v in found.items())


def begin_upload(client, key, parts):
    reply = client("POST", BUCKET, key, {"uploads": ""})
    assert reply.status == 200
    upload = reply.text("UploadId")
    for number in range(1, parts + 1):
        query = {"partNumber": str(number), "uploadId": upload}
        assert client("PUT", BUCKET, key, query, body=b"x" * (1 << 20)).status == 200
    return upload


def test_uploads(server, tmp):
    o = bucket_options(server, tmp)
    with osssign.Client(server.port) as client:
        ids = {key: begin_upload(client, key, parts) for key, parts in (("a", 3), ("b/c", 1), ("b/d", 0))}
    text = ossmount("uploads", BUCKET, "-o", o).stdout
    rows = re.findall(r"^\S+ \S+ +(\d+) +(\S+ \S+)  (\S+)  (\S+)$", text, re.M)
    assert rows == [
        ("3", "3.0 MiB", ids["a"], "a"),
        ("1", "1.0 MiB", ids["b/c"], "b/c"),
        ("0", "0 B", ids["b/d"], "b/d"),
    ]
    assert text.endswith("3 incomplete uploads, 4.0 MiB\n")
    assert "2 incomplete uploads, 1.0 MiB" in ossmount("uploads", BUCKET + ":/b", "-o", o).stdout
    assert "0 uploads aborted" in ossmount("uploads", BUCKET, "--abort-older-than", "1h", "-o", o).stdout
    assert "1 upload aborted, 3.0 MiB" in ossmount("uploads", BUCKET, "--abort", ids["a"], "-o", o).stdout
    done = ossmount("uploads", BUCKET, "--abort", ids["a"], "-o", o, check=False)
    assert done.returncode == 1 and "no upload has the id" in done.stderr
    done = ossmount("uploads", BUCKET, "--abort-older-than", "soon", "-o", o, check=False)
    assert done.returncode == 1 and "7d" in done.stderr
    server.fault("status", op="AbortMultipartUpload", key="b/c", count=-1, status=403, code="AccessDenied")
    time.sleep(1.1)
    done = ossmount("uploads", BUCKET, "--abort-older-than", "1s", "-o", o, check=False)
    assert done.returncode == 1 and "b/c  NOT aborted" in done.stdout and "1 upload aborted" in done.stdout
    assert [u["key"] for u in server.uploads()] == ["b/c"]


def test_uploads_by_the_page(server, tmp):
    """More uploads than one answer holds, and more parts than one answer holds."""
    with osssign.Client(server.port) as client:
        for i in range(1005):
            assert client("POST", BUCKET, "u%04d" % (i % 1003), {"uploads": ""}).status == 200
    done = ossmount("uploads", BUCKET, "-o", bucket_options(server, tmp))
    assert "1005 incomplete uploads, 0 B" in done.stdout


def test_check(server, tmp):
    o = bucket_options(server, tmp)
    done = ossmount("check", BUCKET + ":/some/prefix", "--size", "1", "-o", o)
    for word in ("endpoint and key", "clock", "bucket", "oss:ListObjects", "oss:PutObject", "oss:DeleteObject"):
        assert re.search(r"^ok +%s" % word, done.stdout, re.M), done.stdout
    assert "round trip" in done.stdout and "upload " in done.stdout and "the bucket can be mounted\n" in done.stdout
    assert server.objects() == {} and server.uploads() == []


@pytest.mark.parametrize(
    "op, action", [("PutObjectACL", "oss:PutObjectAcl"), ("ListObjectsV2", "oss:ListObjects"), ("PutObject", "oss:PutObject")]
)
def test_check_names_what_is_missing(server, tmp, op, action):
    server.fault("status", op=op, count=-1, status=403, code="AccessDenied")
    done = ossmount("check", BUCKET, "--size", "0", "-o", bucket_options(server, tmp), check=False)
    assert done.returncode == 1
    assert re.search(r"^FAILED +%s +403 AccessDenied" % action, done.stdout, re.M), done.stdout
    assert "-> grant %s on acs:oss:*:*:%s" % (action, BUCKET) in done.stdout
    assert server.objects() == {} and server.uploads() == []
    # A key that may only read is enough for a mount that only reads.
    done = ossmount("check", BUCKET, "-o", bucket_options(server, tmp, ro=True), check=False)
    assert done.returncode == (1 if op == "ListObjectsV2" else 0), done.stdout


@pytest.mark.parametrize(
    "more, words",
    [
        ({"passwd_file": "/nowhere"}, "does not exist"),
        ({"region": "cn-elsewhere"}, "region"),
        ({"url": "http://127.0.0.1:1", "retries": 0}, "nothing listens"),
    ],
)
def test_check_says_what_is_wrong(server, tmp, more, words):
    done = ossmount("check", BUCKET, "-o", bucket_options(server, tmp, **more), check=False)
    assert done.returncode == 1 and words in done.stdout + done.stderr


def test_check_of_a_bucket_that_is_not_there(server, tmp):
    done = ossmount("check", "no-such-bucket", "-o", bucket_options(server, tmp), check=False)
    assert done.returncode == 1 and "NoSuchBucket" in done.stdout and "name of the bucket" in done.stdout


@pytest.mark.parametrize("sigv1", [False, True])
def test_url(server, tmp, mount, sigv1):
    """curl, which knows nothing of keys, reads the file by the URL; a key with everything that URLs escape."""
    name = "di r/f?x=1&y%20+é#:"
    server.plant(name, b"hello")
    m = mount(**({"sigv1": True} if sigv1 else {}))
    o = bucket_options(server, tmp, **({"sigv1": True} if sigv1 else {}))
    for words in ([m.p(name)], ["%s:/%s" % (BUCKET, name), "-o", o]):
        url = ossmount("url", *words, "--expires", "10m").stdout.strip()
        assert run(["curl", "-sf", url]).stdout == "hello"
        assert KEY_SECRET not in url
        bad = re.sub(r"(?i)(signature=)(.)", lambda x: x.group(1) + ("1" if x.group(2) != "1" else "2"), url)
        assert run(["curl", "-sf", bad], check=False).returncode == 22
    url = ossmount("url", m.p(name), "--expires", "1s").stdout.strip()
    time.sleep(2.1)
    assert run(["curl", "-sf", url], check=False).returncode == 22
    for words in ([m.path], [m.p(name), "--expires", "0"], [m.directory], [m.p(name), "--expires", "40000d"]):
        assert ossmount("url", *words, check=False).returncode == (1 if not sigv1 or "40000d" not in words else 0)


# ---------------------------------------------------------------------------------- archived, versioned, read-only


def test_archived(server_factory, mount_factory):
    """Reading fails with ENODATA and a line that says what to do; restore makes it readable and says until when."""
    server = server_factory("--restore-delay=4000")
    server.plant("cold/f", b"hello", {"x-oss-storage-class": "ColdArchive"})
    server.plant("warm", b"hello")
    m = mount_factory(server)
    m.allow("InvalidObjectState", "reading of cold/f failed")
    assert os.stat(m.p("cold/f")).st_size == 5
    with harness.raises_errno(61):  # ENODATA
        harness.read_file(m.p("cold/f"))
    assert "`ossmount restore`" in m.stderr_text()
    assert "restoration asked for" in ossmount("restore", m.p("cold/f"), "--no-wait", "--tier", "Expedited").stdout
    done = ossmount("restore", m.p("cold/f"), "--days", "2")
    assert "going on" in done.stdout and "cold/f can be read until" in done.stdout and "GMT (ColdArchive)" in done.stdout
    assert harness.read_file(m.p("cold/f")) == b"hello"
    assert "can be read until" in ossmount("restore", m.p("cold/f")).stdout
    assert server.counters()["RestoreObject"] == 1
    assert "it is not archived" in ossmount("restore", m.p("warm")).stdout
    for words in ([m.p("none")], [m.path], [m.p("warm"), "--days", "0"], [m.p("warm"), "--tier", "Fast"]):
        assert ossmount("restore", *words, check=False).returncode == 1


def test_versioned_bucket(server_factory, mount_factory, tmp):
    """Everything works as elsewhere, and `check` says what it costs."""
    server = server_factory("--versioning")
    m = mount_factory(server)
    write_file(m.p("f"), b"one")
    write_file(m.p("f"), b"two")
    os.chmod(m.p("f"), 0o600)
    os.rename(m.p("f"), m.p("g"))
    with open(m.p("g"), "ab") as f:
        f.write(b" three")
    m.forget()
    assert harness.read_file(m.p("g")) == b"two three" and os.listdir(m.path) == ["g"]
    os.unlink(m.p("g"))
    assert os.listdir(m.path) == []
    done = ossmount("check", BUCKET, "--size", "0", "-o", bucket_options(server, tmp))
    assert "versioning Enabled" in done.stdout and "old version" in done.stdout


def test_key_that_may_only_read(server, mount):
    """It cannot be known at the mount; the first write that is refused says so, in the log and in the status."""
    server.plant("f", b"hello")
    for op in ("PutObject", "CopyObject", "DeleteObject", "InitiateMultipartUpload", "AppendObject"):
        server.fault("status", op=op, count=-1, status=403, code="AccessDenied")
    m = mount()
    m.allow(*ALLOWED)
    assert harness.read_file(m.p("f")) == b"hello" and status(m)["writes_refused_since"] is None
    for change in (lambda: os.unlink(m.p("f")), lambda: os.mkdir(m.p("d")), lambda: write_file(m.p("g"), b"x")):
        with harness.raises_errno(13):
            change()
    assert m.stderr_text().count("-o ro") == 1
    assert status(m)["writes_refused_since"] and "may not write" in ossmount("status", m.path).stdout
    m.unmount()
    m.options["ro"] = True
    shutil.rmtree(m.cache)
    m.start()
    with harness.raises_errno(30):  # EROFS
        write_file(m.p("g"), b"x")
    assert harness.read_file(m.p("f")) == b"hello" and status(m)["read_only"]
