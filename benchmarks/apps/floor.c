/* The least that can be done for a request: epoll_wait, recv, send of the same bytes. What it costs is the kernel's; no parser, no time limits. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: floor\r\nDate: Mon, 23 Nov 2026 17:00:00 GMT\r\n"
                             "Content-Length: 27\r\n\r\n{\"message\":\"Hello, world!\"}";
static char input[65536];
static struct epoll_event ready[1024];

int main(int count, char **words) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(words[1]) : 0), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0), queue = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) return 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(queue, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int found = epoll_wait(queue, ready, 1024, -1);
        for (int at = 0; at < found; at++) {
            int fd = ready[at].data.fd;
            if (fd == listener) {
                event.events = EPOLLIN | EPOLLET;
                event.data.fd = accept4(listener, 0, 0, SOCK_NONBLOCK);
                epoll_ctl(queue, EPOLL_CTL_ADD, event.data.fd, &event);
            } else if (recv(fd, input, sizeof input, 0) <= 0) {
                close(fd);
            } else {
                send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
            }
        }
    }
}
