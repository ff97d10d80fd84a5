/* evl is used by exit handlers of the process and by destructors of a thread's data, when everything else has ended. */
#include "harness.h"

static evl_loop *loop;
static evl_handle *handle;
static evl_context *context;
static evl_context_var *var;
static evl_policy *policy;

/* Straight to the descriptor: the C library's buffers may be gone. */
static void say(const char *text) {
    if (write(1, text, strlen(text)) < 0 || write(1, " ", 1) < 0)
        _exit(99);
}

static void say_code(const char *what, int code) {
    char text[100];
    snprintf(text, sizeof text, "%s:%s", what, code > 0 ? "count" : evl_errname(code));
    say(text);
}

static void say_call(void *arg) {
    say((const char *)arg);
}

static void say_free(void *arg) {
    (void)arg;
    say("freed");
}

static int call_soon(evl_loop *on) {
    return evl_loop_call_soon(on, say_call, (void *)"ran", say_free, NULL, NULL);
}

/* Runs function in a child, and then exit(0). Fills said with what came out, and returns how the child ended. */
static int exit_child(void (*function)(void), char *said, size_t size) {
    int fds[2], status = -1;
    size_t used = 0;
    ssize_t got;
    pid_t child;
    said[0] = 0;
    if (!CHECK(pipe(fds) == 0))
        return -1;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        alarm(HARNESS_TIME_LIMIT / 2);
        function();
        exit(0);
    }
    close(fds[1]);
    while (used + 1 < size && (got = read(fds[0], said + used, size - 1 - used)) > 0)
        used += (size_t)got;
    said[used] = 0;
    close(fds[0]);
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

#define CHECK_EXIT(function, expected)                                                                                \
    do {                                                                                                              \
        char said[4096];                                                                                              \
        CHECK_INT(exit_child(function, said, sizeof said), 0);                                                        \
        CHECK_STRING(said, expected);                                                                                 \
    } while (0)

/* A loop that was used, with work left. */
static void use_loop(void) {
    CHECK_CODE(evl_loop_new(NULL, &loop), 0);
    CHECK_CODE(call_soon(loop), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_call_later(loop, EVL_SECONDS(1000), say_call, (void *)"never", say_free, NULL, NULL), 0);
}

static void work_on(void) {
    say("end");
    say_code("soon", call_soon(loop));
    say_code("run", evl_loop_run_once(loop, 0));
    say_code("post", evl_loop_call_soon_threadsafe(loop, say_call, (void *)"posted", say_free, NULL, NULL));
    say_code("run", evl_loop_run_once(loop, 0));
    say_code("stop", evl_loop_stop_threadsafe(loop));
    say_code("forever", evl_loop_run_forever(loop));
    say_code("close", evl_loop_close(loop));
    say_code("soon", call_soon(loop));
    evl_loop_unref(loop);
}

#define WORKED_ON                                                                                                     \
    "end soon:EVL_OK ran freed run:count post:EVL_OK posted freed run:count stop:EVL_OK forever:EVL_OK freed "        \
    "close:EVL_OK freed soon:EVL_ECLOSED "

static void only_close(void) {
    say_code("close", evl_loop_close(loop));
}

static void only_unref(void) {
    evl_loop_unref(loop);
}

static void make_another(void) {
    evl_loop *another = NULL;
    say_code("new", evl_loop_new(NULL, &another));
    say_code("soon", call_soon(another));
    say_code("run", evl_loop_run_until_idle(another));
    say_code("close", evl_loop_close(another));
    evl_loop_unref(another);
    evl_loop_unref(loop);
}

static void exit_with(void (*handler)(void)) {
    CHECK(atexit(handler) == 0);
    use_loop();
}

static void then_work_on(void) {
    exit_with(work_on);
}

static void then_close(void) {
    exit_with(only_close);
}

static void then_unref(void) {
    exit_with(only_unref);
}

static void then_make_another(void) {
    exit_with(make_another);
}

TEST(a_loop_works_in_an_exit_handler) {
    CHECK_EXIT(then_work_on, "ran freed " WORKED_ON);
}

TEST(a_loop_is_closed_by_an_exit_handler) {
    CHECK_EXIT(then_close, "ran freed freed close:EVL_OK ");
}

TEST(a_loop_is_unreferenced_by_an_exit_handler) {
    CHECK_EXIT(then_unref, "ran freed freed ");
}

TEST(a_loop_is_made_by_an_exit_handler) {
    CHECK_EXIT(then_make_another, "ran freed new:EVL_OK soon:EVL_OK ran freed run:count close:EVL_OK freed ");
}

static void first_use_at_exit(void) {
    use_loop();
    work_on();
}

static void only_register(void) {
    CHECK(atexit(first_use_at_exit) == 0);
}

TEST(evl_is_first_used_by_an_exit_handler) {
    CHECK_EXIT(only_register, "ran freed " WORKED_ON);
}

static void refused_at_exit(void) {
    say_code("run", evl_loop_run_once(loop, 0));
    say_code("close", evl_loop_close(loop));
    say_code("soon", call_soon(loop));
}

static void call_exit(void *arg) {
    (void)arg;
    exit(0);
}

static void exit_inside(void) {
    CHECK(atexit(refused_at_exit) == 0);
    CHECK_CODE(evl_loop_new(NULL, &loop), 0);
    CHECK_CODE(evl_loop_call_soon(loop, call_exit, NULL, say_free, NULL, NULL), 0);
    evl_loop_run_forever(loop);
}

