/* Operation: a future of evl's that an asyncio future waits for. The sock_ functions and look-ups. */
#include "evl_python.h"

#include <sys/socket.h>

typedef struct {
    PyObject_HEAD
    Loop *loop;
    evl_future *future;
    /* The asyncio future, until this is done. */
    PyObject *waiter;
    /* What evl uses meanwhile. */
    PyObject *kept;
    Py_buffer view;
    Reader reader;
    void *data;
} Operation;

static PyTypeObject *Operation_Type;

static int traverse(Operation *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->waiter);
    Py_VISIT(self->kept);
    return 0;
}

/* Its end: evl does not use anything of it any more. */
static int clear(Operation *self) {
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->kept);
    if (self->view.obj != NULL)
        PyBuffer_Release(&self->view);
    Py_CLEAR(self->loop);
    return 0;
}

static void dealloc(Operation *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    evl_future_unref(self->future);
    clear(self);
    PyObject_GC_Del(self);
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

static void on_done(evl_future *future, void *of) {
    Operation *self = of;
    PyObject *waiter = self->waiter, *answer;
    if (waiter == NULL)
        return;
    self->waiter = NULL;
    PyObject *done = PyObject_CallMethodNoArgs(waiter, names.done);
    if (done == NULL) {
        answer = NULL;
    } else if (done == Py_True) {
        PyObject *result = evl_future_cancelled(future) ? NULL : result_of(future, self->reader, self->data);
        PyErr_Clear();
        answer = result == NULL ? Py_NewRef(Py_None) : PyObject_CallMethod(waiter, "_too_late", "(O)", result);
        Py_XDECREF(result);
    } else if (evl_future_cancelled(future)) {
        answer = PyObject_CallMethodNoArgs(waiter, names.cancel);
    } else {
        PyObject *result = result_of(future, self->reader, self->data);
        if (result != NULL) {
            answer = PyObject_CallMethodOneArg(waiter, names.set_result, result);
            Py_DECREF(result);
        } else {
            PyObject *type, *exception, *traceback;
            PyErr_Fetch(&type, &exception, &traceback);
            PyErr_NormalizeException(&type, &exception, &traceback);
            answer = PyObject_CallMethodOneArg(waiter, names.set_exception, exception);
            Py_XDECREF(type);
            Py_XDECREF(exception);
            Py_XDECREF(traceback);
        }
    }
    Py_XDECREF(done);
    if (answer == NULL)
        loop_tell(self->loop, "Completing a future failed", waiter, "future");
    Py_XDECREF(answer);
    Py_DECREF(waiter);
    Loop *loop = self->loop;
    Py_XINCREF(loop);
    clear(self);
    Py_XDECREF(loop);
}

PyObject *operation(Loop *loop, evl_future *future, Reader reader, void *data, PyObject *kept, Py_buffer *view) {
    Operation *self = NULL;
    PyObject *waiter = NULL, *result = NULL;
    if (evl_future_done(future)) {
        result = result_of(future, reader, data);
        evl_future_unref(future);
        if (view != NULL)
            PyBuffer_Release(view);
        return result;
    }
    self = PyObject_GC_New(Operation, Operation_Type);
    if (self == NULL) {
        evl_future_cancel(future, NULL);
        evl_future_unref(future);
        return NULL;
    }
    self->future = future;
    self->reader = reader;
    self->data = data;
    Py_INCREF(loop);
    self->loop = loop;
    Py_XINCREF(kept);
    self->kept = kept;
    self->view = view != NULL ? *view : (Py_buffer){0};
    self->waiter = NULL;
    PyObject_GC_Track(self);
    waiter = PyObject_CallFunctionObjArgs(classes.future, (PyObject *)loop, (PyObject *)self, NULL);
    if (waiter != NULL) {
        Py_INCREF(self);
        int code = evl_future_add_done_callback(future, on_done, self, release_object, NULL);
        if (code < 0) {
            Py_CLEAR(waiter);
            fail(code);
        } else {
            Py_INCREF(waiter);
            self->waiter = waiter;
        }
    }
    if (waiter == NULL)
        evl_future_cancel(future, NULL);
    Py_DECREF(self);
    return waiter;
}

static PyObject *withdraw(Operation *self, PyObject *unused) {
    (void)unused;
    int code = evl_future_cancel(self->future, NULL);
    if (code == EVL_ECLOSED)
        code = 0;
    return code < 0 ? fail(code) : PyBool_FromLong(code);
}

static PyMethodDef methods[] = {
    {"withdraw", (PyCFunction)withdraw, METH_NOARGS, "Cancels what is under way."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse}, {Py_tp_clear, clear}, {Py_tp_methods, methods}, {0, NULL},
};

static PyType_Spec specification = {"evl._evl.Operation", sizeof(Operation), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

int operation_ready(PyObject *module) {
    Operation_Type = (PyTypeObject *)PyType_FromSpec(&specification);
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

#define START(call, reader, view) \
    evl_future *future; \
    int code = call; \
    if (code < 0) { \
        if ((view) != NULL) \
            PyBuffer_Release(view); \
        return fail(code); \
    } \
    return operation(self, future, reader, NULL, NULL, view)

static PyObject *sock_recv(Loop *self, PyObject *args) {
    int fd;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "in", &fd, &size))
        return NULL;
    START(evl_loop_sock_recv(self->loop, fd, (size_t)size, &future), read_bytes, (Py_buffer *)NULL);
}

static PyObject *sock_recvfrom(Loop *self, PyObject *args) {
    int fd;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "in", &fd, &size))
        return NULL;
    START(evl_loop_sock_recvfrom(self->loop, fd, (size_t)size, &future), read_bytes_and_address, (Py_buffer *)NULL);
}

static PyObject *sock_recv_into(Loop *self, PyObject *args) {
    int fd;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "iw*", &fd, &view))
        return NULL;
    START(evl_loop_sock_recv_into(self->loop, fd, view.buf, (size_t)view.len, &future), read_number, &view);
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
    START(evl_loop_sock_recvfrom_into(self->loop, fd, view.buf, (size_t)size, &future), read_number_and_address, &view);
}

static PyObject *sock_sendall(Loop *self, PyObject *args) {
    int fd;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "iy*", &fd, &view))
        return NULL;
    START(evl_loop_sock_sendall(self->loop, fd, view.buf, (size_t)view.len, &future), read_nothing, &view);
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
    START(evl_loop_sock_sendto(self->loop, fd, view.buf, (size_t)view.len, &storage, (uint32_t)size, &future), read_number, &view);
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
    START(evl_loop_sock_connect(self->loop, fd, &storage, (uint32_t)size, &future), read_nothing, (Py_buffer *)NULL);
}

static PyObject *sock_accept(Loop *self, PyObject *args) {
    int fd;
    if (!PyArg_ParseTuple(args, "i", &fd))
        return NULL;
    START(evl_loop_sock_accept(self->loop, fd, &future), read_number_and_address, (Py_buffer *)NULL);
}

static PyObject *sock_sendfile(Loop *self, PyObject *args) {
    int fd, file;
    long long offset, count;
    if (!PyArg_ParseTuple(args, "iiLL", &fd, &file, &offset, &count))
        return NULL;
    START(evl_loop_sock_sendfile(self->loop, fd, file, offset, count, &future), read_number, (Py_buffer *)NULL);
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
