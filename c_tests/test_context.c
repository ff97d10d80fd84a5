/* Context variables, contexts and tokens, as Python's contextvars has them. */
#include "harness.h"

static int freed[16];

static void count_freed(void *value) {
    freed[(intptr_t)value]++;
}

static void *number(intptr_t n) {
    return (void *)n;
}

static evl_context_var *new_var(const char *name) {
    evl_context_var *var = NULL;
    CHECK_CODE(evl_context_var_new(name, NULL, NULL, &var), 0);
    return var;
}

static intptr_t get(evl_context_var *var) {
    void *value = number(-1);
    int code = evl_context_var_get(var, &value);
    if (code == EVL_ENOVALUE) {
        CHECK(value == number(-1));
        return 0;
    }
    CHECK_CODE(code, 0);
    return (intptr_t)value;
}

static intptr_t get_in(evl_context *context, evl_context_var *var) {
    void *value = number(-1);
    int code = evl_context_get(context, var, &value);
    if (code == EVL_ENOVALUE)
        return 0;
    CHECK_CODE(code, 0);
    return (intptr_t)value;
}

static void set(evl_context_var *var, intptr_t n) {
    CHECK_CODE(evl_context_var_set(var, number(n), count_freed, NULL), 0);
}

/* Every test runs in a context of its own, so that the thread's stays empty. */
static void in_context(evl_callback body, void *arg) {
    evl_context *context = NULL;
    memset(freed, 0, sizeof freed);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_context_run(context, body, arg), 0);
    evl_context_unref(context);
}

TEST(variable_has_a_name_and_a_default) {
    evl_context_var *var = NULL, *plain = new_var("plain"), *unnamed = new_var(NULL);
    char text[32] = "xxxx";
    void *value = NULL;
    memset(freed, 0, sizeof freed);
    CHECK_CODE(evl_context_var_new("request", number(5), count_freed, &var), 0);
    CHECK_INT(evl_context_var_name(var, text, sizeof text), 7);
    CHECK_STRING(text, "request");
    CHECK_INT(evl_context_var_name(var, text, 4), 7);
    CHECK_STRING(text, "req");
    CHECK_INT(evl_context_var_name(var, NULL, 0), 7);
    CHECK_CODE(evl_context_var_name(var, NULL, 1), -EINVAL);
    CHECK_INT(evl_context_var_name(unnamed, text, sizeof text), 0);
    CHECK_STRING(text, "");
    CHECK_INT(get(var), 5);
    CHECK_INT(get(plain), 0);
    value = &text;
    CHECK_CODE(evl_context_var_get(plain, &value), EVL_ENOVALUE);
    CHECK(value == &text);
    CHECK(evl_context_var_ref(var) == var);
    CHECK(evl_context_var_ref(NULL) == NULL);
    evl_context_var_unref(var);
    CHECK_INT(freed[5], 0);
    evl_context_var_unref(var);
    CHECK_INT(freed[5], 1);
    evl_context_var_unref(plain);
    evl_context_var_unref(unnamed);
    evl_context_var_unref(NULL);
}

static void set_and_reset(void *arg) {
    evl_context_var *var = (evl_context_var *)arg;
    evl_context_token *first = NULL, *second = NULL;
    void *old = NULL;
    CHECK_INT(get(var), 0);
    CHECK_CODE(evl_context_var_set(var, number(1), count_freed, &first), 0);
    CHECK_INT(get(var), 1);
    CHECK_CODE(evl_context_token_old_value(first, &old), EVL_ENOVALUE);
    CHECK(evl_context_token_get_var(first) == var);
    CHECK_CODE(evl_context_var_set(var, number(2), count_freed, &second), 0);
    CHECK_INT(get(var), 2);
    CHECK_CODE(evl_context_token_old_value(second, &old), 0);
    CHECK(old == number(1));
    CHECK_INT(freed[1], 0); /* the token has it */
    CHECK_CODE(evl_context_var_reset(var, second), 0);
    CHECK_INT(get(var), 1);
    CHECK_INT(freed[2], 1);
    CHECK_CODE(evl_context_var_reset(var, second), EVL_ETOKEN);
    CHECK_INT(get(var), 1);
    CHECK_CODE(evl_context_var_reset(var, first), 0);
    CHECK_INT(get(var), 0);
    CHECK_CODE(evl_context_var_reset(var, first), EVL_ETOKEN);
    CHECK(evl_context_token_ref(first) == first);
    CHECK(evl_context_token_ref(NULL) == NULL);
    evl_context_token_unref(first);
    evl_context_token_unref(first);
    CHECK_INT(freed[1], 0); /* old value of second */
    evl_context_token_unref(second);
    CHECK_INT(freed[1], 1);
    evl_context_token_unref(NULL);
}

TEST(set_get_reset) {
    evl_context_var *var = new_var("v");
    in_context(set_and_reset, var);
    CHECK_INT(get(var), 0);
    CHECK_INT(freed[1], 1);
    CHECK_INT(freed[2], 1);
    evl_context_var_unref(var);
}

