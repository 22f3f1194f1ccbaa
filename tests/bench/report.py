"""
From the raw data to tables and charts; by itself: report.py RAW.csv DIRECTORY.
"""

import csv
import os
import shutil
import statistics
import subprocess
import sys

FIELDS = ["run", "tool", "row", "x", "seconds", "seconds_return", "cpu", "peak_kb", "requests", "up", "down", "failed"]


def record(values):
    return {k: "%.4f" % v if isinstance(v, float) else v for k, v in values.items()}


def load(path):
    """{row: {tool: [record of each run]}} in the order of the file; the rows of `grow` apart."""
    table, grow = {}, []
    with open(path, newline="", encoding="utf-8") as f:
        for r in csv.DictReader(f):
            if r["x"]:
                grow.append(r)
            else:
                table.setdefault(r["row"], {}).setdefault(r["tool"], []).append(r)
    return table, grow


def runs(path):
    """How many runs the file has."""
    if not os.path.exists(path):
        return 0
    with open(path, newline="", encoding="utf-8") as f:
        return max((int(r["run"]) + 1 for r in csv.DictReader(f)), default=0)


def seconds(records):
    return {r["run"]: float(r["seconds"]) for r in records if r["seconds"]}


def ratio(ours, theirs):
    """Median, least and largest of our time over theirs, run by run."""
    a, b = seconds(ours), seconds(theirs)
    found = [a[n] / b[n] for n in a if n in b and b[n] > 0]
    return (statistics.median(found), min(found), max(found), len(found)) if found else None


def median(records, field):
    found = [float(r[field]) for r in records if r[field]]
    return statistics.median(found) if found else None


def cell(found):
    if not found:
        return "-"
    return "%.2f (%.2f-%.2f)" % found[:3] if found[3] > 1 else "%.2f" % found[0]


def text(value, form):
    return form % value if value is not None else "-"


ORDER = ["ossmount", "ossmount-background", "s3fs", "s3fs-unsigned", "rclone", "curl", "curl x5"]


def ratios(table):
    """Our time, and how it compares, run by run: below 1 is faster."""
    tools = [t for t in ORDER[1:] if any(t in row for row in table.values())]
    peers = [t for t in tools if not t.startswith("curl")]
    head = ["row", "ossmount"] + ["of " + t for t in tools] + ["CPU s: ossmount, " + ", ".join(peers)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row, found in table.items():
        ours = found.get("ossmount", [])
        if not ours:
            continue
        cells = [text(median(ours, "seconds"), "%.2f s")] + [cell(ratio(ours, found.get(t, []))) for t in tools]
        cells.append(", ".join(text(median(found.get(t, []), "cpu"), "%.2f") for t in ["ossmount"] + peers))
        lines.append("| %s | %s |" % (row, " | ".join(cells)))
    return lines


def costs(table):
    """What each tool took, medians."""
    lines = ["| row | tool | s | s at return | CPU s | peak MiB | requests | MiB up | MiB down |", "|---|---" + "|---:" * 7 + "|"]
    for row, found in table.items():
        for tool in (t for t in ORDER if t in found):
            got = [median(found[tool], f) for f in ("seconds", "seconds_return", "cpu", "peak_kb", "requests", "up", "down")]
            scale = (1, 1, 1, 1 << 10, 1, 1 << 20, 1 << 20)
            forms = ("%.2f", "%.2f", "%.2f", "%.0f", "%.0f", "%.1f", "%.1f")
            cells = [text(v if v is None else v / s, f) for v, s, f in zip(got, scale, forms)]
            lines.append("| %s | %s | %s |" % (row, tool, " | ".join(cells)))
    return lines


def growth(grow):
    lines = ["| work | n | s | CPU s | peak MiB | requests |", "|---|---:|---:|---:|---:|---:|"]
    for r in grow:
        peak = float(r["peak_kb"]) / 1024 if r["peak_kb"] else 0
        work = r["row"].replace("grow: ", "")
        lines.append("| %s | %s | %s | %s | %.0f | %s |" % (work, r["x"], r["seconds"], r["cpu"], peak, r["requests"]))
    return lines


def show(path, out):
    table, grow = load(path)
    parts = [ratios(table), costs(table)] if table else []
    parts += [growth(grow)] if grow else []
    page = "\n\n".join("\n".join(lines) for lines in parts)
    print(page)
    with open(os.path.join(out, "table.md"), "w", encoding="utf-8") as f:
        f.write(page + "\n")
    chart(table, out)
    grow_chart(grow, out)


def draw(script):
    if shutil.which("gnuplot"):
        subprocess.run(["gnuplot"], input="\n".join(script).encode(), check=False, timeout=60)


def chart(table, out):
    """How many times as fast as each peer, row by row."""
    peers = [p for p in ("s3fs", "rclone") if any(p in tools for tools in table.values())]
    rows = [(row, [ratio(tools.get("ossmount", []), tools.get(p, [])) for p in peers]) for row, tools in table.items()]
    rows = [r for r in rows if any(r[1])]
    if not rows:
        return
    data = ['"%s" %s' % (row, " ".join("%.3f" % (1 / r[0]) if r else "NaN" for r in found)) for row, found in rows]
    plots = ", ".join("$d using %d:xtic(1) title '%s'" % (i + 2, p) for i, p in enumerate(peers))
    draw([
        "set terminal svg size 1200,640 background 'white'",
        "set output '%s'" % os.path.join(out, "chart.svg"),
        "$d << EOD", *data, "EOD",
        "set style data histogram",
        "set style fill solid 0.8 border",
        "set logscale y 2",
        "set ylabel 'times as fast as (ossmount = 1)'",
        "set xtics rotate by -40 noenhanced",
        "set grid ytics",
        "set bmargin 13",
        "set rmargin 16",
        "set arrow from graph 0, first 1 to graph 1, first 1 nohead lw 2",
        "plot " + plots,
    ])  # fmt: skip


def grow_chart(grow, out):
    """A straight line of slope 1 is a cost that grows as the work does."""
    kinds = sorted({r["row"] for r in grow})
    if not kinds:
        return
    script = [
        "set terminal svg size 800,520 background 'white'",
        "set output '%s'" % os.path.join(out, "grow.svg"),
        "set logscale xy",
        "set xlabel 'MiB, entries, or writers'",
        "set ylabel 'seconds'",
        "set key left",
        "set grid",
    ]
    for i, kind in enumerate(kinds):
        points = ["%s %s" % (r["x"], r["seconds"]) for r in grow if r["row"] == kind and r["seconds"]]
        script += ["$d%d << EOD" % i, *points, "EOD"]
    plots = ["$d%d with linespoints title '%s'" % (i, k.replace("grow: ", "")) for i, k in enumerate(kinds)]
    plots.append("x / 500. with lines dashtype 2 lc 'gray' title 'in proportion'")
    draw(script + ["plot " + ", ".join(plots)])


if __name__ == "__main__":
    show(sys.argv[1], sys.argv[2])
