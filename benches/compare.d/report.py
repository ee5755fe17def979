"""Owns how figures are shown: lines for people, rows for README.md, JSON. Measures nothing."""

import dataclasses
import json
import os
import platform
import subprocess

FIGURES = ("case", "variant", "system", "ops/s", "p50 us", "p99 us", "CPU us/op own", "Redis", "own / direct",
           "own + Redis / direct")


@dataclasses.dataclass
class Bar:
    """One promise of performance.md, beside what was measured."""
    case: str
    variant: str
    system: str
    what: str
    value: float
    limit: float
    at_least: bool

    @property
    def verdict(self):
        held = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "ok" if held else "MISSED"

    def cells(self):
        sign = ">=" if self.at_least else "<="
        return [self.case, self.variant, self.what, number(self.value), f"{sign} {number(self.limit)}", self.verdict]


def bar(row, what, value, limit, at_least=False):
    return Bar(row.case, row.variant, row.system, what, value, limit, at_least)


def number(value):
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) < 0.1 else f"{value:.2f}"


def cells(row):
    """A row's medians; a ratio with the least and the greatest of its runs, which tell how noisy the machine was."""
    cpu = [f"{row.cpu(role):.2f}" if role in row.runs[0].cpu_us else "-" for role in ("proxy", "redis")]
    return [row.case, row.variant, row.system, f"{row.median(lambda r: r.ops_per_s):,.0f}",
            number(row.median(lambda r: r.p50_us)), number(row.median(lambda r: r.p99_us)), *cpu,
            spread(row, ("proxy",)), spread(row, ("proxy", "redis"))]


def spread(row, roles):
    if not row.direct or "proxy" not in row.runs[0].cpu_us:
        return "-"
    ratios = row.ratios(roles)
    text = f"{row.ratio(*roles):.2f}"
    return text if len(ratios) == 1 else f"{text} ({min(ratios):.2f} - {max(ratios):.2f})"


def extras(rows):
    """What a case measured beside the common figures, as lines."""
    lines = []
    for row in rows:
        for name in row.runs[0].extra:
            lines.append(f"{row.case}, {row.variant}, {row.system}: {name} = "
                         f"{number(row.median(lambda r: r.extra[name]))}")
    return lines


def text(rows, bars):
    table = [list(FIGURES)] + [cells(row) for row in rows]
    parts = [aligned(table)] if rows else []
    parts += ["  " + line for line in extras(rows)]
    if bars:
        parts.append(aligned([["bar of", "variant", "what", "measured", "limit", ""]] + [b.cells() for b in bars]))
    return "\n".join(parts)


def aligned(table):
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)


def markdown(rows, bars):
    """Both tables of README.md and the lines between them."""
    parts = [table_of(FIGURES, [cells(row) for row in rows])] if rows else []
    parts += ["", *(f"- {line}" for line in extras(rows)), ""]
    if bars:
        parts.append(table_of(("case", "variant", "what", "measured", "bar", "verdict"), [b.cells() for b in bars]))
    return "\n".join(parts)


def table_of(head, lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def as_json(rows, bars, options, machine, failures):
    return json.dumps({
        "machine": machine,
        "options": dataclasses.asdict(options),
        "rows": [{"case": row.case, "variant": row.variant, "system": row.system,
                  "runs": [dataclasses.asdict(run) for run in row.runs]} for row in rows],
        "bars": [dict(dataclasses.asdict(entry), verdict=entry.verdict) for entry in bars],
        "failures": failures,
    }, indent=1)


def machine(names, madcache_bin):
    """What a figure must be read with: processor, kernel, versions, and how busy the machine was already."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    commands = {"redis": ["redis-server", "--version"], "twemproxy": ["nutcracker", "--version"],
                "haproxy": ["haproxy", "-v"], "madcache": [madcache_bin, "--version"]}
    return {"processor": model, "cores": os.cpu_count(), "kernel": platform.release(),
            "load_average_before": os.getloadavg()[0],
            "versions": {name: first_line(commands[name]) for name in names}}


def first_line(argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          timeout=10, check=False)
    return (done.stdout.decode(errors="replace").splitlines() or ["unknown"])[0].strip()
