"""Tables of what was measured, and the bars."""

from measure import ratio
from rows import GROUPS

HEAD = "| | requests/s | × nginx | CPU µs/request | least–most | × nginx | user | p50 ms | p99 ms | resident MB | errors |"
RULE = "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"


def table(result, group):
    """The rows of a group and those that they are a multiple of."""
    own = [row for row in result.values() if row["group"] == group]
    needed = [row["base"] for row in own] + (["public"] if group == "bearer" else [])
    rows = [row for row in result.values() if row["group"] == group or row["id"] in needed]
    head = HEAD.replace("× nginx", "× 1 route") if group == "routes" else HEAD
    return "\n".join([head, RULE, *(line(result, row) for row in rows)])


def line(result, row):
    if row["void"]:
        return f"| {row['name']} | **void: {row['void'].splitlines()[0][:120]}** " + "| " * 9 + "|"
    base = result.get(row["base"])
    rate = f"{row['per_second']:,.0f}".replace(",", " ") if row["per_second"] >= 100 else f"{row['per_second']:.1f}"
    faster = "–"
    if not row["per_second"]:
        rate = "–"
    elif base and base.get("per_second"):
        faster = f"{row['per_second'] / base['per_second']:.2f}"
    cost = ratio(result, row["id"], row["base"])
    digits = 2 if row["cpu"] < 1000 else 0
    return (
        f"| {row['name']} | {rate} | {faster} | {row['cpu']:.{digits}f} | {row['least']:.{digits}f}–{row['most']:.{digits}f} "
        f"| {'–' if cost is None else f'**{cost:.2f}**'} | {row['user']:.0%} | {row['p50']:.2f} | {row['p99']:.2f}"
        f" | {row['resident'] / 1e6:.1f} | {row['errors']} |"
    )


def bars(group, result, started):
    """What is to be reached, as far as the rows of this group can tell."""
    found = []

    def say(of, what, most, measured, unit="×"):
        if of == group and measured is not None:
            found.append({"what": what, "most": most, "measured": measured, "unit": unit})

    say("session", "CPU per request, session on a protected route, over nginx plain", 0.98, ratio(result, "session", "nginx"))
    say("session", "the same with PGO", 0.90, ratio(result, "session-pgo", "nginx"))
    say("session", "session over public route of Doorward", 1.05, ratio(result, "session", "public"))
    say("bearer", "bearer repeated over public", 1.10, ratio(result, "bearer", "public"))
    say("forward", "forward-auth answer over nginx plain", 0.60, ratio(result, "forward", "nginx"))
    say("tls", "TLS 1.3 downstream, session, over nginx TLS plain", 0.80, ratio(result, "session-tls-64", "nginx-tls-64"))
    say("tls", "64 KB bodies over TLS, over nginx", 0.70, ratio(result, "session-tls-64k", "nginx-tls-64k"))
    whole, alone = ratio(result, "nginx-doorward", "nginx"), ratio(result, "nginx-static", "nginx")
    added = None if whole is None or alone is None else whole - alone
    say("forward", "through nginx `auth_request`: what Doorward adds to a static 204, over nginx plain", 0.60, added)
    say("session", "p99 of a session over nginx's", 1.10, ratio(result, "session", "nginx", "rounds_p99"))
    say("start", "resident, idle after start", 12, started and started["idle"] / 1e6, "MB")
    session = result.get("session")
    say("session", "resident under 64 connections", 30, session and not session["void"] and session["resident"] / 1e6 or None, "MB")
    say("start", "cold start to first answer", 50, started and started["cold_start"], "ms")
    say("routes", "2 000 routes over 1 route", 1.03, ratio(result, "routes", "route"))
    return found


def bars_table(found):
    lines = ["| | at most | measured | reached |", "|---|---:|---:|---|"]
    for bar in found:
        digits, unit = 2 if bar["unit"] == "×" else 1, bar["unit"]
        reached = "yes" if bar["measured"] <= bar["most"] else "**no**"
        lines.append(f"| {bar['what']} | {bar['most']:g} {unit} | {bar['measured']:.{digits}f} {unit} | {reached} |")
    return "\n".join(lines)


def start_line(started):
    return (
        f"Doorward, {started['cold_start']:.1f} ms from its start to the first answer (median of 15, most"
        f" {started['cold_start_most']:.1f}), {started['cold_start_cpu']:.1f} ms of it CPU;"
        f" {started['idle'] / 1e6:.1f} MB resident a second later."
    )


def results(kept):
    """RESULTS.md of what each group's latest run showed."""
    parts = [
        "# Doorward beside other proxies and gateways",
        "Written by `benches/compare/run`; what the columns mean stands in [README.md](README.md). The figure to look at is CPU per"
        " request over nginx's: load, upstream and contenders share the machine, so requests per second tell of all of them together.",
        "## What is to be reached",
        bars_table([bar for group in kept.values() for bar in group["bars"]]),
        "Memory per session and per idle WebSocket are measured by `benches/scale`.",
    ]
    for name in [*GROUPS, "start"]:
        if name not in kept:
            continue
        group = kept[name]
        parts.append(f"## {GROUPS.get(name, 'Start')}")
        parts.append(group["table"])
        parts.append(f"{group['date']}, `{group['command']}`, Doorward {group['doorward']}. {group['machine']}")
    versions = next(iter(kept.values()))["versions"]
    parts += ["## Versions", versions]
    return "\n\n".join(parts) + "\n"
