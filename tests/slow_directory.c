/* Names that begin with "slow" and hosts that end in ".slow": libc answers only when the writer of $SLOW_FIFO has gone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void wait_for_test(void) {
  char byte;
  int fd = open(getenv("SLOW_FIFO"), O_RDONLY | O_CLOEXEC);
  while (read(fd, &byte, 1) > 0) {
  }
  close(fd);
}

int getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t length, struct passwd **result) {
  int (*real)(const char *, struct passwd *, char *, size_t, struct passwd **) = dlsym(RTLD_NEXT, "getpwnam_r");
  if (strncmp(name, "slow", 4) != 0)
    return real(name, entry, buffer, length, result);
  wait_for_test();
  *result = NULL;
  return 0;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
      dlsym(RTLD_NEXT, "getaddrinfo");
  size_t length = node == NULL ? 0 : strlen(node);
  if (length <= 5 || strcmp(node + length - 5, ".slow") != 0)
    return real(node, service, hints, result);
  if (hints == NULL || !(hints->ai_flags & AI_NUMERICHOST))
    wait_for_test();
  return EAI_NONAME;
}
