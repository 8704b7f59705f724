-- The debt at its time becomes the debt now, at the present rate; `valid` tells whether that can be.
s, ns, rest = tonumber(debt_s), tonumber(debt_ns), tonumber(debt_rest)
local valid = at_s and max(at_s, s, old_q, old_p) <= 2 ^ 62 and tonumber(at_us) <= 999999
  and ns < NS and tonumber(old_q) ~= 0 and rest < tonumber(old_p)
if valid then
  local gone_s, gone_us = now_s - at_s, now_us - at_us
  if gone_s < 0 or (gone_s == 0 and gone_us < 0) then
    changed = true -- the clock was set back: the debt stands still once, and goes on from here
  else
    ns = ns - gone_us * 1000
    s, ns = s - gone_s + floor(ns / NS), ns % NS
  end
  if old_q ~= argv[3] or old_p ~= argv[4] then
    comparable, changed = false, true -- from now on it falls at the present rate, also if denied
    --@ rescale.lua
  end
end
