-- What all scripts that decide are given: their arguments, and the time. Adding 0 makes a number of
-- a text, without a call.

local NS, EXACT, MANY, LONGEST = 1000000000, 9007199254740992, 64, 4611686018 -- s: 2^62 ns
local match, format, floor, max, min = string.match, string.format, math.floor, math.max, math.min

local key, argv = KEYS[1], ARGV
local capacity, ceiling = argv[1] + 0, argv[1] + argv[2]
local q, p = argv[3] + 0, argv[4] + 0
local cost, owner, whole = argv[6] + 0, argv[7], argv[14] == '1'
local now = redis.call('TIME')
local now_s, now_us = now[1] + 0, now[2] + 0
