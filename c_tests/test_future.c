/* Futures: what asyncio.Future promises of results, errors, cancels, reports and timeouts. */
#include "harness.h"

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

static void check_message(const evl_future *future, const char *expected) {
    char text[100] = "";
    CHECK_INT(evl_future_error_message(future, text, sizeof text), strlen(expected));
    CHECK_STRING(text, expected);
}

/* What its repr says, without the address. */
static void check_repr(const evl_future *future, const char *expected) {
    char text[100] = "", *at;
    CHECK(evl_future_repr(future, text, sizeof text) > 0);
    at = strstr(text, " at 0x");
    CHECK(at != NULL && at[strlen(at) - 1] == '>');
    if (at != NULL)
        *at = 0;
    CHECK_STRING(text, expected);
}

TEST(it_begins_pending) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    void *value = loop;
    int code = 7;
    CHECK(evl_future_get_loop(future) == loop);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(evl_future_cancelled(future), 0);
    CHECK_CODE(evl_future_result(future, &value), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_future_result(future, NULL), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_future_error(future, &code), EVL_EINVALIDSTATE);
    CHECK(value == loop && code == 7);
    check_message(future, "");
    CHECK(evl_future_error_object(future) == NULL);
    check_repr(future, "<Future pending");
    evl_future_unref(future);
    end_loop(loop);
}

TEST(a_result) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct probe p = probe_named(NULL, loop), q = p;
    void *value = NULL;
    int code = 7;
    CHECK_CODE(evl_future_set_result(future, &p, probe_free), 0);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(evl_future_cancelled(future), 0);
    CHECK_CODE(evl_future_result(future, &value), 0);
    CHECK(value == &p);
    CHECK_CODE(evl_future_result(future, NULL), 0);
    CHECK_CODE(evl_future_error(future, &code), 0);
    CHECK_INT(code, 0);
    check_message(future, "");
    check_repr(future, "<Future finished");
    /* Only once. */
    CHECK_CODE(evl_future_set_result(future, &q, probe_free), EVL_EINVALIDSTATE);
    CHECK_PROBE(q, 0, 1);
    CHECK_CODE(evl_future_set_error(future, -EIO, "late"), EVL_EINVALIDSTATE);
    CHECK_INT(evl_future_cancel(future, "late"), 0);
    CHECK_CODE(evl_future_result(future, &value), 0);
    CHECK(value == &p);
    CHECK_PROBE(p, 0, 0);
    evl_future_unref(future);
    CHECK_PROBE(p, 0, 1);
    end_loop(loop);
}

TEST(an_error) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct probe p = probe_named(NULL, loop), q = p;
    void *value = loop;
    char detail[100] = "";
    int code = 7;
    CHECK_CODE(evl_future_set_error_object(future, -EIO, "it broke", &p, probe_free), 0);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(evl_future_cancelled(future), 0);
    CHECK_CODE(evl_future_result(future, &value), -EIO);
    CHECK(value == loop);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "it broke");
    CHECK_CODE(evl_future_result(future, NULL), -EIO);
    CHECK_CODE(evl_future_error(future, &code), 0);
    CHECK_CODE(code, -EIO);
    check_message(future, "it broke");
    CHECK(evl_future_error_object(future) == &p);
    check_repr(future, "<Future finished error=EIO");
    CHECK_CODE(evl_future_set_error_object(future, -EPERM, "other", &q, probe_free), EVL_EINVALIDSTATE);
    CHECK_PROBE(q, 0, 1);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), EVL_EINVALIDSTATE);
    CHECK_INT(evl_future_cancel(future, NULL), 0);
    CHECK_CODE(evl_future_result(future, NULL), -EIO);
    evl_future_unref(future);
    CHECK_PROBE(p, 0, 1);
    end_loop(loop);
}

TEST(an_error_without_a_message) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    CHECK_CODE(evl_future_set_error(future, EVL_ESHUTDOWN, NULL), 0);
    check_message(future, "");
    CHECK(evl_future_error_object(future) == NULL);
    CHECK_CODE(evl_future_result(future, NULL), EVL_ESHUTDOWN);
    evl_future_unref(future);
    end_loop(loop);
}

