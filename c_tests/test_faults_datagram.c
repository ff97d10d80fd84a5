/* Every system call of datagram endpoints, failing in every way it can: nobody crashes or hangs, every future is done, connection_lost
 * comes once to whom connection_made came, what was given is released once, no descriptor is left. Datagrams are lost only by a call
 * that has failed, and what arrives is whole. */
#include "faults.h"
#include "sockets.h"

enum { SIZE = 200, COUNT = 40, LARGE = COUNT / 2 };

struct side {
    evl_datagram *datagram;
    int made, lost, frees, errors, code, paused, received, once[COUNT];
};

static struct {
    evl_loop *loop;
    struct side server, client;
    evl_future *serving, *connecting;
    int reports;
} play;

static int is_batch, is_unix;
static char block[COUNT][SIZE];

static void on_made(evl_datagram *datagram, void *arg) {
    struct side *side = (struct side *)arg;
    CHECK_INT(side->made++, 0);
    side->datagram = datagram;
}

static size_t size_of(int at) {
    return at < LARGE ? SIZE : (size_t)(SIZE - at);
}

/* Which of them it is. */
static void on_one(struct side *side, const void *data, size_t size) {
    int at = *(const unsigned char *)data;
    CHECK(side->made == 1 && side->lost == 0 && side->frees == 0);
    CHECK(at < COUNT && size == size_of(at) && memcmp(data, block[at], size) == 0);
    CHECK(side->once[at]++ == 0);
    side->received++;
}

/* An endpoint that was told that it has no peer needs an address. */
static void expect_sent(int code) {
    CHECK(code == 0 || (code == -EDESTADDRREQ && fault.call == GETPEERNAME && fault.code == ENOTCONN));
}

static void on_received(evl_datagram *datagram, const void *data, size_t size, const void *address, uint32_t address_size,
                        void *arg) {
    struct side *side = (struct side *)arg;
    on_one(side, data, size);
    if (side == &play.server && !evl_datagram_is_closing(datagram))
        expect_sent(evl_datagram_sendto(datagram, data, size, is_unix ? NULL : address, is_unix ? 0 : address_size));
}

static void on_batch(evl_datagram *datagram, const evl_datagram_message *messages, size_t count, void *arg) {
    struct side *side = (struct side *)arg;
    evl_datagram_message back[256];
    size_t i;
    for (i = 0; i < count; i++) {
        on_one(side, messages[i].data, messages[i].size);
        back[i] = messages[i];
        if (is_unix) {
            back[i].address = NULL;
            back[i].address_size = 0;
        }
    }
    if (side == &play.server && !evl_datagram_is_closing(datagram))
        expect_sent(evl_datagram_send_batch(datagram, back, count));
}

static void on_error(evl_datagram *datagram, int code, void *arg) {
    struct side *side = (struct side *)arg;
    int other_gone = play.server.lost != 0 || play.client.lost != 0;
    (void)datagram;
    CHECK(side->made == 1 && side->lost == 0);
    CHECK(code == -fault.code || (other_gone && (code == -ECONNREFUSED || code == -ENOTCONN || code == -ECONNRESET)));
    side->errors++;
}

static void on_lost(evl_datagram *datagram, int code, void *arg) {
    struct side *side = (struct side *)arg;
    (void)datagram;
    CHECK(side->made == 1 && side->lost++ == 0 && side->frees == 0);
    side->datagram = NULL;
    side->code = code;
}

static void on_pause(evl_datagram *datagram, void *arg) {
    (void)datagram;
    CHECK_INT(((struct side *)arg)->paused++, 0);
}

static void on_resume(evl_datagram *datagram, void *arg) {
    (void)datagram;
    CHECK_INT(((struct side *)arg)->paused--, 1);
}

static void on_free(void *arg) {
    struct side *side = (struct side *)arg;
    CHECK_INT(side->frees++, 0);
    side->datagram = NULL;
}

static evl_datagram_protocol table(void) {
    evl_datagram_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_made = on_made;
    if (is_batch)
        p.datagrams_received = on_batch;
    else
        p.datagram_received = on_received;
    p.error_received = on_error;
    p.connection_lost = on_lost;
    p.pause_writing = on_pause;
    p.resume_writing = on_resume;
    return p;
}

static void on_report(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop, (void)arg;
    CHECK(exception->code < 0 && exception->message != NULL);
    play.reports++;
}

/* The endpoint is made, or cannot be. */
static void settle_one(evl_future *future, struct side *side, int code, struct patience *patience) {
    if (code < 0) {
        CHECK(future == NULL && fault.hits > 0 && side->made == 0);
        CHECK_INT(side->frees, 1);
        return;
    }
    while (!evl_future_done(future) && CHECK(fault_step(play.loop, patience)))
        ;
    if (evl_future_result(future, NULL) < 0)
        CHECK(fault.hits > 0 && side->made == 0 && side->frees == 1);
    else
        CHECK_INT(side->made, 1);
}

