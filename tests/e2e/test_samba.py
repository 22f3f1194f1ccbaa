"""
A share of Samba over the mount: Debian's smbd and smbclient, on a loopback port of the test's own.

What a client did is looked at in the bucket, byte for byte. smbclient can neither append nor write in place (its reput
writes at offset 0), so open files are worked on through libsmbclient, which it is built on.
"""

import contextlib
import os
import pwd
import random
import re
import shutil
import socket

import pytest

from harness import GUARD, GUARD_SECONDS, blob, python, read_file, run, slow_factor, spawned, wait_until, write_file

SMBD = shutil.which("smbd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")
MIB = 1 << 20

pytestmark = [
    pytest.mark.bucket,
    pytest.mark.skipif(not SMBD or not shutil.which("smbclient"), reason="Samba's smbd or smbclient is missing"),
]

# Guests act as who runs the test, the only one that the mount lets in. Nothing outside the directory is touched.
SMB_CONF = """
[global]
    interfaces = 127.0.0.1
    bind interfaces only = yes
    smb ports = {port}
    server role = standalone server
    disable netbios = yes
    disable spoolss = yes
    load printers = no
    printing = bsd
    printcap name = /dev/null
    map to guest = bad user
    guest account = {user}
    private dir = {top}
    lock directory = {top}
    state directory = {top}
    cache directory = {top}
    pid directory = {top}
    ncalrpc dir = {top}/rpc
    rpc start on demand helpers = no
    log file = {top}/log
    log level = 1

[share]
    path = {path}
    guest ok = yes
    read only = no
"""


def free_port():
    """A port that nobody has; below those that the kernel gives to others while smbd starts."""
    for _ in range(100):
        port = random.SystemRandom().randrange(15000, 32000)
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


