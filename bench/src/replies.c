/* The bytes of the fake backend: reads a request, writes plain replies, stream events and /stats. No socket here.
 *
 * Events have the fields that vLLM's OpenAI-compatible server sends, about 215 bytes each with the default filler.
 */
#define _GNU_SOURCE
#include <strings.h>
#include <sys/types.h>

#include "backend.h"

#define COMMON_HEADERS "date: Fri, 20 Nov 2026 08:00:00 GMT\r\nserver: uvicorn\r\n"
#define MAX_FILLER 512

/* Plain ASCII without quotes or backslashes: any slice of it may stand in a JSON string. */
static const char PROSE[] =
    " the river carries what the gate lets through and the keeper counts every barrel that goes down the channel while "
    "the mill turns slowly and grinds the corn of the whole valley until evening comes and somebody closes the gate for "
    "the night so that the pond can fill again before the first cart arrives with more sacks from the farms on the hill "
    "where the wind has blown since autumn and nobody remembers a year with so much water or so many wheels turning at ";

/* A chunked body, decoded to `to` (may be the source itself). Bytes used, 0 = incomplete, -1 = broken. */
static ssize_t dechunk(const char *from, size_t n, char *to, size_t *written) {
  size_t at = 0, w = 0;
  for (;;) {
    const char *line = from + at, *end = memmem(line, n - at, "\r\n", 2);
    if (!end) return 0;
    char *stop;
    size_t size = strtoul(line, &stop, 16), data = (size_t)(end - from) + 2;
    if (stop == line) return -1;
    if (data + size + 2 > n) return 0;
    if (to) memmove(to + w, from + data, size);
    w += size;
    at = data + size + 2;
    if (size == 0) {
      *written = w;
      return (ssize_t)at;
    }
  }
}

