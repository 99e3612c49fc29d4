/* The command line of the load generator, and the one request that it sends. */
#define _GNU_SOURCE
#include <unistd.h>

#include "load.h"

struct options opt = {.port = 8080, .connections = 1, .leave_after = -1, .seconds = 3, .warm = 0.5, .prompt = 400, .expected = -1,
                      .path = "/v1/chat/completions", .model = "fake-b1024"};
char *request, *request_id;
size_t request_len;

void build_request(void) {
  size_t room = (size_t)opt.prompt + 8192;
  char *prompt = must(malloc((size_t)opt.prompt + 1)), *body = must(malloc(room));
  static const char text[] = "tell me how the old river gate works and who keeps it ";
  for (long i = 0; i < opt.prompt; i++) prompt[i] = text[(size_t)i % (sizeof text - 1)];
  prompt[opt.prompt] = 0;
  int is_chat = strstr(opt.path, "/chat/") != NULL, n;
  n = snprintf(body, room, is_chat ? "{\"model\": \"%s\", \"messages\": [{\"role\": \"system\", \"content\": \"You are a helpful assistant.\"}, {\"role\": \"user\", \"content\": \"%s\"}]"
                                   : "{\"model\": \"%s\", \"prompt\": \"%s\"", opt.model, prompt);
  n += snprintf(body + n, room - (size_t)n, ", \"max_tokens\": 256, \"temperature\": 0.7%s%s%s}", opt.stream ? ", \"stream\": true" : "",
                opt.usage ? ", \"stream_options\": {\"include_usage\": true}" : "", opt.leave_after >= 0 ? ", \"user\": \"gone-00000000\"" : "");
  request = must(malloc(room + sizeof opt.headers + 1024));
  request_len = (size_t)sprintf(request,
      "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\nUser-Agent: headgate-bench/1\r\nContent-Type: application/json\r\n"
      "Authorization: Bearer sk-bench-0000\r\n%s%sContent-Length: %d\r\n\r\n%s",
      opt.path, opt.port, opt.fresh ? "Connection: close\r\n" : "", opt.headers, n, body);
  if (opt.leave_after >= 0) request_id = strstr(request, "gone-00000000") + 5;
  free(prompt);
  free(body);
}

void read_options(int argc, char **argv) {
  for (int o; (o = getopt(argc, argv, "p:m:c:d:W:S:u:q:H:x:y:sCik")) > 0;) switch (o) {
      case 'p': opt.port = atoi(optarg); break;
      case 'm': opt.model = optarg; break;
      case 'c': opt.connections = atoi(optarg); break;
      case 'd': opt.seconds = atof(optarg); break;
      case 'W': opt.warm = atof(optarg); break;
      case 'S': opt.spread = atof(optarg); break;
      case 'u': opt.path = optarg; break;
      case 'q': opt.prompt = atol(optarg); break;
      case 'x': opt.leave_after = atoi(optarg); break;
      case 'y': opt.linger = atoi(optarg) * MS; break;
      case 's': opt.stream = 1; break;
      case 'C': opt.fresh = 1; break;
      case 'i': opt.usage = 1; break;
      case 'k': opt.keep = 1; break;
      case 'H':
        if (strlen(opt.headers) + strlen(optarg) + 3 > sizeof opt.headers) exit(2);
        strcat(strcat(opt.headers, optarg), "\r\n");
        break;
      default: exit(2);
    }
  const char *n = strstr(opt.model, "-n");
  if (n) opt.expected = atol(n + 2);
}
