/* DatagramTransport: evl's datagram endpoints. */
#include "evl_python.h"

#include <errno.h>
#include <sys/socket.h>

typedef struct {
    BaseTransport base;
    Loop *loop;
    evl_datagram *datagram;
    PyObject *protocol;
    PyObject *factory;
    PyObject *failure;
    PyObject *context;
    PyObject *error;
    PyObject *sock;
    /* Who awaits that it is made, until it is. */
    PyObject *waiter;
    PyObject *weakrefs;
    int family;
    int depth;
    bool lost;
    /* It was made with a remote address; a socket may also have been connected before. */
    bool remote;
    /* Somebody has closed it. */
    bool closed;
} Datagram;

static PyTypeObject *Datagram_Type;

static Datagram *make(Loop *loop, PyObject *factory) {
    PyTypeObject *type = (PyTypeObject *)classes.datagram;
    Datagram *self = (Datagram *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(loop);
    self->loop = loop;
    Py_INCREF(factory);
    self->factory = factory;
    self->context = PyContext_CopyCurrent();
    self->base.extra = PyDict_New();
    if (self->context == NULL || self->base.extra == NULL)
        Py_CLEAR(self);
    return self;
}

static void end(Datagram *self) {
    self->lost = true;
    PyObject *sock = self->sock;
    self->sock = NULL;
    if (sock != NULL) {
        PyObject *type, *exception, *traceback;
        PyErr_Fetch(&type, &exception, &traceback);
        PyObject *answer = PyObject_CallMethod(sock, "detach", NULL);
        if (answer == NULL)
            PyErr_WriteUnraisable(sock);
        Py_XDECREF(answer);
        PyErr_Restore(type, exception, traceback);
        Py_DECREF(sock);
    }
    evl_datagram *datagram = self->datagram;
    self->datagram = NULL;
    Py_CLEAR(self->factory);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->waiter);
    evl_datagram_unref(datagram);
}

static int clear(Datagram *self) {
    end(self);
    Py_CLEAR(self->base.extra);
    Py_CLEAR(self->failure);
    Py_CLEAR(self->context);
    Py_CLEAR(self->error);
    Py_CLEAR(self->loop);
    return 0;
}

static int traverse(Datagram *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->base.extra);
    Py_VISIT(self->loop);
    Py_VISIT(self->protocol);
    Py_VISIT(self->factory);
    Py_VISIT(self->failure);
    Py_VISIT(self->context);
    Py_VISIT(self->error);
    Py_VISIT(self->sock);
    Py_VISIT(self->waiter);
    return 0;
}

