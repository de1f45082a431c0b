/* signals.h - wishes that a program end: it finishes what it is at, saves, and says so.
 *
 * defines: interrupted, take_signals
 */
#ifndef SIGNALS_H
#define SIGNALS_H

#include <signal.h>
#include "util.h"

static volatile sig_atomic_t interrupted;        // by a signal

// A second INT, Ctrl-C again, ends the program at once; the others come repeatedly: from a terminal that closes and its
// shell, from a group's leader and make, which passes TERM on, from a scheduler, or with every second over the CPU time.
static inline void on_signal(int number) {
    interrupted = 1;
    if (number == SIGINT) signal(number, SIG_DFL);
}

// SIGPIPE: the reader of our output has gone (make train | head). nohup's programs ignore SIGHUP, and still do.
static inline void take_signals(void) {
    static const int saving[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU, SIGPIPE};
    for (size_t i = 0; i < COUNT_OF(saving); i++)
        if (signal(saving[i], on_signal) == SIG_IGN && saving[i] == SIGHUP) signal(SIGHUP, SIG_IGN);
}

#endif // SIGNALS_H
