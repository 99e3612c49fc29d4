/* load generator: closed-loop HTTP/1.1 client for OpenAI-style endpoints. One thread, epoll, loopback only.
 *
 *   load -p 8080 -c 64 -d 3 -m fake-b1024           plain requests over 64 keep-alive connections
 *   load -p 8080 -c 100 -d 4 -s -m fake-n100-r50    streams; the delay of each chunk by the backend's time marks
 *   load -p 8080 -c 20 -d 2 -s -x 3 -m fake-n500-r50        goes away after three chunks; -x 0 -y 50: before the head
 *
 * -p port  -m model  -c connections  -d seconds measured  -W warm-up seconds before  -S seconds over which to start
 * -s stream  -u path  -q prompt bytes (400)  -C a new connection per request  -H 'Name: value' (repeat)  -i usage wanted
 * -x K leave after K chunks of each reply  -y MS ... and MS more milliseconds  -k wait for a line on stdin before leaving
 *
 * Prints ON and OFF on stderr at the borders of the measured time and one line of JSON on stdout.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define RETRY (20 * MS) /* after an error, so that a dead proxy is not hammered */

static struct {
  unsigned long requests, errors, broken, dials, chunks;
  struct hist total, first_chunk, chunk, dial;
  struct { long id; int64_t at; } left[1 << 16];
  size_t n_left;
  char message[400];
} seen;

TAILQ_HEAD(conn_queue, conn);
static struct conn_queue lingering = TAILQ_HEAD_INITIALIZER(lingering), failed = TAILQ_HEAD_INITIALIZER(failed);
static int epoll_fd;
static long last_id; /* starts anywhere, so that numbers of an earlier run do not come back */
static int64_t now, from, until; /* now = when the bytes in hand were read */

static int measured(void) { return now >= from && now < until; }

static void dial(struct conn *c) {
  int one = 1;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  c->connected = c->lingers = 0;
  c->dialled = now_ns();
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (opt.fresh) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)); /* no TIME_WAIT */
  (void)!connect(c->fd, (struct sockaddr *)&a, sizeof a);
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){EPOLLIN | EPOLLOUT, {.ptr = c}});
  if (measured()) seen.dials++;
}

static void watch(struct conn *c, uint32_t what) {
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &(struct epoll_event){what, {.ptr = c}});
}

static void later(struct conn_queue *q, struct conn *c, int64_t delay) {
  c->wake = now + delay;
  TAILQ_INSERT_TAIL(q, c, link);
}

/* Will leave when its time is up. Not at once: our caller may be reading from this connection. */
static void linger(struct conn *c) {
  c->lingers = 1;
  later(&lingering, c, opt.linger);
}

static void hang_up(struct conn *c) {
  close(c->fd);
  c->fd = -1;
}

/* A request that came to nothing. */
static void fail(struct conn *c, const char *why) {
  if (measured()) {
    seen.errors++;
    if (!seen.message[0]) {
      int n = snprintf(seen.message, 100, "%s, status %d: ", why, c->reply.status);
      for (size_t i = 0; i < c->reply.line_len && i < 200; i++) {
        char x = c->reply.line[i];
        seen.message[n++] = x == '"' || x == '\\' || x < 32 || x > 126 ? ' ' : x;
      }
    }
  }
  hang_up(c);
  later(&failed, c, RETRY);
}

static void write_request(struct conn *c) {
  if (request_id) {
    char digits[16];
    if (c->sent == 0) c->id = ++last_id % 100000000;
    snprintf(digits, sizeof digits, "%08ld", c->id);
    memcpy(request_id, digits, 8);
  }
  ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
  if (n > 0) c->sent += (size_t)n;
}

static void begin(struct conn *c) {
  reply_reset(&c->reply, opt.stream);
  c->sent = 0;
  c->began = now_ns();
  write_request(c);
  if (c->sent < request_len) watch(c, EPOLLIN | EPOLLOUT);
  if (opt.leave_after == 0) linger(c);
}

/* The client goes away: the moment is what counts. */
static void leave(struct conn *c) {
  if (measured() && seen.n_left < sizeof seen.left / sizeof *seen.left) {
    seen.left[seen.n_left].id = c->id;
    seen.left[seen.n_left++].at = now_ns();
  }
  hang_up(c);
  dial(c);
}

void on_mark(struct conn *c, uint64_t v) {
  int first = c->reply.marks == 1;
  if (measured()) {
    int64_t delay = (int64_t)(((uint64_t)now - v) & MARK_MASK);
    seen.chunks++;
    hist_add(&seen.chunk, delay);
    if (first) hist_add(&seen.first_chunk, now - c->began);
  }
  if (c->reply.marks == opt.leave_after) linger(c);
}

static void finish(struct conn *c) {
  if (c->reply.status != 200) {
    fail(c, "refused");
    return;
  }
  if (measured()) {
    seen.requests++;
    hist_add(&seen.total, now - c->began);
    if (opt.stream && (!c->reply.done_seen || (opt.expected > 0 && c->reply.marks != opt.expected))) seen.broken++;
  }
  if (c->reply.close || opt.fresh) {
    hang_up(c);
    dial(c);
  } else begin(c);
}

