/* threads.c - the pool under the thread sanitizer: a plain program, built with the parts of
 * core/base that it needs. */
#include <stdio.h>

#include "base/pool.h"

int main(void)
{
    for (int threads = 1; threads <= POOL_THREADS; threads++) {
        const char *wrong = pool_works(threads, 2003);
        if (wrong) {
            fprintf(stderr, "%d threads: %s\n", threads, wrong);
            return 1;
        }
    }
    return 0;
}