TEST(codes_that_are_no_errors) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(evl_future_set_error(future, 0, NULL), -EINVAL);
    CHECK_CODE(evl_future_set_error(future, 5, NULL), -EINVAL);
    CHECK_CODE(evl_future_set_error(future, EVL_ECANCELLED, NULL), -EINVAL);
    CHECK_CODE(evl_future_set_error_object(future, 1, NULL, &p, probe_free), -EINVAL);
    CHECK_PROBE(p, 0, 1);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_CODE(evl_future_set_error(future, -4000, "of mine"), 0);
    CHECK_CODE(evl_future_result(future, NULL), -4000);
    evl_future_unref(future);
    end_loop(loop);
}

TEST(a_cancel) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    void *value = loop;
    int code = 7;
    CHECK_INT(evl_future_cancel(future, "no time"), 1);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(evl_future_cancelled(future), 1);
    CHECK_CODE(evl_future_result(future, &value), EVL_ECANCELLED);
    CHECK_CODE(evl_future_error(future, &code), EVL_ECANCELLED);
    CHECK(value == loop && code == 7);
    check_message(future, "no time");
    check_repr(future, "<Future cancelled");
    CHECK_INT(evl_future_cancel(future, "again"), 0);
    check_message(future, "no time");
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_future_set_error(future, -EIO, NULL), EVL_EINVALIDSTATE);
    evl_future_unref(future);
    future = new_future(loop);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    check_message(future, "");
    evl_future_unref(future);
    end_loop(loop);
}

TEST(messages_are_copied_and_cut) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    char message[] = "what it was", text[5] = "....";
    CHECK_CODE(evl_future_set_error(future, -EIO, message), 0);
    memset(message, 'x', sizeof message - 1);
    CHECK_INT(evl_future_error_message(future, text, sizeof text), 11);
    CHECK_STRING(text, "what");
    CHECK_INT(evl_future_error_message(future, NULL, 0), 11);
    CHECK_INT(evl_future_repr(future, text, 1) > 10, 1);
    CHECK_STRING(text, "");
    evl_future_error(future, &(int){0});
    evl_future_unref(future);
    end_loop(loop);
}

/* --- errors that nobody asks for */

struct reports {
    int count, code, kept;
    char message[100];
    void *object;
    evl_future *future;
};

static void note_report(evl_loop *loop, const evl_exception *exception, void *arg) {
    struct reports *r = (struct reports *)arg;
    CHECK(loop != NULL);
    r->count++;
    r->code = exception->code;
    r->object = exception->object;
    r->future = exception->future;
    snprintf(r->message, sizeof r->message, "%s", exception->message);
    if (r->kept)
        evl_future_ref(exception->future);
}

static evl_loop *reporting_loop(struct reports *r) {
    evl_loop *loop = manual_loop();
    memset(r, 0, sizeof *r);
    CHECK_CODE(evl_loop_set_exception_handler(loop, note_report, r, NULL), 0);
    return loop;
}

TEST(an_error_never_retrieved_is_reported_once) {
    struct reports r;
    evl_loop *loop = reporting_loop(&r);
    evl_future *future = new_future(loop);
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(evl_future_set_error_object(future, -EIO, "it broke", &p, probe_free), 0);
    evl_future_unref(evl_future_ref(future));
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(r.count, 0);
    evl_future_unref(future);
    CHECK_INT(r.count, 1);
    CHECK_CODE(r.code, -EIO);
    CHECK(r.object == &p && r.future == future);
    CHECK_STRING(r.message, "Future exception was never retrieved: it broke");
    CHECK_PROBE(p, 0, 1);
    end_loop(loop);
    CHECK_INT(r.count, 1);
}

