/* Errors: raising in callbacks, the names of codes, and the detail of the last failure. */
#include "harness.h"

struct seen {
    int calls, code;
    char message[200];
    void *object;
    int frees_at_call;
};

static int object_frees;

static void object_free(void *object) {
    (void)object;
    object_frees++;
}

static void on_exception(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    struct seen *s = (struct seen *)arg;
    (void)event_loop;
    s->calls++;
    s->code = exception->code;
    snprintf(s->message, sizeof s->message, "%s", exception->message ? exception->message : "(NULL)");
    s->object = exception->object;
    s->frees_at_call = object_frees;
}

/* Runs callback(arg) in a loop and tells what the exception handler saw. Returns what the run function returned. */
static int run(evl_callback callback, void *arg, struct seen *s, int *exit_code) {
    evl_loop *loop = manual_loop();
    int code, exit = 0;
    memset(s, 0, sizeof *s);
    object_frees = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, s, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, callback, arg, NULL, NULL, NULL), 0);
    code = evl_loop_run_until_idle(loop);
    CHECK_CODE(evl_loop_exit_code(loop, &exit), 0);
    if (exit_code)
        *exit_code = exit;
    end_loop(loop);
    return code;
}

static void raise_two(void *arg) {
    char message[] = "first";
    (void)arg;
    CHECK_CODE(evl_raise(-EIO, message), 0);
    memcpy(message, "other", 5); /* it was copied */
    CHECK_CODE(evl_raise(-EPERM, "second"), 0);
}

TEST(first_raise_wins) {
    struct seen s;
    CHECK_CODE(run(raise_two, NULL, &s, NULL), 1);
    CHECK_INT(s.calls, 1);
    CHECK_CODE(s.code, -EIO);
    CHECK_STRING(s.message, "first");
    CHECK(s.object == NULL);
}

static void raise_own_code(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise(0, "zero"), -EINVAL);
    CHECK_CODE(evl_raise(5, "positive"), -EINVAL);
    CHECK_CODE(evl_raise(INT32_MAX, NULL), -EINVAL);
    CHECK_CODE(evl_raise(INT32_MIN, "own"), 0);
}

TEST(any_negative_code_is_raised) {
    struct seen s;
    CHECK_CODE(run(raise_own_code, NULL, &s, NULL), 1);
    CHECK_INT(s.calls, 1);
    CHECK(s.code == INT32_MIN);
    CHECK_STRING(s.message, "own");
}

static void raise_nothing_valid(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise(1, "positive"), -EINVAL);
}

TEST(a_refused_raise_raises_nothing) {
    struct seen s;
    CHECK_CODE(run(raise_nothing_valid, NULL, &s, NULL), 1);
    CHECK_INT(s.calls, 0);
}

static void raise_long_message(void *arg) {
    char message[5000];
    (void)arg;
    memset(message, 'm', sizeof message - 1);
    message[sizeof message - 1] = 0;
    CHECK_CODE(evl_raise(-EIO, message), 0);
}

static void raise_not_utf8(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise(-EIO, "bad \xff\xfe end"), 0);
}

TEST(messages_of_any_length_and_kind) {
    struct seen s;
    CHECK_CODE(run(raise_long_message, NULL, &s, NULL), 1);
    CHECK_INT(strlen(s.message), sizeof s.message - 1);
    CHECK(s.message[0] == 'm' && s.message[198] == 'm');
    CHECK_CODE(run(raise_not_utf8, NULL, &s, NULL), 1);
    CHECK(strncmp(s.message, "bad ", 4) == 0);
    CHECK(strlen(s.message) >= 10 && strcmp(s.message + strlen(s.message) - 4, " end") == 0);
}

TEST(raising_outside_of_a_callback) {
    object_frees = 0;
    CHECK_CODE(evl_raise(-EIO, "x"), EVL_ENOTINCALLBACK);
    CHECK_CODE(evl_raise(-EIO, NULL), EVL_ENOTINCALLBACK);
    CHECK_CODE(evl_raise_exit(1), EVL_ENOTINCALLBACK);
    CHECK_CODE(evl_raise_object(-EIO, "x", &object_frees, object_free), EVL_ENOTINCALLBACK);
    CHECK_INT(object_frees, 1);
    CHECK_CODE(evl_raise_object(-EIO, "x", &object_frees, NULL), EVL_ENOTINCALLBACK);
    CHECK_INT(object_frees, 1);
}

