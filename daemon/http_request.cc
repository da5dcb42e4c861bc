#include "daemon/http_request.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/metrics_text.h"

namespace lbrd::daemon {
namespace {

std::string Response(absl::string_view status, absl::string_view type, absl::string_view body,
                     bool with_body = true, absl::string_view header = "") {
  return absl::StrCat("HTTP/1.0 ", status, "\r\nContent-Type: ", type,
                      "\r\nContent-Length: ", body.size(), "\r\nConnection: close\r\n", header,
                      "\r\n", with_body ? body : "");
}

std::string Refusal(absl::string_view status, absl::string_view header = "") {
  return Response(status, "text/plain; charset=utf-8", absl::StrCat(status, "\n"),
                  /*with_body=*/true, header);
}

}  // namespace

bool HasHttpHead(absl::string_view bytes) {
  return absl::StrContains(bytes, "\r\n\r\n") || absl::StrContains(bytes, "\n\n");
}

std::string AnswerHttp(absl::string_view head, const std::function<std::string()>& page) {
  if (!HasHttpHead(head)) {
    return Refusal(head.size() >= kMaxHttpHeadBytes ? "431 Request Header Fields Too Large"
                                                    : "400 Bad Request");
  }
  absl::string_view line = head.substr(0, head.find('\n'));
  if (absl::EndsWith(line, "\r")) line.remove_suffix(1);
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  if (words.size() != 3 || !absl::StartsWith(words[2], "HTTP/1.")) {
    return Refusal("400 Bad Request");
  }
  const absl::string_view path = words[1].substr(0, words[1].find('?'));
  if (path != "/metrics") return Refusal("404 Not Found: the figures are at /metrics");
  if (words[0] != "GET" && words[0] != "HEAD") {
    return Refusal("405 Method Not Allowed", "Allow: GET, HEAD\r\n");
  }
  return Response("200 OK", kMetricsContentType, page(), words[0] == "GET");
}

}  // namespace lbrd::daemon
