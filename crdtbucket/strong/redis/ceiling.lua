-- A debt under a higher ceiling stays: a caller with a lower ceiling forgives none of it.
local over_ns = (s - most_s) * NS + ns - most_ns
if (over_ns > 0 or (over_ns == 0 and rest > most_rest)) and s < LONGEST then
  most_s, most_ns, most_rest = s, ns, rest
  widest = min(EXACT, math.ceil((s + 1) * NS / q * p * (1 + 2 ^ -49)))
end