class Share:
    """An smbd of its own that exports one directory."""

    def __init__(self, top, path):
        self.top, self.path = top, path
        self.conf = os.path.join(top, ".smb", "smb.conf")
        self.port = 0

    @contextlib.contextmanager
    def running(self):
        self.port = free_port()
        user = pwd.getpwuid(os.geteuid()).pw_name
        text = SMB_CONF.format(port=self.port, top=self.top, path=self.path, user=user)
        os.mkdir(os.path.dirname(self.conf))
        write_file(self.conf, text.encode())
        command = [GUARD, str(GUARD_SECONDS), SMBD, "-F", "--no-process-group", "-s", self.conf]
        with open(os.path.join(self.top, "stderr"), "ab") as err:
            # Its children stay in the group, which ends with the block.
            with spawned(command, stdout=err, stderr=err) as proc:
                wait_until(lambda: proc.poll() is not None or self.answers(), 20 * slow_factor(), "smbd answers")
                assert proc.poll() is None, self.log()
                yield self

    def answers(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def log(self):
        return "\n".join(
            read_file(os.path.join(self.top, name)).decode("utf-8", "replace")[-3000:]
            for name in ("stderr", "log")
            if os.path.exists(os.path.join(self.top, name))
        )

    def client(self, *commands, check=True):
        """One session of smbclient; a command that the server refuses fails it."""
        args = ["smbclient", "//127.0.0.1/share", "-p", str(self.port), "-s", self.conf, "-N", "-c"]
        done = run(args + ["; ".join(commands)], check=False, timeout=60, env=dict(os.environ, TZ="UTC"))
        text = done.stdout + done.stderr
        if check and (done.returncode or "NT_STATUS" in text):
            raise AssertionError("%r: exit %d: %s\n---- smbd:\n%s" % (commands, done.returncode, text, self.log()))
        return text

    def open_files(self, code, check=True):
        """A program that works on open files through libsmbclient (LIBRARY)."""
        url = "smb://127.0.0.1:%d/share/" % self.port
        env = dict(os.environ, HOME=self.top)  # where the library looks for its configuration
        return python(LIBRARY + code, url, check=check, timeout=60, env=env)


LIBRARY = """
import ctypes, os, signal, sys
lib = ctypes.CDLL("libsmbclient.so.0", use_errno=True)
text, number, size = ctypes.c_char_p, ctypes.c_int, ctypes.c_ssize_t
for name, kinds in {"open": (text, number, ctypes.c_uint), "write": (number, text, size), "close": (number,),
                    "lseek": (number, ctypes.c_int64, number), "ftruncate": (number, ctypes.c_int64)}.items():
    getattr(lib, "smbc_" + name).argtypes = kinds
lib.smbc_write.restype, lib.smbc_lseek.restype = size, ctypes.c_int64
nobody = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 8)(lambda *a: None)
assert lib.smbc_init(nobody, 0) == 0

def call(name, *args):
    got = getattr(lib, "smbc_" + name)(*args)
    if got < 0:
        raise OSError(ctypes.get_errno(), name)
    return got

def opened(name, flags=os.O_RDWR):
    return call("open", (sys.argv[1] + name).encode(), flags, 0o644)

def write(fd, data, offset, whence=os.SEEK_SET):
    call("lseek", fd, offset, whence)
    assert call("write", fd, data, len(data)) == len(data)
"""


@pytest.fixture
def share(tmp, mount_factory):
    """share(mount) -> the Share, running. Its processes end before the mount does."""
    with contextlib.ExitStack() as stack:

        def start(m):
            top = os.path.join(tmp, "smb")
            os.mkdir(top, 0o755)
            return stack.enter_context(Share(top, m.path).running())

        yield start


def sources(tmp, **files):
    """Local files to be put: {name: path}."""
    out = {}
    for name, data in files.items():
        out[name] = os.path.join(tmp, name)
        write_file(out[name], data)
    return out


def check_requests(server, copies=1, **wanted):
    """Since the reset exactly these, and at most so many copies: attributes that Samba sets cost one now and then."""
    counted = server.counters()
    assert counted.pop("CopyObject", 0) <= copies and counted == wanted, counted


def test_files_and_directories(server, mount, share, tmp):
    m = mount(stat_cache_expire=600)
    smb = share(m)
    one, two, three = blob(70000, 1), blob(300, 2), blob(5000, 3)
    src = sources(tmp, one=one, two=two, three=three)
    back = os.path.join(tmp, "back")

    server.reset()
    smb.client("put %(one)s f" % src)
    server.check_object("f", one)
    check_requests(server, PutObject=1)
    smb.client("get f " + back)
    assert read_file(back) == one
    check_requests(server, PutObject=1)

    # Overwritten by a shorter file; nothing of the longer one stays.
    server.reset()
    smb.client("put %(two)s f" % src)
    server.check_object("f", two)
    check_requests(server, PutObject=1)

    smb.client("mkdir d", "put %(three)s d\\g" % src, "rename f d\\f")
    server.check_object("d/f", two)
    server.check_object("d/g", three)
    assert sorted(server.objects()) == ["d/", "d/f", "d/g"]

    # A name that is taken is replaced only on demand, and in one step.
    assert "OBJECT_NAME_COLLISION" in smb.client("rename d\\g d\\f", check=False)
    server.check_object("d/f", two)
    server.reset()
    smb.client("rename d\\g d\\f -f")
    server.check_object("d/f", three)
    assert sorted(server.objects()) == ["d/", "d/f"]
    # One copy is the rename; the archive bit, which Samba sets on what it has renamed, may cost one before and after.
    check_requests(server, copies=3, DeleteObject=1)

    # A copy within the share and a whole directory under another name.
    smb.client("scopy d\\f copy", "rename d e", "put %(one)s e\\h" % src)
    server.check_object("copy", three)
    server.check_object("e/f", three)
    server.check_object("e/h", one)
    assert sorted(server.objects()) == ["copy", "e/", "e/f", "e/h"]
    listed = smb.client("ls e\\*")
    assert re.search(r"^  f +\S* +5000 ", listed, re.M) and re.search(r"^  h +\S* +70000 ", listed, re.M), listed

    assert "DIRECTORY_NOT_EMPTY" in smb.client("rmdir e", check=False)
    smb.client("del copy", "del e\\f", "del e\\h", "rmdir e")
    assert server.objects() == {}
    assert server.uploads() == []


def test_large_files_are_streamed(server, mount, share, tmp):
    data, planted = blob(5 * MIB + 12345, 1), blob(3 * MIB, 2)
    server.plant("planted", planted)
    m = mount(multipart_threshold=1, multipart_size=1, stat_cache_expire=600)
    smb = share(m)
    src = sources(tmp, data=data)
    back = os.path.join(tmp, "back")
    server.reset()
    smb.client("put %(data)s big" % src)
    server.check_object("big", data)
    # Attributes that Samba sets after the upload has begun are one copy. Writes that came in another order may have
    # a part sent again.
    parts = server.counters()["UploadPart"]
    assert 6 <= parts <= 9
    check_requests(server, InitiateMultipartUpload=1, UploadPart=parts, CompleteMultipartUpload=1)
    # What nobody here has cached comes from the bucket.
    smb.client("get planted " + back)
    assert read_file(back) == planted
    assert server.uploads() == []


def test_open_files(server, mount, share):
    """Written in place, truncated, appended to; and what a client that dies has written is sent when smbd lets go."""
    want = bytearray(blob(100000, 1))
    server.plant("f", bytes(want))
    m = mount(stat_cache_expire=600)
    smb = share(m)
    smb.open_files(
        """
fd = opened("f")
write(fd, b"in place", 40000)
write(fd, b"beyond", 120000)
call("ftruncate", fd, 120003)
call("close", fd)
"""
    )
    want[40000:40008] = b"in place"
    want += bytes(20000) + b"bey"
    server.check_object("f", bytes(want))

    server.reset()
    smb.open_files(
        """
for i in range(3):
    fd = opened("f")
    write(fd, b"line %d" % i, 0, os.SEEK_END)
    call("close", fd)
"""
    )
    want += b"line 0line 1line 2"
    server.check_object("f", bytes(want))
    check_requests(server, copies=3, PutObject=3)

    done = smb.open_files(
        """
fd = opened("left", os.O_RDWR | os.O_CREAT)
write(fd, b"x" * 70000, 0)
os.kill(os.getpid(), signal.SIGKILL)
""",
        check=False,
    )
    assert done.returncode < 0, done.stderr
    wait_until(lambda: server.object("left") == b"x" * 70000, 30 * slow_factor(), "the file of a dead client is sent")
    server.check_object("left", b"x" * 70000)


ODD = ["two  blanks", "ümläut 名前", ".hidden", "100%+&=~#", "o'clock [1] {2}", "x" * 200]


def test_names_and_attributes(server, mount, share, tmp):
    m = mount(stat_cache_expire=600)
    smb = share(m)
    data = blob(1000, 1)
    src = sources(tmp, data=data)
    back = os.path.join(tmp, "back")
    smb.client(*['put %s "%s"' % (src["data"], name) for name in ODD])
    assert sorted(server.objects()) == sorted(ODD)
    for name in ODD:
        server.check_object(name, data)
    listed = smb.client("ls")
    assert all("  %s " % name in listed for name in ODD), listed
    # As Windows has it, the case of a name does not matter.
    smb.client('get "TWO  BLANKS" ' + back)
    assert read_file(back) == data

    smb.client("setmode 100%+&=~# +rs", "utimes 100%+&=~# -1 -1 2020:01:02-03:04:05 -1")
    name = ODD[3]
    server.reset()

    def stored():
        headers = server.headers(name)
        return headers.get("x-oss-meta-mtime", "").startswith("1577934245") and "x-oss-meta-xattr" in headers

    wait_until(stored, 20 * slow_factor(), "the attributes are in the bucket: %r" % server.headers(name))
    assert os.stat(m.p(name)).st_mtime == 1577934245
    assert os.getxattr(m.p(name), "user.DOSATTRIB")
    shown = smb.client("allinfo " + name)
    assert re.search(r"^attributes: \w*S\w*R|^attributes: \w*R\w*S", shown, re.M), shown
    server.check_object(name, data)


def test_a_close_that_fails_is_told(server, mount, share, tmp):
    m = mount(stat_cache_expire=600)
    smb = share(m)
    m.allow("AccessDenied", "of .* failed", "is unsent", "access key may not write")
    old, new = blob(3000, 1), blob(4000, 2)
    src = sources(tmp, old=old, new=new)
    smb.client("put %(old)s f" % src)
    server.fault("status", op="PutObject", count=-1, status=403, code="AccessDenied")
    assert "NT_STATUS_ACCESS_DENIED" in smb.client("put %(new)s f" % src, check=False)
    server.check_object("f", old)
    server.clear_faults()
    smb.client("put %(new)s f" % src)
    server.check_object("f", new)
