/* Running a loop: the interpreter's lock while it waits, signals, and exceptions that nobody takes. */
#include "evl_python.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void loop_begin_wait(void *of) {
    Loop *self = of;
    self->waiting = PyEval_SaveThread();
}

void loop_end_wait(void *of) {
    STAYS;
    Loop *self = of;
    PyEval_RestoreThread(self->waiting);
    self->waiting = NULL;
    LEAVE;
}

/* The exception that is set ends the run. */
static void end_run(Loop *self) {
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(exception, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    if (self->raised == NULL) {
        self->raised = exception;
        evl_raise_exit(1);
    } else {
        Py_DECREF(exception);
    }
}

bool loop_takes_exit(Loop *self) {
    if (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) && !PyErr_ExceptionMatches(PyExc_SystemExit))
        return false;
    end_run(self);
    return true;
}

PyObject *loop_call_handler(Loop *self, PyObject *told, PyObject *exception) {
    PyObject *outer = PyErr_GetHandledException();
    PyErr_SetHandledException(exception);
    PyObject *answer = PyObject_CallMethodOneArg((PyObject *)self, names.call_exception_handler, told);
    PyErr_SetHandledException(outer);
    Py_XDECREF(outer);
    return answer;
}

void loop_tell(Loop *self, const char *message, PyObject *about, const char *key) {
    if (loop_takes_exit(self))
        return;
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    PyErr_NormalizeException(&type, &exception, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(exception, traceback);
    PyObject *told = Py_BuildValue("{s:s,s:O,s:O}", "message", message, "exception", exception, key, about != NULL ? about : Py_None);
    PyObject *answer = told == NULL ? NULL : loop_call_handler(self, told, exception);
    if (answer == NULL && !loop_takes_exit(self))
        PyErr_WriteUnraisable((PyObject *)self);
    Py_XDECREF(answer);
    Py_XDECREF(told);
    Py_XDECREF(type);
    Py_XDECREF(exception);
    Py_XDECREF(traceback);
}

/* Failures that evl itself reports. */
void loop_on_exception(evl_loop *event_loop, const evl_exception *exception, void *of) {
    STAYS;
    (void)event_loop;
    Loop *self = of;
    if (self->quiet) {
        self->quiet = false;
        LEAVE;
    }
    PyObject *raised = exception->object;
    if (raised != NULL) {
        Py_INCREF(raised);
    } else {
        raised = exception_of(exception->code, NULL);
    }
    /* Behind the name of its function libevl has added what that one said: the name it has in Python. */
    static const char failed[] = " call failed: ";
    const char *said = exception->object == NULL ? NULL : strstr(exception->message, failed);
    PyObject *message = PyUnicode_FromString(said == NULL ? exception->message : said + sizeof failed - 1);
    PyObject *told = raised == NULL || message == NULL ? NULL
                                                       : Py_BuildValue("{s:O,s:O}", "message", message, "exception", raised);
    Py_XDECREF(message);
    PyObject *transport = exception->transport != NULL ? stream_of(exception->transport) : NULL;
    if (told != NULL && transport != NULL) {
        PyDict_SetItemString(told, "transport", transport);
        PyObject *protocol = PyObject_CallMethod(transport, "get_protocol", NULL);
        if (protocol != NULL)
            PyDict_SetItemString(told, "protocol", protocol);
        Py_XDECREF(protocol);
        PyErr_Clear();
    }
    PyObject *answer = told == NULL ? NULL : loop_call_handler(self, told, raised);
    if (answer == NULL && !loop_takes_exit(self))
        PyErr_WriteUnraisable((PyObject *)self);
    Py_XDECREF(answer);
    Py_XDECREF(told);
    Py_XDECREF(raised);
    LEAVE;
}

/* A signal that Python handles has come: it wrote to the descriptor given to signal.set_wakeup_fd. Whatever its handler raises
 * ends the run: asyncio's loop is in select() then, and run_forever raises it. */
static void on_wakeup(void *of) {
    if (PyErr_CheckSignals() < 0)
        end_run(of);
}

typedef struct {
    Loop *self;
    int fd;
} Wakeup;

static void on_wakeup_readable(void *of) {
    STAYS;
    Wakeup *wakeup = of;
    char bytes[256];
    ssize_t count;
    while ((count = read(wakeup->fd, bytes, sizeof bytes)) > 0)
        if (wakeup->self->wakeup >= 0 && write(wakeup->self->wakeup, bytes, (size_t)count) < 0)
            /* It is full, and so wakes already. */
            continue;
    on_wakeup(wakeup->self);
    LEAVE;
}

/* _watch_wakeup(fd) */
static PyObject *watch_wakeup(Loop *self, PyObject *number) {
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    Wakeup *wakeup = PyMem_RawMalloc(sizeof *wakeup);
    if (wakeup == NULL)
        return PyErr_NoMemory();
    *wakeup = (Wakeup){self, (int)fd};
    return none_or_fail(evl_loop_add_reader(self->loop, (int)fd, on_wakeup_readable, wakeup, PyMem_RawFree, NULL, NULL));
}

/* _wake_too(fd): bytes that come for signals are passed on to it. */
static PyObject *wake_too(Loop *self, PyObject *number) {
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    self->wakeup = (int)fd;
    Py_RETURN_NONE;
}

/* _run(): run_forever, without what Python code does round it. */
static PyObject *run(Loop *self, PyObject *unused) {
    (void)unused;
    bool outer = self->running;
    if (outer)
        return fail(EVL_ERUNNING);
    self->running = true;
    self->thread = PyThread_get_thread_ident();
    Py_INCREF(self);
    int code = evl_loop_run_forever(self->loop);
    self->running = false;
    PyObject *raised = self->raised;
    self->raised = NULL;
    Py_DECREF(self);
    if (raised != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(raised), raised);
        Py_DECREF(raised);
        return NULL;
    }
    return none_or_fail(code);
}

static PyObject *stop(Loop *self, PyObject *unused) {
    (void)unused;
    int code = evl_loop_stop(self->loop);
    if (code == EVL_EWRONGTHREAD)
        code = evl_loop_stop_threadsafe(self->loop);
    if (code == EVL_ECLOSED)
        code = 0;
    return none_or_fail(code);
}

static PyObject *close_loop(Loop *self, PyObject *unused) {
    (void)unused;
    int code = evl_loop_close(self->loop);
    if (code == EVL_ERUNNING)
        return PyErr_Format(PyExc_RuntimeError, "Cannot close a running event loop");
    return none_or_fail(code);
}

static PyObject *after_fork(Loop *self, PyObject *unused) {
    (void)unused;
    return none_or_fail(evl_loop_after_fork(self->loop));
}

PyMethodDef loop_run_methods[] = {
    {"_run", (PyCFunction)run, METH_NOARGS, NULL},
    {"_close", (PyCFunction)close_loop, METH_NOARGS, NULL},
    {"_watch_wakeup", (PyCFunction)watch_wakeup, METH_O, NULL},
    {"_wake_too", (PyCFunction)wake_too, METH_O, NULL},
    {"_after_fork", (PyCFunction)after_fork, METH_NOARGS, NULL},
    {"stop", (PyCFunction)stop, METH_NOARGS, "Stops the loop after the present iteration."},
    {NULL, NULL, 0, NULL},
};
