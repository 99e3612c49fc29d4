/* fake backend: an OpenAI-compatible server that makes load, not sense. One thread, epoll, loopback only.
 *
 *   backend [PORT]      0 or nothing: the kernel picks one; prints "PORT n" when it listens
 *
 * POST .../chat/completions, .../completions (plain and SSE); GET /v1/models, /health, /stats.
 * Knobs travel in the model name, see struct knobs in backend.h. /stats also tells when each connection was seen to
 * close under a reply whose request said "user": "gone-<number>": {"closes": [[number, CLOCK_MONOTONIC ns, before head?]]}.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "backend.h"

#define NO_SLOT ((size_t)-1)
#define MAX_UNSENT (8u << 20) /* a paced stream whose reader is this far behind is dropped */
#define MAX_REQUEST (256u << 20)
#define TURN 32               /* writes of an unpaced stream before the next one gets its turn */

struct counters counters;
static int epoll_fd, timer_fd;
static unsigned last_id;
static struct conn **heap;
static size_t heap_len, heap_cap;
static TAILQ_HEAD(conn_queue, conn) unpaced = TAILQ_HEAD_INITIALIZER(unpaced);

/* ---- timers: a binary heap of connections by due time ---- */

static void heap_put(size_t i, struct conn *c) {
  heap[i] = c;
  c->slot = i;
}

static void heap_settle(size_t i, struct conn *c) {
  for (; i && heap[(i - 1) / 2]->due > c->due; i = (i - 1) / 2) heap_put(i, heap[(i - 1) / 2]);
  for (size_t kid; (kid = 2 * i + 1) < heap_len; i = kid) {
    if (kid + 1 < heap_len && heap[kid + 1]->due < heap[kid]->due) kid++;
    if (heap[kid]->due >= c->due) break;
    heap_put(i, heap[kid]);
  }
  heap_put(i, c);
}

static void timer_set(struct conn *c) {
  if (c->slot == NO_SLOT) {
    if (heap_len == heap_cap) heap = must(realloc(heap, (heap_cap = heap_cap ? heap_cap * 2 : 256) * sizeof *heap));
    c->slot = heap_len++;
  }
  heap_settle(c->slot, c);
}

static void timer_clear(struct conn *c) {
  if (c->slot == NO_SLOT) return;
  size_t i = c->slot;
  struct conn *last = heap[--heap_len];
  if (last != c) heap_settle(i, last);
  c->slot = NO_SLOT;
}

/* ---- connections ---- */

static void drop(struct conn *c, int by_peer) {
  if (by_peer && c->state != IDLE && c->gone_id >= 0 && counters.n_closes < sizeof counters.closes / sizeof *counters.closes) {
    size_t i = counters.n_closes++;
    counters.closes[i].id = c->gone_id;
    counters.closes[i].at = now_ns();
    counters.closes[i].headless = c->state == WAITING || c->sent == 0;
  }
  timer_clear(c);
  if (c->queued) TAILQ_REMOVE(&unpaced, c, link);
  close(c->fd);
  free(c->in.p);
  free(c->out.p);
  free(c);
}

static void watch(struct conn *c, int write) {
  struct epoll_event e = {EPOLLIN | (write ? EPOLLOUT : 0), {.ptr = c}};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
  c->wants_write = write;
}

