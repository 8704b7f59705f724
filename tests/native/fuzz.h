/* What a fuzz target is made of: bytes that are read as choices and, without libFuzzer, a driver of
 * its own.
 *
 *   program [--runs N] [--seed N] [FILE ...]
 *
 * gives each file to the target, then N inputs made of them by chance, always the same for a seed.
 * An input that fails is printed in hexadecimal.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- choices ---- */

typedef struct {
    const uint8_t *at, *end;
} bytes_t;

static inline size_t bytes_left(const bytes_t *b) { return (size_t)(b->end - b->at); }

static inline uint32_t choose(bytes_t *b, uint32_t ways)
{
    return b->at < b->end ? *b->at++ % ways : 0;
}

static inline uint64_t choose_word(bytes_t *b, size_t bytes)
{
    uint64_t word = 0;
    if (bytes > bytes_left(b))
        bytes = bytes_left(b);
    memcpy(&word, b->at, bytes);
    b->at += bytes;
    return word;
}

/* Small numbers, those beside a power of two, and any. */
static inline uint64_t choose_number(bytes_t *b)
{
    uint32_t how = choose(b, 256);
    switch (how & 3) {
    case 0:
        return how >> 2;
    case 1:
        return choose_word(b, 2);
    case 2:
        return (UINT64_C(1) << (how >> 2)) + choose(b, 256) - 128;
    default:
        return choose_word(b, 8);
    }
}

/* ---- the driver ---- */

#ifndef LIBFUZZER
#define DRIVER_MOST 4096
#define DRIVER_FILES 8192
#define DRIVER_PATIENCE 20 /* s for one input */

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static struct {
    uint8_t now[DRIVER_MOST], *file[DRIVER_FILES];
    size_t size, sizes[DRIVER_FILES], files;
    uint64_t state;
} driver;

static void driver_tell(void)
{
    fprintf(stderr, "input: ");
    for (size_t i = 0; i < driver.size; i++)
        fprintf(stderr, "%02x", driver.now[i]);
    fputc('\n', stderr);
    fflush(stderr);
}

static void driver_signal(int number)
{
    fputs(number == SIGALRM ? "it does not end\n" : "it stopped\n", stderr);
    driver_tell();
    _exit(1);
}

static uint64_t driver_dice(uint64_t sides)
{
    driver.state ^= driver.state << 13;
    driver.state ^= driver.state >> 7;
    driver.state ^= driver.state << 17;
    return driver.state % sides;
}

static void driver_read(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(DRIVER_MOST);
    if (!file || !bytes || driver.files == DRIVER_FILES) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    driver.sizes[driver.files] = fread(bytes, 1, DRIVER_MOST, file);
    driver.file[driver.files++] = bytes;
    fclose(file);
}

/* The end of a file, of a whole one if `from_start`, replaces the input from `at` on. */
static void driver_copy(size_t at, int from_start)
{
    size_t which = driver_dice(driver.files),
           from = from_start ? 0 : driver_dice(driver.sizes[which] + 1);
    size_t size = driver.sizes[which] - from;
    if (size > DRIVER_MOST - at)
        size = DRIVER_MOST - at;
    memcpy(driver.now + at, driver.file[which] + from, size);
    driver.size = at + size;
}

static void driver_change(void)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40, 0xc0};
    size_t size = driver.size, at = driver_dice(size + 1), length = 1 + driver_dice(9);
    uint8_t *now = driver.now;
    switch (driver_dice(6)) {
    case 0:
        if (at < size)
            now[at] ^= (uint8_t)(1 << driver_dice(8));
        break;
    case 1:
        if (at < size)
            now[at] = driver_dice(2) ? edges[driver_dice(sizeof edges)] : (uint8_t)driver_dice(256);
        break;
    case 2: /* some bytes are removed */
        if (at + length < size) {
            memmove(now + at, now + at + length, size - at - length);
            driver.size -= length;
        }
        break;
    case 3: /* some bytes are added */
        if (size + length <= DRIVER_MOST) {
            memmove(now + at + length, now + at, size - at);
            for (size_t i = 0; i < length; i++)
                now[at + i] = (uint8_t)driver_dice(256);
            driver.size += length;
        }
        break;
    case 4:
        if (driver.files)
            driver_copy(at, 0);
        break;
    default:
        for (size_t i = 0; i < length && at + i < size; i++)
            now[at + i] = (uint8_t)(now[at + i] + (driver_dice(3) - 1));
    }
}

static void driver_run(void)
{
    alarm(DRIVER_PATIENCE);
    LLVMFuzzerTestOneInput(driver.now, driver.size);
    alarm(0);
}

static void driver_catch(void)
{
    signal(SIGALRM, driver_signal);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(driver_tell);
    else
        signal(SIGSEGV, driver_signal);
    signal(SIGABRT, driver_signal);
}

int main(int argc, char **argv)
{
    long runs = 0;
    driver.state = 88172645463325252ull;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--runs") && i + 1 < argc)
            runs = atol(argv[++i]);
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            driver.state ^= (uint64_t)atoll(argv[++i]) * UINT64_C(0x9e3779b97f4a7c15);
        else
            driver_read(argv[i]);
    }
    driver_catch();
    for (size_t i = 0; i < driver.files; i++) {
        memcpy(driver.now, driver.file[i], driver.size = driver.sizes[i]);
        driver_run();
    }
    for (long i = 0; i < runs; i++) {
        driver.size = 0;
        if (driver.files)
            driver_copy(0, 1);
        for (uint64_t changes = 1 + driver_dice(6); changes; changes--)
            driver_change();
        driver_run();
    }
    printf("%zu files and %ld inputs made of them\n", driver.files, runs);
    return 0;
}
#endif

#endif
