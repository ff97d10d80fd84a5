/* StreamTransport: what evl's transports of streams and pipes look like in Python. stream_calls.c has what evl calls. */
#include "stream.h"

#include <errno.h>
#include <sys/socket.h>

PyTypeObject *Stream_Type;
static PyObject *buffered_protocol;

int stream_look_at_protocol(Stream *self) {
    int buffered = PyObject_IsInstance(self->protocol, buffered_protocol);
    if (buffered < 0)
        return -1;
    /* One that is no asyncio.BufferedProtocol, but has its methods only, is meant as one. */
    self->buffered = buffered || (!PyObject_HasAttr(self->protocol, names.data_received) &&
                                  PyObject_HasAttr(self->protocol, names.get_buffer));
    return 0;
}

Stream *stream_make(Loop *loop, PyObject *protocol, PyObject *factory, PyObject *context) {
    PyTypeObject *type = (PyTypeObject *)classes.stream;
    Stream *self = (Stream *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(loop);
    self->loop = loop;
    Py_XINCREF(protocol);
    self->protocol = protocol;
    Py_XINCREF(factory);
    self->factory = factory;
    self->context = context != NULL ? PyContext_Copy(context) : PyContext_CopyCurrent();
    self->base.extra = PyDict_New();
    if (self->context == NULL || self->base.extra == NULL || (protocol != NULL && stream_look_at_protocol(self) < 0))
        Py_CLEAR(self);
    return self;
}

PyObject *stream_of(evl_transport *transport) {
    PyObject *self = evl_transport_get_data(transport);
    return self;
}

static int traverse(Stream *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->base.extra);
    Py_VISIT(self->loop);
    Py_VISIT(self->protocol);
    Py_VISIT(self->factory);
    Py_VISIT(self->failure);
    Py_VISIT(self->context);
    Py_VISIT(self->error);
    Py_VISIT(self->buffer);
    Py_VISIT(self->sock);
    Py_VISIT(self->pipe);
    Py_VISIT(self->waiter);
    Py_VISIT(self->first);
    return 0;
}

static int clear(Stream *self) {
    stream_end(self);
    Py_CLEAR(self->base.extra);
    Py_CLEAR(self->first);
    Py_CLEAR(self->failure);
    Py_CLEAR(self->context);
    Py_CLEAR(self->error);
    Py_CLEAR(self->loop);
    return 0;
}

static void dealloc(Stream *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Calls a method of an object that has done its work, whose failure changes nothing. */
static void call_last(PyObject *object, const char *method) {
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyObject *answer = PyObject_CallMethod(object, method, NULL);
    if (answer == NULL)
        PyErr_WriteUnraisable(object);
    Py_XDECREF(answer);
    PyErr_Restore(type, exception, traceback);
}

void stream_end(Stream *self) {
    self->lost = true;
    PyObject *sock = self->sock, *pipe = self->pipe;
    self->sock = self->pipe = NULL;
    if (sock != NULL) {
        call_last(sock, "detach");
        Py_DECREF(sock);
    }
    if (pipe != NULL) {
        call_last(pipe, "close");
        Py_DECREF(pipe);
    }
    evl_transport *transport = self->transport;
    self->transport = NULL;
    Py_CLEAR(self->buffer);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->waiter);
    if (transport != NULL) {
        if (evl_transport_get_data(transport) == self)
            evl_transport_set_data(transport, NULL, NULL);
        evl_transport_unref(transport);
    }
}

/* --- methods */

static void release_bytes(void *bytes) { Py_DECREF((PyObject *)bytes); }

/* Another thread has called a method. Asyncio's transports bear that by chance; here the loop's thread does what was asked. */
static PyObject *elsewhere(Stream *self, const char *method, PyObject *arg) {
    PyObject *bound = PyObject_GetAttrString((PyObject *)self, method), *answer = NULL;
    if (bound != NULL)
        answer = arg == NULL ? PyObject_CallMethod((PyObject *)self->loop, "call_soon_threadsafe", "O", bound)
                             : PyObject_CallMethod((PyObject *)self->loop, "call_soon_threadsafe", "OO", bound, arg);
    Py_XDECREF(bound);
    if (answer == NULL)
        return NULL;
    Py_DECREF(answer);
    Py_RETURN_NONE;
}

/* The answer of a function that writes. */
static PyObject *written(Stream *self, int code) {
    if (code == 0)
        Py_RETURN_NONE;
    if (code == EVL_EINVALIDSTATE)
        return PyErr_Format(PyExc_RuntimeError, "Cannot call write() after write_eof()");
    if (code == EVL_EBUSY)
        return PyErr_Format(PyExc_RuntimeError, "unable to write; sendfile is in progress");
    if (code == -EOPNOTSUPP) {
        PyErr_SetString(PyExc_NotImplementedError, "the transport only reads");
        return NULL;
    }
    if (code == -EPIPE || code == EVL_ECLOSED) {
        /* It is closing: as in asyncio, that is said when a program does not stop. */
        if (++self->ignored == 5)
            return PyObject_CallMethod((PyObject *)self, "_write_is_ignored", NULL);
        Py_RETURN_NONE;
    }
    return fail(code);
}

