far = {}
for name, used, when in string.gmatch(far_text, '(%S+) (%d+) (%d+)') do
  used = tonumber(used)
  if not comparable then
    used = floor(used * ((q / p) / (old_q / old_p)))
  end
  far[name] = {used, min(us, tonumber(when))}
end

-- It is added up call by call, at the share of the moment of all that is offered, live.
if silence then
  local function decay(time)
    --@ decay.lua
    return left
  end

  local function rate(tokens, born, at)
    return tokens / (TAU / 1000000 * (1 - decay(max(at - born, 500000))))
  end

  local rates = {}
  copies = {}
  local own = rate(offered + cost, born, us)
  local sum = own
  for i = 1, regions do
    copies[i] = redis.call('HGET', KEYS[i + 1], 'level')
    if copies[i] then
      local its_s, its_us, _, _, _, _, _, _, _, _, tokens, _, its_born = match(copies[i], LEVEL)
      if not its_s then
        fail('the copy ' .. KEYS[i + 1] .. ' has no level of a region: ' .. copies[i])
      end
      local its_at = its_s * 1000000 + its_us
      local left = tokens / 1000 * decay(max(0, stamps[i] - its_at))
      local one = rate(left, tonumber(its_born), its_at)
      rates[sub(KEYS[i + 1], at_name)], sum = one, sum + one
    end
  end
  share = sum > 0 and own / sum or 1
  for name, late in pairs(silent) do
    local one = rates[name] or 0
    if one > 0 then
      local time = level and min(elapsed, late) or late
      local more = floor(min(one * q / p, one / sum * NS) * time / 1000000)
      local used, when = unpack(far[name] or {0, us})
      far[name] = {min(FARTHEST, used + more), when}
    end
  end
end

-- A region that was removed, or is forgotten, is predicted no longer: what it was predicted to have
-- used becomes debt.
local named = {}
for i = 1, regions do
  named[sub(KEYS[i + 1], at_name)] = true
end
for name, one in pairs(far) do
  if not named[name] or forgotten[name] then
    ns, far[name] = ns + one[1], nil
    s, ns = s + floor(ns / NS), ns % NS
  elseif silent[name] and not (us - one[2] >= UNMERGED - GRACE and us - one[2] <= UNMERGED) then
    one[2] = us -- but where its key was merged within the last second
  end
end
--@ credit.lua
if not level then
  s, ns = least_s, least_ns
end
