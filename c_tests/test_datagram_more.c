/* Datagram endpoints, each step by itself: what the system answers to sending and receiving, the queue, errors that cost one datagram
 * only, ends, and the options of the socket. */
#include "harness.h"
#include "sockets.h"
#include "datagrams.h"
#include "answers.h"

static evl_loop *loop;
static struct told told;
static evl_datagram *d;
static int other, reported;
static struct sockaddr_in there; /* the other one's address */

static void count_report(evl_loop *at, const evl_exception *exception, void *arg) {
    (void)at, (void)exception, (void)arg;
    reported++;
}

static void begin_with(int fd) {
    loop = real_loop();
    reported = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, count_report, NULL, NULL), 0);
    told = told_nothing();
    d = adopted_endpoint(loop, fd, one_by_one(), &told);
    settle(loop);
    answers_for(fd);
}

/* An endpoint over one end of a pair. */
static void begin_pair(void) {
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    other = fds[1];
    begin_with(fds[0]);
}

/* One of 127.0.0.1, and another socket there. */
static void begin_udp(int connected) {
    struct sockaddr_in here;
    int fd = bound(SOCK_DGRAM, &here);
    other = bound(SOCK_DGRAM, &there);
    if (connected)
        CHECK(connect(fd, (struct sockaddr *)&there, sizeof there) == 0);
    begin_with(fd);
}

static void end(void) {
    answers_for(-1);
    if (!told.lost)
        CHECK_CODE(evl_datagram_abort(d), 0);
    until(loop, &told.lost, 1);
    settle(loop);
    CHECK_INT(told.frees, 1);
    CHECK_INT(watchers(loop), 0);
    CHECK_INT(reported, 0);
    evl_datagram_unref(d);
    close(other);
    end_loop(loop);
}

static size_t queued(void) {
    size_t size = 4711;
    CHECK_CODE(evl_datagram_get_write_buffer_size(d, &size), 0);
    return size;
}

/* All datagrams that have arrived, with a bar behind each. */
static const char *arrived(void) {
    static char text[1000];
    ssize_t size;
    size_t used = 0;
    while ((size = recv(other, text + used, sizeof text - used - 2, MSG_DONTWAIT)) >= 0) {
        used += (size_t)size;
        text[used++] = '|';
    }
    text[used] = 0;
    return text;
}

static int send_to(const char *text) {
    return evl_datagram_sendto(d, text, strlen(text), &there, sizeof there);
}

static int send_on(const char *text) {
    return evl_datagram_sendto(d, text, strlen(text), NULL, 0);
}

static void once(void) {
    CHECK(evl_loop_run_once(loop, 0) >= 0);
}

/* --- receiving */

TEST(received_with_the_sender) {
    struct sockaddr_in here, *from = (struct sockaddr_in *)&told.from;
    begin_udp(0);
    here = name_of(d);
    CHECK(sendto(other, "data", 4, 0, (struct sockaddr *)&here, sizeof here) == 4);
    until(loop, &told.received, 1);
    CHECK_STRING(told.last, "data");
    CHECK_INT(told.from_size, sizeof *from);
    CHECK(from->sin_port == there.sin_port && from->sin_addr.s_addr == there.sin_addr.s_addr);
    end();
}

TEST(nothing_is_there_after_all) {
    static const int harmless[] = {EAGAIN, EINTR};
    int i;
    for (i = 0; i < 2; i++) {
        begin_pair();
        answer(RECEIVES, -harmless[i]);
        CHECK(send(other, "data", 4, 0) == 4);
        once();
        CHECK_INT(told.received, 0);
        CHECK_INT(called(RECEIVES), 1);
        until(loop, &told.received, 1);
        CHECK_INT(told.errors, 0);
        CHECK_INT(evl_datagram_is_closing(d), 0);
        end();
    }
}

TEST(receiving_fails_and_goes_on) {
    static const int failures[] = {ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ENOMEM, EIO};
    int i;
    for (i = 0; i < 6; i++) {
        begin_pair();
        answer(RECEIVES, -failures[i]);
        CHECK(send(other, "data", 4, 0) == 4);
        until(loop, &told.errors, 1);
        CHECK_CODE(told.error, -failures[i]);
        CHECK_INT(evl_datagram_is_closing(d), 0);
        until(loop, &told.received, 1);
        CHECK_INT(told.errors, 1);
        end();
        CHECK_INT(told.lost_code, 0);
    }
}

/* --- sending */