static PyObject *stream_write(Stream *self, PyObject *data) {
    if (PyBytes_CheckExact(data)) {
        size_t size = (size_t)PyBytes_GET_SIZE(data);
        if (self->transport == NULL)
            return written(self, -EPIPE);
        Py_INCREF(data);
        int code = evl_transport_write_owned(self->transport, PyBytes_AS_STRING(data), size, data, release_bytes);
        return code == EVL_EWRONGTHREAD ? elsewhere(self, "write", data) : written(self, code);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%.100s'", Py_TYPE(data)->tp_name);
    int code = self->transport == NULL ? -EPIPE : evl_transport_write(self->transport, view.buf, (size_t)view.len);
    PyObject *copy = code == EVL_EWRONGTHREAD ? PyBytes_FromStringAndSize(view.buf, view.len) : NULL;
    PyBuffer_Release(&view);
    if (code != EVL_EWRONGTHREAD)
        return written(self, code);
    PyObject *answer = copy == NULL ? NULL : elsewhere(self, "write", copy);
    Py_XDECREF(copy);
    return answer;
}

static PyObject *stream_writelines(Stream *self, PyObject *lines) {
    PyObject *list = PySequence_Fast(lines, "writelines() takes a list of bytes-like objects");
    if (list == NULL)
        return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(list), taken = 0;
    Py_buffer *views = PyMem_New(Py_buffer, (size_t)count + 1);
    evl_buffer *buffers = PyMem_New(evl_buffer, (size_t)count + 1);
    PyObject *result = NULL;
    if (views == NULL || buffers == NULL) {
        PyErr_NoMemory();
    } else {
        for (; taken < count; taken++) {
            if (PyObject_GetBuffer(PySequence_Fast_GET_ITEM(list, taken), &views[taken], PyBUF_SIMPLE) < 0)
                break;
            buffers[taken] = (evl_buffer){views[taken].buf, (size_t)views[taken].len};
        }
        if (taken == count) {
            int code = self->transport == NULL ? -EPIPE : evl_transport_writelines(self->transport, buffers, (size_t)count);
            result = code == EVL_EWRONGTHREAD ? elsewhere(self, "writelines", list) : written(self, code);
        }
    }
    while (taken-- > 0)
        PyBuffer_Release(&views[taken]);
    PyMem_Free(views);
    PyMem_Free(buffers);
    Py_DECREF(list);
    return result;
}

/* A function of evl that does nothing on a transport that is gone. */
static PyObject *simple(Stream *self, const char *name, int (*function)(evl_transport *)) {
    if (self->transport == NULL)
        Py_RETURN_NONE;
    int code = function(self->transport);
    if (code == EVL_EWRONGTHREAD)
        return elsewhere(self, name, NULL);
    if (code == -EOPNOTSUPP) {
        PyErr_SetNone(PyExc_NotImplementedError);
        return NULL;
    }
    if (code == EVL_ECLOSED || code == EVL_EINVALIDSTATE)
        code = 0;
    return none_or_fail(code < 0 ? code : 0);
}

/* stream_write_eof is the method write_eof. */
#define SIMPLE(name, function) \
    static PyObject *name(Stream *self, PyObject *unused) { \
        (void)unused; \
        return simple(self, #name + sizeof "stream", function); \
    }
SIMPLE(stream_write_eof, evl_transport_write_eof)
SIMPLE(stream_pause_reading, evl_transport_pause_reading)
SIMPLE(stream_resume_reading, evl_transport_resume_reading)

static PyObject *stream_close(Stream *self, PyObject *unused) {
    (void)unused;
    self->closed = true;
    return simple(self, "close", evl_transport_close);
}

static PyObject *stream_abort(Stream *self, PyObject *unused) {
    (void)unused;
    self->closed = true;
    return simple(self, "abort", evl_transport_abort);
}

static PyObject *stream_force_close(Stream *self, PyObject *error) {
    self->closed = true;
    if (error != Py_None && self->error == NULL) {
        Py_INCREF(error);
        self->error = error;
    }
    return simple(self, "abort", evl_transport_abort);
}

static PyObject *stream_is_closing(Stream *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(self->lost || (self->transport != NULL && evl_transport_is_closing(self->transport)));
}

static PyObject *stream_is_reading(Stream *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(evl_transport_is_reading(self->transport));
}

static PyObject *stream_can_write_eof(Stream *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(self->transport == NULL || evl_transport_can_write_eof(self->transport));
}

static PyObject *stream_set_limits(Stream *self, PyObject *args, PyObject *kwargs) {
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
    if (self->transport == NULL)
        Py_RETURN_NONE;
    return none_or_fail(evl_transport_set_write_buffer_limits(self->transport, limits[0], limits[1]));
}

static PyObject *stream_get_limits(Stream *self, PyObject *unused) {
    (void)unused;
    size_t high = 0, low = 0;
    int code = self->transport == NULL ? 0 : evl_transport_get_write_buffer_limits(self->transport, &high, &low);
    return code < 0 ? fail(code) : Py_BuildValue("nn", (Py_ssize_t)low, (Py_ssize_t)high);
}

static PyObject *stream_get_size(Stream *self, PyObject *unused) {
    (void)unused;
    size_t size = 0;
    int code = self->transport == NULL ? 0 : evl_transport_get_write_buffer_size(self->transport, &size);
    return code < 0 && code != EVL_ECLOSED ? fail(code) : PyLong_FromSize_t(size);
}

static PyObject *stream_set_protocol(Stream *self, PyObject *protocol) {
    bool before = self->buffered;
    if (self->lost)
        Py_RETURN_NONE;
    Py_INCREF(protocol);
    Py_XSETREF(self->protocol, protocol);
    if (stream_look_at_protocol(self) < 0)
        return NULL;
    if (self->transport == NULL || before == self->buffered)
        Py_RETURN_NONE;
    Py_INCREF(self);
    return none_or_fail(evl_transport_set_protocol(self->transport, stream_table(self), self, stream_release));
}

static PyObject *stream_get_protocol(Stream *self, PyObject *unused) {
    (void)unused;
    PyObject *protocol = self->protocol != NULL ? self->protocol : Py_None;
    Py_INCREF(protocol);
    return protocol;
}

/* The object of an address, from then on in self->base.extra: borrowed; NULL where there is none, or with an exception. */
static PyObject *name_address(Stream *self, int peer) {
    RawAddress *raw = &self->raw[peer];
    if (raw->size == 0)
        return NULL;
    PyObject *value = address_from_c(&raw->address, raw->size);
    if (value == NULL || PyDict_SetItem(self->base.extra, peer ? names.peername : names.sockname, value) < 0) {
        Py_XDECREF(value);
        return NULL;
    }
    raw->size = 0;
    Py_DECREF(value);
    return value;
}

/* The object of a socket, from then on in self->base.extra, as above. */
static PyObject *make_socket(Stream *self, PyObject *name) {
    if (self->raw[0].size == 0 && !PyDict_Contains(self->base.extra, names.sockname))
        return NULL;
    PyObject *value = PyObject_CallOneArg(classes.socket_info, (PyObject *)self);
    if (value == Py_None)
        Py_CLEAR(value);
    if (value != NULL && PyDict_SetItem(self->base.extra, name, value) < 0)
        Py_CLEAR(value);
    /* The dictionary has it. */
    Py_XDECREF(value);
    return value;
}

/* What costs something is made when it is asked for. */
static PyObject *stream_get_extra_info(Stream *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *given[2] = {NULL, Py_None};
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < count + named && i < 2; i++) {
        bool first = i < count ? i == 0 : PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, i - count), "name") == 0;
        given[first ? 0 : 1] = args[i];
    }
    if (given[0] == NULL || count + named > 2)
        return PyErr_Format(PyExc_TypeError, "get_extra_info() takes a name and a default");
    PyObject *name = given[0], *value = PyDict_GetItemWithError(self->base.extra, name);
    if (value == NULL && !PyErr_Occurred() && PyUnicode_Check(name)) {
        if (PyUnicode_Compare(name, names.peername) == 0)
            value = name_address(self, 1);
        else if (PyUnicode_Compare(name, names.sockname) == 0)
            value = name_address(self, 0);
        else if (PyUnicode_CompareWithASCIIString(name, "socket") == 0)
            value = make_socket(self, name);
    }
    if (value == NULL && PyErr_Occurred())
        return NULL;
    value = value != NULL ? value : given[1];
    Py_INCREF(value);
    return value;
}

