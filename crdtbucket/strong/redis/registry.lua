#!lua
--[[ Registers a process among those that use this Redis, whole or not at all.

KEYS[1]  a hash with a field for each process, "epoch:node": "seen share print state group": the
         second of Redis' time at which it was last seen, the share of every limit that it may grant
         without Redis, in billionths, the fingerprint of its hash of keys, whether it may use this
         Redis (1) or was refused (0), and who grants one share together with it. One more field,
         "begun": "second groups": when the list began, and how many groups there may be for a
         while.

ARGV     1 field    the caller's             5 most     the share that its settings give it
         2 print    its fingerprint          6 fleet    1: that share is of all processes together
         3 using    the share that it takes  7 gone     s after which a silent one is not counted
                    until it has the answer  8 forgotten  s after which it is removed
         4 least    groups that it is to       9 group    the caller's
                    reckon with at least     10 elsewhere  groups that share the limits and are
                                                        not in this list
        11 earlier  its field before,      12 since    s since its last answer; -1: there was
                    perhaps the same                    none
        13 known    groups at its last     14 settled  s in which all others write themselves into
                    answer                              a list that has begun

Answer   {groups, share, field, print, wait}: how many groups there are, each of one or more
         processes, and the share that the caller may take from now on. The next two are those of a
         process that uses this Redis and hashes keys otherwise, so that the caller may not use it;
         else empty. `wait`: s until the share may become larger; 0 where nothing is waited for.

The shares of all groups are never more than the whole: a new process gets what the others leave,
and more once they have seen it and left more. The larger one of `using` and the new share is
written, so that a lost answer changes nothing.

Others that use their shares may be missing in a list that has just begun, after Redis had lost it,
or had been out of reach for all of them, or its clock was set. So at first nobody gets a larger
share, and for a minute there are at least as many groups as those knew who were in the list
before. ]]

local WHOLE = 1000000000
local field, print, most = ARGV[1], ARGV[2], tonumber(ARGV[5])
local using, least = tonumber(ARGV[3]), tonumber(ARGV[4])
local gone, forgotten, group = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local elsewhere, earlier = tonumber(ARGV[10]), ARGV[11]
local since, known, settled = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local SET_BY = 30 -- s: a clock that differs by more was set
local now = tonumber(redis.call('TIME')[1])

local all = redis.call('HGETALL', KEYS[1])
local shares, groups, taken = {}, 1, 0 -- of the other groups: each one's largest share
local first, first_print, own, silent, alive = '', '', nil, false, false
local begun, before = nil, 0
for i = 1, #all, 2 do
  local seen, share, other, state, with =
    string.match(all[i + 1], '^(%d+) (%d+) (%x+) ([01]) (%x+)$')
  local age = seen and now - seen
  if all[i] == 'begun' then
    begun, before = string.match(all[i + 1], '^(%d+) (%d+)$')
  elseif seen and (all[i] == field or all[i] == earlier) then
    own = math.max(own or 0, tonumber(seen))
  elseif seen and #all[i + 1] < 100 then
    if age <= gone and age >= -forgotten then
      alive = true
      if with ~= group then
        shares[with] = math.max(shares[with] or 0, tonumber(share))
      end
      if other ~= print and state == '1' then
        first, first_print = all[i], other
      end
    else
      silent = true
      if math.abs(age) > forgotten then
        redis.call('HDEL', KEYS[1], all[i])
      end
    end
  end
end

for _, share in pairs(shares) do
  groups, taken = groups + 1, taken + share
end
local lost = since > gone or since >= 0 and (not own or math.abs(now - own - since) > SET_BY)
local stale = not begun or now < tonumber(begun)
if stale or now - begun > gone then
  before = 0
end
if lost or stale or silent and not alive and not own then
  begun = now
end
before = math.max(before, lost and known or 0)
groups = math.max(groups, before)
local reckoned = math.max(groups + elsewhere, least)
local share = math.floor(WHOLE / reckoned)
if ARGV[6] == '1' then
  share = math.floor(most / reckoned)
else
  share = math.min(share, most)
end
share = math.max(0, math.min(share, WHOLE - taken))
local wait = begun + settled + 1 - now
if wait > 0 then
  share = math.min(share, using)
end

local state = first == '' and 1 or 0
local written = string.format('%.0f %.0f %s %d %s', now, math.max(using, share), print, state, group)
if earlier ~= field then
  redis.call('HDEL', KEYS[1], earlier)
end
redis.call('HSET', KEYS[1], field, written, 'begun', string.format('%.0f %.0f', begun, before))
redis.call('PEXPIRE', KEYS[1], forgotten * 1000)
return {groups, share, first, first_print, math.max(0, wait)}
