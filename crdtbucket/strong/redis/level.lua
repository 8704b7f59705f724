-- The level of a bucket, for all scripts that decide: a debt as a span of time, and what changes it.

local NS, EXACT, MANY, LONGEST = 1000000000, 9007199254740992, 64, 4611686018 -- s: 2^62 ns
local match, format, floor, max, min = string.match, string.format, math.floor, math.max, math.min

local key, argv = KEYS[1], ARGV
local capacity, ceiling = tonumber(argv[1]), argv[1] + argv[2]
local q, p = tonumber(argv[3]), tonumber(argv[4])
local cost, owner, whole = tonumber(argv[6]), argv[7], argv[14] == '1'

local function fail(what)
  error({err = 'CRDTBUCKET ' .. what})
end

-- The time in which that many tokens come back: s, ns and 1/p ns.
local function span(tokens)
  local product = tokens * q
  if product < EXACT then
    local rest = product % p
    local time = (product - rest) / p
    local ns = time % NS
    return (time - ns) / NS, ns, rest
  end

  -- floor(a * b / m) and what that cuts off, for b < m, in digits of a: no step passes 2^53
  local function divided(a, b, m)
    local _, bits = math.frexp(m)
    local base, scale, quotient, rest = 2 ^ (52 - bits), 1, 0, 0
    while scale * base <= a do
      scale = scale * base
    end
    while scale >= 1 do
      local digit = floor(a / scale)
      local step = rest * base + digit * b
      a, scale, rest = a - digit * scale, scale / base, step % m
      quotient = quotient * base + (step - rest) / m
    end
    return quotient, rest
  end

  local q_s, q_ns = tonumber(string.sub(argv[3], 1, -10)) or 0, tonumber(string.sub(argv[3], -9))
  local odd = tokens % p
  local even = (tokens - odd) / p
  local s1, ns1 = divided(even, q_ns, NS)
  local s2, odd_s = divided(q_s, odd, p)
  local ns2, rest2 = divided(NS, odd_s, p)
  local ns3, rest3 = divided(q_ns, odd, p)
  local ns = ns1 + ns2 + ns3 + floor((rest2 + rest3) / p)
  return even * q_s + s1 + s2 + floor(ns / NS), ns % NS, (rest2 + rest3) % p
end

-- Exact below 2^53, and what is beyond that is beyond every ceiling.
local function total(gains)
  local high, low = 0, 0
  for _, tokens in ipairs(gains) do
    high, low = high + floor(tokens / 67108864), low + tokens % 67108864
  end
  return high * 67108864 + low
end

-- The debt now: s, ns and rest / p ns. Its range: from `least` to `most`.

local now = redis.call('TIME')
local now_s, now_us = tonumber(now[1]), tonumber(now[2])
local s, ns, rest = 0, 0, 0
local changed, comparable = false, true

local least_s, least_ns = 0, 0
local most_s, most_ns, most_rest = span(ceiling)
local widest = ceiling -- tokens that are more than the range

-- Counts tokens that were not counted yet, or of which more came back; keeps the debt in its range.
local function count(tokens)
  if tokens ~= 0 then
    local sign = tokens < 0 and -1 or 1
    local more_s, more_ns, more_rest = span(min(sign * tokens, widest))
    s, ns, rest = s + sign * more_s, ns + sign * more_ns, rest + sign * more_rest
    if rest < 0 or rest >= p then
      ns, rest = ns + sign, rest - sign * p
    end
    if ns < 0 or ns >= NS then
      s, ns = s + sign, ns - sign * NS
    end
  end
  local over = (s - most_s) * NS + ns - most_ns
  if s < least_s or (s == least_s and ns < least_ns) then
    s, ns, rest = least_s, least_ns, 0
  elseif over > 0 or (over == 0 and rest > most_rest) then
    s, ns, rest = most_s, most_ns, most_rest
  end
end

-- A debt at another rate as the same number of tokens at the present one, rounded up: s and ns.
local function rescaled(old_s, old_ns, old_rest, old_q, old_p)
  local tokens = (old_s * NS + old_ns + old_rest / old_p) / (old_q / old_p)
  local up = tokens < 0 and 1 or 1 + 2 ^ -49 -- for what doubles cut off
  local time = math.ceil(tokens * (q / p) * up)
  local part = math.fmod(time, NS)
  local seconds = (time - part) / NS
  if part < 0 then
    seconds, part = seconds - 1, part + NS
  end
  return seconds, part
end

-- The debt becomes what it was, less the time since, at the present rate. Returns whether that is
-- possible: all are numbers in their ranges.
local function advance(at_s, at_us, debt_s, debt_ns, debt_rest, old_q, old_p)
  s, ns, rest = tonumber(debt_s), tonumber(debt_ns), tonumber(debt_rest)
  if not at_s or max(at_s, s, old_q, old_p) > 2 ^ 62 or tonumber(at_us) > 999999 or ns >= NS
    or tonumber(old_q) == 0 or rest >= tonumber(old_p) then
    return false
  end
  local gone_s, gone_us = now_s - at_s, now_us - at_us
  if gone_s < 0 or (gone_s == 0 and gone_us < 0) then
    changed = true -- the clock was set back: the debt stands still once, and goes on from here
  else
    s, ns = s - gone_s, ns - gone_us * 1000
    if ns < 0 then
      s, ns = s - 1, ns + NS
    elseif ns >= NS then
      s, ns = s + 1, ns - NS
    end
  end
  if old_q ~= argv[3] or old_p ~= argv[4] then
    comparable = false
    s, ns = rescaled(s, ns, rest, old_q, old_p)
    rest = 0
  end
  return true
end

-- A debt under a higher ceiling stays: a caller with a lower ceiling forgives none of it.
local function raise_ceiling()
  local over = (s - most_s) * NS + ns - most_ns
  if (over > 0 or (over == 0 and rest > most_rest)) and s < LONGEST then
    most_s, most_ns, most_rest = s, ns, rest
    widest = min(EXACT, math.ceil((s + 1) * NS / q * p * (1 + 2 ^ -49)))
  end
end

local function is_less(s1, ns1, rest1, s2, ns2, rest2)
  local less = (s1 - s2) * NS + ns1 - ns2
  return less < 0 or (less == 0 and rest1 < rest2)
end

-- The debt becomes the other one when that is no higher; returns whether it is not.
local function lower(other_s, other_ns, other_rest)
  if is_less(s, ns, rest, other_s, other_ns, other_rest) then
    return false
  end
  s, ns, rest = other_s, other_ns, other_rest
  return true
end

-- A debt in whole ns, rounded up.
local function rounded(debt_s, debt_ns, debt_rest)
  if debt_rest > 0 then
    debt_ns = debt_ns + 1
    if debt_ns == NS then
      return debt_s + 1, 0
    end
  end
  return debt_s, debt_ns
end

-- Whether a cost passes at a debt. It does when it is too much by less than a whole ns.
local function passes(debt_s, debt_ns, debt_rest)
  local full_s, full_ns, full_rest = span(capacity)
  local cost_s, cost_ns, cost_rest = span(cost)
  local over = (debt_s + cost_s - full_s) * NS + debt_ns + cost_ns - full_ns
  return over + floor((debt_rest + cost_rest - full_rest) / p) <= 0
end
