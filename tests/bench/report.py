"""From the raw data to a table of ratios and a chart."""

import csv
import os
import shutil
import statistics
import subprocess

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


def seconds(records):
    return {r["run"]: float(r["seconds"]) for r in records if r["seconds"]}


def ratio(ours, theirs):
    """Median, least and largest of our time over theirs, run by run."""
    a, b = seconds(ours), seconds(theirs)
    found = [a[n] / b[n] for n in a if n in b and b[n] > 0]
    return (statistics.median(found), min(found), max(found)) if found else None


def median(records, field):
    found = [float(r[field]) for r in records if r[field]]
    return statistics.median(found) if found else None


def cell(found):
    return "%5.2f (%.2f-%.2f)" % found if found else "-"


def text(value, form):
    return form % value if value is not None else "-"


def show(path, out):
    table, grow = load(path)
    peers = sorted({t for tools in table.values() for t in tools} - {"ossmount"})
    lines = ["| row | ossmount s | " + " | ".join("x " + p for p in peers) + " | CPU s | peak MiB | requests |"]
    lines.append("|---|---|" + "---|" * len(peers) + "---|---|---|")
    for row, tools in table.items():
        ours = tools.get("ossmount", [])
        cells = [cell(ratio(ours, tools.get(p, []))) for p in peers]
        peak = median(ours, "peak_kb")
        lines.append(
            "| %s | %s | %s | %s | %s | %s |"
            % (row, text(median(ours, "seconds"), "%.3f"), " | ".join(cells), text(median(ours, "cpu"), "%.2f"),
               text(peak / 1024 if peak else None, "%.0f"), text(median(ours, "requests"), "%.0f"))
        )  # fmt: skip
    if grow:
        lines += ["", "| work | x | seconds | peak MiB | requests |", "|---|---|---|---|---|"]
        for r in grow:
            peak = float(r["peak_kb"]) / 1024 if r["peak_kb"] else 0
            lines.append("| %s | %s | %s | %.0f | %s |" % (r["row"], r["x"], r["seconds"], peak, r["requests"]))
    print("\n".join(lines))
    with open(os.path.join(out, "table.md"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    chart(table, grow, out)


def chart(table, grow, out):
    """How many times faster than each peer, row by row; and the cost as work grows."""
    if not shutil.which("gnuplot"):
        return
    peers = [p for p in ("s3fs", "rclone") if any(p in tools for tools in table.values())]
    rows = [(row, [ratio(tools.get("ossmount", []), tools.get(p, [])) for p in peers]) for row, tools in table.items()]
    rows = [r for r in rows if any(r[1])]
    data = os.path.join(out, "chart.dat")
    with open(data, "w", encoding="utf-8") as f:
        for row, found in rows:
            f.write('"%s" %s\n' % (row, " ".join("%.3f" % (1 / r[0]) if r else "NaN" for r in found)))
    plots = ", ".join("'%s' using %d:xtic(1) title '%s'" % (data, i + 2, p) for i, p in enumerate(peers))
    script = [
        "set terminal svg size 1100,640 background 'white'",
        "set output '%s'" % os.path.join(out, "chart.svg"),
        "set style data histogram",
        "set style fill solid 0.8 border",
        "set logscale y 2",
        "set ylabel 'times as fast as'",
        "set xtics rotate by -35",
        "set grid ytics",
        "set bmargin 11",
        "set rmargin 14",
        "set arrow from graph 0, first 1 to graph 1, first 1 nohead lw 2",
        "plot " + plots,
    ]
    if rows:
        subprocess.run(["gnuplot"], input="\n".join(script).encode(), check=False, timeout=60)
    grow_chart(grow, out)
    os.remove(data)


def grow_chart(grow, out):
    kinds = sorted({r["row"] for r in grow})
    script = [
        "set terminal svg size 700,480 background 'white'",
        "set output '%s'" % os.path.join(out, "grow.svg"),
        "set logscale xy",
        "set xlabel 'MiB, or entries'",
        "set ylabel 'seconds'",
        "set key left",
        "set grid",
    ]
    for i, kind in enumerate(kinds):
        points = ["%s %s" % (r["x"], r["seconds"]) for r in grow if r["row"] == kind and r["seconds"]]
        script += ["$d%d << EOD" % i, *points, "EOD"]
    if kinds:
        plots = ("$d%d with linespoints title '%s'" % (i, k.replace("grow: ", "")) for i, k in enumerate(kinds))
        script.append("plot " + ", ".join(plots))
        subprocess.run(["gnuplot"], input="\n".join(script).encode(), check=False, timeout=60)