TEST(sent_at_once) {
    begin_udp(0);
    CHECK_CODE(send_to("data"), 0);
    CHECK_INT(called(SENDTOS), 1);
    CHECK_INT(queued(), 0);
    CHECK_STRING(arrived(), "data|");
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_INT(called(SENDTOS) + called(BATCHES), 1);
    end();
}

TEST(an_empty_one_is_sent_in_its_turn) {
    begin_pair();
    CHECK_CODE(send_on(""), 0);
    CHECK_STRING(arrived(), "|");
    answer(SENDTOS, -EAGAIN);
    CHECK_CODE(send_on("one"), 0);
    CHECK_CODE(send_on(""), 0);
    CHECK_CODE(send_on("two"), 0);
    CHECK_INT(called(SENDTOS), 2);
    CHECK_INT(queued(), 7);
    settle(loop);
    CHECK_STRING(arrived(), "one||two|");
    end();
}

TEST(no_room_now) {
    char memory[] = "data";
    struct sockaddr_in to;
    begin_udp(0);
    to = there;
    answer(SENDTOS, -EAGAIN);
    CHECK_CODE(evl_datagram_sendto(d, memory, 4, &to, sizeof to), 0);
    memset(memory, 'x', 4); /* bytes and address are the caller's again */
    memset(&to, 0, sizeof to);
    CHECK_INT(queued(), 4);
    CHECK_INT(told.errors, 0);
    answer(SENDTOS, -EAGAIN);
    once();
    CHECK_INT(queued(), 4);
    CHECK_STRING(arrived(), "");
    once();
    CHECK_INT(queued(), 0);
    CHECK_STRING(arrived(), "data|");
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_INT(called(SENDTOS), 3);
    end();
}

TEST(interrupted) {
    begin_udp(1);
    answer(SENDTOS, -EINTR);
    CHECK_CODE(send_on("data"), 0);
    CHECK_INT(called(SENDTOS), 2);
    CHECK_STRING(arrived(), "data|");
    end();
}

/* What follows one that waits is not tried, and keeps its order and its address. */
TEST(behind_a_queue_nothing_is_tried) {
    struct sockaddr_in second;
    int fd = bound(SOCK_DGRAM, &second);
    char text[10] = "";
    begin_udp(0);
    answer(SENDTOS, -EAGAIN);
    CHECK_CODE(send_to("one"), 0);
    CHECK_CODE(evl_datagram_sendto(d, "two", 3, &second, sizeof second), 0);
    CHECK_CODE(send_to("three"), 0);
    CHECK_INT(called(SENDTOS) + called(BATCHES), 1);
    CHECK_INT(queued(), 11);
    settle(loop);
    CHECK_INT(queued(), 0);
    CHECK_STRING(arrived(), "one|three|");
    CHECK(recv(fd, text, sizeof text, MSG_DONTWAIT) == 3);
    CHECK_STRING(text, "two");
    close(fd);
    end();
}

TEST(the_queue_is_taken_bit_by_bit) {
    begin_pair();
    answer(SENDTOS, -EAGAIN);
    CHECK_CODE(send_on("one"), 0);
    CHECK_CODE(send_on("two"), 0);
    CHECK_CODE(send_on("three"), 0);
    answer(BATCHES, 1); /* one of the three, and then none */
    answer(BATCHES, -EAGAIN);
    once();
    CHECK_INT(queued(), 8);
    CHECK_STRING(arrived(), "one|");
    answer(BATCHES, -EAGAIN);
    once();
    CHECK_INT(queued(), 8);
    once();
    CHECK_INT(queued(), 0);
    CHECK_STRING(arrived(), "two|three|");
    CHECK_INT(told.errors, 0);
    end();
}

/* --- sending fails */

static const int failures[] = {ECONNRESET, EMSGSIZE, EPERM, ENETUNREACH, EHOSTUNREACH, ENOBUFS, EACCES};
enum { FAILURES = sizeof failures / sizeof *failures };

TEST(one_that_cannot_be_sent_is_lost) {
    int i, connected;
    for (connected = 0; connected < 2; connected++) {
        for (i = 0; i < FAILURES; i++) {
            begin_udp(connected);
            answer(SENDTOS, -failures[i]);
            CHECK_CODE(connected ? send_on("lost") : send_to("lost"), 0);
            CHECK_INT(told.errors, 0); /* not from inside of it */
            CHECK_INT(queued(), 0);
            CHECK_INT(evl_datagram_is_closing(d), 0);
            CHECK_CODE(connected ? send_on("found") : send_to("found"), 0);
            once();
            CHECK_INT(told.errors, 1);
            CHECK_CODE(told.error, -failures[i]);
            CHECK_STRING(arrived(), "found|");
            end();
            CHECK_INT(told.lost_code, 0);
        }
    }
}

