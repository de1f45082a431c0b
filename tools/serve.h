/* serve.h - serves the files of one folder to browsers on this machine, over HTTP on 127.0.0.1.
 *
 * defines: serve_open, serve_next
 * As little as a page needs (RFC 9112): GET and HEAD of files that lie in the folder itself, one request a connection, each in
 * a child process of its own that lives for half a minute at most: whatever a client does, the program goes on. A library would
 * bring TLS, uploads and threads, and another package to install, for what is here a request's first line.
 * Other machines can't connect. Other pages in the user's browser can, but get nothing: a request must call us by a loopback name
 * (a name of theirs that leads here, DNS rebinding, is refused), and an answer may be used by our own pages only (CORP).
 * Included by one program, behind the definition of _GNU_SOURCE.
 */
#ifndef SERVE_H
#define SERVE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "../src/util.h"

enum { SERVE_SECONDS = 30, SERVE_CHILDREN = 16, SERVE_REQUEST = 8192 };

/* Listens on 127.0.0.1:*port; 0: on a port that is free, which *port becomes. Returns the socket; or -1 with errno set,
 * EADDRINUSE where another program has the port. */
static inline int serve_open(int *port) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)*port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    if (fd < 0) return -1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);        // a port that we had a minute ago
    struct sockaddr *address = (struct sockaddr *)&at;
    if (bind(fd, address, size) != 0 || listen(fd, 64) != 0 || getsockname(fd, address, &size) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    *port = ntohs(at.sin_port);
    return fd;
}

// The type of a file that is served, by its name: letters, digits, "-" and dots within, and one of these endings. Else NULL.
static inline const char *serve_type(const char *name) {
    static const char *const types[][2] = {
        { ".html", "text/html; charset=utf-8" }, { ".css", "text/css; charset=utf-8" },
        { ".js", "text/javascript; charset=utf-8" },
    };
    const char *ending = strrchr(name, '.');
    if (*name == '.' || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.")]) return NULL;
    for (size_t i = 0; i < COUNT_OF(types) && ending; i++)
        if (strcmp(ending, types[i][0]) == 0) return types[i][1];
    return NULL;
}

// Whether the request's Host is this machine by a loopback name, with any port: one may come through a tunnel (ssh -L).
static inline bool serve_host_is_ours(const char *request) {
    static const char *const names[] = { "127.0.0.1", "localhost" };
    for (const char *line = request; (line = strstr(line, "\r\n")) != NULL; ) {
        line += 2;
        if (strncasecmp(line, "Host:", 5) != 0) continue;
        const char *host = line + 5 + strspn(line + 5, " \t");
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            size_t n = strlen(names[i]);
            if (strncasecmp(host, names[i], n) == 0 && strchr(": \t\r", host[n])) return true;
        }
        return false;
    }
    return false;
}

static inline void serve_send(int client, const char *bytes, size_t size) {
    for (ssize_t sent; size > 0 && (sent = send(client, bytes, size, 0)) > 0; size -= (size_t)sent) bytes += sent;
}

// Answers a whole request, which ends behind its headers.
static inline void serve_answer(int client, const char *folder, char *request) {
    bool get = strncmp(request, "GET /", 5) == 0, head = strncmp(request, "HEAD /", 6) == 0;
    bool ours = serve_host_is_ours(request);
    char *name = request + (head ? 6 : 5), *path = NULL;
    const char *status = !get && !head ? "405 Method Not Allowed" : !ours ? "403 Forbidden" : "404 Not Found", *type = NULL;
    struct stat st = { .st_size = 0 };
    int fd = -1;
    if ((get || head) && ours) {
        name[strcspn(name, " ?\r")] = '\0';
        if (!*name) name = (char *)(uintptr_t)"index.html";
        type = serve_type(name);
        path = format("%s/%s", folder, name);
        fd = type ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW) : -1;
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) status = "200 OK";
        free(path);
    }
    bool found = *status == '2';
    char *headers = format("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %lld\r\n"
                           "Cache-Control: no-store\r\nConnection: close\r\nX-Content-Type-Options: nosniff\r\n"
                           "Cross-Origin-Resource-Policy: same-origin\r\n\r\n",
                           status, found ? type : "text/plain", found ? (long long)st.st_size : 0LL);
    serve_send(client, headers, strlen(headers));
    free(headers);
    char part[1 << 16];
    off_t left = found && get ? st.st_size : 0;         // as many bytes as were promised, should the file grow
    for (ssize_t n; left > 0 && (n = read(fd, part, left < (off_t)sizeof part ? (size_t)left : sizeof part)) > 0; left -= n)
        serve_send(client, part, (size_t)n);
    if (fd >= 0) close(fd);
}

// A child's life: one request, one answer.
static inline void serve_client(int client, const char *folder) {
    char request[SERVE_REQUEST + 1];
    size_t n = 0;
    signal(SIGINT, SIG_DFL), signal(SIGTERM, SIG_DFL), signal(SIGPIPE, SIG_IGN), signal(SIGALRM, SIG_DFL);
    alarm(SERVE_SECONDS);
    for (ssize_t got; n < SERVE_REQUEST && (got = recv(client, request + n, SERVE_REQUEST - n, 0)) > 0; ) {
        n += (size_t)got;
        request[n] = '\0';
        if (strlen(request) < n) break;                     // a NUL is no part of a request
        if (!strstr(request, "\r\n\r\n")) continue;
        serve_answer(client, folder, request);
        shutdown(client, SHUT_WR);
        break;
    }
    _exit(0);
}

/* Waits for as many seconds, and answers a request that comes in that time, with a file of the folder. Returns when it is handed
 * to a child, when the time is over, or at a signal. fd: of serve_open; -1: there is no server, it only waits. */
static inline void serve_next(int fd, const char *folder, double seconds) {
    static int children;
    while (children > 0 && waitpid(-1, NULL, WNOHANG) > 0) children--;
    struct pollfd wait = { .fd = children < SERVE_CHILDREN ? fd : -1, .events = POLLIN };
    if (children >= SERVE_CHILDREN) seconds = fmin(seconds, 0.05);
    if (poll(&wait, 1, (int)ceil(1000 * fmax(0, seconds))) <= 0) return;
    int client = accept(fd, NULL, NULL);
    if (client < 0) return;
    fcntl(client, F_SETFL, 0);                  // elsewhere than on Linux it is as the socket it came by
    pid_t pid = fork();
    if (pid == 0) {
        close(fd);
        serve_client(client, folder);
    }
    if (pid > 0) children++;
    close(client);
}

#endif // SERVE_H
