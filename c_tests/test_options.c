/* Sized structs: options, tables, metrics and exceptions of a wrong, smaller and larger size. */
#include "harness.h"

static int make(const void *options) {
    evl_loop *loop = NULL;
    int code = evl_loop_new((const evl_loop_options *)options, &loop);
    CHECK((code == 0) == (loop != NULL));
    if (loop)
        end_loop(loop);
    return code;
}

TEST(init_fills_in_the_defaults) {
    evl_loop_options options;
    evl_loop *loop = NULL;
    int64_t duration = 0;
    memset(&options, 0xee, sizeof options);
    CHECK_CODE(evl_loop_options_init(&options, sizeof options), 0);
    CHECK_INT(options.size, sizeof options);
    CHECK_INT(options.flags, 0);
    CHECK_INT(options.start_time_ns, 0);
    CHECK(options.context_hooks == NULL && options.context_hooks_data == NULL);
    CHECK_CODE(evl_loop_new(&options, &loop), 0);
    CHECK_CODE(evl_loop_get_slow_callback_duration(loop, &duration), 0);
    CHECK(duration == EVL_MS(100));
    end_loop(loop);
    memset(&options, 0, sizeof options); /* zeroed and sized is as good */
    options.size = sizeof options;
    CHECK_CODE(evl_loop_new(&options, &loop), 0);
    CHECK_CODE(evl_loop_get_slow_callback_duration(loop, &duration), 0);
    CHECK(duration == EVL_MS(100));
    end_loop(loop);
    CHECK_CODE(make(NULL), 0);
}

TEST(init_writes_no_more_than_the_size_it_is_given) {
    union {
        evl_loop_options options;
        unsigned char bytes[sizeof(evl_loop_options) + 64];
    } u;
    static const uint32_t sizes[] = {4, 8, 16, 24};
    size_t i, j;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(&u, 0xee, sizeof u);
        CHECK_CODE(evl_loop_options_init(&u.options, sizes[i]), 0);
        CHECK_INT(u.options.size, sizes[i]);
        for (j = sizes[i]; j < sizeof u; j++)
            if (!CHECK(u.bytes[j] == 0xee))
                break;
        CHECK_CODE(make(&u), 0); /* what lies behind the size is not read */
    }
    memset(&u, 0xee, sizeof u);
    CHECK_CODE(evl_loop_options_init(&u.options, 0), EVL_EOPTIONS);
    CHECK_CODE(evl_loop_options_init(&u.options, 3), EVL_EOPTIONS);
    CHECK_CODE(evl_loop_options_init(&u.options, sizeof u), EVL_EOPTIONS);
    CHECK_CODE(evl_loop_options_init(&u.options, UINT32_MAX), EVL_EOPTIONS);
    CHECK_CODE(evl_loop_options_init(NULL, sizeof u.options), -EINVAL);
    for (j = 0; j < sizeof u; j++)
        if (!CHECK(u.bytes[j] == 0xee))
            break;
}

TEST(new_takes_smaller_and_larger_structs) {
    union {
        evl_loop_options options;
        unsigned char bytes[sizeof(evl_loop_options) + 64];
    } u;
    memset(&u, 0, sizeof u);
    CHECK_CODE(make(&u), EVL_EOPTIONS); /* size 0 */
    u.options.size = 3;
    CHECK_CODE(make(&u), EVL_EOPTIONS);
    u.options.size = 4;
    CHECK_CODE(make(&u), 0);
    u.options.size = sizeof u; /* larger, and zero behind what is known */
    CHECK_CODE(make(&u), 0);
    u.bytes[sizeof u - 1] = 1;
    CHECK_CODE(make(&u), EVL_EOPTIONS);
    u.bytes[sizeof u - 1] = 0;
    u.bytes[sizeof(evl_loop_options)] = 1;
    CHECK_CODE(make(&u), EVL_EOPTIONS);
    u.options.size = sizeof(evl_loop_options);
    CHECK_CODE(make(&u), 0);
}

