/* run_in_executor by a pool of libevl's threads, one for each loop that needs it.
 *
 * A thread of the pool is a thread of Python's from its first job on: it keeps its state (threading.local) until it ends, has a name, is
 * traced when threads are, and the interpreter waits for it at its end, as it does for those of concurrent.futures. */
#include "evl_python.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

/* What Python code does: with a new thread, and with one that ends. */
static PyObject *begin_thread, *end_thread;

/* --- threads */

/* The interpreter's state of a thread of a pool. */
static __thread PyThreadState *own_state;
/* Glibc's: has a function called when the thread ends, before the keys of pthread_key_create are emptied, one of which the interpreter
 * uses. */
extern int __cxa_thread_atexit_impl(void (*function)(void *), void *arg, void *library);
extern void *__dso_handle;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fewer = PTHREAD_COND_INITIALIZER;
/* How many threads have such a state, and how many jobs have not ended. */
static int living, jobs;

static bool is_finalizing(void) {
#if PY_VERSION_HEX >= 0x030d0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

static void call_and_forget(PyObject *function) {
    PyObject *answer = function == NULL ? NULL : PyObject_CallNoArgs(function);
    if (answer == NULL && function != NULL)
        PyErr_WriteUnraisable(function);
    Py_XDECREF(answer);
}

static void count(int *what, int more) {
    pthread_mutex_lock(&lock);
    /* After a fork it is counted anew. */
    if (*what + more >= 0)
        *what += more;
    if (more < 0)
        pthread_cond_broadcast(&fewer);
    pthread_mutex_unlock(&lock);
}

/* The thread ends. */
static void leave_python(void *unused) {
    (void)unused;
    if (Py_IsInitialized() && !is_finalizing()) {
        PyEval_RestoreThread(own_state);
        own_state = NULL;
        call_and_forget(end_thread);
        PyGILState_Release(PyGILState_UNLOCKED);
    }
    count(&living, -1);
}

/* Takes the interpreter's lock, on a thread of a pool. */
static void enter_python(const sigset_t *signals) {
    if (own_state != NULL) {
        PyEval_RestoreThread(own_state);
        return;
    }
    /* What jobs start must not inherit that libevl's threads block all signals. */
    pthread_sigmask(SIG_SETMASK, signals, NULL);
    count(&living, 1);
    __cxa_thread_atexit_impl(leave_python, NULL, &__dso_handle);
    /* It is given back by leave_python. */
    (void)PyGILState_Ensure();
    own_state = PyThreadState_Get();
    call_and_forget(begin_thread);
}

/* --- jobs */

typedef struct {
    PyObject *function, *args;
    /* What it has returned, or raised. */
    PyObject *result, *error;
    sigset_t signals;
    /* Of the call, until it is over or withdrawn, and of its result. */
    atomic_int refs;
    bool ran;
} Job;

static void job_unref(void *of) {
    Job *job = of;
    if (atomic_fetch_sub(&job->refs, 1) > 1)
        return;
    if (!job->ran)
        count(&jobs, -1);
    STAYS;
    PyGILState_STATE state = PyGILState_Ensure();
    Py_XDECREF(job->function);
    Py_XDECREF(job->args);
    Py_XDECREF(job->result);
    Py_XDECREF(job->error);
    PyMem_RawFree(job);
    PyGILState_Release(state);
    LEAVE;
}

static void *job_run(void *of) {
    STAYS;
    Job *job = of;
    job->ran = true;
    atomic_fetch_add(&job->refs, 1);
    enter_python(&job->signals);
    job->result = PyObject_Call(job->function, job->args, NULL);
    if (job->result == NULL) {
        PyObject *type, *traceback;
        PyErr_Fetch(&type, &job->error, &traceback);
        PyErr_NormalizeException(&type, &job->error, &traceback);
        if (traceback != NULL)
            PyException_SetTraceback(job->error, traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
    }
    Py_CLEAR(job->function);
    Py_CLEAR(job->args);
    PyEval_SaveThread();
    count(&jobs, -1);
    LEAVE_WITH(job);
}

/* The job itself is the future's result. */
static PyObject *read_job(evl_future *future, void *data) {
    void *of;
    (void)data;
    int code = evl_future_result(future, &of);
    if (code < 0)
        return fail(code);
    Job *job = of;
    if (job->error != NULL) {
        PyObject *error = PyObject_CallOneArg(classes.convert_error, job->error);
        if (error != NULL)
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_XDECREF(error);
        return NULL;
    }
    PyObject *result = job->result;
    job->result = NULL;
    return result;
}

static int make_pool(Loop *self) {
    evl_pool_options options;
    evl_pool_options_init(&options, sizeof options);
    options.thread_name = "asyncio";
    int code = evl_executor_new_pool(&options, &self->pool);
    return code < 0 ? code : evl_loop_set_default_executor(self->loop, self->pool);
}

/* _submit(function, args): an Operation. */
static PyObject *submit(Loop *self, PyObject *args) {
    PyObject *function, *tuple;
    evl_future *future;
    if (!PyArg_ParseTuple(args, "OO!", &function, &PyTuple_Type, &tuple))
        return NULL;
    int code = self->pool != NULL ? 0 : make_pool(self);
    if (code < 0)
        return fail(code);
    Job *job = PyMem_RawCalloc(1, sizeof *job);
    if (job == NULL)
        return PyErr_NoMemory();
    atomic_init(&job->refs, 1);
    Py_INCREF(function);
    job->function = function;
    Py_INCREF(tuple);
    job->args = tuple;
    pthread_sigmask(SIG_SETMASK, NULL, &job->signals);
    count(&jobs, 1);
    code = evl_loop_run_in_executor(self->loop, self->pool, job_run, job, job_unref, job_unref, &future);
    return code < 0 ? fail(code) : operation_pending(self, future, read_job, NULL, NULL, NULL);
}

/* _shut_pool_down(timeout): None where there is no pool. */
static PyObject *shut_pool_down(Loop *self, PyObject *timeout) {
    evl_future *future;
    if (self->pool == NULL)
        Py_RETURN_NONE;
    double seconds = timeout == Py_None ? -1 : PyFloat_AsDouble(timeout);
    if (PyErr_Occurred())
        return NULL;
    if (isnan(seconds))
        return PyErr_Format(PyExc_ValueError, "a timeout must be a number, not nan");
    int64_t limit = timeout == Py_None || seconds >= 9e9 ? EVL_FOREVER : seconds <= 0 ? 0 : (int64_t)(seconds * 1e9);
    int code = evl_loop_shutdown_default_executor(self->loop, limit, &future);
    return code < 0 ? fail(code) : operation_pending(self, future, read_nothing, NULL, NULL, NULL);
}

/* _leave_pool(): has it take no more jobs; what waits is still run. */
static PyObject *leave_pool(Loop *self, PyObject *unused) {
    (void)unused;
    if (self->pool != NULL)
        evl_executor_shutdown(self->pool, 0);
    Py_RETURN_NONE;
}

PyMethodDef loop_executor_methods[] = {
    {"_submit", (PyCFunction)submit, METH_VARARGS, NULL},
    {"_shut_pool_down", (PyCFunction)shut_pool_down, METH_O, NULL},
    {"_leave_pool", (PyCFunction)leave_pool, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* --- the module's functions */

/* join_threads(): waits until no thread of a pool needs the interpreter. */
static PyObject *join_threads(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    for (bool some = true; some;) {
        Py_BEGIN_ALLOW_THREADS
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 50 * 1000 * 1000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&lock);
        while (living + jobs > 0 && pthread_cond_timedwait(&fewer, &lock, &until) == 0)
            ;
        some = living + jobs > 0;
        pthread_mutex_unlock(&lock);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* forget_threads(): after a fork, in the child, which has none of them. */
static PyObject *forget_threads(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&fewer, NULL);
    living = own_state != NULL;
    jobs = 0;
    Py_RETURN_NONE;
}

/* set_thread_functions(begin, end) */
static PyObject *set_thread_functions(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *begin, *end;
    if (!is_only_interpreter() || !PyArg_ParseTuple(args, "OO", &begin, &end))
        return NULL;
    Py_INCREF(begin);
    Py_XSETREF(begin_thread, begin);
    Py_INCREF(end);
    Py_XSETREF(end_thread, end);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"join_threads", join_threads, METH_NOARGS, NULL},
    {"forget_threads", forget_threads, METH_NOARGS, NULL},
    {"set_thread_functions", set_thread_functions, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int executor_ready(PyObject *module) {
    return PyModule_AddFunctions(module, functions);
}
