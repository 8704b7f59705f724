#!lua
--[[ A process shows itself among those that use this Redis, whole or not at all.

KEYS[1]  a hash with a field for each process, "epoch:node": "seen share print state": the second of
         Redis' time at which it was last seen, the share of every limit that it may grant without
         Redis, in billionths, the fingerprint of its hash of keys, and whether it may use this
         Redis (1) or was refused (0).

ARGV     1 field    the caller's             5 most     the share that its settings give it
         2 print    its fingerprint          6 fleet    1: that share is of all processes together
         3 using    the share that it takes  7 gone     s after which a silent one is not counted
                    until it has the answer  8 forgotten  s after which it is removed
         4 least    processes that it is to reckon with at least

Answer   {processes, share, field, print}: how many there are, and the share that the caller may take
         from now on; the last two of a process that uses this Redis and hashes otherwise, so that
         the caller may not; empty when there is none.

The shares of all that are counted are never more than the whole: a process that comes gets what the
others leave, until they have heard of it and left more. What is written is the larger one of `using`
and the new share, so that an answer which is lost changes nothing. ]]

local WHOLE = 1000000000
local field, print, most = ARGV[1], ARGV[2], tonumber(ARGV[5])
local using, least = tonumber(ARGV[3]), tonumber(ARGV[4])
local gone, forgotten = tonumber(ARGV[7]), tonumber(ARGV[8])
local now = tonumber(redis.call('TIME')[1])

local all = redis.call('HGETALL', KEYS[1])
local processes, taken = 1, 0
local first, first_print = '', ''
for i = 1, #all, 2 do
  local seen, share, other, state = string.match(all[i + 1], '^(%d+) (%d+) (%x+) ([01])$')
  if seen and all[i] ~= field and #all[i + 1] < 80 then
    local age = now - seen
    if math.abs(age) > forgotten then
      redis.call('HDEL', KEYS[1], all[i])
    elseif age <= gone then
      processes, taken = processes + 1, taken + share
      if other ~= print and state == '1' then
        first, first_print = all[i], other
      end
    end
  end
end

local reckoned = math.max(processes, least)
local share = math.floor(WHOLE / reckoned)
if ARGV[6] == '1' then
  share = math.floor(most / reckoned)
else
  share = math.min(share, most)
end
share = math.max(0, math.min(share, WHOLE - taken))

local state = first == '' and 1 or 0
local written = string.format('%.0f %.0f %s %d', now, math.max(using, share), print, state)
redis.call('HSET', KEYS[1], field, written)
redis.call('PEXPIRE', KEYS[1], forgotten * 1000)
return {processes, share, first, first_print}
