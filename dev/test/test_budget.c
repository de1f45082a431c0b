/* test_budget.c - how many steps a budget of time allows (src/budget.h), by clocks that the tests make up. Whole runs by the clock
 * are in test_run.c.
 */
#define _GNU_SOURCE
#include "../../src/keys.h"
#include "../../src/budget.h"
#include "test.h"

// Steps of a run whose i-th step takes pace(i) seconds and whose cooldown is a fraction, decided as the trainer decides; and the
// seconds that it takes in the end, on the same clock.
typedef struct { int decided_at, first_steps, steps, bends; double seconds; BudgetAnswer last; } Outcome;

static Outcome run_by_the_clock(Config *c, const BudgetWork *w, double minutes, double (*pace)(int), double validation, double save) {
    Outcome o = {.last = BUDGET_OPEN};
    double now = 100;                                    // clocks begin anywhere
    Budget b = budget_begin(60 * minutes, 0, now);
    int steps = MOST_STEPS, look = 0;
    budget_lap(&b, COST_OTHER, 1, now += 0.5);
    for (int step = 0; ; step++) {
        if (steps == MOST_STEPS) {
            int here = steps_with_cooldown_at(c, step);
            o.last = budget_decide(&b, w, step, here, steps_with_cooldown_at(c, step + 1), MOST_STEPS);
            if (o.last == BUDGET_TOO_SHORT) return o;
            if (o.last == BUDGET_FIXED) steps = o.first_steps = here, o.decided_at = step, look = budget_next_look(step, steps);
        } else if (step >= look && step < steps) {
            int before = steps;
            steps = budget_revise(&b, w, step, steps, step + 1, MOST_STEPS), o.bends += steps != before;
            look = budget_next_look(step, steps);
            CHECK(steps > step && look > step);
        }
        bool last = step == steps;
        if (last || (w->eval_every && step % w->eval_every == 0)) {
            double windows = last ? w->final_windows : w->eval_windows;
            budget_lap(&b, COST_VALIDATION, windows, now += windows * validation);
        }
        if (last || (step && w->save_every && step % w->save_every == 0)) budget_lap(&b, COST_SAVE, 1, now += save);
        if (last) break;
        budget_lap(&b, COST_STEP, 1, now += pace(step));
    }
    o.steps = steps;
    o.seconds = now - 100;
    return o;
}

static double steady(int step) { return step == 0 ? 0.5 : 0.1; }         // the first step is slow
static double slower(int step) { return step < 200 ? 0.1 : 0.25; }       // another program begins
static double faster(int step) { return step < 60 ? 0.2 : 0.1; }
static double uneven(int step) { return 0.1 + 0.08 * (step % 3) + (step % 50 == 49 ? 1.0 : 0); }

// Another program begins in a cooldown of half the steps, or ends; on one of two cores, on both, or stops this one.
static double half_busy(int step) { return step < 700 ? 0.1 : 0.2; }
static double half_free(int step) { return step < 400 ? 0.2 : 0.1; }
static double crowded(int step) { return step < 650 ? 0.1 : 0.5; }
static double comes_and_goes(int step) { return step / 60 % 2 ? 0.1 : 0.2; }
static double stopped(int step) { return step == 700 ? 1000 : 0.1; }

static Config trapezoid(double warmup, double cooldown) {
    Config c = {0};
    c.schedule.kind = SCHEDULE_TRAPEZOID;
    c.schedule.warmup = warmup;
    c.schedule.cooldown = cooldown;
    c.train.steps = MOST_STEPS;
    return c;
}

TEST(a_run_ends_in_time_at_any_pace) {
    double (*const paces[])(int) = {steady, slower, faster, uneven};
    const double cooldowns[] = {0, 0.2, 0.5, 0.8};
    BudgetWork w = {.eval_every = 40, .save_every = 100, .eval_windows = 20, .final_windows = 80, .batch = 16};
    for (size_t i = 0; i < COUNT_OF(paces); i++)
        for (size_t k = 0; k < COUNT_OF(cooldowns); k++) {
            Config c = trapezoid(20, cooldowns[k]);
            Outcome o = run_by_the_clock(&c, &w, 2, paces[i], 0.02, 0.8);
            CHECK_MSG(o.seconds > 0.92 * 120 && o.seconds < 1.05 * 120, "pace %zu, cooldown %g: %d steps of %.1f seconds", i, cooldowns[k],
                      o.steps, o.seconds);
            CHECK(fabs(o.decided_at - (1 - cooldowns[k]) * o.first_steps) <= 1);
        }
}