static PyObject *stream_fileno(Stream *self, PyObject *unused) {
    (void)unused;
    int fd = self->transport == NULL ? -1 : evl_transport_get_fd(self->transport);
    return PyLong_FromLong(fd < 0 ? -1 : fd);
}

static PyObject *stream_repr(Stream *self) {
    char text[256] = "<closed>";
    if (self->transport != NULL && evl_transport_repr(self->transport, text, sizeof text) >= 0)
        return PyUnicode_FromFormat("<%s %s", Py_TYPE(self)->tp_name, text + 1);
    return PyUnicode_FromFormat("<%s %s>", Py_TYPE(self)->tp_name,
                                self->abandoned ? "open, its loop closed" : self->lost ? "closed" : "connecting");
}

#define METHOD(name) (PyCFunction)(void (*)(void)) name
static PyMethodDef methods[] = {
    {"write", METHOD(stream_write), METH_O, "Writes bytes; what cannot be written now is written later."},
    {"writelines", METHOD(stream_writelines), METH_O, "Writes a list of bytes-like objects."},
    {"write_eof", METHOD(stream_write_eof), METH_NOARGS, "Writes no more, once all is written."},
    {"can_write_eof", METHOD(stream_can_write_eof), METH_NOARGS, "Whether write_eof can be used."},
    {"close", METHOD(stream_close), METH_NOARGS, "Closes the transport when all is written."},
    {"abort", METHOD(stream_abort), METH_NOARGS, "Closes the transport at once."},
    {"_force_close", METHOD(stream_force_close), METH_O, NULL},
    {"is_closing", METHOD(stream_is_closing), METH_NOARGS, "Whether the transport is closing or closed."},
    {"pause_reading", METHOD(stream_pause_reading), METH_NOARGS, "Reads no more until resume_reading."},
    {"resume_reading", METHOD(stream_resume_reading), METH_NOARGS, "Reads again."},
    {"is_reading", METHOD(stream_is_reading), METH_NOARGS, "Whether the transport reads."},
    {"set_write_buffer_limits", METHOD(stream_set_limits), METH_VARARGS | METH_KEYWORDS, "When writing is paused and resumed."},
    {"get_write_buffer_limits", METHOD(stream_get_limits), METH_NOARGS, "The limits: low, high."},
    {"get_write_buffer_size", METHOD(stream_get_size), METH_NOARGS, "How many bytes wait to be written."},
    {"set_protocol", METHOD(stream_set_protocol), METH_O, "Has another protocol be called."},
    {"get_protocol", METHOD(stream_get_protocol), METH_NOARGS, "The protocol."},
    {"get_extra_info", METHOD(stream_get_extra_info), METH_FASTCALL | METH_KEYWORDS,
     "'socket', 'sockname', 'peername', 'pipe' and what TLS adds."},
    {"_fileno", METHOD(stream_fileno), METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"_loop", T_OBJECT, offsetof(Stream, loop), READONLY, NULL},
    {"_protocol", T_OBJECT, offsetof(Stream, protocol), READONLY, NULL},
    {"_failure", T_OBJECT, offsetof(Stream, failure), READONLY, NULL},
    {"_socket", T_OBJECT, offsetof(Stream, sock), 0, NULL},
    {"_pipe", T_OBJECT, offsetof(Stream, pipe), 0, NULL},
    {"_lost", T_BOOL, offsetof(Stream, lost), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Stream, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse}, {Py_tp_clear, clear}, {Py_tp_methods, methods},
    {Py_tp_members, members}, {Py_tp_repr, stream_repr},  {0, NULL},
};

