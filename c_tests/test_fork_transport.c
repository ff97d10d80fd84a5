/* A process that forks from inside of connection_made, and whose child goes on with the loop. */
#include "streams.h"

#include "datagrams.h"

static int is_child;

/* The parent waits for the end of its child. */
static void fork_now(void) {
    int status = 0;
    fflush(NULL);
    is_child = fork() == 0;
    if (!is_child)
        CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void run_until(evl_loop *loop, const int *condition) {
    while (!*condition && !is_child)
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0 || is_child);
    if (is_child)
        CHECK_CODE(evl_loop_after_fork(loop), 0);
}

static void end_child(int before) {
    fflush(NULL);
    _exit(harness_failures > before);
}

static void fork_when_made(struct peer *peer, const char *what) {
    (void)peer;
    if (strcmp(what, "made") == 0)
        fork_now();
}

TEST(a_transport_reads_in_the_child) {
    evl_loop *loop = real_loop();
    struct peer peer;
    evl_future *future;
    int fds[2], before = harness_failures;
    is_child = 0;
    tcp_pair(fds);
    future = peer_adopt(&peer, loop, NULL, fds[0]);
    peer.at = fork_when_made;
    run_until(loop, &peer.made);
    if (is_child) {
        put(fds[1], "for the child");
        UNTIL(loop, peer.size == 13);
        CHECK_STRING(peer.data, "for the child");
        evl_future_unref(future);
        evl_transport_unref(peer.transport);
        end_loop(loop);
        end_child(before);
    }
    finish(loop, future);
    CHECK_CODE(end_code(future), 0);
    CHECK_INT(peer.size, 0);
    peer_close(&peer);
    close(fds[1]);
    end_loop(loop);
}

static void fork_when_told(struct told *told) {
    (void)told;
    fork_now();
}

TEST(a_datagram_endpoint_receives_in_the_child) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram_protocol p = one_by_one();
    evl_future *future = NULL;
    struct sockaddr_in own, to;
    int fd = bound(SOCK_DGRAM, &own), sender = bound(SOCK_DGRAM, &to), before = harness_failures;
    void *made = NULL;
    is_child = 0;
    told.on_made = fork_when_told;
    CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, fd, &p, &told, told_free, &future), 0);
    run_until(loop, &told.made);
    if (is_child) {
        CHECK(sendto(sender, "x", 1, 0, (struct sockaddr *)&own, sizeof own) == 1);
        until(loop, &told.received, 1);
        evl_future_unref(future);
        end_loop(loop);
        end_child(before);
    }
    finish(loop, future);
    CHECK_CODE(evl_future_result(future, &made), 0);
    CHECK_CODE(evl_datagram_close((evl_datagram *)made), 0);
    until(loop, &told.lost, 1);
    evl_future_unref(future);
    close(sender);
    end_loop(loop);
}

TEST_MAIN()
