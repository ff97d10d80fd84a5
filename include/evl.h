#ifndef EVL_H
#define EVL_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header, and of the binary interface it describes. */
#define EVL_VERSION "0.1.0"
#define EVL_VERSION_MAJOR 0
#define EVL_VERSION_MINOR 1
#define EVL_VERSION_PATCH 0
#define EVL_ABI_VERSION 0

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


// evl's own error codes. A system error is the negated errno; every code here is below -20000.
typedef enum evl_error {
    // The loop is closed.
    EVL_ECLOSED = -20001,
    // The loop belongs to another thread, which runs it or is inside one of its functions.
    EVL_EWRONGTHREAD = -20002,
    // The loop is running, or this thread already runs another loop.
    EVL_ERUNNING = -20003,
    // No loop: none is running on this thread, or the policy has none for it.
    EVL_ENOLOOP = -20004,
    // The handle came from a call_* function and has run: it is one-shot.
    EVL_EDONE = -20005,
    // It was cancelled: a handle, a future, a task.
    EVL_ECANCELLED = -20006,
    // evl_raise and its like were called outside of a callback.
    EVL_ENOTINCALLBACK = -20007,
    // A callback asked the program to exit (evl_raise_exit); see evl_loop_exit_code.
    EVL_EEXIT = -20008,
    // A Rust panic was stopped at the surface of the library. The loop it happened in can only be closed.
    EVL_EPANIC = -20009,
    // A sized struct has a wrong size, or sets a field or flag this version does not know.
    EVL_EOPTIONS = -20010,
    // The process was forked since the loop was made: call evl_loop_after_fork.
    EVL_EFORKED = -20011,
    // Somebody else uses it: a signal that another loop handles, a descriptor that an operation or a transport
    // waits for.
    EVL_EBUSY = -20012,
    // The policy does not implement this operation.
    EVL_ENOTIMPLEMENTED = -20013,
    // The context variable has no value here, and no default.
    EVL_ENOVALUE = -20014,
    // The token was used already, or belongs to another variable or context.
    EVL_ETOKEN = -20015,
    // The context is entered already.
    EVL_EENTERED = -20016,
    // The context is not the current one of this thread.
    EVL_ENOTENTERED = -20017,
    // The loop's clock is not a manual one.
    EVL_ECLOCK = -20018,
    // The signal cannot be caught.
    EVL_ESIGNAL = -20019,
    // The handle is scheduled already.
    EVL_ESCHEDULED = -20020,
    // The future is in no state for this: it has no result yet, or has one already.
    EVL_EINVALIDSTATE = -20021,
    // The loop was stopped before the future it ran for was done.
    EVL_ESTOPPED = -20022,
    // It was shut down: an executor, a task group.
    EVL_ESHUTDOWN = -20023,
    // The stream ended before all that was to be read: asyncio.IncompleteReadError. evl_future_error_bytes has what
    // was there.
    EVL_EINCOMPLETE = -20024,
    // What was read up to a separator is longer than the stream's limit: asyncio.LimitOverrunError.
    EVL_EOVERRUN = -20025,
    // sendfile(2) cannot send this file, or not to there: asyncio.SendfileNotAvailableError.
    EVL_ENOSENDFILE = -20026,
    // getaddrinfo, getnameinfo: the host has no address of this family.
    EVL_EAI_ADDRFAMILY = -20101,
    // getaddrinfo, getnameinfo: the name server does not answer now: try again.
    EVL_EAI_AGAIN = -20102,
    // getaddrinfo, getnameinfo: the flags make no sense.
    EVL_EAI_BADFLAGS = -20103,
    // getaddrinfo, getnameinfo: the name server failed for good.
    EVL_EAI_FAIL = -20104,
    // getaddrinfo, getnameinfo: the address family is not supported.
    EVL_EAI_FAMILY = -20105,
    // getaddrinfo, getnameinfo: there was no memory.
    EVL_EAI_MEMORY = -20106,
    // getaddrinfo, getnameinfo: the host exists, but has no address.
    EVL_EAI_NODATA = -20107,
    // getaddrinfo, getnameinfo: the host or the service is not known.
    EVL_EAI_NONAME = -20108,
    // getaddrinfo, getnameinfo: a name is too long.
    EVL_EAI_OVERFLOW = -20109,
    // getaddrinfo, getnameinfo: the service is not available for this type of socket.
    EVL_EAI_SERVICE = -20110,
    // getaddrinfo, getnameinfo: the type of socket is not supported.
    EVL_EAI_SOCKTYPE = -20111,
} evl_error;

// Flags of evl_loop_options.
typedef enum evl_loop_flag {
    // Start in debug mode, as evl_loop_set_debug does. The environment variable EVL_DEBUG=1 does it for every
    // loop.
    EVL_LOOP_DEBUG = 1,
    // The clock stands still unless evl_loop_advance moves it: for testing programs with timers. A wait is
    // real then: a timer that is not due never ends it, and evl_loop_run_once's timeout is of real time. A
    // test advances and calls evl_loop_run_until_idle, in turn.
    EVL_LOOP_MANUAL_CLOCK = 2,
    // evl_loop_fd becomes readable when a timer is due, too (Linux).
    EVL_LOOP_FD_DEADLINES = 4,
} evl_loop_flag;

// Levels of the log callback.
typedef enum evl_log_level {
    // Told in debug mode only.
    EVL_LOG_DEBUG = 0,
    // Something took too long, or was left open.
    EVL_LOG_WARNING = 1,
    // A callback failed and no exception handler took it.
    EVL_LOG_ERROR = 2,
} evl_log_level;

// What evl_loop_walk shows.
typedef enum evl_walk_kind {
    // A callback in the ready queue.
    EVL_WALK_READY = 0,
    // A started timer.
    EVL_WALK_TIMER = 1,
    // A reader; number is its descriptor.
    EVL_WALK_READER = 2,
    // A writer; number is its descriptor.
    EVL_WALK_WRITER = 3,
    // A signal handler; number is its signal.
    EVL_WALK_SIGNAL = 4,
} evl_walk_kind;

// When evl_wait ends.
typedef enum evl_wait_until {
    // When all are done: asyncio.ALL_COMPLETED.
    EVL_ALL_COMPLETED = 0,
    // When one is done: asyncio.FIRST_COMPLETED.
    EVL_FIRST_COMPLETED = 1,
    // When one has failed (being cancelled is no failure), or all are done: asyncio.FIRST_EXCEPTION.
    EVL_FIRST_ERROR = 2,
} evl_wait_until;

// Flags of evl_run_options.
typedef enum evl_run_flag {
    // Run the loop in debug mode.
    EVL_RUN_DEBUG = 1,
    // The first SIGINT (Ctrl-C) cancels the main task; a second one ends the run without waiting for it. evl_run
    // then returns -EINTR.
    EVL_RUN_SIGINT = 2,
} evl_run_flag;

// How evl_executor_shutdown shuts down.
typedef enum evl_shutdown_flag {
    // Blocks until what waits has run and the threads have ended (wait=True).
    EVL_SHUTDOWN_WAIT = 1,
    // What waits is not run: its futures are cancelled (cancel_futures=True).
    EVL_SHUTDOWN_CANCEL = 2,
} evl_shutdown_flag;

// What a child has as one of its standard descriptors.
typedef enum evl_process_stdio {
    // What this process has.
    EVL_PROCESS_INHERIT = 0,
    // A pipe to this process: evl_process_get_pipe_transport.
    EVL_PROCESS_PIPE = 1,
    // /dev/null.
    EVL_PROCESS_DEVNULL = 2,
    // For stderr: what stdout is.
    EVL_PROCESS_STDOUT = 3,
    // The descriptor in the _fd field, which stays yours.
    EVL_PROCESS_FD = 4,
} evl_process_stdio;

// Flags of evl_process_options.
typedef enum evl_process_flag {
    // The child begins a session of its own: setsid. Popen(start_new_session=True).
    EVL_PROCESS_NEW_SESSION = 1,
    // The child begins a process group of its own. Popen(process_group=0).
    EVL_PROCESS_NEW_GROUP = 2,
    // Descriptors above 2 are closed only where they are close-on-exec. Popen(close_fds=False).
    EVL_PROCESS_KEEP_FDS = 4,
    // The child is the user in the uid field. Popen(user=).
    EVL_PROCESS_SET_UID = 8,
    // The child's group is the one in the gid field. Popen(group=).
    EVL_PROCESS_SET_GID = 16,
    // The child's supplementary groups are those in the groups field, of which there may be none. Popen(extra_groups=).
    EVL_PROCESS_SET_GROUPS = 32,
    // The child's umask is the one in the umask field. Popen(umask=).
    EVL_PROCESS_SET_UMASK = 64,
} evl_process_flag;

// Flags of evl_server_options.
typedef enum evl_server_flag {
    // Several sockets, of other loops or processes, may be bound to the same port: reuse_port.
    EVL_SERVER_REUSE_PORT = 1,
    // The address cannot be bound while connections of an earlier server are still ending: reuse_address=False.
    EVL_SERVER_NO_REUSE_ADDRESS = 2,
    // Connections are taken only from evl_server_start_serving on: start_serving=False.
    EVL_SERVER_NOT_STARTED = 4,
} evl_server_flag;

// Flags of evl_datagram_options.
typedef enum evl_datagram_flag {
    // Several sockets, of other loops or processes, may be bound to the same port: reuse_port.
    EVL_DATAGRAM_REUSE_PORT = 1,
    // Datagrams may be sent to broadcast addresses: allow_broadcast. The socket is not connected to the remote
    // address then, so that it hears whoever answers.
    EVL_DATAGRAM_BROADCAST = 2,
} evl_datagram_flag;

// Releases an arg, exactly once, when evl will not use it again. May be called by the thread that drops the
// last reference.
typedef void (*evl_free_fn)(void *arg);

// What the loop calls. arg is the pointer it was registered with.
typedef void (*evl_callback)(void *arg);

// Hooks by which a host language carries its own notion of context along with every callback of a loop.
typedef struct evl_context_hooks {
    // sizeof(evl_context_hooks) as the caller knows it.
    uint32_t size;
    // Always zero.
    uint32_t reserved;
    // Called by every scheduling call, on its thread: returns what release will get, exactly once. Must not be
    // NULL.
    void *(*capture)(void *data);
    // Called before every call of the callback. May be NULL.
    void (*enter)(void *data, void *captured);
    // Called after every call of the callback. May be NULL.
    void (*leave)(void *data, void *captured);
    // Releases what capture returned. May be NULL. It may be called on the thread that drops the last
    // reference.
    void (*release)(void *data, void *captured);
} evl_context_hooks;

// Options of evl_loop_new. Initialise with evl_loop_options_init; a field that is zero has its default.
typedef struct evl_loop_options {
    // The size of this struct as the caller knows it: sizeof(evl_loop_options).
    uint32_t size;
    // evl_loop_flag members, or'ed.
    uint32_t flags;
    // Where a manual clock starts, in nanoseconds.
    int64_t start_time_ns;
    // In debug mode, callbacks that take this long or longer are reported. Default 100 ms.
    int64_t slow_callback_duration_ns;
    // Hooks that carry a host language's context along with every callback, or NULL; the table is copied.
    const struct evl_context_hooks *context_hooks;
    // Passed to the context hooks. Must outlive the loop.
    void *context_hooks_data;
} evl_loop_options;

// Counters of a loop since it was made. See evl_loop_metrics.
typedef struct evl_metrics {
    // sizeof(evl_metrics) as the caller knows it; set it before the call.
    uint32_t size;
    // Always zero.
    uint32_t reserved;
    // Iterations run.
    uint64_t iterations;
    // Callbacks called.
    uint64_t callbacks;
    // Times the operating system was asked for events.
    uint64_t polls;
    // Descriptor events it gave.
    uint64_t events;
    // Callbacks that came from other threads.
    uint64_t posts;
    // Callbacks waiting in the ready queue now.
    uint64_t ready;
    // Timers started now.
    uint64_t timers;
    // Readers and writers registered now.
    uint64_t watchers;
} evl_metrics;

// Takes reports of evl: level is one of evl_log_level, message is valid during the call. Called on the loop's
// thread.
typedef void (*evl_log_fn)(int level, const char *message, void *arg);

// What an exception handler is told: asyncio's context dictionary. Valid during the call.
typedef struct evl_exception {
    // sizeof(evl_exception) as the maker of this struct knows it.
    uint32_t size;
    // The code of the failure, negative.
    int code;
    // What happened: the message of evl_raise, or evl's own. Never NULL when evl reports.
    const char *message;
    // The object given to evl_raise_object, or NULL. It stays evl's; it is released after the handler returns.
    void *object;
    // The handle whose callback failed; NULL for a callback that was scheduled without asking for a handle,
    // and when none failed. Borrowed.
    evl_handle *handle;
    // Return addresses of the stack that scheduled the callback (debug mode), or NULL.
    void *const *traceback;
    // How many there are.
    size_t traceback_length;
    // The future whose error nobody has asked for, or NULL. Borrowed.
    evl_future *future;
    // The transport that failed, or whose protocol did, or NULL. Borrowed.
    evl_transport *transport;
    // The datagram endpoint that failed, or whose protocol did, or NULL. Borrowed.
    evl_datagram *datagram;
} evl_exception;

// Takes failures of callbacks. One that itself fails (evl_raise) falls back to the default handler.
typedef void (*evl_exception_handler)(evl_loop *event_loop, const struct evl_exception *exception, void *arg);

// What a future calls when it is done. future is borrowed; arg is the pointer it was added with.
typedef void (*evl_future_callback)(evl_future *future, void *arg);

// A step of a task. Does what it can, then either awaits something: writes a reference to a future, which evl
// takes over, to *next and returns 0; or ends: leaves *next alone and returns 0 (done, with the result given to
// evl_task_set_result) or a negative code (failed; EVL_ECANCELLED: cancelled). A positive one counts as 0; with a
// negative one, what *next refers to is given up.
//
// It is called first in the iteration after the task was made, and again when what it awaited is done. status
// tells how that ended: 0 (evl_task_get_awaited has the result), its error's code, or EVL_ECANCELLED (it or the
// task was cancelled). "if (status < 0) return status;" passes it on, message and all, as an exception would
// be. Functions that start an operation fit next: "return evl_sleep(loop, EVL_MS(10), next);". evl_raise in a
// step fails the task with code and message. arg is the pointer the task was made with.
typedef int (*evl_step_fn)(evl_task *task, int status, void *arg, evl_future **next);

// Makes tasks in evl_loop_create_task's place: does what evl_task_new does, or returns a negative code. It owns
// arg from the start. factory_arg is the pointer it was set with.
typedef int (*evl_task_factory)(evl_loop *event_loop,
                                evl_step_fn step,
                                void *arg,
                                evl_free_fn arg_free,
                                evl_context *context,
                                void *factory_arg,
                                evl_task **out);

// Options of evl_run. Initialise with evl_run_options_init; a field that is zero has its default.
typedef struct evl_run_options {
    // sizeof(evl_run_options) as the caller knows it.
    uint32_t size;
    // evl_run_flag members, or'ed.
    uint32_t flags;
} evl_run_options;

// How a pool of threads is made.
typedef struct evl_pool_options {
    // sizeof(evl_pool_options) as the caller knows it.
    uint32_t size;
    // How many threads there may be; 0: as many as the process may use processors and 4 more, at most 32.
    uint32_t max_threads;
    // What its threads are called, where the system has names for them (NULL: "evl").
    const char *thread_name;
    // How long a thread without a job looks for the next one before it sleeps, as long as that pays: being woken
    // takes longer than most jobs. 0: 25 microseconds; negative: not at all. On one processor nobody looks.
    int64_t spin_ns;
} evl_pool_options;

// The functions of an executor of your own. They are called with no lock held.
typedef struct evl_executor_vtable {
    // sizeof(evl_executor_vtable) as the caller knows it.
    uint32_t size;
    // Always zero.
    uint32_t reserved;
    // Executor.submit: takes job, has evl_job_run called for it on any thread (also this one, at once), and
    // returns 0. A negative code refuses it: job is evl's again, and evl_loop_run_in_executor returns the code.
    // Called on the thread of the loop whose job it is. Must not be NULL.
    int (*submit)(void *arg, evl_job *job);
    // Executor.shutdown: wait tells to block until no job is left, cancel to discard those that have not
    // started. May be called more than once, from any thread. May be NULL.
    void (*shutdown)(void *arg, int wait, int cancel);
} evl_executor_vtable;

// What an executor runs. Returns the future's result. It may call evl_raise, evl_raise_object; no loop runs on
// this thread.
typedef void *(*evl_job_fn)(void *arg);

// Memory to be written.
typedef struct evl_buffer {
    // Its beginning; may be NULL when size is 0.
    const void *data;
    // How many bytes.
    size_t size;
} evl_buffer;

// What a transport calls: asyncio.Protocol, or with get_buffer and buffer_updated asyncio.BufferedProtocol. An
// entry may be NULL: then that is not told, and what is received is dropped.
//
// All are called on the loop's thread, in the context that was current when the transport was made, with the arg
// that was given with the table. Any function of the transport may be called from inside of each. One that fails
// (evl_raise) is told to the exception handler; but for pause_writing and resume_writing, the transport is then
// aborted with that code.
typedef struct evl_protocol {
    // sizeof(evl_protocol) as the caller knows it.
    uint32_t size;
    // Always zero.
    uint32_t reserved;
    // The first call, in the iteration after the transport was made: transport is borrowed.
    void (*connection_made)(evl_transport *transport, void *arg);
    // Takes what was read; data is valid during the call.
    void (*data_received)(evl_transport *transport, const void *data, size_t size, void *arg);
    // The peer sends no more. Answers 1 to keep a transport open that also writes; else it is closed.
    int (*eof_received)(evl_transport *transport, void *arg);
    // The last call, exactly once: code is 0 when the transport was closed or the peer went, else what failed. The
    // descriptor is closed after it.
    void (*connection_lost)(evl_transport *transport, int code, void *arg);
    // More than the high limit waits to be written. Called before the function that wrote returns (while the loop
    // does not run: by its next iteration).
    void (*pause_writing)(evl_transport *transport, void *arg);
    // No more than the low limit waits, after pause_writing.
    void (*resume_writing)(evl_transport *transport, void *arg);
    // Writes memory to read into to *buffer and *size, which must not be 0; size_hint is what would be good. It is
    // used until buffer_updated is called, or nothing was there to be read.
    void (*get_buffer)(evl_transport *transport, size_t size_hint, void **buffer, size_t *size, void *arg);
    // So many bytes were read into the memory of get_buffer. Both or none of the two are given; with them,
    // data_received is not called.
    void (*buffer_updated)(evl_transport *transport, size_t size, void *arg);
} evl_protocol;

