-- What tokens are worth, for all scripts that decide: spans of time, exactly.

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
