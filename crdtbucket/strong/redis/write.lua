version = max(version + 1, floor(us / 1000) - FIRST_MS)
generation = generation or format('%d', us)
local fields, gone = {}, {}
for name, one in pairs(raised) do
  sum, one[VERSION] = sum - one[VERSION] + version, version
  fields[#fields + 1] = name
  fields[#fields + 1] = format(
    '%d %d %d %d %d %s %s %d %d', one[BIRTH], one[TAKEN], one[REFUNDED], one[BASE],
    version, generation, one[HOME], one[FENCE], one[SEEN]
  )
end
for _, name in ipairs(stale) do
  gone[#gone + 1] = not raised[name] and name or nil
end
if created and size_of(records) > MANY then
  for name, one in pairs(records) do
    if one[SEEN] < now_s - argv[5] / 1000 and not raised[name] then
      gone[#gone + 1], records[name] = name, nil
    end
  end
end
if all then -- the level may be newer or older than some records, after a loss
  sum = 0
  for _, one in pairs(records) do
    sum = sum + one[VERSION]
  end
end
if noted then
  local list = {generation}
  for name, merged in pairs(peers) do
    list[#list + 1] = format('%s %d %d', name, merged[1], merged[2])
  end
  fields[#fields + 1] = 'peers'
  fields[#fields + 1] = table.concat(list, ' ')
end
local list = ''
for name, one in pairs(far) do
  list = list .. format('%s %.0f %.0f ', name, one[1], one[2])
end
-- What is offered may be beyond what %d writes.
local text = format(
  '%s %s %d %d %d %s %s %s %d %d %.0f %.17g %d|%s', now[1], now[2], s, ns, rest, argv[3],
  argv[4], generation, version, sum, floor(offered * 1000 + 0.5), kept, born, list
)
redis.call('HSET', key, 'level', text, unpack(fields))
if #gone > 0 then
  redis.call('HDEL', key, unpack(gone))
end
local full = s < 0 and 0 or s * 1000 + floor(ns / 1000000)
redis.call('PEXPIRE', key, full + 1 + argv[5])
