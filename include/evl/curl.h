/*
 * evl for libcurl: transfers of many easy handles in an event loop, each with a callback of its own when it is done. libcurl 7.81 and
 * newer, by its multi interface; C99 and C++11.
 *
 *     evl_curl *curl;
 *     int code = evl_curl_new(loop, &curl);
 *     CURL *easy = curl_easy_init();                              // curl_easy_setopt(easy, CURLOPT_URL, ...), ...
 *     code = evl_curl_add(curl, easy, done, arg, NULL);           // done(easy, result, arg) follows
 *     ...
 *     evl_curl_free(curl);
 *
 * evl itself does not need libcurl: who includes this file links it (pkg-config: libcurl). Everything here is called on the loop's
 * thread, and calls back there, in the evl_context that was current at evl_curl_new. docs/adapters.md tells more.
 */
#ifndef EVL_CURL_H
#define EVL_CURL_H

#include <curl/curl.h>
#include <errno.h>
#include <evl.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Told once when a transfer is done: CURLE_OK or what went wrong. easy is yours again: read what it knows, clean it up, add it anew. */
typedef void (*evl_curl_done_fn)(CURL *easy, CURLcode result, void *arg);

struct evl_curl_socket;
struct evl_curl_transfer;

/* Transfers that share a loop, connections and limits: a CURLM. The fields are this file's. */
typedef struct evl_curl {
    CURLM *multi;   /* NULL: it was freed */
    evl_loop *loop; /* a reference */
    evl_timer *timer;
    struct evl_curl_transfer *transfers;
    struct evl_curl_socket *sockets;
    int users;   /* the owner, the timer, who is at work */
    int armed;   /* curl wants the timer */
    int inside;  /* curl is at work: it must not be called from its own callbacks */
    int freed;   /* by evl_curl_free, inside */
    int failure; /* evl's code, when a hook has failed */
} evl_curl;

/* A transfer under way. */
struct evl_curl_transfer {
    struct evl_curl_transfer *next, **place; /* place: what points to it */
    CURL *easy;
    evl_curl_done_fn done;
    void *arg;
    evl_free_fn arg_free;
    char *private_before; /* the handle's CURLOPT_PRIVATE */
    int failed;           /* to be told CURLE_ABORTED_BY_CALLBACK */
};

/* A socket that curl waits for. */
struct evl_curl_socket {
    struct evl_curl_socket *next, **place;
    evl_curl *owner; /* NULL: curl has let go of it */
    int fd;
    int reads, writes; /* whether there is a reader, a writer: paused when they are not wanted */
    int users;         /* the owner, the reader, the writer */
};

static inline void evl_curl_unref(void *arg)
{
    evl_curl *self = (evl_curl *)arg;
    if (--self->users == 0)
        free(self);
}

static inline void evl_curl_socket_unref(void *arg)
{
    struct evl_curl_socket *socket = (struct evl_curl_socket *)arg;
    if (--socket->users == 0)
        free(socket);
}

/* --- transfers that end */

/* Takes it out of curl's hands: the easy handle is as it was. */
static inline void evl_curl_withdraw(CURLM *multi, struct evl_curl_transfer *transfer)
{
    *transfer->place = transfer->next;
    if (transfer->next != NULL)
        transfer->next->place = transfer->place;
    curl_multi_remove_handle(multi, transfer->easy);
    curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, transfer->private_before);
}

static inline void evl_curl_release(struct evl_curl_transfer *transfer)
{
    if (transfer->arg_free != NULL)
        transfer->arg_free(transfer->arg);
    free(transfer);
}

/* Calls back: self may be freed afterwards, if nobody else keeps it. */
static inline void evl_curl_finish(evl_curl *self, struct evl_curl_transfer *transfer, CURLcode result)
{
    evl_curl_withdraw(self->multi, transfer);
    transfer->done(transfer->easy, result, transfer->arg);
    evl_curl_release(transfer);
}

