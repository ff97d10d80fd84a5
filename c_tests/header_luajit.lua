-- Loads evl.h, preprocessed, by ffi.cdef: luajit header_luajit.lua <preprocessed header> <library>
local ffi = require "ffi"
ffi.cdef(assert(io.open(arg[1])):read("*a"))
local evl = ffi.load(arg[2])
assert(ffi.C.EVL_ECLOSED < -20000, "EVL_ECLOSED is not a constant")
assert(ffi.string(evl.evl_errname(ffi.C.EVL_ECLOSED)) == "EVL_ECLOSED")
assert(ffi.sizeof("evl_loop_options") > 0)
