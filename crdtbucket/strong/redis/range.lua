-- The debt now: s, ns and rest / p ns. Its range: from `least` to `most`.

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
