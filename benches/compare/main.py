"""What `run` starts when everything is there: see README.md."""

import argparse
import json
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import load
import machine
import report
from measure import Run, say, starts
from rows import GROUPS, chosen, every_row
from stand import ROOT, Stand

NAMES = [*GROUPS, "start"]


def main():
    options = arguments()
    doorward, pgo, oauth2_proxy = (os.environ.get(name) for name in ("DOORWARD", "PGO_DOORWARD", "OAUTH2_PROXY"))
    only = options.only.split(",") if options.only else NAMES
    place = machine.Machine(options.cores)
    stand = Stand(place)
    every = every_row(stand, doorward, pgo, oauth2_proxy)
    if options.hold:
        hold(Run(stand, chosen(every, only), 1, 1, options.threads))
        return
    where = "the same" if len(place.here) <= options.cores else "the others"
    told = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": shown_command(),
        "doorward": version(doorward),
        "machine": f"{machine.description()}; contenders on {options.cores} cores, wrk and upstream on {where}."
        f" Load average before it began: {os.getloadavg()[0]:.1f}.",
        "versions": versions(doorward, pgo, oauth2_proxy),
    }
    kept = json.loads(store().read_text()) if options.write and store().exists() else {}
    found, void = [], False
    for group in only:
        # Everything of a group is measured within minutes, so that what else the machine does is the same for all of it.
        if group in GROUPS:
            measured = Run(stand, chosen(every, [group]), options.rounds, options.seconds, options.threads)
            measured.measure()
            result, started = measured.result(), None
            measured.stop()
            text = report.table(result, group)
            void |= any(row["void"] for row in result.values())
        else:
            result, started = {}, starts(next(row.front for row in every if row.id == "public"))
            text = report.start_line(started)
        reached = report.bars(group, result, started)
        print(f"\n{GROUPS.get(group, 'Start')}\n\n{text}", flush=True)
        kept[group] = {**told, "table": text, "bars": reached}
        found += reached
    if found:
        print(f"\n{report.bars_table(found)}")
    if options.write:
        store().parent.mkdir(parents=True, exist_ok=True)
        store().write_text(json.dumps(kept))
        (ROOT / "benches/compare/RESULTS.md").write_text(report.results({name: kept[name] for name in NAMES if name in kept}))
        say("wrote benches/compare/RESULTS.md")
    place.end()
    # What could not be measured is no success.
    sys.exit(1 if void else 0)


def hold(measured):
    """Everything is up: process ids and a command for each row, until Ctrl-C."""
    measured.ready()
    for row in measured.rows:
        if row.id not in measured.void:
            pids = ",".join(str(pid) for group in row.groups() for pid in group.pids())
            print(f"{row.id} {pids} {shlex.join(load.wrk_command(row, 10, measured.threads, quiet=False))}", flush=True)
    signal.pause()


def arguments():
    about = "Measures Doorward beside nginx and others. Rows with errors are void."
    parser = argparse.ArgumentParser(prog="benches/compare/run", description=about)
    parser.add_argument("--only", help=f"groups, with commas: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender has its turn (5)")
    parser.add_argument("--seconds", type=int, default=5, help="how long a turn is (5)")
    parser.add_argument("--cores", type=int, default=min(2, len(os.sched_getaffinity(0))), help="cores of each contender (2)")
    parser.add_argument("--threads", type=int, default=2, help="threads of wrk (2)")
    parser.add_argument("--write", action="store_true", help="put what was measured into RESULTS.md; other groups there stay")
    parser.add_argument("--hold", action="store_true", help="start and check the rows, say how to ask them, and wait: for a look with perf")
    options = parser.parse_args()
    unknown = [name for name in (options.only or NAMES[0]).split(",") if name not in NAMES]
    if unknown:
        parser.error(f"no such group: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    return options


def shown_command():
    """As somebody else would type it."""
    named = [f"{name}=…" for name in ("DOORWARD", "PGO_DOORWARD", "OAUTH2_PROXY") if os.environ.get(name)]
    if os.environ.get("COMPARE_BUILT"):
        named.remove("DOORWARD=…")
    return " ".join([*named, "benches/compare/run", *sys.argv[1:]])


def store():
    """What earlier runs showed, for RESULTS.md."""
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "compare" / "results.json"


def version(doorward):
    number = machine.output(doorward, "--version").removeprefix("doorward ")
    if not os.environ.get("COMPARE_BUILT"):
        return f"{number} (a binary that was given)"
    commit = machine.output("git", "-C", str(ROOT), "describe", "--always")
    changed = machine.output("git", "-C", str(ROOT), "status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock")
    return f"{number} ({commit}{' and changes' if changed else ''})"


def versions(doorward, pgo, oauth2_proxy):
    """One line for each program."""
    lines = [f"Doorward {version(doorward)}{', and the same with PGO' if pgo else ''}"]
    for name, command, pattern in [
        ("nginx", ["nginx", "-v"], r"nginx/(\S+)"),
        ("HAProxy", ["haproxy", "-v"], r"version (\S+)"),
        ("Apache", ["apache2", "-v"], r"Apache/(\S+)"),
        ("mod_auth_openidc", ["dpkg-query", "-W", "-f", "${Version}", "libapache2-mod-auth-openidc"], r"(\S+)"),
        ("Redis", ["redis-server", "--version"], r"v=(\S+)"),
        ("wrk", ["wrk", "-v"], r"wrk (\S+)"),
        ("h2load", ["h2load", "--version"], r"nghttp2/(\S+)"),
        *([("oauth2-proxy", [oauth2_proxy, "--version"], r"oauth2-proxy (v\S+)")] if oauth2_proxy else []),
    ]:
        found = re.search(pattern, machine.output(*command))
        lines.append(f"{name} {found[1] if found else '(does not tell its version)'}")
    return "\n".join(f"- {line}" for line in lines)


if __name__ == "__main__":
    try:
        main()
    except machine.Problem as problem:
        sys.exit(f"benches/compare/run: {problem}")
