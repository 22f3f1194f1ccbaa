"""Programs that people use, run unchanged on the mount; each checked by its own means and after a remount."""

import os
import shutil
import sqlite3
import stat
import sys

import pytest

from harness import blob, read_file, run, tree_of, write_file

pytestmark = pytest.mark.timeout(240)


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            pytest.fail("the program %s is missing: make deps" % p)


def git(*args, cwd=None, **kw):
    env = dict(
        os.environ,
        GIT_CONFIG_NOSYSTEM="1",
        GIT_CONFIG_GLOBAL="/dev/null",
        GIT_AUTHOR_NAME="A",
        GIT_AUTHOR_EMAIL="a@example.com",
        GIT_COMMITTER_NAME="A",
        GIT_COMMITTER_EMAIL="a@example.com",
    )
    # The mountpoint's owner is who runs the test, but a container may see it otherwise.
    return run(["git", "-c", "safe.directory=*", *args], cwd=cwd, env=env, timeout=120, **kw)


def test_git(fs):
    need("git")
    repo = fs.p("repo")
    git("init", "-q", "-b", "main", repo)
    for i in range(60):
        os.makedirs(fs.p("repo", "d%d" % (i % 6)), exist_ok=True)
        write_file(fs.p("repo", "d%d" % (i % 6), "file %d" % i), blob(200 + i * 37, i))
    write_file(fs.p("repo", "run.sh"), b"#!/bin/sh\necho ran\n")
    os.chmod(fs.p("repo", "run.sh"), 0o755)
    os.symlink("run.sh", fs.p("repo", "link"))
    git("add", "-A", cwd=repo)
    git("commit", "-q", "-m", "one", cwd=repo)
    assert git("status", "--porcelain", cwd=repo).stdout == ""
    write_file(fs.p("repo", "d0", "file 0"), b"changed\n")
    os.unlink(fs.p("repo", "d1", "file 1"))
    git("mv", "d2/file 2", "moved", cwd=repo)
    git("commit", "-q", "-a", "-m", "two", cwd=repo)
    git("checkout", "-q", "-b", "side", "HEAD~1", cwd=repo)
    write_file(fs.p("repo", "side"), b"side\n")
    git("add", "side", cwd=repo)
    git("commit", "-q", "-m", "three", cwd=repo)
    git("merge", "-q", "-m", "merged", "main", cwd=repo)
    git("gc", "-q", cwd=repo)
    fs.forget()
    git("fsck", "--full", "--strict", cwd=repo)
    assert git("status", "--porcelain", cwd=repo).stdout == ""
    assert git("log", "--oneline", cwd=repo).stdout.count("\n") == 4
    git("clone", "-q", "--no-local", repo, fs.p("clone"))
    git("fsck", "--full", cwd=fs.p("clone"))
    want, have = tree_of(repo), tree_of(fs.p("clone"))
    strip = lambda t: {k: (v[0], v[1] & 0o100, v[3]) for k, v in t.items() if not k.startswith(b".git")}
    assert strip(want) == strip(have)
    assert run([fs.p("clone", "run.sh")]).stdout == "ran\n"


def test_git_clone_into_and_push(fs, tmp):
    """A repository from outside is cloned into the mount, changed there, and pushed to a bare one on the mount."""
    need("git")
    outside = os.path.join(tmp, "outside")
    git("init", "-q", "-b", "main", outside)
    for i in range(30):
        write_file(os.path.join(outside, "f%d" % i), blob(3000, i))
    git("add", "-A", cwd=outside)
    git("commit", "-q", "-m", "one", cwd=outside)
    git("init", "-q", "--bare", "-b", "main", fs.p("bare.git"))
    git("clone", "-q", outside, fs.p("work"))
    write_file(fs.p("work", "f0"), b"changed")
    git("commit", "-q", "-a", "-m", "two", cwd=fs.p("work"))
    git("push", "-q", fs.p("bare.git"), "main", cwd=fs.p("work"))
    git("pull", "-q", fs.p("bare.git"), "main", cwd=outside)
    assert read_file(os.path.join(outside, "f0")) == b"changed"
    fs.forget()
    git("fsck", "--full", cwd=fs.p("bare.git"))


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist"])
def test_sqlite(fs, mode):
    path = fs.p("data.db")
    db = sqlite3.connect(path, isolation_level=None)
    assert db.execute("pragma journal_mode=%s" % mode).fetchone() == (mode,)
    db.execute("create table t (id integer primary key, text text)")
    db.execute("create index by_text on t (text)")
    db.execute("begin")
    db.executemany("insert into t (text) values (?)", (("row %d" % i,) for i in range(2000)))
    db.execute("commit")
    db.execute("begin")
    db.execute("delete from t where id % 2")
    db.execute("rollback")
    for i in range(10):
        db.execute("update t set text = ? where id = ?", ("changed %d" % i, i + 1))
    db.execute("vacuum")
    db.close()
    fs.forget()
    db = sqlite3.connect(path)
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert db.execute("select count(*), sum(id) from t").fetchone() == (2000, 2001000)
    assert db.execute("select text from t where id = 3").fetchone() == ("changed 2",)
    db.close()
    if mode == "delete":
        assert os.listdir(fs.path) == ["data.db"]


