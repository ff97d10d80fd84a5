/* Handle and TimerHandle: callbacks on their way.
 *
 * The garbage collector does not look at them: there may be very many. A cycle through one cannot outlive it, since a handle gives
 * up what it refers to when it has run, is cancelled, or its loop is closed; until then it is no garbage. */
#include "evl_python.h"

#include <time.h>

PyTypeObject *Handle_Type, *TimerHandle_Type;

/* Handles that are not used now, for the next ones. */
enum { SPARE_HANDLES = 256 };
static Handle *spare[SPARE_HANDLES];
static int spare_count;

/* The context that a callback is to have: NULL where it has no variables. Most have none, and a context for each of many timers would
 * be what the garbage collector looks at all the time. False with an exception. */
static bool capture(PyObject **context) {
    PyObject *current = PyThreadState_Get()->context;
    *context = NULL;
    if (current == NULL || PyObject_Size(current) == 0)
        return true;
    *context = PyContext_CopyCurrent();
    return *context != NULL;
}

Handle *handle_make(PyTypeObject *type, Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t count, PyObject *context) {
    Handle *handle;
    if (spare_count > 0) {
        handle = spare[--spare_count];
        (void)PyObject_Init((PyObject *)handle, type);
    } else {
        handle = PyObject_New(Handle, type);
        if (handle == NULL)
            return NULL;
    }
    handle->args = handle->context = handle->source_traceback = handle->repr = handle->weakrefs = NULL;
    handle->timer = NULL;
    handle->when = 0;
    handle->several = count > 1;
    handle->cancelled = false;
    Py_INCREF(loop);
    handle->loop = loop;
    Py_INCREF(callback);
    handle->callback = callback;
    bool failed = false;
    if (context == NULL || context == Py_None) {
        failed = !capture(&handle->context);
    } else {
        Py_INCREF(context);
        handle->context = context;
    }
    if (count == 1) {
        Py_INCREF(args[0]);
        handle->args = args[0];
    } else if (count > 1) {
        handle->args = PyTuple_New(count);
        failed |= handle->args == NULL;
        for (Py_ssize_t i = 0; handle->args != NULL && i < count; i++) {
            Py_INCREF(args[i]);
            PyTuple_SET_ITEM(handle->args, i, args[i]);
        }
    }
    if (!failed && loop->debug) {
        handle->source_traceback = PyObject_CallNoArgs(classes.extract_stack);
        failed = handle->source_traceback == NULL;
    }
    if (failed)
        Py_CLEAR(handle);
    return handle;
}

/* What it calls is not needed any more. */
static void drop_callback(Handle *self) {
    PyObject *callback = self->callback, *args = self->args, *context = self->context;
    self->callback = self->args = self->context = NULL;
    Py_XDECREF(callback);
    Py_XDECREF(args);
    Py_XDECREF(context);
}

static void dealloc(Handle *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    if (self->timer != NULL)
        evl_timer_unref(self->timer);
    drop_callback(self);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->source_traceback);
    Py_CLEAR(self->repr);
    if (spare_count < SPARE_HANDLES)
        spare[spare_count++] = self;
    else
        PyObject_Free(self);
    Py_DECREF(type);
}

