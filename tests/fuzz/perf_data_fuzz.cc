// Recordings of any content: reading ends, stays within its memory, and hands out what it says.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "pmu/perf_data.h"

namespace {

void Check(bool holds) {
  if (!holds) abort();
}

void ReadAll(const std::string& path, uint64_t max_pending_bytes) {
  using namespace lbrd::pmu;
  const absl::StatusOr<std::unique_ptr<PerfData>> opened =
      PerfData::Open(path, {.max_pending_bytes = max_pending_bytes});
  if (!opened.ok()) {
    Check(!opened.status().message().empty());
    return;
  }
  PerfData& data = **opened;
  // A few KiB of zstd can stand for gigabytes of records; the first ones must do.
  constexpr uint64_t kMostRecords = 200'000;
  uint64_t records = 0;
  RawRecord raw;
  for (; records < kMostRecords; ++records) {
    const absl::StatusOr<ReadResult> result = data.Next(&raw);
    if (!result.ok() || *result == ReadResult::kEnd) break;
    Check(*result == ReadResult::kRecord);
    Check(reinterpret_cast<uintptr_t>(raw.header) % 8 == 0);
    Check(raw.event < data.events().size());
    (void)DecodeRaw(raw, data.events()[raw.event].format);
  }
  const SourceStats stats = data.stats();
  Check(stats.samples + stats.other_records == records);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int fd = memfd_create("recording", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  Check(fd >= 0 && ftruncate(fd, 0) == 0);
  Check(pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  ReadAll(path, uint64_t{16} << 20);
  ReadAll(path, 1);  // hardly any order, but the same records
  return 0;
}
