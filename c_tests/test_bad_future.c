/* NULL and misuse, for every function of futures. What is called is noted by its name; the last test compares the names with the
 * list of all. */
#include "harness.h"

#define FUNCTIONS(X)                                                                                                  \
    X(evl_future_new) X(evl_future_ref) X(evl_future_unref) X(evl_future_get_loop) X(evl_future_done)                 \
    X(evl_future_cancelled) X(evl_future_result) X(evl_future_result_int) X(evl_future_result_bytes)                  \
    X(evl_future_result_address) X(evl_future_error) X(evl_future_error_message) X(evl_future_error_object)           \
    X(evl_future_set_result) X(evl_future_set_error) X(evl_future_set_error_object) X(evl_future_cancel)              \
    X(evl_future_set_result_threadsafe) X(evl_future_set_error_threadsafe) X(evl_future_cancel_threadsafe)            \
    X(evl_future_wait) X(evl_future_set_timeout) X(evl_future_add_done_callback)                                      \
    X(evl_future_remove_done_callback) X(evl_future_repr) X(evl_future_set_data) X(evl_future_get_data)

typedef void (*any_function)(void);

static const struct {
    const char *name;
    any_function function;
} functions[] = {
#define ROW(name) {#name, (any_function)name},
    FUNCTIONS(ROW)};

enum { FUNCTION_COUNT = sizeof functions / sizeof functions[0] };

static int named[FUNCTION_COUNT];

static void note(const char *text) {
    size_t length = strcspn(text, "("), i;
    for (i = 0; i < FUNCTION_COUNT; i++)
        if (strlen(functions[i].name) == length && strncmp(functions[i].name, text, length) == 0)
            named[i] = 1;
}

#define BAD(call, code) (note(#call), CHECK_CODE(call, code))
#define GIVES(call, value) (note(#call), CHECK((call) == (value)))
#define NO_HARM(call) (note(#call), (call))

static struct probe p;
static void *const untouched = &p;

#define BAD_FREE(call, code)                                                                                          \
    do {                                                                                                              \
        p.frees = p.calls = 0;                                                                                        \
        BAD(call, code);                                                                                              \
        CHECK_PROBE(p, 0, 1);                                                                                         \
    } while (0)

static void no_call(evl_future *future, void *arg) {
    (void)future;
    probe_call(arg);
}

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

TEST(null_futures) {
    evl_loop *loop = manual_loop();
    evl_future *future = (evl_future *)untouched;
    const void *data = untouched;
    void *value = untouched;
    int64_t number = 7;
    size_t size = 7;
    uint32_t address_size = 7;
    int code = 7;
    char text[8] = "same";
    BAD(evl_future_new(NULL, &future), -EINVAL);
    BAD(evl_future_new(loop, NULL), -EINVAL);
    BAD(evl_future_new(NULL, NULL), -EINVAL);
    GIVES(evl_future_ref(NULL), NULL);
    NO_HARM(evl_future_unref(NULL));
    GIVES(evl_future_get_loop(NULL), NULL);
    GIVES(evl_future_done(NULL), 0);
    GIVES(evl_future_cancelled(NULL), 0);
    BAD(evl_future_result(NULL, &value), -EINVAL);
    BAD(evl_future_result(NULL, NULL), -EINVAL);
    BAD(evl_future_result_int(NULL, &number), -EINVAL);
    BAD(evl_future_result_int(NULL, NULL), -EINVAL);
    BAD(evl_future_result_bytes(NULL, &data, &size), -EINVAL);
    BAD(evl_future_result_bytes(NULL, NULL, NULL), -EINVAL);
    BAD(evl_future_result_address(NULL, &data, &address_size), -EINVAL);
    BAD(evl_future_result_address(NULL, NULL, NULL), -EINVAL);
    BAD(evl_future_error(NULL, &code), -EINVAL);
    BAD(evl_future_error(NULL, NULL), -EINVAL);
    BAD(evl_future_error_message(NULL, text, sizeof text), -EINVAL);
    BAD(evl_future_error_message(NULL, NULL, 0), -EINVAL);
    GIVES(evl_future_error_object(NULL), NULL);
    BAD_FREE(evl_future_set_result(NULL, &p, probe_free), -EINVAL);
    BAD(evl_future_set_result(NULL, NULL, NULL), -EINVAL);
    BAD(evl_future_set_error(NULL, -EIO, "x"), -EINVAL);
    BAD(evl_future_set_error(NULL, 0, NULL), -EINVAL);
    BAD_FREE(evl_future_set_error_object(NULL, -EIO, NULL, &p, probe_free), -EINVAL);
    BAD(evl_future_cancel(NULL, "x"), -EINVAL);
    BAD(evl_future_cancel(NULL, NULL), -EINVAL);
    BAD_FREE(evl_future_set_result_threadsafe(NULL, &p, probe_free), -EINVAL);
    BAD_FREE(evl_future_set_error_threadsafe(NULL, -EIO, NULL, &p, probe_free), -EINVAL);
    BAD(evl_future_cancel_threadsafe(NULL, NULL), -EINVAL);
    BAD(evl_future_wait(NULL, 0), -EINVAL);
    BAD(evl_future_wait(NULL, EVL_FOREVER), -EINVAL);
    BAD(evl_future_set_timeout(NULL, 1), -EINVAL);
    BAD_FREE(evl_future_add_done_callback(NULL, no_call, &p, probe_free, NULL), -EINVAL);
    BAD_FREE(evl_future_add_done_callback(NULL, NULL, &p, probe_free, NULL), -EINVAL);
    BAD(evl_future_remove_done_callback(NULL, no_call, &p), -EINVAL);
    BAD(evl_future_repr(NULL, text, sizeof text), -EINVAL);
    BAD(evl_future_repr(NULL, NULL, 0), -EINVAL);
    BAD_FREE(evl_future_set_data(NULL, &p, probe_free), -EINVAL);
    GIVES(evl_future_get_data(NULL), NULL);
    CHECK_STRING(text, "same");
    CHECK(future == untouched && data == untouched && value == untouched);
    CHECK(number == 7 && size == 7 && address_size == 7 && code == 7);
    end_loop(loop);
}

