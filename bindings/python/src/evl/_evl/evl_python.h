/* What the files of the extension share. All of its functions are called with the GIL held, also by evl: it is given up only
 * while a loop waits (loop_run.c). */
#ifndef EVL_PYTHON_H
#define EVL_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <evl.h>

#include <stdbool.h>

/* evl._evl.Loop */
typedef struct {
    PyObject_HEAD
    evl_loop *loop;
    /* Of threads for run_in_executor; NULL until it is needed. */
    evl_executor *pool;
    /* While the loop waits. */
    PyThreadState *waiting;
    /* The handle whose callback runs; borrowed. */
    PyObject *current;
    /* The exception that ends the run. */
    PyObject *raised;
    /* Socket operations that wait. */
    struct Part *pending;
    /* Whom else signals wake: what signal.set_wakeup_fd had been given; or -1. */
    int wakeup;
    /* evl is about to tell of what is known already. */
    bool quiet;
    bool debug;
    bool running;
    unsigned long thread;
    double slow_callback_duration;
} Loop;

/* evl._evl.Handle and TimerHandle. What running one needs comes first. */
typedef struct {
    PyObject_HEAD
    Loop *loop;
    /* NULL once it is cancelled. */
    PyObject *callback;
    /* NULL; the only argument; or all of them, where there are several. */
    PyObject *args;
    /* NULL: one without variables, which is made when it is needed. */
    PyObject *context;
    /* Of a TimerHandle, while it may have to be cancelled. */
    evl_timer *timer;
    double when;
    PyObject *weakrefs;
    PyObject *source_traceback;
    PyObject *repr;
    bool several;
    bool cancelled;
} Handle;

/* What a stream's, pipe's or datagram transport begins with: asyncio.BaseTransport's one slot. */
typedef struct {
    PyObject_HEAD
    PyObject *extra;
} BaseTransport;

extern PyTypeObject *Loop_Type, *Handle_Type, *TimerHandle_Type;

/* The classes that Python code has made of the types here, and functions of its. */
typedef struct {
    PyObject *stream;
    PyObject *datagram;
    PyObject *gaierror;
    PyObject *cancelled_error;
    PyObject *convert_error;
    PyObject *extract_stack;
    PyObject *socket_info;
    PyObject *log_slow;
    PyObject *resolve;
} Classes;
extern Classes classes;

/* Names that are looked up often. */
typedef struct {
    PyObject *context;
    PyObject *call_exception_handler;
    PyObject *check_callback;
    PyObject *connection_made, *data_received, *eof_received, *connection_lost, *pause_writing, *resume_writing;
    PyObject *get_buffer, *buffer_updated;
    PyObject *datagram_received, *error_received;
    PyObject *pipe_data_received, *pipe_connection_lost, *process_exited;
    PyObject *set_result, *set_exception, *done;
    PyObject *sockname, *peername;
    /* The tuple of the keyword `loop`. */
    PyObject *loop_keyword;
} Names;
extern Names names;

/* Until Python 3.13 a thread that outlives the interpreter ends by pthread_exit where it would take the interpreter's lock again,
 * which may be in any Python code. It must not unwind through evl: it stays where it is, as with Python 3.14, and ends with the
 * process. What evl calls, and calls Python code, begins with STAYS and returns by LEAVE or LEAVE_WITH. */
void stay(void);
static inline void stay_inside(const bool *inside) {
    if (*inside)
        stay();
}
#define STAYS __attribute__((cleanup(stay_inside))) bool inside = true
#define LEAVE do { inside = false; return; } while (0)
#define LEAVE_WITH(value) do { inside = false; return value; } while (0)

/* module.c */
/* Raised when a descriptor is used by somebody else. */
extern PyObject *Busy;
void release_object(void *object);
/* What the extension has is there once; another interpreter's classes would take the place of this one's. False with an exception. */
bool is_only_interpreter(void);
/* The loop is closed, and nobody has closed this transport. */
void warn_unclosed(PyObject *transport);
PyObject *exception_of(int code, const char *message);
PyObject *fail(int code);
PyObject *fail_with(int code, const char *message);
static inline PyObject *none_or_fail(int code) {
    if (code < 0)
        return fail(code);
    Py_RETURN_NONE;
}

