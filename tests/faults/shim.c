/* Fails the k-th operation of a kind on files under a folder. Loaded with LD_PRELOAD; idle until arm() is called.
   A file descriptor's path is looked up in /proc, so duplicates and deleted temporary files count too. Operations
   inside libc (stdio's own writes) cannot be seen from here: fopen, fread and fwrite are counted in their place. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN, READ, WRITE, SYNC, RENAME, MAP, MKDIR, REMOVE, LIST, KINDS };
enum mode { ONCE, FROM_THEN_ON, HALF };
enum { LOG_BYTES = 1 << 20 };
struct shared { long count[KINDS]; long used; char log[LOG_BYTES]; };  /* log: a line "KIND PATH" for each operation */

static struct shared *shared;
static char prefix[PATH_MAX];
static int kind = -1, number, mode, is_full;
static long at;

void arm(struct shared *counts, const char *folder, int of_kind, long the_kth, int with_errno, int in_mode) {
  strncpy(prefix, folder, sizeof prefix - 1);
  kind = of_kind, at = the_kth, number = with_errno, mode = in_mode;
  shared = counts;
}

static int is_ours(const char *path) {
  if (!shared || !path) return 0;
  if (path[0] == '/') return !strncmp(path, prefix, strlen(prefix));
  char here[PATH_MAX];
  return getcwd(here, sizeof here) && !strncmp(here, prefix, strlen(prefix));
}

static const char *path_of(int fd) {
  static __thread char path[PATH_MAX];
  char link[64];
  int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = shared && fd >= 0 ? readlink(link, path, sizeof path - 1) : -1;
  errno = before;
  if (length < 0) return NULL;
  path[length] = 0;
  return path[0] == '/' ? path : NULL;
}

/* 1: fail with errno; 2: do half of it. */
static int strikes(enum kind now, const char *path) {
  if (!is_ours(path)) return 0;
  long count = __sync_add_and_fetch(&shared->count[now], 1);
  char line[PATH_MAX + 8];
  int length = snprintf(line, sizeof line, "%d %s\n", now, path);
  long start = __sync_fetch_and_add(&shared->used, length);
  if (start + length < LOG_BYTES) memcpy(shared->log + start, line, length);
  if (is_full && now == WRITE) { errno = number; return 1; }
  if (now != kind || count != at) return 0;
  is_full = mode != ONCE;
  errno = number;  /* also of HALF: half of a truncation is none */
  return mode == HALF ? 2 : 1;
}

#define REAL(name) static typeof(name) *real; if (!real) real = (typeof(name) *)dlsym(RTLD_NEXT, #name)

#define OPENS(name)                                            \
  int name(const char *path, int flags, ...) {                 \
    REAL(name);                                                \
    va_list rest; va_start(rest, flags);                       \
    mode_t rights = va_arg(rest, mode_t); va_end(rest);        \
    return strikes(OPEN, path) ? -1 : real(path, flags, rights); \
  }
OPENS(open)
OPENS(open64)
#define OPENS_AT(name)                                         \
  int name(int folder, const char *path, int flags, ...) {     \
    REAL(name);                                                \
    va_list rest; va_start(rest, flags);                       \
    mode_t rights = va_arg(rest, mode_t); va_end(rest);        \
    const char *where = path[0] == '/' || folder == AT_FDCWD ? path : path_of(folder); \
    return strikes(OPEN, where) ? -1 : real(folder, path, flags, rights); \
  }
OPENS_AT(openat)
OPENS_AT(openat64)
FILE *fopen(const char *path, const char *how) { REAL(fopen); return strikes(OPEN, path) ? NULL : real(path, how); }
FILE *fopen64(const char *path, const char *how) { REAL(fopen64); return strikes(OPEN, path) ? NULL : real(path, how); }

