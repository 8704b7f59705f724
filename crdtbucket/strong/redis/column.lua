-- Tokens of a column at first sight: all but what the region that made its record never charged.
local function value(x)
  return max(0, x[TAKEN] - x[REFUNDED] - x[BASE])
end

-- Tokens in the counts `x` that a holder of `y` has not counted.
local function gain(x, y)
  if not y or x[GENERATION] ~= y[GENERATION] then
    return value(x)
  end
  return max(0, x[TAKEN] - y[TAKEN]) - max(0, x[REFUNDED] - y[REFUNDED])
end

local function is_old(one)
  return one[SEEN] < now_s - argv[5] / 1000
end

-- The record becomes the merge of itself and another one; returns the tokens that brought. The
-- higher generation wins whole.
local function merge(name, one)
  local mine = records[name]
  local held = mine and one[GENERATION] == mine[GENERATION]
  local more, grown = 0, false
  if not mine or one[GENERATION] > mine[GENERATION] then
    more, grown, created = value(one), true, created or not mine and not is_old(one)
    one[VERSION] = mine and mine[VERSION] or 0
    one[FENCE] = max(one[FENCE], mine and mine[FENCE] or 0)
    records[name], mine = one, one
  elseif held then
    more, grown = gain(one, mine), one[TAKEN] > mine[TAKEN] or one[REFUNDED] > mine[REFUNDED]
    if grown and one[TAKEN] >= mine[TAKEN] and one[REFUNDED] >= mine[REFUNDED]
      and one[HOME] ~= '-' then
      mine[HOME] = one[HOME]
    end
    mine[TAKEN] = max(mine[TAKEN], one[TAKEN])
    mine[REFUNDED] = max(mine[REFUNDED], one[REFUNDED])
    if grown then
      mine[SEEN] = max(mine[SEEN], one[SEEN])
    end
  end
  if grown or one[FENCE] > mine[FENCE] then
    mine[FENCE], raised[name] = max(mine[FENCE], one[FENCE]), mine
  end
  -- What is known now is predicted no longer; at first sight it may be from before the silence.
  local home = mine[HOME]
  if more > 0 and held and silent[home] and far[home] then
    far[home][1] = max(0, far[home][1] - floor(more * q / p))
  end
  return more
end
