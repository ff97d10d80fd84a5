/* Policies: a loop per thread, made by a factory or by a table of functions; the process's policy; the running loop. */
#include "harness.h"

struct factory {
    int calls, frees, code;
    evl_loop *last; /* borrowed */
};

static int make(void *arg, evl_loop **out) {
    struct factory *f = (struct factory *)arg;
    int code;
    f->calls++;
    if (f->code)
        return f->code;
    code = evl_loop_new(NULL, out);
    f->last = *out;
    return code;
}

static void factory_free(void *arg) {
    ((struct factory *)arg)->frees++;
}

static evl_policy *factory_policy(struct factory *f) {
    evl_policy *policy = NULL;
    memset(f, 0, sizeof *f);
    CHECK_CODE(evl_policy_new_default(make, f, factory_free, &policy), 0);
    return policy;
}

TEST(default_policy_makes_the_main_threads_loop_once) {
    struct factory f;
    evl_policy *policy = factory_policy(&f);
    evl_loop *a = NULL, *b = NULL, *c = NULL;
    CHECK_CODE(evl_policy_get_loop(policy, &a), 0);
    CHECK_CODE(evl_policy_get_loop(policy, &b), 0);
    CHECK(a != NULL && a == b && a == f.last);
    CHECK_INT(f.calls, 1);
    CHECK_CODE(evl_policy_new_loop(policy, &c), 0);
    CHECK(c != a);
    CHECK_INT(f.calls, 2);
    evl_loop_unref(b);
    CHECK_CODE(evl_policy_get_loop(policy, &b), 0);
    CHECK(a == b);
    evl_loop_unref(a);
    evl_loop_unref(b);
    end_loop(c);
    CHECK_INT(f.frees, 0);
    evl_policy_unref(policy);
    CHECK_INT(f.frees, 1);
}