static inline void evl_curl_socket_end(struct evl_curl_socket *socket)
{
    evl_loop *loop = socket->owner->loop;
    *socket->place = socket->next;
    if (socket->next != NULL)
        socket->next->place = socket->place;
    socket->owner = NULL;
    if (socket->reads)
        (void)evl_loop_remove_reader(loop, socket->fd);
    if (socket->writes)
        (void)evl_loop_remove_writer(loop, socket->fd);
    evl_curl_socket_unref(socket);
}

/* The owner's part of users is left to be given back. */
static inline void evl_curl_dismantle(evl_curl *self)
{
    CURLM *multi = self->multi;
    self->multi = NULL;
    while (self->transfers != NULL) {
        struct evl_curl_transfer *transfer = self->transfers;
        evl_curl_withdraw(multi, transfer);
        evl_curl_release(transfer);
    }
    curl_multi_cleanup(multi);
    while (self->sockets != NULL)
        evl_curl_socket_end(self->sockets);
    (void)evl_timer_cancel(self->timer);
    evl_timer_unref(self->timer);
    evl_loop_unref(self->loop);
}

/* --- what evl calls */

/* A hook that failed, or curl itself: no transfer can go on. They are taken out of curl's hands before the first is told, because curl takes
 * no new ones as long as there is one of them. */
static inline void evl_curl_fail(evl_curl *self, CURLMcode code)
{
    struct evl_curl_transfer *transfer;
    evl_exception exception;
    memset(&exception, 0, sizeof exception);
    exception.size = sizeof exception;
    exception.code = code == CURLM_ABORTED_BY_CALLBACK ? self->failure : -EIO;
    exception.message =
        code == CURLM_ABORTED_BY_CALLBACK ? "libcurl: a socket or a timeout cannot be waited for" : curl_multi_strerror(code);
    for (transfer = self->transfers; transfer != NULL; transfer = transfer->next) {
        transfer->failed = 1;
        curl_multi_remove_handle(self->multi, transfer->easy);
    }
    (void)evl_loop_call_exception_handler(self->loop, &exception);
    while (self->multi != NULL) {
        for (transfer = self->transfers; transfer != NULL && !transfer->failed; transfer = transfer->next) {
        }
        if (transfer == NULL)
            break;
        evl_curl_finish(self, transfer, CURLE_ABORTED_BY_CALLBACK);
    }
}

static inline void evl_curl_act(evl_curl *self, curl_socket_t fd, int events)
{
    CURLMcode code;
    int count;
    self->users++;
    self->inside = 1;
    code = curl_multi_socket_action(self->multi, fd, events, &count);
    self->inside = 0;
    if (self->freed) {
        evl_curl_dismantle(self);
        self->users--;
    } else if (code != CURLM_OK) {
        evl_curl_fail(self, code);
    } else {
        while (self->multi != NULL) {
            char *transfer = NULL;
            CURLMsg *message = curl_multi_info_read(self->multi, &count);
            if (message == NULL)
                break;
            if (message->msg != CURLMSG_DONE)
                continue;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
            evl_curl_finish(self, (struct evl_curl_transfer *)(void *)transfer, message->data.result);
        }
    }
    evl_curl_unref(self);
}

static inline void evl_curl_on_readable(void *arg)
{
    struct evl_curl_socket *socket = (struct evl_curl_socket *)arg;
    if (socket->owner != NULL)
        evl_curl_act(socket->owner, socket->fd, CURL_CSELECT_IN);
}

static inline void evl_curl_on_writable(void *arg)
{
    struct evl_curl_socket *socket = (struct evl_curl_socket *)arg;
    if (socket->owner != NULL)
        evl_curl_act(socket->owner, socket->fd, CURL_CSELECT_OUT);
}

static inline void evl_curl_on_time(void *arg)
{
    evl_curl *self = (evl_curl *)arg;
    if (self->multi != NULL && self->armed) {
        self->armed = 0;
        evl_curl_act(self, CURL_SOCKET_TIMEOUT, 0);
    }
}

/* --- what curl calls; 0 or -1 */

static inline int evl_curl_set_timer(CURLM *multi, long timeout_ms, void *arg)
{
    evl_curl *self = (evl_curl *)arg;
    int64_t now;
    int code;
    (void)multi;
    self->armed = timeout_ms >= 0;
    if (self->multi == NULL || timeout_ms < 0)
        return 0;
    code = evl_loop_time(self->loop, &now);
    if (code >= 0)
        code = evl_timer_reschedule(self->timer, now + EVL_MS(timeout_ms));
    if (code < 0)
        self->failure = code;
    return code < 0 ? -1 : 0;
}