static void dealloc(Datagram *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static void release(void *of) {
    STAYS;
    Datagram *self = of;
    PyGILState_STATE state = PyGILState_Ensure();
    bool abandoned = self->datagram != NULL && !self->closed && !self->lost && evl_loop_is_closed(self->loop->loop);
    end(self);
    if (abandoned)
        warn_unclosed((PyObject *)self);
    Py_DECREF(self);
    PyGILState_Release(state);
    LEAVE;
}

/* --- what evl calls */

static bool enter(Datagram *self) {
    Py_INCREF(self);
    if (self->depth == 0 && PyContext_Enter(self->context) < 0) {
        loop_tell(self->loop, "The context of a transport cannot be entered", (PyObject *)self, "transport");
        Py_DECREF(self);
        return false;
    }
    self->depth++;
    return true;
}

static void leave(Datagram *self) {
    if (--self->depth == 0 && PyContext_Exit(self->context) < 0)
        PyErr_WriteUnraisable((PyObject *)self);
    Py_DECREF(self);
}

static void learn_addresses(Datagram *self) {
    struct sockaddr_storage address;
    for (int peer = 0; peer < 2; peer++) {
        int size = peer ? evl_datagram_get_peername(self->datagram, &address, sizeof address)
                        : evl_datagram_get_sockname(self->datagram, &address, sizeof address);
        PyObject *value;
        if (size < 0) {
            value = Py_None;
            Py_INCREF(value);
        } else {
            self->family = address.ss_family;
            value = address_from_c(&address, (size_t)size);
        }
        if (value == NULL || PyDict_SetItemString(self->base.extra, peer ? "peername" : "sockname", value) < 0)
            PyErr_WriteUnraisable((PyObject *)self);
        Py_XDECREF(value);
    }
}

static void on_made(evl_datagram *datagram, void *of) {
    STAYS;
    Datagram *self = of;
    self->datagram = evl_datagram_ref(datagram);
    if (!enter(self))
        LEAVE;
    learn_addresses(self);
    self->protocol = PyObject_CallNoArgs(self->factory);
    Py_CLEAR(self->factory);
    if (self->protocol == NULL) {
        if (!loop_takes_exit(self->loop)) {
            PyObject *type, *traceback;
            PyErr_Fetch(&type, &self->failure, &traceback);
            PyErr_NormalizeException(&type, &self->failure, &traceback);
            Py_XDECREF(type);
            Py_XDECREF(traceback);
        }
        evl_datagram_abort(datagram);
    } else {
        PyObject *answer = PyObject_CallMethodOneArg(self->protocol, names.connection_made, (PyObject *)self);
        if (answer == NULL)
            loop_tell(self->loop, "Fatal error: protocol.connection_made() call failed.", (PyObject *)self, "transport");
        Py_XDECREF(answer);
        operation_settle(self->loop, &self->waiter, (PyObject *)self);
    }
    leave(self);
    LEAVE;
}

static void on_datagram(evl_datagram *datagram, const void *data, size_t size, const void *address, uint32_t address_size, void *of) {
    STAYS;
    (void)datagram;
    Datagram *self = of;
    if (self->protocol == NULL || !enter(self))
        LEAVE;
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    PyObject *from = bytes == NULL ? NULL : address_from_c(address, address_size);
    PyObject *answer = from == NULL ? NULL : PyObject_CallMethodObjArgs(self->protocol, names.datagram_received, bytes, from, NULL);
    if (answer == NULL)
        loop_tell(self->loop, "Fatal error: protocol.datagram_received() call failed.", (PyObject *)self, "transport");
    Py_XDECREF(answer);
    Py_XDECREF(from);
    Py_XDECREF(bytes);
    leave(self);
    LEAVE;
}

static void on_error(evl_datagram *datagram, int code, void *of) {
    STAYS;
    (void)datagram;
    Datagram *self = of;
    if (self->protocol == NULL || !enter(self))
        LEAVE;
    PyObject *error = exception_of(code, NULL);
    PyObject *answer = error == NULL ? NULL : PyObject_CallMethodOneArg(self->protocol, names.error_received, error);
    if (answer == NULL)
        loop_tell(self->loop, "Fatal error: protocol.error_received() call failed.", (PyObject *)self, "transport");
    Py_XDECREF(answer);
    Py_XDECREF(error);
    leave(self);
    LEAVE;
}

static void on_lost(evl_datagram *datagram, int code, void *of) {
    STAYS;
    (void)datagram;
    Datagram *self = of;
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
    if (self->protocol != NULL) {
        if (error != NULL)
            answer = PyObject_CallMethodOneArg(self->protocol, names.connection_lost, error);
        if (answer == NULL)
            loop_tell(self->loop, "Fatal error: protocol.connection_lost() call failed.", (PyObject *)self, "transport");
    }
    Py_XDECREF(answer);
    Py_XDECREF(error);
    end(self);
    leave(self);
    LEAVE;
}

static void flow(Datagram *self, PyObject *method, const char *message) {
    STAYS;
    if (self->protocol == NULL)
        LEAVE;
    Py_INCREF(self);
    PyObject *answer = PyObject_CallMethodNoArgs(self->protocol, method);
    if (answer == NULL)
        loop_tell(self->loop, message, (PyObject *)self, "transport");
    Py_XDECREF(answer);
    Py_DECREF(self);
    LEAVE;
}

static void on_pause(evl_datagram *datagram, void *of) {
    (void)datagram;
    flow(of, names.pause_writing, "protocol.pause_writing() failed");
}

static void on_resume(evl_datagram *datagram, void *of) {
    STAYS;
    (void)datagram;
    Datagram *self = of;
    if (enter(self)) {
        flow(self, names.resume_writing, "protocol.resume_writing() failed");
        leave(self);
    }
    LEAVE;
}

static const evl_datagram_protocol table = {
    .size = sizeof table,
    .connection_made = on_made,
    .datagram_received = on_datagram,
    .error_received = on_error,
    .connection_lost = on_lost,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
};

/* --- methods */

/* The exception that is set goes to the protocol, whose own exceptions are raised. */
static PyObject *error_received(Datagram *self) {
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    PyObject *protocol = self->protocol, *answer = NULL;
    Py_XINCREF(protocol);
    if (protocol != NULL)
        answer = PyObject_CallMethodOneArg(protocol, names.error_received, exception);
    bool failed = protocol != NULL && answer == NULL;
    Py_XDECREF(protocol);
    Py_XDECREF(answer);
    Py_XDECREF(type);
    Py_XDECREF(exception);
    Py_XDECREF(traceback);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *dgram_sendto(Datagram *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"data", "addr", NULL};
    PyObject *data, *address = Py_None;
    Py_buffer view;
    struct sockaddr_storage storage;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", keywords, &data, &address))
        return NULL;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%.100s'", Py_TYPE(data)->tp_name);
    int code = -EPIPE;
    if (self->datagram != NULL) {
        /* As asyncio does it, addresses are compared as they are given; one is not looked at where the socket has one. */
        PyObject *peer = PyDict_GetItemString(self->base.extra, "peername");
        if (peer != NULL && peer != Py_None && address != Py_None) {
            int same = self->remote ? PyObject_RichCompareBool(address, peer, Py_EQ) : 1;
            if (same <= 0) {
                if (same == 0)
                    PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %R", peer);
                PyBuffer_Release(&view);
                return NULL;
            }
            address = Py_None;
        }
        int size = address_to_c(self->family, address, &storage, sizeof storage);
        if (size < 0) {
            PyBuffer_Release(&view);
            return PyErr_ExceptionMatches(PyExc_OSError) ? error_received(self) : NULL;
        }
        code = evl_datagram_sendto(self->datagram, view.buf, (size_t)view.len, size == 0 ? NULL : &storage, (uint32_t)size);
    }
    PyBuffer_Release(&view);
    if (code == -EPIPE || code == EVL_ECLOSED)
        Py_RETURN_NONE;
    if (code == -EINVAL)
        return PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %R",
                            PyDict_GetItemString(self->base.extra, "peername"));
    return none_or_fail(code);
}

