--@ column.lua

local column = {generation, taken, refunded, 0, 0, region, fence, now_s}
local stated_s, stated_ns = tonumber(argv[12]), tonumber(argv[13])
if whole then
  --@ sums.lua

  local names, columns, brings, strange, lacks = {owner}, {[owner] = column}, {}, {}, {}
  for i = 18, #argv, 5 do
    names[#names + 1] = argv[i]
    columns[argv[i]] = {
      tonumber(argv[i + 1]), tonumber(argv[i + 2]), tonumber(argv[i + 3]), 0, 0, argv[i + 4], 0,
      now_s,
    }
  end
  for name, one in pairs(records) do
    lacks[#lacks + 1] = max(0, gain(one, columns[name]))
  end
  -- What is not charged for columns of which nothing was known is written down, so that no other
  -- region charges it.
  local left = math.ceil((stated_s * NS + stated_ns) / q * p)
  for _, name in ipairs(names) do
    local one, mine = columns[name], records[name]
    if mine and mine[GENERATION] >= one[GENERATION] then
      brings[#brings + 1] = merge(name, one)
    elseif one[TAKEN] + one[REFUNDED] > 0 then
      local more = merge(name, one)
      local charged = min(more, left)
      left, one[BASE], strange[#strange + 1] = left - charged, more - charged, more
    end
  end

  count(total(brings))
  --@ first_sight.lua

  local adopts = comparable
  if adopts then
    here_s, here_ns, here_rest = s, ns, rest
    s, ns, rest = stated_s, stated_ns, 0
    count(0)
    count(total(lacks))
    adopts = not lower(here_s, here_ns, here_rest)
    changed = changed or adopts
  end
else
  local more = value(column)
  if own and own[GENERATION] >= generation then
    more = own[GENERATION] == generation and gain(column, own) or 0
  end
  if more > 0 then
    local its_s, its_ns, its_rest = span(min(more, ceiling))
    local short = (its_s - stated_s) * NS + its_ns - stated_ns
    local owes = stated_s + stated_ns > 0
    if own and (short > 0 or (short == 0 and its_rest > 0)) or not own and owes then
      return answer(UNKNOWN)
    end
  end
  if own then
    merge(owner, column)
    count(more)
  elseif taken + refunded > 0 then
    merge(owner, column)
    column[BASE] = more
  end
end