struct reset_elsewhere {
    evl_context_var *var, *other;
    evl_context_token *token;
};

static void reset_here(void *arg) {
    struct reset_elsewhere *r = (struct reset_elsewhere *)arg;
    CHECK_CODE(evl_context_var_reset(r->var, r->token), EVL_ETOKEN);
}

static void reset_wrongly(void *arg) {
    struct reset_elsewhere *r = (struct reset_elsewhere *)arg;
    evl_context *copy = NULL;
    CHECK_CODE(evl_context_var_set(r->var, number(3), count_freed, &r->token), 0);
    CHECK_CODE(evl_context_var_reset(r->other, r->token), EVL_ETOKEN);
    CHECK_CODE(evl_context_copy_current(&copy), 0);
    CHECK_CODE(evl_context_run(copy, reset_here, r), 0); /* a copy is another context */
    evl_context_unref(copy);
    CHECK_INT(get(r->var), 3);
    CHECK_CODE(evl_context_var_reset(r->var, r->token), 0);
    CHECK_INT(get(r->var), 0);
    evl_context_token_unref(r->token);
}

TEST(reset_needs_the_variable_and_the_context_of_the_token) {
    struct reset_elsewhere r;
    r.var = new_var("v");
    r.other = new_var("w");
    in_context(reset_wrongly, &r);
    CHECK_INT(freed[3], 1);
    evl_context_var_unref(r.var);
    evl_context_var_unref(r.other);
}

static void values_end(void *arg) {
    evl_context_var *var = (evl_context_var *)arg;
    evl_context *copy = NULL;
    set(var, 1);
    set(var, 2);
    CHECK_INT(freed[1], 1);
    CHECK_CODE(evl_context_copy_current(&copy), 0);
    set(var, 3);
    CHECK_INT(freed[2], 0); /* the copy has it */
    CHECK_INT(get_in(copy, var), 2);
    CHECK_INT(get(var), 3);
    evl_context_unref(copy);
    CHECK_INT(freed[2], 1);
    CHECK_INT(freed[3], 0);
}

TEST(values_are_released_when_no_context_has_them) {
    evl_context_var *var = new_var("v");
    in_context(values_end, var);
    CHECK_INT(freed[1], 1);
    CHECK_INT(freed[2], 1);
    CHECK_INT(freed[3], 1);
    evl_context_var_unref(var);
}

static void set_seven(void *arg) {
    set((evl_context_var *)arg, 7);
}

static void isolated(void *arg) {
    evl_context_var *var = (evl_context_var *)arg;
    evl_context *copy = NULL, *empty = NULL, *third = NULL;
    size_t size = 99;
    set(var, 4);
    CHECK_CODE(evl_context_copy_current(&copy), 0);
    CHECK_CODE(evl_context_new(&empty), 0);
    CHECK_CODE(evl_context_run(copy, set_seven, var), 0);
    CHECK_INT(get(var), 4);
    CHECK_INT(get_in(copy, var), 7);
    CHECK_INT(get_in(empty, var), 0);
    CHECK_CODE(evl_context_copy(copy, &third), 0);
    CHECK_CODE(evl_context_run(copy, set_seven, var), 0);
    set(var, 5);
    CHECK_INT(get_in(third, var), 7);
    CHECK_CODE(evl_context_size(copy, &size), 0);
    CHECK_INT(size, 1);
    CHECK_CODE(evl_context_size(empty, &size), 0);
    CHECK_INT(size, 0);
    CHECK(evl_context_ref(empty) == empty);
    CHECK(evl_context_ref(NULL) == NULL);
    evl_context_unref(empty);
    evl_context_unref(empty);
    evl_context_unref(copy);
    evl_context_unref(third);
    evl_context_unref(NULL);
}

TEST(contexts_do_not_see_each_others_values) {
    evl_context_var *var = new_var("v");
    in_context(isolated, var);
    CHECK_INT(freed[7], 2);
    evl_context_var_unref(var);
}

TEST(default_does_not_count_in_a_context) {
    evl_context_var *var = NULL;
    evl_context *context = NULL;
    void *value = NULL;
    memset(freed, 0, sizeof freed);
    CHECK_CODE(evl_context_var_new("d", number(6), count_freed, &var), 0);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_context_get(context, var, &value), EVL_ENOVALUE);
    CHECK_CODE(evl_context_run(context, set_seven, var), 0);
    CHECK_INT(get_in(context, var), 7);
    CHECK_INT(get(var), 6);
    evl_context_var_unref(var); /* the context keeps the value, and what it needs of the variable */
    CHECK_INT(freed[7], 0);
    evl_context_unref(context);
    CHECK_INT(freed[7], 1);
    CHECK_INT(freed[6], 1);
}

