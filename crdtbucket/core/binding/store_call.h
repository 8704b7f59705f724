/* A plain call of the common store's script (Redis): the call as bytes, its answer as numbers, and
 * sending and receiving them. */
#ifndef CRDTBUCKET_BINDING_STORE_CALL_H
#define CRDTBUCKET_BINDING_STORE_CALL_H

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

enum { MOST_REPLIED = 9, MOST_CALL = 2048 }; /* most numbers of an answer; most bytes of a call */

enum { CALL_NUMBERS = 7 };

typedef struct {
    const char *data;
    size_t size;
} text_t;

/* What a plain call says. `head` is the command, the script and the number of keys; `fixed` is what
 * is the same in each call of one bucket; both are bytes as they are sent. `key` and `owner` are
 * texts. `numbers` are: cost, fence, generation, taken, refunded, and the debt in s and in ns. */
typedef struct {
    text_t head, key, fixed, owner;
    uint64_t numbers[CALL_NUMBERS];
} plain_call_t;

static inline char *put_bytes(char *at, text_t text)
{
    memcpy(at, text.data, text.size);
    return at + text.size;
}

/* Writes a number in so many decimal digits. Returns 0 when they are too few for it. */
static inline int put_digits(char *at, uint64_t number, size_t digits)
{
    for (; digits; number /= 10)
        at[--digits] = (char)('0' + number % 10);
    return !number;
}

/* Writes a text as Redis reads it, "$40\r\n", the text and "\r\n", and returns where it ends. The
 * text has less than 10,000 bytes. */
__attribute__((noinline)) static char *put_word(char *at, text_t text)
{
    size_t digits = text.size < 10 ? 1 : text.size < 100 ? 2 : text.size < 1000 ? 3 : 4;
    *at++ = '$';
    put_digits(at, text.size, digits);
    at = put_bytes(at + digits, (text_t){"\r\n", 2});
    return put_bytes(put_bytes(at, text), (text_t){"\r\n", 2});
}

/* Writes a call into `out`, which has MOST_CALL bytes. Returns how many bytes it has; 0 when there
 * is no room, or when a number is out of its range. */
static inline size_t put_call(char *out, const plain_call_t *c)
{
    static const uint8_t digits[CALL_NUMBERS] = {16, 10, 10, 16, 16, 10, 9};
    char text[16], *at;
    int right = 1;
    if (c->head.size + c->key.size + c->fixed.size + c->owner.size > MOST_CALL - 256)
        return 0;
    at = put_word(put_bytes(out, c->head), c->key);
    at = put_bytes(at, c->fixed);
    for (int i = 0; i < CALL_NUMBERS; i++) {
        right &= put_digits(text, c->numbers[i], digits[i]);
        at = put_word(at, (text_t){text, digits[i]});
        if (!i)
            at = put_word(at, c->owner);
    }
    at = put_word(at, (text_t){"0", 1});
    return right ? (size_t)(at - out) : 0;
}

/* Reads a list of whole numbers from 0 on, "*2\r\n:7\r\n:0\r\n", that is all of `text`. Returns how
 * many there are; 0 for anything else. */
static inline int read_numbers(const char *text, size_t size, int64_t *numbers)
{
    const char *at = text, *end = text + size;
    if (size < 4 || *at++ != '*' || *at < '1' || *at > '0' + MOST_REPLIED)
        return 0;
    int count = *at++ - '0';
    if (*at++ != '\r' || *at++ != '\n')
        return 0;
    for (int i = 0; i < count; i++) {
        if (at == end || *at++ != ':')
            return 0;
        const char *first = at;
        int64_t number = 0;
        for (; at < end && at - first < 18 && *at >= '0' && *at <= '9'; at++)
            number = number * 10 + (*at - '0');
        if (at == first || end - at < 2 || *at++ != '\r' || *at++ != '\n')
            return 0;
        numbers[i] = number;
    }
    return at == end ? count : 0;
}

/* Sends what is left of a command, then waits for bytes and writes them to `got`. Returns how many
 * came; 0 when the connection has ended; -1 with `errno`. After EINTR the caller handles signals,
 * waits for `ready_within` the rest of its time, and calls this again. */
static inline ssize_t exchange(int fd, const char **command, size_t *left, char *got, size_t room)
{
    if (*left) {
        ssize_t sent = send(fd, *command, *left, 0);
        if (sent < 0)
            return -1;
        *command += sent;
        *left -= (size_t)sent;
        if (*left) {
            errno = EINTR;
            return -1;
        }
    }
    return recv(fd, got, room, 0);
}

/* Waits until the next step of `exchange`, with `left` bytes to send, can be made: for `rest_ns`,
 * of which at most `step_ns` in this call. Returns 1 when it can; 0 with `errno`: EINTR when this
 * is to be called again, EAGAIN when the time is over, and by then the socket has been looked at.
 * The time-out of a socket is not used for this: it begins anew at each call, and signals may come
 * more often than it ends. */
static inline int ready_within(int fd, size_t left, int64_t rest_ns, int64_t step_ns)
{
    struct pollfd one = {.fd = fd, .events = left ? POLLOUT : POLLIN};
    int64_t ns = rest_ns < step_ns ? rest_ns : step_ns, ms = ns > 0 ? ns / 1000000 + 1 : 0;
    int found = poll(&one, 1, ms < 1000000 ? (int)ms : 1000000);
    if (!found)
        errno = rest_ns > step_ns ? EINTR : EAGAIN;
    return found > 0;
}

#endif
