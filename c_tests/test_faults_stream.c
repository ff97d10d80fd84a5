/* Every system call of servers and clients that talk, failing in every way it can: nobody crashes or hangs, whoever was told that a
 * connection is made is told once that it is lost, everything that was given is released once, every future is done, no descriptor
 * is left; what arrives is what was sent, and only those suffer whose call has failed. */
#include "faults.h"
#include "streams.h"

/* The last client comes when all else is over. */
enum { CLIENTS = 4, LATE = CLIENTS - 1, MOST = 30 };

/* Which end it is, and how it goes about it. */
struct end {
    evl_transport *transport;
    struct end *other; /* of a server's: nobody knows */
    int number, is_server, buffered, paused;
    int made, eofs, lost, code, given, frees, owned, released;
    size_t to_send, sent, got;
    char room[700];
};

struct play {
    evl_loop *loop;
    evl_server *server;
    struct end clients[CLIENTS], ends[MOST];
    evl_future *serving, *connecting[CLIENTS], *closing;
    int count, factory_frees, reports, port, closed;
    size_t size;
};

static struct play play;
static int is_unix, is_buffered;
static char pattern[1 << 18];

__attribute__((constructor)) static void make_pattern(void) {
    unsigned seed = 7, i;
    for (i = 0; i < sizeof pattern; i++)
        pattern[i] = (char)next_random(&seed);
}

static void end_released(void *arg) {
    ((struct end *)arg)->released++;
}

/* Sends the pattern, from a place of its own, by each of the ways there are. */
static void send_more(struct end *end) {
    while (end->transport != NULL && !end->paused && end->sent < end->to_send && !evl_transport_is_closing(end->transport)) {
        const char *from = pattern + end->number * 100 + end->sent;
        size_t some = end->to_send - end->sent < 6000 ? end->to_send - end->sent : 6000;
        evl_buffer two[2] = {{from, some / 2}, {from + some / 2, some - some / 2}};
        int code, way = (int)(end->sent / 6000) % 3;
        end->sent += some;
        if (way == 0) {
            code = evl_transport_write(end->transport, from, some);
        } else if (way == 1) {
            code = evl_transport_writelines(end->transport, two, 2);
        } else {
            end->owned++;
            code = evl_transport_write_owned(end->transport, from, some, end, end_released);
        }
        CHECK(code == 0);
    }
    if (end->sent == end->to_send && !evl_transport_is_closing(end->transport))
        CHECK_CODE(evl_transport_write_eof(end->transport), 0);
}

static void on_made(evl_transport *transport, void *arg) {
    struct end *end = (struct end *)arg;
    CHECK(end->made++ == 0 && end->frees == 0);
    end->transport = transport;
    if (!end->is_server)
        send_more(end);
}

static void on_bytes(struct end *end, const char *data, size_t size) {
    CHECK(end->made == 1 && end->lost == 0 && end->eofs == 0 && end->frees == 0);
    if (!end->is_server) {
        CHECK(end->got + size <= end->to_send && memcmp(data, pattern + end->number * 100 + end->got, size) == 0);
        end->got += size;
        if (end->got == end->to_send)
            CHECK_CODE(evl_transport_close(end->transport), 0);
    } else if (!evl_transport_is_closing(end->transport)) {
        end->got += size;
        CHECK_CODE(evl_transport_write(end->transport, data, size), 0);
    }
}

static void on_data(evl_transport *transport, const void *data, size_t size, void *arg) {
    (void)transport;
    on_bytes((struct end *)arg, (const char *)data, size);
}

static void get_buffer(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *arg) {
    struct end *end = (struct end *)arg;
    (void)transport, (void)hint;
    *buffer = end->room;
    *size = sizeof end->room;
}

static void buffer_updated(evl_transport *transport, size_t size, void *arg) {
    struct end *end = (struct end *)arg;
    (void)transport;
    on_bytes(end, end->room, size);
}

static int on_eof(evl_transport *transport, void *arg) {
    struct end *end = (struct end *)arg;
    (void)transport;
    CHECK(end->made == 1 && end->lost == 0 && end->eofs++ == 0);
    return 0;
}

static void on_lost(evl_transport *transport, int code, void *arg) {
    struct end *end = (struct end *)arg;
    CHECK(end->made == 1 && end->lost++ == 0 && end->frees == 0);
    CHECK(evl_transport_is_closing(transport));
    end->transport = NULL;
    end->code = code;
}

static void on_pause(evl_transport *transport, void *arg) {
    struct end *end = (struct end *)arg;
    CHECK_INT(end->paused++, 0);
    if (end->is_server)
        CHECK_CODE(evl_transport_pause_reading(transport), 0);
}

