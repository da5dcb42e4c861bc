#include "client/engine_gap.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/figures.h"
#include "client/utf8.h"

namespace lbrd::client {

std::string EngineGapText(absl::string_view why, uint64_t from_ns, uint64_t to_ns) {
  std::string text = PrintableText(why);
  if (to_ns == 0) return absl::StrCat(text, "; another one was started, and does not sample yet");
  google::protobuf::Duration gap;
  const uint64_t gap_ns = to_ns - std::min(from_ns, to_ns);
  gap.set_seconds(static_cast<int64_t>(gap_ns / 1'000'000'000));
  gap.set_nanos(static_cast<int32_t>(gap_ns % 1'000'000'000));
  return absl::StrCat(text, "; another one goes on: nothing was sampled for ", FormatDuration(gap),
                      ", and what was not handed out before is lost");
}

}  // namespace lbrd::client
