"""The main job: real trees go in by cp and rsync, are in the bucket byte for byte, and come back identical."""

import os
import random
import re
import stat
import subprocess

import pytest

from harness import blob, crc64_of, read_file, run, tree_of

FILES = 5200


def make_tree(top, files=FILES, seed=1):
    """
    A tree as users have them: 130 directories in four levels, mostly small files, some of a megabyte, odd names, all
    kinds of modes, old mtimes with fractions, symlinks (to files, directories, absolute, dangling).
    """
    rng = random.Random(seed)
    directories = [top]
    os.makedirs(top)
    while len(directories) < 130:
        parent = rng.choice(directories[-40:])
        path = os.path.join(parent, rng.choice(["dir-%d", "Dir %d", "目录%d", "d+%d", "d%%%d"]) % len(directories))
        os.mkdir(path)
        directories.append(path)
    for i in range(files):
        name = rng.choice(["file%d.txt", ".hidden%d", "with space %d", "ü%d", "a#b?%d", "x=%d&y", "100%%%d"]) % i
        path = os.path.join(rng.choice(directories), name)
        size = rng.choice([0, 1, 100, 1000, 4096, 5000, 12000, 20000])
        if i % 500 == 0:
            size = 1048576 + i
        with open(path, "wb") as f:
            f.write(blob(size, (seed, i)))
        os.chmod(path, rng.choice([0o644, 0o600, 0o755, 0o444, 0o640, 0o400, 0o4755]))
        ns = rng.randrange(10**18, 17 * 10**17)
        os.utime(path, ns=(ns, ns))
        if i % 30 == 0:
            target = rng.choice([name, "../" + name, "/etc/hostname", "no such file", rng.choice(directories), "."])
            os.symlink(target, os.path.join(os.path.dirname(path), "link%d" % i))
    for path in reversed(directories):
        os.chmod(path, rng.choice([0o755, 0o700, 0o775]))
        ns = rng.randrange(10**18, 17 * 10**17)
        os.utime(path, ns=(ns, ns))
    return top


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_tree(str(tmp_path_factory.mktemp("source") / "tree"))


@pytest.fixture(scope="module")
def small_source(tmp_path_factory):
    return make_tree(str(tmp_path_factory.mktemp("source") / "tree"), files=300, seed=2)


def compare(source, copy, modes=True, times=True, resolution=1):
    assert run(["diff", "-r", "--no-dereference", source, copy], timeout=300).stdout == ""
    want, have = tree_of(source, content=False), tree_of(copy, content=False)
    assert want.keys() == have.keys()
    for name, (kind, mode, mtime, target) in want.items():
        k, m, t, g = have[name]
        assert (kind, target) == (k, g), name
        if modes:
            assert oct(mode) == oct(m), name
        if times and mtime is not None:
            assert mtime // resolution == t // resolution, name


def compare_at_server(server, source, prefix):
    """Every file is exactly one object with these bytes, every directory a marker, every link an object; no more."""
    expected = {prefix}
    objects = server.objects()
    for name, (kind, _, _, target) in tree_of(source, content=False).items():
        name = os.fsdecode(name)
        key = prefix + name + ("/" if stat.S_ISDIR(kind) else "")
        expected.add(key)
        assert key in objects, key
        if stat.S_ISREG(kind):
            data = read_file(os.path.join(source, name))
            assert objects[key]["size"] == len(data), key
            assert int(objects[key]["crc64"]) == crc64_of(data), key
        elif stat.S_ISLNK(kind):
            assert server.object(key) == target, key
    assert set(objects) == expected
    assert server.uploads() == []


@pytest.mark.timeout(400)
def test_cp_recursive(fs, source):
    """cp -r: contents and links; modes through the umask."""
    run(["cp", "-r", source, fs.p("copy")], timeout=200)
    fs.forget()
    compare(source, fs.p("copy"), modes=False, times=False)
    if fs.has_server:
        compare_at_server(fs.server, source, "copy/")


@pytest.mark.timeout(400)
def test_cp_archive(fs, source):
    """cp -a: also modes, owners and mtimes to the nanosecond; all after a remount that starts from nothing."""
    run(["cp", "-a", source, fs.p("copy")], timeout=200)
    compare(source, fs.p("copy"))
    fs.forget()
    compare(source, fs.p("copy"))
    if fs.has_server:
        compare_at_server(fs.server, source, "copy/")
        # And back out, by a program that reads with its own pattern.
        run(["cp", "-a", fs.p("copy"), os.path.join(fs.directory, "back")], timeout=200)
        compare(source, os.path.join(fs.directory, "back"))