TEST(default_policy_without_a_factory) {
    evl_policy *policy = NULL;
    evl_loop *loop = NULL;
    CHECK_CODE(evl_policy_new_default(NULL, NULL, NULL, &policy), 0);
    CHECK_CODE(evl_policy_get_loop(policy, &loop), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    evl_loop_unref(loop);
    evl_policy_unref(policy);
}

TEST(set_loop_null_counts_as_called) {
    struct factory f;
    evl_policy *policy = factory_policy(&f);
    evl_loop *loop = NULL, *mine = manual_loop();
    CHECK_CODE(evl_policy_set_loop(policy, NULL), 0);
    CHECK_CODE(evl_policy_get_loop(policy, &loop), EVL_ENOLOOP);
    CHECK(loop == NULL);
    CHECK_INT(f.calls, 0);
    CHECK_CODE(evl_policy_set_loop(policy, mine), 0);
    CHECK_CODE(evl_policy_get_loop(policy, &loop), 0);
    CHECK(loop == mine);
    evl_loop_unref(loop);
    CHECK_CODE(evl_policy_set_loop(policy, NULL), 0);
    loop = NULL;
    CHECK_CODE(evl_policy_get_loop(policy, &loop), EVL_ENOLOOP);
    CHECK_CODE(evl_policy_new_loop(policy, &loop), 0);
    end_loop(loop);
    end_loop(mine);
    evl_policy_unref(policy);
}

TEST(policy_gives_its_references_back) {
    struct factory f;
    evl_policy *policy = factory_policy(&f);
    struct probe a = probe_named(NULL, NULL), b = probe_named(NULL, NULL);
    evl_loop *first = manual_loop(), *second = manual_loop();
    CHECK_CODE(evl_loop_set_data(first, &a, probe_free), 0);
    CHECK_CODE(evl_loop_set_data(second, &b, probe_free), 0);
    CHECK_CODE(evl_policy_set_loop(policy, first), 0);
    evl_loop_unref(first);
    CHECK_INT(a.frees, 0);
    CHECK_CODE(evl_policy_set_loop(policy, second), 0);
    CHECK_INT(a.frees, 1);
    evl_loop_unref(second);
    CHECK(evl_policy_ref(policy) == policy);
    CHECK(evl_policy_ref(NULL) == NULL);
    evl_policy_unref(policy);
    CHECK_INT(b.frees, 0);
    evl_policy_unref(policy);
    CHECK_INT(b.frees, 1);
    evl_policy_unref(NULL);
}

TEST(failing_factory_is_asked_again) {
    struct factory f;
    evl_policy *policy = factory_policy(&f);
    evl_loop *loop = NULL;
    f.code = -EMFILE;
    CHECK_CODE(evl_policy_get_loop(policy, &loop), -EMFILE);
    CHECK_CODE(evl_policy_new_loop(policy, &loop), -EMFILE);
    CHECK(loop == NULL);
    f.code = 0;
    CHECK_CODE(evl_policy_get_loop(policy, &loop), 0);
    CHECK_INT(f.calls, 3);
    evl_loop_unref(loop);
    evl_policy_unref(policy);
}

struct threaded {
    evl_policy *policy;
    struct probe data;
    evl_loop *main_loop;
};

static void *thread_uses_policy(void *arg) {
    struct threaded *t = (struct threaded *)arg;
    evl_loop *loop = NULL, *mine = NULL;
    CHECK_CODE(evl_policy_get_loop(t->policy, &loop), EVL_ENOLOOP); /* made on the main thread only */
    CHECK_CODE(evl_policy_new_loop(t->policy, &mine), 0);
    CHECK_CODE(evl_policy_get_loop(t->policy, &loop), EVL_ENOLOOP);
    CHECK_CODE(evl_loop_set_data(mine, &t->data, probe_free), 0);
    CHECK_CODE(evl_policy_set_loop(t->policy, mine), 0);
    t->data.calls = t->data.frees;
    CHECK_CODE(evl_policy_get_loop(t->policy, &loop), 0);
    CHECK(loop == mine && loop != t->main_loop);
    evl_loop_unref(loop);
    evl_loop_unref(mine); /* the policy has one */
    CHECK_INT(t->data.frees, t->data.calls);
    return NULL;
}

TEST(every_thread_has_its_own_loop_until_it_ends) {
    struct factory f;
    struct threaded t;
    evl_loop *again = NULL;
    memset(&t, 0, sizeof t);
    t.policy = factory_policy(&f);
    CHECK_CODE(evl_policy_get_loop(t.policy, &t.main_loop), 0);
    in_thread(thread_uses_policy, &t);
    CHECK_INT(t.data.frees, 1); /* with the thread */
    in_thread(thread_uses_policy, &t);
    CHECK_INT(t.data.frees, 2);
    CHECK_CODE(evl_policy_get_loop(t.policy, &again), 0);
    CHECK(again == t.main_loop);
    evl_loop_unref(again);
    evl_loop_unref(t.main_loop);
    evl_policy_unref(t.policy);
}

struct custom {
    int gets, sets, news, frees, code;
    evl_loop *loop, *set_to;
};

static int custom_get(void *arg, evl_loop **out) {
    struct custom *c = (struct custom *)arg;
    c->gets++;
    if (c->code)
        return c->code;
    *out = evl_loop_ref(c->loop);
    return 0;
}

static int custom_set(void *arg, evl_loop *event_loop) {
    struct custom *c = (struct custom *)arg;
    c->sets++;
    c->set_to = event_loop;
    return c->code;
}

static int custom_new(void *arg, evl_loop **out) {
    struct custom *c = (struct custom *)arg;
    c->news++;
    return c->code ? c->code : evl_loop_new(NULL, out);
}

static void custom_free(void *arg) {
    ((struct custom *)arg)->frees++;
}

TEST(custom_policy_is_asked) {
    evl_policy_vtable table = {sizeof table, 0, custom_get, custom_set, custom_new, NULL, NULL};
    struct custom c;
    evl_policy *policy = NULL, *current = NULL;
    evl_loop *loop = NULL, *made = NULL;
    memset(&c, 0, sizeof c);
    c.loop = manual_loop();
    CHECK_CODE(evl_policy_new(&table, &c, custom_free, &policy), 0);
    memset(&table, 0xff, sizeof table); /* it was copied */
    CHECK_CODE(evl_set_policy(policy), 0);
    CHECK_CODE(evl_get_policy(&current), 0);
    CHECK(current == policy);
    evl_policy_unref(current);
    evl_policy_unref(policy); /* evl keeps one */
    CHECK_INT(c.frees, 0);
    CHECK_CODE(evl_get_loop(&loop), 0);
    CHECK(loop == c.loop);
    CHECK_INT(c.gets, 1);
    evl_loop_unref(loop);
    CHECK_CODE(evl_set_loop(c.loop), 0);
    CHECK(c.set_to == c.loop);
    CHECK_CODE(evl_set_loop(NULL), 0);
    CHECK(c.set_to == NULL);
    CHECK_INT(c.sets, 2);
    CHECK_CODE(evl_new_loop(&made), 0);
    CHECK_INT(c.news, 1);
    end_loop(made);
    c.code = -EACCES;
    loop = NULL;
    CHECK_CODE(evl_get_loop(&loop), -EACCES);
    CHECK_CODE(evl_set_loop(c.loop), -EACCES);
    CHECK_CODE(evl_new_loop(&loop), -EACCES);
    CHECK(loop == NULL);
    CHECK_CODE(evl_set_policy(NULL), 0);
    CHECK_INT(c.frees, 1);
    end_loop(c.loop);
}

TEST(missing_entries_are_not_implemented) {
    evl_policy_vtable table = {sizeof table, 0, NULL, NULL, NULL, NULL, NULL};
    evl_policy *policy = NULL;
    evl_loop *loop = NULL;
    CHECK_CODE(evl_policy_new(&table, NULL, NULL, &policy), 0);
    CHECK_CODE(evl_policy_get_loop(policy, &loop), EVL_ENOTIMPLEMENTED);
    CHECK_CODE(evl_policy_set_loop(policy, NULL), EVL_ENOTIMPLEMENTED);
    CHECK_CODE(evl_policy_new_loop(policy, &loop), EVL_ENOTIMPLEMENTED);
    CHECK(loop == NULL);
    evl_policy_unref(policy);
}

TEST(set_policy_null_restores_a_new_default) {
    struct factory f;
    evl_policy *policy = factory_policy(&f), *a = NULL, *b = NULL;
    evl_loop *loop = NULL;
    CHECK_CODE(evl_set_policy(policy), 0);
    evl_policy_unref(policy);
    CHECK_CODE(evl_get_loop(&loop), 0);
    CHECK_INT(f.calls, 1);
    evl_loop_unref(loop);
    CHECK_CODE(evl_set_policy(NULL), 0);
    CHECK_INT(f.frees, 1);
    CHECK_CODE(evl_get_policy(&a), 0);
    CHECK_CODE(evl_get_policy(&b), 0);
    CHECK(a == b);
    CHECK_CODE(evl_get_loop(&loop), 0);
    CHECK_INT(f.calls, 1);
    evl_loop_unref(loop);
    evl_policy_unref(a);
    evl_policy_unref(b);
    CHECK_CODE(evl_set_policy(NULL), 0);
}

static void get_inside(void *arg) {
    evl_loop *loop = NULL;
    trace("inside");
    CHECK_CODE(evl_get_loop(&loop), 0);
    CHECK(loop == (evl_loop *)arg);
    evl_loop_unref(loop);
    CHECK_CODE(evl_set_running_loop(NULL), EVL_ERUNNING);
    CHECK_CODE(evl_set_running_loop((evl_loop *)arg), EVL_ERUNNING);
    CHECK_CODE(evl_get_running_loop(&loop), 0);
    CHECK(loop == (evl_loop *)arg);
    evl_loop_unref(loop);
}

TEST(get_loop_prefers_the_running_loop) {
    struct factory f;
    evl_policy *policy = factory_policy(&f);
    evl_loop *mine = manual_loop(), *loop = NULL;
    CHECK_CODE(evl_set_policy(policy), 0);
    CHECK_CODE(evl_loop_call_soon(mine, get_inside, mine, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(mine), 1);
    CHECK_TRACE("inside");
    CHECK_INT(f.calls, 0);
    CHECK_CODE(evl_get_loop(&loop), 0);
    CHECK(loop != mine);
    evl_loop_unref(loop);
    end_loop(mine);
    CHECK_CODE(evl_set_policy(NULL), 0);
    evl_policy_unref(policy);
}

static void *other_thread_runs_none(void *arg) {
    evl_loop *loop = NULL;
    (void)arg;
    CHECK_CODE(evl_get_running_loop(&loop), EVL_ENOLOOP);
    return NULL;
}

TEST(set_running_loop_for_bindings) {
    evl_loop *mine = manual_loop(), *loop = NULL;
    struct probe data = probe_named(NULL, NULL);
    CHECK_CODE(evl_loop_set_data(mine, &data, probe_free), 0);
    CHECK_CODE(evl_set_running_loop(mine), 0);
    evl_loop_unref(mine); /* a reference is kept */
    CHECK_INT(data.frees, 0);
    CHECK_CODE(evl_get_running_loop(&loop), 0);
    CHECK(loop == mine);
    evl_loop_unref(loop);
    CHECK_CODE(evl_get_loop(&loop), 0);
    CHECK(loop == mine);
    evl_loop_unref(loop);
    in_thread(other_thread_runs_none, NULL);
    CHECK_CODE(evl_set_running_loop(NULL), 0);
    CHECK_INT(data.frees, 1);
    loop = NULL;
    CHECK_CODE(evl_get_running_loop(&loop), EVL_ENOLOOP);
    CHECK(loop == NULL);
}

TEST(policy_keeps_data) {
    evl_policy *policy = NULL;
    struct probe a = probe_named(NULL, NULL), b = probe_named(NULL, NULL);
    CHECK_CODE(evl_policy_new_default(NULL, NULL, NULL, &policy), 0);
    CHECK(evl_policy_get_data(policy) == NULL);
    CHECK_CODE(evl_policy_set_data(policy, &a, probe_free), 0);
    CHECK(evl_policy_get_data(policy) == &a);
    CHECK_CODE(evl_policy_set_data(policy, &b, probe_free), 0);
    CHECK_INT(a.frees, 1);
    CHECK(evl_policy_get_data(policy) == &b);
    CHECK(evl_policy_get_data(NULL) == NULL);
    evl_policy_unref(policy);
    CHECK_INT(a.frees, 1);
    CHECK_INT(b.frees, 1);
}

static void *get_and_set_policy(void *arg) {
    int i;
    for (i = 0; i < 200; i++) {
        evl_policy *policy = NULL;
        CHECK_CODE(evl_get_policy(&policy), 0);
        CHECK_CODE(evl_set_policy(i % 3 ? policy : NULL), 0);
        evl_policy_unref(policy);
    }
    return arg;
}

TEST(policies_are_exchanged_by_many_threads) {
    pthread_t threads[4];
    int i;
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, get_and_set_policy, NULL) == 0);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_CODE(evl_set_policy(NULL), 0);
}

TEST_MAIN()
