/* Process: a child of evl's. evl.SubprocessTransport has one. */
#include "stream.h"

#include <errno.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD
    Loop *loop;
    evl_process *process;
    /* The SubprocessTransport, whose methods are called, until connection_lost. */
    PyObject *owner;
    PyObject *context;
} Process;

static PyTypeObject *Process_Type;

static int clear(Process *self) {
    Py_CLEAR(self->owner);
    Py_CLEAR(self->context);
    Py_CLEAR(self->loop);
    return 0;
}

static int traverse(Process *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->owner);
    Py_VISIT(self->context);
    return 0;
}

static void dealloc(Process *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    evl_process_unref(self->process);
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- what evl calls: methods of the owner, each of which says itself what goes wrong */

static void call_owner(Process *self, const char *method, const char *format, ...) {
    STAYS;
    va_list list;
    if (self->owner == NULL)
        LEAVE;
    Py_INCREF(self);
    va_start(list, format);
    PyObject *args = Py_VaBuildValue(format, list);
    va_end(list);
    PyObject *bound = args == NULL ? NULL : PyObject_GetAttrString(self->owner, method), *answer = NULL;
    if (bound != NULL && PyContext_Enter(self->context) == 0) {
        answer = PyObject_CallObject(bound, args);
        if (PyContext_Exit(self->context) < 0)
            Py_CLEAR(answer);
    }
    if (answer == NULL)
        loop_tell(self->loop, "Exception in a method of a subprocess's protocol", self->owner, "transport");
    Py_XDECREF(answer);
    Py_XDECREF(bound);
    Py_XDECREF(args);
    Py_DECREF(self);
    LEAVE;
}

static PyObject *error_or_none(int code) {
    if (code != 0)
        return exception_of(code, NULL);
    Py_RETURN_NONE;
}

static void on_made(evl_process *process, void *of) {
    (void)process;
    call_owner(of, "_on_made", "()");
}

static void on_data(evl_process *process, int fd, const void *data, size_t size, void *of) {
    (void)process;
    call_owner(of, "_on_data", "(iy#)", fd, data, (Py_ssize_t)size);
}

static void on_pipe_lost(evl_process *process, int fd, int code, void *of) {
    (void)process;
    call_owner(of, "_on_pipe_lost", "(iN)", fd, error_or_none(code));
}

static void on_exited(evl_process *process, void *of) {
    (void)process;
    call_owner(of, "_on_exited", "()");
}

static void on_lost(evl_process *process, int code, void *of) {
    STAYS;
    (void)process;
    Process *self = of;
    call_owner(self, "_on_lost", "(N)", error_or_none(code));
    Py_CLEAR(self->owner);
    LEAVE;
}

/* Called by the write that fills the pipe's buffer, in its caller's context. */
static void on_pause(evl_process *process, void *of) {
    STAYS;
    (void)process;
    Process *self = of;
    PyObject *answer = self->owner == NULL ? NULL : PyObject_CallMethod(self->owner, "_on_pause", NULL);
    if (answer == NULL && self->owner != NULL)
        loop_tell(self->loop, "protocol.pause_writing() failed", self->owner, "transport");
    Py_XDECREF(answer);
    LEAVE;
}

static void on_resume(evl_process *process, void *of) {
    STAYS;
    (void)process;
    Process *self = of;
    PyObject *answer = self->owner == NULL ? NULL : PyObject_CallMethod(self->owner, "_on_resume", NULL);
    if (answer == NULL && self->owner != NULL)
        loop_tell(self->loop, "protocol.resume_writing() failed", self->owner, "transport");
    Py_XDECREF(answer);
    LEAVE;
}

static const evl_process_protocol table = {
    .size = sizeof table,
    .connection_made = on_made,
    .pipe_data_received = on_data,
    .pipe_connection_lost = on_pipe_lost,
    .process_exited = on_exited,
    .connection_lost = on_lost,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
};

static void release(void *of) {
    STAYS;
    Process *self = of;
    PyGILState_STATE state = PyGILState_Ensure();
    Py_CLEAR(self->owner);
    Py_DECREF(self);
    PyGILState_Release(state);
    LEAVE;
}

/* --- starting one */

/* A NULL-ended array of the strings of a list of bytes, or NULL for None (with an exception or not). */
static const char **strings(PyObject *list) {
    if (list == Py_None)
        return NULL;
    Py_ssize_t count = PyList_Check(list) ? PyList_GET_SIZE(list) : -1;
    if (count < 0) {
        PyErr_SetString(PyExc_TypeError, "a list of bytes is wanted");
        return NULL;
    }
    const char **array = PyMem_New(const char *, (size_t)count + 1);
    if (array == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        char *text;
        if (PyBytes_AsStringAndSize(PyList_GET_ITEM(list, i), &text, NULL) < 0) {
            PyMem_Free(array);
            return NULL;
        }
        array[i] = text;
    }
    array[count] = NULL;
    return array;
}

/* Numbers of users or groups, or what else is 32 bits wide: a list of int. NULL with an exception; size may be 0. */
static uint32_t *numbers(PyObject *list, size_t *size) {
    *size = (size_t)PyList_GET_SIZE(list);
    uint32_t *array = PyMem_New(uint32_t, *size + 1);
    if (array == NULL)
        PyErr_NoMemory();
    for (size_t i = 0; array != NULL && i < *size; i++)
        array[i] = (uint32_t)PyLong_AsUnsignedLongMask(PyList_GET_ITEM(list, (Py_ssize_t)i));
    return array;
}

/* What a child is asked to do before it is executed. */
typedef struct {
    PyObject *function;
} Setup;

static int run_setup(void *of) {
    Setup *setup = of;
    PyOS_AfterFork_Child();
    PyObject *answer = PyObject_CallNoArgs(setup->function);
    return answer != NULL ? 0 : EVL_ECANCELLED;
}

/* Raises what starting a child has failed with. */
static void tell_failure(int code, const evl_process_options *options) {
    if (code == EVL_ECANCELLED) {
        PyObject *module = PyImport_ImportModule("subprocess");
        PyObject *error = module == NULL ? NULL : PyObject_GetAttrString(module, "SubprocessError");
        if (error != NULL)
            PyErr_SetString(error, "Exception occurred in preexec_fn.");
        Py_XDECREF(module);
        Py_XDECREF(error);
    } else if (code == -EBADF || code == -EPERM || code == -EMFILE || code == -ENFILE || code == -ENOMEM || code == -EAGAIN) {
        /* That is not about the program. */
        errno = -code;
        PyErr_SetFromErrno(PyExc_OSError);
    } else if (code > -20000 && code != -EINVAL) {
        bool no_directory = code == -ENOENT && options->cwd != NULL && access(options->cwd, F_OK) < 0;
        errno = -code;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, no_directory ? options->cwd : options->argv[0]);
    } else {
        fail(code);
    }
}

