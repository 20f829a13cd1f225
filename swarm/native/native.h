/* What every library of kernels begins with. They are no Python modules: each is opened by its path, and its
 * functions exist once per instruction set, under the name that NAME makes.
 */

#if defined(__FAST_MATH__)
#error "fast-math changes the bits that this library exists to keep"
#endif
#if defined(__clang__) || defined(_MSC_VER)
#pragma STDC FP_CONTRACT OFF
#endif

#if defined(_MSC_VER)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(base) JOIN(base, ISA)
