"""The commands of a running mount, as a user types them: status, flush, umount, retry."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

import harness
from harness import BUCKET, KEY_ID, KEY_SECRET, OSSMOUNT, is_mounted, run, wait_until, write_file

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
    slow(server, 2048)
    with writing(m, "big", data) as program:
        wait_until(lambda: status(m)["sending"]["count"], 20, "the upload")
        seen = []

        def progress():
            for f in status(m)["sending"]["files"]:
                assert f["key"] == "big" and f["total"] == len(data) and 0 <= f["sent"] <= f["total"]
                seen.append(f["sent"])
            return len(set(seen)) >= 3

        wait_until(progress, 30, "progress")
        assert seen == sorted(seen), "progress went back"
        screen = ossmount("status", m.path).stdout
        assert re.search(r"^sending 1\n  big +\[#*-+\] +\d+ %  \S+ \S+ of 8.0 MiB  \S+ \S+/s( .* left|  finishing|)$", screen, re.M), screen
        ossmount("flush", m.path)
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
    m = mount(retries=2, transfer_deadline=2, readwrite_timeout=2)
    m.allow("PutObject", "of .* failed", "is unsent")
    server.outage(True)
    with harness.raises_errno(5, 110):
        write_file(m.p("f"), b"hello")
    with harness.spawned([OSSMOUNT, "flush", m.path], stderr=subprocess.PIPE) as flush:
        wait_until(lambda: status(m)["sending"]["count"], 20, "the flush at work")
        os.killpg(flush.pid, signal.SIGINT)
        assert flush.wait(10) == -signal.SIGINT
    assert os.listdir(m.path) == ["f"]
    server.outage(False)
    ossmount("flush", m.path)
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
    assert m.wait_exit(1) == 0, "it came back before the daemon had ended"


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


COMMANDS = ["status", "flush", "umount", "retry"]


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