/* Bytes, or None, which stay the caller's. */
static int path_or_none(PyObject *object, void *path) {
    *(const char **)path = object == Py_None ? NULL : PyBytes_AsString(object);
    return object == Py_None || *(const char **)path != NULL;
}

/* _start(owner, argv, program, env, cwd, flags, ((mode, fd), ...), group, pass_fds, (uid, gid, groups, umask), pipe_size, preexec_fn) */
static PyObject *start(Loop *self, PyObject *args) {
    evl_process_options options;
    PyObject *owner, *argv, *env, *fds, *groups;
    Setup setup;
    evl_process_options_init(&options, sizeof options);
    if (!PyArg_ParseTuple(args, "OOO&OO&I((ii)(ii)(ii))iO!(IIO!I)iO", &owner, &argv, path_or_none, &options.program, &env,
                          path_or_none, &options.cwd, &options.flags, &options.stdin_mode, &options.stdin_fd, &options.stdout_mode, &options.stdout_fd,
                          &options.stderr_mode, &options.stderr_fd, &options.process_group, &PyList_Type, &fds, &options.uid,
                          &options.gid, &PyList_Type, &groups, &options.umask, &options.pipe_size, &setup.function))
        return NULL;
    bool prepares = setup.function != Py_None;
    size_t count, group_count;
    uint32_t *passed = numbers(fds, &count), *members = numbers(groups, &group_count);
    const char **arguments = strings(argv), **environment = strings(env);
    Process *process = NULL;
    if (!PyErr_Occurred())
        process = (Process *)Process_Type->tp_alloc(Process_Type, 0);
    if (process != NULL && (process->context = PyContext_CopyCurrent()) == NULL)
        Py_CLEAR(process);
    if (process != NULL) {
        Py_INCREF(self);
        process->loop = self;
        Py_INCREF(owner);
        process->owner = owner;
        options.argv = arguments;
        options.envp = environment;
        options.pass_fds = (const int *)passed;
        options.pass_fds_count = count;
        options.groups = members;
        options.groups_count = group_count;
        if (prepares) {
            options.child_setup = run_setup;
            options.child_setup_arg = &setup;
            PyOS_BeforeFork();
        }
        Py_INCREF(process);
        int code = evl_loop_subprocess_exec(self->loop, &options, &table, process, release, &process->process);
        if (prepares)
            PyOS_AfterFork_Parent();
        if (code < 0) {
            Py_CLEAR(process);
            tell_failure(code, &options);
        }
    }
    PyMem_Free(passed);
    PyMem_Free(members);
    PyMem_Free(arguments);
    PyMem_Free(environment);
    return (PyObject *)process;
}