static void *raise_in_thread(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise(-EIO, "x"), EVL_ENOTINCALLBACK);
    CHECK_CODE(evl_raise_exit(3), EVL_ENOTINCALLBACK);
    return NULL;
}

static void start_thread_that_raises(void *arg) {
    in_thread(raise_in_thread, arg);
}

TEST(raising_on_another_thread_than_the_callbacks) {
    struct seen s;
    CHECK_CODE(run(start_thread_that_raises, NULL, &s, NULL), 1);
    CHECK_INT(s.calls, 0);
}

static void raise_object(void *arg) {
    CHECK_CODE(evl_raise_object(-EIO, "with object", arg, object_free), 0);
    CHECK_INT(object_frees, 0);
}

TEST(object_reaches_the_handler_and_is_released_after_it) {
    struct seen s;
    int object;
    CHECK_CODE(run(raise_object, &object, &s, NULL), 1);
    CHECK(s.object == &object);
    CHECK_INT(s.frees_at_call, 0);
    CHECK_INT(object_frees, 1);
}

static void raise_object_second(void *arg) {
    CHECK_CODE(evl_raise(-EIO, "first"), 0);
    CHECK_CODE(evl_raise_object(-EIO, "second", arg, object_free), 0);
    CHECK_INT(object_frees, 1); /* at once */
}

static void raise_object_twice(void *arg) {
    CHECK_CODE(evl_raise_object(-EIO, "first", arg, object_free), 0);
    CHECK_CODE(evl_raise_object(-EIO, "second", &object_frees, object_free), 0);
    CHECK_INT(object_frees, 1); /* the second */
}

static void raise_object_wrongly(void *arg) {
    CHECK_CODE(evl_raise_object(3, "positive", arg, object_free), -EINVAL);
    CHECK_INT(object_frees, 1);
}

static void raise_object_and_exit(void *arg) {
    CHECK_CODE(evl_raise_object(-EIO, "x", arg, object_free), 0);
    CHECK_CODE(evl_raise_exit(4), 0);
}

static void exit_and_raise_object(void *arg) {
    CHECK_CODE(evl_raise_exit(6), 0);
    CHECK_CODE(evl_raise_exit(7), 0);
    CHECK_CODE(evl_raise_object(-EIO, "x", arg, object_free), 0);
}

TEST(object_is_released_once_in_every_path) {
    struct seen s;
    int object, exit_code = 0;
    CHECK_CODE(run(raise_object_second, &object, &s, NULL), 1);
    CHECK(s.object == NULL);
    CHECK_INT(object_frees, 1);
    CHECK_CODE(run(raise_object_twice, &object, &s, NULL), 1);
    CHECK(s.object == &object);
    CHECK_INT(s.frees_at_call, 1);
    CHECK_INT(object_frees, 2);
    CHECK_CODE(run(raise_object_wrongly, &object, &s, NULL), 1);
    CHECK_INT(s.calls, 0);
    CHECK_INT(object_frees, 1);
    CHECK_CODE(run(raise_object_and_exit, &object, &s, &exit_code), EVL_EEXIT);
    CHECK_INT(exit_code, 4);
    CHECK_INT(object_frees, 1);
    CHECK_CODE(run(exit_and_raise_object, &object, &s, &exit_code), EVL_EEXIT);
    CHECK_INT(exit_code, 6); /* of two exits the first; it wins over a raise */
    CHECK_INT(s.calls, 0);
    CHECK_INT(object_frees, 1);
}

