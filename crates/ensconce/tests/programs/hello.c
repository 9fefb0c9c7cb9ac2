// SPDX-License-Identifier: Apache-2.0
// Arguments, environment, directory, static data, constructors, exit code.
#include "check.h"
#include <unistd.h>

static const char *const words[] = {"static", "pointers", "are", "relocated"};
static __thread int local = 41;
static int constructed;

__attribute__((constructor)) static void construct(void) { constructed = 1; }
static void at_exit(void) { puts("at exit"); }

int main(int argc, char **argv) {
    atexit(at_exit);
    for (int i = 0; i < 4; i++) puts(words[i]);
    for (int i = 1; i < argc; i++) printf("argv[%d] = %s\n", i, argv[i]);
    const char *value = getenv("CORPUS");
    printf("CORPUS=%s\n", value ? value : "(none)");
    printf("local %d constructed %d\n", ++local, constructed);
    char here[4096];
    CHECK(getcwd(here, sizeof here));
    printf("in %s\n", here);
    CHECK(getpid() > 0 && getppid() >= 0 && sysconf(_SC_PAGESIZE) == 4096);
    return 40 + argc;
}