/* Makes the socket's reader and writer when they are first wanted; afterwards they are paused and resumed. */
static inline int evl_curl_watch(struct evl_curl_socket *socket, int what)
{
    evl_loop *loop = socket->owner->loop;
    evl_context *context = evl_handle_get_context(evl_timer_as_handle(socket->owner->timer));
    int code = 0;
    if (socket->reads) {
        code = what & CURL_POLL_IN ? evl_loop_resume_reader(loop, socket->fd) : evl_loop_pause_reader(loop, socket->fd);
    } else if (what & CURL_POLL_IN) {
        socket->users++;
        code = evl_loop_add_reader(loop, socket->fd, evl_curl_on_readable, socket, evl_curl_socket_unref, context, NULL);
        socket->reads = code >= 0;
    }
    if (code < 0)
        return code;
    if (socket->writes) {
        code = what & CURL_POLL_OUT ? evl_loop_resume_writer(loop, socket->fd) : evl_loop_pause_writer(loop, socket->fd);
    } else if (what & CURL_POLL_OUT) {
        socket->users++;
        code = evl_loop_add_writer(loop, socket->fd, evl_curl_on_writable, socket, evl_curl_socket_unref, context, NULL);
        socket->writes = code >= 0;
    }
    return code;
}

static inline int evl_curl_set_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    evl_curl *self = (evl_curl *)arg;
    struct evl_curl_socket *socket = (struct evl_curl_socket *)known;
    int code;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (socket != NULL)
            evl_curl_socket_end(socket);
        return 0;
    }
    if (self->multi == NULL)
        return 0;
    if (socket == NULL) {
        socket = (struct evl_curl_socket *)calloc(1, sizeof *socket);
        if (socket == NULL) {
            self->failure = -ENOMEM;
            return -1;
        }
        socket->owner = self;
        socket->fd = fd;
        socket->users = 1;
        socket->next = self->sockets;
        socket->place = &self->sockets;
        if (socket->next != NULL)
            socket->next->place = &socket->next;
        self->sockets = socket;
        curl_multi_assign(self->multi, fd, socket);
    }
    code = evl_curl_watch(socket, what);
    if (code < 0)
        self->failure = code;
    return code < 0 ? -1 : 0;
}

/* --- what you call */

/*
 * Makes transfers possible in loop; *out is yours, to give back by evl_curl_free. It has a reference to the loop until then. Where
 * threads run or libcurl is older than 7.84, call curl_global_init first. Errors: -EINVAL (NULL), -ENOMEM, and those of evl_timer_new.
 */
static inline int evl_curl_new(evl_loop *loop, evl_curl **out)
{
    evl_curl *self;
    int code;
    if (loop == NULL || out == NULL)
        return -EINVAL;
    self = (evl_curl *)calloc(1, sizeof *self);
    if (self == NULL)
        return -ENOMEM;
    self->users = 2;
    code = evl_timer_new(loop, 0, evl_curl_on_time, self, evl_curl_unref, NULL, &self->timer);
    if (code < 0) {
        evl_curl_unref(self);
        return code;
    }
    self->multi = curl_multi_init();
    if (self->multi == NULL) {
        (void)evl_timer_cancel(self->timer);
        evl_timer_unref(self->timer);
        evl_curl_unref(self);
        return -ENOMEM;
    }
    self->loop = evl_loop_ref(loop);
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETFUNCTION, evl_curl_set_socket);
    curl_multi_setopt(self->multi, CURLMOPT_SOCKETDATA, self);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERFUNCTION, evl_curl_set_timer);
    curl_multi_setopt(self->multi, CURLMOPT_TIMERDATA, self);
    *out = self;
    return 0;
}

/* The multi handle: borrowed, for setting its limits (CURLMOPT_MAX_HOST_CONNECTIONS, ...). NULL for NULL. */
static inline CURLM *evl_curl_get_multi(evl_curl *self)
{
    return self != NULL ? self->multi : NULL;
}

