#include "pmu/perf_data.h"

#include <algorithm>
#include <atomic>
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
#include "pmu/perf_data_stream.h"
#include "pmu/record_chunks.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kLargestChunk = ChunkPool::kHugePageBytes;
constexpr uint64_t kSmallestChunk = 2 * uint64_t{kMaxRecordBytes};
// Records that wait keep their chunk alive, so the limit must be many chunks.
constexpr uint64_t kChunksWithinLimit = 16;

size_t ChunkBytes(const PerfDataOptions& options) {
  return std::clamp(options.max_pending_bytes / kChunksWithinLimit, kSmallestChunk, kLargestChunk);
}

// perf itself takes this, like 0, for a record without a time.
constexpr uint64_t kNoTime = UINT64_MAX;

bool IsDummy(const perf_event_attr& attr) {
  return attr.type == PERF_TYPE_SOFTWARE && attr.config == PERF_COUNT_SW_DUMMY;
}

// Of which there is little to be copied but the stacks.
bool CopiesStacks(const SourceEvent& event) {
  constexpr uint32_t kLarge = 4096;
  return (event.attr.sample_type & PERF_SAMPLE_STACK_USER) != 0 &&
         event.attr.sample_stack_user >= kLarge;
}

// A count with one writer and any number of readers.
class Count {
 public:
  void Add(uint64_t by) { Set(value() + by); }
  void Set(uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class PerfDataReader final : public PerfData {
 public:
  PerfDataReader(std::unique_ptr<PerfDataInput> input, const PerfDataOptions& options)
      : input_(std::move(input)),
        pool_(ChunkBytes(options)),
        stream_(input_.get(), &pool_),
        max_bytes_(std::min(options.max_pending_bytes, UINT64_MAX / 2) +
                   PerfDataStream::kChunks * pool_.chunk_bytes()) {}

  absl::Status ReadHeader();

  const std::vector<SourceEvent>& events() const override { return events_.list(); }
  bool patient() const override { return true; }
  absl::StatusOr<ReadResult> Next(RawRecord* out) override;
  std::optional<KeptRecord> Keep() override;
  void LetGo(const KeptRecord& kept) override { pool_.LetGo(kept.place); }
  absl::Status Intact() const override { return input_->Intact(); }
  void Wait(absl::Duration) override {}  // there is always something to read, or the end
  void Interrupt() override {
    stopped_.store(true, std::memory_order_relaxed);
    input_->Interrupt();
  }
  void Finish() override { Interrupt(); }
  SourceStats stats() const override;

  const PerfDataInfo& info() const override { return info_; }
  uint64_t bytes_read() const override { return bytes_read_.value(); }
  uint64_t bytes_total() const override { return bytes_total_; }

 private:
  // Reads up to the first record of the recording proper, so that events and names are final.
  absl::Status ReadPreamble();
  // Makes the stream's next record current; false: there is none, and end_status_ says why.
  bool Advance();
  // Acts on the current record.
  absl::Status Process();
  // Puts the current record, one of the kernel's, among those that wait; false: it is malformed.
  bool KeepKernelRecord();
  absl::Status ProcessPerfRecord(const perf_event_header* header);
  absl::Status AddEvent(std::span<const std::byte> payload);
  void NameEvent(std::span<const std::byte> payload);
  void TakeFeature(std::span<const std::byte> payload);

  bool OverLimit() const { return pool_.bytes_in_use() + pending_.bytes() > max_bytes_; }
  void HandOut(const PendingRecord& record, RawRecord* out);
  void CountLoss(const RawRecord& record);
  void End(const absl::Status& status);

  const std::unique_ptr<PerfDataInput> input_;
  PerfDataInfo info_;
  PerfDataEvents events_;
  bool events_known_ = false;
  uint64_t begin_ = 0;  // offset of the first record
  uint64_t bytes_total_ = 0;

  ChunkPool pool_;
  PerfDataStream stream_;
  const uint64_t max_bytes_;
  PendingRecords pending_;
  uint32_t held_chunk_ = ChunkPool::kNone;  // of the record that the caller holds
  bool ended_ = false;
  absl::Status end_status_;

  std::atomic<bool> stopped_{false};
  Count bytes_read_;
  Count samples_;
  Count other_records_;
  Count late_;
  Count undecodable_;
  Count throttled_;
  // See PerfData: what the rings lost, what PMU drivers lost, and perf's final counts.
  Count ring_lost_;
  Count pmu_lost_;
  Count final_lost_samples_;
  Count final_lost_other_;
};

absl::Status PerfDataReader::ReadHeader() {
  const absl::StatusOr<PerfDataRange> range = ReadPerfDataHeader(*input_, &info_, &events_);
  if (!range.ok()) return range.status();
  begin_ = range->begin;
  if (input_->seekable()) bytes_total_ = std::min(range->end, input_->size()) - begin_;
  stream_.Start(*range);
  absl::Status status;
  if (info_.pipe_mode) status = ReadPreamble();
  if (!status.ok()) return status;
  status = events_.Finish();
  if (!status.ok()) return input_->Error(status.code(), status.message());
  events_known_ = true;
  if (std::any_of(events_.list().begin(), events_.list().end(), CopiesStacks)) stream_.ShowFile();
  return absl::OkStatus();
}

absl::Status PerfDataReader::ReadPreamble() {
  while (!OverLimit() && Advance()) {
    const uint32_t type = stream_.header()->type;
    const absl::Status status = Process();
    if (!status.ok()) return status;
    if (events_.list().empty() && type < kFirstPerfRecordType) break;
    // Records that perf made up have no time, and may stand before the last event's name.
    if (type == kPerfFinishedRound || type == kPerfFinishedInit || type == PERF_RECORD_SAMPLE ||
        pending_.has_timed()) {
      break;
    }
  }
  // What is wrong behind the events is Next()'s to tell.
  return events_.list().empty() ? end_status_ : absl::OkStatus();
}

bool PerfDataReader::Advance() {
  const absl::StatusOr<bool> more = stream_.Next();
  bytes_read_.Set(stream_.offset() - begin_);
  if (stream_.compressed()) info_.compressed = true;
  if (more.ok() && *more) return true;
  End(more.status());
  return false;
}

void PerfDataReader::End(const absl::Status& status) {
  ended_ = true;
  end_status_ = status;
  if (stream_.cut_off()) AddNote("the last record is not whole and was left out", &info_);
  pending_.ReleaseAll();
}

absl::StatusOr<ReadResult> PerfDataReader::Next(RawRecord* out) {
  if (held_chunk_ != ChunkPool::kNone) pool_.Release(std::exchange(held_chunk_, ChunkPool::kNone));
  PendingRecord record;
  for (;;) {
    if (stopped_.load(std::memory_order_relaxed)) return ReadResult::kEnd;
    if (pending_.Pop(OverLimit(), &record)) break;
    if (ended_ && !end_status_.ok()) {
      // What is corrupt may be so because it is gone.
      const absl::Status intact = Intact();
      return intact.ok() ? end_status_ : intact;
    }
    if (ended_) return ReadResult::kEnd;
    if (!Advance()) continue;
    const absl::Status status = Process();
    if (!status.ok()) End(status);
  }
  HandOut(record, out);
  return ReadResult::kRecord;
}

std::optional<KeptRecord> PerfDataReader::Keep() {
  if (!pool_.Keep(held_chunk_)) return std::nullopt;
  return KeptRecord{.place = held_chunk_};
}

absl::Status PerfDataReader::Process() {
  const perf_event_header* header = stream_.header();
  if (header->type < kFirstPerfRecordType) {
    if (!KeepKernelRecord()) undecodable_.Add(1);
    return absl::OkStatus();
  }
  const absl::Status status = ProcessPerfRecord(header);
  return status.ok() ? status : stream_.ErrorHere(status.code(), status.message());
}

bool PerfDataReader::KeepKernelRecord() {
  const perf_event_header* header = stream_.header();
  const std::optional<uint32_t> event = events_.EventOf(header);
  if (header->type == 0 || !event || *event >= events_.list().size()) return false;
  const RecordFormat& format = events_.list()[*event].format;
  const StackCopy stack = stream_.in_window() ? stream_.Split(format) : StackCopy{};
  const std::optional<SampleId> who = PeekRecord(header, format);
  if (!who.has_value()) return false;
  pool_.AddUser(stream_.chunk());
  pending_.Add({.time = who->time == kNoTime ? 0 : who->time,
                .header = header,
                .chunk = stream_.chunk(),
                .event = *event,
                .stack = stack});
  return true;
}

absl::Status PerfDataReader::ProcessPerfRecord(const perf_event_header* header) {
  const std::span<const std::byte> payload(reinterpret_cast<const std::byte*>(header + 1),
                                           header->size - sizeof(*header));
  switch (header->type) {
    case kPerfFinishedRound:
      pending_.EndRound();
      break;
    case kPerfHeaderAttr:
      if (info_.pipe_mode) return AddEvent(payload);
      break;
    case kPerfEventUpdate:
      NameEvent(payload);
      break;
    case kPerfHeaderFeature:
      TakeFeature(payload);
      break;
    case kPerfHeaderBuildId:
      if (!ReadBuildId(header->misc, payload, &info_)) {
        AddNote("a build ID is malformed and was left out", &info_);
      }
      break;
    default:
      break;  // of no use here, or unknown: perf too skips what it does not know
  }
  return absl::OkStatus();
}

absl::Status PerfDataReader::AddEvent(std::span<const std::byte> payload) {
  if (events_known_) {
    return absl::UnimplementedError("an event is added in the middle of the recording");
  }
  const uint64_t attr_bytes =
      std::min<uint64_t>(PerfDataEvents::AttrBytes(payload), payload.size());
  return events_.Add(payload, payload.subspan(attr_bytes));
}

void PerfDataReader::NameEvent(std::span<const std::byte> payload) {
  FieldReader in(payload);
  const uint64_t what = in.U64();
  const uint64_t id = in.U64();
  if (!events_known_ && what == kEventUpdateName) events_.NameById(id, in.Text());
}

void PerfDataReader::TakeFeature(std::span<const std::byte> payload) {
  FieldReader in(payload);
  const uint64_t feature = in.U64();
  if (!in.ok() || feature >= kFeatureBits) return;
  if (feature == kFeatureEventDesc && events_known_) return;  // others may be reading the names
  const bool whole =
      ReadFeature(static_cast<uint32_t>(feature), in.Bytes(in.left()), &info_, &events_);
  if (!whole) NoteMalformedFeature(static_cast<uint32_t>(feature), &info_);
}

void PerfDataReader::HandOut(const PendingRecord& record, RawRecord* out) {
  held_chunk_ = record.chunk;
  out->header = record.header;
  out->event = record.event;
  out->stack = record.stack;
  // Looked at once already, when it was read.
  out->who = *PeekRecord(record.header, events_.list()[record.event].format);
  late_.Set(pending_.late());
  if (record.header->type == PERF_RECORD_SAMPLE) {
    samples_.Add(1);
    return;
  }
  other_records_.Add(1);
  switch (record.header->type) {
    case PERF_RECORD_THROTTLE:
      throttled_.Add(1);
      break;
    case PERF_RECORD_LOST:
    case PERF_RECORD_LOST_SAMPLES:
      CountLoss(*out);
      break;
    default:
      break;
  }
}

void PerfDataReader::CountLoss(const RawRecord& record) {
  const SourceEvent& event = events_.list()[record.event];
  const absl::StatusOr<Record> decoded = DecodeRecord(record.header, event.format);
  if (!decoded.ok()) return;
  const LostRecord& lost = std::get<LostRecord>(*decoded);
  if (!lost.samples_only) {
    ring_lost_.Add(lost.count);
  } else if (lost.who.time != 0) {
    pmu_lost_.Add(lost.count);
  } else if ((record.header->misc & kMiscLostSamplesBpf) == 0) {
    (IsDummy(event.attr) ? final_lost_other_ : final_lost_samples_).Add(lost.count);
  }
}

SourceStats PerfDataReader::stats() const {
  SourceStats stats;
  stats.samples = samples_.value();
  stats.other_records = other_records_.value();
  stats.lost_other = final_lost_other_.value();
  // Of what the rings lost, all that is not known to be something else counts as samples.
  const uint64_t ring = ring_lost_.value();
  const uint64_t ring_samples = ring - std::min(ring, stats.lost_other);
  stats.lost_samples = pmu_lost_.value() + std::max(ring_samples, final_lost_samples_.value());
  stats.late_records = late_.value();
  stats.undecodable = undecodable_.value();
  stats.throttled = throttled_.value();
  return stats;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PerfData>> PerfData::Open(const std::string& path,
                                                         const PerfDataOptions& options) {
  absl::StatusOr<std::unique_ptr<PerfDataInput>> input = PerfDataInput::Open(path);
  if (!input.ok()) return input.status();
  auto reader = std::make_unique<PerfDataReader>(*std::move(input), options);
  const absl::Status status = reader->ReadHeader();
  if (!status.ok()) return status;
  return reader;
}

}  // namespace lbrd::pmu
