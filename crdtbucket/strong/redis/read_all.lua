-- All records, once; those that count as missing are stale.
if not all then
  all, stale = true, {}
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local name = fields[i]
    if name ~= 'level' and name ~= 'peers' and not records[name] then
      local one = level and read_record(name, fields[i + 1], made)
      if one and one[VERSION] <= version then
        records[name] = one
      else
        stale[#stale + 1] = name
      end
    end
  end
end
