-- Corrects the charges of a request that is over, and ends its lease; times in whole microseconds of Redis' own clock.
-- KEYS[1] the windows, KEYS[2] the requests that run
-- ARGV[1] the lease or "", then for each window: its field, by how much to move it, the tolerance.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[1] ~= '' then
  local ended = redis.pcall('ZREM', KEYS[2], ARGV[1])
  local err = type(ended) == 'table' and ended.err
  if err and not string.find(err, 'WRONGTYPE') then return ended end
end

local furthest = 0
for i = 2, #ARGV, 3 do
  local stored = redis.pcall('HGET', KEYS[1], ARGV[i])
  if type(stored) == 'table' then return {} end
  local delta, tolerance = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local tat = tonumber(stored or nil) or now
  if tat ~= tat or tat > now + 4e12 then tat = now end
  local function held(at) return math.max(now, math.min(math.floor(at), now + 2 * tolerance)) end
  tat = held(held(tat) + delta)
  redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', tat))
  furthest = math.max(furthest, tat - now)
end
local life = math.ceil(furthest / 1000) + 60000
if #ARGV > 1 and redis.call('PTTL', KEYS[1]) < life then redis.call('PEXPIRE', KEYS[1], life) end
return {}
