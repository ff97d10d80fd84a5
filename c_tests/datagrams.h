/* What tests of datagram endpoints share; included after sockets.h. */
#ifndef EVL_TEST_DATAGRAMS_H
#define EVL_TEST_DATAGRAMS_H

/* What a protocol was told. */
struct told {
    evl_datagram *datagram;
    const char *name; /* traced before each call when it is not NULL */
    int made, received, batches, lost, pauses, resumes, frees;
    int errors, error;
    int lost_code;
    size_t bytes, last_size;
    uint64_t hash;
    char last[64];
    struct sockaddr_storage from;
    uint32_t from_size;
    int echo;                                           /* sends back what comes */
    void (*on_made)(struct told *);                     /* from inside of connection_made, */
    void (*on_received)(struct told *);                 /* of datagram_received, and so on */
    void (*on_error)(struct told *);
    void (*on_lost)(struct told *);
    void (*on_pause)(struct told *);
    void (*on_resume)(struct told *);
};

static inline void told_made(evl_datagram *datagram, void *arg) {
    struct told *told = (struct told *)arg;
    CHECK_INT(told->made++, 0);
    told->datagram = datagram;
    if (told->on_made)
        told->on_made(told);
}

static inline void told_one(struct told *told, const void *data, size_t size, const void *address, uint32_t address_size) {
    CHECK(told->made == 1 && told->lost == 0);
    told->received++;
    told->bytes += size;
    told->last_size = size;
    told->hash = hash_on(told->hash, data, size);
    snprintf(told->last, sizeof told->last, "%.*s", (int)(size < 60 ? size : 60), (const char *)data);
    told->from_size = address_size;
    CHECK((address == NULL) == (address_size == 0));
    if (address != NULL)
        memcpy(&told->from, address, address_size);
}

static inline void told_received(evl_datagram *datagram, const void *data, size_t size, const void *address,
                                 uint32_t address_size, void *arg) {
    struct told *told = (struct told *)arg;
    told_one(told, data, size, address, address_size);
    if (told->echo)
        CHECK_CODE(evl_datagram_sendto(datagram, data, size, address, address_size), 0);
    if (told->on_received)
        told->on_received(told);
}

static inline void told_batch(evl_datagram *datagram, const evl_datagram_message *messages, size_t count, void *arg) {
    struct told *told = (struct told *)arg;
    size_t i;
    CHECK(count > 0);
    told->batches++;
    for (i = 0; i < count; i++)
        told_one(told, messages[i].data, messages[i].size, messages[i].address, messages[i].address_size);
    if (told->echo)
        CHECK_CODE(evl_datagram_send_batch(datagram, messages, count), 0);
    if (told->on_received)
        told->on_received(told);
}

static inline void told_error(evl_datagram *datagram, int code, void *arg) {
    struct told *told = (struct told *)arg;
    CHECK(datagram == told->datagram && code < 0 && told->lost == 0);
    told->errors++;
    told->error = code;
    if (told->on_error)
        told->on_error(told);
}

static inline void told_lost(evl_datagram *datagram, int code, void *arg) {
    struct told *told = (struct told *)arg;
    CHECK(datagram == told->datagram && told->frees == 0);
    CHECK_INT(told->lost++, 0);
    told->lost_code = code;
    CHECK(evl_datagram_get_fd(datagram) >= 0);
    if (told->on_lost)
        told->on_lost(told);
}

static inline void told_pause(evl_datagram *datagram, void *arg) {
    struct told *told = (struct told *)arg;
    (void)datagram;
    CHECK_INT(told->pauses++, told->resumes);
    if (told->on_pause)
        told->on_pause(told);
}

static inline void told_resume(evl_datagram *datagram, void *arg) {
    struct told *told = (struct told *)arg;
    (void)datagram;
    told->resumes++;
    CHECK_INT(told->resumes, told->pauses);
    if (told->on_resume)
        told->on_resume(told);
}

static inline void told_free(void *arg) {
    ((struct told *)arg)->frees++;
}

static inline struct told told_nothing(void) {
    struct told told;
    memset(&told, 0, sizeof told);
    told.hash = HASH_BEGIN;
    return told;
}

