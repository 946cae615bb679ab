# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md: every figure as a table, what was not run and why, and how quiet the machine was."""

import charts
from rounds import STABLE, settled
from workload import SECTIONS

HEAD = """# Beside what one would pick instead

{machines}

Client and server share one core, so a figure is CPU time a transaction and not how fast the other
core wakes up. Every variant is measured in every round, in rotated order. Compare the ratios: each
is taken inside a round, so it says the same on a slower machine; beside a ratio stands the error of
its median. [How it is done](README.md), and every figure as a JSON line: `make bench-full` writes
`build/bench/results.jsonl`.

{noise}
"""


def family_name(family):
    return {4: "IPv4", 6: "IPv6"}.get(family, "")


def number(value):
    """Three digits where there are that many."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(header, rows):
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cells(row, reference):
    """Median, range, and ratio where there is one."""
    if row is None:
        return [""] * (3 if reference else 2)
    both = [number(row["median"]), f"{number(row['min'])} to {number(row['max'])}"]
    if not reference:
        return both
    if "ratio" not in row or row["variant"] == reference:
        return [*both, ""]
    ratio = f"**{row['ratio']['median']:.2f}**"
    if row["ratio"]["error"] is not None:
        ratio += f" ± {row['ratio']['error']:.1%}"
    return [*both, ratio if settled(row) else f"{ratio} (unstable)"]


def figure_table(workload, figure, rows):
    """One figure of a workload: variants and n downwards, families across."""
    found = {(row["n"], row["variant"], row["family"]): row for row in rows}
    families = sorted({row["family"] for row in rows})
    reference = workload.reference if any("ratio" in row for row in rows) else None
    counted = workload.counts != (1,)
    header = ([workload.count_means] if counted else []) + ["variant"]
    for family in families:
        header += [f"{family_name(family)} {workload.figures[figure]}".strip(), "min to max"]
        header += [f"/ {reference}"] if reference else []
    lines = []
    for n in sorted({row["n"] for row in rows}):
        for variant in workload.variants:
            mine = [found.get((n, variant, family)) for family in families]
            if any(mine):
                lines.append(([f"{n:,}"] if counted else []) + [variant] +
                             [cell for row in mine for cell in cells(row, reference)])
    return table(header, lines)


def machine_lines(runs):
    """Where and when; once for each machine."""
    dates = {}
    for run in runs:
        dates.setdefault((run["cpu"], run["kernel"], run["tcp"]), []).append(run["date"])
    return "\n".join(
        f"{cpu}, Linux {kernel}, TCP with {tcp}; {min(when)}"
        + (f" to {max(when)}, {len(when)} runs." if len(when) > 1 else ".")
        for (cpu, kernel, tcp), when in dates.items())


def noise_line(report):
    noise = [f"{run['date']}: {text}." for run in report.runs.values() for text in run["noise"]]
    ratios = [row for row in report.rows if "ratio" in row]
    unstable = report.unstable()
    noise.append(f"{len(unstable)} of {len(ratios)} ratios did not settle within {STABLE:.0%} "
                 "before the limit of rounds." if unstable else
                 f"All ratios settled within {STABLE:.0%}.")
    return "\n".join(noise)


def text(report, workloads, pictures):
    parts = [HEAD.format(machines=machine_lines(report.runs.values()), noise=noise_line(report))]
    parts += [f"![{title}]({name})\n" for name, title in pictures]
    for section in SECTIONS:
        mine = [w for w in workloads if w.section == section
                and any(row["workload"] in w.figures for row in report.rows)]
        if mine:
            parts.append(f"## {section}\n")
        for workload in mine:
            parts.append(f"### {workload.title}\n")
            for figure in workload.figures:
                rows = [row for row in report.rows if row["workload"] == figure]
                if rows:
                    parts.append(f"`{figure}`, {workload.figures[figure]}"
                                 + (", more is better" if figure in workload.more_is_better else "")
                                 + f"; {min(r['rounds'] for r in rows)} samples or more\n")
                    parts.append(figure_table(workload, figure, rows))
            parts += [f"`{m['variant']}` with {m['n']:,} {workload.count_means}: not run, "
                      f"{m['why']}.\n" for m in report.missing if m["workload"] == workload.name]
    return "\n".join(parts)


def write(folder, report, workloads):
    pictures = charts.draw(folder, report.rows)
    (folder / "RESULTS.md").write_text(text(report, workloads, pictures))