TEST(asking_in_any_way_is_enough) {
    struct reports r;
    evl_loop *loop = reporting_loop(&r);
    int64_t number;
    int code, way;
    for (way = 0; way < 4; way++) {
        evl_future *future = new_future(loop);
        void *value;
        CHECK_CODE(evl_future_set_error(future, -EIO, "x"), 0);
        if (way == 0)
            CHECK_CODE(evl_future_result(future, &value), -EIO);
        if (way == 1)
            CHECK_CODE(evl_future_result(future, NULL), -EIO);
        if (way == 2)
            CHECK_CODE(evl_future_error(future, &code), 0);
        if (way == 3)
            CHECK_CODE(evl_future_result_int(future, &number), -EIO);
        evl_future_unref(future);
    }
    CHECK_INT(r.count, 0);
    end_loop(loop);
}

TEST(results_and_cancels_are_not_reported) {
    struct reports r;
    evl_loop *loop = reporting_loop(&r);
    evl_future *future = new_future(loop);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    evl_future_unref(future);
    future = new_future(loop);
    CHECK_INT(evl_future_cancel(future, "x"), 1);
    evl_future_unref(future);
    evl_future_unref(new_future(loop));
    /* Neither is looking at what kind of thing it is. */
    future = new_future(loop);
    CHECK_CODE(evl_future_set_error(future, -EIO, NULL), 0);
    CHECK_INT(evl_future_done(future) + evl_future_cancelled(future), 1);
    check_repr(future, "<Future finished error=EIO");
    check_message(future, "");
    CHECK_INT(r.count, 0);
    evl_future_unref(future);
    CHECK_INT(r.count, 1);
    CHECK_STRING(r.message, "Future exception was never retrieved");
    end_loop(loop);
}

TEST(a_handler_may_keep_the_future) {
    struct reports r;
    evl_loop *loop = reporting_loop(&r);
    evl_future *future = new_future(loop);
    struct probe p = probe_named(NULL, loop);
    r.kept = 1;
    CHECK_CODE(evl_future_set_error_object(future, -EIO, "x", &p, probe_free), 0);
    evl_future_unref(future);
    CHECK_INT(r.count, 1);
    CHECK_PROBE(p, 0, 0);
    CHECK_CODE(evl_future_result(future, NULL), -EIO);
    evl_future_unref(future);
    CHECK_INT(r.count, 1);
    CHECK_PROBE(p, 0, 1);
    end_loop(loop);
}

static void note_log(int level, const char *message, void *arg) {
    (void)level;
    snprintf((char *)arg, 1000, "%s", message);
}

TEST(without_a_handler_it_is_logged) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    char text[1000] = "";
    CHECK_CODE(evl_loop_set_log(loop, note_log, text, NULL), 0);
    CHECK_CODE(evl_future_set_error(future, -EIO, "lost"), 0);
    evl_future_unref(future);
    CHECK(strstr(text, "Future exception was never retrieved: lost") != NULL);
    CHECK(strstr(text, "EIO") != NULL);
    end_loop(loop);
}

TEST(debug_mode_tells_where_it_was_made) {
    evl_loop *loop = loop_with_flags(EVL_LOOP_MANUAL_CLOCK | EVL_LOOP_DEBUG);
    evl_future *future = new_future(loop);
    char text[1000] = "";
    CHECK_CODE(evl_loop_set_log(loop, note_log, text, NULL), 0);
    CHECK_CODE(evl_future_set_error(future, -EIO, "lost"), 0);
    evl_future_unref(future);
    CHECK(strstr(text, "most recent call first") != NULL);
    end_loop(loop);
}

/* --- timeouts */

TEST(a_timeout) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    int code = 0;
    CHECK_CODE(evl_future_set_timeout(future, EVL_MS(10)), 0);
    CHECK_CODE(evl_loop_advance(loop, EVL_MS(10) - 1), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_CODE(evl_loop_advance(loop, 1), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(evl_future_cancelled(future), 0);
    CHECK_CODE(evl_future_error(future, &code), 0);
    CHECK_CODE(code, -ETIMEDOUT);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), EVL_EINVALIDSTATE);
    CHECK_INT(evl_future_cancel(future, NULL), 0);
    evl_future_unref(future);
    end_loop(loop);
}

