"""The Lua scripts of the Redis ledger. Each is atomic: https://redis.io/docs/latest/develop/programmability/."""

from __future__ import annotations

from typing import Final

_OWNED: Final = """
local prefix, instance, owner, seen = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local own, logged = prefix .. 'instance:' .. instance, prefix .. 'log:' .. instance
local holder = tonumber(redis.call('HGET', own, 'owner') or '0')
if holder > owner then return redis.error_reply('TAKEN by another service') end
-- A lower owner, or none, means that the server has lost data.
if holder < owner then redis.call('HSET', own, 'owner', ARGV[3]) end
local function text(number) return string.format('%.17g', number) end
"""

# Redis does not undo what a failed script has written, so scripts check the types of all keys first.
_CHECK: Final = """
local checked = {}
local function check(key, kind)
    if checked[key] then return end
    checked[key] = true
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= kind then error('WRONGTYPE ' .. key .. ' is a ' .. found) end
end
"""

CLAIM: Final = """
local own, logged = ARGV[1] .. 'instance:' .. ARGV[2], ARGV[1] .. 'log:' .. ARGV[2]
local now = redis.call('TIME')
local owner = math.max(tonumber(redis.call('HGET', own, 'owner') or '0') + 1, now[1] * 1000000 + now[2])
redis.call('HSET', own, 'owner', string.format('%.17g', owner))
redis.call('SADD', ARGV[1] .. 'instances', ARGV[2])
return {string.format('%.17g', owner), redis.call('ZREVRANGE', logged, 0, 0)[1] or '0'}
"""

# A position is the server's time in microseconds: it increases even if the server has lost its last writes.
ADD: Final = (
    _OWNED
    + _CHECK
    + """
local calls, known, missed = cmsgpack.unpack(ARGV[5]), {}, {}
check(prefix .. 'ids', 'hash')
check(prefix .. 'calls', 'stream')
check(prefix .. 'started', 'zset')
check(prefix .. 'position', 'string')
check(logged, 'zset')
check(prefix .. 'rules', 'set')
for _, rule in ipairs(cmsgpack.unpack(ARGV[8])) do known[rule] = true end
for _, rule in ipairs(redis.call('SMEMBERS', prefix .. 'rules')) do
    if not known[rule] then
        missed[#missed + 1] = prefix .. 'missed:' .. rule
        check(prefix .. 'missed:' .. rule, 'list')
    end
end
for _, call in ipairs(calls) do
    check(prefix .. 'session:' .. call[4], 'zset')
    for _, cell in ipairs(call[5]) do check(prefix .. cell[1], 'hash') end
end
local now = redis.call('TIME')
local last = tonumber(redis.call('GET', prefix .. 'position') or '0')
local position = math.max(last, now[1] * 1000000 + now[2] - 1)
local before, unreported = position, {}
for _, at in ipairs(redis.call('ZRANGEBYSCORE', logged, '(' .. ARGV[4], '+inf')) do
    local entry = redis.call('XRANGE', prefix .. 'calls', at, at)[1]
    if entry then unreported[#unreported + 1] = {at, entry[2][2]} end
end
local new, sums = {}, {}
for number, call in ipairs(calls) do
    local id, json, started, session, cells, totals = unpack(call)
    if redis.call('HSETNX', prefix .. 'ids', id, text(position + 1)) == 1 then
        position = position + 1
        new[#new + 1] = number - 1
        local at = text(position)
        redis.call('XADD', prefix .. 'calls', at .. '-0', 'call', json)
        redis.call('ZADD', prefix .. 'started', text(started), at)
        redis.call('ZADD', logged, at, at)
        redis.call('ZADD', prefix .. 'session:' .. session, at, at)
        redis.call('EXPIRE', prefix .. 'session:' .. session, ARGV[6])
        redis.call('EXPIRE', prefix .. 'reset:' .. session, ARGV[6])
        for _, cell in ipairs(cells) do
            local key, field, expires = unpack(cell)
            sums[key] = sums[key] or {expires = expires, fields = {}}
            local fields = sums[key].fields
            fields[field] = fields[field] or {}
            for sum, value in ipairs(totals) do fields[field][sum] = (fields[field][sum] or 0) + value end
        end
    end
end
local names = cmsgpack.unpack(ARGV[7])
for key, bucket in pairs(sums) do
    for field, values in pairs(bucket.fields) do
        for sum, value in ipairs(values) do
            if value ~= 0 then
                redis.call('HINCRBYFLOAT', prefix .. key, names[sum] .. ' ' .. field, text(value))
            end
        end
    end
    redis.call('EXPIREAT', prefix .. key, bucket.expires)
end
for _, rule in ipairs(missed) do
    for at = before + 1, position do redis.call('RPUSH', rule, text(at)) end
end
if #new > 0 then
    last = position
    redis.call('SET', prefix .. 'position', text(last))
end
return {text(math.max(last, seen)), new, unreported}
"""
)