TEST(one_of_the_queue_that_cannot_be_sent_is_lost) {
    int i, many;
    for (many = 0; many < 2; many++) {
        for (i = 0; i < FAILURES; i++) {
            begin_pair();
            answer(SENDTOS, -EAGAIN);
            CHECK_CODE(send_on("lost"), 0);
            if (many)
                CHECK_CODE(send_on("two"), 0);
            answer(many ? BATCHES : SENDTOS, -failures[i]);
            once();
            CHECK_INT(queued(), 0);
            settle(loop);
            CHECK_INT(told.errors, 1);
            CHECK_CODE(told.error, -failures[i]);
            CHECK_STRING(arrived(), many ? "two|" : "");
            CHECK_CODE(send_on("three"), 0);
            CHECK_STRING(arrived(), "three|");
            end();
        }
    }
}

/* A refusal tells of one that was sent before. */
TEST(a_refusal_is_told_and_costs_nothing) {
    begin_udp(1);
    answer(SENDTOS, -ECONNREFUSED);
    CHECK_CODE(send_on("data"), 0);
    settle(loop);
    CHECK_INT(told.errors, 1);
    CHECK_CODE(told.error, -ECONNREFUSED);
    CHECK_STRING(arrived(), "data|");
    answer(SENDTOS, -EAGAIN);
    CHECK_CODE(send_on("queued"), 0);
    answer(SENDTOS, -ECONNREFUSED);
    settle(loop);
    CHECK_INT(told.errors, 2);
    CHECK_STRING(arrived(), "queued|");
    end();
}

TEST(addresses_that_are_refused) {
    struct sockaddr_in elsewhere;
    evl_datagram_message two[2];
    begin_udp(0);
    CHECK_CODE(send_on("x"), -EDESTADDRREQ);
    end();
    begin_udp(1);
    elsewhere = there;
    elsewhere.sin_port = htons((uint16_t)(ntohs(there.sin_port) ^ 1));
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, &elsewhere, sizeof elsewhere), -EINVAL);
    CHECK_CODE(evl_datagram_sendto(d, "y", 1, &there, sizeof there), 0);
    memset(two, 0, sizeof two);
    two[0].data = two[1].data = "z";
    two[0].size = two[1].size = 1;
    two[1].address = &elsewhere;
    two[1].address_size = sizeof elsewhere;
    CHECK_CODE(evl_datagram_send_batch(d, two, 2), -EINVAL); /* none is sent */
    CHECK_STRING(arrived(), "y|");
    settle(loop);
    CHECK_INT(told.errors, 0);
    end();
}

/* --- limits */

TEST(pause_and_resume_at_the_very_limits) {
    begin_pair();
    CHECK_CODE(evl_datagram_set_write_buffer_limits(d, 10, 4), 0);
    answer(SENDTOS, -EAGAIN);
    CHECK_CODE(send_on("12345"), 0);
    CHECK_CODE(send_on("67890"), 0);
    answer(BATCHES, -EAGAIN);
    once();
    CHECK_INT(told.pauses, 0);
    CHECK_CODE(send_on("abc"), 0);
    answer(BATCHES, -EAGAIN);
    once();
    CHECK_INT(told.pauses, 1);
    answer(BATCHES, 1);
    answer(BATCHES, -EAGAIN);
    once();
    CHECK_INT(queued(), 8);
    CHECK_INT(told.resumes, 0);
    answer(BATCHES, 1);
    answer(SENDTOS, -EAGAIN);
    once();
    CHECK_INT(queued(), 3);
    CHECK_INT(told.resumes, 1);
    settle(loop);
    CHECK(told.pauses == 1 && told.resumes == 1);
    CHECK_STRING(arrived(), "12345|67890|abc|");
    end();
}

/* --- ends */

