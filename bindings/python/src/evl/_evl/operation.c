/* Operation: an asyncio.Future that waits for one of evl's. Cancelling it withdraws what is under way. The sock_ functions and
 * look-ups. */
#include "evl_python.h"

#include <string.h>
#include <sys/socket.h>

/* What an operation has beyond asyncio's future, behind which it lies. */
typedef struct Part {
    Loop *loop;
    /* NULL when it is done. */
    evl_future *future;
    /* What evl uses meanwhile. */
    PyObject *kept;
    Py_buffer view;
    Reader reader;
    void *data;
    /* How many bytes were sent by what has failed or was cancelled. */
    Py_ssize_t sent;
    /* Of a socket operation that waits: its place in the loop's list. */
    struct Part *next, **link;
    int fd;
    bool writer;
    /* Nothing more is told of it. */
    bool over;
    /* What is done with a result that nobody takes any more. */
    PyObject *dispose;
} Part;

static PyTypeObject *Operation_Type, *Future_Type;
/* asyncio.Future.cancel */
static PyObject *future_cancel;

bool is_operation(PyObject *object) { return Py_TYPE(object) == Operation_Type; }

static Part *part_of(PyObject *self) { return (Part *)((char *)self + Future_Type->tp_basicsize); }

static int traverse(PyObject *self, visitproc visit, void *arg) {
    Part *part = part_of(self);
    if (!(Future_Type->tp_flags & Py_TPFLAGS_HEAPTYPE))
        Py_VISIT(Py_TYPE(self));
    Py_VISIT(part->loop);
    Py_VISIT(part->kept);
    Py_VISIT(part->dispose);
    return Future_Type->tp_traverse(self, visit, arg);
}

static void unlink_part(Part *part) {
    if (part->link == NULL)
        return;
    *part->link = part->next;
    if (part->next != NULL)
        part->next->link = part->link;
    part->link = NULL;
}

/* Evl does not use anything of it any more. */
static void end(Part *part) {
    evl_future *future = part->future;
    unlink_part(part);
    part->future = NULL;
    if (future != NULL)
        evl_future_unref(future);
    Py_CLEAR(part->kept);
    Py_CLEAR(part->dispose);
    if (part->view.obj != NULL)
        PyBuffer_Release(&part->view);
}

static int clear(PyObject *self) {
    end(part_of(self));
    Py_CLEAR(part_of(self)->loop);
    return Future_Type->tp_clear(self);
}

static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0)
        return;
    PyObject_GC_UnTrack(self);
    end(part_of(self));
    Py_CLEAR(part_of(self)->loop);
    Future_Type->tp_dealloc(self);
    /* Where asyncio's type is made by a spec, it does that. */
    if (!(Future_Type->tp_flags & Py_TPFLAGS_HEAPTYPE))
        Py_DECREF(type);
}

/* What the future has failed with, as an exception; NULL when it has not (or with another exception set). */
static PyObject *error_of(evl_future *future) {
    int code = 0;
    int answer = evl_future_error(future, &code);
    if (answer < 0)
        code = answer;
    if (code == 0)
        return NULL;
    PyObject *object = evl_future_error_object(future);
    if (object != NULL) {
        Py_INCREF(object);
        return object;
    }
    char message[512] = "";
    if (code != EVL_ECANCELLED)
        evl_future_error_message(future, message, sizeof message);
    /* Programs know what the system says of a socket's failures. */
    static const char *const calls[] = {"recv: ", "send: ", "sendto ", "accept: ", "sendfile: "};
    for (size_t i = 0; code > -20000 && i < sizeof calls / sizeof *calls; i++)
        if (strncmp(message, calls[i], strlen(calls[i])) == 0)
            message[0] = '\0';
    return exception_of(code, message);
}

static PyObject *result_of(evl_future *future, Reader reader, void *data) {
    PyObject *error = error_of(future);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return PyErr_Occurred() ? NULL : reader(future, data);
}

static void note_sent(Part *part) {
    const void *none;
    size_t size;
    if (evl_future_error_bytes(part->future, &none, &size) == 0)
        part->sent = (Py_ssize_t)size;
}

/* create_future(): an asyncio.Future of the loop. */
PyObject *create_future(PyObject *loop, PyObject *unused) {
    (void)unused;
    PyObject *given[2] = {NULL, loop};
    return PyObject_Vectorcall((PyObject *)Future_Type, given + 1, PY_VECTORCALL_ARGUMENTS_OFFSET, names.loop_keyword);
}