static PyObject *finished(int code) { return none_or_fail(code == EVL_ECLOSED ? 0 : code); }

static PyObject *dgram_close(Datagram *self, PyObject *unused) {
    (void)unused;
    self->closed = true;
    return finished(self->datagram == NULL ? 0 : evl_datagram_close(self->datagram));
}

static PyObject *dgram_abort(Datagram *self, PyObject *unused) {
    (void)unused;
    self->closed = true;
    return finished(self->datagram == NULL ? 0 : evl_datagram_abort(self->datagram));
}

static PyObject *dgram_is_closing(Datagram *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(self->lost || evl_datagram_is_closing(self->datagram));
}

static PyObject *dgram_set_limits(Datagram *self, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"high", "low", NULL};
    PyObject *given[2] = {Py_None, Py_None};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO", keywords, &given[0], &given[1]))
        return NULL;
    long long limits[2] = {-1, -1};
    for (int i = 0; i < 2; i++) {
        if (given[i] == Py_None)
            continue;
        limits[i] = PyLong_AsLongLong(given[i]);
        if (limits[i] == -1 && PyErr_Occurred())
            return NULL;
        if (limits[i] < 0 || (i == 1 && limits[0] >= 0 && limits[1] > limits[0]))
            return PyErr_Format(PyExc_ValueError, "high (%R) must be >= low (%R) must be >= 0", given[0], given[1]);
    }
    return finished(self->datagram == NULL ? 0 : evl_datagram_set_write_buffer_limits(self->datagram, limits[0], limits[1]));
}