// The cooldown is not blind: it follows the machine's pace, and where that is steady there is nothing to follow.
TEST(a_cooldown_ends_in_time_too) {
    static const struct { double (*pace)(int); int bends; double late; } cases[] = {
        {steady, 0, 0.02}, {half_busy, 6, 0.04}, {half_free, 6, 0.04}, {crowded, 8, 0.05}, {comes_and_goes, 10, 0.05}, {uneven, 3, 0.03}};
    BudgetWork w = {.eval_every = 100, .save_every = 250, .eval_windows = 20, .final_windows = 80, .batch = 16};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Config c = trapezoid(20, 0.5);
        Outcome o = run_by_the_clock(&c, &w, 2, cases[i].pace, 0.02, 0.8);
        CHECK_MSG(fabs(o.seconds / 120 - 1) <= cases[i].late && o.bends <= cases[i].bends && (o.bends > 0 || i == 0 || cases[i].pace == uneven),
                  "case %zu: %d steps of %.1f seconds, %d bends", i, o.steps, o.seconds, o.bends);
    }
    // what is late beyond hope ends soon, but comes down first
    Config c = trapezoid(20, 0.5);
    Outcome o = run_by_the_clock(&c, &w, 2, stopped, 0.02, 0.8);
    CHECK_MSG(o.steps > 720 && o.steps < 800 && o.seconds > 1000 && o.bends > 0, "%d steps", o.steps);
}

TEST(the_steps_that_end_in_time_are_found) {
    Budget b = budget_begin(100, 0, 0);
    budget_lap(&b, COST_STEP, 1, 1);
    budget_lap(&b, COST_STEP, 1, 2);
    BudgetWork w = {.final_windows = 9, .batch = 3, .eval_every = 10, .eval_windows = 9};        // a second each
    // 98 seconds are left: one at the end, and of n steps one each, and one each ten
    for (int most = 5; most < 200; most += 5) {
        int steps = budget_fit(&b, &w, 2, 3, most);
        CHECK_MSG(steps == (most < 90 ? most : 90), "%d", steps);
    }
    CHECK(budget_fit(&b, &w, 2, 95, 200) == 95);         // not even the fewest
    CHECK(budget_revise(&b, &w, 2, 90, 3, 200) == 90 && budget_revise(&b, &w, 2, 91, 3, 200) == 91);     // within a fiftieth
    CHECK(budget_revise(&b, &w, 2, 100, 3, 200) == 90 && budget_revise(&b, &w, 2, 80, 3, 200) == 90 && budget_revise(&b, &w, 2, 80, 3, 85) == 85);
    CHECK(budget_revise(&b, &w, 2, 10000, 3, 20000) == 1002 && budget_revise(&b, &w, 2, 100, 97, 200) == 97);
    CHECK(budget_next_look(100, 200) == 125 && budget_next_look(199, 200) == 200 && budget_next_look(10, 12) == 11);
}

