/* stats.h - the statistics of comparisons: means with their errors, Student's t, spikes, reaching a target, the
 * bootstrap.
 *
 * defines: Sample, sample_of, median_of, beta_fraction, t_two_sided, t_quantile, count_spikes, Reach, reach_target, Curves,
 *          RatioResult, ratio_of, ratio_interval
 * Pure functions of arrays; dev/test/test_ab.c tests each.
 */
#ifndef STATS_H
#define STATS_H

#include "util.h"

// ---------------------------------------------------------------------------------------------------------------------
// Means and Student's t

typedef struct { int n; double mean, sd, se; } Sample;     // sd, se: NaN for fewer than two values

// Mean, standard deviation (n - 1) and standard error of the finite values among x[0 ... n-1].
static inline Sample sample_of(const double *x, int n) {
    Sample s = { 0, 0, 0, 0 };
    for (int i = 0; i < n; i++)
        if (isfinite(x[i])) { s.n++; s.mean += x[i]; }
    s.mean = s.n ? s.mean / s.n : NAN;
    for (int i = 0; i < n; i++)
        if (isfinite(x[i])) s.sd += (x[i] - s.mean) * (x[i] - s.mean);
    s.sd = s.n > 1 ? sqrt(s.sd / (s.n - 1)) : NAN;
    s.se = s.sd / sqrt(s.n);
    return s;
}

// The median of x[0 ... n-1], which it sorts: of an even number the mean of the two in the middle; NaN of none.
static inline double median_of(double *x, int n) {
    if (n == 0) return NAN;
    qsort(x, (size_t)n, sizeof *x, compare_doubles);
    return (x[(n - 1) / 2] + x[n / 2]) / 2;
}

/* The regularized incomplete beta function I_x(a, b) by its continued fraction (Abramowitz and Stegun, 26.5.8; by
 * Lentz' method, 1976). It converges fast for x < (a+1)/(a+b+2); beyond, I_x(a, b) = 1 - I_(1-x)(b, a). */
static inline double beta_fraction(double x, double a, double b) {
    if (!(x > 0)) return x == 0 ? 0 : NAN;
    if (x >= 1) return 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - beta_fraction(1 - x, b, a);
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a;
    double c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), value = d;       // the term of j = 0
    for (int j = 1; j < 1000; j++) {
        double even = j * (b - j) * x / ((a + 2 * j - 1) * (a + 2 * j));
        double odd = -(a + j) * (a + b + j) * x / ((a + 2 * j) * (a + 2 * j + 1));
        d = 1 / (1 + even * d);
        c = 1 + even / c;
        value *= c * d;
        d = 1 / (1 + odd * d);
        c = 1 + odd / c;
        value *= c * d;
        if (fabs(c * d - 1) < 1e-15) break;
    }
    return front * value;
}

// P(|T| > |t|) of Student's t with df degrees of freedom: I_x(df/2, 1/2) at x = df / (df + t^2).
static inline double t_two_sided(double t, double df) {
    return df > 0 && !isnan(t) ? beta_fraction(df / (df + t * t), df / 2, 0.5) : NAN;
}

// The t that |T| exceeds with probability p, by bisection: t_quantile(0.05, 2) = 4.303.
static inline double t_quantile(double p, double df) {
    if (!(df > 0 && p > 0 && p < 1)) return NAN;
    double lo = 0, hi = 1;
    while (t_two_sided(hi, df) > p) hi *= 2;
    for (int i = 0; i < 100; i++) {
        double middle = (lo + hi) / 2;
        *(t_two_sided(middle, df) > p ? &lo : &hi) = middle;
    }
    return hi;
}

// ---------------------------------------------------------------------------------------------------------------------
// Spikes of a loss curve

enum { SPIKE_WINDOW = 50, SPIKE_LEAST = 20 };
static const double SPIKE_SIGMAS = 4;

/* Losses that are more than SPIKE_SIGMAS standard deviations (n - 1) above the mean of the up to SPIKE_WINDOW losses
 * before them; those with fewer than SPIKE_LEAST before them don't count. A spike is part of later windows. */
static inline int count_spikes(const double *loss, int n) {
    int spikes = 0;
    for (int i = SPIKE_LEAST; i < n; i++) {
        int first = i > SPIKE_WINDOW ? i - SPIKE_WINDOW : 0, count = i - first;
        double mean = 0, squares = 0;
        for (int j = first; j < i; j++) mean += loss[j] / count;
        for (int j = first; j < i; j++) squares += (loss[j] - mean) * (loss[j] - mean);
        spikes += loss[i] > mean + SPIKE_SIGMAS * sqrt(squares / (count - 1));
    }
    return spikes;
}

// ---------------------------------------------------------------------------------------------------------------------
// Reaching a target loss. A point is a whole run, to the end of its own schedule, never the middle of a longer one.