static PyObject *dgram_get_limits(Datagram *self, PyObject *unused) {
    (void)unused;
    size_t high = 0, low = 0;
    int code = self->datagram == NULL ? 0 : evl_datagram_get_write_buffer_limits(self->datagram, &high, &low);
    return code < 0 ? fail(code) : Py_BuildValue("nn", (Py_ssize_t)low, (Py_ssize_t)high);
}

static PyObject *dgram_get_size(Datagram *self, PyObject *unused) {
    (void)unused;
    size_t size = 0;
    int code = self->datagram == NULL ? 0 : evl_datagram_get_write_buffer_size(self->datagram, &size);
    return code < 0 ? fail(code) : PyLong_FromSize_t(size);
}

static PyObject *dgram_set_protocol(Datagram *self, PyObject *protocol) {
    if (!self->lost) {
        Py_INCREF(protocol);
        Py_XSETREF(self->protocol, protocol);
    }
    Py_RETURN_NONE;
}

static PyObject *dgram_get_protocol(Datagram *self, PyObject *unused) {
    (void)unused;
    PyObject *protocol = self->protocol != NULL ? self->protocol : Py_None;
    Py_INCREF(protocol);
    return protocol;
}

static PyObject *dgram_fileno(Datagram *self, PyObject *unused) {
    (void)unused;
    int fd = self->datagram == NULL ? -1 : evl_datagram_get_fd(self->datagram);
    return PyLong_FromLong(fd < 0 ? -1 : fd);
}

static PyObject *dgram_repr(Datagram *self) {
    char text[256] = "<closed>";
    if (self->datagram != NULL && evl_datagram_repr(self->datagram, text, sizeof text) >= 0)
        return PyUnicode_FromFormat("<%s %s", Py_TYPE(self)->tp_name, text + 1);
    return PyUnicode_FromFormat("<%s %s>", Py_TYPE(self)->tp_name, self->lost ? "closed" : "connecting");
}

#define METHOD(name) (PyCFunction)(void (*)(void)) name
static PyMethodDef methods[] = {
    {"sendto", METHOD(dgram_sendto), METH_VARARGS | METH_KEYWORDS, "Sends a datagram."},
    {"close", METHOD(dgram_close), METH_NOARGS, "Closes the transport when all is sent."},
    {"abort", METHOD(dgram_abort), METH_NOARGS, "Closes the transport at once."},
    {"is_closing", METHOD(dgram_is_closing), METH_NOARGS, "Whether the transport is closing or closed."},
    {"set_write_buffer_limits", METHOD(dgram_set_limits), METH_VARARGS | METH_KEYWORDS, "When writing is paused and resumed."},
    {"get_write_buffer_limits", METHOD(dgram_get_limits), METH_NOARGS, "The limits: low, high."},
    {"get_write_buffer_size", METHOD(dgram_get_size), METH_NOARGS, "How many bytes wait to be sent."},
    {"set_protocol", METHOD(dgram_set_protocol), METH_O, "Has another protocol be called."},
    {"get_protocol", METHOD(dgram_get_protocol), METH_NOARGS, "The protocol."},
    {"_fileno", METHOD(dgram_fileno), METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"_loop", T_OBJECT, offsetof(Datagram, loop), READONLY, NULL},
    {"_socket", T_OBJECT, offsetof(Datagram, sock), 0, NULL},
    {"_lost", T_BOOL, offsetof(Datagram, lost), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Datagram, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse}, {Py_tp_clear, clear}, {Py_tp_methods, methods},
    {Py_tp_members, members}, {Py_tp_repr, dgram_repr},   {0, NULL},
};

