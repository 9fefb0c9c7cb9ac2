// SPDX-License-Identifier: Apache-2.0
// TCP and UDP over the loopback device, and unix sockets, with threads.
#define _GNU_SOURCE
#include "check.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CLIENTS = 4, ROUNDS = 200 };
static int listener;
static struct sockaddr_in address = {.sin_family = AF_INET};

static void *serve(void *argument) {
    int fd = (int)(long)argument;
    char buffer[2048];
    ssize_t got;
    while ((got = recv(fd, buffer, sizeof buffer, 0)) > 0)
        for (ssize_t at = 0; at < got;) {
            ssize_t put = send(fd, buffer + at, (size_t)(got - at), MSG_NOSIGNAL);
            CHECK(put > 0);
            at += put;
        }
    CHECK(got == 0 && !close(fd));
    return NULL;
}

static void *accepts(void *argument) {
    (void)argument;
    pthread_t threads[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
        CHECK(fd >= 0 && len == sizeof peer && peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
        CHECK(!pthread_create(&threads[i], NULL, serve, (void *)(long)fd));
    }
    for (int i = 0; i < CLIENTS; i++) pthread_join(threads[i], NULL);
    return NULL;
}

static void *asks(void *argument) {
    int me = (int)(long)argument;
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    CHECK(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof address));
    CHECK(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    char text[1000], back[1000];
    for (int i = 0; i < ROUNDS; i++) {
        memset(text, 'a' + (me + i) % 26, sizeof text);
        CHECK(send(fd, text, sizeof text, 0) == sizeof text);
        CHECK(recv(fd, back, sizeof back, MSG_WAITALL) == sizeof back && !memcmp(text, back, sizeof text));
    }
    CHECK(!shutdown(fd, SHUT_WR) && recv(fd, back, 1, 0) == 0 && !close(fd));
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    CHECK(listener >= 0 && !setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    CHECK(!bind(listener, (struct sockaddr *)&address, sizeof address) && !listen(listener, 16));
    socklen_t len = sizeof address;
    CHECK(!getsockname(listener, (struct sockaddr *)&address, &len) && address.sin_port);
    pthread_t server, clients[CLIENTS];
    CHECK(!pthread_create(&server, NULL, accepts, NULL));
    for (long i = 0; i < CLIENTS; i++) CHECK(!pthread_create(&clients[i], NULL, asks, (void *)i));
    for (int i = 0; i < CLIENTS; i++) pthread_join(clients[i], NULL);
    pthread_join(server, NULL);
    CHECK(!close(listener));
    puts("tcp");

    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == -1 && errno == ECONNREFUSED && !close(fd));
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    len = sizeof there;
    CHECK(!bind(b, (struct sockaddr *)&there, len) && !getsockname(b, (struct sockaddr *)&there, &len));
    CHECK(sendto(a, "datagram", 8, 0, (struct sockaddr *)&there, sizeof there) == 8);
    char text[64];
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
    CHECK(recvmsg(b, &message, 0) == 8 && !memcmp(text, "datagram", 8) && message.msg_namelen == sizeof from);
    struct timeval short_time = {0, 20000};
    CHECK(!setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof short_time));
    CHECK(recv(b, text, sizeof text, 0) == -1 && (errno == EAGAIN || errno == EWOULDBLOCK));
    puts("udp");

    struct sockaddr_un path = {.sun_family = AF_UNIX};
    CHECK(strlen(argv[1]) < sizeof path.sun_path);
    strcpy(path.sun_path, argv[1]);
    int server_fd = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(!bind(server_fd, (struct sockaddr *)&path, sizeof path) && !listen(server_fd, 1));
    CHECK(!connect(client, (struct sockaddr *)&path, sizeof path));
    int peer = accept(server_fd, NULL, NULL);
    CHECK(peer >= 0 && write(client, "unix", 4) == 4 && read(peer, text, sizeof text) == 4 && !memcmp(text, "unix", 4));
    CHECK(!unlink(argv[1]));
    puts("unix");
    return 0;
}
