#include "pmu/empty_stack.h"

#include <cstring>
#include <variant>

namespace lbrd::pmu {
namespace {

constexpr size_t kWorthIt = 512;

}  // namespace

std::optional<EmptyStack> FindEmptyStack(const perf_event_header* header,
                                         const RecordFormat& format) {
  if (header->type != PERF_RECORD_SAMPLE || (format.sample_type & PERF_SAMPLE_STACK_USER) == 0 ||
      header->size % 8 != 0) {
    return std::nullopt;
  }
  const absl::StatusOr<Record> decoded = DecodeRecord(header, format);
  if (!decoded.ok()) return std::nullopt;
  const auto* sample = std::get_if<SampleRecord>(&*decoded);
  if (sample == nullptr || sample->user_stack.data() == nullptr ||
      sample->user_stack_asked % 8 != 0) {
    return std::nullopt;
  }
  const size_t kept = (sample->user_stack.size() + 7) / 8 * 8 + 8;
  if (sample->user_stack_asked < kept + kWorthIt) return std::nullopt;
  const auto stack =
      static_cast<size_t>(sample->user_stack.data() - reinterpret_cast<const std::byte*>(header));
  return EmptyStack{
      .size_at = stack - 8, .begin = stack + kept, .bytes = sample->user_stack_asked - kept};
}

void AppendWithout(const perf_event_header* header, const EmptyStack& empty,
                   std::vector<uint64_t>* out) {
  const size_t at = out->size();
  const auto* words = reinterpret_cast<const uint64_t*>(header);
  out->insert(out->end(), words, words + empty.begin / 8);
  out->insert(out->end(), words + (empty.begin + empty.bytes) / 8, words + header->size / 8);
  (*out)[at + empty.size_at / 8] -= empty.bytes;
  perf_event_header less = *header;
  less.size = static_cast<uint16_t>(header->size - empty.bytes);
  std::memcpy(out->data() + at, &less, sizeof(less));
}

}  // namespace lbrd::pmu