// Where evl_loop_create_connection connects to, and how. Initialise with evl_connect_options_init; a field that
// is zero has its default.
typedef struct evl_connect_options {
    // sizeof(evl_connect_options) as the caller knows it.
    uint32_t size;
    // AF_INET, AF_INET6; 0: either.
    int family;
    // A name or a numeric address.
    const char *host;
    // A port in digits, or a service's name.
    const char *service;
    // Where the socket is bound before: a name or a numeric address, or NULL.
    const char *local_host;
    // The local port in digits, or NULL.
    const char *local_service;
    // AI_... flags of the look-up, or'ed.
    int flags;
    // Addresses are tried by turns of their families, after so many of the first one; 0: 1 with a
    // happy_eyeballs_delay_ns, else the resolver's order.
    int interleave;
    // How long an attempt is waited for before the next address is tried beside it (RFC 8305 says 250 ms); 0: until
    // it has failed.
    int64_t happy_eyeballs_delay_ns;
} evl_connect_options;

// How a server is made. Initialise with evl_server_options_init; a field that is zero has its default.
typedef struct evl_server_options {
    // sizeof(evl_server_options) as the caller knows it.
    uint32_t size;
    // evl_server_flag members, or'ed.
    uint32_t flags;
    // AF_INET, AF_INET6; 0: either.
    int family;
    // How many connections may wait to be taken (more try again a second later); 0: 100.
    int backlog;
    // A name or numeric address whose addresses are bound; NULL or empty: every interface.
    const char *host;
    // More hosts, host_count of them; or NULL.
    const char *const *hosts;
    // How many.
    size_t host_count;
    // A port in digits ("0" or NULL: one that is free), or a service's name.
    const char *service;
} evl_server_options;

// Makes the protocol of a new connection: asyncio's protocol_factory. Fills *protocol, whose size is set and whose
// rest is zero, *arg, and *arg_free (which is NULL), and returns 0; or refuses the connection by a negative code. It
// may call evl_raise. factory_arg is the pointer it was given with. The table is copied.
typedef int (*evl_protocol_factory)(void *factory_arg,
                                    struct evl_protocol *protocol,
                                    void **arg,
                                    evl_free_fn *arg_free);

// Told of a connection that a server has taken: asyncio's client_connected_cb. stream is borrowed: take a reference
// by evl_stream_ref, begin an operation, or make a task by evl_stream_create_task, else it is closed when this
// returns. evl_raise aborts it. arg is the pointer the server was made with.
typedef void (*evl_connected_fn)(evl_stream *stream, void *arg);

// How an endpoint is made. Initialise with evl_datagram_options_init; a field that is zero has its default.
typedef struct evl_datagram_options {
    // sizeof(evl_datagram_options) as the caller knows it.
    uint32_t size;
    // evl_datagram_flag members, or'ed.
    uint32_t flags;
    // AF_INET, AF_INET6; 0: either. Must be given when there is neither a local nor a remote address.
    int family;
    // IPPROTO_UDP, ...; 0: the family's.
    int protocol;
    // A name or numeric address that the socket is bound to. "", or NULL with a local_service: every interface.
    const char *local_host;
    // A port in digits ("0": one that is free), or a service's name. NULL with a local_host: one that is free.
    const char *local_service;
    // A name or numeric address that the socket is connected to. "", or NULL with a remote_service: this machine.
    const char *remote_host;
    // Its port.
    const char *remote_service;
    // AI_... flags of the look-ups, or'ed.
    int lookup_flags;
    // Always zero.
    uint32_t reserved;
} evl_datagram_options;

// One datagram.
typedef struct evl_datagram_message {
    // Its bytes; may be NULL when size is 0.
    const void *data;
    // How many bytes.
    size_t size;
    // A struct sockaddr: whom it is from, or for. NULL: a sender without an address; the endpoint's remote address.
    const void *address;
    // How many bytes the address has; 0 with NULL.
    uint32_t address_size;
    // Always zero.
    uint32_t reserved;
} evl_datagram_message;

// What an endpoint calls: asyncio.DatagramProtocol. An entry may be NULL: then that is not told, and what is
// received is dropped.
//
// All are called on the loop's thread, in the context that was current when the endpoint was asked for, with the arg
// that was given with the table. Any function of the endpoint may be called from inside of each. One that fails
// (evl_raise) is told to the exception handler, and the endpoint goes on; but connection_made: then it is aborted
// with that code.
typedef struct evl_datagram_protocol {
    // sizeof(evl_datagram_protocol) as the caller knows it.
    uint32_t size;
    // Always zero.
    uint32_t reserved;
    // The first call: datagram is borrowed.
    void (*connection_made)(evl_datagram *datagram, void *arg);
    // Takes a datagram, and the struct sockaddr of its sender (NULL with 0: one without an address); both are valid
    // during the call.
    void (*datagram_received)(evl_datagram *datagram,
                              const void *data,
                              size_t size,
                              const void *address,
                              uint32_t address_size,
                              void *arg);
    // Takes count datagrams, all that came together, valid during the call. Where it is given, datagram_received
    // is not called.
    void (*datagrams_received)(evl_datagram *datagram,
                               const struct evl_datagram_message *messages,
                               size_t count,
                               void *arg);
    // Sending or receiving has failed by code, such as -ECONNREFUSED or -EMSGSIZE. The endpoint goes on. Called by
    // the ready queue; of errors that come together no more than 64 are told.
    void (*error_received)(evl_datagram *datagram, int code, void *arg);
    // The last call, exactly once: code is 0 when the endpoint was closed, else what failed. The descriptor is closed
    // after it.
    void (*connection_lost)(evl_datagram *datagram, int code, void *arg);
    // More than the high limit waits to be sent. Called before the function that sent returns (while the loop does not
    // run: by its next iteration).
    void (*pause_writing)(evl_datagram *datagram, void *arg);
    // No more than the low limit waits, after pause_writing.
    void (*resume_writing)(evl_datagram *datagram, void *arg);
} evl_datagram_protocol;

// What is wanted of addresses, with the system's own numbers: struct addrinfo's first fields. Zeros: anything.
typedef struct evl_address_hints {
    // sizeof(evl_address_hints) as the caller knows it.
    uint32_t size;
    // AF_INET, AF_INET6.
    int family;
    // SOCK_STREAM, SOCK_DGRAM.
    int type;
    // IPPROTO_TCP, IPPROTO_UDP.
    int protocol;
    // AI_PASSIVE, AI_CANONNAME and their like, or'ed.
    int flags;
} evl_address_hints;

// An address that was found. What it points to is the future's.
typedef struct evl_address_info {
    // sizeof(evl_address_info) as the caller knows it.
    uint32_t size;
    // AF_INET, AF_INET6.
    int family;
    // SOCK_STREAM, SOCK_DGRAM, SOCK_RAW.
    int type;
    // IPPROTO_TCP, IPPROTO_UDP, 0.
    int protocol;
    // A struct sockaddr of the family.
    const void *address;
    // How many bytes it has.
    uint32_t address_size;
    // Always zero.
    uint32_t reserved;
    // With AI_CANONNAME, of the first address: the host's official name. NULL otherwise.
    const char *canonical_name;
} evl_address_info;

// Told that a child has ended: returncode is its exit status, the negative number of the signal that killed it, or
// 255 when somebody else has reaped it.
typedef void (*evl_child_callback)(int pid, int returncode, void *arg);

// The functions of a child watcher of your own. watcher_arg is the arg of evl_child_watcher_new. They are called on
// the thread that asks, with no lock held. A NULL entry answers EVL_ENOTIMPLEMENTED; without is_active it is
// active until it is closed.
typedef struct evl_child_watcher_vtable {
    // sizeof(evl_child_watcher_vtable) as the caller knows it.
    uint32_t size;
    // Always zero.
    uint32_t reserved;
    // Takes callback, arg and arg_free over, also when it fails, and answers 0 or a code. When the child has ended,
    // callback(pid, returncode, arg) is to be called once, and then arg_free(arg), unless it is NULL. evl's own
    // callbacks, those of subprocesses, may be called on any thread.
    int (*add_child_handler)(void *watcher_arg,
                             evl_loop *event_loop,
                             int pid,
                             evl_child_callback callback,
                             void *arg,
                             evl_free_fn arg_free);
    // Answers 1 when there was a handler, 0 when not, or a code.
    int (*remove_child_handler)(void *watcher_arg, int pid);
    // Answers 1 when children can be watched.
    int (*is_active)(void *watcher_arg);
    // Answers 0 or a code.
    int (*close)(void *watcher_arg);
} evl_child_watcher_vtable;

// How a child is started: the arguments of subprocess.Popen. Initialise with evl_process_options_init; a field that
// is zero has its default. Everything is used during the call only.
typedef struct evl_process_options {
    // sizeof(evl_process_options) as the caller knows it.
    uint32_t size;
    // evl_process_flag members, or'ed.
    uint32_t flags;
    // The arguments, the first of them the program's name; ends with NULL. Not used by evl_loop_subprocess_shell.
    const char *const *argv;
    // What is executed instead of `argv[0]`; NULL: `argv[0]`. A name without a slash is looked for in the directories of
    // the child's PATH.
    const char *program;
    // The environment, "NAME=value" each; ends with NULL. NULL: this process's.
    const char *const *envp;
    // The working directory; NULL: this process's.
    const char *cwd;
    // A member of evl_process_stdio.
    int stdin_mode;
    // With EVL_PROCESS_FD.
    int stdin_fd;
    // A member of evl_process_stdio.
    int stdout_mode;
    // With EVL_PROCESS_FD.
    int stdout_fd;
    // A member of evl_process_stdio.
    int stderr_mode;
    // With EVL_PROCESS_FD.
    int stderr_fd;
    // The process group to join, when it is positive.
    int process_group;
    // Always zero.
    uint32_t reserved;
    // Descriptors that the child has, too, under the same numbers.
    const int *pass_fds;
    // How many they are.
    size_t pass_fds_count;
    // With EVL_PROCESS_SET_GROUPS.
    const uint32_t *groups;
    // How many they are.
    size_t groups_count;
    // With EVL_PROCESS_SET_UID.
    uint32_t uid;
    // With EVL_PROCESS_SET_GID.
    uint32_t gid;
    // With EVL_PROCESS_SET_UMASK: at most 0777.
    uint32_t umask;
    // How many bytes the pipes of EVL_PROCESS_PIPE hold, at least; 0: the system's default. Popen(pipesize=).
    int pipe_size;
    // Called in the child, when it is all that it is to be but still has this process's descriptors, and before the program is
    // executed: Popen(preexec_fn=). 0, or a negative code: the program is not executed, and the function that was to start it
    // fails with that code. NULL: nothing is called.
    //
    // The child is a fork of this process with the calling thread only: what other threads were doing stays undone, locks
    // that they hold stay held. Call nothing but what signal handlers may call unless you know that it is safe after a fork.
    int (*child_setup)(void *arg);
    // Passed to child_setup.
    void *child_setup_arg;
} evl_process_options;

// What a process calls: asyncio.SubprocessProtocol. An entry may be NULL: then that is not told, and what is
// received is dropped.
//
// All are called on the loop's thread, in the context that was current when the process was started. fd is 0, 1 or
// 2: which of the child's descriptors. One that fails (evl_raise) is told to the exception handler; when that is
// pipe_data_received, that pipe is closed, too.
typedef struct evl_process_protocol {
    // sizeof(evl_process_protocol) as the caller knows it.
    uint32_t size;
    // Always zero.
    uint32_t reserved;
    // The first call, in the iteration after the process was started: process is borrowed.
    void (*connection_made)(evl_process *process, void *arg);
    // Takes what the child has written; data is valid during the call.
    void (*pipe_data_received)(evl_process *process, int fd, const void *data, size_t size, void *arg);
    // A pipe is closed: code is 0, or what failed.
    void (*pipe_connection_lost)(evl_process *process, int fd, int code, void *arg);
    // The child has ended; evl_process_get_returncode tells how. Pipes may still bring something.
    void (*process_exited)(evl_process *process, void *arg);
    // The last call, exactly once, when the child has ended and all pipes are closed. code is 0.
    void (*connection_lost)(evl_process *process, int code, void *arg);
    // More than the high limit waits to be written to the child's stdin, as evl_protocol's.
    void (*pause_writing)(evl_process *process, void *arg);
    // No more than the low limit waits, after pause_writing.
    void (*resume_writing)(evl_process *process, void *arg);
} evl_process_protocol;

// Sees what evl_loop_walk finds: kind is one of evl_walk_kind, handle is borrowed and NULL for a callback that
// was scheduled without asking for a handle. Return 0 to go on, anything else to stop the walk.
typedef int (*evl_walk_fn)(evl_handle *handle, int kind, int number, void *arg);

// Makes a loop: writes a reference that evl takes over to *out and returns 0, or returns a negative code.
typedef int (*evl_loop_factory)(void *arg, evl_loop **out);

// The functions of a policy of your own. A NULL entry answers EVL_ENOTIMPLEMENTED. They are called on the
// thread that asks, with no lock held.
typedef struct evl_policy_vtable {
    // sizeof(evl_policy_vtable) as the caller knows it.
    uint32_t size;
    // Always zero.
    uint32_t reserved;
    // AbstractEventLoopPolicy.get_event_loop: writes a reference, which the asker owns, to *out and returns 0,
    // or returns a code.
    evl_loop_factory get_loop;
    // AbstractEventLoopPolicy.set_event_loop: event_loop is borrowed, and may be NULL.
    int (*set_loop)(void *arg, evl_loop *event_loop);
    // AbstractEventLoopPolicy.new_event_loop: writes a reference, which the asker owns, to *out and returns 0,
    // or returns a code.
    evl_loop_factory new_loop;
    // AbstractEventLoopPolicy.get_child_watcher: writes a reference, which the asker owns, to *out and returns 0,
    // or returns a code.
    int (*get_child_watcher)(void *arg, evl_child_watcher **out);
    // AbstractEventLoopPolicy.set_child_watcher: watcher is borrowed, and may be NULL.
    int (*set_child_watcher)(void *arg, evl_child_watcher *watcher);
} evl_policy_vtable;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library that runs, such as "0.1.0": compare with the header's EVL_VERSION. A static
// string. Any thread.
EVL_API const char *evl_version(void);

// The version of the library's binary interface, which the number in its soname is: compare with the header's
// EVL_ABI_VERSION. Any thread.
EVL_API unsigned int evl_abi_version(void);

// Describes a code: "the loop is closed", "permission denied".
//
// Returns a static string, also for 0 and for codes it does not know. Never NULL. Any thread.
EVL_API const char *evl_strerror(int code);

// Names a code: "EVL_ECLOSED", "EACCES".
//
// Returns a static string, "EVL_OK" for 0, "UNKNOWN" for codes it does not know. Never NULL. Any thread.
EVL_API const char *evl_errname(int code);

// Writes more about this thread's last failure in evl, such as "add_reader: descriptor 7: operation not
// permitted".
//
// Fills buffer with at most size bytes including the final NUL and returns the whole length without it (0:
// nothing is known), so that a return >= size means it was cut. buffer may be NULL when size is 0. The code
// alone is always enough to act on. Success does not clear it. Any thread. Errors: -EINVAL (buffer is NULL,
// size is not 0).
EVL_API int evl_error_detail(char *buffer, size_t size);

// Reports a failure from inside a callback, as an exception raised by it: after the callback has returned, the
// loop calls its exception handler with this code and message.
//
// The first raise in a callback wins, later ones are ignored (and return 0). code is any negative number: an
// errno negated, one of evl's (-20001 to -20999 are evl's), or your own. message is copied and may be NULL.
// Called on the thread that runs the callback. Exception handlers count as callbacks; arg_free functions, wait
// hooks and the log do not. Errors: EVL_ENOTINCALLBACK (no callback is running on this thread), -EINVAL (code
// is not negative).
EVL_API
int evl_raise(int code,
              const char *message);

// evl_raise for bindings that carry an exception object of their own. object reaches the exception handler in
// evl_exception.object.
//
// object_free (may be NULL) runs exactly once, when evl will not use object again: after the exception handler
// has returned, or at once when this raise is not the first or fails. Errors: as evl_raise.
EVL_API
int evl_raise_object(int code,
                     const char *message,
                     void *object,
                     evl_free_fn object_free);

// Asks the program to end, as SystemExit does in asyncio: the run function returns EVL_EEXIT as soon as this
// callback has returned. What is queued stays queued, and the loop can be run again.
//
// exit_code is handed out by evl_loop_exit_code. It wins over an evl_raise in the same callback; of two exits
// the first wins. Called on the thread that runs the callback. Errors: EVL_ENOTINCALLBACK.
EVL_API int evl_raise_exit(int exit_code);

// Makes a handle that is not scheduled yet: asyncio.events.Handle(callback, args, loop, context).
//
// It can be scheduled again and again until it is cancelled. context NULL: the current context is captured. On
// success *out is your reference (out must not be NULL). arg_free runs exactly once: on cancel, on close, or
// with the last reference, and also when this function fails. On the loop's thread. Errors: -EINVAL (NULL
// loop, callback or out), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
EVL_API
int evl_handle_new(evl_loop *event_loop,
                   evl_callback callback,
                   void *arg,
                   evl_free_fn arg_free,
                   evl_context *context,
                   evl_handle **out);

// Puts the handle at the end of the ready queue, as loop.call_soon does with a new one.
//
// On the loop's thread. Errors: EVL_ESCHEDULED (it is in the queue already), EVL_ECANCELLED, EVL_EDONE (made
// by a call_* function and has run), -EINVAL (NULL; or it belongs to a timer, descriptor or signal, which
// schedule it themselves), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
EVL_API int evl_handle_schedule(evl_handle *handle);

// Cancels the callback: it will not run again, and its arg is released (after the present call, when it is
// running). asyncio.events.Handle.cancel; the handle of a timer is cancelled as evl_timer_cancel does.
//
// A call that is ready in this iteration is withheld, too. Cancelling again does nothing and returns 0;
// cancelling after the callback has run, or on a closed loop, only marks the handle as cancelled, as in
// asyncio. On the loop's thread. Errors: -EINVAL (NULL), EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_handle_cancel(evl_handle *handle);

// Whether the handle was cancelled: 1 or 0. asyncio.events.Handle.cancelled. NULL gives 0. Any thread.
EVL_API int evl_handle_cancelled(const evl_handle *handle);

// Sets a name for repr and reports. name is copied; NULL removes it.
//
// On the loop's thread. Errors: -EINVAL (NULL handle), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_handle_set_name(evl_handle *handle, const char *name);

// Writes what the handle is, such as "<Handle tick at 0x55d0c0 cancelled>". asyncio.events.Handle.__repr__.
//
// Fills buffer with at most size bytes including the NUL and returns the whole length without it. buffer may
// be NULL when size is 0. Any thread. Errors: -EINVAL (NULL handle; buffer NULL and size not 0).
EVL_API int evl_handle_repr(const evl_handle *handle, char *buffer, size_t size);

// Copies the return addresses of the stack that made the handle, innermost first: recorded in debug mode only.
//
// Writes at most capacity addresses and returns how many there are (0: none were recorded). Any thread.
// Errors: -EINVAL (NULL handle; addresses NULL and capacity not 0).
EVL_API
int evl_handle_traceback(const evl_handle *handle,
                         void **addresses,
                         size_t capacity);

// Writes the stack that made the handle as text, a frame a line, symbolised now. Nothing when none was
// recorded.
//
// Buffer rules and errors as evl_handle_repr. Any thread.
EVL_API int evl_handle_traceback_text(const evl_handle *handle, char *buffer, size_t size);