static PyType_Spec specification = {
    "evl._evl.DatagramTransport", sizeof(Datagram), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, slots};

int datagram_ready(PyObject *module) {
    Datagram_Type = transport_type(module, &specification, "DatagramTransport", "DatagramTransport");
    return Datagram_Type == NULL ? -1 : 0;
}

/* --- what makes endpoints */

static PyObject *read_datagram(evl_future *future, void *of) {
    (void)future;
    Datagram *self = of;
    if (self->failure != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(self->failure), self->failure);
        return NULL;
    }
    Py_INCREF(self);
    return (PyObject *)self;
}

static PyObject *started(Loop *loop, Datagram *self, int code, evl_future *future) {
    PyObject *result = code < 0 ? fail(code) : operation(loop, future, read_datagram, self, (PyObject *)self, NULL);
    if (result != NULL && result != (PyObject *)self) {
        Py_INCREF(result);
        self->waiter = result;
    }
    Py_DECREF(self);
    return result;
}

/* _datagram(factory, family, proto, flags, local_host, local_service, remote_host, remote_service, lookup_flags) */
static PyObject *datagram(Loop *self, PyObject *args) {
    evl_datagram_options options;
    PyObject *factory;
    evl_future *future = NULL;
    evl_datagram_options_init(&options, sizeof options);
    if (!PyArg_ParseTuple(args, "OiiIzzzzi", &factory, &options.family, &options.protocol, &options.flags, &options.local_host,
                          &options.local_service, &options.remote_host, &options.remote_service, &options.lookup_flags))
        return NULL;
    Datagram *made = make(self, factory);
    if (made == NULL)
        return NULL;
    made->remote = options.remote_host != NULL || options.remote_service != NULL;
    Py_INCREF(made);
    int code = evl_loop_create_datagram_endpoint(self->loop, &options, &table, made, release, &future);
    return started(self, made, code, future);
}

/* _datagram_unix(factory, local, remote) */
static PyObject *datagram_unix(Loop *self, PyObject *args) {
    PyObject *factory;
    const char *local, *remote;
    Py_ssize_t local_size, remote_size;
    evl_future *future = NULL;
    if (!PyArg_ParseTuple(args, "Oz#z#", &factory, &local, &local_size, &remote, &remote_size))
        return NULL;
    Datagram *made = make(self, factory);
    if (made == NULL)
        return NULL;
    made->remote = remote != NULL;
    Py_INCREF(made);
    int code = evl_loop_create_unix_datagram_endpoint(self->loop, local, (size_t)local_size, remote, (size_t)remote_size, &table, made,
                                                      release, &future);
    return started(self, made, code, future);
}

/* _datagram_socket(factory, sock): from success on, the descriptor is evl's. */
static PyObject *datagram_socket(Loop *self, PyObject *args) {
    PyObject *factory, *sock;
    evl_future *future = NULL;
    if (!PyArg_ParseTuple(args, "OO", &factory, &sock))
        return NULL;
    PyObject *number = PyObject_CallMethod(sock, "fileno", NULL);
    int fd = number == NULL ? -1 : (int)PyLong_AsLong(number);
    Py_XDECREF(number);
    if (fd < 0)
        return PyErr_Occurred() ? NULL : fail(-EBADF);
    Datagram *made = make(self, factory);
    if (made == NULL)
        return NULL;
    Py_INCREF(made);
    int code = evl_loop_create_datagram_endpoint_fd(self->loop, fd, &table, made, release, &future);
    if (code >= 0) {
        Py_INCREF(sock);
        made->sock = sock;
    }
    return started(self, made, code, future);
}

PyMethodDef loop_datagram_methods[] = {
    {"_datagram", (PyCFunction)datagram, METH_VARARGS, NULL},
    {"_datagram_unix", (PyCFunction)datagram_unix, METH_VARARGS, NULL},
    {"_datagram_socket", (PyCFunction)datagram_socket, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
