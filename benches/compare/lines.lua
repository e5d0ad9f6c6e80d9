-- Each request with another header, from a file of one value a line: lines.lua FILE THREADS HEADER PREFIX again|once
-- With `once` a thread ends when its share is used up.
local threads_made = 0

function setup(thread)
  thread:set("slot", threads_made)
  threads_made = threads_made + 1
end

function init(args)
  local file, threads, header, prefix = args[1], tonumber(args[2]), args[3], args[4]
  again = args[5] == "again"
  requests, at = {}, 0
  local number = 0
  for line in io.lines(file) do
    if number % threads == slot then
      requests[#requests + 1] = wrk.format("GET", nil, { ["Host"] = wrk.headers["Host"], [header] = prefix .. line })
    end
    number = number + 1
  end
end

function request()
  at = at + 1
  if at > #requests then
    if again then
      at = 1
    else
      at = #requests
      wrk.thread:stop()
    end
  end
  return requests[at]
end
