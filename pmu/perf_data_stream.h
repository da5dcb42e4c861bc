// The records of a recording in the order in which they stand there.
//
// Deals with everything about bytes, so that its reader sees records alone: compressed records are
// replaced by what is in them, and data that follows a record without being one (traces, tracing
// formats) is skipped.
//
// Thread rules: one thread.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "pmu/perf_data_header.h"
#include "pmu/perf_data_input.h"
#include "pmu/record_chunks.h"
#include "pmu/zstd_stream.h"

namespace lbrd::pmu {

class PerfDataStream {
 public:
  // Chunks that a stream uses at most, apart from those that its reader has added users to.
  static constexpr uint64_t kChunks = 4;

  // Borrows both.
  PerfDataStream(PerfDataInput* input, ChunkPool* pool)
      : input_(*input), pool_(*pool), outer_(pool), inner_(pool) {}

  // `input` stands at the beginning of `range`.
  void Start(const PerfDataRange& range);

  // From now on a file is looked at through windows (see RecordAssembler), as far as it can be. For
  // recordings of large samples; a small record is copied more cheaply by a read.
  void ShowFile() { shown_ = input_.seekable(); }

  // Makes the next record current; false: the end. An error (kDataLoss: corrupt, or cut off) names
  // the offset, and ends the stream.
  absl::StatusOr<bool> Next();

  // The current record, 8-byte aligned, and the chunk it is in.
  const perf_event_header* header() const { return assembler().header(); }
  uint32_t chunk() const { return assembler().chunk(); }
  // See RecordAssembler.
  bool in_window() const { return assembler().in_window(); }
  StackCopy Split(const RecordFormat& format) { return outer_.Split(format); }
  // Where it stands: in the input, the record that it is or is compressed in.
  uint64_t offset() const { return filled_to_ - outer_.buffered(); }

  bool compressed() const { return compressed_; }  // so far
  // The recording was interrupted, and its last record is not whole.
  bool cut_off() const { return cut_off_; }

  // An error about the current record.
  absl::Status ErrorHere(absl::StatusCode code, absl::string_view text) const;

 private:
  const RecordAssembler& assembler() const { return decompressing_ ? inner_ : outer_; }
  // What to do next, having looked at the front of a stream.
  enum class Step { kRecord, kAgain, kEnd };
  absl::StatusOr<Step> StepOuter();
  absl::StatusOr<Step> StepInner();
  absl::StatusOr<Step> LookAtOuterRecord();
  // Reads on; false: the input has ended.
  absl::StatusOr<bool> Fill();
  // The same by a window from the front on. Where the file cannot be mapped it is read from there.
  absl::StatusOr<bool> FillByWindow();
  absl::Status StartDecompression();
  // Skips what follows the record at the front, and the record.
  absl::Status SkipWithData(uint64_t data_bytes);
  absl::StatusOr<Step> End();

  PerfDataInput& input_;
  ChunkPool& pool_;
  PerfDataRange range_;
  uint64_t filled_to_ = 0;  // in the input: the end of what outer_ has got
  RecordAssembler outer_;
  RecordAssembler inner_;  // what zstd_ makes of the record at the front of outer_
  ZstdStream zstd_;
  bool shown_ = false;    // by windows
  bool current_ = false;  // the front of assembler() is the current record
  bool decompressing_ = false;
  bool compressed_ = false;
  bool cut_off_ = false;
};

}  // namespace lbrd::pmu
