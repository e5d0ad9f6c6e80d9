"""What was measured: told as it comes, and written down as RESULTS.md and curves."""

import os
import pathlib
import platform
import subprocess
import time

from chart import curve

HERE = pathlib.Path(__file__).resolve().parent


class Results:
    def __init__(self, quick):
        self.quick = quick
        self.seconds, self.rounds, self.quiet_seconds = (1, 1, 2) if quick else (4, 3, 10)
        self.rows, self.curves, self.svgs, self.began = [], [], {}, time.monotonic()

    def note(self, text):
        print(f"[{time.monotonic() - self.began:4.0f} s] {text}", flush=True)

    def row(self, what, figure, share, remark):
        """`share`: the figure over its bar, where it has one."""
        verdict = "" if share is None else "reached" if share <= 1 else "missed"
        self.rows.append((what, figure, verdict, remark))
        self.note(f"{what}: {figure} ({', '.join(filter(None, [verdict, remark]))})")

    def curve(self, name, title, x_name, y_name, points, bar=None):
        self.curves.append((name, title, y_name, points))
        self.note(f"{title}, {y_name}: " + ", ".join(f"{x:,}: {y:.2f}" for x, y in points))
        self.svgs[name] = curve(title, x_name, y_name, points, bar)

    def write(self, folder, command, versions, missed):
        folder.mkdir(parents=True, exist_ok=True)
        for name, svg in self.svgs.items():
            folder.joinpath(f"{name}.svg").write_text(svg)
        machine = f"{len(os.sched_getaffinity(0))} cores ({processor()}), {platform.system()} {platform.release()}"
        lines = ["# Scale: what was measured", "", f"{time.strftime('%Y-%m-%d')}, `{command}`, on {machine}; {', '.join(versions)}.", ""]
        lines += ["CPU is user and system time of the gateway's process over requests; memory is growth of its resident set. Other programs",
                  "of the machine disturb times, CPU a request little. Sessions come of one real login at oidc-provider and are written as the",
                  "gateway writes them, each with a person and tokens of its own.", "", "| what | figure | bar | |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        if missed:
            lines += ["", "Not measured this time: " + "; ".join(missed) + "."]
        for name, title, y_name, points in self.curves:
            xs, ys = " | ".join(f"{x:,}" for x, _ in points), " | ".join(f"{y:.2f}" for _, y in points)
            lines += ["", f"## {title}", "", f"![{title}]({name}.svg)", ""]
            lines += [f"| | {xs} |", "|---|" + "---|" * len(points), f"| {y_name} | {ys} |"]
        folder.joinpath("RESULTS.md").write_text("\n".join(lines) + "\n")
        self.note(f"written: {folder / 'RESULTS.md'} and {len(self.svgs)} curves")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def first_line(*command):
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    return (out.stdout + out.stderr).strip().splitlines()[0]