def transferred(text):
    return int(re.search(r"Number of regular files transferred: ([\d,.]+)", text).group(1).replace(",", ""))


@pytest.mark.timeout(400)
def test_rsync_twice(fs, source):
    """The second run transfers nothing and changes nothing, also after a remount that starts from nothing."""
    command = ["rsync", "-a", "--stats", "--itemize-changes", source + "/", fs.p("copy/")]
    assert transferred(run(command, timeout=300).stdout) == FILES
    again = run(command, timeout=200).stdout
    assert transferred(again) == 0
    assert [x for x in again.splitlines() if re.match(r"[<>ch.*][fdLDS]", x)] == []
    fs.forget()
    again = run(command, timeout=200).stdout
    assert transferred(again) == 0
    assert [x for x in again.splitlines() if re.match(r"[<>ch.*][fdLDS]", x)] == []
    compare(source, fs.p("copy"))
    if fs.has_server:
        compare_at_server(fs.server, source, "copy/")


@pytest.mark.sanitizer
def test_rsync_changes(fs, small_source):
    """--checksum finds all equal; --delete, --inplace, a changed, a grown, a removed and a new file."""
    copy = os.path.join(os.path.dirname(small_source), "changed")
    run(["rsync", "-a", "--delete", small_source + "/", copy])
    run(["rsync", "-a", copy + "/", fs.p("copy/")])
    out = run(["rsync", "-a", "--checksum", "--itemize-changes", copy + "/", fs.p("copy/")]).stdout
    assert out == ""
    names = sorted(n for n, e in tree_of(copy, content=False).items() if stat.S_ISREG(e[0]))
    names = [os.path.join(os.fsencode(copy), n) for n in names]
    with open(names[0], "wb") as f:
        f.write(blob(30000, "changed"))
    with open(names[1], "ab") as f:
        f.write(b"tail")
    os.unlink(names[2])
    with open(os.path.join(copy, "brand new"), "wb") as f:
        f.write(b"x")
    os.chmod(names[3], 0o711)
    run(["rsync", "-a", "--delete", "--inplace", copy + "/", fs.p("copy/")])
    fs.forget()
    compare(copy, fs.p("copy"), resolution=10**9)  # rsync takes times within one second for equal
    if fs.has_server:
        compare_at_server(fs.server, copy, "copy/")


@pytest.mark.sanitizer
def test_cp_small_tree(fs, small_source):
    """The same as the big tree, small enough for the sanitizers."""
    run(["cp", "-a", small_source, fs.p("copy")])
    compare(small_source, fs.p("copy"))
    fs.forget()
    compare(small_source, fs.p("copy"))
    if fs.has_server:
        compare_at_server(fs.server, small_source, "copy/")


def test_cp_inside_and_mv_inside(fs, small_source):
    run(["cp", "-a", small_source, fs.p("one")])
    run(["cp", "-a", fs.p("one"), fs.p("two")])
    run(["mv", fs.p("one"), fs.p("three")])
    assert sorted(os.listdir(fs.path)) == ["three", "two"]
    fs.forget()
    compare(small_source, fs.p("two"))
    compare(small_source, fs.p("three"))
    run(["rm", "-rf", fs.p("two"), fs.p("three")])
    assert os.listdir(fs.path) == []
    if fs.has_server:
        assert fs.server.objects() == {}


def test_many_copies_at_once(fs, small_source):
    """Four programs copy into one mount, and one reads what is there so far."""
    procs = [subprocess.Popen(["cp", "-a", small_source, fs.p("c%d" % i)]) for i in range(4)]
    reader = subprocess.Popen(["find", fs.path, "-type", "f", "-newermt", "1990-01-01"], stdout=subprocess.DEVNULL)
    for p in procs:
        assert p.wait(100) == 0
    reader.wait(100)
    fs.forget()
    for i in range(4):
        compare(small_source, fs.p("c%d" % i))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_cp_usr_include(fs):
    run(["cp", "-a", "/usr/include", fs.p("include")], timeout=300)
    fs.forget()
    compare("/usr/include", fs.p("include"))
    command = ["rsync", "-a", "--stats", "/usr/include/", fs.p("include/")]
    assert transferred(run(command, timeout=300).stdout) == 0
