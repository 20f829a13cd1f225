/* Instruction sets of this x86 processor that its system keeps the registers of. The processor is asked itself:
 * not every compiler's runtime answers __builtin_cpu_supports.
 */
#include <cpuid.h>

enum { CPU_AVX2 = 1, CPU_AVX512 = 2, CPU_VNNI = 4 };

static int cpu_features(void) {
    const unsigned basic = 1u << 12 | 1u << 27 | 1u << 28;             /* FMA, XGETBV, AVX */
    const unsigned wide = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;   /* AVX-512 F, DQ, BW, VL */
    const unsigned halves = 0x6, masks = 0xe6;                         /* registers that are kept: YMM; ZMM, too */
    unsigned a, b, c, d, kept, rest;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & basic) != basic) return 0;
    __asm__ volatile("xgetbv" : "=a"(kept), "=d"(rest) : "c"(0));
    if ((kept & halves) != halves || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 5 & 1)) return 0;
    if ((kept & masks) != masks || (b & wide) != wide) return CPU_AVX2;
    return CPU_AVX2 | CPU_AVX512 | (c >> 11 & 1 ? CPU_VNNI : 0);
}
