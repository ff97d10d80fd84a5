/*
 * evl: an event loop with asyncio's semantics. These rules hold for every function below; a function's comment says only
 * what is its own.
 *
 * Results. A function that can fail returns int: 0 or a count, or a negative code. System errors are -errno; evl's own are
 *   members of evl_error. evl_strerror describes a code, evl_errname names it, evl_error_detail tells more of the last
 *   failure. Predicates (is_..., cancelled, scheduled, equal) return 1 or 0 and take NULL. Nothing you can pass aborts the
 *   process: NULL, closed loops, wrong threads are codes.
 * Ownership. What comes through an output (the last parameter, written only on success) is a reference of yours: give it
 *   back by the type's _unref (or _free). A pointer that is returned by a ..._get_... or ..._as_... function is borrowed.
 *   _ref and _unref are thread-safe and take NULL. Where out "may be NULL", no object is made. Strings and tables
 *   are copied.
 * Callbacks come as three: function, arg, arg_free. evl calls arg_free(arg) (unless it is NULL) exactly once, when it will not
 *   use arg again: after the last call, on cancel, replacement, close, last unref, and when the function that
 *   was given it fails. It never runs while that callback is on the stack.
 * Failures. A callback reports a failure by evl_raise; the loop then calls its exception handler. C++ exceptions and
 *   pthread_exit must not leave a callback (the process aborts and says so), nor may longjmp (undefined).
 * Threads. A loop is used from the thread that runs it; another thread's call answers EVL_EWRONGTHREAD (run and close:
 *   EVL_ERUNNING). While it does not run, any thread may use it, one at a time; who uses it has a reference. Functions
 *   marked "Any thread", and those named ..._threadsafe, may be called from anywhere. Callbacks run on the loop's thread, inside of a run function.
 * Time is int64_t nanoseconds of the loop's clock, which is monotonic. EVL_FOREVER means no limit.
 * Sized structs begin with their size; fill them by their _init function, or zero them and set size.
 */

#ifndef EVL_API
#define EVL_API
#endif

/* No limit of time. */
#define EVL_FOREVER INT64_MAX
/* Milliseconds and seconds as nanoseconds, in 64 bits. x is an integer: a fraction is cut off first. */
#define EVL_MS(x) ((int64_t)(x) * INT64_C(1000000))
#define EVL_SECONDS(x) ((int64_t)(x) * INT64_C(1000000000))

/* An event loop: asyncio.AbstractEventLoop. Reference counted. */
typedef struct evl_loop evl_loop;
/* A callback on its way: asyncio.Handle. Reference counted. */
typedef struct evl_handle evl_handle;
/* A reference that does not keep its handle alive. */
typedef struct evl_weak_handle evl_weak_handle;
/* A callback with a deadline: asyncio.TimerHandle. Reference counted; evl_timer_as_handle shows it as a handle. */
typedef struct evl_timer evl_timer;
/* Which loop a thread has: asyncio.AbstractEventLoopPolicy. Reference counted. */
typedef struct evl_policy evl_policy;
/* Values of context variables: contextvars.Context. Reference counted. */
typedef struct evl_context evl_context;
/* A context variable: contextvars.ContextVar. Reference counted. */
typedef struct evl_context_var evl_context_var;
/* What undoes a set: contextvars.Token. Reference counted. */
typedef struct evl_context_token evl_context_token;
/* What is not there yet: asyncio.Future. Reference counted. */
typedef struct evl_future evl_future;
/* A future whose outcome a step function makes: asyncio.Task. Reference counted; evl_task_as_future shows it as one. */
typedef struct evl_task evl_task;
/* Tasks that belong together: asyncio.TaskGroup. Reference counted. */
typedef struct evl_task_group evl_task_group;
/* Runs jobs elsewhere: concurrent.futures.Executor. Reference counted. */
typedef struct evl_executor evl_executor;
/* A job in the hands of an executor of yours. */
typedef struct evl_job evl_job;
/* A descriptor that is read from and written to for a protocol: asyncio.Transport. Reference counted. */
typedef struct evl_transport evl_transport;
/* Addresses that were looked up: a future's result. */
typedef struct evl_addresses evl_addresses;
/* A child process with its pipes: asyncio.SubprocessTransport. Reference counted. */
typedef struct evl_process evl_process;
/* Who hears that a child has ended: asyncio.AbstractChildWatcher. Reference counted. */
typedef struct evl_child_watcher evl_child_watcher;
/* A connection that is read from and written to at will: asyncio.StreamReader and StreamWriter. Reference counted. */
typedef struct evl_stream evl_stream;
/* Listening sockets and their connections: asyncio.Server. Reference counted. */
typedef struct evl_server evl_server;
/* A socket that sends and receives datagrams for a protocol: asyncio.DatagramTransport. Reference counted. */
typedef struct evl_datagram evl_datagram;
