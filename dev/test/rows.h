/* rows.h - for tests that run on each of gemm.h's kernels. A "row" is one of the table gemm_isas[]: an instruction set in
 * a precision, native or emulated. Each row is tested, also one that would never be chosen here.
 *
 * defines: rows_begin, rows_end, rows_of_this_cpu, rows_of_tiles, use_row, FOR_EACH_ROW, row_name
 *
 * GEMM_ISA limits the tests to the rows of that instruction set and those below it: GEMM_ISA=portable for a tool that
 * doesn't know AVX-512, such as valgrind.
 */
#ifndef TEST_ROWS_H
#define TEST_ROWS_H

#include "../../src/gemm.h"
#include "../../src/openmp.h"
#include "test.h"

static const GemmIsa *rows_begin, *rows_end;        // those under test

// Where GEMM_ISA can't be had this ends the program.
static inline void rows_of_this_cpu(void) {
    gemm_isa();
    rows_begin = gemm_first;
    rows_end = gemm_isas + COUNT_OF(gemm_isas);
}

#if defined(TEST_TILES_H)
// AMX alone, its tiles in software (tiles.h). False where the CPU lacks what its packing needs, AVX512_BF16.
static inline bool rows_of_tiles(void) {
    if (!gemm_cpu_has_avx512_bf16()) return false;
    gemm_amx_known = 1;
    rows_begin = gemm_find("amx");
    rows_end = rows_begin + 1;
    return true;
}
#endif

// gemm computes by this row from now on. Returns false where the CPU can't.
static inline bool use_row(const GemmIsa *row) {
    if (!row->supported()) return false;
    gemm_first = gemm_kernels[GEMM_FP32] = gemm_kernels[GEMM_BF16] = row;
    gemm_precision = row->precision;
    return true;
}

#define FOR_EACH_ROW(row) for (const GemmIsa *row = rows_begin; row < rows_end; row++) if (use_row(row))

// Such as "avx2 bf16 emulated", for messages.
static inline const char *row_name(void) {
    static char name[64];
    const GemmIsa *row = gemm_current();
    snprintf(name, sizeof name, "%s %s%s", row->name, row->precision == GEMM_BF16 ? "bf16" : "fp32",
             row->rounds ? " emulated" : "");
    return name;
}

#endif // TEST_ROWS_H
