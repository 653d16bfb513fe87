/* A user directory that takes 5 s to say that it does not know somebody: libnss_slow.so.2, see nss(5). */
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <unistd.h>

static enum nss_status unknown(int *errnop)
{
    sleep(5);
    *errnop = ENOENT;
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_slow_getpwnam_r(const char *name, struct passwd *p, char *b, size_t n, int *errnop)
{
    return unknown(errnop);
}

enum nss_status _nss_slow_getpwuid_r(uid_t uid, struct passwd *p, char *b, size_t n, int *errnop)
{
    return unknown(errnop);
}

enum nss_status _nss_slow_getgrnam_r(const char *name, struct group *g, char *b, size_t n, int *errnop)
{
    return unknown(errnop);
}

enum nss_status _nss_slow_getgrgid_r(gid_t gid, struct group *g, char *b, size_t n, int *errnop)
{
    return unknown(errnop);
}
