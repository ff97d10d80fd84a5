/* Misuse of datagram endpoints: NULL, tables of a wrong size, wrong descriptors, closed loops, other threads' loops. */
#include "harness.h"
#include "sockets.h"
#include "datagrams.h"

static evl_future *const untouched = (evl_future *)(void *)&harness_failures;

/* Every function that needs the loop, and whether it takes an arg over. */
#define CALLS(X)                                                                                                      \
    X(0, evl_datagram_sendto(d, "x", 1, &to, sizeof to))                                                              \
    X(0, evl_datagram_send_batch(d, &message, 1))                                                                     \
    X(0, evl_datagram_close(d))                                                                                       \
    X(0, evl_datagram_abort(d))                                                                                       \
    X(0, evl_datagram_set_write_buffer_limits(d, 2, 1))                                                               \
    X(0, evl_datagram_get_write_buffer_limits(d, &size, &size))                                                       \
    X(0, evl_datagram_get_write_buffer_size(d, &size))                                                                \
    X(0, evl_datagram_repr(d, text, sizeof text))                                                                     \
    X(1, evl_datagram_set_protocol(d, &table, &arg, probe_free))                                                      \
    X(1, evl_datagram_set_data(d, &arg, probe_free))

static void expect_of_all(evl_datagram *d, int code) {
    struct sockaddr_in to = loopback();
    evl_datagram_message message = {"x", 1, &to, sizeof to, 0};
    evl_datagram_protocol table = one_by_one();
    size_t size = 4711;
    char text[10] = "";
#define X(takes, call)                                                                                                \
    do {                                                                                                              \
        struct probe arg = probe_named(NULL, NULL);                                                                   \
        CHECK_CODE(call, code);                                                                                       \
        CHECK_INT(arg.frees, takes);                                                                                  \
    } while (0);
    CALLS(X)
#undef X
    CHECK_INT(size, 4711);
    CHECK_STRING(text, "");
}

TEST(null_endpoints) {
    char buffer[4] = "abc";
    expect_of_all(NULL, -EINVAL);
    CHECK(evl_datagram_ref(NULL) == NULL);
    evl_datagram_unref(NULL);
    CHECK(evl_datagram_get_loop(NULL) == NULL && evl_datagram_get_data(NULL) == NULL);
    CHECK_INT(evl_datagram_is_closing(NULL), 0);
    CHECK_CODE(evl_datagram_get_fd(NULL), -EINVAL);
    CHECK_CODE(evl_datagram_get_sockname(NULL, buffer, 4), -EINVAL);
    CHECK_CODE(evl_datagram_get_peername(NULL, buffer, 4), -EINVAL);
    CHECK_STRING(buffer, "abc");
}

TEST(null_buffers_and_addresses) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d = bound_endpoint(loop, one_by_one(), &told);
    struct sockaddr_in to = name_of(d);
    char many[1000] = {0};
    evl_datagram_message messages[2] = {{"x", 1, &to, sizeof to, 0}, {NULL, 1, &to, sizeof to, 0}};
    CHECK_CODE(evl_datagram_sendto(d, NULL, 1, &to, sizeof to), -EINVAL);
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, NULL, sizeof to), -EINVAL);
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, &to, 0), -EINVAL);
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, &to, 1), -EINVAL);
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, many, sizeof many), -EINVAL);
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, many, UINT32_MAX), -EINVAL);
    CHECK_CODE(evl_datagram_send_batch(d, NULL, 1), -EINVAL);
    /* One that is wrong: none is sent. */
    CHECK_CODE(evl_datagram_send_batch(d, messages, 2), -EINVAL);
    settle(loop);
    CHECK(told.received == 0 && told.errors == 0);
    /* An address of another family is the kernel's to refuse. */
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, many, 16), 0);
    CHECK_CODE(evl_datagram_set_write_buffer_limits(d, 1, 2), -EINVAL);
    CHECK_CODE(evl_datagram_get_write_buffer_limits(d, NULL, NULL), 0);
    CHECK_CODE(evl_datagram_get_write_buffer_size(d, NULL), -EINVAL);
    CHECK_CODE(evl_datagram_repr(d, NULL, 1), -EINVAL);
    CHECK_CODE(evl_datagram_get_sockname(d, NULL, 1), -EINVAL);
    CHECK_INT(evl_datagram_get_sockname(d, NULL, 0), sizeof to);
    CHECK_INT(evl_datagram_get_sockname(d, many, 2), sizeof to);
    end_endpoint(loop, d, &told);
    end_loop(loop);
}

TEST(other_tables) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing(), other = told_nothing();
    evl_datagram *d = bound_endpoint(loop, one_by_one(), &told);
    evl_datagram_protocol p = one_by_one();
    CHECK_CODE(evl_datagram_set_protocol(d, NULL, &other, told_free), -EINVAL);
    p.reserved = 1;
    CHECK_CODE(evl_datagram_set_protocol(d, &p, &other, told_free), EVL_EOPTIONS);
    p = one_by_one();
    p.size = 2;
    CHECK_CODE(evl_datagram_set_protocol(d, &p, &other, told_free), EVL_EOPTIONS);
    CHECK_INT(other.frees, 3);
    /* One that takes nothing. */
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    CHECK_CODE(evl_datagram_set_protocol(d, &p, NULL, NULL), 0);
    CHECK_INT(told.frees, 1);
    CHECK_CODE(evl_datagram_close(d), 0);
    settle(loop);
    CHECK_CODE(evl_datagram_get_fd(d), -EBADF);
    evl_datagram_unref(d);
    end_loop(loop);
}

