/* Connecting to a name that has many addresses: in turn, beside each other, and none that answers. The name's addresses are
 * what each test says: this program has a getaddrinfo of its own. */
#include "jobs.h"
#include "streams.h"

#include <netdb.h>

static struct sockaddr_storage found[8];
static int found_count, lookups;

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    int i;
    struct addrinfo **place = out;
    (void)service;
    __atomic_add_fetch(&lookups, 1, __ATOMIC_SEQ_CST);
    if (host == NULL || strcmp(host, "many.test") != 0)
        return EAI_NONAME;
    for (i = 0; i < found_count; i++) {
        struct addrinfo *one = (struct addrinfo *)calloc(1, sizeof *one);
        one->ai_family = found[i].ss_family;
        one->ai_socktype = hints->ai_socktype;
        one->ai_protocol = IPPROTO_TCP;
        one->ai_addr = (struct sockaddr *)&found[i];
        one->ai_addrlen = found[i].ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        *place = one;
        place = &one->ai_next;
    }
    *place = NULL;
    return 0;
}

void freeaddrinfo(struct addrinfo *list) {
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static void find(int port, const char *address) {
    struct sockaddr_in *four = (struct sockaddr_in *)&found[found_count];
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&found[found_count];
    memset(&found[found_count], 0, sizeof found[0]);
    if (strchr(address, ':') != NULL) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        CHECK(inet_pton(AF_INET6, address, &six->sin6_addr) == 1);
    } else {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        CHECK(inet_pton(AF_INET, address, &four->sin_addr) == 1);
    }
    found_count++;
}

/* A port at which nobody listens. */
static int dead_port(int *fd) {
    struct sockaddr_in address;
    *fd = bound(SOCK_STREAM, &address);
    return ntohs(address.sin_port);
}

/* A listening socket whose backlog is full: connecting to it takes its time. */
struct full {
    int listener, port, clients[3];
};

