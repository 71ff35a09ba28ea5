/* durable.c: makes an FTP server keep what it says, for a fair comparison.
 *
 * An LD_PRELOAD shim. A regular file opened for writing and the directory it was opened in are fsynced when the file
 * is closed, or before a reply that begins with 226 is written, whichever comes first (vsftpd replies before it closes).
 * A rename fsyncs the directory of the new name. The directory is opened with the file, since a chrooted server has no
 * other way to name it. Each session of the servers measured is a process of one thread, so nothing is locked.
 *
 *   cc -O2 -shared -fPIC -o durable.so durable.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FD 4096
static int directory_of[MAX_FD]; /* directory's descriptor + 1, while the file is open for writing */
static int unsynced;             /* how many such files there are */

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int real_close(int fd) {
    REAL(close);
    return real(fd);
}

static int directory(int at, const char *path) {
    REAL(openat);
    char parent[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= sizeof parent) return -1;
    memcpy(parent, path, length);
    parent[length] = 0;
    return real(at, !slash ? "." : length ? parent : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int note(int fd, int at, const char *path, int flags) {
    struct stat st;
    if (fd < 0 || fd >= MAX_FD || (flags & O_ACCMODE) == O_RDONLY) return fd;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return fd;
    int dir = directory(at, path);
    if (dir < 0) abort(); /* a figure without its fsync would be a lie */
    directory_of[fd] = dir + 1;
    unsynced++;
    return fd;
}

static void sync_file(int fd) {
    int dir = directory_of[fd] - 1;
    directory_of[fd] = 0;
    unsynced--;
    if (fsync(fd) || fsync(dir)) abort();
    real_close(dir);
}

static void before_reply(const void *text, size_t length) {
    if (unsynced > 0 && length >= 3 && memcmp(text, "226", 3) == 0)
        for (int fd = 0; fd < MAX_FD; fd++)
            if (directory_of[fd]) sync_file(fd);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        return note(real(path, flags, mode), AT_FDCWD, path, flags); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        return note(real(at, path, flags, mode), at, path, flags); \
    }
OPENAT(openat)
OPENAT(openat64)

int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }

int close(int fd) {
    if (fd >= 0 && fd < MAX_FD && directory_of[fd]) sync_file(fd);
    return real_close(fd);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    int result = real(from, to);
    if (result) return result;
    int dir = directory(AT_FDCWD, to);
    if (dir < 0 || fsync(dir)) abort();
    return real_close(dir);
}

ssize_t write(int fd, const void *text, size_t length) {
    REAL(write);
    before_reply(text, length);
    return real(fd, text, length);
}

ssize_t send(int fd, const void *text, size_t length, int flags) {
    REAL(send);
    before_reply(text, length);
    return real(fd, text, length, flags);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    REAL(writev);
    if (count > 0) before_reply(pieces[0].iov_base, pieces[0].iov_len);
    return real(fd, pieces, count);
}
