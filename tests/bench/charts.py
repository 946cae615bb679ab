# SPDX-License-Identifier: Apache-2.0
"""The charts of a report: SVG files drawn by gnuplot from the rows it has."""

import shutil
import subprocess

STYLE = """set terminal svg size 900,{height} dynamic font "sans-serif,13" background "white"
set output "{path}"
set title "{title}"
set ylabel "{ylabel}"
set key outside right top Left reverse
set grid ytics lc rgb "#dddddd"
set border 3
set xtics nomirror
set ytics nomirror
"""
COLOURS = {"lo": "#bbbbbb", "veth": "#999999", "routed": "#666666", "bridge": "#c06030",
           "bridge-legacy": "#e0a060", "tendril": "#2060a0", "tendril-policy": "#4090d0",
           "tendril-perpacket": "#80c0e0", "tendril-accel": "#20a060"}
COSTS = ("rr", "connect", "crr", "udp_rr", "http", "stream")
RATES = ("http", "stream")  # the inverse of their ratio is a cost


def plot(path, title, ylabel, commands, height=420):
    script = STYLE.format(height=height, path=path, title=title, ylabel=ylabel) + commands
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def block(name, lines):
    return f"${name} << EOD\n" + "\n".join(lines) + "\nEOD\n"


def ratios(path, rows):
    """Time a transaction, as a share of the routed pair's: one group of bars a workload."""
    ratio = {(row["workload"], row["variant"]): row["ratio"]["median"] for row in rows
             if row["workload"] in COSTS and row["family"] == 4 and row["n"] == 1
             and "ratio" in row}
    workloads = [w for w in COSTS if any(key[0] == w for key in ratio)]
    variants = [v for v in COLOURS if any(key[1] == v for key in ratio) and v != "routed"]
    if not variants:
        return False
    lines = []
    for w in workloads:
        values = [ratio.get((w, v)) for v in variants]
        lines.append(" ".join([w.replace("_", "-")] + [
            "NaN" if not value else f"{1 / value if w in RATES else value:.4f}"
            for value in values]))
    bars = ", ".join(f'$data using {i + 2}:xtic(1) title "{v}" lc rgb "{COLOURS[v]}"'
                     for i, v in enumerate(variants))
    plot(path, "time a transaction, IPv4, one core: less is better", "share of a routed veth pair",
         block("data", lines) + "set style data histogram\nset style histogram clustered gap 1\n"
         "set style fill solid noborder\nset yrange [0:*]\n"
         'set arrow from graph 0, first 1 to graph 1, first 1 nohead lc rgb "#666666" dt 2 front\n'
         f"plot {bars}\n")
    return True


def lines_by_n(path, rows, workload, title, ylabel, xlabel, log=True):
    """One line a variant over n."""
    mine = [row for row in rows if row["workload"] == workload and row["family"] in (0, 4)]
    variants = [v for v in COLOURS if any(row["variant"] == v for row in mine)]
    if len({row["n"] for row in mine}) < 2:
        return False
    data, curves = "", []
    for i, v in enumerate(variants):
        points = sorted((row["n"], row["median"]) for row in mine if row["variant"] == v)
        data += block(f"d{i}", [f"{n} {value}" for n, value in points])
        curves.append(f'$d{i} with linespoints pt 7 ps 0.6 lw 2 lc rgb "{COLOURS[v]}" title "{v}"')
    plot(path, title, ylabel, data + ("set logscale xy\n" if log else "set yrange [0:*]\n")
         + f'set xlabel "{xlabel}"\nplot {", ".join(curves)}\n')
    return True


CHARTS = (
    ("ratios.svg", "Cost of traffic beside a routed veth pair", ratios),
    ("services.svg", "Connecting to one of n services",
     lambda path, rows: lines_by_n(path, rows, "service_connect",
                                   "TCP connect to one of n services, IPv4: less is better",
                                   "microseconds", "services")),
    ("cni_add.svg", "CNI ADD over the pods that are present",
     lambda path, rows: lines_by_n(path, rows, "cni_add", "CNI ADD: less is better",
                                   "milliseconds", "pods present", log=False)),
)


def draw(folder, rows):
    """Draws what the rows are enough for; returns [(file, title)]."""
    if not shutil.which("gnuplot"):
        print("no charts: gnuplot is not installed")
        return []
    return [(name, title) for name, title, chart in CHARTS if chart(folder / name, rows)]
