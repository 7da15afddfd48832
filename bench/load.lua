-- Requests for wrk from the file BENCH_REQUESTS: a line is METHOD, path and body, separated by tabs; in turn.
local requests = {}
for line in io.lines(os.getenv("BENCH_REQUESTS")) do
  local method, path, body = line:match("^(%S+)\t([^\t]*)\t?(.*)$")
  requests[#requests + 1] = { method, path, body ~= "" and body or nil }
end
local headers = {}
for name, value in (os.getenv("BENCH_HEADERS") or ""):gmatch("([^:\n]+): ([^\n]+)") do
  headers[name] = value
end
local turn = 0

request = function()
  turn = turn % #requests + 1
  local each = requests[turn]
  return wrk.format(each[1], each[2], headers, each[3])
end