def test_sqlite_program(fs):
    """The command-line program, in two processes that take turns."""
    need("sqlite3")
    run(["sqlite3", fs.p("db"), "create table t (a); insert into t values (1),(2),(3);"])
    for i in range(5):
        run(["sqlite3", fs.p("db"), "insert into t select a + 10 from t;"])
    fs.forget()
    out = run(["sqlite3", fs.p("db"), "pragma integrity_check; select count(*) from t;"]).stdout
    assert out.split() == ["ok", "96"]


def test_tar(fs, tmp):
    source = os.path.join(tmp, "source")
    for i in range(20):
        os.makedirs(os.path.join(source, "d%d" % i, "sub"))
        for j in range(10):
            path = os.path.join(source, "d%d" % i, "sub", "f%d" % j)
            write_file(path, blob(i * j * 50, (i, j)))
            os.chmod(path, (0o644, 0o755, 0o400)[j % 3])
            os.utime(path, ns=(10**18, 10**18 + i * 10**9))
        os.symlink("sub/f0", os.path.join(source, "d%d" % i, "relative"))
        os.symlink("../../outside", os.path.join(source, "d%d" % i, "upward"))
        os.symlink("/etc/passwd", os.path.join(source, "d%d" % i, "absolute"))
    archive = os.path.join(tmp, "a.tar")
    run(["tar", "-C", source, "--format=posix", "-cf", archive, "."])
    os.mkdir(fs.p("x"))
    run(["tar", "-C", fs.p("x"), "-xpf", archive])
    fs.forget()
    assert tree_of(source) == tree_of(fs.p("x"))
    # And an archive made from the mount on the mount, compared member by member.
    run(["tar", "-C", fs.p("x"), "--format=posix", "-czf", fs.p("b.tar.gz"), "."])
    fs.forget()
    run(["tar", "-C", source, "--compare", "-zf", fs.p("b.tar.gz")])


def test_sed_in_place(fs):
    write_file(fs.p("f"), b"".join(b"line %d\n" % i for i in range(2000)))
    os.chmod(fs.p("f"), 0o640)
    run(["sed", "-i", "s/line/LINE/", fs.p("f")])
    run(["sed", "-i.bak", "-e", "1d", fs.p("f")])
    fs.forget()
    assert sorted(os.listdir(fs.path)) == ["f", "f.bak"]
    assert read_file(fs.p("f")) == b"".join(b"LINE %d\n" % i for i in range(1, 2000))
    assert read_file(fs.p("f.bak")).startswith(b"LINE 0\n")
    assert stat.S_IMODE(os.stat(fs.p("f")).st_mode) == 0o640


@pytest.mark.parametrize("backup", ["yes", "no", "auto"])
def test_vim(fs, backup):
    """Writes through a swap file, with each of its ways to replace a file."""
    vim = shutil.which("vim") or shutil.which("vim.tiny") or shutil.which("vi")
    if not vim:
        pytest.fail("no vi: make deps")
    write_file(fs.p("text"), b"one\ntwo\n")
    os.chmod(fs.p("text"), 0o604)
    command = ["-u", "NONE", "-es", "-c", "set backupcopy=%s" % backup, "-c", "%s/two/three/", "-c", "wq", fs.p("text")]
    run([vim, *command])
    fs.forget()
    assert read_file(fs.p("text")) == b"one\nthree\n"
    assert stat.S_IMODE(os.stat(fs.p("text")).st_mode) == 0o604
    assert os.listdir(fs.path) == ["text"]


