/* A program of GDBus: opens a process's output, prints its frames, and acknowledges them.
 * Its arguments are a bus's address and the process's name. Built by test_dbus_clients.py. */

#include <gio/gio.h>
#include <gio/gunixfdlist.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OUTPUT = 2, EXITED = 4, ENDED = 5, ACKNOWLEDGE = 16 };

static guint64 number(const guint8 *at, int bytes)
{
    guint64 value = 0;
    while (bytes--)
        value = value << 8 | at[bytes];
    return value;
}

static void put(guint8 **at, guint64 value, int bytes)
{
    for (; bytes--; value >>= 8)
        *(*at)++ = value & 0xff;
}

static int read_all(int fd, void *to, size_t size)
{
    for (char *at = to; size;) {
        ssize_t got = read(fd, at, size);
        if (got <= 0)
            return 0;
        at += got, size -= got;
    }
    return 1;
}

static void acknowledge(int fd, const char *name, guint64 seq)
{
    size_t length = strlen(name);
    guint8 frame[8 + 2 + 8 + 2 + 255], *at = frame;
    put(&at, 12 + length, 4);
    put(&at, ACKNOWLEDGE, 4);
    put(&at, 1, 2);
    put(&at, seq, 8);
    put(&at, length, 2);
    memcpy(at, name, length);
    if (write(fd, frame, 20 + length) != (ssize_t)(20 + length))
        g_error("write");
}

static guint64 print_records(const guint8 *body)
{
    guint64 first = number(body, 8);
    size_t count = number(body + 8, 2);
    const guint8 *record = body + 12 + number(body + 10, 2), *data = record + 16 * count;
    for (size_t i = 0; i < count; i++, record += 16) {
        size_t size = number(record + 8, 4);
        printf("%s %" G_GUINT64_FORMAT " %.*s", record[12] ? "stderr" : "stdout", first + i, (int)size, data);
        data += size;
    }
    return first + count - 1;
}

int main(int argc, char **argv)
{
    GError *error = NULL;
    GUnixFDList *fds = NULL;
    if (argc != 3)
        return 2;
    GDBusConnection *bus = g_dbus_connection_new_for_address_sync(
        argv[1], G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, NULL,
        NULL, &error);
    if (!bus)
        g_error("%s", error->message);
    const char *names[] = {argv[2], NULL};
    GVariant *opened = g_dbus_connection_call_with_unix_fd_list_sync(
        bus, "org.papa.Kernel", "/org/papa/Kernel", "org.papa.Kernel", "OpenOutput",
        g_variant_new("(^asa{sv})", names, NULL), G_VARIANT_TYPE("(tash)"), G_DBUS_CALL_FLAGS_NONE, -1, NULL, &fds,
        NULL, &error);
    if (!opened)
        g_error("%s", error->message);
    gint32 handle;
    g_variant_get_child(opened, 2, "h", &handle);
    int fd = g_unix_fd_list_get(fds, handle, &error);
    guint8 header[8];
    while (read_all(fd, header, sizeof header)) {
        size_t size = number(header, 4);
        g_autofree guint8 *body = g_malloc(size + 1);
        if (!read_all(fd, body, size))
            break;
        body[size] = 0;
        if (header[4] == OUTPUT) {
            acknowledge(fd, argv[2], print_records(body));
        } else if (header[4] == EXITED) {
            printf("exited %d %d\n", (gint32)number(body + 16, 4), body[20]);
            acknowledge(fd, argv[2], number(body, 8));
        } else if (header[4] == ENDED) {
            printf("%s\n", (char *)body);
        }
    }
    close(fd);
    g_variant_unref(opened);
    g_object_unref(fds);
    g_object_unref(bus);
    return 0;
}