static void enter_again(void *arg) {
    evl_context *context = (evl_context *)arg;
    CHECK_CODE(evl_context_run(context, nothing, NULL), EVL_EENTERED);
    CHECK_CODE(evl_context_enter(context), EVL_EENTERED);
}

TEST(a_context_is_entered_once_at_a_time) {
    evl_context *context = NULL, *other = NULL;
    evl_context_var *var = new_var("v");
    memset(freed, 0, sizeof freed);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_context_new(&other), 0);
    CHECK_CODE(evl_context_run(context, enter_again, context), 0);
    CHECK_CODE(evl_context_exit(context), EVL_ENOTENTERED);
    CHECK_CODE(evl_context_enter(context), 0);
    set(var, 1);
    CHECK_CODE(evl_context_enter(other), 0);
    CHECK_INT(get(var), 0);
    set(var, 2);
    CHECK_CODE(evl_context_exit(context), EVL_ENOTENTERED); /* not the last one */
    enter_again(context);
    CHECK_CODE(evl_context_exit(other), 0);
    CHECK_INT(get(var), 1);
    CHECK_CODE(evl_context_exit(other), EVL_ENOTENTERED);
    CHECK_CODE(evl_context_exit(context), 0);
    CHECK_INT(get(var), 0);
    CHECK_INT(get_in(context, var), 1);
    CHECK_INT(get_in(other, var), 2);
    CHECK_CODE(evl_context_run(context, nothing, NULL), 0); /* again */
    evl_context_unref(context);
    evl_context_unref(other);
    evl_context_var_unref(var);
    CHECK_INT(freed[1], 1);
    CHECK_INT(freed[2], 1);
}

TEST(entering_holds_a_reference) {
    evl_context *context = NULL;
    evl_context_var *var = new_var("v");
    memset(freed, 0, sizeof freed);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_context_enter(context), 0);
    set(var, 1);
    evl_context_unref(context);
    CHECK_INT(get(var), 1);
    CHECK_CODE(evl_context_exit(context), 0);
    CHECK_INT(freed[1], 1);
    evl_context_var_unref(var);
}

struct threaded {
    evl_context *context;
    evl_context_var *var;
};

static void *other_thread(void *arg) {
    struct threaded *t = (struct threaded *)arg;
    CHECK_INT(get(t->var), 0);                               /* a thread starts with an empty context */
    CHECK_CODE(evl_context_enter(t->context), EVL_EENTERED); /* entered by the main thread */
    CHECK_CODE(evl_context_exit(t->context), EVL_ENOTENTERED);
    set(t->var, 9);
    CHECK_INT(get(t->var), 9);
    return NULL;
}

TEST(threads_have_contexts_of_their_own) {
    struct threaded t;
    memset(freed, 0, sizeof freed);
    t.var = new_var("v");
    CHECK_CODE(evl_context_new(&t.context), 0);
    CHECK_CODE(evl_context_enter(t.context), 0);
    set(t.var, 1);
    in_thread(other_thread, &t);
    CHECK_INT(freed[9], 1); /* with the thread */
    CHECK_INT(get(t.var), 1);
    CHECK_CODE(evl_context_exit(t.context), 0);
    evl_context_unref(t.context);
    evl_context_var_unref(t.var);
}

static void many_values(void *arg) {
    enum { COUNT = 2000 };
    evl_context_var **vars = (evl_context_var **)arg;
    evl_context *copy = NULL;
    size_t size = 0;
    int i, wrong = 0;
    for (i = 0; i < COUNT; i++)
        CHECK_CODE(evl_context_var_set(vars[i], number(i + 1), NULL, NULL), 0);
    CHECK_CODE(evl_context_copy_current(&copy), 0);
    for (i = 0; i < COUNT; i += 2)
        CHECK_CODE(evl_context_var_set(vars[i], number(i + 100001), NULL, NULL), 0);
    for (i = 0; i < COUNT; i++) {
        wrong += get(vars[i]) != (i % 2 ? i + 1 : i + 100001);
        wrong += get_in(copy, vars[i]) != i + 1;
    }
    CHECK_INT(wrong, 0);
    CHECK_CODE(evl_context_size(copy, &size), 0);
    CHECK_INT(size, COUNT);
    evl_context_unref(copy);
}

TEST(two_thousand_variables) {
    static evl_context_var *vars[2000];
    int i;
    for (i = 0; i < 2000; i++)
        vars[i] = new_var(NULL);
    in_context(many_values, vars);
    for (i = 0; i < 2000; i++)
        evl_context_var_unref(vars[i]);
}

TEST(failing_set_releases_the_value) {
    memset(freed, 0, sizeof freed);
    CHECK_CODE(evl_context_var_set(NULL, number(1), count_freed, NULL), -EINVAL);
    CHECK_INT(freed[1], 1);
    CHECK_CODE(evl_context_var_new("x", number(2), count_freed, NULL), -EINVAL);
    CHECK_INT(freed[2], 1);
}

TEST_MAIN()