def test_compile_and_link(fs):
    need("gcc", "ar", "make")
    write_file(fs.p("answer.c"), b"int answer(void) { return 42; }\n")
    write_file(
        fs.p("main.c"),
        b'#include <stdio.h>\nint answer(void);\nint main(void) { printf("%d\\n", answer()); return 0; }\n',
    )
    write_file(
        fs.p("Makefile"),
        b"program: main.o libanswer.a\n\tgcc -o $@ main.o -L. -lanswer\n"
        b"libanswer.a: answer.o\n\tar rcs $@ $^\n%.o: %.c\n\tgcc -g -c -o $@ $<\n",
    )
    run(["make", "-C", fs.path], timeout=120)
    assert run([fs.p("program")]).stdout == "42\n"
    fs.forget()
    assert run([fs.p("program")]).stdout == "42\n"
    # The times of what is there have not moved: nothing is to be done.
    assert "up to date" in run(["make", "-C", fs.path]).stdout
    write_file(fs.p("answer.c"), b"int answer(void) { return 43; }\n")
    run(["make", "-C", fs.path], timeout=120)
    assert run([fs.p("program")]).stdout == "43\n"
    run(["strip", fs.p("program")])
    assert run([fs.p("program")]).stdout == "43\n"


def test_shell_appends(fs):
    run(["sh", "-c", 'for i in 1 2 3 4 5; do echo "line $i" >> log; done; echo end | tee -a log'], cwd=fs.path)
    write_file(fs.p("more"), b"more\n")
    run(["dd", "if=" + fs.p("more"), "of=" + fs.p("log"), "oflag=append", "conv=notrunc"])
    run(["sh", "-c", "cat more >> log"], cwd=fs.path)
    expected = b"line 1\nline 2\nline 3\nline 4\nline 5\nend\nmore\nmore\n"
    assert read_file(fs.p("log")) == expected
    fs.forget()
    assert read_file(fs.p("log")) == expected


def test_shell_redirections(fs):
    """Both descriptors on one file, a here-document, noclobber, a pipe."""
    run(["sh", "-c", "{ echo out; echo err >&2; } > both 2>&1; cat <<E > here\nhere\nE\nset -C; echo x > new"], cwd=fs.path)
    assert run(["sh", "-c", "set -C; echo y > new"], cwd=fs.path, check=False).returncode != 0
    run(["sh", "-c", "seq 1 5000 | sort -n | gzip > z.gz; : > empty"], cwd=fs.path)
    fs.forget()
    assert read_file(fs.p("both")) == b"out\nerr\n"
    assert read_file(fs.p("here")) == b"here\n"
    assert read_file(fs.p("new")) == b"x\n"
    assert read_file(fs.p("empty")) == b""
    assert run(["sh", "-c", "gzip -dc z.gz | tail -1"], cwd=fs.path).stdout == "5000\n"


def test_dd(fs, tmp):
    data = blob(5 * 1048576 + 12345)
    source = os.path.join(tmp, "source")
    write_file(source, data)
    run(["dd", "if=" + source, "of=" + fs.p("f"), "bs=64K"])
    run(["dd", "if=" + source, "of=" + fs.p("g"), "bs=1M", "conv=fsync"])
    run(["dd", "if=/dev/zero", "of=" + fs.p("f"), "bs=4K", "count=3", "seek=100", "conv=notrunc"])
    run(["truncate", "-s", "+1000", fs.p("g")])
    fs.forget()
    changed = bytearray(data)
    changed[100 * 4096 : 103 * 4096] = bytes(3 * 4096)
    assert read_file(fs.p("f")) == changed
    assert read_file(fs.p("g")) == data + bytes(1000)
    run(["dd", "if=" + fs.p("f"), "of=" + source, "bs=77777", "iflag=fullblock"])
    assert read_file(source) == changed


def test_patch(fs):
    need("patch")
    write_file(fs.p("a.txt"), b"".join(b"%d\n" % i for i in range(100)))
    diff = b"--- a.txt\n+++ a.txt\n@@ -49,3 +49,3 @@\n 48\n-49\n+forty-nine\n 50\n"
    write_file(fs.p("p"), diff)
    run(["patch", "-b", "-p0", "-i", "p"], cwd=fs.path)
    fs.forget()
    assert b"\nforty-nine\n" in read_file(fs.p("a.txt"))
    assert b"\n49\n" in read_file(fs.p("a.txt.orig"))


