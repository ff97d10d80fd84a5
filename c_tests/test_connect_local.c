/* Connections from local addresses, and what is asked of the resolver: this program has a getaddrinfo of its own, which notes what it is
 * asked and answers what a test says. */
#include "jobs.h"
#include "streams.h"

#include <netdb.h>

/* The answers to "remote.test" and to every other question about a host; how often each was asked, and the last question. */
static struct answer {
    struct sockaddr_storage found[4];
    int count, code, asked;
    char host[40], service[20];
    struct addrinfo hints;
} remote, local;

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    struct answer *answer = host != NULL && strcmp(host, "remote.test") == 0 ? &remote : &local;
    int i;
    snprintf(answer->host, sizeof answer->host, "%s", host ? host : "(none)");
    snprintf(answer->service, sizeof answer->service, "%s", service ? service : "(none)");
    answer->hints = *hints;
    __atomic_add_fetch(&answer->asked, 1, __ATOMIC_SEQ_CST);
    *out = NULL;
    if (answer->code)
        return answer->code;
    for (i = answer->count - 1; i >= 0; i--) {
        struct addrinfo *one = (struct addrinfo *)calloc(1, sizeof *one);
        one->ai_family = answer->found[i].ss_family;
        one->ai_socktype = hints->ai_socktype;
        one->ai_protocol = hints->ai_socktype == SOCK_DGRAM ? IPPROTO_UDP : IPPROTO_TCP;
        one->ai_addr = (struct sockaddr *)&answer->found[i];
        one->ai_addrlen = one->ai_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        one->ai_next = *out;
        *out = one;
    }
    return 0;
}

