// A small user of evl in C++: lambdas as callbacks, an object owned by its callback.
#include <evl.h>

#include <iostream>
#include <memory>
#include <string>

namespace {

struct Greeting {
    evl_loop *loop;
    std::string text;
    std::string *printed;
};

} // namespace

int main()
{
    evl_loop *loop = nullptr;
    std::string printed;

    if (evl_loop_new(nullptr, &loop) < 0)
        return 1;
    std::unique_ptr<Greeting> greeting(new Greeting{loop, "evl from C++", &printed});
    int code = evl_loop_call_soon(
        loop,
        [](void *arg) {
            auto *self = static_cast<Greeting *>(arg);
            *self->printed = self->text;
            evl_loop_stop(self->loop);
        },
        greeting.release(), [](void *arg) { delete static_cast<Greeting *>(arg); }, nullptr, nullptr);
    if (code < 0 || evl_loop_run_forever(loop) < 0)
        return 2;
    evl_loop_unref(loop);
    std::cout << printed << '\n';
    return printed == "evl from C++" ? 0 : 3;
}
