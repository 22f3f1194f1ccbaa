"""The command line at work: going to the background, failures at mount, mount(8), dead mountpoints, the end."""

import contextlib
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
from harness import BUCKET, KEY_ID, KEY_SECRET, OSSMOUNT, REGION, is_mounted, run, slow_factor, wait_until

pytestmark = pytest.mark.bucket


def process_of(state):
    """The pids in the lock files below a state directory, those that are alive."""
    out = []
    for name in os.listdir(state) if os.path.isdir(state) else []:
        with contextlib.suppress(OSError, ValueError):
            pid = int(harness.read_file(os.path.join(state, name, "lock")))
            os.kill(pid, 0)
            out.append(pid)
    return out


class Command:
    """One `ossmount` command line as a user types it, without -f: the daemon is found by its lock file."""

    def __init__(self, server, directory):
        self.server = server
        self.directory = directory
        self.mnt = os.path.join(directory, "mnt")
        self.state = os.path.join(directory, "state")
        self.passwd = os.path.join(directory, "passwd")
        self.used = [(self.mnt, self.state)]
        os.mkdir(self.mnt)
        self.write_passwd("%s:%s\n" % (KEY_ID, KEY_SECRET))

    def write_passwd(self, text, mode=0o600):
        with open(self.passwd, "w") as f:
            f.write(text)
        os.chmod(self.passwd, mode)

    def options(self, **changes):
        found = {"url": self.server.url, "region": REGION, "passwd_file": self.passwd, "cache_dir": self.state}
        found.update(changes)
        return ",".join(k if v is True else "%s=%s" % (k, v) for k, v in found.items() if v is not None)

    def env(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith("OSS_")}
        env["ASAN_OPTIONS"] = "detect_leaks=1:exitcode=99"
        env["HOME"] = self.directory
        env.update(more)
        return env

    def __call__(self, *args, source=BUCKET, mnt=None, env=None, check=True, timeout=60, **changes):
        mnt = mnt or self.mnt
        self.used.append((mnt, changes.get("cache_dir") or self.state))
        line = [OSSMOUNT, source, mnt, "-o", self.options(**changes), *args]
        return run(line, check=check, timeout=timeout, env=env or self.env(), cwd=self.directory)

    def fails(self, *words, **kw):
        """The mount must fail: one line that says all of `words`, an exit status, and nothing left behind."""
        done = self(check=False, **kw)
        assert done.returncode == 1, (done.returncode, done.stderr)
        lines = done.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("ossmount: "), done.stderr
        for word in words:
            assert word in lines[0], "%r does not say %r" % (lines[0], word)
        assert "%s:%s" % (KEY_ID, KEY_SECRET) not in done.stderr
        assert not is_mounted(kw.get("mnt") or self.mnt)
        assert process_of(self.state) == []
        return lines[0]

    @property
    def pid(self):
        (pid,) = process_of(self.state)
        return pid

    def unmount(self, mnt=None, seconds=30):
        run(["fusermount3", "-u", mnt or self.mnt])
        self.wait_end(seconds)

    def wait_end(self, seconds=30):
        wait_until(lambda: not process_of(self.state), seconds * slow_factor(), "the daemon's end")

    def finish(self):
        for mnt, state in self.used:
            for pid in process_of(state):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            while is_mounted(mnt):
                subprocess.run(["umount", "-l", mnt], timeout=60)


@pytest.fixture
def command(server, tmp):
    c = Command(server, tmp)
    yield c
    c.finish()


# --------------------------------------------------------------------------------------------- words and refusals


def test_help_and_version(tmp):
    done = run([OSSMOUNT, "--help"])
    assert "ossmount BUCKET[:/PREFIX] MOUNTPOINT" in done.stdout and "passwd_file=FILE" in done.stdout
    assert run([OSSMOUNT, "-h"]).stdout == done.stdout
    assert re.fullmatch(r"ossmount \d+\.\d+\.\d+\n", run([OSSMOUNT, "--version"]).stdout)


