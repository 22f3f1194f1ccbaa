"""
Nobody waits inside: a server that hangs blocks only who needs it, and a blocked program can be ended.

What is to happen "at once" is told from what waits for the server by order where that can be seen, else by AT_ONCE:
far less than the deadlines that would end the wait, far more than a busy machine needs.
"""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from harness import _reap, blob, raises_errno, read_file, run, spawned, wait_until, write_file

pytestmark = pytest.mark.sanitizer

AT_ONCE = 15  # seconds; deadlines are 30 and 60

# Says "closing" when it is about to block, and how the close ended.
CLOSER = """
import os, sys
fds = []
for name in sys.argv[1:]:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT)
    os.write(fd, name.encode() * 100)
    fds.append(fd)
print("closing", flush=True)
for fd in fds:
    try:
        os.close(fd)
        print("ok", flush=True)
    except OSError as e:
        print(e.errno, flush=True)
"""


def closer(*names, **kw):
    return spawned([sys.executable, "-c", CLOSER, *names], stdout=subprocess.PIPE, text=True, **kw)


def hang_everything(server):
    server.fault(op="*", action="hang", count=-1)


def timed(operation):
    begin = time.monotonic()
    value = operation()
    return time.monotonic() - begin, value


@pytest.mark.timeout(200)
def test_200_hanging_closes(server, mount):
    """200 closes wait on a dead server: the cached directory lists, files stat and read at once, others open."""
    server.plant("elsewhere/x", b"planted")
    m = mount()
    m.allow(" (warning|error) ")
    os.mkdir(m.p("cached"))
    for i in range(50):
        write_file(m.p("cached/f%d" % i), b"%d" % i)
    assert len(os.listdir(m.p("cached"))) == 50
    server.fault(op="PutObject", action="hang", count=-1)
    procs = []
    try:
        for i in range(200):
            # One small shell each: 200 Pythons would measure the machine.
            args = ["/bin/sh", "-c", 'exec 3> "$1"; echo data >&3; exec 3>&-', "-", m.p("h%03d" % i)]
            procs.append(subprocess.Popen(args, start_new_session=True))
        wait_until(lambda: len([n for n in os.listdir(m.path) if n.startswith("h")]) == 200, 60, "all have opened")
        time.sleep(1)
        assert all(p.poll() is None for p in procs)
        for _ in range(3):
            took, names = timed(lambda: run(["ls", m.p("cached")]).stdout.split())
            assert len(names) == 50
            assert took < AT_ONCE, "ls took %.2f s" % took
        took, _ = timed(lambda: [os.stat(m.p("cached/f%d" % i)) for i in range(50)])
        assert took < AT_ONCE, "stats took %.2f s" % took
        took, data = timed(lambda: read_file(m.p("cached/f7")))
        assert data == b"7" and took < AT_ONCE
        # Work that needs the server, and gets an answer from it, goes on too.
        took, data = timed(lambda: read_file(m.p("elsewhere/x")))
        assert data == b"planted" and took < AT_ONCE
        assert all(p.poll() is None for p in procs)
        server.clear_faults()
        for p in procs:
            assert p.wait(100) == 0
    finally:
        server.clear_faults()
        for p in procs:
            _reap(p)
    objects = server.objects()
    assert all(server.object("h%03d" % i) == b"data\n" for i in range(200)), len(objects)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("what", ["close", "fsync", "stat", "listdir", "read", "unlink", "rename", "mkdir"])
