"""Fixtures: `server`, `mount` (a factory), and `fs`, one mount with default options (or a plain directory)."""

import os

import pytest

import harness


def pytest_addoption(parser):
    parser.addoption("--part", metavar="K/N", help="every N-th of the chosen cases, from the K-th on")


@pytest.hookimpl(trylast=True)  # what -m and -k leave over
def pytest_collection_modifyitems(config, items):
    if config.getoption("--part"):
        k, n = map(int, config.getoption("--part").split("/"))
        chosen = items[k - 1 :: n]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("OSSMOUNT_LONG"):
            item.add_marker(pytest.mark.skip(reason="long: set OSSMOUNT_LONG=1"))
        elif harness.PLAIN_DIR and (item.get_closest_marker("bucket") or needs_server(item)):
            item.add_marker(pytest.mark.skip(reason="plain-directory mode: the case needs a bucket"))
        if harness.slow_factor() > 1 and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(200 * harness.slow_factor()))


def needs_server(item):
    return {"server", "mount", "server_factory"} & set(getattr(item, "fixturenames", ()))


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, "report_" + report.when, report)


def pytest_terminal_summary(terminalreporter):
    reports = [r for group in terminalreporter.stats.values() for r in group if getattr(r, "when", "") == "call"]
    crashes = sum(n for r in reports for name, n in r.user_properties if name == "crashes")
    if crashes:
        terminalreporter.write_line("daemons killed at a point of their own: %d" % crashes)
    groups = sorted(value for r in reports for name, value in r.user_properties if name == "posix")
    if groups:
        terminalreporter.write_line("POSIX by group: " + ", ".join("%s %d of %d" % tuple(g) for g in groups))
    if os.environ.get("OSSMOUNT_BUDGET"):
        rows = [value for r in reports for name, value in r.user_properties if name == "budget"]
        budget_table(sorted(rows))


SHORT = {
    "PutObject": "PUT",
    "GetObject": "GET",
    "HeadObject": "HEAD",
    "CopyObject": "COPY",
    "DeleteObject": "DELETE",
    "DeleteMultipleObjects": "batch DELETE",
    "ListObjectsV2": "list",
    "InitiateMultipartUpload": "Initiate",
    "UploadPart": "part",
    "UploadPartCopy": "part copy",
    "CompleteMultipartUpload": "Complete",
    "GetObjectACL": "GET ?acl",
    "AppendObject": "append",
}


def budget_table(rows):
    """The table of test_budget.py, in the form that README.md takes, into the file that OSSMOUNT_BUDGET names."""
    with open(os.environ["OSSMOUNT_BUDGET"], "w") as f:
        f.write("| operation | budget | counted |\n|---|---|---|\n")
        for _, operation, budget, counted in rows:
            parts = ["%d %s" % (n, SHORT.get(op, op)) for op, n in sorted(counted.items(), key=lambda x: (-x[1], x))]
            f.write("| %s | %s | %s |\n" % (operation, budget, " + ".join(parts) or "0"))


def failed(request):
    report = getattr(request.node, "report_call", None)
    return report is not None and report.failed


@pytest.fixture
def tmp(request):
    """A directory of the test, outside every mount."""
    directory = harness.make_temp(request.node.name)
    yield directory
    harness.drop_temp(directory)


@pytest.fixture
def server_factory(request, tmp):
    """Starts servers: server_factory(*arguments, store=directory)."""
    started = []

    def start(*args, **kw):
        directory = os.path.join(tmp, "server%d" % len(started))
        os.mkdir(directory)
        started.append(harness.Ossd(directory, *args, **kw))
        return started[-1].start()

    yield start
    problems = []
    for server in started:
        if server.proc is not None and server.proc.poll() is not None:
            problems.append("ossd ended during the test with %s: %s" % (server.proc.poll(), server.stderr_text()))
        else:
            server.stop()
        if harness.FATAL.search(server.stderr_text().encode("utf-8", "replace")):
            problems.append("ossd: " + server.stderr_text()[-4000:])
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def server(server_factory):
    return server_factory()


@pytest.fixture
def mount_factory(request, tmp):
    """mount_factory(server, wait=True, bucket=None, cache=None, **options) -> Mount."""
    mounts = []

    def start(server, wait=True, bucket=None, cache=None, run=True, **options):
        directory = os.path.join(tmp, "m%d" % len(mounts))
        os.mkdir(directory)
        m = harness.Mount(server, directory, options, bucket=bucket, cache=cache)
        mounts.append(m)
        return m.start(wait) if run else m

    yield start
    problems = []
    for m in mounts:
        problems += m.finish(failed(request))
    if problems:
        text = "\n".join(problems)
        for m in mounts:
            text += "\n---- stderr of %s\n%s" % (m.path, m.stderr_text()[-3000:])
        pytest.fail(text, pytrace=False)
    if failed(request):
        for m in mounts:
            print("---- stderr of %s\n%s" % (m.path, m.stderr_text()[-3000:]))


@pytest.fixture
def mount(server, mount_factory):
    """mount(**options) -> a mount of the test's server."""

    def start(**options):
        return mount_factory(server, **options)

    return start


@pytest.fixture
def fs(request, tmp):
    """One mount with default options; in plain-directory mode a directory that behaves like one."""
    if harness.PLAIN_DIR:
        directory = os.path.join(harness.PLAIN_DIR, os.path.basename(tmp))
        os.makedirs(directory)
        yield harness.PlainDir(directory)
        harness.drop_temp(directory)
    else:
        m = request.getfixturevalue("mount")()
        yield m