static void full_open(struct full *full) {
    struct sockaddr_in address;
    int i;
    full->listener = listening(&address, 0);
    full->port = ntohs(address.sin_port);
    for (i = 0; i < 3; i++) {
        full->clients[i] = tcp_socket();
        CHECK(connect(full->clients[i], (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS);
    }
}

static void full_close(struct full *full) {
    int i;
    for (i = 0; i < 3; i++)
        close(full->clients[i]);
    close(full->listener);
}

static struct crowd crowd;

struct scene {
    evl_loop *loop;
    struct peer peer;
    evl_connect_options options;
    struct full full;
    int dead, dead_fd, alive;
};

static void scene_open(struct scene *scene) {
    found_count = lookups = 0;
    scene->loop = real_loop();
    CHECK_CODE(evl_connect_options_init(&scene->options, sizeof scene->options), 0);
    scene->options.host = "many.test";
    scene->options.service = "9";
    full_open(&scene->full);
    scene->dead = dead_port(&scene->dead_fd);
    scene->alive = crowd_serve(&crowd, scene->loop, 0);
}

static evl_future *scene_begin(struct scene *scene) {
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    peer_init(&scene->peer, scene->loop, "");
    CHECK_CODE(evl_loop_create_connection(scene->loop, &scene->options, &p, &scene->peer, peer_free, &future), 0);
    return future;
}

/* The connection is made, and at once closed. */
static void scene_connected(struct scene *scene, evl_future *future) {
    finish(scene->loop, future);
    CHECK_CODE(end_code(future), 0);
    if (scene->peer.transport != NULL)
        peer_close(&scene->peer);
    CHECK_TRACE("made lost");
    UNTIL(scene->loop, crowd.count == 1 && crowd.peers[0].lost);
    CHECK_INT(watchers(scene->loop), 1);
}

static void scene_close(struct scene *scene) {
    idle(scene->loop);
    CHECK(crowd.count <= 1);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    full_close(&scene->full);
    close(scene->dead_fd);
    CHECK_INT(watchers(scene->loop), 0);
    end_loop(scene->loop);
}

TEST(the_next_address_is_tried_when_one_refuses) {
    struct scene scene;
    scene_open(&scene);
    find(scene.dead, "127.0.0.1");
    find(scene.dead, "127.0.0.2");
    find(1, "255.255.255.255");
    find(scene.alive, "127.0.0.1");
    scene_connected(&scene, scene_begin(&scene));
    CHECK_INT(lookups, 1);
    scene_close(&scene);
}

TEST(all_fail_and_are_listed) {
    struct scene scene;
    evl_future *future;
    char expected[300];
    scene_open(&scene);
    find(scene.dead, "127.0.0.1");
    find(scene.dead, "127.0.0.2");
    find(scene.dead, "127.0.0.3");
    future = scene_begin(&scene);
    finish(scene.loop, future);
    snprintf(expected, sizeof expected,
             "all 3 addresses failed: connect 127.0.0.1:%d: connection refused; connect 127.0.0.2:%d: connection "
             "refused; connect 127.0.0.3:%d: connection refused",
             scene.dead, scene.dead, scene.dead);
    {
        char text[400] = "";
        CHECK(evl_future_error_message(future, text, sizeof text) > 0);
        CHECK_STRING(text, expected);
    }
    CHECK_CODE(end_code(future), -ECONNREFUSED);
    CHECK_INT(scene.peer.frees, 1);
    scene_close(&scene);
}

TEST(a_name_without_addresses) {
    struct scene scene;
    evl_future *future;
    scene_open(&scene);
    future = scene_begin(&scene);
    finish(scene.loop, future);
    CHECK(end_code(future) < 0);
    CHECK_INT(scene.peer.frees, 1);
    scene_close(&scene);
}

/* Without a delay the first address is waited for as long as it takes. */
TEST(without_a_delay_the_first_is_waited_for) {
    struct scene scene;
    evl_future *future;
    int64_t begun;
    scene_open(&scene);
    find(scene.full.port, "127.0.0.1");
    find(scene.alive, "127.0.0.1");
    future = scene_begin(&scene);
    begun = time_of(scene.loop);
    while (time_of(scene.loop) < begun + EVL_MS(300))
        CHECK(evl_loop_run_once(scene.loop, EVL_MS(50)) >= 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(crowd.count, 0);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    CHECK_INT(watchers(scene.loop), 1);
    finish(scene.loop, future);
    CHECK_CODE(end_code(future), EVL_ECANCELLED);
    CHECK_INT(scene.peer.frees, 1);
    scene_close(&scene);
}

TEST(with_a_delay_the_next_is_tried_beside_it) {
    struct scene scene;
    int64_t begun;
    int before;
    scene_open(&scene);
    scene.options.happy_eyeballs_delay_ns = EVL_MS(100);
    find(scene.full.port, "127.0.0.1");
    find(scene.full.port, "127.0.0.1");
    find(scene.dead, "127.0.0.1");
    find(scene.alive, "127.0.0.1");
    CHECK(evl_loop_run_once(scene.loop, EVL_MS(1)) >= 0);
    before = count_descriptors();
    begun = time_of(scene.loop);
    scene_connected(&scene, scene_begin(&scene));
    /* One that fails is not waited for. */
    CHECK(time_of(scene.loop) >= begun + EVL_MS(200));
    CHECK_INT(count_descriptors(), before);
    scene_close(&scene);
}

/* The first may still win while the second is being tried. */
TEST(a_late_first_wins) {
    struct scene scene;
    evl_future *future;
    int listener, i, taken = 0, fds[4];
    scene_open(&scene);
    scene.options.happy_eyeballs_delay_ns = EVL_MS(1);
    find(scene.full.port, "127.0.0.1");
    find(scene.full.port, "127.0.0.1");
    find(scene.full.port, "127.0.0.1");
    future = scene_begin(&scene);
    for (i = 0; i < 10; i++)
        CHECK(evl_loop_run_once(scene.loop, EVL_MS(2)) >= 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(watchers(scene.loop), 4);
    /* Room is made; the system tries again after a second. */
    listener = scene.full.listener;
    fcntl(listener, F_SETFL, O_NONBLOCK);
    while (!evl_future_done(future)) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && taken < 4)
            fds[taken++] = fd;
        CHECK(evl_loop_run_once(scene.loop, EVL_MS(50)) >= 0);
    }
    CHECK_CODE(end_code(future), 0);
    CHECK_TRACE("made");
    peer_close(&scene.peer);
    CHECK_INT(watchers(scene.loop), 1);
    trace_reset();
    while (taken > 0)
        close(fds[--taken]);
    scene_close(&scene);
}

TEST(all_fail_beside_each_other) {
    struct scene scene;
    evl_future *future;
    char text[400] = "";
    int before;
    scene_open(&scene);
    CHECK(evl_loop_run_once(scene.loop, EVL_MS(1)) >= 0);
    scene.options.happy_eyeballs_delay_ns = EVL_MS(1);
    before = count_descriptors();
    find(scene.full.port, "127.0.0.1");
    find(scene.dead, "127.0.0.1");
    find(1, "255.255.255.255");
    future = scene_begin(&scene);
    CHECK_CODE(evl_future_set_timeout(future, EVL_MS(100)), 0);
    finish(scene.loop, future);
    CHECK_CODE(end_code(future), -ETIMEDOUT);
    CHECK_INT(count_descriptors(), before);
    CHECK_INT(scene.peer.frees, 1);
    found_count = 0;
    find(scene.dead, "127.0.0.1");
    find(1, "255.255.255.255");
    find(scene.dead, "::1");
    future = scene_begin(&scene);
    finish(scene.loop, future);
    CHECK(evl_future_error_message(future, text, sizeof text) > 0);
    CHECK(strncmp(text, "all 3 addresses failed: connect 127.0.0.1:", 42) == 0);
    /* By turns of the families. */
    CHECK(strstr(text, "::1") != NULL && strstr(text, "255.255") != NULL && strstr(text, "::1") < strstr(text, "255.255"));
    CHECK_CODE(end_code(future), -ECONNREFUSED);
    CHECK_INT(count_descriptors(), before);
    scene_close(&scene);
}

/* In which order the addresses are tried: as the message lists those that fail. */
static void expect_order(int interleave, const char *expected) {
    struct scene scene;
    evl_future *future;
    char text[600] = "", order[20] = "", *at;
    scene_open(&scene);
    scene.options.interleave = interleave;
    find(scene.dead, "127.0.0.1");
    find(scene.dead, "127.0.0.2");
    find(scene.dead, "127.0.0.3");
    find(1, "::ffff:0:0:1");
    find(1, "::ffff:0:0:2");
    future = scene_begin(&scene);
    finish(scene.loop, future);
    CHECK(evl_future_error_message(future, text, sizeof text) > 0);
    for (at = text; (at = strstr(at, "connect ")) != NULL; at += 8)
        strcat(order, at[8] == '[' ? "6" : "4");
    CHECK_STRING(order, expected);
    CHECK_CODE(end_code(future), -ECONNREFUSED);
    scene_close(&scene);
}

TEST(interleaved) {
    expect_order(0, "44466");
    expect_order(1, "46464");
    expect_order(2, "44646");
    expect_order(3, "44466");
    expect_order(9, "44466");
}

TEST(the_loop_closed_with_several_attempts) {
    struct scene scene;
    evl_future *future;
    int i;
    scene_open(&scene);
    scene.options.happy_eyeballs_delay_ns = EVL_MS(1);
    for (i = 0; i < 3; i++)
        find(scene.full.port, "127.0.0.1");
    future = scene_begin(&scene);
    while (watchers(scene.loop) < 3)
        CHECK(evl_loop_run_once(scene.loop, EVL_MS(2)) >= 0);
    CHECK_CODE(evl_loop_close(scene.loop), 0);
    CHECK_INT(scene.peer.frees, 1);
    CHECK_INT(evl_future_done(future), 0);
    evl_future_unref(future);
    crowd_end(&crowd);
    full_close(&scene.full);
    close(scene.dead_fd);
    evl_loop_unref(scene.loop);
}

/* --- servers of such a name */

TEST(a_server_of_many_addresses) {
    evl_loop *loop = real_loop();
    evl_server_options options;
    evl_future *future = NULL;
    int fds[8];
    found_count = 0;
    find(0, "127.0.0.1");
    find(0, "127.0.0.2");
    find(0, "127.0.0.1");
    find(0, "192.0.2.1");
    find(0, "::1");
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "many.test";
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_create_server(loop, &options, crowd_make, &crowd, crowd_free, &future), 0);
    CHECK_INT(evl_future_done(future), 0);
    crowd.server = server_of(loop, future);
    CHECK_INT(evl_server_sockets(crowd.server, fds, 8), 3);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
    CHECK_INT(crowd.frees, 1);
    await_threads(1);
}

TEST_MAIN()
