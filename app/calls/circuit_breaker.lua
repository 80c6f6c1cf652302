-- The circuit breaker of one teacher: closed; open, while no call is made; half open, while one call (the probe) is made.
-- It comes before rate_limiter.lua in the same script, which gives it the teacher's state.
-- state: get(name) and set(name, value). outcomes: key of the list of the newest outcomes. settings: newest (calls of
-- which half must have failed), within (the ms in which they were), first and longest (ms that it is open), lost_after
-- (ms until a probe counts as lost).

local function circuit_breaker(get, set, now, outcomes, settings)
  local breaker = {}

  local function most_have_failed()
    local failed, seen = 0, 0
    for _, outcome in ipairs(redis.call('LRANGE', outcomes, 0, -1)) do
      if now - tonumber(string.sub(outcome, 3)) <= settings.within then
        seen = seen + 1
        if string.sub(outcome, 1, 1) == '1' then failed = failed + 1 end
      end
    end
    return seen >= settings.newest and failed * 2 >= seen
  end

  local function open()
    local open_for = get('open_for')
    -- Calls that were in flight when it opened fail one after another. Only a failure after the open interval is new.
    if open_for > 0 and now >= get('open_until') then
      open_for = math.min(settings.longest, open_for * 2)
    elseif open_for == 0 and most_have_failed() then
      open_for = settings.first
      set('open_since', now)
    else
      return
    end
    set('open_for', open_for) set('open_until', now + open_for) set('probe_until', 0)
  end

  -- A call is over. outcome: ok, slow, failed, timeout; none: it was not made.
  function breaker.record(outcome)
    if outcome == 'none' then
      -- The probe was not made, so that another call may be the probe.
      if get('open_for') > 0 then breaker.forget_probe() end
      return
    end
    if (outcome == 'ok' or outcome == 'slow') and get('open_for') > 0 then
      -- The teacher answers again, even if it only requests fewer calls.
      for _, name in ipairs({'open_for', 'open_until', 'open_since', 'probe_until'}) do set(name, 0) end
      redis.call('DEL', outcomes)
    end
    if outcome ~= 'slow' then
      redis.call('LPUSH', outcomes, (outcome == 'ok' and '0:' or '1:') .. now)
      redis.call('LTRIM', outcomes, 0, settings.newest - 1)
    end
    if outcome == 'failed' or outcome == 'timeout' then open() end
  end

  -- Why no call may be made: the verdict, the ms until it may be tried again, the ms for which the breaker has been
  -- open. nil: calls may be made.
  function breaker.refusal()
    if get('open_for') == 0 then return nil end
    if now < get('open_until') then return {'open', get('open_until') - now, now - get('open_since')} end
    if now < get('probe_until') then return {'wait', 200, 0} end
    return nil
  end

  -- A call is made. True if it is the probe, for whose outcome all other calls wait.
  function breaker.begin_call()
    if get('open_for') == 0 then return false end
    set('probe_until', now + settings.lost_after)
    return true
  end

  function breaker.forget_probe() set('probe_until', 0) end

  return breaker
end
