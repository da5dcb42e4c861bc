#include "pmu/perf_data.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/field_reader.h"
#include "pmu/pending_records.h"
#include "pmu/perf_data_events.h"
#include "pmu/perf_data_features.h"
#include "pmu/perf_data_format.h"
#include "pmu/perf_data_header.h"
#include "pmu/perf_data_input.h"
#include "pmu/record_chunks.h"
#include "pmu/zstd_stream.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kLargestChunk = uint64_t{1} << 20;
constexpr uint64_t kSmallestChunk = 2 * uint64_t{kMaxRecordBytes};
// So that a few runs of records can wait without filling everything with chunks hardly used.
constexpr uint64_t kChunksWithinLimit = 16;
constexpr size_t kWord = sizeof(uint64_t);

size_t ChunkBytes(const PerfDataOptions& options) {
  return std::clamp(options.max_pending_bytes / kChunksWithinLimit, kSmallestChunk, kLargestChunk);
}

std::span<const std::byte> Payload(const perf_event_header* header) {
  return std::span(reinterpret_cast<const std::byte*>(header + 1), header->size - sizeof(*header));
}

bool IsDummy(const perf_event_attr& attr) {
  return attr.type == PERF_TYPE_SOFTWARE && attr.config == PERF_COUNT_SW_DUMMY;
}

// What the records say about loss; see the comment of PerfData.
struct LossCounts {
  std::atomic<uint64_t> ring_records{0};     // PERF_RECORD_LOST
  std::atomic<uint64_t> pmu_samples{0};      // PERF_RECORD_LOST_SAMPLES by the kernel
  std::atomic<uint64_t> counted_samples{0};  // the same by perf, of events that sample
  std::atomic<uint64_t> counted_other{0};    // and of dummy events
};

void Increase(std::atomic<uint64_t>& count, uint64_t by = 1) {
  count.fetch_add(by, std::memory_order_relaxed);
}

uint64_t Value(const std::atomic<uint64_t>& count) { return count.load(std::memory_order_relaxed); }

class PerfDataReader final : public PerfData {
 public:
  PerfDataReader(std::unique_ptr<PerfDataInput> input, const PerfDataOptions& options)
      : input_(std::move(input)),
        max_pending_bytes_(options.max_pending_bytes),
        pool_(ChunkBytes(options)),
        outer_(&pool_),
        inner_(&pool_) {}

  absl::Status ReadHeader();

  const std::vector<SourceEvent>& events() const override { return events_.list(); }
  bool patient() const override { return true; }
  absl::StatusOr<ReadResult> Next(RawRecord* out) override;
  void Wait(absl::Duration) override {}  // there is always something to read, or the end
  void Interrupt() override {
    stopped_.store(true, std::memory_order_relaxed);
    input_->Interrupt();
  }
  void Finish() override { Interrupt(); }
  SourceStats stats() const override;

  const PerfDataInfo& info() const override { return info_; }
  uint64_t bytes_read() const override { return Value(bytes_read_); }
  uint64_t bytes_total() const override { return bytes_total_; }

 private:
  // Reads up to the first record of the recording proper, so that events and names are final.
  absl::Status ReadPreamble();
  // Makes the next record of the recording, or of compressed data in it, current. false: the end.
  absl::StatusOr<bool> Advance();
  absl::StatusOr<bool> AdvanceOuter();
  absl::StatusOr<bool> AdvanceInner();
  // Reads on. false: the input has ended.
  absl::StatusOr<bool> Fill();
  absl::Status SkipPayload(uint64_t bytes);
  // What is left at the end of the input: nothing, or part of a record.
  absl::Status CheckEnd();
  absl::Status AtOffset(const absl::Status& status) const;

  // Acts on the current record. true: it is one of the kernel's, and `*record` says where it is.
  absl::StatusOr<bool> Process(PendingRecord* record);
  bool ProcessKernelRecord(PendingRecord* record);
  absl::Status ProcessPerfRecord();
  absl::Status AddEvent();
  void NameEvent();
  absl::Status StartDecompression();

