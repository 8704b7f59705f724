-- Which copies are not those that were merged last. The usual answer, none, takes no more than to
-- write down what `peers` then says.
local found, merged_text = made, level and redis.call('HGET', key, 'peers') or ''
if copies == none then
  copies = {}
end
for i = 1, regions do
  if copies[i] == nil then
    copies[i] = redis.call('HGET', KEYS[i + 1], 'level')
  end
  if copies[i] and found then
    local its_s, its_us, its_version = match(copies[i], VERSION_OF)
    found = its_s and found .. ' ' .. sub(KEYS[i + 1], at_name) .. ' ' .. its_version
      .. format(' %d', its_s * 1000000 + its_us)
  end
end

if not found or merged_text ~= found and sub(merged_text, 1, #found + 1) ~= found .. ' ' then
  local its_made, list = match(merged_text, '^(%d+)(.*)$')
  local brought = {}
  peers = {}
  if level and its_made == made then
    for name, merged, its_at in string.gmatch(list, ' (%S+) (%d+) (%d+)') do
      peers[name] = {tonumber(merged), tonumber(its_at)}
    end
  end
  for i = 1, regions do
    local merged = peers[sub(KEYS[i + 1], at_name)]
    if copies[i] then
      local its_s, its_us, its_version = match(copies[i], VERSION_OF)
      if not merged or merged[1] ~= tonumber(its_version)
        or merged[2] ~= its_s * 1000000 + its_us then
        brought[#brought + 1] = i
      end
    end
  end
  if #brought > 0 then
    --@ merge.lua
  end
end
