credit, hold = 0, 0
for name, one in pairs(far) do
  credit = credit + one[1]
  if silent[name] then
    hold = hold + one[1]
  end
end
least_s, least_ns = floor((0 - credit) / NS), (0 - credit) % NS