  void Keep(const PendingRecord& record);
  bool OverLimit() const { return pool_.bytes_in_use() + pending_.bytes() > max_pending_bytes_; }
  void HandOut(const PendingRecord& record, RawRecord* out);
  void CountLoss(const RawRecord& record);
  RecordAssembler& current() { return decompressing_ ? inner_ : outer_; }

  std::unique_ptr<PerfDataInput> input_;
  const uint64_t max_pending_bytes_;
  PerfDataInfo info_;
  PerfDataEvents events_;
  PerfDataRange range_;
  uint64_t bytes_total_ = 0;

  ChunkPool pool_;  // outlives its users, below
  RecordAssembler outer_;
  RecordAssembler inner_;  // what zstd_ makes of the record at the front of outer_
  ZstdStream zstd_;
  bool decompressing_ = false;
  bool taken_ = true;            // the current record is done with
  uint64_t filled_to_ = 0;       // in the input: the end of what outer_ has got
  bool in_preamble_ = false;
  PendingRecords pending_;
  bool ended_ = false;
  absl::Status end_status_;
  uint32_t held_chunk_ = ChunkPool::kNone;  // of the record that the caller holds

  std::atomic<bool> stopped_{false};
  std::atomic<uint64_t> bytes_read_{0};
  std::atomic<uint64_t> samples_{0};
  std::atomic<uint64_t> other_records_{0};
  std::atomic<uint64_t> late_{0};
  std::atomic<uint64_t> undecodable_{0};
  std::atomic<uint64_t> throttled_{0};
  LossCounts loss_;
};

absl::Status PerfDataReader::ReadHeader() {
  const absl::StatusOr<PerfDataRange> range = ReadPerfDataHeader(*input_, &info_, &events_);
  if (!range.ok()) return range.status();
  range_ = *range;
  filled_to_ = range_.begin;
  if (input_->seekable()) {
    bytes_total_ = std::min(range_.end, input_->size()) - range_.begin;
  }
  if (info_.pipe_mode) {
    const absl::Status status = ReadPreamble();
    if (!status.ok()) return status;
  }
  const absl::Status status = events_.Finish();
  if (!status.ok()) return input_->Error(status.code(), status.message());
  return absl::OkStatus();
}

absl::Status PerfDataReader::ReadPreamble() {
  // Side-band that perf made up has no time and may stand before the last event's name.
  in_preamble_ = true;
  while (!OverLimit()) {
    const absl::StatusOr<bool> more = Advance();
    if (!more.ok()) return more.status();
    if (!*more) return CheckEnd();
    const uint32_t type = outer_.header()->type;
    if (type == PERF_RECORD_SAMPLE || type == kPerfCompressed || type == kPerfCompressed2 ||
        type == kPerfFinishedRound || type == kPerfFinishedInit) {
      break;
    }
    if (type < kFirstPerfRecordType && events_.list().empty()) break;  // there will be none
    PendingRecord record;
    const absl::StatusOr<bool> kernel = Process(&record);
    if (!kernel.ok()) return kernel.status();
    if (*kernel) {
      Keep(record);
      if (record.time != 0) break;
    }
  }
  in_preamble_ = false;
  return absl::OkStatus();
}

absl::StatusOr<ReadResult> PerfDataReader::Next(RawRecord* out) {
  if (held_chunk_ != ChunkPool::kNone) pool_.Release(std::exchange(held_chunk_, ChunkPool::kNone));
  PendingRecord record;
  for (;;) {
    if (stopped_.load(std::memory_order_relaxed)) return ReadResult::kEnd;
    if (pending_.Pop(OverLimit(), &record)) break;
    if (ended_) {
      if (!end_status_.ok()) return end_status_;
      return ReadResult::kEnd;
    }
    absl::StatusOr<bool> kernel = Advance();
    if (kernel.ok() && *kernel) {
      kernel = Process(&record);
      if (kernel.ok() && !*kernel) continue;
    } else if (kernel.ok()) {
      kernel = CheckEnd();  // an error, or nothing
      ...
    }
  }
}
