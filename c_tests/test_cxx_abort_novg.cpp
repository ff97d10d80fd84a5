// What must not leave a callback: a C++ exception or pthread_exit that reaches evl aborts the process and says so.
#include "harness.h"

#include <stdexcept>
#include <string>
#include <sys/resource.h>

namespace {

enum How { THROW, PTHREAD_EXIT };

How how;

void leave() {
    if (how == THROW)
        throw std::runtime_error("left the callback");
    pthread_exit(nullptr);
}

void leave_call(void *) {
    leave();
}

void fail(void *) {
    evl_raise(-EIO, "x");
}

void run(evl_loop *loop) {
    evl_loop_run_once(loop, 0);
}

// Each makes evl call something that leaves.
struct Way {
    const char *name;
    void (*go)(evl_loop *loop);
};

void *capture(void *data) {
    leave();
    return data;
}

void *same(void *data) {
    return data;
}

void leave_hook(void *, void *) {
    leave();
}

using Hook = void (*)(void *, void *);

void hooked(void *(*on_capture)(void *), Hook enter, Hook on_leave, Hook release) {
    evl_loop_options options = {};
    evl_context_hooks hooks = {};
    evl_loop *l = nullptr;
    options.size = sizeof options;
    hooks.size = sizeof hooks;
    hooks.capture = on_capture;
    hooks.enter = enter;
    hooks.leave = on_leave;
    hooks.release = release;
    options.context_hooks = &hooks;
    evl_loop_new(&options, &l);
    evl_loop_call_soon(l, nothing, nullptr, nullptr, nullptr, nullptr), run(l);
}

const Way ways[] = {
    {"soon", [](evl_loop *l) { evl_loop_call_soon(l, leave_call, nullptr, nullptr, nullptr, nullptr), run(l); }},
    {"handle",
     [](evl_loop *l) {
         evl_handle *h = nullptr;
         evl_loop_call_soon(l, leave_call, nullptr, nullptr, nullptr, &h), run(l);
     }},
    {"timer", [](evl_loop *l) { evl_loop_call_later(l, 0, leave_call, nullptr, nullptr, nullptr, nullptr), run(l); }},
    {"posted",
     [](evl_loop *l) { evl_loop_call_soon_threadsafe(l, leave_call, nullptr, nullptr, nullptr, nullptr), run(l); }},
    {"writer",
     [](evl_loop *l) {
         int fds[2];
         if (pipe(fds) == 0)
             evl_loop_add_writer(l, fds[1], leave_call, nullptr, nullptr, nullptr, nullptr), run(l);
     }},
    {"signal",
     [](evl_loop *l) {
         evl_loop_add_signal_handler(l, SIGUSR1, leave_call, nullptr, nullptr, nullptr, nullptr);
         raise(SIGUSR1), run(l);
     }},
    {"shutdown hook",
     [](evl_loop *l) {
         evl_loop_add_shutdown_hook(l, leave_call, nullptr, nullptr, nullptr, nullptr), evl_loop_run_shutdown(l);
     }},
    {"exception handler",
     [](evl_loop *l) {
         evl_loop_set_exception_handler(
             l, [](evl_loop *, const evl_exception *, void *) { leave(); }, nullptr, nullptr);
         evl_loop_call_soon(l, fail, nullptr, nullptr, nullptr, nullptr), run(l);
     }},
    {"log",
     [](evl_loop *l) {
         evl_loop_set_log(
             l, [](int, const char *, void *) { leave(); }, nullptr, nullptr);
         evl_loop_call_soon(l, fail, nullptr, nullptr, nullptr, nullptr), run(l);
     }},
    {"arg_free", [](evl_loop *l) { evl_loop_call_soon(l, nothing, nullptr, leave_call, nullptr, nullptr), run(l); }},
    {"arg_free of a cancel",
     [](evl_loop *l) {
         evl_handle *h = nullptr;
         evl_loop_call_soon(l, nothing, nullptr, leave_call, nullptr, &h), evl_handle_cancel(h);
     }},
    {"wait hook",
     [](evl_loop *l) {
         evl_loop_set_wait_hooks(l, leave_call, nullptr, nullptr, nullptr);
         evl_loop_run_once(l, EVL_MS(1));
     }},
    {"walk",
     [](evl_loop *l) {
         evl_loop_call_soon(l, nothing, nullptr, nullptr, nullptr, nullptr);
         evl_loop_walk(
             l, [](evl_handle *, int, int, void *) { return leave(), 0; }, nullptr);
     }},
    {"handle run",
     [](evl_loop *l) {
         evl_handle *h = nullptr;
         evl_handle_new(l, leave_call, nullptr, nullptr, nullptr, &h), evl_handle_run(h);
     }},
    {"context run",
     [](evl_loop *) {
         evl_context *c = nullptr;
         evl_context_new(&c), evl_context_run(c, leave_call, nullptr);
     }},
    {"data free",
     [](evl_loop *l) {
         evl_loop_set_data(l, nullptr, leave_call), evl_loop_set_data(l, nullptr, nullptr);
     }},
    {"factory",
     [](evl_loop *) {
         evl_policy *p = nullptr;
         evl_loop *l = nullptr;
         evl_policy_new_default(
             [](void *, evl_loop **) { return leave(), 0; }, nullptr, nullptr, &p);
         evl_policy_new_loop(p, &l);
     }},
    {"context hook: capture", [](evl_loop *) { hooked(capture, nullptr, nullptr, nullptr); }},
    {"context hook: enter", [](evl_loop *) { hooked(same, leave_hook, nullptr, nullptr); }},
    {"context hook: leave", [](evl_loop *) { hooked(same, nullptr, leave_hook, nullptr); }},
    {"context hook: release", [](evl_loop *) { hooked(same, nullptr, nullptr, leave_hook); }},
    {"value of a context",
     [](evl_loop *) {
         evl_context_var *v = nullptr;
         evl_context_var_new("v", nullptr, leave_call, &v), evl_context_var_unref(v);
     }},
};

const Way *way;

void *go(void *) {
    way->go(manual_loop());
    return nullptr;
}

// Runs the way in a child, on its main thread or another. Returns how it ended, and what it wrote to stderr.
int run_child(bool on_thread, std::string *said) {
    int fds[2], status = -1;
    char block[4096];
    ssize_t got;
    pid_t child;
    if (!CHECK(pipe(fds) == 0))
        return -1;
    fflush(nullptr);
    child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        alarm(60);
        if (on_thread)
            in_thread(go, nullptr);
        else
            go(nullptr);
        _exit(42);
    }
    close(fds[1]);
    said->clear();
    while ((got = read(fds[0], block, sizeof block)) > 0)
        said->append(block, static_cast<size_t>(got));
    close(fds[0]);
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

void check_all_ways() {
    for (const Way &each : ways) {
        for (int on_thread = 0; on_thread < 2; on_thread++) {
            std::string said;
            way = &each;
            int status = run_child(on_thread != 0, &said);
            if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT || said.find("evl") == std::string::npos) {
                std::string what = std::string(each.name) + (on_thread ? ", on a thread" : "") + ": status " +
                                   std::to_string(status) + ", said \"" + said + "\"";
                harness_fail(__FILE__, __LINE__, "does not abort with a message", what.c_str());
            }
        }
    }
}

} // namespace

TEST(an_exception_that_leaves_aborts_and_says_so) {
    how = THROW;
    check_all_ways();
}

TEST(pthread_exit_aborts_and_says_so) {
    how = PTHREAD_EXIT;
    check_all_ways();
}

TEST(the_message_says_what_happened) {
    std::string said;
    how = THROW;
    way = &ways[0];
    CHECK(WIFSIGNALED(run_child(false, &said)));
    CHECK(said.find("callback") != std::string::npos);
    CHECK(said.find("exception") != std::string::npos);
    how = PTHREAD_EXIT;
    CHECK(WIFSIGNALED(run_child(true, &said)));
    CHECK(said.find("callback") != std::string::npos);
    CHECK(said.find("pthread_exit") != std::string::npos);
}

TEST_MAIN()
