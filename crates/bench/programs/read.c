// SPDX-License-Identifier: Apache-2.0
// Reads a file once and prints how many bytes and CPU nanoseconds that took.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static char buffer[1 << 20];
    struct timespec a, b;
    long total = 0, got;
    int fd = open(argc > 1 ? argv[1] : "", O_RDONLY);
    if (fd < 0) return 1;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    while ((got = read(fd, buffer, sizeof buffer)) > 0) total += got;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    if (got < 0) return 2;
    printf("%ld %.0f\n", total, (b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec));
    return 0;
}
