// evl is used by destructors of static and of thread_local objects.
#include "harness.h"

#include <memory>
#include <string>
#include <thread>

namespace {

void say(const std::string &text) {
    if (write(1, (text + " ").c_str(), text.size() + 1) < 0)
        _exit(99);
}

void say_code(const char *what, int code) {
    say(std::string(what) + ":" + (code > 0 ? "count" : evl_errname(code)));
}

int call_soon(evl_loop *loop) {
    return evl_loop_call_soon(
        loop, [](void *) { say("ran"); }, nullptr, [](void *) { say("freed"); }, nullptr, nullptr);
}

// What a destructor does with its loop.
enum class Way { NOTHING, UNREF, CLOSE, WORK, POST, WHOLE };

struct Holder {
    evl_loop *loop = nullptr;
    Way way = Way::NOTHING;

    void make(Way w) {
        way = w;
        CHECK_CODE(evl_loop_new(nullptr, &loop), 0);
        CHECK_CODE(call_soon(loop), 0);
        CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    }

    ~Holder() {
        if (loop == nullptr)
            return;
        switch (way) {
        case Way::CLOSE:
            say_code("close", evl_loop_close(loop));
            break;
        case Way::WORK:
            say_code("soon", call_soon(loop));
            break;
        case Way::POST:
            say_code("post", evl_loop_call_soon_threadsafe(
                                 loop, [](void *) { say("ran"); }, nullptr, [](void *) { say("freed"); }, nullptr,
                                 nullptr));
            break;
        case Way::WHOLE:
            say_code("soon", call_soon(loop));
            say_code("run", evl_loop_run_until_idle(loop));
            say_code("close", evl_loop_close(loop));
            break;
        default:
            break;
        }
        evl_loop_unref(loop);
        say("end");
    }
};

const struct {
    Way way;
    const char *said;
} ways[] = {
    {Way::UNREF, "ran freed end "},
    {Way::CLOSE, "ran freed close:EVL_OK end "},
    {Way::WORK, "ran freed soon:EVL_OK freed end "},
    {Way::POST, "ran freed post:EVL_OK freed end "},
    {Way::WHOLE, "ran freed soon:EVL_OK ran freed run:count close:EVL_OK end "},
};

Holder global;

struct LoopUnref {
    void operator()(evl_loop *loop) const {
        evl_loop_unref(loop);
    }
};
std::unique_ptr<evl_loop, LoopUnref> pointer;

thread_local Holder local;

evl_loop *target;

struct Poster {
    bool armed = false;
    ~Poster() {
        if (!armed)
            return;
        CHECK_CODE(evl_loop_call_soon_threadsafe(target, trace_call, const_cast<char *>("posted"), nullptr, nullptr,
                                                 nullptr),
                   0);
        CHECK_CODE(evl_loop_stop_threadsafe(target), 0);
    }
};

thread_local Poster poster;

struct AfterMain {
    evl_loop *loop = nullptr;
    AfterMain() {
        if (evl_loop_new(nullptr, &loop) != 0 || call_nothing() != 0)
            abort();
    }
    ~AfterMain() {
        // Nobody checks here: a failure is an abort, a leak is valgrind's to find.
        if (call_nothing() != 0 || evl_loop_run_once(loop, 0) < 1 || evl_loop_close(loop) != 0)
            abort();
        evl_loop_unref(loop);
    }
    AfterMain(const AfterMain &) = delete;
    AfterMain &operator=(const AfterMain &) = delete;
    int call_nothing() const {
        return evl_loop_call_soon(loop, nothing, nullptr, nullptr, nullptr, nullptr);
    }
};

// Lives from before main until after it, in this process.
AfterMain around_main;

// Runs function in a child, and then exit(0): destructors run.
template <typename Function> std::string exit_child(Function function) {
    int fds[2], status = -1;
    char block[4096];
    ssize_t got;
    std::string said;
    pid_t child;
    if (!CHECK(pipe(fds) == 0))
        return said;
    fflush(nullptr);
    child = fork();
    if (child == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        alarm(HARNESS_TIME_LIMIT / 2);
        evl_loop_after_fork(around_main.loop);
        function();
        exit(0);
    }
    close(fds[1]);
    while ((got = read(fds[0], block, sizeof block)) > 0)
        said.append(block, static_cast<size_t>(got));
    close(fds[0]);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    return said;
}

} // namespace

TEST(a_static_object_holds_a_loop) {
    for (const auto &each : ways) {
        std::string said = exit_child([&] { global.make(each.way); });
        CHECK_STRING(said.c_str(), each.said);
    }
}

TEST(a_static_pointer_holds_a_loop) {
    std::string said = exit_child([] {
        evl_loop *loop = nullptr;
        CHECK_CODE(evl_loop_new(nullptr, &loop), 0);
        pointer.reset(loop);
        CHECK_CODE(call_soon(loop), 0);
        CHECK_CODE(evl_loop_run_once(loop, 0), 1);
        CHECK_CODE(call_soon(loop), 0);
    });
    CHECK_STRING(said.c_str(), "ran freed freed ");
}

TEST(a_thread_local_object_made_before_evl_is_used_outlives_it) {
    for (const auto &each : ways) {
        std::string said = exit_child([&] {
            std::thread([&] {
                local.loop = nullptr; // made here: it goes after what evl made for the thread
                local.make(each.way);
            }).join();
        });
        CHECK_STRING(said.c_str(), each.said);
    }
}

TEST(a_thread_local_object_made_after_evl_was_used_goes_before_it) {
    for (const auto &each : ways) {
        std::string said = exit_child([&] {
            std::thread([&] {
                evl_loop *first = nullptr;
                CHECK_CODE(evl_loop_new(nullptr, &first), 0);
                CHECK_CODE(evl_set_loop(first), 0);
                CHECK_CODE(evl_loop_call_soon_threadsafe(first, nothing, nullptr, nullptr, nullptr, nullptr), 0);
                CHECK_CODE(evl_loop_run_once(first, 0), 1);
                evl_loop_unref(first);
                local.make(each.way);
            }).join();
            evl_set_policy(nullptr);
        });
        CHECK_STRING(said.c_str(), each.said);
    }
}

TEST(a_thread_local_object_of_the_main_thread_holds_a_loop) {
    for (const auto &each : ways) {
        std::string said = exit_child([&] { local.make(each.way); });
        CHECK_STRING(said.c_str(), each.said);
    }
}

TEST(a_thread_local_object_posts_to_a_loop_of_another_thread) {
    if (under_valgrind())
        return; // what a post takes on a thread that has ended stays with the thread
    evl_loop *loop = real_loop();
    target = loop;
    std::thread thread([] {
        poster.armed = true;
        CHECK_CODE(evl_loop_call_soon_threadsafe(target, nothing, nullptr, nullptr, nullptr, nullptr), 0);
    });
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    thread.join();
    CHECK_TRACE("posted");
    end_loop(loop);
}

TEST_MAIN()
