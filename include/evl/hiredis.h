/*
 * evl for hiredis: has an event loop wait for a redisAsyncContext. hiredis 0.14 and newer; C99 and C++11.
 *
 *     redisAsyncContext *redis = redisAsyncConnect("127.0.0.1", 6379);
 *     int code = evl_hiredis_attach(redis, loop);        // then redisAsyncSetConnectCallback, redisAsyncCommand, ...
 *
 * evl itself does not need hiredis: who includes this file links it (pkg-config: hiredis). docs/adapters.md tells more.
 */
#ifndef EVL_HIREDIS_H
#define EVL_HIREDIS_H

#include <errno.h>
#include <evl.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is behind a context's ev.data. */
typedef struct evl_hiredis {
    redisAsyncContext *context; /* NULL: hiredis has let go of it */
    evl_loop *loop;             /* a reference */
    evl_timer *timer;           /* hiredis 1.0: redisAsyncSetTimeout */
    int fd;
    int users; /* hiredis, and everything of evl that may call with it */
} evl_hiredis;

/* The arg_free of everything below, too. */
static inline void evl_hiredis_unref(void *arg)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    if (--self->users == 0)
        free(self);
}

/* Each of these three may free the context, which calls evl_hiredis_cleanup. */
static inline void evl_hiredis_on_readable(void *arg)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    if (self->context != NULL)
        redisAsyncHandleRead(self->context);
}

static inline void evl_hiredis_on_writable(void *arg)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    if (self->context != NULL)
        redisAsyncHandleWrite(self->context);
}

#if HIREDIS_MAJOR >= 1
static inline void evl_hiredis_on_timeout(void *arg)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    if (self->context != NULL)
        redisAsyncHandleTimeout(self->context);
}
#endif

/* hiredis' hooks. Reader and writer are there from the start, and only paused: that costs little more than a flag, cannot
 * fail for want of memory, and keeps the context that was current when they were made. On a closed loop nothing happens. */
static inline void evl_hiredis_add_read(void *arg)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    (void)evl_loop_resume_reader(self->loop, self->fd);
}

static inline void evl_hiredis_del_read(void *arg)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    (void)evl_loop_pause_reader(self->loop, self->fd);
}

static inline void evl_hiredis_add_write(void *arg)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    (void)evl_loop_resume_writer(self->loop, self->fd);
}

static inline void evl_hiredis_del_write(void *arg)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    (void)evl_loop_pause_writer(self->loop, self->fd);
}

#if HIREDIS_MAJOR >= 1
static inline void evl_hiredis_schedule_timer(void *arg, struct timeval limit)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    int64_t now;
    if (evl_loop_now(self->loop, &now) == 0)
        (void)evl_timer_reschedule(self->timer, now + EVL_SECONDS(limit.tv_sec) + (int64_t)limit.tv_usec * 1000);
}
#endif

/* The context is about to be freed, and its descriptor closed. */
static inline void evl_hiredis_cleanup(void *arg)
{
    evl_hiredis *self = (evl_hiredis *)arg;
    self->context = NULL;
    (void)evl_loop_remove_reader(self->loop, self->fd);
    (void)evl_loop_remove_writer(self->loop, self->fd);
    if (self->timer != NULL)
        (void)evl_timer_cancel(self->timer);
    evl_timer_unref(self->timer);
    evl_loop_unref(self->loop);
    evl_hiredis_unref(self);
}

/*
 * Has loop wait for context, which redisAsyncConnect or one of its like has just returned: to be called before
 * redisAsyncSetConnectCallback. Returns 0 or a negative code; then the context is as it was, yours to free.
 *
 * From then on hiredis calls back on the loop's thread, in the evl_context that is current now, and everything of hiredis is
 * called there, too. The context has a reference to the loop until it is freed: by redisAsyncFree, by hiredis after
 * redisAsyncDisconnect or a failure. When the loop is closed first, nothing is called any more; redisAsyncFree then tells the
 * callbacks that wait, and must still be called. Errors: -EINVAL (NULL), EVL_EBUSY (it is attached already), -ENOTCONN
 * (context->err is set: connecting has failed already), -ENOMEM, and those of evl_loop_add_reader.
 */
static inline int evl_hiredis_attach(redisAsyncContext *context, evl_loop *loop)
{
    evl_hiredis *self;
    int code;
    if (context == NULL || loop == NULL)
        return -EINVAL;
    if (context->ev.data != NULL)
        return EVL_EBUSY;
    if (context->err != 0)
        return -ENOTCONN;
    self = (evl_hiredis *)malloc(sizeof *self);
    if (self == NULL)
        return -ENOMEM;
    self->context = context;
    self->loop = evl_loop_ref(loop);
    self->timer = NULL;
    self->fd = context->c.fd;
    self->users = 3; /* hiredis, reader, writer */
    code = evl_loop_add_reader(loop, self->fd, evl_hiredis_on_readable, self, evl_hiredis_unref, NULL, NULL);
    if (code < 0)
        self->users--; /* the writer that is not made */
    else
        code = evl_loop_add_writer(loop, self->fd, evl_hiredis_on_writable, self, evl_hiredis_unref, NULL, NULL);
#if HIREDIS_MAJOR >= 1
    if (code >= 0) {
        self->users++;
        code = evl_timer_new(loop, 0, evl_hiredis_on_timeout, self, evl_hiredis_unref, NULL, &self->timer);
    }
#endif
    if (code < 0) {
        evl_hiredis_cleanup(self);
        return code;
    }
    evl_hiredis_del_read(self);
    evl_hiredis_del_write(self);
    context->ev.data = self;
    context->ev.addRead = evl_hiredis_add_read;
    context->ev.delRead = evl_hiredis_del_read;
    context->ev.addWrite = evl_hiredis_add_write;
    context->ev.delWrite = evl_hiredis_del_write;
    context->ev.cleanup = evl_hiredis_cleanup;
#if HIREDIS_MAJOR >= 1
    context->ev.scheduleTimer = evl_hiredis_schedule_timer;
#endif
    return 0;
}

#ifdef __cplusplus
}
#endif

#endif
