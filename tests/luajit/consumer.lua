-- A consumer of evl in LuaJIT: the preprocessed header by ffi.cdef, unchanged, and libevl.so by ffi.load.
--
--   gcc -E -P include/evl.h > build/evl.i
--   EVL_HEADER_I=build/evl.i EVL_LIBRARY=target/release/libevl.so luajit tests/luajit/consumer.lua
--
-- Lua functions travel through C as an id (the `void *arg`): one C callback made by ffi.cast calls them, and one, the
-- arg_free, forgets them. LuaJIT must not compile a call that calls back into Lua; every function of evl that may release an
-- arg is one, so the compiler is off.
jit.off()

local ffi = require("ffi")

-- The environment

local function environment(name)
  return os.getenv(name) or error("set " .. name)
end

local file = assert(io.open(environment("EVL_HEADER_I")))
ffi.cdef(file:read("*a"))
file:close()
ffi.cdef([[
int pipe(int descriptors[2]);
int close(int descriptor);
ptrdiff_t read(int descriptor, void *buffer, size_t size);
ptrdiff_t write(int descriptor, const void *buffer, size_t size);
]])

local evl = ffi.load(environment("EVL_LIBRARY"))
local C = ffi.C
local MS = 1000000LL

-- Checks

local passed, failed = 0, 0

local function check(condition, what)
  if condition then
    passed = passed + 1
  else
    failed = failed + 1
    io.stderr:write("FAILED: ", what, "\n")
  end
end

local function equal(actual, expected, what)
  check(actual == expected, what .. ": expected " .. tostring(expected) .. ", got " .. tostring(actual))
end

-- Closures on their way through C

local closures, last_id = {}, 0
local calls_after_free, freed_twice = 0, 0

local function id_of(arg)
  return tonumber(ffi.cast("intptr_t", arg))
end

local function as_arg(id)
  return ffi.cast("void *", ffi.cast("intptr_t", id))
end

-- Gives f an id, under which C holds it until it calls release.
local function hold(f)
  last_id = last_id + 1
  closures[last_id] = f
  return as_arg(last_id)
end

-- A Lua error must not leave a callback through C: it is raised into evl instead.
local function guarded(id, ...)
  local f = closures[id]
  if not f then
    calls_after_free = calls_after_free + 1
    return
  end
  local ok, message = pcall(f, ...)
  if not ok then
    evl.evl_raise(-30000, tostring(message))
  end
end

local trampoline = ffi.cast("evl_callback", function(arg)
  guarded(id_of(arg))
end)

local handler_trampoline = ffi.cast("evl_exception_handler", function(_, exception, arg)
  guarded(id_of(arg), exception)
end)

local log_trampoline = ffi.cast("evl_log_fn", function(level, message, arg)
  guarded(id_of(arg), level, ffi.string(message))
end)

local release = ffi.cast("evl_free_fn", function(arg)
  local id = id_of(arg)
  if not closures[id] then
    freed_twice = freed_twice + 1
  end
  closures[id] = nil
end)

local function held()
  local count = 0
  for _ in pairs(closures) do
    count = count + 1
  end
  return count
end

-- Raises a negative result as a Lua error, by evl's own names.
local function must(result)
  if result < 0 then
    error(ffi.string(evl.evl_errname(result)) .. ": " .. ffi.string(evl.evl_strerror(result)), 2)
  end
  return result
end

local function new_loop(flags)
  local options = ffi.new("evl_loop_options")
  must(evl.evl_loop_options_init(options, ffi.sizeof(options)))
  options.flags = flags
  local out = ffi.new("evl_loop *[1]")
  must(evl.evl_loop_new(options, out))
  return out[0]
end

local function now(loop)
  local out = ffi.new("int64_t[1]")
  must(evl.evl_loop_time(loop, out))
  return out[0]
end

local function call_soon(loop, f)
  must(evl.evl_loop_call_soon(loop, trampoline, hold(f), release, nil, nil))
end

local function call_later(loop, delay, f)
  local out = ffi.new("evl_timer *[1]")
  must(evl.evl_loop_call_later(loop, delay, trampoline, hold(f), release, nil, out))
  return ffi.gc(out[0], evl.evl_timer_unref)