// The loop the handle belongs to: borrowed, do not unref it. asyncio.events.Handle._loop. NULL for NULL. Any
// thread.
EVL_API evl_loop *evl_handle_get_loop(const evl_handle *handle);

// The arg of the callback: borrowed, and not to be used once it was released. NULL for NULL. Any thread.
EVL_API void *evl_handle_get_arg(const evl_handle *handle);

// The handle as a timer: the same object, borrowed; NULL when it is none, and for NULL. Any thread.
EVL_API evl_timer *evl_handle_as_timer(evl_handle *handle);

// The context the callback runs in: borrowed, and valid as long as the handle. asyncio.events.Handle._context.
//
// NULL for NULL, on the wrong thread, or when memory is short. On the loop's thread.
EVL_API
evl_context *evl_handle_get_context(evl_handle *handle);

// Takes another reference and returns handle. NULL gives NULL. Any thread.
EVL_API evl_handle *evl_handle_ref(evl_handle *handle);

// Gives a reference back; NULL is ignored. What is scheduled stays scheduled. The last reference of a handle
// that is not scheduled frees it and releases its arg. Any thread.
EVL_API void evl_handle_unref(evl_handle *handle);

// Makes a weak reference to the handle: it does not keep it alive (weakref.ref(handle)).
//
// *out is yours, to give back by evl_weak_handle_free. Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_handle_weak(evl_handle *handle, evl_weak_handle **out);

// Returns a new reference to the handle, yours to unref, or NULL when it is gone. NULL gives NULL. Any thread.
EVL_API
evl_handle *evl_weak_handle_upgrade(const evl_weak_handle *weak);

// Frees a weak reference; NULL is ignored. Any thread.
EVL_API void evl_weak_handle_free(evl_weak_handle *weak);

// For bindings: runs the callback now, in its context, whether it is scheduled or not; a failure goes to the
// exception handler. asyncio.events.Handle._run.
//
// A one-shot handle is done afterwards. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECANCELLED,
// EVL_EDONE, EVL_EENTERED (it is running now), EVL_EEXIT (the callback called evl_raise_exit), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
EVL_API int evl_handle_run(evl_handle *handle);

// Makes a timer for the deadline when_ns (nanoseconds of the loop's clock) that is not started yet:
// asyncio.events.TimerHandle(when, callback, args, loop, context).
//
// It can be started again after it fired, by evl_timer_reschedule or evl_timer_schedule, until it is
// cancelled. Ownership, context, thread and errors as evl_handle_new.
EVL_API
int evl_timer_new(evl_loop *event_loop,
                  int64_t when_ns,
                  evl_callback callback,
                  void *arg,
                  evl_free_fn arg_free,
                  evl_context *context,
                  evl_timer **out);

// Starts the timer for its deadline.
//
// A deadline in the past is due at once. On the loop's thread. Errors: EVL_ESCHEDULED (it is started),
// EVL_ECANCELLED, EVL_EDONE (made by call_later or call_at, and has fired), -EINVAL (NULL), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
EVL_API int evl_timer_schedule(evl_timer *timer);

// Moves the timer to another deadline and starts it if it is not started. Allocates nothing for a timer that
// is started, and moving a deadline later, as idle timeouts do, is little more than a store.
//
// when_ns is a time, not a delay: an idle timeout adds its delay to evl_loop_now. Equal deadlines still fire
// in the order they were set. It may be called by the timer's own callback, unless the timer is one-shot, that
// is, made by call_later or call_at: EVL_EDONE then and afterwards; evl_timer_new makes one that can be
// started again. For a timer made by call_every, the next tick moves and the interval stays. On the loop's
// thread. Errors: EVL_ECANCELLED, EVL_EDONE, -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED,
// EVL_EPANIC, -ENOMEM.
EVL_API
int evl_timer_reschedule(evl_timer *timer,
                         int64_t when_ns);

// Cancels the timer and tells its loop, which forgets it: asyncio.events.TimerHandle.cancel. Rules and errors
// as evl_handle_cancel.
EVL_API int evl_timer_cancel(evl_timer *timer);

// Whether the timer was cancelled: 1 or 0. NULL gives 0. Any thread.
EVL_API int evl_timer_cancelled(const evl_timer *timer);

// The timer's deadline, in nanoseconds of the loop's clock: asyncio.TimerHandle.when.
//
// Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_timer_when(const evl_timer *timer, int64_t *when_ns);

// The timer as a handle: the same object, borrowed. NULL for NULL. Any thread.
EVL_API evl_handle *evl_timer_as_handle(evl_timer *timer);

// Takes another reference and returns timer. NULL gives NULL. Any thread.
EVL_API evl_timer *evl_timer_ref(evl_timer *timer);

// Gives a reference back; NULL is ignored. A started timer stays started. Any thread.
EVL_API void evl_timer_unref(evl_timer *timer);

// For bindings: whether the timer is started and has not fired: 1 or 0. asyncio.TimerHandle._scheduled. NULL
// gives 0. Any thread.
EVL_API int evl_timer_scheduled(const evl_timer *timer);

// For bindings: *order becomes -1, 0 or 1 as a's deadline is before, at or after b's.
// asyncio.TimerHandle.__lt__ and its like.
//
// Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_timer_compare(const evl_timer *a, const evl_timer *b, int *order);

// For bindings: 1 when both have the same deadline, callback, arg and cancelled state, else 0.
// asyncio.TimerHandle.__eq__.
//
// NULL equals nothing. On the loop's thread (or while the loop does not run).
EVL_API int evl_timer_equal(const evl_timer *a, const evl_timer *b);

// For bindings: a hash of the deadline, equal for timers that evl_timer_equal finds equal.
// asyncio.TimerHandle.__hash__.
//
// Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_timer_hash(const evl_timer *timer, uint64_t *hash);

// Makes a context variable: contextvars.ContextVar(name, default=...). name is copied, and may be NULL.
//
// default_value NULL means that there is no default; default_free (may be NULL) releases it with the variable,
// or when this function fails. *out is yours. Any thread. Errors: -EINVAL (out is NULL).
EVL_API
int evl_context_var_new(const char *name,
                        void *default_value,
                        evl_free_fn default_free,
                        evl_context_var **out);

// Takes another reference and returns var. NULL gives NULL. Any thread.
EVL_API evl_context_var *evl_context_var_ref(evl_context_var *var);

// Gives a reference back; NULL is ignored. Contexts in which it has a value keep it. Any thread.
EVL_API void evl_context_var_unref(evl_context_var *var);

// The variable's name, copied as evl_handle_repr does; empty when it has none. Any thread. Errors: -EINVAL.
EVL_API int evl_context_var_name(const evl_context_var *var, char *buffer, size_t size);

// The variable's value in the current context, or else its default: ContextVar.get.
//
// *value is borrowed: valid while the current context has it. Any thread. Errors: EVL_ENOVALUE, -EINVAL
// (NULL).
EVL_API int evl_context_var_get(evl_context_var *var, void **value);

// Sets the variable in the current context: ContextVar.set. Other contexts, and copies made before, do not see
// it.
//
// value_free (may be NULL) runs exactly once, when no context and no token has the value any more, or when
// this function fails. out may be NULL; else *out is a token of yours by which evl_context_var_reset undoes
// this. Any thread. Errors: -EINVAL (NULL var).
EVL_API
int evl_context_var_set(evl_context_var *var,
                        void *value,
                        evl_free_fn value_free,
                        evl_context_token **out);

// Puts the variable back to what it was before the set that made token: ContextVar.reset. A token works once,
// and in the context it was made in.
//
// Any thread. Errors: EVL_ETOKEN, -EINVAL (NULL).
EVL_API int evl_context_var_reset(evl_context_var *var, evl_context_token *token);

// The variable a token is of: Token.var. Borrowed, valid as long as the token. NULL for NULL. Any thread.
EVL_API evl_context_var *evl_context_token_get_var(const evl_context_token *token);

// The value before the set: Token.old_value. Borrowed, valid as long as the token. Any thread. Errors:
// EVL_ENOVALUE (Token.MISSING), -EINVAL.
EVL_API int evl_context_token_old_value(const evl_context_token *token, void **value);

// Takes another reference and returns token. NULL gives NULL. Any thread.
EVL_API evl_context_token *evl_context_token_ref(evl_context_token *token);

// Gives a reference back; NULL is ignored. Any thread.
EVL_API void evl_context_token_unref(evl_context_token *token);

// Makes an empty context: contextvars.Context(). *out is yours. Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_context_new(evl_context **out);

// Makes a context with the values of another: Context.copy. It costs a reference, however many values there
// are. *out is yours. Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_context_copy(evl_context *context, evl_context **out);

// Makes a context with the values of the current one: contextvars.copy_context. *out is yours. Any thread.
// Errors: -EINVAL (NULL).
EVL_API int evl_context_copy_current(evl_context **out);

// Calls callback(arg) at once, on this thread, with context as the current one: Context.run. What it sets
// stays in context.
//
// Outside of the loop's callbacks evl_raise is not to be had in callback. A context is entered once at a time.
// Any thread. Errors: EVL_EENTERED, -EINVAL (NULL context or callback).
EVL_API
int evl_context_run(evl_context *context,
                    evl_callback callback,
                    void *arg);

// Makes context the current one of this thread until evl_context_exit: PyContext_Enter, for bindings that
// cannot use evl_context_run. evl holds a reference meanwhile.
//
// A callback exits what it entered before it returns; evl does it where it did not. Any thread. Errors:
// EVL_EENTERED, -EINVAL (NULL).
EVL_API int evl_context_enter(evl_context *context);

// Leaves context, which must be the last one entered on this thread: PyContext_Exit.
//
// Any thread. Errors: EVL_ENOTENTERED, -EINVAL (NULL).
EVL_API int evl_context_exit(evl_context *context);

// The value of var in context, whatever is current: `context[var]`. Defaults do not count.
//
// *value is borrowed: valid while context has it. Any thread. Errors: EVL_ENOVALUE, -EINVAL (NULL).
EVL_API int evl_context_get(evl_context *context, evl_context_var *var, void **value);

// How many variables have a value in context: len(context). Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_context_size(evl_context *context, size_t *size);

// Takes another reference and returns context. NULL gives NULL. Any thread.
EVL_API evl_context *evl_context_ref(evl_context *context);

// Gives a reference back; NULL is ignored. Any thread.
EVL_API void evl_context_unref(evl_context *context);

// Fills options with the defaults. size is sizeof *options.
//
// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
// this library knows).
EVL_API
int evl_loop_options_init(struct evl_loop_options *options,
                          uint32_t size);

// Makes a loop: asyncio.new_event_loop without a policy. options may be NULL.
//
// *out is yours, to give back by evl_loop_unref; the last reference closes a loop that does not run. Nothing
// is started: no thread, no signal handler. Any thread. Errors: -EINVAL (out is NULL), EVL_EOPTIONS, -ENOMEM,
// and what the system says when it can make no poller (-EMFILE, -ENFILE).
EVL_API int evl_loop_new(const struct evl_loop_options *options, evl_loop **out);

// Takes another reference and returns event_loop. NULL gives NULL. Any thread.
EVL_API evl_loop *evl_loop_ref(evl_loop *event_loop);

// Gives a reference back; NULL is ignored. The last one closes the loop as evl_loop_close does; if the loop
// runs, when it stops running. Any thread.
EVL_API void evl_loop_unref(evl_loop *event_loop);

// Runs until evl_loop_stop: loop.run_forever.
//
// Returns 0 when stopped. On any one thread, which the loop belongs to while it runs. Errors: EVL_EEXIT (a
// callback called evl_raise_exit), EVL_ERUNNING (this loop runs, or this thread runs another), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -EINVAL (NULL), and system errors of the poller.
EVL_API int evl_loop_run_forever(evl_loop *event_loop);

// Runs one iteration: waits until something is ready, but not longer than timeout_ns, then runs exactly the
// callbacks that are ready.
//
// timeout_ns 0 does not wait; EVL_FOREVER waits without limit. Returns how many callbacks ran (at most
// INT_MAX). A stop that was asked for before is used up by it, and makes it not wait. Threads and errors as
// evl_loop_run_forever; -EINVAL also for a negative timeout.
EVL_API int evl_loop_run_once(evl_loop *event_loop, int64_t timeout_ns);

// Runs iterations until nothing is ready and a poll without waiting finds nothing, or evl_loop_stop. Timers
// that are not due and watchers that are not ready do not hold it.
//
// Returns how many callbacks ran. Threads and errors as evl_loop_run_forever.
EVL_API int evl_loop_run_until_idle(evl_loop *event_loop);

// Stops the loop after the present iteration: loop.stop. Before a run, the next run does one iteration and
// polls once.
//
// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_stop(evl_loop *event_loop);

// evl_loop_stop from any thread: loop.call_soon_threadsafe(loop.stop). Wakes the loop.
//
// Any thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EFORKED.
EVL_API int evl_loop_stop_threadsafe(evl_loop *event_loop);

// Closes the loop: loop.close. What is pending is abandoned: no callback runs, every arg is released, every
// descriptor and signal let go.
//
// Closing a closed loop does nothing and returns 0. References stay valid, and every other call answers
// EVL_ECLOSED. From any thread while the loop does not run. Errors: EVL_ERUNNING (it runs, on whatever
// thread), EVL_EWRONGTHREAD (another thread is inside of one of its functions), -EINVAL (NULL).
EVL_API int evl_loop_close(evl_loop *event_loop);

// Whether the loop is running: 1 or 0. loop.is_running. NULL gives 0. Any thread.
EVL_API int evl_loop_is_running(const evl_loop *event_loop);

// Whether the loop was closed: 1 or 0. loop.is_closed. NULL gives 0. Any thread.
EVL_API int evl_loop_is_closed(const evl_loop *event_loop);

// Reads the loop's clock, in nanoseconds: loop.time. Monotonic; its zero is arbitrary (0 by default on a
// manual clock).
//
// Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_loop_time(const evl_loop *event_loop, int64_t *time_ns);

// The time of the present iteration, without reading the clock again; outside of an iteration, the clock.
//
// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_now(evl_loop *event_loop, int64_t *time_ns);

// The clock's resolution in nanoseconds: asyncio's _clock_resolution. Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_loop_clock_resolution(const evl_loop *event_loop, int64_t *resolution_ns);

// Moves a manual clock forward by delta_ns; beyond the end of time it stays there. Timers that become due fire
// at the next run; nothing runs inside of this call.
//
// On the loop's thread, also from callbacks and hooks. Errors: EVL_ECLOCK (the loop has a real clock), -EINVAL
// (NULL; delta_ns is negative), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_loop_advance(evl_loop *event_loop,
                     int64_t delta_ns);

// The code given to evl_raise_exit by the callback that ended the last run; 0 when that did not end with
// EVL_EEXIT.
//
// Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_loop_exit_code(const evl_loop *event_loop, int *exit_code);

// Turns debug mode on (not 0) or off: loop.set_debug. It records where handles are made and reports slow
// callbacks and loops that nobody closed.
//
// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_set_debug(evl_loop *event_loop, int enabled);

// Whether debug mode is on: 1 or 0. loop.get_debug. NULL gives 0. Any thread.
EVL_API int evl_loop_get_debug(const evl_loop *event_loop);

// Sets from how many nanoseconds on a callback is reported as slow in debug mode: loop.slow_callback_duration.
//
// Any thread. Errors: -EINVAL (NULL, or negative).
EVL_API
int evl_loop_set_slow_callback_duration(evl_loop *event_loop,
                                        int64_t duration_ns);

// Reads the duration that evl_loop_set_slow_callback_duration sets. Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_loop_get_slow_callback_duration(const evl_loop *event_loop, int64_t *duration_ns);

// Runs the shutdown hooks, each once, last registered first, and then the loop until it is idle, so that what
// they scheduled at once is done. Call it before evl_loop_close, which itself runs no callbacks.
//
// Returns how many callbacks ran. Threads and errors as evl_loop_run_forever.
EVL_API int evl_loop_run_shutdown(evl_loop *event_loop);

// Fills metrics, whose size field is set. Counters never decrease.
//
// On the loop's thread. Errors: -EINVAL, EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_metrics(evl_loop *event_loop, struct evl_metrics *metrics);

// Keeps a pointer of yours with the loop; the one before is released first. data_free (may be NULL) runs when
// it is replaced, or when the loop's memory is freed, or when this function fails.
//
// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_set_data(evl_loop *event_loop, void *data, evl_free_fn data_free);

// The pointer kept by evl_loop_set_data, or NULL. NULL gives NULL. Any thread.
EVL_API void *evl_loop_get_data(const evl_loop *event_loop);

// Sends the loop's reports (failures nobody handled, slow callbacks, debug) to log instead of stderr; NULL
// restores stderr.
//
// arg_free runs when it is replaced or the loop is closed, or when this function fails. On the loop's thread.
// Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_set_log(evl_loop *event_loop, evl_log_fn log, void *arg, evl_free_fn arg_free);

// Makes the loop usable in a child process after fork: it gets a poller of its own, watching the same
// descriptors, and is not running. What was scheduled stays scheduled.
//
// Signal handlers stay the loop's: a signal that arrives in the child before this call, or before the loop is
// closed there, is told afterwards. On any one thread of the child, outside of callbacks. A loop that was not
// forked is left alone (0). Errors: -EINVAL, EVL_ECLOSED, EVL_ERUNNING (it runs), EVL_EWRONGTHREAD (another
// thread of the parent was inside of the loop when it was forked: it can only be closed), and system errors of
// the poller.
EVL_API
int evl_loop_after_fork(evl_loop *event_loop);

// Schedules callback for the next iteration: loop.call_soon. Callbacks run in the order they were scheduled.
//
// context NULL: the current context is captured. A context that is entered elsewhere when the callback is due:
// it is not called, and the exception handler gets EVL_EENTERED. out may be NULL: then no handle is made,
// which is the fastest way. Otherwise *out is your reference to a one-shot handle. arg_free runs exactly once,
// after the call, on cancel, on close, or when this function fails. On the loop's thread. Errors: -EINVAL
// (NULL loop or callback), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
EVL_API
int evl_loop_call_soon(evl_loop *event_loop,
                       evl_callback callback,
                       void *arg,
                       evl_free_fn arg_free,
                       evl_context *context,
                       evl_handle **out);

// evl_loop_call_soon from any thread: loop.call_soon_threadsafe. Wakes the loop if it sleeps.
//
// The calling thread must have a reference of its own during the call (evl_loop_ref, one for each worker).
// Callbacks of one thread keep their order. The context captured is the calling thread's. The handle, when
// asked for, may be cancelled on the loop's thread only. arg_free may run on the thread that closes the loop.
// Any thread. Errors: -EINVAL (NULL loop or callback), EVL_ECLOSED, EVL_EFORKED, EVL_EPANIC,
// -ENOMEM.
EVL_API
int evl_loop_call_soon_threadsafe(evl_loop *event_loop,
                                  evl_callback callback,
                                  void *arg,
                                  evl_free_fn arg_free,
                                  evl_context *context,
                                  evl_handle **out);

