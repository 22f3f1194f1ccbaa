/*
 * crashpoint.c: a library for LD_PRELOAD that kills the daemon at the n-th effect it has on the world.
 *
 * Counted, over all threads in one row, are the calls that leave something behind when the process dies: writes,
 * truncations, creations, removals and renames in the cache, data sent to the server, and a reply to the kernel when
 * something was counted since the last reply. (strace can inject a signal too, but counts for each thread.)
 *
 * CRASH_FILE names a file with a struct control, shared with the test, which may set `at` whenever it likes.
 * The system calls are made directly, so the library works below a sanitizer as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define KINDS 65536

struct control {
    uint32_t counting;      /* the test's: 1 counts */
    uint32_t at;            /* the test's: dies at this point; 0: never */
    uint32_t torn;          /* the test's: does half of a write or a send before */
    atomic_uint count;      /* points so far */
    atomic_uint unreported; /* counted since the last reply */
    uint32_t killed;        /* 1: it died here */
    char kinds[KINDS];      /* of point n at n - 1 */
};

static struct control *control;
static pid_t owner;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("CRASH_FILE");
    int fd;

    if (!path || strcmp(program_invocation_short_name, "ossmount"))
        return;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        _exit(70);
    control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED)
        _exit(71);
    close(fd);
    owner = getpid();
}

static void die(void)
{
    control->killed = 1;
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Returns true when the caller shall do half of what it is to do, then die. */
static int point(char kind)
{
    unsigned n;

    if (!control || !control->counting || getpid() != owner)
        return 0;
    if (kind == 'f' && !atomic_exchange(&control->unreported, 0))
        return 0;
    if (kind != 'f')
        atomic_store(&control->unreported, 1);
    n = atomic_fetch_add(&control->count, 1) + 1;
    if (n <= KINDS)
        control->kinds[n - 1] = kind;
    if (!control->at || n < control->at)
        return 0;
    if (control->torn && n == control->at && (kind == 'w' || kind == 's'))
        return 1;
    die();
    return 0;
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t offset)
{
    if (point('w')) {
        syscall(SYS_pwrite64, fd, data, n / 2, offset);
        die();
    }
    return syscall(SYS_pwrite64, fd, data, n, offset);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t offset)
{
    return pwrite64(fd, data, n, offset);
}

int ftruncate64(int fd, off64_t size)
{
    point('t');
    return (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    point('t');
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

int unlink(const char *path)
{
    point('u');
    return (int)syscall(SYS_unlink, path);
}

int unlinkat(int dir, const char *path, int flags)
{
    point('u');
    return (int)syscall(SYS_unlinkat, dir, path, flags);
}

int rename(const char *from, const char *to)
{
    point('r');
    return (int)syscall(SYS_rename, from, to);
}

int mkdir(const char *path, mode_t mode)
{
    point('c');
    return (int)syscall(SYS_mkdir, path, mode);
}

int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list args;

    if (flags & (O_CREAT | __O_TMPFILE)) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
        point('c');
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list args;

    va_start(args, flags);
    if (flags & (O_CREAT | __O_TMPFILE))
        mode = va_arg(args, mode_t);
    va_end(args);
    return open64(path, flags, mode);
}

ssize_t sendto(int fd, const void *data, size_t n, int flags, const struct sockaddr *to, socklen_t to_size)
{
    if (point('s')) {
        syscall(SYS_sendto, fd, data, n / 2, flags, to, to_size);
        die();
    }
    return syscall(SYS_sendto, fd, data, n, flags, to, to_size);
}

ssize_t send(int fd, const void *data, size_t n, int flags)
{
    return sendto(fd, data, n, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    point('s');
    return syscall(SYS_sendmsg, fd, message, flags);
}

/* The daemon's only use of writev() is libfuse's: replies and notifications. */
ssize_t writev(int fd, const struct iovec *parts, int n)
{
    point('f');
    return syscall(SYS_writev, fd, parts, n);
}
