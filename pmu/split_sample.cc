#include "pmu/split_sample.h"

#include <cstring>
#include <variant>

namespace lbrd::pmu {

std::optional<SplitSample> Split(const perf_event_header& header, std::span<const std::byte> fields,
                                 const RecordFormat& format, std::byte* to) {
  if ((format.sample_type & PERF_SAMPLE_STACK_USER) == 0 || fields.size() % 8 != 0) {
    return std::nullopt;
  }
  const absl::StatusOr<Record> decoded = DecodeSample(header.misc, fields, format);
  if (!decoded.ok()) return std::nullopt;
  const auto& sample = std::get<SampleRecord>(*decoded);
  const uint64_t asked = sample.user_stack_asked;
  if (sample.user_stack.data() == nullptr || asked % 8 != 0) return std::nullopt;
  const auto stack = static_cast<size_t>(sample.user_stack.data() - fields.data());
  const size_t rest = stack + asked + sizeof(uint64_t);  // behind it stands how much was copied
  if (stack % 8 != 0) return std::nullopt;

  const SplitSample split{.stack = {.begin = sample.user_stack.data(),
                                    .bytes = static_cast<uint32_t>(sample.user_stack.size()),
                                    .asked = static_cast<uint32_t>(asked)},
                          .record_bytes = sizeof(header) + stack + fields.size() - rest};
  perf_event_header less = header;
  less.size = static_cast<uint16_t>(split.record_bytes);
  std::memcpy(to, &less, sizeof(less));
  std::byte* const copy = to + sizeof(less);
  std::memcpy(copy, fields.data(), stack - sizeof(uint64_t));
  std::memset(copy + stack - sizeof(uint64_t), 0, sizeof(uint64_t));  // its size
  std::memcpy(copy + stack, fields.data() + rest, fields.size() - rest);
  return split;
}

absl::StatusOr<Record> DecodeSplit(const perf_event_header* header, const StackCopy& stack,
                                   const RecordFormat& format) {
  absl::StatusOr<Record> decoded = DecodeRecord(header, format);
  if (stack.begin == nullptr || !decoded.ok()) return decoded;
  if (auto* sample = std::get_if<SampleRecord>(&*decoded)) {
    sample->user_stack = std::span(stack.begin, stack.bytes);
    sample->user_stack_asked = stack.asked;
  }
  return decoded;
}

}  // namespace lbrd::pmu
