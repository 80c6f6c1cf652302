-- How fast one teacher may be asked, by all workers together. All times in ms, by the clock of Redis.
-- One call gives back the calls that are over and takes leave for as many of those that wait as there is room for.
-- KEYS: 1 state (hash), 2 calls in flight (hash: worker -> how many), 3 newest outcomes (list),
--       4 workers with calls in flight (sorted set: worker -> when it counts as gone).
-- ARGV: 1 calls at once, at most  2 requests a minute  3 tokens a minute (0: no limit)  4 ms until a probe is lost
--       5 newest calls of which half must have failed, and 6 the ms in which they were  7 first, 8 longest ms of rest
--       9 the worker that speaks, 10 ms until it counts as gone if it is silent from now on, 11 its calls in flight
--       12 number of calls that are over, for each of them: outcome (ok, slow, failed, timeout, none), ms that the
--       teacher wants to be left alone, tokens not used; then for each that waits: its tokens.
-- Answer: how many of those that wait may go, and for the next one: go, wait or away; in how many ms; away since.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ceiling, rpm, tpm, lost_after = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local newest, within, first, longest = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local worker, gone_after, own = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])

local state, changed = {}, {}
local flat = redis.call('HGETALL', KEYS[1])
for n = 1, #flat, 2 do state[flat[n]] = tonumber(flat[n + 1]) end
local prober = redis.call('HGET', KEYS[1], 'prober')
local function get(name) return state[name] or 0 end
local function set(name, value) state[name] = value changed[name] = true end

if state['limit'] == nil then set('limit', math.min(4, ceiling)) set('climbing', 1) end

-- A bucket of `per_minute` units: what is in it now. A new one starts with a sixth of its minute, not with all of it:
-- after Redis was emptied nobody knows what was spent just before.
local function filled(name, per_minute)
  local before = state[name]
  if before == nil then return per_minute / 6 end
  return math.min(per_minute, before + (now - get(name .. '_at')) * per_minute / 60000)
end

local function rest()
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
    return
  end
  set('open_for', open_for) set('open_until', now + open_for) set('probe_until', 0)
end

local function over(outcome, after, unused)
  if tpm > 0 and unused ~= 0 and state['tokens'] then set('tokens', math.min(tpm, get('tokens') + unused)) end
  if after > 0 then set('blocked_until', math.max(get('blocked_until'), now + after)) end
  if outcome == 'none' then
    -- It was not asked after all: another one may be the probe.
    if get('open_for') > 0 then set('probe_until', 0) end
    return
  end
  local limit = get('limit')
  if outcome == 'ok' then
    -- Doubling with every round at first; one more for each full round once it has been too much.
    if get('climbing') == 1 then limit = limit + 1 else limit = limit + 1 / math.max(1, limit) end
    set('limit', math.min(ceiling, limit))
  elseif outcome ~= 'failed' and now - get('halved_at') > 1000 then
    set('limit', math.max(1, limit / 2)) set('climbing', 0) set('halved_at', now)
  end
  if (outcome == 'ok' or outcome == 'slow') and get('open_for') > 0 then
    -- It answers again, if only to say that it has much to do.
    for _, name in ipairs({'open_for', 'open_until', 'open_since', 'probe_until'}) do set(name, 0) end
    redis.call('DEL', KEYS[3])
  end
  if outcome ~= 'slow' then
    redis.call('LPUSH', KEYS[3], (outcome == 'ok' and '0:' or '1:') .. now)
    redis.call('LTRIM', KEYS[3], 0, newest - 1)
  end
  if outcome == 'failed' or outcome == 'timeout' then rest() end
end

local in_flight

local function leave(tokens)
  local half_open = false
  if get('open_for') > 0 then
    if now < get('open_until') then return {'away', get('open_until') - now, now - get('open_since')} end
    -- One goes ahead; what it finds is soon known.
    if now < get('probe_until') then return {'wait', 200, 0} end
    half_open = true
  end
  if now < get('blocked_until') then return {'wait', get('blocked_until') - now, 0} end
  if in_flight >= math.min(ceiling, math.max(1, math.floor(get('limit')))) then return {'wait', 20, 0} end
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
  if half_open then
    set('probe_until', now + lost_after)
    redis.call('HSET', KEYS[1], 'prober', worker)
  end
  in_flight = in_flight + 1
  return nil
end

for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now)) do
  redis.call('HDEL', KEYS[2], gone)
  redis.call('ZREM', KEYS[4], gone)
  if gone == prober then set('probe_until', 0) end
end
local place = 13
for _ = 1, tonumber(ARGV[12]) do
  over(ARGV[place], tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2]))
  place = place + 3
end
redis.call('HSET', KEYS[2], worker, own)
in_flight = 0
for _, count in ipairs(redis.call('HVALS', KEYS[2])) do in_flight = in_flight + count end
local granted, verdict = 0, {'go', 0, 0}
while place <= #ARGV do
  local refused = leave(tonumber(ARGV[place]))
  if refused then verdict = refused break end
  granted = granted + 1
  place = place + 1
end
if own + granted > 0 then
  redis.call('HSET', KEYS[2], worker, own + granted)
  redis.call('ZADD', KEYS[4], now + gone_after, worker)
else
  redis.call('HDEL', KEYS[2], worker)
  redis.call('ZREM', KEYS[4], worker)
end
for name in pairs(changed) do redis.call('HSET', KEYS[1], name, tostring(state[name])) end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 3600000) end
return {granted, verdict[1], verdict[2], verdict[3]}