TEST(a_smaller_struct_has_its_fields) {
    evl_loop_options options;
    evl_loop *loop = NULL;
    int64_t time = -1;
    memset(&options, 0xee, sizeof options);
    options.size = 16;
    options.flags = EVL_LOOP_MANUAL_CLOCK;
    options.start_time_ns = 77;
    CHECK_CODE(evl_loop_new(&options, &loop), 0);
    CHECK_CODE(evl_loop_time(loop, &time), 0);
    CHECK_INT(time, 77);
    end_loop(loop);
}

TEST(unknown_flags_are_refused) {
    evl_loop_options options;
    int bit;
    for (bit = 0; bit < 32; bit++) {
        uint32_t flag = UINT32_C(1) << bit;
        int known = flag == EVL_LOOP_DEBUG || flag == EVL_LOOP_MANUAL_CLOCK || flag == EVL_LOOP_FD_DEADLINES;
        CHECK_CODE(evl_loop_options_init(&options, sizeof options), 0);
        options.flags = flag;
        CHECK_CODE(make(&options), known ? 0 : EVL_EOPTIONS);
    }
}

TEST(fields_reach_the_loop) {
    evl_loop_options options;
    evl_loop *loop = NULL;
    int64_t duration = 0;
    CHECK_CODE(evl_loop_options_init(&options, sizeof options), 0);
    options.flags = EVL_LOOP_DEBUG;
    options.slow_callback_duration_ns = 5;
    CHECK_CODE(evl_loop_new(&options, &loop), 0);
    CHECK_INT(evl_loop_get_debug(loop), 1);
    CHECK_CODE(evl_loop_get_slow_callback_duration(loop, &duration), 0);
    CHECK_INT(duration, 5);
    end_loop(loop);
    options.slow_callback_duration_ns = -1;
    loop = NULL;
    CHECK(evl_loop_new(&options, &loop) < 0); /* as evl_loop_set_slow_callback_duration refuses it */
    CHECK(loop == NULL);
}

static void *capture(void *data) {
    return data;
}

TEST(context_hooks_are_checked) {
    evl_loop_options options;
    evl_context_hooks table;
    int data;
    memset(&table, 0, sizeof table);
    CHECK_CODE(evl_loop_options_init(&options, sizeof options), 0);
    options.context_hooks = &table;
    options.context_hooks_data = &data;
    table.capture = capture;
    table.size = 0;
    CHECK_CODE(make(&options), EVL_EOPTIONS);
    table.size = 2;
    CHECK_CODE(make(&options), EVL_EOPTIONS);
    table.size = sizeof table;
    CHECK_CODE(make(&options), 0);
    table.capture = NULL; /* must not be */
    CHECK(make(&options) < 0);
    table.capture = capture;
    table.reserved = 1; /* always zero */
    CHECK_CODE(make(&options), EVL_EOPTIONS);
}

static int set_nothing(void *arg, evl_loop *event_loop) {
    (void)arg;
    (void)event_loop;
    return 0;
}

TEST(policy_tables_are_checked) {
    union {
        evl_policy_vtable table;
        unsigned char bytes[sizeof(evl_policy_vtable) + 16];
    } u;
    struct probe p = probe_named(NULL, NULL);
    evl_policy *policy = NULL;
    memset(&u, 0, sizeof u);
    u.table.set_loop = set_nothing;
    CHECK_CODE(evl_policy_new(&u.table, &p, probe_free, &policy), EVL_EOPTIONS);
    u.table.size = 3;
    CHECK_CODE(evl_policy_new(&u.table, &p, probe_free, &policy), EVL_EOPTIONS);
    u.table.size = sizeof u;
    u.bytes[sizeof u - 1] = 1;
    CHECK_CODE(evl_policy_new(&u.table, &p, probe_free, &policy), EVL_EOPTIONS);
    CHECK(policy == NULL);
    CHECK_PROBE(p, 0, 3);
    u.bytes[sizeof u - 1] = 0;
    CHECK_CODE(evl_policy_new(&u.table, &p, probe_free, &policy), 0);
    CHECK_CODE(evl_policy_set_loop(policy, NULL), 0);
    evl_policy_unref(policy);
    CHECK_PROBE(p, 0, 4);
    u.table.size = 8; /* no entries known to the caller */
    CHECK_CODE(evl_policy_new(&u.table, NULL, NULL, &policy), 0);
    CHECK_CODE(evl_policy_set_loop(policy, NULL), EVL_ENOTIMPLEMENTED);
    evl_policy_unref(policy);
}

