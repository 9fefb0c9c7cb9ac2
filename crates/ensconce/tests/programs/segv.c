// SPDX-License-Identifier: Apache-2.0
// Faults that a program handles: SIGSEGV with siglongjmp, SIGILL and SIGFPE
// handlers that change the interrupted registers, SIGTRAP.
#define _GNU_SOURCE
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { ROUNDS = 1000 };
static sigjmp_buf back;
static volatile char *expected;
static volatile int expected_code;
static volatile long faults, illegal, divisions, traps;

static void on_segv(int number, siginfo_t *info, void *context) {
    (void)context;
    CHECK(number == SIGSEGV && info->si_addr == (void *)expected && info->si_code == expected_code);
    faults++;
    siglongjmp(back, 1);
}

static void on_ill(int number, siginfo_t *info, void *context) {
    ucontext_t *interrupted = context;
    CHECK(number == SIGILL && info->si_addr == (void *)interrupted->uc_mcontext.gregs[REG_RIP]);
    interrupted->uc_mcontext.gregs[REG_RIP] += 2;
    interrupted->uc_mcontext.gregs[REG_RBX] += 3;
    illegal++;
}

static void on_fpe(int number, siginfo_t *info, void *context) {
    ucontext_t *interrupted = context;
    CHECK(number == SIGFPE && info->si_code == FPE_INTDIV);
    interrupted->uc_mcontext.gregs[REG_RCX] = 7;
    divisions++;
}

static void on_trap(int number) {
    CHECK(number == SIGTRAP);
    traps++;
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    CHECK(!sigaction(number, &action, NULL));
}

int main(void) {
    handle(SIGSEGV, on_segv);
    handle(SIGILL, on_ill);
    handle(SIGFPE, on_fpe);
    signal(SIGTRAP, on_trap);

    volatile char *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    CHECK(!munmap((void *)(page + 4096), 4096));
    for (volatile int i = 0; i < ROUNDS; i++) {
        // Odd rounds write a read-only page, even ones touch an unmapped page.
        expected = i % 2 ? page + i % 4096 : page + 4096 + i % 4096;
        expected_code = i % 2 ? SEGV_ACCERR : SEGV_MAPERR;
        if (!sigsetjmp(back, 1)) {
            if (i % 2) *expected = 1; else (void)*expected;
            CHECK(0);
        }
    }
    printf("faults %ld\n", faults);

    expected = NULL;
    expected_code = SEGV_MAPERR;
    if (!sigsetjmp(back, 1)) {
        volatile char *nothing = NULL;
        (void)*nothing;
    }
    printf("null %ld\n", faults);

    long sum = 0;
    for (int i = 0; i < ROUNDS; i++) __asm__ volatile("ud2" : "+b"(sum)::"memory");
    printf("illegal %ld sum %ld\n", illegal, sum);

    long quotient = 0;
    for (int i = 0; i < 100; i++) {
        long high = 0, low = 700, divisor = 0;
        __asm__ volatile("idivq %%rcx" : "+a"(low), "+d"(high), "+c"(divisor)::"cc");
        quotient += low;
    }
    printf("divisions %ld quotient %ld\n", divisions, quotient);

    for (int i = 0; i < 10; i++) __asm__ volatile("int3");
    printf("traps %ld\n", traps);
    return 0;
}
