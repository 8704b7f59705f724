#!lua
--[[ One call on one bucket key of a replicated Redis, in one region: merge what the other regions'
copies bring, raise the caller's record, decide. Whole or not at all; only KEYS[1] is written.

KEYS[1]  this region's key, a hash; the others are the same key of each other region, as far as
         replication has brought it. Fields:
         `level`  "at_s at_us debt_s debt_ns rest q p generation version sum offered reserve born|"
                  and "region ns when " for each region with a prediction. As in the script for one
                  server, but the debt may be below 0, which is credit for what silent regions take;
                  sum: of the versions of all records; offered: tokens, decayed over 30 s;
                  reserve: tokens; born and when: us.
         a field for each process, "epoch:node": "birth taken refunded base version generation home
                  fence seen_s"; base: tokens that were never charged; home: the process' region.
         `peers`  "generation" and " region version at" of each level as it was last merged.

ARGV     1 to 14  as in the script for one server        17 own     stamp of the newest own beat
         15 region                                       18 ...     for each other region: its name,
         16 forget   us after which a silent region                 base and newest stamp (us; 0:
                     is predicted no longer; 0: never               no beat yet), see the beat script
         after them, when whole, each column: owner birth taken refunded home ("-": unknown)

Answer   {status, debt s, debt ns (rounded up, at least 0), taken, refunded, s and ns that silent
         regions are taken to have used} and, when whole, owner, birth, taken, refunded of every
         record. Status and errors are those of the script for one server. ]]

local DENIED, ALLOWED, UNKNOWN, FENCED = 0, 1, 2, 3
local BIRTH, TAKEN, REFUNDED, BASE, VERSION, HOME, FENCE, SEEN = 1, 2, 3, 4, 5, 6, 7, 8
local RECORD = '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (%d+)$'
local LEVEL = '^(%d+) (%d+) (-?%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+) (%d+)|(.*)$'
local NEAR, SLACK, SLOT, TAU = 500000, 1000000, 10000, 30000000 -- us
local GRACE, UNMERGED = 1000000, 10000000 -- us that credit is kept: after a merge, and without one
local FARTHEST = 2 ^ 48 -- ns that one region is predicted to take: three days
local FIRST_MS = 1577836800000 -- versions count from 2020

--@ level.lua

local us = now_s * 1000000 + now_us
local regions = #KEYS - 1
local region, forget, own_stamp = argv[15], tonumber(argv[16]), tonumber(argv[17])

local function name_of(i)
  return argv[15 + 3 * i]
end

local function stamp_of(i)
  return tonumber(argv[17 + 3 * i])
end

-- What is held: the level, and by owner the caller's record, or all of the level's generation. What
-- is of an earlier one, or newer than the level, came back after a loss: it counts as missing.

local function read_level(where, text)
  local at_s, at_us, debt_s, debt_ns, rest, old_q, old_p, generation, version, sum, offered,
    reserve, born, far = match(text, LEVEL)
  offered, reserve = tonumber(offered), tonumber(reserve)
  if not far or not offered or not reserve then
    fail(where .. ' is no level of a region: ' .. text)
  end
  return {
    at_s = at_s, at_us = at_us, s = debt_s, ns = debt_ns, rest = rest, q = old_q, p = old_p,
    generation = generation, version = tonumber(version), sum = tonumber(sum),
    offered = offered, reserve = reserve, born = tonumber(born), far = far,
    at = at_s * 1000000 + at_us,
  }
end

local function read_record(name, text, generation)
  local birth, taken, refunded, base, version, made, home, fence, seen = match(text, RECORD)
  if not seen then
    fail('field ' .. name .. ' is no record of a region: ' .. text)
  end
  if made == generation then
    return {
      tonumber(birth), tonumber(taken), tonumber(refunded), tonumber(base), tonumber(version), home,
      tonumber(fence), tonumber(seen),
    }
  end
