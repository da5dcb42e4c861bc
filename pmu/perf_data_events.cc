#include "pmu/perf_data_events.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace lbrd::pmu {
namespace {

constexpr size_t kWord = sizeof(uint64_t);
// Far more than perf can open; a recording that says otherwise is not one.
constexpr size_t kMaxEvents = 1 << 14;
constexpr size_t kMaxIds = 1 << 20;

constexpr const char* kHardwareNames[] = {"cycles",
                                          "instructions",
                                          "cache-references",
                                          "cache-misses",
                                          "branches",
                                          "branch-misses",
                                          "bus-cycles",
                                          "stalled-cycles-frontend",
                                          "stalled-cycles-backend",
                                          "ref-cycles"};
constexpr const char* kSoftwareNames[] = {
    "cpu-clock",        "task-clock",   "page-faults",  "context-switches",
    "cpu-migrations",   "minor-faults", "major-faults", "alignment-faults",
    "emulation-faults", "dummy",        "bpf-output",   "cgroup-switches"};

std::string NameOf(const perf_event_attr& attr) {
  // On machines with several kinds of cores the upper half of a generic event's config says which.
  const uint64_t generic = attr.config & UINT32_MAX;
  if (attr.type == PERF_TYPE_HARDWARE && generic < std::size(kHardwareNames)) {
    return kHardwareNames[generic];
  }
  if (attr.type == PERF_TYPE_SOFTWARE && attr.config < std::size(kSoftwareNames)) {
    return kSoftwareNames[attr.config];
  }
  if (attr.type == PERF_TYPE_TRACEPOINT) return absl::StrCat("tracepoint ", attr.config);
  if (attr.type == PERF_TYPE_BREAKPOINT) return absl::StrCat("breakpoint ", attr.bp_addr);
  if (attr.type == PERF_TYPE_RAW) return absl::StrCat("raw 0x", absl::Hex(attr.config));
  return absl::StrCat("pmu ", attr.type, " 0x", absl::Hex(attr.config));
}

std::optional<size_t> SampleIdWord(uint64_t sample_type) {
  if (sample_type & PERF_SAMPLE_IDENTIFIER) return 0;
  if ((sample_type & PERF_SAMPLE_ID) == 0) return std::nullopt;
  constexpr uint64_t kBefore =
      PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR;
  return static_cast<size_t>(std::popcount(sample_type & kBefore));
}

std::optional<size_t> TrailerIdWord(const RecordFormat& format) {
  if (!format.sample_id_all) return std::nullopt;
  if (format.sample_type & PERF_SAMPLE_IDENTIFIER) return 1;
  if ((format.sample_type & PERF_SAMPLE_ID) == 0) return std::nullopt;
  constexpr uint64_t kBehind = PERF_SAMPLE_STREAM_ID | PERF_SAMPLE_CPU;
  return 1 + static_cast<size_t>(std::popcount(format.sample_type & kBehind));
}

}  // namespace

uint64_t PerfDataEvents::AttrBytes(std::span<const std::byte> bytes) {
  uint32_t size = 0;
  if (bytes.size() >= PERF_ATTR_SIZE_VER0) {
    memcpy(&size, bytes.data() + offsetof(perf_event_attr, size), sizeof(size));
  }
  return size == 0 ? PERF_ATTR_SIZE_VER0 : size;
}

absl::Status PerfDataEvents::Add(std::span<const std::byte> attr, std::span<const std::byte> ids) {
  const uint64_t attr_bytes = AttrBytes(attr);
  if (attr_bytes < PERF_ATTR_SIZE_VER0 || attr_bytes > attr.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the description of event ", events_.size(),
                                                   " is cut off or has an impossible size"));
  }
  if (events_.size() == kMaxEvents || by_id_.size() + ids.size() / kWord > kMaxIds) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", kMaxEvents, " events or ", kMaxIds, " event ids"));
  }
  SourceEvent event;
  // What newer kernels added behind our idea of the attr does not change the records' layout.
  memcpy(&event.attr, attr.data(), std::min<uint64_t>(attr_bytes, sizeof(event.attr)));
  event.format = RecordFormat::FromAttr(event.attr);
  if (events_.empty()) {
    sample_id_word_ = SampleIdWord(event.format.sample_type);
    trailer_id_word_ = TrailerIdWord(event.format);
  }
  const uint32_t index = static_cast<uint32_t>(events_.size());
  events_.push_back(std::move(event));
  for (size_t at = 0; at + kWord <= ids.size(); at += kWord) {
    uint64_t id;
    memcpy(&id, ids.data() + at, sizeof(id));
    by_id_.emplace(id, index);
  }
  return absl::OkStatus();
}

void PerfDataEvents::NameById(uint64_t id, absl::string_view name) {
  const auto found = by_id_.find(id);
  if (found != by_id_.end()) NameByIndex(found->second, name);
}

void PerfDataEvents::NameByIndex(size_t index, absl::string_view name) {
  if (index < events_.size() && !name.empty()) events_[index].name = std::string(name);
}

absl::Status PerfDataEvents::Finish() {
  if (events_.empty()) return absl::InvalidArgumentError("the recording describes no event");
  for (SourceEvent& event : events_) {
    if (event.name.empty()) event.name = NameOf(event.attr);
  }
  const RecordFormat& first = events_.front().format;
  const bool alike = std::all_of(events_.begin(), events_.end(),
                                 [&](const SourceEvent& e) { return e.format == first; });
  if (alike) return absl::OkStatus();
  // Without ids in one place a record's layout cannot be known before its event, nor the reverse.
  for (const SourceEvent& event : events_) {
    const std::optional<size_t> sample = SampleIdWord(event.format.sample_type);
    if (!sample || sample != sample_id_word_ || TrailerIdWord(event.format) != trailer_id_word_) {
      return absl::InvalidArgumentError(absl::StrCat(
          "events '", events_.front().name, "' and '", event.name,
          "' write records of different layouts that do not say whose they are: record again "
          "with the same fields for all events"));
    }
  }
  return absl::OkStatus();
}

std::optional<uint32_t> PerfDataEvents::EventOf(const perf_event_header* header) const {
  if (events_.size() == 1) return 0;
  const bool sample = header->type == PERF_RECORD_SAMPLE;
  const std::optional<size_t>& word = sample ? sample_id_word_ : trailer_id_word_;
  if (!word) return 0;
  const std::byte* begin = reinterpret_cast<const std::byte*>(header);
  const size_t at = sample ? sizeof(*header) + *word * kWord : header->size - *word * kWord;
  const std::optional<uint32_t> unknown = sample ? std::nullopt : std::optional<uint32_t>(0);
  if (header->size < sizeof(*header) + *word * kWord + (sample ? kWord : 0)) return unknown;
  uint64_t id;
  memcpy(&id, begin + at, sizeof(id));
  if (id == 0) return 0;
  const auto found = by_id_.find(id);
  if (found != by_id_.end()) return found->second;
  return unknown;
}

}  // namespace lbrd::pmu