/* The next whole request of c->in. Bytes used, 0 = incomplete, -1 = not HTTP. The views live until c->in changes. */
ssize_t request_take(struct conn *c, struct request *r) {
  char *start = buf_data(&c->in), *head_end = memmem(start, buf_size(&c->in), "\r\n\r\n", 4);
  if (!head_end) return buf_size(&c->in) > 65536 ? -1 : 0;
  char *path = memchr(start, ' ', (size_t)(head_end - start)), *space;
  if (!path || !(space = memchr(path + 1, ' ', (size_t)(head_end - path - 1)))) return -1;
  r->path = path + 1;
  r->path_len = (size_t)(space - path - 1);

  size_t length = 0;
  int is_chunked = 0, expects = 0;
  c->close_after = 0;
  for (char *line = memchr(start, '\n', (size_t)(head_end - start)); line && line < head_end;) {
    char *name = line + 1, *end = memchr(name, '\n', (size_t)(head_end + 2 - name));
    size_t n = (size_t)(end - name);
    if (n > 15 && !strncasecmp(name, "content-length:", 15)) length = strtoul(name + 15, NULL, 10);
    else if (n > 18 && !strncasecmp(name, "transfer-encoding:", 18)) is_chunked = memmem(name, n, "chunked", 7) != NULL;
    else if (n > 11 && !strncasecmp(name, "connection:", 11)) c->close_after = memmem(name, n, "close", 5) != NULL;
    else if (n > 7 && !strncasecmp(name, "expect:", 7)) expects = 1;
    line = end < head_end ? end : NULL;
  }
  if (expects && !c->continued) {
    buf_add(&c->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    c->continued = 1;
  }
  char *body = head_end + 4;
  size_t there = buf_size(&c->in) - (size_t)(body - start), used = length;
  if (is_chunked) {
    ssize_t k = dechunk(body, there, NULL, &length);
    if (k <= 0) return k;
    used = (size_t)dechunk(body, there, body, &length);
  } else if (there < length) return 0;
  c->continued = 0;
  r->body = body;
  r->body_len = length;
  return (body - start) + (ssize_t)used;
}

/* Is "key": true in the body? The client is our own and writes flat JSON, so a search is enough. */
int request_flag(const struct request *r, const char *key) {
  const char *p = memmem(r->body, r->body_len, key, strlen(key)), *end = r->body + r->body_len;
  if (!p) return 0;
  for (p += strlen(key); p < end && (*p == ' ' || *p == ':'); p++) {}
  return end - p >= 4 && !memcmp(p, "true", 4);
}

/* The text after "key": " up to its closing quote, cut to room - 1. */
static void string_value(const struct request *r, const char *key, char *out, size_t room) {
  const char *p = memmem(r->body, r->body_len, key, strlen(key)), *end = r->body + r->body_len;
  size_t n = 0;
  if (p) {
    for (p += strlen(key); p < end && *p != '"'; p++) {}
    for (p++; p < end && *p != '"' && n + 1 < room; p++) out[n++] = *p;
  }
  out[n] = 0;
}

void request_read_knobs(struct conn *c, const struct request *r) {
  char user[32];
  struct knobs *k = &c->knobs;
  *k = (struct knobs){.chunks = 64, .body = 1024, .burst = 1, .filler = 4};
  string_value(r, "\"model\":", c->model, sizeof c->model);
  for (char *p = strchr(c->model, '-'); p; p = strchr(p + 1, '-')) {
    if (p[1] == 0 || p[2] < '0' || p[2] > '9') continue;
    long v = atol(p + 2);
    if (p[1] == 'n') k->chunks = v > 0 ? v : 1;
    else if (p[1] == 'r') k->rate = v;
    else if (p[1] == 'b') k->body = v;
    else if (p[1] == 'a') k->aligned = v;
    else if (p[1] == 'w') k->burst = v > 0 ? v : 1;
    else if (p[1] == 'l') k->first_ms = v;
    else if (p[1] == 't') k->filler = v < MAX_FILLER ? v : MAX_FILLER;
  }
  string_value(r, "\"user\":", user, sizeof user);
  c->gone_id = strncmp(user, "gone-", 5) ? -1 : atol(user + 5);
}

void reply_small(struct conn *c, const char *status, const char *json, size_t n) {
  char head[256];
  int k = snprintf(head, sizeof head, "HTTP/1.1 %s\r\n" COMMON_HEADERS "content-length: %zu\r\ncontent-type: application/json\r\n\r\n", status, n);
  buf_add(&c->out, head, (size_t)k);
  buf_add(&c->out, json, n);
}

/* A whole completion of about knobs.body bytes; the last few sizes are kept ready, so that a reply costs one copy. */
void reply_plain(struct conn *c) {
  static struct { long size; int chat; struct buf reply; } kept[8];
  static unsigned next;
  for (unsigned i = 0; i < 8; i++)
    if (kept[i].reply.len && kept[i].size == c->knobs.body && kept[i].chat == c->chat) {
      buf_add(&c->out, kept[i].reply.p, kept[i].reply.len);
      return;
    }
  static const char *before[] = {
      "{\"id\":\"cmpl-0f3c2ab1d4e54bd0a1b2c3d4e5f60718\",\"object\":\"text_completion\",\"created\":1763600000,\"model\":\"fake\",\"choices\":[{\"index\":0,\"text\":\"",
      "{\"id\":\"chatcmpl-0f3c2ab1d4e54bd0a1b2c3d4e5f60718\",\"object\":\"chat.completion\",\"created\":1763600000,\"model\":\"fake\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\""};
  static const char *after[] = {
      "\",\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null,\"prompt_logprobs\":null}],\"usage\":{\"prompt_tokens\":42,\"total_tokens\":106,\"completion_tokens\":64}}",
      "\",\"refusal\":null,\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":42,\"total_tokens\":106,\"completion_tokens\":64,\"prompt_tokens_details\":null},\"prompt_logprobs\":null,\"kv_transfer_params\":null}"};
  struct buf json = {0}, saved = c->out;
  buf_add(&json, before[c->chat], strlen(before[c->chat]));
  long text = c->knobs.body - (long)(strlen(before[c->chat]) + strlen(after[c->chat]));
  for (long i = 0; i < text; i++) buf_add(&json, &PROSE[(size_t)i % (sizeof PROSE - 1)], 1);
  buf_add(&json, after[c->chat], strlen(after[c->chat]));
  c->out = (struct buf){0};
  reply_small(c, "200 OK", json.p, json.len);
  unsigned i = next++ % 8;
  free(kept[i].reply.p);
  kept[i].size = c->knobs.body;
  kept[i].chat = c->chat;
  kept[i].reply = c->out;
  c->out = saved;
  buf_add(&c->out, kept[i].reply.p, kept[i].reply.len);
  free(json.p);
}

void reply_stats(struct conn *c) {
  struct buf b = {0};
  char piece[512];
  int n = snprintf(piece, sizeof piece, "{\"requests\":%lu,\"streams\":%lu,\"chunks\":%lu,", counters.requests, counters.streams, counters.chunks);
  n += hist_json(piece + n, sizeof piece - (size_t)n, "late_us", &counters.late);
  buf_add(&b, piece, (size_t)n);
  buf_add(&b, ",\"closes\":[", 11);
  for (size_t i = 0; i < counters.n_closes; i++) {
    n = snprintf(piece, sizeof piece, "%s[%ld,%ld,%d]", i ? "," : "", counters.closes[i].id, (long)counters.closes[i].at, counters.closes[i].headless);
    buf_add(&b, piece, (size_t)n);
  }
  buf_add(&b, "]}", 2);
  reply_small(c, "200 OK", b.p, b.len);
  free(b.p);
  memset(&counters.late, 0, sizeof counters.late);
  counters.n_closes = 0;
}

void stream_head(struct conn *c) {
  static const char head[] = "HTTP/1.1 200 OK\r\n" COMMON_HEADERS "content-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
  buf_add(&c->out, head, sizeof head - 1);
  c->prefix_len = (size_t)snprintf(
      c->prefix, sizeof c->prefix,
      "data: {\"id\":\"%s-%024x\",\"object\":\"%s\",\"created\":1763600000,\"model\":\"%s\",\"choices\":[{\"index\":0,",
      c->chat ? "chatcmpl" : "cmpl", c->id, c->chat ? "chat.completion.chunk" : "text_completion", c->model);
}

/* One event: the stream's prefix, then what is its own, as one HTTP chunk. */
static void event(struct conn *c, const char *rest, size_t n) {
  char size[16];
  int k = snprintf(size, sizeof size, "%zx\r\n", c->prefix_len + n + 2);
  buf_add(&c->out, size, (size_t)k);
  buf_add(&c->out, c->prefix, c->prefix_len);
  buf_add(&c->out, rest, n);
  buf_add(&c->out, "\n\n\r\n", 4);
}
#define EVENT(c, text) event(c, text, sizeof text - 1)

static void usage_event(struct conn *c) {
  char piece[640];
  size_t fixed = c->prefix_len - strlen("[{\"index\":0,");
  int n = snprintf(piece, sizeof piece, "%.*s[],\"usage\":{\"prompt_tokens\":42,\"total_tokens\":%ld,\"completion_tokens\":%ld}}\n\n",
                   (int)fixed, c->prefix, c->knobs.chunks + 42, c->knobs.chunks);
  char size[16];
  int k = snprintf(size, sizeof size, "%x\r\n", n);
  buf_add(&c->out, size, (size_t)k);
  buf_add(&c->out, piece, (size_t)n);
  buf_add(&c->out, "\r\n", 2);
}

/* The next content event of c's stream; with the first one the role, with the last one the ending. */
void stream_event(struct conn *c) {
  static const char chat_open[] = "\"delta\":{\"content\":\"", chat_close[] = "\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]}";
  static const char text_open[] = "\"text\":\"", text_close[] = "\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}],\"usage\":null}";
  char rest[MAX_FILLER + 256], *p = rest;
  if (c->sent == 0 && c->chat)
    EVENT(c, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}],\"prompt_token_ids\":null}");
  size_t from = (size_t)c->sent * 7 + c->id;
  p = mempcpy(p, c->chat ? chat_open : text_open, c->chat ? sizeof chat_open - 1 : sizeof text_open - 1);
  for (long i = 0; i < c->knobs.filler; i++) *p++ = PROSE[(from + (size_t)i) % (sizeof PROSE - 1)];
  *p++ = ' ';
  mark_write(p, now_ns());
  p = mempcpy(p + MARK_CHARS, c->chat ? chat_close : text_close, c->chat ? sizeof chat_close - 1 : sizeof text_close - 1);
  event(c, rest, (size_t)(p - rest));
  c->sent++;
  counters.chunks++;
  if (c->sent < c->knobs.chunks) return;
  if (c->chat) EVENT(c, "\"delta\":{\"content\":\"\"},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null,\"token_ids\":null}]}");
  else EVENT(c, "\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}]}");
  if (c->usage) usage_event(c);
  buf_add(&c->out, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", 24);
  c->state = IDLE;
}