static PyType_Spec specification = {
    "evl._evl.StreamTransport", sizeof(Stream), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, slots};

PyTypeObject *transport_type(PyObject *module, PyType_Spec *spec, const char *other, const char *name) {
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    PyObject *first = asyncio == NULL ? NULL : PyObject_GetAttrString(asyncio, "Transport");
    PyObject *second = first == NULL || other == NULL ? NULL : PyObject_GetAttrString(asyncio, other);
    PyTypeObject *type = NULL;
    if (first == NULL || (other != NULL && second == NULL)) {
        type = NULL;
    } else if (((PyTypeObject *)first)->tp_basicsize != sizeof(BaseTransport)) {
        PyErr_SetString(PyExc_ImportError, "this version of asyncio's transports is not known to evl");
    } else {
        PyObject *bases = second == NULL ? PyTuple_Pack(1, first) : PyTuple_Pack(2, first, second);
        type = bases == NULL ? NULL : (PyTypeObject *)PyType_FromSpecWithBases(spec, bases);
        Py_XDECREF(bases);
    }
    Py_XDECREF(asyncio);
    Py_XDECREF(first);
    Py_XDECREF(second);
    if (type != NULL && PyModule_AddObjectRef(module, name, (PyObject *)type) < 0)
        return NULL;
    return type;
}

int stream_ready(PyObject *module) {
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    buffered_protocol = asyncio == NULL ? NULL : PyObject_GetAttrString(asyncio, "BufferedProtocol");
    Py_XDECREF(asyncio);
    if (buffered_protocol == NULL)
        return -1;
    Stream_Type = transport_type(module, &specification, NULL, "StreamTransport");
    return Stream_Type == NULL ? -1 : 0;
}
