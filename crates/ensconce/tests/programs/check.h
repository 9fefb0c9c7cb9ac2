// SPDX-License-Identifier: Apache-2.0
// What every program of the corpus uses: a check that names its place.
#pragma once
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            printf("%s:%d: %s failed, errno %d\n", __FILE_NAME__, __LINE__, #condition, errno); \
            fflush(stdout);                                                         \
            exit(99);                                                               \
        }                                                                           \
    } while (0)
#ifndef __FILE_NAME__
#define __FILE_NAME__ "program"
#endif
