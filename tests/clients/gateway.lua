-- Drives a gateway's /search for wrk: one request after the other, each with the next of the tokens, until the thread
-- has its number of responses; then it says "enough", for whoever sends the SIGINT that ends wrk before its time. Counts
-- status codes, and what RateLimit-* and Retry-After say; judges only whether they are there and possible. The last line
-- of its output is JSON.
--
-- Arguments: responses, the limit, its window in seconds, tokens..

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  responses_max, limit, window = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  requests = {}
  for i = 4, #args do
    requests[#requests + 1] = wrk.format('GET', '/search', { Authorization = 'Bearer ' .. args[i] })
  end
  sent, responses, statuses, remaining, wrong, example = 0, 0, '', '', 0, ''
  count_of_status, count_of_remaining = {}, {}
end

function request()
  sent = sent + 1
  return requests[sent % #requests + 1]
end

local function whole_within(text, least, most)
  local number = string.match(text or '', '^%d+$') and tonumber(text)
  return number and number >= least and number <= most
end

-- Why these headers cannot be right.
local function fault(status, headers)
  if status == 401 then
    return nil
  elseif status ~= 200 and status ~= 429 then
    return 'status ' .. status
  elseif headers['ratelimit-limit'] ~= tostring(limit) then
    return 'RateLimit-Limit'
  elseif headers['ratelimit-policy'] ~= limit .. ';w=' .. window then
    return 'RateLimit-Policy'
  elseif not whole_within(headers['ratelimit-remaining'], 0, status == 200 and limit - 1 or 0) then
    return 'RateLimit-Remaining'
  elseif not whole_within(headers['ratelimit-reset'], 1, 2 * window) then
    return 'RateLimit-Reset'
  elseif status == 429 and not whole_within(headers['retry-after'], 1, 2 * window) then
    return 'Retry-After'
  elseif status == 200 and headers['retry-after'] then
    return 'Retry-After where none is due'
  end
end

local function add(counts, what)
  counts[what] = (counts[what] or 0) + 1
end

-- As an object of JSON; threads hand only plain values over.
local function object(counts)
  local parts = {}
  for what, count in pairs(counts) do
    parts[#parts + 1] = string.format('"%s":%d', what, count)
  end
  return '{' .. table.concat(parts, ',') .. '}'
end

function response(status, received)
  local headers = {}
  for name, value in pairs(received) do
    headers[string.lower(name)] = value
  end
  responses = responses + 1
  add(count_of_status, status)
  if status == 200 then
    add(count_of_remaining, headers['ratelimit-remaining'])
  end
  local why = fault(status, headers)
  if why then
    wrong, example = wrong + 1, why
  end
  if responses >= responses_max then
    statuses, remaining = object(count_of_status), object(count_of_remaining)
    wrk.thread:stop()
    io.write('enough\n')
    io.flush()
  end
end

function done(summary)
  local parts = {}
  for _, thread in ipairs(threads) do
    parts[#parts + 1] = string.format('{"statuses":%s,"remaining":%s,"wrong":%d,"example":"%s"}',
      thread:get('statuses'), thread:get('remaining'), thread:get('wrong'), thread:get('example'))
  end
  local errors = summary.errors
  io.write(string.format('{"threads":[%s],"socket_errors":%d}\n', table.concat(parts, ','),
    errors.connect + errors.read + errors.write + errors.timeout))
end
