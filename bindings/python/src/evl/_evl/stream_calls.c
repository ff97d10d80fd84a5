/* What evl calls for a stream or pipe: the protocol's methods. */
#include "stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static bool enter(Stream *self) {
    Py_INCREF(self);
    if (self->depth == 0 && PyContext_Enter(self->context) < 0) {
        loop_tell(self->loop, "The context of a transport cannot be entered", (PyObject *)self, "transport");
        Py_DECREF(self);
        return false;
    }
    self->depth++;
    return true;
}

static void leave(Stream *self) {
    if (--self->depth == 0 && PyContext_Exit(self->context) < 0)
        PyErr_WriteUnraisable((PyObject *)self);
    Py_DECREF(self);
}

/* A method of the protocol has failed in such a way that the transport is aborted. */
static void failed(Stream *self, const char *message) {
    if (loop_takes_exit(self->loop))
        return;
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(exception, traceback);
    if (self->error == NULL) {
        Py_INCREF(exception);
        self->error = exception;
    }
    evl_raise_object(-ECONNABORTED, message, exception, release_object);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
}

static void tell(Stream *self, const char *message) {
    loop_tell(self->loop, message, (PyObject *)self, "transport");
}

/* The addresses of a socket are learnt while it is connected; they can be asked for afterwards. */
static void learn_addresses(Stream *self) {
    struct sockaddr_storage address;
    for (int peer = 0; peer < 2; peer++) {
        int size = peer ? evl_transport_get_peername(self->transport, &address, sizeof address)
                        : evl_transport_get_sockname(self->transport, &address, sizeof address);
        if (size == -ENOTSOCK)
            return;
        if (size > 0 && (size_t)size <= sizeof self->raw[peer].address) {
            memcpy(&self->raw[peer].address, &address, (size_t)size);
            self->raw[peer].size = (unsigned)size;
            continue;
        }
        PyObject *value = address_from_c(&address, size < 0 ? 0 : (size_t)size);
        if (value == NULL || PyDict_SetItem(self->base.extra, peer ? names.peername : names.sockname, value) < 0)
            PyErr_WriteUnraisable((PyObject *)self);
        Py_XDECREF(value);
    }
}

static void on_made(evl_transport *transport, void *of) {
    STAYS;
    Stream *self = of;
    self->transport = evl_transport_ref(transport);
    evl_transport_set_data(transport, self, NULL);
    if (!enter(self))
        LEAVE;
    learn_addresses(self);
    if (self->protocol == NULL && self->factory != NULL) {
        self->protocol = PyObject_CallNoArgs(self->factory);
        Py_CLEAR(self->factory);
        Py_XINCREF(self->protocol);
        self->first = self->protocol;
        if (self->protocol == NULL || stream_look_at_protocol(self) < 0) {
            if (!loop_takes_exit(self->loop)) {
                PyObject *type, *traceback;
                PyErr_Fetch(&type, &self->failure, &traceback);
                PyErr_NormalizeException(&type, &self->failure, &traceback);
                Py_XDECREF(type);
                Py_XDECREF(traceback);
            }
            evl_transport_abort(transport);
            leave(self);
            LEAVE;
        }
        if (self->buffered) {
            Py_INCREF(self);
            evl_transport_set_protocol(transport, stream_table(self), self, stream_release);
        }
    }
    PyObject *answer = PyObject_CallMethodOneArg(self->protocol, names.connection_made, (PyObject *)self);
    if (answer == NULL)
        tell(self, "Fatal error: protocol.connection_made() call failed.");
    Py_XDECREF(answer);
    if (self->waiter != NULL) {
        PyObject *pair = read_stream(NULL, self);
        if (pair != NULL)
            operation_settle(self->loop, &self->waiter, pair);
        else
            PyErr_WriteUnraisable((PyObject *)self);
        Py_XDECREF(pair);
    }
    leave(self);
    LEAVE;
}

/* What streams receive into: a bytes object of nobody's, so that what has come need not be copied to be handed out. Evl reads into it
 * between two calls that run no other Python code, whatever thread. Small reads are copied, and so are those of a protocol that keeps what
 * it gets, which would keep all of this memory. */
enum { LANDING_SIZE = 256 * 1024, WORTH_HANDING_OUT = 16 * 1024, COPIES = 16 };
static PyObject *landing;

