/* No lock that another thread holds at the moment of a fork keeps the child. Not run under valgrind: the child cannot give
 * back what its parent's other threads had. */
#include "harness.h"

/* Other threads hold locks of evl for short times, again and again. */
static struct busy {
    evl_loop *loop;
    evl_handle *handle;
    evl_weak_handle *weak;
    evl_context *context;
    evl_context_var *var;
    int done, posted;
} busy;

static void upgrade(void) {
    evl_handle *handle = evl_weak_handle_upgrade(busy.weak);
    CHECK(handle == busy.handle);
    evl_handle_unref(handle);
}

static void look_at_context(void) {
    size_t size = 9;
    void *value = NULL;
    CHECK_CODE(evl_context_size(busy.context, &size), 0);
    CHECK_INT(size, 0);
    CHECK_CODE(evl_context_get(busy.context, busy.var, &value), EVL_ENOVALUE);
}

static void ask_policy(void) {
    evl_policy *policy = NULL;
    CHECK_CODE(evl_get_policy(&policy), 0);
    evl_policy_unref(policy);
    CHECK_CODE(evl_set_loop(NULL), 0);
}

static void make_loop(void) {
    evl_loop *loop = NULL;
    CHECK_CODE(evl_loop_new(NULL, &loop), 0);
    evl_loop_unref(loop);
}

static void describe(void) {
    char text[100];
    CHECK(evl_handle_repr(busy.handle, text, sizeof text) > 0);
}

static void post_some(void) {
    if (__atomic_load_n(&busy.posted, __ATOMIC_SEQ_CST) < 1000) {
        int code = evl_loop_call_soon_threadsafe(busy.loop, nothing, NULL, NULL, NULL, NULL);
        CHECK(code == 0 || code == EVL_EFORKED);
        __atomic_add_fetch(&busy.posted, 1, __ATOMIC_SEQ_CST);
    }
}

static void (*busy_with)(void);

static void *keep_busy(void *arg) {
    (void)arg;
    while (!__atomic_load_n(&busy.done, __ATOMIC_SEQ_CST))
        busy_with();
    return NULL;
}

static void do_the_same(void *arg) {
    (void)arg;
    busy_with();
}

static void check_forks_beside(void (*what)(void)) {
    pthread_t threads[2];
    int i, children = 200;
    memset(&busy, 0, sizeof busy);
    busy.loop = real_loop();
    CHECK_CODE(evl_handle_new(busy.loop, nothing, NULL, NULL, NULL, &busy.handle), 0);
    CHECK_CODE(evl_handle_weak(busy.handle, &busy.weak), 0);
    CHECK_CODE(evl_context_new(&busy.context), 0);
    CHECK_CODE(evl_context_var_new("var", NULL, NULL, &busy.var), 0);
    busy_with = what;
    for (i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, keep_busy, NULL) == 0);
    for (i = 0; i < children; i++) {
        if (!CHECK_INT(in_child(do_the_same, NULL), 0))
            break; /* it hung */
        if (what == post_some) {
            CHECK(evl_loop_run_once(busy.loop, 0) >= 0);
            __atomic_store_n(&busy.posted, 0, __ATOMIC_SEQ_CST);
        }
    }
    __atomic_store_n(&busy.done, 1, __ATOMIC_SEQ_CST);
    for (i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    evl_weak_handle_free(busy.weak);
    evl_handle_unref(busy.handle);
    evl_context_var_unref(busy.var);
    evl_context_unref(busy.context);
    end_loop(busy.loop);
}

TEST(a_child_does_not_hang_while_another_thread_upgrades) {
    check_forks_beside(upgrade);
}

TEST(a_child_does_not_hang_while_another_thread_looks_at_a_context) {
    check_forks_beside(look_at_context);
}

TEST(a_child_does_not_hang_while_another_thread_asks_the_policy) {
    check_forks_beside(ask_policy);
    CHECK_CODE(evl_set_policy(NULL), 0);
}

TEST(a_child_does_not_hang_while_another_thread_makes_loops) {
    check_forks_beside(make_loop);
}

TEST(a_child_does_not_hang_while_another_thread_describes_a_handle) {
    check_forks_beside(describe);
}

TEST(a_child_does_not_hang_while_another_thread_posts) {
    check_forks_beside(post_some);
}

TEST_MAIN()
