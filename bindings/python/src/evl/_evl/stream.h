/* The transport of a stream or pipe, for the files that make some. */
#ifndef EVL_PYTHON_STREAM_H
#define EVL_PYTHON_STREAM_H

#include "evl_python.h"

#include <netinet/in.h>

/* An address as the kernel told it, of which an object is made when somebody asks. */
typedef struct {
    union {
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } address;
    /* 0: there is none, or it is an object already. */
    unsigned size;
} RawAddress;

typedef struct {
    BaseTransport base;
    Loop *loop;
    evl_transport *transport;
    PyObject *protocol;
    /* Makes the protocol when the transport is there. */
    PyObject *factory;
    /* What factory has raised. */
    PyObject *failure;
    PyObject *context;
    /* What connection_lost will be told. */
    PyObject *error;
    /* What get_buffer gave. */
    PyObject *buffer;
    /* A socket object for the descriptor, which is evl's; or the object whose descriptor was duplicated. */
    PyObject *sock;
    PyObject *pipe;
    /* Who awaits that it is connected, until it is. */
    PyObject *waiter;
    /* What factory has made, until the waiter has it: connection_made may have closed the transport. */
    PyObject *first;
    PyObject *weakrefs;
    /* The socket's own and its peer's. */
    RawAddress raw[2];
    /* How many of the protocol's methods are on the stack. */
    int depth;
    int ignored;
    /* How many large reads are copied before the next one is not. */
    int copies;
    bool buffered;
    bool lost;
    /* Somebody has closed it. */
    bool closed;
    /* The loop was closed before that. */
    bool abandoned;
} Stream;

extern PyTypeObject *Stream_Type;

Stream *stream_make(Loop *loop, PyObject *protocol, PyObject *factory, PyObject *context);
/* Evl's release of a Stream that is the arg of a protocol. */
void stream_release(void *stream);
const evl_protocol *stream_table(const Stream *stream);
PyObject *read_stream(evl_future *future, void *stream);
/* Looks whether the protocol is a buffered one; -1 with an exception. */
int stream_look_at_protocol(Stream *self);
/* Everything but the object's memory. */
void stream_end(Stream *self);

#endif
