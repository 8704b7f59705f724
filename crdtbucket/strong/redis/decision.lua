local full_s, full_ns, full_rest = span(capacity)
local cost_s, cost_ns, cost_rest = span(cost)
-- A cost passes when it is too much by less than a whole ns.
local room_s, room_ns, room_rest = full_s - cost_s, full_ns - cost_ns, full_rest - cost_rest

local function fits(s, ns, rest)
  if s < 0 then
    s, ns, rest = 0, 0, 0
  end
  local over = (s - room_s) * NS + ns - room_ns
  return over + floor((rest - room_rest) / p) <= 0
end

-- Beside the debt and what is held for silent regions.
local used_ns = ns + hold
local passed = fits(s + floor(used_ns / NS), used_ns % NS, rest)
if silence then
  local size = max(cost, capacity / (200 * (regions + 1)))
  kept = level and min(size, reserve + share * (elapsed * 1000) / (q / p)) or size
  passed = passed or kept >= cost and fits(s, ns, rest)
end

if passed then
  local one = records[owner]
  if not one then
    one, created = {generation, 0, 0, 0, 0, region, fence, now_s}, true
    records[owner] = one
  end
  one[TAKEN], one[HOME], one[SEEN], raised[owner] = one[TAKEN] + cost, region, now_s, one
  count(cost)
  offered, kept = offered + cost, max(0, kept - cost)
else
  status = DENIED
  if now_us % 8 == 0 then -- denied calls are sampled, so that few of them write
    offered, changed = offered + 8 * cost, true
  end
end
