version = max(version + 1, floor(us / 1000) - FIRST_MS)
if not level then
  made = format('%d', us)
  born = made
end
local fields, gone = {}, none
local written = format(' %d ', version) .. made .. ' '
for name, one in pairs(raised) do
  sum, one[VERSION] = sum - one[VERSION] + version, version
  fields[#fields + 1] = name
  fields[#fields + 1] = format('%d %d %d %d', one[GENERATION], one[TAKEN], one[REFUNDED], one[BASE])
    .. written .. one[HOME] .. format(' %d %d', one[FENCE], one[SEEN])
end
if all then
  gone = {}
  for _, name in ipairs(stale) do
    gone[#gone + 1] = not raised[name] and name or nil
  end
  local size = 0
  for _ in pairs(records) do
    size = size + 1
  end
  if created and size > MANY then
    for name, one in pairs(records) do
      if one[SEEN] < now_s - argv[5] / 1000 and not raised[name] then
        gone[#gone + 1], records[name] = name, nil
      end
    end
  end
  sum = 0 -- the level may be newer or older than some records, after a loss
  for _, one in pairs(records) do
    sum = sum + one[VERSION]
  end
end
if noted then
  local list, others = {made}, {}
  for i = 1, regions do -- in the order in which the next look compares them
    local name = sub(KEYS[i + 1], at_name)
    local merged = peers[name]
    others[name] = true
    if merged then
      list[#list + 1] = format('%s %d %d', name, merged[1], merged[2])
    end
  end
  for name, merged in pairs(peers) do
    if not others[name] then
      list[#list + 1] = format('%s %d %d', name, merged[1], merged[2])
    end
  end
  fields[#fields + 1] = 'peers'
  fields[#fields + 1] = table.concat(list, ' ')
end
local list = ''
if far ~= none then
  for name, one in pairs(far) do
    list = list .. name .. format(' %d %d ', one[1], one[2])
  end
end
offered = floor(offered * 1000 + 0.5)
-- What is offered may be beyond what %d writes.
local text = now[1] .. ' ' .. now[2] .. format(' %d %d %d ', s, ns, rest) .. argv[3] .. ' '
  .. argv[4] .. ' ' .. made
  .. format(offered < EXACT and ' %d %d %d ' or ' %d %d %.0f ', version, sum, offered)
  .. (kept > 0 and format('%.17g', kept) or '0') .. ' ' .. born .. '|' .. list
redis.call('HSET', key, 'level', text, unpack(fields))
if #gone > 0 then
  redis.call('HDEL', key, unpack(gone))
end
local full = s < 0 and 0 or s * 1000 + floor(ns / 1000000)
redis.call('PEXPIRE', key, full + 1 + argv[5])