void operation_settle(Loop *loop, PyObject **waiting, PyObject *result) {
    PyObject *waiter = *waiting;
    if (waiter == NULL)
        return;
    *waiting = NULL;
    PyObject *answer = PyObject_CallMethodNoArgs(waiter, names.done);
    if (answer == Py_False) {
        part_of(waiter)->over = true;
        Py_SETREF(answer, PyObject_CallMethodOneArg(waiter, names.set_result, result));
    }
    if (answer == NULL)
        loop_tell(loop, "Completing a future failed", waiter, "future");
    Py_XDECREF(answer);
    Py_DECREF(waiter);
}

static void on_done(evl_future *future, void *of) {
    STAYS;
    PyObject *self = of, *answer;
    Part *part = part_of(self);
    if (part->over) {
        end(part);
        LEAVE;
    }
    PyObject *done = PyObject_CallMethodNoArgs(self, names.done);
    if (done == NULL) {
        answer = NULL;
    } else if (done == Py_True) {
        /* It was cancelled when the result was there already, but not told yet. */
        PyObject *result = NULL;
        if (part->dispose != NULL && !evl_future_cancelled(future))
            result = result_of(future, part->reader, part->data);
        PyErr_Clear();
        answer = result != NULL ? PyObject_CallOneArg(part->dispose, result) : Py_NewRef(Py_None);
        Py_XDECREF(result);
    } else if (evl_future_cancelled(future)) {
        answer = PyObject_CallOneArg(future_cancel, self);
    } else {
        PyObject *result = result_of(future, part->reader, part->data);
        if (result != NULL) {
            answer = PyObject_CallMethodOneArg(self, names.set_result, result);
            Py_DECREF(result);
        } else {
            PyObject *type, *exception, *traceback;
            PyErr_Fetch(&type, &exception, &traceback);
            PyErr_NormalizeException(&type, &exception, &traceback);
            note_sent(part);
            answer = PyObject_CallMethodOneArg(self, names.set_exception, exception);
            Py_XDECREF(type);
            Py_XDECREF(exception);
            Py_XDECREF(traceback);
        }
    }
    Py_XDECREF(done);
    if (answer == NULL)
        loop_tell(part->loop, "Completing a future failed", self, "future");
    Py_XDECREF(answer);
    end(part);
    LEAVE;
}

PyObject *operation(Loop *loop, evl_future *future, Reader reader, void *data, PyObject *kept, Py_buffer *view) {
    if (!evl_future_done(future))
        return operation_pending(loop, future, reader, data, kept, view);
    PyObject *result = result_of(future, reader, data);
    evl_future_unref(future);
    if (view != NULL)
        PyBuffer_Release(view);
    return result;
}

static PyObject *begin(Loop *loop, evl_future *future, Reader reader, void *data, PyObject *kept, Py_buffer *view, int fd,
                       bool writer) {
    PyObject *given[2] = {NULL, (PyObject *)loop};
    PyObject *self = PyObject_Vectorcall((PyObject *)Operation_Type, given + 1, PY_VECTORCALL_ARGUMENTS_OFFSET, names.loop_keyword);
    if (self == NULL) {
        evl_future_cancel(future, NULL);
        evl_future_unref(future);
        if (view != NULL)
            PyBuffer_Release(view);
        return NULL;
    }
    Part *part = part_of(self);
    Py_INCREF(loop);
    Py_XINCREF(kept);
    *part = (Part){.loop = loop, .future = future, .kept = kept, .reader = reader, .data = data, .fd = fd, .writer = writer};
    if (view != NULL)
        part->view = *view;
    Py_INCREF(self);
    int code = evl_future_add_done_callback(future, on_done, self, release_object, NULL);
    if (code < 0) {
        evl_future_cancel(future, NULL);
        Py_DECREF(self);
        return fail(code);
    }
    if (fd >= 0) {
        part->next = loop->pending;
        part->link = &loop->pending;
        if (part->next != NULL)
            part->next->link = &part->next;
        loop->pending = part;
    }
    return self;
}

PyObject *operation_pending(Loop *loop, evl_future *future, Reader reader, void *data, PyObject *kept, Py_buffer *view) {
    return begin(loop, future, reader, data, kept, view, -1, false);
}

/* An operation on a socket. */
static PyObject *sock_operation(Loop *loop, evl_future *future, Reader reader, Py_buffer *view, int fd, bool writer) {
    return evl_future_done(future) ? operation(loop, future, reader, NULL, NULL, view)
                                   : begin(loop, future, reader, NULL, NULL, view, fd, writer);
}

bool operation_strand(Loop *loop, int fd, bool writer) {
    for (Part *found = loop->pending; found != NULL; found = found->next) {
        if (found->fd != fd || found->writer != writer || evl_future_done(found->future))
            continue;
        found->over = true;
        unlink_part(found);
        return evl_future_cancel(found->future, NULL) >= 0;
    }
    return false;
}

