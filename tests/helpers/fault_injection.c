/* Fails one file operation below a directory, whoever asks for it.

   LD_PRELOAD puts these functions in front of libc's, so Python, orbax and tensorstore
   all meet the fault. arm(prefix, n, error) makes the n-th operation from now on fail
   with that errno, once; count() says how many there have been. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char prefix[PATH_MAX];
static atomic_long counted, target;
static int fault;
static char failed[PATH_MAX + 64];

void arm(const char *directory, long n, int error) {
  target = 0;
  strncpy(prefix, directory, sizeof prefix - 1);
  failed[0] = 0;
  fault = error;
  counted = 0;
  target = n;
}

long count(void) { return counted; }
const char *what_failed(void) { return failed; }

static int below(const char *path) {
  size_t size = strlen(prefix);
  return size && path && !strncmp(path, prefix, size) &&
         (!path[size] || path[size] == '/');
}

static int fails_at(const char *name, const char *path) {
  if (!below(path) || atomic_fetch_add(&counted, 1) + 1 != target) return 0;
  snprintf(failed, sizeof failed, "%s %s", name, path);
  errno = fault;
  return 1;
}

static int fails(const char *name, int directory, const char *path) {
  char full[PATH_MAX], link[64];
  if (!prefix[0] || !path) return 0;
  if (path[0] == '/') return fails_at(name, path);
  if (directory == AT_FDCWD) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
  ssize_t size = readlink(link, full, sizeof full - 1);
  if (size < 0) return 0;
  if (path[0])
    snprintf(full + size, sizeof full - size, "/%s", path);
  else
    full[size] = 0;
  return fails_at(name, full);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                                      \
  int name(const char *path, int flags, ...) {                          \
    va_list rest;                                                       \
    va_start(rest, flags);                                              \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                       \
    if (fails("open", AT_FDCWD, path)) return -1;                       \
    return REAL(name)(path, flags, mode);                               \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                    \
  int name(int at, const char *path, int flags, ...) {                  \
    va_list rest;                                                       \
    va_start(rest, flags);                                              \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                       \
    if (fails("open", at, path)) return -1;                             \
    return REAL(name)(at, path, flags, mode);                           \
  }
OPENAT(openat)
OPENAT(openat64)

/* name, type, what it is called, directory and path, declaration, arguments */
#define WRAP(type, name, called, at, path, declaration, ...) \
  type name declaration {                                    \
    if (fails(called, at, path)) return (type)-1;            \
    return REAL(name)(__VA_ARGS__);                          \
  }
WRAP(ssize_t, read, "read", fd, "", (int fd, void *b, size_t n), fd, b, n)
WRAP(ssize_t, pread, "read", fd, "", (int fd, void *b, size_t n, off_t o), fd, b, n, o)
WRAP(ssize_t, pread64, "read", fd, "", (int fd, void *b, size_t n, off64_t o), fd, b, n, o)
WRAP(ssize_t, write, "write", fd, "", (int fd, const void *b, size_t n), fd, b, n)
WRAP(ssize_t, writev, "write", fd, "", (int fd, const struct iovec *b, int n), fd, b, n)
WRAP(ssize_t, pwrite64, "write", fd, "", (int fd, const void *b, size_t n, off64_t o), fd, b, n, o)
WRAP(int, fsync, "fsync", fd, "", (int fd), fd)
WRAP(int, fdatasync, "fsync", fd, "", (int fd), fd)
WRAP(int, rename, "rename", AT_FDCWD, from, (const char *from, const char *to), from, to)
WRAP(int, renameat, "rename", a, from, (int a, const char *from, int b, const char *to), a, from, b, to)
WRAP(int, unlink, "unlink", AT_FDCWD, path, (const char *path), path)
WRAP(int, unlinkat, "unlink", at, path, (int at, const char *path, int flags), at, path, flags)
WRAP(int, rmdir, "unlink", AT_FDCWD, path, (const char *path), path)
WRAP(int, mkdir, "mkdir", AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
WRAP(int, stat, "stat", AT_FDCWD, path, (const char *path, struct stat *s), path, s)
WRAP(int, lstat, "stat", AT_FDCWD, path, (const char *path, struct stat *s), path, s)
WRAP(int, fstat, "stat", fd, "", (int fd, struct stat *s), fd, s)
WRAP(int, fstatat, "stat", at, path, (int at, const char *path, struct stat *s, int flags), at, path, s, flags)
WRAP(int, stat64, "stat", AT_FDCWD, path, (const char *path, struct stat64 *s), path, s)
WRAP(int, lstat64, "stat", AT_FDCWD, path, (const char *path, struct stat64 *s), path, s)
WRAP(int, fstat64, "stat", fd, "", (int fd, struct stat64 *s), fd, s)
WRAP(int, fstatat64, "stat", at, path, (int at, const char *path, struct stat64 *s, int flags), at, path, s, flags)

DIR *opendir(const char *path) {
  return fails("listdir", AT_FDCWD, path) ? NULL : REAL(opendir)(path);
}
DIR *fdopendir(int fd) { return fails("listdir", fd, "") ? NULL : REAL(fdopendir)(fd); }
