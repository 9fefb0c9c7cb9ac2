// SPDX-License-Identifier: Apache-2.0
// Nanoseconds per system call: served inside, forwarded from a listed site,
// forwarded from code that no list can know. The forwarded call is the cheapest
// that only the host can answer: clock_gettime.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    long rounds = argc > 2 ? atol(argv[2]) : 100000;
    struct timespec t;
    unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 2;
    // mov rax, rdi; mov rdi, rsi; mov rsi, rdx; mov rdx, rcx; mov r10, r8; nop...; syscall; ret
    static const unsigned char call[] = {0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6,
                                         0x48, 0x89, 0xca, 0x4d, 0x89, 0xc2, 0x0f, 0x05, 0xc3};
    memcpy(code, call, sizeof call);
    long (*raw)(long, long, long, long, long) = (void *)code;

    double start = now();
    if (!strcmp(what, "inside")) {
        for (long i = 0; i < rounds; i++) getppid();
    } else if (!strcmp(what, "listed")) {
        for (long i = 0; i < rounds; i++)
            if (syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t)) return 3;
    } else if (!strcmp(what, "unlisted")) {
        for (long i = 0; i < rounds; i++)
            if (raw(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0, 0)) return 4;
    } else {
        return 5;
    }
    printf("%.1f\n", (now() - start) / rounds);
    return 0;
}