// Schedules callback delay_ns nanoseconds from the clock's time now: loop.call_later. EVL_MS and EVL_SECONDS
// convert.
//
// A delay of zero or less is due at the next iteration, after what was scheduled soon before. Ownership,
// context, out, thread and errors as evl_loop_call_soon.
EVL_API
int evl_loop_call_later(evl_loop *event_loop,
                        int64_t delay_ns,
                        evl_callback callback,
                        void *arg,
                        evl_free_fn arg_free,
                        evl_context *context,
                        evl_timer **out);

// Schedules callback for the time when_ns of the loop's clock: loop.call_at. A timer never fires early; equal
// deadlines fire in the order they were made.
//
// Ownership, context, out, thread and errors as evl_loop_call_soon.
EVL_API
int evl_loop_call_at(evl_loop *event_loop,
                     int64_t when_ns,
                     evl_callback callback,
                     void *arg,
                     evl_free_fn arg_free,
                     evl_context *context,
                     evl_timer **out);

// Calls callback every interval_ns nanoseconds, first after one interval, until the timer is cancelled: beyond
// asyncio.
//
// The rate is fixed: ticks stand at multiples of the interval from the start, and ticks that were missed
// become one. The callback may cancel its own timer. Ownership, context, out, thread and errors as
// evl_loop_call_soon; -EINVAL also when interval_ns is not positive.
EVL_API
int evl_loop_call_every(evl_loop *event_loop,
                        int64_t interval_ns,
                        evl_callback callback,
                        void *arg,
                        evl_free_fn arg_free,
                        evl_context *context,
                        evl_timer **out);

// Registers callback to be called by evl_loop_run_shutdown, last registered first: what shutdown_asyncgens is
// to asyncio.
//
// Ownership, context, out, thread and errors as evl_loop_call_soon.
EVL_API
int evl_loop_add_shutdown_hook(evl_loop *event_loop,
                               evl_callback callback,
                               void *arg,
                               evl_free_fn arg_free,
                               evl_context *context,
                               evl_handle **out);

// Sets the function that is told of failing callbacks: loop.set_exception_handler. NULL restores the default,
// which logs.
//
// arg_free runs when the handler is replaced or the loop closed, or when this function fails. On the loop's
// thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_loop_set_exception_handler(evl_loop *event_loop,
                                   evl_exception_handler handler,
                                   void *arg,
                                   evl_free_fn arg_free);

// Reads the exception handler and its arg (either output may be NULL); *handler becomes NULL when the default
// is in place. loop.get_exception_handler.
//
// On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_get_exception_handler(evl_loop *event_loop, evl_exception_handler *handler, void **arg);

// The default exception handler: logs the failure, the handle, and where it was made.
// loop.default_exception_handler.
//
// exception begins with its size. On the loop's thread. Errors: -EINVAL (NULL), EVL_EOPTIONS, EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_default_exception_handler(evl_loop *event_loop, const struct evl_exception *exception);

// Reports a failure as if a callback had: calls the exception handler, or the default one.
// loop.call_exception_handler.
//
// exception begins with its size; its code is negative; message NULL means "Unhandled exception in event
// loop". Thread and errors as evl_loop_default_exception_handler; EVL_EEXIT when the handler called
// evl_raise_exit.
EVL_API int evl_loop_call_exception_handler(evl_loop *event_loop, const struct evl_exception *exception);

// Calls callback whenever fd is readable, at its end, or broken: loop.add_reader. Level-triggered: it is
// called in every iteration until the descriptor is read empty.
//
// A reader that fd had before is replaced: its handle is cancelled. Remove it before closing fd. context NULL:
// the current context is captured, and is the same for every call. out may be NULL; else *out is your
// reference to a handle, whose cancel removes the reader, too. On the loop's thread. Errors: -EINVAL (NULL
// loop or callback), -EBADF (negative or closed fd), EVL_EBUSY (an operation or a transport uses fd), -EPERM
// (a regular file or directory: always ready, cannot be watched), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED,
// EVL_EPANIC, -ENOMEM, -ENOSPC. On an error, a reader that was there before stays. Where fd's watchers were
// changed in this iteration already, the kernel is asked at the next poll, and its error goes to the exception
// handler, and fd's watchers are cancelled.
EVL_API
int evl_loop_add_reader(evl_loop *event_loop,
                        int fd,
                        evl_callback callback,
                        void *arg,
                        evl_free_fn arg_free,
                        evl_context *context,
                        evl_handle **out);

// Calls callback whenever fd is writable or broken: loop.add_writer. Rules and errors as evl_loop_add_reader.
EVL_API
int evl_loop_add_writer(evl_loop *event_loop,
                        int fd,
                        evl_callback callback,
                        void *arg,
                        evl_free_fn arg_free,
                        evl_context *context,
                        evl_handle **out);

// Removes fd's reader and cancels its handle: loop.remove_reader. Returns 1, or 0 when there was none. The
// descriptor may be closed already.
//
// On the loop's thread. Errors: -EINVAL (NULL), -EBADF (negative fd), EVL_EBUSY (fd has no reader of yours,
// and an operation or a transport uses it), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_remove_reader(evl_loop *event_loop, int fd);

// Removes fd's writer and cancels its handle: loop.remove_writer. Rules and errors as evl_loop_remove_reader.
EVL_API int evl_loop_remove_writer(evl_loop *event_loop, int fd);

// Stops calling fd's reader, and keeps it registered. Pausing twice is pausing once. A call that is ready
// already is withheld, too.
//
// On the loop's thread. Errors: -ENOENT (fd has no reader), -EINVAL (NULL), -EBADF (negative fd), EVL_EBUSY
// (as evl_loop_remove_reader), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_pause_reader(evl_loop *event_loop, int fd);

// Calls fd's reader again after evl_loop_pause_reader; what is readable now counts. Errors as
// evl_loop_pause_reader.
EVL_API int evl_loop_resume_reader(evl_loop *event_loop, int fd);

// Stops calling fd's writer, and keeps it registered. Rules and errors as evl_loop_pause_reader.
EVL_API int evl_loop_pause_writer(evl_loop *event_loop, int fd);

// Calls fd's writer again after evl_loop_pause_writer. Errors as evl_loop_pause_reader.
EVL_API int evl_loop_resume_writer(evl_loop *event_loop, int fd);

// Calls callback in the loop when the process receives signal_number: loop.add_signal_handler. Signals that
// arrive in quick succession may be told once.
//
// One loop owns a signal; a handler it had before is replaced and its handle cancelled. A signal that arrives
// while the loop does not run is delivered when it runs. The action is installed with SA_RESTART. Any thread
// may register that may use the loop. Ownership, context, out as evl_loop_add_reader. Errors: -EINVAL (NULL
// loop or callback, no such signal), EVL_ESIGNAL (SIGKILL and SIGSTOP cannot be caught; SIGSEGV, SIGBUS,
// SIGFPE and SIGILL tell of a fault that a loop cannot handle), EVL_EBUSY (another loop owns it), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
EVL_API
int evl_loop_add_signal_handler(evl_loop *event_loop,
                                int signal_number,
                                evl_callback callback,
                                void *arg,
                                evl_free_fn arg_free,
                                evl_context *context,
                                evl_handle **out);

// Removes the handler and restores the action that was there before, unless somebody has installed another
// since: loop.remove_signal_handler. Returns 1, or 0 when there was none.
//
// On the loop's thread. Errors: -EINVAL (NULL, no such signal), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_remove_signal_handler(evl_loop *event_loop, int signal_number);

// Makes a future that you settle: loop.create_future.
//
// *out is your reference (out must not be NULL). It keeps the loop's memory, not its life. On the loop's
// thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
EVL_API int evl_future_new(evl_loop *event_loop, evl_future **out);

// Takes another reference and returns future. NULL gives NULL. Any thread.
EVL_API evl_future *evl_future_ref(evl_future *future);

// Gives a reference back; NULL is ignored. What is under way goes on without you. The last one frees the
// future with its result; an error that nobody has asked for (evl_future_result, _error) is then told to the
// exception handler, on the loop's thread. Any thread.
EVL_API void evl_future_unref(evl_future *future);

// The loop the future belongs to: Future.get_loop. Borrowed. NULL for NULL. Any thread.
EVL_API evl_loop *evl_future_get_loop(const evl_future *future);

// Whether the future has a result or an error, or was cancelled: 1 or 0. Future.done. NULL gives 0. Any thread.
EVL_API
int evl_future_done(const evl_future *future);

// Whether the future was cancelled: 1 or 0. Future.cancelled. NULL gives 0. Any thread.
EVL_API int evl_future_cancelled(const evl_future *future);

// Reads the result: Future.result. Returns 0 and writes it to *value (value may be NULL, to ask only how it
// ended), or returns the error's code, or EVL_ECANCELLED. The error's message becomes evl_error_detail.
//
// The result stays the future's: it is valid as long as the future. Any thread. Errors of its own:
// EVL_EINVALIDSTATE (not done), -EINVAL (NULL future; the result is a number or bytes, which
// evl_future_result_int and evl_future_result_bytes read).
EVL_API int evl_future_result(const evl_future *future, void **value);

// evl_future_result of an operation that results in a number: a count of bytes, a descriptor, a return code.
//
// A descriptor (evl_loop_sock_accept) is yours once you have asked for it; one that nobody has asked for is
// closed with the future. Any thread. Errors as evl_future_result; -EINVAL also when the result is no number, or
// value is NULL.
EVL_API
int evl_future_result_int(const evl_future *future,
                          int64_t *value);

// evl_future_result of an operation that results in bytes. They stay the future's. size may be NULL.
//
// Any thread. Errors as evl_future_result; -EINVAL also when the result is no bytes, or data is NULL.
EVL_API int evl_future_result_bytes(const evl_future *future, const void **data, size_t *size);

// The address that a result came from: the sender's (evl_loop_sock_recvfrom, _recvfrom_into) or the peer's
// (evl_loop_sock_accept), as a struct sockaddr. It stays the future's; *size becomes 0 when there is none. size
// may be NULL.
//
// Any thread. Errors as evl_future_result; -EINVAL also when the result has no address, or address is NULL.
EVL_API
int evl_future_result_address(const evl_future *future,
                              const void **address,
                              uint32_t *size);

// Reads the error: Future.exception. Returns 0 and writes the code, or 0 when there is a result instead, to
// *code; EVL_ECANCELLED when the future was cancelled.
//
// Any thread. Errors: EVL_EINVALIDSTATE (not done), EVL_ECANCELLED, -EINVAL (NULL).
EVL_API int evl_future_error(const evl_future *future, int *code);

// Writes what the error says, or why the future was cancelled; nothing when there is no message.
//
// Fills buffer with at most size bytes including the NUL and returns the whole length without it. buffer may
// be NULL when size is 0. Any thread, once the future is done. Errors: -EINVAL (NULL future; buffer NULL and
// size not 0).
EVL_API int evl_future_error_message(const evl_future *future, char *buffer, size_t size);

// The object given to evl_future_set_error_object or evl_raise_object: borrowed from the future. NULL when
// there is none, and for NULL. Any thread, once the future is done.
EVL_API void *evl_future_error_object(const evl_future *future);

// The bytes that came with the error of a read: what had been read when the stream ended (EVL_EINCOMPLETE,
// IncompleteReadError.partial). With EVL_EOVERRUN, *data becomes NULL and *size how many bytes can be read before
// the separator is looked for again (LimitOverrunError.consumed). Of evl_loop_sendfile, evl_loop_sock_sendfile and
// evl_loop_sock_sendall, whatever their error, and also when they were cancelled, *data becomes NULL and *size how many
// bytes were sent; of what a transport sends, some may not have reached the peer.
//
// They stay the future's. size may be NULL. Any thread. Errors: EVL_EINVALIDSTATE (not done), EVL_ECANCELLED,
// -EINVAL (NULL; no error, or one that comes without).
EVL_API
int evl_future_error_bytes(const evl_future *future,
                           const void **data,
                           size_t *size);

// Settles the future with a result: Future.set_result. Its callbacks are called in the next iteration.
//
// value_free (may be NULL) releases value with the future, or when this function fails. On the loop's thread.
// Errors: EVL_EINVALIDSTATE (done already), -EINVAL (NULL; an operation's or a task's future, which settles
// itself), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API int evl_future_set_result(evl_future *future, void *value, evl_free_fn value_free);

// Settles the future with an error: Future.set_exception. code is any negative number; message is copied and
// may be NULL. EVL_ECANCELLED is no error here: evl_future_cancel cancels.
//
// On the loop's thread. Errors as evl_future_set_result; -EINVAL also when code is not negative.
EVL_API int evl_future_set_error(evl_future *future, int code, const char *message);

// evl_future_set_error for bindings that carry an exception of their own: object goes with the code.
//
// object_free (may be NULL) releases object with the future, or when this function fails. Thread and errors as
// evl_future_set_error.
EVL_API
int evl_future_set_error_object(evl_future *future,
                                int code,
                                const char *message,
                                void *object,
                                evl_free_fn object_free);

// Cancels the future: Future.cancel. Returns 1 when it is or will be cancelled, 0 when it was done already.
//
// What is under way is withdrawn as soon as it can be. The future is done (with EVL_ECANCELLED) when nothing
// can touch what its operation was given any more: at once, or later. A task is told by its next step, and may
// go on. message (may be NULL) is copied. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_future_cancel(evl_future *future,
                      const char *message);

// evl_future_set_result from any thread. The result arrives with the loop's next iteration; a future that is
// done by then is left alone, and value released.
//
// The calling thread has a reference to the future during the call. value_free may run on the loop's thread, or
// here when this function fails. Any thread. Errors: -EINVAL (NULL; an operation's or a task's future),
// EVL_ECLOSED, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_future_set_result_threadsafe(evl_future *future,
                                     void *value,
                                     evl_free_fn value_free);

// evl_future_set_error_object from any thread, as evl_future_set_result_threadsafe. object may be NULL.
//
// Any thread. Errors as there; -EINVAL also when code is not negative.
EVL_API
int evl_future_set_error_threadsafe(evl_future *future,
                                    int code,
                                    const char *message,
                                    void *object,
                                    evl_free_fn object_free);

// evl_future_cancel from any thread: it arrives with the loop's next iteration. Returns 0.
//
// Any thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EFORKED, -ENOMEM.
EVL_API int evl_future_cancel_threadsafe(evl_future *future, const char *message);

// Blocks the calling thread until the future is done, but not longer than timeout_ns: for threads that run no
// loop. 0 does not wait; EVL_FOREVER waits without limit. Returns 0 when it is done, however it ended.
//
// The calling thread has a reference to the future during the call. Any thread. Errors: -ETIMEDOUT, EVL_ECLOSED
// (the loop was closed before it was done), EVL_EFORKED, EVL_EPANIC, EVL_ERUNNING (this thread runs a loop),
// -EINVAL (NULL; negative timeout).
EVL_API
int evl_future_wait(evl_future *future,
                    int64_t timeout_ns);

// Sets a limit of time: when timeout_ns nanoseconds have passed, the future is withdrawn as by
// evl_future_cancel, and ends with -ETIMEDOUT. A later call replaces it; EVL_FOREVER takes it away.
//
// A future that is done is left alone. One that nobody refers to is kept until then, and its -ETIMEDOUT told as an
// error nobody asked for. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_future_set_timeout(evl_future *future,
                           int64_t timeout_ns);

// Has callback called when the future is done: Future.add_done_callback. It is called by the loop, in the
// iteration after the future is done (the next one, if it is done already), once, in the order they were added.
//
// context NULL: the current context is captured. arg_free runs exactly once: after the call, on removal, with
// the future's last reference (when the loop is closed, an operation's or a task's future releases it then), or
// when this function fails. On the loop's thread. Errors: -EINVAL
// (NULL future or callback), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_future_add_done_callback(evl_future *future,
                                 evl_future_callback callback,
                                 void *arg,
                                 evl_free_fn arg_free,
                                 evl_context *context);

// Removes every callback that was added with this function and arg: Future.remove_done_callback. Returns how
// many there were; none are found once the future is done.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_future_remove_done_callback(evl_future *future, evl_future_callback callback, void *arg);

// Writes what the future is, such as "<Future pending at 0x55d0c0>". Future.__repr__.
//
// Buffer rules and errors as evl_future_error_message. Any thread.
EVL_API int evl_future_repr(const evl_future *future, char *buffer, size_t size);

// Keeps a pointer of yours with the future; the one before is released first. data_free (may be NULL) runs when
// it is replaced, with the future's last reference, or when this function fails.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_future_set_data(evl_future *future,
                        void *data,
                        evl_free_fn data_free);

// The pointer kept by evl_future_set_data, or NULL. NULL gives NULL. Any thread.
EVL_API void *evl_future_get_data(const evl_future *future);

// Makes a task: asyncio.Task(coro, loop=loop, context=context). Its first step is called in the next iteration.
//
// All steps run in one context: context, or (NULL) a copy of the current one. The loop keeps the task until it
// is done. out may be NULL; else *out is your reference. arg_free runs exactly once: when the task is done, on
// close, or when this function fails. On the loop's thread. Errors: -EINVAL (NULL loop or step), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
EVL_API
int evl_task_new(evl_loop *event_loop,
                 evl_step_fn step,
                 void *arg,
                 evl_free_fn arg_free,
                 evl_context *context,
                 evl_task **out);

// Makes a task by the loop's task factory, if one is set, and by evl_task_new otherwise: loop.create_task.
//
// Ownership, thread and errors as evl_task_new, and what the factory returns.
EVL_API
int evl_loop_create_task(evl_loop *event_loop,
                         evl_step_fn step,
                         void *arg,
                         evl_free_fn arg_free,
                         evl_context *context,
                         evl_task **out);

// Sets what evl_loop_create_task makes tasks with: loop.set_task_factory. NULL restores evl_task_new.
//
// arg_free runs when it is replaced or the loop closed, or when this function fails. On the loop's thread.
// Errors: -EINVAL (NULL loop), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_loop_set_task_factory(evl_loop *event_loop,
                              evl_task_factory factory,
                              void *arg,
                              evl_free_fn arg_free);

// Reads the task factory and its arg (either output may be NULL); *factory becomes NULL when none is set.
// loop.get_task_factory.
//
// On the loop's thread. Errors: -EINVAL (NULL loop), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_get_task_factory(evl_loop *event_loop, evl_task_factory *factory, void **arg);

// Takes another reference and returns task. NULL gives NULL. Any thread.
EVL_API evl_task *evl_task_ref(evl_task *task);

// Gives a reference back; NULL is ignored. A task that is not done goes on. Errors that nobody has asked for are
// told as evl_future_unref tells them. Any thread.
EVL_API
void evl_task_unref(evl_task *task);

// The task as a future: the same object, borrowed. NULL for NULL. Any thread.
EVL_API evl_future *evl_task_as_future(evl_task *task);

// The future as a task: the same object, borrowed; NULL when it is none, and for NULL. Any thread.
EVL_API evl_task *evl_future_as_task(evl_future *future);

// The loop the task belongs to. Borrowed. NULL for NULL. Any thread.
EVL_API evl_loop *evl_task_get_loop(const evl_task *task);

// What the task awaits, or (in a step) awaited last: borrowed, valid until the step returns. NULL when there is
// none, and for NULL. On the loop's thread.
EVL_API
evl_future *evl_task_get_awaited(const evl_task *task);

