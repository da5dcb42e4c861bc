#include "pmu/perf_data_stream.h"

#include <unistd.h>

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/field_reader.h"
#include "pmu/perf_data_format.h"

namespace lbrd::pmu {
namespace {

std::span<const std::byte> Payload(const perf_event_header* header) {
  return std::span(reinterpret_cast<const std::byte*>(header + 1), header->size - sizeof(*header));
}

}  // namespace

void PerfDataStream::Start(const PerfDataRange& range) {
  range_ = range;
  filled_to_ = range.begin;
}

absl::Status PerfDataStream::ErrorHere(absl::StatusCode code, absl::string_view text) const {
  return input_.Error(code, absl::StrCat("at offset ", offset(), ": ", text));
}

absl::StatusOr<bool> PerfDataStream::Next() {
  if (current_) {
    (decompressing_ ? inner_ : outer_).Take();
    current_ = false;
  }
  for (;;) {
    const absl::StatusOr<Step> step = decompressing_ ? StepInner() : StepOuter();
    if (!step.ok()) return step.status();
    if (*step == Step::kEnd) return false;
    if (*step == Step::kRecord) {
      current_ = true;
      return true;
    }
  }
}

absl::StatusOr<PerfDataStream::Step> PerfDataStream::StepOuter() {
  switch (outer_.Peek()) {
    case RecordAssembler::State::kWhole:
      return LookAtOuterRecord();
    case RecordAssembler::State::kMalformed:
      return ErrorHere(absl::StatusCode::kDataLoss,
                       "the recording is corrupt: a record is smaller than its header");
    case RecordAssembler::State::kPartial:
    case RecordAssembler::State::kNoRoom:
      break;
  }
  const absl::StatusOr<bool> more = Fill();
  if (!more.ok()) return more.status();
  return *more ? Step::kAgain : End();
}

absl::StatusOr<PerfDataStream::Step> PerfDataStream::LookAtOuterRecord() {
  const perf_event_header* header = outer_.header();
  FieldReader in(Payload(header));
  absl::Status status;
  switch (header->type) {
    case kPerfCompressed:
    case kPerfCompressed2:
      status = StartDecompression();
      break;
    case kPerfAuxtrace:
      status = SkipWithData(in.U64());
      break;
    case kPerfTracingData: {
      const uint64_t bytes = in.U32();
      status = SkipWithData((bytes + 7) / 8 * 8);
      break;
    }
    default:
      return Step::kRecord;
  }
  if (!status.ok()) return status;
  return Step::kAgain;
}

absl::StatusOr<PerfDataStream::Step> PerfDataStream::StepInner() {
  switch (inner_.Peek()) {
    case RecordAssembler::State::kWhole:
      switch (inner_.header()->type) {
        case kPerfCompressed:
        case kPerfCompressed2:
        case kPerfAuxtrace:
        case kPerfTracingData:
          return ErrorHere(absl::StatusCode::kDataLoss,
                           absl::StrCat("the recording is corrupt: compressed data holds a record "
                                        "of type ",
                                        inner_.header()->type));
        default:
          return Step::kRecord;
      }
    case RecordAssembler::State::kMalformed:
      return ErrorHere(absl::StatusCode::kDataLoss,
                       "the recording is corrupt: a compressed record is smaller than its header");
    case RecordAssembler::State::kPartial:
    case RecordAssembler::State::kNoRoom:
      break;
  }
  const absl::StatusOr<size_t> count = zstd_.Decompress(inner_.Room());
  if (!count.ok()) return ErrorHere(count.status().code(), count.status().message());
  inner_.Filled(*count);
  if (*count == 0) {
    // A record that is not whole yet goes on in the next compressed one.
    decompressing_ = false;
    outer_.Take();
  }
  return Step::kAgain;
}

absl::StatusOr<bool> PerfDataStream::Fill() {
  if (shown_) return FillByWindow();
  if (filled_to_ >= range_.end) return false;
  const std::span<std::byte> room = outer_.Room();
  const absl::StatusOr<size_t> count =
      input_.Read(room.first(std::min<uint64_t>(room.size(), range_.end - filled_to_)));
  if (!count.ok()) return count.status();
  outer_.Filled(*count);
  filled_to_ += *count;
  return *count != 0;
}

absl::StatusOr<bool> PerfDataStream::FillByWindow() {
  static const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t end = std::min(range_.end, input_.size());
  const uint64_t front = offset();
  if (front >= end || (filled_to_ >= end && outer_.Peek() != RecordAssembler::State::kNoRoom)) {
    return false;
  }
  const uint64_t begin = front / page * page;
  absl::StatusOr<FileWindow> window =
      input_.Show(begin, std::min<uint64_t>(pool_.chunk_bytes(), end - begin));
  if (!window.ok()) {
    shown_ = false;
    outer_.Skip(outer_.buffered());
    filled_to_ = front;
    input_.Seek(front);
    return Fill();
  }
  filled_to_ = begin + window->bytes().size();
  outer_.Show(*std::move(window), front - begin);
  return true;
}

absl::Status PerfDataStream::StartDecompression() {
  std::span<const std::byte> data = Payload(outer_.header());
  if (outer_.header()->type == kPerfCompressed2) {
    FieldReader in(data);
    const uint64_t bytes = in.U64();
    data = in.Bytes(bytes);
    if (!in.ok()) {
      return ErrorHere(absl::StatusCode::kDataLoss,
                       "the recording is corrupt: a compressed record is smaller than its data");
    }
  }
  zstd_.Feed(data);
  compressed_ = true;
  decompressing_ = true;
  return absl::OkStatus();
}

absl::Status PerfDataStream::SkipWithData(uint64_t data_bytes) {
  const absl::Status cut_off =
      ErrorHere(absl::StatusCode::kDataLoss, "the recording ends within the data of a trace");
  outer_.Take();
  uint64_t left = data_bytes;
  for (;;) {
    const size_t buffered = std::min<uint64_t>(left, outer_.buffered());
    outer_.Skip(buffered);
    left -= buffered;
    if (left == 0) return absl::OkStatus();
    if (input_.seekable()) {
      if (left > std::min(range_.end, input_.size()) - filled_to_) return cut_off;
      filled_to_ += left;
      input_.Seek(filled_to_);
      return absl::OkStatus();
    }
    const absl::StatusOr<bool> more = Fill();
    if (!more.ok()) return more.status();
    if (!*more) return cut_off;
  }
}

absl::StatusOr<PerfDataStream::Step> PerfDataStream::End() {
  const bool short_of_end = range_.end != UINT64_MAX && filled_to_ < range_.end;
  if (outer_.buffered() == 0 && inner_.buffered() == 0 && !short_of_end) return Step::kEnd;
  if (range_.interrupted) {
    cut_off_ = true;
    return Step::kEnd;
  }
  if (short_of_end) {
    return ErrorHere(absl::StatusCode::kDataLoss,
                     absl::StrCat("the recording is cut off: its last ", range_.end - offset(),
                                  " bytes are missing or not whole; copy or record it again"));
  }
  return ErrorHere(absl::StatusCode::kDataLoss,
                   "the recording ends within a record: copy or record it again");
}

}  // namespace lbrd::pmu
