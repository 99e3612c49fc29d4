"""The Lua that Redis runs: one step, one settlement, one addition to an account.

What lives here: the same arithmetic as ``memory.py``, on Redis's own clock. What must never live here: Python.
Numbers cross the wire as little-endian doubles (Redis's ``struct``), since a script's reply would cut a Lua number to
an integer. What is kept is text, for people with redis-cli.

rate:   string "LEVEL AT"               AT in us of unix time
window: string "START END USED LOST"    unix seconds; used + lost is the sum (Neumaier's summation)
lease:  sorted set of ids by expiry     us of unix time
counts: hash of numbers by name         as HINCRBYFLOAT keeps them

Each key is written with a time to live, always. A value that is not of this form counts as none.
"""

from __future__ import annotations

_COMMON = """
local MAX_TTL = 34560000000 -- 400 days in ms
local time = redis.call('TIME')
local us = time[1] * 1000000 + time[2]

local function keep(key, value, ttl_ms)
  redis.call('SET', key, value, 'PX', string.format('%.0f', math.ceil(math.min(MAX_TTL, math.max(1, ttl_ms)))))
end

local function rate_level(key, per_us)
  local raw = redis.call('GET', key)
  if not raw then return 0, false end
  local level, at = string.match(raw, '^(%S+) (%S+)$')
  level, at = tonumber(level), tonumber(at)
  if not level or not at then return 0, false end
  -- a clock that went back (another master) drains nothing now, and goes on from its own time
  return math.max(0, level - math.max(0, us - at) * per_us), true
end

local function rate_keep(key, level, per_us)
  keep(key, string.format('%.17g %.0f', level, us), level / per_us / 1000 + 1000)
end

local function window_of(key, start, stop)
  local raw = redis.call('GET', key)
  if raw then
    local s, e, u, l = string.match(raw, '^(%S+) (%S+) (%S+) (%S+)$')
    s, e, u, l = tonumber(s), tonumber(e), tonumber(u), tonumber(l)
    if s and e and u and l and s >= start then return s, e, u, l, true end
  end
  return start, stop, 0, 0, false
end

local function window_add(key, s, e, used, lost, cost)
  local total = used + cost
  if math.abs(used) >= math.abs(cost) then lost = lost + ((used - total) + cost)
  else lost = lost + ((cost - total) + used) end
  if total + lost <= 0 then total, lost = 0, 0 end
  local grace = math.min(3600, math.max(60, e - s))
  keep(key, string.format('%.17g %.17g %.17g %.17g', s, e, total, lost),
       math.max(0, e * 1000 - us / 1000) + grace * 1000)
end

local function lease_hold(key, id, ttl)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', us))
  redis.call('ZADD', key, string.format('%.0f', us + ttl * 1000000), id)
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIRE', key, string.format('%.0f', math.min(MAX_TTL, math.ceil((last - us) / 1000) + 1000)))
end
"""