static void on_resume(evl_transport *transport, void *arg) {
    struct end *end = (struct end *)arg;
    CHECK_INT(end->paused--, 1);
    if (end->is_server)
        CHECK_CODE(evl_transport_resume_reading(transport), 0);
    else
        send_more(end);
}

static void on_free(void *arg) {
    struct end *end = (struct end *)arg;
    CHECK_INT(end->frees++, 0);
    CHECK_INT(end->lost, play.closed ? end->lost : end->made);
    end->transport = NULL;
}

static evl_protocol table(int buffered) {
    evl_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_made = on_made;
    p.data_received = on_data;
    p.eof_received = on_eof;
    p.connection_lost = on_lost;
    p.pause_writing = on_pause;
    p.resume_writing = on_resume;
    if (buffered) {
        p.get_buffer = get_buffer;
        p.buffer_updated = buffer_updated;
    }
    return p;
}

static int make_end(void *arg, evl_protocol *protocol, void **protocol_arg, evl_free_fn *arg_free) {
    struct end *end = &play.ends[play.count++];
    (void)arg;
    CHECK(play.count < MOST);
    end->is_server = end->given = 1;
    *protocol = table(is_buffered && play.count % 2);
    *protocol_arg = end;
    *arg_free = on_free;
    return 0;
}

static void factory_free(void *arg) {
    (void)arg;
    play.factory_frees++;
}

static void count_report(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop, (void)arg;
    CHECK(exception->code < 0 && exception->message != NULL);
    play.reports++;
}

static const char name[] = "\0evl-test-faults";

static int serve(void) {
    evl_server_options options;
    if (is_unix)
        return evl_loop_create_unix_server(play.loop, name, sizeof name, NULL, make_end, &play, factory_free, &play.serving);
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    return evl_loop_create_server(play.loop, &options, make_end, &play, factory_free, &play.serving);
}

static int dial_client(int i, int port) {
    struct end *end = &play.clients[i];
    evl_protocol p = table(is_buffered && i % 2);
    evl_connect_options options;
    char service[10];
    end->number = i;
    end->to_send = play.size;
    end->given = 1;
    if (is_unix)
        return evl_loop_create_unix_connection(play.loop, name, sizeof name, &p, end, on_free, &play.connecting[i]);
    CHECK_CODE(evl_connect_options_init(&options, sizeof options), 0);
    snprintf(service, sizeof service, "%d", port);
    options.host = "127.0.0.1";
    options.service = service;
    return evl_loop_create_connection(play.loop, &options, &p, end, on_free, &play.connecting[i]);
}

/* The server is made, and its clients begin to connect. 0: it cannot be made. */
static int begin(size_t size) {
    void *made = NULL;
    int i, port = 0;
    memset(&play, 0, sizeof play);
    play.size = size;
    play.loop = fault_loop();
    CHECK_CODE(evl_loop_set_exception_handler(play.loop, count_report, NULL, NULL), 0);
    if (serve() < 0) {
        CHECK(play.serving == NULL && fault.hits > 0);
        return 0;
    }
    CHECK_INT(evl_future_done(play.serving), 1);
    if (evl_future_result(play.serving, &made) < 0) {
        CHECK(fault.hits > 0);
        return 0;
    }
    play.server = evl_server_ref((evl_server *)made);
    if (!is_unix && (port = evl_server_port(play.server)) < 0)
        CHECK(fault.hits > 0);
    play.port = port;
    for (i = 0; i < LATE; i++)
        if (dial_client(i, port) < 0)
            CHECK(play.connecting[i] == NULL && fault.hits > 0);
    return 1;
}

static int is_over(void) {
    int i;
    for (i = 0; i < CLIENTS; i++)
        if ((play.connecting[i] && !evl_future_done(play.connecting[i])) || play.clients[i].lost != play.clients[i].made)
            return 0;
    for (i = 0; i < play.count; i++)
        if (play.ends[i].frees == 0)
            return 0;
    return 1;
}

static void check_released(void) {
    int i;
    for (i = 0; i < CLIENTS; i++) {
        CHECK_INT(play.clients[i].frees, play.clients[i].given);
        CHECK_INT(play.clients[i].released, play.clients[i].owned);
    }
    for (i = 0; i < play.count; i++)
        CHECK_INT(play.ends[i].frees, 1);
    CHECK_INT(play.factory_frees, 1);
}

static void finish_play(int before) {
    int i;
    play.closed = 1;
    CHECK_CODE(evl_loop_close(play.loop), 0);
    for (i = 0; i < CLIENTS; i++)
        evl_future_unref(play.connecting[i]);
    evl_future_unref(play.serving);
    evl_future_unref(play.closing);
    evl_server_unref(play.server);
    check_released();
    evl_loop_unref(play.loop);
    fault.armed = 0;
    CHECK_INT(count_descriptors(), before);
}

