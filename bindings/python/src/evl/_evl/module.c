/* The module, and evl's codes as exceptions. */
#include "evl_python.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

Classes classes;
Names names;
PyObject *Busy;

void stay(void) {
    for (;;)
        pause();
}

void release_object(void *object) {
    STAYS;
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF((PyObject *)object);
    PyGILState_Release(state);
    LEAVE;
}

void warn_unclosed(PyObject *transport) {
    PyObject *type, *exception, *traceback;
    PyErr_Fetch(&type, &exception, &traceback);
    if (PyErr_ResourceWarning(transport, 1, "unclosed transport %R", transport) < 0)
        PyErr_WriteUnraisable(transport);
    PyErr_Restore(type, exception, traceback);
}

static const struct {
    int code;
    int eai;
} resolver_codes[] = {
    {EVL_EAI_ADDRFAMILY, EAI_FAMILY - 3}, {EVL_EAI_AGAIN, EAI_AGAIN},       {EVL_EAI_BADFLAGS, EAI_BADFLAGS},
    {EVL_EAI_FAIL, EAI_FAIL},             {EVL_EAI_FAMILY, EAI_FAMILY},     {EVL_EAI_MEMORY, EAI_MEMORY},
    {EVL_EAI_NODATA, -5},                 {EVL_EAI_NONAME, EAI_NONAME},     {EVL_EAI_OVERFLOW, EAI_OVERFLOW},
    {EVL_EAI_SERVICE, EAI_SERVICE},       {EVL_EAI_SOCKTYPE, EAI_SOCKTYPE},
};

/* The exception that tells of a code; NULL with another one set. */
PyObject *exception_of(int code, const char *message) {
    switch (code) {
    case EVL_ECLOSED:
        return PyObject_CallFunction(PyExc_RuntimeError, "s", "Event loop is closed");
    case EVL_EWRONGTHREAD:
        return PyObject_CallFunction(PyExc_RuntimeError, "s",
                                     "Non-thread-safe operation invoked on an event loop other than the current one");
    case EVL_ERUNNING:
        return PyObject_CallFunction(PyExc_RuntimeError, "s", "This event loop is already running");
    case EVL_EBUSY:
        return PyObject_CallFunction(Busy, "s", message != NULL && message[0] != '\0' ? message : evl_strerror(code));
    case EVL_ECANCELLED:
        return PyObject_CallNoArgs(classes.cancelled_error);
    case -ENOMEM:
        return PyObject_CallNoArgs(PyExc_MemoryError);
    default:
        break;
    }
    if (message == NULL || message[0] == '\0')
        message = code > -20000 ? strerror(-code) : evl_strerror(code);
    for (size_t i = 0; i < sizeof resolver_codes / sizeof *resolver_codes; i++)
        if (resolver_codes[i].code == code)
            return PyObject_CallFunction(classes.gaierror, "is", resolver_codes[i].eai, gai_strerror(resolver_codes[i].eai));
    if (code <= -20000)
        return PyObject_CallFunction(PyExc_RuntimeError, "s", message);
    return PyObject_CallFunction(PyExc_OSError, "is", -code, message);
}

PyObject *fail_with(int code, const char *message) {
    PyObject *exception = exception_of(code, message);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

/* Raises what the last call on this thread failed with. */
PyObject *fail(int code) {
    char message[256] = "";
    if (code == -EINVAL || code <= -20000)
        evl_error_detail(message, sizeof message);
    return fail_with(code, message);
}

bool is_only_interpreter(void) {
    static int64_t interpreter = -1;
    int64_t present = PyInterpreterState_GetID(PyInterpreterState_Get());
    if (interpreter >= 0 && interpreter != present) {
        PyErr_SetString(PyExc_ImportError, "evl can be used in one interpreter of a process only");
        return false;
    }
    interpreter = present;
    return true;
}

static PyObject *set_classes(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *keywords[] = {"stream", "datagram", "gaierror", "cancelled_error", "convert_error", "extract_stack", "socket_info", "log_slow", "resolve",
                               NULL};
    Classes given;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOOOO", keywords, &given.stream, &given.datagram,
                                     &given.gaierror, &given.cancelled_error, &given.convert_error, &given.extract_stack,
                                     &given.socket_info,
                                     &given.log_slow, &given.resolve))
        return NULL;
    if (!is_only_interpreter())
        return NULL;
    Py_INCREF(given.stream);
    Py_INCREF(given.datagram);
    Py_INCREF(given.gaierror);
    Py_INCREF(given.cancelled_error);
    Py_INCREF(given.convert_error);
    Py_INCREF(given.extract_stack);
    Py_INCREF(given.socket_info);
    Py_INCREF(given.log_slow);
    Py_INCREF(given.resolve);
    classes = given;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"set_classes", (PyCFunction)(void (*)(void))set_classes, METH_VARARGS | METH_KEYWORDS,
     "Tells the extension what evl's Python code has."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "evl._evl",
    .m_doc = "libevl for Python; evl's own modules use it.",
    .m_size = -1,
    .m_methods = methods,
};

static int intern_names(void) {
#define NAME(member, text) \
    if ((names.member = PyUnicode_InternFromString(text)) == NULL) \
        return -1;
    NAME(context, "context")
    NAME(call_exception_handler, "call_exception_handler")
    NAME(check_callback, "_check_callback")
    NAME(connection_made, "connection_made")
    NAME(data_received, "data_received")
    NAME(eof_received, "eof_received")
    NAME(connection_lost, "connection_lost")
    NAME(pause_writing, "pause_writing")
    NAME(resume_writing, "resume_writing")
    NAME(get_buffer, "get_buffer")
    NAME(buffer_updated, "buffer_updated")
    NAME(datagram_received, "datagram_received")
    NAME(error_received, "error_received")
    NAME(pipe_data_received, "pipe_data_received")
    NAME(pipe_connection_lost, "pipe_connection_lost")
    NAME(process_exited, "process_exited")
    NAME(set_result, "set_result")
    NAME(set_exception, "set_exception")
    NAME(done, "done")
    NAME(sockname, "sockname")
    NAME(peername, "peername")
#undef NAME
    names.loop_keyword = Py_BuildValue("(s)", "loop");
    return names.loop_keyword == NULL ? -1 : 0;
}

PyMODINIT_FUNC PyInit__evl(void) {
    if (evl_abi_version() != EVL_ABI_VERSION) {
        PyErr_Format(PyExc_ImportError, "evl was built for version %d of libevl's interface, and found %u", EVL_ABI_VERSION,
                     evl_abi_version());
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    Busy = PyErr_NewException("evl._evl.Busy", PyExc_RuntimeError, NULL);
    if (Busy == NULL || PyModule_AddObjectRef(module, "Busy", Busy) < 0 || intern_names() < 0 ||
        PyModule_AddStringConstant(module, "libevl_version", evl_version()) < 0 ||
        handle_ready(module) < 0 || loop_ready(module) < 0 || operation_ready(module) < 0 || stream_ready(module) < 0 ||
        server_ready(module) < 0 || datagram_ready(module) < 0 || process_ready(module) < 0 || executor_ready(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