TEST(a_timeout_is_replaced_and_taken_away) {
    evl_loop *loop = manual_loop();
    evl_future *longer = new_future(loop), *shorter = new_future(loop), *none = new_future(loop);
    CHECK_CODE(evl_future_set_timeout(longer, EVL_MS(10)), 0);
    CHECK_CODE(evl_future_set_timeout(longer, EVL_MS(30)), 0);
    CHECK_CODE(evl_future_set_timeout(shorter, EVL_MS(30)), 0);
    CHECK_CODE(evl_future_set_timeout(shorter, EVL_MS(10)), 0);
    CHECK_CODE(evl_future_set_timeout(none, EVL_FOREVER), 0);
    CHECK_CODE(evl_future_set_timeout(none, EVL_MS(10)), 0);
    CHECK_CODE(evl_future_set_timeout(none, EVL_FOREVER), 0);
    CHECK_CODE(evl_loop_advance(loop, EVL_MS(20)), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_INT(evl_future_done(longer), 0);
    CHECK_CODE(evl_future_result(shorter, NULL), -ETIMEDOUT);
    CHECK_CODE(evl_loop_advance(loop, EVL_MS(20)), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_CODE(evl_future_result(longer, NULL), -ETIMEDOUT);
    CHECK_INT(evl_future_done(none), 0);
    evl_future_unref(longer);
    evl_future_unref(shorter);
    evl_future_unref(none);
    end_loop(loop);
}

static int64_t timers(evl_loop *loop) {
    evl_metrics m;
    memset(&m, 0, sizeof m);
    m.size = sizeof m;
    CHECK_CODE(evl_loop_metrics(loop, &m), 0);
    return (int64_t)m.timers;
}

TEST(a_timeout_goes_when_it_is_done) {
    evl_loop *loop = manual_loop();
    evl_future *a = new_future(loop), *b = new_future(loop), *c = new_future(loop);
    CHECK_CODE(evl_future_set_timeout(a, EVL_MS(10)), 0);
    CHECK_CODE(evl_future_set_timeout(b, EVL_MS(10)), 0);
    CHECK_CODE(evl_future_set_timeout(c, EVL_MS(10)), 0);
    CHECK_INT(timers(loop), 3);
    CHECK_CODE(evl_future_set_result(a, NULL, NULL), 0);
    CHECK_INT(evl_future_cancel(b, NULL), 1);
    CHECK_INT(timers(loop), 1);
    CHECK_CODE(evl_future_set_timeout(a, 0), 0); /* done: left alone */
    CHECK_INT(timers(loop), 1);
    CHECK_CODE(evl_future_result(a, NULL), 0);
    CHECK_CODE(evl_future_result(b, NULL), EVL_ECANCELLED);
    evl_future_unref(a);
    evl_future_unref(b);
    CHECK_CODE(evl_future_set_timeout(c, -5), 0); /* due */
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_future_result(c, NULL), -ETIMEDOUT);
    CHECK_CODE(evl_future_set_timeout(c, EVL_MS(1)), 0);
    CHECK_INT(timers(loop), 0);
    evl_future_unref(c);
    end_loop(loop);
}

TEST(a_timeout_of_a_future_that_nobody_holds) {
    struct reports r;
    evl_loop *loop = reporting_loop(&r);
    evl_future *future = new_future(loop);
    CHECK_CODE(evl_future_set_timeout(future, EVL_MS(1)), 0);
    evl_future_unref(future);
    CHECK_CODE(evl_loop_advance(loop, EVL_MS(1)), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(r.count, 1);
    CHECK_CODE(r.code, -ETIMEDOUT);
    end_loop(loop);
}

/* --- data */

TEST(data_stays_with_the_future) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct probe p = probe_named(NULL, loop), q = p;
    CHECK(evl_future_get_data(future) == NULL);
    CHECK_CODE(evl_future_set_data(future, &p, probe_free), 0);
    CHECK(evl_future_get_data(future) == &p);
    CHECK_CODE(evl_future_set_data(future, &q, probe_free), 0);
    CHECK_PROBE(p, 0, 1);
    CHECK(evl_future_get_data(future) == &q);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    CHECK(evl_future_get_data(future) == &q);
    CHECK_PROBE(q, 0, 0);
    evl_future_unref(future);
    CHECK_PROBE(q, 0, 1);
    end_loop(loop);
}

TEST_MAIN()
