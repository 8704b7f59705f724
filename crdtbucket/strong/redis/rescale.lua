-- A debt at another rate becomes the same number of tokens at the present one, rounded up.
local tokens = (s * NS + ns + rest / old_p) / (old_q / old_p)
local up = tokens < 0 and 1 or 1 + 2 ^ -49 -- for what doubles cut off
local time = math.ceil(tokens * (q / p) * up)
ns, rest = math.fmod(time, NS), 0
s = (time - ns) / NS
if ns < 0 then
  s, ns = s - 1, ns + NS
end