ssize_t read(int fd, void *to, size_t size) { REAL(read); return strikes(READ, path_of(fd)) ? -1 : real(fd, to, size); }
ssize_t pread(int fd, void *to, size_t size, off_t from) {
  REAL(pread); return strikes(READ, path_of(fd)) ? -1 : real(fd, to, size, from);
}
ssize_t pread64(int fd, void *to, size_t size, off64_t from) {
  REAL(pread64); return strikes(READ, path_of(fd)) ? -1 : real(fd, to, size, from);
}
ssize_t readv(int fd, const struct iovec *to, int count) {
  REAL(readv); return strikes(READ, path_of(fd)) ? -1 : real(fd, to, count);
}
size_t fread(void *to, size_t size, size_t count, FILE *file) {
  REAL(fread); return strikes(READ, path_of(fileno(file))) ? 0 : real(to, size, count, file);
}

static size_t part(int strike, size_t size) { return strike == 2 && size > 1 ? size / 2 : size; }
ssize_t write(int fd, const void *from, size_t size) {
  REAL(write); int s = strikes(WRITE, path_of(fd)); return s == 1 ? -1 : real(fd, from, part(s, size));
}
ssize_t pwrite(int fd, const void *from, size_t size, off_t to) {
  REAL(pwrite); int s = strikes(WRITE, path_of(fd)); return s == 1 ? -1 : real(fd, from, part(s, size), to);
}
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t to) {
  REAL(pwrite64); int s = strikes(WRITE, path_of(fd)); return s == 1 ? -1 : real(fd, from, part(s, size), to);
}
ssize_t writev(int fd, const struct iovec *from, int count) {
  REAL(writev); int s = strikes(WRITE, path_of(fd)); return s == 1 ? -1 : real(fd, from, s == 2 ? 1 : count);
}
size_t fwrite(const void *from, size_t size, size_t count, FILE *file) {
  REAL(fwrite); int s = strikes(WRITE, path_of(fileno(file)));
  return s == 1 ? 0 : s == 2 ? real(from, size, count / 2, file) : real(from, size, count, file);
}
int ftruncate(int fd, off_t size) { REAL(ftruncate); return strikes(WRITE, path_of(fd)) ? -1 : real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); return strikes(WRITE, path_of(fd)) ? -1 : real(fd, size); }
int posix_fallocate(int fd, off_t from, off_t size) {
  REAL(posix_fallocate); return strikes(WRITE, path_of(fd)) ? number : real(fd, from, size);
}
int posix_fallocate64(int fd, off64_t from, off64_t size) {
  REAL(posix_fallocate64); return strikes(WRITE, path_of(fd)) ? number : real(fd, from, size);
}

int fsync(int fd) { REAL(fsync); return strikes(SYNC, path_of(fd)) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return strikes(SYNC, path_of(fd)) ? -1 : real(fd); }
int rename(const char *from, const char *to) { REAL(rename); return strikes(RENAME, to) ? -1 : real(from, to); }
int renameat(int a, const char *from, int b, const char *to) {
  REAL(renameat); return strikes(RENAME, to) ? -1 : real(a, from, b, to);
}
void *mmap(void *where, size_t size, int rights, int flags, int fd, off_t from) {
  REAL(mmap); return fd >= 0 && strikes(MAP, path_of(fd)) ? MAP_FAILED : real(where, size, rights, flags, fd, from);
}
void *mmap64(void *where, size_t size, int rights, int flags, int fd, off64_t from) {
  REAL(mmap64); return fd >= 0 && strikes(MAP, path_of(fd)) ? MAP_FAILED : real(where, size, rights, flags, fd, from);
}
int mkdir(const char *path, mode_t rights) { REAL(mkdir); return strikes(MKDIR, path) ? -1 : real(path, rights); }
int unlink(const char *path) { REAL(unlink); return strikes(REMOVE, path) ? -1 : real(path); }
int rmdir(const char *path) { REAL(rmdir); return strikes(REMOVE, path) ? -1 : real(path); }
int unlinkat(int folder, const char *path, int flags) {
  REAL(unlinkat);
  const char *where = path[0] == '/' || folder == AT_FDCWD ? path : path_of(folder);
  return strikes(REMOVE, where) ? -1 : real(folder, path, flags);
}
DIR *opendir(const char *path) { REAL(opendir); return strikes(LIST, path) ? NULL : real(path); }
DIR *fdopendir(int fd) { REAL(fdopendir); return strikes(LIST, path_of(fd)) ? NULL : real(fd); }
