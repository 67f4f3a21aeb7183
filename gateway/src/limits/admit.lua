-- Charges every window of an API key, or none of them; times in whole microseconds of Redis' own clock.
-- KEYS[1] the windows (a hash of theoretical arrival times), KEYS[2] the requests that run (a sorted set by expiry)
-- ARGV[1] the lease of this request or "", ARGV[2] the most that may run or 0, ARGV[3] the life of a lease in milliseconds,
-- then for each window: its field, the cost, the tolerance, and what was charged elsewhere and is not known here yet.
-- Gives 1 or 0, how many ran, and how far each window is from full now. See router/src/gcra.rs for the arithmetic.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local most, life = tonumber(ARGV[2]), tonumber(ARGV[3])
local count = (#ARGV - 3) / 4
local allowed, running = 1, 0

if most > 0 then
  local ended = redis.pcall('ZREMRANGEBYSCORE', KEYS[2], '-inf', math.floor(now / 1000))
  if type(ended) == 'table' and ended.err then redis.call('DEL', KEYS[2]) end
  redis.call('ZREM', KEYS[2], ARGV[1])
  running = redis.call('ZCARD', KEYS[2])
  if running >= most then allowed = 0 end
end

local fields, tats, late = {}, {}, false
for i = 1, count do fields[i] = ARGV[4 * i] end
local stored = {}
if count > 0 then
  stored = redis.pcall('HMGET', KEYS[1], unpack(fields))
  if stored.err then
    redis.call('DEL', KEYS[1])
    stored = {}
  end
end
for i = 1, count do
  local cost, tolerance = tonumber(ARGV[4 * i + 1]), tonumber(ARGV[4 * i + 2])
  local owed = tonumber(ARGV[4 * i + 3])
  local tat = tonumber(stored[i] or nil) or now
  -- No charge reaches that far: a value of somebody else's.
  if tat ~= tat or tat > now + 4e12 then tat = now end
  if owed > 0 then
    late = true
    -- Never less than it was: what is owed takes no debt away.
    tat = math.max(tat, math.min(tat + owed, now + tolerance))
  end
  tat = math.max(now, math.min(math.floor(tat), now + 2 * tolerance))
  if tat - now + cost > tolerance then allowed = 0 end
  tats[i] = tat
end

local reply, furthest = { allowed, running }, 0
for i = 1, count do
  if allowed == 1 then tats[i] = tats[i] + tonumber(ARGV[4 * i + 1]) end
  if allowed == 1 or late then redis.call('HSET', KEYS[1], fields[i], string.format('%.0f', tats[i])) end
  reply[i + 2] = tats[i] - now
  furthest = math.max(furthest, tats[i] - now)
end
if count > 0 and (allowed == 1 or late) then
  redis.call('PEXPIRE', KEYS[1], math.ceil(furthest / 1000) + 60000)
end
if allowed == 1 and most > 0 then
  redis.call('ZADD', KEYS[2], math.floor(now / 1000) + life, ARGV[1])
  redis.call('PEXPIRE', KEYS[2], life)
end
return reply
