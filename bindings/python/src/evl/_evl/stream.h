/* The transport of a stream or pipe, for the files that make some. */
#ifndef EVL_PYTHON_STREAM_H
#define EVL_PYTHON_STREAM_H

#include "evl_python.h"

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
    PyObject *weakrefs;
    /* How many of the protocol's methods are on the stack. */
    int depth;
    int ignored;
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
