-- How fast one teacher may be asked, by all workers together. All times in ms, by the clock of Redis.
-- KEYS: 1 state (hash), 2 calls in flight (sorted set: id -> when it counts as lost), 3 newest outcomes (list).
-- ARGV: 1 what to do, then its arguments.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = {}
local flat = redis.call('HGETALL', KEYS[1])
for n = 1, #flat, 2 do state[flat[n]] = tonumber(flat[n + 1]) end
local function get(name) return state[name] or 0 end
local function set(name, value) redis.call('HSET', KEYS[1], name, tostring(value)) state[name] = value end

-- A bucket of `per_minute` units: what is in it now. A new one starts with a sixth of its minute, not with all of it:
-- after Redis was emptied nobody knows what was spent just before.
local function filled(name, per_minute)
  local before = state[name]
  if before == nil then return per_minute / 6 end
  return math.min(per_minute, before + (now - get(name .. '_at')) * per_minute / 60000)
end

local function keep()
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 3600000) end
end

if ARGV[1] == 'acquire' then
  local id, ceiling, rpm, tpm = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
  local tokens, lost_after = tonumber(ARGV[6]), tonumber(ARGV[7])
  local half_open = false
  if get('open_for') > 0 then
    if now < get('open_until') then return {'away', get('open_until') - now, now - get('open_since')} end
    if now < get('probe_until') then return {'away', get('probe_until') - now, now - get('open_since')} end
    half_open = true
  end
  if now < get('blocked_until') then return {'wait', get('blocked_until') - now, 0} end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  local limit = state['limit']
  if limit == nil then limit = math.min(4, ceiling) set('limit', limit) set('climbing', 1) end
  if redis.call('ZCARD', KEYS[2]) >= math.min(ceiling, math.max(1, math.floor(limit))) then return {'wait', 50, 0} end
  if rpm > 0 then
    local has = filled('requests', rpm)
    if has < 1 then return {'wait', math.ceil((1 - has) * 60000 / rpm), 0} end
  end
  if tpm > 0 then
    -- A call that is larger than the bucket goes when the bucket is full.
    local has, wanted = filled('tokens', tpm), math.min(tokens, tpm)
    if has < wanted then return {'wait', math.ceil((wanted - has) * 60000 / tpm), 0} end
  end
  if rpm > 0 then set('requests', filled('requests', rpm) - 1) set('requests_at', now) end
  if tpm > 0 then set('tokens', filled('tokens', tpm) - tokens) set('tokens_at', now) end
  if half_open then set('probe_until', now + lost_after) end
  redis.call('ZADD', KEYS[2], now + lost_after, id)
  keep()
  return {'go', 0, 0}
end

-- release: id, outcome (ok, slow, failed, none), ms that the teacher wants to be left alone, tokens not used, ceiling,
-- tokens per minute, newest calls of which half must have failed, ms in which they were, first and longest ms of rest
local id, outcome, after, unused = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local ceiling, tpm = tonumber(ARGV[6]), tonumber(ARGV[7])
local newest, within, first, longest = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
redis.call('ZREM', KEYS[2], id)
if tpm > 0 and unused ~= 0 and state['tokens'] then set('tokens', math.min(tpm, get('tokens') + unused)) end
if after > 0 then set('blocked_until', math.max(get('blocked_until'), now + after)) end
if outcome == 'none' then
  -- It was not asked after all: another one may be the probe.
  if get('open_for') > 0 then set('probe_until', 0) end
  return {'done', 0, 0}
end

local limit = state['limit'] or math.min(4, ceiling)
if outcome == 'ok' then
  -- Doubling with every round at first; one more for each full round once it has been too much.
  if get('climbing') == 1 then limit = limit + 1 else limit = limit + 1 / math.max(1, limit) end
  set('limit', math.min(ceiling, limit))
elseif now - get('halved_at') > 1000 then
  set('limit', math.max(1, limit / 2)) set('climbing', 0) set('halved_at', now)
end

if outcome ~= 'failed' and get('open_for') > 0 then
  -- It answers again, if only to say that it has much to do.
  for _, name in ipairs({'open_for', 'open_until', 'open_since', 'probe_until'}) do set(name, 0) end
  redis.call('DEL', KEYS[3])
end
if outcome ~= 'slow' then
  redis.call('LPUSH', KEYS[3], (outcome == 'ok' and '0:' or '1:') .. now)
  redis.call('LTRIM', KEYS[3], 0, newest - 1)
end
if outcome == 'failed' then
  local failed, seen = 0, 0
  for _, one in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
    if now - tonumber(string.sub(one, 3)) <= within then
      seen = seen + 1
      if string.sub(one, 1, 1) == '1' then failed = failed + 1 end
    end
  end
  local open_for = get('open_for')
  -- Of calls that were under way when it opened, each fails for itself: only one after its rest says anything new.
  if open_for > 0 and now >= get('open_until') then
    open_for = math.min(longest, open_for * 2)
  elseif open_for == 0 and seen >= newest and failed * 2 >= seen then
    open_for = first
    set('open_since', now)
  else
    keep()
    return {'done', 0, 0}
  end
  set('open_for', open_for) set('open_until', now + open_for) set('probe_until', 0)
end
keep()
return {'done', 0, 0}
