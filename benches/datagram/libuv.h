/* For datagram.c, libuv: uv_udp_try_send of each; received one by one, or with UV_UDP_RECVMMSG; or, where it is there, a batch sent by
 * uv_udp_try_send2. */

enum { PLAIN, RECEIVE_MANY, SEND_MANY };

static uv_loop_t loop;
static uv_udp_t handle;
static int how;
static char hot[20 * 65536];

#if UV_VERSION_HEX >= (1 << 16 | 50 << 8)
static uv_buf_t waiting[MOST], *waiting_at[MOST];
static struct sockaddr_storage names[MOST];
static struct sockaddr *names_at[MOST];
static unsigned ones[MOST], waiting_count;

static void send_waiting(void) {
    unsigned i;
    for (i = 0; i < waiting_count; i++) {
        waiting_at[i] = &waiting[i];
        names_at[i] = (struct sockaddr *)&names[i];
        ones[i] = 1;
    }
    if (waiting_count > 0)
        must(uv_udp_try_send2(&handle, waiting_count, waiting_at, ones, names_at, 0));
    waiting_count = 0;
}
#endif

static void on_alloc(uv_handle_t *of, size_t hint, uv_buf_t *buffer) {
    (void)of, (void)hint;
    *buffer = uv_buf_init(hot, how == PLAIN ? 65536 : sizeof hot);
}

static void on_received(uv_udp_t *of, ssize_t size, const uv_buf_t *buffer, const struct sockaddr *address, unsigned flags) {
    uv_buf_t back = uv_buf_init(buffer->base, (unsigned)(size > 0 ? size : 0));
    (void)of, (void)flags;
    must((int)size);
#if UV_VERSION_HEX >= (1 << 16 | 50 << 8)
    /* The last one comes with its memory, or without a name. */
    if (how == SEND_MANY && size != 1) {
        if (address != NULL) {
            waiting[waiting_count] = back;
            memcpy(&names[waiting_count++], address, sizeof(struct sockaddr_in));
        }
        if (address == NULL || waiting_count == MOST || !(flags & UV_UDP_MMSG_CHUNK))
            send_waiting();
        return;
    }
#endif
    if (address == NULL)
        return;
    if (size == 1)
        datagram_stop();
    else
        must(uv_udp_try_send(&handle, &back, 1, address));
}

static void datagram_open(int fd, int mode, size_t batch) {
    (void)batch;
    how = mode;
    must(uv_loop_init(&loop));
    must(uv_udp_init_ex(&loop, &handle, AF_UNSPEC | (how == PLAIN ? 0 : UV_UDP_RECVMMSG)));
    must(uv_udp_open(&handle, fd));
    must(uv_udp_recv_start(&handle, on_alloc, on_received));
}

static void datagram_run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void datagram_stop(void) {
    uv_stop(&loop);
}

static void datagram_close(void) {
    uv_close((uv_handle_t *)&handle, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&loop));
}

#if UV_VERSION_HEX >= (1 << 16 | 50 << 8)
#define NEWEST BATCH(SEND_MANY, "uv_udp_try_send2, RECVMMSG")
#else
#define NEWEST
#endif

#define VARIANTS                                                                                                      \
    SINGLE(PLAIN, "uv_udp_try_send")                                                                                  \
    SINGLE(RECEIVE_MANY, "uv_udp_try_send, RECVMMSG")                                                                 \
    BATCH(PLAIN, "uv_udp_try_send") BATCH(RECEIVE_MANY, "uv_udp_try_send, RECVMMSG") NEWEST
