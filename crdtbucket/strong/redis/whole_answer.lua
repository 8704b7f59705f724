-- The answer, and of a whole call what is held of the processes that the caller has named, and of
-- others: of no more of them than it can tell apart, as an answer that has no end is not read.
local out = answer(status)
if whole then
  local left = 512
  local function tell(name, one)
    local n = #out
    out[n + 1], out[n + 2], out[n + 3], out[n + 4] = name, one[1], one[2], one[3]
  end
  for i = 7, #argv do -- the caller's own name, and of the rest those that are names
    local one = records[argv[i]]
    if one then
      tell(argv[i], one)
      records[argv[i]] = nil
    end
  end
  for name, one in pairs(records) do
    if left > 0 then
      tell(name, one)
      left = left - 1
    end
  end
end
return out