end

-- Tests

local function test_version_and_constants()
  equal(ffi.string(evl.evl_version()):match("^%d+%.%d+%.%d+$") ~= nil, true, "evl_version")
  equal(tonumber(evl.EVL_ECLOSED), -20001, "a constant of the header's enums")
  equal(ffi.string(evl.evl_errname(evl.EVL_ECLOSED)), "EVL_ECLOSED", "evl_errname")
  check(#ffi.string(evl.evl_strerror(evl.EVL_ECLOSED)) > 0, "evl_strerror")
end

-- Timers on a manual clock fire in the order of their deadlines, after what was scheduled soon.
local function test_timers_and_closures()
  local loop = new_loop(evl.EVL_LOOP_MANUAL_CLOCK)
  local order = {}
  local function note(word)
    return function()
      order[#order + 1] = word
    end
  end
  local before = held()
  call_later(loop, 20 * MS, note("20 ms"))
  call_later(loop, 10 * MS, note("10 ms, first"))
  call_later(loop, 10 * MS, note("10 ms, second"))
  local cancelled = call_later(loop, 5 * MS, note("cancelled"))
  call_later(loop, -3 * MS, note("due already"))
  call_soon(loop, function()
    order[#order + 1] = "soon"
    call_soon(loop, note("nested"))
  end)
  equal(held() - before, 6, "closures that evl holds")
  must(evl.evl_timer_cancel(cancelled))
  equal(held() - before, 5, "cancel releases the closure at once")
  equal(evl.evl_timer_cancelled(cancelled), 1, "evl_timer_cancelled")

  must(evl.evl_loop_run_until_idle(loop))
  equal(table.concat(order, "; "), "soon; due already; nested", "order before the clock moves")
  must(evl.evl_loop_advance(loop, 10 * MS))
  must(evl.evl_loop_run_until_idle(loop))
  must(evl.evl_loop_advance(loop, 10 * MS))
  equal(must(evl.evl_loop_run_once(loop, 0)), 1, "callbacks that run_once ran")
  equal(
    table.concat(order, "; "),
    "soon; due already; nested; 10 ms, first; 10 ms, second; 20 ms",
    "order of all callbacks"
  )
  equal(now(loop), 20 * MS, "evl_loop_time")
  equal(held() - before, 0, "every closure was released")
  evl.evl_loop_unref(loop)
end

-- A real clock: a timer is never early, and stops the loop.
local function test_real_clock()
  local loop = new_loop(0)
  local began, ended = now(loop), nil
  call_later(loop, 5 * MS, function()
    ended = now(loop)
    must(evl.evl_loop_stop(loop))
  end)
  equal(evl.evl_loop_run_forever(loop), 0, "run_forever")
  check(ended and ended - began >= 5 * MS, "the timer waits for its deadline")
  evl.evl_loop_unref(loop)
end

-- A closure that the loop has not run when it is closed is released, and not called.
local function test_close()
  local loop = new_loop(0)
  local before, called = held(), false
  local timer = call_later(loop, 1000 * MS, function()
    called = true
  end)
  call_soon(loop, function()
    called = true
  end)
  equal(held() - before, 2, "closures that evl holds")
  equal(evl.evl_loop_close(loop), 0, "evl_loop_close")
  equal(held() - before, 0, "close releases closures")
  equal(called, false, "close calls nothing")
  equal(evl.evl_loop_close(loop), 0, "a second close")
  equal(evl.evl_loop_is_closed(loop), 1, "evl_loop_is_closed")
  equal(evl.evl_timer_cancel(timer), 0, "cancel after close")

  local arg = hold(function() end)
  equal(evl.evl_loop_call_soon(loop, trampoline, arg, release, nil, nil), evl.EVL_ECLOSED, "call_soon after close")
  equal(held() - before, 0, "a failing function releases the closure")
  evl.evl_loop_unref(loop)
end

-- A reader on a pipe: called as long as there is something to read, until it is removed.
local function test_reader()
  local loop = new_loop(0)
  local before = held()
  local ends = ffi.new("int[2]")
  equal(C.pipe(ends), 0, "pipe")
  local events, buffer = {}, ffi.new("char[16]")

  local function on_readable()
    local got = tonumber(C.read(ends[0], buffer, 2))
    events[#events + 1] = got == 0 and "end" or ffi.string(buffer, got)
    if got == 0 then
      equal(evl.evl_loop_remove_reader(loop, ends[0]), 1, "remove_reader")
      must(evl.evl_loop_stop(loop))
    end
  end

  local out = ffi.new("evl_handle *[1]")
  must(evl.evl_loop_add_reader(loop, ends[0], trampoline, hold(on_readable), release, nil, out))
  equal(evl.evl_handle_get_loop(out[0]), loop, "evl_handle_get_loop")
  equal(evl.evl_loop_run_once(loop, 0), 0, "nothing is readable yet")
  call_soon(loop, function()
    C.write(ends[1], "hello", 5)
    C.close(ends[1])
  end)
  equal(evl.evl_loop_run_forever(loop), 0, "run_forever")
  equal(table.concat(events, " "), "he ll o end", "what the reader got")
  equal(evl.evl_handle_cancelled(out[0]), 1, "a removed reader's handle is cancelled")
  evl.evl_handle_unref(out[0])
  equal(evl.evl_loop_remove_reader(loop, ends[0]), 0, "no reader is left")
  C.close(ends[0])
  equal(held() - before, 0, "the reader's closure was released")
  evl.evl_loop_unref(loop)
end

-- A Lua error becomes evl's exception and reaches the handler; a handler that fails falls back to the log.
local function test_exceptions()
  local loop = new_loop(0)
  local before = held()
  local seen, logged = {}, {}
  local function on_exception(exception)
    seen[#seen + 1] = { code = exception.code, message = ffi.string(exception.message) }
    if #seen == 2 then
      error("the handler fails")
    end
  end
  must(evl.evl_loop_set_exception_handler(loop, handler_trampoline, hold(on_exception), release))
  must(evl.evl_loop_set_log(loop, log_trampoline, hold(function(level, message)
    logged[#logged + 1] = { level = level, message = message }
  end), release))

  equal(evl.evl_raise(-30000, "nobody listens"), evl.EVL_ENOTINCALLBACK, "evl_raise outside of a callback")
  call_soon(loop, function()
    must(evl.evl_raise(evl.EVL_EBUSY, "raised"))
  end)
  call_soon(loop, function()
    error({}) -- not even a string
  end)
  call_soon(loop, function()
    seen[#seen + 1] = "the loop goes on"
  end)
  must(evl.evl_loop_run_until_idle(loop))
  equal(#seen, 3, "calls of the exception handler, and of the callback after it")
  equal(seen[1].code, tonumber(evl.EVL_EBUSY), "the code of evl_raise")
  equal(seen[1].message, "raised", "the message of evl_raise")
  equal(seen[2].code, -30000, "the code of a Lua error")
  check(seen[2].message:match("^table: "), "the message of a Lua error")
  equal(seen[3], "the loop goes on", "after the failures")
  local told = false
  for _, report in ipairs(logged) do
    equal(report.level, tonumber(evl.EVL_LOG_ERROR), "the level of the report")
    told = told or report.message:find("the handler fails", 1, true) ~= nil
  end
  check(told, "the default handler tells the handler's failure")

  equal(evl.evl_loop_close(loop), 0, "evl_loop_close")
  equal(held() - before, 0, "close releases the handler and the log")
  evl.evl_loop_unref(loop)
end

-- SystemExit: the run function returns at once, and the loop can be run again.
local function test_exit()
  local loop = new_loop(0)
  local order = {}
  call_soon(loop, function()
    order[#order + 1] = "exit"
    must(evl.evl_raise_exit(7))
  end)
  call_soon(loop, function()
    order[#order + 1] = "after"
  end)
  equal(evl.evl_loop_run_forever(loop), evl.EVL_EEXIT, "run_forever")
  local code = ffi.new("int[1]")
  must(evl.evl_loop_exit_code(loop, code))
  equal(code[0], 7, "evl_loop_exit_code")
  must(evl.evl_loop_run_until_idle(loop))
  equal(table.concat(order, " "), "exit after", "what was queued stays queued")
  evl.evl_loop_unref(loop)
end

-- Context variables hold Lua values by id, and callbacks see what was current when they were scheduled.
local function test_context()
  local loop = new_loop(0)
  local before = held()
  local out = ffi.new("evl_context_var *[1]")
  must(evl.evl_context_var_new("request", nil, nil, out))
  local request, value = out[0], ffi.new("void *[1]")
  local seen = {}
  local function look()
    local result = evl.evl_context_var_get(request, value)
    seen[#seen + 1] = result == 0 and closures[id_of(value[0])] or ffi.string(evl.evl_errname(result))
  end
  call_soon(loop, look)
  call_soon(loop, function()
    must(evl.evl_context_var_set(request, hold("request 1"), release, nil))
    call_soon(loop, look)
  end)
  call_soon(loop, look)
  must(evl.evl_loop_run_until_idle(loop))
  equal(table.concat(seen, "; "), "EVL_ENOVALUE; EVL_ENOVALUE; request 1", "values of the context variable")
  evl.evl_loop_unref(loop)
  evl.evl_context_var_unref(request)
  equal(held() - before, 0, "the value was released with the last context")
end

local function test_misuse()
  local loop = new_loop(0)
  local before = held()
  local codes = {
    { "call_soon without a callback", -22, evl.evl_loop_call_soon(loop, nil, hold("a"), release, nil, nil) },
    { "call_soon without a loop", -22, evl.evl_loop_call_soon(nil, trampoline, hold("b"), release, nil, nil) },
    { "add_reader of descriptor -1", -9, evl.evl_loop_add_reader(loop, -1, trampoline, hold("c"), release, nil, nil) },
    { "pause_reader without a reader", -2, evl.evl_loop_pause_reader(loop, 0) },
    { "advance of a real clock", evl.EVL_ECLOCK, evl.evl_loop_advance(loop, 1) },
    { "run_once with a negative timeout", -22, evl.evl_loop_run_once(loop, -1) },
    { "cancel of NULL", -22, evl.evl_handle_cancel(nil) },
    { "a signal that cannot be caught", evl.EVL_ESIGNAL,
      evl.evl_loop_add_signal_handler(loop, 9, trampoline, hold("d"), release, nil, nil) },
    { "options of a wrong size", evl.EVL_EOPTIONS, evl.evl_loop_options_init(ffi.new("evl_loop_options"), 1) },
  }
  for _, case in ipairs(codes) do
    equal(tonumber(case[3]), tonumber(case[2]), case[1])
  end
  equal(evl.evl_loop_is_running(nil), 0, "predicates take NULL")
  equal(held() - before, 0, "failing functions release their args")

  local again, closing
  call_soon(loop, function()
    again, closing = evl.evl_loop_run_forever(loop), evl.evl_loop_close(loop)
  end)
  must(evl.evl_loop_run_until_idle(loop))
  equal(again, evl.EVL_ERUNNING, "running a running loop")
  equal(closing, evl.EVL_ERUNNING, "closing a running loop")

  local out, other = ffi.new("evl_handle *[1]"), nil
  must(evl.evl_handle_new(loop, trampoline, hold(function() end), release, nil, out))
  must(evl.evl_handle_schedule(out[0]))
  other = evl.evl_handle_schedule(out[0])
  equal(other, evl.EVL_ESCHEDULED, "scheduling a scheduled handle")
  must(evl.evl_handle_cancel(out[0]))
  equal(evl.evl_handle_schedule(out[0]), evl.EVL_ECANCELLED, "scheduling a cancelled handle")
  evl.evl_handle_unref(out[0])
  evl.evl_loop_unref(loop)
  equal(held() - before, 0, "every closure was released")
end

test_version_and_constants()
test_timers_and_closures()
test_real_clock()
test_close()
test_reader()
test_exceptions()
test_exit()
test_context()
test_misuse()
collectgarbage() -- releases the timers that Lua still refers to
equal(calls_after_free, 0, "calls after arg_free")
equal(freed_twice, 0, "args freed twice")
equal(held(), 0, "closures that evl still holds")

print(passed .. " passed, " .. failed .. " failed")
os.exit(failed == 0 and 0 or 1)