// Sets what the task ends with when its step returns 0 and awaits nothing more; an earlier one is released.
//
// value_free (may be NULL) releases value with the task, or when this function fails. On the loop's thread.
// Errors: -EINVAL (NULL), EVL_EINVALIDSTATE (done), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_task_set_result(evl_task *task, void *value, evl_free_fn value_free);

// evl_task_set_result with a number, which evl_future_result_int reads.
//
// On the loop's thread. Errors as evl_task_set_result.
EVL_API int evl_task_set_result_int(evl_task *task, int64_t value);

// Has the task's next step be told EVL_ECANCELLED: Task.cancel. What it awaits is cancelled. Returns 1, or 0
// when the task is done already.
//
// The step may clean up, await more, and go on: the task is cancelled only when a step returns EVL_ECANCELLED.
// message (may be NULL) is copied. The same as evl_future_cancel of its future. On the loop's thread. Errors:
// -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_task_cancel(evl_task *task,
                    const char *message);

// How many cancels the task has got and not taken back: Task.cancelling. On the loop's thread. Errors: -EINVAL
// (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_task_cancelling(evl_task *task);

// Takes one cancel back: Task.uncancel. Returns how many are left. It changes the count only: a step that is to
// be told of a cancel still is. On the loop's thread. Errors as evl_task_cancelling.
EVL_API
int evl_task_uncancel(evl_task *task);

// Names the task: Task.set_name. name is copied; NULL restores "Task-" and its number.
//
// On the loop's thread. Errors: -EINVAL (NULL task), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_task_set_name(evl_task *task, const char *name);

// Writes the task's name: Task.get_name.
//
// Fills buffer with at most size bytes including the NUL and returns the whole length without it. buffer may be
// NULL when size is 0. On the loop's thread. Errors: -EINVAL (NULL task; buffer NULL and size not 0),
// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_task_get_name(evl_task *task,
                      char *buffer,
                      size_t size);

// The task whose step is being called: asyncio.current_task. Borrowed; NULL when there is none. event_loop NULL:
// the loop that runs on this thread. On the loop's thread.
EVL_API
evl_task *evl_current_task(evl_loop *event_loop);

// Writes the tasks of the loop that are not done, at most capacity of them, and returns how many there are:
// asyncio.all_tasks. They are borrowed: a task stays valid until it is done.
//
// event_loop NULL: the loop that runs on this thread. On the loop's thread. Errors: -EINVAL (no loop; tasks NULL
// and capacity not 0), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_all_tasks(evl_loop *event_loop,
                  evl_task **tasks,
                  size_t capacity);

// Runs the loop until the future is done: loop.run_until_complete. Returns 0 when it has a result, and otherwise
// its error's code, or EVL_ECANCELLED; evl_future_result reads the result, evl_error_detail an error's message.
//
// Threads and further errors as evl_loop_run_forever; EVL_ESTOPPED (the loop was stopped before), -EINVAL (NULL;
// the future belongs to another loop).
EVL_API
int evl_loop_run_until_complete(evl_loop *event_loop,
                                evl_future *future);

// A future that is done after delay_ns nanoseconds: asyncio.sleep. With a delay of zero or less it is done
// already: a task that awaits it lets others run. EVL_FOREVER: never, until it is cancelled.
//
// out may be NULL; else *out is your reference. On the loop's thread. Errors: -EINVAL (NULL loop), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC, -ENOMEM.
EVL_API
int evl_sleep(evl_loop *event_loop,
              int64_t delay_ns,
              evl_future **out);

// A future that is done when all count futures are: asyncio.gather. With errors_are_results 0 it ends as the
// first one that fails or is cancelled, while the others go on; otherwise it ends with a result in any case.
// Their results are read from the futures themselves; they are borrowed, and referred to until the end.
//
// Cancelling it cancels them, and it is done when they are. No futures: done at once. out may be NULL; else *out
// is your reference. On the loop's thread. Errors: -EINVAL (NULL loop or future; a future of another loop),
// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_gather(evl_loop *event_loop,
               evl_future *const *futures,
               size_t count,
               int errors_are_results,
               evl_future **out);

// A future that is done when as many of count futures are done as until says (an evl_wait_until), or when
// timeout_ns has passed: asyncio.wait. Its result is the number of those that are done, in either case; which
// ones, evl_future_done tells. They are borrowed, and referred to until the end.
//
// Cancelling it leaves them alone. EVL_FOREVER: no timeout. out may be NULL; else *out is your reference. On the
// loop's thread. Errors: -EINVAL (NULL loop or future; no futures; a future of another loop; no such until),
// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_wait(evl_loop *event_loop,
             evl_future *const *futures,
             size_t count,
             int until,
             int64_t timeout_ns,
             evl_future **out);

// A future that ends as the given one does, or, when that is not done after timeout_ns, cancels it and fails with
// -ETIMEDOUT once it is done: asyncio.wait_for. Cancelling it cancels the given one. EVL_FOREVER: no limit.
//
// evl_future_set_timeout does the same without a second future. out may be NULL; else *out is your reference. On
// the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_wait_for(evl_future *future,
                 int64_t timeout_ns,
                 evl_future **out);

// A future that ends as the given one does, but whose cancelling leaves that one alone: asyncio.shield. When the
// given one is done, it is that one.
//
// out may be NULL; else *out is your reference. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_shield(evl_future *future,
               evl_future **out);

// Makes a task group: asyncio.TaskGroup, entered. When one of its tasks fails, the others are cancelled, and so is
// the task that made the group, unless it has joined it already: its step is told EVL_ECANCELLED, and is to
// await evl_task_group_join, which tells the error.
//
// *out is your reference. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD,
// EVL_EFORKED, EVL_EPANIC.
EVL_API
int evl_task_group_new(evl_loop *event_loop,
                       evl_task_group **out);

// Takes another reference and returns group. NULL gives NULL. Any thread.
EVL_API evl_task_group *evl_task_group_ref(evl_task_group *group);

// Gives a reference back; NULL is ignored. Tasks that are not done go on. Any thread.
EVL_API void evl_task_group_unref(evl_task_group *group);

// Makes a task that belongs to the group: TaskGroup.create_task. Step, context, out and ownership as
// evl_task_new.
//
// On the loop's thread. Errors as evl_task_new; EVL_ESHUTDOWN (a task of the group has failed, or the group was
// joined and its tasks are done).
EVL_API
int evl_task_group_create_task(evl_task_group *group,
                               evl_step_fn step,
                               void *arg,
                               evl_free_fn arg_free,
                               evl_context *context,
                               evl_task **out);

// A future that is done when all tasks of the group are: leaving asyncio.TaskGroup. It fails with the code of the
// first task that failed (being cancelled is no failure); evl_task_group_failed lists them all. Tasks may still
// be added until then. Cancelling it cancels the tasks.
//
// out may be NULL; else *out is your reference. Once for a group. On the loop's thread. Errors: -EINVAL (NULL),
// EVL_EINVALIDSTATE (joined before), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_task_group_join(evl_task_group *group,
                        evl_future **out);

// Cancels the tasks of the group, and takes no more: for a task that made a group and fails itself, before it joins it.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_task_group_cancel(evl_task_group *group);

// Writes the tasks that have failed, first first, at most capacity of them, and returns how many there are.
// Borrowed from the group: evl_task_as_future of one tells its error.
//
// On the loop's thread. Errors: -EINVAL (NULL group; tasks NULL and capacity not 0), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_task_group_failed(evl_task_group *group, evl_task **tasks, size_t capacity);

// Fills options with the defaults. size is sizeof *options.
//
// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
// this library knows).
EVL_API
int evl_run_options_init(struct evl_run_options *options,
                         uint32_t size);

// Runs a main task from beginning to end: asyncio.run. Makes a loop by the policy and sets it as this thread's,
// runs the task that step makes, then cancels the tasks that are left and waits for them, runs the shutdown
// hooks, ends the default executor (waiting up to five minutes for its jobs), and closes the loop.
//
// Returns 0 when the main task has ended well, and otherwise its error's code (evl_error_detail has its message), EVL_ECANCELLED, or -EINTR (see
// EVL_RUN_SIGINT). The step finds its loop by evl_task_get_loop. options may be NULL. arg_free runs exactly once,
// when the task is done or when this function fails. On a thread that runs no loop. Errors of its own: -EINVAL
// (NULL step), EVL_EOPTIONS, EVL_ERUNNING (a loop runs on this thread), EVL_EEXIT (a callback called
// evl_raise_exit: who has referred to the loop reads evl_loop_exit_code), and what the policy and the poller say.
EVL_API
int evl_run(evl_step_fn step,
            void *arg,
            evl_free_fn arg_free,
            const struct evl_run_options *options);

// Receives at most size bytes: loop.sock_recv. The result is bytes (evl_future_result_bytes); none at the
// stream's end.
//
// As all of the evl_loop_sock_ functions: the system call is tried at once, and again whenever fd is ready,
// until it has gone through. fd may be blocking where nothing else is said; the loop never blocks. One
// operation may wait to read from fd and one to write, not more. *out is your reference to the future, which
// may be done already; out may be NULL. Cancel what waits on a descriptor before you close it: evl cannot see
// that. A cancelled operation is done at once. What goes wrong is the future's error, with a message such as
// "recv: connection reset by the peer". On the loop's thread. Errors of the call, which then has done nothing:
// -EBADF, -ENOTSOCK, -EINVAL (NULL, and what the kernel refuses), -EOPNOTSUPP, -EAFNOSUPPORT, -EFAULT,
// EVL_EBUSY (fd has a reader, or is waited for already), -ENOMEM, -ENOSPC, EVL_ECLOSED, EVL_EWRONGTHREAD,
// EVL_EFORKED, EVL_EPANIC.
EVL_API
int evl_loop_sock_recv(evl_loop *event_loop,
                       int fd,
                       size_t size,
                       evl_future **out);

// Receives at most size bytes into buffer: loop.sock_recv_into. The result is how many
// (evl_future_result_int); 0 at the stream's end.
//
// buffer is evl's until the future is done. Rules and errors as evl_loop_sock_recv; -EINVAL also when buffer
// is NULL.
EVL_API
int evl_loop_sock_recv_into(evl_loop *event_loop,
                            int fd,
                            void *buffer,
                            size_t size,
                            evl_future **out);

// Receives a datagram of at most size bytes (more are lost): loop.sock_recvfrom. The result is bytes
// (evl_future_result_bytes) and who sent them (evl_future_result_address).
//
// Rules and errors as evl_loop_sock_recv.
EVL_API int evl_loop_sock_recvfrom(evl_loop *event_loop, int fd, size_t size, evl_future **out);

// Receives a datagram into buffer: loop.sock_recvfrom_into. The result is how many bytes
// (evl_future_result_int) and who sent them (evl_future_result_address).
//
// Rules and errors as evl_loop_sock_recv_into.
EVL_API
int evl_loop_sock_recvfrom_into(evl_loop *event_loop,
                                int fd,
                                void *buffer,
                                size_t size,
                                evl_future **out);

// Sends all of data: loop.sock_sendall. The future is done, with the result NULL, when the kernel has taken
// everything. After an error or a cancel nobody can tell how much of it was sent.
//
// data is evl's until the future is done; it may be NULL when size is 0. A peer that is gone is -EPIPE, never
// SIGPIPE. Rules and errors as evl_loop_sock_recv; EVL_EBUSY when fd has a writer.
EVL_API
int evl_loop_sock_sendall(evl_loop *event_loop,
                          int fd,
                          const void *data,
                          size_t size,
                          evl_future **out);

// Sends a datagram: loop.sock_sendto. The result is how many bytes were sent (evl_future_result_int).
//
// address is a struct sockaddr, and copied; NULL with size 0 sends to whom fd is connected to. Ownership,
// rules and errors as evl_loop_sock_sendall.
EVL_API
int evl_loop_sock_sendto(evl_loop *event_loop,
                         int fd,
                         const void *data,
                         size_t size,
                         const void *address,
                         uint32_t address_size,
                         evl_future **out);

// Connects: loop.sock_connect. The result is NULL. An error's message is such as "connect 127.0.0.1:80:
// connection refused".
//
// fd must be non-blocking. address is a struct sockaddr, not a name, and copied. After a cancel the kernel may
// go on connecting: close fd. A unix socket whose listener is full fails with -EAGAIN. Rules and errors as
// evl_loop_sock_recv; EVL_EBUSY when fd has a writer, -EINVAL also when fd is blocking or address NULL.
EVL_API
int evl_loop_sock_connect(evl_loop *event_loop,
                          int fd,
                          const void *address,
                          uint32_t address_size,
                          evl_future **out);

// Accepts a connection: loop.sock_accept. The result is its descriptor (evl_future_result_int), non-blocking
// and close-on-exec, and the peer's address (evl_future_result_address).
//
// fd must be listening and non-blocking. The descriptor is the future's until somebody asks for it by
// evl_future_result_int, and is that caller's to close from then on; one that nobody asks for is closed with
// the future, and out NULL closes it at once. Rules and errors as evl_loop_sock_recv; -EINVAL also when fd is
// blocking or does not listen.
EVL_API int evl_loop_sock_accept(evl_loop *event_loop, int fd, evl_future **out);

// Sends count bytes of the file file_fd, from offset on, or up to its end if that comes first:
// loop.sock_sendfile. count 0: up to its end. The result is how many bytes were sent (evl_future_result_int).
//
// The file is a regular one or a block device; it must stay open until the future is done, and its own
// position is neither used nor moved. It is sent by sendfile(2); where the kernel cannot do that for the file,
// it is read in the loop's thread and sent. fd must be non-blocking. Rules and errors as
// evl_loop_sock_sendall; -EINVAL also when fd is blocking or no stream socket, offset or count negative, or
// file_fd another kind of file.
EVL_API
int evl_loop_sock_sendfile(evl_loop *event_loop,
                           int fd,
                           int file_fd,
                           int64_t offset,
                           int64_t count,
                           evl_future **out);

// Fills options with the defaults. size is sizeof(evl_pool_options) as the caller knows it.
//
// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (a size that this version does not know).
EVL_API int evl_pool_options_init(struct evl_pool_options *options, uint32_t size);

// Makes an executor that is a pool of threads: concurrent.futures.ThreadPoolExecutor. options NULL: the
// defaults.
//
// A thread is started when a job finds none that is idle; its signals are all blocked. *out is yours (out must
// not be NULL). When the last reference goes, what waits is still run, and the threads end after that; no call
// waits for them but evl_executor_shutdown. Any thread. Errors: -EINVAL (out is NULL), EVL_EOPTIONS.
EVL_API
int evl_executor_new_pool(const struct evl_pool_options *options,
                          evl_executor **out);

// Makes an executor out of functions of yours; the table is copied. arg is passed to them.
//
// arg_free runs with the executor's last reference, or when this function fails. *out is yours. Any thread.
// Errors: -EINVAL (NULL vtable, submit or out), EVL_EOPTIONS (the table's size).
EVL_API
int evl_executor_new(const struct evl_executor_vtable *vtable,
                     void *arg,
                     evl_free_fn arg_free,
                     evl_executor **out);

// Takes another reference and returns executor. NULL gives NULL. Any thread.
EVL_API evl_executor *evl_executor_ref(evl_executor *executor);

// Gives a reference back; NULL is ignored. It waits for nothing. Any thread, also in a job.
EVL_API void evl_executor_unref(evl_executor *executor);

// Keeps a pointer of yours with the executor; the one before is released first. data_free (may be NULL) runs
// when it is replaced, with the last reference, or when this function fails.
//
// Any thread, one at a time. Errors: -EINVAL (NULL).
EVL_API int evl_executor_set_data(evl_executor *executor, void *data, evl_free_fn data_free);

// The pointer kept by evl_executor_set_data, or NULL. NULL gives NULL. Any thread.
EVL_API void *evl_executor_get_data(const evl_executor *executor);

// Has the executor take no more jobs: Executor.shutdown. flags are of evl_shutdown_flag; without any, what waits
// is still run, and this returns at once. May be called again, with other flags.
//
// Jobs that it waits for must not need the thread that waits. Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS
// (unknown flags), -EDEADLK (a job of a pool waits for its own pool), EVL_EFORKED (the pool's threads are
// another process's).
EVL_API
int evl_executor_shutdown(evl_executor *executor,
                          uint32_t flags);

// Runs a job that was given to an executor of yours, on this thread, and gives it up. Returns 1, or 0 when it
// was cancelled, or its loop closed, and is not run any more.
//
// Exactly one of evl_job_run and evl_job_discard is called, once, for every job. Any thread. Errors: -EINVAL
// (NULL).
EVL_API int evl_job_run(evl_job *job);

// Gives a job up that will not be run: its future is cancelled. NULL is ignored. Any thread.
EVL_API void evl_job_discard(evl_job *job);

// Has job(arg) called on a thread of executor: loop.run_in_executor. executor NULL: the loop's default one, a
// pool that is made when it is first needed.
//
// What job returns is the future's result, which result_free (may be NULL) releases with the future. evl_raise
// in the job fails the future (EVL_ECANCELLED: cancels it), evl_raise_exit fails it with EVL_EEXIT; the result
// is released then. Context variables are not carried along. A job that has not started is withdrawn by
// evl_future_cancel at once; one that runs cannot be: the future is done when it has returned. arg_free
// (may be NULL) runs when the job has returned or is withdrawn, on the loop's thread, or on the job's when the
// loop is closed by then, or when this function fails. out may be NULL.
//
// Closing the loop withdraws what has not started, and waits for nothing; a job that runs should not hold what
// goes with the loop. While jobs are under way, a loop with nothing to do looks for results for up to 25
// microseconds before it sleeps, as long as that pays. On the loop's thread. Errors: -EINVAL (NULL loop or job),
// EVL_ESHUTDOWN (the executor, or the default one), what an executor's submit returns, -EAGAIN (no thread could
// be started, and there is none), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED (the loop, or the executor's threads,
// are another process's).
EVL_API
int evl_loop_run_in_executor(evl_loop *event_loop,
                             evl_executor *executor,
                             evl_job_fn job,
                             void *arg,
                             evl_free_fn arg_free,
                             evl_free_fn result_free,
                             evl_future **out);

// Makes executor the loop's default one: loop.set_default_executor. The loop takes a reference of its own, and
// shuts the executor down, without waiting, when it is closed.
//
// The one before is not shut down. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD,
// EVL_EFORKED.
EVL_API
int evl_loop_set_default_executor(evl_loop *event_loop,
                                  evl_executor *executor);

// Shuts the default executor down: loop.shutdown_default_executor. From now on it takes no jobs (EVL_ESHUTDOWN);
// what waits is still run. The future is done when all its threads have ended; it fails with -ETIMEDOUT when
// that takes longer than timeout_ns, and they go on by themselves.
//
// A thread waits for them meanwhile. out may be NULL. On the loop's thread. Errors: -EINVAL (NULL loop; negative
// timeout), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_loop_shutdown_default_executor(evl_loop *event_loop,
                                       int64_t timeout_ns,
                                       evl_future **out);

// Takes another reference and returns transport. NULL gives NULL. Any thread.
EVL_API evl_transport *evl_transport_ref(evl_transport *transport);