TEST(metrics_are_filled_to_their_size) {
    union {
        evl_metrics metrics;
        unsigned char bytes[sizeof(evl_metrics) + 32];
    } u;
    evl_loop *loop = manual_loop();
    size_t i;
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    memset(&u, 0xee, sizeof u);
    u.metrics.size = 16;
    CHECK_CODE(evl_loop_metrics(loop, &u.metrics), 0);
    CHECK_INT(u.metrics.size, 16);
    CHECK_INT(u.metrics.iterations, 1);
    for (i = 16; i < sizeof u; i++)
        if (!CHECK(u.bytes[i] == 0xee))
            break;
    u.metrics.size = 0;
    CHECK_CODE(evl_loop_metrics(loop, &u.metrics), EVL_EOPTIONS);
    u.metrics.size = 3;
    CHECK_CODE(evl_loop_metrics(loop, &u.metrics), EVL_EOPTIONS);
    CHECK_INT(u.metrics.iterations, 1);
    memset(&u, 0, sizeof u);
    u.metrics.size = sizeof u; /* a caller newer than the library */
    CHECK_CODE(evl_loop_metrics(loop, &u.metrics), 0);
    CHECK_INT(u.metrics.callbacks, 1);
    CHECK_INT(u.bytes[sizeof u - 1], 0);
    end_loop(loop);
}

static void see(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    (void)event_loop;
    CHECK(exception->size >= sizeof *exception);
    CHECK(exception->object == NULL && exception->handle == NULL && exception->traceback == NULL);
    ((struct probe *)arg)->calls += 1;
}

TEST(exceptions_of_every_size) {
    union {
        evl_exception exception;
        unsigned char bytes[sizeof(evl_exception) + 32];
    } u;
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_set_exception_handler(loop, see, &p, NULL), 0);
    memset(&u, 0, sizeof u);
    u.exception.code = -EIO;
    CHECK_CODE(evl_loop_call_exception_handler(loop, &u.exception), EVL_EOPTIONS);
    CHECK_CODE(evl_loop_default_exception_handler(loop, &u.exception), EVL_EOPTIONS);
    u.exception.size = sizeof u;
    CHECK_CODE(evl_loop_call_exception_handler(loop, &u.exception), 0);
    u.bytes[sizeof u - 1] = 1;
    CHECK_CODE(evl_loop_call_exception_handler(loop, &u.exception), EVL_EOPTIONS);
    CHECK_CODE(evl_loop_default_exception_handler(loop, &u.exception), EVL_EOPTIONS);
    memset(&u, 0xee, sizeof u); /* behind a smaller size is nothing */
    u.exception.size = 8;
    u.exception.code = -EIO;
    CHECK_CODE(evl_loop_call_exception_handler(loop, &u.exception), 0);
    CHECK_PROBE(p, 2, 0);
    end_loop(loop);
}

TEST(debug_by_environment) {
    evl_loop *loop = NULL;
    CHECK(setenv("EVL_DEBUG", "1", 1) == 0);
    CHECK_CODE(evl_loop_new(NULL, &loop), 0);
    CHECK_INT(evl_loop_get_debug(loop), 1);
    end_loop(loop);
    CHECK(unsetenv("EVL_DEBUG") == 0);
    CHECK_CODE(evl_loop_new(NULL, &loop), 0);
    CHECK_INT(evl_loop_get_debug(loop), 0);
    end_loop(loop);
}

TEST_MAIN()
