// SPDX-License-Identifier: Apache-2.0
// Masks, pending signals, EINTR and restart, alternate stacks, waiting for
// signals, signals to threads, values sent along.
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t hits, order[8], next_slot;
static volatile void *handler_frame;
static sigjmp_buf overflowed;

static void on_signal(int number) {
    hits++;
    if (next_slot < 8) order[next_slot++] = number;
}

static void on_value(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    hits += info->si_value.sival_int;
    CHECK(info->si_pid == getpid());
}

static void on_overflow(int number) {
    int here;
    handler_frame = &here;
    CHECK(number == SIGSEGV);
    siglongjmp(overflowed, 1);
}

static void handle(int number, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK(!sigaction(number, &action, NULL));
}

__attribute__((noinline)) static long recurse(volatile long depth) {
    volatile char frame[1024];
    frame[depth % 1024] = 1;
    return depth < 0 ? 0 : recurse(depth + 1) + frame[0];
}

static void *kicks(void *argument) {
    pthread_t target = *(pthread_t *)argument;
    struct timespec wait = {0, 20000000};
    for (int i = 0; i < 5; i++) {
        nanosleep(&wait, NULL);
        pthread_kill(target, SIGUSR1);
    }
    return NULL;
}

static int pipes[2];
static void *writes(void *argument) {
    (void)argument;
    struct timespec wait = {0, 200000000};
    nanosleep(&wait, NULL);
    CHECK(write(pipes[1], "x", 1) == 1);
    return NULL;
}

int main(void) {
    // Blocked signals wait; real-time signals queue, others do not.
    handle(SIGUSR1, on_signal, 0);
    handle(SIGRTMIN, on_signal, 0);
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    CHECK(!sigprocmask(SIG_BLOCK, &set, &old));
    for (int i = 0; i < 3; i++) raise(SIGUSR1), raise(SIGRTMIN);
    CHECK(!sigpending(&pending) && sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGRTMIN));
    CHECK(hits == 0);
    CHECK(!sigprocmask(SIG_SETMASK, &old, NULL));
    printf("delivered %d\n", hits);

    // sigsuspend, sigtimedwait, signalfd.
    hits = 0;
    CHECK(!sigprocmask(SIG_BLOCK, &set, &old));
    raise(SIGUSR1);
    CHECK(sigsuspend(&old) == -1 && errno == EINTR && hits == 1);
    raise(SIGUSR1);
    siginfo_t info;
    struct timespec now = {0, 0};
    CHECK(sigtimedwait(&set, &info, &now) == SIGUSR1 && hits == 1);
    CHECK(sigtimedwait(&set, &info, &now) == -1 && errno == EAGAIN);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    CHECK(fd >= 0);
    raise(SIGUSR1);
    struct signalfd_siginfo read_info;
    CHECK(read(fd, &read_info, sizeof read_info) == sizeof read_info && read_info.ssi_signo == SIGUSR1);
    CHECK(read(fd, &read_info, sizeof read_info) == -1 && errno == EAGAIN);
    CHECK(!sigprocmask(SIG_SETMASK, &old, NULL));
    puts("waited for");

    // A value sent along.
    hits = 0;
    struct sigaction action = {.sa_sigaction = on_value, .sa_flags = SA_SIGINFO};
    CHECK(!sigaction(SIGUSR2, &action, NULL));
    CHECK(!sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 42}));
    printf("value %d\n", hits);

    // A blocked read ends with EINTR, or goes on, as asked.
    hits = 0;
    CHECK(!pipe(pipes));
    handle(SIGALRM, on_signal, 0);
    struct itimerval soon = {{0, 0}, {0, 30000}};
    CHECK(!setitimer(ITIMER_REAL, &soon, NULL));
    char byte;
    CHECK(read(pipes[0], &byte, 1) == -1 && errno == EINTR && hits == 1);
    handle(SIGALRM, on_signal, SA_RESTART);
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, writes, NULL));
    CHECK(!setitimer(ITIMER_REAL, &soon, NULL));
    CHECK(read(pipes[0], &byte, 1) == 1 && byte == 'x' && hits == 2);
    pthread_join(thread, NULL);
    puts("interrupted and restarted");

    // Sleeping is interrupted and tells the rest.
    handle(SIGALRM, on_signal, SA_RESTART);
    CHECK(!setitimer(ITIMER_REAL, &soon, NULL));
    struct timespec want = {5, 0}, rest;
    CHECK(nanosleep(&want, &rest) == -1 && errno == EINTR && rest.tv_sec == 4);
    puts("woken");

    // A particular thread is meant.
    hits = 0;
    pthread_t self = pthread_self();
    CHECK(!pthread_create(&thread, NULL, kicks, &self));
    int interrupted = 0;
    while (interrupted < 5) {
        CHECK(pause() == -1 && errno == EINTR);
        interrupted++;
    }
    pthread_join(thread, NULL);
    printf("kicked %d\n", hits);

    // Stack overflow is handled on the alternate stack, again and again.
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    CHECK(!sigaltstack(&alternate, NULL));
    handle(SIGSEGV, on_overflow, SA_ONSTACK);
    for (volatile int i = 0; i < 3; i++) {
        if (!sigsetjmp(overflowed, 1)) recurse(0);
        CHECK((char *)handler_frame >= stack && (char *)handler_frame < stack + sizeof stack);
    }
    CHECK(!sigaltstack(NULL, &alternate) && !(alternate.ss_flags & SS_ONSTACK));
    puts("overflowed");

    // SA_RESETHAND, SA_NODEFER, ignored signals.
    hits = 0;
    handle(SIGUSR1, on_signal, SA_RESETHAND);
    raise(SIGUSR1);
    CHECK(!sigaction(SIGUSR1, NULL, &action) && action.sa_handler == SIG_DFL && hits == 1);
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    puts("ignored");
    fflush(stdout);
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
    return 1;
}