// Gives a reference back; NULL is ignored. An open transport goes on without you: the loop keeps it until
// connection_lost was called. Any thread.
EVL_API void evl_transport_unref(evl_transport *transport);

// The loop the transport belongs to. Borrowed. NULL for NULL. Any thread.
EVL_API evl_loop *evl_transport_get_loop(const evl_transport *transport);

// Closes the transport: transport.close. Nothing is read any more; what is queued is written, and a file that is being
// sent (evl_loop_sendfile) to its end; then connection_lost(0) follows by the ready queue, and the descriptor is
// closed. Closing twice is closing once.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_transport_close(evl_transport *transport);

// Closes the transport without writing what is queued: transport.abort. connection_lost(0) follows by the ready
// queue. Thread and errors as evl_transport_close.
EVL_API
int evl_transport_abort(evl_transport *transport);

// Whether the transport is closing or closed: 1 or 0. transport.is_closing. NULL gives 0. Any thread.
EVL_API int evl_transport_is_closing(const evl_transport *transport);

// Calls data_received no more, until evl_transport_resume_reading: transport.pause_reading. Pausing twice, or a
// transport that is closing, does nothing.
//
// On the loop's thread. Errors: -EOPNOTSUPP (the transport only writes), -EINVAL (NULL), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_transport_pause_reading(evl_transport *transport);

// Undoes evl_transport_pause_reading: transport.resume_reading. Thread and errors as there.
EVL_API int evl_transport_resume_reading(evl_transport *transport);

// Whether the transport reads: 1, or 0 when it is paused, closing, sending a file, or only writes.
// transport.is_reading. NULL gives 0. Any thread.
EVL_API int evl_transport_is_reading(const evl_transport *transport);

// Writes size bytes: transport.write. What can be written is written now; the rest is copied, and written when
// that is possible. size 0 does nothing.
//
// A write that fails closes the transport: connection_lost tells why. A socket that is closing takes more as long as
// something waits to be written. On the loop's thread. Errors: -EPIPE (the transport is closing: nothing is
// written), EVL_EBUSY (a file is being sent: nothing is written), EVL_EINVALIDSTATE (after write_eof), -EOPNOTSUPP
// (it only reads), -EINVAL (NULL), -ENOMEM (the transport is aborted), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_transport_write(evl_transport *transport,
                        const void *data,
                        size_t size);

// Writes the bytes of count buffers, in their order: transport.writelines, but gathered by the system. Rules,
// thread and errors as evl_transport_write; buffers may be NULL when count is 0.
EVL_API
int evl_transport_writelines(evl_transport *transport,
                             const struct evl_buffer *buffers,
                             size_t count);

// evl_transport_write without a copy: the bytes must stay as they are until arg_free(arg) is called, which happens
// exactly once, when they are written or dropped: before this function returns, when all was written at once or
// it fails; by the loop later; or when the transport or the loop is closed.
//
// Thread and errors as evl_transport_write.
EVL_API
int evl_transport_write_owned(evl_transport *transport,
                              const void *data,
                              size_t size,
                              void *arg,
                              evl_free_fn arg_free);

// Writes no more: transport.write_eof. What is queued is written first. A stream then tells its peer, and goes on
// reading; a pipe is closed by it, as by evl_transport_close. Writing afterwards is EVL_EINVALIDSTATE.
//
// On the loop's thread. Errors: -EOPNOTSUPP (evl_transport_can_write_eof says 0), -EINVAL (NULL), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_transport_write_eof(evl_transport *transport);

// Whether evl_transport_write_eof can be used: 1 or 0. transport.can_write_eof. NULL gives 0. Any thread.
EVL_API int evl_transport_can_write_eof(const evl_transport *transport);

// Sets when the protocol is told to pause and to resume writing: transport.set_write_buffer_limits. Negative is
// the default: of high four times low, or 64 KiB when both are; of low a quarter of high.
//
// On the loop's thread. Errors: -EINVAL (NULL; low above high), -EOPNOTSUPP (the transport only reads),
// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_transport_set_write_buffer_limits(evl_transport *transport,
                                          int64_t high,
                                          int64_t low);

// Reads the limits (either output may be NULL): transport.get_write_buffer_limits. Thread and errors as
// evl_transport_set_write_buffer_limits.
EVL_API int evl_transport_get_write_buffer_limits(evl_transport *transport, size_t *high, size_t *low);

// Writes how many bytes wait to be written to *size: transport.get_write_buffer_size.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_transport_get_write_buffer_size(evl_transport *transport, size_t *size);

// Has another protocol be called from now on: transport.set_protocol. The table is copied. connection_made is
// not called again.
//
// The arg of the one before is released when none of its functions is on the stack; this arg after
// connection_lost, or when this function fails. On the loop's thread. Errors: EVL_EINVALIDSTATE (connection_lost
// was called), -EINVAL (NULL), EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_transport_set_protocol(evl_transport *transport,
                               const struct evl_protocol *protocol,
                               void *arg,
                               evl_free_fn arg_free);

// The descriptor, which stays the transport's; -EBADF when it is closed. transport.get_extra_info('pipe').
//
// Any thread. Errors: -EBADF, -EINVAL (NULL).
EVL_API int evl_transport_get_fd(const evl_transport *transport);

// Writes what the transport is, such as `<ReadPipeTransport fd=5 polling>`. Buffer rules as evl_future_repr.
//
// On the loop's thread. Errors: -EINVAL (NULL transport; buffer NULL and size not 0), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_transport_repr(evl_transport *transport, char *buffer, size_t size);

// Keeps a pointer of yours with the transport; the one before is released first. data_free (may be NULL) runs when
// it is replaced, with the transport's last reference, or when this function fails.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_transport_set_data(evl_transport *transport,
                           void *data,
                           evl_free_fn data_free);

// The pointer kept by evl_transport_set_data, or NULL. NULL gives NULL. Any thread.
EVL_API void *evl_transport_get_data(const evl_transport *transport);

// Reads from fd for a protocol: loop.connect_read_pipe. fd is a FIFO's or pipe's reading end, a socket, or a
// character device such as a terminal; it is made non-blocking, and from success on it is the transport's, which
// closes it.
//
// connection_made is called in the next iteration, then data_received; at the end eof_received (whose answer
// does not matter) and connection_lost(0). *out is your reference (out may be NULL: the loop keeps an open
// transport). protocol is copied; arg_free runs after connection_lost, on close of the loop, or when this
// function fails. On the loop's thread. Errors: -EINVAL (NULL loop or protocol; fd is none of these), -EBADF
// (fd is not open), EVL_EBUSY (fd is watched already), EVL_EOPTIONS (the table), -ENOMEM, EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_loop_connect_read_pipe(evl_loop *event_loop,
                               int fd,
                               const struct evl_protocol *protocol,
                               void *arg,
                               evl_free_fn arg_free,
                               evl_transport **out);

// Writes to fd for a protocol: loop.connect_write_pipe. Of the protocol, connection_made, pause_writing,
// resume_writing and connection_lost are called.
//
// When whoever reads has gone, connection_lost follows, with -EPIPE when something was left to be written.
// Writing never raises SIGPIPE. Everything else as evl_loop_connect_read_pipe.
EVL_API
int evl_loop_connect_write_pipe(evl_loop *event_loop,
                                int fd,
                                const struct evl_protocol *protocol,
                                void *arg,
                                evl_free_fn arg_free,
                                evl_transport **out);

// Fills options with the defaults. size is sizeof *options.
//
// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
// this library knows).
EVL_API
int evl_connect_options_init(struct evl_connect_options *options,
                             uint32_t size);

// Connects to a host for a protocol: loop.create_connection. The host is looked up, its addresses are tried, and
// the first that answers becomes a transport.
//
// The future's result (evl_future_result) is the evl_transport, the future's: take a reference by
// evl_transport_ref. It is done when connection_made was called. It fails with the look-up's error, or with that of
// the first address, and a message that lists them all. Cancelling it, or its timeout, gives up what is under way.
// TCP_NODELAY is set. protocol is copied; arg_free runs after connection_lost, when nothing could be connected, on
// close of the loop, or when this function fails. out may be NULL. On the loop's thread. Errors: -EINVAL (NULL loop,
// options, host, service or protocol), EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, and those of
// evl_loop_getaddrinfo.
EVL_API
int evl_loop_create_connection(evl_loop *event_loop,
                               const struct evl_connect_options *options,
                               const struct evl_protocol *protocol,
                               void *arg,
                               evl_free_fn arg_free,
                               evl_future **out);

// Connects to a unix socket for a protocol: loop.create_unix_connection. name has name_size bytes: a path, or an
// abstract name, which begins with a NUL byte (Linux).
//
// Everything else as evl_loop_create_connection; -ENAMETOOLONG (or empty), -EINVAL (a path with a NUL inside).
EVL_API
int evl_loop_create_unix_connection(evl_loop *event_loop,
                                    const char *name,
                                    size_t name_size,
                                    const struct evl_protocol *protocol,
                                    void *arg,
                                    evl_free_fn arg_free,
                                    evl_future **out);

// Makes a connected stream socket a transport: loop.connect_accepted_socket, and create_connection with sock. fd is
// made non-blocking, and from success on it is the transport's, which closes it.
//
// The future is done when connection_made was called. Everything else as evl_loop_create_connection; -EBADF,
// -ENOTSOCK, -EINVAL (no stream socket), EVL_EBUSY (fd is watched already).
EVL_API
int evl_loop_connect_accepted_socket(evl_loop *event_loop,
                                     int fd,
                                     const struct evl_protocol *protocol,
                                     void *arg,
                                     evl_free_fn arg_free,
                                     evl_future **out);

// Sends count bytes of the file file_fd, from offset on, or up to its end if that comes first, to the transport's
// peer, behind what is queued: loop.sendfile. count 0: up to its end. The result is how many bytes were sent
// (evl_future_result_int).
//
// A regular file or a block device goes to a stream socket by sendfile(2). Anything else (a pipe, a socket, a
// device as the file; a transport that is no socket; what the kernel refuses) is read in the loop's thread, a piece
// whenever there is room for it, and a file that has nothing yet is waited for; with fallback 0 that is
// EVL_ENOSENDFILE, of the call or of the future. The file must stay open until the future is done. Its own
// position is neither used nor moved (asyncio moves it), unless it has no others, where offset must be 0.
//
// Until the future is done, nothing is read (evl_transport_pause_reading and _resume_reading count from then on; the
// next read may come before the future's callbacks: pause before this call where it must not), and
// writing is EVL_EBUSY, as is a second sendfile. evl_transport_close and _write_eof wait for the file's end. A cancel
// ends it where it is; the transport goes on. When the connection is lost, the future fails with the code that
// connection_lost is told, or with -ECONNABORTED where that is 0. What fails of the file leaves the transport open.
// SIGPIPE is never raised. How much was sent of what has failed or was cancelled is not told.
//
// *out is your reference to the future, which may be done already; out may be NULL. On the loop's thread. Errors of
// the call, which then has sent nothing: -EPIPE (the transport is closing), EVL_EINVALIDSTATE (after write_eof),
// EVL_EBUSY (a file is being sent; file_fd has a reader), EVL_ENOSENDFILE, -EOPNOTSUPP (the transport only reads),
// -EBADF, -EISDIR, -ESPIPE, -EINVAL (NULL; offset or count negative; a transport of another loop), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_loop_sendfile(evl_loop *event_loop,
                      evl_transport *transport,
                      int file_fd,
                      int64_t offset,
                      int64_t count,
                      int fallback,
                      evl_future **out);

// Writes the address the transport's socket is bound to, a struct sockaddr, and returns how many bytes it has (more
// than size: it was cut). transport.get_extra_info('sockname'). evl_address_format makes it text.
//
// Any thread, while the transport is open. Errors: -EBADF (closed), -ENOTSOCK, -EINVAL (NULL; buffer NULL and size
// not 0).
EVL_API
int evl_transport_get_sockname(const evl_transport *transport,
                               void *buffer,
                               uint32_t size);

// Writes the address of the transport's peer, as evl_transport_get_sockname: get_extra_info('peername'). Once asked
// for, it is known as long as the transport is there.
//
// On the loop's thread. Errors: -ENOTCONN (the peer had gone before), -EBADF, -ENOTSOCK, -EINVAL (NULL; buffer NULL
// and size not 0), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_transport_get_peername(evl_transport *transport,
                               void *buffer,
                               uint32_t size);

// Fills options with the defaults. size is sizeof *options.
//
// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
// this library knows).
EVL_API
int evl_server_options_init(struct evl_server_options *options,
                            uint32_t size);

// Makes a TCP server: loop.create_server. Every address of every host is bound, but for those that this machine
// does not have if there are others; each connection gets a protocol made by factory, and a transport with
// TCP_NODELAY.
//
// The future's result (evl_future_result) is the evl_server, the future's: take a reference by evl_server_ref. With
// numeric hosts, or none, the future is done on return. While it serves, the loop keeps the server. options NULL: a
// free port on every interface. factory_arg is passed to factory; arg_free runs when the server is gone, or when
// this function fails. Accepting that fails for want of descriptors or memory is told to the exception handler, and
// tried again a second later. out may be NULL. On the loop's thread. Errors: -EINVAL (NULL loop or factory),
// EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, and those of evl_loop_getaddrinfo; the future's are the
// look-up's, and -EADDRINUSE, -EACCES and their like with a message.
EVL_API
int evl_loop_create_server(evl_loop *event_loop,
                           const struct evl_server_options *options,
                           evl_protocol_factory factory,
                           void *factory_arg,
                           evl_free_fn arg_free,
                           evl_future **out);

// Makes a server of a unix socket: loop.create_unix_server. name has name_size bytes: a path, or an abstract name,
// which begins with a NUL byte (Linux). A socket's file that is left at the path is replaced, even one that another
// server listens on; closing the server leaves its file there.
//
// Of the options, flags and backlog count. Everything else as evl_loop_create_server; failures are this function's
// codes, because nothing is looked up; -ENAMETOOLONG (or empty), -EINVAL (a path with a NUL inside).
EVL_API
int evl_loop_create_unix_server(evl_loop *event_loop,
                                const char *name,
                                size_t name_size,
                                const struct evl_server_options *options,
                                evl_protocol_factory factory,
                                void *factory_arg,
                                evl_free_fn arg_free,
                                evl_future **out);

// Makes a server of a stream socket that is bound: create_server with sock. fd is made non-blocking, and from
// success on it is the server's, which closes it.
//
// Everything else as evl_loop_create_unix_server; -EBADF, -ENOTSOCK, -EINVAL (no stream socket), EVL_EBUSY.
EVL_API
int evl_loop_create_server_from_socket(evl_loop *event_loop,
                                       int fd,
                                       const struct evl_server_options *options,
                                       evl_protocol_factory factory,
                                       void *factory_arg,
                                       evl_free_fn arg_free,
                                       evl_future **out);

// Takes another reference and returns server. NULL gives NULL. Any thread.
EVL_API evl_server *evl_server_ref(evl_server *server);

// Gives a reference back; NULL is ignored. A server that serves goes on: the loop and its connections keep it. Any
// thread.
EVL_API
void evl_server_unref(evl_server *server);

// The loop of the server: Server.get_loop. Borrowed. NULL for NULL. Any thread.
EVL_API evl_loop *evl_server_get_loop(const evl_server *server);

// Begins to take connections: Server.start_serving. One that serves already goes on.
//
// On the loop's thread. Errors: EVL_EINVALIDSTATE (closed), -EADDRINUSE and what else listening says, -EINVAL (NULL),
// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_server_start_serving(evl_server *server);

// Whether connections are taken: 1 or 0. Server.is_serving. NULL gives 0. On the loop's thread.
EVL_API int evl_server_is_serving(const evl_server *server);

// A future that is done when it is cancelled, which closes the server, or when the server is closed, which cancels
// it: Server.serve_forever. Connections are taken from here on.
//
// out may be NULL; else *out is your reference. On the loop's thread. Errors: EVL_EINVALIDSTATE (closed, or served
// forever already), and those of evl_server_start_serving.
EVL_API
int evl_server_serve_forever(evl_server *server,
                             evl_future **out);

// Takes no more connections and closes the listening sockets: Server.close. Connections go on.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_server_close(evl_server *server);

// Closes the transports of all connections (evl_transport_close): Server.close_clients. Returns how many there are.
//
// On the loop's thread. Errors as evl_server_close.
EVL_API
int evl_server_close_clients(evl_server *server);

// Aborts the transports of all connections (evl_transport_abort): Server.abort_clients. Returns how many there are.
//
// On the loop's thread. Errors as evl_server_close.
EVL_API
int evl_server_abort_clients(evl_server *server);

// A future that is done when the server is closed and its connections are gone: Server.wait_closed.
//
// out may be NULL; else *out is your reference. On the loop's thread. Errors as evl_server_close; -ENOMEM.
EVL_API int evl_server_wait_closed(evl_server *server, evl_future **out);

// Writes the descriptors of the listening sockets, at most capacity of them, and returns how many there are:
// Server.sockets. They stay the server's.
//
// On the loop's thread. Errors: -EINVAL (NULL; fds NULL and capacity not 0), EVL_ECLOSED, EVL_EWRONGTHREAD,
// EVL_EFORKED.
EVL_API int evl_server_sockets(evl_server *server, int *fds, size_t capacity);

// The port of the first listening socket that has one, in the machine's byte order: what "0" has become.
//
// On the loop's thread. Errors: -EBADF (closed), -EAFNOSUPPORT (no TCP), -EINVAL (NULL), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_server_port(evl_server *server);

// Keeps a pointer of yours with the server; the one before is released first. data_free (may be NULL) runs when it
// is replaced, with the server's last reference, or when this function fails.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_server_set_data(evl_server *server,
                        void *data,
                        evl_free_fn data_free);

// The pointer kept by evl_server_set_data, or NULL. NULL gives NULL. Any thread.
EVL_API void *evl_server_get_data(const evl_server *server);

// Connects to a host: asyncio.open_connection. Options, what the future fails with, and how it is cancelled, as
// evl_loop_create_connection.
//
// The future's result (evl_future_result) is the evl_stream, the future's: take a reference by evl_stream_ref. out
// may be NULL, which closes the stream once it is open. On the loop's thread. Errors as evl_loop_create_connection.
EVL_API
int evl_open_connection(evl_loop *event_loop,
                        const struct evl_connect_options *options,
                        evl_future **out);

// Connects to a unix socket: asyncio.open_unix_connection. name as evl_loop_create_unix_connection; everything else
// as evl_open_connection.
EVL_API
int evl_open_unix_connection(evl_loop *event_loop,
                             const char *name,
                             size_t name_size,
                             evl_future **out);

// Makes a connected stream socket a stream: asyncio.open_connection with sock. fd is made non-blocking, and from
// success on it is the stream's, which closes it.
//
// Errors as evl_loop_connect_accepted_socket; everything else as evl_open_connection.
EVL_API
int evl_open_connection_from_socket(evl_loop *event_loop,
                                    int fd,
                                    evl_future **out);

