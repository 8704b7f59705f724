-- Columns of which nothing was known may be history: for them no more is charged than the caller
-- states as its debt.
local here_s, here_ns, here_rest = s, ns, rest
s, ns = s + stated_s, ns + stated_ns
if ns >= NS then
  s, ns = s + 1, ns - NS
end
count(0)
local most_s, most_ns, most_rest = s, ns, rest
s, ns, rest = here_s, here_ns, here_rest
count(total(strange))
lower(most_s, most_ns, most_rest)
