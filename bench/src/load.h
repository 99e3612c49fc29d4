/* The load generator's shapes. load.c owns sockets, clock and figures; load_reply.c reads replies. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <sys/queue.h>

#include "common.h"

#define HEAD_ROOM 16384 /* longest reply head */
#define MS INT64_C(1000000)
#define LINE_ROOM 8192  /* longest SSE line that is looked at whole */

enum part { HEAD, BODY, CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, TRAILER, TRAILER_LINE };

/* One reply as it comes in. */
struct reply {
  enum part part;
  int status, close, done_seen, sse;
  int64_t left;     /* body or chunk bytes to come; -1 = until the peer closes */
  size_t head_len, line_len;
  int mark_len;     /* digits of a time mark seen, 0 = none begun; lives on over event borders */
  uint64_t mark;
  long marks;
  char *head, *line;
};

struct conn {
  int fd, connected;
  int lingers;        /* stands in the queue of those that will leave */
  size_t sent;
  long id;            /* of the request, when it means to go away */
  int64_t began, dialled, wake;
  struct reply reply;
  TAILQ_ENTRY(conn) link;
};

struct options {
  int port, connections, stream, usage, fresh, keep;
  int leave_after; /* chunks after which the client goes away, -1 = it stays */
  double seconds, warm, spread;
  int64_t linger; /* ns between the last chunk wanted and the going away */
  long prompt, expected;
  const char *path, *model;
  char headers[4096];
};
extern struct options opt;
extern char *request, *request_id; /* request_id: where the eight digits of its number stand, or NULL */
extern size_t request_len;
void read_options(int argc, char **argv);
void build_request(void);

/* Called for each time mark, v = its 48 bits. */
void on_mark(struct conn *c, uint64_t v);

void reply_reset(struct reply *r, int sse);
/* Feeds bytes. 1 = the reply is complete, 0 = goes on, -1 = not HTTP. */
int reply_feed(struct conn *c, const char *p, size_t n);

#endif