static void set_size(PyObject *bytes, size_t size) {
    Py_SET_SIZE(bytes, (Py_ssize_t)size);
    PyBytes_AS_STRING(bytes)[size] = '\0';
    _Py_COMP_DIAG_PUSH
    _Py_COMP_DIAG_IGNORE_DEPR_DECLS
    ((PyBytesObject *)bytes)->ob_shash = -1;
    _Py_COMP_DIAG_POP
}

static void on_get_landing(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *of) {
    (void)transport, (void)hint;
    if (landing == NULL)
        landing = PyBytes_FromStringAndSize(NULL, LANDING_SIZE);
    if (landing == NULL) {
        failed(of, "Fatal error: no memory to receive into.");
        return;
    }
    *buffer = PyBytes_AS_STRING(landing);
    *size = LANDING_SIZE;
}

static void on_landed(evl_transport *transport, size_t size, void *of) {
    STAYS;
    (void)transport;
    Stream *self = of;
    PyObject *bytes, *answer = NULL;
    if (self->protocol == NULL || !enter(self))
        LEAVE;
    bool handed_out = size >= WORTH_HANDING_OUT && self->copies == 0;
    if (handed_out) {
        bytes = landing;
        landing = NULL;
        set_size(bytes, size);
    } else {
        bytes = PyBytes_FromStringAndSize(PyBytes_AS_STRING(landing), (Py_ssize_t)size);
        if (size >= WORTH_HANDING_OUT)
            self->copies--;
    }
    if (bytes != NULL)
        answer = PyObject_CallMethodOneArg(self->protocol, names.data_received, bytes);
    if (answer == NULL)
        failed(self, "Fatal error: protocol.data_received() call failed.");
    Py_XDECREF(answer);
    if (handed_out && Py_REFCNT(bytes) > 1)
        self->copies = COPIES;
    if (handed_out && Py_REFCNT(bytes) == 1 && landing == NULL) {
        set_size(bytes, LANDING_SIZE);
        landing = bytes;
    } else {
        Py_XDECREF(bytes);
    }
    leave(self);
    LEAVE;
}

static int on_eof(evl_transport *transport, void *of) {
    STAYS;
    (void)transport;
    Stream *self = of;
    int keep = 0;
    if (self->protocol == NULL || !enter(self))
        LEAVE_WITH(0);
    PyObject *answer = PyObject_CallMethodNoArgs(self->protocol, names.eof_received);
    keep = answer == NULL ? -1 : PyObject_IsTrue(answer);
    if (keep < 0)
        failed(self, "Fatal error: protocol.eof_received() call failed.");
    Py_XDECREF(answer);
    leave(self);
    LEAVE_WITH(keep > 0);
}

static void on_lost(evl_transport *transport, int code, void *of) {
    STAYS;
    (void)transport;
    Stream *self = of;
    if (!enter(self))
        LEAVE;
    PyObject *error = self->error, *answer = NULL;
    self->error = NULL;
    if (error == NULL && code != 0) {
        error = exception_of(code, NULL);
    } else if (error == NULL) {
        error = Py_None;
        Py_INCREF(error);
    }
    if (self->protocol != NULL && self->failure == NULL) {
        if (error != NULL)
            answer = PyObject_CallMethodOneArg(self->protocol, names.connection_lost, error);
        if (answer == NULL)
            tell(self, "Fatal error: protocol.connection_lost() call failed.");
    }
    Py_XDECREF(answer);
    Py_XDECREF(error);
    stream_end(self);
    leave(self);
    LEAVE;
}

/* Called by the write that fills the buffer, in its caller's context, or by the loop. */
static void flow(Stream *self, PyObject *method, const char *message) {
    STAYS;
    if (self->protocol == NULL)
        LEAVE;
    Py_INCREF(self);
    PyObject *answer = PyObject_CallMethodNoArgs(self->protocol, method);
    if (answer == NULL)
        tell(self, message);
    Py_XDECREF(answer);
    Py_DECREF(self);
    LEAVE;
}

static void on_pause(evl_transport *transport, void *of) {
    (void)transport;
    flow(of, names.pause_writing, "protocol.pause_writing() failed");
}

static void on_resume(evl_transport *transport, void *of) {
    STAYS;
    (void)transport;
    Stream *self = of;
    if (enter(self)) {
        flow(self, names.resume_writing, "protocol.resume_writing() failed");
        leave(self);
    }
    LEAVE;
}