TEST(closing) {
    begin_pair();
    CHECK(send(other, "unread", 6, 0) == 6);
    CHECK_CODE(evl_datagram_close(d), 0);
    CHECK_CODE(evl_datagram_close(d), 0);
    CHECK_INT(evl_datagram_is_closing(d), 1);
    CHECK_CODE(send_on("x"), -EPIPE);
    CHECK_INT(told.lost, 0);
    CHECK_INT(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(told.lost, 1);
    CHECK_INT(told.lost_code, 0);
    CHECK_CODE(send_on("x"), -EPIPE);
    CHECK_CODE(evl_datagram_close(d), 0);
    CHECK_CODE(evl_datagram_abort(d), 0);
    CHECK_CODE(evl_datagram_get_fd(d), -EBADF);
    CHECK_INT(queued(), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_INT(told.received, 0);
    CHECK_INT(called(SENDTOS) + called(RECEIVES), 0);
    end();
}

TEST(closing_waits_for_the_queue) {
    int fails;
    for (fails = 0; fails < 2; fails++) {
        begin_pair();
        answer(SENDTOS, -EAGAIN);
        CHECK_CODE(send_on("last"), 0);
        CHECK_CODE(evl_datagram_close(d), 0);
        CHECK(send(other, "unread", 6, 0) == 6);
        answer(SENDTOS, -EAGAIN);
        once();
        CHECK_INT(told.lost, 0);
        CHECK_CODE(send_on("x"), -EPIPE);
        if (fails)
            answer(SENDTOS, -EPERM);
        until(loop, &told.lost, 1);
        CHECK_INT(told.lost_code, 0);
        CHECK_INT(told.errors, fails);
        CHECK_INT(told.received, 0);
        CHECK_STRING(arrived(), fails ? "" : "last|");
        end();
    }
}

TEST(aborting_sends_no_more) {
    int closed;
    for (closed = 0; closed < 2; closed++) {
        begin_pair();
        answer(SENDTOS, -EAGAIN);
        CHECK_CODE(send_on("dropped"), 0);
        if (closed)
            CHECK_CODE(evl_datagram_close(d), 0);
        CHECK_CODE(evl_datagram_abort(d), 0);
        CHECK_INT(queued(), 0);
        CHECK_INT(told.lost, 0);
        settle(loop);
        CHECK_INT(told.lost, 1);
        CHECK_INT(told.lost_code, 0);
        CHECK_INT(called(SENDTOS), 1);
        CHECK_STRING(arrived(), "");
        end();
    }
}

/* --- the socket's options, and names */

static int option_of(int option) {
    int value = -1;
    socklen_t size = sizeof value;
    CHECK(getsockopt(evl_datagram_get_fd(d), SOL_SOCKET, option, &value, &size) == 0);
    return value;
}

TEST(options_are_set_when_asked_for) {
    evl_datagram_options options = any_options();
    int asked;
    options.local_host = "127.0.0.1";
    for (asked = 0; asked < 2; asked++) {
        loop = real_loop();
        told = told_nothing();
        options.flags = asked ? EVL_DATAGRAM_REUSE_PORT | EVL_DATAGRAM_BROADCAST : 0;
        d = create_endpoint(loop, &options, one_by_one(), &told);
        REQUIRE(d != NULL);
        CHECK_INT(option_of(SO_REUSEPORT), asked);
        CHECK_INT(option_of(SO_BROADCAST), asked);
        CHECK_INT(option_of(SO_REUSEADDR), 0);
        CHECK(fcntl(evl_datagram_get_fd(d), F_GETFL) & O_NONBLOCK);
        CHECK(fcntl(evl_datagram_get_fd(d), F_GETFD) & FD_CLOEXEC);
        end_endpoint(loop, d, &told);
        end_loop(loop);
    }
}

static evl_datagram *unix_endpoint(const char *local) {
    evl_datagram_protocol p = one_by_one();
    evl_future *future = NULL;
    int code = 0;
    told = told_nothing();
    CHECK_CODE(evl_loop_create_unix_datagram_endpoint(loop, local, local ? strlen(local) : 0, NULL, 0, &p, &told, told_free,
                                                      &future),
               0);
    d = endpoint_of(loop, future, &code);
    CHECK_CODE(code, 0);
    return d;
}

TEST(unix_endpoints_without_a_name_and_at_one_that_is_left) {
    struct sockaddr_un address;
    char path[60];
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    loop = real_loop();
    REQUIRE(unix_endpoint(NULL) != NULL);
    CHECK_INT(evl_datagram_get_sockname(d, &address, sizeof address), sizeof(sa_family_t));
    CHECK_INT(address.sun_family, AF_UNIX);
    CHECK_CODE(send_on("x"), -EDESTADDRREQ);
    end_endpoint(loop, d, &told);
    /* The socket of an earlier program is replaced. */
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    snprintf(path, sizeof path, "/tmp/evl-test-left-%d", (int)getpid());
    memcpy(address.sun_path, path, strlen(path));
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    close(fd);
    REQUIRE(unix_endpoint(path) != NULL);
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(sendto(fd, "data", 4, 0, (struct sockaddr *)&address, sizeof address) == 4);
    until(loop, &told.received, 1);
    CHECK_INT(told.from_size, 0); /* it has no name */
    close(fd);
    end_endpoint(loop, d, &told);
    unlink(path);
    end_loop(loop);
}

TEST_MAIN()