TEST(null_outputs_and_callbacks) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    char text[8] = "same";
    BAD_FREE(evl_future_add_done_callback(future, NULL, &p, probe_free, NULL), -EINVAL);
    BAD(evl_future_remove_done_callback(future, NULL, &p), -EINVAL);
    BAD(evl_future_repr(future, NULL, 8), -EINVAL);
    BAD(evl_future_error_message(future, NULL, 8), -EINVAL);
    BAD(evl_future_error(future, NULL), -EINVAL);
    BAD(evl_future_result_int(future, NULL), -EINVAL);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    BAD(evl_future_error(future, NULL), -EINVAL);
    BAD(evl_future_result_int(future, NULL), -EINVAL);
    BAD(evl_future_result_bytes(future, NULL, NULL), -EINVAL);
    BAD(evl_future_result_address(future, NULL, NULL), -EINVAL);
    CHECK_INT(evl_future_error_message(future, text, 0), 0);
    CHECK_STRING(text, "same");
    evl_future_unref(future);
    end_loop(loop);
}

TEST(results_of_another_kind) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    const void *data = untouched;
    int64_t number = 7;
    size_t size = 7;
    uint32_t address_size = 7;
    char detail[100] = "";
    BAD(evl_future_result_int(future, &number), EVL_EINVALIDSTATE);
    BAD(evl_future_result_bytes(future, &data, &size), EVL_EINVALIDSTATE);
    BAD(evl_future_result_address(future, &data, &address_size), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_future_set_result(future, &p, NULL), 0);
    BAD(evl_future_result_int(future, &number), -EINVAL);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    BAD(evl_future_result_bytes(future, &data, &size), -EINVAL);
    BAD(evl_future_result_address(future, &data, &address_size), -EINVAL);
    CHECK(data == untouched && number == 7 && size == 7 && address_size == 7);
    evl_future_unref(future);
    end_loop(loop);
}

/* An error comes before what is wrong with the output. */
TEST(accessors_of_a_failed_future) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    const void *data = untouched;
    int64_t number = 7;
    CHECK_CODE(evl_future_set_error(future, -EIO, NULL), 0);
    BAD(evl_future_result_int(future, &number), -EIO);
    BAD(evl_future_result_bytes(future, &data, NULL), -EIO);
    BAD(evl_future_result_address(future, &data, NULL), -EIO);
    evl_future_unref(future);
    future = new_future(loop);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    BAD(evl_future_result_int(future, &number), EVL_ECANCELLED);
    BAD(evl_future_result_bytes(future, &data, NULL), EVL_ECANCELLED);
    BAD(evl_future_result_address(future, &data, NULL), EVL_ECANCELLED);
    CHECK(data == untouched && number == 7);
    evl_future_unref(future);
    end_loop(loop);
}

