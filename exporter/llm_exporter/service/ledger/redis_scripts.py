"""The Lua scripts of the Redis ledger. Each is atomic: https://redis.io/docs/latest/develop/programmability/."""

from __future__ import annotations

from typing import Final

# Redis does not undo what a failed script has written, so scripts first check the types of the keys that they
# cannot do without.
_CHECK: Final = """
local function check(key, kind)
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= kind then
        error('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind)
    end
end
local function check_fixed(prefix)
    check(prefix .. 'backlogs', 'hash')
    check(prefix .. 'calls', 'stream')
    check(prefix .. 'ids', 'hash')
    check(prefix .. 'instances', 'set')
    check(prefix .. 'position', 'string')
    check(prefix .. 'rules', 'set')
    check(prefix .. 'started', 'zset')
end
-- Lua's numbers are exact up to here.
local function is_position(text) return string.match(text, '^%d+$') and tonumber(text) < 2^53 end
"""

# Other keys are left out if they are damaged: those of one sum, session or account.
_TRY: Final = """
local damaged, reported = {}, {}
local function report(key, reason)
    if not reported[key] then
        reported[key] = true
        damaged[#damaged + 1] = {key, reason}
    end
end
local function try(command, key, ...)
    local reply = redis.pcall(command, key, ...)
    if type(reply) ~= 'table' or not reply.err then return reply end
    report(key, reply.err)
end
"""

_OWNED: Final = (
    _CHECK
    + """
local prefix, instance, owner, seen = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local own, logged = prefix .. 'instance:' .. instance, prefix .. 'log:' .. instance
check(own, 'hash')
check(logged, 'zset')
local holder = tonumber(redis.call('HGET', own, 'owner') or '0') or 0
if holder > owner then return redis.error_reply('TAKEN by another service') end
-- A lower owner, or none, means that the server has lost data.
if holder < owner then redis.call('HSET', own, 'owner', ARGV[3]) end
local function text(number) return string.format('%.17g', number) end
"""
)

CHECK: Final = (
    _CHECK
    + """
check_fixed(ARGV[1])
redis.call('SET', ARGV[1] .. 'check', ARGV[2], 'EX', 60)
"""
)

CLAIM: Final = (
    _CHECK
    + """
local own, logged = ARGV[1] .. 'instance:' .. ARGV[2], ARGV[1] .. 'log:' .. ARGV[2]
check_fixed(ARGV[1])
check(own, 'hash')
check(logged, 'zset')
local now = redis.call('TIME')
local before = tonumber(redis.call('HGET', own, 'owner') or '0') or 0
local owner = math.max(before + 1, now[1] * 1000000 + now[2])
redis.call('HSET', own, 'owner', string.format('%.17g', owner))
redis.call('SADD', ARGV[1] .. 'instances', ARGV[2])
local seen = '0'
for _, at in ipairs(redis.call('ZREVRANGE', logged, 0, -1)) do
    if is_position(at) then seen = at break end
end
return {string.format('%.17g', owner), seen}
"""
)