typedef struct { double x; int beyond; } Reach;     // beyond 0: reached at x; -1: at x or before; +1: not by x

/* Where the loss first falls to `target` on straight lines through (log x, loss), x ascending: tokens or seconds. What
 * lies outside of the points isn't extrapolated, it is a bound. */
static inline Reach reach_target(const double *log_x, const double *loss, int n, double target) {
    if (loss[0] <= target) return (Reach){ exp(log_x[0]), loss[0] < target ? -1 : 0 };
    for (int i = 1; i < n; i++)
        if (loss[i] <= target) {
            double part = (loss[i - 1] - target) / (loss[i - 1] - loss[i]);
            return (Reach){ exp(log_x[i - 1] + part * (log_x[i] - log_x[i - 1])), 0 };
        }
    return (Reach){ exp(log_x[n - 1]), 1 };
}

// What one arm did: of seed s at budget b, in ascending order of the budgets, number [b * seeds + s].
typedef struct { const double *x, *loss; } Curves;

// x(A) / x(B) to the target. beyond -1: the ratio is at most this, +1: at least, 2: neither arm says anything.
typedef struct { double ratio; int beyond; Reach a, b; } RatioResult;

// The mean curve of the seeds chosen[0 ... n-1] (numbers below `seeds`, which may repeat); x is averaged in the log.
static inline void mean_curve(const Curves *c, int budgets, int seeds, const int *chosen, int n, double *log_x,
                              double *loss) {
    for (int b = 0; b < budgets; b++) {
        log_x[b] = loss[b] = 0;
        for (int i = 0; i < n; i++) {
            log_x[b] += log(c->x[b * seeds + chosen[i]]) / n;
            loss[b] += c->loss[b * seeds + chosen[i]] / n;
        }
    }
}

/* The ratio of what A and B need to the target loss; target NaN: A's mean loss at budget number `base`, of the chosen
 * seeds themselves, so that what a seed does to both arms alike falls out of the ratio. */
static inline RatioResult ratio_of(const Curves *a, const Curves *b, int budgets, int seeds, const int *chosen, int n,
                                   double target, int base) {
    double *log_x = (double *)xcalloc((size_t)budgets * 4, sizeof *log_x);
    double *loss = log_x + budgets, *log_x_b = loss + budgets, *loss_b = log_x_b + budgets;
    mean_curve(a, budgets, seeds, chosen, n, log_x, loss);
    mean_curve(b, budgets, seeds, chosen, n, log_x_b, loss_b);
    if (isnan(target)) target = loss[base];
    RatioResult r = { .a = reach_target(log_x, loss, budgets, target),
                      .b = reach_target(log_x_b, loss_b, budgets, target) };
    r.ratio = r.a.x / r.b.x;
    r.beyond = r.a.beyond - r.b.beyond;                 // A later than known, or B earlier: the ratio is larger
    if (r.a.beyond && r.b.beyond) r.beyond = r.a.beyond == r.b.beyond ? 2 : r.a.beyond;
    free(log_x);
    return r;
}

static inline int compare_ratios(const void *a, const void *b) {
    double x = ((const RatioResult *)a)->ratio, y = ((const RatioResult *)b)->ratio;
    return (x > y) - (x < y);
}

enum { BOOTSTRAPS = 10000, BOOTSTRAP_SEEDS = 3 };       // resamples; fewer seeds give no interval

/* 95 % interval of ratio_of by the paired percentile bootstrap (Efron, 1979): seeds are drawn with replacement, the
 * same ones for both arms, and low and high are the values that 2.5 % and 97.5 % of the resamples don't exceed. The
 * draws are hashes: the same interval every time. An end that is only a bound has its `beyond`. False where
 * there are too few seeds, or a resample in which neither arm says anything. */
static inline bool ratio_interval(const Curves *a, const Curves *b, int budgets, int seeds, double target, int base,
                                  RatioResult *low, RatioResult *high) {
    if (seeds < BOOTSTRAP_SEEDS) return false;
    RatioResult *all = (RatioResult *)xmalloc(BOOTSTRAPS * sizeof *all);
    int *chosen = (int *)xmalloc((size_t)seeds * sizeof *chosen);
    bool known = true;
    for (int k = 0; k < BOOTSTRAPS; k++) {
        for (int i = 0; i < seeds; i++)
            chosen[i] = (int)(hash64((uint64_t)k, (uint64_t)i) % (uint64_t)seeds);
        all[k] = ratio_of(a, b, budgets, seeds, chosen, seeds, target, base);
        known = known && all[k].beyond != 2;
    }
    qsort(all, BOOTSTRAPS, sizeof *all, compare_ratios);
    *low = all[(int)ceil(0.025 * BOOTSTRAPS) - 1];
    *high = all[(int)ceil(0.975 * BOOTSTRAPS) - 1];
    free(all);
    free(chosen);
    return known;
}

#endif // STATS_H
