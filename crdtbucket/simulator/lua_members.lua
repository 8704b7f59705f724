--[[ The members of a replicated Redis, as far as the scripts need them: keys with their fields and
times to live, the commands that the scripts use, and copies of keys from one member to another.

A value is a table of fields for a hash, and a string else. Everything is text, as in Redis. ]]

local members = {}
local held, expires, changed -- of the member on which a script runs
local second, microsecond, now_ms

local function text(value)
  return type(value) == 'number' and string.format('%.17g', value) or value
end

local function get(key)
  if expires[key] and expires[key] <= now_ms then
    held[key], expires[key] = nil, nil
  end
  return held[key]
end

local commands = {}

function commands.TIME()
  return {second, microsecond}
end

function commands.GET(key)
  return get(key) or false
end

function commands.SET(key, value, _, ms)
  held[key], changed[key] = text(value), true
  expires[key] = now_ms + ms
  return {ok = 'OK'}
end

function commands.HGET(key, name)
  local fields = get(key)
  return fields and fields[name] or false
end

function commands.HMGET(key, ...)
  local fields, out = get(key) or {}, {}
  for i, name in ipairs({...}) do
    out[i] = fields[name] or false
  end
  return out
end

function commands.HGETALL(key)
  local out, n = {}, 0
  for name, value in pairs(get(key) or {}) do
    out[n + 1], out[n + 2] = name, value
    n = n + 2
  end
  return out
end

function commands.HLEN(key)
  local n = 0
  for _ in pairs(get(key) or {}) do
    n = n + 1
  end
  return n
end

function commands.HSET(key, ...)
  local fields, words = get(key) or {}, {...}
  for i = 1, #words, 2 do
    fields[text(words[i])] = text(words[i + 1])
  end
  held[key], changed[key] = fields, true
  return #words / 2
end

function commands.HDEL(key, ...)
  local fields = get(key) or {}
  for _, name in ipairs({...}) do
    fields[name] = nil
  end
  changed[key] = true
  return 1
end

function commands.PEXPIRE(key, ms)
  expires[key] = now_ms + tonumber(ms)
  return 1
end

local function call(name, ...)
  local command = commands[name]
  if not command then
    error('the simulated member has no command ' .. tostring(name))
  end
  return command(...)
end

redis = {call = call, pcall = call}

local function choose(member, s, us)
  second, microsecond = string.format('%.0f', s), string.format('%.0f', us)
  now_ms = s * 1000 + math.floor(us / 1000)
  held, expires, changed = member.held, member.expires, member.changed
end

local out = {}

function out.member(name)
  members[name] = {held = {}, expires = {}, changed = {}}
end

function out.load(source)
  return assert(loadstring((string.gsub(source, '^#!lua\n', '\n'))))
end

-- Runs a script at a time of the member's clock, and answers what it answers, one by one.
function out.run(name, script, s, us, keys, ...)
  choose(members[name], s, us)
  KEYS, ARGV = {}, {select(keys + 1, ...)}
  for i = 1, keys do
    KEYS[i] = (select(i, ...))
  end
  local done, reply = pcall(script)
  if not done then
    error(type(reply) == 'table' and reply.err or reply, 0)
  elseif type(reply) ~= 'table' then
    return reply
  end
  return unpack(reply)
end

-- Copies of all keys that scripts have changed here since the last time: key, copy, key, copy ...
function out.changes(name, s, us)
  choose(members[name], s, us)
  local copies, n = {}, 0
  for key in pairs(changed) do
    local value = get(key)
    if type(value) == 'table' then
      local fields = {}
      for field, one in pairs(value) do
        fields[field] = one
      end
      value = fields
    end
    if value then
      copies[n + 1] = key
      copies[n + 2] = {value = value, left = expires[key] and expires[key] - now_ms}
      n = n + 2
    end
    changed[key] = nil
  end
  return unpack(copies)
end

function out.fields(name, key, s, us)
  choose(members[name], s, us)
  return unpack(commands.HGETALL(key))
end

-- A copy has arrived. No script changes it: it may be held by several members.
function out.deliver(name, key, copy, s, us)
  choose(members[name], s, us)
  held[key], expires[key] = copy.value, copy.left and now_ms + copy.left
end

return out