def test_mv_between_directories(fs, tmp):
    """Within the mount, into it and out of it."""
    os.mkdir(fs.p("a"))
    os.mkdir(fs.p("b"))
    outside = os.path.join(tmp, "outside")
    os.mkdir(outside)
    for i in range(10):
        write_file(os.path.join(outside, "f%d" % i), blob(1000, i))
        os.utime(os.path.join(outside, "f%d" % i), ns=(10**18, 10**18 + i))
    run(["sh", "-c", 'mv "$1"/* "$2"', "-", outside, fs.p("a")])
    run(["sh", "-c", 'mv "$1"/f[0-4] "$2"', "-", fs.p("a"), fs.p("b")])
    run(["mv", fs.p("b"), fs.p("a/sub")])
    fs.forget()
    assert sorted(os.listdir(fs.p("a"))) == ["f5", "f6", "f7", "f8", "f9", "sub"]
    for i in range(10):
        path = fs.p("a", "sub" if i < 5 else "", "f%d" % i)
        assert read_file(path) == blob(1000, i) and os.stat(path).st_mtime_ns == 10**18 + i
    run(["sh", "-c", 'mv "$1"/* "$2"', "-", fs.p("a"), outside])
    assert os.listdir(fs.p("a")) == []
    assert sorted(os.listdir(outside)) == ["f5", "f6", "f7", "f8", "f9", "sub"]


def test_python_program(fs):
    """A package with a cache of its own, zip archives, shelve and shutil."""
    code = """
import os, shelve, shutil, sys, tempfile, zipfile
os.chdir(sys.argv[1])
os.mkdir('package')
open('package/__init__.py', 'w').write('value = 5\\n')
sys.path.insert(0, '.')
import package
assert package.value == 5 and os.path.isdir('package/__pycache__')
with zipfile.ZipFile('z.zip', 'w', zipfile.ZIP_DEFLATED) as z:
    for i in range(20):
        z.writestr('m%d' % i, b'x' * i * 1000)
with zipfile.ZipFile('z.zip', 'a') as z:
    z.writestr('more', b'more')
assert zipfile.ZipFile('z.zip').testzip() is None
with shelve.open('shelf') as s:
    for i in range(100):
        s[str(i)] = list(range(i))
with shelve.open('shelf') as s:
    assert s['99'] == list(range(99))
with tempfile.NamedTemporaryFile(dir='.') as t:
    t.write(b'temporary'); t.flush()
    assert open(t.name, 'rb').read() == b'temporary'
with tempfile.TemporaryFile(dir='.') as t:
    t.write(b'nameless'); t.seek(0)
    assert t.read() == b'nameless'
shutil.copytree('package', 'copied')
shutil.rmtree('package')
shutil.move('copied', 'moved')
"""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    run([sys.executable, "-c", code, fs.path], env=env)
    fs.forget()
    left = set(os.listdir(fs.path))
    assert {"z.zip", "moved"} <= left and len([n for n in left if n.startswith("tmp")]) == 0
    assert sorted(os.listdir(fs.p("moved"))) == ["__init__.py", "__pycache__"]


def test_find_du_ls(fs):
    for i in range(10):
        os.makedirs(fs.p("d%d" % i))
        for j in range(10):
            write_file(fs.p("d%d" % i, "f%d" % j), b"x" * 5000)
    fs.forget()
    assert run(["find", fs.path, "-type", "f", "-size", "+4k"]).stdout.count("\n") == 100
    assert run(["find", fs.path, "-type", "d"]).stdout.count("\n") == 11
    apparent = int(run(["du", "-sb", "--apparent-size", fs.p("d0")]).stdout.split()[0])
    assert 50000 <= apparent <= 50000 + 8192
    assert int(run(["du", "-sk", fs.p("d0")]).stdout.split()[0]) >= 50
    listing = run(["ls", "-lR", fs.path]).stdout
    assert listing.count(" 5000 ") == 100
    assert "ossmount" in run(["df", "-T", fs.path]).stdout if fs.has_server else True