static void scenario(void) {
    int before, i, complete = 0;
    struct patience patience = {0, 0, 300};
    fault.armed = 0;
    before = count_descriptors();
    fault.armed = 1;
    if (begin(60000)) {
        while (!is_over() && CHECK(fault_step(play.loop, &patience)))
            ;
        for (i = 0; i < CLIENTS; i++) {
            int code = play.connecting[i] ? evl_future_result(play.connecting[i], NULL) : 0;
            complete += i != LATE && play.clients[i].got == play.size;
            if (code < 0)
                CHECK(play.clients[i].made == 0 && fault.hits > 0);
        }
        /* Only those suffer whose call has failed. */
        if (play.port < 0)
            CHECK_INT(complete, 0);
        else
            CHECK(complete >= LATE - (fault_is_harmless() ? 0 : fault.hits));
        /* And only then. */
        fault.armed = 0;
        patience.idle = 0;
        CHECK_CODE(dial_client(LATE, evl_server_port(play.server)), 0);
        while (!is_over() && CHECK(fault_step(play.loop, &patience)))
            ;
        CHECK(play.clients[LATE].got == play.size && play.clients[LATE].code == 0);
        CHECK_CODE(evl_server_wait_closed(play.server, &play.closing), 0);
        CHECK_INT(evl_future_done(play.closing), 0);
        CHECK_CODE(evl_server_close(play.server), 0);
        patience.idle = 0;
        while (!evl_future_done(play.closing) && CHECK(fault_step(play.loop, &patience)))
            ;
        CHECK_INT(evl_future_done(play.closing), 1);
    }
    finish_play(before);
}

static void play_all(int over_unix, int buffered) {
    is_unix = over_unix;
    is_buffered = buffered;
    fault_count = 0;
    fault_play_all(scenario, 12);
    printf("%d scenarios, %d faults\n", fault_count, fault_hits);
}

TEST(over_tcp) {
    play_all(0, 0);
}

TEST(over_unix_with_buffers_of_the_protocols_own) {
    play_all(1, 1);
}

/* --- ended at every step */

enum { CLOSE_LOOP, CANCEL, ABORT_ALL, CLOSE_ALL, CLOSE_SERVER, ABORT_CLIENTS, WAYS };

/* Whether it came so far. */
static int ended_at(int way, int step) {
    int before = count_descriptors(), i, ran = 1;
    struct patience patience = {0, 0, 300};
    CHECK_INT(begin(200000), 1);
    for (i = 0; i < step && !is_over(); i++)
        ran = fault_step(play.loop, &patience);
    ran = i == step && ran;
    CHECK_CODE(evl_server_wait_closed(play.server, &play.closing), 0);
    for (i = 0; i < CLIENTS; i++) {
        if (way == CANCEL && play.connecting[i])
            CHECK(evl_future_cancel(play.connecting[i], NULL) >= 0);
        if ((way == ABORT_ALL || way == CLOSE_ALL) && play.clients[i].transport != NULL)
            CHECK_CODE((way == ABORT_ALL ? evl_transport_abort : evl_transport_close)(play.clients[i].transport), 0);
    }
    if (way == ABORT_ALL || way == CLOSE_ALL)
        for (i = 0; i < play.count; i++)
            if (play.ends[i].transport != NULL)
                CHECK_CODE((way == ABORT_ALL ? evl_transport_abort : evl_transport_close)(play.ends[i].transport), 0);
    if (way == ABORT_CLIENTS)
        CHECK(evl_server_abort_clients(play.server) >= 0);
    if (way != CLOSE_LOOP) {
        if (way == CANCEL)
            CHECK_INT(evl_future_cancel(play.closing, NULL), 1);
        if (way == CLOSE_SERVER)
            CHECK_CODE(evl_server_close(play.server), 0);
        while (!is_over() && CHECK(fault_step(play.loop, &patience)))
            ;
        CHECK_CODE(evl_server_close(play.server), 0);
        while (!evl_future_done(play.closing) && CHECK(fault_step(play.loop, &patience)))
            ;
        for (i = 0; i < LATE; i++)
            CHECK_INT(evl_future_done(play.connecting[i]), 1);
        CHECK_INT(evl_future_done(play.closing), 1);
    }
    finish_play(before);
    return ran;
}

TEST(ended_at_every_step) {
    int way, step;
    fault_none();
    for (way = 0; way < WAYS; way++)
        for (is_unix = 0; is_unix < 2; is_unix++)
            for (step = 0; ended_at(way, step); step += under_valgrind() ? 1 + step / 2 : 1 + step / 10)
                ;
}

TEST_MAIN()
