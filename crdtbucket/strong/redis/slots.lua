#!lua
--[[ One call on the slots of one key, whole or not at all: frees, records, then holds one.

KEYS[1]  a hash. A field for each hold: its id, and "deadline number", ms of Redis' time and the slot.
         Field `born`: us of Redis' time at which the record began. It goes when the last hold goes.

ARGV     1 slots   of the key          4 ttl    ms of the hold that is asked for
         2 born    of the record that  5 gone   how many ids follow that are held no more
                   the caller knows,   6 whole  1: after those, all holds of the caller follow,
                   or nothing                   each as id, left (ms), number
         3 id      of the hold that is asked for, or nothing

Answer   {status, number of the slot, holds, ms until the first of them ends, born; 0: no record}
status   0 denied  1 held, or recorded
         2 unknown: the record is not the one that the caller knows; nothing was changed

An id that is held already is held once. What the caller holds is recorded whatever `slots` is: it
was admitted before. ]]

local DENIED, ALLOWED, UNKNOWN = 0, 1, 2
local key, argv = KEYS[1], ARGV
local slots, id, whole = tonumber(argv[1]), argv[3], argv[6] == '1'

local held = redis.pcall('HGETALL', key)
if held.err then
  error({err = 'CRDTBUCKET ' .. held.err})
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local holds, used, count, drop, born = {}, {}, 0, {}, nil
for i = 1, #held, 2 do
  local name, text = held[i], held[i + 1]
  if name == 'born' then
    born = tonumber(text)
  else
    local deadline, number = string.match(text, '^(%d+) (%d+)$')
    if not deadline then
      error({err = 'CRDTBUCKET field ' .. name .. ' is no hold: ' .. text})
    end
    if tonumber(deadline) > now then
      holds[name], count = {tonumber(deadline), tonumber(number)}, count + 1
    else
      drop[#drop + 1] = name
    end
  end
end

if count == 0 and born then
  drop[#drop + 1], born = 'born', nil
end

local function answer(status, number)
  local left
  for _, hold in pairs(holds) do
    left = math.min(left or hold[1], hold[1])
  end
  return {status, number, count, left and left - now or 0, count > 0 and born or 0}
end

if argv[2] ~= '' and not whole and tonumber(argv[2]) ~= born then
  return answer(UNKNOWN, 0)
end

local fields = {}
local function record(name, deadline, number)
  holds[name], count = {deadline, number}, count + 1
  fields[#fields + 1] = name
  fields[#fields + 1] = string.format('%d %d', deadline, number)
end

local at = 7
for _ = 1, tonumber(argv[5]) do
  if holds[argv[at]] then
    holds[argv[at]], count = nil, count - 1
    drop[#drop + 1] = argv[at]
  end
  at = at + 1
end
for i = at, whole and #argv or 0, 3 do
  if not holds[argv[i]] then
    record(argv[i], now + argv[i + 1], tonumber(argv[i + 2]))
  end
end

local status, number = ALLOWED, 0
if id ~= '' and holds[id] then
  number = holds[id][2]
elseif id ~= '' and count < slots then
  for _, hold in pairs(holds) do
    used[hold[2]] = true
  end
  while used[number] do
    number = number + 1
  end
  record(id, now + argv[4], number)
elseif id ~= '' then
  status = DENIED
end

if count == 0 and born then
  drop[#drop + 1] = 'born'
end
if #drop > 0 then
  redis.call('HDEL', key, unpack(drop))
end
if #fields > 0 then
  if not born then
    born = time[1] * 1000000 + time[2]
    fields[#fields + 1] = 'born'
    fields[#fields + 1] = string.format('%d', born)
  end
  redis.call('HSET', key, unpack(fields))
  local last = now
  for _, hold in pairs(holds) do
    last = math.max(last, hold[1])
  end
  redis.call('PEXPIRE', key, last - now)
end
return answer(status, number)
