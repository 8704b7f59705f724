/* The file of a shared table is made shorter just before memory is reserved in it: what was lost
 * must not come back as zeros. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHOLE (1 << 20)
#define LEFT (1 << 16)
#define PART (1 << 12)

static int cuts; /* whether the file is cut first */

static void cut(int fd)
{
    if (cuts && ftruncate(fd, LEFT))
        exit(2);
}

static int cut_then_reserve(int fd, int mode, off_t at, off_t bytes)
{
    cut(fd);
    return fallocate(fd, mode, at, bytes);
}

static int cut_then_write(int fd, off_t at, off_t bytes)
{
    cut(fd);
    return posix_fallocate(fd, at, bytes);
}

#define fallocate cut_then_reserve
#define posix_fallocate cut_then_write
#include "../../crdtbucket/core/memory/platform.h"

int main(void)
{
    FILE *temporary = tmpfile();
    if (!temporary || ftruncate(fileno(temporary), WHOLE))
        return 2;
    int fd = fileno(temporary), whole = set_memory_aside(fd, WHOLE - PART, PART);
    cuts = 1;
    int error = set_memory_aside(fd, WHOLE - PART, PART);
    struct stat after;
    if (fstat(fd, &after))
        return 2;
    printf("%d %d %ld\n", whole, error, (long)after.st_size);
    return 0;
}
