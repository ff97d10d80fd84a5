//! A Rust panic never leaves the library: it becomes EVL_EPANIC, and the loop it happened in can only be closed.

use std::ffi::c_void;
use std::ptr;

use evl::ffi::error::evl_error;
use evl::ffi::event_loop::*;
use evl::ffi::handle::*;
use evl::ffi::schedule::*;

unsafe extern "C-unwind" fn panics(_: *mut c_void) {
    panic!("on purpose");
}

unsafe extern "C-unwind" fn counts(arg: *mut c_void) {
    // SAFETY: every test passes a pointer to a counter of its own.
    unsafe { *arg.cast::<u32>() += 1 };
}

fn new_loop() -> *mut evl_loop {
    let mut made = ptr::null_mut();
    // SAFETY: a valid output.
    assert_eq!(unsafe { evl_loop_new(ptr::null(), &raw mut made) }, 0);
    made
}

const PANIC: i32 = evl_error::EVL_EPANIC as i32;

#[test]
fn a_panic_in_a_callback_becomes_a_code_and_poisons_the_loop() {
    let lp = new_loop();
    let mut freed = 0u32;
    let arg = (&raw mut freed).cast();
    // SAFETY: the loop is live until its unref, and the counter outlives it.
    unsafe {
        assert_eq!(evl_loop_call_soon(lp, Some(panics), ptr::null_mut(), None, ptr::null_mut(), ptr::null_mut()), 0);
        assert_eq!(evl_loop_call_soon(lp, Some(counts), arg, Some(counts), ptr::null_mut(), ptr::null_mut()), 0);
        assert_eq!(evl_loop_run_forever(lp), PANIC);
        assert_eq!(evl_loop_is_running(lp), 0);
        assert_eq!(evl_loop_run_forever(lp), PANIC);
        assert_eq!(evl_loop_stop(lp), PANIC);
        assert_eq!(
            evl_loop_call_soon_threadsafe(lp, Some(counts), arg, Some(counts), ptr::null_mut(), ptr::null_mut()),
            PANIC
        );
        assert_eq!(freed, 1, "the arg of a failed registration is released");
        assert_eq!(evl_loop_close(lp), 0);
        assert_eq!(freed, 2, "closing releases what was queued, without calling it");
        evl_loop_unref(lp);
    }
}

#[test]
fn another_loop_of_the_thread_goes_on() {
    let (bad, good) = (new_loop(), new_loop());
    let mut calls = 0u32;
    // SAFETY: as above.
    unsafe {
        let arg = (&raw mut calls).cast();
        assert_eq!(evl_loop_call_soon(bad, Some(panics), ptr::null_mut(), None, ptr::null_mut(), ptr::null_mut()), 0);
        assert_eq!(evl_loop_run_once(bad, 0), PANIC);
        assert_eq!(evl_loop_call_soon(good, Some(counts), arg, None, ptr::null_mut(), ptr::null_mut()), 0);
        assert_eq!(evl_loop_run_until_idle(good), 1);
        evl_loop_unref(bad);
        evl_loop_unref(good);
    }
    assert_eq!(calls, 1);
}

#[test]
fn a_panic_in_a_direct_run_of_a_handle_is_stopped_too() {
    let lp = new_loop();
    let mut handle = ptr::null_mut();
    // SAFETY: as above.
    unsafe {
        assert_eq!(evl_handle_new(lp, Some(panics), ptr::null_mut(), None, ptr::null_mut(), &raw mut handle), 0);
        assert_eq!(evl_handle_run(handle), PANIC);
        assert_eq!(evl_loop_stop(lp), PANIC);
        evl_handle_unref(handle);
        evl_loop_unref(lp);
    }
}