@pytest.mark.parametrize(
    "args, words",
    [
        ([], "no bucket"),
        ([BUCKET], "no mountpoint"),
        ([BUCKET, "/mnt", "-o", "regoin=x"], 'did you mean "region"'),
        ([BUCKET, "/mnt", "-o", "retries=1000"], "from 0 to 100"),
        ([BUCKET, "/mnt", "-o", "public_bucket,ram_role=auto"], "exclude each other"),
        ([BUCKET, "/mnt", "-o", "access_key_secret=hush,url=http://h"], "not taken from the command line"),
    ],
)
def test_bad_command_line(args, words):
    done = run([OSSMOUNT, *args], check=False)
    assert done.returncode == 1
    assert words in done.stderr and len(done.stderr.splitlines()) == 1 and "hush" not in done.stderr


def test_mountpoint_is_checked(command):
    command.fails("does not exist", mnt=os.path.join(command.directory, "none"))
    path = os.path.join(command.directory, "file")
    harness.write_file(path, b"")
    command.fails("not a directory", mnt=path)
    assert command.server.total() == 0, "asked the bucket before looking at the mountpoint"


# ------------------------------------------------------------------------------------------- failures at the mount


@pytest.mark.sanitizer
def test_wrong_secret(command):
    command.write_passwd("%s:%s\n" % (KEY_ID, "wrong"))
    line = command.fails("SignatureDoesNotMatch", "request id", "secret")
    assert "wrong" not in line.replace("wrong region", "")


def test_unknown_key(command):
    command.write_passwd("nobody:%s\n" % KEY_SECRET)
    command.fails("InvalidAccessKeyId", "request id", "check the access key id")


def test_wrong_bucket(command):
    command.fails("NoSuchBucket", "request id", "name of the bucket", source="no-such-bucket")


def test_wrong_region(command):
    command.fails("region", region="cn-elsewhere")


@pytest.mark.parametrize(
    "status, code, words",
    [
        (403, "AccessDenied", "oss:ListObjects"),
        (403, "RequestTimeTooSkewed", "clock"),
        (403, "UserDisable", "arrears"),
        (500, "InternalError", "try again later"),
    ],
)
def test_refused_by_the_service(command, status, code, words):
    command.server.fault("status", op="ListObjectsV2", count=-1, status=status, code=code)
    command.fails(code, words, retries=1, metadata_deadline=3)


def test_nothing_listens(command):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command.fails("host and port in url=", url="http://127.0.0.1:%d" % port, retries=1, metadata_deadline=3)


def test_name_that_does_not_resolve(command):
    command.fails(
        "resolve", "host name in url=", url="http://nowhere.invalid", retries=0, metadata_deadline=5, timeout=60
    )


def test_no_tls_there(command):
    command.fails(
        "url=", url="https://127.0.0.1:%d" % command.server.port, retries=0, metadata_deadline=3
    )


def test_server_that_never_answers(command):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(8)
        begin = time.monotonic()
        command.fails(
            "check", url="http://127.0.0.1:%d" % s.getsockname()[1], retries=1, readwrite_timeout=1, metadata_deadline=2
        )
        assert time.monotonic() - begin < 15 * slow_factor()


def test_missing_certificate_file(command):
    command.fails("/nowhere.pem", "PEM", url="https://127.0.0.1:1", cacert="/nowhere.pem", retries=0)


def test_passwd_file(command):
    command.write_passwd("%s:%s\n" % (KEY_ID, KEY_SECRET), mode=0o644)
    command.fails("may be used by others", "chmod 600")
    command.fails("does not exist", passwd_file=os.path.join(command.directory, "none"))
    command.write_passwd("hush-hush\n")
    line = command.fails("line 1")
    assert "hush" not in line
    command.fails("no access key", passwd_file=None)


def test_no_place_for_state(command):
    command.fails("cache_dir=", cache_dir="/proc/nowhere")
    link = os.path.join(command.directory, "link")
    os.symlink(command.directory, link)
    command.fails("symbolic link", cache_dir=link)


# ---------------------------------------------------------------------------------------------------- credentials


