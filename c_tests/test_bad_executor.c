/* NULL and worse, for every function of executors, look-ups and addresses. */
#include "jobs.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

static struct probe p;
static void *const untouched = &p;

/* A failing call that takes an arg releases it exactly once. */
#define BAD_ARG(call, code)                                                                                           \
    do {                                                                                                              \
        p.frees = 0;                                                                                                  \
        CHECK_CODE(call, code);                                                                                       \
        CHECK_PROBE(p, 0, 1);                                                                                         \
    } while (0)

static int take(void *arg, evl_job *job) {
    (void)arg;
    evl_job_discard(job);
    return 0;
}

TEST(executors) {
    evl_executor *executor = (evl_executor *)untouched;
    evl_pool_options options;
    evl_executor_vtable table;
    CHECK_CODE(evl_pool_options_init(NULL, sizeof options), -EINVAL);
    CHECK_CODE(evl_pool_options_init(&options, 3), EVL_EOPTIONS);
    CHECK_CODE(evl_pool_options_init(&options, 4096), EVL_EOPTIONS);
    CHECK_CODE(evl_executor_new_pool(NULL, NULL), -EINVAL);
    memset(&options, 0, sizeof options);
    CHECK_CODE(evl_executor_new_pool(&options, &executor), EVL_EOPTIONS);
    CHECK(executor == untouched);
    memset(&table, 0, sizeof table);
    table.size = sizeof table;
    BAD_ARG(evl_executor_new(NULL, &p, probe_free, &executor), -EINVAL);
    BAD_ARG(evl_executor_new(&table, &p, probe_free, NULL), -EINVAL);
    BAD_ARG(evl_executor_new(&table, &p, probe_free, &executor), -EINVAL);
    table.submit = take;
    table.reserved = 1;
    BAD_ARG(evl_executor_new(&table, &p, probe_free, &executor), EVL_EOPTIONS);
    table.reserved = 0;
    table.size = 2;
    BAD_ARG(evl_executor_new(&table, &p, probe_free, &executor), EVL_EOPTIONS);
    CHECK(executor == untouched);
    CHECK(evl_executor_ref(NULL) == NULL);
    evl_executor_unref(NULL);
    BAD_ARG(evl_executor_set_data(NULL, &p, probe_free), -EINVAL);
    CHECK(evl_executor_get_data(NULL) == NULL);
    CHECK_CODE(evl_executor_shutdown(NULL, 0), -EINVAL);
    executor = new_pool(0);
    CHECK_CODE(evl_executor_shutdown(executor, 4), EVL_EOPTIONS);
    CHECK_CODE(evl_executor_shutdown(executor, ~0u), EVL_EOPTIONS);
    evl_executor_unref(executor);
    CHECK_CODE(evl_job_run(NULL), -EINVAL);
    evl_job_discard(NULL);
}

static void *use_from_another_thread(void *loop) {
    evl_future *future = (evl_future *)untouched;
    BAD_ARG(evl_loop_run_in_executor(loop, NULL, return_arg, &p, probe_free, NULL, &future), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, 0, &future), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_loop_getaddrinfo(loop, "::1", NULL, NULL, &future), EVL_EWRONGTHREAD);
    CHECK(future == untouched);
    return NULL;
}

static void call_from_a_callback(void *loop) {
    in_thread(use_from_another_thread, loop);
}

