/* Whatever is given to a future is released exactly once, on every way it can go. */
#include "harness.h"

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

static void call_probe(evl_future *future, void *arg) {
    CHECK_INT(evl_future_done(future), 1);
    probe_call(arg);
}

/* Everything that can be released: three callbacks, data, the value or the error's object, and a timeout's hold. */
struct load {
    struct probe first, second, third, data, value;
};

static evl_future *loaded(evl_loop *loop, struct load *load) {
    evl_future *future = new_future(loop);
    load->first = load->second = load->third = load->data = load->value = probe_named(NULL, loop);
    CHECK_CODE(evl_future_add_done_callback(future, call_probe, &load->first, probe_free, NULL), 0);
    CHECK_CODE(evl_future_add_done_callback(future, call_probe, &load->second, probe_free, NULL), 0);
    CHECK_CODE(evl_future_add_done_callback(future, call_probe, &load->third, probe_free, NULL), 0);
    CHECK_CODE(evl_future_set_data(future, &load->data, probe_free), 0);
    return future;
}

static void check_load(const struct load *load, int calls, int callback_frees, int data_frees, int value_frees) {
    CHECK_PROBE(load->first, calls, callback_frees);
    CHECK_PROBE(load->second, calls, callback_frees);
    CHECK_PROBE(load->third, calls, callback_frees);
    CHECK_PROBE(load->data, 0, data_frees);
    CHECK_PROBE(load->value, 0, value_frees);
}

/* Settles it in one of three ways; how: 0 result, 1 error, 2 cancel. */
static void settle(evl_future *future, struct load *load, int how) {
    if (how == 0)
        CHECK_CODE(evl_future_set_result(future, &load->value, probe_free), 0);
    else if (how == 1)
        CHECK_CODE(evl_future_set_error_object(future, -EIO, "x", &load->value, probe_free), 0);
    else
        CHECK_INT(evl_future_cancel(future, "x"), 1);
    if (how == 1)
        evl_future_error(future, &(int){0});
}

enum { PLAIN_LOOP, DEBUG_LOOP, LOOPS };

static evl_loop *loop_of(int kind) {
    return loop_with_flags(EVL_LOOP_MANUAL_CLOCK | (kind == DEBUG_LOOP ? EVL_LOOP_DEBUG : 0));
}

TEST(never_settled) {
    int kind;
    for (kind = 0; kind < LOOPS; kind++) {
        evl_loop *loop = loop_of(kind);
        struct load load;
        evl_future *future = loaded(loop, &load);
        evl_future_unref(evl_future_ref(future));
        check_load(&load, 0, 0, 0, 0);
        evl_future_unref(future);
        check_load(&load, 0, 1, 1, 0);
        end_loop(loop);
        check_load(&load, 0, 1, 1, 0);
    }
}

TEST(settled_and_called) {
    int kind, how;
    for (kind = 0; kind < LOOPS; kind++)
        for (how = 0; how < 3; how++) {
            evl_loop *loop = loop_of(kind);
            struct load load;
            evl_future *future = loaded(loop, &load);
            settle(future, &load, how);
            check_load(&load, 0, 0, 0, 0);
            CHECK_CODE(evl_loop_run_once(loop, 0), 3);
            check_load(&load, 1, 1, 0, 0);
            evl_future_unref(future);
            check_load(&load, 1, 1, 1, how < 2);
            end_loop(loop);
            check_load(&load, 1, 1, 1, how < 2);
        }
}

TEST(settled_unreffed_and_called) {
    int kind, how;
    for (kind = 0; kind < LOOPS; kind++)
        for (how = 0; how < 3; how++) {
            evl_loop *loop = loop_of(kind);
            struct load load;
            evl_future *future = loaded(loop, &load);
            settle(future, &load, how);
            evl_future_unref(future);
            check_load(&load, 0, 0, 0, 0);
            CHECK_CODE(evl_loop_run_once(loop, 0), 3);
            check_load(&load, 1, 1, 1, how < 2);
            end_loop(loop);
        }
}

TEST(the_loop_is_closed_with_callbacks_queued) {
    int kind, how, held;
    for (kind = 0; kind < LOOPS; kind++)
        for (how = 0; how < 3; how++)
            for (held = 0; held < 2; held++) {
                evl_loop *loop = loop_of(kind);
                struct load load;
                evl_future *future = loaded(loop, &load);
                settle(future, &load, how);
                if (!held)
                    evl_future_unref(future);
                CHECK_CODE(evl_loop_close(loop), 0);
                check_load(&load, 0, 1, !held, !held && how < 2);
                evl_loop_unref(loop);
                if (held) {
                    /* What it holds can still be read. */
                    CHECK_INT(evl_future_done(future), 1);
                    CHECK_CODE(evl_future_result(future, NULL), how == 0 ? 0 : how == 1 ? -EIO : EVL_ECANCELLED);
                    check_load(&load, 0, 1, 0, 0);
                    evl_future_unref(future);
                    check_load(&load, 0, 1, 1, how < 2);
                }
            }
}