static void open_both(struct patience *patience) {
    evl_datagram_protocol p = table();
    evl_datagram_options options;
    struct sockaddr_in name = loopback();
    char service[10];
    int code, armed;
    if (is_unix) {
        int fds[2];
        armed = fault.armed;
        fault.armed = 0;
        CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
        fault.armed = armed;
        code = evl_loop_create_datagram_endpoint_fd(play.loop, fds[0], &p, &play.server, on_free, &play.serving);
        settle_one(play.serving, &play.server, code, patience);
        if (code < 0)
            close(fds[0]);
        code = evl_loop_create_datagram_endpoint_fd(play.loop, fds[1], &p, &play.client, on_free, &play.connecting);
        settle_one(play.connecting, &play.client, code, patience);
        if (code < 0)
            close(fds[1]);
        return;
    }
    CHECK_CODE(evl_datagram_options_init(&options, sizeof options), 0);
    options.local_host = "127.0.0.1";
    code = evl_loop_create_datagram_endpoint(play.loop, &options, &p, &play.server, on_free, &play.serving);
    settle_one(play.serving, &play.server, code, patience);
    if (play.server.datagram != NULL && evl_datagram_get_sockname(play.server.datagram, &name, sizeof name) < 0) {
        CHECK(fault.hits > 0);
        while (evl_datagram_get_sockname(play.server.datagram, &name, sizeof name) < 0)
            ;
    }
    options.local_host = NULL;
    options.remote_host = "127.0.0.1";
    snprintf(service, sizeof service, "%d", ntohs(name.sin_port));
    options.remote_service = service;
    code = evl_loop_create_datagram_endpoint(play.loop, &options, &p, &play.client, on_free, &play.connecting);
    settle_one(play.connecting, &play.client, code, patience);
}

static void send_all(void) {
    evl_datagram_message messages[COUNT];
    int i;
    memset(messages, 0, sizeof messages);
    for (i = 0; i < COUNT && play.client.datagram != NULL; i++) {
        messages[i].data = block[i];
        messages[i].size = size_of(i);
        if (!is_batch && !evl_datagram_is_closing(play.client.datagram))
            expect_sent(evl_datagram_sendto(play.client.datagram, block[i], size_of(i), NULL, 0));
    }
    if (is_batch && play.client.datagram != NULL && !evl_datagram_is_closing(play.client.datagram))
        expect_sent(evl_datagram_send_batch(play.client.datagram, messages, COUNT));
}

static void close_side(struct side *side) {
    if (side->datagram != NULL)
        CHECK_CODE(evl_datagram_close(side->datagram), 0);
}

static void end_play(int before) {
    CHECK_CODE(evl_loop_close(play.loop), 0);
    evl_future_unref(play.serving);
    evl_future_unref(play.connecting);
    evl_loop_unref(play.loop);
    CHECK_INT(play.server.frees, 1);
    CHECK_INT(play.client.frees, 1);
    fault.armed = 0;
    CHECK_INT(count_descriptors(), before);
}

static void scenario(void) {
    struct patience patience = {0, 0, 1000};
    int before;
    fault.armed = 0;
    before = count_descriptors();
    fault.armed = 1;
    memset(&play, 0, sizeof play);
    play.loop = fault_loop();
    CHECK_CODE(evl_loop_set_exception_handler(play.loop, on_report, NULL, NULL), 0);
    open_both(&patience);
    patience.idle = 0;
    if (play.server.datagram != NULL)
        send_all();
    /* Who may have lost some does not wait for them for long. */
    patience.most = fault_is_harmless() || fault.call == RECVMMSG ? 1000 : 12;
    while (play.client.received < COUNT && fault_step(play.loop, &patience))
        ;
    if (fault_is_harmless())
        CHECK_INT(play.client.received, COUNT);
    /* One call that fails loses what it was to send, and no more. */
    else if (fault.call == SENDTO && !is_batch)
        CHECK(play.client.received >= COUNT - fault.hits);
    else if (fault.call == RECVMMSG)
        CHECK(play.client.received == COUNT);
    close_side(&play.server);
    close_side(&play.client);
    patience.idle = 0;
    patience.most = 1000;
    while ((play.server.lost != play.server.made || play.client.lost != play.client.made) &&
           CHECK(fault_step(play.loop, &patience)))
        ;
    end_play(before);
}

static void play_all(int over_unix, int batch) {
    int i;
    for (i = 0; i < COUNT; i++) {
        memset(block[i], i * 7, SIZE);
        block[i][0] = (char)i;
    }
    is_unix = over_unix;
    is_batch = batch;
    fault_count = fault_hits = 0;
    fault_play_all(scenario, 12);
    printf("%d scenarios, %d faults\n", fault_count, fault_hits);
}

TEST(one_by_one_over_udp) {
    play_all(0, 0);
}

TEST(in_batches_over_udp) {
    play_all(0, 1);
}

TEST(one_by_one_over_unix) {
    play_all(1, 0);
}

TEST(in_batches_over_unix) {
    play_all(1, 1);
}

TEST_MAIN()