// Makes a TCP server whose connections are streams: asyncio.start_server. connected is called for each.
//
// Everything else as evl_loop_create_server, with arg in the place of factory_arg.
EVL_API
int evl_start_server(evl_loop *event_loop,
                     const struct evl_server_options *options,
                     evl_connected_fn connected,
                     void *arg,
                     evl_free_fn arg_free,
                     evl_future **out);

// Makes a server of a unix socket whose connections are streams: asyncio.start_unix_server. connected is called for
// each.
//
// Everything else as evl_loop_create_unix_server, with arg in the place of factory_arg.
EVL_API
int evl_start_unix_server(evl_loop *event_loop,
                          const char *name,
                          size_t name_size,
                          const struct evl_server_options *options,
                          evl_connected_fn connected,
                          void *arg,
                          evl_free_fn arg_free,
                          evl_future **out);

// Makes a server of a stream socket that is bound, whose connections are streams: asyncio.start_server with sock.
// connected is called for each.
//
// Everything else as evl_loop_create_server_from_socket, with arg in the place of factory_arg.
EVL_API
int evl_start_server_from_socket(evl_loop *event_loop,
                                 int fd,
                                 const struct evl_server_options *options,
                                 evl_connected_fn connected,
                                 void *arg,
                                 evl_free_fn arg_free,
                                 evl_future **out);

// Makes a stream of a transport that is open: one of evl_loop_create_connection, a server's, a pipe's (standard
// input, say). The stream becomes its protocol, as by evl_transport_set_protocol.
//
// *out is your reference. A transport that only writes gives a stream that cannot be read, and one that only reads
// gives one that cannot be written. On the loop's thread. Errors: EVL_EINVALIDSTATE (connection_lost was called),
// -EOPNOTSUPP (a pipe of a process), -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_stream_from_transport(evl_transport *transport,
                              evl_stream **out);

// Takes another reference and returns stream. NULL gives NULL. Any thread.
EVL_API evl_stream *evl_stream_ref(evl_stream *stream);

// Gives a reference back; NULL is ignored. The last one closes the stream, as evl_stream_close does. Operations that
// are under way, futures whose result it is, and tasks of evl_stream_create_task have references, too. Any thread.
EVL_API
void evl_stream_unref(evl_stream *stream);

// The loop of the stream. Borrowed. NULL for NULL. Any thread.
EVL_API evl_loop *evl_stream_get_loop(const evl_stream *stream);

// The transport beneath: StreamWriter.transport. Borrowed: valid as long as the stream. It tells addresses and
// descriptor, has a pointer of yours (evl_transport_set_data), sets limits of writing, takes memory of yours
// (evl_transport_write_owned), and can be aborted. NULL for NULL. Any thread.
EVL_API
evl_transport *evl_stream_get_transport(const evl_stream *stream);

// Makes a task that serves the stream (evl_loop_create_task): a client_connected_cb that is a coroutine. The stream
// stays valid until the task is done.
//
// When the task fails, the exception handler is told, and the stream closed; also when it is cancelled. When it is
// done, the reference it had is given back: a stream that nobody else uses is closed. out may be NULL; else *out is
// your reference. arg_free runs exactly once: when the task is done, on close, or when this function fails. On the
// loop's thread. Errors: -EINVAL (NULL stream or step), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_stream_create_task(evl_stream *stream,
                           evl_step_fn step,
                           void *arg,
                           evl_free_fn arg_free,
                           evl_task **out);

// Writes size bytes: StreamWriter.write. Never waits: what the system does not take is copied, and
// evl_stream_drain tells when there is room again.
//
// Thread and errors as evl_transport_write.
EVL_API int evl_stream_write(evl_stream *stream, const void *data, size_t size);

// Writes the bytes of count buffers, in their order: StreamWriter.writelines. Everything else as evl_stream_write.
EVL_API
int evl_stream_writelines(evl_stream *stream,
                          const struct evl_buffer *buffers,
                          size_t count);

// Writes no more, and goes on reading: StreamWriter.write_eof. What is queued is written first.
//
// Thread and errors as evl_transport_write_eof.
EVL_API int evl_stream_write_eof(evl_stream *stream);

// Whether evl_stream_write_eof can be used: 1 or 0. StreamWriter.can_write_eof. NULL gives 0. Any thread.
EVL_API int evl_stream_can_write_eof(const evl_stream *stream);

// A future that is done when there is room to write: StreamWriter.drain. It is done on return unless more than the
// transport's high limit waits to be written; then when no more than the low one does.
//
// "evl_stream_write(stream, line, size); return evl_stream_drain(stream, next);" keeps a task from filling the memory
// for a peer that does not read. It fails with what the connection was lost by, or -ECONNRESET when it was closed.
// Many may drain at once. out may be NULL. On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_stream_drain(evl_stream *stream,
                     evl_future **out);

// Closes the stream: StreamWriter.close. What is queued is written first; nothing more is read. A read that waits is
// ended as by the end of the stream.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_stream_close(evl_stream *stream);

// Whether the stream is closing or closed: 1 or 0. StreamWriter.is_closing. NULL gives 0. Any thread.
EVL_API int evl_stream_is_closing(const evl_stream *stream);

// A future that is done when the connection is closed: StreamWriter.wait_closed. It fails with what the connection
// was lost by, if that was a failure.
//
// It does not close: see evl_stream_close. out may be NULL. Thread and errors as evl_stream_drain.
EVL_API
int evl_stream_wait_closed(evl_stream *stream,
                           evl_future **out);

// What the connection was lost by: a negative code, or 0: it is not lost, or was closed in an orderly way.
// StreamReader.exception.
//
// On the loop's thread. Errors: -EINVAL (NULL).
EVL_API int evl_stream_get_error(const evl_stream *stream);

// Reads what there is, at most size bytes, and waits only when there is nothing: StreamReader.read. Negative: all up
// to the end of the stream. The result is bytes (evl_future_result_bytes); none at the end, and for size 0.
//
// As all that read from streams: the future is done on return when what is wanted has come already. One read may
// wait, not more. One that is cancelled, or out of time (evl_future_set_timeout), leaves all in the stream for the
// next one. The bytes have a NUL after them that does not count. Once the connection is lost for a reason
// (evl_stream_get_error), reads fail with that, even when something lies unread. out may be NULL. On the loop's thread.
// Errors: EVL_EBUSY (another read waits), -EOPNOTSUPP (the stream only writes), -EINVAL (NULL), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOMEM.
EVL_API
int evl_stream_read(evl_stream *stream,
                    int64_t size,
                    evl_future **out);

// evl_stream_read into memory of yours, at most size bytes. The result is how many (evl_future_result_int); 0 at the
// end, and for size 0.
//
// buffer is evl's until the future is done. Everything else as evl_stream_read; -EINVAL also when buffer is NULL and
// size not 0.
EVL_API
int evl_stream_read_into(evl_stream *stream,
                         void *buffer,
                         size_t size,
                         evl_future **out);

// Reads size bytes, not less: StreamReader.readexactly. The result is bytes (evl_future_result_bytes).
//
// When the stream ends before, the future fails with EVL_EINCOMPLETE, and evl_future_error_bytes has what there was;
// at the very end that is nothing. size may be more than the stream's limit. Everything else as evl_stream_read.
EVL_API
int evl_stream_read_exactly(evl_stream *stream,
                            size_t size,
                            evl_future **out);

// evl_stream_read_exactly into memory of yours. The result is size (evl_future_result_int). When it is not all read,
// the memory's content is undefined.
//
// buffer is evl's until the future is done. Everything else as evl_stream_read_exactly; -EINVAL also when buffer is
// NULL and size not 0.
EVL_API
int evl_stream_read_exactly_into(evl_stream *stream,
                                 void *buffer,
                                 size_t size,
                                 evl_future **out);

// Reads up to a separator of separator_size bytes, which is copied: StreamReader.readuntil. The result is bytes with
// the separator at their end (evl_future_result_bytes).
//
// When the stream ends before, the future fails with EVL_EINCOMPLETE, and evl_future_error_bytes has what there was.
// When more than the stream's limit comes before the separator, it fails with EVL_EOVERRUN, all stays in the stream,
// and evl_future_error_bytes tells how much can be read by evl_stream_read. Everything else as evl_stream_read;
// -EINVAL also when separator is NULL or has no bytes.
EVL_API
int evl_stream_read_until(evl_stream *stream,
                          const void *separator,
                          size_t separator_size,
                          evl_future **out);

// Reads a line: StreamReader.readline. The result is bytes with the newline at their end (evl_future_result_bytes);
// the last line may have none, and at the end there are no bytes at all.
//
// A line that is longer than the stream's limit fails with EVL_EOVERRUN, and as much of it as has come is dropped.
// Everything else as evl_stream_read.
EVL_API
int evl_stream_read_line(evl_stream *stream,
                         evl_future **out);

// Whether the stream has ended, and all was read: 1 or 0. StreamReader.at_eof. NULL gives 0. On the loop's thread.
EVL_API
int evl_stream_at_eof(const evl_stream *stream);

// Sets the limit of the stream, which is 64 KiB at first: how long a line may be, and what comes before a separator.
// The peer has to wait while more than twice as much lies unread.
//
// On the loop's thread. Errors: -EINVAL (NULL; 0), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_stream_set_limit(evl_stream *stream,
                         size_t limit);

// The limit of the stream. NULL gives 0. On the loop's thread.
EVL_API size_t evl_stream_get_limit(const evl_stream *stream);

// Fills options with the defaults. size is sizeof *options.
//
// Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (size is smaller than the size field itself, or larger than
// this library knows).
EVL_API
int evl_datagram_options_init(struct evl_datagram_options *options,
                              uint32_t size);

// Makes a datagram endpoint: loop.create_datagram_endpoint. Hosts are looked up, and the first addresses that the
// socket can be bound and connected to are taken.
//
// The future's result (evl_future_result) is the evl_datagram, the future's: take a reference by evl_datagram_ref. It
// is done when connection_made was called. It fails with the look-up's error, or with that of the first address.
// Cancelling it, or its timeout, closes the endpoint. protocol is copied; arg_free runs after connection_lost, when
// nothing could be made, on close of the loop, or when this function fails. out may be NULL. On the loop's thread.
// Errors: -EINVAL (NULL loop, options or protocol; no address and no family), EVL_EOPTIONS, EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, and those of evl_loop_getaddrinfo.
EVL_API
int evl_loop_create_datagram_endpoint(evl_loop *event_loop,
                                      const struct evl_datagram_options *options,
                                      const struct evl_datagram_protocol *protocol,
                                      void *arg,
                                      evl_free_fn arg_free,
                                      evl_future **out);

// Makes a datagram endpoint of unix sockets: loop.create_datagram_endpoint with AF_UNIX. local has local_size bytes,
// what the socket is bound to: a path, whose socket of an earlier program is removed, or an abstract name, which
// begins with a NUL byte (Linux); NULL with 0: not bound. remote is what it is connected to, likewise.
//
// Everything else as evl_loop_create_datagram_endpoint; -ENAMETOOLONG, and those of bind and connect.
EVL_API
int evl_loop_create_unix_datagram_endpoint(evl_loop *event_loop,
                                           const char *local,
                                           size_t local_size,
                                           const char *remote,
                                           size_t remote_size,
                                           const struct evl_datagram_protocol *protocol,
                                           void *arg,
                                           evl_free_fn arg_free,
                                           evl_future **out);

// Makes a datagram socket an endpoint: loop.create_datagram_endpoint with sock. fd is made non-blocking, and from
// success on it is the endpoint's, which closes it. If it is connected, that is the remote address.
//
// Everything else as evl_loop_create_datagram_endpoint; -EBADF, -ENOTSOCK, -EINVAL (no datagram socket), EVL_EBUSY (fd
// is watched already).
EVL_API
int evl_loop_create_datagram_endpoint_fd(evl_loop *event_loop,
                                         int fd,
                                         const struct evl_datagram_protocol *protocol,
                                         void *arg,
                                         evl_free_fn arg_free,
                                         evl_future **out);

// Takes another reference and returns datagram. NULL gives NULL. Any thread.
EVL_API evl_datagram *evl_datagram_ref(evl_datagram *datagram);

// Gives a reference back; NULL is ignored. An open endpoint goes on without you: the loop keeps it until
// connection_lost was called. Any thread.
EVL_API void evl_datagram_unref(evl_datagram *datagram);

// The loop the endpoint belongs to. Borrowed. NULL for NULL. Any thread.
EVL_API evl_loop *evl_datagram_get_loop(const evl_datagram *datagram);

// Sends size bytes: transport.sendto. address is a struct sockaddr of address_size bytes; NULL with 0: the remote
// address. If the kernel has no room, bytes and address are copied, and sent when it has. size 0 sends an empty
// datagram, as newer versions of asyncio do. What datagram_received sends is copied, too, when several datagrams
// have come at once: it is handed to the kernel, as evl_datagram_send_batch does, once the last was told.
//
// A datagram that cannot be sent is lost, and error_received tells why. On the loop's thread. Errors: -EPIPE (the
// endpoint is closing), -EDESTADDRREQ (no address, and no remote one), -EINVAL (NULL; an address of a wrong size;
// one that is not the remote one), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_datagram_sendto(evl_datagram *datagram,
                        const void *data,
                        size_t size,
                        const void *address,
                        uint32_t address_size);

// evl_datagram_sendto of count datagrams, in their order, with as few system calls as can be: neighbours of one size
// and for one address are handed to the kernel as one (UDP_SEGMENT), where it can do that.
//
// What is wrong with one is an error for all: none is sent. messages may be NULL when count is 0. Thread and errors as
// evl_datagram_sendto.
EVL_API
int evl_datagram_send_batch(evl_datagram *datagram,
                            const struct evl_datagram_message *messages,
                            size_t count);

// Closes the endpoint: transport.close. Nothing is received any more; what is queued is sent, and then
// connection_lost(0) follows by the ready queue, and the descriptor is closed. Closing twice is closing once.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_datagram_close(evl_datagram *datagram);

// Closes the endpoint without sending what is queued: transport.abort. connection_lost(0) follows by the ready
// queue. Thread and errors as evl_datagram_close.
EVL_API
int evl_datagram_abort(evl_datagram *datagram);

// Whether the endpoint is closing or closed: 1 or 0. transport.is_closing. NULL gives 0. Any thread.
EVL_API int evl_datagram_is_closing(const evl_datagram *datagram);

// Sets when the protocol is told to pause and to resume writing: transport.set_write_buffer_limits. Negative is
// the default: of high four times low, or 64 KiB when both are; of low a quarter of high.
//
// On the loop's thread. Errors: -EINVAL (NULL; low above high), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_datagram_set_write_buffer_limits(evl_datagram *datagram,
                                         int64_t high,
                                         int64_t low);

// Reads the limits (either output may be NULL): transport.get_write_buffer_limits. Thread and errors as
// evl_datagram_set_write_buffer_limits.
EVL_API int evl_datagram_get_write_buffer_limits(evl_datagram *datagram, size_t *high, size_t *low);

// Writes how many bytes wait to be sent to *size (an empty datagram counts as one):
// transport.get_write_buffer_size.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_datagram_get_write_buffer_size(evl_datagram *datagram, size_t *size);

// Has another protocol be called from now on, in the context of the first: transport.set_protocol. The table is
// copied. connection_made is not called again.
//
// The arg of the one before is released when none of its functions is on the stack; this arg after connection_lost,
// or when this function fails. On the loop's thread. Errors: EVL_EINVALIDSTATE (connection_lost was called), -EINVAL
// (NULL), EVL_EOPTIONS, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_datagram_set_protocol(evl_datagram *datagram,
                              const struct evl_datagram_protocol *protocol,
                              void *arg,
                              evl_free_fn arg_free);

// The descriptor, which stays the endpoint's. transport.get_extra_info('socket').
//
// Any thread. Errors: -EBADF (closed), -EINVAL (NULL).
EVL_API int evl_datagram_get_fd(const evl_datagram *datagram);

// Writes the address the socket is bound to, a struct sockaddr, and returns how many bytes it has (more than size: it
// was cut). transport.get_extra_info('sockname'). evl_address_format makes it text.
//
// Any thread, while the endpoint is open. Errors: -EBADF (closed), -EINVAL (NULL; buffer NULL and size not 0).
EVL_API
int evl_datagram_get_sockname(const evl_datagram *datagram,
                              void *buffer,
                              uint32_t size);

// Writes the address the socket is connected to, as evl_datagram_get_sockname: get_extra_info('peername'). It is known
// as long as the endpoint is there.
//
// Any thread. Errors: -ENOTCONN (not connected), -EINVAL (NULL; buffer NULL and size not 0).
EVL_API
int evl_datagram_get_peername(const evl_datagram *datagram,
                              void *buffer,
                              uint32_t size);

// Writes what the endpoint is, such as `<Datagram fd=5 bufsize=0>`. Buffer rules as evl_future_repr.
//
// On the loop's thread. Errors: -EINVAL (NULL datagram; buffer NULL and size not 0), EVL_ECLOSED, EVL_EWRONGTHREAD,
// EVL_EFORKED.
EVL_API
int evl_datagram_repr(evl_datagram *datagram,
                      char *buffer,
                      size_t size);

// Keeps a pointer of yours with the endpoint; the one before is released first. data_free (may be NULL) runs when
// it is replaced, with the endpoint's last reference, or when this function fails.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_datagram_set_data(evl_datagram *datagram,
                          void *data,
                          evl_free_fn data_free);

// The pointer kept by evl_datagram_set_data, or NULL. NULL gives NULL. Any thread.
EVL_API void *evl_datagram_get_data(const evl_datagram *datagram);

// Looks up the addresses of a host and a service: loop.getaddrinfo. host is a name or a numeric address, service a
// name or a port in digits; one of them may be NULL. hints NULL: anything.
//
// The future's result (evl_future_result) is an evl_addresses, valid as long as the future. A host in the usual
// numbers with a service in digits, or none, is answered at once: the future is done on return. Anything else asks
// the system on the default executor; a cancel or timeout ends the future at once, and a late answer is dropped.
// The future's error is one of EVL_EAI_..., or a system error. out may be NULL. On the loop's thread. Errors:
// -EINVAL (NULL loop), EVL_EOPTIONS (hints), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, and those of
// evl_loop_run_in_executor.
EVL_API
int evl_loop_getaddrinfo(evl_loop *event_loop,
                         const char *host,
                         const char *service,
                         const struct evl_address_hints *hints,
                         evl_future **out);

// How many addresses there are: at least 1. Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_addresses_count(const evl_addresses *addresses);

// Describes the address at index, the first of which is 0 and the best one to try. out is a struct whose size is
// set; what it points to is the future's.
//
// Any thread. Errors: -EINVAL (NULL), -ENOENT (there are not so many), EVL_EOPTIONS (the struct's size).
EVL_API
int evl_addresses_get(const evl_addresses *addresses,
                      size_t index,
                      struct evl_address_info *out);

// Looks up the names of an address: loop.getnameinfo. address is a struct sockaddr of address_size bytes, which is
// copied; flags are the system's NI_....
//
// evl_future_result_names reads the result. With NI_NUMERICHOST and NI_NUMERICSERV it is answered at once;
// otherwise, errors, cancelling and threads are as evl_loop_getaddrinfo's. Errors: -EINVAL also when address is
// NULL.
EVL_API
int evl_loop_getnameinfo(evl_loop *event_loop,
                         const void *address,
                         uint32_t address_size,
                         int flags,
                         evl_future **out);