end

local held = redis.pcall('HMGET', key, 'level', owner, 'peers')
if held.err then
  fail(held.err)
end
local level = held[1] and read_level('field level', held[1])
local generation = level and level.generation or format('%.0f', us)
local records, stale, all = {}, {}, false

local function read_own(name, text)
  local one = read_record(name, text, generation)
  return one and one[VERSION] <= level.version and one or nil
end

if level and held[2] then
  records[owner] = read_own(owner, held[2])
end

local function read_all()
  if all then
    return
  end
  all = true
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local name = fields[i]
    if name ~= 'level' and name ~= 'peers' and not records[name] then
      local one = level and read_own(name, fields[i + 1])
      if one then
        records[name] = one
      else
        stale[#stale + 1] = name
      end
    end
  end
end

if whole or not records[owner] and redis.call('HLEN', key) > (level and MANY or 0) then
  read_all()
end

local elapsed, offered = 0, 0
if level then
  if not advance(level.at_s, level.at_us, level.s, level.ns, level.rest, level.q, level.p) then
    fail('field level is no level of a region: ' .. held[1])
  end
  elapsed = max(0, us - level.at)
end

-- The levels of the other regions' copies, each read once; false for none.
local copies = {}
local function copy_of(i)
  if copies[i] == nil then
    local text = redis.call('HGET', KEYS[i + 1], 'level')
    copies[i] = text and read_level('the level of the copy ' .. KEYS[i + 1], text)
  end
  return copies[i]
end

-- What silent regions take: by region the ns of refill that it is predicted to have used since it
-- was last heard of, and when that was last reckoned. It is added up call by call, at the share of
-- the moment. The sum is credit: the level may be as far below 0.

local far, silent, share = {}, {}, 1
local credit, hold = 0, 0

-- e^(-us / 30 s), nearly, and the same on every machine.
local function decay(time)
  local left = max(0, 1 - time / (64 * TAU))
  for _ = 1, 6 do
    left = left * left
  end
  return left
end

-- Tokens a second that were offered to a level as of `at`.
local function rate(tokens, born, at)
  return tokens / (TAU / 1000000 * (1 - decay(max(at - born, 500000))))
end

local function add_ns(more)
  ns = ns + more
  s, ns = s + floor(ns / NS), ns % NS
end

if level then
  offered = level.offered * decay(elapsed)
  for name, used, when in string.gmatch(level.far, '(%S+) (%d+) (%d+)') do
    used = tonumber(used)
    if not comparable then
      used = floor(used * ((q / p) / (level.q / level.p)))
    end
    far[name] = {used, min(us, tonumber(when))}
  end
end

local to = max(own_stamp, min(us, own_stamp + NEAR)) -- a caller without beats tells no silence
local forgotten = {}
for i = 1, regions do
  local name, base, stamp = name_of(i), tonumber(argv[16 + 3 * i]), stamp_of(i)
  local late = stamp > 0 and to - base - stamp - NEAR or 0
  if late > 0 and forget > 0 and late > forget then
    forgotten[name] = true
  elseif late > 0 then
    silent[name] = late
  end
end

if next(silent) then
  local rates = {}
  local own = rate(offered + cost, level and level.born or us, us)
  local sum = own
  for i = 1, regions do
    local copy = copy_of(i)
    if copy then
      local left = copy.offered * decay(max(0, stamp_of(i) - copy.at))
      local one = rate(left, copy.born, copy.at)
      rates[name_of(i)], sum = one, sum + one
    end
  end
  share = sum > 0 and own / sum or 1
  for name, late in pairs(silent) do
    local one = rates[name] or 0
    if one > 0 then
      local time = level and min(elapsed, late) or late
      local more = floor(min(one * q / p, one / sum * NS) * time / 1000000)
      far[name] = {min(FARTHEST, (far[name] and far[name][1] or 0) + more), us}
    end
  end
end

-- A region that was removed, or is forgotten, is predicted no longer: what it was predicted to have
-- used becomes debt.
if next(far) then
  local named = {}
  for i = 1, regions do
    named[name_of(i)] = true
  end
  for name, one in pairs(far) do
    if not named[name] or forgotten[name] then
      add_ns(one[1])
      far[name] = nil
    elseif silent[name] then
      one[2] = us
    end
  end
end

local function set_floor()
  credit, hold = 0, 0
  for name, one in pairs(far) do
    credit = credit + one[1]
    if silent[name] then
      hold = hold + one[1]
    end
  end
  least_s, least_ns = floor((0 - credit) / NS), (0 - credit) % NS
end

set_floor()
if not level then
  s, ns = least_s, least_ns
end
raise_ceiling()
if credit > 0 then
  widest = min(EXACT, widest + math.ceil(credit / q * p) + 1)
end
count(0)

local function answer(status)
  local own = records[owner]
  local up_s, up_ns = 0, 0
  if s >= 0 then
    up_s, up_ns = rounded(s, ns, rest)
  end
  local hold_ns = hold % NS
  return {
    status, up_s, up_ns, own and own[TAKEN] or 0, own and own[REFUNDED] or 0,
    (hold - hold_ns) / NS, hold_ns,
  }
end

-- Merging.

-- Tokens of a column at first sight: all but what the region that made its record never charged.
local function value(x)
  return max(0, x[TAKEN] - x[REFUNDED] - x[BASE])
end

-- Tokens in the counts `x` that a holder of `y` has not counted.
local function gain(x, y)
  if not y or x[BIRTH] ~= y[BIRTH] then
    return value(x)
  end
  return max(0, x[TAKEN] - y[TAKEN]) - max(0, x[REFUNDED] - y[REFUNDED])
end

local raised, created = {}, false

local function size_of(list)
  local size = 0
  for _ in pairs(list) do
    size = size + 1
  end
  return size
end

local function is_old(one)
  return one[SEEN] < now_s - argv[5] / 1000
end

-- The record becomes the merge of itself and another one; returns the tokens that brought. The
-- higher birth wins whole.
local function join(name, one)
  local mine = records[name]
  local more, grown = 0, false
  if not mine or one[BIRTH] > mine[BIRTH] then
    more, grown, created = value(one), true, created or not mine and not is_old(one)
    one[VERSION] = mine and mine[VERSION] or 0
    one[FENCE] = max(one[FENCE], mine and mine[FENCE] or 0)
    records[name], mine = one, one
  elseif one[BIRTH] == mine[BIRTH] then
    more, grown = gain(one, mine), one[TAKEN] > mine[TAKEN] or one[REFUNDED] > mine[REFUNDED]
    if grown and one[TAKEN] >= mine[TAKEN] and one[REFUNDED] >= mine[REFUNDED]
      and one[HOME] ~= '-' then
      mine[HOME] = one[HOME]
    end
    mine[TAKEN] = max(mine[TAKEN], one[TAKEN])
    mine[REFUNDED] = max(mine[REFUNDED], one[REFUNDED])
    if grown then
      mine[SEEN] = max(mine[SEEN], one[SEEN])
    end
  end
  if grown or one[FENCE] > mine[FENCE] then
    mine[FENCE], raised[name] = max(mine[FENCE], one[FENCE]), mine
  end
  -- what is known now is predicted no longer
  local home = mine[HOME]
  if more > 0 and silent[home] and far[home] then
    far[home][1] = max(0, far[home][1] - floor(more * q / p))
  end
  return more
end

-- The debt that a copy states, at least 0, less the time that has passed on its region's own clock
-- since, but for a second; not where that clock was set back.
local function stated_by(copy, stamp, merged)
  local its_s, its_ns, its_rest = tonumber(copy.s), tonumber(copy.ns), tonumber(copy.rest)
  local age = stamp - copy.at - SLACK
  if stamp > 0 and age > 0 and not (merged and copy.at < merged[2]) then
    local age_us = age % 1000000
    its_s, its_ns = its_s - (age - age_us) / 1000000, its_ns - age_us * 1000
    if its_ns < 0 then
      its_s, its_ns = its_s - 1, its_ns + NS
    end
  end
  if its_s < 0 then
    return 0, 0, 0
  end
  return its_s, its_ns, its_rest
end

local peers, noted = {}, false

local function merge_copy(i, copy)
  local from, merged = name_of(i), peers[name_of(i)]
  read_all()

  -- Consistent: exactly the records of that level. Of another copy only what is held grows.
  local theirs, sum, consistent = {}, 0, true
  local fields = redis.call('HGETALL', KEYS[i + 1])
  for j = 1, #fields, 2 do
    local name = fields[j]
    if name ~= 'level' and name ~= 'peers' then
      local one = read_record(name, fields[j + 1], copy.generation)
      if one then
        theirs[name], sum = one, sum + one[VERSION]
        consistent = consistent and one[VERSION] <= copy.version
        one[SEEN] = now_s - max(0, copy.at_s - one[SEEN])
      end
    end
  end
  consistent = consistent and sum == copy.sum
  local many = max(size_of(records), size_of(theirs)) > MANY -- then old records are forgotten

  local same = copy.q == argv[3] and copy.p == argv[4]
  local adopts = consistent and same and comparable
  local lacks, brings, strange, kept_for, from_silent = {}, {}, {}, {}, {}
  if adopts then
    for name, one in pairs(records) do
      lacks[#lacks + 1] = max(0, gain(one, theirs[name]))
    end
  end
  for name, one in pairs(theirs) do
    local mine = records[name]
    local is_new = not mine or one[BIRTH] > mine[BIRTH]
    if not is_new or consistent and (mine or not many or not is_old(one)) then
      local more = join(name, one)
      local list = is_new and strange or brings
      list[#list + 1] = more
      local home = records[name][HOME]
      if more > 0 and far[home] then
        from_silent[#from_silent + 1], kept_for[home] = more, true
      end
    end
  end

  local was_credit = s < 0
  local stated_s, stated_ns, stated_rest = stated_by(copy, stamp_of(i), merged)
  if not same then
    stated_s, stated_ns = rescaled(stated_s, stated_ns, stated_rest, copy.q, copy.p)
    stated_rest = 0
  end
  count(total(brings))
  if same then
    count(total(strange))
  else
    -- of another definition: no more is charged at first sight than it states
    local here_s, here_ns, here_rest = s, ns, rest
    s = s + stated_s
    add_ns(stated_ns)
    count(0)
    local most_s, most_ns, most_rest = s, ns, rest
    s, ns, rest = here_s, here_ns, here_rest
    count(total(strange))
    lower(most_s, most_ns, most_rest)
  end
  if adopts then
    local here_s, here_ns, here_rest = s, ns, rest
    s, ns, rest = stated_s, stated_ns, stated_rest
    count(total(lacks))
    local adopt_s, adopt_ns, adopt_rest = s, ns, rest
    lower(here_s, here_ns, here_rest)
    if was_credit and #from_silent > 0 and stated_s + stated_ns + stated_rest > 0 then
      -- a burst at the end of a silence is not hidden by the credit that was kept for it
      here_s, here_ns, here_rest = s, ns, rest
      s, ns, rest = span(min(total(from_silent), widest))
      lower(stated_s, stated_ns, stated_rest)
      lower(adopt_s, adopt_ns, adopt_rest)
      for name, one in pairs(far) do
        add_ns(kept_for[name] and 0 or 0 - one[1])
      end
      if is_less(s, ns, rest, here_s, here_ns, here_rest) then
        s, ns, rest = here_s, here_ns, here_rest
      end
    end
  end
  if consistent then
    peers[from], noted = {copy.version, copy.at}, true
    if far[from] and not silent[from] then
      far[from][2] = min(far[from][2], us - UNMERGED + GRACE)
    end
  end
end

-- The others are looked at once in each slot of 10 ms.
local due = regions > 0 and (not level or floor(us / SLOT) ~= floor(level.at / SLOT))
if due then
  local made, list = match(held[3] or '', '^(%d+)(.*)$')
  if level and made == generation then
    for name, version, at in string.gmatch(list, ' (%S+) (%d+) (%d+)') do
      peers[name] = {tonumber(version), tonumber(at)}
    end
  end
  for i = 1, regions do
    local copy, merged = copy_of(i), peers[name_of(i)]
    if copy and not (merged and merged[1] == copy.version and merged[2] == copy.at) then
      merge_copy(i, copy)
    end
  end
end

-- What the caller brings, as in the script for one server.

local own = records[owner]
local fence = tonumber(argv[8])
local column = {
  tonumber(argv[9]), tonumber(argv[10]), tonumber(argv[11]), 0, 0, region, fence, now_s,
}
local stated_s, stated_ns = tonumber(argv[12]), tonumber(argv[13])
if own and own[FENCE] > fence then
  return answer(FENCED)
end

if whole then
  local names, columns, brings, strange, lacks = {owner}, {[owner] = column}, {}, {}, {}
  for i = 18 + 3 * regions, #argv, 5 do
    names[#names + 1] = argv[i]
    columns[argv[i]] = {
      tonumber(argv[i + 1]), tonumber(argv[i + 2]), tonumber(argv[i + 3]), 0, 0, argv[i + 4], 0,
      now_s,
    }
  end
  for name, one in pairs(records) do
    lacks[#lacks + 1] = max(0, gain(one, columns[name]))
  end
  -- Columns of which nothing was known may be history: for them no more is charged than the caller
  -- states as its debt, and what was not is written down, so that no other region charges it.
  local left = math.ceil((stated_s * NS + stated_ns) / q * p)
  for _, name in ipairs(names) do
    local one, mine = columns[name], records[name]
    if mine and mine[BIRTH] >= one[BIRTH] then
      brings[#brings + 1] = join(name, one)
    elseif one[TAKEN] + one[REFUNDED] > 0 then
      local more = join(name, one)
      local charged = min(more, left)
      left, one[BASE], strange[#strange + 1] = left - charged, more - charged, more
    end
  end

  count(total(brings))
  local here_s, here_ns, here_rest = s, ns, rest
  s = s + stated_s
  add_ns(stated_ns)
  count(0)
  local limit_s, limit_ns, limit_rest = s, ns, rest
  s, ns, rest = here_s, here_ns, here_rest
  count(total(strange))
  lower(limit_s, limit_ns, limit_rest)
  if comparable then
    here_s, here_ns, here_rest = s, ns, rest
    s, ns, rest = stated_s, stated_ns, 0
    count(total(lacks))
    changed = not lower(here_s, here_ns, here_rest) or changed
  end
else
  local brought = value(column)
  if own and own[BIRTH] >= column[BIRTH] then
    brought = own[BIRTH] == column[BIRTH] and gain(column, own) or 0
  end
  if brought > 0 then
    local more_s, more_ns, more_rest = span(min(brought, ceiling))
    local short = (more_s - stated_s) * NS + more_ns - stated_ns
    local owes = stated_s + stated_ns > 0
    if own and (short > 0 or (short == 0 and more_rest > 0)) or not own and owes then
      return answer(UNKNOWN)
    end
  end
  if own or column[TAKEN] + column[REFUNDED] > 0 then
    join(owner, column)
    if own then
      count(brought)
    else
      column[BASE] = brought
    end
  end
end

-- The credit for a region that is back goes a second after its key was merged: beats overtake keys.
for name, one in pairs(far) do
  if not silent[name] and us - one[2] > UNMERGED then
    far[name] = nil
  end
end
set_floor()
count(0)

-- The decision: within what the silent regions leave, or within this region's own share.

local function above(more)
  local was_s, was_ns = s, ns
  add_ns(more)
  local up_s, up_ns, up_rest = s, ns, rest
  s, ns = was_s, was_ns
  if up_s < 0 then
    return 0, 0, 0
  end
  return up_s, up_ns, up_rest
end

local status, reserve = ALLOWED, 0
if cost > 0 then
  local passed = passes(above(hold))
  if next(silent) then
    local size = max(cost, capacity / (200 * (regions + 1)))
    reserve = level and min(size, level.reserve + share * (elapsed * 1000) / (q / p)) or size
    passed = passed or reserve >= cost and passes(above(0))
  end
  if passed then
    local one = records[owner]
    if not one then
      one, created = {column[BIRTH], 0, 0, 0, 0, region, fence, now_s}, true
      records[owner] = one
    end
    one[TAKEN], one[HOME], one[SEEN], raised[owner] = one[TAKEN] + cost, region, now_s, one
    count(cost)
    offered, reserve = offered + cost, max(0, reserve - cost)
  else
    status = DENIED
    if now_us % 8 == 0 then -- denied calls are sampled, so that few of them write
      offered, changed = offered + 8 * cost, true
    end
  end
end

-- All that changed is kept until the bucket is full, and then for the retention.

if (level or next(raised)) and (due or changed or next(raised)) then
  local version = max((level and level.version or 0) + 1, floor(us / 1000) - FIRST_MS)
  local sum = level and level.sum or 0
  local fields, gone = {}, {}
  for name, one in pairs(raised) do
    sum, one[VERSION] = sum - one[VERSION] + version, version
    fields[#fields + 1] = name
    fields[#fields + 1] = format(
      '%.0f %.0f %.0f %.0f %.0f %s %s %.0f %.0f', one[BIRTH], one[TAKEN], one[REFUNDED], one[BASE],
      version, generation, one[HOME], one[FENCE], one[SEEN]
    )
  end
  for _, name in ipairs(stale) do
    gone[#gone + 1] = not raised[name] and name or nil
  end
  if created and size_of(records) > MANY then
    for name, one in pairs(records) do
      if is_old(one) and not raised[name] then
        sum, gone[#gone + 1], records[name] = sum - one[VERSION], name, nil
      end
    end
  end
  if all then -- the level may be newer or older than some records, after a loss
    sum = 0
    for _, one in pairs(records) do
      sum = sum + one[VERSION]
    end
  end
  if noted then
    local list = {generation}
    for name, merged in pairs(peers) do
      list[#list + 1] = format('%s %.0f %.0f', name, merged[1], merged[2])
    end
    fields[#fields + 1], fields[#fields + 2] = 'peers', table.concat(list, ' ')
  end
  local list = ''
  for name, one in pairs(far) do
    list = list .. format('%s %.0f %.0f ', name, one[1], one[2])
  end
  local text = format(
    '%s %s %.0f %.0f %.0f %s %s %s %.0f %.0f %.17g %.17g %.0f|%s', now[1], now[2], s, ns, rest,
    argv[3], argv[4], generation, version, sum, offered, reserve, level and level.born or us, list
  )
  redis.call('HSET', key, 'level', text, unpack(fields))
  if #gone > 0 then
    redis.call('HDEL', key, unpack(gone))
  end
  local full = s < 0 and 0 or s * 1000 + floor(ns / 1000000)
  redis.call('PEXPIRE', key, full + 1 + argv[5])
end

local out = answer(status)
if whole then
  for name, one in pairs(records) do
    local size = #out
    out[size + 1], out[size + 2], out[size + 3], out[size + 4] = name, one[1], one[2], one[3]
  end
end
return out