static PyObject *get_pid(Process *self, PyObject *unused) {
    (void)unused;
    return PyLong_FromLong(evl_process_get_pid(self->process));
}

static PyObject *get_returncode(Process *self, PyObject *unused) {
    (void)unused;
    int returncode;
    if (evl_process_get_returncode(self->process, &returncode) < 0)
        Py_RETURN_NONE;
    return PyLong_FromLong(returncode);
}

/* The transport of a pipe, or None: made once, by evl.SubprocessTransport. */
static PyObject *get_pipe(Process *self, PyObject *number) {
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    evl_transport *transport = evl_process_get_pipe_transport(self->process, (int)fd);
    if (transport == NULL)
        Py_RETURN_NONE;
    Stream *stream = stream_make(self->loop, NULL, NULL, NULL);
    if (stream == NULL)
        return NULL;
    stream->transport = evl_transport_ref(transport);
    return (PyObject *)stream;
}

static PyObject *send_signal(Process *self, PyObject *number) {
    long signal = PyLong_AsLong(number);
    if (signal == -1 && PyErr_Occurred())
        return NULL;
    return none_or_fail(evl_process_send_signal(self->process, (int)signal));
}

static PyObject *close_process(Process *self, PyObject *unused) {
    (void)unused;
    int code = evl_process_close(self->process);
    return none_or_fail(code == EVL_ECLOSED ? 0 : code);
}

static PyObject *is_closing(Process *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(evl_process_is_closing(self->process));
}

static PyObject *wait_for(Process *self, PyObject *unused) {
    (void)unused;
    evl_future *future;
    int code = evl_process_wait(self->process, &future);
    return code < 0 ? fail(code) : operation(self->loop, future, read_number, NULL, (PyObject *)self, NULL);
}

static PyMethodDef methods[] = {
    {"pid", (PyCFunction)get_pid, METH_NOARGS, NULL},
    {"returncode", (PyCFunction)get_returncode, METH_NOARGS, NULL},
    {"pipe", (PyCFunction)get_pipe, METH_O, NULL},
    {"send_signal", (PyCFunction)send_signal, METH_O, NULL},
    {"close", (PyCFunction)close_process, METH_NOARGS, NULL},
    {"is_closing", (PyCFunction)is_closing, METH_NOARGS, NULL},
    {"wait", (PyCFunction)wait_for, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse}, {Py_tp_clear, clear}, {Py_tp_methods, methods}, {0, NULL},
};

static PyType_Spec specification = {"evl._evl.Process", sizeof(Process), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

int process_ready(PyObject *module) {
    Process_Type = (PyTypeObject *)PyType_FromSpec(&specification);
    return Process_Type == NULL ? -1 : PyModule_AddObjectRef(module, "Process", (PyObject *)Process_Type);
}

PyMethodDef loop_process_methods[] = {
    {"_start", (PyCFunction)start, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
