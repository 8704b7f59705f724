-- What the caller knows of the beats; by region, in the order of KEYS: base and newest stamp.
-- beaten: now, but a caller without new beats counts no time for the others.
if not stamps then
  local own, list = match(argv[17], '^%d+ (%d+)(.*)$')
  own_stamp, bases, stamps = tonumber(own), {}, {}
  beaten = max(own_stamp, min(us, own_stamp + NEAR))
  for base, stamp in string.gmatch(list, ' (-?%d+) (%d+)') do
    bases[#bases + 1], stamps[#stamps + 1] = tonumber(base), tonumber(stamp)
  end
end
