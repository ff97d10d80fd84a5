/* getaddrinfo and getnameinfo: the answers are the system's, whoever gives them. */
#include "jobs.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

static int evl_code_of(int answer) {
    switch (answer) {
    case 0: return 0;
    case EAI_SYSTEM: return -errno;
    case EAI_ADDRFAMILY: return EVL_EAI_ADDRFAMILY;
    case EAI_AGAIN: return EVL_EAI_AGAIN;
    case EAI_BADFLAGS: return EVL_EAI_BADFLAGS;
    case EAI_FAMILY: return EVL_EAI_FAMILY;
    case EAI_MEMORY: return EVL_EAI_MEMORY;
    case EAI_NODATA: return EVL_EAI_NODATA;
    case EAI_NONAME: return EVL_EAI_NONAME;
    case EAI_OVERFLOW: return EVL_EAI_OVERFLOW;
    case EAI_SERVICE: return EVL_EAI_SERVICE;
    case EAI_SOCKTYPE: return EVL_EAI_SOCKTYPE;
    default: return EVL_EAI_FAIL;
    }
}

static evl_future *look_up(evl_loop *loop, const char *host, const char *service, int family, int type, int protocol,
                           int flags) {
    evl_address_hints hints;
    evl_future *future = NULL;
    memset(&hints, 0, sizeof hints);
    hints.size = sizeof hints;
    hints.family = family;
    hints.type = type;
    hints.protocol = protocol;
    hints.flags = flags;
    CHECK_CODE(evl_loop_getaddrinfo(loop, host, service, &hints, &future), 0);
    return future;
}

static evl_address_info address_at(evl_future *future, size_t index) {
    evl_address_info info;
    void *list = NULL;
    memset(&info, 0, sizeof info);
    info.size = sizeof info;
    CHECK_CODE(evl_future_result(future, &list), 0);
    CHECK_CODE(evl_addresses_get((evl_addresses *)list, index, &info), 0);
    return info;
}

static int compared, at_once;

/* Asks evl and the system. */
static void compare(evl_loop *loop, const char *host, const char *service, int family, int type, int protocol,
                    int flags) {
    struct addrinfo hints, *found = NULL, *at;
    evl_future *future = look_up(loop, host, service, family, type, protocol, flags);
    int expected, got, count = 0;
    char what[200];
    compared++;
    if (evl_future_done(future))
        at_once++;
    else
        run_until(loop, future);
    memset(&hints, 0, sizeof hints);
    hints.ai_family = family;
    hints.ai_socktype = type;
    hints.ai_protocol = protocol;
    hints.ai_flags = flags;
    expected = evl_code_of(getaddrinfo(host, service, &hints, &found));
    got = evl_future_result(future, NULL);
    if (got != expected) {
        snprintf(what, sizeof what, "%s %s family %d type %d protocol %d flags %d: got %d, expected %d",
                 host ? host : "(NULL)", service ? service : "(NULL)", family, type, protocol, flags, got, expected);
        harness_fail(__FILE__, __LINE__, what, "");
    }
    if (got == 0 && expected == 0) {
        void *list = NULL;
        CHECK_CODE(evl_future_result(future, &list), 0);
        for (at = found; at != NULL; at = at->ai_next, count++) {
            evl_address_info info = address_at(future, count);
            int same = info.family == at->ai_family && info.type == at->ai_socktype &&
                       info.protocol == at->ai_protocol && info.address_size == at->ai_addrlen &&
                       memcmp(info.address, at->ai_addr, at->ai_addrlen) == 0;
            if (!same) {
                snprintf(what, sizeof what, "%s %s family %d type %d protocol %d flags %d: address %d differs",
                         host ? host : "(NULL)", service ? service : "(NULL)", family, type, protocol, flags, count);
                harness_fail(__FILE__, __LINE__, what, "");
            }
            if (at->ai_canonname == NULL)
                CHECK(info.canonical_name == NULL);
            else
                CHECK_STRING(info.canonical_name, at->ai_canonname);
        }
        CHECK_INT(evl_addresses_count((evl_addresses *)list), count);
    }
    if (found != NULL)
        freeaddrinfo(found);
    evl_future_unref(future);
}

/* Whether the system takes it for a number, or it is none at all. */
static int is_number(const char *host) {
    struct addrinfo hints, *found = NULL;
    int answer;
    memset(&hints, 0, sizeof hints);
    hints.ai_flags = AI_NUMERICHOST;
    answer = host == NULL ? 0 : getaddrinfo(host, NULL, &hints, &found);
    if (found != NULL)
        freeaddrinfo(found);
    return answer == 0;
}

