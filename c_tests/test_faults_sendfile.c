/* A file that a transport sends, while each of the system calls fails in every way it can: its future is done, the connection is lost
 * once, and what arrives is the file's begin; all of it, when nothing but the moment was disturbed. */
#include "faults.h"
#include "streams.h"

enum { SIZE = 400000 };

static int file, is_piped;
static char bytes[SIZE];

static struct {
    size_t got;
    int wrong;
} arrived;

static void on_data(evl_transport *transport, const void *data, size_t size, void *arg) {
    (void)transport, (void)arg;
    if (arrived.got + size > SIZE || memcmp(bytes + arrived.got, data, size) != 0)
        arrived.wrong = 1;
    arrived.got += size;
}


static void scenario(void) {
    evl_loop *loop;
    struct peer a, b;
    struct patience patience = {0, 0, 300};
    evl_protocol p = peer_protocol();
    evl_future *future = NULL, *made = NULL;
    int64_t sent = 0;
    int before, fds[2], code, from = file, pipe_fds[2] = {-1, -1};
    fault.armed = 0;
    before = count_descriptors();
    loop = fault_loop();
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_report, NULL, NULL), 0);
    memset(&arrived, 0, sizeof arrived);
    tcp_pair(fds);
    peer_open(&a, loop, NULL, fds[0]);
    peer_init(&b, loop, NULL);
    p.data_received = on_data;
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, fds[1], &p, &b, peer_free, &made), 0);
    finish(loop, made);
    evl_future_unref(made);
    if (is_piped) {
        /* What has no positions is read in pieces. */
        CHECK(pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC) == 0);
        CHECK(write(pipe_fds[1], bytes, 60000) == 60000);
        close(pipe_fds[1]);
        from = pipe_fds[0];
    }
    fault.armed = 1;
    code = evl_loop_sendfile(loop, a.transport, from, 0, 0, 1, &future);
    if (code < 0) {
        CHECK(future == NULL && fault.hits > 0);
    } else {
        while (!evl_future_done(future) && CHECK(fault_step(loop, &patience)))
            ;
        code = evl_future_result_int(future, &sent);
        evl_future_unref(future);
        if (code < 0)
            CHECK(fault.hits > 0);
        else
            CHECK_INT(sent, is_piped ? 60000 : SIZE);
    }
    if (fault_is_harmless())
        CHECK_CODE(code, 0);
    if (!evl_transport_is_closing(a.transport))
        CHECK_CODE(evl_transport_close(a.transport), 0);
    patience.idle = 0;
    while ((!a.lost || !b.lost) && CHECK(fault_step(loop, &patience)))
        ;
    fault.armed = 0;
    CHECK(!arrived.wrong && (fault.hits > 0 || (int64_t)arrived.got == sent));
    if (fault_is_harmless())
        CHECK_INT(arrived.got, is_piped ? 60000 : SIZE);
    CHECK(a.frees == 1 && b.frees == 1);
    peer_end(&a);
    peer_end(&b);
    if (is_piped)
        close(pipe_fds[0]);
    CHECK_INT(watchers(loop), 0);
    end_loop(loop);
    CHECK_INT(count_descriptors(), before);
}

static void play_all(int piped) {
    is_piped = piped;
    fault_count = fault_hits = 0;
    fault_none();
    file = random_file(SIZE, 5, NULL);
    CHECK(pread(file, bytes, SIZE, 0) == SIZE);
    fault_play_all(scenario, 10);
    close(file);
    printf("%d scenarios, %d faults\n", fault_count, fault_hits);
}

TEST(a_file) {
    play_all(0);
}

TEST(a_pipe) {
    play_all(1);
}

TEST_MAIN()
