/* The way into the kernels of a library: IEEE arithmetic for as long as a call takes, and the functions of one
 * instruction set. Included once, behind the functions: HAS_X86 and HAS_NEON say for which there are some.
 */

/* Another library of the process may have switched on flush-to-zero, or another rounding, for this thread. */
#if defined(HAS_X86)
typedef unsigned Environment;
static inline Environment enter(void) {
    Environment before = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return before;
}
static inline void leave(Environment before) { _mm_setcsr(before); }
#elif defined(__aarch64__) && defined(__GNUC__)
typedef uint64_t Environment;
static inline Environment enter(void) {
    Environment before, ieee = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(ieee));
    return before;
}
static inline void leave(Environment before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
typedef int Environment;
static inline Environment enter(void) { return 0; }
static inline void leave(Environment before) { (void)before; }
#endif

#if defined(HAS_X86)
#define X86_CASES(call) case AVX2: status = call(avx2); break; case AVX512: status = call(avx512); break;
#else
#define X86_CASES(call)
#endif
#if defined(HAS_NEON)
#define NEON_CASES(call) case NEON: status = call(neon); break;
#else
#define NEON_CASES(call)
#endif
#define DISPATCH(call)                                     \
    int status = NO_SUCH_ISA;                              \
    Environment before = enter();                          \
    switch (isa) {                                         \
        case PORTABLE: status = call(portable); break;     \
        X86_CASES(call)                                    \
        NEON_CASES(call)                                   \
        default: break;                                    \
    }                                                      \
    leave(before);                                         \
    return status