static inline int evl_curl_code(const evl_curl *self, CURLMcode code)
{
    switch (code) {
    case CURLM_ADDED_ALREADY:
        return EVL_EBUSY;
    case CURLM_OUT_OF_MEMORY:
        return -ENOMEM;
    case CURLM_RECURSIVE_API_CALL:
        return EVL_EINVALIDSTATE;
    case CURLM_ABORTED_BY_CALLBACK: /* one of evl's hooks */
        return self->failure < 0 ? self->failure : -EIO;
    default:
        return -EINVAL;
    }
}

/*
 * Begins a transfer: done is called when it is over, from the loop, never from here. Then, or when it is withdrawn, and also when this
 * function fails, arg_free(arg) is called (unless it is NULL), which may clean easy up. The handle stays yours, but until then its
 * CURLOPT_PRIVATE is evl's. Errors: -EINVAL (NULL), EVL_EBUSY (it is added already), EVL_EINVALIDSTATE (called by one of curl's own
 * callbacks, such as a write function), EVL_ECLOSED (the loop is closed), -ENOMEM, EVL_EWRONGTHREAD, EVL_EFORKED.
 */
static inline int evl_curl_add(evl_curl *self, CURL *easy, evl_curl_done_fn done, void *arg, evl_free_fn arg_free)
{
    struct evl_curl_transfer *transfer = NULL;
    CURLMcode code;
    int failure = 0;
    if (self == NULL || easy == NULL || done == NULL)
        failure = -EINVAL;
    else if (self->multi == NULL || self->freed || evl_loop_is_closed(self->loop))
        failure = EVL_ECLOSED;
    else if (self->inside)
        failure = EVL_EINVALIDSTATE;
    else if ((transfer = (struct evl_curl_transfer *)calloc(1, sizeof *transfer)) == NULL)
        failure = -ENOMEM;
    else if ((code = curl_multi_add_handle(self->multi, easy)) != CURLM_OK) {
        failure = evl_curl_code(self, code);
        if (code == CURLM_ABORTED_BY_CALLBACK)
            curl_multi_remove_handle(self->multi, easy);
    }
    if (failure != 0) {
        free(transfer);
        if (arg_free != NULL)
            arg_free(arg);
        return failure;
    }
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer->private_before);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    transfer->easy = easy;
    transfer->done = done;
    transfer->arg = arg;
    transfer->arg_free = arg_free;
    transfer->next = self->transfers;
    transfer->place = &self->transfers;
    if (transfer->next != NULL)
        transfer->next->place = &transfer->next;
    self->transfers = transfer;
    return 0;
}

/*
 * Withdraws a transfer: done is not called. Returns 1, or 0 when easy has none under way. Errors: -EINVAL (NULL), EVL_EINVALIDSTATE (called
 * by one of curl's own callbacks: what these return can end a transfer).
 */
static inline int evl_curl_remove(evl_curl *self, CURL *easy)
{
    struct evl_curl_transfer *transfer;
    if (self == NULL || easy == NULL)
        return -EINVAL;
    if (self->inside)
        return EVL_EINVALIDSTATE;
    for (transfer = self->transfers; transfer != NULL; transfer = transfer->next)
        if (transfer->easy == easy) {
            evl_curl_withdraw(self->multi, transfer);
            evl_curl_release(transfer);
            return 1;
        }
    return 0;
}

/*
 * Withdraws all transfers, closes their connections and frees self; NULL is ignored. The easy handles stay yours. It may be called from
 * a done function, and after the loop was closed; called by one of curl's own callbacks, it takes effect when curl has come back from it.
 * (Where it was you who called curl, by curl_easy_pause, call nothing of this file from the callbacks it calls: curl does not bear it.)
 */
static inline void evl_curl_free(evl_curl *self)
{
    if (self == NULL || self->multi == NULL)
        return;
    if (self->inside) {
        self->freed = 1;
    } else {
        evl_curl_dismantle(self);
        evl_curl_unref(self);
    }
}

#ifdef __cplusplus
}
#endif

#endif
