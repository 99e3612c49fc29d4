/* The fake backend's shapes. backend.c owns the sockets and the clock, replies.c makes the bytes. */
#ifndef BENCH_BACKEND_H
#define BENCH_BACKEND_H

#include <sys/queue.h>

#include "common.h"

/* Knobs travel in the model name, since a proxy may drop a header but never the model: fake-n200-r50-t4 */
struct knobs {
  long chunks;   /* n: content chunks of a stream */
  long rate;     /* r: chunks per second and stream; 0 = as fast as the socket takes them */
  long body;     /* b: bytes of a plain reply's body, about */
  long aligned;  /* a: 1 = paced streams tick together, as the steps of an inference engine do */
  long burst;    /* w: events per write when r is 0 */
  long first_ms; /* l: wait before the reply, head included */
  long filler;   /* t: characters of a chunk's text beside the mark */
};

enum state { IDLE, WAITING, STREAMING };

struct conn {
  int fd, wants_write, close_after, continued, usage, chat;
  enum state state;
  struct buf in, out;
  struct knobs knobs;
  long sent;            /* content chunks so far */
  int64_t due, step;    /* ns: next tick of a waiting or paced reply, and its period */
  size_t slot;          /* place in the timer heap, or NO_SLOT */
  int queued;           /* in the queue of unpaced streams */
  unsigned id;          /* of the stream, for its text and its reply id */
  long gone_id;         /* the client's number for a request that it means to leave, or -1 */
  char model[96];
  char prefix[320];     /* "data: {... "choices":[{"index":0,": equal in all events of a stream */
  size_t prefix_len;
  TAILQ_ENTRY(conn) link;
};

struct request {
  const char *path, *body;
  size_t path_len, body_len;
};

struct counters {
  unsigned long requests, streams, chunks;
  struct hist late; /* ns by which a paced tick was late, since the last /stats */
  struct { long id; int64_t at; int headless; } closes[1 << 16];
  size_t n_closes;
};
extern struct counters counters;

ssize_t request_take(struct conn *c, struct request *r);
void request_read_knobs(struct conn *c, const struct request *r);
int request_flag(const struct request *r, const char *key);
void reply_plain(struct conn *c);
void reply_small(struct conn *c, const char *status, const char *json, size_t n);
void reply_stats(struct conn *c);
void stream_head(struct conn *c);
void stream_event(struct conn *c);

#endif
