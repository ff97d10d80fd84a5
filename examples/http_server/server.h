/* The server and its connections. */
#ifndef SERVER_H
#define SERVER_H

#include <evl.h>

#include "http.h"

enum phase {
    IDLE,      /* between two requests */
    RECEIVING, /* a head has begun */
    SENDING,   /* a file is on its way, or the client is slow to take what was written */
    LEAVING,   /* all is said; what comes is dropped, until the client has closed, too */
};

struct connection {
    evl_transport *transport; /* borrowed: valid until connection_lost */
    evl_timer *timer;
    struct connection *next, **place;
    int references;  /* the protocol's, and that of a file on its way */
    enum phase phase;
    int paused;      /* too much is waiting to be written */
    int last;        /* no request is taken after this one */
    int ended;       /* the client sends no more */
    int file;        /* what is being sent, or -1 */
    int64_t offset, left;
    int64_t skip;    /* bytes of a request's body that are to come */
    char *kept;      /* what has come and waits */
    size_t kept_size;
};

struct server {
    evl_loop *loop;
    evl_server *server;
    struct connection *connections;
    int root;      /* the directory */
    int64_t limit; /* for a request to come, for a slice of a file to go, and for the next request to begin */
    int stopping;
};

/* The only one. */
extern struct server self;

/* --- connection.c */

/* The factory of evl_loop_create_server. */
int new_connection(void *factory_arg, evl_protocol *protocol, void **arg, evl_free_fn *arg_free);

/* No request is taken any more; what is under way is finished. */
void connection_end(struct connection *c);

void connection_enter(struct connection *c, enum phase phase);

/* A file is sent: the next request, if there is one. */
void connection_go_on(struct connection *c);

void connection_unref(void *arg);

/* --- answer.c */

/* Answers a request, or begins to: c->file is then what is on its way. */
void answer(struct connection *c, const struct request *request);

/* Answers what is no request, and the last thing on its connection. */
void answer_failure(struct connection *c, int status);

#endif
