// SPDX-License-Identifier: Apache-2.0
// Files and directories below the directory that is given.
#define _GNU_SOURCE
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

int main(int argc, char **argv) {
    CHECK(argc == 2 && !chdir(argv[1]));
    CHECK(!mkdir("sub", 0755) && mkdir("sub", 0755) == -1 && errno == EEXIST);
    int fd = open("sub/file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    CHECK(fd >= 0);
    CHECK(open("sub/file", O_RDWR | O_CREAT | O_EXCL, 0640) == -1 && errno == EEXIST);
    static char data[200000], back[200000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 7 + i / 251);
    CHECK(write(fd, data, sizeof data) == (ssize_t)sizeof data);
    CHECK(lseek(fd, 0, SEEK_CUR) == (off_t)sizeof data && lseek(fd, 1000, SEEK_SET) == 1000);
    CHECK(read(fd, back, sizeof back) == (ssize_t)sizeof data - 1000 && !memcmp(back, data + 1000, sizeof data - 1000));
    CHECK(read(fd, back, 1) == 0);
    CHECK(pwrite(fd, "patched", 7, 5000) == 7 && pread(fd, back, 9, 4999) == 9 && !memcmp(back + 1, "patched", 7));
    struct stat st;
    CHECK(!fstat(fd, &st) && st.st_size == (off_t)sizeof data && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0640 && st.st_nlink == 1);
    CHECK(!ftruncate(fd, 6000) && !fstat(fd, &st) && st.st_size == 6000);
    CHECK(!ftruncate(fd, 7000) && pread(fd, back, 2000, 5500) == 1500 && back[1499] == 0);
    CHECK(!fsync(fd) && !fdatasync(fd) && !fchmod(fd, 0600) && !fstat(fd, &st) && (st.st_mode & 0777) == 0600);
    CHECK(!flock(fd, LOCK_EX | LOCK_NB) && !flock(fd, LOCK_UN));
    int copy = dup(fd);
    CHECK(copy > fd && lseek(fd, 42, SEEK_SET) == 42 && lseek(copy, 0, SEEK_CUR) == 42);
    CHECK(dup2(copy, 100) == 100 && fcntl(100, F_GETFD) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(!close(copy) && !close(100) && close(100) == -1 && errno == EBADF);
    puts("content");

    CHECK(!link("sub/file", "hard") && !stat("hard", &st) && st.st_nlink == 2);
    CHECK(!symlink("sub/file", "soft") && readlink("soft", back, sizeof back) == 8 && !memcmp(back, "sub/file", 8));
    CHECK(!lstat("soft", &st) && S_ISLNK(st.st_mode) && !stat("soft", &st) && S_ISREG(st.st_mode));
    CHECK(!rename("hard", "renamed") && access("hard", F_OK) == -1 && errno == ENOENT && !access("renamed", R_OK | W_OK));
    CHECK(rmdir("sub") == -1 && errno == ENOTEMPTY);
    CHECK(open("sub/file/below", O_RDONLY) == -1 && errno == ENOTDIR);
    CHECK(open("sub", O_WRONLY) == -1 && errno == EISDIR);
    CHECK(open("soft", O_RDONLY | O_NOFOLLOW) == -1 && errno == ELOOP);
    puts("names");

    int directory = open("sub", O_RDONLY | O_DIRECTORY);
    CHECK(directory >= 0);
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "entry-%03d", i);
        int made = openat(directory, name, O_WRONLY | O_CREAT, 0644);
        CHECK(made >= 0 && !close(made));
    }
    struct dirent **list;
    int count = scandir("sub", &list, NULL, by_name);
    CHECK(count == 303);
    printf("%d entries from %s to %s\n", count, list[2]->d_name, list[count - 1]->d_name);
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "entry-%03d", i);
        CHECK(!unlinkat(directory, name, 0));
    }
    CHECK(!fchdir(directory) && !access("file", F_OK));
    char here[4096];
    CHECK(getcwd(here, sizeof here) && !strcmp(here + strlen(here) - 4, "/sub"));
    CHECK(!chdir("..") && !close(directory));
    puts("directories");

    FILE *stream = fopen("lines", "w");
    CHECK(stream);
    for (int i = 0; i < 10000; i++) fprintf(stream, "line %d\n", i);
    CHECK(!fclose(stream));
    stream = fopen("lines", "a+");
    CHECK(stream && fputs("last\n", stream) >= 0 && !fflush(stream));
    rewind(stream);
    char *line = NULL;
    size_t room = 0, lines = 0;
    while (getline(&line, &room, stream) > 0) lines++;
    printf("%zu lines, the last is %s", lines, line);
    CHECK(!fclose(stream));
    struct statvfs fs;
    CHECK(!statvfs(".", &fs) && fs.f_bsize > 0);
    struct timespec times[2] = {{1000000000, 0}, {1200000000, 0}};
    CHECK(!utimensat(AT_FDCWD, "lines", times, 0) && !stat("lines", &st) && st.st_mtim.tv_sec == 1200000000);
    mode_t mask = umask(077);
    int masked = open("masked", O_CREAT | O_WRONLY, 0666);
    CHECK(masked >= 0 && !fstat(masked, &st) && (st.st_mode & 0777) == 0600 && !close(masked));
    umask(mask);

    CHECK(!close(fd) && !unlink("sub/file") && !unlink("renamed") && !unlink("soft") && !unlink("lines") && !unlink("masked") && !rmdir("sub"));
    CHECK(open("/proc/self/exe", O_RDONLY) >= 0);
    CHECK(readlink("/proc/self/exe", here, sizeof here) > 0);
    puts("gone");
    return 0;
}
