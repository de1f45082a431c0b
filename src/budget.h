/* budget.h - a training that ends by the clock (train.minutes): how many steps fit, decided while it runs.
 *
 * defines: BudgetCost, Budget, BudgetWork, budget_begin, budget_lap, budget_end, budget_fit, budget_decide,
 *          budget_next_look, budget_revise
 *
 * A trapezoid's rate is the peak's until the cooldown begins, so that until then nothing depends on the number of steps (the
 * "constant + cooldown" schedule, Hägele et al., arXiv 2405.18392). The clock may thus be asked as late as that: before each
 * step, whether a run whose cooldown begins one step later would still end in time. Where it would not, the steps are those of
 * the run whose cooldown begins now. Whenever a quarter of the steps that are left is done it is asked again: a machine that gets
 * busy in the cooldown, or free, makes the steps fewer, or more, and bends the line of the rate (schedule.bends).
 *
 * Nothing here reads a clock or knows a model: the caller says how late it is, so that tests can.
 */
#ifndef BUDGET_H
#define BUDGET_H

#include <math.h>
#include <stdbool.h>

// What takes time; a validation's is counted by its windows.
typedef enum { COST_STEP, COST_VALIDATION, COST_BEST, COST_SAVE, COST_PICTURE, COST_SAMPLE, COST_OTHER, COSTS } BudgetCost;

typedef struct {
    double seconds;          // that the run may take; 0: there is no budget
    double used;             // of them until the last lap, in this process and in those before it
    double clock;            // at the last lap
    double cost[COSTS];      // seconds that each takes: of steps a running mean, else the last one's; NAN: none was seen yet
    int steps;               // that this process has seen
    int most, look;          // in the cooldown: the most steps there may be, the step before which the clock is asked again
} Budget;

// What a run does beside its steps, and what each costs that was not seen yet.
typedef struct {
    int eval_every, save_every, sample_every;        // 0: only at the end
    double eval_windows, final_windows;              // of a validation on the way, and of the last
    double batch;                                    // sequences of a step
    double guess[COSTS];                             // seconds; of a validation's window it is the forward pass of a step's sequence
} BudgetWork;

// seconds: of the budget; used: of them, in earlier processes; now: the clock when this one began.
static inline Budget budget_begin(double seconds, double used, double now) {
    Budget b = {.seconds = seconds, .used = used, .clock = now};
    for (int i = 0; i < COSTS; i++) b.cost[i] = NAN;
    return b;
}

// What was done since the last lap: `amount` pieces of it. Steps are averaged over about the last sixth of those that were seen:
// the first ones are slow, and a machine's pace changes.
static inline void budget_lap(Budget *b, BudgetCost of, double amount, double now) {
    double seconds = now - b->clock, each = seconds / fmax(amount, 1);
    b->clock = now;
    b->used += seconds;
    if (of != COST_STEP) b->cost[of] = each;
    else if (b->steps++ == 0) b->cost[of] = each;
    else b->cost[of] += (each - b->cost[of]) * fmin(1, 6.0 / b->steps);
}

static inline double budget_cost(const Budget *b, const BudgetWork *w, BudgetCost of) {
    if (!isnan(b->cost[of])) return b->cost[of];
    return of == COST_VALIDATION ? b->cost[COST_STEP] / (3 * fmax(w->batch, 1)) : w->guess[of];      // backward is twice forward
}

// How often something is due in a run that has done `step` of its steps: before each of the further ones, but not behind the
// last.
static inline double budget_times(int every, int step, int steps) {
    return every > 0 && steps > step ? (steps - 1) / every - (step > 0 ? (step - 1) / every : -1) : 0;
}

// Seconds that will have been used when a run of so many steps ends, of which `step` are done: the steps, what is due on the way,
// and at the end the last validation, the checkpoint, the picture and the sample.
static inline double budget_end(const Budget *b, const BudgetWork *w, int step, int steps) {
    double validation = budget_cost(b, w, COST_VALIDATION), save = budget_cost(b, w, COST_SAVE),
           picture = budget_cost(b, w, COST_PICTURE), sample = budget_cost(b, w, COST_SAMPLE);
    double on_the_way = w->eval_windows * validation + budget_cost(b, w, COST_BEST) + picture;
    return b->used + (steps - step) * b->cost[COST_STEP] + budget_times(w->eval_every, step, steps) * on_the_way +
           budget_times(w->save_every, step, steps) * save + budget_times(w->sample_every, step, steps) * sample +
           w->final_windows * validation + save + picture + sample;
}

// The steps of the longest run, of which `step` are done, that ends in time: from least to most.
static inline int budget_fit(const Budget *b, const BudgetWork *w, int step, int least, int most) {
    while (least < most) {
        int half = most - (most - least) / 2;
        if (budget_end(b, w, step, half) <= b->seconds) least = half;
        else most = half - 1;
    }
    return least;
}

typedef enum { BUDGET_OPEN, BUDGET_FIXED, BUDGET_TOO_SHORT } BudgetAnswer;

/* Whether the number of steps is to be fixed now, with `step` of them done, to `now_steps`, those of the run whose cooldown
 * begins here, since a run of `next_steps`, whose cooldown begins one step later, would end too late. most: the largest number
 * there may be. A process that has seen a single step knows no pace yet, unless that took half of the time. BUDGET_TOO_SHORT:
 * of a run that has only begun not even now_steps end in time. */
static inline BudgetAnswer budget_decide(const Budget *b, const BudgetWork *w, int step, int now_steps, int next_steps, int most) {
    if (now_steps >= most) return BUDGET_FIXED;
    if (b->steps == 0 || (b->steps < 2 && b->used < b->seconds / 2)) return b->used < b->seconds ? BUDGET_OPEN : BUDGET_FIXED;
    if (budget_end(b, w, step, next_steps) <= b->seconds) return BUDGET_OPEN;
    return step <= 2 && budget_end(b, w, step, now_steps) > 1.05 * b->seconds ? BUDGET_TOO_SHORT : BUDGET_FIXED;
}

// In a cooldown, `step` of `steps` are done: when the clock is asked next.
static inline int budget_next_look(int step, int steps) { return step + (steps - step + 3) / 4; }

/* The steps that the run is to have instead of `steps`, from then on: the same where it ends within a fiftieth of the minutes, or
 * two steps, else those with which it ends in time, from least to most. A tenth of what is left remains, though it be late: the
 * rate has to come down. */
static inline int budget_revise(const Budget *b, const BudgetWork *w, int step, int steps, int least, int most) {
    double near = fmax(0.02 * b->seconds, 2 * b->cost[COST_STEP]);
    if (b->steps < 2 || fabs(budget_end(b, w, step, steps) - b->seconds) <= near) return steps;
    int tenth = step + (steps - step + 9) / 10;
    return budget_fit(b, w, step, least > tenth ? least : tenth, most);
}

#endif // BUDGET_H