static PyObject *cancel(PyObject *self, PyObject *args, PyObject *kwargs) {
    PyObject *all = PyTuple_New(PyTuple_GET_SIZE(args) + 1);
    if (all == NULL)
        return NULL;
    Py_INCREF(self);
    PyTuple_SET_ITEM(all, 0, self);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++) {
        Py_INCREF(PyTuple_GET_ITEM(args, i));
        PyTuple_SET_ITEM(all, i + 1, PyTuple_GET_ITEM(args, i));
    }
    PyObject *answer = PyObject_Call(future_cancel, all, kwargs);
    Py_DECREF(all);
    Part *part = part_of(self);
    if (answer != Py_True || part->future == NULL)
        return answer;
    int code = evl_future_cancel(part->future, NULL);
    if (code > 0)
        note_sent(part);
    if (code >= 0 || code == EVL_ECLOSED)
        return answer;
    Py_DECREF(answer);
    return fail(code);
}

static PyMethodDef methods[] = {
    {"cancel", (PyCFunction)(void (*)(void))cancel, METH_VARARGS | METH_KEYWORDS, "Cancels the future, and what is under way."},
    {NULL, NULL, 0, NULL},
};

static PyObject *get_sent(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromSsize_t(part_of(self)->sent);
}

static PyObject *get_dispose(PyObject *self, void *unused) {
    (void)unused;
    PyObject *dispose = part_of(self)->dispose;
    return Py_NewRef(dispose != NULL ? dispose : Py_None);
}

static int set_dispose(PyObject *self, PyObject *value, void *unused) {
    (void)unused;
    Py_XINCREF(value);
    Py_XSETREF(part_of(self)->dispose, value);
    return 0;
}

static PyGetSetDef attributes[] = {
    {"dispose", get_dispose, set_dispose, "What is called with a result that comes when nobody takes it any more.", NULL},
    {"sent", get_sent, NULL, "How many bytes a sendfile that has failed or was cancelled had sent.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse}, {Py_tp_clear, clear}, {Py_tp_methods, methods}, {Py_tp_getset, attributes},
    {0, NULL},
};

static PyType_Spec specification = {"evl._evl.Operation", 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

int operation_ready(PyObject *module) {
    PyObject *asyncio = PyImport_ImportModule("_asyncio");
    Future_Type = asyncio == NULL ? NULL : (PyTypeObject *)PyObject_GetAttrString(asyncio, "Future");
    Py_XDECREF(asyncio);
    future_cancel = Future_Type == NULL ? NULL : PyObject_GetAttrString((PyObject *)Future_Type, "cancel");
    PyObject *bases = future_cancel == NULL ? NULL : PyTuple_Pack(1, Future_Type);
    if (bases == NULL)
        return -1;
    specification.basicsize = (int)Future_Type->tp_basicsize + (int)sizeof(Part);
    Operation_Type = (PyTypeObject *)PyType_FromSpecWithBases(&specification, bases);
    Py_DECREF(bases);
    return Operation_Type == NULL ? -1 : PyModule_AddObjectRef(module, "Operation", (PyObject *)Operation_Type);
}

/* --- what operations result in */

PyObject *read_nothing(evl_future *future, void *data) {
    (void)future, (void)data;
    Py_RETURN_NONE;
}

PyObject *read_number(evl_future *future, void *data) {
    (void)data;
    int64_t number;
    int code = evl_future_result_int(future, &number);
    return code < 0 ? fail(code) : PyLong_FromLongLong(number);
}

static PyObject *read_bytes(evl_future *future, void *data) {
    (void)data;
    const void *bytes;
    size_t size;
    int code = evl_future_result_bytes(future, &bytes, &size);
    return code < 0 ? fail(code) : PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
}

static PyObject *with_address(PyObject *first, evl_future *future) {
    const void *address;
    uint32_t size;
    if (first == NULL)
        return NULL;
    int code = evl_future_result_address(future, &address, &size);
    PyObject *second = code < 0 ? fail(code) : address_from_c(address, size);
    PyObject *pair = second == NULL ? NULL : PyTuple_Pack(2, first, second);
    Py_DECREF(first);
    Py_XDECREF(second);
    return pair;
}

static PyObject *read_bytes_and_address(evl_future *future, void *data) {
    return with_address(read_bytes(future, data), future);
}

static PyObject *read_number_and_address(evl_future *future, void *data) {
    return with_address(read_number(future, data), future);
}

/* --- sockets */

#define START(call, reader, view, writer) \
    evl_future *future; \
    int code = call; \
    if (code < 0) { \
        if ((view) != NULL) \
            PyBuffer_Release(view); \
        return fail(code); \
    } \
    return sock_operation(self, future, reader, view, fd, writer)

static PyObject *sock_recv(Loop *self, PyObject *args) {
    int fd;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "in", &fd, &size))
        return NULL;
    START(evl_loop_sock_recv(self->loop, fd, (size_t)size, &future), read_bytes, (Py_buffer *)NULL, false);
}

