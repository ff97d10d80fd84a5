/* Server: listening sockets. evl.Server has one. */
#include "stream.h"

#include <errno.h>

typedef struct {
    PyObject_HEAD
    Loop *loop;
    evl_server *server;
} Server;

static PyTypeObject *Server_Type;

/* What a server makes protocols by. */
typedef struct {
    Loop *loop;
    PyObject *factory;
    PyObject *context;
} Listener;

static void listener_release(void *of) {
    STAYS;
    Listener *listener = of;
    PyGILState_STATE state = PyGILState_Ensure();
    Py_XDECREF(listener->factory);
    Py_XDECREF(listener->context);
    Py_XDECREF(listener->loop);
    PyMem_Free(listener);
    PyGILState_Release(state);
    LEAVE;
}

static Listener *listener_make(Loop *loop, PyObject *factory) {
    Listener *listener = PyMem_Malloc(sizeof *listener);
    if (listener == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    Py_INCREF(loop);
    Py_INCREF(factory);
    *listener = (Listener){loop, factory, PyContext_CopyCurrent()};
    if (listener->context == NULL) {
        listener_release(listener);
        return NULL;
    }
    return listener;
}

/* A connection has come. */
static int make_protocol(void *of, evl_protocol *protocol, void **arg, evl_free_fn *arg_free) {
    STAYS;
    Listener *listener = of;
    PyObject *made = NULL;
    Stream *stream = NULL;
    if (PyContext_Enter(listener->context) == 0) {
        made = PyObject_CallNoArgs(listener->factory);
        if (made != NULL)
            stream = stream_make(listener->loop, made, NULL, listener->context);
        if (PyContext_Exit(listener->context) < 0)
            Py_CLEAR(stream);
        Py_XDECREF(made);
    }
    if (stream == NULL) {
        /* As in asyncio, it is told of in debug mode only. */
        if (!loop_takes_exit(listener->loop)) {
            if (listener->loop->debug)
                loop_tell(listener->loop, "Error on transport creation for incoming connection", NULL, "transport");
            PyErr_Clear();
            listener->loop->quiet = true;
        }
        LEAVE_WITH(-ECONNABORTED);
    }
    *protocol = *stream_table(stream);
    *arg = stream;
    *arg_free = stream_release;
    LEAVE_WITH(0);
}

static void dealloc(Server *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    evl_server_unref(self->server);
    Py_XDECREF(self->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

static int traverse(Server *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    return 0;
}

static PyObject *read_server(evl_future *future, void *loop) {
    void *server;
    int code = evl_future_result(future, &server);
    if (code < 0)
        return fail(code);
    Server *self = (Server *)Server_Type->tp_alloc(Server_Type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(loop);
    self->loop = loop;
    self->server = evl_server_ref(server);
    return (PyObject *)self;
}

static PyObject *started(Loop *loop, int code, evl_future *future) {
    return code < 0 ? fail(code) : operation(loop, future, read_server, loop, (PyObject *)loop, NULL);
}

/* _serve(factory, hosts, service, family, flags, backlog): hosts is a list of str, or None. */
static PyObject *serve(Loop *self, PyObject *args) {
    evl_server_options options;
    PyObject *factory, *hosts;
    evl_future *future = NULL;
    const char **names = NULL;
    Py_ssize_t count = 0;
    evl_server_options_init(&options, sizeof options);
    if (!PyArg_ParseTuple(args, "OOziIi", &factory, &hosts, &options.service, &options.family, &options.flags, &options.backlog))
        return NULL;
    if (hosts != Py_None) {
        if (!PyList_Check(hosts))
            return PyErr_Format(PyExc_TypeError, "hosts must be a list");
        count = PyList_GET_SIZE(hosts);
        names = PyMem_New(const char *, (size_t)count + 1);
        if (names == NULL)
            return PyErr_NoMemory();
        for (Py_ssize_t i = 0; i < count; i++) {
            names[i] = PyUnicode_AsUTF8(PyList_GET_ITEM(hosts, i));
            if (names[i] == NULL) {
                PyMem_Free(names);
                return NULL;
            }
        }
        options.hosts = names;
        options.host_count = (size_t)count;
    }
    Listener *listener = listener_make(self, factory);
    PyObject *result = NULL;
    if (listener != NULL) {
        int code = evl_loop_create_server(self->loop, &options, make_protocol, listener, listener_release, &future);
        result = started(self, code, future);
    }
    PyMem_Free(names);
    return result;
}

/* _serve_unix(factory, path, flags, backlog) */
static PyObject *serve_unix(Loop *self, PyObject *args) {
    evl_server_options options;
    PyObject *factory;
    evl_future *future = NULL;
    const char *name;
    Py_ssize_t size;
    evl_server_options_init(&options, sizeof options);
    if (!PyArg_ParseTuple(args, "Oy#Ii", &factory, &name, &size, &options.flags, &options.backlog))
        return NULL;
    Listener *listener = listener_make(self, factory);
    if (listener == NULL)
        return NULL;
    int code = evl_loop_create_unix_server(self->loop, name, (size_t)size, &options, make_protocol, listener, listener_release, &future);
    return started(self, code, future);
}

/* _serve_socket(factory, fd, flags, backlog) */
static PyObject *serve_socket(Loop *self, PyObject *args) {
    evl_server_options options;
    PyObject *factory;
    evl_future *future = NULL;
    int fd;
    evl_server_options_init(&options, sizeof options);
    if (!PyArg_ParseTuple(args, "OiIi", &factory, &fd, &options.flags, &options.backlog))
        return NULL;
    Listener *listener = listener_make(self, factory);
    if (listener == NULL)
        return NULL;
    int code = evl_loop_create_server_from_socket(self->loop, fd, &options, make_protocol, listener, listener_release, &future);
    return started(self, code, future);
}

static PyObject *start_serving(Server *self, PyObject *unused) {
    (void)unused;
    return none_or_fail(evl_server_start_serving(self->server));
}

static PyObject *is_serving(Server *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(evl_server_is_serving(self->server));
}

static PyObject *close_server(Server *self, PyObject *unused) {
    (void)unused;
    int code = evl_server_close(self->server);
    return none_or_fail(code == EVL_ECLOSED ? 0 : code);
}

static PyObject *close_clients(Server *self, PyObject *unused) {
    (void)unused;
    return none_or_fail(evl_server_close_clients(self->server));
}

static PyObject *abort_clients(Server *self, PyObject *unused) {
    (void)unused;
    return none_or_fail(evl_server_abort_clients(self->server));
}

static PyObject *wait_closed(Server *self, PyObject *unused) {
    (void)unused;
    evl_future *future;
    int code = evl_server_wait_closed(self->server, &future);
    return code < 0 ? fail(code) : operation(self->loop, future, read_nothing, NULL, (PyObject *)self, NULL);
}

static PyObject *descriptors(Server *self, PyObject *unused) {
    (void)unused;
    int fds[64];
    int count = evl_server_sockets(self->server, fds, 64);
    if (count == EVL_ECLOSED)
        count = 0;
    if (count < 0)
        return fail(count);
    PyObject *list = PyList_New(0);
    for (int i = 0; list != NULL && i < count && i < 64; i++) {
        PyObject *fd = PyLong_FromLong(fds[i]);
        if (fd == NULL || PyList_Append(list, fd) < 0)
            Py_CLEAR(list);
        Py_XDECREF(fd);
    }
    return list;
}

static PyMethodDef methods[] = {
    {"start_serving", (PyCFunction)start_serving, METH_NOARGS, NULL},
    {"is_serving", (PyCFunction)is_serving, METH_NOARGS, NULL},
    {"close", (PyCFunction)close_server, METH_NOARGS, NULL},
    {"close_clients", (PyCFunction)close_clients, METH_NOARGS, NULL},
    {"abort_clients", (PyCFunction)abort_clients, METH_NOARGS, NULL},
    {"wait_closed", (PyCFunction)wait_closed, METH_NOARGS, NULL},
    {"descriptors", (PyCFunction)descriptors, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse}, {Py_tp_methods, methods}, {0, NULL},
};

static PyType_Spec specification = {"evl._evl.Server", sizeof(Server), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

int server_ready(PyObject *module) {
    Server_Type = (PyTypeObject *)PyType_FromSpec(&specification);
    return Server_Type == NULL ? -1 : PyModule_AddObjectRef(module, "Server", (PyObject *)Server_Type);
}

PyMethodDef loop_server_methods[] = {
    {"_serve", (PyCFunction)serve, METH_VARARGS, NULL},
    {"_serve_unix", (PyCFunction)serve_unix, METH_VARARGS, NULL},
    {"_serve_socket", (PyCFunction)serve_socket, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