// What is due on the way is counted, and what comes at the end: a run without room for it would be late by that.
TEST(validations_and_saves_are_counted) {
    Config c = trapezoid(0, 0.5);
    BudgetWork w = {.eval_every = 10, .save_every = 20, .eval_windows = 50, .final_windows = 500, .batch = 16};
    Outcome o = run_by_the_clock(&c, &w, 2, steady, 0.02, 2);            // a second each ten steps, ten at the end; two each twenty
    CHECK_MSG(o.seconds > 110 && o.seconds < 121, "%.1f seconds", o.seconds);
    Budget b = budget_begin(100, 0, 0);
    budget_lap(&b, COST_STEP, 1, 2);
    budget_lap(&b, COST_VALIDATION, 10, 7);
    budget_lap(&b, COST_SAVE, 1, 10);
    BudgetWork all = {.eval_every = 5, .save_every = 4, .eval_windows = 4, .final_windows = 6, .batch = 2,
                      .guess = {[COST_BEST] = 0.25, [COST_PICTURE] = 0.5, [COST_SAMPLE] = 8}};
    // done: 1 of 11. Steps 10 x 2; on the way at 5 and 10 each 4 x 0.5 + 0.25 + 0.5, saves at 4 and 8; at the end 6 x 0.5 + 3 + 0.5 + 8
    CHECK_MSG(fabs(budget_end(&b, &all, 1, 11) - (10 + 20 + 2 * 2.75 + 2 * 3 + 14.5)) < 1e-12, "%g", budget_end(&b, &all, 1, 11));
    CHECK(budget_times(5, 0, 11) == 3 && budget_times(5, 5, 10) == 1 && budget_times(5, 6, 10) == 0 && budget_times(0, 0, 9) == 0);
    Budget fresh = budget_begin(100, 0, 0);
    budget_lap(&fresh, COST_STEP, 1, 6);                 // no validation was seen: a window is the forward third of a sequence
    CHECK(fabs(budget_end(&fresh, &(BudgetWork){.final_windows = 10, .batch = 2}, 1, 1) - 16) < 1e-12);
}

TEST(a_budget_that_cannot_do_is_refused_at_once) {
    Config c = trapezoid(50, 0.5);                       // a hundred steps at least
    BudgetWork w = {.final_windows = 100, .batch = 16};
    CHECK(run_by_the_clock(&c, &w, 0.1, steady, 0.02, 0).last == BUDGET_TOO_SHORT);
    Outcome o = run_by_the_clock(&c, &w, 0.25, steady, 0.02, 0);
    CHECK_MSG(o.last == BUDGET_FIXED && o.steps >= 100, "%d steps", o.steps);
    Budget late = budget_begin(60, 61, 0);               // gone before this process began: no further step at the peak
    CHECK(budget_decide(&late, &w, 30, 100, 102, MOST_STEPS) == BUDGET_FIXED);
    Budget early = budget_begin(60, 10, 0);
    CHECK(budget_decide(&early, &w, 30, 100, 102, MOST_STEPS) == BUDGET_OPEN);
    CHECK(budget_decide(&early, &w, 30, 100, 100, 100) == BUDGET_FIXED);             // train.steps are reached first
}

// All rates before the cooldown are those of any longer run, and the run is one that check_schedule takes.
TEST(the_steps_before_the_cooldown_keep_their_rates) {
    for (int every = 0; every <= 7; every += 7)
        for (double cooldown = 0; cooldown < 1; cooldown += 0.05)
            for (int step = 0; step < 400; step++) {
                Config c = trapezoid(12, cooldown);
                c.train.local_steps = every;
                c.optimizer.muon.momentum_warmup = 30;
                int steps = steps_with_cooldown_at(&c, step);
                c.train.steps = steps;
                double left = steps - (step - 1);        // of the last step that was done
                CHECK_MSG(left >= cooldown_steps(&c), "step %d, cooldown %g: %d steps", step, cooldown, steps);
                CHECK(steps > 30 && 12 + cooldown_steps(&c) <= steps * (1 + 1e-12) && (!every || steps % every == 0));
                if (step > 60 && !every) CHECK(steps - cooldown_steps(&c) < step + 1);
            }
    Config absolute = trapezoid(12, 40);                 // of so many steps
    CHECK(steps_with_cooldown_at(&absolute, 100) == 140 && steps_with_cooldown_at(&absolute, 0) == 52);
    Config constant = {.schedule.kind = SCHEDULE_CONSTANT, .schedule.cooldown = 0.4};
    CHECK(steps_with_cooldown_at(&constant, 100) == 100 && steps_with_cooldown_at(&constant, 0) == 1);
}

int main(int argc, char **argv) {
    tests_only = argc > 1 ? argv[1] : NULL;
    RUN(a_run_ends_in_time_at_any_pace);
    RUN(a_cooldown_ends_in_time_too);
    RUN(the_steps_that_end_in_time_are_found);
    RUN(validations_and_saves_are_counted);
    RUN(a_budget_that_cannot_do_is_refused_at_once);
    RUN(the_steps_before_the_cooldown_keep_their_rates);
    return tests_end();
}