static inline evl_datagram_protocol one_by_one(void) {
    evl_datagram_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_made = told_made;
    p.datagram_received = told_received;
    p.error_received = told_error;
    p.connection_lost = told_lost;
    p.pause_writing = told_pause;
    p.resume_writing = told_resume;
    return p;
}

static inline evl_datagram_protocol in_batches(void) {
    evl_datagram_protocol p = one_by_one();
    p.datagrams_received = told_batch;
    return p;
}

static inline evl_datagram_options any_options(void) {
    evl_datagram_options options;
    CHECK_CODE(evl_datagram_options_init(&options, sizeof options), 0);
    return options;
}

/* A reference to the endpoint that a future results in, or NULL with its error in *code. */
static inline evl_datagram *endpoint_of(evl_loop *loop, evl_future *future, int *code) {
    void *made = NULL;
    finish(loop, future);
    *code = evl_future_result(future, &made);
    if (*code == 0)
        evl_datagram_ref((evl_datagram *)made);
    evl_future_unref(future);
    return (evl_datagram *)made;
}

static inline evl_datagram *create_endpoint(evl_loop *loop, const evl_datagram_options *options,
                                            evl_datagram_protocol protocol, struct told *told) {
    evl_future *future = NULL;
    evl_datagram *made = NULL;
    int code = 0;
    if (CHECK_CODE(evl_loop_create_datagram_endpoint(loop, options, &protocol, told, told_free, &future), 0)) {
        made = endpoint_of(loop, future, &code);
        CHECK_CODE(code, 0);
        CHECK_INT(told->made, 1);
    }
    return made;
}

/* One that is bound to a free port of 127.0.0.1. */
static inline evl_datagram *bound_endpoint(evl_loop *loop, evl_datagram_protocol protocol, struct told *told) {
    evl_datagram_options options = any_options();
    options.local_host = "127.0.0.1";
    options.local_service = "0";
    return create_endpoint(loop, &options, protocol, told);
}

static inline struct sockaddr_in name_of(evl_datagram *datagram) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    CHECK_INT(evl_datagram_get_sockname(datagram, &address, sizeof address), sizeof address);
    return address;
}

/* One that is connected to a port of 127.0.0.1. */
static inline evl_datagram *connected_endpoint(evl_loop *loop, int port, evl_datagram_protocol protocol,
                                               struct told *told) {
    evl_datagram_options options = any_options();
    char service[8];
    snprintf(service, sizeof service, "%d", port);
    options.remote_host = "127.0.0.1";
    options.remote_service = service;
    return create_endpoint(loop, &options, protocol, told);
}

static inline evl_datagram *adopted_endpoint(evl_loop *loop, int fd, evl_datagram_protocol protocol, struct told *told) {
    evl_future *future = NULL;
    evl_datagram *made = NULL;
    int code = 0;
    if (CHECK_CODE(evl_loop_create_datagram_endpoint_fd(loop, fd, &protocol, told, told_free, &future), 0)) {
        made = endpoint_of(loop, future, &code);
        CHECK_CODE(code, 0);
    }
    return made;
}

/* Runs the loop until the counter is there. */
static inline void until(evl_loop *loop, const int *counter, int wanted) {
    int rounds = 0;
    while (*counter < wanted && rounds++ < 100000)
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            break;
    CHECK_INT(*counter, wanted);
}

/* Runs what is ready now. */
static inline void settle(evl_loop *loop) {
    int i;
    for (i = 0; i < 3; i++)
        CHECK(evl_loop_run_once(loop, 0) >= 0);
}

/* Closes it and runs the loop until its protocol was told. */
static inline void end_endpoint(evl_loop *loop, evl_datagram *datagram, struct told *told) {
    CHECK_CODE(evl_datagram_close(datagram), 0);
    until(loop, &told->lost, 1);
    settle(loop);
    CHECK_INT(told->frees, 1);
    CHECK_CODE(evl_datagram_get_fd(datagram), -EBADF);
    evl_datagram_unref(datagram);
}

#endif