static void on_writable(struct conn *c) {
  if (!c->connected) {
    int error = 0;
    socklen_t n = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n);
    now = now_ns();
    if (error) {
      reply_reset(&c->reply, 0);
      fail(c, strerror(error));
      return;
    }
    c->connected = 1;
    if (measured()) hist_add(&seen.dial, now - c->dialled);
    watch(c, EPOLLIN);
    begin(c);
  } else if (c->sent < request_len) {
    write_request(c);
    if (c->sent == request_len) watch(c, EPOLLIN);
  }
}

static void on_readable(struct conn *c) {
  static char bytes[1 << 18];
  ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
  now = now_ns();
  if (n < 0 && errno == EAGAIN) return;
  int over = n > 0 ? reply_feed(c, bytes, (size_t)n) : -1;
  if (n <= 0 && c->reply.part == BODY && c->reply.left < 0) over = 1; /* a body that ends with the connection */
  if (!over) return;
  if (c->lingers) { /* the reply was over before we could leave */
    TAILQ_REMOVE(&lingering, c, link);
    c->lingers = 0;
  }
  if (over < 0) fail(c, n > 0 ? "not HTTP" : "closed early");
  else finish(c);
}

static void run_queues(void) {
  for (struct conn *c; (c = TAILQ_FIRST(&lingering)) && c->wake <= now;) {
    TAILQ_REMOVE(&lingering, c, link);
    leave(c);
  }
  for (struct conn *c; (c = TAILQ_FIRST(&failed)) && c->wake <= now;) {
    TAILQ_REMOVE(&failed, c, link);
    dial(c);
  }
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void print_figures(double cpu) {
  char h[1024];
  int n = 0;
  n += hist_json(h + n, sizeof h - (size_t)n, "lat_us", &seen.total);
  n += snprintf(h + n, sizeof h - (size_t)n, ",");
  n += hist_json(h + n, sizeof h - (size_t)n, "ttfc_us", &seen.first_chunk);
  n += snprintf(h + n, sizeof h - (size_t)n, ",");
  n += hist_json(h + n, sizeof h - (size_t)n, "chunk_us", &seen.chunk);
  n += snprintf(h + n, sizeof h - (size_t)n, ",");
  hist_json(h + n, sizeof h - (size_t)n, "connect_us", &seen.dial);
  printf("{\"c\":%d,\"d\":%.3f,\"req\":%lu,\"rps\":%.1f,\"err\":%lu,\"short\":%lu,\"chunks\":%lu,\"chunks_s\":%.1f,\"conns\":%lu,"
         "\"client_cpu\":%.4f,\"errmsg\":\"%s\",%s,\"left\":[",
         opt.connections, opt.seconds, seen.requests, (double)seen.requests / opt.seconds, seen.errors, seen.broken, seen.chunks,
         (double)seen.chunks / opt.seconds, seen.dials, cpu, seen.message, h);
  for (size_t i = 0; i < seen.n_left; i++) printf("%s[%ld,%ld]", i ? "," : "", seen.left[i].id, (long)seen.left[i].at);
  printf("]}\n");
  fflush(stdout);
}

/* Milliseconds until something is due. */
static int patience(int64_t t, int64_t next) {
  struct conn *c;
  if ((c = TAILQ_FIRST(&lingering)) && c->wake < next) next = c->wake;
  if ((c = TAILQ_FIRST(&failed)) && c->wake < next) next = c->wake;
  return next <= t ? 0 : next - t > 100 * MS ? 100 : (int)((next - t + MS - 1) / MS);
}

int main(int argc, char **argv) {
  static struct epoll_event events[512];
  prctl(PR_SET_PDEATHSIG, SIGTERM); /* never outlives the rig */
  signal(SIGPIPE, SIG_IGN);
  read_options(argc, argv);
  build_request();
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct conn *conns = must(calloc((size_t)opt.connections, sizeof *conns));
  int64_t start = now_ns();
  last_id = start / 1000 % 90000000;
  from = start + (int64_t)((opt.warm + opt.spread) * 1e9);
  until = from + (int64_t)(opt.seconds * 1e9);
  double cpu_at_on = -1;
  for (int dialled = 0; (now = now_ns()) < until;) {
    if (cpu_at_on < 0 && now >= from) {
      cpu_at_on = cpu_seconds();
      fputs("ON\n", stderr);
    }
    int64_t next = cpu_at_on < 0 ? from : until;
    for (; dialled < opt.connections; dialled++) {
      int64_t turn = start + (int64_t)(opt.spread * 1e9 * dialled / opt.connections);
      if (turn > now) {
        next = turn < next ? turn : next;
        break;
      }
      dial(&conns[dialled]);
    }
    int n = epoll_wait(epoll_fd, events, 512, patience(now, next));
    for (int i = 0; i < n; i++) {
      struct conn *c = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) on_writable(c);
      if (c->fd >= 0 && c->connected && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
    }
    now = now_ns();
    run_queues();
  }
  double cpu = cpu_seconds() - cpu_at_on;
  fputs("OFF\n", stderr);
  if (opt.keep) (void)!getchar();
  print_figures(cpu);
  return 0;
}
