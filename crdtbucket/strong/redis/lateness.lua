-- Who is silent. A caller without new beats tells no silence.
local own_stamp, forget = tonumber(argv[17]), tonumber(argv[16])
local to = max(own_stamp, min(us, own_stamp + NEAR))
for i = 1, regions do
  local stamp = tonumber(argv[17 + 3 * i])
  local late = stamp > 0 and to - argv[16 + 3 * i] - stamp - NEAR or 0
  if late > 0 then
    local name = argv[15 + 3 * i]
    if forget > 0 and late > forget then
      forgotten[name] = true
    else
      silent[name] = late
    end
  end
end