def test_key_from_environment(command):
    env = command.env(OSS_ACCESS_KEY_ID=KEY_ID, OSS_ACCESS_KEY_SECRET=KEY_SECRET)
    command(env=env, passwd_file=None)
    assert is_mounted(command.mnt)
    command.unmount()


def test_key_from_home(command):
    path = os.path.join(command.directory, ".passwd-ossfs")
    harness.write_file(path, ("%s:%s\n" % (KEY_ID, KEY_SECRET)).encode())
    os.chmod(path, 0o600)
    command(passwd_file=None)
    assert is_mounted(command.mnt)
    command.unmount()


def test_key_appears_nowhere(tmp, server_factory):
    """Neither a log at its loudest nor the process list holds the secret or a signature."""
    secret = "Zx9SecretNobodyMaySee7"
    server = server_factory("--key", "other:" + secret)
    command = Command(server, tmp)
    try:
        command.write_passwd("other:%s\n" % secret)
        log = os.path.join(tmp, "log")
        command(logfile=log, dbglevel="debug")
        pid = command.pid
        harness.write_file(os.path.join(command.mnt, "f"), b"x")
        cmdline = harness.read_file("/proc/%d/cmdline" % pid)
        with open("/proc/%d/limits" % pid) as f:
            assert re.search(r"^Max core file size +0 +0 ", f.read(), re.M)
        command.unmount()
        text = harness.read_file(log)
        assert len(text) > 100, "nothing was logged"
        for data in (text, cmdline):
            assert secret.encode() not in data
            assert not re.search(rb"(?i)signature=|authorization:", data)
        assert stat.S_IMODE(os.stat(log).st_mode) == 0o600
        for top, dirs, files in os.walk(command.state):
            assert stat.S_IMODE(os.stat(top).st_mode) == 0o700, top
            for name in files:
                path = os.path.join(top, name)
                assert stat.S_IMODE(os.lstat(path).st_mode) & 0o077 == 0, path
                assert secret.encode() not in harness.read_file(path)
    finally:
        command.finish()


# ----------------------------------------------------------------------------------------------------- background


@pytest.mark.sanitizer
def test_background(command):
    """The command returns when the mount answers; nothing of the daemon keeps the caller's pipes or directory."""
    done = command()
    assert done.stdout == "" and done.stderr == ""
    assert os.listdir(command.mnt) == []
    pid = command.pid
    harness.write_file(os.path.join(command.mnt, "f"), b"hello")
    command.server.check_object("f", b"hello")
    assert os.readlink("/proc/%d/cwd" % pid) == "/"
    assert os.getsid(pid) == pid
    assert {os.readlink("/proc/%d/fd/%d" % (pid, fd)) for fd in (0, 1, 2)} == {"/dev/null"}
    command.unmount()


def test_no_word_before_the_bucket_has_answered(command):
    command.server.latency(ms=700)
    begin = time.monotonic()
    command()
    assert time.monotonic() - begin >= 0.7
    assert is_mounted(command.mnt)
    command.server.latency(ms=0)
    command.unmount()