/* 0 = all is written, 1 = the socket is full, -1 = the peer is gone. */
static int flush(struct conn *c) {
  while (buf_size(&c->out)) {
    ssize_t n = send(c->fd, buf_data(&c->out), buf_size(&c->out), MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return -1;
    if (n < 0) {
      if (!c->wants_write) watch(c, 1);
      return 1;
    }
    c->out.off += (size_t)n;
  }
  if (c->wants_write) watch(c, 0);
  return 0;
}

static void enqueue(struct conn *c) {
  if (c->queued) return;
  TAILQ_INSERT_TAIL(&unpaced, c, link);
  c->queued = 1;
}

static void begin_reply(struct conn *c, const struct request *r) {
  counters.requests++;
  c->chat = memmem(r->path, r->path_len, "/chat/completions", 17) != NULL;
  if (!c->chat && !memmem(r->path, r->path_len, "/completions", 12)) {
    static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"fake\",\"object\":\"model\",\"created\":1763600000,\"owned_by\":\"vllm\"}]}";
    if (memmem(r->path, r->path_len, "/stats", 6)) reply_stats(c);
    else if (memmem(r->path, r->path_len, "/models", 7)) reply_small(c, "200 OK", models, sizeof models - 1);
    else if (memmem(r->path, r->path_len, "/health", 7)) reply_small(c, "200 OK", "", 0);
    else reply_small(c, "404 Not Found", "{\"detail\":\"Not Found\"}", 22);
    return;
  }
  c->id = ++last_id;
  c->sent = 0;
  request_read_knobs(c, r);
  int64_t first = now_ns() + c->knobs.first_ms * INT64_C(1000000);
  if (request_flag(r, "\"stream\"")) {
    counters.streams++;
    c->state = STREAMING;
    c->usage = request_flag(r, "\"include_usage\"");
    c->step = c->knobs.rate ? INT64_C(1000000000) / c->knobs.rate : 0;
    c->due = c->knobs.aligned && c->step ? (first / c->step + 1) * c->step : first;
    stream_head(c); /* leaves together with the first event */
    if (c->step || c->knobs.first_ms) timer_set(c);
    else enqueue(c);
  } else if (c->knobs.first_ms) {
    c->state = WAITING;
    c->due = first;
    timer_set(c);
  } else reply_plain(c);
}

/* Serves what has been received. -1 = drop the connection. */
static int serve(struct conn *c) {
  while (c->state == IDLE && buf_size(&c->in)) {
    struct request r;
    ssize_t used = request_take(c, &r);
    if (used > 0) begin_reply(c, &r);
    if (used >= 0 && c->state == IDLE && flush(c) < 0) return -1;
    if (used <= 0) return (int)used;
    c->in.off += (size_t)used;
    if (c->state == IDLE && c->close_after && !buf_size(&c->out)) return -1;
  }
  return 0;
}

/* After a reply's last byte was queued. -1 = drop. */
static int ended(struct conn *c) {
  if (c->state != IDLE) return 0;
  if (c->close_after && !buf_size(&c->out)) return -1;
  return serve(c);
}

static int pump(struct conn *c) {
  for (int i = 0; i < TURN && c->state == STREAMING; i++) {
    for (long k = 0; k < c->knobs.burst && c->state == STREAMING; k++) stream_event(c);
    int r = flush(c);
    if (r) return r < 0 ? -1 : 0; /* full: goes on at EPOLLOUT */
  }
  if (c->state == STREAMING) enqueue(c);
  return ended(c);
}

static void on_writable(struct conn *c, int *gone) {
  int r = flush(c);
  if (r == 0 && c->state == STREAMING && c->slot == NO_SLOT) enqueue(c);
  else if (r == 0) r = ended(c);
  if (r < 0) {
    drop(c, 1);
    *gone = 1;
  }
}

static void on_readable(struct conn *c) {
  static char bytes[1 << 18];
  ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0 || buf_size(&c->in) > MAX_REQUEST) {
    drop(c, 1);
    return;
  }
  buf_add(&c->in, bytes, (size_t)n);
  if (serve(c) < 0) drop(c, 0);
}

static void accept_all(int listener) {
  for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    struct conn *c = must(calloc(1, sizeof *c));
    c->fd = fd;
    c->slot = NO_SLOT;
    c->gone_id = -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {EPOLLIN, {.ptr = c}};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
  }
}

/* One tick of the connection whose time has come. */
static void tick(struct conn *c) {
  int r = 0;
  if (c->state == WAITING) {
    timer_clear(c);
    c->state = IDLE;
    reply_plain(c);
    r = flush(c);
  } else if (!c->step) { /* an unpaced stream with a late start */
    timer_clear(c);
    enqueue(c);
    return;
  } else {
    stream_event(c);
    r = c->wants_write ? 1 : flush(c);
    if (c->state == STREAMING) {
      c->due += c->step;
      timer_set(c);
    } else timer_clear(c);
  }
  if (r < 0 || (c->state == IDLE && ended(c) < 0)) drop(c, r < 0);
  else if (buf_size(&c->out) > MAX_UNSENT) drop(c, 0);
}

static void run_timers(void) {
  for (int64_t t = now_ns(); heap_len && heap[0]->due <= t; t = now_ns()) {
    hist_add(&counters.late, t - heap[0]->due);
    tick(heap[0]);
  }
}

/* One turn for every unpaced stream that is ready now. */
static void run_unpaced(void) {
  struct conn_queue turn = TAILQ_HEAD_INITIALIZER(turn);
  TAILQ_CONCAT(&turn, &unpaced, link);
  for (struct conn *c; (c = TAILQ_FIRST(&turn));) {
    TAILQ_REMOVE(&turn, c, link);
    c->queued = 0;
    if (pump(c) < 0) drop(c, 1);
  }
}

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof a;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096) || getsockname(fd, (struct sockaddr *)&a, &len)) {
    perror("listen");
    exit(1);
  }
  printf("PORT %d\n", ntohs(a.sin_port));
  fflush(stdout);
  return fd;
}

int main(int argc, char **argv) {
  static struct epoll_event events[512];
  static int listener_tag, timer_tag;
  prctl(PR_SET_PDEATHSIG, SIGTERM); /* never outlives the rig */
  int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0);
  int64_t armed = 0;
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &(struct epoll_event){EPOLLIN, {.ptr = &listener_tag}});
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &(struct epoll_event){EPOLLIN, {.ptr = &timer_tag}});
  for (;;) {
    if (heap_len && armed != heap[0]->due) {
      armed = heap[0]->due;
      struct itimerspec when = {.it_value = {armed / 1000000000, armed % 1000000000}};
      timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    }
    int n = epoll_wait(epoll_fd, events, 512, TAILQ_EMPTY(&unpaced) ? -1 : 0);
    for (int i = 0; i < n; i++) {
      int gone = 0;
      uint64_t expirations;
      if (events[i].data.ptr == &listener_tag) accept_all(listener);
      else if (events[i].data.ptr == &timer_tag) {
        if (read(timer_fd, &expirations, sizeof expirations) > 0) armed = 0;
      } else {
        if (events[i].events & EPOLLOUT) on_writable(events[i].data.ptr, &gone);
        if (!gone && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(events[i].data.ptr);
      }
    }
    run_timers();
    run_unpaced();
  }
}
