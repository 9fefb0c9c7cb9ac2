// SPDX-License-Identifier: Apache-2.0
// Pipes, socket pairs, eventfd, timerfd and epoll, with an echo thread.
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ROUNDS = 500 };
static int to[2], from[2], pair[2], event;

static void *echo(void *argument) {
    (void)argument;
    char buffer[4096];
    for (;;) {
        struct pollfd fds[2] = {{to[0], POLLIN, 0}, {pair[1], POLLIN, 0}};
        CHECK(poll(fds, 2, -1) > 0);
        if (fds[0].revents) {
            ssize_t got = read(to[0], buffer, sizeof buffer);
            CHECK(got >= 0);
            if (got == 0) return NULL;
            CHECK(write(from[1], buffer, (size_t)got) == got);
        }
        if (fds[1].revents & POLLIN) {
            ssize_t got = recv(pair[1], buffer, sizeof buffer, 0);
            CHECK(got > 0);
            CHECK(send(pair[1], buffer, (size_t)got, 0) == got);
            uint64_t one = 1;
            CHECK(write(event, &one, 8) == 8);
        }
    }
}

int main(void) {
    CHECK(!pipe2(to, O_CLOEXEC) && !pipe(from));
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
    event = eventfd(0, EFD_NONBLOCK);
    CHECK(event >= 0);
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, echo, NULL));

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epoll >= 0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 0x1122334455667788};
    CHECK(!epoll_ctl(epoll, EPOLL_CTL_ADD, from[0], &wanted));
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, from[0], &wanted) == -1 && errno == EEXIST);
    wanted = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.u32 = 2};
    CHECK(!epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &wanted));
    wanted = (struct epoll_event){.events = EPOLLIN, .data.u32 = 3};
    CHECK(!epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted));
    struct epoll_event got[8];
    CHECK(epoll_wait(epoll, got, 8, 0) == 0);

    long piped = 0, paired = 0, counted = 0;
    for (int i = 0; i < ROUNDS; i++) {
        char text[64];
        int len = snprintf(text, sizeof text, "message %d", i);
        CHECK(write(to[1], text, (size_t)len) == len);
        CHECK(send(pair[0], text, (size_t)len, 0) == len);
        int in_pipe = 0, in_pair = 0, in_event = 0;
        while (in_pipe < len || in_pair < len || !in_event) {
            int count = epoll_wait(epoll, got, 8, 5000);
            CHECK(count > 0);
            for (int k = 0; k < count; k++) {
                char back[64];
                if (got[k].data.u64 == 0x1122334455667788) {
                    ssize_t n = read(from[0], back, sizeof back);
                    CHECK(n > 0 && !memcmp(back, text + in_pipe, (size_t)n));
                    in_pipe += (int)n;
                } else if (got[k].data.u32 == 2) {
                    ssize_t n;
                    while ((n = recv(pair[0], back, sizeof back, 0)) > 0) in_pair += (int)n;
                    CHECK(n == -1 && errno == EAGAIN);
                } else {
                    uint64_t value;
                    CHECK(read(event, &value, 8) == 8);
                    in_event = (int)value;
                }
            }
        }
        piped += in_pipe, paired += in_pair, counted += in_event;
    }
    printf("piped %ld paired %ld counted %ld\n", piped, paired, counted);

    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec every = {{0, 5000000}, {0, 5000000}};
    CHECK(timer >= 0 && !timerfd_settime(timer, 0, &every, NULL));
    uint64_t expirations = 0;
    while (expirations < 5) {
        uint64_t n;
        struct pollfd fds = {timer, POLLIN, 0};
        CHECK(poll(&fds, 1, 5000) == 1 && read(timer, &n, 8) == 8 && n > 0);
        expirations += n;
    }
    puts("timer expired");

    // select, FIONREAD, scatter and gather, full pipes, closed ends.
    CHECK(write(to[1], "", 0) == 0);
    struct iovec parts[2] = {{"hello ", 6}, {"world", 5}};
    CHECK(writev(to[1], parts, 2) == 11);
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(from[0], &readable);
    CHECK(select(from[0] + 1, &readable, NULL, NULL, NULL) == 1 && FD_ISSET(from[0], &readable));
    char first[6], second[16];
    int available = 0;
    while (available < 11) CHECK(!ioctl(from[0], FIONREAD, &available));
    struct iovec into[2] = {{first, 6}, {second, sizeof second}};
    CHECK(readv(from[0], into, 2) == 11 && !memcmp(first, "hello ", 6) && !memcmp(second, "world", 5));
    CHECK(!close(to[1]));
    pthread_join(thread, NULL);
    CHECK(!fcntl(from[1], F_SETFL, O_NONBLOCK));
    char block[4096] = {0};
    long filled = 0;
    ssize_t n;
    while ((n = write(from[1], block, sizeof block)) > 0) filled += n;
    CHECK(n == -1 && errno == EAGAIN && filled == 65536);
    signal(SIGPIPE, SIG_IGN);
    CHECK(!close(from[0]));
    CHECK(write(from[1], "x", 1) == -1 && errno == EPIPE);
    printf("filled %ld\n", filled);
    return 0;
}
