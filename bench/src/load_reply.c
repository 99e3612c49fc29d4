/* Reads HTTP/1.1 replies and finds the time marks in streamed text, however a proxy cut or joined the events. No socket. */
#define _GNU_SOURCE
#include <strings.h>

#include "load.h"

void reply_reset(struct reply *r, int sse) {
  char *head = r->head ? r->head : must(malloc(HEAD_ROOM));
  char *line = r->line ? r->line : must(malloc(LINE_ROOM));
  *r = (struct reply){.head = head, .line = line, .sse = sse};
}

/* The text of one JSON string from p to its closing quote. */
static void scan_text(struct conn *c, const char *p, const char *end) {
  struct reply *r = &c->reply;
  for (; p < end && *p != '"'; p++) {
    if (*p == '@') {
      r->mark_len = 1;
      r->mark = 0;
    } else if (r->mark_len && *p >= 'a' && *p <= 'p') {
      r->mark = r->mark << 4 | (uint64_t)(*p - 'a');
      if (r->mark_len++ < MARK_DIGITS) continue;
      r->mark_len = 0;
      r->marks++;
      on_mark(c, r->mark);
    } else {
      r->mark_len = 0;
      if (*p == '\\') p++;
    }
  }
}

static void scan_line(struct conn *c) {
  struct reply *r = &c->reply;
  const char *p = r->line, *end = r->line + r->line_len;
  size_t n = r->line_len;
  r->line_len = 0;
  if (n < 5 || memcmp(p, "data:", 5)) return;
  if (n < 16 && memmem(p, n, "[DONE]", 6)) {
    r->done_seen = 1;
    return;
  }
  const char *key = memmem(p, n, "\"content\":", 10);
  size_t skip = 10;
  if (!key) {
    key = memmem(p, n, "\"text\":", 7);
    skip = 7;
  }
  if (!key) return;
  for (key += skip; key < end && *key == ' '; key++) {}
  if (key < end && *key == '"') scan_text(c, key + 1, end);
}

static void take_body(struct conn *c, const char *p, size_t n) {
  struct reply *r = &c->reply;
  if (!r->sse || r->status != 200) { /* keep the beginning, for the message about an error */
    size_t room = 300 - (r->line_len < 300 ? r->line_len : 300), k = n < room ? n : room;
    memcpy(r->line + r->line_len, p, k);
    r->line_len += k;
    return;
  }
  while (n) {
    const char *newline = memchr(p, '\n', n);
    size_t k = newline ? (size_t)(newline - p) : n, room = LINE_ROOM - r->line_len;
    memcpy(r->line + r->line_len, p, k < room ? k : room);
    r->line_len += k < room ? k : room;
    if (!newline) return;
    scan_line(c);
    p += k + 1;
    n -= k + 1;
  }
}

/* Collects the head. Bytes of p that belong to it; sets part when the head is whole; (size_t)-1 = not HTTP. */
static size_t take_head(struct reply *r, const char *p, size_t n) {
  size_t old = r->head_len, room = HEAD_ROOM - 1 - old, k = n < room ? n : room;
  memcpy(r->head + old, p, k);
  r->head_len += k;
  r->head[r->head_len] = 0;
  size_t from = old > 3 ? old - 3 : 0;
  char *end = memmem(r->head + from, r->head_len - from, "\r\n\r\n", 4);
  if (!end) return r->head_len == HEAD_ROOM - 1 ? (size_t)-1 : n;
  size_t used = (size_t)(end + 4 - r->head) - old;
  *end = 0;
  if (strncmp(r->head, "HTTP/1.", 7)) return (size_t)-1;
  r->status = atoi(r->head + 8);
  if (r->status / 100 == 1) {
    r->head_len = 0;
    return used;
  }
  r->part = BODY;
  r->left = -1;
  for (char *l = strchr(r->head, '\n'); l; l = strchr(l, '\n')) {
    l++;
    if (!strncasecmp(l, "content-length:", 15)) r->left = atol(l + 15);
    else if (!strncasecmp(l, "transfer-encoding:", 18)) r->part = CHUNK_SIZE;
    else if (!strncasecmp(l, "connection: close", 17)) r->close = 1;
  }
  if (r->part == CHUNK_SIZE) r->left = 0;
  else if (r->left < 0) r->close = 1;
  return used;
}

static int hex(char x) { return x >= '0' && x <= '9' ? x - '0' : (x | 32) >= 'a' && (x | 32) <= 'f' ? (x | 32) - 'a' + 10 : -1; }

/* One byte of a chunked body's framing. 1 = the body is over, -1 = broken. */
static int frame_byte(struct reply *r, char x) {
  switch (r->part) {
    case CHUNK_SIZE:
      if (x == '\n') r->part = r->left ? CHUNK_DATA : TRAILER;
      else if (x == ';') r->part = CHUNK_EXTENSION;
      else if (hex(x) >= 0) r->left = r->left * 16 + hex(x);
      else if (x != '\r') return -1;
      return 0;
    case CHUNK_EXTENSION:
      if (x == '\n') r->part = r->left ? CHUNK_DATA : TRAILER;
      return 0;
    case CHUNK_END:
      if (x == '\n') r->part = CHUNK_SIZE;
      return x == '\n' || x == '\r' ? 0 : -1;
    case TRAILER:
      if (x == '\n') return 1;
      if (x != '\r') r->part = TRAILER_LINE;
      return 0;
    default: /* TRAILER_LINE */
      if (x == '\n') r->part = TRAILER;
      return 0;
  }
}

int reply_feed(struct conn *c, const char *p, size_t n) {
  struct reply *r = &c->reply;
  while (n && r->part == HEAD) {
    size_t used = take_head(r, p, n);
    if (used == (size_t)-1) return -1;
    p += used;
    n -= used;
  }
  if (r->part == HEAD) return 0;
  if (r->part == BODY) {
    if (r->left >= 0 && (int64_t)n > r->left) return -1; /* more than it promised */
    take_body(c, p, n);
    if (r->left > 0) r->left -= (int64_t)n;
    return r->left == 0;
  }
  while (n) {
    if (r->part == CHUNK_DATA) {
      size_t k = (int64_t)n < r->left ? n : (size_t)r->left;
      take_body(c, p, k);
      p += k;
      n -= k;
      if ((r->left -= (int64_t)k) == 0) r->part = CHUNK_END;
      continue;
    }
    int over = frame_byte(r, *p++);
    n--;
    if (over) return over > 0 && n ? -1 : over;
  }
  return 0;
}