/* handle.c */
Handle *handle_make(PyTypeObject *type, Loop *loop, PyObject *callback, PyObject *const *args, Py_ssize_t count, PyObject *context);
void handle_run(void *handle);
/* Evl's release of a handle that is the arg of its callback: it is not called any more. */
void handle_release(void *handle);
int handle_ready(PyObject *module);

/* loop.c */
int loop_ready(PyObject *module);

/* loop_run.c */
extern PyMethodDef loop_run_methods[];
void loop_begin_wait(void *loop);
void loop_end_wait(void *loop);
void loop_on_exception(evl_loop *event_loop, const evl_exception *exception, void *loop);
/* To be called in a callback of evl's with an exception set: KeyboardInterrupt and SystemExit end the run, and it answers
 * true; else it does nothing. */
bool loop_takes_exit(Loop *loop);
/* Calls the loop's exception handler, for which exception is the one that is being handled (sys.exc_info). */
PyObject *loop_call_handler(Loop *loop, PyObject *told, PyObject *exception);
/* To be called in a callback of evl's with an exception set, which goes to the loop's exception handler. */
void loop_tell(Loop *loop, const char *message, PyObject *about, const char *key);

/* operation.c */
extern PyMethodDef loop_sock_methods[], loop_dns_methods[];
/* What an operation of evl's results in. */
typedef PyObject *(*Reader)(evl_future *future, void *data);
/* Takes the reference to the future over. Returns the result when it is there already; else an Operation, which is to be
 * awaited. kept is held until then; view, when it is not NULL, is taken over, also on failure. */
PyObject *operation(Loop *loop, evl_future *future, Reader reader, void *data, PyObject *kept, Py_buffer *view);
/* The same, but an Operation in any case. */
PyObject *operation_pending(Loop *loop, evl_future *future, Reader reader, void *data, PyObject *kept, Py_buffer *view);
bool is_operation(PyObject *object);
PyObject *create_future(PyObject *loop, PyObject *unused);
/* Has what waits for a descriptor wait for nothing, as asyncio's does when its reader or writer is removed: whether there was
 * any. */
bool operation_strand(Loop *loop, int fd, bool writer);
/* The result of an operation is there before evl's future is done: whoever awaits it goes on before anything else comes of it.
 * Takes the reference that it finds over. */
void operation_settle(Loop *loop, PyObject **waiting, PyObject *result);
PyObject *read_nothing(evl_future *future, void *data);
PyObject *read_number(evl_future *future, void *data);
int operation_ready(PyObject *module);

/* address.c */
PyObject *address_from_c(const void *address, size_t size);
/* Writes a struct sockaddr to buffer; returns its size, or -1 with an exception. */
int address_to_c(int family, PyObject *address, void *buffer, size_t size);
int family_of(int fd);

/* stream.c */
extern PyMethodDef loop_stream_methods[];
int stream_ready(PyObject *module);
/* The Python object of a transport: borrowed; NULL when it has none. */
PyObject *stream_of(evl_transport *transport);
/* A type that inherits asyncio.Transport and, when it is not NULL, another of asyncio's transports. */
PyTypeObject *transport_type(PyObject *module, PyType_Spec *spec, const char *other, const char *name);

/* server.c */
extern PyMethodDef loop_server_methods[];
int server_ready(PyObject *module);

/* datagram.c */
extern PyMethodDef loop_datagram_methods[];
int datagram_ready(PyObject *module);

/* process.c */
extern PyMethodDef loop_process_methods[];
int process_ready(PyObject *module);

/* executor.c */
extern PyMethodDef loop_executor_methods[];
int executor_ready(PyObject *module);

#endif
