/* What the load generator and the fake backend share: the clock, the time mark, a growing buffer, a histogram.
 *
 * The time mark is how delay is measured: '@' and twelve letters a..p, the low 48 bits of CLOCK_MONOTONIC in
 * nanoseconds, four bits a letter. Letters alone pass through any JSON encoder, any proxy and any text policy unchanged.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MARK_DIGITS 12
#define MARK_CHARS (1 + MARK_DIGITS)
#define MARK_MASK ((UINT64_C(1) << 48) - 1)

static inline int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static inline void mark_write(char *out, int64_t ns) {
  uint64_t v = (uint64_t)ns & MARK_MASK;
  *out++ = '@';
  for (int shift = 44; shift >= 0; shift -= 4) *out++ = (char)('a' + ((v >> shift) & 15));
}

static inline void *must(void *p) {
  if (!p) {
    fputs("out of memory\n", stderr);
    exit(3);
  }
  return p;
}

/* Bytes [off, len) are the content. */
struct buf {
  char *p;
  size_t off, len, cap;
};

static inline size_t buf_size(const struct buf *b) { return b->len - b->off; }
static inline char *buf_data(const struct buf *b) { return b->p + b->off; }

/* Room for n more bytes behind the content. */
static inline char *buf_room(struct buf *b, size_t n) {
  if (b->off == b->len) b->off = b->len = 0;
  if (b->len + n > b->cap && b->off) {
    memmove(b->p, b->p + b->off, b->len - b->off);
    b->len -= b->off;
    b->off = 0;
  }
  if (b->len + n > b->cap) {
    size_t cap = b->cap ? b->cap : 2048;
    while (cap < b->len + n) cap *= 2;
    b->p = must(realloc(b->p, cap));
    b->cap = cap;
  }
  return b->p + b->len;
}

static inline void buf_add(struct buf *b, const void *p, size_t n) {
  memcpy(buf_room(b, n), p, n);
  b->len += n;
}

/* Log-linear histogram of nanoseconds: exact below 128, then 128 steps per power of two (below 0.8 % wide). */
#define HIST_STEPS 128
struct hist {
  uint64_t count[HIST_STEPS * 58], n, max;
  double sum;
};

static inline void hist_add(struct hist *h, int64_t value) {
  uint64_t v = value > 0 ? (uint64_t)value : 0;
  unsigned slot = (unsigned)v;
  if (v >= HIST_STEPS) {
    int top = 63 - __builtin_clzll(v);
    slot = (unsigned)(top - 6) * HIST_STEPS + ((v >> (top - 7)) & (HIST_STEPS - 1));
  }
  h->count[slot]++;
  h->n++;
  h->sum += (double)v;
  if (v > h->max) h->max = v;
}

/* The value below which the share q of the samples lies: middle of its slot, never above the true maximum. */
static inline double hist_quantile(const struct hist *h, double q) {
  if (!h->n) return 0;
  uint64_t want = (uint64_t)(q * (double)h->n), seen = 0;
  if (want >= h->n) want = h->n - 1;
  for (unsigned i = 0; i < HIST_STEPS * 58; i++) {
    seen += h->count[i];
    if (seen <= want) continue;
    if (i < HIST_STEPS) return i;
    int shift = (int)(i / HIST_STEPS) - 1;
    double v = ((double)(HIST_STEPS + i % HIST_STEPS) + 0.5) * (double)(UINT64_C(1) << shift);
    return v > (double)h->max ? (double)h->max : v;
  }
  return (double)h->max;
}

/* "name":{...} in microseconds. */
static inline int hist_json(char *out, size_t room, const char *name, const struct hist *h) {
  return snprintf(out, room,
                  "\"%s\":{\"n\":%lu,\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}", name,
                  (unsigned long)h->n, h->n ? h->sum / (double)h->n / 1e3 : 0.0, hist_quantile(h, .5) / 1e3,
                  hist_quantile(h, .9) / 1e3, hist_quantile(h, .99) / 1e3, hist_quantile(h, .999) / 1e3,
                  (double)h->max / 1e3);
}

#endif
