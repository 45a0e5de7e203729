/* A disk that fails: loaded before the C library (LD_PRELOAD), it makes the Nth operation on files below a folder fail.
 *
 *   faults_arm(root, nth, mode, error)   begin to count; the nth operation fails with the errno `error`
 *   faults_disarm()                      stop, and return how many operations there were
 *
 * FAIL: that one operation fails; a write has written half before. DEAD: it and all after it do. DIE: the process is
 * killed in its place, after half a write.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FAIL, DEAD, DIE };

static char root[4096];
static atomic_long seen, nth;
static atomic_int armed, mode, error_number;

void faults_arm(const char *folder, long which, int how, int error) {
    snprintf(root, sizeof root, "%s", folder);
    seen = 0;
    nth = which;
    mode = how;
    error_number = error;
    armed = 1;
}

long faults_disarm(void) {
    armed = 0;
    return seen;
}

/* --- whether a path or a descriptor is ours: asked of the kernel, so that nothing is missed */

static int below(const char *path) {
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int ours_fd(int fd) {
    char link[64], path[4096];
    if (!armed || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = '\0';
    return below(path);
}

static int ours(int folder, const char *path) {
    if (!armed) return 0;
    return path[0] == '/' ? below(path) : folder == AT_FDCWD ? 0 : ours_fd(folder);
}

/* --- the decision: 0 to go on, 1 to fail */

static int fault(void) {
    long now = ++seen;
    if (now != nth && !(mode == DEAD && now > nth)) return 0;
    errno = error_number;
    return 1;
}

static int fails(void) {
    if (!fault()) return 0;
    if (mode == DIE) kill(getpid(), SIGKILL);
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* --- the operations */

#define OPEN(name)                                                                                    \
    int name(const char *path, int flags, ...) {                                                      \
        va_list list;                                                                                 \
        va_start(list, flags);                                                                        \
        mode_t permissions = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;                \
        va_end(list);                                                                                 \
        if (ours(AT_FDCWD, path) && fails()) return -1;                                               \
        return REAL(name)(path, flags, permissions);                                                  \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                  \
    int name(int folder, const char *path, int flags, ...) {                                          \
        va_list list;                                                                                 \
        va_start(list, flags);                                                                        \
        mode_t permissions = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;                \
        va_end(list);                                                                                 \
        if (ours(folder, path) && fails()) return -1;                                                 \
        return REAL(name)(folder, path, flags, permissions);                                          \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t length) {
    if (ours_fd(fd) && fault()) {
        int error = errno;
        if (length > 1) REAL(write)(fd, data, length / 2);
        if (mode == DIE) kill(getpid(), SIGKILL);
        errno = error;
        return -1;
    }
    return REAL(write)(fd, data, length);
}

ssize_t read(int fd, void *data, size_t length) {
    return ours_fd(fd) && fails() ? -1 : REAL(read)(fd, data, length);
}

#define READV(name, ...)                                                                              \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t place) {                         \
        return ours_fd(fd) && fails() ? -1 : REAL(name)(fd, parts, count, place);                     \
    }
READV(preadv)
READV(preadv64)

#define READV2(name)                                                                                  \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t place, int flags) {              \
        return ours_fd(fd) && fails() ? -1 : REAL(name)(fd, parts, count, place, flags);              \
    }
READV2(preadv2)
READV2(preadv64v2)

#define OF_FD(name)                                                                                   \
    int name(int fd) { return ours_fd(fd) && fails() ? -1 : REAL(name)(fd); }
OF_FD(fsync)
OF_FD(fdatasync)

int flock(int fd, int operation) { return ours_fd(fd) && fails() ? -1 : REAL(flock)(fd, operation); }

int ftruncate(int fd, off_t length) { return ours_fd(fd) && fails() ? -1 : REAL(ftruncate)(fd, length); }

#define OF_PATH(name)                                                                                 \
    int name(const char *path) { return ours(AT_FDCWD, path) && fails() ? -1 : REAL(name)(path); }
OF_PATH(unlink)
OF_PATH(rmdir)

int unlinkat(int folder, const char *path, int flags) {
    return ours(folder, path) && fails() ? -1 : REAL(unlinkat)(folder, path, flags);
}

int mkdir(const char *path, mode_t permissions) {
    return ours(AT_FDCWD, path) && fails() ? -1 : REAL(mkdir)(path, permissions);
}

int chmod(const char *path, mode_t permissions) {
    return ours(AT_FDCWD, path) && fails() ? -1 : REAL(chmod)(path, permissions);
}

int rename(const char *from, const char *to) {
    return ours(AT_FDCWD, from) && fails() ? -1 : REAL(rename)(from, to);
}

DIR *opendir(const char *path) { return ours(AT_FDCWD, path) && fails() ? NULL : REAL(opendir)(path); }

DIR *fdopendir(int fd) { return ours_fd(fd) && fails() ? NULL : REAL(fdopendir)(fd); }
