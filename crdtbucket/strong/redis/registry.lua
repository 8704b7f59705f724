#!lua
--[[ Registers a process among those that use this Redis, whole or not at all.

KEYS[1]  a hash with a field for each process, "epoch:node": "seen share print state group": the
         second of Redis' time at which it was last seen, the share of every limit that it may grant
         without Redis, in billionths, the fingerprint of its hash of keys, whether it may use this
         Redis (1) or was refused (0), and who grants one share together with it.

ARGV     1 field    the caller's             5 most     the share that its settings give it
         2 print    its fingerprint          6 fleet    1: that share is of all processes together
         3 using    the share that it takes  7 gone     s after which a silent one is not counted
                    until it has the answer  8 forgotten  s after which it is removed
         4 least    groups that it is to       9 group    the caller's
                    reckon with at least     10 elsewhere  groups that share the limits and are
                                                        not in this list
        11 earlier  its field before,      12 since    s since its last answer; -1: the first
                    perhaps the same                    call; -2: the list was lost lately
        13 known    groups at its last answer

Answer   {groups, share, field, print, lost}: how many groups there are, each of one or more
         processes, and the share that the caller may take from now on. The next two are those of a
         process that uses this Redis and hashes keys otherwise, so that the caller may not use it;
         else empty. `lost`: 1 if the list is not the one that the caller was in.

The shares of all groups are never more than the whole: a new process gets what the others leave,
and more once they have seen it and left more. The larger one of `using` and the new share is
written, so that a lost answer changes nothing. If the caller's own time is missing, or is not as old
as its last answer, the list was lost, or the clock was set, and others that still use their shares
may be missing, too: then there are at least `known` groups. ]]

local WHOLE = 1000000000
local field, print, most = ARGV[1], ARGV[2], tonumber(ARGV[5])
local using, least = tonumber(ARGV[3]), tonumber(ARGV[4])
local gone, forgotten, group = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local elsewhere, earlier = tonumber(ARGV[10]), ARGV[11]
local since, known = tonumber(ARGV[12]), tonumber(ARGV[13])
local SET_BY = 30 -- s: a clock that differs by more was set
local now = tonumber(redis.call('TIME')[1])

local all = redis.call('HGETALL', KEYS[1])
local shares, groups, taken = {}, 1, 0 -- of the other groups: each one's largest share
local first, first_print, own = '', '', nil
for i = 1, #all, 2 do
  local seen, share, other, state, with =
    string.match(all[i + 1], '^(%d+) (%d+) (%x+) ([01]) (%x+)$')
  if seen and (all[i] == field or all[i] == earlier) then
    own = math.max(own or 0, tonumber(seen))
  elseif seen and #all[i + 1] < 100 then
    local age = now - seen
    if math.abs(age) > forgotten then
      redis.call('HDEL', KEYS[1], all[i])
    elseif age <= gone then
      if with ~= group then
        shares[with] = math.max(shares[with] or 0, tonumber(share))
      end
      if other ~= print and state == '1' then
        first, first_print = all[i], other
      end
    end
  end
end

for _, share in pairs(shares) do
  groups, taken = groups + 1, taken + share
end
local lost = since >= 0 and (not own or math.abs(now - own - since) > SET_BY)
if lost or since == -2 then
  groups = math.max(groups, known)
end
local reckoned = math.max(groups + elsewhere, least)
local share = math.floor(WHOLE / reckoned)
if ARGV[6] == '1' then
  share = math.floor(most / reckoned)
else
  share = math.min(share, most)
end
share = math.max(0, math.min(share, WHOLE - taken))

local state = first == '' and 1 or 0
local written = string.format('%.0f %.0f %s %d %s', now, math.max(using, share), print, state, group)
if earlier ~= field then
  redis.call('HDEL', KEYS[1], earlier)
end
redis.call('HSET', KEYS[1], field, written)
redis.call('PEXPIRE', KEYS[1], forgotten * 1000)
return {groups, share, first, first_print, lost and 1 or 0}
