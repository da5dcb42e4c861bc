// As much of HTTP as serving one page takes: the head of a request in, a whole response out.
//
// Whatever the bytes are, there is an answer, and the connection ends with it (HTTP/1.0; clients of
// HTTP/1.1 understand that). Thread rules: pure functions.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace lbrd::daemon {

// A head is shorter; what is longer is refused unread.
inline constexpr size_t kMaxHttpHeadBytes = 8192;

// Whether the bytes contain a whole head, up to its empty line.
bool HasHttpHead(absl::string_view bytes);

// The response to what a client sent: a head, whole (HasHttpHead()) or cut off. `page` is called
// for GET and HEAD of /metrics only.
std::string AnswerHttp(absl::string_view head, const std::function<std::string()>& page);

}  // namespace lbrd::daemon