TEST(exit_inside_of_a_callback_finds_the_loop_running) {
    CHECK_EXIT(exit_inside, "run:EVL_ERUNNING close:EVL_ERUNNING soon:EVL_OK ");
}

/* Everything else there is, where nothing is left of the thread. */
static void use_the_rest(void) {
    char text[200];
    void *value = NULL;
    evl_loop *running = NULL;
    evl_policy *asked = NULL;
    evl_context_token *token = NULL;
    say_code("raise", evl_raise(-1, "x"));
    say_code("detail", evl_error_detail(text, sizeof text) < 0);
    say_code("running", evl_get_running_loop(&running));
    say_code("repr", evl_handle_repr(handle, text, sizeof text));
    say_code("cancel", evl_handle_cancel(handle));
    evl_handle_unref(handle);
    say_code("enter", evl_context_enter(context));
    say_code("set", evl_context_var_set(var, (void *)"value", say_free, &token));
    say_code("get", evl_context_var_get(var, &value));
    say(value ? (const char *)value : "(NULL)");
    say_code("reset", evl_context_var_reset(var, token));
    evl_context_token_unref(token);
    say_code("get", evl_context_var_get(var, &value));
    say_code("exit", evl_context_exit(context));
    evl_context_unref(context);
    evl_context_var_unref(var);
    say_code("policy", evl_get_policy(&asked));
    evl_policy_unref(asked);
    say_code("set_loop", evl_policy_set_loop(policy, loop));
    running = NULL;
    say_code("get_loop", evl_policy_get_loop(policy, &running));
    say(running == loop ? "same" : "other");
    evl_loop_unref(running);
    say_code("set_loop", evl_policy_set_loop(policy, NULL));
    say_code("set_running", evl_set_running_loop(loop));
    say_code("set_running", evl_set_running_loop(NULL));
    evl_policy_unref(policy);
    evl_loop_unref(loop);
}

#define USED_THE_REST                                                                                                 \
    "raise:EVL_ENOTINCALLBACK detail:EVL_OK running:EVL_ENOLOOP repr:count freed cancel:EVL_OK enter:EVL_OK "         \
    "set:EVL_OK get:EVL_OK value freed reset:EVL_OK get:EVL_ENOVALUE exit:EVL_OK policy:EVL_OK set_loop:EVL_OK "      \
    "get_loop:EVL_OK same set_loop:EVL_OK set_running:EVL_OK set_running:EVL_OK freed "

static void make_the_rest(void) {
    use_loop();
    CHECK_CODE(evl_handle_new(loop, say_call, (void *)"never", say_free, NULL, &handle), 0);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_context_var_new("var", NULL, NULL, &var), 0);
    CHECK_CODE(evl_policy_new_default(NULL, NULL, NULL, &policy), 0);
    CHECK_CODE(evl_policy_set_loop(policy, loop), 0);
}

static void then_use_the_rest(void) {
    CHECK(atexit(use_the_rest) == 0);
    make_the_rest();
}

TEST(handles_contexts_and_policies_work_in_an_exit_handler) {
    CHECK_EXIT(then_use_the_rest, "ran freed " USED_THE_REST);
}

/* A thread whose data have a destructor: it is called when the thread's other storage is gone. */
static pthread_key_t key;
static void (*at_thread_end)(void);

static void destructor(void *arg) {
    (void)arg;
    at_thread_end();
}

static void (*thread_begins)(void);

static void *thread_with_data(void *arg) {
    CHECK(pthread_setspecific(key, &key) == 0);
    thread_begins();
    return arg;
}

static void run_thread(void) {
    CHECK(pthread_key_create(&key, destructor) == 0);
    in_thread(thread_with_data, NULL);
    pthread_key_delete(key);
}

/* Not under valgrind where the end posts: the block of memory that a thread's first post takes stays with a thread whose
 * destructors have run. */
static void check_thread(void (*begin)(void), void (*end)(void), const char *expected) {
    if (under_valgrind() && (end == work_on || end == first_use_at_exit))
        return;
    thread_begins = begin;
    at_thread_end = end;
    CHECK_EXIT(run_thread, expected);
}

TEST(a_loop_works_in_a_destructor_of_a_thread) {
    check_thread(use_loop, work_on, "ran freed " WORKED_ON);
}

TEST(a_loop_is_closed_by_a_destructor_of_a_thread) {
    check_thread(use_loop, only_close, "ran freed freed close:EVL_OK ");
}

TEST(a_loop_is_unreferenced_by_a_destructor_of_a_thread) {
    check_thread(use_loop, only_unref, "ran freed freed ");
}

TEST(a_loop_is_made_by_a_destructor_of_a_thread) {
    check_thread(use_loop, make_another, "ran freed new:EVL_OK soon:EVL_OK ran freed run:count close:EVL_OK freed ");
}

static void begin_with_nothing(void) {
}

TEST(evl_is_first_used_by_a_destructor_of_a_thread) {
    check_thread(begin_with_nothing, first_use_at_exit, "ran freed " WORKED_ON);
}

TEST(handles_contexts_and_policies_work_in_a_destructor_of_a_thread) {
    check_thread(make_the_rest, use_the_rest, "ran freed " USED_THE_REST);
}

TEST_MAIN()
