#!lua
--[[ One call on one bucket key of a replicated Redis, in one region: merge what the other regions'
copies bring, raise the caller's record, decide. Whole or not at all; only KEYS[1] is written.

KEYS[1]  this region's key, a hash; the others are the same key of each other region, as far as
         replication has brought it. Fields:
         `level`  "at_s at_us debt_s debt_ns rest q p made version sum offered reserve born|"
                  and "region ns when " for each region with a prediction. As in the script for one
                  server, but the debt may be below 0, which is credit for what silent regions take;
                  sum: of the versions of all records; offered: tokens, decayed over 30 s;
                  reserve: tokens; made, born and when: us. A key that is lost is
                  made anew: `made` tells its fields from those that come back.
         a field for each process, "epoch:node": "generation taken refunded base version made home
                  fence seen_s"; base: tokens that were never charged; home: the process' region.
         `peers`  "made" and " region version at" of each level as it was last merged.

ARGV     1 to 14  as in the script for one server
         15 region
         16 forget   us after which a silent region is predicted no longer; 0: never
         17 beats    "quiet own" and " base stamp" of each other region in the order of KEYS, in us.
                     quiet: until then, by this member's clock, no region can be silent; own: stamp
                     of the newest own beat; base and newest stamp: see the beat script; 0: no beat
         after them, when whole, each column: owner generation taken refunded home ("-": unknown)

Answer   {status, debt s, debt ns (rounded up, at least 0), taken, refunded, s and ns that silent
         regions are taken to have used} and, when whole, owner, generation, taken, refunded of the
         records; see whole_answer.lua. Status and errors are those of the script for one server. ]]

local DENIED, ALLOWED, UNKNOWN, FENCED = 0, 1, 2, 3
local GENERATION, TAKEN, REFUNDED, BASE, VERSION, HOME, FENCE, SEEN = 1, 2, 3, 4, 5, 6, 7, 8
local RECORD = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (%d+)$'
local LEVEL = '^(%d+) (%d+) (-?%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+)|(.*)$'
local OFFERED_OF = '^(%d+) (%d+) %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ (%d+) %S+ (%d+)|'
local VERSION_OF = '^(%d+) (%d+) %S+ %S+ %S+ %S+ %S+ %S+ (%d+)'
local NEAR, SLACK, SLOT, TAU = 500000, 1000000, 10000, 30000000 -- us
local GRACE, UNMERGED = 1000000, 10000000 -- us that credit is kept: after a merge, and without one
local FARTHEST = 2 ^ 48 -- ns that one region is predicted to take: three days
local FIRST_MS = 1577836800000 -- versions count from 2020

--@ arguments.lua
--@ tokens.lua

local sub = string.sub
local regions = #KEYS - 1
local region = argv[15]
local at_name = #key - #region + 1 -- where a region's name begins in its key

-- What is held: the level, and by owner the caller's record, or all that were written
-- since the key was made. What is older, or newer than the level, came back after a loss: it counts
-- as missing.

local function read_record(name, text, since)
  local generation, taken, refunded, base, version, made, home, fence, seen = match(text, RECORD)
  if not seen then
    fail('field ' .. name .. ' is no record of a region: ' .. text)
  end
  if made == since then
    return {
      generation + 0, taken + 0, refunded + 0, base + 0, version + 0, home, fence + 0, seen + 0,
    }
  end
end

local held = redis.pcall('HMGET', key, 'level', owner)
if held.err then
  fail(held.err)
end
local level = held[1]

--@ range.lua

local us = now_s * 1000000 + now_us
local made, version, sum, offered, reserve, born, far_text = nil, 0, 0, 0, 0, us, ''
local at, elapsed = nil, 0
local old_q, old_p -- the level's
local none = {} -- of what a region alone has nothing
local records, stale, all = {}, none, false

if level then
  local at_s, at_us, debt_s, debt_ns, debt_rest
  at_s, at_us, debt_s, debt_ns, debt_rest, old_q, old_p, made, version, sum, offered, reserve,
    born, far_text = match(level, LEVEL)
  --@ advance.lua
  reserve = tonumber(reserve)
  if not valid or not reserve then
    fail('field level is no level of a region: ' .. level)
  end
  at = at_s * 1000000 + at_us
  elapsed = max(0, us - at)
  version, sum = version + 0, sum + 0
  local time = elapsed
  --@ decay.lua
  offered = offered / 1000 * left
  if held[2] then
    local one = read_record(owner, held[2], made)
    records[owner] = one and one[VERSION] <= version and one or nil
  end
end

if whole or not records[owner] and redis.call('HLEN', key) > (level and MANY or 0) then
  --@ read_all.lua
end

-- By region, what it is predicted to have used since its last beat: ns of refill, and when
-- that was last reckoned. The sum is credit: the level may be as far below 0.
local far, silent, share = none, none, 1
local credit, hold = 0, 0
local copies = none -- texts of the other regions' levels

local forgotten, silence = none, false
local own_stamp, bases, stamps, beaten
if regions > 0 and us > tonumber(match(argv[17], '^%d+')) then
  silent, forgotten = {}, {}
  --@ lateness.lua
  silence = next(silent) ~= nil
end
local function is_region(name)
  for i = 1, regions do
    if sub(KEYS[i + 1], at_name) == name then
      return true
    end
  end
end

if silence or far_text ~= '' then
  --@ prediction.lua
elseif not level then
  s, ns = least_s, least_ns
end
--@ ceiling.lua
if credit > 0 then
  widest = min(EXACT, widest + math.ceil(credit / q * p) + 1)
end
count(0)

local raised, created, peers, noted = {}, false, none, false
if regions > 0 and (not at or floor(us / SLOT) ~= floor(at / SLOT)) then
  changed = true -- so that no other call of this slot of 10 ms looks again
  --@ look.lua
end

local function answer(status)
  local own = records[owner]
  local up_s, up_ns, hold_ns = s, rest > 0 and ns + 1 or ns, hold % NS
  if s < 0 then
    up_s, up_ns = 0, 0
  end
  return {
    status, up_s + floor(up_ns / NS), up_ns % NS, own and own[TAKEN] or 0,
    own and own[REFUNDED] or 0, (hold - hold_ns) / NS, hold_ns,
  }
end

-- What the caller brings, as in the script for one server.

local own = records[owner]
local fence = tonumber(argv[8])
if own and own[FENCE] > fence then
  return answer(FENCED)
end
local generation, taken, refunded = argv[9] + 0, argv[10] + 0, argv[11] + 0
local differs = taken + refunded > 0 -- of a process that has taken nothing, nothing is merged
if own then
  differs = fence ~= own[FENCE] or generation ~= own[GENERATION] or taken ~= own[TAKEN]
    or refunded ~= own[REFUNDED]
end
if whole or differs then
  --@ caller.lua
end

if far ~= none then
  -- The credit for a region that is back goes a second after its key was merged: beats overtake
  -- keys.
  for name, one in pairs(far) do
    if not silent[name] and us - one[2] > UNMERGED then
      far[name] = nil
    end
  end
  --@ credit.lua
  count(0)
end

-- The decision: within what the silent regions leave, or within this region's own share.

local status, kept = ALLOWED, 0
if cost > 0 then
  --@ decision.lua
end

-- All that changed is kept until the bucket is full, and then for the retention.

if next(raised) or level and changed then
  --@ write.lua
end

--@ whole_answer.lua
