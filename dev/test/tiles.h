/* tiles.h - AMX in software: the tile instructions as plain C, so that the AMX path of gemm.h runs on a CPU without
 * them. Include before gemm.h, whose intrinsics these macros replace.
 *
 * defines: _tile_loadconfig, _tile_release, _tile_zero, _tile_loadd, _tile_stored, _tile_dpbf16ps
 *          tile_threads_configured, tile_configurations
 *
 * Source: Intel, "Architecture Instruction Set Extensions Programming Reference", chapter 3. What the CPU answers by an
 * exception ends the program here with one line; so does a second configuration without a release between.
 * GCC and clang, x86-64; the sums use AVX-512, so that the tests needn't wait for them.
 */
#ifndef TEST_TILES_H
#define TEST_TILES_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILES = 8, TILE_ROWS = 16, TILE_ROW_BYTES = 64 };      // palette 1

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
} TileConfig;
_Static_assert(sizeof(TileConfig) == 64, "LDTILECFG reads 64 bytes");

typedef uint32_t TileWords __attribute__((vector_size(TILE_ROW_BYTES)));
typedef float TileFloats __attribute__((vector_size(TILE_ROW_BYTES)));
typedef struct { TileWords rows[TILE_ROWS]; } Tile;

// The state of a thread. Palette 0: not configured.
static _Thread_local TileConfig tile_config;
static _Thread_local Tile tiles[TILES];

// Over all threads: how many are configured and not yet released, and how often one was.
static int tile_threads_configured, tile_configurations;

static void tile_require(bool allowed, const char *what) {
    if (allowed) return;
    fprintf(stderr, "tiles: %s\n", what);
    abort();
}

// ---------------------------------------------------------------------------------------------------------------------
// The configuration

// LDTILECFG: how many rows and bytes per row each register has; clears them all.
static void tile_load_config(const void *from) {
    tile_require(!tile_config.palette, "configured again before it was released");
    TileConfig config;
    memcpy(&config, from, sizeof config);
    tile_require(config.palette == 1 && config.start_row == 0, "palette 1 and start row 0 expected");
    for (size_t i = 0; i < sizeof config.reserved; i++) tile_require(!config.reserved[i], "reserved bytes not 0");
    for (int t = 0; t < 16; t++) {
        int rows = config.rows[t], bytes = config.bytes_per_row[t];
        tile_require(t < TILES || (!rows && !bytes), "more registers configured than there are");
        tile_require(rows <= TILE_ROWS && bytes <= TILE_ROW_BYTES, "a register configured larger than it is");
        tile_require(!rows == !bytes, "a register configured with rows or columns only");
    }
    tile_config = config;
    memset(tiles, 0, sizeof tiles);
    __atomic_fetch_add(&tile_configurations, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&tile_threads_configured, 1, __ATOMIC_RELAXED);
}

// TILERELEASE
static void tile_release(void) {
    if (tile_config.palette) __atomic_fetch_sub(&tile_threads_configured, 1, __ATOMIC_RELAXED);
    memset(&tile_config, 0, sizeof tile_config);
    memset(tiles, 0, sizeof tiles);
}

// ---------------------------------------------------------------------------------------------------------------------
// Loads and stores

// TILEZERO
static void tile_zero(int t) {
    tile_require(tile_config.rows[t] > 0, "a register that isn't configured");
    memset(&tiles[t], 0, sizeof tiles[t]);
}

// TILELOADD: row r from base + r * stride; the register's rest becomes 0.
static void tile_load(int t, const void *base, ptrdiff_t stride) {
    tile_zero(t);
    for (int r = 0; r < tile_config.rows[t]; r++)
        memcpy(&tiles[t].rows[r], (const char *)base + r * stride, tile_config.bytes_per_row[t]);
}

// TILESTORED
static void tile_store(int t, void *base, ptrdiff_t stride) {
    tile_require(tile_config.rows[t] > 0, "a register that isn't configured");
    for (int r = 0; r < tile_config.rows[t]; r++)
        memcpy((char *)base + r * stride, &tiles[t].rows[r], tile_config.bytes_per_row[t]);
}

// ---------------------------------------------------------------------------------------------------------------------
// The product

#define TILE_INLINE __attribute__((target("avx512f"), always_inline)) static inline

// DAZ and FTZ: subnormal numbers count as zero, as operands and as results.
TILE_INLINE TileFloats tile_flush(TileFloats x) {
    TileWords bits = (TileWords)x, normal = (TileWords)((bits & 0x7f800000u) != 0);
    return (TileFloats)(bits & (normal | 0x80000000u));
}

// The two bf16 of each word.
TILE_INLINE TileFloats tile_even(TileWords pairs) { return tile_flush((TileFloats)(pairs << 16)); }
TILE_INLINE TileFloats tile_odd(TileWords pairs) { return tile_flush((TileFloats)(pairs & 0xffff0000u)); }

// TDPBF16PS: C[i][j] += sum over w of A[i][w].even * B[w][j].even, plus the same of the odd halves. Both sums start at
// 0 and go along w by fused multiply-adds; C takes in the sum of the two.
__attribute__((target("avx512f")))
static void tile_dot(int c, int a, int b) {
    const TileConfig *config = &tile_config;
    tile_require(config->rows[a] && config->rows[b] && config->rows[c], "a register that isn't configured");
    tile_require(a != b && a != c && b != c, "TDPBF16PS on a register twice");
    tile_require(config->rows[c] == config->rows[a] && config->bytes_per_row[c] == config->bytes_per_row[b]
                 && config->bytes_per_row[a] == 4 * config->rows[b], "TDPBF16PS on registers that don't fit together");
    for (int i = 0; i < config->rows[c]; i++) {
        TileFloats even = { 0 }, odd = { 0 };
        for (int w = 0; w < config->rows[b]; w++) {
            TileWords x = tiles[a].rows[i][w] - (TileWords){ 0 }, y = tiles[b].rows[w];
            even = tile_flush(tile_even(x) * tile_even(y) + even);
            odd = tile_flush(tile_odd(x) * tile_odd(y) + odd);
        }
        TileFloats sum = tile_flush((TileFloats)tiles[c].rows[i]);
        tiles[c].rows[i] = (TileWords)tile_flush(sum + tile_flush(even + odd));
    }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) tile_load_config(config)
#define _tile_release() tile_release()
#define _tile_zero(t) tile_zero(t)
#define _tile_loadd(t, base, stride) tile_load(t, base, (ptrdiff_t)(stride))
#define _tile_stored(t, base, stride) tile_store(t, base, (ptrdiff_t)(stride))
#define _tile_dpbf16ps(c, a, b) tile_dot(c, a, b)

#endif // TEST_TILES_H
