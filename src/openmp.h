/* openmp.h - OpenMP's functions; where the compiler has none, those of a program of one thread.
 *
 * defines: omp.h's, else omp_get_max_threads, omp_get_thread_num, omp_in_parallel, omp_set_num_threads
 * gemm.h and muon.h, which can be taken away alone, do without it.
 */
#ifndef OPENMP_H
#define OPENMP_H

#ifdef _OPENMP
#include <omp.h>
#else
static inline int omp_get_max_threads(void) { return 1; }
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_in_parallel(void) { return 0; }
static inline void omp_set_num_threads(int n) { (void)n; }
#endif

#endif // OPENMP_H
