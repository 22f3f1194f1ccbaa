"""As a service: what the manager is told over its socket, and the two signals of an end."""

import os
import signal
import socket

import pytest

import harness
from harness import blob, is_mounted, slow_factor, wait_until, write_file

pytestmark = [pytest.mark.bucket, pytest.mark.sanitizer]

UNSENT = blob(200 << 10, 1)


class Manager:
    """The socket of a service manager, and what came in on it."""

    def __init__(self, directory, abstract):
        path = os.path.join(directory, "notify")
        self.name = "@" + path if abstract else path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path if abstract else path)
        self.socket.settimeout(30 * slow_factor())

    def until(self, word):
        """Reads until a message has the line `word` (or one that begins so); the messages, that one last."""
        got = []
        while not got or not any(line.startswith(word) for line in got[-1].splitlines()):
            got.append(self.socket.recv(65536).decode())
        return got


@pytest.fixture
def manager(request, tmp, monkeypatch):
    m = Manager(tmp, getattr(request, "param", "path") == "abstract")
    monkeypatch.setenv("NOTIFY_SOCKET", m.name)
    yield m
    m.socket.close()


def slow_mount(server, mount):
    """A mount with one unsent file, from a server that takes its time from now on."""
    m = mount(upload="background", upload_delay=3600)
    write_file(m.p("f"), UNSENT)
    server.latency(bandwidth=48 << 10)
    return m


@pytest.mark.parametrize("manager", ["path", "abstract"], indirect=True)
def test_ready_only_when_mounted(server, mount, manager, tmp):
    """READY=1 comes behind the mount, not before; programs that the daemon starts cannot speak for it."""
    seen = os.path.join(tmp, "seen")
    script = os.path.join(tmp, "credentials")
    keys = '{"Mode":"AK","access_key_id":"%s","access_key_secret":"%s"}' % (harness.KEY_ID, harness.KEY_SECRET)
    write_file(script, ("#!/bin/sh\necho \"[$NOTIFY_SOCKET]\" >%s\necho '%s'\n" % (seen, keys)).encode())
    os.chmod(script, 0o700)
    server.latency(ms=300)
    m = mount(passwd_file=None, credential_process=script)
    messages = manager.until("READY=1")
    assert is_mounted(m.path)
    assert messages[0] == "STATUS=mounting %s" % harness.BUCKET
    assert messages[-1].splitlines() == ["READY=1", "STATUS=serving %s on %s" % (harness.BUCKET, m.path)]
    assert harness.read_file(seen) == b"[]\n"
    server.latency(ms=0)
    m.unmount()
    assert "STOPPING=1" in manager.until("STATUS=all")


def test_no_ready_when_the_mount_fails(server, mount_factory, manager):
    m = mount_factory(server, bucket="no-such-bucket", run=False)
    m.allow("NoSuchBucket")
    m.start(wait=False)
    assert m.wait_exit() == 1
    manager.socket.setblocking(False)
    assert manager.socket.recv(65536) == b"STATUS=mounting no-such-bucket"
    with pytest.raises(BlockingIOError):
        manager.socket.recv(65536)


def test_nobody_listens(mount, tmp, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", os.path.join(tmp, "nobody"))
    m = mount()
    write_file(m.p("f"), b"x")
    m.unmount()


def test_patience_is_asked_for_while_it_drains(server, mount, manager):
    m = slow_mount(server, mount)
    manager.until("READY=1")
    m.signal(signal.SIGTERM)
    assert manager.until("STOPPING=1")[-1] == "STOPPING=1"
    for _ in range(2):
        asked = manager.until("EXTEND_TIMEOUT_USEC=")[-1].splitlines()
        assert int(asked[0].split("=")[1]) >= 10_000_000
        assert asked[1] == "STATUS=unmounted; still to be sent: 1 files, 200.0 KiB"
    assert not is_mounted(m.path)
    server.latency()
    assert m.wait_exit() == 0
    server.check_object("f", UNSENT)


def test_first_signal_while_it_drains_ends_nothing(server, mount, manager):
    """Unmounted by hand, then the manager's SIGTERM for what is left: the upload goes on."""
    m = slow_mount(server, mount)
    manager.until("READY=1")
    harness.run(["fusermount3", "-u", m.path])
    manager.until("STOPPING=1")
    m.signal(signal.SIGTERM)
    wait_until(lambda: "a second one ends that" in m.stderr_text(), 30 * slow_factor(), "the line in the log")
    server.latency()
    assert m.wait_exit() == 0
    server.check_object("f", UNSENT)


def test_second_signal_ends_it_and_keeps_the_files(server, mount, manager):
    m = slow_mount(server, mount)
    m.allow("ended by a second signal")
    manager.until("READY=1")
    m.signal(signal.SIGTERM)
    manager.until("STOPPING=1")
    m.signal(signal.SIGTERM)
    assert m.wait_exit() == 128 + signal.SIGTERM
    assert not is_mounted(m.path) and server.object("f") is None
    server.latency()
    m.start()
    manager.until("READY=1")
    wait_until(lambda: server.object("f") == UNSENT, 30 * slow_factor(), "what the second signal left")