TEST(as_the_system) {
    static const char *const hosts[] = {
        "127.0.0.1", "0.0.0.0", "255.255.255.255", "10.1.2.3", "127.1", "1", "0x7f.0.0.1", "010.0.0.1", "1.2.3.4.5",
        "1.2.3.256", "1.2.3", " 1.2.3.4", "1.2.3.4 ", "::", "::1", "2001:db8::1", "2001:DB8:0:0:0:0:0:1",
        "::ffff:1.2.3.4", "::1.2.3.4", "fe80::1", "fe80::1%lo", "fe80::1%1", "fe80::1%nosuch", "fe80::1%", "fe80::1%99",
        "ff02::1%lo", "2001:db8::1%1", "2001:db8::1%lo", "::1%4294967296", "::1%-1", "::1%0", ":::", "::1::", "[::1]",
        "1:2:3:4:5:6:7:8:9", "12345::", "localhost", "", "a.b", NULL,
    };
    static const char *const services[] = {
        NULL, "80", "0", "65535", "00080", "65536", "70000", "-1", "+80", " 80", "80x", "", "http", "nosuchservice",
    };
    static const int kinds[][2] = {
        {0, 0}, {SOCK_STREAM, 0}, {SOCK_DGRAM, 0}, {SOCK_STREAM, IPPROTO_TCP}, {SOCK_DGRAM, IPPROTO_UDP},
        {SOCK_STREAM, IPPROTO_UDP}, {SOCK_RAW, 0}, {0, IPPROTO_TCP}, {99, 0},
    };
    static const int families[] = {AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX};
    static const int flags[] = {0, AI_PASSIVE, AI_NUMERICHOST | AI_NUMERICSERV, AI_CANONNAME, AI_V4MAPPED};
    evl_loop *loop = real_loop();
    size_t h, s, k, f, g;
    compared = at_once = 0;
    for (h = 0; h < sizeof hosts / sizeof *hosts; h++)
        for (s = 0; s < sizeof services / sizeof *services; s++)
            for (k = 0; k < sizeof kinds / sizeof *kinds; k++)
                for (f = 0; f < sizeof families / sizeof *families; f++)
                    for (g = 0; g < sizeof flags / sizeof *flags; g++) {
                        /* A name server is not asked. */
                        if (!is_number(hosts[h]) && !(flags[g] & AI_NUMERICHOST))
                            continue;
                        if (under_valgrind() && (h * 7 + s * 3 + k + f + g) % 61)
                            continue;
                        compare(loop, hosts[h], services[s], families[f], kinds[k][0], kinds[k][1], flags[g]);
                    }
    CHECK(at_once > compared / 50);
    end_loop(loop);
    await_threads(1);
}