static PyObject *sock_recvfrom(Loop *self, PyObject *args) {
    int fd;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "in", &fd, &size))
        return NULL;
    START(evl_loop_sock_recvfrom(self->loop, fd, (size_t)size, &future), read_bytes_and_address, (Py_buffer *)NULL, false);
}

static PyObject *sock_recv_into(Loop *self, PyObject *args) {
    int fd;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "iw*", &fd, &view))
        return NULL;
    START(evl_loop_sock_recv_into(self->loop, fd, view.buf, (size_t)view.len, &future), read_number, &view, false);
}

static PyObject *sock_recvfrom_into(Loop *self, PyObject *args) {
    int fd;
    Py_ssize_t size;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "iw*n", &fd, &view, &size))
        return NULL;
    if (size <= 0)
        size = view.len;
    if (size > view.len) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "nbytes is greater than the length of the buffer");
        return NULL;
    }
    START(evl_loop_sock_recvfrom_into(self->loop, fd, view.buf, (size_t)size, &future), read_number_and_address, &view, false);
}

static PyObject *sock_sendall(Loop *self, PyObject *args) {
    int fd;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "iy*", &fd, &view))
        return NULL;
    START(evl_loop_sock_sendall(self->loop, fd, view.buf, (size_t)view.len, &future), read_nothing, &view, true);
}

static PyObject *sock_sendto(Loop *self, PyObject *args) {
    int fd;
    Py_buffer view;
    PyObject *address;
    struct sockaddr_storage storage;
    if (!PyArg_ParseTuple(args, "iy*O", &fd, &view, &address))
        return NULL;
    int size = address_to_c(family_of(fd), address, &storage, sizeof storage);
    if (size < 0) {
        PyBuffer_Release(&view);
        return NULL;
    }
    START(evl_loop_sock_sendto(self->loop, fd, view.buf, (size_t)view.len, &storage, (uint32_t)size, &future), read_number, &view, true);
}

static PyObject *sock_connect(Loop *self, PyObject *args) {
    int fd;
    PyObject *address;
    struct sockaddr_storage storage;
    if (!PyArg_ParseTuple(args, "iO", &fd, &address))
        return NULL;
    int size = address_to_c(family_of(fd), address, &storage, sizeof storage);
    if (size < 0)
        return NULL;
    START(evl_loop_sock_connect(self->loop, fd, &storage, (uint32_t)size, &future), read_nothing, (Py_buffer *)NULL, true);
}

static PyObject *sock_accept(Loop *self, PyObject *args) {
    int fd;
    if (!PyArg_ParseTuple(args, "i", &fd))
        return NULL;
    START(evl_loop_sock_accept(self->loop, fd, &future), read_number_and_address, (Py_buffer *)NULL, false);
}

static PyObject *sock_sendfile(Loop *self, PyObject *args) {
    int fd, file;
    long long offset, count;
    if (!PyArg_ParseTuple(args, "iiLL", &fd, &file, &offset, &count))
        return NULL;
    START(evl_loop_sock_sendfile(self->loop, fd, file, offset, count, &future), read_number, (Py_buffer *)NULL, true);
}

PyMethodDef loop_sock_methods[] = {
    {"_sock_recv", (PyCFunction)sock_recv, METH_VARARGS, NULL},
    {"_sock_recv_into", (PyCFunction)sock_recv_into, METH_VARARGS, NULL},
    {"_sock_recvfrom", (PyCFunction)sock_recvfrom, METH_VARARGS, NULL},
    {"_sock_recvfrom_into", (PyCFunction)sock_recvfrom_into, METH_VARARGS, NULL},
    {"_sock_sendall", (PyCFunction)sock_sendall, METH_VARARGS, NULL},
    {"_sock_sendto", (PyCFunction)sock_sendto, METH_VARARGS, NULL},
    {"_sock_connect", (PyCFunction)sock_connect, METH_VARARGS, NULL},
    {"_sock_accept", (PyCFunction)sock_accept, METH_VARARGS, NULL},
    {"_sock_sendfile", (PyCFunction)sock_sendfile, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
