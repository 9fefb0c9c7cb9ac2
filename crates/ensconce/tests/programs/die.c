// SPDX-License-Identifier: Apache-2.0
// Ends in the way that is asked for.
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static void *exits(void *argument) {
    (void)argument;
    exit(23);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    puts("before the end");
    fflush(stdout);
    if (!strcmp(argv[1], "abort")) abort();
    if (!strcmp(argv[1], "segv")) *(volatile int *)8 = 1;
    if (!strcmp(argv[1], "ill")) __asm__ volatile("ud2");
    if (!strcmp(argv[1], "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(argv[1], "exit")) _exit(255);
    if (!strcmp(argv[1], "thread")) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, exits, NULL));
        for (;;) pause();
    }
    return 17;
}
