-- Gives a lease back, unless it has run out and is another one's by now.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return { redis.call('DEL', KEYS[1]) }
end
return { 0 }