// evl_future_result of evl_loop_getnameinfo: the host's name and the service's, or their numbers. The strings are
// the future's. host and service may be NULL.
//
// Any thread. Errors as evl_future_result; -EINVAL also when the result is no names.
EVL_API
int evl_future_result_names(const evl_future *future,
                            const char **host,
                            const char **service);

// Writes the struct sockaddr of a numeric address ("127.0.0.1", "::1", "fe80::1%eth0") and a port to buffer, and
// returns its size.
//
// Any thread. Errors: -EINVAL (NULL; text is no numeric address; no port), -ENOSPC (buffer has less than that;
// sizeof(struct sockaddr_in6) is always enough).
EVL_API
int evl_address_parse(const char *text,
                      int port,
                      void *buffer,
                      uint32_t buffer_size);

// Writes a struct sockaddr as text: the numbers of IPv4 and IPv6 (with a scope as a number), the path of a unix
// socket ("@name" of an abstract one, nothing of an unnamed one). *port (port may be NULL) becomes the port, 0 of
// a unix socket.
//
// Fills buffer with at most size bytes including the NUL and returns the whole length without it. buffer may be
// NULL when size is 0. Any thread. Errors: -EINVAL (NULL), -EAFNOSUPPORT (another family, or too few bytes).
EVL_API
int evl_address_format(const void *address,
                       uint32_t address_size,
                       char *buffer,
                       size_t size,
                       int *port);

// Makes a child watcher that waits on descriptors of children: asyncio.PidfdChildWatcher. Where the system has
// none, or does not permit them, it starts a thread a child, and says so in debug mode.
//
// *out is yours. Any thread. Errors: -EINVAL (NULL).
EVL_API
int evl_child_watcher_new_pidfd(evl_child_watcher **out);

// Makes a child watcher that starts a thread a child: asyncio.ThreadedChildWatcher.
//
// *out is yours. Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_child_watcher_new_threaded(evl_child_watcher **out);

// Makes a child watcher out of functions of yours; the table is copied. arg is passed to them.
//
// arg_free runs with the watcher's last reference, or when this function fails. *out is yours. Any thread.
// Errors: -EINVAL (NULL vtable or out), EVL_EOPTIONS (the table's size).
EVL_API
int evl_child_watcher_new(const struct evl_child_watcher_vtable *vtable,
                          void *arg,
                          evl_free_fn arg_free,
                          evl_child_watcher **out);

// Takes another reference and returns watcher. NULL gives NULL. Any thread.
EVL_API evl_child_watcher *evl_child_watcher_ref(evl_child_watcher *watcher);

// Gives a reference back; NULL is ignored. Children that are being watched go on being watched. Any thread.
EVL_API void evl_child_watcher_unref(evl_child_watcher *watcher);

// Has callback called when the child pid, of this process, has ended: add_child_handler. It is called by the loop,
// in the context that is current now, once. A callback that the child had before is replaced.
//
// Nobody else may reap the child; SIGCHLD is not touched, and may not be ignored by you. arg_free runs after the
// call, on removal or replacement, on close of the loop, or when this function fails. On the loop's thread.
// Errors: -EINVAL (NULL watcher, loop or callback; pid is not positive), EVL_ESHUTDOWN (the watcher is closed),
// EVL_EBUSY (another loop waits for the child), -EAGAIN (no thread can be started), EVL_ENOTIMPLEMENTED,
// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_child_watcher_add_child_handler(evl_child_watcher *watcher,
                                        evl_loop *event_loop,
                                        int pid,
                                        evl_child_callback callback,
                                        void *arg,
                                        evl_free_fn arg_free);

// Takes the callback of a child away: remove_child_handler. Returns 1, or 0 when there was none. A thread that waits
// for the child goes on, and reaps it.
//
// On the thread of the callback's loop. Errors: -EINVAL (NULL), EVL_EWRONGTHREAD, EVL_EFORKED,
// EVL_ENOTIMPLEMENTED.
EVL_API
int evl_child_watcher_remove_child_handler(evl_child_watcher *watcher,
                                           int pid);

// Whether children can be watched: 1, or 0 when it is closed. is_active. NULL gives 0. Any thread.
EVL_API int evl_child_watcher_is_active(const evl_child_watcher *watcher);

// Takes no more children. Those that are being watched go on being watched.
//
// Any thread. Errors: -EINVAL (NULL), what the table returns.
EVL_API int evl_child_watcher_close(evl_child_watcher *watcher);

// Fills options with defaults: zeros.
//
// size is sizeof(evl_process_options). Any thread. Errors: -EINVAL (NULL), EVL_EOPTIONS (the size).
EVL_API int evl_process_options_init(struct evl_process_options *options, uint32_t size);

// Starts a child: loop.subprocess_exec. It has default signal dispositions, an empty mask, and of this process's
// descriptors those that options gives it. Its end is heard of by the policy's child watcher; SIGCHLD is not touched.
//
// protocol is copied, and may be NULL: then what the child writes into pipes is read by evl_process_communicate
// only. The loop keeps the process until connection_lost; one with pipes that nobody reads, until it is closed. *out
// is your reference (out may be NULL). arg_free runs after connection_lost, on close of the loop (which kills a
// child that runs), or when this function fails. On the loop's thread.
//
// What keeps the program from being executed is this function's error, and no child is left: -ENOENT (no such
// program or directory), -EACCES, -ENOEXEC, -E2BIG and what else execve, chdir, setpgid, setuid say, or what child_setup
// returned; evl_error_detail names it.
// Other errors: -EINVAL (NULL loop or options, no argv, an unknown mode), -EBADF (a descriptor that is not open),
// -EMFILE, -ENFILE, -EAGAIN (no more processes), EVL_EOPTIONS, EVL_ESHUTDOWN (the child watcher is closed), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_loop_subprocess_exec(evl_loop *event_loop,
                             const struct evl_process_options *options,
                             const struct evl_process_protocol *protocol,
                             void *arg,
                             evl_free_fn arg_free,
                             evl_process **out);

// Starts /bin/sh -c command: loop.subprocess_shell. options may be NULL; its argv is not used.
//
// Everything else as evl_loop_subprocess_exec; -EINVAL also when command is NULL.
EVL_API
int evl_loop_subprocess_shell(evl_loop *event_loop,
                              const char *command,
                              const struct evl_process_options *options,
                              const struct evl_process_protocol *protocol,
                              void *arg,
                              evl_free_fn arg_free,
                              evl_process **out);

// Takes another reference and returns process. NULL gives NULL. Any thread.
EVL_API evl_process *evl_process_ref(evl_process *process);

// Gives a reference back; NULL is ignored. The child goes on without you. Any thread.
EVL_API void evl_process_unref(evl_process *process);

// The loop the process belongs to. Borrowed. NULL for NULL. Any thread.
EVL_API evl_loop *evl_process_get_loop(const evl_process *process);

// The child's process number: transport.get_pid. Once it has ended, the number may be another process's. Any
// thread. Errors: -EINVAL (NULL).
EVL_API int evl_process_get_pid(const evl_process *process);

// Writes how the child has ended to *returncode: transport.get_returncode. Its exit status, or the negative number
// of the signal that killed it; 255 when somebody else has reaped it.
//
// Any thread. Errors: EVL_EINVALIDSTATE (the loop has not heard of its end), -EINVAL (NULL).
EVL_API
int evl_process_get_returncode(const evl_process *process,
                               int *returncode);

// The transport of the pipe that is the child's descriptor fd (0, 1 or 2): transport.get_pipe_transport. Borrowed
// from the process. NULL when that is no pipe, and for NULL. Any thread.
//
// Write to the child by evl_transport_write on 0, and end its input by evl_transport_close. Its protocol is the
// process's: leave it alone.
EVL_API
evl_transport *evl_process_get_pipe_transport(const evl_process *process,
                                              int fd);

// Sends the child a signal: transport.send_signal. No other process can be hit.
//
// On the loop's thread. Errors: -ESRCH (the child has ended and was reaped), -EINVAL (NULL; no such signal),
// -EPERM, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_process_send_signal(evl_process *process, int signal_number);

// Sends SIGTERM: transport.terminate. Thread and errors as evl_process_send_signal.
EVL_API int evl_process_terminate(evl_process *process);

// Sends SIGKILL: transport.kill. Thread and errors as evl_process_send_signal.
EVL_API int evl_process_kill(evl_process *process);

// Waits until the child has ended: Process.wait. The future's result is the returncode (evl_future_result_int).
// Pipes may still bring something. Cancelling it leaves the child alone.
//
// *out is your reference (out may be NULL). On the loop's thread. Errors: -EINVAL (NULL process), EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_process_wait(evl_process *process,
                     evl_future **out);

// Writes input to the child, ends its input, and collects what it writes, until it has ended and its pipes are
// closed: Process.communicate. evl_future_result_output reads what was collected; the protocol's
// pipe_data_received is not called meanwhile. A child that does not read all of its input is no failure.
//
// input stays as it is until the future is done; it may be NULL when size is 0. Cancelling leaves the child alone;
// what was collected is lost. *out is your reference (out may be NULL). On the loop's thread. Errors: -EINVAL
// (NULL process; input for a child whose stdin is no pipe), EVL_EINVALIDSTATE (it is under way already),
// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED. The future's errors: -ENOMEM, and what
// reading the child's output or writing its input failed with (but for a child that does not read it).
EVL_API
int evl_process_communicate(evl_process *process,
                            const void *input,
                            size_t size,
                            evl_future **out);

// Reads what evl_process_communicate has collected of the child's descriptor fd, 1 or 2. The bytes stay the
// future's. size may be NULL.
//
// Any thread. Errors as evl_future_result; -EINVAL also when the future is another one's, fd is neither, or data is
// NULL.
EVL_API
int evl_future_result_output(const evl_future *future,
                             int fd,
                             const void **data,
                             size_t *size);

// Closes the pipes, and kills a child that runs: transport.close. process_exited and connection_lost follow.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_process_close(evl_process *process);

// Whether the process is closed, or all is over: 1 or 0. transport.is_closing. NULL gives 0. Any thread.
EVL_API int evl_process_is_closing(const evl_process *process);

// Writes what the process is, such as `<SubprocessTransport pid=4711 running>`. Buffer rules as evl_future_repr.
// Any thread.
EVL_API
int evl_process_repr(const evl_process *process,
                     char *buffer,
                     size_t size);

// Keeps a pointer of yours with the process; the one before is released first. data_free (may be NULL) runs when it
// is replaced, with the process's last reference, or when this function fails.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_process_set_data(evl_process *process,
                         void *data,
                         evl_free_fn data_free);

// The pointer kept by evl_process_set_data, or NULL. NULL gives NULL. Any thread.
EVL_API void *evl_process_get_data(const evl_process *process);

// Prepares for a host that waits on evl_loop_fd by its own means: call it right before the host blocks.
//
// Returns 1 when work is ready, so that the host must not block but call evl_loop_run_once(loop, 0); else 0,
// and *deadline_ns (may be NULL) is the time of the next timer (by evl_loop_time; with very many timers it may
// be earlier), or EVL_FOREVER. On the loop's thread, outside of its callbacks. Errors: EVL_ERUNNING, -EINVAL,
// EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED, EVL_EPANIC.
EVL_API
int evl_loop_prepare(evl_loop *event_loop,
                     int64_t *deadline_ns);

// The deadline of the next timer, or EVL_FOREVER: for programs that move a manual clock, also in wait hooks.
// Exact; looks through all timers.
//
// On the loop's thread. Errors: -EINVAL (NULL), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API int evl_loop_next_deadline(evl_loop *event_loop, int64_t *deadline_ns);

// Returns a descriptor that is readable when the loop has events: descriptors, signals, posts of other
// threads; with EVL_LOOP_FD_DEADLINES also due timers. The loop owns it; only wait for it to be readable.
//
// It changes when evl_loop_after_fork is called. On the loop's thread. Errors: -EINVAL, EVL_ECLOSED,
// EVL_EWRONGTHREAD, EVL_EFORKED, -ENOSYS (this platform's poller has none).
EVL_API int evl_loop_fd(evl_loop *event_loop);

// Sets functions that are called right before and right after the loop waits in the operating system, where a
// language releases its lock. They are not called round a poll that does not wait.
//
// before is called once for each wait. It may schedule, stop the loop, or advance a manual clock: then the
// loop looks at its deadlines again before it waits. They are no callbacks: evl_raise answers
// EVL_ENOTINCALLBACK. Either may be NULL. arg_free runs when the hooks are replaced or the loop is closed, or
// when this function fails. On the loop's thread. Errors: -EINVAL, EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_loop_set_wait_hooks(evl_loop *event_loop,
                            evl_callback before,
                            evl_callback after,
                            void *arg,
                            evl_free_fn arg_free);

// Shows what is registered now: ready callbacks, timers in the order of their deadlines, readers and writers,
// signal handlers.
//
// visit may cancel what it is shown. Returns 0, or what visit returned to stop the walk. On the loop's thread.
// Errors: -EINVAL (NULL loop or visit), EVL_ECLOSED, EVL_EWRONGTHREAD, EVL_EFORKED.
EVL_API
int evl_loop_walk(evl_loop *event_loop,
                  evl_walk_fn visit,
                  void *arg);

// Makes a default policy: a loop per thread, made by factory (NULL: evl_loop_new with default options).
// asyncio.DefaultEventLoopPolicy with a _loop_factory.
//
// arg is passed to factory; arg_free runs with the policy's last reference, or when this function fails. *out
// is yours. Any thread. Errors: -EINVAL (out is NULL), EVL_EPANIC.
EVL_API
int evl_policy_new_default(evl_loop_factory factory,
                           void *arg,
                           evl_free_fn arg_free,
                           evl_policy **out);

// Makes a policy out of functions of yours; the table is copied. arg is passed to them.
//
// arg_free runs with the policy's last reference, or when this function fails. *out is yours. Any thread.
// Errors: -EINVAL (NULL vtable or out), EVL_EOPTIONS (the table's size), EVL_EPANIC.
EVL_API
int evl_policy_new(const struct evl_policy_vtable *vtable,
                   void *arg,
                   evl_free_fn arg_free,
                   evl_policy **out);

// Takes another reference and returns policy. NULL gives NULL. Any thread.
EVL_API evl_policy *evl_policy_ref(evl_policy *policy);

// Gives a reference back; NULL is ignored. The last one releases the loops the policy keeps. Any thread.
EVL_API void evl_policy_unref(evl_policy *policy);

// The policy's loop of this thread: AbstractEventLoopPolicy.get_event_loop. *out is a reference of yours.
//
// A default policy makes a loop only on the main thread, and only if evl_policy_set_loop was never called
// there (with NULL counts as called). Any thread. Errors: EVL_ENOLOOP, -EINVAL (NULL), EVL_ENOTIMPLEMENTED,
// what the factory or table returns (EVL_ENOLOOP when it returns 0 without a loop).
EVL_API int evl_policy_get_loop(evl_policy *policy, evl_loop **out);

// Makes event_loop (NULL: none) the policy's loop of this thread: AbstractEventLoopPolicy.set_event_loop. The
// policy takes a reference of its own, and gives it back when the loop is replaced, the thread ends or the
// policy goes.
//
// Any thread. Errors: -EINVAL (NULL policy), EVL_ENOTIMPLEMENTED, what the table returns.
EVL_API int evl_policy_set_loop(evl_policy *policy, evl_loop *event_loop);

// Makes a loop as the policy makes them: AbstractEventLoopPolicy.new_event_loop. *out is yours; the thread's
// loop is not touched.
//
// Any thread. Errors: -EINVAL (NULL), EVL_ENOTIMPLEMENTED, what the factory or table returns.
EVL_API int evl_policy_new_loop(evl_policy *policy, evl_loop **out);

// The policy's child watcher: AbstractEventLoopPolicy.get_child_watcher. *out is a reference of yours. A default
// policy makes one on pidfds when first asked.
//
// Any thread. Errors: -EINVAL (NULL), EVL_ENOTIMPLEMENTED, what the table returns.
EVL_API
int evl_policy_get_child_watcher(evl_policy *policy,
                                 evl_child_watcher **out);

// Makes watcher the policy's: AbstractEventLoopPolicy.set_child_watcher. The policy takes a reference of its own.
// NULL: a default policy makes a new one on the next use. Children that are being watched stay with the watcher
// they have.
//
// Any thread. Errors: -EINVAL (NULL policy), EVL_ENOTIMPLEMENTED, what the table returns.
EVL_API
int evl_policy_set_child_watcher(evl_policy *policy,
                                 evl_child_watcher *watcher);

// Keeps a pointer of yours with the policy; the one before is released first. data_free (may be NULL) runs
// when it is replaced, with the policy's last reference, or when this function fails. Any thread. Errors:
// -EINVAL (NULL policy).
EVL_API int evl_policy_set_data(evl_policy *policy, void *data, evl_free_fn data_free);

// The pointer kept by evl_policy_set_data, or NULL. NULL gives NULL. Any thread.
EVL_API void *evl_policy_get_data(const evl_policy *policy);

// The process's policy: asyncio.get_event_loop_policy. Made on first use. *out is a reference of yours.
//
// Any thread. Errors: -EINVAL (NULL).
EVL_API int evl_get_policy(evl_policy **out);

// Sets the process's policy, for all threads: asyncio.set_event_loop_policy. evl takes a reference of its own.
// NULL restores a new default policy on the next use.
//
// Any thread. Returns 0.
EVL_API
int evl_set_policy(evl_policy *policy);

// The loop that runs on this thread: asyncio.get_running_loop. *out is a reference of yours.
//
// Any thread. Errors: EVL_ENOLOOP (none runs; so in a child process after fork), -EINVAL (NULL).
EVL_API int evl_get_running_loop(evl_loop **out);

// For bindings: says which loop runs on this thread (NULL: none), as asyncio._set_running_loop. The run
// functions do this themselves. A reference is taken until it is replaced.
//
// Any thread. Errors: EVL_ERUNNING (evl itself runs a loop on this thread now).
EVL_API int evl_set_running_loop(evl_loop *event_loop);

// The running loop of this thread, or else the policy's: asyncio.get_event_loop. *out is a reference of yours.
//
// A default policy makes a loop on the main thread only: other threads set one first. Any thread. Errors: as
// evl_policy_get_loop.
EVL_API
int evl_get_loop(evl_loop **out);

// evl_policy_set_loop of the process's policy: asyncio.set_event_loop.
EVL_API int evl_set_loop(evl_loop *event_loop);

// evl_policy_new_loop of the process's policy: asyncio.new_event_loop.
EVL_API int evl_new_loop(evl_loop **out);

// evl_policy_get_child_watcher of the process's policy: asyncio.get_child_watcher.
EVL_API int evl_get_child_watcher(evl_child_watcher **out);

// evl_policy_set_child_watcher of the process's policy: asyncio.set_child_watcher.
EVL_API int evl_set_child_watcher(evl_child_watcher *watcher);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* EVL_H */
