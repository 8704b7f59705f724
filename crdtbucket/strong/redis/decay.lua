-- left = e^(-time / 30 s), nearly, and the same on every machine; time: us.
local left = max(0, 1 - time / (64 * TAU))
left = left * left
left = left * left
left = left * left
left = left * left
left = left * left
left = left * left