void handle_release(void *of) {
    STAYS;
    drop_callback(of);
    Py_DECREF((PyObject *)of);
    LEAVE;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static PyObject *args_of(Handle *self) {
    if (self->several) {
        Py_INCREF(self->args);
        return self->args;
    }
    return self->args != NULL ? PyTuple_Pack(1, self->args) : PyTuple_New(0);
}

/* The callback has failed: asyncio's context for the exception handler. */
static void tell(Handle *self, PyObject *callback) {
    Loop *loop = self->loop;
    if (loop_takes_exit(loop))
        return;
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(exception, traceback);
    PyObject *message = PyUnicode_FromFormat("Exception in callback %S", callback);
    PyObject *text = PyObject_CallMethod((PyObject *)self, "_describe", "O", callback);
    if (text != NULL) {
        Py_XDECREF(message);
        message = PyUnicode_FromFormat("Exception in callback %U", text);
        Py_DECREF(text);
    }
    PyErr_Clear();
    PyObject *told = PyDict_New();
    if (told == NULL || message == NULL || PyDict_SetItemString(told, "message", message) < 0 ||
        PyDict_SetItemString(told, "exception", exception) < 0 || PyDict_SetItemString(told, "handle", (PyObject *)self) < 0 ||
        (self->source_traceback != NULL && PyDict_SetItemString(told, "source_traceback", self->source_traceback) < 0)) {
        PyErr_WriteUnraisable(callback);
    } else {
        PyObject *answer = loop_call_handler(loop, told, exception);
        if (answer == NULL && !loop_takes_exit(loop))
            PyErr_WriteUnraisable(callback);
        Py_XDECREF(answer);
    }
    Py_XDECREF(told);
    Py_XDECREF(message);
    Py_XDECREF(type);
    Py_XDECREF(exception);
    Py_XDECREF(traceback);
}

/* A context without variables that was used and is nobody's, for the next callback. */
static PyObject *spare_context;

static bool is_nobodys(PyObject *context, Py_ssize_t refs) {
    return Py_REFCNT(context) == refs && PyObject_Size(context) == 0;
}

static PyObject *take_context(void) {
    PyObject *context = spare_context;
    spare_context = NULL;
    return context != NULL ? context : PyContext_New();
}

static void give_context_back(PyObject *context) {
    if (spare_context == NULL && is_nobodys(context, 1))
        spare_context = context;
    else
        Py_DECREF(context);
}

static PyObject *call(PyObject *callback, PyObject *args, bool several) {
    if (args == NULL)
        return PyObject_CallNoArgs(callback);
    PyObject *result;
    Py_INCREF(args);
    if (several) {
        result = PyObject_Vectorcall(callback, ((PyTupleObject *)args)->ob_item, (size_t)PyTuple_GET_SIZE(args), NULL);
    } else {
        PyObject *stack[2] = {NULL, args};
        result = PyObject_Vectorcall(callback, stack + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_DECREF(args);
    return result;
}

/* What evl calls. */
void handle_run(void *of) {
    Handle *self = of;
    if (self->callback == NULL)
        return;
    STAYS;
    PyObject *callback = self->callback, *context = self->context, *result = NULL;
    bool own = context == NULL;
    Py_INCREF(self);
    Py_INCREF(callback);
    if (own)
        self->context = context = take_context();
    /* While it is called, it may be cancelled. */
    Py_XINCREF(context);
    Loop *loop = self->loop;
    double began = loop->debug ? seconds() : 0;
    PyObject *outer = loop->current;
    loop->current = (PyObject *)self;
    if (context != NULL && PyContext_Enter(context) == 0) {
        result = call(callback, self->args, self->several);
        PyObject *type = NULL, *exception = NULL, *traceback = NULL;
        if (result == NULL)
            PyErr_Fetch(&type, &exception, &traceback);
        if (PyContext_Exit(context) < 0)
            PyErr_Clear();
        if (type != NULL)
            PyErr_Restore(type, exception, traceback);
    }
    if (result == NULL) {
        tell(self, callback);
    } else {
        Py_DECREF(result);
    }
    if (began != 0 && self->loop->debug) {
        double took = seconds() - began;
        if (took >= self->loop->slow_callback_duration) {
            PyObject *answer = PyObject_CallFunction(classes.log_slow, "Od", self, took);
            if (answer == NULL)
                PyErr_WriteUnraisable(callback);
            Py_XDECREF(answer);
        }
    }
    loop->current = outer;
    /* The next call of the same handle, if there is one, finds what this one has set. */
    if (own && context != NULL && self->context == context && is_nobodys(context, 2)) {
        self->context = NULL;
        Py_DECREF(context);
    }
    if (own && context != NULL)
        give_context_back(context);
    else
        Py_XDECREF(context);
    Py_DECREF(callback);
    Py_DECREF(self);
    LEAVE;
}

static PyObject *run(Handle *self, PyObject *unused) {
    (void)unused;
    handle_run(self);
    PyObject *raised = self->loop->raised;
    if (raised != NULL && !self->loop->running) {
        self->loop->raised = NULL;
        PyErr_SetObject((PyObject *)Py_TYPE(raised), raised);
        Py_DECREF(raised);
        return NULL;
    }
    Py_RETURN_NONE;
}

static void cancel_timer(void *timer) { evl_timer_cancel(timer); }

static void unref_timer(void *timer) { evl_timer_unref(timer); }

static PyObject *cancel(Handle *self, PyObject *unused) {
    (void)unused;
    if (!self->cancelled) {
        self->cancelled = true;
        if (self->loop->debug) {
            PyObject *repr = PyObject_Repr((PyObject *)self);
            if (repr == NULL)
                return NULL;
            Py_XSETREF(self->repr, repr);
        }
        if (self->timer != NULL) {
            evl_timer *timer = self->timer;
            self->timer = NULL;
            /* Another thread's cancelling counts at once; the timer goes when the loop hears of it. */
            if (evl_timer_cancel(timer) == EVL_EWRONGTHREAD)
                evl_loop_call_soon_threadsafe(self->loop->loop, cancel_timer, timer, unref_timer, NULL, NULL);
            else
                evl_timer_unref(timer);
        }
        drop_callback(self);
    }
    Py_RETURN_NONE;
}

static PyObject *cancelled(Handle *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(self->cancelled);
}

static PyObject *get_context(Handle *self, void *unused) {
    (void)unused;
    if (self->context == NULL) {
        if (self->callback == NULL)
            Py_RETURN_NONE;
        self->context = PyContext_New();
    }
    Py_XINCREF(self->context);
    return self->context;
}

static PyObject *when(Handle *self, PyObject *unused) {
    (void)unused;
    return PyFloat_FromDouble(self->when);
}

static PyObject *compare(Handle *self, PyObject *other, int op) {
    if (!PyObject_TypeCheck(other, TimerHandle_Type))
        Py_RETURN_NOTIMPLEMENTED;
    Handle *that = (Handle *)other;
    bool same = self->when == that->when && self->callback == that->callback && self->args == that->args &&
                self->several == that->several && self->cancelled == that->cancelled;
    switch (op) {
    case Py_EQ:
        return PyBool_FromLong(same);
    case Py_NE:
        return PyBool_FromLong(!same);
    case Py_LT:
        return PyBool_FromLong(self->when < that->when);
    case Py_GT:
        return PyBool_FromLong(self->when > that->when);
    case Py_LE:
        return PyBool_FromLong(self->when < that->when || same);
    default:
        return PyBool_FromLong(self->when > that->when || same);
    }
}

static Py_hash_t hash(Handle *self) {
    PyObject *number = PyFloat_FromDouble(self->when);
    if (number == NULL)
        return -1;
    Py_hash_t result = PyObject_Hash(number);
    Py_DECREF(number);
    return result;
}

static PyObject *get_callback(Handle *self, void *unused) {
    (void)unused;
    PyObject *value = self->callback != NULL ? self->callback : Py_None;
    Py_INCREF(value);
    return value;
}

static PyObject *get_args(Handle *self, void *unused) {
    (void)unused;
    if (self->callback == NULL)
        Py_RETURN_NONE;
    return args_of(self);
}

static PyObject *get_scheduled(Handle *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->timer != NULL && evl_timer_scheduled(self->timer));
}

static PyMethodDef methods[] = {
    {"cancel", (PyCFunction)cancel, METH_NOARGS, NULL},
    {"cancelled", (PyCFunction)cancelled, METH_NOARGS, NULL},
    {"get_context", (PyCFunction)get_context, METH_NOARGS, NULL},
    {"_run", (PyCFunction)run, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef timer_methods[] = {
    {"when", (PyCFunction)when, METH_NOARGS, "When the callback is due, in seconds of the loop's clock."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"_callback", (getter)get_callback, NULL, NULL, NULL},
    {"_args", (getter)get_args, NULL, NULL, NULL},
    {"_context", (getter)get_context, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef timer_attributes[] = {
    {"_scheduled", (getter)get_scheduled, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"_loop", T_OBJECT, offsetof(Handle, loop), READONLY, NULL},
    {"_source_traceback", T_OBJECT, offsetof(Handle, source_traceback), READONLY, NULL},
    {"_repr", T_OBJECT, offsetof(Handle, repr), READONLY, NULL},
    {"_cancelled", T_BOOL, offsetof(Handle, cancelled), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Handle, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef timer_members[] = {
    {"_when", T_DOUBLE, offsetof(Handle, when), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc}, {Py_tp_methods, methods}, {Py_tp_members, members}, {Py_tp_getset, attributes}, {0, NULL},
};

static PyType_Slot timer_slots[] = {
    {Py_tp_dealloc, dealloc},       {Py_tp_methods, timer_methods}, {Py_tp_getset, timer_attributes},
    {Py_tp_members, timer_members}, {Py_tp_richcompare, compare},   {Py_tp_hash, hash},
    {0, NULL},
};

static PyType_Spec specification = {
    "evl._evl.Handle", sizeof(Handle), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
static PyType_Spec timer_specification = {
    "evl._evl.TimerHandle", sizeof(Handle), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    timer_slots};

int handle_ready(PyObject *module) {
    Handle_Type = (PyTypeObject *)PyType_FromSpec(&specification);
    if (Handle_Type == NULL || PyModule_AddObjectRef(module, "Handle", (PyObject *)Handle_Type) < 0)
        return -1;
    PyObject *bases = PyTuple_Pack(1, Handle_Type);
    if (bases == NULL)
        return -1;
    TimerHandle_Type = (PyTypeObject *)PyType_FromSpecWithBases(&timer_specification, bases);
    Py_DECREF(bases);
    return TimerHandle_Type == NULL ? -1 : PyModule_AddObjectRef(module, "TimerHandle", (PyObject *)TimerHandle_Type);
}
