/* sgemm.h - the ways of td_cpu_sgemm. */
#ifndef TD_CPU_SGEMM_H
#define TD_CPU_SGEMM_H

#include "cpu.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define TD_CPU_OWN_SGEMM 1
#else
#define TD_CPU_OWN_SGEMM 0
#endif

/* As td_cpu_sgemm, k >= 1, on a processor with AVX-512; about 600 KiB of stack. */
void td_cpu_sgemm_avx512(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                         float alpha, float beta, float *c, int64_t ldc);

#endif