/* Numbers need no thread, and the future is done. */
TEST(numeric_at_once) {
    static const int families[] = {AF_UNSPEC, AF_INET, AF_INET6};
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    evl_address_info info;
    const struct sockaddr_in *v4;
    void *list = NULL;
    int i;
    CHECK_CODE(evl_loop_getaddrinfo(loop, "127.0.0.1", "8080", NULL, &future), 0);
    CHECK(evl_future_done(future));
    CHECK_CODE(evl_future_result(future, &list), 0);
    CHECK_INT(evl_addresses_count((evl_addresses *)list), 3);
    info = address_at(future, 1);
    v4 = (const struct sockaddr_in *)info.address;
    CHECK(info.family == AF_INET && info.type == SOCK_DGRAM && info.protocol == IPPROTO_UDP);
    CHECK(v4->sin_port == htons(8080) && v4->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    CHECK_CODE(evl_addresses_get((evl_addresses *)list, 3, &info), -ENOENT);
    evl_future_unref(future);
    for (i = 0; i < 3; i++) {
        future = look_up(loop, "::1", NULL, families[i], SOCK_STREAM, 0, 0);
        CHECK(evl_future_done(future));
        CHECK_CODE(evl_future_result(future, NULL), families[i] == AF_INET ? EVL_EAI_ADDRFAMILY : 0);
        evl_future_unref(future);
    }
    CHECK_CODE(evl_loop_getaddrinfo(loop, "::1", "1", NULL, NULL), 0);
    CHECK_INT(thread_count(), 1);
    end_loop(loop);
}

TEST(localhost) {
    evl_loop *loop = real_loop();
    evl_future *future = look_up(loop, "localhost", "80", AF_INET, SOCK_STREAM, 0, AI_CANONNAME);
    evl_address_info info;
    CHECK(!evl_future_done(future));
    run_until(loop, future);
    info = address_at(future, 0);
    CHECK(((const struct sockaddr_in *)info.address)->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    CHECK(info.canonical_name != NULL);
    evl_future_unref(future);
    end_loop(loop);
    await_threads(1);
}

TEST(name_not_found) {
    evl_loop *loop = real_loop();
    evl_future *future = look_up(loop, "no such name", NULL, 0, 0, 0, 0);
    char text[100];
    int code;
    run_until(loop, future);
    code = evl_future_result(future, NULL);
    CHECK(code == EVL_EAI_NONAME || code == EVL_EAI_AGAIN);
    CHECK(evl_future_error_message(future, text, sizeof text) > 0);
    CHECK(strncmp(text, "no such name: ", 14) == 0);
    evl_future_unref(future);
    future = look_up(loop, "127.0.0.1", "nosuchservice", 0, SOCK_STREAM, 0, 0);
    run_until(loop, future);
    CHECK_CODE(evl_future_result(future, NULL), EVL_EAI_SERVICE);
    evl_future_unref(future);
    future = look_up(loop, NULL, NULL, 0, 0, 0, 0);
    run_until(loop, future);
    CHECK_CODE(evl_future_result(future, NULL), EVL_EAI_NONAME);
    evl_future_unref(future);
    CHECK_STRING(evl_errname(EVL_EAI_NONAME), "EVL_EAI_NONAME");
    CHECK_STRING(evl_strerror(EVL_EAI_NONAME), "the name or service is not known");
    end_loop(loop);
    await_threads(1);
}

/* --- cancelled: before it has begun, and while it runs. The resolver's threads are stood in for by an executor that runs a
 * look-up when it is told to. */

static evl_job *held[4];
static int held_count;

static int hold(void *arg, evl_job *job) {
    (void)arg;
    held[held_count++] = job;
    return 0;
}

static void hold_look_ups(evl_loop *loop) {
    evl_executor_vtable table;
    evl_executor *executor = NULL;
    memset(&table, 0, sizeof table);
    table.size = sizeof table;
    table.submit = hold;
    held_count = 0;
    CHECK_CODE(evl_executor_new(&table, NULL, NULL, &executor), 0);
    CHECK_CODE(evl_loop_set_default_executor(loop, executor), 0);
    evl_executor_unref(executor);
}

TEST(cancelled_before_it_begins) {
    evl_loop *loop = real_loop();
    evl_future *futures[4];
    int i;
    hold_look_ups(loop);
    for (i = 0; i < 4; i++)
        futures[i] = look_up(loop, "localhost", NULL, 0, 0, 0, 0);
    CHECK_INT(held_count, 4);
    CHECK_INT(evl_future_cancel(futures[0], NULL), 1);
    CHECK(evl_future_cancelled(futures[0]));
    CHECK_INT(evl_job_run(held[0]), 0);
    CHECK_CODE(evl_future_set_timeout(futures[1], 0), 0);
    run_until(loop, futures[1]);
    CHECK_CODE(evl_future_result(futures[1], NULL), -ETIMEDOUT);
    evl_job_discard(held[1]);
    /* The answer comes, and is on its way when the future is cancelled, or the loop closed. */
    CHECK_INT(evl_job_run(held[2]), 1);
    CHECK_INT(evl_future_cancel(futures[2], NULL), 1);
    CHECK(evl_future_cancelled(futures[2]));
    CHECK_CODE(evl_loop_run_once(loop, 0) < 0, 0);
    CHECK(evl_future_cancelled(futures[2]));
    CHECK_INT(evl_job_run(held[3]), 1);
    end_loop(loop);
    for (i = 0; i < 4; i++)
        evl_future_unref(futures[i]);
}

static void *run_held(void *job) {
    evl_job_run((evl_job *)job);
    return NULL;
}

TEST(cancelled_while_it_runs) {
    evl_loop *loop = real_loop();
    int round;
    hold_look_ups(loop);
    for (round = 0; round < 100; round++) {
        evl_future *future = look_up(loop, "localhost", NULL, 0, 0, 0, 0);
        pthread_t thread;
        held_count = 0;
        CHECK(pthread_create(&thread, NULL, run_held, held[0]) == 0);
        if (round % 2)
            sched_yield();
        CHECK_INT(evl_future_cancel(future, NULL), 1);
        CHECK(evl_future_cancelled(future));
        evl_future_unref(future);
        if (round % 3 == 0)
            pthread_join(thread, NULL);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        if (round % 3 != 0)
            pthread_join(thread, NULL);
    }
    end_loop(loop);
}

/* --- getnameinfo */

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

TEST(names_of_an_address) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address = loopback(80);
    const char *host = NULL, *service = NULL;
    char expected_host[1025], expected_service[100];
    evl_future *future = NULL;
    CHECK_CODE(evl_loop_getnameinfo(loop, &address, sizeof address, NI_NUMERICHOST | NI_NUMERICSERV, &future), 0);
    CHECK(evl_future_done(future));
    CHECK_CODE(evl_future_result_names(future, &host, &service), 0);
    CHECK_STRING(host, "127.0.0.1");
    CHECK_STRING(service, "80");
    CHECK_CODE(evl_future_result_names(future, NULL, NULL), 0);
    CHECK_CODE(evl_future_result(future, NULL), 0);
    evl_future_unref(future);
    CHECK_INT(thread_count(), 1);
    CHECK_CODE(evl_loop_getnameinfo(loop, &address, sizeof address, 0, &future), 0);
    run_until(loop, future);
    CHECK_CODE(evl_future_result_names(future, &host, &service), 0);
    CHECK(getnameinfo((struct sockaddr *)&address, sizeof address, expected_host, sizeof expected_host,
                      expected_service, sizeof expected_service, 0) == 0);
    CHECK_STRING(host, expected_host);
    CHECK_STRING(service, expected_service);
    evl_future_unref(future);
    /* Too short, or of no family: the future's error. */
    CHECK_CODE(evl_loop_getnameinfo(loop, &address, 3, NI_NUMERICHOST | NI_NUMERICSERV, &future), 0);
    CHECK_CODE(evl_future_result_names(future, &host, &service), EVL_EAI_FAMILY);
    evl_future_unref(future);
    end_loop(loop);
    await_threads(1);
}

/* --- text */

TEST(addresses_as_text) {
    static const char *const texts[] = {"127.0.0.1", "0.0.0.0", "::1", "2001:db8::1", "::ffff:1.2.3.4", "fe80::1%1"};
    static const char *const bad[] = {"", "localhost", "127.1", "1.2.3.4 ", "::g", "fe80::1%", "fe80::1%nosuch", "[::1]"};
    struct sockaddr_storage address;
    struct sockaddr_un path;
    char text[64];
    int port = -1, size;
    size_t i;
    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        size = evl_address_parse(texts[i], 443, &address, sizeof address);
        CHECK_INT(size, strchr(texts[i], ':') ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
        CHECK_INT(evl_address_format(&address, (uint32_t)size, text, sizeof text, &port), strlen(texts[i]));
        CHECK_STRING(text, texts[i]);
        CHECK_INT(port, 443);
    }
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_CODE(evl_address_parse(bad[i], 1, &address, sizeof address), -EINVAL);
    CHECK(evl_address_parse("fe80::1%lo", 0, &address, sizeof address) > 0);
    CHECK_INT(((struct sockaddr_in6 *)&address)->sin6_scope_id, if_nametoindex("lo"));
    CHECK_CODE(evl_address_parse("1.2.3.4", 65536, &address, sizeof address), -EINVAL);
    CHECK_CODE(evl_address_parse("1.2.3.4", -1, &address, sizeof address), -EINVAL);
    CHECK_CODE(evl_address_parse("1.2.3.4", 1, &address, sizeof(struct sockaddr_in) - 1), -ENOSPC);
    memset(&path, 0, sizeof path);
    path.sun_family = AF_UNIX;
    strcpy(path.sun_path, "/tmp/socket");
    CHECK_INT(evl_address_format(&path, sizeof path, text, sizeof text, &port), 11);
    CHECK_STRING(text, "/tmp/socket");
    CHECK_INT(port, 0);
    memcpy(path.sun_path, "\0name", 5);
    CHECK_INT(evl_address_format(&path, sizeof(sa_family_t) + 5, text, sizeof text, NULL), 5);
    CHECK_STRING(text, "@name");
    CHECK_INT(evl_address_format(&path, sizeof(sa_family_t), text, sizeof text, NULL), 0);
    CHECK_INT(evl_address_format(&path, sizeof(sa_family_t) + 5, NULL, 0, NULL), 5);
    path.sun_family = 999;
    CHECK_CODE(evl_address_format(&path, sizeof path, text, sizeof text, NULL), -EAFNOSUPPORT);
    CHECK_CODE(evl_address_format(&path, 1, text, sizeof text, NULL), -EAFNOSUPPORT);
    CHECK_CODE(evl_address_format(NULL, 0, text, sizeof text, NULL), -EINVAL);
}

TEST_MAIN()
