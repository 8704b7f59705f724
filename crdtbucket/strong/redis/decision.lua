local full_s, full_ns, full_rest = span(capacity)
local cost_s, cost_ns, cost_rest = span(cost)
-- A cost passes when it is too much by less than a whole ns.
local room_s, room_ns, room_rest = full_s - cost_s, full_ns - cost_ns, full_rest - cost_rest

-- The time by which the cost is too much for the debt and what is held for silent regions.
local used_s, used_ns, used_rest = s, ns, rest
if hold > 0 then
  used_ns = ns + hold
  used_s, used_ns = s + floor(used_ns / NS), used_ns % NS
end
if used_s < 0 then
  used_s, used_ns, used_rest = 0, 0, 0
end
local over = (used_s - room_s) * NS + used_ns - room_ns
local passed = over + floor((used_rest - room_rest) / p) <= 0
if silence then
  local size = max(cost, capacity / (200 * (regions + 1)))
  kept = level and min(size, reserve + share * (elapsed * 1000) / (q / p)) or size
  if not passed and kept >= cost then
    used_s, used_ns, used_rest = s, ns, rest
    if s < 0 then
      used_s, used_ns, used_rest = 0, 0, 0
    end
    over = (used_s - room_s) * NS + used_ns - room_ns
    passed = over + floor((used_rest - room_rest) / p) <= 0
  end
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