def test_blocked_program_ends(server, mount, what, sig):
    """Ctrl-C and kill end a program that waits for the server."""
    server.plant("d/f", b"content")
    m = mount()
    m.allow(" (warning|error) ")
    os.stat(m.p("d"))
    if what in ("read", "unlink", "rename"):
        os.stat(m.p("d/f"))
    hang_everything(server)
    code = (
        "import os,sys\n"
        "top,what=sys.argv[1:]\n"
        "if what in ('close','fsync'):\n"
        "    fd=os.open(top+'/new',os.O_WRONLY|os.O_CREAT); os.write(fd,b'x')\n"
        "print('now',flush=True)\n"
        "if what=='close': os.close(fd)\n"
        "elif what=='fsync': os.fsync(fd)\n"
        "elif what=='stat': os.stat(top+'/d/f')\n"
        "elif what=='listdir': os.listdir(top+'/d')\n"
        "elif what=='read': open(top+'/d/f').read()\n"
        "elif what=='unlink': os.unlink(top+'/d/f')\n"
        "elif what=='rename': os.rename(top+'/d/f',top+'/d/g')\n"
        "elif what=='mkdir': os.mkdir(top+'/new')\n"
        "print('done',flush=True)\n"
    )
    with spawned([sys.executable, "-c", code, m.path, what], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
        assert p.stdout.readline() == b"now\n"
        time.sleep(0.5)
        assert p.poll() is None, "it was to block"
        p.send_signal(sig)
        assert p.wait(AT_ONCE) != 0
        assert b"done" not in p.stdout.read()
    server.clear_faults()
    # The mount is well afterwards.
    write_file(m.p("after"), b"x")
    server.check_object("after", b"x")


def test_interrupted_close_is_sent_later(server, mount):
    """The transfer of a close that was interrupted goes on."""
    m = mount()
    m.allow(" (warning|error) ")
    server.fault(op="PutObject", action="hang", count=-1)
    with closer(m.p("f")) as p:
        assert p.stdout.readline() == "closing\n"
        time.sleep(0.3)
        p.kill()
        p.wait(5)
    assert read_file(m.p("f")) == m.p("f").encode() * 100
    server.clear_faults()
    wait_until(lambda: server.object("f") == m.p("f").encode() * 100, 60, "the object")


def test_interval_timer_does_not_fail_calls(server, mount):
    """A program with a 10 ms timer gets no EINTR from close, stat, open or unlink, however slow the server is."""
    m = mount()
    server.latency(ms=60)
    code = """
import os, signal, sys
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
ticks = 0
def tick(*_):
    global ticks
    ticks += 1
signal.signal(signal.SIGALRM, tick)
signal.siginterrupt(signal.SIGALRM, True)     # no SA_RESTART
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
top = os.fsencode(sys.argv[1])
def call(name, *args):
    # Not through Python, which repeats what fails with EINTR.
    r = getattr(libc, name)(*args)
    assert r >= 0, (name, os.strerror(ctypes.get_errno()))
    return r
for i in range(10):
    fd = call('open', top + b'/f%d' % i, os.O_WRONLY | os.O_CREAT, 0o644)
    call('write', fd, b'x' * 100, 100)
    call('close', fd)
    call('access', top + b'/f%d' % i, 0)
    call('mkdir', top + b'/d%d' % i, 0o755)
    call('rename', top + b'/f%d' % i, top + b'/d%d/f' % i)
for i in range(10):
    call('unlink', top + b'/d%d/f' % i)
    call('rmdir', top + b'/d%d' % i)
signal.setitimer(signal.ITIMER_REAL, 0)
print(ticks)
"""
    ticks = int(run([sys.executable, "-c", code, m.path], timeout=100).stdout)
    assert ticks > 30
    server.latency(ms=0)
    assert os.listdir(m.path) == [] and server.objects() == {}


def test_child_signals_do_not_fail_calls(server, mount):
    """SIGCHLD of children that end while their parent closes: shells and make live with many."""
    m = mount()
    server.latency(ms=150)
    code = """
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.siginterrupt(signal.SIGCHLD, True)
top = os.fsencode(sys.argv[1])
for i in range(5):
    for j in range(5):
        if os.fork() == 0:
            time.sleep(0.02 + j * 0.02)
            os._exit(0)
    fd = libc.open(top + b'/f%d' % i, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    libc.write(fd, b'x', 1)
    assert libc.close(fd) == 0, os.strerror(ctypes.get_errno())
"""
    run([sys.executable, "-c", code, m.path])
    server.latency(ms=0)
    assert sorted(server.objects()) == ["f%d" % i for i in range(5)]


def test_git_clone_with_latency(server, mount, tmp):
    """git's progress meter is a timer signal: a clone must not fail because of it."""
    m = mount()
    source = os.path.join(tmp, "source")
    env = dict(os.environ, GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b", "-c", "safe.directory=*"]
    run([*git, "init", "-q", source], env=env)
    for i in range(40):
        write_file(os.path.join(source, "f%d" % i), blob(2000, i))
    run([*git, "add", "."], cwd=source, env=env)
    run([*git, "commit", "-q", "-m", "x"], cwd=source, env=env)
    server.latency(ms=20)
    run([*git, "clone", "--progress", "--no-local", source, m.p("clone")], env=env, timeout=100)
    server.latency(ms=0)
    assert run([*git, "status", "--porcelain"], cwd=m.p("clone"), env=env).stdout == ""
    m.forget()
    run([*git, "fsck", "--full"], cwd=m.p("clone"), env=env)


def test_slow_listing_does_not_block_others(server, mount):
    """One directory's listing takes long; another, known one answers meanwhile."""
    server.plant("slow/x", b"x")
    server.plant("known/y", b"y")
    m = mount()
    assert os.listdir(m.p("known")) == ["y"]
    server.fault(op="ListObjectsV2", action="delay", ms=6000, count=1)
    with spawned(["ls", m.p("slow")], stdout=subprocess.PIPE) as p:
        time.sleep(0.3)
        assert os.listdir(m.p("known")) == ["y"]
        write_file(m.p("known/z"), b"z")
        assert p.poll() is None, "the others came after the slow one"
        assert p.communicate(timeout=20)[0] == b"x\n"


def test_bulk_does_not_starve_metadata(server, mount):
    """Large transfers on a thin line; a stat of an unknown name and a small file go between them."""
    server.plant("far/away", b"x")
    m = mount(multipart_threshold=1, multipart_size=1)
    server.fault(op="UploadPart", action="bandwidth", bandwidth=1 << 18, count=-1)
    threads = [threading.Thread(target=write_file, args=(m.p("big%d" % i), blob(4 << 20, i))) for i in range(6)]
    for t in threads:
        t.start()
    time.sleep(0.5)
    assert os.stat(m.p("far/away")).st_size == 1
    assert any(t.is_alive() for t in threads), "the stat came after the transfers"
    server.clear_faults()
    for t in threads:
        t.join(100)
    for i in range(6):
        server.check_object("big%d" % i, blob(4 << 20, i))


def test_reader_and_writer_of_one_file(server, mount):
    """A close that hangs does not block reads of the same file."""
    m = mount()
    m.allow(" (warning|error) ")
    server.fault(op="PutObject", action="hang", count=-1)
    with closer(m.p("f")) as p:
        assert p.stdout.readline() == "closing\n"
        time.sleep(0.3)
        took, data = timed(lambda: read_file(m.p("f")))
        assert data == m.p("f").encode() * 100 and took < AT_ONCE
        took, _ = timed(lambda: os.stat(m.p("f")))
        assert took < AT_ONCE
        assert p.poll() is None
        server.clear_faults()
        assert p.stdout.readline() == "ok\n"


def test_write_while_uploading(server, mount):
    """Written again while its upload runs: that close tells of its own bytes, the last close wins."""
    m = mount()
    fd = os.open(m.p("f"), os.O_RDWR | os.O_CREAT)
    os.write(fd, b"first")
    server.fault(op="PutObject", action="delay", ms=3000, count=1)
    # Not fsync: the kernel itself keeps writes away from a file that is being synced.
    thread = threading.Thread(target=os.close, args=(os.dup(fd),))
    thread.start()
    time.sleep(0.4)
    os.pwrite(fd, b"second", 0)
    assert thread.is_alive(), "the write came after the upload"
    thread.join(30)
    assert server.object("f") in (b"first", b"second")
    os.close(fd)
    server.check_object("f", b"second")


def test_sigterm_ends_the_daemon_cleanly(server, mount):
    m = mount()
    write_file(m.p("f"), b"x")
    m.signal(signal.SIGTERM)
    assert m.wait_exit(20) == 0
    wait_until(lambda: not os.path.ismount(m.path), 5, "unmounted")
    server.check_object("f", b"x")


def test_killed_daemon_and_remount(server, mount):
    """After kill -9 calls fail at once, and the next mount cleans the dead mountpoint up."""
    m = mount()
    write_file(m.p("f"), b"x")
    fd = os.open(m.p("f"), os.O_RDONLY)
    m.signal(signal.SIGKILL)
    m.wait_exit(10)
    with raises_errno(errno.ENOTCONN, errno.ECONNABORTED):
        os.stat(m.p("f"))
    os.close(fd)
    m.start(wait=False)
    wait_until(lambda: os.path.exists(m.p("f")), 20, "mounted again over the dead mountpoint")
    assert read_file(m.p("f")) == b"x"
