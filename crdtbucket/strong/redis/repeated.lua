-- Nearly every call is of a process all of whose counts are in its record: nothing is merged, and
-- only the cost is to be decided. The debt is then one exact number of 1/p ns. Whatever is unusual
-- is left to what follows, which has the same result.
local most = ceiling * q
if held[1] and held[2] and cost > 0 and cost <= capacity and most < EXACT then
  local at_s, at_us, debt_s, debt_ns, debt_rest, rate =
    match(held[1], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+ %d+)$')
  local generation, taken, refunded, fence, seen = match(held[2], RECORD)
  local present = argv[3] .. ' ' .. argv[4]
  if seen and rate == present then
    at_us, debt_ns, debt_rest = at_us + 0, debt_ns + 0, debt_rest + 0
    local had, returned = taken + 0, refunded + 0
    local debt = (debt_s * NS + debt_ns) * p + debt_rest
    local gone = ((now_s - at_s) * NS + (now_us - at_us) * 1000) * p
    if gone >= 0 and debt <= most and at_us <= 999999 and debt_ns < NS
      and debt_rest < p and generation - argv[9] == 0 and fence - argv[8] == 0
      and had >= argv[10] + 0 and returned >= argv[11] + 0
      and had <= EXACT and returned <= EXACT and #seen < 16 then
      debt = debt > gone and debt - gone or 0
      local status = debt + (cost - capacity) * q < p and ALLOWED or DENIED
      if status == ALLOWED then
        debt, had = min(debt + cost * q, most), had + cost
      end
      local rest = debt % p
      local ns = (debt - rest) / p
      local s = floor(ns / NS)
      ns = ns - s * NS
      if status == ALLOWED then -- as at the end
        local level = now[1] .. ' ' .. now[2] .. format(' %d %d %d ', s, ns, rest) .. present
        local counts = generation .. format(' %d ', had) .. refunded .. ' ' .. fence .. ' '
        redis.call('HSET', key, 'level', level, owner, counts .. now[1])
        redis.call('PEXPIRE', key, s * 1000 + floor(ns / 1000000) + 1 + argv[5])
      end
      local up_ns = rest > 0 and ns + 1 or ns
      return {status, s + floor(up_ns / NS), up_ns % NS, had, returned}
    end
  end
end
