-- Who is silent. A caller without new beats tells no silence.
--@ known_beats.lua
local forget = tonumber(argv[16])
for i = 1, regions do
  local late = stamps[i] > 0 and beaten - bases[i] - stamps[i] - NEAR or 0
  if late > 0 then
    local name = sub(KEYS[i + 1], at_name)
    if forget > 0 and late > forget then
      forgotten[name] = true
    else
      silent[name] = late
    end
  end
end