static void on_get_buffer(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *of) {
    STAYS;
    (void)transport, (void)hint;
    Stream *self = of;
    Py_buffer view;
    if (self->protocol == NULL || !enter(self))
        LEAVE;
    PyObject *any = PyLong_FromLong(-1);
    PyObject *given = any == NULL ? NULL : PyObject_CallMethodOneArg(self->protocol, names.get_buffer, any);
    Py_XDECREF(any);
    if (given != NULL && PyObject_GetBuffer(given, &view, PyBUF_WRITABLE) == 0) {
        if (view.len == 0) {
            PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        } else {
            *buffer = view.buf;
            *size = (size_t)view.len;
        }
        /* evl reads before Python code runs again: the object is enough to keep the memory. */
        PyBuffer_Release(&view);
    }
    if (PyErr_Occurred())
        failed(self, "Fatal error: protocol.get_buffer() call failed.");
    Py_XSETREF(self->buffer, given);
    leave(self);
    LEAVE;
}

static void on_buffer_updated(evl_transport *transport, size_t size, void *of) {
    STAYS;
    (void)transport;
    Stream *self = of;
    if (self->protocol == NULL || !enter(self))
        LEAVE;
    Py_CLEAR(self->buffer);
    PyObject *count = PyLong_FromSize_t(size);
    PyObject *answer = count == NULL ? NULL : PyObject_CallMethodOneArg(self->protocol, names.buffer_updated, count);
    if (answer == NULL)
        failed(self, "Fatal error: protocol.buffer_updated() call failed.");
    Py_XDECREF(answer);
    Py_XDECREF(count);
    leave(self);
    LEAVE;
}

static const evl_protocol plain = {
    .size = sizeof plain,
    .connection_made = on_made,
    .eof_received = on_eof,
    .connection_lost = on_lost,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
    .get_buffer = on_get_landing,
    .buffer_updated = on_landed,
};

static const evl_protocol buffered = {
    .size = sizeof buffered,
    .connection_made = on_made,
    .eof_received = on_eof,
    .connection_lost = on_lost,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
    .get_buffer = on_get_buffer,
    .buffer_updated = on_buffer_updated,
};

const evl_protocol *stream_table(const Stream *self) { return self->buffered ? &buffered : &plain; }

/* A protocol's arg is given back once for every table that was given with it: the last one may come without connection_lost,
 * when nothing could be connected or the loop is closed. */
void stream_release(void *of) {
    STAYS;
    Stream *self = of;
    PyGILState_STATE state = PyGILState_Ensure();
    if (self->transport == NULL || evl_loop_is_closed(self->loop->loop)) {
        self->abandoned = self->transport != NULL && !self->closed && !self->lost;
        stream_end(self);
        if (self->abandoned)
            warn_unclosed((PyObject *)self);
    }
    Py_DECREF(self);
    PyGILState_Release(state);
    LEAVE;
}

/* --- what makes streams */

/* The transport and its protocol. */
PyObject *read_stream(evl_future *future, void *of) {
    (void)future;
    Stream *self = of;
    if (self->failure != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(self->failure), self->failure);
        return NULL;
    }
    PyObject *protocol = self->first != NULL ? self->first : Py_None;
    PyObject *pair = PyTuple_Pack(2, (PyObject *)self, protocol);
    if (pair != NULL)
        Py_CLEAR(self->first);
    return pair;
}

static PyObject *started(Loop *loop, Stream *self, int code, evl_future *future) {
    PyObject *result = code < 0 ? fail(code) : operation(loop, future, read_stream, self, (PyObject *)self, NULL);
    if (result != NULL && is_operation(result)) {
        Py_INCREF(result);
        self->waiter = result;
    }
    Py_DECREF(self);
    return result;
}

/* _connect(factory, host, service, local_host, local_service, family, flags, interleave, delay) */
static PyObject *connect_(Loop *self, PyObject *args) {
    evl_connect_options options;
    PyObject *factory;
    evl_future *future = NULL;
    double delay;
    evl_connect_options_init(&options, sizeof options);
    if (!PyArg_ParseTuple(args, "Osszziiid", &factory, &options.host, &options.service, &options.local_host,
                          &options.local_service, &options.family, &options.flags, &options.interleave, &delay))
        return NULL;
    options.happy_eyeballs_delay_ns = (int64_t)(delay * 1e9);
    Stream *stream = stream_make(self, NULL, factory, NULL);
    if (stream == NULL)
        return NULL;
    Py_INCREF(stream);
    int code = evl_loop_create_connection(self->loop, &options, stream_table(stream), stream, stream_release, &future);
    return started(self, stream, code, future);
}