TEST(of_a_closed_loop) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop), *other = (evl_future *)untouched;
    char text[100] = "";
    int code = 7;
    CHECK_CODE(evl_loop_close(loop), 0);
    BAD(evl_future_new(loop, &other), EVL_ECLOSED);
    BAD(evl_future_new(loop, NULL), EVL_ECLOSED);
    CHECK(other == untouched);
    CHECK(evl_future_get_loop(future) == loop);
    BAD_FREE(evl_future_set_result(future, &p, probe_free), EVL_ECLOSED);
    BAD(evl_future_set_error(future, -EIO, NULL), EVL_ECLOSED);
    BAD(evl_future_cancel(future, NULL), EVL_ECLOSED);
    BAD_FREE(evl_future_set_result_threadsafe(future, &p, probe_free), EVL_ECLOSED);
    BAD_FREE(evl_future_set_error_threadsafe(future, -EIO, NULL, &p, probe_free), EVL_ECLOSED);
    BAD(evl_future_cancel_threadsafe(future, NULL), EVL_ECLOSED);
    BAD_FREE(evl_future_add_done_callback(future, no_call, &p, probe_free, NULL), EVL_ECLOSED);
    BAD(evl_future_remove_done_callback(future, no_call, &p), EVL_ECLOSED);
    BAD(evl_future_set_timeout(future, 1), EVL_ECLOSED);
    BAD_FREE(evl_future_set_data(future, &p, probe_free), EVL_ECLOSED);
    BAD(evl_future_wait(future, 0), EVL_ECLOSED);
    BAD(evl_future_wait(future, -1), -EINVAL);
    BAD(evl_future_error(future, &code), EVL_EINVALIDSTATE);
    CHECK(evl_future_repr(future, text, sizeof text) > 0);
    CHECK(strncmp(text, "<Future pending at", 18) == 0);
    evl_future_unref(evl_future_ref(future));
    evl_loop_unref(loop);
    evl_future_unref(future);
}

static void in_the_child(void *arg) {
    evl_future *future = (evl_future *)arg, *other = (evl_future *)untouched;
    BAD(evl_future_new(evl_future_get_loop(future), &other), EVL_EFORKED);
    BAD_FREE(evl_future_set_result(future, &p, probe_free), EVL_EFORKED);
    BAD(evl_future_set_error(future, -EIO, NULL), EVL_EFORKED);
    BAD(evl_future_cancel(future, NULL), EVL_EFORKED);
    BAD_FREE(evl_future_set_result_threadsafe(future, &p, probe_free), EVL_EFORKED);
    BAD(evl_future_cancel_threadsafe(future, NULL), EVL_EFORKED);
    BAD_FREE(evl_future_add_done_callback(future, no_call, &p, probe_free, NULL), EVL_EFORKED);
    BAD(evl_future_set_timeout(future, 1), EVL_EFORKED);
    BAD(evl_future_wait(future, EVL_FOREVER), EVL_EFORKED);
    CHECK_INT(evl_future_done(future), 0);
    evl_future_unref(future);
}

TEST(in_a_forked_child) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    CHECK_INT(in_child(in_the_child, future), 0);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    evl_future_unref(future);
    end_loop(loop);
}

/* Contexts and messages that are not there are no mistake. */
TEST(what_may_be_null) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    p.calls = p.frees = 0;
    CHECK_CODE(evl_future_add_done_callback(future, no_call, &p, NULL, NULL), 0);
    CHECK_CODE(evl_future_set_data(future, NULL, NULL), 0);
    CHECK_CODE(evl_future_set_error_object(future, -EIO, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_PROBE(p, 1, 0);
    CHECK_CODE(evl_future_result(future, NULL), -EIO);
    evl_future_unref(future);
    end_loop(loop);
}

TEST(every_function_of_the_list_was_tried) {
    size_t i;
    for (i = 0; i < FUNCTION_COUNT; i++)
        if (!named[i])
            harness_fail(__FILE__, __LINE__, functions[i].name, "is tried by no test of this file");
}

TEST_MAIN()
