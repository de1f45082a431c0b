/* rates.h - learning rates that carry over, as far as they were measured; and a word where a config's lie far from them.
 *
 * defines: muon_rate, adamw_rate, RateCheck, rate_check, warn_rates
 */
#ifndef RATES_H
#define RATES_H

#include "keys.h"

// Muon's peak rate under scale keller, about the same at all widths (dev/exp/scale-rules: 0.026 at 150 steps). It falls with the
// steps: dev/exp/batch has 0.02 at 384 and 0.01 at 1,536, the default run 0.0113 at 1,200.
static inline double muon_rate(int steps) { return 0.026 * pow(steps / 150.0, -0.4); }

// AdamW's at width C: 0.005 of what is beside Muon, 0.0025 alone, at width 128 (configs/default.json, default_adamw.json); it
// falls as 1 / C (arXiv 2203.03466; dev/exp/scale-rules).
static inline double adamw_rate(int width, bool alone) { return (alone ? 0.0025 : 0.005) * 128 / width; }

// Where the rules were measured: dense attention, widths and layers of dev/exp/scale-rules and dev/exp/scaling, their steps.
static const struct { int width[2], steps[2], layers; } rates_measured = {{32, 256}, {100, 2500}, 8};

typedef struct { const char *key; double is, rule; } RateCheck;

// A config's rate of the hidden matrices, and what the rule has for it; false where none was measured: another optimizer, shape
// or number of steps, weights that were trained before, a recipe.
static inline bool rate_check(const Config *c, RateCheck *r) {
    int C = c->model.width, steps = c->train.steps, rule = optimizer_rule(c), scale = c->optimizer.muon.scale;
    bool muon = rule == MUON_RULE_MUON && c->optimizer.muon.beta2 == 0 &&
                (scale == MUON_SCALE_KELLER || scale == MUON_SCALE_MATCH_RMS_ADAMW);
    if (!muon && rule != MUON_RULE_ADAMW) return false;
    if (*c->train.init || c->train.local_steps || c->optimizer.recipe) return false;
    if (c->model.experts || c->model.mixer != MIXER_ATTENTION || c->model.layers > rates_measured.layers) return false;
    if (C < rates_measured.width[0] || C > rates_measured.width[1]) return false;
    if (c->train.minutes > 0 || steps < rates_measured.steps[0] || steps > rates_measured.steps[1]) return false;
    double factor = scale == MUON_SCALE_MATCH_RMS_ADAMW ? c->optimizer.muon.rms * sqrt(C) : 1;   // over keller, if square
    *r = muon ? (RateCheck){"optimizer.muon.lr", c->optimizer.muon.lr, muon_rate(steps) / factor}
              : (RateCheck){"optimizer.adamw.lr", c->optimizer.adamw.lr, adamw_rate(C, true)};
    return true;
}

// A line on stderr where the rate is more than three times the rule's, or less than a third of it.
static inline void warn_rates(const Config *c) {
    RateCheck r;
    if (!rate_check(c, &r) || (r.is <= 3 * r.rule && r.rule <= 3 * r.is)) return;
    fprintf(stderr, "warning: %s: %g is far from %.2g, about the best at width %d and %d steps (docs/optimizers.md)\n",
            r.key, r.is, r.rule, c->model.width, c->train.steps);
}

#endif // RATES_H