void freeaddrinfo(struct addrinfo *list) {
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static void find(struct answer *answer, const char *address, int port) {
    struct sockaddr_storage *place = &answer->found[answer->count++];
    memset(place, 0, sizeof *place);
    CHECK(evl_address_parse(address, port, place, sizeof *place) > 0);
}

static evl_loop *loop;
static struct crowd crowd;
static struct peer peer;
static evl_connect_options options;
static int port, dead, dead_fd, before;

static void begin(void) {
    struct sockaddr_in address;
    evl_future *warm = NULL;
    memset(&remote, 0, sizeof remote);
    memset(&local, 0, sizeof local);
    loop = real_loop();
    port = crowd_serve(&crowd, loop, 0);
    dead_fd = bound(SOCK_STREAM, &address);
    dead = ntohs(address.sin_port);
    CHECK_CODE(evl_connect_options_init(&options, sizeof options), 0);
    options.host = "remote.test";
    options.service = "9";
    /* What threads that look names up and a loop that waits for them need, is there from now on. */
    find(&local, "127.0.0.1", 0);
    CHECK_CODE(evl_loop_getaddrinfo(loop, "any.test", NULL, NULL, &warm), 0);
    finish(loop, warm);
    CHECK_CODE(end_code(warm), 0);
    CHECK(evl_loop_run_once(loop, EVL_MS(1)) >= 0);
    local.count = local.asked = 0;
    before = count_descriptors();
}

static evl_future *run(void) {
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    peer_init(&peer, loop, "");
    CHECK_CODE(evl_loop_create_connection(loop, &options, &p, &peer, peer_free, &future), 0);
    finish(loop, future);
    return future;
}

static void fails(int code, const char *text) {
    evl_future *future = run();
    char message[400] = "";
    CHECK(evl_future_error_message(future, message, sizeof message) >= 0);
    if (text != NULL)
        CHECK_STRING(message, text);
    CHECK_CODE(end_code(future), code);
    CHECK_INT(peer.made, 0);
    CHECK_INT(peer.frees, 1);
    CHECK_INT(count_descriptors(), before); /* no socket is left */
    CHECK_INT(crowd.count, 0);
    CHECK_TRACE("");
}

/* The address that the connection came from. */
static struct sockaddr_in succeeds(void) {
    evl_future *future = run();
    struct sockaddr_in from;
    memset(&from, 0, sizeof from);
    CHECK_CODE(end_code(future), 0);
    if (CHECK_INT(peer.made, 1)) {
        CHECK_INT(evl_transport_get_sockname(peer.transport, &from, sizeof from), sizeof from);
        peer_close(&peer);
    }
    UNTIL(loop, crowd.count == 1 && crowd.peers[0].lost);
    CHECK_INT(count_descriptors(), before);
    trace_reset();
    return from;
}

/* The server begins to count its connections anew. */
static void forget_crowd(void) {
    while (crowd.count > 0)
        peer_end(&crowd.peers[--crowd.count]);
}

static void end(void) {
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    close(dead_fd);
    end_loop(loop);
    await_threads(1);
}

/* --- local addresses */

TEST(the_first_that_can_be_had) {
    struct sockaddr_in from;
    begin();
    find(&remote, "127.0.0.1", port);
    find(&local, "192.0.2.1", 0); /* not of this machine */
    find(&local, "127.0.0.7", 0);
    find(&local, "127.0.0.8", 0);
    options.local_host = "local.test";
    from = succeeds();
    CHECK_INT(ntohl(from.sin_addr.s_addr), 0x7f000007);
    CHECK(remote.asked == 1 && local.asked == 1);
    CHECK_STRING(local.host, "local.test");
    CHECK_INT(local.hints.ai_flags, AI_PASSIVE);
    CHECK_INT(local.hints.ai_socktype, SOCK_STREAM);
    end();
}

TEST(one_of_another_family_is_left_out) {
    struct sockaddr_in from;
    begin();
    find(&remote, "127.0.0.1", port);
    find(&local, "::1", 0);
    find(&local, "127.0.0.9", 0);
    options.local_host = "local.test";
    from = succeeds();
    CHECK_INT(ntohl(from.sin_addr.s_addr), 0x7f000009);
    end();
}

TEST(none_of_the_family) {
    char expected[100];
    begin();
    find(&remote, "127.0.0.1", port);
    find(&local, "::1", 0);
    options.local_host = "local.test";
    snprintf(expected, sizeof expected, "no local address of the family of 127.0.0.1:%d", port);
    fails(-EADDRNOTAVAIL, expected);
    end();
}

TEST(none_can_be_had) {
    begin();
    find(&remote, "127.0.0.1", port);
    find(&local, "127.0.0.1", dead);
    find(&local, "192.0.2.1", 0);
    options.local_host = "local.test";
    fails(-EADDRNOTAVAIL, "bind 192.0.2.1:0: cannot assign the address");
    end();
}

TEST(in_use) {
    char expected[100], service[10];
    begin();
    find(&remote, "127.0.0.1", port);
    options.local_host = "127.0.0.1";
    options.local_service = service;
    snprintf(service, sizeof service, "%d", port); /* the server's */
    snprintf(expected, sizeof expected, "bind 127.0.0.1:%d: %s", port, evl_strerror(-EADDRINUSE));
    fails(-EADDRINUSE, expected);
    CHECK_INT(local.asked, 0); /* a number is not asked for */
    end();
}

/* Each remote address has failures of its own. */
TEST(different_failures_are_listed) {
    char expected[300];
    begin();
    find(&remote, "::1", port);
    find(&remote, "127.0.0.1", dead);
    find(&local, "127.0.0.1", 0);
    options.local_host = "local.test";
    snprintf(expected, sizeof expected,
             "all 2 addresses failed: no local address of the family of [::1]:%d; connect 127.0.0.1:%d: connection refused", port,
             dead);
    fails(-EADDRNOTAVAIL, expected);
    end();
}

TEST(the_next_remote_address_when_one_cannot_be_bound_for) {
    begin();
    find(&remote, "::1", port);
    find(&remote, "127.0.0.1", port);
    find(&local, "127.0.0.1", 0);
    options.local_host = "local.test";
    succeeds();
    end();
}

/* No local address is not the same as not to have asked for one. */
TEST(a_local_name_without_addresses) {
    begin();
    find(&remote, "127.0.0.1", port);
    options.local_host = "local.test";
    fails(EVL_EAI_NODATA, NULL);
    local.code = EAI_NONAME;
    fails(EVL_EAI_NONAME, NULL);
    end();
}

/* --- remote addresses */

TEST(a_name_without_addresses) {
    begin();
    fails(EVL_EAI_NODATA, NULL);
    remote.code = EAI_AGAIN;
    fails(EVL_EAI_AGAIN, NULL);
    CHECK_INT(remote.asked, 2);
    end();
}

TEST(all_fail_alike) {
    char expected[200];
    begin();
    find(&remote, "127.0.0.1", dead);
    snprintf(expected, sizeof expected, "connect 127.0.0.1:%d: connection refused", dead);
    fails(-ECONNREFUSED, expected);
    find(&remote, "127.0.0.1", dead);
    snprintf(expected, sizeof expected,
             "all 2 addresses failed: connect 127.0.0.1:%d: connection refused; connect 127.0.0.1:%d: connection refused", dead,
             dead);
    fails(-ECONNREFUSED, expected);
    end();
}

TEST(what_the_resolver_is_asked) {
    begin();
    find(&remote, "127.0.0.1", port);
    options.family = AF_INET;
    options.flags = AI_ADDRCONFIG;
    options.service = "some-service";
    succeeds();
    CHECK_INT(remote.hints.ai_family, AF_INET);
    CHECK_INT(remote.hints.ai_flags, AI_ADDRCONFIG);
    CHECK_INT(remote.hints.ai_socktype, SOCK_STREAM);
    CHECK_INT(remote.hints.ai_protocol, 0);
    CHECK_STRING(remote.service, "some-service");
    CHECK_INT(local.asked, 0);
    end();
}

/* A service's name is asked for even where the host is a number. */
TEST(a_services_name) {
    begin();
    find(&local, "127.0.0.1", port);
    options.host = "127.0.0.1";
    options.service = "some-service";
    succeeds();
    CHECK_INT(local.asked, 1);
    CHECK_STRING(local.host, "127.0.0.1");
    CHECK_STRING(local.service, "some-service");
    local.code = EAI_SERVICE;
    forget_crowd();
    fails(EVL_EAI_SERVICE, NULL);
    end();
}

TEST(numbers_are_not_asked_for) {
    char service[10], expected[100];
    begin();
    options.host = "127.0.0.1";
    options.service = service;
    snprintf(service, sizeof service, "%d", port);
    options.local_host = "127.0.0.1";
    options.local_service = "0";
    succeeds();
    forget_crowd();
    /* With its scope: interface 1 is the loopback one, which has no such address. */
    options.local_host = options.local_service = NULL;
    options.host = "fe80::1%1";
    snprintf(service, sizeof service, "%d", dead);
    {
        evl_future *future = run();
        char message[200] = "";
        CHECK(evl_future_result(future, NULL) < 0);
        CHECK(evl_future_error_message(future, message, sizeof message) > 0);
        snprintf(expected, sizeof expected, "connect [fe80::1%%1]:%d: ", dead);
        CHECK(strncmp(message, expected, strlen(expected)) == 0);
        evl_future_unref(future);
    }
    CHECK(remote.asked == 0 && local.asked == 0);
    end();
}

/* --- servers */

TEST(what_the_resolver_is_asked_for_a_server) {
    evl_server_options server;
    static struct crowd second;
    evl_future *future = NULL;
    int fds[4];
    begin();
    find(&local, "127.0.0.1", 0);
    find(&local, "127.0.0.2", 0);
    CHECK_CODE(evl_server_options_init(&server, sizeof server), 0);
    server.host = "server.test";
    server.family = AF_INET;
    crowd_init(&second, loop);
    CHECK_CODE(evl_loop_create_server(loop, &server, crowd_make, &second, crowd_free, &future), 0);
    second.server = server_of(loop, future);
    CHECK_INT(evl_server_sockets(second.server, fds, 4), 2);
    CHECK_STRING(local.host, "server.test");
    CHECK_INT(local.hints.ai_family, AF_INET);
    CHECK_INT(local.hints.ai_flags, AI_PASSIVE);
    CHECK_INT(local.hints.ai_socktype, SOCK_STREAM);
    CHECK_CODE(evl_server_close(second.server), 0);
    crowd_end(&second);
    CHECK_INT(second.frees, 1);
    end();
}

/* When one of its addresses cannot be had, those that were bound already are given back. */
TEST(a_server_of_which_one_address_is_in_use) {
    evl_server_options server;
    static struct crowd second;
    evl_future *future = NULL;
    char expected[100];
    begin();
    find(&local, "127.0.0.2", port);
    find(&local, "127.0.0.1", port); /* the other server's */
    CHECK_CODE(evl_server_options_init(&server, sizeof server), 0);
    server.host = "server.test";
    crowd_init(&second, loop);
    CHECK_CODE(evl_loop_create_server(loop, &server, crowd_make, &second, crowd_free, &future), 0);
    finish(loop, future);
    snprintf(expected, sizeof expected, "bind 127.0.0.1:%d: %s", port, evl_strerror(-EADDRINUSE));
    check_message(future, expected);
    CHECK_CODE(end_code(future), -EADDRINUSE);
    CHECK_INT(second.frees, 1);
    CHECK_INT(count_descriptors(), before);
    /* A name without addresses. */
    local.count = 0;
    crowd_init(&second, loop);
    CHECK_CODE(evl_loop_create_server(loop, &server, crowd_make, &second, crowd_free, &future), 0);
    finish(loop, future);
    CHECK_CODE(end_code(future), EVL_EAI_NODATA);
    CHECK_INT(second.frees, 1);
    end();
}

TEST_MAIN()