TAKE = (
    _COMMON
    + """
-- ARGV[1]: spend (1 or 0), not_after (us, 0: any time). Then for each key: kind, cost, limit, a, b, and a lease's id.
-- Reply: index of the first part refused (0: none; -1: too late, nothing was done), us, then for each part: allowed,
-- remaining, reset_after_s, retry_after_s (-1: never).
local spend, not_after = struct.unpack('<dd', ARGV[1])
-- A server that hung takes up what lies in its socket, long after the caller has gone elsewhere: that must not count.
if not_after > 0 and us > not_after then return struct.pack('<dd', -1, us) end
local first, looks = 0, {}
for i, key in ipairs(KEYS) do
  local kind, cost, limit, a, b = struct.unpack('<ddddd', ARGV[i + 1])
  local look
  if kind == 1 then
    local per_us = limit / a / 1000000
    local level = rate_level(key, per_us)
    local over = level + cost - b
    look = {ok = over <= 1e-9 * b, level = level, per_us = per_us}
    look.left, look.reset, look.retry = b - level, level / per_us / 1000000, 0
    if not look.ok then look.retry = cost > b * (1 + 1e-9) and -1 or over / per_us / 1000000 end
  elseif kind == 2 then
    local s, e, used, lost = window_of(key, a, b)
    look = {ok = used + lost + cost <= limit + 1e-9 + limit * 1e-12, s = s, e = e, used = used, lost = lost}
    look.left, look.reset, look.retry = limit - used - lost, math.max(0, e - us / 1000000), 0
    if not look.ok then look.retry = cost > limit + 1e-9 and -1 or look.reset end
  else
    local id, from = string.sub(ARGV[i + 1], 41), '(' .. string.format('%.0f', us)
    local held, mine = redis.call('ZCOUNT', key, from, '+inf'), redis.call('ZSCORE', key, id)
    mine = mine and tonumber(mine) > us
    look = {ok = mine or held < limit, id = id, mine = mine}
    look.left, look.reset, look.retry = limit - held, 0, 0
    local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
    if last then look.reset = math.max(0, (last - us) / 1000000) end
    if not look.ok then
      local soonest = redis.call('ZRANGEBYSCORE', key, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
      look.retry = (limit < 1 or not soonest) and -1 or (soonest - us) / 1000000
    end
  end
  if not look.ok and first == 0 then first = i end
  look.kind, look.cost, look.a, look.b = kind, cost, a, b
  looks[i] = look
end
local reply = {struct.pack('<dd', first, us)}
for i, key in ipairs(KEYS) do
  local look = looks[i]
  if first == 0 and spend == 1 then
    if look.kind == 1 then
      local level = look.level + look.cost
      if level > 0 then rate_keep(key, level, look.per_us) end
      look.left, look.reset = look.left - look.cost, level / look.per_us / 1000000
    elseif look.kind == 2 then
      if look.cost > 0 then window_add(key, look.s, look.e, look.used, look.lost, look.cost) end
      look.left = look.left - look.cost
    else
      lease_hold(key, look.id, look.a)
      if not look.mine then look.left = look.left - 1 end
      look.reset = math.max(look.reset, look.a)
    end
  end
  reply[i + 1] = struct.pack('<dddd', look.ok and 1 or 0, math.max(0, look.left), look.reset, look.retry)
end
return table.concat(reply)
"""
)

ADJUST = (
    _COMMON
    + """
-- For each key: kind (1 rate, 2 window, 3 release a lease, 4 hold one), cost, limit, a, b, and a lease's id.
for i, key in ipairs(KEYS) do
  local kind, cost, limit, a, b = struct.unpack('<ddddd', ARGV[i])
  if kind == 1 then
    local per_us = limit / a / 1000000
    local level, known = rate_level(key, per_us)
    level = math.max(0, level + cost)
    if level > 0 or known then rate_keep(key, level, per_us) end
  elseif kind == 2 then
    local s, e, used, lost, known = window_of(key, a, b)
    if cost > 0 then window_add(key, s, e, used, lost, cost)
    elseif known and s == a then window_add(key, s, e, used, lost, cost) end
  elseif kind == 3 then
    redis.call('ZREM', key, string.sub(ARGV[i], 41))
  else
    lease_hold(key, string.sub(ARGV[i], 41), a)
  end
end
return 1
"""
)

COUNT = """
-- ARGV[1]: time to live in ms, most names. Then a name, an amount, and so on. Beyond the most, a new name counts under what
-- follows its last 0x1f.
local key = KEYS[1]
local ttl, most = struct.unpack('<dd', ARGV[1])
local full = redis.call('HLEN', key) + (#ARGV - 1) / 2 > most
for i = 2, #ARGV, 2 do
  local name = ARGV[i]
  if full and redis.call('HEXISTS', key, name) == 0 and redis.call('HLEN', key) >= most then
    name = string.match(name, '[^\\31]*$')
  end
  redis.call('HINCRBYFLOAT', key, name, string.format('%.17g', (struct.unpack('<d', ARGV[i + 1]))))
end
redis.call('PEXPIRE', key, string.format('%.0f', ttl))
return 1
"""
