// A zstd stream whose input comes in pieces and whose output is taken in pieces.
//
// perf compresses a whole recording as one stream, flushed at every record of its own and never
// ended; so output is complete up to each flush, and there is no end to check. Memory is bounded by
// the window of the stream, 128 MiB at most (zstd's own default limit).
//
// Thread rules: one thread.
#pragma once

#include <zstd.h>

#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/statusor.h"

namespace lbrd::pmu {

class ZstdStream {
 public:
  // The next piece of input; the one before must have been used up. Borrowed until it is used up.
  void Feed(std::span<const std::byte> input) { input_ = input; }
  // How much of `output` was filled; less than all of it: the input is used up.
  absl::StatusOr<size_t> Decompress(std::span<std::byte> output);

 private:
  struct FreeContext {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_DCtx, FreeContext> context_;  // made on first use
  std::span<const std::byte> input_;
  bool holds_output_ = false;  // the decoder may have more output than there was room for
};

}  // namespace lbrd::pmu