def test_interrupted_while_mounting(command):
    """Ctrl-C while the bucket does not answer: the command and its child end, nothing is mounted."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(8)
        line = [OSSMOUNT, BUCKET, command.mnt, "-o", command.options(url="http://127.0.0.1:%d" % s.getsockname()[1])]
        with harness.spawned(line, env=command.env()) as proc:
            wait_until(lambda: process_of(command.state), 20 * slow_factor(), "the child's lock")
            os.killpg(proc.pid, signal.SIGINT)
            proc.wait(10 * slow_factor())
            assert proc.returncode != 0
        command.wait_end(10)
    assert not is_mounted(command.mnt)


@pytest.mark.sanitizer
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("args", [[], ["-s"]])
def test_signal_ends_it(command, sig, args):
    command(*args)
    pid = command.pid
    harness.write_file(os.path.join(command.mnt, "f"), b"hello")
    os.kill(pid, sig)
    wait_until(lambda: not is_mounted(command.mnt), 10 * slow_factor(), "the unmount")
    command.wait_end(10)
    command.server.check_object("f", b"hello")


@pytest.mark.sanitizer
def test_signal_in_the_foreground(mount):
    m = mount()
    m.signal(signal.SIGTERM)
    assert m.wait_exit() == 0
    assert not is_mounted(m.path)


def test_log_rotation(command):
    log = os.path.join(command.directory, "log")
    command(logfile=log, dbglevel="info")
    os.rename(log, log + ".1")
    os.kill(command.pid, signal.SIGHUP)
    wait_until(lambda: os.path.exists(log), 10, "the new log file")
    assert is_mounted(command.mnt)
    command.unmount()
    assert harness.read_file(log) != b""


# ------------------------------------------------------------------------------------------ one mount at a time


def test_mounted_already(command):
    command()
    done = command(check=False)
    assert done.returncode == 1 and "already" in done.stderr
    command.unmount()


def test_second_mount_names_the_first(command):
    """The same bucket at another place: refused after a wait for a daemon that might be draining, with its pid."""
    command()
    other = os.path.join(command.directory, "other")
    os.mkdir(other)
    begin = time.monotonic()
    done = command(mnt=other, check=False)
    assert done.returncode == 1 and "process %d" % command.pid in done.stderr
    assert 9 < time.monotonic() - begin < 20 * slow_factor()
    # Another prefix is another mount.
    command(mnt=other, source=BUCKET + ":/sub")
    assert is_mounted(other)
    run(["fusermount3", "-u", other])
    run(["fusermount3", "-u", command.mnt])
    command.wait_end()


@pytest.mark.sanitizer
def test_dead_mountpoint_is_cleaned_up(command):
    command()
    os.kill(command.pid, signal.SIGKILL)
    command.wait_end()
    assert is_mounted(command.mnt)
    with harness.raises_errno(107):  # ENOTCONN
        os.stat(command.mnt)
    command()
    assert os.listdir(command.mnt) == []
    command.unmount()
    assert not is_mounted(command.mnt), "a mount was left below"


def test_not_empty_mountpoint_warns(command):
    harness.write_file(os.path.join(command.mnt, "hidden"), b"")
    done = command()
    assert "not empty" in done.stderr
    assert os.listdir(command.mnt) == []
    command.unmount()
    assert os.listdir(command.mnt) == ["hidden"]


# ------------------------------------------------------------------------------------------- mount(8) and options


def mount_line(path):
    """(mount options, type, source) of a mountpoint."""
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.rstrip("\n").split(" - ", 1)
            if left.split(" ")[4] == path:
                kind, source, more = right.split(" ", 2)
                return left.split(" ")[5].split(","), kind, source
    return None


def test_mount_options(command):
    command(source=BUCKET + ":/a/b", noatime=True, noexec=True, allow_other=True)
    options, kind, source = mount_line(command.mnt)
    assert kind == "fuse.ossmount" and source == BUCKET + ":/a/b"
    assert {"noatime", "noexec", "nosuid", "nodev", "rw"} <= set(options)
    harness.write_file(os.path.join(command.mnt, "f"), b"x")
    assert list(command.server.files()) == ["a/b/f"]
    command.unmount()


def test_read_only(command):
    command.server.plant("f", b"there")
    command(ro=True)
    assert harness.read_file(os.path.join(command.mnt, "f")) == b"there"
    with harness.raises_errno(30):  # EROFS
        harness.write_file(os.path.join(command.mnt, "g"), b"")
    command.unmount()
    assert list(command.server.files()) == ["f"]


def in_namespace(command, script):
    """
    Runs a shell script where /sbin holds the link that `make install` makes, and only there: in a mount namespace of
    its own. The daemon lives in it too.
    """
    links = os.path.join(command.directory, "links")
    os.mkdir(links)
    os.symlink(OSSMOUNT, os.path.join(links, "mount.fuse.ossmount"))
    sbin = os.path.realpath("/sbin")
    script = 'set -e; mount -t overlay overlay -o "lowerdir=%s:%s" %s; %s' % (links, sbin, sbin, script)
    env = command.env(MNT=command.mnt, OPTIONS=command.options(), BUCKET=BUCKET)
    return run(["unshare", "-m", "--propagation", "slave", "/bin/sh", "-c", script], env=env)


def test_by_mount(command):
    done = in_namespace(
        command,
        """
        mount -t fuse.ossmount "$BUCKET" "$MNT" -o "noatime,$OPTIONS"
        grep "$MNT " /proc/self/mountinfo
        echo hello >"$MNT/f"
        umount "$MNT"
        """,
    )
    assert re.search(r" rw,\S*noatime\S* .*- fuse.ossmount %s " % BUCKET, done.stdout), done.stdout
    command.wait_end()
    command.server.check_object("f", b"hello\n")


def test_by_mount_says_why_not(command):
    command.write_passwd("%s:wrong\n" % KEY_ID)
    done = in_namespace(
        command, 'mount -t fuse.ossmount "$BUCKET" "$MNT" -o "$OPTIONS" && exit 9; ! grep "$MNT " /proc/self/mountinfo'
    )
    assert "SignatureDoesNotMatch" in done.stderr


def test_by_fstab(command):
    fstab = os.path.join(command.directory, "fstab")
    more = "_netdev,nofail,noauto,user,x-systemd.automount,x-systemd.device-timeout=5"
    line = "%s:/data %s fuse.ossmount %s,%s 0 0\n" % (BUCKET, command.mnt, command.options(), more)
    harness.write_file(fstab, line.encode())
    done = in_namespace(
        command,
        'mount --fstab %s "$MNT"; grep "$MNT " /proc/self/mountinfo; echo hello >"$MNT/f"; umount "$MNT"' % fstab,
    )
    assert "- fuse.ossmount %s:/data " % BUCKET in done.stdout
    command.wait_end()
    command.server.check_object("data/f", b"hello\n")


def test_unprivileged_user(command):
    """A user without any right mounts by fusermount3, reads and writes; allow_other needs the administrator."""
    user = 65534
    fuse = os.path.join(command.directory, "fuse")
    os.mknod(fuse, 0o666 | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
    os.chmod(fuse, 0o666)
    binary = os.path.join(command.directory, "ossmount")
    shutil.copy(OSSMOUNT, binary)
    os.makedirs(command.state, mode=0o700)
    for path in (command.directory, command.mnt, command.passwd, command.state):
        os.chown(path, user, user)
    done = run(
        [
            "unshare", "-m", "--propagation", "slave", "/bin/sh", "-c",
            """
            set -e
            mount --bind "$1" /dev/fuse
            [ ! -e /etc/fuse.conf ] || mount --bind /dev/null /etc/fuse.conf
            as="setpriv --reuid=65534 --regid=65534 --clear-groups"
            if $as "$2" "$3" "$4" -o "$5,allow_other"; then exit 9; fi
            $as "$2" "$3" "$4" -o "$5"
            grep "$4 " /proc/self/mountinfo
            $as sh -c 'echo hello >"$0/f"; stat -c %u "$0/f"' "$4"
            $as fusermount3 -u "$4"
            """,
            "sh", fuse, binary, BUCKET, command.mnt, command.options(),
        ],
        env=command.env(),
    )  # fmt: skip
    assert "allow_other" in done.stderr and "user_allow_other" in done.stderr
    assert "- fuse.ossmount %s " % BUCKET in done.stdout and done.stdout.endswith("\n%d\n" % user)
    command.wait_end()
    command.server.check_object("f", b"hello\n")


def test_as_mount_helper(command):
    """The link that `make install` puts beside mount(8)'s other helpers."""
    helper = os.path.join(command.directory, "mount.fuse.ossmount")
    os.symlink(OSSMOUNT, helper)
    line = [BUCKET, command.mnt, "-n", "-s", "-t", "fuse.ossmount", "-o", "rw," + command.options()]
    run([helper, line[0], line[1], "-f", *line[2:]], env=command.env())
    assert not is_mounted(command.mnt), "-f of mount(8) means: do not mount"
    run([helper, *line], env=command.env())
    assert is_mounted(command.mnt)
    command.unmount()