TEST(the_loop_is_closed_while_it_is_pending) {
    int kind, timed;
    for (kind = 0; kind < LOOPS; kind++)
        for (timed = 0; timed < 2; timed++) {
            evl_loop *loop = loop_of(kind);
            struct load load;
            struct probe late = probe_named(NULL, loop);
            evl_future *future = loaded(loop, &load);
            if (timed)
                CHECK_CODE(evl_future_set_timeout(future, EVL_SECONDS(1)), 0);
            CHECK_CODE(evl_loop_close(loop), 0);
            CHECK_INT(evl_future_done(future), 0);
            CHECK_CODE(evl_future_result(future, NULL), EVL_EINVALIDSTATE);
            CHECK_CODE(evl_future_set_result(future, &late, probe_free), EVL_ECLOSED);
            CHECK_CODE(evl_future_set_error_object(future, -EIO, NULL, &late, probe_free), EVL_ECLOSED);
            CHECK_CODE(evl_future_set_data(future, &late, probe_free), EVL_ECLOSED);
            CHECK_CODE(evl_future_add_done_callback(future, call_probe, &late, probe_free, NULL), EVL_ECLOSED);
            CHECK_CODE(evl_future_set_result_threadsafe(future, &late, probe_free), EVL_ECLOSED);
            CHECK_CODE(evl_future_set_error_threadsafe(future, -EIO, NULL, &late, probe_free), EVL_ECLOSED);
            CHECK_PROBE(late, 0, 6);
            CHECK_CODE(evl_future_cancel(future, NULL), EVL_ECLOSED);
            CHECK_CODE(evl_future_cancel_threadsafe(future, NULL), EVL_ECLOSED);
            CHECK_CODE(evl_future_set_timeout(future, 1), EVL_ECLOSED);
            CHECK_CODE(evl_future_remove_done_callback(future, call_probe, &load.first), EVL_ECLOSED);
            CHECK_CODE(evl_future_wait(future, EVL_FOREVER), EVL_ECLOSED);
            evl_loop_unref(loop);
            evl_future_unref(future);
            check_load(&load, 0, 1, 1, 0);
        }
}

TEST(the_future_outlives_the_loop_and_its_references) {
    int kind;
    for (kind = 0; kind < LOOPS; kind++) {
        evl_loop *loop = loop_of(kind);
        struct load load;
        evl_future *future = loaded(loop, &load);
        settle(future, &load, 0);
        evl_loop_unref(loop); /* the last one closes it */
        check_load(&load, 0, 1, 0, 0);
        CHECK_CODE(evl_future_result(future, NULL), 0);
        CHECK_CODE(evl_future_wait(future, 0), 0);
        evl_future_unref(future);
        check_load(&load, 0, 1, 1, 1);
    }
}

TEST(timed_out) {
    int kind;
    for (kind = 0; kind < LOOPS; kind++) {
        evl_loop *loop = loop_of(kind);
        struct load load;
        evl_future *future = loaded(loop, &load);
        CHECK_CODE(evl_future_set_timeout(future, EVL_MS(1)), 0);
        CHECK_CODE(evl_loop_advance(loop, EVL_MS(1)), 0);
        CHECK_CODE(evl_loop_run_until_idle(loop), 4);
        check_load(&load, 1, 1, 0, 0);
        CHECK_CODE(evl_future_result(future, NULL), -ETIMEDOUT);
        evl_future_unref(future);
        check_load(&load, 1, 1, 1, 0);
        end_loop(loop);
    }
}

TEST(refused) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_future *future = new_future(loop);
    CHECK_CODE(evl_future_add_done_callback(future, NULL, &p, probe_free, NULL), -EINVAL);
    CHECK_CODE(evl_future_add_done_callback(NULL, call_probe, &p, probe_free, NULL), -EINVAL);
    CHECK_CODE(evl_future_set_result(NULL, &p, probe_free), -EINVAL);
    CHECK_CODE(evl_future_set_error_object(NULL, -EIO, NULL, &p, probe_free), -EINVAL);
    CHECK_CODE(evl_future_set_error_object(future, 1, NULL, &p, probe_free), -EINVAL);
    CHECK_CODE(evl_future_set_result_threadsafe(NULL, &p, probe_free), -EINVAL);
    CHECK_CODE(evl_future_set_error_threadsafe(NULL, -EIO, NULL, &p, probe_free), -EINVAL);
    CHECK_CODE(evl_future_set_error_threadsafe(future, 0, NULL, &p, probe_free), -EINVAL);
    CHECK_CODE(evl_future_set_data(NULL, &p, probe_free), -EINVAL);
    CHECK_PROBE(p, 0, 9);
    evl_future_unref(future);
    end_loop(loop);
    CHECK_PROBE(p, 0, 9);
}

