/* Loop: what evl.EventLoop inherits, and whatever schedules. */
#include "evl_python.h"

#include <math.h>

PyTypeObject *Loop_Type;

static PyObject *loop_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    Loop *self = (Loop *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->slow_callback_duration = 0.1;
    self->wakeup = -1;
    int code = evl_loop_new(NULL, &self->loop);
    if (code == 0)
        code = evl_loop_set_wait_hooks(self->loop, loop_begin_wait, loop_end_wait, self, NULL);
    if (code == 0)
        code = evl_loop_set_exception_handler(self->loop, loop_on_exception, self, NULL);
    if (code == 0)
        code = evl_loop_set_data(self->loop, self, NULL);
    if (code < 0) {
        Py_DECREF(self);
        return fail(code);
    }
    return (PyObject *)self;
}

static int traverse(Loop *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->raised);
    return 0;
}

static int clear(Loop *self) {
    Py_CLEAR(self->raised);
    return 0;
}

static void dealloc(Loop *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->loop != NULL) {
        evl_loop_close(self->loop);
        evl_loop_unref(self->loop);
    }
    evl_executor_unref(self->pool);
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* callback, its args, and the keyword context, as the scheduling functions take them after `first` arguments of their own. */
static bool read_call(Loop *self, const char *name, PyObject *const *args, Py_ssize_t count, PyObject *keywords,
                      Py_ssize_t first, PyObject **context) {
    *context = NULL;
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *keyword = PyTuple_GET_ITEM(keywords, i);
        if (keyword != names.context && PyUnicode_Compare(keyword, names.context) != 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", name, keyword);
            return false;
        }
        *context = args[count + i];
    }
    if (count <= first) {
        PyErr_Format(PyExc_TypeError, "%s() missing a required argument: 'callback'", name);
        return false;
    }
    if (self->debug) {
        PyObject *answer = PyObject_CallMethod((PyObject *)self, "_check_callback", "Os", args[first], name);
        if (answer == NULL)
            return false;
        Py_DECREF(answer);
    }
    return true;
}

static PyObject *call_soon(Loop *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *context;
    if (!read_call(self, "call_soon", args, count, keywords, 0, &context))
        return NULL;
    Handle *handle = handle_make(Handle_Type, self, args[0], args + 1, count - 1, context);
    if (handle == NULL)
        return NULL;
    Py_INCREF(handle);
    /* From a wrong thread asyncio's call_soon works by chance, unless it is in debug mode; here it works. */
    bool foreign = self->running && !self->debug && self->thread != PyThread_get_thread_ident();
    int code = foreign ? evl_loop_call_soon_threadsafe(self->loop, handle_run, handle, handle_release, NULL, NULL)
                       : evl_loop_call_soon(self->loop, handle_run, handle, handle_release, NULL, NULL);
    if (code < 0) {
        Py_DECREF(handle);
        return fail(code);
    }
    return (PyObject *)handle;
}

static PyObject *call_soon_threadsafe(Loop *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *context;
    if (!read_call(self, "call_soon_threadsafe", args, count, keywords, 0, &context))
        return NULL;
    Handle *handle = handle_make(Handle_Type, self, args[0], args + 1, count - 1, context);
    if (handle == NULL)
        return NULL;
    Py_INCREF(handle);
    /* Where no other thread runs the loop, the callback takes its place among those of call_soon. */
    bool direct = !self->running || self->thread == PyThread_get_thread_ident();
    int code = direct ? evl_loop_call_soon(self->loop, handle_run, handle, handle_release, NULL, NULL)
                      : evl_loop_call_soon_threadsafe(self->loop, handle_run, handle, handle_release, NULL, NULL);
    if (code < 0) {
        Py_DECREF(handle);
        return fail(code);
    }
    return (PyObject *)handle;
}

/* Seconds as nanoseconds; false with an exception. */
static bool nanoseconds(PyObject *number, int64_t *result, double *value) {
    *value = PyFloat_AsDouble(number);
    if (*value == -1.0 && PyErr_Occurred())
        return false;
    if (isnan(*value)) {
        PyErr_SetString(PyExc_ValueError, "a time must be a number, not nan");
        return false;
    }
    double scaled = *value * 1e9;
    *result = scaled >= 9.2e18 ? INT64_MAX - 1 : scaled <= -9.2e18 ? INT64_MIN + 1 : (int64_t)llround(scaled);
    return true;
}

static void release_timer(void *of) {
    STAYS;
    Py_DECREF((PyObject *)of);
    LEAVE;
}

/* A timer that another thread has set has come to the loop's. */
static void begin_timer(void *of) {
    STAYS;
    Handle *handle = of;
    if (handle->callback == NULL || handle->timer != NULL)
        LEAVE;
    double scaled = handle->when * 1e9;
    int64_t when_ns = scaled >= 9.2e18 ? INT64_MAX - 1 : scaled <= -9.2e18 ? INT64_MIN + 1 : (int64_t)llround(scaled);
    Py_INCREF(handle);
    int code = evl_loop_call_at(handle->loop->loop, when_ns, handle_run, handle, handle_release, NULL, &handle->timer);
    if (code < 0) {
        fail(code);
        loop_tell(handle->loop, "A timer of another thread cannot be set", NULL, "handle");
    }
    LEAVE;
}

