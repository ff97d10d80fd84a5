/* Misuse of loop.sendfile: NULL, nonsense, transports of other loops, other threads, closed loops, forked children. */
#include "streams.h"

struct scene {
    evl_loop *loop;
    struct peer from, to;
    int file;
};

static void open_scene(struct scene *scene) {
    int fds[2];
    scene->loop = real_loop();
    unix_pair(fds);
    peer_open(&scene->from, scene->loop, NULL, fds[0]);
    peer_open(&scene->to, scene->loop, NULL, fds[1]);
    scene->file = random_file(3000000, 1, NULL);
}

static void end_scene(struct scene *scene) {
    CHECK_CODE(evl_transport_abort(scene->from.transport), 0);
    CHECK_CODE(evl_transport_abort(scene->to.transport), 0);
    UNTIL(scene->loop, scene->from.lost && scene->to.lost);
    peer_end(&scene->from);
    peer_end(&scene->to);
    close(scene->file);
    end_loop(scene->loop);
}

TEST(null_and_nonsense) {
    struct scene scene, other;
    evl_future *future = (evl_future *)&scene;
    evl_transport *t;
    char detail[200];
    open_scene(&scene);
    open_scene(&other);
    t = scene.from.transport;
    CHECK_CODE(evl_loop_sendfile(NULL, t, scene.file, 0, 0, 1, &future), -EINVAL);
    CHECK_CODE(evl_loop_sendfile(scene.loop, NULL, scene.file, 0, 0, 1, &future), -EINVAL);
    CHECK_CODE(evl_loop_sendfile(NULL, NULL, scene.file, 0, 0, 1, NULL), -EINVAL);
    CHECK_CODE(evl_loop_sendfile(scene.loop, other.from.transport, scene.file, 0, 0, 1, &future), -EINVAL);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "the transport belongs to another loop");
    CHECK_CODE(evl_loop_sendfile(scene.loop, t, scene.file, -1, 0, 1, &future), -EINVAL);
    CHECK_CODE(evl_loop_sendfile(scene.loop, t, scene.file, 0, -1, 1, &future), -EINVAL);
    CHECK_CODE(evl_loop_sendfile(scene.loop, t, scene.file, INT64_MIN, INT64_MIN, 1, &future), -EINVAL);
    CHECK_CODE(evl_loop_sendfile(scene.loop, t, scene.file, INT64_MAX, 1, 1, &future), -EINVAL);
    CHECK_CODE(evl_loop_sendfile(scene.loop, t, -1, 0, 0, 1, &future), -EBADF);
    CHECK_CODE(evl_loop_sendfile(scene.loop, t, INT32_MAX, 0, 0, 1, &future), -EBADF);
    CHECK(future == (evl_future *)&scene);
    CHECK_INT(evl_transport_is_reading(t), 1);
    CHECK_INT(drain(evl_transport_get_fd(scene.to.transport)), 0);
    /* A file that is longer than it is asked for, and one that ends early, in every sense of fallback. */
    CHECK_CODE(evl_loop_sendfile(scene.loop, t, scene.file, 2999999, INT64_MAX - 2999999, -7, &future), 0);
    finish(scene.loop, future);
    CHECK_INT(end_number(future), 1);
    end_scene(&scene);
    end_scene(&other);
}

/* Its own socket, or its peer's, as the file. */
TEST(a_socket_that_is_a_transport) {
    struct scene scene;
    open_scene(&scene);
    CHECK_CODE(evl_loop_sendfile(scene.loop, scene.from.transport, evl_transport_get_fd(scene.from.transport), 0, 0, 1, NULL),
               EVL_EBUSY);
    CHECK_CODE(evl_loop_sendfile(scene.loop, scene.from.transport, evl_transport_get_fd(scene.to.transport), 0, 0, 1, NULL),
               EVL_EBUSY);
    end_scene(&scene);
}

static void *from_elsewhere(void *arg) {
    struct scene *scene = (struct scene *)arg;
    CHECK_CODE(evl_loop_sendfile(scene->loop, scene->from.transport, scene->file, 0, 0, 1, NULL), EVL_EWRONGTHREAD);
    return NULL;
}

static void in_callback(void *arg) {
    in_thread(from_elsewhere, arg);
}

TEST(another_thread) {
    struct scene scene;
    open_scene(&scene);
    CHECK_CODE(evl_loop_call_soon(scene.loop, in_callback, &scene, NULL, NULL, NULL), 0);
    idle(scene.loop);
    CHECK_INT(scene.to.total, 0);
    end_scene(&scene);
}

TEST(a_closed_loop) {
    struct scene scene;
    evl_future *future = NULL;
    open_scene(&scene);
    CHECK_CODE(evl_loop_close(scene.loop), 0);
    CHECK_CODE(evl_loop_sendfile(scene.loop, scene.from.transport, scene.file, 0, 0, 1, &future), EVL_ECLOSED);
    CHECK(future == NULL);
    peer_end(&scene.from);
    peer_end(&scene.to);
    close(scene.file);
    evl_loop_unref(scene.loop);
}

static void close_in_child(void *arg) {
    struct scene *scene = (struct scene *)arg;
    CHECK_CODE(evl_loop_sendfile(scene->loop, scene->from.transport, scene->file, 0, 0, 1, NULL), EVL_EFORKED);
    CHECK_CODE(evl_loop_close(scene->loop), 0);
    peer_end(&scene->from);
    peer_end(&scene->to);
    evl_loop_unref(scene->loop);
}

/* A child gives up what it has a copy of; the parent's file arrives. */
TEST(a_forked_child) {
    struct scene scene;
    evl_future *future = NULL;
    int status;
    open_scene(&scene);
    CHECK_CODE(evl_loop_sendfile(scene.loop, scene.from.transport, scene.file, 0, 0, 1, &future), 0);
    CHECK_INT(evl_future_done(future), 0);
    status = in_child(close_in_child, &scene);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 0);
    finish(scene.loop, future);
    CHECK_INT(end_number(future), 3000000);
    UNTIL(scene.loop, scene.to.total >= 3000000);
    end_scene(&scene);
}

TEST_MAIN()
