#!lua
--[[ One call on one bucket key, whole or not at all: raise the caller's record, then decide.

KEYS[1]  a hash. Field `level`: "at_s at_us debt_s debt_ns rest q p", the debt as it stood at
         Redis' time `at`: debt_s seconds + debt_ns ns + rest / p ns, where one token takes q / p ns.
         A field for each process, "epoch:node", which the script does not read: "generation taken
         refunded fence seen_s", in tokens, and the second of Redis' time at which it last changed.

ARGV      1 capacity   tokens                   8 fence     which of the process' connections asks
          2 max_debt   tokens below empty       9 generation \
          3 q          ns                      10 taken       > the caller's column, in tokens
          4 p          tokens, below 2^51      11 refunded   /
          5 retention  ms that a full bucket's 12 stated    the caller's debt: seconds
                       records are kept        13           and ns
          6 cost       tokens; 0: only settle  14 whole     1: the other columns that it knows follow,
          7 owner      the caller's field                   each as owner, generation, taken, refunded

Answer   {status, debt s, debt ns (rounded up), taken, refunded} of the record as it stands now and,
         when whole, owner, generation, taken, refunded of the records; see whole_answer.lua.
status   0 denied  1 allowed, or settled
         2 unknown: the column brings more than the `stated` debt, or there is no record of the
           caller while it states a debt, so send it whole; nothing was changed
         3 fenced: a later connection has asked since; nothing was changed
An error "CRDTBUCKET ..." says that the key holds something else; nothing was changed.

Tokens are whole and below 2^53, times are seconds and ns and 1/p ns: every number is exact. ]]

local DENIED, ALLOWED, UNKNOWN, FENCED = 0, 1, 2, 3
local GENERATION, TAKEN, REFUNDED, FENCE, SEEN = 1, 2, 3, 4, 5
local LEVEL = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$'
local RECORD = '^(%d+) (%d+) (%d+) (%d+) (%d+)$'

--@ arguments.lua

local held, all = nil, whole
if not whole then
  held = redis.pcall('HMGET', key, 'level', owner)
  --@ repeated.lua
end

--@ tokens.lua

-- What is held: the level, and by owner the caller's record, or all.

local level
local records = {}

local function read(name, text)
  local generation, taken, refunded, fence, seen = match(text, RECORD)
  local one = {
    tonumber(generation), tonumber(taken), tonumber(refunded), tonumber(fence), tonumber(seen),
  }
  if not seen or max(unpack(one)) > EXACT then
    fail('field ' .. name .. ' is no record: ' .. text)
  end
  records[name] = one
end

if not whole and not held.err and not held[2] then
  local size = redis.call('HLEN', key)
  if size > 0 and not held[1] then
    fail('there are fields and no level')
  end
  all = size > MANY -- a record that is about to be made may be one too many
end
if all then
  held = redis.pcall('HGETALL', key)
end
if held.err then
  fail(held.err)
elseif all then
  for i = 1, #held, 2 do
    if held[i] == 'level' then
      level = held[i + 1]
    else
      read(held[i], held[i + 1])
    end
  end
else
  level = held[1]
  if held[2] then
    read(owner, held[2])
  end
end
if not level and next(records) then
  fail('there are fields and no level')
end

--@ range.lua

if level then
  local at_s, at_us, debt_s, debt_ns, debt_rest, old_q, old_p =
    match(level, LEVEL)
  --@ advance.lua
  if not valid then
    fail('field level is none: ' .. level)
  end
end
--@ ceiling.lua
count(0)

local function answer(status)
  local own = records[owner]
  local up_ns = rest > 0 and ns + 1 or ns
  return {
    status, s + floor(up_ns / NS), up_ns % NS, own and own[TAKEN] or 0, own and own[REFUNDED] or 0,
  }
end

-- What the caller brings: every record becomes the merge of itself and its column.

-- Tokens in the counts `x` that a holder of `y` has not counted.
local function gain(x, y)
  if not y or x[GENERATION] ~= y[GENERATION] then
    return x[TAKEN] - x[REFUNDED]
  end
  return max(0, x[TAKEN] - y[TAKEN]) - max(0, x[REFUNDED] - y[REFUNDED])
