"""Load by wrk, with cookies from a file; what it cost the gateway."""

import re
import subprocess

from parts import Missing, program

# Goes round through the file, from a place in it; with `once` to its end only. wrk itself goes on for as long as it was told.
SCRIPT = """
function init(args)
  cookies, paths, once = {}, {}, args[3] == "once"
  if args[1] ~= "-" then for line in io.lines(args[1]) do cookies[#cookies + 1] = line end end
  for line in io.lines(args[2]) do paths[#paths + 1] = line end
  at = tonumber(args[4])
  left = #cookies - at
  wrk.headers["Accept"] = "text/html"
end
function request()
  if once then
    if left == 0 then wrk.thread:stop() else left = left - 1 end
  end
  at = at + 1
  local path = paths[(at - 1) % #paths + 1]
  if #cookies > 0 then wrk.headers["Cookie"] = cookies[(at - 1) % #cookies + 1] end
  return wrk.format("GET", path)
end
function done(summary, latency, requests)
  local e = summary.errors
  print(string.format("RESULT %d %d %d %f", summary.requests, e.status, e.connect + e.read + e.write + e.timeout, latency:percentile(50)))
end
"""


class Load:
    def __init__(self, folder):
        self.folder = folder
        self.script = folder / "load.lua"
        self.script.write_text(SCRIPT)
        self.any_path = self.file("path", ["/"])

    def file(self, name, lines):
        file = self.folder / name
        file.write_text("".join(f"{line}\n" for line in lines))
        return file

    def run(self, doorward, cookies=None, paths=None, seconds=4, connections=64, beside=(), once=False, begin=0):
        """µs of CPU a request of the gateway's and of the processes beside it, requests, their median latency in µs."""
        command = [program("wrk", "wrk"), "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
        command += ["-s", str(self.script), doorward.origin]
        command += ["--", str(cookies or "-"), str(paths or self.any_path), "once" if once else "round", str(begin)]
        watched = [doorward, *beside]
        before = [process.cpu() for process in watched]
        out = subprocess.run(command, capture_output=True, text=True, check=False)
        spent = [process.cpu() - start for process, start in zip(watched, before)]
        found = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+)", out.stdout)
        if not found:
            raise Missing(f"wrk says: {out.stdout}{out.stderr}")
        requests, refused, broken = (int(found.group(at)) for at in (1, 2, 3))
        if refused or broken or requests == 0:
            raise Missing(f"{refused} of {requests} requests were refused and {broken} broke\n{doorward.said()}")
        costs = [cpu / requests * 1e6 for cpu in spent]
        return {"cost": costs[0], "beside": costs[1:], "requests": requests, "p50": float(found.group(4))}

    def once(self, doorward, cookies, count, **options):
        """The same with each cookie shown once."""
        parts, shown = [], 0
        # The last that were asked are not waited for.
        while count - shown > 64:
            parts.append(self.run(doorward, cookies, seconds=2, once=True, begin=shown, **options))
            shown += parts[-1]["requests"]
        mean = lambda values: sum(value * part["requests"] for value, part in zip(values, parts)) / shown
        beside = [mean([part["beside"][at] for part in parts]) for at in range(len(parts[0]["beside"]))]
        cost, p50 = (mean([part[what] for part in parts]) for what in ("cost", "p50"))
        return {"cost": cost, "beside": beside, "requests": shown, "p50": p50}

    def compare(self, doorward, variants, rounds, seconds):
        """Median cost of each variant (a dict of arguments) over rounds that take turns, so that a slow moment is slow for all."""
        costs = [[] for _ in variants]
        for _ in range(rounds):
            for cost, variant in zip(costs, variants):
                cost.append(self.run(seconds=seconds, **{"doorward": doorward, **variant})["cost"])
        return [sorted(cost)[len(cost) // 2] for cost in costs]