# A position is the server's time in microseconds: it increases even if the server has lost its last writes.
# What all calls of a batch need is asked and written at once, with up to 1,000 arguments: Lua passes 8,000.
ADD: Final = (
    _OWNED
    + _TRY
    + """
local calls, cells_of, known, missed = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6]), {}, {}
check_fixed(prefix)
for _, rule in ipairs(cmsgpack.unpack(ARGV[9])) do known[rule] = true end
for _, rule in ipairs(redis.call('SMEMBERS', prefix .. 'rules')) do
    if not known[rule] then missed[#missed + 1] = prefix .. 'missed:' .. rule end
end
local now = redis.call('TIME')
local last = redis.call('GET', prefix .. 'position') or '0'
if not is_position(last) or tonumber(last) + #calls >= 2^53 then
    error(prefix .. 'position is not a position')
end
last = tonumber(last)
local position = math.max(last, now[1] * 1000000 + now[2] - 1)
local unreported = {}
for _, at in ipairs(redis.call('ZRANGEBYSCORE', logged, '(' .. ARGV[4], '+inf')) do
    local entry = is_position(at) and redis.call('XRANGE', prefix .. 'calls', at, at)[1]
    if entry then unreported[#unreported + 1] = {at, entry[2][2]} end
end
local function in_slices(run, command, key, arguments)
    for first = 1, #arguments, 1000 do
        run(command, key, unpack(arguments, first, math.min(first + 999, #arguments)))
    end
end
local stored = {}
for first = 1, #calls, 1000 do
    local ids = {}
    for number = first, math.min(first + 999, #calls) do ids[#ids + 1] = calls[number][1] end
    for offset, at in ipairs(redis.call('HMGET', prefix .. 'ids', unpack(ids))) do
        if at then stored[ids[offset]] = true end
    end
end
local new, ids, started, positions, scored, sessions, totals = {}, {}, {}, {}, {}, {}, {}
local function append(list, first, second)
    list[#list + 1] = first
    list[#list + 1] = second
end
for number, call in ipairs(calls) do
    local id, json, start, session, set, amounts = unpack(call)
    if not stored[id] then
        stored[id] = true
        position = position + 1
        local at = text(position)
        -- The first write, because it fails if the stream has a later entry.
        redis.call('XADD', prefix .. 'calls', at .. '-0', 'call', json)
        new[#new + 1] = number - 1
        append(ids, id, at)
        append(started, text(start), at)
        positions[#positions + 1] = at
        append(scored, at, at)
        sessions[session] = sessions[session] or {}
        append(sessions[session], at, at)
        if totals[set] then
            for sum, value in ipairs(amounts) do totals[set][sum] = totals[set][sum] + value end
        else
            totals[set] = amounts
        end
    end
end
in_slices(redis.call, 'HSET', prefix .. 'ids', ids)
in_slices(redis.call, 'ZADD', prefix .. 'started', started)
in_slices(redis.call, 'ZADD', logged, scored)
for session, entries in pairs(sessions) do
    in_slices(try, 'ZADD', prefix .. 'session:' .. session, entries)
    redis.call('EXPIRE', prefix .. 'session:' .. session, ARGV[7])
    redis.call('EXPIRE', prefix .. 'reset:' .. session, ARGV[7])
end
local sums = {}
for set, amounts in pairs(totals) do
    for _, cell in ipairs(cells_of[set]) do
        local key, field, expires = unpack(cell)
        sums[key] = sums[key] or {expires = expires, fields = {}}
        local fields = sums[key].fields
        fields[field] = fields[field] or {}
        for sum, value in ipairs(amounts) do fields[field][sum] = (fields[field][sum] or 0) + value end
    end
end
local names = cmsgpack.unpack(ARGV[8])
for key, bucket in pairs(sums) do
    for field, values in pairs(bucket.fields) do
        for sum, value in ipairs(values) do
            if value ~= 0 then
                try('HINCRBYFLOAT', prefix .. key, names[sum] .. ' ' .. field, text(value))
            end
        end
    end
    redis.call('EXPIREAT', prefix .. key, bucket.expires)
end
for _, rule in ipairs(missed) do in_slices(try, 'RPUSH', rule, positions) end
if #new > 0 then
    last = position
    redis.call('SET', prefix .. 'position', text(last))
end
return {text(math.max(last, seen)), new, unreported, damaged}
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
REGISTER: Final = (
    _CHECK
    + """
local prefix, wanted = ARGV[1], {}
check_fixed(prefix)
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
)

BEHIND: Final = """
local behind = {}
for _, name in ipairs(redis.call('SMEMBERS', ARGV[1] .. 'rules')) do
    if redis.call('HEXISTS', ARGV[1] .. 'backlogs', name) == 1
        or redis.call('TYPE', ARGV[1] .. 'missed:' .. name).ok == 'list'
    then behind[#behind + 1] = name end
end
return behind
"""

