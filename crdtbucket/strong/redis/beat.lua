#!lua
--[[ Writes the beat of one region, at most every 100 ms; it tells the others that what this region
writes arrives, and this region how far behind the beats of each other one are.

KEYS[1]  this region's beat; then those of the other regions, as far as replication has brought
         them: "version stamp nodes|" and, of each region of which a beat came, "region version
         stamp base nodes ". stamp: us, of the member that the beat comes from; base: us, at most so
         far is the writer's clock ahead of that one's.

ARGV     1 region  2 nodes: of this region; 0: not counted yet, as last written  3 ... the names of the others, in the order of KEYS

Answer   the text of this region's beat. ]]

local EVERY, KEPT = 100000, 86400000 -- us, ms
local LOST = 1000 -- versions, after a loss, of beats that the others may know and do not relay yet
local FIRST_MS = 1577836800000 -- versions count from 2020
local match, format, floor, max, min = string.match, string.format, math.floor, math.max, math.min

-- A beat, and in it those that it relays; nil for none.
local function read(key)
  local text = redis.call('GET', key)
  if not text then
    return nil
  end
  local version, stamp, nodes, list = match(text, '^(%d+) (%d+) (%d+)|(.*)$')
  if not version then
    error({err = 'CRDTBUCKET ' .. key .. ' is no beat: ' .. text})
  end
  local beat = {
    version = tonumber(version), stamp = tonumber(stamp), nodes = nodes, text = text, relays = {},
  }
  for name, version, stamp, base, nodes in
    string.gmatch(list, '(%S+) (%d+) (%d+) (-?%d+) (%d+)') do
    beat.relays[name] = {
      version = tonumber(version), stamp = tonumber(stamp), base = tonumber(base), nodes = nodes,
    }
  end
  return beat
end

local now = redis.call('TIME')
local us = now[1] * 1000000 + now[2]
local own = read(KEYS[1])
local passed = own and us - own.stamp or 0
if own and passed >= 0 and passed < EVERY then
  return own.text
end

-- The newest beat of each region, by way of another one where that is newer.
local version, newest = own and own.version or 0, {}
for i = 2, #KEYS do
  local beat = read(KEYS[i])
  if beat then
    local name, mine = ARGV[i + 1], beat.relays[ARGV[1]]
    if mine then -- the way of this beat was no longer than since the one that its writer knew
      beat.echo = us - mine.stamp
      version = own and version or max(version, mine.version + LOST)
    end
    beat.relays[name] = beat
    for name, one in pairs(beat.relays) do
      if not newest[name] or one.version > newest[name].version
        or one.version == newest[name].version and one.echo then
        newest[name] = one
      end
    end
  end
end

local list = ''
for i = 2, #KEYS do
  local name = ARGV[i + 1]
  local known, one = own and own.relays[name], newest[name]
  if known then
    -- Clocks drift apart by 1000 ppm at most. A pause of the beats may be a step of this clock.
    known.base = known.base + floor(max(0, min(passed, EVERY)) / 1000)
    if passed < 0 or passed > 10 * EVERY then
      known.base = known.base + passed - EVERY
    end
  end
  if one and (not known or one.version > known.version) then
    local ahead = us - one.stamp -- this clock, and the way of the beat
    local base = known and min(known.base, ahead) or ahead
    -- The way took no longer than there and back. A base below that, or a stamp that is older than
    -- one before, is of clocks that were set: then nothing is known but this beat.
    local echo = one.echo and one.echo >= 0 and one.echo
    if known and (one.stamp < known.stamp or echo and base < ahead - echo) then
      base = ahead
    end
    known = {version = one.version, stamp = one.stamp, base = base, nodes = one.nodes}
  end
  if known then
    list = list .. format(
      '%s %.0f %.0f %.0f %s ', name, known.version, known.stamp, known.base, known.nodes
    )
  end
end

version = max(version + 1, floor(us / 1000) - FIRST_MS)
local nodes = ARGV[2]
if nodes == '0' then
  nodes = own and own.nodes or '1'
end
local text = format('%.0f %.0f %s|%s', version, us, nodes, list)
redis.call('SET', KEYS[1], text, 'PX', KEPT)
return text
