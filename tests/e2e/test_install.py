"""What a user installs: make install and uninstall, the completion, the unit, mount(8) and fstab, the Debian package."""

import fcntl
import glob
import os
import re
import shutil
import subprocess

import pytest

import harness
import test_headers
from harness import BUCKET, KEY_ID, KEY_SECRET, OSSMOUNT, REGION, run

pytestmark = pytest.mark.bucket


def make(*args):
    """One at a time: tests of this file may run side by side."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    with open(os.path.join(harness.TOP, "build/install.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return run(["make", "--no-print-directory", "-s", "-C", harness.TOP, *args], env=env, timeout=100)


def tree(top):
    """Everything below a directory: {path: content, target of a link, or None for a directory}."""
    found = {}
    for at, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(at, name)
            key = os.path.relpath(path, top)
            if os.path.islink(path):
                found[key] = os.readlink(path)
            else:
                found[key] = None if os.path.isdir(path) else harness.read_file(path)
    return found


@pytest.fixture(scope="module")
def installed():
    """The tree that `make install PREFIX=/usr` makes."""
    top = harness.make_temp("installed")
    make("install", "DESTDIR=" + top, "PREFIX=/usr")
    yield top
    harness.drop_temp(top)


def test_uninstall_leaves_the_tree_as_it_was(tmp):
    others = ("bin/other", "share/man/man1/other.1", "share/bash-completion/completions/other", "lib/systemd/system/other.service")
    for name in ["opt/x/" + x for x in others] + ["sbin/mount.other", "etc/other"]:
        os.makedirs(os.path.dirname(os.path.join(tmp, "root", name)), exist_ok=True)
        harness.write_file(os.path.join(tmp, "root", name), b"not ours")
    before = tree(os.path.join(tmp, "root"))
    where = ["DESTDIR=%s/root" % tmp, "PREFIX=/opt/x"]
    make("install", *where)
    added = {k: v for k, v in tree(os.path.join(tmp, "root")).items() if k not in before and v is not None}
    assert sorted(added) == [
        "opt/x/bin/ossmount",
        "opt/x/lib/systemd/system/ossmount@.service",
        "opt/x/share/bash-completion/completions/ossmount",
        "opt/x/share/doc/ossmount/examples/example.conf",
        "opt/x/share/man/man1/ossmount.1",
        "sbin/mount.fuse.ossmount",
        "sbin/mount.ossmount",
    ]
    assert added["sbin/mount.ossmount"] == added["sbin/mount.fuse.ossmount"] == "/opt/x/bin/ossmount"
    assert b"ExecStart=/opt/x/bin/ossmount " in added["opt/x/lib/systemd/system/ossmount@.service"]
    assert run([os.path.join(tmp, "root/opt/x/bin/ossmount"), "--version"]).stdout.startswith("ossmount ")
    make("uninstall", *where)
    assert tree(os.path.join(tmp, "root")) == before


# --------------------------------------------------------------------------------------------------- man page, unit


def test_man_page(installed):
    """It renders without a word of warning, and knows every option, command and code that the program knows."""
    page = os.path.join(installed, "usr/share/man/man1/ossmount.1")
    done = run(["mandoc", "-Tlint", "-Wwarning", page], check=False)
    assert done.stdout + done.stderr == "" and done.returncode == 0
    env = dict(os.environ, LC_ALL="C.UTF-8", MANWIDTH="100")
    done = run(["man", "--warnings", "-l", page], env=env)
    assert done.stderr == ""
    text = re.sub(r".\x08", "", done.stdout)
    help_text = run([OSSMOUNT, "--help"]).stdout
    options = re.findall(r"^  ([a-z_0-9]+)(?:=\S*)?(?:  |$)", help_text.split("behind -o:")[1], re.M)
    assert len(options) > 50
    for name in options:
        assert re.search(r"^ +%s(=| |$)" % name, text, re.M), name
    for name in re.findall(r"^  ossmount ([a-z]+)  ", help_text, re.M):
        assert re.search(r"ossmount +%s " % name, text), name  # lines are filled up with blanks
    assert "NoSuchUpload (ENOENT)" in text and "--server-side-encryption-key-id" in text


def test_mapping_of_flags_is_proven():
    """The table of the man page has the rows of test_headers.py, and those that its other tests prove."""
    by_other_tests = {"--forbid-overwrite", "(traffic limit)", "(callback)", "(callback variables)"}
    told = run([os.path.join(harness.TOP, "build/dist/generate"), "flags"]).stdout.splitlines()
    proven = [flag for row in test_headers.FLAGS for flag in row[0].split(", ")]
    assert set(told) - by_other_tests == set(proven) and len(told) == len(set(told))


def test_unit(installed, tmp):
    unit = os.path.join(installed, "usr/lib/systemd/system/ossmount@.service")
    text = harness.read_file(unit).decode()
    # The program has to be there for it to be judged.
    copy = os.path.join(tmp, "ossmount@.service")
    harness.write_file(copy, text.replace("/usr/bin/ossmount", OSSMOUNT).encode())
    done = run(["systemd-analyze", "verify", "--man=no", os.path.join(tmp, "ossmount@photos.service")], check=False)
    assert done.returncode == 0 and "ossmount" not in done.stdout + done.stderr, done.stderr
    harness.write_file(copy, text.replace("/usr/bin/ossmount", "/nowhere/ossmount").encode())
    done = run(["systemd-analyze", "verify", "--man=no", os.path.join(tmp, "ossmount@photos.service")], check=False)
    assert "/nowhere/ossmount is not executable" in done.stdout + done.stderr, "it judges nothing"


# ------------------------------------------------------------------------------------------------------- completion

COMPLETE = r"""
source "$1"
[ "$(complete -p ossmount)" = 'complete -F _ossmount ossmount' ] || exit 9
COMP_LINE=$2 COMP_POINT=${#2}
# The words as readline cuts them, when they are only looked at by their number.
read -r -a COMP_WORDS <<<"$COMP_LINE"
[[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMP_WORDBREAKS=$' \t\n"'"'><=;|&(:"
_ossmount ossmount "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


def complete(installed, line, cwd="/"):
    script = os.path.join(installed, "usr/share/bash-completion/completions/ossmount")
    done = run(["bash", "--norc", "-c", COMPLETE, "bash", script, line], cwd=cwd)
    assert done.stderr == "", done.stderr
    return sorted(done.stdout.split("\n")[:-1])


def test_completion(installed, tmp):
    os.mkdir(os.path.join(tmp, "mnt"))
    harness.write_file(os.path.join(tmp, "rules"), b"")
    for line, expected in (
        ("ossmount sta", ["status"]),
        ("ossmount u", ["umount", "uploads", "url"]),
        ("ossmount status --j", ["--json"]),
        ("ossmount uploads b --abort", ["--abort", "--abort-older-than"]),
        ("ossmount uploads b --abort ", [""]),
        ("ossmount photos m", ["mnt"]),
        ("ossmount photos mnt --v", ["--version"]),
        ("ossmount photos mnt -o cache_s", ["cache_size="]),
        ("ossmount photos mnt -ocache_s", ["-ocache_size="]),
        ("ossmount photos mnt -o ro,multipart_", ["ro,multipart_size=", "ro,multipart_threshold="]),
        # Only what is behind the last '=' or ':' is replaced by readline.
        ("ossmount photos mnt -o upload=", ["background", "close"]),
        ("ossmount photos mnt -o url=https://h,keep_acl=y", ["yes"]),
        ("ossmount photos mnt -o url=https://h,allow_", ["https://h,allow_other"[6:]]),
        ("ossmount photos mnt -o headers=r", ["rules"]),
        ("ossmount check b -o regi", ["region="]),
        ("ossmount recover b s", ["save", "send", "show"]),
    ):
        assert complete(installed, line, tmp) == expected, line


def test_completion_knows_all_flags(installed):
    """What each command's --help says, and no more."""
    for command in complete(installed, "ossmount "):
        text = run([OSSMOUNT, command, "--help"]).stdout
        flags = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.M)) | {"--help"}
        assert set(complete(installed, "ossmount %s --" % command)) == flags, command


def test_completion_of_a_mountpoint(installed, mount):
    m = mount()
    assert complete(installed, "ossmount umount " + m.path[:-1]) == [m.path]


# ------------------------------------------------------------------------------------------------- a clean root

# A root of its own above the host's: what is written goes into the directory upper, and everything ends with the
# namespace. The host's other mounts leave it at once: those of tests that run at the same time must be able to end.
CLEAN_ROOT = """
set -e
mount -t tmpfs tmpfs "$TOP"
mkdir "$TOP/upper" "$TOP/work" "$TOP/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$TOP/upper,workdir=$TOP/work" "$TOP/root"
for d in dev proc sys; do mount --rbind /$d "$TOP/root/$d"; done
cd "$TOP/root"
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir tmp/in tmp/top tmp/lower
mount --bind "$IN" tmp/in
mount --bind "$TOP" tmp/top
mount --bind / tmp/lower
pivot_root . .
umount -l .
cd /
# A small image may keep dpkg from unpacking documents.
rm -f /etc/dpkg/dpkg.cfg.d/*
/bin/bash -euc "$1"
cd /tmp/top/upper
{ find . -not -type d; find . -type d | while read -r d; do [ -d "/tmp/lower/$d" ] || echo "$d"; done; } |
    grep -vE '^\\./(etc/dpkg|var/lib/dpkg|var/log|var/cache/man|run|tmp|dev|proc|sys|root)(/|$)' || true
"""


def clean_root(tmp, script, **env):
    """Runs `script` in it; (what the script said, what it left outside of dpkg's own files)."""
    top = os.path.join(tmp, "clean")
    os.mkdir(top)
    env = dict(os.environ, TOP=top, IN=os.path.join(tmp, "in"), LC_ALL="C.UTF-8", HOME="/root", **env)
    line = ["unshare", "-m", "--propagation", "slave", "/bin/bash", "-c", CLEAN_ROOT, "bash", script + "\necho '=== left'"]
    done = run(line, env=env, timeout=120)
    said, left = done.stdout.split("=== left\n")
    return said + done.stderr, left.split()


@pytest.fixture
def inside(tmp, server):
    """What the clean root finds in /tmp/in: the key and the options of a mount."""
    where = os.path.join(tmp, "in")
    os.mkdir(where)
    harness.write_file(os.path.join(where, "passwd"), ("%s:%s\n" % (KEY_ID, KEY_SECRET)).encode())
    os.chmod(os.path.join(where, "passwd"), 0o600)
    harness.write_file(os.path.join(where, "data"), harness.blob(100000, 1))
    return {
        "OPTIONS": "url=%s,region=%s,passwd_file=/tmp/in/passwd" % (server.url, REGION),
        "BUCKET": BUCKET,
    }


def test_by_mount_and_fstab(tmp, server, inside, installed):
    """mount -t ossmount and fuse.ossmount, fstab with systemd's words, mount -a twice, umount."""
    shutil.copytree(installed, os.path.join(tmp, "in/tree"), symlinks=True)
    more = "_netdev,nofail,noauto,user,x-systemd.automount,x-systemd.device-timeout=5,x-systemd.requires=network-online.target"
    script = r"""
        cp -a /tmp/in/tree/usr/. /usr/
        cp -a /tmp/in/tree/sbin/. /sbin/
        mkdir /mnt/a /mnt/b /mnt/c
        mount -t ossmount "$BUCKET:/a" /mnt/a -o "noatime,$OPTIONS"
        mount -t fuse.ossmount "$BUCKET:/b" /mnt/b -o "lazytime,nodiratime,$OPTIONS"
        echo "$BUCKET:/c /mnt/c ossmount $OPTIONS,MORE 0 0" >/etc/fstab
        mount /mnt/c
        mount -o remount,ro /mnt/c && exit 7
        echo "$BUCKET:/c /mnt/c ossmount $OPTIONS,_netdev,nofail 0 0" >/etc/fstab
        mount -a
        mount -a
        for x in a b c; do
            cp /tmp/in/data /mnt/$x/data
            [ "$(grep -c " /mnt/$x fuse.ossmount " /proc/mounts)" = 1 ] || exit 8
        done
        grep " /mnt/" /proc/mounts
        umount /mnt/a
        umount -a -t fuse.ossmount
        grep " /mnt/" /proc/mounts && exit 9
        for lock in /var/lib/ossmount/*/lock; do
            for _ in $(seq 600); do kill -0 "$(cat $lock)" 2>/dev/null && sleep 0.05 || break; done
        done
        """.replace("MORE", more)
    said, _ = clean_root(tmp, script, **inside)
    assert re.search(r"^%s:/a /mnt/a fuse.ossmount rw,\S*noatime" % BUCKET, said, re.M), said
    assert "a mount cannot be changed by remount: unmount it, and mount again" in said
    for x in "abc":
        server.check_object(x + "/data", harness.blob(100000, 1))


@pytest.fixture(scope="module")
def package():
    make("deb")
    (path,) = glob.glob(os.path.join(harness.TOP, "build/deb/ossmount_*.deb"))
    return path


def test_package(tmp, server, inside, package):
    """Installed, used, removed and purged in a clean root: nothing is left, and what is the administrator's stays till then."""
    shutil.copy(package, os.path.join(tmp, "in/ossmount.deb"))
    script = r"""
        dpkg --no-triggers -i /tmp/in/ossmount.deb
        dpkg -V ossmount
        dpkg -L ossmount | while read -r f; do [ -e "$f" ] || { echo "missing $f"; exit 5; }; done
        echo "# mine" >>/etc/ossmount/example.conf
        mkdir /tmp/mnt
        ossmount --version
        mount -t ossmount "$BUCKET" /tmp/mnt -o "$OPTIONS"
        cp /tmp/in/data /tmp/mnt/data
        cmp /tmp/in/data /tmp/mnt/data
        ossmount status /tmp/mnt
        ossmount umount /tmp/mnt
        dpkg --no-triggers -r ossmount
        [ -e /etc/ossmount/example.conf ]
        [ ! -e /usr/bin/ossmount ]
        [ -d /var/lib/ossmount ]
        dpkg --no-triggers -P ossmount
        """
    said, left = clean_root(tmp, script, **inside)
    assert "missing" not in said and "%s on /tmp/mnt" % BUCKET in said, said
    assert left == [], said
    server.check_object("data", harness.blob(100000, 1))


def test_purge_keeps_what_was_never_sent(tmp, server, inside, package):
    shutil.copy(package, os.path.join(tmp, "in/ossmount.deb"))
    script = r"""
        dpkg --no-triggers -i /tmp/in/ossmount.deb
        mkdir /tmp/mnt
        ossmount "$BUCKET" /tmp/mnt -f -o "$OPTIONS,upload=background,upload_delay=3600" 2>/tmp/log &
        until grep -q ' /tmp/mnt fuse.ossmount ' /proc/mounts; do sleep 0.05; done
        cp /tmp/in/data /tmp/mnt/unsent
        kill -9 $!
        umount -l /tmp/mnt
        dpkg --no-triggers -P ossmount
        """
    said, left = clean_root(tmp, script, **inside)
    assert "is kept: it has files that may not have been sent" in said
    assert any(re.match(r"\./var/lib/ossmount/.*/data/", x) for x in left), left
    assert not any("var/lib/ossmount" not in x for x in left), left
    assert server.object("unsent") is None


def test_package_is_well_formed(package, tmp):
    """Its sums are those of its files, owners are root, and each file of /etc is the administrator's to change."""
    top = os.path.join(tmp, "x")
    run(["dpkg-deb", "-R", package, top])
    run(["md5sum", "--check", "--strict", "--quiet", "DEBIAN/md5sums"], cwd=top)
    summed = {line.split("  ")[1] for line in harness.read_file(top + "/DEBIAN/md5sums").decode().splitlines()}
    files = {k for k, v in tree(top).items() if isinstance(v, bytes) and not k.startswith("DEBIAN/")}
    conffiles = set(harness.read_file(top + "/DEBIAN/conffiles").decode().split())
    assert conffiles == {"/" + f for f in files if f.startswith("etc/")} == {"/etc/ossmount/example.conf"}
    assert summed == {f for f in files if not f.startswith("etc/")}
    control = harness.read_file(top + "/DEBIAN/control").decode()
    assert re.search(r"^Depends: libc6 .*libcurl4.*libfuse3.*, fuse3$", control, re.M), control
    listing = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    assert all(" root/root " in line for line in listing.splitlines())