TEST(object_is_released_after_the_default_handler_too) {
    evl_loop *loop = manual_loop();
    int object;
    object_frees = 0;
    CHECK_CODE(evl_loop_set_log(loop, (evl_log_fn)NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, raise_object, &object, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(object_frees, 1);
    end_loop(loop);
}

#define CODES(X)                                                                                                      \
    X(EVL_ECLOSED) X(EVL_EWRONGTHREAD) X(EVL_ERUNNING) X(EVL_ENOLOOP) X(EVL_EDONE) X(EVL_ECANCELLED)                  \
    X(EVL_ENOTINCALLBACK) X(EVL_EEXIT) X(EVL_EPANIC) X(EVL_EOPTIONS) X(EVL_EFORKED) X(EVL_EBUSY)                      \
    X(EVL_ENOTIMPLEMENTED) X(EVL_ENOVALUE) X(EVL_ETOKEN) X(EVL_EENTERED) X(EVL_ENOTENTERED) X(EVL_ECLOCK)             \
    X(EVL_ESIGNAL) X(EVL_ESCHEDULED)
#define ERRNOS(X)                                                                                                     \
    X(EPERM) X(ENOENT) X(EINTR) X(EIO) X(EBADF) X(EAGAIN) X(ENOMEM) X(EACCES) X(EBUSY) X(EEXIST) X(EINVAL) X(EMFILE)  \
    X(ENFILE) X(ENOSPC) X(EPIPE) X(ENOSYS) X(EADDRINUSE) X(ECONNREFUSED) X(ETIMEDOUT)

TEST(codes_have_names_and_descriptions) {
    const char *unknown = evl_strerror(-29999);
    CHECK(unknown != NULL && unknown[0] != 0);
    CHECK_STRING(evl_errname(-29999), "UNKNOWN");
    CHECK_STRING(evl_errname(INT32_MIN), "UNKNOWN");
    CHECK_STRING(evl_errname(-100000), "UNKNOWN");
    CHECK(evl_strerror(INT32_MIN) != NULL && evl_strerror(INT32_MAX) != NULL);
    CHECK(evl_errname(INT32_MAX) != NULL);
    CHECK(evl_strerror(0) != NULL && evl_errname(0) != NULL);
#define CHECK_NAMED(code)                                                                                             \
    CHECK_STRING(evl_errname(code), #code);                                                                           \
    CHECK(strlen(evl_strerror(code)) > 3);                                                                            \
    CHECK(strcmp(evl_strerror(code), unknown) != 0);                                                                  \
    CHECK(evl_strerror(code) == evl_strerror(code));                                                                  \
    CHECK((code) < -20000);
    CODES(CHECK_NAMED)
#define CHECK_ERRNO(number)                                                                                           \
    CHECK_STRING(evl_errname(-(number)), #number);                                                                    \
    CHECK(strlen(evl_strerror(-(number))) > 3 && strcmp(evl_strerror(-(number)), unknown) != 0);
    ERRNOS(CHECK_ERRNO)
    CHECK(strcasestr(evl_strerror(EVL_ECLOSED), "loop is closed") != NULL);
    CHECK(strcasestr(evl_strerror(-EACCES), "permission denied") != NULL);
}

static void *detail_of_another_thread(void *arg) {
    char text[100];
    (void)arg;
    CHECK_INT(evl_error_detail(text, sizeof text), 0);
    CHECK_STRING(text, "");
    return NULL;
}

TEST(detail_tells_more_of_the_last_failure) {
    evl_loop *loop = manual_loop();
    char text[300], cut[5];
    int length;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGKILL, nothing, NULL, NULL, NULL, NULL), EVL_ESIGNAL);
    length = evl_error_detail(text, sizeof text);
    CHECK(length > 0 && (size_t)length == strlen(text));
    CHECK(strchr(text, '9') != NULL); /* it tells the number */
    CHECK_INT(evl_error_detail(NULL, 0), length);
    memset(cut, 'x', sizeof cut);
    CHECK_INT(evl_error_detail(cut, sizeof cut), length);
    CHECK_INT(strlen(cut), 4);
    CHECK(strncmp(cut, text, 4) == 0);
    CHECK_CODE(evl_error_detail(NULL, 4), -EINVAL);
    in_thread(detail_of_another_thread, NULL);
    end_loop(loop);
}

static void raise_exit_7(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise_exit(7), 0);
}

static void run_and_ignore_exit(void *arg) {
    CHECK_CODE(evl_handle_run((evl_handle *)arg), EVL_EEXIT);
}

TEST(an_exit_that_a_callback_kept_to_itself_does_not_count) {
    evl_loop *loop = manual_loop();
    evl_handle *handle = NULL;
    int code = -1;
    CHECK_CODE(evl_handle_new(loop, raise_exit_7, NULL, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_loop_call_soon(loop, run_and_ignore_exit, handle, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 0);
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST_MAIN()
