/* stamp.c: the smallest processor. Writes the wall clock in nanoseconds at which it began, named after its file.
 *
 *   cc -O2 -static -o stamp stamp.c      command = ["stamp", "/directory/for/stamps"]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const char *name = getenv("FOREBAY_NAME");
    if (count < 2 || !name) return 64;
    const char *last = strrchr(name, '/');
    char path[4096], text[32];
    snprintf(path, sizeof path, "%s/%s", arguments[1], last ? last + 1 : name);
    int length = snprintf(text, sizeof text, "%lld%09ld\n", (long long)now.tv_sec, now.tv_nsec);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    return fd < 0 || write(fd, text, length) != length ? 71 : 0;
}
