-- The debt here and what the caller brings. Columns of which nothing was known may be history: for
-- them no more is charged than the caller states as its debt.
count(total(brings))
count_within(total(strange), stated_s, stated_ns)

-- Or the debt that the caller states and what it lacks. Either one covers everything, so the
-- smaller one holds. Levels of another definition are not compared.
if comparable then
  local here_s, here_ns, here_rest = s, ns, rest
  s, ns, rest = stated_s, stated_ns, 0
  count(0)
  count(total(lacks))
  changed = not lower(here_s, here_ns, here_rest) or changed
end
