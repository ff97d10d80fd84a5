//! Timers against a model: exact order, deadline first and then the order in which deadlines were set.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr;

use evl::ffi::event_loop::*;
use evl::ffi::schedule::*;
use evl::ffi::timer::*;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

thread_local! {
    static FIRED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C-unwind" fn fire(arg: *mut c_void) {
    FIRED.with_borrow_mut(|fired| fired.push(arg as usize));
}

fn manual_loop() -> *mut evl_loop {
    // SAFETY: zero is a valid value of every field; outputs are valid.
    unsafe {
        let mut options: evl_loop_options = std::mem::zeroed();
        assert_eq!(evl_loop_options_init(&raw mut options, size_of::<evl_loop_options>() as u32), 0);
        options.flags = evl_loop_flag::EVL_LOOP_MANUAL_CLOCK as u32;
        let mut made = ptr::null_mut();
        assert_eq!(evl_loop_new(&raw const options, &raw mut made), 0);
        made
    }
}

/// A started timer of the model: when, in which order set.
#[derive(Clone, Copy)]
struct Started {
    when: i64,
    order: u64,
}

fn run(seed: u64, steps: usize, timers: usize, range: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let lp = manual_loop();
    let mut now = 0i64;
    let mut order = 0u64;
    let mut model: Vec<Option<Started>> = vec![None; timers];
    // SAFETY: the loop and its timers are live until their unref at the end.
    unsafe {
        let handles: Vec<*mut evl_timer> = (0..timers)
            .map(|id| {
                let mut made = ptr::null_mut();
                let arg = id as *mut c_void;
                assert_eq!(evl_timer_new(lp, 0, Some(fire), arg, None, ptr::null_mut(), &raw mut made), 0);
                made
            })
            .collect();
        for _ in 0..steps {
            let id = random.below(timers as u64) as usize;
            match random.below(10) {
                0..7 => {
                    let when = now - 3 + random.below(range) as i64;
                    assert_eq!(evl_timer_reschedule(handles[id], when), 0);
                    order += 1;
                    model[id] = Some(Started { when, order });
                }
                7 => {
                    // One-shot timers that are cancelled at once come and go between the others.
                    let mut one = ptr::null_mut();
                    let when = now + random.below(range) as i64;
                    let arg = usize::MAX as *mut c_void;
                    assert_eq!(evl_loop_call_at(lp, when, Some(fire), arg, None, ptr::null_mut(), &raw mut one), 0);
                    assert_eq!(evl_timer_cancel(one), 0);
                    evl_timer_unref(one);
                    order += 1;
                }
                _ => {
                    let delta = random.below(range / 4 + 1) as i64;
                    assert_eq!(evl_loop_advance(lp, delta), 0);
                    now += delta;
                    let mut due: Vec<(i64, u64, usize)> = (model.iter().enumerate())
                        .filter_map(|(id, started)| started.filter(|s| s.when <= now).map(|s| (s.when, s.order, id)))
                        .collect();
                    due.sort_unstable();
                    FIRED.with_borrow_mut(Vec::clear);
                    let ran = evl_loop_run_once(lp, 0);
                    let expected: Vec<usize> = due.iter().map(|&(_, _, id)| id).collect();
                    FIRED.with_borrow(|fired| assert_eq!(*fired, expected, "seed {seed} at {now}"));
                    assert_eq!(ran as usize, expected.len());
                    expected.iter().for_each(|&id| model[id] = None);
                }
            }
            let started = i32::from(model[id].is_some());
            assert_eq!(evl_timer_scheduled(handles[id]), started, "seed {seed}");
        }
        let live = model.iter().flatten().count() as u64;
        let mut metrics: evl_metrics = std::mem::zeroed();
        metrics.size = size_of::<evl_metrics>() as u32;
        assert_eq!(evl_loop_metrics(lp, &raw mut metrics), 0);
        assert_eq!(metrics.timers, live);
        handles.iter().for_each(|&timer| evl_timer_unref(timer));
        assert_eq!(evl_loop_close(lp), 0);
        evl_loop_unref(lp);
    }
}

#[test]
fn few_timers_fire_in_order() {
    (1..=200).for_each(|seed| run(seed, 300, 8, 20));
}

#[test]
fn many_timers_with_equal_deadlines_fire_in_order() {
    (1..=4).for_each(|seed| run(seed, 40_000, 5_000, 50));
}

#[test]
fn many_timers_far_apart_fire_in_order() {
    (1..=4).for_each(|seed| run(seed, 40_000, 5_000, 30 * 24 * 3_600_000_000_000));
}

#[test]
fn many_timers_near_each_other_fire_in_order() {
    (1..=4).for_each(|seed| run(seed, 40_000, 5_000, 1_000_000));
}

/// As the wheel turns, deadlines come down its levels while others are set right behind its horizon.
#[test]
fn many_timers_across_the_levels_fire_in_order() {
    (1..=4).for_each(|seed| run(seed, 40_000, 3_000, 1 << 20));
    (5..=8).for_each(|seed| run(seed, 40_000, 3_000, 1 << 25));
    (9..=12).for_each(|seed| run(seed, 40_000, 3_000, 1 << 30));
}
