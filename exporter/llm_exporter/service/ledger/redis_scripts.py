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
    + """
-- Redis does not undo what a failed script has written, so check the types of all keys first.
local calls, checked = cmsgpack.unpack(ARGV[5]), {}
local function check(key, kind)
    if checked[key] then return end
    checked[key] = true
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= kind then error('WRONGTYPE ' .. key .. ' is a ' .. found) end
end
check(prefix .. 'ids', 'hash')
check(prefix .. 'calls', 'stream')
check(prefix .. 'started', 'zset')
check(prefix .. 'position', 'string')
check(logged, 'zset')
for _, call in ipairs(calls) do
    check(prefix .. 'session:' .. call[4], 'zset')
    for _, cell in ipairs(call[5]) do check(prefix .. cell[1], 'hash') end
end
local now = redis.call('TIME')
local last = tonumber(redis.call('GET', prefix .. 'position') or '0')
local position = math.max(last, now[1] * 1000000 + now[2] - 1)
local unreported = {}
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

OPEN_ACCOUNTS: Final = """
if redis.call('SADD', ARGV[1] .. 'rules', ARGV[2]) == 0 then return end
for _, account in ipairs(cmsgpack.unpack(ARGV[3])) do
    local key = ARGV[1] .. 'account:' .. account[1]
    redis.call('DEL', key)
    redis.call('HSET', key, 'cost_usd ', account[3], 'output_tokens ', account[4])
    redis.call('EXPIREAT', key, account[2])
end
"""
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
