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

  --@ covered.lua
else
  local more = value(column)
  if own and own[GENERATION] >= generation then
    more = own[GENERATION] == generation and gain(column, own) or 0
  end
  --@ unknown.lua
  if own then
    merge(owner, column)
    count(more)
  elseif taken + refunded > 0 then
    merge(owner, column)
    column[BASE] = more
  end
end