CHECKPOINT: Final = (
    _OWNED
    + """
redis.call('HSET', own, 'counted', ARGV[5])
redis.call('ZREMRANGEBYSCORE', logged, '-inf', ARGV[4])
"""
)

# A rule that is registered first by this service has all calls so far as its backlog.
REGISTER: Final = """
local prefix, wanted = ARGV[1], {}
local position = redis.call('GET', prefix .. 'position')
for _, rule in ipairs(cmsgpack.unpack(ARGV[2])) do
    local name, left_over = unpack(rule)
    wanted[name] = true
    if redis.call('SADD', prefix .. 'rules', name) == 1 then
        for _, account in ipairs(left_over) do redis.call('UNLINK', prefix .. 'account:' .. account) end
        if position then redis.call('HSET', prefix .. 'backlogs', name, position .. ' +inf') end
    end
end
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'rules')) do
    if not wanted[name] then
        redis.call('SREM', prefix .. 'rules', name)
        redis.call('HDEL', prefix .. 'backlogs', name)
        redis.call('UNLINK', prefix .. 'missed:' .. name)
    end
end
"""

BEHIND: Final = """
local behind = {}
for _, name in ipairs(redis.call('SMEMBERS', ARGV[1] .. 'rules')) do
    if redis.call('HEXISTS', ARGV[1] .. 'backlogs', name) == 1
        or redis.call('EXISTS', ARGV[1] .. 'missed:' .. name) == 1
    then behind[#behind + 1] = name end
end
return behind
"""

_CHARGE: Final = (
    _CHECK
    + """
local prefix, accounts, now = ARGV[1], cmsgpack.unpack(ARGV[5]), tonumber(redis.call('TIME')[1])
for _, account in ipairs(accounts) do check(prefix .. 'account:' .. account[1], 'hash') end
local function charge()
    for _, account in ipairs(accounts) do
        local name, expires, usd, tokens = unpack(account)
        local key = prefix .. 'account:' .. name
        local ttl = redis.call('TTL', key)
        redis.call('HINCRBYFLOAT', key, 'cost_usd ', usd)
        redis.call('HINCRBYFLOAT', key, 'output_tokens ', tokens)
        if ttl < 0 or now + ttl < expires then redis.call('EXPIREAT', key, expires) end
    end
end
"""
)

CHARGE_EARLIER: Final = (
    _CHARGE
    + """
local backlogs, rule, progress, following = prefix .. 'backlogs', ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', backlogs, rule) ~= progress then return end
redis.call('HDEL', backlogs, rule)
if following ~= '' then redis.call('HSET', backlogs, rule, following) end
charge()
"""
)

CHARGE_MISSED: Final = (
    _CHARGE
    + """
local missed = prefix .. 'missed:' .. ARGV[2]
if redis.call('LINDEX', missed, 0) ~= ARGV[4] then return end
redis.call('LTRIM', missed, ARGV[3], -1)
charge()
"""
)

RESET: Final = """
local position = redis.call('GET', ARGV[1] .. 'position') or '0'
redis.call('SET', ARGV[1] .. 'reset:' .. ARGV[2], position, 'EX', ARGV[3])
"""

FETCH: Final = """
local calls = {}
for number = 2, #ARGV do
    local entry = redis.call('XRANGE', ARGV[1] .. 'calls', ARGV[number], ARGV[number])[1]
    calls[#calls + 1] = entry and entry[2][2] or ''
end
return calls
"""
