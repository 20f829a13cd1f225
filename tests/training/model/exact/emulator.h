/* Just enough of CUDA to run kernels.cu on the CPU: one block after another, its threads taking turns.
 *
 * A thread is a coroutine: it runs until it ends or stands at __syncthreads, then the next one runs. So blocks
 * and threads come in one order, first to last or, with `backwards`, last to first, and a race between them
 * would be found only if one of the two shows it. All threads of a block must reach each barrier, or none: anything else ends the process with a message. */

#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>
#include <vector>

struct Three {
    unsigned x, y, z;
};
static Three threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

static inline int __float_as_int(float x) { int i; memcpy(&i, &x, 4); return i; }
static inline float __int_as_float(int i) { float x; memcpy(&x, &i, 4); return x; }
static inline long long __double_as_longlong(double x) { long long i; memcpy(&i, &x, 8); return i; }
static inline double __longlong_as_double(long long i) { double x; memcpy(&x, &i, 8); return x; }

enum { STACK_BYTES = 64 << 10 };

struct Fiber {
    ucontext_t start;
    jmp_buf here;
    std::vector<char> stack;
    bool is_begun, is_over;
};
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static unsigned current;
extern "C" int backwards = 0; /* the last thread of a block first */
static void (*entry)(void **);
static void **entry_arguments;

static void __syncthreads() {
    if (!_setjmp(fibers[current].here)) _longjmp(scheduler, 1);
}

static void run_thread() {
    entry(entry_arguments);
    fibers[current].is_over = true;
    _longjmp(scheduler, 1);
}

/* Run the current thread to its next barrier, or to its end. Contexts only begin: switching them is slow. */
static void run_on() {
    Fiber &fiber = fibers[current];
    threadIdx = {current, 0, 0};
    if (_setjmp(scheduler)) return;
    if (fiber.is_begun) _longjmp(fiber.here, 1);
    fiber.is_begun = true;
    setcontext(&fiber.start);
}

static void run_block() {
    for (Fiber &fiber : fibers) {
        fiber.is_begun = fiber.is_over = false;
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.data();
        fiber.start.uc_stack.ss_size = STACK_BYTES;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, run_thread, 0);
    }
    for (size_t over = 0; over < fibers.size();) {
        size_t waiting = 0;
        for (unsigned turn = 0; turn < fibers.size(); turn++) {
            current = backwards ? (unsigned)fibers.size() - 1 - turn : turn;
            if (fibers[current].is_over) continue;
            run_on();
            if (fibers[current].is_over)
                over++;
            else
                waiting++;
        }
        if (waiting && over) {
            fprintf(stderr, "a barrier that only some threads of a block reach\n");
            abort();
        }
    }
}

template <class... A, size_t... I>
static void call_with(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
}

template <class... A>
static void call(void (*kernel)(A...), void **arguments) {
    call_with(kernel, arguments, std::index_sequence_for<A...>());
}

static void launch_all(void (*kernel)(void **), unsigned x, unsigned y, unsigned z, unsigned threads,
                       void **arguments) {
    entry = kernel, entry_arguments = arguments;
    gridDim = {x, y, z}, blockDim = {threads, 1, 1};
    fibers.resize(threads);
    for (Fiber &fiber : fibers) fiber.stack.resize(STACK_BYTES);
    for (blockIdx.z = 0; blockIdx.z < z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < x; blockIdx.x++) run_block();
}

#define KERNEL(name)                                                                                 \
    extern "C" void launch_##name(unsigned x, unsigned y, unsigned z, unsigned threads, void **arguments) { \
        launch_all([](void **given) { call(name, given); }, x, y, z, threads, arguments);            \
    }