TEST(jobs) {
    evl_loop *loop = real_loop();
    evl_future *future = (evl_future *)untouched;
    evl_executor *pool = new_pool(1);
    BAD_ARG(evl_loop_run_in_executor(NULL, NULL, return_arg, &p, probe_free, NULL, &future), -EINVAL);
    BAD_ARG(evl_loop_run_in_executor(loop, NULL, NULL, &p, probe_free, NULL, &future), -EINVAL);
    CHECK_CODE(evl_loop_set_default_executor(NULL, pool), -EINVAL);
    CHECK_CODE(evl_loop_set_default_executor(loop, NULL), -EINVAL);
    CHECK_CODE(evl_loop_shutdown_default_executor(NULL, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, -1, &future), -EINVAL);
    CHECK(future == untouched);
    /* A refused time limit has shut nothing down. */
    CHECK_CODE(evl_loop_set_default_executor(loop, pool), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, return_arg, NULL, NULL, NULL, &future), 0);
    /* A job's future settles itself, and its result is no number. */
    {
        int64_t number;
        const void *bytes;
        CHECK_CODE(evl_future_set_result(future, NULL, NULL), -EINVAL);
        CHECK_CODE(evl_future_set_result_threadsafe(future, NULL, NULL), -EINVAL);
        run_until(loop, future);
        CHECK_CODE(evl_future_result_int(future, &number), -EINVAL);
        CHECK_CODE(evl_future_result_bytes(future, &bytes, NULL), -EINVAL);
        CHECK_CODE(evl_future_result_names(future, NULL, NULL), -EINVAL);
    }
    evl_future_unref(future);
    CHECK_CODE(evl_loop_call_soon(loop, call_from_a_callback, loop, NULL, NULL, NULL), 0);
    CHECK_INT(evl_loop_run_until_idle(loop), 1);
    future = (evl_future *)untouched;
    CHECK_CODE(evl_loop_close(loop), 0);
    BAD_ARG(evl_loop_run_in_executor(loop, pool, return_arg, &p, probe_free, NULL, &future), EVL_ECLOSED);
    CHECK_CODE(evl_loop_set_default_executor(loop, pool), EVL_ECLOSED);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, 0, &future), EVL_ECLOSED);
    CHECK_CODE(evl_loop_getaddrinfo(loop, "::1", NULL, NULL, &future), EVL_ECLOSED);
    CHECK(future == untouched);
    evl_loop_unref(loop);
    end_pool(pool);
}

TEST(look_ups) {
    evl_loop *loop = real_loop();
    evl_future *future = (evl_future *)untouched;
    evl_address_hints hints;
    evl_address_info info;
    struct sockaddr_in address;
    void *list = NULL;
    const char *host = (const char *)untouched;
    memset(&hints, 0, sizeof hints);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    CHECK_CODE(evl_loop_getaddrinfo(NULL, "::1", NULL, NULL, &future), -EINVAL);
    CHECK_CODE(evl_loop_getaddrinfo(loop, "::1", NULL, &hints, &future), EVL_EOPTIONS);
    CHECK_CODE(evl_loop_getnameinfo(NULL, &address, sizeof address, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_getnameinfo(loop, NULL, sizeof address, 0, &future), -EINVAL);
    CHECK(future == untouched);
    CHECK_CODE(evl_addresses_count(NULL), -EINVAL);
    memset(&info, 0, sizeof info);
    CHECK_CODE(evl_addresses_get(NULL, 0, &info), -EINVAL);
    CHECK_CODE(evl_loop_getaddrinfo(loop, "::1", NULL, NULL, &future), 0);
    CHECK_CODE(evl_future_result(future, &list), 0);
    CHECK_CODE(evl_addresses_get((evl_addresses *)list, 0, NULL), -EINVAL);
    CHECK_CODE(evl_addresses_get((evl_addresses *)list, 0, &info), EVL_EOPTIONS);
    CHECK_CODE(evl_addresses_get((evl_addresses *)list, SIZE_MAX, &info), -ENOENT);
    CHECK_CODE(evl_future_result_names(future, &host, NULL), -EINVAL);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), EVL_EINVALIDSTATE);
    evl_future_unref(future);
    CHECK_CODE(evl_future_result_names(NULL, &host, NULL), -EINVAL);
    CHECK_CODE(evl_loop_getnameinfo(loop, &address, 0, NI_NUMERICHOST | NI_NUMERICSERV, &future), 0);
    CHECK(evl_future_result_names(future, &host, NULL) < 0);
    evl_future_unref(future);
    CHECK(host == untouched);
    end_loop(loop);
}

TEST(text) {
    struct sockaddr_in6 address;
    char text[4] = "abc";
    int port = -7;
    CHECK_CODE(evl_address_parse(NULL, 1, &address, sizeof address), -EINVAL);
    CHECK_CODE(evl_address_parse("::1", 1, NULL, sizeof address), -EINVAL);
    CHECK_CODE(evl_address_parse("::1", 1, &address, 0), -ENOSPC);
    CHECK_CODE(evl_address_format(NULL, 16, text, sizeof text, &port), -EINVAL);
    CHECK(evl_address_parse("127.0.0.1", 9, &address, sizeof address) == sizeof(struct sockaddr_in));
    CHECK_CODE(evl_address_format(&address, sizeof(struct sockaddr_in), NULL, 4, &port), -EINVAL);
    CHECK_INT(port, -7);
    CHECK_INT(evl_address_format(&address, sizeof(struct sockaddr_in), text, sizeof text, &port), 9);
    CHECK_STRING(text, "127");
    CHECK_INT(port, 9);
}

TEST_MAIN()
