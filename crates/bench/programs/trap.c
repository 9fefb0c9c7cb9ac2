// SPDX-License-Identifier: Apache-2.0
// Nanoseconds of a bare system-call-user-dispatch trap: what a forwarded call
// from an unknown site costs at least.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static void handler(int number, siginfo_t *info, void *context) {
    ucontext_t *frame = context;
    (void)number;
    (void)info;
    frame->uc_mcontext.gregs[REG_RAX] = 1;
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 100000;
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSYS, &action, 0);
    // The trapping page lies below everything that may call the kernel.
    unsigned char *code = mmap((void *)0x10000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (code == MAP_FAILED) return 1;
    static const unsigned char call[] = {0x48, 0x89, 0xf8, 0x0f, 0x05, 0xc3};
    memcpy(code, call, sizeof call);
    long (*raw)(long) = (void *)code;
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0x20000, 0x7fffffff0000UL - 0x20000, 0)) return 2;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (long i = 0; i < rounds; i++)
        if (raw(SYS_getppid) != 1) return 3;
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.1f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / rounds);
    return 0;
}
