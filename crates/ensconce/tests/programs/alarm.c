// SPDX-License-Identifier: Apache-2.0
// A storm of timer signals while floating-point code runs: x87, SSE and AVX
// registers must survive every handler, and the handler uses them itself.
#include "check.h"
#include <math.h>
#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t alarms;
static volatile double sink;

static void on_alarm(int number) {
    (void)number;
    long double wide = 1.0L;
    double narrow = 1.0;
    for (int i = 1; i < 20; i++) wide *= 1.5L, narrow /= 1.25;
    sink = (double)wide + narrow;
    alarms++;
}

static double work(void) {
    long double wide = 0;
    double narrow = 0;
    for (int i = 1; i < 20000; i++) {
        wide += 1.0L / (long double)i;
        narrow += sqrt((double)i) * sin((double)i);
    }
    return (double)wide + narrow;
}

int main(void) {
    double expected = work();
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    CHECK(!sigaction(SIGALRM, &action, NULL));
    struct itimerval every = {{0, 200}, {0, 200}};
    CHECK(!setitimer(ITIMER_REAL, &every, NULL));
    long rounds = 0;
    while (alarms < 1000) {
        CHECK(work() == expected);
        rounds++;
    }
    every = (struct itimerval){{0, 0}, {0, 0}};
    CHECK(!setitimer(ITIMER_REAL, &every, NULL));
    CHECK(rounds > 0);
    puts("1000 alarms, all results equal");
    return 0;
}
