--@ column.lua

--@ sums.lua

--@ read_all.lua

--@ known_beats.lua

local function size_of(list)
  local size = 0
  for _ in pairs(list) do
    size = size + 1
  end
  return size
end

for _, i in ipairs(brought) do
  local from = sub(KEYS[i + 1], at_name)
  local its_s, its_us, stated_s, stated_ns, stated_rest, old_q, old_p, its_made, its_version,
    its_sum, _, _, _, its_far = match(copies[i], LEVEL)
  if not its_far then
    fail('the copy ' .. KEYS[i + 1] .. ' has no level of a region: ' .. copies[i])
  end
  local its_at = its_s * 1000000 + its_us
  its_version, its_sum = tonumber(its_version), tonumber(its_sum)

  -- Consistent: exactly the records of that level. Of another copy only what is held grows.
  local theirs, versions, consistent = {}, 0, true
  local fields = redis.call('HGETALL', KEYS[i + 1])
  for j = 1, #fields, 2 do
    local name = fields[j]
    local one = name ~= 'level' and name ~= 'peers' and read_record(name, fields[j + 1], its_made)
    if one then
      theirs[name], versions = one, versions + one[VERSION]
      consistent = consistent and one[VERSION] <= its_version
      one[SEEN] = now_s - max(0, its_s - one[SEEN])
    end
  end
  consistent = consistent and versions == its_sum
  local many = max(size_of(records), size_of(theirs)) > MANY -- then old records are forgotten

  local same = old_q == argv[3] and old_p == argv[4]
  local adopts = consistent and same and comparable
  local lacks, brings, strange, kept_for, from_silent = {}, {}, {}, {}, {}
  if adopts then
    for name, one in pairs(records) do
      lacks[#lacks + 1] = max(0, gain(one, theirs[name]))
    end
  end
  for name, one in pairs(theirs) do
    local mine = records[name]
    local is_new = not mine or one[GENERATION] > mine[GENERATION]
    if not is_new or consistent and (mine or not many or not is_old(one)) then
      local more = merge(name, one)
      local list = is_new and strange or brings
      list[#list + 1] = more
      local home = records[name][HOME]
      if more > 0 and far[home] then
        from_silent[#from_silent + 1], kept_for[home] = more, true
      end
    end
  end

  -- The debt that it states, at least 0, less the time that has passed on its region's own clock
  -- since, but for a second; not where that clock was set back. A key that is made anew is as far
  -- below 0 as it would be had it been held all the time.
  stated_s, stated_ns, stated_rest = tonumber(stated_s), tonumber(stated_ns), tonumber(stated_rest)
  local merged, age = peers[from], beaten - bases[i] - its_at - SLACK
  if stamps[i] > 0 and age > 0 and not (merged and its_at < merged[2]) then
    local age_us = age % 1000000
    stated_ns = stated_ns - age_us * 1000
    stated_s = stated_s - (age - age_us) / 1000000 + floor(stated_ns / NS)
    stated_ns = stated_ns % NS
  end
  local low_s, low_ns = level and 0 or least_s, level and 0 or least_ns
  if stated_s < low_s or stated_s == low_s and stated_ns < low_ns then
    stated_s, stated_ns, stated_rest = low_s, low_ns, 0
  end

  local was_credit = level and s < 0
  count(total(brings))
  local here_s, here_ns, here_rest = s, ns, rest
  if same then
    count(total(strange))
  else
    -- Of another definition: no more is charged at first sight than it states.
    s, ns, rest = stated_s, stated_ns, stated_rest
    --@ rescale.lua
    local its_s, its_ns = s, ns
    s, ns, rest = here_s, here_ns, here_rest
    count_within(total(strange), its_s, its_ns)
  end
  if adopts then
    here_s, here_ns, here_rest = s, ns, rest
    s, ns, rest = stated_s, stated_ns, stated_rest
    count(total(lacks))
    local adopt_s, adopt_ns, adopt_rest = s, ns, rest
    lower(here_s, here_ns, here_rest)
    if was_credit and #from_silent > 0 and stated_s + stated_ns + stated_rest > 0 then
      -- A burst at the end of a silence is not hidden by the credit that was kept for it.
      local here_s, here_ns, here_rest = s, ns, rest
      s, ns, rest = span(min(total(from_silent), widest))
      lower(stated_s, stated_ns, stated_rest)
      lower(adopt_s, adopt_ns, adopt_rest)
      for name, one in pairs(far) do
        ns = ns - (kept_for[name] and 0 or one[1])
        s, ns = s + floor(ns / NS), ns % NS
      end
      local burst_s, burst_ns, burst_rest = s, ns, rest
      if lower(here_s, here_ns, here_rest) then -- the higher one holds
        s, ns, rest = burst_s, burst_ns, burst_rest
      else
        s, ns, rest = here_s, here_ns, here_rest
      end
    end
  end
  if consistent then
    peers[from], noted = {its_version, its_at}, true
    if far[from] and not silent[from] then
      far[from][2] = min(far[from][2], us - UNMERGED + GRACE)
    elseif far[from] and its_at > stamps[i] + NEAR then -- its key comes before its beat
      far[from][2] = us - UNMERGED + GRACE
    end
  end
end
