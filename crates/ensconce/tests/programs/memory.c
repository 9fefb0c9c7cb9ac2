// SPDX-License-Identifier: Apache-2.0
// mmap, mprotect, mremap, munmap, madvise, brk, file mappings, large
// reservations, code made at run time.
#define _GNU_SOURCE
#include "check.h"
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static sigjmp_buf back;
static void on_segv(int number) {
    (void)number;
    siglongjmp(back, 1);
}

static int faults(volatile char *at, int writes) {
    if (sigsetjmp(back, 1)) return 1;
    if (writes) *at = 1; else (void)*at;
    return 0;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    signal(SIGSEGV, on_segv);
    size_t page = 4096;

    char *area = mmap(NULL, 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    for (size_t i = 0; i < 16 * page; i++) CHECK(area[i] == 0);
    memset(area, 7, 16 * page);
    CHECK(!mprotect(area + 4 * page, 4 * page, PROT_READ));
    CHECK(faults(area + 5 * page, 1) && !faults(area + 5 * page, 0) && !faults(area + 8 * page, 1));
    CHECK(!mprotect(area + 4 * page, 4 * page, PROT_NONE));
    CHECK(faults(area + 5 * page, 0));
    CHECK(!mprotect(area + 4 * page, 4 * page, PROT_READ | PROT_WRITE));
    CHECK(area[5 * page] == 7 && !faults(area + 5 * page, 1));
    CHECK(!munmap(area + 2 * page, page) && faults(area + 2 * page, 0) && !faults(area + 3 * page, 0));
    puts("protection");

    CHECK(!madvise(area + 8 * page, page, MADV_DONTNEED));
    CHECK(area[8 * page + 1] == 0 && area[9 * page + 1] == 7);
    CHECK(madvise(area, page, 12345) == -1 && errno == EINVAL);
    puts("advice");

    char *fixed = mmap(area + 2 * page, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(fixed == area + 2 * page && fixed[0] == 0);
    CHECK(mmap(area, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
    char *grown = mremap(area + 9 * page, 7 * page, 64 * page, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED && grown[0] == 7 && grown[7 * page] == 0);
    grown[63 * page] = 9;
    char *shrunk = mremap(grown, 64 * page, 2 * page, 0);
    CHECK(shrunk == grown && faults(grown + 2 * page, 0));
    CHECK(mremap(grown, 0, page, 0) == MAP_FAILED && errno == EINVAL);
    puts("moved");

    // Reserving much costs nothing; using a little of it works.
    size_t much = (size_t)512 << 20;
    char *reserved = mmap(NULL, much, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(reserved != MAP_FAILED);
    CHECK(!mprotect(reserved + much / 2, 4 * page, PROT_READ | PROT_WRITE));
    reserved[much / 2] = 3;
    CHECK(!munmap(reserved, much));
    puts("reserved");

    int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    for (int i = 0; i < 5000; i++) CHECK(write(fd, "ab", 2) == 2);
    char *mapped = mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(mapped != MAP_FAILED && mapped[0] == 'a' && mapped[9999] == 'b' && mapped[10001] == 0);
    mapped[1] = 'X';
    char byte;
    CHECK(pread(fd, &byte, 1, 1) == 1 && byte == 'b');
    char *second = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 4096);
    CHECK(second != MAP_FAILED && second[1] == 'b');
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 17) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 1234, 0) == MAP_FAILED && errno == EBADF);
    CHECK(!close(fd) && second[3] == 'b' && !unlink(argv[1]));
    puts("files");

    // mov eax, 42; ret
    unsigned char *code = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED);
    memcpy(code, "\xb8\x2a\0\0\0\xc3", 6);
    CHECK(!mprotect(code, page, PROT_READ | PROT_EXEC));
    printf("code says %d\n", ((int (*)(void))code)());

    char *before = (char *)syscall(SYS_brk, 0);
    CHECK((char *)syscall(SYS_brk, before + (1 << 20)) == before + (1 << 20));
    before[1 << 19] = 5;
    CHECK((char *)syscall(SYS_brk, before) == before && (char *)syscall(SYS_brk, 0) == before);
    size_t total = 0;
    void *blocks[500];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 500; i++) {
            size_t size = (size_t)(i * 977 + round * 131) % 200000 + 1;
            blocks[i] = malloc(size);
            CHECK(blocks[i]);
            memset(blocks[i], i, size);
            total += size;
        }
        for (int i = 0; i < 500; i++) {
            CHECK(*(unsigned char *)blocks[i] == (unsigned char)i);
            free(blocks[i]);
        }
    }
    printf("allocated %zu\n", total);
    return 0;
}