/* _connect_unix(factory, path) */
static PyObject *connect_unix(Loop *self, PyObject *args) {
    PyObject *factory;
    const char *name;
    Py_ssize_t size;
    evl_future *future = NULL;
    if (!PyArg_ParseTuple(args, "Oy#", &factory, &name, &size))
        return NULL;
    Stream *stream = stream_make(self, NULL, factory, NULL);
    if (stream == NULL)
        return NULL;
    Py_INCREF(stream);
    int code = evl_loop_create_unix_connection(self->loop, name, (size_t)size, stream_table(stream), stream, stream_release, &future);
    return started(self, stream, code, future);
}

/* _connect_socket(factory, sock): from success on, the descriptor is evl's. */
static PyObject *connect_socket(Loop *self, PyObject *args) {
    PyObject *factory, *sock;
    evl_future *future = NULL;
    if (!PyArg_ParseTuple(args, "OO", &factory, &sock))
        return NULL;
    PyObject *number = PyObject_CallMethod(sock, "fileno", NULL);
    int fd = number == NULL ? -1 : (int)PyLong_AsLong(number);
    Py_XDECREF(number);
    if (fd < 0)
        return PyErr_Occurred() ? NULL : fail(-EBADF);
    Stream *stream = stream_make(self, NULL, factory, NULL);
    if (stream == NULL)
        return NULL;
    Py_INCREF(stream);
    int code = evl_loop_connect_accepted_socket(self->loop, fd, stream_table(stream), stream, stream_release, &future);
    if (code >= 0) {
        Py_INCREF(sock);
        stream->sock = sock;
    }
    return started(self, stream, code, future);
}

/* _connect_pipe(protocol, fd, writer, pipe): the descriptor is evl's from success on, and pipe is closed at the end. */
static PyObject *connect_pipe(Loop *self, PyObject *args) {
    PyObject *protocol, *pipe;
    int fd, writer;
    if (!PyArg_ParseTuple(args, "OipO", &protocol, &fd, &writer, &pipe))
        return NULL;
    Stream *stream = stream_make(self, protocol, NULL, NULL);
    if (stream == NULL)
        return NULL;
    Py_INCREF(stream);
    int code = writer ? evl_loop_connect_write_pipe(self->loop, fd, stream_table(stream), stream, stream_release, NULL)
                      : evl_loop_connect_read_pipe(self->loop, fd, stream_table(stream), stream, stream_release, NULL);
    if (code < 0) {
        Py_DECREF(stream);
        return fail(code);
    }
    Py_INCREF(pipe);
    stream->pipe = pipe;
    return (PyObject *)stream;
}

/* _send_file(transport, fd, offset, count): None when the kernel does not send such a file to such a transport. */
static PyObject *send_file(Loop *self, PyObject *args) {
    Stream *stream;
    int fd;
    long long offset, count;
    evl_future *future;
    if (!PyArg_ParseTuple(args, "O!iLL", Stream_Type, &stream, &fd, &offset, &count))
        return NULL;
    int code = stream->transport == NULL ? -EPIPE
                                         : evl_loop_sendfile(self->loop, stream->transport, fd, offset, count, 0, &future);
    if (code == EVL_ENOSENDFILE)
        Py_RETURN_NONE;
    if (code == EVL_EBUSY)
        return PyErr_Format(PyExc_RuntimeError, "sendfile is in progress already");
    return code < 0 ? fail(code) : operation(self, future, read_number, NULL, (PyObject *)stream, NULL);
}

PyMethodDef loop_stream_methods[] = {
    {"_send_file", (PyCFunction)send_file, METH_VARARGS, NULL},
    {"_connect", (PyCFunction)connect_, METH_VARARGS, NULL},
    {"_connect_unix", (PyCFunction)connect_unix, METH_VARARGS, NULL},
    {"_connect_socket", (PyCFunction)connect_socket, METH_VARARGS, NULL},
    {"_connect_pipe", (PyCFunction)connect_pipe, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
