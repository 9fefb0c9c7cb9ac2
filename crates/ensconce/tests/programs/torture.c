// SPDX-License-Identifier: Apache-2.0
// Live x87, AVX2 and AVX-512 registers across interruptions: a timer fires every
// 50 microseconds while each round loads known values into all of them, computes
// and compares with what plain code gives.
#include "check.h"
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>

static volatile sig_atomic_t alarms;
static void on_alarm(int number) {
    (void)number;
    alarms++;
}

static uint64_t state = 88172645463325252u;
static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

enum { SPIN = 3000 };

// Sixteen registers of four words, spun for a while, stored again.
__attribute__((target("avx2"))) static void spin_avx2(const uint64_t in[16][4], uint64_t out[16][4]) {
#define EACH(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
    __asm__ volatile(
#define LOAD(n) "vmovdqu " #n "*32(%[in]), %%ymm" #n "\n"
        EACH(LOAD)
        "mov %[spin], %%ecx\n"
        "1:\n"
#define ADD(n) "vpaddq %%ymm" #n ", %%ymm" #n ", %%ymm" #n "\n"
        EACH(ADD)
        "dec %%ecx\n"
        "jnz 1b\n"
#define STORE(n) "vmovdqu %%ymm" #n ", " #n "*32(%[out])\n"
        EACH(STORE)
        "vzeroupper\n" ::[in] "r"(in), [out] "r"(out), [spin] "i"(SPIN % 64)
        : "rcx", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
          "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

// Thirty-two registers of eight words and a mask.
__attribute__((target("avx512f"))) static void spin_avx512(const uint64_t in[32][8], uint64_t out[32][8], uint64_t *mask) {
#define EACH2(f) EACH(f) f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23) f(24) f(25) f(26) f(27) f(28) f(29) f(30) f(31)
    uint32_t k = (uint32_t)*mask & 0xffff;
    __asm__ volatile(
        "kmovw %[k], %%k3\n"
#define LOAD2(n) "vmovdqu64 " #n "*64(%[in]), %%zmm" #n "\n"
        EACH2(LOAD2)
        "mov %[spin], %%ecx\n"
        "1:\n"
#define ADD2(n) "vpaddq %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n"
        EACH2(ADD2)
        "dec %%ecx\n"
        "jnz 1b\n"
#define STORE2(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%[out])\n"
        EACH2(STORE2)
        "kmovw %%k3, %[k]\n"
        "vzeroupper\n"
        : [k] "+r"(k)
        : [in] "r"(in), [out] "r"(out), [spin] "i"(SPIN % 64)
        : "rcx", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
          "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",
          "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k3");
    *mask = k;
}

// Eight x87 registers with different values, a while of multiplying by one.
static void spin_x87(const long double in[8], long double out[8]) {
    __asm__ volatile(
        "fldt 112(%0)\nfldt 96(%0)\nfldt 80(%0)\nfldt 64(%0)\nfldt 48(%0)\nfldt 32(%0)\nfldt 16(%0)\nfldt (%0)\n"
        "mov $2000, %%ecx\n1: fxch %%st(3)\nfxch %%st(5)\nfxch %%st(7)\nfxch %%st(7)\nfxch %%st(5)\nfxch %%st(3)\n"
        "dec %%ecx\njnz 1b\n"
        "fstpt (%1)\nfstpt 16(%1)\nfstpt 32(%1)\nfstpt 48(%1)\nfstpt 64(%1)\nfstpt 80(%1)\nfstpt 96(%1)\nfstpt 112(%1)\n" ::"r"(in),
        "r"(out)
        : "rcx", "memory", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
}

static int has_avx512(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX512F)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return (low & 0xe6) == 0xe6;
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    CHECK(!sigaction(SIGALRM, &action, NULL));
    struct itimerval every = {{0, 50}, {0, 50}};
    CHECK(!setitimer(ITIMER_REAL, &every, NULL));
    int wide = has_avx512();
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    static uint64_t in[32][8] __attribute__((aligned(64))), out[32][8] __attribute__((aligned(64)));
    long rounds = 0;
    do {
        for (int i = 0; i < 32; i++)
            for (int k = 0; k < 8; k++) in[i][k] = next();
        for (int repeat = 0; repeat < 20; repeat++) {
            spin_avx2((const uint64_t(*)[4])in, (uint64_t(*)[4])out);
            for (int i = 0; i < 16 * 4; i++) CHECK(((uint64_t *)out)[i] == ((uint64_t *)in)[i] << (SPIN % 64));
            if (wide) {
                uint64_t mask = next() & 0xffff, same = mask;
                spin_avx512((const uint64_t(*)[8])in, out, &mask);
                CHECK(mask == same);
                for (int i = 0; i < 32 * 8; i++) CHECK(((uint64_t *)out)[i] == ((uint64_t *)in)[i] << (SPIN % 64));
            }
        }
        long double values[8], back[8];
        for (int i = 0; i < 8; i++) values[i] = (long double)next() / 3.0L;
        spin_x87(values, back);
        for (int i = 0; i < 8; i++) CHECK(values[i] == back[i]);
        rounds++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 < seconds);
    every = (struct itimerval){{0, 0}, {0, 0}};
    CHECK(!setitimer(ITIMER_REAL, &every, NULL));
    CHECK(alarms > 100 && rounds > 0);
    fprintf(stderr, "%ld rounds, %d alarms, AVX-512 %s\n", rounds, alarms, wide ? "too" : "absent");
    puts("all registers survived");
    return 0;
}
