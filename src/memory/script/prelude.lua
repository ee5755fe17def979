-- Builds the environment that scripts see, out of the plain libraries and the functions that `host` brings from Rust.
-- Nothing that a script can reach may be changed by it: every shared table is an empty one whose `__index` leads to
-- the true one. Rust functions raise errors as userdata, which no script may meet: whatever catches an error here
-- hands it to `host.plain` first, which turns it into the string or table that Redis would have raised, and raises
-- once more what a script may not catch (its time is up).
local host = ...

local error, type, select, rawget, rawequal = error, type, select, rawget, rawequal
local getmetatable, setmetatable, rawset, tostring = getmetatable, setmetatable, rawset, tostring
local pcall, xpcall, loadstring, resume, wrap = pcall, xpcall, loadstring, coroutine.resume, coroutine.wrap
local byte, concat = string.byte, table.concat
local plain, final, origin = host.plain, host.final, host.origin
local deny, collect = host.deny, host.collect

local frozen = {}

local function refuse()
  error("Attempt to modify a readonly table", 2)
end

-- A table that reads as `true_one` and cannot be written. `missing` is asked for what is not there.
local function freeze(true_one, missing)
  if missing then
    setmetatable(true_one, { __index = missing })
  end
  local face = {}
  local meta = { __index = true_one, __newindex = refuse }
  meta.__metatable = setmetatable({}, { __newindex = refuse, __metatable = false })
  frozen[face] = true_one
  frozen[meta.__metatable] = {}
  return setmetatable(face, meta)
end

-- What pcall gives its caller: of an error table only the text, as scripts written for older versions expect.
local function settle(ok, ...)
  if ok then
    return true, ...
  end
  local e = plain((...))
  if type(e) == "table" then
    local text = e.err
    if type(text) == "string" or type(text) == "number" then
      e = text
    end
  end
  return false, e
end

-- The same without a change to tables.
local function settle_whole(ok, ...)
  if ok then
    return true, ...
  end
  return false, plain((...))
end

local globals = { _VERSION = _VERSION }
for _, name in ipairs {
  "assert", "error", "gcinfo", "getmetatable", "ipairs", "next", "pairs", "rawequal", "select",
  "setmetatable", "tonumber", "tostring", "type", "unpack",
} do
  globals[name] = _G[name]
end

function globals.pcall(...)
  return settle(pcall(...))
end

function globals.xpcall(f, handler)
  return settle_whole(xpcall(f, function(e)
    return handler(plain(e))
  end))
end

function globals.rawget(t, k)
  local true_one = frozen[t]
  if true_one then
    return rawget(true_one, k)
  end
  return rawget(t, k)
end

function globals.rawset(t, k, v)
  if frozen[t] then
    deny()
  end
  return rawset(t, k, v)
end

-- Compiled code could break the machine that runs it.
local function compile(text, name)
  if type(text) == "string" and byte(text) == 27 then
    return nil, "attempt to load chunk with wrong mode"
  end
  return loadstring(text, name)
end

globals.loadstring = compile

function globals.load(reader, name)
  local pieces = {}
  while true do
    local piece = reader()
    if piece == nil or piece == "" then
      break
    end
    pieces[#pieces + 1] = piece
  end
  return compile(concat(pieces), name or "=(load)")
end

-- A script may look at the collector, and make it work, but not stop it.
function globals.collectgarbage(what, ...)
  return collect(what or "collect")
end

globals.coroutine = {}
for name, f in next, coroutine do
  globals.coroutine[name] = f
end

function globals.coroutine.resume(...)
  return settle_whole(resume(...))
end

for _, name in ipairs { "table", "math" } do
  globals[name] = {}
  for inner, f in next, _G[name] do
    globals[name][inner] = f
  end
end
globals.math.random, globals.math.randomseed = host.random, host.randomseed

for _, name in ipairs { "coroutine", "math", "table" } do
  globals[name] = freeze(globals[name])
end
for _, name in ipairs { "bit", "cjson", "cmsgpack", "redis", "struct" } do
  globals[name] = freeze(host[name])
end

-- Strings find their methods in the true table; scripts get its face, also from the metatable.
local strings = string
globals.string = freeze(strings)
local of_strings = getmetatable("")
of_strings.__metatable = setmetatable({}, {
  __index = { __index = globals.string }, __newindex = refuse, __metatable = false,
})
frozen[of_strings.__metatable] = {}

local face = freeze(globals, function(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end)
globals._G = face

-- The handler of what a script does not catch: says where it was raised.
local function blame(e)
  local source, line = origin()
  e = final(e)
  if type(e) ~= "table" then
    e = { err = "ERR " .. tostring(e) }
  end
  if source then
    rawset(e, "source", source)
    rawset(e, "line", line)
  end
  return e
end
globals.__redis__err__handler = blame

-- KEYS and ARGV are set in `globals` by Rust, before each run.
return face, globals, function(f)
  return xpcall(f, blame)
end
