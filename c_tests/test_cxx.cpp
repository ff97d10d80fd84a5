// The header from C++11: captureless lambdas as callbacks, objects as args, exceptions caught before they leave.
#include "harness.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct LoopDeleter {
    void operator()(evl_loop *event_loop) const {
        evl_loop_close(event_loop);
        evl_loop_unref(event_loop);
    }
};
using Loop = std::unique_ptr<evl_loop, LoopDeleter>;

Loop make_loop() {
    return Loop(manual_loop());
}

template <typename T> void destroy(void *arg) {
    delete static_cast<T *>(arg);
}

struct Task {
    std::vector<std::string> *seen;
    std::string text;
    static int alive;
    Task(std::vector<std::string> *s, std::string t) : seen(s), text(std::move(t)) { alive++; }
    ~Task() { alive--; }
    Task(const Task &) = delete;
    Task &operator=(const Task &) = delete;
};
int Task::alive = 0;

} // namespace

TEST(lambdas_and_objects) {
    std::vector<std::string> seen;
    {
        Loop loop = make_loop();
        evl_callback call = [](void *arg) {
            Task *task = static_cast<Task *>(arg);
            task->seen->push_back(task->text);
        };
        CHECK_CODE(evl_loop_call_soon(loop.get(), call, new Task(&seen, "a"), destroy<Task>, nullptr, nullptr), 0);
        CHECK_CODE(evl_loop_call_later(loop.get(), EVL_MS(1), call, new Task(&seen, "c"), destroy<Task>, nullptr, nullptr),
                   0);
        CHECK_CODE(evl_loop_call_soon(loop.get(), call, new Task(&seen, "b"), destroy<Task>, nullptr, nullptr), 0);
        CHECK_CODE(evl_loop_call_later(loop.get(), EVL_SECONDS(9), call, new Task(&seen, "never"), destroy<Task>, nullptr,
                                       nullptr),
                   0);
        CHECK_INT(Task::alive, 4);
        CHECK_CODE(evl_loop_run_until_idle(loop.get()), 2);
        CHECK_INT(Task::alive, 2);
        CHECK_CODE(evl_loop_advance(loop.get(), EVL_MS(1)), 0);
        CHECK_CODE(evl_loop_run_until_idle(loop.get()), 1);
    }
    CHECK_INT(Task::alive, 0);
    CHECK_INT(static_cast<long long>(seen.size()), 3);
    CHECK(seen == (std::vector<std::string>{"a", "b", "c"}));
}

TEST(exceptions_become_raises) {
    Loop loop = make_loop();
    std::string message;
    CHECK_CODE(evl_loop_set_exception_handler(
                   loop.get(),
                   [](evl_loop *, const evl_exception *exception, void *arg) {
                       *static_cast<std::string *>(arg) = exception->message;
                   },
                   &message, nullptr),
               0);
    CHECK_CODE(evl_loop_call_soon(
                   loop.get(),
                   [](void *) {
                       try {
                           throw std::runtime_error("from C++");
                       } catch (const std::exception &e) {
                           CHECK_CODE(evl_raise(-EIO, e.what()), 0);
                       }
                   },
                   nullptr, nullptr, nullptr, nullptr),
               0);
    CHECK_CODE(evl_loop_run_until_idle(loop.get()), 1);
    CHECK_STRING(message.c_str(), "from C++");
}

TEST(a_vector_of_a_thousand_tasks) {
    std::vector<std::string> seen;
    Loop loop = make_loop();
    for (int i = 0; i < 1000; i++)
        CHECK_CODE(evl_loop_call_soon(
                       loop.get(),
                       [](void *arg) {
                           Task *task = static_cast<Task *>(arg);
                           task->seen->push_back(task->text);
                       },
                       new Task(&seen, std::to_string(i)), destroy<Task>, nullptr, nullptr),
                   0);
    CHECK_CODE(evl_loop_run_until_idle(loop.get()), 1000);
    for (int i = 0; i < 1000; i++)
        if (!CHECK(seen[static_cast<size_t>(i)] == std::to_string(i)))
            break;
    CHECK_INT(Task::alive, 0);
}

TEST(enums_and_structs) {
    evl_loop_options options{};
    options.size = sizeof options;
    options.flags = EVL_LOOP_MANUAL_CLOCK | EVL_LOOP_DEBUG;
    evl_loop *made = nullptr;
    CHECK_CODE(evl_loop_new(&options, &made), 0);
    Loop loop(made);
    int64_t time = -1;
    CHECK_CODE(evl_loop_time(loop.get(), &time), 0);
    CHECK_INT(time, 0);
    CHECK_CODE(evl_loop_set_debug(loop.get(), 0), 0);
    CHECK_CODE(evl_loop_set_exception_handler(nullptr, nullptr, nullptr, nullptr), -EINVAL);
    CHECK_STRING(evl_errname(EVL_ECLOSED), "EVL_ECLOSED");
}

TEST_MAIN()