_CHARGE: Final = (
    _TRY
    + """
local prefix, accounts, now = ARGV[1], cmsgpack.unpack(ARGV[5]), tonumber(redis.call('TIME')[1])
local function charge()
    for _, account in ipairs(accounts) do
        local name, expires, usd, tokens = unpack(account)
        local key = prefix .. 'account:' .. name
        local ttl = redis.call('TTL', key)
        try('HINCRBYFLOAT', key, 'cost_usd ', usd)
        try('HINCRBYFLOAT', key, 'output_tokens ', tokens)
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
return damaged
"""
)

CHARGE_MISSED: Final = (
    _CHARGE
    + """
local missed = prefix .. 'missed:' .. ARGV[2]
if redis.call('LINDEX', missed, 0) ~= ARGV[4] then return end
redis.call('LTRIM', missed, ARGV[3], -1)
charge()
return damaged
"""
)

RESET: Final = """
local position = redis.call('GET', ARGV[1] .. 'position') or '0'
redis.call('SET', ARGV[1] .. 'reset:' .. ARGV[2], position, 'EX', ARGV[3])
"""

# The rule is that of `leased` in leasing.py. An account's leases are a hash of "amount expiry" by process.
LEASE: Final = (
    _TRY
    + """
local prefix, now, latest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local fields = {usd = {'cost_usd '}, tokens = {'input_tokens ', 'output_tokens '}}
local function whole(number) return string.format('%.0f', number) end
local function spent_from(account, unit)
    local key, spent = prefix .. 'account:' .. account, 0
    for _, stored in ipairs(try('HMGET', key, unpack(fields[unit])) or {}) do
        local amount = tonumber(stored or 0)
        if not amount or amount < 0 or amount >= math.huge then
            report(key, stored .. ' is not an amount')
            return 0
        end
        spent = spent + math.min(unit == 'usd' and amount or math.floor(amount), 2^63)
    end
    return unit == 'usd' and tonumber(whole(spent * 1e12)) or math.min(spent, 2^63)
end
local function leases_of(key, process)
    local before, others, held = 0, 0, 0
    local stored = try('HGETALL', key)
    if not stored then redis.call('UNLINK', key) end
    for index = 1, #(stored or {}), 2 do
        local name, lease = stored[index], stored[index + 1]
        local amount, expires = string.match(lease, '^(%d+) (%S+)$')
        expires = tonumber(expires or '')
        if not expires then
            report(key, lease .. ' is not a lease')
            redis.call('HDEL', key, name)
        elseif name == process then
            before = tonumber(amount)
        elseif expires <= now then
            redis.call('HDEL', key, name)
        else
            others, held = others + 1, held + tonumber(amount)
            if expires > latest then redis.call('HSET', key, name, amount .. ' ' .. ARGV[3]) end
        end
    end
    return before, others, held
end
local granted = {}
for number, claim in ipairs(cmsgpack.unpack(ARGV[5])) do
    local account, process, unit, limit, used, keeps, wanted, ends = unpack(claim)
    local key, spent = prefix .. 'leases:' .. account, spent_from(account, unit)
    local before, others, held = leases_of(key, process)
    local amount, kept = used, used
    if not ends then
        local left = limit - spent - held - used
        local share = math.max(math.floor(left / (others + 2)), wanted)
        amount = used + math.max(math.min(left, share), 0)
        kept = math.max(amount, math.min(keeps, before))
    end
    if kept > 0 then
        redis.call('HSET', key, process, whole(kept) .. ' ' .. ARGV[3])
        redis.call('EXPIRE', key, ARGV[4])
    else
        redis.call('HDEL', key, process)
    end
    granted[number] = {whole(spent), whole(amount)}
end
return {granted, damaged}
"""
)

FETCH: Final = (
    _CHECK
    + """
local calls = {}
check(ARGV[1] .. 'calls', 'stream')
for number = 2, #ARGV do
    local entry = redis.call('XRANGE', ARGV[1] .. 'calls', ARGV[number], ARGV[number])[1]
    calls[#calls + 1] = entry and entry[2][2] or false
end
return calls
"""
)
