-- Sums are exact below 2^53, and what is beyond that is beyond every ceiling.
local function total(gains)
  local high, low = 0, 0
  for _, tokens in ipairs(gains) do
    high, low = high + floor(tokens / 67108864), low + tokens % 67108864
  end
  return high * 67108864 + low
end

-- The debt becomes the other one when that is no higher; returns whether it is not.
local function lower(other_s, other_ns, other_rest)
  local less = (s - other_s) * NS + ns - other_ns
  if less < 0 or (less == 0 and rest < other_rest) then
    return false
  end
  s, ns, rest = other_s, other_ns, other_rest
  return true
end

-- Counts tokens, and charges no more for them than a time.
local function count_within(tokens, time_s, time_ns)
  local here_s, here_ns, here_rest = s, ns, rest
  ns = ns + time_ns
  s, ns = s + time_s + floor(ns / NS), ns % NS
  count(0)
  local limit_s, limit_ns, limit_rest = s, ns, rest
  s, ns, rest = here_s, here_ns, here_rest
  count(tokens)
  lower(limit_s, limit_ns, limit_rest)
end
