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
  local function rate(tokens, born, at)
    local time = max(at - born, 500000)
    --@ decay.lua
    return tokens / (TAU / 1000000 * (1 - left))
  end

  local rates = {}
  copies = {}
  local own = rate(offered + cost, born, us)
  local sum = own
  for i = 1, regions do
    local copy = redis.call('HGET', KEYS[i + 1], 'level')
    copies[i] = copy
    if copy then
      local its_s, its_us, tokens, its_born = match(copy, OFFERED_OF)
      if not its_s then
        fail('the copy ' .. KEYS[i + 1] .. ' has no level of a region: ' .. copy)
      end
      local its_at = its_s * 1000000 + its_us
      local time = max(0, stamps[i] - its_at)
      --@ decay.lua
      local one = rate(tokens / 1000 * left, its_born, its_at)
      rates[i], sum = one, sum + one
    end
  end
  share = sum > 0 and own / sum or 1
  for i, one in pairs(rates) do
    local name = sub(KEYS[i + 1], at_name)
    local late = silent[name]
    if late and one > 0 then
      local time = level and min(elapsed, late) or late
      local more = floor(min(one * q / p, one / sum * NS) * time / 1000000)
      local held = far[name]
      if held then
        held[1] = min(FARTHEST, held[1] + more)
      else
        far[name] = {min(FARTHEST, more), us}
      end
    end
  end
end

-- A region that was removed, or is forgotten, is predicted no longer: what it was predicted to have
-- used becomes debt.
for name, one in pairs(far) do
  if silent[name] then
    if us - one[2] < UNMERGED - GRACE or us - one[2] > UNMERGED then
      one[2] = us -- but where its key was merged within the last second
    end
  elseif forgotten[name] or not is_region(name) then
    ns, far[name] = ns + one[1], nil
    s, ns = s + floor(ns / NS), ns % NS
  end
end
--@ credit.lua
if not level then
  s, ns = least_s, least_ns
end