static PyObject *call_timer(Loop *self, int64_t when_ns, double when, PyObject *const *args, Py_ssize_t count, PyObject *context) {
    Handle *handle = handle_make(TimerHandle_Type, self, args[1], args + 2, count - 2, context);
    if (handle == NULL)
        return NULL;
    handle->when = when;
    Py_INCREF(handle);
    /* As with call_soon. */
    bool foreign = self->running && !self->debug && self->thread != PyThread_get_thread_ident();
    int code = foreign ? evl_loop_call_soon_threadsafe(self->loop, begin_timer, handle, release_timer, NULL, NULL)
                       : evl_loop_call_at(self->loop, when_ns, handle_run, handle, handle_release, NULL, &handle->timer);
    if (code < 0) {
        Py_DECREF(handle);
        return fail(code);
    }
    return (PyObject *)handle;
}

static PyObject *call_later(Loop *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *context;
    int64_t delay_ns, now_ns;
    double delay;
    if (!read_call(self, "call_later", args, count, keywords, 1, &context))
        return NULL;
    if (args[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    if (!nanoseconds(args[0], &delay_ns, &delay))
        return NULL;
    int code = evl_loop_time(self->loop, &now_ns);
    if (code < 0)
        return fail(code);
    int64_t when_ns = delay_ns > INT64_MAX - 1 - now_ns ? INT64_MAX - 1 : now_ns + delay_ns;
    return call_timer(self, when_ns, (double)now_ns * 1e-9 + delay, args, count, context);
}

static PyObject *call_at(Loop *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
    PyObject *context;
    int64_t when_ns;
    double when;
    if (!read_call(self, "call_at", args, count, keywords, 1, &context))
        return NULL;
    if (args[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    if (!nanoseconds(args[0], &when_ns, &when))
        return NULL;
    return call_timer(self, when_ns, when, args, count, context);
}

static PyObject *loop_time(Loop *self, PyObject *unused) {
    (void)unused;
    int64_t now;
    int code = evl_loop_time(self->loop, &now);
    return code < 0 ? fail(code) : PyFloat_FromDouble((double)now * 1e-9);
}

static PyObject *get_clock_resolution(Loop *self, void *unused) {
    (void)unused;
    int64_t resolution;
    int code = evl_loop_clock_resolution(self->loop, &resolution);
    return code < 0 ? fail(code) : PyFloat_FromDouble((double)resolution * 1e-9);
}

static PyObject *is_running(Loop *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(self->running);
}

static PyObject *is_closed(Loop *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(evl_loop_is_closed(self->loop));
}

static PyObject *get_closed(Loop *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(evl_loop_is_closed(self->loop));
}

static PyObject *get_current_handle(Loop *self, void *unused) {
    (void)unused;
    return Py_NewRef(self->current != NULL ? self->current : Py_None);
}

static PyObject *get_debug_flag(Loop *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->debug);
}

static PyObject *get_thread(Loop *self, void *unused) {
    (void)unused;
    if (!self->running)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(self->thread);
}

static PyObject *get_debug(Loop *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(self->debug);
}

static PyObject *set_debug(Loop *self, PyObject *enabled) {
    int debug = PyObject_IsTrue(enabled);
    if (debug < 0)
        return NULL;
    self->debug = debug;
    Py_RETURN_NONE;
}

/* _watch(fd, writer, callback, args): returns the handle. */
static PyObject *watch(Loop *self, PyObject *args) {
    int fd, writer;
    PyObject *callback, *tuple;
    if (!PyArg_ParseTuple(args, "ipOO!", &fd, &writer, &callback, &PyTuple_Type, &tuple))
        return NULL;
    for (;;) {
        Handle *handle = handle_make(Handle_Type, self, callback, ((PyTupleObject *)tuple)->ob_item, PyTuple_GET_SIZE(tuple), NULL);
        if (handle == NULL)
            return NULL;
        Py_INCREF(handle);
        int code = writer ? evl_loop_add_writer(self->loop, fd, handle_run, handle, handle_release, NULL, NULL)
                          : evl_loop_add_reader(self->loop, fd, handle_run, handle, handle_release, NULL, NULL);
        if (code >= 0)
            return (PyObject *)handle;
        Py_DECREF(handle);
        if (code != EVL_EBUSY)
            return fail(code);
        if (!operation_strand(self, fd, writer))
            return PyErr_Format(PyExc_RuntimeError, "File descriptor %d is used by transport", fd);
    }
}

/* _unwatch(fd, writer): whether there was one. */
static PyObject *unwatch(Loop *self, PyObject *args) {
    int fd, writer;
    if (!PyArg_ParseTuple(args, "ip", &fd, &writer))
        return NULL;
    if (evl_loop_is_closed(self->loop))
        Py_RETURN_FALSE;
    int code = writer ? evl_loop_remove_writer(self->loop, fd) : evl_loop_remove_reader(self->loop, fd);
    if (code == EVL_EBUSY) {
        if (!operation_strand(self, fd, writer))
            return PyErr_Format(PyExc_RuntimeError, "File descriptor %d is used by transport", fd);
        code = 1;
    }
    return code < 0 ? fail(code) : PyBool_FromLong(code);
}

/* _handle_signal(number, callback, args) */
static PyObject *handle_signal(Loop *self, PyObject *args) {
    int number;
    PyObject *callback, *tuple;
    if (!PyArg_ParseTuple(args, "iOO!", &number, &callback, &PyTuple_Type, &tuple))
        return NULL;
    Handle *handle = handle_make(Handle_Type, self, callback, ((PyTupleObject *)tuple)->ob_item, PyTuple_GET_SIZE(tuple), NULL);
    if (handle == NULL)
        return NULL;
    int code = evl_loop_add_signal_handler(self->loop, number, handle_run, handle, handle_release, NULL, NULL);
    if (code == EVL_ESIGNAL)
        return PyErr_Format(PyExc_RuntimeError, "sig %d cannot be caught", number);
    return none_or_fail(code);
}

static PyObject *forget_signal(Loop *self, PyObject *number) {
    long value = PyLong_AsLong(number);
    if (value == -1 && PyErr_Occurred())
        return NULL;
    int code = evl_loop_remove_signal_handler(self->loop, (int)value);
    return code < 0 ? fail(code) : PyBool_FromLong(code);
}

#define FAST(name) (PyCFunction)(void (*)(void)) name, METH_FASTCALL | METH_KEYWORDS

static PyMethodDef methods[] = {
    {"call_soon", FAST(call_soon), "Has callback(*args) called in the next iteration."},
    {"call_soon_threadsafe", FAST(call_soon_threadsafe), "call_soon from any thread."},
    {"call_later", FAST(call_later), "Has callback(*args) called after delay seconds."},
    {"call_at", FAST(call_at), "Has callback(*args) called at a time of the loop's clock."},
    {"create_future", create_future, METH_NOARGS, "Makes a future of this loop."},
    {"time", (PyCFunction)loop_time, METH_NOARGS, "The loop's clock, in seconds."},
    {"is_running", (PyCFunction)is_running, METH_NOARGS, "Whether the loop is running."},
    {"is_closed", (PyCFunction)is_closed, METH_NOARGS, "Whether the loop was closed."},
    {"get_debug", (PyCFunction)get_debug, METH_NOARGS, "Whether debug mode is on."},
    {"_set_debug", (PyCFunction)set_debug, METH_O, NULL},
    {"_watch", (PyCFunction)watch, METH_VARARGS, NULL},
    {"_unwatch", (PyCFunction)unwatch, METH_VARARGS, NULL},
    {"_handle_signal", (PyCFunction)handle_signal, METH_VARARGS, NULL},
    {"_forget_signal", (PyCFunction)forget_signal, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"_clock_resolution", (getter)get_clock_resolution, NULL, NULL, NULL},
    /* Private to asyncio, but looked at by programs: uvloop has them, too. */
    {"_current_handle", (getter)get_current_handle, NULL, NULL, NULL},
    {"_closed", (getter)get_closed, NULL, NULL, NULL},
    {"_debug", (getter)get_debug_flag, NULL, NULL, NULL},
    {"_thread_id", (getter)get_thread, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"slow_callback_duration", T_DOUBLE, offsetof(Loop, slow_callback_duration), 0,
     "From how many seconds on a callback is reported as slow in debug mode."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, loop_new},     {Py_tp_dealloc, dealloc},  {Py_tp_traverse, traverse}, {Py_tp_clear, clear},
    {Py_tp_methods, methods},  {Py_tp_members, members},  {Py_tp_getset, attributes}, {0, NULL},
};

static PyType_Spec specification = {"evl._evl.Loop", sizeof(Loop), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, slots};

/* Adds a table of methods of another file to the type. */
static int add_methods(PyMethodDef *table) {
    for (PyMethodDef *method = table; method->ml_name != NULL; method++) {
        PyObject *descriptor = PyDescr_NewMethod(Loop_Type, method);
        if (descriptor == NULL || PyObject_SetAttrString((PyObject *)Loop_Type, method->ml_name, descriptor) < 0)
            return -1;
        Py_DECREF(descriptor);
    }
    return 0;
}

int loop_ready(PyObject *module) {
    Loop_Type = (PyTypeObject *)PyType_FromSpec(&specification);
    PyMethodDef *tables[] = {loop_run_methods,    loop_sock_methods,     loop_dns_methods,    loop_stream_methods,
                             loop_server_methods, loop_datagram_methods, loop_process_methods, loop_executor_methods};
    for (size_t i = 0; Loop_Type != NULL && i < sizeof tables / sizeof *tables; i++)
        if (add_methods(tables[i]) < 0)
            return -1;
    return Loop_Type == NULL ? -1 : PyModule_AddObjectRef(module, "Loop", (PyObject *)Loop_Type);
}
