/* A process's idea of the time and of names, in the hands of a test: to be preloaded (LD_PRELOAD).
 *
 * The folder that KHEOPSFS_WORLD names holds small files with one number each; a file that is missing means 0. They are
 * read at every call, so that the world changes under a process that runs.
 *
 *   clock      seconds that the wall clock is ahead (the monotonic clock stays what it is)
 *   resolver   what getaddrinfo fails with for a name below .invalid; 0: the name is this machine's
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long number(const char *name)
{
    char path[4096], text[32] = "";
    const char *folder = getenv("KHEOPSFS_WORLD");
    if (folder == NULL)
        return 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    if (read(file, text, sizeof text - 1) < 0)
        text[0] = 0;
    close(file);
    return strtoll(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += number("clock");
    return result;
}

time_t time(time_t *seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds != NULL)
        *seconds = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    static int (*real)(struct timeval *restrict, void *restrict);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    if (result == 0)
        now->tv_sec += number("clock");
    return result;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict found)
{
    static int (*real)(const char *restrict, const char *restrict, const struct addrinfo *restrict,
                       struct addrinfo **restrict);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *domain = node != NULL ? strrchr(node, '.') : NULL;
    if (domain == NULL || strcmp(domain, ".invalid") != 0)
        return real(node, service, hints, found);
    long long failure = number("resolver");
    return failure != 0 ? (int)failure : real("127.0.0.1", service, hints, found);
}
