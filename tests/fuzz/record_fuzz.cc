// Records of any content and format: decoding stays within the record, and peeking agrees with it.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "pmu/record.h"

namespace {

using namespace lbrd::pmu;

// Touches every byte that a span or view promises.
template <typename T>
void Touch(const T& items) {
  volatile uint64_t sum = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(items.data());
  for (size_t i = 0; i < items.size() * sizeof(*items.data()); ++i) sum = sum + bytes[i];
}

void TouchRecord(const SampleRecord& sample) {
  Touch(sample.callchain);
  Touch(sample.branch_stack.branches);
  Touch(sample.user_regs.values);
  Touch(sample.user_stack);
  for (unsigned index = 0; index < 65; ++index) sample.user_regs.Get(index);
}
void TouchRecord(const MmapRecord& map) {
  Touch(map.path);
  Touch(map.file.build_id);
}
void TouchRecord(const CommRecord& comm) { Touch(comm.comm); }
void TouchRecord(const KsymbolRecord& symbol) { Touch(symbol.name); }
void TouchRecord(const CallchainDeferredRecord& deferred) { Touch(deferred.ips); }
template <typename T>
void TouchRecord(const T&) {}

void Check(bool holds) {
  if (!holds) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  struct Format {
    uint64_t sample_type, read_format, branch_sample_type, regs_user, regs_intr, id_all;
  } fields;
  if (size < sizeof(fields) + sizeof(perf_event_header)) return 0;
  memcpy(&fields, data, sizeof(fields));
  data += sizeof(fields);
  size -= sizeof(fields);
  if (size > UINT16_MAX) return 0;
  const RecordFormat format{.sample_type = fields.sample_type,
                            .read_format = fields.read_format,
                            .branch_sample_type = fields.branch_sample_type,
                            .sample_regs_user = fields.regs_user,
                            .sample_regs_intr = fields.regs_intr,
                            .sample_id_all = (fields.id_all & 1) != 0};
  // Memory of exactly the record's size, so that a read behind its end is seen.
  const std::unique_ptr<uint8_t[]> bytes(new uint8_t[size]);
  memcpy(bytes.get(), data, size);
  auto* header = reinterpret_cast<perf_event_header*>(bytes.get());
  header->type &= 31;
  if ((fields.id_all & 2) == 0) header->size = static_cast<uint16_t>(size);
  if (header->size > size) return 0;

  PeekIdentifier(header);
  const std::optional<SampleId> who = PeekRecord(header, format);
  const absl::StatusOr<Record> record = DecodeRecord(header, format);
  if (!record.ok()) return 0;
  Check(who.has_value());
  std::visit(
      [&](const auto& kind) {
        Check(kind.who.time == who->time && kind.who.id == who->id && kind.who.pid == who->pid &&
              kind.who.tid == who->tid && kind.who.cpu == who->cpu);
        TouchRecord(kind);
      },
      *record);
  return 0;
}
