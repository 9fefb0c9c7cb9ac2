// SPDX-License-Identifier: Apache-2.0
// The futex call itself: wait, wake, requeue, bit sets, timeouts, errors.
#define _GNU_SOURCE
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WAITERS = 6 };
static uint32_t first, second;
static long woken, started;

static long futex(uint32_t *word, int op, uint32_t value, const void *timeout, uint32_t *other, uint32_t value3) {
    return syscall(SYS_futex, word, op, value, timeout, other, value3);
}

static void *waits(void *argument) {
    (void)argument;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    CHECK(futex(&first, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) == 0);
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void settle(long count) {
    struct timespec wait = {0, 5000000};
    for (int i = 0; i < 1000 && __atomic_load_n(&woken, __ATOMIC_SEQ_CST) != count; i++) nanosleep(&wait, NULL);
    CHECK(__atomic_load_n(&woken, __ATOMIC_SEQ_CST) == count);
}

static void *waits_for_bits(void *argument) {
    uint32_t bits = (uint32_t)(uintptr_t)argument;
    CHECK(futex(&second, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, bits) == 0);
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void) {
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++) CHECK(!pthread_create(&threads[i], NULL, waits, NULL));
    struct timespec wait = {0, 100000000};
    while (__atomic_load_n(&started, __ATOMIC_SEQ_CST) < WAITERS) nanosleep(&wait, NULL);
    nanosleep(&wait, NULL);
    CHECK(futex(&first, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10, &second, 1) == -1 && errno == EAGAIN);
    CHECK(futex(&first, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)3, &second, 0) == 4);
    settle(1);
    CHECK(futex(&first, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0) == 2);
    settle(3);
    CHECK(futex(&second, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 1);
    settle(4);
    CHECK(futex(&second, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0) == 2);
    settle(6);
    for (int i = 0; i < WAITERS; i++) pthread_join(threads[i], NULL);
    printf("woken %ld\n", woken);

    woken = 0;
    CHECK(!pthread_create(&threads[0], NULL, waits_for_bits, (void *)1));
    CHECK(!pthread_create(&threads[1], NULL, waits_for_bits, (void *)2));
    nanosleep(&wait, NULL);
    CHECK(futex(&second, FUTEX_WAKE_BITSET_PRIVATE, 100, NULL, NULL, 4) == 0);
    CHECK(futex(&second, FUTEX_WAKE_BITSET_PRIVATE, 100, NULL, NULL, 2) == 1);
    settle(1);
    CHECK(futex(&second, FUTEX_WAKE_BITSET_PRIVATE, 100, NULL, NULL, 3) == 1);
    settle(2);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    printf("by bits %ld\n", woken);

    CHECK(futex(&first, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0) == -1 && errno == EAGAIN);
    struct timespec short_time = {0, 20000000}, now;
    CHECK(futex(&first, FUTEX_WAIT_PRIVATE, 0, &short_time, NULL, 0) == -1 && errno == ETIMEDOUT);
    clock_gettime(CLOCK_MONOTONIC, &now);
    CHECK(futex(&first, FUTEX_WAIT_BITSET_PRIVATE, 0, &now, NULL, ~0u) == -1 && errno == ETIMEDOUT);
    CHECK(futex((uint32_t *)((char *)&first + 1), FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) == -1 && errno == EINVAL);
    CHECK(futex((uint32_t *)16, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) == -1 && errno == EFAULT);
    CHECK(futex(&first, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 0) == -1 && errno == EINVAL);
    uint32_t target = 5;
    CHECK(futex(&first, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &target, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)) == 0 && target == 8);
    puts("errors");
    return 0;
}
