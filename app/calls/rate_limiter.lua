-- The rate limiter of one teacher, for all workers together. All times in ms, by the clock of Redis.
-- One run of the script releases the permits of calls that have finished, and grants permits to as many of the waiting
-- calls as the limits allow. circuit_breaker.lua comes before this text in the same script.
-- KEYS: 1 state (hash), 2 calls in flight (hash: worker -> how many), 3 newest outcomes (list),
--       4 workers with calls in flight (sorted set: worker -> when it counts as gone).
-- ARGV: 1 calls at once, at most  2 requests a minute  3 tokens a minute (0: no limit)  4 ms until a probe is lost
--       5 newest calls of which half must have failed, and 6 the ms in which they were  7 first, 8 longest ms that the
--       breaker is open  9 the worker that runs the script, 10 ms after which it counts as dead without another run, 11 its
--       calls in flight  12 the time, where it is not to be that of Redis ('' otherwise)
--       13 number of finished calls, for each of them: outcome (ok, slow, failed, timeout, none), ms until the
--       teacher accepts another call, tokens not used; then for each waiting call: its tokens.
-- Answer: the number of permits granted, and for the next call: granted, wait or open; the ms until it may be tried
-- again; the ms for which the breaker has been open.

local time = redis.call('TIME')
local now = tonumber(ARGV[12]) or time[1] * 1000 + math.floor(time[2] / 1000)
local ceiling, rpm, tpm = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local worker, gone_after, own = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])

local state, changed = {}, {}
local flat = redis.call('HGETALL', KEYS[1])
for n = 1, #flat, 2 do state[flat[n]] = tonumber(flat[n + 1]) end
local prober = redis.call('HGET', KEYS[1], 'prober')
local function get(name) return state[name] or 0 end
local function set(name, value) state[name] = value changed[name] = true end

local breaker = circuit_breaker(get, set, now, KEYS[3], {
  lost_after = tonumber(ARGV[4]), newest = tonumber(ARGV[5]), within = tonumber(ARGV[6]),
  first = tonumber(ARGV[7]), longest = tonumber(ARGV[8]),
})

if state['limit'] == nil then set('limit', math.min(4, ceiling)) set('slow_start', 1) end

-- A bucket of `per_minute` units: what is in it now. A new one starts with a sixth of its minute, not with all of it:
-- after Redis was emptied nobody knows what was spent just before.
local function filled(name, per_minute)
  local before = state[name]
  if before == nil then return per_minute / 6 end
  return math.min(per_minute, before + (now - get(name .. '_at')) * per_minute / 60000)
end

local function adapt_limit(outcome)
  local limit = get('limit')
  if outcome == 'ok' then
    -- Doubling with every round at first; one more for each full round once it has been too much.
    if get('slow_start') == 1 then limit = limit + 1 else limit = limit + 1 / math.max(1, limit) end
    set('limit', math.min(ceiling, limit))
  elseif outcome ~= 'failed' and now - get('halved_at') > 1000 then
    set('limit', math.max(1, limit / 2)) set('slow_start', 0) set('halved_at', now)
  end
end

local function release(outcome, after, unused)
  if tpm > 0 and unused ~= 0 and state['tokens'] then set('tokens', math.min(tpm, get('tokens') + unused)) end
  if after > 0 then set('blocked_until', math.max(get('blocked_until'), now + after)) end
  if outcome ~= 'none' then adapt_limit(outcome) end
  breaker.record(outcome)
end

local in_flight

local function permit(tokens)
  local refused = breaker.refusal()
  if refused then return refused end
  if now < get('blocked_until') then return {'wait', get('blocked_until') - now, 0} end
  if in_flight >= math.min(ceiling, math.max(1, math.floor(get('limit')))) then return {'wait', 20, 0} end
  if rpm > 0 then
    local has = filled('requests', rpm)
    if has < 1 then return {'wait', math.ceil((1 - has) * 60000 / rpm), 0} end
  end
  if tpm > 0 then
    -- A call that is larger than the bucket goes when the bucket is full.
    local has, needed = filled('tokens', tpm), math.min(tokens, tpm)
    if has < needed then return {'wait', math.ceil((needed - has) * 60000 / tpm), 0} end
  end
  if rpm > 0 then set('requests', filled('requests', rpm) - 1) set('requests_at', now) end
  if tpm > 0 then set('tokens', filled('tokens', tpm) - tokens) set('tokens_at', now) end
  if breaker.begin_call() then redis.call('HSET', KEYS[1], 'prober', worker) end
  in_flight = in_flight + 1
  return nil
end

for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now)) do
  redis.call('HDEL', KEYS[2], gone)
  redis.call('ZREM', KEYS[4], gone)
  if gone == prober then breaker.forget_probe() end
end
local position = 14
for _ = 1, tonumber(ARGV[13]) do
  release(ARGV[position], tonumber(ARGV[position + 1]), tonumber(ARGV[position + 2]))
  position = position + 3
end
redis.call('HSET', KEYS[2], worker, own)
in_flight = 0
for _, count in ipairs(redis.call('HVALS', KEYS[2])) do in_flight = in_flight + count end
local granted, verdict = 0, {'granted', 0, 0}
while position <= #ARGV do
  local refused = permit(tonumber(ARGV[position]))
  if refused then verdict = refused break end
  granted = granted + 1
  position = position + 1
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
