/* libmuon.c - muon.h as a shared library, `make libmuon`, with the fast products of gemm.h in fp32 and OpenMP's threads.
 *
 * Its interface is muon.h: a program includes that without MUON_IMPLEMENTATION and links with -lmuon, another language takes the
 * functions and structs declared there (tools/python/muon_c.py). They are all that is exported. It depends on the C library and
 * OpenMP's only.
 */
#pragma GCC visibility push(default)
#include "../muon.h"
#pragma GCC visibility pop

#include "gemm.h"

#define MUON_GEMM gemm
#define MUON_GEMM_SYMMETRIC gemm_symmetric
#define MUON_IMPLEMENTATION
#include "../muon.h"
