/* spectrum.h - the singular values of a matrix, and how many directions they stand for.
 *
 * defines: singular_values, spectrum_entropy
 */
#ifndef SPECTRUM_H
#define SPECTRUM_H

#include <float.h>
#include "util.h"

/* Symmetric a, p x p, to tridiagonal form by Householder's reflections: d[i] on the diagonal, e[i] between i and i + 1.
 * A reflection 1 - 2 u u^T from both sides takes u q^T + q u^T from a, where q = 2 a u - 2 (u . a u) u. */
static inline void spectrum_tridiagonal(double *d, double *e, double *a, int p) {
    double *u = xcalloc((size_t)p, sizeof *u), *q = xmalloc((size_t)p * sizeof *q);
    for (int k = 0; k < p; k++) {
        d[k] = a[(size_t)k * p + k];
        double *row = a + (size_t)k * p, norm = 0, length = 0, along = 0;
        for (int i = k + 1; i < p; i++) norm += row[i] * row[i];
        norm = sqrt(norm);
        if (k + 1 < p) e[k] = row[k + 1] > 0 ? -norm : norm;        // away from row[k + 1]: nothing cancels
        if (k + 2 >= p || norm == 0) continue;
        for (int i = k + 1; i < p; i++) u[i] = row[i] - (i == k + 1 ? e[k] : 0), length += u[i] * u[i], q[i] = 0;
        for (int i = k + 1; i < p; i++) u[i] /= sqrt(length);
        for (int i = k + 1; i < p; i++)
            for (int j = k + 1; j < p; j++) q[j] += 2 * u[i] * a[(size_t)i * p + j];
        for (int i = k + 1; i < p; i++) along += u[i] * q[i];
        for (int i = k + 1; i < p; i++) q[i] -= along * u[i];
        for (int i = k + 1; i < p; i++)
            for (int j = k + 1; j < p; j++) a[(size_t)i * p + j] -= u[i] * q[j] + q[i] * u[j];
    }
    free(u), free(q);
}

/* The squares of x's singular values, min(rows, cols) of them, ascending: the eigenvalues of the smaller Gram matrix, in
 * double, exact to about 1e-15 of the largest. Each is halved in on by Sturm's count: as many eigenvalues of a
 * tridiagonal matrix lie below y as the elimination of it minus y has negative pivots. */
static inline void singular_values(double *squares, const float *x, int rows, int cols) {
    int p = rows < cols ? rows : cols;
    double *a = xcalloc((size_t)p * (size_t)p, sizeof *a), *line = xmalloc((size_t)p * 7 * sizeof *line), top = 0;
    double *d = line + p, *e = d + p, *lo = e + p, *hi = lo + p, *pivot = hi + p, *below = pivot + p;
    for (int r = 0; r < rows + cols - p; r++) {             // the longer side
        for (int i = 0; i < p; i++) line[i] = rows < cols ? x[(size_t)i * cols + r] : x[(size_t)r * cols + i];
        for (int i = 0; i < p; i++)
            for (int j = 0; j < p; j++) a[(size_t)i * p + j] += line[i] * line[j];
    }
    spectrum_tridiagonal(d, e, a, p);
    for (int i = 0; i < p; i++)                             // Gershgorin's bound
        top = fmax(top, d[i] + (i ? fabs(e[i - 1]) : 0) + (i + 1 < p ? fabs(e[i]) : 0));
    for (int k = 0; k < p; k++) lo[k] = 0, hi[k] = top;
    for (int halving = 0; halving < 60; halving++) {
        for (int k = 0; k < p; k++) pivot[k] = 1, below[k] = 0;
        for (int i = 0; i < p; i++) {
            double square = i ? fmax(e[i - 1] * e[i - 1], DBL_MIN) : 0;     // over a pivot of 0 it is infinity, not NaN
            for (int k = 0; k < p; k++) {
                pivot[k] = d[i] - (lo[k] + hi[k]) / 2 - square / pivot[k];
                below[k] += pivot[k] < 0;
            }
        }
        for (int k = 0; k < p; k++) *(below[k] > k ? hi + k : lo + k) = (lo[k] + hi[k]) / 2;
    }
    for (int k = 0; k < p; k++) squares[k] = (lo[k] + hi[k]) / 2;
    free(a), free(line);
}

/* Entropy in nats of the shares that n directions have in the energy, the sum of all squared singular values; exp of it is
 * the effective rank (Roy and Vetterli, 2007): n where all are equal, 1 where there is one. NaN for a matrix of zeros. */
static inline double spectrum_entropy(const double *squares, int n) {
    double energy = 0, entropy = 0;
    for (int i = 0; i < n; i++) energy += squares[i];
    for (int i = 0; i < n; i++)
        if (squares[i] > 0) entropy -= squares[i] / energy * log(squares[i] / energy);
    return energy > 0 ? entropy : NAN;
}

#endif // SPECTRUM_H
