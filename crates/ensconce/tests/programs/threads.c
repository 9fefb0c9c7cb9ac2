// SPDX-License-Identifier: Apache-2.0
// Mutexes, condition variables, barriers, thread-local data, reuse of threads.
#include "check.h"
#include <pthread.h>
#include <semaphore.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 20000, PINGS = 5000 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static sem_t semaphore;
static __thread long mine;
static long shared, destroyed, initialised;
static int turn;

static void initialise(void) { initialised++; }
static void destroy(void *value) { __atomic_add_fetch(&destroyed, (long)value, __ATOMIC_SEQ_CST); }

static void *count(void *argument) {
    pthread_once(&once, initialise);
    pthread_setspecific(key, (void *)1);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        shared++;
        pthread_mutex_unlock(&mutex);
        mine++;
        if (i % 1000 == 0) {
            pthread_rwlock_rdlock(&rwlock);
            pthread_rwlock_unlock(&rwlock);
        }
    }
    CHECK(mine == ROUNDS);
    sem_post(&semaphore);
    return argument;
}

static void *ping(void *argument) {
    int me = (int)(long)argument;
    for (int i = 0; i < PINGS; i++) {
        pthread_mutex_lock(&mutex);
        while (turn != me) pthread_cond_wait(&turned, &mutex);
        turn = !me;
        pthread_cond_signal(&turned);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *short_lived(void *argument) { return (char *)argument + 1; }
static void *cancelled(void *argument) {
    for (;;) pause();
    return argument;
}

int main(void) {
    pthread_t threads[THREADS];
    pthread_key_create(&key, destroy);
    pthread_barrier_init(&barrier, NULL, THREADS);
    sem_init(&semaphore, 0, 0);
    for (long i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, count, (void *)i));
    for (int i = 0; i < THREADS; i++) CHECK(!sem_wait(&semaphore));
    for (long i = 0; i < THREADS; i++) {
        void *result;
        CHECK(!pthread_join(threads[i], &result) && result == (void *)i);
    }
    printf("shared %ld destroyed %ld initialised %ld\n", shared, destroyed, initialised);

    CHECK(!pthread_create(&threads[0], NULL, ping, (void *)0));
    CHECK(!pthread_create(&threads[1], NULL, ping, (void *)1));
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    printf("turn %d\n", turn);

    for (long i = 0; i < 200; i++) {
        void *result;
        CHECK(!pthread_create(&threads[0], NULL, short_lived, (void *)i));
        CHECK(!pthread_join(threads[0], &result) && result == (void *)(i + 1));
    }
    puts("200 threads came and went");

    struct timespec start, end, until;
    clock_gettime(CLOCK_MONOTONIC, &start);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 50000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&mutex);
    int error;
    while (!(error = pthread_cond_timedwait(&turned, &mutex, &until))) {}
    pthread_mutex_unlock(&mutex);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double waited = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
    CHECK(error == ETIMEDOUT && waited > 0.045);
    puts("timed out");

    CHECK(!pthread_create(&threads[0], NULL, cancelled, NULL));
    CHECK(!pthread_cancel(threads[0]));
    void *result;
    CHECK(!pthread_join(threads[0], &result) && result == PTHREAD_CANCELED);
    puts("cancelled");
    return 0;
}
