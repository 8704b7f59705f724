-- Of `more` tokens that a column brings, refill has paid a part when they were taken long ago: only
-- levels say how much.
if more > 0 then
  local more_s, more_ns, more_rest = span(min(more, ceiling))
  local short = (more_s - stated_s) * NS + more_ns - stated_ns
  local owes = stated_s + stated_ns > 0
  if own and (short > 0 or (short == 0 and more_rest > 0)) or not own and owes then
    return answer(UNKNOWN)
  end
end