end

local own = records[owner]
local column = {tonumber(argv[9]), tonumber(argv[10]), tonumber(argv[11]), tonumber(argv[8])}
local stated_s, stated_ns = tonumber(argv[12]), tonumber(argv[13])
if own and own[FENCE] > column[FENCE] then
  return answer(FENCED)
end

local raised, created = {}, false

-- Answers the tokens that the column brought. The higher generation wins whole.
local function merge(name, column)
  local one = records[name]
  if not one then
    if column[TAKEN] + column[REFUNDED] > 0 then
      created, records[name], raised[name] = true, column, column
    end
    return gain(column)
  end
  local news, more = column[GENERATION] > one[GENERATION], 0
  if news then
    more = gain(column)
    one[GENERATION], one[TAKEN], one[REFUNDED] = column[GENERATION], column[TAKEN], column[REFUNDED]
  elseif column[GENERATION] == one[GENERATION] then
    news, more = column[TAKEN] > one[TAKEN] or column[REFUNDED] > one[REFUNDED], gain(column, one)
    one[TAKEN] = max(one[TAKEN], column[TAKEN])
    one[REFUNDED] = max(one[REFUNDED], column[REFUNDED])
  end
  if news or column[FENCE] > one[FENCE] then
    one[FENCE], raised[name] = max(one[FENCE], column[FENCE]), one
  end
  return more
end

if whole then
  --@ sums.lua

  local columns, brings, strange, lacks = {[owner] = column}, {}, {}, {}
  for i = 15, #argv, 4 do
    columns[argv[i]] = {tonumber(argv[i + 1]), tonumber(argv[i + 2]), tonumber(argv[i + 3]), 0}
  end
  for name, one in pairs(records) do
    lacks[#lacks + 1] = gain(one, columns[name])
  end
  for name, one in pairs(columns) do
    local held = records[name]
    local list = held and held[GENERATION] >= one[GENERATION] and brings or strange
    list[#list + 1] = merge(name, one)
  end

  --@ covered.lua
else
  local more = gain(column, own)
  if own and column[GENERATION] < own[GENERATION] then
    more = 0
  end
  --@ unknown.lua
  merge(owner, column)
  count(own and more or 0)
end

-- The decision. A cost passes when it is too much by less than a whole ns.

local status = ALLOWED
if cost > 0 then
  local full_s, full_ns, full_rest = span(capacity)
  local cost_s, cost_ns, cost_rest = span(cost)
  local over = (s + cost_s - full_s) * NS + ns + cost_ns - full_ns
  if over + floor((rest + cost_rest - full_rest) / p) > 0 then
    status = DENIED
  else
    local one = records[owner]
    if not one then
      one, created = {column[GENERATION], 0, 0, column[FENCE]}, true
      records[owner] = one
    end
    one[TAKEN], raised[owner] = one[TAKEN] + cost, one
    count(cost)
  end
end

if changed or next(raised) then
  local fields = {}
  for name, one in pairs(raised) do
    one[SEEN] = now_s
    fields[#fields + 1] = name
    fields[#fields + 1] = format('%d %d %d %d %s', one[1], one[2], one[3], one[4], now[1])
  end
  -- All is kept until the bucket is full, and then for the retention.
  local text = now[1] .. ' ' .. now[2] .. format(' %d %d %d ', s, ns, rest) .. argv[3] .. ' '
    .. argv[4]
  redis.call('HSET', key, 'level', text, unpack(fields))
  redis.call('PEXPIRE', key, s * 1000 + floor(ns / 1000000) + 1 + argv[5])
end

if created and redis.call('HLEN', key) - 1 > MANY then -- all have been read
  local oldest = now_s - argv[5] / 1000
  for name, one in pairs(records) do
    if one[SEEN] < oldest then
      redis.call('HDEL', key, name)
      records[name] = nil
    end
  end
end

--@ whole_answer.lua