/* --- an arg_free that uses evl */

static evl_future *other;

static void settle_other(void *arg) {
    ++*(int *)arg;
    CHECK_CODE(evl_future_set_result(other, NULL, NULL), 0);
    evl_future_unref(other);
    other = NULL;
}

TEST(a_release_that_settles_another) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_future *future;
    int frees = 0, way;
    for (way = 0; way < 4; way++) {
        future = new_future(loop);
        other = new_future(loop);
        CHECK_CODE(evl_future_add_done_callback(other, call_probe, &p, probe_free, NULL), 0);
        if (way == 0)
            CHECK_CODE(evl_future_set_data(future, &frees, settle_other), 0);
        if (way == 1)
            CHECK_CODE(evl_future_set_result(future, &frees, settle_other), 0);
        if (way == 2)
            CHECK_CODE(evl_future_add_done_callback(future, call_probe, &frees, settle_other, NULL), 0);
        if (way == 3) {
            CHECK_CODE(evl_future_add_done_callback(future, call_probe, &frees, settle_other, NULL), 0);
            CHECK_INT(evl_future_remove_done_callback(future, call_probe, &frees), 1);
        }
        evl_future_unref(future);
        CHECK_INT(frees, way + 1);
        CHECK_CODE(evl_loop_run_once(loop, 0), 1);
        CHECK_PROBE(p, way + 1, way + 1);
    }
    end_loop(loop);
}

static evl_future *kept;

static void unref_kept(void *arg) {
    ++*(int *)arg;
    evl_future_unref(kept);
}

TEST(a_release_that_gives_the_last_reference_back) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    int frees = 0;
    kept = new_future(loop);
    CHECK_CODE(evl_future_set_data(kept, &p, probe_free), 0);
    CHECK_CODE(evl_future_add_done_callback(kept, call_probe, &frees, unref_kept, NULL), 0);
    CHECK_INT(evl_future_remove_done_callback(kept, call_probe, &frees), 1);
    CHECK_PROBE(p, 0, 1);
    kept = new_future(loop);
    CHECK_CODE(evl_future_set_data(kept, &frees, unref_kept), 0);
    CHECK_CODE(evl_future_set_data(kept, &p, probe_free), 0);
    CHECK_PROBE(p, 0, 2);
    CHECK_INT(frees, 2);
    end_loop(loop);
}

static evl_loop *closing;

static void end_it(void *arg) {
    ++*(int *)arg;
    evl_loop_unref(closing);
}

TEST(a_release_that_ends_the_loop) {
    int frees = 0, way;
    for (way = 0; way < 3; way++) {
        evl_loop *loop = manual_loop();
        evl_future *future = new_future(loop);
        closing = loop;
        CHECK_CODE(evl_future_set_data(future, &frees, end_it), 0);
        if (way == 1)
            CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
        if (way == 2)
            CHECK_CODE(evl_loop_close(loop), 0);
        evl_future_unref(future);
        CHECK_INT(frees, way + 1);
    }
}

static void ignore(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)arg;
    CHECK_CODE(exception->code, -ETIMEDOUT);
}

/* Thousands in every state, so that memory is used again and again; some are left for close. */
TEST(many) {
    enum { COUNT = 300, ROUNDS = 20 };
    static struct load loads[COUNT];
    static evl_future *futures[COUNT];
    unsigned seed = 3;
    int round, i;
    for (round = 0; round < ROUNDS; round++) {
        evl_loop *loop = manual_loop();
        CHECK_CODE(evl_loop_set_exception_handler(loop, ignore, NULL, NULL), 0);
        for (i = 0; i < COUNT; i++) {
            futures[i] = loaded(loop, &loads[i]);
            seed = seed * 1103515245u + 12345u;
            if (seed >> 16 & 4)
                CHECK_CODE(evl_future_set_timeout(futures[i], EVL_SECONDS(seed >> 20 & 7)), 0);
            if ((seed >> 16 & 3) != 3)
                settle(futures[i], &loads[i], (int)(seed >> 16 & 3));
        }
        for (i = 0; i < COUNT; i += 2)
            evl_future_unref(futures[i]);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        CHECK_CODE(evl_loop_advance(loop, EVL_SECONDS(3)), 0);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        for (i = 1; i < COUNT; i += 2) {
            evl_future_error(futures[i], &(int){0});
            CHECK(evl_future_cancel(futures[i], NULL) >= 0);
            evl_future_unref(futures[i]);
        }
        end_loop(loop);
        for (i = 0; i < COUNT; i++) {
            CHECK_INT(loads[i].first.frees, 1);
            CHECK_INT(loads[i].second.frees, 1);
            CHECK_INT(loads[i].third.frees, 1);
            CHECK_INT(loads[i].data.frees, 1);
        }
    }
}

TEST_MAIN()
