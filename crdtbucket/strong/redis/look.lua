local made, list = match(held[3] or '', '^(%d+)(.*)$')
local brought = {}
if level and made == generation then
  for name, merged, its_at in string.gmatch(list, ' (%S+) (%d+) (%d+)') do
    peers[name] = {tonumber(merged), tonumber(its_at)}
  end
end
for i = 1, regions do
  if copies[i] == nil then
    copies[i] = redis.call('HGET', KEYS[i + 1], 'level')
  end
  local merged = peers[argv[15 + 3 * i]]
  if copies[i] then
    local its_s, its_us, its_version =
      match(copies[i], '^(%d+) (%d+) %S+ %S+ %S+ %S+ %S+ %S+ (%d+)')
    if not merged or merged[1] ~= tonumber(its_version)
      or merged[2] ~= its_s * 1000000 + its_us then
      brought[#brought + 1] = i
    end
  end
end
if #brought > 0 then
  --@ merge.lua
end
