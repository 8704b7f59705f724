/* Functions of the operating system that differ between Linux and others, each with a replacement
 * where it is missing. */
#ifndef CRDTBUCKET_MEMORY_PLATFORM_H
#define CRDTBUCKET_MEMORY_PLATFORM_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* A table in a file that several processes map needs mutexes that survive the death of their owner,
 * memory that is set aside before it is touched, and /proc to tell processes apart. Only Linux has
 * all three. */
#ifdef __linux__
#define SHARED_TABLES 1
#else
#define SHARED_TABLES 0
#endif

/* A clock that goes on while the machine sleeps: refill does not stop then. On macOS the monotonic
 * clock is that. */
#ifdef CLOCK_BOOTTIME
#define BOOT_CLOCK CLOCK_BOOTTIME
#else
#define BOOT_CLOCK CLOCK_MONOTONIC
#endif

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* Huge pages are an optimisation alone: where there are none, nothing is lost. */
static inline void advise_huge_pages(void *start, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    (void)madvise(start, bytes, MADV_HUGEPAGE);
#else
    (void)start;
    (void)bytes;
#endif
}

/* Returns 0 if the file has at least so many bytes, else ENOSPC, or the errno of `fstat`. */
static inline int check_length(int fd, size_t bytes)
{
    struct stat file;
    if (fstat(fd, &file))
        return errno;
    return (size_t)file.st_size < bytes ? ENOSPC : 0;
}

/* Reserves the bytes from `at` on of a shared file, so that writing to them cannot fail later.
 * Returns 0 or an errno. It never makes the file longer: if somebody has cut it off, also while
 * this runs, the bytes that were lost would come back as zeros in place of counts. */
static inline int set_memory_aside(int fd, size_t at, size_t bytes)
{
#if SHARED_TABLES
    int error;
    do
        error = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)bytes) ? errno : 0;
    while (error == EINTR); /* a signal came while memory was being found: its handler ran */
    /* A few file systems cannot reserve, so zeros are written. */
    if (error == EOPNOTSUPP && !(error = check_length(fd, at + bytes)))
        error = posix_fallocate(fd, (off_t)at, (off_t)bytes);
    return error ? error : check_length(fd, at + bytes);
#else
    (void)fd, (void)at, (void)bytes;
    return ENOTSUP;
#endif
}

/* Copies bytes from or into memory that a file is mapped to. Returns -1 if the file has become too
 * short, where an access of another kind ends the process, or if the system does not allow it. */
static inline int copy_mapped(void *own, void *mapped, size_t bytes, int write)
{
#if SHARED_TABLES
    struct iovec here = {own, bytes}, there = {mapped, bytes};
    ssize_t copied = write ? process_vm_writev(getpid(), &here, 1, &there, 1, 0)
                           : process_vm_readv(getpid(), &here, 1, &there, 1, 0);
    return copied == (ssize_t)bytes ? 0 : -1;
#else
    (void)own, (void)mapped, (void)bytes, (void)write;
    return -1;
#endif
}

/* Makes a mutex; with `shared` one that several processes use. When the owner of a shared one dies,
 * whoever gets it next learns that by EOWNERDEAD. Returns 0 or an errno. */
static inline int mutex_init(pthread_mutex_t *mutex, int shared)
{
    pthread_mutexattr_t how;
    int error = pthread_mutexattr_init(&how);
    if (error)
        return error;
#if SHARED_TABLES
    if (shared) {
        pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
    }
#else
    error = shared ? ENOTSUP : 0;
#endif
    if (!error)
        error = pthread_mutex_init(mutex, &how);
    pthread_mutexattr_destroy(&how);
    return error;
}

/* Whether `error`, which locking a mutex returned, says that its last owner died while it held it.
 * If so, this process holds the mutex now, and it is marked as usable again. */
static inline int mutex_inherited(pthread_mutex_t *mutex, int error)
{
#if SHARED_TABLES
    return error == EOWNERDEAD && !pthread_mutex_consistent(mutex);
#else
    (void)mutex, (void)error;
    return 0;
#endif
}

#endif
