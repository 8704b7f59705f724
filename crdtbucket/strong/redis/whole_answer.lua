-- The answer, and of a whole call what is held of every process.
local out = answer(status)
if whole then
  for name, one in pairs(records) do
    local n = #out
    out[n + 1], out[n + 2], out[n + 3], out[n + 4] = name, one[1], one[2], one[3]
  end
end
return out