TEST(options_and_tables) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_future *future = untouched;
    evl_datagram_protocol p = one_by_one(), wrong = p;
    evl_datagram_options options = any_options(), other;
    CHECK_CODE(evl_datagram_options_init(NULL, sizeof options), -EINVAL);
    CHECK_CODE(evl_datagram_options_init(&options, 3), EVL_EOPTIONS);
    CHECK_CODE(evl_datagram_options_init(&options, sizeof options + 1), EVL_EOPTIONS);
    options.local_host = "127.0.0.1";
#define FAILS(l, o, t, code)                                                                                          \
    CHECK_CODE(evl_loop_create_datagram_endpoint(l, o, t, &told, told_free, &future), code)
    FAILS(NULL, &options, &p, -EINVAL);
    FAILS(loop, NULL, &p, -EINVAL);
    FAILS(loop, &options, NULL, -EINVAL);
    wrong.size = 2;
    FAILS(loop, &options, &wrong, EVL_EOPTIONS);
    wrong = p;
    wrong.reserved = 1;
    FAILS(loop, &options, &wrong, EVL_EOPTIONS);
    other = options;
    other.flags = 4;
    FAILS(loop, &other, &p, EVL_EOPTIONS);
    other = options;
    other.reserved = 4;
    FAILS(loop, &other, &p, EVL_EOPTIONS);
    other = any_options();
    FAILS(loop, &other, &p, -EINVAL); /* nothing is known of it */
    CHECK_INT(told.frees, 8);
    CHECK(future == untouched);
    /* A protocol without functions, and nobody who waits. */
    memset(&wrong, 0, sizeof wrong);
    wrong.size = sizeof wrong;
    CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &options, &wrong, &told, told_free, NULL), 0);
    settle(loop);
    other = any_options();
    other.family = AF_INET;
    CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &other, &wrong, &told, told_free, NULL), 0);
    other.family = 12345;
    CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &other, &wrong, &told, told_free, &future), 0);
    finish(loop, future);
    CHECK_CODE(end_code(future), -EAFNOSUPPORT);
    end_loop(loop);
    CHECK_INT(told.frees, 11);
}

TEST(wrong_descriptors) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_future *future = untouched;
    evl_datagram_protocol p = one_by_one();
    struct sockaddr_in address;
    char name[200] = "";
    int file = random_file(1, 1, NULL), stream = tcp_socket(), fd = bound(SOCK_DGRAM, &address);
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(NULL, fd, &p, &told, told_free, &future), -EINVAL);
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, fd, NULL, &told, told_free, &future), -EINVAL);
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, -1, &p, &told, told_free, &future), -EBADF);
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, 12345, &p, &told, told_free, &future), -EBADF);
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, file, &p, &told, told_free, &future), -ENOTSOCK);
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, stream, &p, &told, told_free, &future), -EINVAL);
    CHECK_CODE(evl_loop_add_reader(loop, fd, nothing, NULL, NULL, 0, NULL), 0);
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, fd, &p, &told, told_free, &future), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_reader(loop, fd), 1);
    CHECK(is_open(fd) && is_open(file) && is_open(stream));
    CHECK_CODE(evl_loop_create_unix_datagram_endpoint(NULL, "x", 1, NULL, 0, &p, &told, told_free, &future), -EINVAL);
    CHECK_CODE(evl_loop_create_unix_datagram_endpoint(loop, NULL, 1, NULL, 0, &p, &told, told_free, &future), -EINVAL);
    CHECK_CODE(evl_loop_create_unix_datagram_endpoint(loop, name, 200, NULL, 0, &p, &told, told_free, &future),
               -ENAMETOOLONG);
    CHECK_CODE(evl_loop_create_unix_datagram_endpoint(loop, NULL, 0, NULL, 0, NULL, &told, told_free, &future), -EINVAL);
    CHECK(future == untouched);
    CHECK_INT(told.frees, 11);
    /* Adopted, it is nobody else's. */
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, fd, &p, &told, told_free, NULL), 0);
    CHECK_CODE(evl_loop_add_reader(loop, fd, nothing, NULL, NULL, 0, NULL), EVL_EBUSY);
    told.frees = 0;
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, fd, &p, &told, told_free, NULL), EVL_EBUSY);
    CHECK(is_open(fd));
    end_loop(loop);
    CHECK(!is_open(fd));
    close(file);
    close(stream);
}

static void *from_another_thread(void *arg) {
    expect_of_all((evl_datagram *)arg, EVL_EWRONGTHREAD);
    return NULL;
}

static void ask_another_thread(struct told *told) {
    in_thread(from_another_thread, told->datagram);
    evl_datagram_close(told->datagram);
}

TEST(other_threads_and_closed_loops) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d;
    told.on_made = ask_another_thread;
    d = bound_endpoint(loop, one_by_one(), &told);
    until(loop, &told.lost, 1);
    CHECK_CODE(evl_loop_close(loop), 0);
    expect_of_all(d, EVL_ECLOSED);
    CHECK(evl_datagram_get_loop(d) == loop);
    evl_datagram_unref(d);
    evl_loop_unref(loop);
}

TEST_MAIN()
